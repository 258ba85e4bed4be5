//! Latency over HTTP, as one client on one connection sees it: `make bench`, or `make bench DATA=path/to/slices`.
//!
//! Imports into a private PostgreSQL, trains briefly (how long training went on does not change how long an answer takes;
//! the ranking has all of its trees), starts the program itself, and asks for one thing after another. At the end several
//! connections ask at once, for the rate that the machine sustains with the client on it.

#![expect(clippy::expect_used, reason = "a benchmark that can't be set up has nothing to report")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use reqwest::Client;
use segue::catalog::{PlaylistRecord, TrackMention};
use segue::import::mpd::{find_slices, parse_slice};
use segue::import::read_file;
use serde_json::json;

const REQUESTS: usize = 2_000;
const WARM_UP: usize = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let data: Vec<PathBuf> =
        arguments.iter().skip_while(|argument| *argument != "--data").skip(1).map(PathBuf::from).take(1).collect();
    let home = tempfile::tempdir().expect("a temporary folder");
    let slices = if data.is_empty() {
        let folder = home.path().join("synthetic");
        segue(home.path(), &["generate", "--playlists", "5000", "--tracks", "60000", "--out", &text(&folder)]);
        vec![folder]
    } else {
        data
    };
    let mut import = vec!["import", "mpd"];
    let paths: Vec<String> = slices.iter().map(|path| text(path)).collect();
    import.extend(paths.iter().map(String::as_str));
    segue(home.path(), &import);
    segue(home.path(), &["train", "similarity", "--epochs", "1"]);
    let brief =
        ["--folds", "2", "--maskings", "1", "--ranking-playlists", "600", "--negatives", "50", "--without-neumf"];
    segue(home.path(), &[&["train", "completion"], brief.as_slice()].concat());

    let mut playlists: Vec<PlaylistRecord> = Vec::new();
    for file in find_slices(&slices).expect("slices").iter().take(2) {
        let bytes = read_file(file).expect("a slice");
        playlists.extend(parse_slice(file, &bytes).expect("a slice").playlists);
    }
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    playlists.shuffle(&mut rng);

    let (server, address) = serve(home.path());
    tokio::runtime::Runtime::new().expect("threads").block_on(measure(&address, &playlists, &mut rng));
    stop(server);
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command
        .args(arguments)
        .env_remove("DATABASE_URL")
        .env("SEGUE_HOME", home)
        .env("SEGUE_LOG", "warn,segue::serve=info");
    command
}

fn segue(home: &Path, arguments: &[&str]) {
    let status = command(home, arguments).stdout(Stdio::null()).status().expect("segue starts");
    assert!(status.success(), "segue {arguments:?} failed");
}

/// Starts the server on a free port and waits until it says which.
fn serve(home: &Path) -> (Child, String) {
    let mut child = command(home, &["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
        .env("SEGUE_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .expect("segue starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let address = loop {
        let line = lines.next().expect("it says where it listens").expect("text");
        if let Some((_, rest)) = line.split_once("listening on ") {
            break rest.split('"').next().expect("a first part").to_owned();
        }
    };
    // Whoever writes logs must be read.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address)
}

fn stop(mut server: Child) {
    let _ = Command::new("kill").args(["-TERM", &server.id().to_string()]).status();
    let _ = server.wait();
}

async fn measure(address: &str, playlists: &[PlaylistRecord], rng: &mut Xoshiro256PlusPlus) {
    let client = Client::builder().pool_max_idle_per_host(1).build().expect("a client");
    let escape = |id: &str| id.replace('/', "%2F");
    println!("{:<44} {:>9} {:>9} {:>9} {:>7}", "one connection, milliseconds", "median", "p95", "p99", "n");

    for limit in [10, 100] {
        let urls: Vec<String> = (0..REQUESTS + WARM_UP)
            .map(|_| {
                let tracks = &playlists[rng.random_range(0..playlists.len())].tracks;
                let track = &tracks[rng.random_range(0..tracks.len())];
                format!("{address}/tracks/{}/similar?limit={limit}", escape(track.uri()))
            })
            .collect();
        let requests = urls.iter().map(|url| client.get(url));
        report(&format!("GET /tracks/{{id}}/similar?limit={limit}"), requests).await;
    }
    for limit in [10, 100, 500] {
        let body = json!({ "limit": limit });
        let ids = playlists.iter().cycle().take(REQUESTS + WARM_UP).map(|playlist| &playlist.external_id);
        let requests = ids.map(|id| client.post(format!("{address}/playlists/{}/complete", escape(id))).json(&body));
        report(&format!("POST /playlists/{{id}}/complete, limit {limit}"), requests).await;
    }
    let inline: Vec<serde_json::Value> = playlists
        .chunks(64)
        .map(|chunk| {
            let playlists: Vec<serde_json::Value> = chunk
                .iter()
                .map(|playlist| json!({ "tracks": playlist.tracks.iter().map(TrackMention::uri).collect::<Vec<_>>() }))
                .collect();
            json!({ "playlists": playlists, "limit": 100 })
        })
        .collect();
    let requests =
        inline.iter().cycle().take(WARM_UP).map(|body| client.post(format!("{address}/playlists/complete")).json(body));
    report("POST /playlists/complete, 64 × limit 100", requests).await;

    // Playlists cut to their first tracks, as an app would send one that is being made.
    let first = |tracks: usize, limit: usize| -> Vec<serde_json::Value> {
        let long_enough = playlists.iter().filter(|playlist| playlist.tracks.len() >= tracks);
        let cut = long_enough.map(|playlist| {
            let seeds: Vec<&str> = playlist.tracks[..tracks].iter().map(TrackMention::uri).collect();
            json!({ "playlists": [{ "title": playlist.title, "tracks": seeds }], "limit": limit })
        });
        cut.collect()
    };
    for (tracks, limit) in [(10, 100), (100, 500)] {
        let bodies = first(tracks, limit);
        let bodies = bodies.iter().cycle().take(REQUESTS + WARM_UP);
        let requests = bodies.map(|body| client.post(format!("{address}/playlists/complete")).json(body));
        report(&format!("POST /playlists/complete, {tracks} seeds, limit {limit}"), requests).await;
    }
    rate(&format!("{address}/playlists/complete"), first(10, 100)).await;
}

/// Several connections, each sending one request after the other.
async fn rate(url: &str, bodies: Vec<serde_json::Value>) {
    const CONNECTIONS: usize = 4;
    let bodies = std::sync::Arc::new(bodies);
    let started = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|connection| {
            let (bodies, url) = (bodies.clone(), url.to_owned());
            tokio::spawn(async move {
                let client = Client::new();
                for request in 0..REQUESTS / CONNECTIONS {
                    let body = &bodies[(request * CONNECTIONS + connection) % bodies.len()];
                    let response = client.post(&url).json(body).send().await.expect("an answer");
                    assert!(response.status().is_success(), "{}", response.status());
                    response.bytes().await.expect("a body");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client");
    }
    let rate = REQUESTS as f64 / started.elapsed().as_secs_f64();
    println!("POST /playlists/complete, 10 seeds, limit 100: {rate:.0} requests/s over {CONNECTIONS} connections");
}

/// Sends one request after another; the first tenth is not counted.
async fn report(what: &str, requests: impl Iterator<Item = reqwest::RequestBuilder>) {
    let mut milliseconds = Vec::new();
    for request in requests {
        let started = Instant::now();
        let response = request.send().await.expect("an answer");
        assert!(response.status().is_success(), "{what} answered {}", response.status());
        response.bytes().await.expect("a body");
        milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
    }
    milliseconds.drain(..milliseconds.len() / 11);
    milliseconds.sort_by(f64::total_cmp);
    let at = |share: f64| milliseconds[((milliseconds.len() - 1) as f64 * share) as usize];
    println!("{what:<44} {:>9.2} {:>9.2} {:>9.2} {:>7}", at(0.5), at(0.95), at(0.99), milliseconds.len());
}
