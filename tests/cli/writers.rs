//! Writers side by side, with kills on the way, against a model of what must be there afterwards.
//!
//! Editors, bulk requests, imports, ratings and deletions run at random against the built server. What was acknowledged
//! must be there; what was not may be there, but as a whole. `SEGUE_WRITERS_SECONDS` makes it longer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};

use crate::support::program::{Home, Running};
use crate::support::slices::{slice, write};
use crate::support::{PATIENCE, wait_until};

const TRACKS: usize = 200;
const SHARED: usize = 3;
const OWN_OF_BULK: usize = 10;

/// What became of a request.
enum Outcome {
    /// it was stored
    Stored(Value),
    /// it was rejected
    Rejected,
    /// no one knows
    Unknown,
}

/// What all clients share.
struct World {
    url: String,
    client: reqwest::Client,
    stop: AtomicBool,
    /// odd while something is down
    disturbances: AtomicU64,
    /// what must not happen
    complaints: Mutex<Vec<String>>,
    requests: AtomicU64,
}

impl World {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn complain(&self, complaint: String) {
        self.complaints.lock().expect("no panic").push(complaint);
    }

    /// The number of disturbances so far; none during one.
    fn calm(&self) -> Option<u64> {
        Some(self.disturbances.load(Ordering::SeqCst)).filter(|number| number % 2 == 0)
    }

    async fn send(&self, method: Method, path: &str, content_type: &str, body: String) -> Option<(u16, String)> {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let response = request.header("content-type", content_type).body(body).send().await.ok()?;
        let status = response.status().as_u16();
        self.requests.fetch_add(1, Ordering::Relaxed);
        Some((status, response.text().await.ok()?))
    }

    async fn change(&self, method: Method, path: &str, body: &Value) -> Outcome {
        let before = self.calm();
        let what = format!("{method} {path} {body}");
        let answer = self.send(method, path, "application/json", body.to_string()).await;
        match answer {
            Some((200..=299, text)) => Outcome::Stored(serde_json::from_str(&text).unwrap_or_default()),
            Some((400..=499, _)) => Outcome::Rejected,
            other => {
                let is_overload = other.as_ref().is_some_and(|(_, text)| text.contains(":overloaded"));
                if before.is_some() && before == self.calm() && !is_overload {
                    self.complain(format!("{what}: {other:?}"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                if is_overload { Outcome::Rejected } else { Outcome::Unknown }
            }
        }
    }

    /// The tracks of a playlist, once the server can tell.
    async fn tracks(&self, playlist: &str) -> Vec<String> {
        let (path, began) = (format!("/playlists/{playlist}?limit=500"), Instant::now());
        loop {
            if let Some((200, text)) = self.send(Method::GET, &path, "text/plain", String::new()).await {
                let page: Value = serde_json::from_str(&text).expect("JSON");
                let tracks = page["tracks"].as_array().expect("tracks").iter();
                return tracks.map(|track| track["track_id"].as_str().expect("an id").to_owned()).collect();
            }
            assert!(began.elapsed() < PATIENCE, "{playlist} can't be read");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn track(number: usize) -> String {
    format!("t:{number}")
}

/// Edits a playlist that no one else edits, and knows it at any time.
async fn edit_alone(world: Arc<World>, number: u64) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(number);
    let path = format!("/playlists/own-{number}/tracks");
    let mut model: Vec<String> = world.tracks(&format!("own-{number}")).await;
    while !world.is_over() {
        let length = model.len();
        let some: Vec<String> = (0..random.random_range(1..5)).map(|_| track(random.random_range(0..TRACKS))).collect();
        let mut after = model.clone();
        let outcome = match random.random_range(0..6) {
            0 => {
                after.extend(some.clone());
                world.change(Method::POST, &path, &json!({"tracks": some})).await
            }
            1 => {
                let at = random.random_range(0..=length);
                after.splice(at..at, some.clone());
                world.change(Method::POST, &path, &json!({"tracks": some, "position": at})).await
            }
            2 | 3 if length > 0 => {
                let from = random.random_range(0..length);
                let count = random.random_range(1..=length - from);
                let to = random.random_range(0..=length - count);
                let moved: Vec<String> = after.drain(from..from + count).collect();
                after.splice(to..to, moved);
                let body = json!({"from": from, "count": count, "to": to});
                world.change(Method::POST, &format!("{path}/move"), &body).await
            }
            4 if length > 0 => {
                let from = random.random_range(0..length);
                let count = random.random_range(1..=(length - from).min(6));
                after.drain(from..from + count);
                let path = format!("{path}?position={from}&count={count}");
                world.change(Method::DELETE, &path, &Value::Null).await
            }
            5 if length > 60 => {
                after = some.clone();
                world.change(Method::PUT, &path, &json!({"tracks": some})).await
            }
            _ => continue,
        };
        match outcome {
            Outcome::Stored(changed) if changed["num_tracks"] == json!(after.len()) => model = after,
            Outcome::Stored(changed) => world.complain(format!("own-{number}: {changed}, expected {}", after.len())),
            Outcome::Rejected => {}
            Outcome::Unknown => {
                // A request that the server gave up may still be in PostgreSQL's hands: both states are right until the next.
                let now = world.tracks(&format!("own-{number}")).await;
                if now != model && now != after {
                    world.complain(format!("own-{number}: {now:?} is neither {model:?} nor {after:?}"));
                }
                model = now;
            }
        }
        if random.random_range(0..20) == 0 {
            let now = world.tracks(&format!("own-{number}")).await;
            if now != model {
                world.complain(format!("own-{number}: {now:?}, expected {model:?}"));
            }
        }
    }
}

/// Moves tracks of playlists that bulk requests replace meanwhile.
async fn move_shared(world: Arc<World>, number: u64) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(100 + number);
    while !world.is_over() {
        let playlist = random.random_range(0..SHARED);
        let (from, to) = (random.random_range(0..30), random.random_range(0..30));
        let path = format!("/playlists/shared-{playlist}");
        match random.random_range(0..4) {
            0 => world.change(Method::PATCH, &path, &json!({"description": format!("by {number}")})).await,
            _ => world.change(Method::POST, &format!("{path}/tracks/move"), &json!({"from": from, "to": to})).await,
        };
    }
}

/// The tracks of a version of a playlist: 30 that no other version has in this number.
fn tracks_of_version(version: u64) -> Vec<usize> {
    (0..30).map(|place| (version as usize * 7 + place * place) % TRACKS).collect()
}

/// Versions of each playlist: the last that was acknowledged, and those that may be stored since.
type Versions = BTreeMap<String, (u64, BTreeSet<u64>)>;

fn acknowledged(versions: &mut Versions, playlist: &str, version: u64) {
    versions.insert(playlist.to_owned(), (version, BTreeSet::new()));
}

fn unknown(versions: &mut Versions, playlist: &str, version: u64) {
    versions.entry(playlist.to_owned()).or_default().1.insert(version);
}

/// Sends playlists in bulk, with tracks that are described another way each time.
async fn send_bulk(world: Arc<World>, number: u64) -> Versions {
    let mut versions = Versions::new();
    let mut version = 0;
    while !world.is_over() {
        version += 1;
        // Each of two clients has its own order, and shares no playlist with the other.
        let mut ids: Vec<String> = (0..OWN_OF_BULK).map(|id| format!("bulk-{number}-{id}")).collect();
        ids.extend((0..SHARED).filter(|id| id % 2 == number as usize % 2).map(|id| format!("shared-{id}")));
        if version % 2 == 0 {
            ids.reverse();
        }
        let described = |track: usize| json!({"id": format!("t:{track}"), "name": format!("Track {track}"), "artist": format!("Artist {}", (track as u64 + version) % 9)});
        let lines: Vec<String> = ids
            .iter()
            .map(|id| {
                let tracks: Vec<Value> = tracks_of_version(version).into_iter().map(described).collect();
                json!({"id": id, "title": format!("v{version}"), "user_id": format!("owner-{number}"), "tracks": tracks}).to_string()
            })
            .collect();
        let before = world.calm();
        let answer = world.send(Method::POST, "/playlists", "application/x-ndjson", lines.join("\n")).await;
        let mut left: BTreeSet<String> = ids.into_iter().collect();
        let text = answer.map(|(_, text)| text).unwrap_or_default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let (Some(id), Some("added" | "changed" | "unchanged")) = (line["id"].as_str(), line["outcome"].as_str())
            else {
                continue;
            };
            acknowledged(&mut versions, id, version);
            left.remove(id);
        }
        if !left.is_empty() {
            if before.is_some() && before == world.calm() && !text.contains(":overloaded") {
                world.complain(format!("bulk {number}: {} lines lost: {text}", left.len()));
            }
            left.iter().for_each(|id| unknown(&mut versions, id, version));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    versions
}

/// Imports files with the command, with playlists of its own and tracks that others have too.
async fn import(world: Arc<World>, home: Arc<Home>) -> Versions {
    let mut versions = Versions::new();
    let mut version = 0;
    while !world.is_over() {
        version += 1;
        let ids: Vec<String> = (0..20).map(|id| format!("import-{id}")).collect();
        let playlists: Vec<Value> = ids
            .iter()
            .map(|id| {
                let tracks: Vec<Value> = tracks_of_version(version)
                    .into_iter()
                    .map(|track| json!({"track_uri": format!("t:{track}"), "track_name": format!("Track {track}"), "artist_name": format!("Artist {}", (track as u64 + version) % 7)}))
                    .collect();
                json!({"pid": id, "name": format!("v{version}"), "tracks": tracks})
            })
            .collect();
        write(home.path(), "import.json", slice(&playlists));
        let before = world.calm();
        let command = home.segue(&["import", "mpd", "import.json"]);
        let finished = tokio::task::spawn_blocking(move || command.run()).await.expect("joined");
        match finished.code {
            Some(0) => ids.iter().for_each(|id| acknowledged(&mut versions, id, version)),
            _ => {
                if before.is_some() && before == world.calm() {
                    world.complain(format!("import: {finished:?}"));
                }
                ids.iter().for_each(|id| unknown(&mut versions, id, version));
            }
        }
    }
    versions
}

/// Appends to one playlist with others, each track once. Returns those that were acknowledged.
async fn append(world: Arc<World>, number: u64) -> BTreeSet<String> {
    let mut stored = BTreeSet::new();
    for place in 0.. {
        let track = format!("a:{number}:{place}");
        let described = json!({"id": track, "name": track, "artist": format!("Artist {}", place % 9)});
        if world.is_over() {
            break;
        }
        let Outcome::Stored(_) = world.change(Method::POST, "/tracks", &described).await else { continue };
        if let Outcome::Stored(_) =
            world.change(Method::POST, "/playlists/feed/tracks", &json!({"tracks": [track]})).await
        {
            stored.insert(track);
        }
    }
    stored
}

/// Creates tracks, has them rated and placed, and deletes them. Returns those whose deletion was acknowledged.
async fn delete_tracks(world: Arc<World>) -> BTreeSet<String> {
    let mut deleted = BTreeSet::new();
    for place in 0.. {
        if world.is_over() {
            break;
        }
        let track = format!("d:{place}");
        let described = json!({"name": track, "artist": format!("Artist {}", place % 9)});
        world.change(Method::PUT, &format!("/tracks/{track}"), &described).await;
        world.change(Method::POST, "/playlists/feed/tracks", &json!({"tracks": [track, track], "position": 0})).await;
        world
            .change(
                Method::POST,
                "/ratings",
                &json!({"ratings": [{"user_id": "rater-0", "track_id": track, "rating": 3}]}),
            )
            .await;
        if let Outcome::Stored(_) = world.change(Method::DELETE, &format!("/tracks/{track}"), &Value::Null).await {
            deleted.insert(track);
        }
    }
    deleted
}

/// Ratings of each user and track: the last that was acknowledged, and those that may be stored since.
type Ratings = HashMap<(String, String), (Option<f64>, Vec<f64>)>;

/// Rates, a dozen tracks at a time.
async fn rate(world: Arc<World>, number: u64) -> Ratings {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(200 + number);
    let mut model = Ratings::new();
    while !world.is_over() {
        let rows: BTreeMap<(String, String), f64> = (0..12)
            .map(|_| {
                let user = format!("rater-{number}-{}", random.random_range(0..5));
                ((user, track(random.random_range(0..TRACKS))), f64::from(random.random_range(1..=10)) / 2.0)
            })
            .collect();
        let mut ratings: Vec<Value> = rows
            .iter()
            .map(|((user, track), rating)| json!({"user_id": user, "track_id": track, "rating": rating}))
            .collect();
        // The owners are deleted meanwhile.
        ratings.push(json!({"user_id": format!("owner-{number}"), "track_id": track(0), "rating": 1}));
        let outcome = world.change(Method::POST, "/ratings", &json!({"ratings": ratings})).await;
        for (key, rating) in rows {
            let known = model.entry(key).or_default();
            match outcome {
                Outcome::Stored(_) => *known = (Some(rating), Vec::new()),
                Outcome::Rejected => {}
                Outcome::Unknown => known.1.push(rating),
            }
        }
    }
    model
}

/// Deletes users who own playlists and rate; they are added again with the next one.
async fn delete_users(world: Arc<World>) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(300);
    while !world.is_over() {
        let user = ["owner-0", "owner-1"].choose(&mut random).expect("one");
        world.change(Method::DELETE, &format!("/users/{user}"), &Value::Null).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn start(home: &Home, address: &str) -> Running {
    let running = home.segue(&["serve", "--listen", address]).start();
    running.url();
    running
}

async fn until_ready(world: &World) {
    wait_until("the catalog", async || {
        let answer = world.send(Method::GET, "/tracks?limit=1", "", String::new()).await;
        (answer?.0 == 200).then_some(())
    })
    .await;
}

fn kill_postgres(home: &Path) {
    let text = std::fs::read_to_string(home.join("data/postgres/postmaster.pid")).expect("it runs");
    let pid = text.lines().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw).expect("a number");
    kill_process(pid, Signal::KILL).expect("killed");
}

/// Of each line of numbers, what is not zero.
async fn violations(connection: &mut PgConnection) -> Vec<String> {
    let checks = [
        ("gaps", "SELECT count(*) FROM (
             SELECT p.id FROM playlists p LEFT JOIN playlist_tracks pt ON pt.playlist_id = p.id GROUP BY p.id
             HAVING count(pt.position) <> p.num_tracks OR COALESCE(max(pt.position) + 1, 0) <> p.num_tracks) wrong"),
        ("placements of nothing", "SELECT count(*) FROM playlist_tracks pt
             WHERE NOT EXISTS (SELECT FROM tracks WHERE id = pt.track_id)
                OR NOT EXISTS (SELECT FROM playlists WHERE id = pt.playlist_id)"),
        ("ratings of nothing", "SELECT count(*) FROM ratings r
             WHERE NOT EXISTS (SELECT FROM tracks WHERE id = r.track_id) OR NOT EXISTS (SELECT FROM users WHERE id = r.user_id)"),
        ("playlists of nobody", "SELECT count(*) FROM playlists p
             WHERE user_id IS NOT NULL AND NOT EXISTS (SELECT FROM users WHERE id = p.user_id)"),
        ("tracks by nobody", "SELECT count(*) FROM tracks t
             WHERE artist_id IS NOT NULL AND NOT EXISTS (SELECT FROM artists WHERE id = t.artist_id)"),
    ];
    let mut violations = Vec::new();
    for (name, sql) in checks {
        let count: i64 = sqlx::query(sql).fetch_one(&mut *connection).await.expect("a count").get(0);
        if count > 0 {
            violations.push(format!("{count} {name}"));
        }
    }
    violations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_side_by_side_lose_nothing_whatever_is_killed_and_never_hear_of_each_other() {
    let seconds = std::env::var("SEGUE_WRITERS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4.0_f64);
    let home = Arc::new(Home::new());
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let address = format!("127.0.0.1:{port}");
    let mut server = start(&home, &address);
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client");
    let world = Arc::new(World {
        url: format!("http://{address}"),
        client,
        stop: AtomicBool::new(false),
        disturbances: AtomicU64::new(0),
        complaints: Mutex::default(),
        requests: AtomicU64::new(0),
    });
    let tracks: Vec<String> = (0..TRACKS)
        .map(|n| json!({"id": track(n), "name": format!("Track {n}"), "artist": "Artist 0"}).to_string())
        .collect();
    world.send(Method::POST, "/tracks", "application/x-ndjson", tracks.join("\n")).await.expect("tracks");
    for playlist in
        (0..3).map(|n| format!("own-{n}")).chain((0..SHARED).map(|n| format!("shared-{n}"))).chain(["feed".to_owned()])
    {
        let Outcome::Stored(_) = world.change(Method::PUT, &format!("/playlists/{playlist}"), &json!({})).await else {
            panic!("{playlist} can't be created");
        };
    }

    let alone: Vec<_> = (0..3).map(|number| tokio::spawn(edit_alone(world.clone(), number))).collect();
    let moving: Vec<_> = (0..3).map(|number| tokio::spawn(move_shared(world.clone(), number))).collect();
    let bulk: Vec<_> = (0..2).map(|number| tokio::spawn(send_bulk(world.clone(), number))).collect();
    let appending: Vec<_> = (0..2).map(|number| tokio::spawn(append(world.clone(), number))).collect();
    let rating: Vec<_> = (0..2).map(|number| tokio::spawn(rate(world.clone(), number))).collect();
    let importing = tokio::spawn(import(world.clone(), home.clone()));
    let deleting = tokio::spawn(delete_tracks(world.clone()));
    let leaving = tokio::spawn(delete_users(world.clone()));

    let began = Instant::now();
    let mut logs = String::new();
    for round in 0.. {
        tokio::time::sleep(Duration::from_secs_f64((seconds / 2.0).min(5.0))).await;
        if began.elapsed().as_secs_f64() >= seconds && round >= 2 {
            break;
        }
        world.disturbances.fetch_add(1, Ordering::SeqCst);
        if round % 2 == 0 {
            kill_postgres(home.path());
            tokio::time::sleep(Duration::from_millis(100)).await;
        } else {
            logs += &server.kill().stderr;
            server = start(&home, &address);
        }
        until_ready(&world).await;
        world.disturbances.fetch_add(1, Ordering::SeqCst);
    }
    world.stop.store(true, Ordering::Relaxed);

    let mut versions = importing.await.expect("joined");
    for bulk in bulk {
        versions.extend(bulk.await.expect("joined"));
    }
    let (mut appended, mut ratings) = (BTreeSet::new(), Ratings::new());
    for appending in appending {
        appended.extend(appending.await.expect("joined"));
    }
    for rating in rating {
        ratings.extend(rating.await.expect("joined"));
    }
    let deleted = deleting.await.expect("joined");
    leaving.await.expect("joined");
    for editing in alone.into_iter().chain(moving) {
        editing.await.expect("joined");
    }

    let socket = home.path().join("data/postgres");
    let url = format!("postgres://segue@localhost/segue?host={}", socket.display());
    let mut connection = PgConnection::connect(&url).await.expect("a connection");
    sqlx::query("SET search_path TO segue, public").execute(&mut connection).await.expect("set");
    let mut complaints = world.complaints.lock().expect("no panic").clone();
    complaints.extend(violations(&mut connection).await);
    let playlists = sqlx::query(
        "SELECT p.external_id, p.title, ARRAY(SELECT t.uri FROM playlist_tracks pt JOIN tracks t ON t.id = pt.track_id
                                             WHERE pt.playlist_id = p.id ORDER BY t.uri)
         FROM playlists p",
    );
    let playlists: HashMap<String, (Option<String>, Vec<String>)> = playlists
        .fetch_all(&mut connection)
        .await
        .expect("playlists")
        .into_iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect();
    for (playlist, (known, possible)) in &versions {
        let Some((title, tracks)) = playlists.get(playlist) else {
            if *known > 0 {
                complaints.push(format!("{playlist} is missing"));
            }
            continue;
        };
        let version = title.as_deref().and_then(|title| title.strip_prefix('v')?.parse().ok()).unwrap_or(0);
        let mut expected: Vec<String> = tracks_of_version(version).into_iter().map(track).collect();
        expected.sort();
        if version != *known && !possible.contains(&version) {
            complaints.push(format!("{playlist} is at {version}, acknowledged was {known}, possible {possible:?}"));
        } else if version > 0 && *tracks != expected {
            complaints.push(format!("{playlist} has {tracks:?} at {version}"));
        }
    }
    let feed = &playlists["feed"].1;
    for track in &appended {
        let times = feed.iter().filter(|placed| *placed == track).count();
        if times != 1 {
            complaints.push(format!("{track} is there {times} times"));
        }
    }
    let left: Vec<String> = sqlx::query("SELECT uri FROM tracks WHERE uri LIKE 'd:%'")
        .fetch_all(&mut connection)
        .await
        .expect("tracks")
        .iter()
        .map(|row| row.get(0))
        .collect();
    complaints
        .extend(left.iter().filter(|track| deleted.contains(*track)).map(|track| format!("{track} is still there")));
    let stored: HashMap<(String, String), f64> = sqlx::query(
        "SELECT u.external_id, t.uri, r.rating::float8 FROM ratings r JOIN users u ON u.id = r.user_id JOIN tracks t ON t.id = r.track_id",
    )
    .fetch_all(&mut connection)
    .await
    .expect("ratings")
    .iter()
    .map(|row| ((row.get(0), row.get(1)), row.get(2)))
    .collect();
    for (key, (known, possible)) in &ratings {
        let stored = stored.get(key).copied();
        if stored != *known && !stored.is_some_and(|stored| possible.contains(&stored)) {
            complaints
                .push(format!("the rating {key:?} is {stored:?}, acknowledged was {known:?}, possible {possible:?}"));
        }
    }
    connection.close().await.expect("closed");
    server.terminate();
    logs += &server.finish().stderr;
    eprintln!(
        "{} requests, {} playlists, {} appended, {} deleted, {} ratings in {:.0?}",
        world.requests.load(Ordering::Relaxed),
        versions.len(),
        appended.len(),
        deleted.len(),
        ratings.len(),
        began.elapsed()
    );
    assert!(!logs.contains("deadlock"), "{logs}");
    assert!(
        complaints.is_empty(),
        "{} complaints, the first: {:#?}",
        complaints.len(),
        &complaints[..complaints.len().min(5)]
    );
    assert!(
        !appended.is_empty()
            && !deleted.is_empty()
            && !ratings.is_empty()
            && versions.values().any(|(known, _)| *known > 1)
    );
    home.assert_postgres_has_stopped();
}
