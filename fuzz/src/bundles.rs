//! Bundles of all kinds, with arrays, numbers and texts in them changed, and sizes and hashes to go with it.
//!
//! The first byte says which kind; the rest is read as a few [`Edit`]s of the bundle that an earlier version of the program
//! wrote. A bundle that passes verification must answer without panicking, within its own rows.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use flate2::read::GzDecoder;
use segue::bundle::{
    BundleFolder, ClickBundle, CompletionBundle, Kind, RatingsBundle, SimilarityBundle, current_version, decode_array,
    encode_array,
};
use segue::recommend::clicks::{ClickModel, ENSEMBLE, ObservedListen, Question};
use segue::recommend::completion::CompletionModel;
use segue::recommend::dispatch::{Completer, CompletionMethod};
use segue::recommend::ratings::{RatingsModel, TasteEvent};
use segue::recommend::{Completion, SimilarityModel};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::rows::assert_reason;

/// Most edits of one input.
const EDITS: usize = 4;
/// Items that each question requests.
const LIMIT: usize = 20;
/// Name of the manifest's file.
const MANIFEST: &str = "manifest.json";

/// Unpacks the bundles of an earlier version below `folder`.
pub fn unpack(folder: &Path) -> PathBuf {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/0.1.0/models.tar.gz");
    let file = fs::File::open(archive).expect("the fixture");
    tar::Archive::new(GzDecoder::new(file)).unpack(folder).expect("a folder to write in");
    folder.join("models")
}

/// A bundle as an earlier version wrote it.
struct Original {
    folder: PathBuf,
    kind: Kind,
    manifest: Value,
    /// name and content; the manifest is the last
    files: Vec<(String, Vec<u8>)>,
}

static ORIGINALS: LazyLock<Vec<Original>> = LazyLock::new(|| {
    let models = unpack(&crate::folder().keep());
    let original = |kind: Kind| {
        let version = current_version(&models, kind).expect("a bundle");
        let folder = models.join(kind.as_str()).join(version);
        let bytes = fs::read(folder.join(MANIFEST)).expect("a manifest");
        let manifest: Value = serde_json::from_slice(&bytes).expect("JSON");
        let listed = manifest["files"].as_array().expect("files").iter();
        let names = listed.map(|file| file["name"].as_str().expect("a name").to_owned());
        let content = |name: String| (name.clone(), fs::read(folder.join(name)).expect("a file"));
        let mut files: Vec<(String, Vec<u8>)> = names.map(content).collect();
        // What decides over others comes first: a fuzzer finds small numbers first.
        files.sort_by_key(|(name, bytes)| (!name.ends_with(".json"), bytes.len(), name.clone()));
        files.push((MANIFEST.to_owned(), bytes));
        Original { folder, kind, manifest, files }
    };
    Kind::ALL.into_iter().map(original).collect()
});

/// A change of a file.
#[derive(Debug, Arbitrary)]
struct Edit {
    file: u8,
    place: u16,
    change: Change,
}

/// What is changed.
#[derive(Debug, Arbitrary)]
enum Change {
    /// a byte
    Byte(u8),
    /// a number of an array or of JSON becomes one that is rare
    Rare(u8),
    /// a number of an array becomes one nearby
    Small(u8),
    /// a number of an array becomes any
    Number([u8; 8]),
    /// an array, or another file, ends
    Cut,
    /// the values of an array are there twice
    Double,
    /// an array has no values
    Empty,
    /// the dimensions of an array are in another order
    Reshape(u8),
}

/// Changes a bundle, loads it, and asks it.
pub fn run(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let original = &ORIGINALS[usize::from(kind) % ORIGINALS.len()];
    let mut input = Unstructured::new(bytes);
    let (mut changed, mut manifest) = (Vec::<(usize, Vec<u8>)>::new(), original.manifest.clone());
    let mut raw_manifest = None;
    for _ in 0..EDITS {
        if input.is_empty() {
            break;
        }
        let Ok(edit) = Edit::arbitrary(&mut input) else { break };
        let index = usize::from(edit.file) % original.files.len();
        let (name, content) = &original.files[index];
        let earlier = changed.iter().position(|(other, _)| *other == index);
        let content = earlier.map_or(content, |at| &changed[at].1);
        let edited = apply(name, content, &edit);
        if name == MANIFEST {
            raw_manifest = Some(edited);
            continue;
        }
        let entries = manifest["files"].as_array_mut().expect("files");
        let entry = entries.iter_mut().find(|file| file["name"] == *name).expect("it is listed");
        entry["bytes"] = json!(edited.len());
        entry["sha256"] = json!(hex::encode(Sha256::digest(&edited)));
        match earlier {
            Some(at) => changed[at].1 = edited,
            None => changed.push((index, edited)),
        }
    }
    let write = |name: &str, content: &[u8]| {
        let path = original.folder.join(name);
        // Whoever mapped the file that was there keeps it.
        fs::remove_file(&path).and_then(|()| fs::write(&path, content)).expect("a folder to write in");
    };
    changed.iter().for_each(|(index, content)| write(&original.files[*index].0, content));
    write(MANIFEST, &raw_manifest.unwrap_or_else(|| manifest.to_string().into_bytes()));
    load(original);
    changed.iter().for_each(|(index, _)| write(&original.files[*index].0, &original.files[*index].1));
}

fn apply(name: &str, content: &[u8], edit: &Edit) -> Vec<u8> {
    let place = usize::from(edit.place);
    if let Change::Byte(byte) = edit.change {
        let mut content = content.to_vec();
        let length = content.len().max(1);
        if let Some(at) = content.get_mut(place % length) {
            *at = byte;
        }
        return content;
    }
    if name.ends_with(".npy") {
        return (edit_array::<f32>(content, place, &edit.change))
            .or_else(|| edit_array::<u32>(content, place, &edit.change))
            .or_else(|| edit_array::<u64>(content, place, &edit.change))
            .or_else(|| edit_array::<u8>(content, place, &edit.change))
            .unwrap_or_else(|| content.to_vec());
    }
    if let Change::Rare(which) = edit.change
        && name.ends_with(".json")
        && let Ok(mut value) = serde_json::from_slice::<Value>(content)
    {
        let mut leaves = leaves(&mut value);
        let length = leaves.len().max(1);
        if let Some(leaf) = leaves.get_mut(place % length) {
            **leaf = rare_value(which);
        }
        return value.to_string().into_bytes();
    }
    content[..place.min(content.len())].to_vec()
}

/// The numbers, texts and empty lists of a document.
fn leaves(value: &mut Value) -> Vec<&mut Value> {
    let is_leaf = match value {
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => true,
    };
    if is_leaf {
        return vec![value];
    }
    match value {
        Value::Array(values) => values.iter_mut().flat_map(leaves).collect(),
        Value::Object(fields) => fields.values_mut().flat_map(leaves).collect(),
        _ => Vec::new(),
    }
}

fn rare_value(which: u8) -> Value {
    let values = [
        json!(0),
        json!(-1),
        json!(1),
        json!(2),
        json!(u32::MAX),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e38),
        json!(-1e38),
        json!(1e-45),
        json!(0.5),
        json!(null),
        json!(true),
        json!(""),
        json!([]),
        json!({}),
        json!("ensemble"),
        json!(255),
        json!(65_536),
        json!([0]),
        json!([1.0, 2.0]),
    ];
    values[usize::from(which) % values.len()].clone()
}

/// A number of an array.
trait Number: segue::bundle::Element {
    fn rare(which: u8, length: usize) -> Self;
    fn near(self, offset: u8) -> Self;
    fn of(bytes: [u8; 8]) -> Self;
}

impl Number for f32 {
    fn rare(which: u8, _: usize) -> Self {
        let values =
            [0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45, 1e19];
        values[usize::from(which) % values.len()]
    }

    fn near(self, offset: u8) -> Self {
        self + f32::from(offset) / 16.0 - 8.0
    }

    fn of([a, b, c, d, ..]: [u8; 8]) -> Self {
        Self::from_le_bytes([a, b, c, d])
    }
}

macro_rules! whole_numbers {
    ($($number:ty),+) => { $(
        impl Number for $number {
            fn rare(which: u8, length: usize) -> Self {
                let length = length as $number;
                let values = [
                    0, 1, 2, <$number>::MAX, <$number>::MAX - 1, <$number>::MAX / 2, <$number>::MAX / 2 + 1, length,
                    length.wrapping_sub(1), length.wrapping_add(1), length / 2,
                ];
                values[usize::from(which) % values.len()]
            }

            fn near(self, offset: u8) -> Self {
                self.wrapping_add(<$number>::from(offset)).wrapping_sub(16)
            }

            fn of(bytes: [u8; 8]) -> Self {
                u64::from_le_bytes(bytes) as $number
            }
        }
    )+ };
}

whole_numbers!(u8, u32, u64);

/// Changes an array of these numbers; none if it has others.
fn edit_array<T: Number>(content: &[u8], place: usize, change: &Change) -> Option<Vec<u8>> {
    let array = decode_array::<T>(content).ok()?;
    let (mut shape, mut values) = (array.shape, array.values);
    let (length, row) = (values.len(), shape.iter().skip(1).product::<usize>().max(1));
    let at = place % length.max(1);
    match *change {
        Change::Rare(which) => *values.get_mut(at)? = T::rare(which, length),
        Change::Small(offset) => {
            let value = values.get_mut(at)?;
            *value = value.near(offset);
        }
        Change::Number(bytes) => *values.get_mut(at)? = T::of(bytes),
        Change::Cut => {
            *shape.first_mut()? = at / row;
            values.truncate(at / row * row);
        }
        Change::Double => {
            *shape.first_mut()? *= 2;
            values.extend_from_within(..);
        }
        Change::Empty => {
            let dimensions = shape.len();
            *shape.get_mut(place % dimensions.max(1))? = 0;
            values.clear();
        }
        Change::Reshape(how) => match how % 3 {
            0 => shape.reverse(),
            1 => shape = vec![length],
            _ => shape.insert(0, 1),
        },
        Change::Byte(_) => {}
    }
    Some(encode_array(&shape, &values))
}

/// Loads a bundle and asks it, if it passes verification.
fn load(original: &Original) {
    let opened = BundleFolder::open(&original.folder, original.kind);
    let outcome = opened.and_then(|folder| match original.kind {
        Kind::Similarity => SimilarityBundle::load(&folder).map(|(_, bundle)| ask_similarity(bundle)),
        Kind::Completion => CompletionBundle::load(&folder).map(|(_, bundle)| ask_completion(bundle)),
        Kind::Ratings => RatingsBundle::load(&folder).map(|(_, bundle)| ask_ratings(bundle)),
        Kind::Clicks => ClickBundle::load(&folder).map(|(_, bundle)| ask_clicks(bundle)),
    });
    if let Err(error) = outcome {
        assert_reason(&error.to_string());
    }
}

/// Playlists to complete, of a model with this many tracks.
fn playlists(tracks: usize) -> Vec<Completion> {
    let row = |share: usize| (tracks * share / 8) as u32;
    let seeds = [vec![], vec![row(0)], vec![row(7), row(2), row(1)], (0..tracks.min(60) as u32).collect()];
    let playlist = |seeds: Vec<u32>| {
        let seeds: Vec<u32> = seeds.into_iter().filter(|&seed| (seed as usize) < tracks).collect();
        let title = Some("summer hits of nobody".to_owned());
        let diversity = if seeds.len() == 3 { 0.5 } else { 0.0 };
        Completion { title, explain: seeds.len() == 1, diversity, seeds, limit: LIMIT, ..Completion::default() }
    };
    seeds.into_iter().map(playlist).collect()
}

fn ask_completer(completer: Completer<'_>, tracks: usize) {
    let methods =
        [CompletionMethod::Ranking, CompletionMethod::Neumf, CompletionMethod::Track2vec, CompletionMethod::Popularity];
    let playlists = playlists(tracks);
    for method in methods.into_iter().filter(|&method| completer.supports(method)) {
        let answers = completer.complete(method, &playlists);
        assert_eq!(answers.len(), playlists.len());
        for (answer, playlist) in answers.iter().zip(&playlists) {
            assert!(answer.len() <= LIMIT);
            let rows: Vec<u32> = answer.iter().map(|item| item.recommended.row).collect();
            assert!(rows.iter().all(|row| (*row as usize) < tracks && !playlist.seeds.contains(row)), "{rows:?}");
        }
    }
}

fn ask_completion(bundle: CompletionBundle) {
    let tracks = bundle.vocabulary.len();
    ask_completer(Completer::Completion(&CompletionModel::new(bundle)), tracks);
}

fn ask_similarity(bundle: SimilarityBundle) {
    let tracks = bundle.vocabulary.len();
    let model = SimilarityModel::new(bundle);
    ask_completer(Completer::Similarity(&model), tracks);
    for row in [0, tracks / 2, tracks.saturating_sub(1)].into_iter().filter(|&row| row < tracks) {
        let similar = model.similar(row as u32, LIMIT);
        let next = model.next(row as u32, &[0], LIMIT);
        assert!(similar.iter().chain(&next).all(|item| (item.row as usize) < model.candidates()));
    }
}

fn ask_ratings(bundle: RatingsBundle) {
    let tracks = bundle.vocabulary.len();
    let model = RatingsModel::new(bundle);
    let event = |row: usize, rating: Option<f32>| TasteEvent { row: row as u32, rating, at: 1_700_000_000 };
    let heard = [event(0, Some(5.0)), event(tracks / 2, None), event(tracks.saturating_sub(1), Some(0.5))];
    let heard: Vec<TasteEvent> = heard.into_iter().filter(|event| (event.row as usize) < tracks).collect();
    for heard in [&[][..], &heard[..heard.len().min(1)], &heard] {
        let taste = model.taste(heard);
        let items = model.recommend(&taste, &[0], LIMIT);
        assert!(items.len() <= LIMIT && items.iter().all(|item| (item.row as usize) < tracks && item.row != 0));
        if tracks > 0 {
            model.predict(&taste, 0, Some(1_800_000_000));
        }
    }
}

fn ask_clicks(bundle: ClickBundle) {
    let (users, tracks) = (bundle.users.len(), bundle.tracks.len());
    let user = |row: usize| if row < users { bundle.users.id(row as u32).to_owned() } else { "nobody".to_owned() };
    let track = |row: usize| if row < tracks { bundle.tracks.id(row as u32).to_owned() } else { "nothing".to_owned() };
    let (people, songs) = ([user(0), user(users / 2), user(users)], [track(0), track(tracks / 2), track(tracks)]);
    let source = [Some("my library".to_owned()), None, Some("nowhere".to_owned())];
    let model = ClickModel::new(bundle);
    let ask = |user: &String, member: Option<&str>| {
        let question = Question {
            user: user.clone(),
            tracks: songs.to_vec(),
            source: source.clone(),
            model: member.map(ToOwned::to_owned),
        };
        if let Some(answer) = model.answer(&question) {
            assert_eq!(answer.probabilities.len(), songs.len());
        }
    };
    people.iter().for_each(|user| ask(user, Some(ENSEMBLE)));
    model.names().into_iter().for_each(|member| ask(&people[0], Some(member)));
    let listened_at = OffsetDateTime::from_unix_timestamp(1_700_000_000).expect("a time");
    let listens = people.iter().flat_map(|user| {
        let source = source.clone();
        songs.iter().map(move |track| ObservedListen {
            user: user.clone(),
            track: track.clone(),
            source: source.clone(),
            is_new: true,
            target: Some(true),
            listened_at,
            taken_at: listened_at,
        })
    });
    model.hear(&listens.collect::<Vec<_>>());
    people.iter().for_each(|user| ask(user, None));
}
