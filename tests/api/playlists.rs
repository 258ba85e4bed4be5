//! `GET /playlists/{id}`.

use serde_json::{Value, json};

use crate::support::app::{EMPTY, HANDMADE, LATE, ODD_TRACK, SPOTIFY_TRACK, TestApp, encode, ids};

#[tokio::test]
async fn a_playlist_is_shown_with_all_that_is_known_of_it() {
    let app = TestApp::spawn().await;
    let mut playlist = app.get(&format!("/playlists/{}?limit=3", encode(HANDMADE))).await.ok();
    let tracks = playlist["tracks"].take();
    assert_eq!(
        playlist,
        json!({
            "id": HANDMADE, "title": "Made by hand", "description": "of odd ids", "collaborative": true, "user_id": null,
            "num_followers": 3, "num_edits": 4, "num_tracks": 15, "num_albums": 5, "num_artists": 6,
            "duration_ms": 7_000_000_000_u64, "modified_at": "2017-07-14T02:40:00Z", "tracks": null, "next": 3
        })
    );
    let placed = |position: i32, id: &str, name: &str| json!({"position": position, "track_id": id, "name": name, "artist": "Handmade"});
    let expected = [placed(0, ODD_TRACK, "Odd"), placed(1, SPOTIFY_TRACK, "Even"), placed(2, ODD_TRACK, "Odd")];
    assert_eq!(tracks, json!(expected));
}

#[tokio::test]
async fn what_a_source_did_not_say_of_a_playlist_is_null() {
    let app = TestApp::spawn().await;
    let playlist = app.get(&format!("/playlists/{LATE}")).await.ok();
    for field in ["title", "description", "num_followers", "num_edits", "num_albums", "num_artists", "duration_ms"] {
        assert_eq!(playlist.get(field), Some(&Value::Null), "{field}");
    }
    assert_eq!(playlist["modified_at"], Value::Null);
    assert_eq!((&playlist["collaborative"], &playlist["num_tracks"]), (&json!(false), &json!(3)));
}

#[tokio::test]
async fn the_pages_of_a_playlist_add_up_to_all_of_it() {
    let app = TestApp::spawn().await;
    let whole = app.get("/playlists/0?limit=500").await.ok();
    let all = ids(&whole["tracks"]);
    assert_eq!(json!(all.len()), whole["num_tracks"]);
    assert_eq!(whole["next"], Value::Null);
    assert!(all.len() > 7, "more than a page");

    let (mut paged, mut from) = (Vec::new(), Some(0));
    while let Some(position) = from {
        let page = app.get(&format!("/playlists/0?from={position}&limit=7")).await.ok();
        assert_eq!(page["tracks"][0]["position"], json!(position));
        assert!(ids(&page["tracks"]).len() <= 7);
        paged.extend(ids(&page["tracks"]));
        from = page["next"].as_i64();
    }
    assert_eq!(paged, all);
}

#[tokio::test]
async fn the_last_page_has_no_next_even_when_it_is_full() {
    let app = TestApp::spawn().await;
    let page = app.get(&format!("/playlists/{}?from=12&limit=3", encode(HANDMADE))).await.ok();
    assert_eq!((ids(&page["tracks"]).len(), &page["next"]), (3, &Value::Null));
    let before = app.get(&format!("/playlists/{}?from=11&limit=3", encode(HANDMADE))).await.ok();
    assert_eq!(before["next"], 14);
}

#[tokio::test]
async fn a_page_past_the_end_and_an_empty_playlist_have_no_tracks() {
    let app = TestApp::spawn().await;
    for path in [format!("/playlists/{}?from=15", encode(HANDMADE)), format!("/playlists/{EMPTY}")] {
        let page = app.get(&path).await.ok();
        assert_eq!((&page["tracks"], &page["next"]), (&json!([]), &Value::Null), "{path}");
    }
}

#[tokio::test]
async fn fifty_tracks_come_when_no_number_is_given() {
    let app = TestApp::spawn().await;
    let long = "SELECT external_id FROM playlists WHERE num_tracks > 60 ORDER BY external_id LIMIT 1";
    let id = app.database().texts(long).await.pop().expect("a long playlist");
    let page = app.get(&format!("/playlists/{id}")).await.ok();
    assert_eq!((ids(&page["tracks"]).len(), &page["next"]), (50, &json!(50)));
}
