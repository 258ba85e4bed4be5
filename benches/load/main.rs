//! The server under load: `make load`, `make chaos`, `make soak`.
//!
//! `load` finds out what each route sustains; `chaos` overloads the server, swaps models and takes PostgreSQL away while
//! it is asked, and tells what was lost; `soak` mixes all of it for a while. All start the program itself over a private
//! PostgreSQL, with the catalog that `DATA` names or a synthetic one.

#![expect(clippy::expect_used, reason = "a benchmark that can't be set up has nothing to report")]

mod client;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "each benchmark uses its own part of it")]
mod support;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::{Connection, Request, Sample, get, post, run};
use segue::catalog::PlaylistRecord;
use serde_json::{Value, json};

const CONNECTIONS: usize = 64;
/// Of those who ask too much: so many that the server, not they, has to say when it is enough.
const MANY_CONNECTIONS: usize = 512;

/// While it soaks.
const BETWEEN_SWAPS: Duration = Duration::from_secs(5);
const SWAPS_BETWEEN_RESTARTS: usize = 24;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let flag = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1);
    let home = tempfile::tempdir().expect("a temporary folder");
    let playlists = support::prepare(home.path());
    support::copy_bundles(home.path());
    let (server, url) = support::serve_with(home.path(), &[]);
    let bench =
        Bench { address: url.trim_start_matches("http://").to_owned(), home: home.path(), pid: server.id(), playlists };
    let seconds = flag("--seconds").and_then(|text| text.parse().ok()).unwrap_or(10.0);
    let minutes: f64 = flag("--minutes").and_then(|text| text.parse().ok()).unwrap_or(20.0);
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads").block_on(
        async {
            let status = Connection::new(bench.address.clone()).send(&get("/health/ready")).await;
            assert_eq!(status, 200, "the server refuses the benchmark's requests");
            match () {
                () if arguments.iter().any(|argument| argument == "--chaos") => chaos(&bench, seconds).await,
                () if arguments.iter().any(|argument| argument == "--soak") => soak(&bench, minutes).await,
                () => load(&bench, seconds).await,
            }
        },
    );
    support::stop(server);
}

struct Bench<'a> {
    address: String,
    home: &'a Path,
    pid: u32,
    playlists: Vec<PlaylistRecord>,
}

/// What is asked, and how often a second.
struct Case {
    name: &'static str,
    rate: f64,
    requests: Arc<Vec<Request>>,
}

fn escape(id: &str) -> String {
    id.replace('/', "%2F")
}

impl Bench<'_> {
    fn similar(&self) -> Arc<Vec<Request>> {
        let tracks = self.playlists.iter().filter_map(|playlist| playlist.tracks.first());
        Arc::new(
            tracks.map(|track| get(&format!("/tracks/{}/similar?limit=10", escape(track.id().as_str())))).collect(),
        )
    }

    fn stored(&self) -> Arc<Vec<Request>> {
        let ids = self.playlists.iter().map(|playlist| escape(playlist.id.as_str()));
        Arc::new(ids.map(|id| post(&format!("/playlists/{id}/complete"), &json!({"limit": 10}))).collect())
    }

    /// Ten playlists of ten tracks in a request.
    fn batches(&self) -> Arc<Vec<Request>> {
        let long_enough: Vec<&PlaylistRecord> =
            self.playlists.iter().filter(|playlist| playlist.tracks.len() >= 10).collect();
        let batches = long_enough.chunks_exact(10).map(|ten| {
            let seeds = |playlist: &&PlaylistRecord| -> Vec<String> {
                playlist.tracks[..10].iter().map(|track| track.id().as_str().to_owned()).collect()
            };
            let playlists: Vec<Value> = ten.iter().map(|playlist| json!({"tracks": seeds(playlist)})).collect();
            post("/playlists/complete", &json!({"limit": 10, "playlists": playlists}))
        });
        Arc::new(batches.collect())
    }

    fn appends(&self) -> Arc<Vec<Request>> {
        let appends = self.playlists.iter().filter(|playlist| !playlist.tracks.is_empty()).map(|playlist| {
            let path = format!("/playlists/{}/tracks", escape(playlist.id.as_str()));
            post(&path, &json!({"tracks": [playlist.tracks[0].id()]}))
        });
        Arc::new(appends.collect())
    }

    fn cases(&self) -> [Case; 4] {
        [
            Case { name: "GET /tracks/{id}/similar, limit 10", rate: 3_000.0, requests: self.similar() },
            Case { name: "POST /playlists/{id}/complete, limit 10", rate: 250.0, requests: self.stored() },
            Case { name: "POST /playlists/complete, 10 × 10 seeds", rate: 40.0, requests: self.batches() },
            Case { name: "POST /playlists/{id}/tracks, 1 track", rate: 1_500.0, requests: self.appends() },
        ]
    }

    async fn run(&self, requests: &Arc<Vec<Request>>, rate: f64, seconds: f64) -> Vec<Sample> {
        run(&self.address, requests.clone(), rate, Duration::from_secs_f64(seconds), CONNECTIONS).await
    }

    /// MiB of memory that the server has.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default() / 1_024.0
    }

    fn postgres(&self, signal: &str) {
        let file = self.home.join("data/postgres/postmaster.pid");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let Some(pid) = text.lines().next() else { return };
        let _ = Command::new("kill").args([signal, pid]).status();
    }

    /// Waits until the private PostgreSQL is there again: a command that needs it starts it if the server has not.
    fn start_postgres(&self) {
        support::segue(self.home, &["keys", "list"]);
    }

    async fn json(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let client = reqwest::Client::new();
        let request = client.request(method.parse().expect("a method"), format!("http://{}{path}", self.address));
        let request = if let Some(body) = body { request.json(&body) } else { request };
        match request.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                (status, response.json().await.unwrap_or_default())
            }
            Err(_) => (0, Value::Null),
        }
    }

    /// Seconds until the server is as it should be.
    async fn seconds_until_ready(&self) -> f64 {
        let began = Instant::now();
        loop {
            let (_, ready) = self.json("GET", "/health/ready", None).await;
            if ready["status"] == "ok" || began.elapsed() > Duration::from_secs(60) {
                return began.elapsed().as_secs_f64();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Percentile in milliseconds.
fn at(samples: &[Sample], share: f64, of: fn(&Sample) -> Duration) -> f64 {
    let mut milliseconds: Vec<f64> = samples.iter().map(|sample| of(sample).as_secs_f64() * 1e3).collect();
    milliseconds.sort_by(f64::total_cmp);
    milliseconds.get(((milliseconds.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}

fn of_status(samples: &[Sample], is: impl Fn(u16) -> bool) -> Vec<Sample> {
    samples.iter().copied().filter(|sample| is(sample.status)).collect()
}

fn statuses(samples: &[Sample]) -> String {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for sample in samples {
        *counts.entry(sample.status).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(status, count)| format!("{count} × {status}")).collect();
    counts.join(", ")
}

fn head() {
    println!("| {:<42} | rate/s | done/s | p50 ms | p99 ms | errors | RSS MiB |", "route");
    println!("| {:-<42} | -----: | -----: | -----: | -----: | -----: | ------: |", "");
}

async fn load(bench: &Bench<'_>, seconds: f64) {
    head();
    for case in bench.cases() {
        bench.run(&case.requests, case.rate / 4.0, 2.0).await; // warm
        for share in [0.5, 1.0, 1.2] {
            let began = Instant::now();
            let samples = bench.run(&case.requests, case.rate * share, seconds).await;
            let good = of_status(&samples, |status| status == 200);
            let (p50, p99) = (at(&good, 0.5, |sample| sample.latency), at(&good, 0.99, |sample| sample.latency));
            let done = good.len() as f64 / began.elapsed().as_secs_f64();
            println!(
                "| {:<42} | {:>6.0} | {done:>6.0} | {p50:>6.1} | {p99:>6.1} | {:>6} | {:>7.0} |",
                case.name,
                case.rate * share,
                samples.len() - good.len(),
                bench.memory()
            );
        }
    }
}

async fn chaos(bench: &Bench<'_>, seconds: f64) {
    overload(bench, seconds).await;
    swaps(bench, seconds).await;
    database_away(bench, seconds, "killed (SIGQUIT)", "-QUIT").await;
    database_hangs(bench, seconds).await;
}

/// Three times what is sustainable.
async fn overload(bench: &Bench<'_>, seconds: f64) {
    println!("\noverload: three times the rate that each route is made for");
    for case in bench.cases() {
        let calm = bench.run(&case.requests, case.rate / 10.0, seconds / 2.0).await;
        let calm_p99 = at(&calm, 0.99, |sample| sample.latency);
        let before = bench.memory();
        let duration = Duration::from_secs_f64(seconds);
        let samples = run(&bench.address, case.requests.clone(), case.rate * 3.0, duration, MANY_CONNECTIONS).await;
        let (good, refused) =
            (of_status(&samples, |status| status == 200), of_status(&samples, |s| s == 503 || s == 429));
        println!(
            "  {:<42} {:>6.0}/s: accepted {}, p99 {:.0} ms (service {:.0}; unloaded {calm_p99:.0}); refused {}, p99 {:.0} ms (service {:.0}); others {}; RSS {before:.0} → {:.0} MiB",
            case.name,
            case.rate * 3.0,
            good.len(),
            at(&good, 0.99, |sample| sample.latency),
            at(&good, 0.99, |sample| sample.service),
            refused.len(),
            at(&refused, 0.99, |sample| sample.latency),
            at(&refused, 0.99, |sample| sample.service),
            samples.len() - good.len() - refused.len(),
            bench.memory()
        );
    }
}

async fn swaps(bench: &Bench<'_>, seconds: f64) {
    let (_, models) = bench.json("GET", "/models", None).await;
    let mut kinds: Vec<(String, String)> = models["models"]
        .as_array()
        .map(|models| models.iter())
        .into_iter()
        .flatten()
        .map(|model| {
            (
                model["kind"].as_str().unwrap_or_default().to_owned(),
                model["version"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    println!("\n20 swaps of each kind of model while asked");
    let stored = bench.stored();
    let asking = run(&bench.address, stored, 60.0, Duration::from_secs_f64(2.0 * seconds), CONNECTIONS);
    let swaps = 20 * kinds.len();
    let swapping = async {
        let mut failed = 0;
        for _ in 0..20 {
            for (kind, version) in &mut kinds {
                *version = support::other(version);
                let path = format!("/models/{kind}/activate");
                let (status, _) = bench.json("POST", &path, Some(json!({"version": version}))).await;
                failed += usize::from(status != 200);
            }
        }
        failed
    };
    let (samples, failed) = tokio::join!(asking, swapping);
    println!("  swaps {swaps}, failed {failed}; requests {}", statuses(&samples));
}

async fn database_away(bench: &Bench<'_>, seconds: f64, what: &str, signal: &str) {
    println!("\nPostgreSQL {what} while asked");
    let (similar, batches, stored) = (bench.similar(), bench.batches(), bench.stored());
    let away = async {
        tokio::time::sleep(Duration::from_secs_f64(seconds * 0.2)).await;
        bench.postgres(signal);
        tokio::time::sleep(Duration::from_secs_f64(seconds * 0.5)).await;
        let (_, ready) = bench.json("GET", "/health/ready", None).await;
        bench.start_postgres();
        (ready["status"].clone(), bench.seconds_until_ready().await)
    };
    let duration = Duration::from_secs_f64(seconds * 1.5);
    let (one, two, three, (ready, back)) = tokio::join!(
        run(&bench.address, similar, 200.0, duration, 16),
        run(&bench.address, batches, 5.0, duration, 8),
        run(&bench.address, stored.clone(), 40.0, duration, 32),
        away
    );
    println!("  similar {}; inline {}; stored {}", statuses(&one), statuses(&two), statuses(&three));
    let refused = of_status(&three, |status| status == 503);
    println!(
        "  refused p50 {:.1} ms, p99 {:.0} ms; readiness meanwhile {ready}; all well {back:.1} s after its return",
        at(&refused, 0.5, |sample| sample.service),
        at(&refused, 0.99, |sample| sample.service)
    );
    let after = run(&bench.address, stored, 20.0, Duration::from_secs(2), 16).await;
    println!("  afterwards: stored {}", statuses(&after));
}

/// It does not break, it only does not answer.
async fn database_hangs(bench: &Bench<'_>, seconds: f64) {
    println!("\nPostgreSQL hangs (its backends are stopped) while asked");
    let backends = || -> Vec<String> {
        let file = std::fs::read_to_string(bench.home.join("data/postgres/postmaster.pid")).unwrap_or_default();
        let parent = file.lines().next().unwrap_or_default().to_owned();
        let output = Command::new("pgrep").args(["-P", &parent]).output().expect("pgrep");
        let children = String::from_utf8_lossy(&output.stdout).lines().map(ToOwned::to_owned).collect::<Vec<_>>();
        [vec![parent], children].concat()
    };
    let signal = |signal: &str, pids: &[String]| {
        let _ = Command::new("kill").arg(signal).args(pids).status();
    };
    let (similar, stored) = (bench.similar(), bench.stored());
    let hanging = async {
        tokio::time::sleep(Duration::from_secs_f64(seconds * 0.2)).await;
        let pids = backends();
        signal("-STOP", &pids);
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        signal("-CONT", &pids);
        bench.seconds_until_ready().await
    };
    let duration = Duration::from_secs_f64(seconds * 1.5);
    let (one, two, back) = tokio::join!(
        run(&bench.address, similar, 200.0, duration, 16),
        run(&bench.address, stored, 20.0, duration, 64),
        hanging
    );
    println!("  similar {}; stored {}; all well {back:.1} s after it goes on", statuses(&one), statuses(&two));
    let refused = of_status(&two, |status| status != 200);
    println!(
        "  refused p50 {:.1} ms, longest {:.0} ms",
        at(&refused, 0.5, |s| s.service),
        at(&refused, 1.0, |s| s.service)
    );
}

/// All at once for a while: reads, completions, appends, swaps, restarts of PostgreSQL.
async fn soak(bench: &Bench<'_>, minutes: f64) {
    let duration = Duration::from_secs_f64(minutes * 60.0);
    let (_, models) = bench.json("GET", "/models", None).await;
    bench.json("PUT", "/playlists/soak", Some(json!({}))).await;
    let stop = AtomicBool::new(false);
    // Each append is a track that tells which one it was; those that were answered with 200 have to be there.
    let tracks: Vec<String> = {
        let ids = bench.playlists.iter().flat_map(|playlist| playlist.tracks.iter().map(|track| track.id().as_str()));
        let distinct: HashSet<&str> = ids.collect();
        distinct.into_iter().map(ToOwned::to_owned).collect()
    };
    let appending = async {
        let (mut connection, mut told, mut place) = (Connection::new(bench.address.clone()), Vec::new(), 0);
        while !stop.load(Ordering::Relaxed) && place < tracks.len() {
            let track = &tracks[place];
            let request = post("/playlists/soak/tracks", &json!({"tracks": [track]}));
            if connection.send(&request).await == 200 {
                told.push(track.clone());
            }
            place += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        told
    };
    let disturbing = async {
        let began = Instant::now();
        let (mut memory, mut restarts, mut slowest) = (Vec::new(), 0, 0.0_f64);
        while began.elapsed() < duration {
            tokio::time::sleep(BETWEEN_SWAPS).await;
            memory.push((began.elapsed().as_secs_f64() / 60.0, bench.memory()));
            for model in models["models"].as_array().into_iter().flatten() {
                let path = format!("/models/{}/activate", model["kind"].as_str().unwrap_or_default());
                let version = model["version"].as_str().unwrap_or_default();
                let version = if memory.len() % 2 == 1 { support::other(version) } else { version.to_owned() };
                bench.json("POST", &path, Some(json!({"version": version}))).await;
            }
            if memory.len() % SWAPS_BETWEEN_RESTARTS == 0 {
                bench.postgres("-INT"); // a fast stop
                tokio::time::sleep(Duration::from_secs(2)).await;
                bench.start_postgres();
                slowest = slowest.max(bench.seconds_until_ready().await);
                restarts += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        (memory, restarts, slowest)
    };
    let (similar, stored, batches) = (bench.similar(), bench.stored(), bench.batches());
    let (one, two, three, told, (memory, restarts, slowest)) = tokio::join!(
        run(&bench.address, similar, 200.0, duration, 32),
        run(&bench.address, stored, 20.0, duration, 32),
        run(&bench.address, batches, 4.0, duration, 16),
        appending,
        disturbing
    );
    println!("{minutes} minutes, {restarts} restarts of PostgreSQL, all well again within {slowest:.1} s");
    println!("  similar {}; stored {}; inline {}", statuses(&one), statuses(&two), statuses(&three));
    let mut there = HashSet::new();
    let mut from = 0;
    while let (200, page) = bench.json("GET", &format!("/playlists/soak?limit=500&from={from}"), None).await {
        there.extend(
            page["tracks"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|t| t["track_id"].as_str().map(ToOwned::to_owned)),
        );
        match page["next"].as_i64() {
            Some(next) => from = next,
            None => break,
        }
    }
    let lost = told.iter().filter(|track| !there.contains(*track)).count();
    println!("  appends answered with 200: {}; lost: {lost}", told.len());
    // Least squares, the first third left out: caches fill.
    let late = &memory[memory.len() / 3..];
    let mean = |of: fn(&(f64, f64)) -> f64| late.iter().map(of).sum::<f64>() / late.len().max(1) as f64;
    let (time, size) = (mean(|at| at.0), mean(|at| at.1));
    let covariance: f64 = late.iter().map(|at| (at.0 - time) * (at.1 - size)).sum();
    let slope = covariance / late.iter().map(|at| (at.0 - time).powi(2)).sum::<f64>();
    println!("  RSS {size:.0} MiB, slope {slope:+.2} MiB a minute");
}
