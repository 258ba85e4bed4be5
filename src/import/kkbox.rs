//! The WSDM Cup 2018 data of KKBox: who listened to what from where in the app, and who came back within a month.
//!
//! A folder holds `train.csv` and any of `test.csv`, `members.csv`, `songs.csv`, `song_extra_info.csv`, plain or gzip.
//! Their rows come in the order of time but without times: a listen's time here is the number of its row, in seconds
//! from the beginning of 1970 for `train.csv` and of 1980 for `test.csv`, which comes after it.
//!
//! Files are read as streams, a batch at a time. What is odd in the published files is taken as it is meant: ages outside
//! of 1 to 74 (0, −43, 1051) are no ages, titles may hold line breaks within quotes, lists are parted by `|`, and most
//! songs listened to are described nowhere.

use std::collections::HashSet;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use time::{Duration, OffsetDateTime};

use super::engine::{FileToRead, HandOver, ImportBatch, Writer, import_files};
use super::error::{FormatError, ImportError, ReadError};
use super::report::{ImportReport, Reject, Skipped};
use super::source::{BytesRead, Source};
use super::table::{CSV, Row, Table};
use crate::catalog::columns::{MAX_PEOPLE, count};
use crate::catalog::fields::whole_number;
use crate::catalog::lines::genres_of;
use crate::catalog::{
    ArtistRecord, Catalog, CatalogError, ListenRecord, ListensOutcome, RecordingRecord, SongRecord, TrackId,
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
        read: Box::new(move |path: &Path, count: &BytesRead, hand_over: HandOver<'_, KkboxBatch>| {
            file.read(Source::open(path, count)?, hand_over)
        }),
        stops_within: true,
    });
    import_files(catalog, reads.collect(), None, rejects, interrupt).await
}

impl ImportBatch for KkboxBatch {
    type Outcome = ListensOutcome;

    async fn write(&mut self, writer: &mut Writer) -> Result<(ListensOutcome, Vec<Reject>), CatalogError> {
        let outcome = match &self.rows {
            KkboxRows::Users(users) => writer.catalog.import_users(users).await?,
            KkboxRows::Songs(songs) => writer.catalog.import_songs(songs).await?,
            KkboxRows::Recordings(recordings) => writer.catalog.import_recordings(recordings).await?,
            KkboxRows::Listens(listens) => writer.catalog.import_listens(listens).await?,
        };
        Ok((outcome, std::mem::take(&mut self.rejects)))
    }

    fn rows(&self) -> usize {
        match &self.rows {
            KkboxRows::Users(rows) => rows.len(),
            KkboxRows::Songs(rows) => rows.len(),
            KkboxRows::Recordings(rows) => rows.len(),
            KkboxRows::Listens(rows) => rows.len(),
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

    /// Hands over the file's rows a batch at a time.
    ///
    /// # Errors
    ///
    /// When it is not in its format, or can't be read further; the rows before are handed over all the same.
    pub fn read<R: BufRead>(&self, source: Source<R>, hand_over: HandOver<'_, KkboxBatch>) -> Result<(), ReadError> {
        let (table, path) = (Table::with_header(source, CSV)?, self.path());
        match self {
            Self::Members(_) => {
                let columns = columns(
                    &table,
                    ["msno", "city", "bd", "gender", "registered_via", "registration_init_time", "expiration_date"],
                )?;
                read_rows(
                    path,
                    table,
                    KkboxRows::Users,
                    |user| user.id.as_str(),
                    |row, _| member(row, columns),
                    hand_over,
                )
            }
            Self::Songs(_) => {
                let columns = columns(
                    &table,
                    ["song_id", "song_length", "genre_ids", "artist_name", "composer", "lyricist", "language"],
                )?;
                read_rows(
                    path,
                    table,
                    KkboxRows::Songs,
                    |song| song.track.id.as_str(),
                    |row, _| song(row, columns),
                    hand_over,
                )
            }
            Self::Recordings(_) => {
                let columns = columns(&table, ["song_id", "name", "isrc"])?;
                read_rows(
                    path,
                    table,
                    KkboxRows::Recordings,
                    |one| one.track.id.as_str(),
                    |row, _| recording(row, columns),
                    hand_over,
                )
            }
            Self::Train(_) => {
                let columns = columns(&table, LISTEN_COLUMNS)?;
                let target = table.column(&["target"])?;
                let each = |row: Row<'_>, number| listen(row, number, columns, Some(target), Duration::ZERO);
                read_rows(path, table, KkboxRows::Listens, |_| "", each, hand_over)
            }
            Self::Test(_) => {
                let columns = columns(&table, LISTEN_COLUMNS)?;
                let each = |row: Row<'_>, number| listen(row, number, columns, None, TEST_BEGIN);
                read_rows(path, table, KkboxRows::Listens, |_| "", each, hand_over)
            }
        }
    }
}

/// Where the columns of these names are.
fn columns<R: BufRead, const N: usize>(table: &Table<R>, names: [&str; N]) -> Result<[usize; N], FormatError> {
    let mut columns = [0; N];
    for (column, name) in columns.iter_mut().zip(names) {
        *column = table.column(&[name])?;
    }
    Ok(columns)
}

const LISTEN_COLUMNS: [&str; 5] = ["msno", "song_id", "source_system_tab", "source_screen_name", "source_type"];

fn member(row: Row<'_>, columns: [usize; 7]) -> Result<UserRecord, String> {
    let age = row.text(columns[2])?;
    let age = whole_number(&age).and_then(|age| i16::try_from(age).ok()).filter(|age| AGES.contains(age));
    Ok(UserRecord {
        id: row.id(columns[0], UserId::new)?,
        city: row.code(columns[1])?,
        age,
        gender: row.stated(columns[3])?,
        registered_via: row.code(columns[4])?,
        registered_on: row.date(columns[5])?,
        expires_on: row.date(columns[6])?,
    })
}

fn song(row: Row<'_>, columns: [usize; 7]) -> Result<SongRecord, String> {
    let artist = ArtistRecord::stated(None, row.stated(columns[3])?.as_deref());
    let genres = genres_of(&row.list(columns[2], LIST_SEPARATOR, MAX_PEOPLE)?)?;
    // The title comes with the recording code.
    let track = TrackRecord::bare(row.id(columns[0], TrackId::new)?).by(artist);
    Ok(SongRecord {
        track: TrackRecord { genres, duration_ms: row.whole(columns[1], |length| count(length.max(0)))?, ..track },
        // The published file has them as decimals: 52.0
        language: row.code(columns[6])?,
        composers: row.list(columns[4], LIST_SEPARATOR, MAX_PEOPLE)?,
        lyricists: row.list(columns[5], LIST_SEPARATOR, MAX_PEOPLE)?,
    })
}

fn recording(row: Row<'_>, columns: [usize; 3]) -> Result<RecordingRecord, String> {
    let id = row.id(columns[0], TrackId::new)?;
    let title = row.stated(columns[1])?.unwrap_or_default();
    Ok(RecordingRecord { track: TrackRecord::named(id, &title), isrc: row.stated(columns[2])? })
}

fn listen(
    row: Row<'_>,
    number: u64,
    columns: [usize; 5],
    target: Option<usize>,
    begin: Duration,
) -> Result<ListenRecord, String> {
    let target = match target {
        None => None,
        Some(column) => match row.text(column)?.as_ref() {
            "1" => Some(true),
            "0" => Some(false),
            other => return Err(format!("target: must be 0 or 1, not {other:?}")),
        },
    };
    Ok(ListenRecord {
        user: row.id(columns[0], UserId::new)?,
        track: row.id(columns[1], TrackId::new)?,
        listened_at: OffsetDateTime::UNIX_EPOCH + begin + Duration::seconds(number as i64),
        source_system_tab: row.stated(columns[2])?,
        source_screen_name: row.stated(columns[3])?,
        source_type: row.stated(columns[4])?,
        target,
    })
}

/// Hands the rows that `each` makes over, a batch at a time. Within a batch a row's `id` is there once, unless it is empty:
/// of several with one id the last one is right.
fn read_rows<R: BufRead, T>(
    path: &Path,
    mut table: Table<R>,
    wrap: impl Fn(Vec<T>) -> KkboxRows,
    id: fn(&T) -> &str,
    each: impl Fn(Row<'_>, u64) -> Result<T, String>,
    hand_over: HandOver<'_, KkboxBatch>,
) -> Result<(), ReadError> {
    let (mut rows, mut ids, mut rejects) = (Vec::new(), HashSet::new(), Vec::new());
    loop {
        let (at, row) = match table.next_row() {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(error) => {
                hand_over(KkboxBatch { rows: wrap(rows), rejects })?;
                return Err(error.into());
            }
        };
        let is_full = rows.len() >= BATCH || rejects.len() >= BATCH;
        let row = match row.and_then(|row| each(row, at.number - 1)) {
            Ok(row) => Some(row),
            Err(reason) => {
                rejects.push(Reject::new(Skipped::Row, path, at.offset, format!("row {}", at.number), reason));
                None
            }
        };
        if is_full || row.as_ref().is_some_and(|row| !id(row).is_empty() && ids.contains(id(row))) {
            ids.clear();
            let (rows, rejects) = (std::mem::take(&mut rows), std::mem::take(&mut rejects));
            hand_over(KkboxBatch { rows: wrap(rows), rejects })?;
        }
        if let Some(row) = row {
            ids.insert(id(&row).to_owned());
            rows.push(row);
        }
    }
    hand_over(KkboxBatch { rows: wrap(rows), rejects })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(make: fn(PathBuf) -> KkboxFile, text: &[u8]) -> (Vec<KkboxRows>, Vec<Reject>) {
        let (mut rows, mut rejects) = (Vec::new(), Vec::new());
        let outcome = make("file.csv".into()).read(Source::new(text), &mut |batch: KkboxBatch| {
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
        assert!(rejects[0].reason.starts_with("expiration_date: must be a day as YYYYMMDD"), "{}", rejects[0].reason);
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
        assert!(rejects[0].reason.contains("song_length: must be a whole number, not \"long\""), "{rejects:?}");
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
        assert!(rejects[0].reason.contains("target: must be 0 or 1, not \"2\""), "{rejects:?}");

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
