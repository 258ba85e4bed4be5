//! The server, running on a free port over a catalog and a models folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use segue::bundle::{CompletionBundle, Kind, Manifest, SimilarityBundle};
use segue::catalog::Catalog;
use segue::dataset::Corpus;
use segue::import::import_mpd;
use segue::progress::Interrupt;
use segue::serve::{AppState, ServeSettings, serve};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use super::database::Database;
use super::slices::{bare_playlist, bare_track, bare_tracks, generated, slice, write};
use super::training::{TINY, TINY_COMPLETION, arguments, train, train_for_completion};
use super::{PATIENCE, copy_folder, slices, wait_until};

/// A playlist written by hand: two tracks of odd ids, the first one twice, and some generated ones.
pub const HANDMADE: &str = "handmade/1 & more?";
/// A track whose id needs every kind of encoding.
pub const ODD_TRACK: &str = "odd/track: 100% é?#1";
/// A track with an id as Spotify has them.
pub const SPOTIFY_TRACK: &str = "spotify:track:0123456789abcdefghijkl";
/// A playlist without tracks.
pub const EMPTY: &str = "empty";
/// A playlist that came after the training, of tracks that the model has never seen.
pub const LATE: &str = "late";
/// One of those tracks.
pub const LATE_TRACK: &str = "late:0";

/// A catalog and models trained on it, made once for all tests of a binary.
struct Fixture {
    database: Database,
    /// with a similarity bundle
    models: PathBuf,
    /// with a completion bundle
    completion_models: PathBuf,
}

async fn fixture() -> &'static Fixture {
    static FIXTURE: OnceCell<Fixture> = OnceCell::const_new();
    FIXTURE.get_or_init(make_fixture).await
}

async fn make_fixture() -> Fixture {
    // A static is never dropped. The folder stays below the build's own, where `cargo clean` finds it; the database goes
    // with the throw-away server of `make test`.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder").keep();
    let mut playlists = generated(120, 400, 11);
    let mut tracks = vec![
        json!({
            "track_uri": ODD_TRACK, "track_name": "Odd", "artist_name": "Handmade", "artist_uri": "handmade:artist",
            "album_name": "By Hand", "album_uri": "handmade:album", "duration_ms": 123_456
        }),
        bare_track(SPOTIFY_TRACK, "Even", "Handmade"),
        bare_track(ODD_TRACK, "Odd", "Handmade"),
    ];
    tracks.extend(playlists[0]["tracks"].as_array().expect("tracks").iter().take(12).cloned());
    playlists.push(json!({
        "pid": HANDMADE, "name": "Made by hand", "description": "of odd ids", "collaborative": "true",
        "modified_at": 1_500_000_000, "num_followers": 3, "num_edits": 4, "num_albums": 5, "num_artists": 6,
        "duration_ms": 7_000_000_000_u64,
        "tracks": tracks.into_iter().map(|mut track| { track.as_object_mut().expect("a track").remove("pos"); track })
            .collect::<Vec<_>>(),
    }));
    playlists.push(bare_playlist(EMPTY, Vec::new()));

    let database = Database::new().await;
    let catalog = database.catalog().await;
    import(&catalog, &folder, &playlists).await;
    let corpus = Corpus::load(&catalog).await.expect("a corpus");
    let (models, completion_models) = (folder.join("models"), folder.join("completion-models"));
    train(&corpus, &TINY, &models);
    train_for_completion(&corpus, &TINY_COMPLETION, &completion_models);
    import(&catalog, &folder, &[bare_playlist(LATE, bare_tracks("late", 3))]).await;
    catalog.close().await;
    Fixture { database, models, completion_models }
}

async fn import(catalog: &Catalog, folder: &Path, playlists: &[Value]) {
    let file = slices::write(folder, "slice.json", slice(playlists));
    let report = import_mpd(catalog, &[file], &folder.join("rejects"), &Interrupt::default()).await.expect("imported");
    assert_eq!((report.failed_files.len(), report.rejected), (0, 0), "{report:?}");
}

/// What a [`TestApp`] starts with.
pub struct Setup {
    /// settings of the server
    pub settings: ServeSettings,
    /// the catalog's URL, if not a copy of the fixture's catalog
    pub catalog: Option<String>,
    /// whether the fixture's similarity bundle is there
    pub with_model: bool,
    /// whether the fixture's completion bundle is there
    pub with_completion_model: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { settings: arguments(&[]), catalog: None, with_model: true, with_completion_model: false }
    }
}

/// A running server.
pub struct TestApp {
    /// where it listens: `http://127.0.0.1:…`
    pub url: String,
    /// the same as a socket address
    pub address: SocketAddr,
    /// its models folder
    pub models: PathBuf,
    /// its state
    pub state: AppState,
    /// to stop it
    pub interrupt: Interrupt,
    /// ends when it does
    pub serving: Option<JoinHandle<std::io::Result<()>>>,
    client: reqwest::Client,
    database: Option<Database>,
    _folder: TempDir,
}

impl TestApp {
    /// Over the fixture's catalog and similarity bundle.
    pub async fn spawn() -> Self {
        Self::start(Setup::default()).await
    }

    /// The sum of all values of a metric.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.body;
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Over the fixture's catalog and both of its bundles.
    pub async fn spawn_with_completion_model() -> Self {
        Self::start(Setup { with_completion_model: true, ..Setup::default() }).await
    }

    /// As `setup` says.
    pub async fn start(setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let models = folder.path().join("models");
        if setup.with_model {
            copy_folder(&fixture().await.models, &models);
        }
        if setup.with_completion_model {
            copy_folder(&fixture().await.completion_models, &models);
        }
        Self::start_on(setup, folder, models).await
    }

    /// As `setup` says, after `prepare` has changed the models folder.
    pub async fn start_with_models(setup: Setup, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let models = folder.path().join("models");
        copy_folder(&fixture().await.models, &models);
        prepare(&models);
        Self::start_on(setup, folder, models).await
    }

    /// As `setup` says, on the models folder that `prepare` fills.
    pub async fn start_on_models(setup: Setup, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let models = folder.path().join("models");
        prepare(&models);
        Self::start_on(setup, folder, models).await
    }

    async fn start_on(setup: Setup, folder: TempDir, models: PathBuf) -> Self {
        let database = match setup.catalog {
            Some(_) => None,
            None => Some(fixture().await.database.copy().await),
        };
        let url = setup.catalog.as_deref().or(database.as_ref().map(Database::url));
        let catalog = Catalog::connect(url, None, folder.path()).await.expect("a catalog");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = AppState::new(catalog, &models, &setup.settings).expect("a state");
        let interrupt = Interrupt::default();
        let serving = tokio::spawn({
            let (state, interrupt, settings) = (state.clone(), interrupt.clone(), setup.settings);
            async move { serve(listener, state, &settings, interrupt).await }
        });
        // `serve` answers from the moment that it has looked for a model; connections wait until then.
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let url = format!("http://{address}");
        Self { url, address, models, state, interrupt, serving: Some(serving), client, database, _folder: folder }
    }

    /// Its database, if that is its own.
    pub fn database(&self) -> &Database {
        self.database.as_ref().expect("a database of its own")
    }

    /// The manifest of the completion bundle in its folder.
    pub fn completion_manifest(&self) -> Manifest {
        CompletionBundle::load_current(&self.models).expect("a bundle").0
    }

    /// The manifest of the similarity bundle in its folder.
    pub fn manifest(&self) -> Manifest {
        SimilarityBundle::load_current(&self.models).expect("a bundle").0
    }

    /// A request to be filled in.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// `GET path`
    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::POST, path).json(body)).await
    }

    /// `POST path` without a body.
    pub async fn post_nothing(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::POST, path)).await
    }

    /// Ids of all tracks of a stored playlist.
    pub async fn tracks_of(&self, playlist: &str) -> Vec<String> {
        let path = format!("/playlists/{}?limit=500", encode(playlist));
        ids(&self.get(&path).await.ok()["tracks"])
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.interrupt.raise();
    }
}

/// An HTTP response.
#[derive(Debug)]
pub struct Answer {
    /// its status
    pub status: u16,
    /// its headers
    pub headers: HeaderMap,
    /// its body
    pub body: String,
}

impl Answer {
    /// To a request.
    pub async fn to(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.text().await.expect("a body") }
    }

    /// A header as text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The JSON body of a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header(CONTENT_TYPE.as_str()), "application/json");
        self.json()
    }

    /// The problem document of a failure, complete as RFC 9457 and the contract have it.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header(CONTENT_TYPE.as_str()), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("urn:segue:problem:")), "{problem}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        assert_eq!(problem["status"], json!(status));
        assert_ne!(self.header("x-request-id"), "");
        assert_eq!(problem["request_id"], json!(self.header("x-request-id")));
        let has_retry_after = self.headers.contains_key("retry-after");
        assert_eq!(has_retry_after, status == 503, "Retry-After goes with 503: {self:?}");
        problem
    }
}

/// What `ask` gets, with names. A response goes out without them when the catalog takes too long, as on a busy machine.
pub async fn named(ask: impl AsyncFn() -> Answer) -> Value {
    wait_until("names", async || {
        let answer = ask().await.ok();
        let all = answer["items"].as_array().expect("items").iter().all(|item| item["name"].is_string());
        all.then_some(answer)
    })
    .await
}

/// Ids of recommended or placed tracks.
#[track_caller]
pub fn ids(items: &Value) -> Vec<String> {
    let items = items.as_array().unwrap_or_else(|| panic!("not a list: {items}"));
    items.iter().map(|item| item["track_id"].as_str().expect("an id").to_owned()).collect()
}

/// An id as a segment of a path.
pub fn encode(id: &str) -> String {
    id.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Publishes the current bundle of `from` damaged, as if it were right: `damage` gets its folder.
pub fn publish_damaged(kind: Kind, from: &Path, models: &Path, damage: impl FnOnce(&Path)) -> String {
    // Made and damaged elsewhere: at no moment is it there whole.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let publish = match kind {
        Kind::Completion => super::training::publish_completion_again,
        Kind::Similarity => super::training::publish_again,
        Kind::Ratings => super::ratings::publish_ratings_again,
        Kind::Clicks => super::clicks::publish_clicks_again,
    };
    let version = publish(from, elsewhere.path()).version;
    let made = elsewhere.path().join(kind.as_str()).join(&version);
    damage(&made);
    copy_folder(&made, &models.join(kind.as_str()).join(&version));
    point_current_at(kind, models, &version);
    version
}

/// Replaces a file of a bundle, and says so in its manifest.
pub fn replace_file(bundle: &Path, name: &str, bytes: Vec<u8>) {
    change_manifest(bundle, |manifest| {
        let files = manifest["files"].as_array_mut().expect("files");
        let entry = files.iter_mut().find(|entry| entry["name"] == name).expect("the file");
        entry["bytes"] = json!(bytes.len());
        entry["sha256"] = json!(hex::encode(Sha256::digest(&bytes)));
    });
    write(bundle, name, bytes);
}

/// Changes the manifest of a bundle.
pub fn change_manifest(bundle: &Path, change: impl FnOnce(&mut Value)) {
    let text = std::fs::read(bundle.join("manifest.json")).expect("a manifest");
    let mut manifest: Value = serde_json::from_slice(&text).expect("JSON");
    change(&mut manifest);
    write(bundle, "manifest.json", manifest.to_string().into_bytes());
}

/// Makes `version` the current one, by rename.
pub fn point_current_at(kind: Kind, models: &Path, version: &str) {
    let folder = models.join(kind.as_str());
    let link = folder.join(".test-link");
    std::os::unix::fs::symlink(version, &link).expect("a link");
    std::fs::rename(&link, folder.join("current")).expect("renamed");
}

/// Writes a file anew with one byte flipped.
pub fn flip_byte(path: &Path, position: usize) {
    let mut bytes = std::fs::read(path).expect("a file");
    bytes[position] ^= 1;
    let name = path.file_name().expect("a name").to_str().expect("UTF-8");
    write(path.parent().expect("a folder"), name, bytes);
}
