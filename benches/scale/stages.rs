//! The stages of one part: each runs the program, and writes down what it took.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use segue::bundle::{Kind, current_version};
use segue::catalog::PlaylistRecord;
use segue::import::mpd::{find_slices, parse_slice};
use segue::import::{BytesRead, read_file};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Connection, Request, Sample, get, post, run};
use crate::support::{self, text};

/// How often a running stage is looked at, and how often that is written down.
const LOOK: Duration = Duration::from_millis(200);
const WRITE: Duration = Duration::from_secs(5);
/// Requests of which latencies are measured, and those before them that are not counted.
const REQUESTS: usize = 500;
const WARM: usize = 50;
/// Clients of whom each asks again when it has its answer, and for how long.
const CLIENTS: usize = 4;
const SUSTAINED: Duration = Duration::from_secs(20);
/// Time under a steady load, in the middle of which a model is loaded again.
const SWAP: Duration = Duration::from_secs(40);

/// What a stage took, all its runs together.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stage {
    pub done: bool,
    pub runs: usize,
    pub seconds: f64,
    /// most MiB of memory that the program had; PostgreSQL's are not counted
    pub memory: f64,
    /// MB that the stage left on disk
    pub megabytes: f64,
}

/// What the server did. Latencies are pairs of the median and the 99th percentile, in milliseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Serving {
    /// until the server says that it is ready
    pub load_seconds: f64,
    /// MiB of its own, and with the pages of mapped files
    pub private: f64,
    pub resident: f64,
    pub latencies: BTreeMap<String, (f64, f64)>,
    /// completions a second
    pub completions: f64,
    /// of completions under half of that load, before and while a model is loaded again
    pub before_swap: (f64, f64),
    pub while_swap: (f64, f64),
    /// requests meanwhile that were not answered with 200
    pub dropped: usize,
}

/// What is known of a part; `results.json` in its folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    pub name: String,
    pub playlists: usize,
    pub tracks: usize,
    pub placements: usize,
    pub stages: BTreeMap<String, Stage>,
    pub serving: Option<Serving>,
    /// the program of the stage that runs
    child: Option<u32>,
}

/// Results of all parts that have some, the smallest first.
pub fn results(folder: &Path) -> Vec<Results> {
    let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut results: Vec<Results> = folders
        .filter_map(|entry| std::fs::read(entry.path().join("results.json")).ok())
        .filter_map(|json| serde_json::from_slice(&json).ok())
        .collect();
    results.sort_by_key(|part| part.playlists);
    results
}

/// A part of the whole.
pub struct Part {
    folder: PathBuf,
    results: Results,
}

impl Part {
    /// With what earlier runs wrote down.
    pub fn new(folder: &Path, name: &str, playlists: usize, tracks: usize) -> Self {
        let folder = folder.join(name.replace('/', "-"));
        std::fs::create_dir_all(&folder).expect("a folder for a part");
        let results = std::fs::read(folder.join("results.json")).ok();
        let results = results.and_then(|json| serde_json::from_slice(&json).ok());
        let mut part = Self { folder, results: results.unwrap_or_default() };
        (part.results.name, part.results.playlists, part.results.tracks) = (name.to_owned(), playlists, tracks);
        part.end_what_an_earlier_run_left();
        part
    }

    /// Goes through the stages that are not done.
    pub fn run(&mut self, with_neumf: bool) {
        let (playlists, tracks) = (self.results.playlists.to_string(), self.results.tracks.to_string());
        let slices = text(&self.slices());
        let generate = ["generate", "--playlists", &playlists, "--tracks", &tracks, "--seed", "3", "--out", &slices];
        self.stage("generate", &generate, Self::slices);
        self.keep_a_sample();
        self.stage("import", &["import", "mpd", &slices, "--format", "json"], |part| part.home().join("data"));
        // What is imported takes ten times the room of the catalog.
        let _ = std::fs::remove_dir_all(self.slices());
        let completion = |part: &Self| part.bundle(Kind::Completion);
        self.stage("train completion", &["train", "completion", "--without-neumf"], completion);
        self.stage("train similarity", &["train", "similarity"], |part| part.bundle(Kind::Similarity));
        if self.results.serving.is_none() {
            println!("{}: serve", self.results.name);
            self.results.serving = Some(self.serve());
            self.write();
        }
        if with_neumf {
            self.stage("train completion, NeuMF", &["train", "completion"], completion);
        }
    }

    fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    fn bundle(&self, kind: Kind) -> PathBuf {
        let models = self.home().join("models");
        models.join(kind.as_str()).join(current_version(&models, kind).expect("a bundle"))
    }

    fn slices(&self) -> PathBuf {
        self.folder.join("slices")
    }

    fn sample(&self) -> PathBuf {
        self.folder.join("sample")
    }

    fn write(&self) {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).expect("a file");
        file.write_all(&serde_json::to_vec_pretty(&self.results).expect("JSON")).expect("results can be written");
        file.persist(self.folder.join("results.json")).expect("results can be written");
    }

    /// A run that was killed may have left its program.
    fn end_what_an_earlier_run_left(&mut self) {
        let Some(pid) = self.results.child.take() else { return };
        let home = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let ours = format!("SEGUE_HOME={}", self.home().display());
        if home.split(|byte| *byte == 0).any(|variable| variable == ours.as_bytes()) {
            let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
            while Path::new(&format!("/proc/{pid}")).exists() {
                std::thread::sleep(LOOK);
            }
        }
    }

    fn stage(&mut self, name: &str, arguments: &[&str], leaves: impl Fn(&Self) -> PathBuf) {
        let mut stage = self.results.stages.get(name).cloned().unwrap_or_default();
        if stage.done {
            return;
        }
        println!("{}: {name}", self.results.name);
        std::fs::create_dir_all(self.home()).expect("a home");
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let earlier = stage.seconds;
        stage.runs += 1;
        let began = Instant::now();
        let mut command = support::command(&self.home(), arguments);
        command.env("SEGUE_LOG", "info").stdout(log.try_clone().expect("a log")).stderr(log);
        let mut child = command.spawn().expect("segue starts");
        self.results.child = Some(child.id());
        let mut written = None;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
            stage.memory = stage.memory.max(memory(child.id(), "VmHWM:"));
            stage.seconds = earlier + began.elapsed().as_secs_f64();
            if written.is_none_or(|written: Instant| written.elapsed() > WRITE) {
                self.results.stages.insert(name.to_owned(), stage.clone());
                self.write();
                written = Some(Instant::now());
            }
            std::thread::sleep(LOOK);
        };
        assert!(status.success(), "segue {arguments:?} failed: see {}", self.folder.join("log").display());
        stage.seconds = earlier + began.elapsed().as_secs_f64();
        stage.done = true;
        stage.megabytes = bytes(&leaves(self)) as f64 / 1e6;
        self.results.child = None;
        self.results.stages.insert(name.to_owned(), stage);
        self.write();
    }

    /// Counts placements, and puts a slice aside: requests are made of its playlists.
    fn keep_a_sample(&mut self) {
        if self.results.placements > 0 {
            return;
        }
        let files = find_slices(&[self.slices()]).expect("slices");
        std::fs::create_dir_all(self.sample()).expect("a folder");
        let first = &files[0];
        std::fs::copy(first, self.sample().join(first.file_name().expect("a name"))).expect("a copy");
        let placements = files.iter().map(|file| {
            let bytes = read_file(file, &BytesRead::default()).expect("a slice");
            let playlists = parse_slice(file, &bytes).expect("a slice").playlists;
            playlists.iter().map(|playlist| playlist.tracks.len()).sum::<usize>()
        });
        self.results.placements = placements.sum();
        self.write();
    }

    fn serve(&self) -> Serving {
        support::copy_bundles(&self.home());
        let began = Instant::now();
        let (server, url) = support::serve(&self.home());
        let bench = Bench {
            address: url.trim_start_matches("http://").to_owned(),
            playlists: self.playlists(),
            names: self.names(),
        };
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let serving = threads.expect("threads").block_on(bench.serve(began, &server));
        support::stop(server);
        serving
    }

    fn playlists(&self) -> Vec<PlaylistRecord> {
        let files = find_slices(&[self.sample()]).expect("a sample");
        let bytes = read_file(&files[0], &BytesRead::default()).expect("a slice");
        let mut playlists = parse_slice(&files[0], &bytes).expect("a slice").playlists;
        playlists.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(1));
        playlists
    }

    /// Names of tracks, in the order of their occurrence.
    fn names(&self) -> Vec<String> {
        let files = find_slices(&[self.sample()]).expect("a sample");
        let slice: Value =
            serde_json::from_slice(&read_file(&files[0], &BytesRead::default()).expect("a slice")).expect("JSON");
        let playlists = slice["playlists"].as_array().into_iter().flatten();
        let tracks = playlists.filter_map(|playlist| playlist["tracks"].as_array()?.first());
        tracks.filter_map(|track| track["track_name"].as_str().map(ToOwned::to_owned)).collect()
    }
}

struct Bench {
    address: String,
    playlists: Vec<PlaylistRecord>,
    names: Vec<String>,
}

impl Bench {
    async fn serve(&self, began: Instant, server: &Child) -> Serving {
        while self.get("/health/ready").await["status"] != "ok" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut serving = Serving { load_seconds: began.elapsed().as_secs_f64(), ..Serving::default() };
        for (name, requests) in self.cases().await {
            serving.latencies.insert(name.to_owned(), self.one_connection(&requests).await);
        }
        let stored = self.stored(10);
        serving.completions = self.sustained(&stored).await;
        let rate = serving.completions / 2.0;
        let steady = || run(&self.address, stored.clone(), rate, SWAP / 2, 16);
        let before = steady().await;
        let (meanwhile, ()) = tokio::join!(steady(), self.swap());
        serving.dropped = before.iter().chain(&meanwhile).filter(|sample| sample.status != 200).count();
        (serving.before_swap, serving.while_swap) = (spread(&before), spread(&meanwhile));
        serving.private = memory(server.id(), "RssAnon:");
        serving.resident = memory(server.id(), "VmRSS:");
        serving
    }

    async fn get(&self, path: &str) -> Value {
        let Ok(response) = reqwest::get(format!("http://{}{path}", self.address)).await else { return Value::Null };
        response.json().await.unwrap_or_default()
    }

    fn stored(&self, limit: usize) -> Arc<Vec<Request>> {
        let paths = self.playlists.iter().map(|playlist| format!("/playlists/{}/complete", playlist.id.as_str()));
        Arc::new(paths.map(|path| post(&path, &json!({"limit": limit}))).collect())
    }

    fn inline(&self) -> Arc<Vec<Request>> {
        let long_enough = self.playlists.iter().filter(|playlist| playlist.tracks.len() >= 10);
        let requests = long_enough.map(|playlist| {
            let seeds: Vec<&str> = playlist.tracks[..10].iter().map(|track| track.id().as_str()).collect();
            post("/playlists/complete", &json!({"limit": 100, "playlists": [{"tracks": seeds}]}))
        });
        Arc::new(requests.collect())
    }

    fn search(&self, of: impl Fn(&str) -> String) -> Arc<Vec<Request>> {
        let texts = self.names.iter().map(|name| of(name).replace('%', "").replace(' ', "%20"));
        Arc::new(texts.map(|text| get(&format!("/tracks?limit=10&q={text}"))).collect())
    }

    /// Pages of playlists, one after another, as a client reads them.
    async fn pages(&self) -> Arc<Vec<Request>> {
        let (mut requests, mut cursor) = (Vec::new(), String::new());
        while requests.len() < WARM {
            let path = format!("/playlists?limit=100{cursor}");
            requests.push(get(&path));
            let page = self.get(&path).await;
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        Arc::new(requests)
    }

    async fn cases(&self) -> [(&'static str, Arc<Vec<Request>>); 8] {
        let first_tracks = self.playlists.iter().filter_map(|playlist| playlist.tracks.first());
        let similar = first_tracks.map(|track| get(&format!("/tracks/{}/similar?limit=10", track.id().as_str())));
        let whole = self.playlists.iter().map(|playlist| get(&format!("/playlists/{}", playlist.id.as_str())));
        [
            ("stored completion, limit 100", self.stored(100)),
            ("inline completion, 10 seeds, limit 100", self.inline()),
            ("similar tracks, limit 10", Arc::new(similar.collect())),
            ("search, a track's title", self.search(ToOwned::to_owned)),
            ("search, its beginning", self.search(|name| name.chars().take(5).collect())),
            (
                "search, a letter of it missing",
                self.search(|name| {
                    let middle = name.chars().count() / 2;
                    name.chars().enumerate().filter(|(place, _)| *place != middle).map(|(_, letter)| letter).collect()
                }),
            ),
            ("a playlist and its tracks", Arc::new(whole.collect())),
            ("a page of playlists, limit 100", self.pages().await),
        ]
    }

    async fn one_connection(&self, requests: &[Request]) -> (f64, f64) {
        let mut connection = Connection::new(self.address.clone());
        let mut samples = Vec::with_capacity(REQUESTS);
        for (number, request) in requests.iter().cycle().take(WARM + REQUESTS).enumerate() {
            let began = Instant::now();
            let status = connection.send(request).await;
            assert_eq!(status, 200, "a request was refused: {}", String::from_utf8_lossy(request));
            if number >= WARM {
                samples.push(Sample { latency: began.elapsed(), service: began.elapsed(), status });
            }
        }
        spread(&samples)
    }

    /// Answers a second, as many as the server and this client can do together.
    async fn sustained(&self, requests: &Arc<Vec<Request>>) -> f64 {
        let (answered, next) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let began = Instant::now();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (answered, next, requests) = (answered.clone(), next.clone(), requests.clone());
                let mut connection = Connection::new(self.address.clone());
                tokio::spawn(async move {
                    while began.elapsed() < SUSTAINED {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let status = connection.send(&requests[number % requests.len()]).await;
                        answered.fetch_add(usize::from(status == 200), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.expect("a client");
        }
        answered.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
    }

    /// Swaps the model of completions for its copy and back, over and over while others ask.
    async fn swap(&self) {
        let models = self.get("/models").await;
        let model = models["models"].as_array().into_iter().flatten().find(|model| model["kind"] == "completion");
        let mut version = model.expect("a model")["version"].as_str().expect("a version").to_owned();
        let url = format!("http://{}/models/completion/activate", self.address);
        let (client, over) = (reqwest::Client::new(), AtomicBool::new(false));
        let swaps = async {
            while !over.load(Ordering::Relaxed) {
                version = support::other(&version);
                let response = client.post(&url).json(&json!({"version": version})).send().await.expect("an answer");
                assert!(response.status().is_success(), "a swap failed: {}", response.status());
            }
        };
        let end = async {
            tokio::time::sleep(SWAP / 2).await;
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(swaps, end);
    }
}

/// The median and the 99th percentile in milliseconds.
fn spread(samples: &[Sample]) -> (f64, f64) {
    let mut latencies: Vec<f64> = samples.iter().map(|sample| sample.latency.as_secs_f64() * 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    (at(0.5), at(0.99))
}

/// MiB of a process, by a line of its status.
fn memory(pid: u32, line: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1_024.0
}

/// Bytes of all files in a folder.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let about = entry.metadata().ok()?;
            Some(if about.is_dir() { bytes(&entry.path()) } else { about.len() })
        })
        .sum()
}
