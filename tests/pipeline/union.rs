//! Sources that don't contradict one another end in the union of what they say, whichever comes first.
//!
//! One truth is made up: tracks by artists on albums, playlists, a user. Sources state random parts of it by random doors,
//! files and HTTP alike, and leave the rest out, or empty, or write a name that stands for none. `SEGUE_UNION_ROUNDS` is how
//! many truths are tried.

use std::collections::BTreeMap;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use reqwest::Method;
use segue::serve::ServeSettings;
use serde_json::{Map, Value, json};
use sqlx::Row;

use crate::sources::{Sources, lines};
use crate::support::app::{Answer, Setup, TestApp, encode};
use crate::support::database::Database;
use crate::support::training::arguments;

/// Sources of a round.
const SOURCES: usize = 14;
const IDS: [&str; 9] =
    ["t:1", "t:2", "t/3", "movielens:movie:1", "movielens:movie:2", "yes:1", "yes:2", "track_1", "track_2"];
const PLAYLISTS: [&str; 2] = ["1", "2"];
/// Fields of a track.
const FIELDS: [&str; 12] = [
    "name",
    "artist",
    "artist_id",
    "album",
    "album_id",
    "duration_ms",
    "genres",
    "hidden",
    "language",
    "composers",
    "lyricists",
    "isrc",
];

/// What is true of a track, by field; no artist for one of them.
type Track = BTreeMap<&'static str, Value>;

struct Truth {
    tracks: Vec<Track>,
    /// metadata
    playlists: Vec<Map<String, Value>>,
    /// indices of each playlist's tracks
    placements: Vec<Vec<usize>>,
    user: BTreeMap<&'static str, Value>,
}

impl Truth {
    fn new(random: &mut Xoshiro256PlusPlus) -> Self {
        let track = |index: usize| {
            let (artist, album) = (random.random_range(0..3), random.random_range(0..2));
            let mut track = Track::from([
                ("name", json!(format!("Title {index}"))),
                ("artist", json!(format!("Band {artist}"))),
                ("artist_id", json!(format!("artist_{artist}"))),
                // Albums of different artists have the same names.
                ("album", json!(format!("Album {album}"))),
                ("album_id", json!(format!("album {artist} {album}"))),
                ("duration_ms", json!(200_000 + index)),
                ("genres", json!(["rock", format!("genre {index}")])),
                ("hidden", json!(true)),
                ("language", json!(format!("{}", 3 + index))),
                ("composers", json!([format!("Composer {index}"), "Trad."])),
                ("lyricists", json!([format!("Poet {index}")])),
                ("isrc", json!(format!("TWUM7120004{index}"))),
            ]);
            if index == 0 {
                ["artist", "artist_id", "album_id"].iter().for_each(|field| drop(track.remove(field)));
            }
            track
        };
        let tracks: Vec<Track> = (0..IDS.len()).map(track).collect();
        let playlists = PLAYLISTS.map(|id| {
            let playlist = json!({
                "title": format!("Title of {id}"), "description": "said", "collaborative": true, "num_followers": 7,
                "num_edits": 9, "num_albums": 2, "num_artists": 3, "duration_ms": 1_000, "user_id": "owner",
                "modified_at": "2017-07-14T02:40:00Z",
            });
            playlist.as_object().expect("an object").clone()
        });
        let placements = PLAYLISTS.map(|_| (0..5).map(|_| random.random_range(0..IDS.len())).collect());
        let user = BTreeMap::from([
            ("city", json!("13")),
            ("bd", json!("24")),
            ("gender", json!("female")),
            ("registered_via", json!("9")),
            ("registration_init_time", json!("20110820")),
            ("expiration_date", json!("20170920")),
        ]);
        Self { tracks, playlists: playlists.into(), placements: placements.into(), user }
    }
}

/// What a source says, by which door.
#[derive(Debug, Clone)]
enum Source {
    Mpd(Vec<Value>),
    Ndjson(Vec<Value>, Vec<Value>),
    Ratings(String),
    Movielens(String),
    Kkbox(Vec<(&'static str, String)>),
    Radio(Vec<(String, String, String)>),
    Deezer(String),
    /// a bulk request: path and rows
    Bulk(&'static str, Vec<Value>),
    /// changes of the resource at a path
    Patch(String, Value),
    /// the resource at a path replaced by itself
    Put(String),
}

/// What is known after all sources: fields of tracks that exist, of playlists, of the user.
#[derive(Debug, Default)]
struct Known {
    tracks: BTreeMap<usize, Vec<&'static str>>,
    playlists: BTreeMap<usize, Vec<String>>,
    user: Vec<&'static str>,
}

/// Makes sources that state parts of the truth, and notes what they state.
struct Maker<'a> {
    truth: &'a Truth,
    random: Xoshiro256PlusPlus,
    known: Known,
}

impl Maker<'_> {
    fn flip(&mut self) -> bool {
        self.random.random_bool(0.4)
    }

    /// A field of a track if the source states it: always one of `FIELDS`.
    fn stated(&mut self, track: usize, field: &'static str) -> Option<Value> {
        let known = self.known.tracks.entry(track).or_default();
        let value = self.truth.tracks[track].get(field)?;
        if !self.random.random_bool(0.4) {
            return None;
        }
        known.push(field);
        Some(value.clone())
    }

    /// A text, or nothing as sources write it.
    fn text(&mut self, track: usize, field: &'static str) -> String {
        let nothing: &[&str] = match field {
            "artist" => &["", " ", "Unknown artist", "[unknown]"],
            "album" => &["", "Unknown Album", "<unknown>"],
            _ => &[""],
        };
        match self.stated(track, field) {
            Some(Value::String(text)) => text,
            Some(Value::Array(members)) => members.iter().filter_map(Value::as_str).collect::<Vec<&str>>().join("|"),
            Some(other) => other.to_string(),
            None => (*nothing.choose(&mut self.random).expect("a text")).to_owned(),
        }
    }

    /// A track as an object, with the names that a format has for its id and fields. What is not stated is missing, null or
    /// empty.
    fn object(&mut self, track: usize, id: &str, fields: &[(&'static str, &str)]) -> Value {
        let mut row = Map::from_iter([(id.to_owned(), json!(IDS[track]))]);
        for &(field, name) in fields {
            let value = match field {
                "name" | "artist" | "album" => match self.random.random_range(0..3) {
                    0 => self.stated(track, field).unwrap_or(Value::Null),
                    _ => json!(self.text(track, field)),
                },
                _ => self.stated(track, field).unwrap_or(Value::Null),
            };
            if !value.is_null() || self.flip() {
                row.insert(name.to_owned(), value);
            }
        }
        Value::Object(row)
    }

    fn some_tracks(&mut self) -> Vec<usize> {
        let mut tracks: Vec<usize> = (0..IDS.len()).filter(|_| self.random.random_bool(0.4)).collect();
        tracks.shuffle(&mut self.random);
        tracks
    }

    /// A playlist's metadata, less what a format does not have.
    fn playlist(&mut self, playlist: usize, without: &[&str]) -> Map<String, Value> {
        let mut row = Map::new();
        for (field, value) in &self.truth.playlists[playlist] {
            if without.contains(&field.as_str()) {
                continue;
            }
            if self.flip() {
                self.known.playlists.entry(playlist).or_default().push(field.clone());
                row.insert(field.clone(), value.clone());
            } else if matches!(field.as_str(), "title" | "description") && self.flip() {
                row.insert(field.clone(), json!(""));
            }
        }
        row
    }

    fn rows_of_playlists(&mut self, fields: &[(&'static str, &str)]) -> Vec<Value> {
        let playlists: Vec<usize> = (0..PLAYLISTS.len()).filter(|_| self.random.random_bool(0.6)).collect();
        let rows = playlists.into_iter().map(|playlist| {
            self.known.playlists.entry(playlist).or_default();
            let mut row = self.playlist(playlist, &[]);
            let tracks = &self.truth.placements[playlist];
            let tracks: Vec<Value> = tracks.iter().map(|&track| self.object(track, "id", fields)).collect();
            row.extend([("id".to_owned(), json!(PLAYLISTS[playlist])), ("tracks".to_owned(), json!(tracks))]);
            Value::Object(row)
        });
        rows.collect()
    }

    fn source(&mut self) -> Source {
        let names = [("name", "name"), ("artist", "artist"), ("artist_id", "artist_id"), ("album", "album")];
        let mut row = names.to_vec();
        row.extend([("album_id", "album_id"), ("duration_ms", "duration_ms")]);
        let mut full_row = row.clone();
        full_row.extend([("genres", "genres"), ("hidden", "hidden")]);
        match self.random.random_range(0..11) {
            0 => Source::Mpd(self.slice()),
            1 => {
                let tracks = self.some_tracks();
                let tracks = tracks.into_iter().map(|track| self.object(track, "id", &row)).collect();
                Source::Ndjson(tracks, self.rows_of_playlists(&row))
            }
            2 => {
                let mut table = "user_id,track_id,rating,track_name,artist,genres\n".to_owned();
                for track in self.some_tracks() {
                    let fields = ["name", "artist", "genres"].map(|field| self.text(track, field));
                    table.push_str(&format!("u,{},4,{}\n", IDS[track], fields.join(",")));
                }
                Source::Ratings(table)
            }
            3 => {
                let mut films = "movieId,title,genres\n".to_owned();
                for (film, track) in [(1, 3), (2, 4)] {
                    let (title, genres) = (self.text(track, "name"), self.text(track, "genres"));
                    let genres = if genres.is_empty() { "(no genres listed)" } else { &genres };
                    films.push_str(&format!("{film},{title},{genres}\n"));
                }
                Source::Movielens(films)
            }
            4 => self.kkbox(),
            5 => {
                let song =
                    |(id, track): (&str, usize)| (id.to_owned(), self.text(track, "name"), self.text(track, "artist"));
                Source::Radio([("1", 5), ("2", 6)].map(song).to_vec())
            }
            6 => {
                let mut playlist = String::new();
                for track in [7, 8] {
                    self.known.tracks.entry(track).or_default().push("artist_id");
                    let artist = self.truth.tracks[track]["artist_id"].as_str().expect("an id");
                    playlist.push_str(&format!("{} {artist} ", IDS[track]));
                }
                Source::Deezer(playlist)
            }
            7 => {
                let tracks = self.some_tracks();
                Source::Bulk("/tracks", tracks.into_iter().map(|track| self.object(track, "id", &full_row)).collect())
            }
            8 => Source::Bulk("/playlists", self.rows_of_playlists(&row)),
            9 if self.flip() => {
                let playlist = self.random.random_range(0..PLAYLISTS.len());
                let mut changes = self.playlist(playlist, &["modified_at"]);
                changes.retain(|_, value| value != "");
                // Otherwise it is now.
                self.known.playlists.entry(playlist).or_default().push("modified_at".to_owned());
                changes.insert("modified_at".to_owned(), self.truth.playlists[playlist]["modified_at"].clone());
                Source::Patch(format!("/playlists/{}", PLAYLISTS[playlist]), Value::Object(changes))
            }
            9 => {
                let track = self.random.random_range(0..IDS.len());
                self.known.tracks.entry(track).or_default();
                let mut changes = Map::new();
                for &(field, name) in &full_row {
                    if let Some(value) = self.stated(track, field) {
                        changes.insert(name.to_owned(), value);
                    }
                }
                Source::Patch(format!("/tracks/{}", encode(IDS[track])), Value::Object(changes))
            }
            _ => Source::Put(format!("/tracks/{}", encode(IDS.choose(&mut self.random).expect("an id")))),
        }
    }

    fn slice(&mut self) -> Vec<Value> {
        let fields = [
            ("name", "track_name"),
            ("artist", "artist_name"),
            ("artist_id", "artist_uri"),
            ("album", "album_name"),
            ("album_id", "album_uri"),
            ("duration_ms", "duration_ms"),
        ];
        let rows = (0..PLAYLISTS.len()).map(|playlist| {
            self.known.playlists.entry(playlist).or_default();
            let mut row = self.playlist(playlist, &["user_id", "modified_at"]);
            if let Some(title) = row.remove("title") {
                row.insert("name".to_owned(), title);
            }
            let tracks = &self.truth.placements[playlist];
            let tracks: Vec<Value> = tracks.iter().map(|&track| self.object(track, "track_uri", &fields)).collect();
            row.extend([
                ("pid".to_owned(), json!(PLAYLISTS[playlist].parse::<u32>().expect("a number"))),
                ("tracks".to_owned(), json!(tracks)),
            ]);
            Value::Object(row)
        });
        rows.collect()
    }

    fn kkbox(&mut self) -> Source {
        let mut songs = "song_id,song_length,genre_ids,artist_name,composer,lyricist,language\n".to_owned();
        for track in self.some_tracks() {
            let fields = ["duration_ms", "genres", "artist", "composers", "lyricists", "language"];
            songs.push_str(&format!("{},{}\n", IDS[track], fields.map(|field| self.text(track, field)).join(",")));
        }
        let mut recordings = "song_id,name,isrc\n".to_owned();
        for track in self.some_tracks() {
            let fields = ["name", "isrc"].map(|field| self.text(track, field));
            recordings.push_str(&format!("{},{}\n", IDS[track], fields.join(",")));
        }
        let columns: Vec<&'static str> = self.truth.user.keys().copied().collect();
        let fields: Vec<&str> = columns
            .iter()
            .map(|&column| {
                if self.flip() {
                    self.known.user.push(column);
                    self.truth.user[column].as_str().expect("text")
                } else {
                    ""
                }
            })
            .collect();
        let members = format!("msno,{}\nu,{}\n", columns.join(","), fields.join(","));
        Source::Kkbox(vec![("songs.csv", songs), ("song_extra_info.csv", recordings), ("members.csv", members)])
    }
}

impl Source {
    async fn send(&self, sources: &Sources, app: &TestApp) {
        match self {
            Self::Mpd(playlists) => drop(sources.mpd(playlists).await),
            Self::Ndjson(tracks, playlists) => drop(sources.ndjson(tracks, playlists).await),
            Self::Ratings(table) => drop(sources.ratings(table).await),
            Self::Movielens(films) => {
                sources.movielens(films, "userId,movieId,rating,timestamp\n1,1,4,1\n1,2,4,1\n").await;
            }
            Self::Kkbox(files) => drop(sources.kkbox(files).await),
            Self::Radio(songs) => {
                let songs: Vec<(&str, &str, &str)> =
                    songs.iter().map(|(id, title, artist)| (id.as_str(), title.as_str(), artist.as_str())).collect();
                sources.radio(&songs, "0 1").await;
            }
            Self::Deezer(playlist) => drop(sources.deezer(playlist).await),
            Self::Bulk(path, rows) => {
                let request = app.request(Method::POST, path).header("content-type", "application/x-ndjson");
                let answer = Answer::to(request.body(lines(rows))).await;
                let summary = answer.body.lines().last().expect("a summary");
                assert!(summary.contains("\"rejected\":0") && summary.contains("\"failed\":0"), "{}", answer.body);
            }
            Self::Patch(path, changes) => {
                let change = async || Answer::to(app.request(Method::PATCH, path).json(changes)).await;
                let mut answer = change().await;
                if answer.status == 404 {
                    // Not there yet. A playlist is never changed before it is there: it would have no tracks.
                    let created = app.request(Method::PUT, path).json(&json!({}));
                    assert_eq!(Answer::to(created).await.status, 201);
                    answer = change().await;
                }
                assert_eq!(answer.status, 200, "{changes}: {answer:?}");
            }
            Self::Put(path) => {
                let answer = app.get(path).await;
                if answer.status == 200 {
                    let mut track = answer.json();
                    track.as_object_mut().expect("a track").remove("id");
                    assert_eq!(Answer::to(app.request(Method::PUT, path).json(&track)).await.status, 200);
                    track["id"] = answer.json()["id"].clone();
                    assert_eq!(app.get(path).await.json(), track, "what is replaced by itself stays");
                }
            }
        }
    }
}

/// What the catalog holds of each track, by field; what it has not is left out.
async fn tracks(database: &Database) -> BTreeMap<String, Map<String, Value>> {
    let mut connection = database.connect().await;
    let rows = sqlx::query(
        "SELECT t.uri, jsonb_strip_nulls(jsonb_build_object(
                    'name', t.name, 'artist', a.name, 'artist_id', a.uri, 'album', b.name, 'album_id', b.uri,
                    'duration_ms', t.duration_ms, 'genres', NULLIF(t.genres, '{}'), 'hidden', NULLIF(t.hidden, false),
                    'language', t.language, 'composers', NULLIF(t.composers, '{}'), 'lyricists', NULLIF(t.lyricists, '{}'),
                    'isrc', t.isrc))
         FROM tracks t LEFT JOIN artists a ON a.id = t.artist_id LEFT JOIN albums b ON b.id = t.album_id",
    )
    .fetch_all(&mut connection)
    .await
    .expect("tracks");
    rows.iter().map(|row| (row.get(0), row.get::<Value, _>(1).as_object().expect("an object").clone())).collect()
}

/// What the catalog should hold: the union of what is known. An id and a name that any source states of one track belong
/// together wherever one of them is stated. Where it is open whether an album known by its name is the one of an id, `found`
/// decides.
fn expected(truth: &Truth, known: &Known, track: usize, found: &Map<String, Value>) -> Map<String, Value> {
    let says = |track: usize, field: &str| known.tracks.get(&track).is_some_and(|fields| fields.contains(&field));
    let same = |other: usize, field: &str| truth.tracks[other].get(field) == truth.tracks[track].get(field);
    let linked = |name: &str, id: &str| {
        known.tracks.keys().any(|&other| same(other, id) && says(other, name) && says(other, id))
    };
    let has_artist = |track: usize| says(track, "artist") || says(track, "artist_id");
    let mut expected: Map<String, Value> = FIELDS
        .into_iter()
        .filter(|field| says(track, field))
        .map(|field| (field.to_owned(), truth.tracks[track][field].clone()))
        .collect();
    expected.entry("name").or_insert(json!(IDS[track]));
    let is_linked = |field: &str| match field {
        "artist" => linked("artist", "artist_id"),
        _ => linked("album", "album_id"),
    };
    for (name, id) in [("artist", "artist_id"), ("album", "album_id")] {
        let id_of_truth = truth.tracks[track].get(id).cloned().unwrap_or_default();
        match (says(track, name), says(track, id)) {
            (false, true) if is_linked(name) => {
                drop(expected.insert(name.to_owned(), truth.tracks[track][name].clone()))
            }
            (false, true) => drop(expected.insert(name.to_owned(), id_of_truth)),
            (true, false) if name == "artist" && is_linked(name) => drop(expected.insert(id.to_owned(), id_of_truth)),
            (true, false) if name == "album" && !id_of_truth.is_null() && is_linked(name) => {
                let is_placed =
                    |&other: &usize| same(other, "album_id") && says(other, "album_id") && has_artist(other);
                let is_certain = has_artist(track) && is_linked("artist") && known.tracks.keys().any(is_placed);
                if is_certain || found.get(id) == Some(&id_of_truth) {
                    expected.insert(id.to_owned(), id_of_truth);
                }
            }
            _ => {}
        }
    }
    expected
}

async fn check(truth: &Truth, known: &Known, database: &Database, what: &str) {
    let found = tracks(database).await;
    for &track in known.tracks.keys() {
        let found = found.get(IDS[track]).unwrap_or_else(|| panic!("{} is missing: {what}", IDS[track]));
        assert_eq!(found, &expected(truth, known, track, found), "{}: {what}", IDS[track]);
    }
    let mut connection = database.connect().await;
    for (&playlist, fields) in &known.playlists {
        let row = sqlx::query(
            "SELECT jsonb_strip_nulls(jsonb_build_object(
                        'title', title, 'description', description, 'collaborative', NULLIF(collaborative, false),
                        'num_followers', num_followers, 'num_edits', num_edits, 'num_albums', num_albums,
                        'num_artists', num_artists, 'duration_ms', p.duration_ms, 'user_id', u.external_id,
                        'modified_at', to_char(modified_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))),
                    ARRAY(SELECT t.uri FROM playlist_tracks pt JOIN tracks t ON t.id = pt.track_id
                          WHERE pt.playlist_id = p.id ORDER BY position)
             FROM playlists p LEFT JOIN users u ON u.id = p.user_id WHERE p.external_id = $1",
        )
        .bind(PLAYLISTS[playlist])
        .fetch_one(&mut connection)
        .await
        .expect("a playlist");
        let stated = truth.playlists[playlist].iter().filter(|(field, _)| fields.contains(field));
        let stated: Map<String, Value> = stated.map(|(field, value)| (field.clone(), value.clone())).collect();
        assert_eq!(row.get::<Value, _>(0), Value::Object(stated), "playlist {}: {what}", PLAYLISTS[playlist]);
        let placed: Vec<&str> = truth.placements[playlist].iter().map(|&track| IDS[track]).collect();
        assert_eq!(row.get::<Vec<String>, _>(1), placed, "playlist {}: {what}", PLAYLISTS[playlist]);
    }
    let row = sqlx::query(
        "SELECT jsonb_strip_nulls(jsonb_build_object(
                    'city', city, 'bd', age::text, 'gender', gender, 'registered_via', registered_via,
                    'registration_init_time', to_char(registered_on, 'YYYYMMDD'),
                    'expiration_date', to_char(expires_on, 'YYYYMMDD')))
         FROM users WHERE external_id = 'u'",
    );
    if let Some(row) = row.fetch_optional(&mut connection).await.expect("a user") {
        let stated = truth.user.iter().filter(|(field, _)| known.user.contains(field));
        let stated: Map<String, Value> = stated.map(|(&field, value)| (field.to_owned(), value.clone())).collect();
        assert_eq!(row.get::<Value, _>(0), Value::Object(stated), "the user: {what}");
    }
}

#[tokio::test]
async fn sources_that_do_not_contradict_one_another_end_in_the_union_of_what_they_say_in_any_order() {
    let rounds: u64 = std::env::var("SEGUE_UNION_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4);
    let first: u64 = std::env::var("SEGUE_UNION_FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(0);
    let empty = Database::with_tables().await;
    for round in first..first + rounds {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(round);
        let truth = Truth::new(&mut random);
        let mut maker = Maker { truth: &truth, random: random.clone(), known: Known::default() };
        // A playlist is there before others change it.
        let mut made: Vec<Source> = vec![Source::Mpd(maker.slice())];
        made.extend((1..SOURCES).map(|_| maker.source()));
        let known = maker.known;
        for order in 0..2 {
            let sources = Sources::over(empty.copy().await).await;
            let settings = arguments::<ServeSettings>(&[]);
            let catalog = Some(sources.database().url().to_owned());
            let app = TestApp::start(Setup { settings, catalog, with_model: false, ..Setup::default() }).await;
            for source in &made {
                source.send(&sources, &app).await;
            }
            check(&truth, &known, sources.database(), &format!("round {round}, order {order}: {made:#?}")).await;
            app.interrupt.raise();
            let changes_of_playlists =
                |source: &Source| matches!(source, Source::Patch(path, _) if path.starts_with("/playlists"));
            made.shuffle(&mut random);
            made.sort_by_key(changes_of_playlists);
        }
    }
}
