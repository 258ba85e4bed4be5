//! Sources that describe the same tracks one after another: what one of them leaves out, or leaves empty, stays.

use std::path::{Path, PathBuf};

use segue::catalog::{Catalog, RatingScale};
use segue::import::deezer::DeezerOptions;
use segue::import::ndjson::NdjsonFiles;
use segue::import::{
    ImportReport, RatingsFile, find_movielens, import_deezer, import_kkbox, import_mpd, import_ndjson, import_ratings,
    import_yes_radio,
};
use segue::progress::Interrupt;
use serde::Serialize;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::slices::{bare_playlist, slice, write};

const SCALE: RatingScale = RatingScale { lowest: 0.5, highest: 5.0 };

/// A catalog, and a folder for the files that are imported into it.
pub struct Sources {
    database: Database,
    catalog: Catalog,
    folder: tempfile::TempDir,
}

impl Sources {
    pub async fn over(database: Database) -> Self {
        let catalog = database.catalog().await;
        Self { database, catalog, folder: tempfile::tempdir().expect("a folder") }
    }

    async fn new() -> Self {
        Self::over(Database::with_tables().await).await
    }

    /// Its database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn rejects(&self) -> PathBuf {
        self.path().join("rejects.ndjson")
    }

    /// A slice of the Million Playlist Dataset.
    pub async fn mpd(&self, playlists: &[Value]) -> Value {
        let file = write(self.path(), "slice.json", slice(playlists));
        sound(import_mpd(&self.catalog, &[file], &self.rejects(), &Interrupt::default()).await.expect("an import"))
    }

    /// A table of ratings.
    pub async fn ratings(&self, table: &str) -> Value {
        let file = RatingsFile::Table(write(self.path(), "ratings.csv", table));
        let report = import_ratings(&self.catalog, vec![file], SCALE, &self.rejects(), &Interrupt::default()).await;
        sound(report.expect("an import"))
    }

    /// Films of MovieLens and a rating of each.
    pub async fn movielens(&self, films: &str, ratings: &str) -> Value {
        let folder = self.path().join("movielens");
        write(&folder, "movies.csv", films);
        write(&folder, "ratings.csv", ratings);
        let files = find_movielens(&folder).expect("files");
        let report = import_ratings(&self.catalog, files, SCALE, &self.rejects(), &Interrupt::default()).await;
        sound(report.expect("an import"))
    }

    /// Lines of tracks and of playlists.
    pub async fn ndjson(&self, tracks: &[Value], playlists: &[Value]) -> Value {
        let mut files = NdjsonFiles::default();
        for (name, rows, files) in
            [("tracks.ndjson", tracks, &mut files.tracks), ("playlists.ndjson", playlists, &mut files.playlists)]
        {
            if !rows.is_empty() {
                files.push(write(self.path(), name, lines(rows)));
            }
        }
        sound(import_ndjson(&self.catalog, &files, &self.rejects(), &Interrupt::default()).await.expect("an import"))
    }

    /// Files of KKBox, by name.
    pub async fn kkbox(&self, files: &[(&str, String)]) -> Value {
        let folder = self.path().join("kkbox");
        for name in ["members.csv", "songs.csv", "song_extra_info.csv"] {
            std::fs::remove_file(folder.join(name)).ok();
        }
        write(&folder, "train.csv", "msno,song_id,source_system_tab,source_screen_name,source_type,target\n");
        files.iter().for_each(|(name, text)| drop(write(&folder, name, text)));
        let report = import_kkbox(&self.catalog, &folder, &self.rejects(), &Interrupt::default()).await;
        sound(report.expect("an import"))
    }

    /// Playlists of a radio station: songs as (id, title, artist), and playlists of their numbers.
    pub async fn radio(&self, songs: &[(&str, &str, &str)], playlists: &str) -> Value {
        let folder = self.path().join("radio");
        let ids: Vec<&str> = songs.iter().map(|song| song.0).collect();
        let counts = "1 ".repeat(songs.len());
        write(&folder, "train.txt", format!("{}\n{counts}\n{playlists}\n", ids.join(" ")));
        let song =
            |(number, (_, title, artist)): (usize, &(&str, &str, &str))| format!("{number}\t{title}\t{artist}\n");
        write(&folder, "song_hash.txt", songs.iter().enumerate().map(song).collect::<String>());
        let report = import_yes_radio(&self.catalog, &[folder], &self.rejects(), &Interrupt::default()).await;
        sound(report.expect("an import"))
    }

    /// Playlists in Deezer's format.
    pub async fn deezer(&self, playlists: &str) -> Value {
        let file = write(self.path(), "music.txt", playlists);
        let options = DeezerOptions::default();
        let report = import_deezer(&self.catalog, &[file], options, &self.rejects(), &Interrupt::default()).await;
        sound(report.expect("an import"))
    }

    /// Each track as `id: title, artist (its id), album (its id)`; what it has not is `-`.
    pub async fn tracks(&self) -> Vec<String> {
        let tracks = self.database.texts(
            "SELECT concat(t.uri, ': ', t.name, ', ', COALESCE(a.name, '-'), ' (', COALESCE(a.uri, '-'), '), ',
                           COALESCE(b.name, '-'), ' (', COALESCE(b.uri, '-'), ')')
             FROM tracks t LEFT JOIN artists a ON a.id = t.artist_id LEFT JOIN albums b ON b.id = t.album_id
             ORDER BY t.uri",
        );
        tracks.await
    }
}

/// Rows as lines.
pub fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// The report of an import that rejected nothing, as JSON.
fn sound<O: Serialize>(report: ImportReport<O>) -> Value {
    assert_eq!((report.failed_files.len(), report.rejected), (0, 0));
    serde_json::to_value(report).expect("JSON")
}

fn track(uri: &str, name: &str, artist: &str) -> Value {
    json!({"track_uri": uri, "track_name": name, "artist_name": artist})
}

#[tokio::test]
async fn tracks_without_an_artist_do_not_get_the_id_of_somebody() {
    let sources = Sources::new().await;
    let local =
        [track("local:1", "One", ""), track("local:2", "Two", " "), track("local:3", "Three", "Unknown Artist")];
    sources.mpd(&[bare_playlist(1, local.to_vec())]).await;
    sources.ratings("user_id,track_id,rating,track_name\nu,rated:1,5,Rated\n").await;
    let mut withdrawn = track("t:w", "Withdrawn", "");
    withdrawn["artist_uri"] = json!("a:x");
    withdrawn["album_uri"] = json!("b:x");
    withdrawn["album_name"] = json!("");
    sources.mpd(&[bare_playlist(2, vec![withdrawn])]).await;
    let mut known = track("t:z", "Known", "Some Singer");
    known["artist_uri"] = json!("a:x");
    known["album_uri"] = json!("b:x");
    known["album_name"] = json!("Unknown album");
    sources.mpd(&[bare_playlist(3, vec![known])]).await;
    assert_eq!(
        sources.tracks().await,
        [
            "local:1: One, - (-), - (-)",
            "local:2: Two, - (-), - (-)",
            "local:3: Three, - (-), - (-)",
            "rated:1: Rated, - (-), - (-)",
            "t:w: Withdrawn, Some Singer (a:x), b:x (b:x)",
            "t:z: Known, Some Singer (a:x), b:x (b:x)",
        ]
    );
    assert_eq!(sources.database.texts("SELECT name FROM artists").await, ["Some Singer"]);
}

#[tokio::test]
async fn albums_of_tracks_without_an_artist_are_not_one_for_their_name() {
    let sources = Sources::new().await;
    let on = |id: &str, more: Value| {
        let mut row = json!({"id": id, "album": "Greatest Hits"});
        row.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        row
    };
    sources.ndjson(&[on("t1", json!({})), on("t2", json!({"artist": "[unknown]"}))], &[]).await;
    sources.ndjson(&[on("t3", json!({"album_id": "b3"}))], &[]).await;
    sources.ndjson(&[on("t1", json!({})), on("t4", json!({"artist": "Abba", "album_id": "b4"}))], &[]).await;
    let expected = [
        "t1: t1, - (-), Greatest Hits (-)",
        "t2: t2, - (-), Greatest Hits (-)",
        "t3: t3, - (-), Greatest Hits (b3)",
        "t4: t4, Abba (-), Greatest Hits (b4)",
    ];
    assert_eq!(sources.tracks().await, expected);
    assert_eq!(sources.database.texts("SELECT count(DISTINCT album_id)::text FROM tracks").await, ["4"]);
    // Once the artist is known, the album is that artist's.
    sources.ndjson(&[json!({"id": "t1", "artist": "Abba"})], &[]).await;
    assert_eq!(sources.tracks().await[0], "t1: t1, Abba (-), Greatest Hits (b4)");
}

#[tokio::test]
async fn ratings_that_leave_out_or_empty_an_artist_leave_the_one_that_is_there() {
    let sources = Sources::new().await;
    let tracks = [
        json!({"id": "t1", "name": "So What", "artist": "Miles Davis"}),
        json!({"id": "t2", "name": "Naima", "artist": "John Coltrane", "artist_id": "a2", "album": "Giant Steps", "album_id": "b2"}),
        json!({"id": "t3", "name": "Blue in Green", "artist": "Miles Davis"}),
    ];
    sources.ndjson(&tracks, &[]).await;
    let before = sources.database.rows().await;
    for table in [
        "user_id,track_id,rating,track_name\nu1,t1,5,So What\nu1,t2,4,Naima\n",
        "user_id,track_id,rating,track_name,artist\nu2,t1,5,So What,\nu2,t3,5,,\nu2,t2,3, ,unknown artist\n",
    ] {
        let report = sources.ratings(table).await;
        assert_eq!((&report["tracks_changed"], &report["tracks_added"]), (&json!(0), &json!(0)), "{report}");
    }
    assert_eq!(sources.database.rows().await, before, "nothing is written");
    let report = sources.ratings("user,track,rating,name,artist\nu1,t1,5,So What (Live),\nu3,t9,1,New,New\n").await;
    let counts = ["tracks_changed", "tracks_added", "artists_added"].map(|name| report[name].as_u64());
    assert_eq!(counts, [Some(1), Some(1), Some(1)], "{report}");
    assert_eq!(sources.tracks().await[0], "t1: So What (Live), Miles Davis (-), - (-)");
}

#[tokio::test]
async fn a_slice_with_empty_names_leaves_titles_and_artists() {
    let sources = Sources::new().await;
    let tracks = [
        json!({"id": "s1", "name": "So What", "artist": "Miles Davis", "artist_id": "a1"}),
        json!({"id": "s2", "name": "Naima", "artist": "John Coltrane"}),
        json!({"id": "movielens:movie:1", "name": "Toy Story", "artist": "John Lasseter", "artist_id": "d1"}),
        json!({"id": "track_1", "name": "Real name", "artist": "Real artist", "artist_id": "artist_1"}),
        json!({"id": "yes:7", "name": "On air", "artist": "The Station", "artist_id": "y1"}),
    ];
    sources.ndjson(&tracks, &[]).await;
    let before = sources.tracks().await;
    sources.mpd(&[bare_playlist(1, vec![track("s1", "", ""), track("s2", " ", "Unknown artist")])]).await;
    sources.mpd(&[json!({"pid": 2, "tracks": [{"track_uri": "s1"}, {"track_uri": "s2", "artist_name": null}]})]).await;
    sources.movielens("movieId,title,genres\n1,,\n", "userId,movieId,rating,timestamp\n1,1,4,1\n").await;
    sources.deezer("track_1 artist_1\n").await;
    sources.radio(&[("7", "", "")], "0").await;
    let songs = "song_id,song_length,genre_ids,artist_name,composer,lyricist,language\ns1,,,,,,\n".to_owned();
    sources.kkbox(&[("songs.csv", songs), ("song_extra_info.csv", "song_id,name,isrc\ns2,,\n".to_owned())]).await;
    assert_eq!(sources.tracks().await, before);
}

#[tokio::test]
async fn a_track_keeps_the_artist_that_bears_the_name() {
    let sources = Sources::new().await;
    let by = |id: &str, artist: &str, album: Value| json!({"id": id, "name": id, "artist": "Nirvana", "artist_id": artist, "album": "Live", "album_id": album});
    let tracks =
        [by("t1", "nirvana-uk", json!("b-uk")), by("t2", "nirvana-us", json!("b-us")), by("t3", "aaa", json!("aaa"))];
    sources.ndjson(&tracks, &[]).await;
    let before = sources.tracks().await;
    let table = "user_id,track_id,rating,track_name,artist_name\nu1,t1,5,t1,Nirvana\nu1,t2,5,t2,Nirvana\n";
    let report = sources.ratings(table).await;
    assert_eq!((&report["tracks_changed"], &report["artists_changed"]), (&json!(0), &json!(0)), "{report}");
    let named = |id: &str| json!({"track_uri": id, "track_name": id, "artist_name": "Nirvana", "album_name": "Live"});
    sources.mpd(&[bare_playlist(1, vec![named("t1"), named("t2"), named("t3")])]).await;
    assert_eq!(sources.tracks().await, before);
}

#[tokio::test]
async fn an_id_and_a_name_of_different_sources_belong_together_whichever_comes_first() {
    let expected = ["t1: One, Band (a1), Album (b1)", "t2: t2, Band (a1), Album (b1)"];
    let ids = json!({"id": "t1", "artist_id": "a1", "album_id": "b1"});
    let names = json!({"id": "t1", "name": "One", "artist": "Band", "album": "Album"});
    let other = json!({"id": "t2", "artist": "Band", "album": "Album"});
    for order in [[&ids, &names, &other], [&names, &ids, &other], [&other, &ids, &names], [&names, &other, &ids]] {
        let sources = Sources::new().await;
        for row in order {
            sources.ndjson(std::slice::from_ref(row), &[]).await;
        }
        assert_eq!(sources.tracks().await, expected, "{order:?}");
        let sources = Sources::new().await;
        sources.ndjson(&order.map(Clone::clone), &[]).await;
        assert_eq!(sources.tracks().await, expected, "at once: {order:?}");
    }
}

#[tokio::test]
async fn names_that_change_are_counted() {
    let sources = Sources::new().await;
    let row = |name: &str| json!({"id": "t1", "name": "One", "artist": name, "artist_id": "a1", "album": name, "album_id": "b1"});
    sources.ndjson(&[row("Before")], &[]).await;
    let report = sources.ndjson(&[row("After")], &[]).await;
    let counts =
        ["tracks_changed", "artists_changed", "albums_changed", "artists_added"].map(|name| report[name].as_u64());
    assert_eq!(counts, [Some(0), Some(1), Some(1), Some(0)], "{report}");
    let recording = "song_id,name,isrc\nt1,One More,TWUM71200043\nt1,,\n".to_owned();
    let report = sources.kkbox(&[("song_extra_info.csv", recording.clone())]).await;
    assert_eq!(report["tracks_changed"], 1, "{report}");
    assert_eq!(sources.kkbox(&[("song_extra_info.csv", recording)]).await["tracks_changed"], 0);
    assert_eq!(sources.tracks().await, ["t1: One More, After (a1), After (b1)"]);
}
