//! The WSDM Cup 2018 data of KKBox: who listened to what from where in the app, and who came back within a month.
//!
//! A folder holds `train.csv` and any of `test.csv`, `members.csv`, `songs.csv`, `song_extra_info.csv`, plain or gzip.
//! Their rows come in the order of time but without times: a listen's time here is the number of its row, in seconds
//! from the beginning of 1970 for `train.csv` and of 1980 for `test.csv`, which comes after it.
//!
//! Files are read as streams, a batch at a time. What is odd in the published files is taken as it is meant: ages outside
//! of 1 to 74 (0, −43, 1051) are no ages, titles may hold line breaks within quotes, lists are parted by `|`, and most
//! songs listened to are described nowhere.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder};
use time::{Date, Duration, Month, OffsetDateTime};

use super::engine::{FileToRead, HandOver, ImportBatch, import_files};
use super::error::{FormatError, ImportError, ReadError};
use super::report::{ImportReport, Reject};
use super::source::{BytesRead, open_unpacked};
use crate::catalog::columns::{clean, in_field, name};
use crate::catalog::{
    ArtistRecord, Catalog, CatalogError, ListenRecord, ListensOutcome, RecordingRecord, SongRecord, TextError, TrackId,
    TrackRecord, UserId, UserRecord,
};
use crate::progress::Interrupt;

/// Rows written in one transaction.
pub const BATCH: usize = 20_000;
/// Ages that are believed.
const AGES: std::ops::RangeInclusive<i16> = 1..=74;
/// Parts the members of a list.
const LIST_SEPARATOR: char = '|';
/// When `test.csv` begins: after any `train.csv`, of which a row is a second.
const TEST_BEGIN: Duration = Duration::days(3_652);
/// Most members of a list that are kept.
const LONGEST_LIST: usize = 32;

/// A file of the data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KkboxFile {
    /// `members.csv`
    Members(PathBuf),
    /// `songs.csv`
    Songs(PathBuf),
    /// `song_extra_info.csv`
    Recordings(PathBuf),
    /// `train.csv`
    Train(PathBuf),
    /// `test.csv`
    Test(PathBuf),
}

/// Rows for the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KkboxRows {
    /// of `members.csv`
    Users(Vec<UserRecord>),
    /// of `songs.csv`
    Songs(Vec<SongRecord>),
    /// of `song_extra_info.csv`
    Recordings(Vec<RecordingRecord>),
    /// of `train.csv` and `test.csv`
    Listens(Vec<ListenRecord>),
}

/// A batch of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KkboxBatch {
    /// rows, each id once
    pub rows: KkboxRows,
    /// rows skipped
    pub rejects: Vec<Reject>,
}

/// The files of a folder: users and tracks first, so that listens find them described.
pub fn find_kkbox(folder: &Path) -> Result<Vec<KkboxFile>, ImportError> {
    let refuse = |reason: &str| ImportError::Path { path: folder.to_owned(), reason: reason.to_owned() };
    if !folder.is_dir() {
        return Err(refuse("this is no folder"));
    }
    let there =
        |name: &str| [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file());
    let train = there("train.csv").ok_or_else(|| refuse("train.csv is not in this folder"))?;
    let files = [
        there("members.csv").map(KkboxFile::Members),
        there("songs.csv").map(KkboxFile::Songs),
        there("song_extra_info.csv").map(KkboxFile::Recordings),
        Some(KkboxFile::Train(train)),
        there("test.csv").map(KkboxFile::Test),
    ];
    Ok(files.into_iter().flatten().collect())
}

/// Imports a folder of the data set.
///
/// `rejects` is where skipped rows are listed. An interrupt stops after the batch in progress.
pub async fn import_kkbox(
    catalog: &Catalog,
    folder: &Path,
    rejects: &Path,
    interrupt: &Interrupt,
) -> Result<ImportReport<ListensOutcome>, ImportError> {
    let reads = find_kkbox(folder)?.into_iter().map(|file| FileToRead {
        file: file.path().to_owned(),
        read: Box::new(move |_: &Path, count: &BytesRead, hand_over: HandOver<'_, KkboxBatch>| {
            file.read(count, hand_over)
        }),
        stops_within: true,
    });
    import_files(catalog, reads.collect(), rejects, interrupt).await
}

impl ImportBatch for KkboxBatch {
    type Outcome = ListensOutcome;

    async fn write(self, catalog: &Catalog) -> Result<(ListensOutcome, Vec<Reject>), CatalogError> {
        let outcome = match &self.rows {
            KkboxRows::Users(users) => catalog.import_users(users).await?,
            KkboxRows::Songs(songs) => catalog.import_songs(songs).await?,
            KkboxRows::Recordings(recordings) => catalog.import_recordings(recordings).await?,
            KkboxRows::Listens(listens) => catalog.import_listens(listens).await?,
        };
        Ok((outcome, self.rejects))
    }

    fn is_empty(&self) -> bool {
        match &self.rows {
            KkboxRows::Users(rows) => rows.is_empty(),
            KkboxRows::Songs(rows) => rows.is_empty(),
            KkboxRows::Recordings(rows) => rows.is_empty(),
            KkboxRows::Listens(rows) => rows.is_empty(),
        }
    }
}

impl KkboxFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Members(path) | Self::Songs(path) | Self::Recordings(path) | Self::Train(path) | Self::Test(path) => {
                path
            }
        }
    }

    /// Hands over the file's rows a batch at a time. `count` learns how much was read.
    ///
    /// # Errors
    ///
    /// When it is not in its format, or can't be read further; the rows before are handed over all the same.
    pub fn read(&self, count: &BytesRead, hand_over: HandOver<'_, KkboxBatch>) -> Result<(), ReadError> {
        match self {
            Self::Members(path) => {
                let mut table = Table::open(path, count)?;
                let columns = table.columns([
                    "msno",
                    "city",
                    "bd",
                    "gender",
                    "registered_via",
                    "registration_init_time",
                    "expiration_date",
                ])?;
                table.rows(KkboxRows::Users, |user| user.id.to_string(), |row| member(row, columns), hand_over)
            }
            Self::Songs(path) => {
                let mut table = Table::open(path, count)?;
                let columns = table.columns([
                    "song_id",
                    "song_length",
                    "genre_ids",
                    "artist_name",
                    "composer",
                    "lyricist",
                    "language",
                ])?;
                let id = |song: &SongRecord| song.track.id.to_string();
                table.rows(KkboxRows::Songs, id, |row| song(row, columns), hand_over)
            }
            Self::Recordings(path) => {
                let mut table = Table::open(path, count)?;
                let columns = table.columns(["song_id", "name", "isrc"])?;
                table.rows(
                    KkboxRows::Recordings,
                    |one| one.track.id.to_string(),
                    |row| recording(row, columns),
                    hand_over,
                )
            }
            Self::Train(path) => {
                let mut table = Table::open(path, count)?;
                let columns = table.columns(LISTEN_COLUMNS)?;
                let target = table.columns(["target"])?[0];
                let each = |row: &Row<'_>| listen(row, columns, Some(target), Duration::ZERO);
                table.rows(KkboxRows::Listens, |_| String::new(), each, hand_over)
            }
            Self::Test(path) => {
                let mut table = Table::open(path, count)?;
                let columns = table.columns(LISTEN_COLUMNS)?;
                let each = |row: &Row<'_>| listen(row, columns, None, TEST_BEGIN);
                table.rows(KkboxRows::Listens, |_| String::new(), each, hand_over)
            }
        }
    }
}

const LISTEN_COLUMNS: [&str; 5] = ["msno", "song_id", "source_system_tab", "source_screen_name", "source_type"];

fn member(row: &Row<'_>, columns: [usize; 7]) -> Result<UserRecord, String> {
    let age = row.optional(columns[2])?.and_then(|age| age.parse::<i16>().ok()).filter(|age| AGES.contains(age));
    Ok(UserRecord {
        id: row.id(columns[0], UserId::new)?,
        city: row.optional(columns[1])?,
        age,
        gender: row.optional(columns[3])?,
        registered_via: row.optional(columns[4])?,
        registered_on: row.date(columns[5])?,
        expires_on: row.date(columns[6])?,
    })
}

fn song(row: &Row<'_>, columns: [usize; 7]) -> Result<SongRecord, String> {
    let id = row.id(columns[0], TrackId::new)?;
    let duration_ms = match row.optional(columns[1])? {
        None => None,
        Some(length) => Some(row.parsed::<i32>(columns[1], &length, "a length in milliseconds")?.max(0)),
    };
    let artist = ArtistRecord::stated(None, row.optional(columns[3])?.as_deref());
    // The title comes with the recording code.
    let track = TrackRecord::bare(id).by(artist).of_genres(row.list(columns[2])?);
    Ok(SongRecord {
        track: TrackRecord { duration_ms, ..track },
        // The published file has them as decimals: 52.0
        language: row.optional(columns[6])?.map(|language| language.trim_end_matches(".0").to_owned()),
        composers: row.list(columns[4])?,
        lyricists: row.list(columns[5])?,
    })
}

fn recording(row: &Row<'_>, columns: [usize; 3]) -> Result<RecordingRecord, String> {
    Ok(RecordingRecord {
        track: TrackRecord::named(
            row.id(columns[0], TrackId::new)?,
            row.optional(columns[1])?.as_deref().unwrap_or_default(),
        ),
        isrc: row.optional(columns[2])?,
    })
}

fn listen(row: &Row<'_>, columns: [usize; 5], target: Option<usize>, begin: Duration) -> Result<ListenRecord, String> {
    let target = match target {
        None => None,
        Some(column) => match row.text(column)?.trim() {
            "1" => Some(true),
            "0" => Some(false),
            other => return Err(format!("target: {other:?}, expected 0 or 1")),
        },
    };
    Ok(ListenRecord {
        user: row.id(columns[0], UserId::new)?,
        track: row.id(columns[1], TrackId::new)?,
        listened_at: OffsetDateTime::UNIX_EPOCH + begin + Duration::seconds(row.number as i64),
        source_system_tab: row.optional(columns[2])?,
        source_screen_name: row.optional(columns[3])?,
        source_type: row.optional(columns[4])?,
        target,
    })
}

/// A CSV file with a header, read from its beginning to its end.
struct Table {
    path: PathBuf,
    reader: Reader<Box<dyn Read + Send>>,
    header: Vec<String>,
}

impl Table {
    fn open(path: &Path, count: &BytesRead) -> Result<Self, FormatError> {
        let at_start = |reason: String| FormatError { offset: 0, reason };
        let bytes = open_unpacked(path, count).map_err(|error| at_start(format!("can't be read: {error}")))?;
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(bytes);
        let header = reader.byte_headers().map_err(|error| at_start(format!("the header can't be read: {error}")))?;
        let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().trim_start_matches('\u{feff}').to_owned();
        let header: Vec<String> = header.iter().map(name).collect();
        Ok(Self { path: path.to_owned(), reader, header })
    }

    /// Where the columns of these names are.
    fn columns<const N: usize>(&self, names: [&str; N]) -> Result<[usize; N], FormatError> {
        let mut columns = [0; N];
        for (column, name) in columns.iter_mut().zip(names) {
            *column = self.header.iter().position(|column| column == name).ok_or_else(|| FormatError {
                offset: 0,
                reason: format!("no column {name} in the header ({})", self.header.join(", ")),
            })?;
        }
        Ok(columns)
    }

    /// Hands the rows that `each` makes over, a batch at a time. Within a batch a row's `id` is there once, unless it is
    /// empty: of several with one id the last one is right.
    fn rows<T>(
        &mut self,
        wrap: impl Fn(Vec<T>) -> KkboxRows,
        id: impl Fn(&T) -> String,
        each: impl Fn(&Row<'_>) -> Result<T, String>,
        hand_over: HandOver<'_, KkboxBatch>,
    ) -> Result<(), ReadError> {
        let (mut record, mut number) = (ByteRecord::new(), 0u64);
        let (mut rows, mut ids, mut rejects) = (Vec::new(), HashSet::new(), Vec::new());
        loop {
            let begin = self.reader.position().byte();
            let is_full = rows.len() >= BATCH || rejects.len() >= BATCH;
            let parsed = match self.reader.read_byte_record(&mut record) {
                Ok(false) => break,
                Ok(true) => each(&Row { record: &record, header: &self.header, number }),
                Err(error) => {
                    hand_over(KkboxBatch { rows: wrap(rows), rejects })?;
                    return Err(FormatError { offset: begin, reason: format!("can't be read: {error}") }.into());
                }
            };
            let row = match parsed {
                Ok(row) => row,
                Err(reason) => {
                    let offset = record.position().map_or(begin, csv::Position::byte);
                    rejects.push(Reject {
                        file: self.path.clone(),
                        offset,
                        item: format!("row {}", number + 1),
                        reason,
                    });
                    number += 1;
                    continue;
                }
            };
            number += 1;
            let key = id(&row);
            if is_full || (!key.is_empty() && ids.contains(&key)) {
                ids.clear();
                let (rows, rejects) = (std::mem::take(&mut rows), std::mem::take(&mut rejects));
                hand_over(KkboxBatch { rows: wrap(rows), rejects })?;
            }
            ids.insert(key);
            rows.push(row);
        }
        hand_over(KkboxBatch { rows: wrap(rows), rejects })
    }
}

/// A row of a table; errors name the column.
struct Row<'a> {
    record: &'a ByteRecord,
    header: &'a [String],
    /// its number, from 0
    number: u64,
}

impl Row<'_> {
    fn name(&self, column: usize) -> &str {
        self.header.get(column).map_or("a column", String::as_str)
    }

    fn text(&self, column: usize) -> Result<Cow<'_, str>, String> {
        let bytes = self.record.get(column).ok_or_else(|| format!("{}: it is missing", self.name(column)))?;
        std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| format!("{}: not UTF-8", self.name(column)))
    }

    /// A text that may be empty, which says nothing.
    fn optional(&self, column: usize) -> Result<Option<String>, String> {
        let text = self.text(column)?;
        let text = text.trim();
        match text.is_empty() {
            true => Ok(None),
            false => Ok(Some(name(self.name(column), text).map(|text| clean(&text))?)),
        }
    }

    fn id<T>(&self, column: usize, new: impl FnOnce(String) -> Result<T, TextError>) -> Result<T, String> {
        in_field(self.name(column), new(self.text(column)?.trim().to_owned()))
    }

    fn list(&self, column: usize) -> Result<Vec<String>, String> {
        let text = clean(&self.text(column)?);
        let members = text.split(LIST_SEPARATOR).map(str::trim).filter(|member| !member.is_empty());
        Ok(members.take(LONGEST_LIST).map(ToOwned::to_owned).collect())
    }

    fn parsed<T: std::str::FromStr>(&self, column: usize, text: &str, what: &str) -> Result<T, String> {
        text.parse().map_err(|_| format!("{}: {text:?} is not {what}", self.name(column)))
    }

    /// A day as YYYYMMDD.
    fn date(&self, column: usize) -> Result<Option<Date>, String> {
        let Some(text) = self.optional(column)? else { return Ok(None) };
        let refuse = || format!("{}: {text:?} is no day as YYYYMMDD", self.name(column));
        let number: u32 = text.parse().ok().filter(|_| text.len() == 8).ok_or_else(refuse)?;
        let month = u8::try_from(number / 100 % 100).ok().and_then(|month| Month::try_from(month).ok());
        let date = Date::from_calendar_date((number / 10_000) as i32, month.ok_or_else(refuse)?, (number % 100) as u8);
        date.map(Some).map_err(|_| refuse())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(make: fn(PathBuf) -> KkboxFile, text: &[u8]) -> (Vec<KkboxRows>, Vec<Reject>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.csv");
        std::fs::write(&path, text).expect("written");
        let (mut rows, mut rejects) = (Vec::new(), Vec::new());
        let outcome = make(path).read(&BytesRead::default(), &mut |batch| {
            rows.push(batch.rows);
            rejects.extend(batch.rejects);
            Ok(())
        });
        outcome.expect("it is in its format");
        (rows, rejects)
    }

    #[test]
    fn ages_that_can_not_be_are_none_and_days_are_days() {
        let text = b"msno,city,bd,gender,registered_via,registration_init_time,expiration_date\n\
            a,1,0,,7,20110820,20170920\nb,13,1051,female,9,20110820,20171399\nc,13,24,female,9,20110820,20170930\n";
        let (rows, rejects) = read(KkboxFile::Members, text);
        let KkboxRows::Users(users) = &rows[0] else { panic!("users") };
        assert_eq!(users.iter().map(|user| user.age).collect::<Vec<_>>(), [None, Some(24)]);
        assert_eq!(users[1].expires_on.map(|date| date.to_string()).as_deref(), Some("2017-09-30"));
        assert_eq!(users[0].gender, None);
        assert_eq!(rejects.len(), 1);
        assert_eq!((rejects[0].item.as_str(), rejects[0].offset), ("row 2", 101));
        assert!(rejects[0].reason.starts_with("expiration_date: \"20171399\""), "{}", rejects[0].reason);
    }

    #[test]
    fn titles_may_hold_line_breaks_and_lists_are_parted_by_bars() {
        let text = "song_id,name,isrc\ns1,\"two\nlines, and a comma\",TWUM71200043\ns2,plain,\n".as_bytes();
        let (rows, rejects) = read(KkboxFile::Recordings, text);
        let KkboxRows::Recordings(recordings) = &rows[0] else { panic!("recordings") };
        assert_eq!((recordings.len(), rejects.len()), (2, 0));
        assert_eq!(recordings[0].track.name.as_deref(), Some("two\nlines, and a comma"));
        assert_eq!(recordings[1].isrc, None);

        let text = "song_id,song_length,genre_ids,artist_name,composer,lyricist,language\n\
            s1,247640,465|1259,\"張信哲 (Jeff Chang)\",A|B ,,3.0\ns2,,,,,,\ns3,long,,,,,\n";
        let (rows, rejects) = read(KkboxFile::Songs, text.as_bytes());
        let KkboxRows::Songs(songs) = &rows[0] else { panic!("songs") };
        assert_eq!(songs[0].track.genres.as_deref(), Some(&["465".to_owned(), "1259".to_owned()][..]));
        assert_eq!(songs[0].composers, ["A", "B"]);
        assert_eq!((songs[0].language.as_deref(), songs[1].language.as_deref()), (Some("3"), None));
        assert!(rejects[0].reason.contains("song_length: \"long\""), "{rejects:?}");
    }

    #[test]
    fn the_order_of_rows_is_the_order_of_times_and_a_row_that_is_left_out_leaves_its_place() {
        let text = b"msno,song_id,source_system_tab,source_screen_name,source_type,target\n\
            u,s1,explore,Explore,online-playlist,1\nu,s2,,,,2\nu,s1,my library,,local-library,0\n";
        let (rows, rejects) = read(KkboxFile::Train, text);
        let KkboxRows::Listens(listens) = &rows[0] else { panic!("listens") };
        let seconds: Vec<i64> = listens.iter().map(|listen| listen.listened_at.unix_timestamp()).collect();
        assert_eq!(seconds, [0, 2]);
        assert_eq!((listens[1].target, listens[1].source_screen_name.as_deref()), (Some(false), None));
        assert!(rejects[0].reason.contains("target: \"2\""), "{rejects:?}");

        let text = b"id,msno,song_id,source_system_tab,source_screen_name,source_type\n0,u,s1,explore,Explore,radio\n";
        let KkboxRows::Listens(listens) = &read(KkboxFile::Test, text).0[0] else { panic!("listens") };
        assert_eq!((listens[0].target, listens[0].listened_at.year()), (None, 1980));
    }

    #[test]
    fn of_several_rows_of_one_id_the_last_one_is_written_last() {
        let text = b"song_id,name,isrc\na,one,\nb,two,\na,three,\n";
        let names: Vec<Vec<Option<String>>> = read(KkboxFile::Recordings, text)
            .0
            .into_iter()
            .map(|rows| match rows {
                KkboxRows::Recordings(rows) => rows.into_iter().map(|row| row.track.name).collect(),
                other => panic!("{other:?}"),
            })
            .collect();
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(names, [vec![name("one"), name("two")], vec![name("three")]]);
    }
}
