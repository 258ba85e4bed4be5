//! The catalog over HTTP: create, read, search, replace, change, delete, one row at a time.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Answer, Setup, TestApp, encode, ids};
use crate::support::wait_until;

async fn send(app: &TestApp, method: Method, path: &str, body: Option<&Value>, header: Option<(&str, &str)>) -> Answer {
    let mut request = app.request(method, path);
    if let Some(body) = body {
        request = request.json(body);
    }
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    Answer::to(request).await
}

async fn put(app: &TestApp, path: &str, body: &Value) -> Answer {
    send(app, Method::PUT, path, Some(body), None).await
}

async fn patch(app: &TestApp, path: &str, body: &Value) -> Answer {
    send(app, Method::PATCH, path, Some(body), None).await
}

async fn delete(app: &TestApp, path: &str) -> Answer {
    send(app, Method::DELETE, path, None, None).await
}

#[track_caller]
fn field(problem: &Value) -> &str {
    problem["errors"][0]["field"].as_str().expect("a field")
}

#[tokio::test]
async fn a_track_is_created_read_changed_replaced_and_deleted() {
    let app = TestApp::spawn().await;
    let id = "new/track: é?";
    let path = format!("/tracks/{}", encode(id));
    let row = json!({"id": id, "name": "Naima", "artist": "John Coltrane", "artist_id": "artist:coltrane",
                     "album": "Giant Steps", "duration_ms": 261_000, "genres": ["jazz"]});
    let created = app.post("/tracks", &row).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(app.get(created.header("location")).await.ok(), created.json());
    assert_eq!(
        created.json(),
        json!({"id": id, "name": "Naima", "artist": "John Coltrane",
        "artist_id": "artist:coltrane", "album": "Giant Steps", "album_id": null, "duration_ms": 261_000,
        "genres": ["jazz"], "hidden": false})
    );
    let again = app.post("/tracks", &row).await.problem(409);
    assert_eq!(again["type"], "urn:segue:problem:already-exists");

    let changed = patch(&app, &path, &json!({"name": "Naima (live)", "album": null})).await.ok();
    assert_eq!(
        (&changed["name"], &changed["album"], &changed["duration_ms"]),
        (&json!("Naima (live)"), &Value::Null, &json!(261_000))
    );
    let replaced = put(&app, &path, &json!({"name": "N.", "artist": "John Coltrane"})).await.ok();
    assert_eq!((&replaced["duration_ms"], &replaced["genres"]), (&Value::Null, &json!([])));
    assert_eq!(app.get(&path).await.ok(), replaced);
    assert_eq!(delete(&app, &path).await.status, 204);
    app.get(&path).await.problem(404);
    delete(&app, &path).await.problem(404);
    patch(&app, &path, &json!({"name": "x"})).await.problem(404);
    assert_eq!(put(&app, &path, &json!({"name": "N.", "artist": "A"})).await.status, 201);
    let named = put(&app, &path, &json!({"name": "N.", "artist": "A", "album": "B", "album_id": "b"})).await.ok();
    let unnamed = put(&app, &path, &json!({"name": "N.", "artist": "A", "album_id": "b"})).await.ok();
    assert_eq!(unnamed, named, "an album known by its id keeps its name");
}

#[tokio::test]
async fn what_is_wrong_with_a_track_is_named() {
    let app = TestApp::spawn().await;
    let cases = [
        (json!({"id": "", "name": "N", "artist": "A"}), "id"),
        (json!({"id": "a\u{7}", "name": "N", "artist": "A"}), "id"),
        (json!({"id": "a", "name": "N", "artist": 5}), "artist"),
        (json!({"id": "a", "name": "N\u{0}", "artist": "A"}), "name"),
        (json!({"id": "a", "name": "N", "artist": "A", "duration_ms": -1}), "duration_ms"),
        (json!({"id": "a", "name": "N", "artist": "A", "genres": ["a", ""]}), "genres[1]"),
        (json!({"id": "a", "name": "N", "artist": "A", "colour": "blue"}), "colour"),
        (json!({"id": "a", "name": "N".repeat(1_001), "artist": "A"}), "name"),
    ];
    for (body, expected) in cases {
        let problem = app.post("/tracks", &body).await.problem(422);
        assert_eq!(field(&problem), expected, "{problem}");
    }
}

#[tokio::test]
async fn a_track_may_have_no_artist_and_its_id_for_a_name() {
    let app = TestApp::spawn().await;
    for artist in [json!(null), json!(""), json!("Unknown artist"), json!("[unknown]")] {
        let track = app.post("/tracks", &json!({"id": format!("bare {artist}"), "name": " ", "artist": artist})).await;
        let (id, track) = (format!("bare {artist}"), track.json());
        assert_eq!((&track["name"], &track["artist"], &track["artist_id"]), (&json!(id), &Value::Null, &Value::Null));
    }
    let path = "/tracks/synthetic:track:1";
    let before = app.get(path).await.ok();
    let unnamed = patch(&app, path, &json!({"name": null, "artist": null, "artist_id": null})).await.ok();
    assert_eq!((&unnamed["name"], &unnamed["artist"]), (&json!("synthetic:track:1"), &Value::Null), "{unnamed}");
    assert_eq!(unnamed["album_id"], before["album_id"]);
    app.post("/playlists", &json!({"id": "bare", "tracks": ["synthetic:track:1"]})).await;
    let placed = app.get("/playlists/bare").await.ok();
    assert_eq!(placed["tracks"][0]["artist"], Value::Null, "{placed}");
    let found = app.get("/tracks?q=synthetic:track:1").await.ok();
    assert_eq!(found["items"][0]["artist"], Value::Null, "{found}");
    let body = ["name", "artist", "artist_id"].map(|field| (field.to_owned(), before[field].clone()));
    let named = patch(&app, path, &Value::Object(body.into_iter().collect())).await.ok();
    assert_eq!(named, before);
}

#[tokio::test]
async fn a_change_of_what_someone_else_changed_is_rejected() {
    let app = TestApp::spawn().await;
    for (path, first, second) in [
        ("/tracks/synthetic:track:1", json!({"name": "a", "artist": "A"}), json!({"name": "b", "artist": "A"})),
        ("/playlists/0", json!({"title": "a"}), json!({"title": "b"})),
    ] {
        let read = app.get(path).await;
        let tag = read.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{read:?}");
        let stale = Some(("if-match", tag.as_str()));
        let written = send(&app, Method::PUT, path, Some(&first), stale).await;
        written.ok();
        assert_ne!(written.header("etag"), tag);
        assert_eq!(app.get(path).await.header("etag"), written.header("etag"));
        for (method, body) in [(Method::PUT, Some(&second)), (Method::PATCH, Some(&second)), (Method::DELETE, None)] {
            let problem = send(&app, method, path, body, stale).await.problem(412);
            assert_eq!(problem["type"], "urn:segue:problem:precondition-failed");
        }
        send(&app, Method::PUT, path, Some(&second), Some(("if-none-match", "*"))).await.problem(412);
        let either = format!("{tag}, {}", written.header("etag"));
        send(&app, Method::PUT, path, Some(&second), Some(("if-match", &either))).await.ok();
        send(&app, Method::PUT, path, Some(&first), Some(("if-match", "*"))).await.ok();
    }
    send(&app, Method::PUT, "/tracks/nowhere", Some(&json!({"name": "a", "artist": "A"})), Some(("if-match", "*")))
        .await
        .problem(412);
}

#[tokio::test]
async fn tracks_and_playlists_are_found_by_misspelt_names() {
    let app = TestApp::spawn().await;
    for (id, name, artist) in [
        ("q:1", "Bohemian Rhapsody", "Queen"),
        ("q:2", "Crazy in Love", "Beyoncé"),
        ("q:3", "Группа крови", "Кино"),
        ("q:4", "100% \\ _ '", "Odd"),
    ] {
        assert_eq!(app.post("/tracks", &json!({"id": id, "name": name, "artist": artist})).await.status, 201);
    }
    let first = async |q: &str| {
        let list = app.get(&format!("/tracks?q={}", encode(q))).await.ok();
        list["items"][0]["id"].as_str().unwrap_or_default().to_owned()
    };
    for (q, id) in [
        ("bohemian rhapsody", "q:1"),
        ("bohemien rapsody", "q:1"),
        ("queen bohemian", "q:1"),
        ("beyonce crazy", "q:2"),
        ("BEYONCÉ", "q:2"),
        ("группа крови", "q:3"),
        ("група крови", "q:3"),
    ] {
        assert_eq!(first(q).await, id, "{q}");
    }
    assert_eq!(app.get("/tracks?q=xyzzyqwv").await.ok(), json!({"items": [], "next": null}));
    app.get("/tracks?q=%25%5C_%27").await.ok();

    put(&app, "/playlists/night", &json!({"title": "Late Night Jazz"})).await;
    let found = app.get("/playlists?q=late%20nigth%20jaz").await.ok();
    assert_eq!(found["items"][0]["id"], "night");
    // A track is found by its artist's new name.
    patch(&app, "/tracks/q:1", &json!({"artist_id": "queen"})).await.ok();
    patch(&app, "/tracks/q:1", &json!({"artist": "The Quarrymen"})).await.ok();
    assert_eq!(first("quarrymen").await, "q:1");
    let all = app.get("/tracks").await.ok();
    for blank in ["", "%20", "%00"] {
        assert_eq!(app.get(&format!("/tracks?q={blank}")).await.ok(), all, "an empty search box");
    }
    assert_eq!(field(&app.get(&format!("/tracks?q={}", "x".repeat(201))).await.problem(422)), "q");
    put(&app, "/playlists/of-user", &json!({"title": "Late Night Jazz", "user_id": "user-17"})).await;
    let found = app.get("/playlists?q=late%20nigth%20jaz&user_id=user-17").await.ok();
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["items"][0]["id"], "of-user");
    assert_eq!(app.get("/playlists?q=jazz&user_id=%00").await.ok()["items"], json!([]));
}

#[tokio::test]
async fn tracks_and_playlists_are_found_without_accents_punctuation_and_symbols() {
    let app = TestApp::spawn().await;
    let artists = ["Björk", "Łąki Łan", "Tarkan Şımarık", "AC/DC", "P!nk", "Ke$ha", "!!!", "😀", "N.W.A", "Zoe\u{308}"];
    for (number, artist) in artists.into_iter().enumerate() {
        let track = json!({"id": format!("f:{number}"), "name": format!("Number {number}"), "artist": artist});
        assert_eq!(app.post("/tracks", &track).await.status, 201);
    }
    put(&app, "/playlists/tree", &json!({"title": "Xmas 🎄"})).await;
    put(&app, "/playlists/rock", &json!({"title": "Rock en Espan\u{303}ol"})).await;
    let first = async |list: &str, q: &str| {
        let list = app.get(&format!("/{list}?q={}", encode(q))).await.ok();
        list["items"][0]["id"].as_str().unwrap_or_default().to_owned()
    };
    let tracks = [
        ("bjork", 0),
        ("BJO\u{308}RK", 0),
        ("laki", 1),
        ("simarik", 2),
        ("acdc", 3),
        ("ac dc", 3),
        ("ac/dc", 3),
        ("pink", 4),
        ("p!nk", 4),
        ("kesha", 5),
        ("!!!", 6),
        ("😀", 7),
        ("nwa", 8),
        ("zoë", 9),
    ];
    for (q, number) in tracks {
        assert_eq!(first("tracks", q).await, format!("f:{number}"), "{q}");
    }
    for (q, id) in [("🎄", "tree"), ("xmas", "tree"), ("rock en español", "rock"), ("espanol", "rock")] {
        assert_eq!(first("playlists", q).await, id, "{q}");
    }
}

#[tokio::test]
async fn of_equal_names_the_one_in_more_playlists_comes_first() {
    let app = TestApp::spawn().await;
    for (id, artist) in [("c:1", "A Cover Band"), ("c:2", "Queen"), ("c:3", "Bohemian Cover")] {
        let track = json!({"id": id, "name": "Bohemian Rhapsody", "artist": artist});
        assert_eq!(app.post("/tracks", &track).await.status, 201);
    }
    for (playlist, tracks) in [("a", json!(["c:2", "c:1"])), ("b", json!(["c:2"])), ("c", json!(["c:2"]))] {
        put(&app, &format!("/playlists/{playlist}"), &json!({"title": playlist, "tracks": tracks})).await;
    }
    app.database().catalog().await.refresh_popular_tracks().await.expect("estimated");
    let found = app.get("/tracks?q=bohemian%20rhapsody").await.ok();
    let found: Vec<&Value> = found["items"].as_array().expect("items").iter().map(|item| &item["id"]).collect();
    assert_eq!(found[..3], ["c:2", "c:1", "c:3"]);
}

#[tokio::test]
async fn a_search_of_a_large_catalog_lists_popular_tracks_first_and_finds_all() {
    let app = TestApp::spawn().await;
    let names = [
        ("s:1", "Common Ground", "Rare Band"),
        ("s:2", "Common People", "Pulp"),
        ("s:3", "Commonplace", "Pulp"),
        ("s:4", "Uncommon Grounds", "Rare Band"),
    ];
    for (id, name, artist) in names {
        assert_eq!(app.post("/tracks", &json!({"id": id, "name": name, "artist": artist})).await.status, 201);
    }
    put(&app, "/playlists/s", &json!({"title": "s", "tracks": ["s:2"]})).await;
    app.database().catalog().await.refresh_popular_tracks().await.expect("estimated");
    // As in a catalog with more tracks than count as popular.
    for sql in [
        "DELETE FROM popular_tracks WHERE search_text !~ 'common people' RETURNING search_text",
        "UPDATE popular_tracks_estimate SET is_all = false RETURNING ''",
    ] {
        app.database().texts(sql).await;
    }
    let text = |id: &Value| id.as_str().expect("an id").to_owned();
    let search = async |q: &str, limit: usize| -> Vec<String> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = app.get(&format!("/tracks?q={}&limit={limit}{cursor}", encode(q))).await.ok();
            all.extend(page["items"].as_array().expect("items").iter().map(|item| text(&item["id"])));
            let Some(next) = page["next"].as_str() else { return all };
            cursor = format!("&cursor={next}");
        }
    };
    for limit in [1, 2, 50] {
        // Whole words, popular first; then beginnings.
        assert_eq!(search("common", limit).await, ["s:2", "s:1", "s:3"], "{limit}");
        assert_eq!(search("rare band ground", limit).await[..2], ["s:1", "s:4"], "{limit}");
    }
    assert_eq!(search("comon peeple", 1).await[0], "s:2", "similar and popular");
    let similar = search("rare baand", 50).await;
    assert!(similar.contains(&"s:4".to_owned()), "similar to none that is popular: {similar:?}");
    // What is popular has a new name, or is gone.
    patch(&app, "/tracks/s:2", &json!({"name": "Disco 2000"})).await.ok();
    assert_eq!(search("disco", 1).await, ["s:2"]);
    assert_eq!(search("common", 50).await, ["s:1", "s:3"]);
    delete(&app, "/tracks/s:3").await;
    assert!(!search("commonplace", 50).await.contains(&"s:3".to_owned()));
}

#[tokio::test]
async fn the_pages_of_a_list_add_up_to_all_of_it() {
    let app = TestApp::spawn().await;
    for (path, count) in
        [("/tracks?", "SELECT count(*)::text FROM tracks"), ("/playlists?", "SELECT count(*)::text FROM playlists")]
    {
        let expected: usize = app.database().texts(count).await[0].parse().expect("a number");
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = app.get(&format!("{path}limit=50{cursor}")).await.ok();
            seen.extend(page["items"].as_array().expect("items").iter().map(|item| item["id"].to_string()));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen.len(), expected);
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), expected);
    }
    let first = app.get("/tracks?q=track&limit=2").await.ok();
    let next = first["next"].as_str().expect("more");
    let second = app.get(&format!("/tracks?q=track&limit=2&cursor={next}")).await.ok();
    assert_ne!(first["items"], second["items"]);
    for path in [&format!("/tracks?cursor={next}"), "/tracks?cursor=nonsense", "/users?cursor="] {
        assert_eq!(app.get(path).await.problem(404)["type"], "urn:segue:problem:unknown-cursor", "{path}");
    }
}

#[tokio::test]
async fn a_playlist_is_created_completed_at_once_changed_and_deleted() {
    let app = TestApp::spawn_with_completion_model().await;
    let tracks: Vec<String> = (1..=4).map(|track| format!("synthetic:track:{track}")).collect();
    let body = json!({"id": "mine", "title": "Mine", "user_id": "user-17", "num_followers": 3, "tracks": tracks});
    let created = app.post("/playlists", &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!((created.header("location"), &created.json()["num_tracks"]), ("/playlists/mine", &json!(4)));
    let completed = app.post_nothing("/playlists/mine/complete").await.ok();
    assert_eq!(completed["source"], "ranking");
    let items: HashSet<String> = ids(&completed["items"]).into_iter().collect();
    assert!(items.len() > 10 && tracks.iter().all(|track| !items.contains(track)), "{completed}");
    app.post("/playlists", &body).await.problem(409);
    let nameless = app.post("/playlists", &json!({"tracks": ["synthetic:track:1"]})).await;
    assert_eq!(nameless.status, 201, "{nameless:?}");
    assert_eq!(app.get(nameless.header("location")).await.ok()["id"], nameless.json()["id"]);
    let other = app.post("/playlists", &json!({})).await.json();
    assert_ne!(other["id"], nameless.json()["id"], "made up ids are distinct");
    assert_eq!(app.get("/users/user-17").await.ok()["num_playlists"], 1);
    let of_user = app.get("/playlists?user_id=user-17").await.ok();
    assert_eq!((&of_user["items"][0]["id"], of_user["items"].as_array().map(Vec::len)), (&json!("mine"), Some(1)));

    let changed = patch(&app, "/playlists/mine", &json!({"title": null, "collaborative": true})).await.ok();
    assert_eq!(
        (&changed["title"], &changed["collaborative"], &changed["num_tracks"]),
        (&Value::Null, &json!(true), &json!(4))
    );
    let problem =
        put(&app, "/playlists/mine", &json!({"tracks": ["synthetic:track:1", "nowhere", "x"]})).await.problem(409);
    let fields: Vec<&Value> =
        problem["errors"].as_array().expect("errors").iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["tracks[1]", "tracks[2]"]);
    assert_eq!(app.tracks_of("mine").await, tracks, "it is as it was");
    let replaced = put(&app, "/playlists/mine", &json!({"title": "T", "tracks": ["synthetic:track:9"]})).await.ok();
    assert_eq!((&replaced["num_tracks"], &replaced["user_id"]), (&json!(1), &Value::Null));
    assert_eq!(delete(&app, "/playlists/mine").await.status, 204);
    app.post_nothing("/playlists/mine/complete").await.problem(404);
    delete(&app, "/playlists/mine").await.problem(404);
}

#[tokio::test]
async fn the_tracks_of_a_playlist_are_appended_inserted_moved_and_removed() {
    let app = TestApp::spawn().await;
    let track = |number: usize| format!("synthetic:track:{number}");
    let tracks = |numbers: &[usize]| json!(numbers.iter().map(|&number| track(number)).collect::<Vec<_>>());
    put(&app, "/playlists/p", &json!({"tracks": tracks(&[1, 2, 3])})).await;
    let is = async |expected: &[usize]| {
        let page = app.get("/playlists/p?limit=500").await.ok();
        assert_eq!(json!(ids(&page["tracks"])), tracks(expected));
        assert_eq!(page["num_tracks"], json!(expected.len()));
        let positions: Vec<u64> =
            page["tracks"].as_array().expect("tracks").iter().filter_map(|track| track["position"].as_u64()).collect();
        assert_eq!(positions, (0..expected.len() as u64).collect::<Vec<_>>());
    };
    let appended = app.post("/playlists/p/tracks", &json!({"tracks": tracks(&[4, 1])})).await;
    assert_eq!(appended.ok(), json!({"id": "p", "num_tracks": 5}));
    assert_eq!(appended.header("etag"), app.get("/playlists/p").await.header("etag"));
    is(&[1, 2, 3, 4, 1]).await;
    app.post("/playlists/p/tracks", &json!({"tracks": tracks(&[8, 9]), "position": 1})).await.ok();
    is(&[1, 8, 9, 2, 3, 4, 1]).await;
    app.post("/playlists/p/tracks/move", &json!({"from": 1, "count": 2, "to": 5})).await.ok();
    is(&[1, 2, 3, 4, 1, 8, 9]).await;
    app.post("/playlists/p/tracks/move", &json!({"from": 6, "to": 0})).await.ok();
    is(&[9, 1, 2, 3, 4, 1, 8]).await;
    delete(&app, "/playlists/p/tracks?position=1&count=3").await.ok();
    is(&[9, 4, 1, 8]).await;
    delete(&app, "/playlists/p/tracks?position=3").await.ok();
    put(&app, "/playlists/p/tracks", &json!({"tracks": tracks(&[5, 5])})).await.ok();
    is(&[5, 5]).await;

    for (path, body, status, name) in [
        ("/playlists/p/tracks", json!({"tracks": [track(1), "nowhere"]}), 409, "tracks[1]"),
        ("/playlists/p/tracks", json!({"tracks": [track(1)], "position": 3}), 409, "position"),
        ("/playlists/p/tracks", json!({"tracks": []}), 422, "tracks"),
        ("/playlists/p/tracks", json!({"tracks": [track(1), ""]}), 422, "tracks[1]"),
        ("/playlists/p/tracks/move", json!({"from": 1, "count": 2, "to": 0}), 409, "position"),
        ("/playlists/p/tracks/move", json!({"from": 0, "count": 1, "to": 2}), 409, "position"),
        ("/playlists/p/tracks/move", json!({"from": -1, "to": 2}), 422, "from"),
    ] {
        assert_eq!(field(&app.post(path, &body).await.problem(status)), name, "{path} {body}");
    }
    delete(&app, "/playlists/p/tracks?position=1&count=2").await.problem(409);
    let other = put(&app, "/playlists/p", &json!({"id": "q", "tracks": []})).await.problem(409);
    assert_eq!(field(&other), "id");
    app.post("/playlists/nowhere/tracks", &json!({"tracks": [track(1)]})).await.problem(404);
    let stale = Some(("if-match", appended.header("etag")));
    send(&app, Method::POST, "/playlists/p/tracks", Some(&json!({"tracks": [track(1)]})), stale).await.problem(412);
    is(&[5, 5]).await;
    let fresh = app.get("/playlists/p").await.header("etag").to_owned();
    let fresh = Some(("if-match", fresh.as_str()));
    send(&app, Method::POST, "/playlists/p/tracks", Some(&json!({"tracks": [track(1)]})), fresh).await.ok();
    is(&[5, 5, 1]).await;
}

#[tokio::test]
async fn appends_side_by_side_lose_nothing() {
    let app = TestApp::spawn().await;
    put(&app, "/playlists/p", &json!({})).await;
    let append = async |number: usize| {
        let track = format!("synthetic:track:{number}");
        // So many on one playlist may be asked to come back.
        wait_until("an append", async || {
            let answer = app.post("/playlists/p/tracks", &json!({"tracks": [track]})).await;
            (answer.status != 503).then(|| answer.ok())
        })
        .await;
    };
    futures_util::future::join_all((1..=40).map(append)).await;
    let mut tracks = app.tracks_of("p").await;
    assert_eq!(app.get("/playlists/p").await.ok()["num_tracks"], 40);
    tracks.sort_unstable();
    tracks.dedup();
    assert_eq!(tracks.len(), 40);
}

/// Asks for recommendations in every way there is; the ids of all tracks recommended.
async fn recommended(app: &TestApp) -> HashSet<String> {
    let inline = json!({"limit": 500, "playlists": [{"tracks": ["synthetic:track:1"]}, {"title": "a"}, {}]});
    let mut found = HashSet::new();
    for model in ["ranking", "track2vec", "popularity"] {
        let mut body = inline.clone();
        body["model"] = json!(model);
        for completion in app.post("/playlists/complete", &body).await.ok()["completions"].as_array().expect("a list") {
            found.extend(ids(&completion["items"]));
        }
    }
    let stored = app.post("/playlists/0/complete", &json!({"limit": 500})).await.ok();
    found.extend(ids(&stored["items"]));
    found.extend(ids(&app.get("/tracks/synthetic:track:1/similar?limit=500").await.ok()["items"]));
    found
}

#[tokio::test]
async fn a_hidden_or_deleted_track_is_not_recommended_from_the_next_request_on() {
    let app = TestApp::spawn_with_completion_model().await;
    let before = recommended(&app).await;
    let mut victims = before.iter().filter(|id| *id != "synthetic:track:1").cloned().collect::<Vec<_>>();
    victims.sort_unstable();
    let (hidden, deleted) = (victims[0].as_str(), victims[1].as_str());
    patch(&app, &format!("/tracks/{}", encode(hidden)), &json!({"hidden": true})).await.ok();
    assert_eq!(delete(&app, &format!("/tracks/{}", encode(deleted))).await.status, 204);
    let after = recommended(&app).await;
    assert!(!after.contains(hidden) && !after.contains(deleted));
    assert!(after.len() + 2 >= before.len(), "the others still are: {} of {}", after.len(), before.len());
    // A deleted track is out of the playlists too, and what they say of their length is right.
    let counts = app
        .database()
        .texts(
            "SELECT external_id FROM playlists p WHERE num_tracks <>
        (SELECT count(*) FROM playlist_tracks WHERE playlist_id = p.id) OR num_tracks <>
        (SELECT COALESCE(max(position) + 1, 0) FROM playlist_tracks WHERE playlist_id = p.id)",
        )
        .await;
    assert_eq!(counts, Vec::<String>::new());
    app.get(&format!("/tracks/{}/similar", encode(deleted))).await.problem(404);
    app.get(&format!("/tracks/{}/similar", encode(hidden))).await.ok();

    patch(&app, &format!("/tracks/{}", encode(hidden)), &json!({"hidden": false})).await.ok();
    put(&app, &format!("/tracks/{}", encode(deleted)), &json!({"name": "back", "artist": "again"})).await;
    let again = recommended(&app).await;
    assert!(again.contains(hidden) && again.contains(deleted));
}

#[tokio::test]
async fn what_one_server_hides_another_one_does_not_recommend_either() {
    let app = TestApp::spawn_with_completion_model().await;
    let setup =
        Setup { catalog: Some(app.database().url().to_owned()), with_completion_model: true, ..Setup::default() };
    let other = TestApp::start(setup).await;
    let victim = recommended(&other).await.into_iter().find(|id| id != "synthetic:track:1").expect("a track");
    patch(&app, &format!("/tracks/{}", encode(&victim)), &json!({"hidden": true})).await.ok();
    let gone = async || (!recommended(&other).await.contains(&victim)).then_some(());
    wait_until("the other server", gone).await;
    // A server that starts afterwards knows from the first request on.
    let setup =
        Setup { catalog: Some(app.database().url().to_owned()), with_completion_model: true, ..Setup::default() };
    assert!(!recommended(&TestApp::start(setup).await).await.contains(&victim));
}

#[tokio::test]
async fn users_are_created_listed_and_deleted_with_what_they_rated() {
    let app = TestApp::spawn().await;
    assert_eq!(app.post("/users", &json!({"id": "u/1"})).await.status, 201);
    app.post("/users", &json!({"id": "u/1"})).await.problem(409);
    assert_eq!(put(&app, "/users/u2", &json!({})).await.status, 201);
    assert_eq!(put(&app, "/users/u2", &json!({})).await.status, 200);
    send(&app, Method::PUT, "/users/u2", None, Some(("if-none-match", "*"))).await.problem(412);
    let rating = json!({"ratings": [{"user_id": "u2", "track_id": "synthetic:track:1", "rating": 4}]});
    app.post("/ratings", &rating).await.ok();
    let expected = json!({"id": "u2", "num_playlists": 0, "num_ratings": 1, "num_listens": 0});
    assert_eq!(app.get("/users/u2").await.ok(), expected);
    let listed = app.get("/users?limit=1").await.ok();
    assert_eq!(listed["items"][0]["id"], "u/1");
    let next = listed["next"].as_str().expect("more");
    assert_eq!(app.get(&format!("/users?limit=1&cursor={next}")).await.ok()["items"][0], expected);
    assert_eq!(delete(&app, "/users/u2").await.status, 204);
    app.get("/users/u2").await.problem(404);
    delete(&app, "/users/u2").await.problem(404);
    assert_eq!(app.database().texts("SELECT count(*)::text FROM ratings").await, ["0"]);
}
