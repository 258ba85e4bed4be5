//! Lays the catalog's playlists out for retrieval.

use std::collections::HashMap;
use std::time::Instant;

use crate::bundle::{CompletionIndex, DerivedTables};
use crate::dataset::{Corpus, HeldOutSequences, NONE, TextIndex, Unit, normalise};
use crate::math::Csr;
use crate::math::linear::gram;
use crate::math::top_k::sort_best;
use crate::progress::Progress;
use crate::recommend::retrieve::Sparse;
use crate::train::als::{AlsSettings, Factors, factorize};
use crate::train::checkpoint::{RunContext, SAVE_INTERVAL, State, StateFile};
use crate::train::error::TrainError;
use crate::train::parallel::map_in_parallel;
use crate::train::similarity::track2vec::Architecture;
use crate::train::similarity::{SimilaritySettings, VECTORS, expected_pairs, fit};

/// The stage of least squares, of which a run keeps the state.
const LEAST_SQUARES: &str = "least-squares";
/// Length of a track's vector by Track2Vec.
const VECTOR_LENGTH: usize = 64;
/// Tracks that fewer playlists hold get no vector: one playlist says too little.
const FEWEST_PLACEMENTS: usize = 2;
/// Epochs of Track2Vec, and pairs from which on there are fewer: what a pass over so many playlists teaches is enough.
const EPOCHS: u32 = 4;
const MOST_PAIRS: f64 = 3e8;
/// Neighbors of an artist, at most.
const ARTIST_NEIGHBOURS: usize = 50;
/// An artist's neighbours are counted in at most this many of its playlists.
const ARTIST_SAMPLE: usize = 2_000;

/// What an index learns of tracks; all else in it is counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embeddings {
    /// `[tracks, factors]`, by least squares
    factors: Vec<f32>,
    /// `[tracks, VECTOR_LENGTH]`, by Track2Vec
    vectors: Vec<f32>,
}

impl Embeddings {
    /// Those of an index.
    pub fn of(index: &CompletionIndex) -> Self {
        Self { factors: index.factors.to_vec(), vectors: index.vectors.to_vec() }
    }

    /// As a stage of a run keeps them.
    pub fn state(&mut self) -> State<'_> {
        vec![("factors".to_owned(), &mut self.factors), ("vectors".to_owned(), &mut self.vectors)]
    }
}

/// Deletes the state of embeddings under way: what they were needed for is done.
pub fn forget_embeddings(context: RunContext<'_>) {
    for stage in [LEAST_SQUARES, VECTORS] {
        context.file(stage).inspect(StateFile::delete);
    }
}

/// Builds an index of those of the corpus' playlists that `members` names. Progress is shown as that of `stage`.
///
/// It learns embeddings from these playlists, unless they are `given`, learned from others.
pub fn build_index(
    corpus: &Corpus,
    members: &[u32],
    settings: &AlsSettings,
    stage: &'static str,
    given: Option<Embeddings>,
    context: RunContext<'_>,
) -> Result<CompletionIndex, TrainError> {
    let progress = Progress::start(stage, settings.iterations as u64 + 1);
    let tracks = corpus.artist_of.len();
    let mut last_seen = vec![NONE; tracks];
    let playlists = Csr::from_lists(members.iter().map(|&member| {
        let rows = corpus.sequences.playlists.row(member as usize).iter().copied();
        let mut distinct = Vec::with_capacity(rows.len());
        for row in rows {
            if last_seen[row as usize] != member {
                last_seen[row as usize] = member;
                distinct.push(row);
            }
        }
        distinct
    }));
    let postings = playlists.transpose(tracks);
    let popularity = |row: u32| postings.row(row as usize).len();
    let mut popular: Vec<u32> = (0..tracks as u32).filter(|&row| popularity(row) > 0).collect();
    popular.sort_by_key(|&row| std::cmp::Reverse(popularity(row)));
    let grouped = |of: &[u32], groups: usize| {
        let mut lists = vec![Vec::new(); groups];
        for &row in popular.iter().filter(|&&row| of[row as usize] != NONE) {
            lists[of[row as usize] as usize].push(row);
        }
        lists
    };
    let artist_tracks = grouped(&corpus.artist_of, corpus.artist_names.len());
    let album_tracks = grouped(&corpus.album_of, corpus.album_names.len());
    let album_counts: Vec<u32> =
        album_tracks.iter().map(|rows| rows.iter().map(|&row| popularity(row) as u32).sum()).collect();

    let mut artist_weights = Vec::new();
    let playlist_artists = Csr::from_lists(playlists.iter().map(|rows| {
        let mut artists: Vec<u32> =
            rows.iter().map(|&row| corpus.artist_of[row as usize]).filter(|&artist| artist != NONE).collect();
        artists.sort_unstable();
        artist_weights.extend(artists.chunk_by(|left, right| left == right).map(|run| (run.len() as f32).ln_1p()));
        artists.dedup();
        artists
    }));
    let artist_postings = playlist_artists.transpose(corpus.artist_names.len());
    let artist_counts: Vec<u32> = artist_postings.iter().map(|list| list.len() as u32).collect();
    let (artist_neighbours, artist_neighbour_weights) = neighbours(&playlist_artists, &artist_postings, context)?;

    let mut title_rows: HashMap<String, u32> = HashMap::new();
    let (mut titles, mut titled): (Vec<String>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
    for (playlist, &member) in members.iter().enumerate() {
        let title = normalise(&corpus.titles[member as usize]);
        if title.is_empty() {
            continue;
        }
        let row = *title_rows.entry(title).or_insert_with_key(|title| {
            titles.push(title.clone());
            titled.push(Vec::new());
            titles.len() as u32 - 1
        });
        titled[row as usize].push(playlist as u32);
    }
    let artist_names: Vec<String> = corpus.artist_names.iter().map(|name| normalise(name)).collect();
    let track_names: Vec<String> = corpus.track_names.iter().map(|name| normalise(name)).collect();
    let Embeddings { factors, vectors } = match given {
        Some(given) => given,
        None => {
            let factors = factors(&playlists, &postings, settings, context, &progress)?;
            let vectors = vectors(&playlists, &postings, &popular, settings.seed, context, |epoch, epochs| {
                progress.at(settings.iterations as u64, || format!("vectors {epoch}/{epochs}"));
            })?;
            Embeddings { factors, vectors }
        }
    };
    let mut gram = gram(&factors, settings.factors, settings.threads);
    for diagonal in 0..settings.factors {
        gram[diagonal * settings.factors + diagonal] += settings.regularization;
    }
    let mut index = CompletionIndex {
        popular: popular.into(),
        artist_of: corpus.artist_of.clone().into(),
        album_of: corpus.album_of.clone().into(),
        artist_tracks: Csr::from_lists(artist_tracks),
        album_tracks: Csr::from_lists(album_tracks),
        artist_counts: artist_counts.into(),
        album_counts: album_counts.into(),
        playlist_artists,
        playlist_artist_weights: artist_weights.into(),
        artist_neighbours,
        artist_neighbour_weights: artist_neighbour_weights.into(),
        titles: TextIndex::new(Unit::Gram, titles.iter().map(String::as_str)),
        title_playlists: Csr::from_lists(titled),
        artist_names: TextIndex::new(Unit::Gram, artist_names.iter().map(String::as_str)),
        artist_words: TextIndex::new(Unit::Word, artist_names.iter().map(String::as_str)),
        track_words: TextIndex::new(Unit::Word, track_names.iter().map(String::as_str)),
        factors: factors.into(),
        gram: gram.into(),
        alpha: settings.alpha,
        vectors: vectors.into(),
        playlists,
        postings,
        derived: DerivedTables::default(),
    };
    index.derive();
    Ok(index)
}

/// `[tracks, factors]`: by least squares.
fn factors(
    playlists: &Csr,
    postings: &Csr,
    settings: &AlsSettings,
    context: RunContext<'_>,
    progress: &Progress,
) -> Result<Vec<f32>, TrainError> {
    let (file, mut begun, mut place) = (context.file(LEAST_SQUARES), Factors::default(), [0_i64; 2]);
    let is_begun = file.as_ref().map_or(Ok(false), |file| file.load(factors_state(&mut begun, &mut place)))?;
    (begun.half_passes, begun.rows) = (place[0] as usize, place[1] as usize);
    let (mut saved, mut outcome) = (Instant::now(), Ok(()));
    let factors = factorize(playlists, postings, settings, is_begun.then_some(begun), |at| {
        let passes = at.half_passes / 2;
        progress.at(passes as u64, || format!("least squares {passes}/{}", settings.iterations));
        let stop = context.interrupt.is_raised();
        if let Some(file) = &file
            && (stop || saved.elapsed() > SAVE_INTERVAL)
        {
            let mut place = [at.half_passes as i64, at.rows as i64];
            outcome = file.save(factors_state(at, &mut place));
            saved = Instant::now();
        }
        !stop && outcome.is_ok()
    });
    outcome?;
    factors.ok_or(TrainError::Stopped)
}

fn factors_state<'a>(factors: &'a mut Factors, place: &'a mut [i64; 2]) -> State<'a> {
    vec![
        ("playlists".to_owned(), &mut factors.of_playlists),
        ("tracks".to_owned(), &mut factors.of_tracks),
        ("place".to_owned(), place),
    ]
}

/// `[tracks, VECTOR_LENGTH]`: vectors of Track2Vec from the playlists' order.
fn vectors(
    playlists: &Csr,
    postings: &Csr,
    popular: &[u32],
    seed: u64,
    context: RunContext<'_>,
    after_epoch: impl Fn(usize, usize),
) -> Result<Vec<f32>, TrainError> {
    let popularity = |row: u32| postings.row(row as usize).len();
    let common = &popular[..popular.partition_point(|&row| popularity(row) >= FEWEST_PLACEMENTS)];
    let mut number = vec![NONE; postings.rows()];
    for (row, place) in common.iter().zip(0..) {
        number[*row as usize] = place;
    }
    let numbered = |row: &u32| Some(number[*row as usize]).filter(|&number| number != NONE);
    let data = HeldOutSequences {
        playlists: Csr::from_lists(playlists.iter().map(|rows| rows.iter().filter_map(numbered))),
        queries: Vec::new(),
        vocabulary: common.len(),
        counts: common.iter().map(|&row| popularity(row) as u32).collect(),
    };
    let mut training = SimilaritySettings {
        architecture: Architecture::Cosine,
        dim: VECTOR_LENGTH as u32,
        window: 5,
        negatives: 5,
        pool: 32,
        alpha: -0.5,
        subsample: 1e-5,
        min_count: FEWEST_PLACEMENTS as u32,
        epochs: EPOCHS,
        batch: 4096,
        learning_rate: 0.005,
        seed,
    };
    let mut vectors = vec![0.0; postings.rows() * VECTOR_LENGTH];
    if !common.is_empty() {
        let pairs = expected_pairs(&data, &training)?;
        training.epochs = (MOST_PAIRS / pairs.max(1.0)).clamp(1.0, EPOCHS.into()) as u32;
        let trained = fit(&data, &training, None, context, |run| after_epoch(run.epochs(), training.epochs as usize))?;
        for (&row, vector) in common.iter().zip(trained.vectors.chunks_exact(VECTOR_LENGTH)) {
            vectors[row as usize * VECTOR_LENGTH..(row as usize + 1) * VECTOR_LENGTH].copy_from_slice(vector);
        }
    }
    Ok(vectors)
}

/// For each artist the ones that most often share playlists with it, popularity discounted.
fn neighbours(playlist_artists: &Csr, postings: &Csr, context: RunContext<'_>) -> Result<(Csr, Vec<f32>), TrainError> {
    let discount: Vec<f32> = postings.iter().map(|list| (list.len() as f32 + 20.0).powf(0.75)).collect();
    let artists: Vec<u32> = (0..postings.rows() as u32).collect();
    let found = map_in_parallel(None, &artists, context, |&artist, together: &mut Sparse<f32>| {
        together.reserve(postings.rows());
        let list = postings.row(artist as usize);
        let stride = list.len().div_ceil(ARTIST_SAMPLE).max(1);
        for &playlist in list.iter().step_by(stride) {
            for &other in playlist_artists.row(playlist as usize) {
                *together.touch(other) += stride as f32;
            }
        }
        let own = (list.len() as f32 + 20.0).powf(0.25);
        let others = together.touched().filter(|&other| other != artist);
        let mut scored: Vec<(u32, f32)> =
            others.map(|other| (other, together.get(other) / (discount[other as usize] * own))).collect();
        together.clear();
        sort_best(&mut scored, ARTIST_NEIGHBOURS);
        scored
    })?;
    let weights = found.iter().flatten().map(|neighbour| neighbour.1).collect();
    Ok((Csr::from_lists(found.into_iter().map(|list| list.into_iter().map(|neighbour| neighbour.0))), weights))
}
