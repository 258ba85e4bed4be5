//! Ratings: MovieLens in its two forms, and tables of one's own.
//!
//! * `ratings.csv` and `movies.csv` of the MovieLens editions since 2014 (Harper and Konstan 2015), `u.data` and `u.item`
//!   of ml-100k. Users are imported as `movielens:user:<id>`, films as tracks `movielens:movie:<id>`.
//! * A CSV file with a header that names at least user, track and rating.
//!
//! A row that can't be read is skipped and listed. A file whose header is another is refused whole.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::engine::{FileToRead, HandOver, ImportBatch, import_files};
use super::error::{FormatError, ImportError};
use super::report::{ImportReport, Reject};
use super::source::{BytesRead, read_file};
use crate::catalog::{
    ArtistRecord, Catalog, CatalogError, RatingRecord, RatingScale, RatingsOutcome, TextError, TrackId, TrackRecord,
    UserId, whole_microseconds,
};
use crate::progress::Interrupt;

/// Most tracks that are written in one transaction with ratings.
const TRACKS_BATCH: usize = 5_000;
/// Most ratings that are written in one transaction.
const RATINGS_BATCH: usize = 100_000;
/// What ids of films begin with.
const FILM: &str = "movielens:movie:";
/// Genres of a row, in the files that have them.
const GENRE_SEPARATOR: char = '|';
/// What MovieLens calls a film without genres.
const NO_GENRES: &str = "(no genres listed)";
/// Columns of a film's genres in `u.item`, as `u.genre` names them.
const ITEM_GENRES: [&str; 19] = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
];

/// Files of ratings in one of the forms that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RatingsFile {
    /// `movies.csv`
    Movies(PathBuf),
    /// `ratings.csv`
    Ratings(PathBuf),
    /// `u.item`
    Item(PathBuf),
    /// `u.data`
    Data(PathBuf),
    /// a table of one's own
    Table(PathBuf),
}

/// What a file of ratings holds.
#[derive(Debug, Default)]
pub struct ParsedRatings {
    /// tracks that it describes
    pub tracks: Vec<TrackRecord>,
    /// ratings
    pub ratings: Vec<RatingRecord>,
    /// rows skipped
    pub rejects: Vec<Reject>,
}

/// Imports files of ratings, one after another; ratings must lie on `scale`.
///
/// `rejects` is where skipped rows are listed. An interrupt stops after the batch in progress.
pub async fn import_ratings(
    catalog: &Catalog,
    files: Vec<RatingsFile>,
    scale: RatingScale,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport<RatingsOutcome>, ImportError> {
    let reads = files.into_iter().map(|file| FileToRead {
        file: file.path().to_owned(),
        read: Box::new(move |path: &Path, count: &BytesRead, hand_over: HandOver<'_, ParsedRatings>| {
            let ParsedRatings { tracks, ratings, mut rejects } = file.parse(&read_file(path, count)?, scale)?;
            let (mut tracks, mut ratings) = (tracks.into_iter(), ratings.into_iter());
            loop {
                let batch = ParsedRatings {
                    tracks: tracks.by_ref().take(TRACKS_BATCH).collect(),
                    ratings: ratings.by_ref().take(RATINGS_BATCH).collect(),
                    rejects: std::mem::take(&mut rejects),
                };
                if batch.is_empty() && batch.rejects.is_empty() {
                    return Ok(());
                }
                hand_over(batch)?;
            }
        }),
        stops_within: true,
    });
    import_files(catalog, reads.collect(), rejects, interrupt).await
}

impl ImportBatch for ParsedRatings {
    type Outcome = RatingsOutcome;

    async fn write(self, catalog: &Catalog) -> Result<(RatingsOutcome, Vec<Reject>), CatalogError> {
        Ok((catalog.import_ratings(&self.tracks, &self.ratings).await?, self.rejects))
    }

    fn is_empty(&self) -> bool {
        self.tracks.is_empty() && self.ratings.is_empty()
    }
}

/// The files of a MovieLens folder: films first, so that ratings find them.
pub fn find_movielens(folder: &Path) -> Result<Vec<RatingsFile>, ImportError> {
    let refuse = |reason: &str| ImportError::Path { path: folder.to_owned(), reason: reason.to_owned() };
    if !folder.is_dir() {
        return Err(refuse("this is no folder"));
    }
    let there = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    let (films, ratings) = match (there("ratings.csv"), there("u.data")) {
        (Some(ratings), _) => (there("movies.csv").map(RatingsFile::Movies), RatingsFile::Ratings(ratings)),
        (None, Some(data)) => (there("u.item").map(RatingsFile::Item), RatingsFile::Data(data)),
        (None, None) => return Err(refuse("neither ratings.csv nor u.data is in this folder")),
    };
    Ok(films.into_iter().chain([ratings]).collect())
}

impl RatingsFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Movies(path) | Self::Ratings(path) | Self::Item(path) | Self::Data(path) | Self::Table(path) => path,
        }
    }

    /// Parses the file's content; ratings must lie on `scale`.
    ///
    /// # Errors
    ///
    /// When it is not in its format.
    pub fn parse(&self, bytes: &[u8], scale: RatingScale) -> Result<ParsedRatings, FormatError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(FormatError { offset: 0, reason: "the file is empty".to_owned() });
        }
        let table = match self {
            Self::Movies(path) => Table::with_header(path, bytes)?,
            Self::Ratings(path) | Self::Table(path) => Table::with_header(path, bytes)?,
            Self::Item(path) => Table::without_header(path, bytes, b'|', &["movieId", "title"]),
            Self::Data(path) => {
                Table::without_header(path, bytes, b'\t', &["userId", "movieId", "rating", "timestamp"])
            }
        };
        match self {
            Self::Movies(_) => {
                let (id, title) = (table.column(&["movieId"])?, table.column(&["title"])?);
                let genres = table.column(&["genres"])?;
                Ok(table.rows(|row, parsed| {
                    let genres = row.text(genres)?;
                    let genres = genres.split(GENRE_SEPARATOR).filter(|genre| *genre != NO_GENRES);
                    parsed.tracks.push(film(row, id, title, genres)?);
                    Ok(())
                }))
            }
            Self::Item(_) => Ok(table.rows(|row, parsed| {
                let first = row.fields().checked_sub(ITEM_GENRES.len()).filter(|&first| first >= 2);
                let first = first.ok_or("it has not the columns of u.item")?;
                let genres = (first..).zip(ITEM_GENRES).skip(1);
                let mut named = Vec::new();
                for (column, name) in genres {
                    if row.text(column)? == "1" {
                        named.push(name);
                    }
                }
                parsed.tracks.push(film(row, 0, 1, named.into_iter())?);
                Ok(())
            })),
            Self::Ratings(_) | Self::Data(_) => {
                let (user, track) = (table.column(&["userId"])?, table.column(&["movieId"])?);
                let (rating, time) = (table.column(&["rating"])?, table.column(&["timestamp"])?);
                Ok(table.rows(|row, parsed| {
                    parsed.ratings.push(RatingRecord {
                        user: row.id(user, "movielens:user:", UserId::storable)?,
                        track: row.id(track, FILM, TrackId::storable)?,
                        rating: row.rating(rating, scale)?,
                        rated_at: row.time(time)?,
                    });
                    Ok(())
                }))
            }
            Self::Table(_) => parse_table(&table, scale),
        }
    }
}

/// A film as a track.
fn film<'a>(
    row: &Row<'_>,
    id: usize,
    title: usize,
    genres: impl Iterator<Item = &'a str>,
) -> Result<TrackRecord, String> {
    let (id, title) = (row.id(id, FILM, TrackId::storable)?, row.text(title)?);
    Ok(TrackRecord::named(id, &title).of_genres(genres))
}

fn parse_table(table: &Table<'_>, scale: RatingScale) -> Result<ParsedRatings, FormatError> {
    let user = table.column(&["user_id", "user", "userId"])?;
    let track = table.column(&["track_id", "track", "trackId", "item_id", "item"])?;
    let rating = table.column(&["rating"])?;
    let time = table.column(&["rated_at", "timestamp", "time"]).ok();
    let name = table.column(&["track_name", "name", "title"]).ok();
    let artist = table.column(&["artist_name", "artist"]).ok();
    let genres = table.column(&["genres", "genre"]).ok();
    let mut described: HashMap<TrackId, TrackRecord> = HashMap::new();
    let mut parsed = table.rows(|row, parsed| {
        let record = RatingRecord {
            user: row.id(user, "", UserId::storable)?,
            track: row.id(track, "", TrackId::storable)?,
            rating: row.rating(rating, scale)?,
            // Without a time all are as old as can be: whatever is stated with one is newer.
            rated_at: time.map_or(Ok(OffsetDateTime::UNIX_EPOCH), |time| row.time(time))?,
        };
        let text = |column: Option<usize>| column.map_or(Ok(Cow::Borrowed("")), |column| row.text(column));
        let (name, artist, genres) = (text(name)?, text(artist)?, text(genres)?);
        let says_something = [&name, &artist, &genres].iter().any(|text| !text.trim().is_empty());
        if says_something {
            // Of several rows about a track the first that says something counts, field by field.
            let track = TrackRecord::named(record.track.clone(), &name)
                .by(ArtistRecord::stated(None, Some(&artist)))
                .of_genres(genres.split(GENRE_SEPARATOR));
            match described.entry(record.track.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(track)),
                Entry::Occupied(mut entry) => {
                    let known = entry.get_mut();
                    known.name = known.name.take().or(track.name);
                    known.artist = known.artist.take().or(track.artist);
                    known.genres = known.genres.take().or(track.genres);
                }
            }
        }
        parsed.ratings.push(record);
        Ok(())
    });
    parsed.tracks = described.into_values().collect();
    parsed.tracks.sort_by(|left, right| left.id.cmp(&right.id));
    Ok(parsed)
}

/// Rows of text with named columns.
struct Table<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    delimiter: u8,
    has_header: bool,
    header: Vec<String>,
}

impl<'a> Table<'a> {
    fn with_header(path: &'a Path, bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(bytes);
        let header = reader
            .byte_headers()
            .map_err(|error| FormatError { offset: 0, reason: format!("the header can't be read: {error}") })?;
        let name = |bytes: &[u8]| text_of(bytes).trim().trim_start_matches('\u{feff}').to_owned();
        let header = header.iter().map(name).collect();
        Ok(Self { path, bytes, delimiter: b',', has_header: true, header })
    }

    fn without_header(path: &'a Path, bytes: &'a [u8], delimiter: u8, header: &[&str]) -> Self {
        let header = header.iter().map(|name| (*name).to_owned()).collect();
        Self { path, bytes, delimiter, has_header: false, header }
    }

    /// The column that has one of these names.
    fn column(&self, names: &[&str]) -> Result<usize, FormatError> {
        let found = names.iter().find_map(|name| self.header.iter().position(|column| column == name));
        found.ok_or_else(|| FormatError {
            offset: 0,
            reason: format!("no column {} in the header ({})", names.join(" or "), self.header.join(", ")),
        })
    }

    /// Hands every row to `each`; what it refuses is listed with its reason.
    fn rows(&self, mut each: impl FnMut(&Row<'_>, &mut ParsedRatings) -> Result<(), String>) -> ParsedRatings {
        let mut reader = ReaderBuilder::new()
            .delimiter(self.delimiter)
            .quoting(self.has_header)
            .has_headers(self.has_header)
            .flexible(true)
            .from_reader(self.bytes);
        let (mut parsed, mut record) = (ParsedRatings::default(), ByteRecord::new());
        let mut number = 0u64;
        loop {
            let offset = reader.position().byte();
            number += 1;
            let outcome = match reader.read_byte_record(&mut record) {
                Ok(false) => return parsed,
                Ok(true) => each(&Row { record: &record, header: &self.header }, &mut parsed),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = outcome {
                let offset = record.position().map_or(offset, csv::Position::byte);
                parsed.rejects.push(Reject {
                    file: self.path.to_owned(),
                    offset,
                    item: format!("row {number}"),
                    reason,
                });
            }
        }
    }
}

struct Row<'a> {
    record: &'a ByteRecord,
    header: &'a [String],
}

impl Row<'_> {
    fn fields(&self) -> usize {
        self.record.len()
    }

    fn name(&self, column: usize) -> &str {
        self.header.get(column).map_or("a column", String::as_str)
    }

    fn text(&self, column: usize) -> Result<Cow<'_, str>, String> {
        let bytes = self.record.get(column).ok_or_else(|| format!("{}: it is missing", self.name(column)))?;
        let text = text_of(bytes);
        if text.contains('\0') {
            return Err(format!("{}: it has a NUL character", self.name(column)));
        }
        Ok(text)
    }

    /// An id, behind a prefix.
    fn id<T>(&self, column: usize, prefix: &str, id: fn(String) -> Result<T, TextError>) -> Result<T, String> {
        let id = match self.text(column)? {
            text if text.is_empty() => Err(TextError::Empty),
            text => id(format!("{prefix}{text}")),
        };
        id.map_err(|error| format!("{}: {error}", self.name(column)))
    }

    fn rating(&self, column: usize, scale: RatingScale) -> Result<f32, String> {
        let text = self.text(column)?;
        let rating = text.trim().parse::<f32>().map_err(|_| format!("{}: {text:?} is no number", self.name(column)))?;
        scale.check(rating).map_err(|reason| format!("{}: {reason}", self.name(column)))
    }

    /// Seconds since 1970, or RFC 3339.
    fn time(&self, column: usize) -> Result<OffsetDateTime, String> {
        let text = self.text(column)?;
        let time = match text.trim().parse::<i64>() {
            Ok(seconds) => OffsetDateTime::from_unix_timestamp(seconds).ok(),
            Err(_) => OffsetDateTime::parse(text.trim(), &Rfc3339).ok(),
        };
        time.map(whole_microseconds).ok_or_else(|| {
            format!("{}: {text:?} is neither a number of seconds since 1970 nor RFC 3339", self.name(column))
        })
    }
}

/// UTF-8, or what is not that as Latin-1: ml-100k is older than UTF-8 was common.
fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: RatingScale = RatingScale { lowest: 0.5, highest: 5.0 };

    fn parse(file: RatingsFile, text: &[u8]) -> ParsedRatings {
        file.parse(text, SCALE).expect("parses")
    }

    fn genres(parsed: &ParsedRatings, track: usize) -> &[String] {
        parsed.tracks[track].genres.as_deref().unwrap_or_default()
    }

    fn reasons(parsed: &ParsedRatings) -> Vec<String> {
        parsed.rejects.iter().map(|reject| format!("{} at {}: {}", reject.item, reject.offset, reject.reason)).collect()
    }

    #[test]
    fn movielens_csv_becomes_ratings_and_genred_tracks() {
        let films = b"movieId,title,genres\n1,\"Heat, The (1995)\",Action|Crime\n2,Nothing,(no genres listed)\n";
        let parsed = parse(RatingsFile::Movies("movies.csv".into()), films);
        assert_eq!(parsed.tracks[0].name.as_deref(), Some("Heat, The (1995)"));
        assert_eq!(genres(&parsed, 0), ["Action", "Crime"]);
        assert_eq!((parsed.tracks[1].id.as_str(), genres(&parsed, 1).len()), ("movielens:movie:2", 0));

        let ratings = b"userId,movieId,rating,timestamp\n7,1,4.5,1260759144\n7,2,9,1\n7,,3,1\nx,3,good,1\n7,4\n";
        let parsed = parse(RatingsFile::Ratings("ratings.csv".into()), ratings);
        assert_eq!(parsed.ratings.len(), 1);
        assert_eq!(parsed.ratings[0].user, "movielens:user:7");
        assert_eq!(parsed.ratings[0].rated_at.unix_timestamp(), 1_260_759_144);
        let reasons = reasons(&parsed);
        assert_eq!(reasons[0], "row 2 at 51: rating: must be a number from 0.5 to 5");
        assert_eq!(reasons[1], "row 3 at 59: movieId: must not be empty");
        assert!(reasons[2].contains("\"good\" is no number") && reasons[3].contains("rating: it is missing"));
    }

    #[test]
    fn the_older_form_has_no_header_and_latin_letters() {
        let data = b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n";
        let parsed = parse(RatingsFile::Data("u.data".into()), data);
        assert_eq!((parsed.ratings.len(), parsed.ratings[1].rating), (2, 3.0));
        let item = b"1|Am\xe9lie|01-Jan-1995||http://x|0|0|0|0|0|1|0|0|0|0|0|0|0|0|1|0|0|0|0\n";
        let parsed = parse(RatingsFile::Item("u.item".into()), item);
        assert_eq!(parsed.tracks[0].name.as_deref(), Some("Am\u{e9}lie"));
        assert_eq!(genres(&parsed, 0), ["Comedy", "Romance"]);
    }

    #[test]
    fn a_table_of_ones_own_may_name_its_tracks() {
        let text = b"track,user,rating,time,name,artist,genres\na,u,5,2024-05-01T10:00:00Z,Alpha,Band,rock|live\na,v,1,1700000000,,,\n";
        let parsed = parse(RatingsFile::Table("mine.csv".into()), text);
        assert_eq!((parsed.ratings.len(), parsed.tracks.len()), (2, 1));
        let artist = parsed.tracks[0].artist.as_ref().and_then(|artist| artist.name.as_deref());
        assert_eq!(artist, Some("Band"));
        assert_eq!(genres(&parsed, 0), ["rock", "live"]);
        let bare = parse(RatingsFile::Table("mine.csv".into()), b"user_id,track_id,rating\nu,a,5\n");
        assert_eq!(bare.ratings[0].rated_at, OffsetDateTime::UNIX_EPOCH);
    }

    #[test]
    fn another_file_is_refused_and_told_what_is_missing() {
        let refused = |text: &[u8]| {
            let file = RatingsFile::Table("mine.csv".into());
            file.parse(text, SCALE).expect_err("refused").to_string()
        };
        assert!(refused(b"user,track,stars\nu,a,5\n").contains("no column rating in the header (user, track, stars)"));
        assert!(refused(b" \n").contains("empty"));
    }
}
