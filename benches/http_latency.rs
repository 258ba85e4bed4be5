//! Latency over HTTP, as one client on one connection sees it: `make bench`, or `make bench DATA=path/to/slices`.
//!
//! Imports into a private PostgreSQL, trains briefly (how long training went on does not change how long an answer takes;
//! the ranking has all of its trees), starts the program itself, and asks for one thing after another. At the end several
//! connections ask at once, for the rate that the machine sustains with the client on it.

#![expect(clippy::expect_used, reason = "a benchmark that can't be set up has nothing to report")]

use std::collections::BTreeSet;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use reqwest::Client;
use segue::catalog::{PlaylistRecord, TrackId, TrackMention};
use serde_json::json;

#[expect(dead_code, reason = "each benchmark uses its own part of it")]
mod support;

use support::{prepare, serve, stop};

const REQUESTS: usize = 2_000;
const WARM_UP: usize = 200;

fn main() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let playlists = prepare(home.path());
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);

    let (server, address) = serve(home.path());
    tokio::runtime::Runtime::new().expect("threads").block_on(measure(&address, &playlists, &mut rng));
    stop(server);
}

async fn measure(address: &str, playlists: &[PlaylistRecord], rng: &mut Xoshiro256PlusPlus) {
    let client = Client::builder().pool_max_idle_per_host(1).build().expect("a client");
    let escape = |id: &str| id.replace('/', "%2F");
    println!("{:<44} {:>9} {:>9} {:>9} {:>7}", "one connection, milliseconds", "median", "p95", "p99", "n");

    for limit in [10, 100] {
        // Each is asked for once: of one that is asked for again the answer is at hand.
        let tracks = playlists.iter().flat_map(|playlist| &playlist.tracks).map(TrackMention::id);
        let mut distinct: Vec<&TrackId> = tracks.collect::<BTreeSet<&TrackId>>().into_iter().collect();
        let urls: Vec<String> = (0..(REQUESTS + WARM_UP).min(distinct.len()))
            .map(|_| {
                let track = distinct.swap_remove(rng.random_range(0..distinct.len()));
                format!("{address}/tracks/{}/similar?limit={limit}", escape(track.as_str()))
            })
            .collect();
        let requests = urls.iter().map(|url| client.get(url));
        report(&format!("GET /tracks/{{id}}/similar?limit={limit}"), requests).await;
    }
    for limit in [10, 100, 500] {
        let body = json!({ "limit": limit });
        let ids = playlists.iter().cycle().take(REQUESTS + WARM_UP).map(|playlist| playlist.id.as_str());
        let requests = ids.map(|id| client.post(format!("{address}/playlists/{}/complete", escape(id))).json(&body));
        report(&format!("POST /playlists/{{id}}/complete, limit {limit}"), requests).await;
    }
    let inline: Vec<serde_json::Value> = playlists
        .chunks(64)
        .map(|chunk| {
            let playlists: Vec<serde_json::Value> = chunk
                .iter()
                .map(|playlist| json!({ "tracks": playlist.tracks.iter().map(TrackMention::id).collect::<Vec<_>>() }))
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
            let seeds: Vec<&TrackId> = playlist.tracks[..tracks].iter().map(TrackMention::id).collect();
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
