//! Ratings: MovieLens in its two forms, and tables of one's own.
//!
//! * `ratings.csv` and `movies.csv` of the MovieLens editions since 2014 (Harper and Konstan 2015), `u.data` and `u.item`
//!   of ml-100k. Users are imported as `movielens:user:<id>`, films as tracks `movielens:movie:<id>`.
//! * A CSV file with a header that names at least user, track and rating.
//!
//! A row that can't be read is skipped and listed. A file whose header is another is refused whole.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use time::OffsetDateTime;

use super::engine::{FileToRead, HandOver, ImportBatch, Writer, import_files};
use super::error::{ImportError, ReadError};
use super::report::{ImportReport, Reject, Skipped};
use super::source::{BytesRead, Source};
use super::table::{CSV, Dialect, Row, Table};
use crate::catalog::lines::genres_of;
use crate::catalog::{
    ArtistRecord, Catalog, CatalogError, NamedRows, RatingRecord, RatingScale, RatingsOutcome, TrackId, TrackRecord,
    UserId, feedback_time,
};
use crate::progress::{Interrupt, thousands};

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

/// Rows of a file of ratings.
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
    import_ratings_naming(catalog, files, scale, None, rejects, interrupt).await
}

/// The same, and adds all ratings to `named`.
pub async fn import_ratings_naming(
    catalog: &Catalog,
    files: Vec<RatingsFile>,
    scale: RatingScale,
    named: Option<&mut NamedRows>,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport<RatingsOutcome>, ImportError> {
    let off_scale = Arc::new(Mutex::new(None));
    let reads = files.into_iter().map(|file| {
        let off_scale = off_scale.clone();
        FileToRead {
            file: file.path().to_owned(),
            read: Box::new(move |path: &Path, count: &BytesRead, hand_over: HandOver<'_, ParsedRatings>| {
                let mut reader = Reader::new(path, scale, hand_over);
                let outcome = file.read(Source::open(path, count)?, &mut reader);
                if let Ok(mut range) = off_scale.lock() {
                    *range = [*range, reader.off_scale].into_iter().flatten().reduce(Range::and);
                }
                // The rows before the place where a file turned out bad are good.
                reader.flush().and(outcome)
            }),
            stops_within: true,
        }
    });
    let mut report = import_files(catalog, reads.collect(), named, rejects, interrupt).await?;
    if let Some(range) = off_scale.lock().ok().and_then(|range| *range) {
        report.hint = Some(range.hint(scale));
    }
    Ok(report)
}

impl ImportBatch for ParsedRatings {
    type Outcome = RatingsOutcome;

    async fn write(&mut self, writer: &mut Writer) -> Result<(RatingsOutcome, Vec<Reject>), CatalogError> {
        let is_empty = self.rows() == 0;
        let outcome = match is_empty {
            true => RatingsOutcome::default(),
            false => writer.catalog.import_ratings(&self.tracks, &self.ratings).await?,
        };
        Ok((outcome, std::mem::take(&mut self.rejects)))
    }

    async fn name(&self, named: &mut NamedRows) -> Result<(), CatalogError> {
        named.add_ratings(&self.ratings).await
    }

    fn rows(&self) -> usize {
        // Films come without ratings, and tracks of one's own with them.
        if self.ratings.is_empty() { self.tracks.len() } else { self.ratings.len() }
    }
}

/// The lowest and highest of some ratings.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    lowest: f32,
    highest: f32,
    count: u64,
}

impl Range {
    fn and(self, other: Self) -> Self {
        Self {
            lowest: self.lowest.min(other.lowest),
            highest: self.highest.max(other.highest),
            count: self.count + other.count,
        }
    }

    /// Which flags would read ratings that are not on `scale`.
    fn hint(self, scale: RatingScale) -> String {
        let mut flags = Vec::new();
        if self.lowest < scale.lowest {
            flags.push(format!("--lowest {}", self.lowest));
        }
        if self.highest > scale.highest {
            flags.push(format!("--highest {}", self.highest));
        }
        let (lowest, highest) = (scale.lowest, scale.highest);
        let ratings = thousands(self.count);
        format!("{ratings} ratings are not on the scale from {lowest} to {highest}: {} accepts them", flags.join(" "))
    }
}

/// What rows are read into.
pub struct Reader<'a> {
    file: PathBuf,
    scale: RatingScale,
    hand_over: HandOver<'a, ParsedRatings>,
    batch: ParsedRatings,
    /// where in the batch a track is described
    places: HashMap<TrackId, usize>,
    /// what the file has said of tracks so far; of several rows about one the first that says something counts
    described: HashMap<TrackId, Described>,
    off_scale: Option<Range>,
}

/// Which fields of a track a file has stated.
#[derive(Debug, Clone, Copy, Default)]
struct Described {
    name: bool,
    artist: bool,
    genres: bool,
}

impl<'a> Reader<'a> {
    /// For the rows of `file`; `hand_over` gets them a batch at a time.
    pub fn new(file: &Path, scale: RatingScale, hand_over: HandOver<'a, ParsedRatings>) -> Self {
        Self {
            file: file.to_owned(),
            scale,
            hand_over,
            batch: ParsedRatings::default(),
            places: HashMap::new(),
            described: HashMap::new(),
            off_scale: None,
        }
    }

    /// Hands every row of `table` to `each`; what it refuses is listed with its reason.
    fn rows<R: BufRead>(
        &mut self,
        mut table: Table<R>,
        mut each: impl FnMut(&mut Self, Row<'_>) -> Result<(), String>,
    ) -> Result<(), ReadError> {
        while let Some((at, row)) = table.next_row()? {
            if let Err(reason) = row.and_then(|row| each(self, row)) {
                let item = format!("row {}", at.number);
                self.batch.rejects.push(Reject::new(Skipped::Row, &self.file, at.offset, item, reason));
            }
            let ParsedRatings { tracks, ratings, rejects } = &self.batch;
            if tracks.len() >= TRACKS_BATCH || ratings.len() >= RATINGS_BATCH || rejects.len() >= TRACKS_BATCH {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Hands over what there is.
    pub fn flush(&mut self) -> Result<(), ReadError> {
        self.places.clear();
        let batch = std::mem::take(&mut self.batch);
        if batch.rows() == 0 && batch.rejects.is_empty() {
            return Ok(());
        }
        (self.hand_over)(batch)
    }

    /// Takes what a row says of a track, less what an earlier one said.
    fn describe(&mut self, track: TrackRecord) {
        let known = self.described.entry(track.id.clone()).or_default();
        let name = track.name.filter(|_| !std::mem::replace(&mut known.name, true));
        let artist = track.artist.filter(|_| !std::mem::replace(&mut known.artist, true));
        let genres = track.genres.filter(|_| !std::mem::replace(&mut known.genres, true));
        if name.is_none() && artist.is_none() && genres.is_none() {
            return;
        }
        match self.places.get(&track.id) {
            Some(&place) => {
                let record = &mut self.batch.tracks[place];
                record.name = record.name.take().or(name);
                record.artist = record.artist.take().or(artist);
                record.genres = record.genres.take().or(genres);
            }
            None => {
                self.places.insert(track.id.clone(), self.batch.tracks.len());
                self.batch.tracks.push(TrackRecord { name, artist, genres, ..TrackRecord::bare(track.id) });
            }
        }
    }

    fn rating(&mut self, row: Row<'_>, column: usize) -> Result<f32, String> {
        let rating = row.number(column)?;
        self.scale.check(rating).map_err(|reason| {
            if rating.is_finite() {
                let range = Range { lowest: rating, highest: rating, count: 1 };
                self.off_scale = Some(self.off_scale.map_or(range, |known| known.and(range)));
            }
            format!("rating: {reason}, not \"{rating}\"")
        })
    }

    /// Takes a rating.
    fn rate(&mut self, row: Row<'_>, columns: RatingColumns, now: OffsetDateTime) -> Result<(), String> {
        // Without a time a rating is as old as can be: whatever is stated with one is newer.
        let time = columns.time.map_or(Ok(None), |time| row.time(time))?;
        let rated_at = match time {
            None => OffsetDateTime::UNIX_EPOCH,
            Some(time) => feedback_time(time, now).map_err(|reason| format!("{}: {reason}", columns.time_name))?,
        };
        let record = RatingRecord {
            user: row.prefixed_id(columns.user, columns.user_prefix, UserId::new)?,
            track: row.prefixed_id(columns.track, columns.track_prefix, TrackId::new)?,
            rating: self.rating(row, columns.rating)?,
            rated_at,
        };
        self.batch.ratings.push(record);
        Ok(())
    }
}

/// Where a rating's parts are.
#[derive(Clone, Copy)]
struct RatingColumns {
    user: usize,
    user_prefix: &'static str,
    track: usize,
    track_prefix: &'static str,
    rating: usize,
    time: Option<usize>,
    time_name: &'static str,
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

    /// Returns all rows of the file's content, and whether it could be read to its end.
    pub fn parse<R: BufRead>(&self, source: Source<R>, scale: RatingScale) -> (ParsedRatings, Result<(), ReadError>) {
        let mut parsed = ParsedRatings::default();
        let mut hand_over = |batch: ParsedRatings| {
            parsed.tracks.extend(batch.tracks);
            parsed.ratings.extend(batch.ratings);
            parsed.rejects.extend(batch.rejects);
            Ok(())
        };
        let mut reader = Reader::new(self.path(), scale, &mut hand_over);
        let outcome = self.read(source, &mut reader);
        let outcome = reader.flush().and(outcome);
        (parsed, outcome)
    }

    /// Reads the file's content into `reader`.
    ///
    /// # Errors
    ///
    /// When it is not in its format, or can't be read further.
    pub fn read<R: BufRead>(&self, mut source: Source<R>, reader: &mut Reader<'_>) -> Result<(), ReadError> {
        if source.peek()?.is_empty() {
            return Err(source.refuse("the file is empty").into());
        }
        let now = OffsetDateTime::now_utc();
        match self {
            Self::Movies(_) => {
                let table = Table::with_header(source, CSV)?;
                let (id, title) = (table.column(&["movieId"])?, table.column(&["title"])?);
                let genres = table.column(&["genres"])?;
                reader.rows(table, |reader, row| {
                    let genres = row.text(genres)?;
                    let genres = genres.split(GENRE_SEPARATOR).filter(|genre| *genre != NO_GENRES);
                    reader.film(film(row, id, title, genres)?);
                    Ok(())
                })
            }
            Self::Item(_) => {
                let dialect = Dialect { delimiter: b'|', has_quotes: false };
                let table = Table::without_header(source, dialect, &["movieId", "title"], 0);
                reader.rows(table, |reader, row| {
                    let first = row.fields().checked_sub(ITEM_GENRES.len()).filter(|&first| first >= 2);
                    let first = first.ok_or("it has not the columns of u.item")?;
                    let genres = (first..).zip(ITEM_GENRES).skip(1);
                    let mut named = Vec::new();
                    for (column, name) in genres {
                        if row.text(column)? == "1" {
                            named.push(name);
                        }
                    }
                    reader.film(film(row, 0, 1, named.into_iter())?);
                    Ok(())
                })
            }
            Self::Ratings(_) => {
                let table = Table::with_header(source, CSV)?;
                let columns = RatingColumns {
                    user: table.column(&["userId"])?,
                    track: table.column(&["movieId"])?,
                    rating: table.column(&["rating"])?,
                    time: Some(table.column(&["timestamp"])?),
                    ..MOVIELENS
                };
                reader.rows(table, |reader, row| reader.rate(row, columns, now))
            }
            Self::Data(_) => {
                let dialect = Dialect { delimiter: b'\t', has_quotes: false };
                let header = ["userId", "movieId", "rating", "timestamp"];
                let table = Table::without_header(source, dialect, &header, header.len());
                reader.rows(table, |reader, row| reader.rate(row, MOVIELENS, now))
            }
            Self::Table(_) => read_table(Table::with_header(source, CSV)?, reader, now),
        }
    }
}

/// The columns of `u.data`.
const MOVIELENS: RatingColumns = RatingColumns {
    user: 0,
    user_prefix: "movielens:user:",
    track: 1,
    track_prefix: FILM,
    rating: 2,
    time: Some(3),
    time_name: "timestamp",
};

impl Reader<'_> {
    /// Takes a film, which is a track even if nothing is known of it but its id.
    fn film(&mut self, film: TrackRecord) {
        if !self.described.contains_key(&film.id) {
            self.places.insert(film.id.clone(), self.batch.tracks.len());
            self.batch.tracks.push(TrackRecord::bare(film.id.clone()));
        }
        self.describe(film);
    }
}

/// A film as a track.
fn film<'a>(
    row: Row<'_>,
    id: usize,
    title: usize,
    genres: impl Iterator<Item = &'a str>,
) -> Result<TrackRecord, String> {
    let id = row.prefixed_id(id, FILM, TrackId::new)?;
    let title = row.stated(title)?.unwrap_or_default();
    let genres: Vec<&str> = genres.collect();
    let genres = genres_of(&genres).map_err(|reason| format!("genres: {reason}"))?;
    Ok(TrackRecord { genres, ..TrackRecord::named(id, &title) })
}

fn read_table<R: BufRead>(table: Table<R>, reader: &mut Reader<'_>, now: OffsetDateTime) -> Result<(), ReadError> {
    const TIMES: [&str; 3] = ["rated_at", "timestamp", "time"];
    let time = TIMES.into_iter().find_map(|name| table.column(&[name]).ok().map(|column| (column, name)));
    let columns = RatingColumns {
        user: table.column(&["user_id", "user", "userId"])?,
        user_prefix: "",
        track: table.column(&["track_id", "track", "trackId", "item_id", "item"])?,
        track_prefix: "",
        rating: table.column(&["rating"])?,
        time: time.map(|(column, _)| column),
        time_name: time.map_or("", |(_, name)| name),
    };
    let name = table.column(&["track_name", "name", "title"]).ok();
    let artist = table.column(&["artist_name", "artist"]).ok();
    let genres = table.column(&["genres", "genre"]).ok();
    reader.rows(table, |reader, row| {
        let stated = |column: Option<usize>| column.map_or(Ok(None), |column| row.stated(column));
        let (name, artist) = (stated(name)?, stated(artist)?);
        let genres = match genres {
            None => None,
            Some(column) => {
                let genres = genres_of(&row.text(column)?.split(GENRE_SEPARATOR).collect::<Vec<&str>>());
                genres.map_err(|reason| format!("genres: {reason}"))?
            }
        };
        reader.rate(row, columns, now)?;
        if name.is_some() || artist.is_some() || genres.is_some() {
            let id = row.id(columns.track, TrackId::new)?;
            let track = TrackRecord::named(id, name.as_deref().unwrap_or_default());
            reader.describe(TrackRecord { artist: ArtistRecord::stated(None, artist.as_deref()), genres, ..track });
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: RatingScale = RatingScale { lowest: 0.5, highest: 5.0 };

    fn read(file: &RatingsFile, text: &[u8]) -> Result<ParsedRatings, ReadError> {
        let (parsed, outcome) = file.parse(Source::new(text), SCALE);
        outcome.map(|()| parsed)
    }

    fn parse(file: RatingsFile, text: &[u8]) -> ParsedRatings {
        read(&file, text).expect("parses")
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
        assert_eq!(reasons[0], "row 2 at 51: rating: must be a number from 0.5 to 5, not \"9\"");
        assert_eq!(reasons[1], "row 3 at 59: movieId: must not be empty");
        assert!(
            reasons[2].contains("must be a number, not \"good\"") && reasons[3].contains("2 fields; the header has 4")
        );
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
            read(&file, text).expect_err("refused").to_string()
        };
        assert!(refused(b"user,track,stars\nu,a,5\n").contains("no column rating in the header (user, track, stars)"));
        assert!(refused(b" \n").contains("empty"));
    }
}
