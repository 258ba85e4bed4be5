//! `segue import`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use time::OffsetDateTime;
use time::macros::format_description;

use super::{Global, INTERRUPTED, ReportFormat};
use crate::catalog::{Catalog, ListensOutcome, RatingScale, RatingsOutcome};
use crate::import::deezer::DeezerOptions;
use crate::import::ndjson::NdjsonFiles;
use crate::import::{
    FailedFile, ImportReport, RatingsFile, find_movielens, import_deezer, import_kkbox, import_mpd, import_ndjson,
    import_ratings, import_yes_radio,
};
use crate::progress::Interrupt;

/// Formats that can be imported.
#[derive(Debug, Subcommand)]
pub enum ImportFormat {
    /// Slices of the Million Playlist Dataset: JSON, plain or gzip
    #[command(
        after_help = "Examples:\n  segue import mpd path/to/mpd/data\n  segue import mpd mpd.slice.0-999.json.gz mine.json\n\nNeeded in a file are playlists[].pid and tracks[] with track_uri, track_name and artist_name. A file that can't be\nread is refused whole; bad rows are skipped and listed in the rejects file. Importing again changes nothing."
    )]
    Mpd {
        /// Files, or folders of mpd.slice.*.json[.gz]
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// how to report
        #[command(flatten)]
        reporting: Reporting,
    },
    /// Your own tracks, users and playlists: JSON, one object a line, plain or gzip
    #[command(
        after_help = "Examples:\n  segue import ndjson --tracks tracks.ndjson --playlists playlists.ndjson\n  segue import ndjson --playlists /dev/stdin\n\nA line of each kind:\n  {\"id\": \"t1\", \"name\": \"So What\", \"artist\": \"Miles Davis\", \"album\": \"Kind of Blue\", \"duration_ms\": 562000}\n  {\"id\": \"u1\"}\n  {\"id\": \"p1\", \"user_id\": \"u1\", \"title\": \"late night jazz\", \"tracks\": [\"t1\", \"t2\"]}\n\nA playlist's tracks are ids of tracks that the catalog has, or objects as in the first line. Bad lines are skipped and\nlisted in the rejects file with their numbers. Importing again changes nothing."
    )]
    Ndjson {
        /// Files of tracks
        #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present_any = ["users", "playlists"])]
        tracks: Vec<PathBuf>,
        /// Files of users
        #[arg(long, value_name = "FILE", num_args = 1..)]
        users: Vec<PathBuf>,
        /// Files of playlists
        #[arg(long, value_name = "FILE", num_args = 1..)]
        playlists: Vec<PathBuf>,
        /// how to report
        #[command(flatten)]
        reporting: Reporting,
    },
    /// Deezer's playlists for word2vec: music_1.npy and music_2.npy, or the same as text, one playlist a line
    #[command(
        after_help = "Examples:\n  segue import deezer music_1.npy music_2.npy\n  segue import deezer --placeholder-artists ecommerce_sessions.npy\n\nA NumPy file must be an array of lists of texts. Its pickle is read, never run: what is not needed for such an array is\nrefused by name and position. Playlists are named after the file: music_1:0 and on."
    )]
    Deezer {
        /// Files
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Take files without artists: every second entry is a place-holder, and ids may be any text
        #[arg(long)]
        placeholder_artists: bool,
        /// how to report
        #[command(flatten)]
        reporting: Reporting,
    },
    /// Radio playlists of Yes.com: folders with train.txt and song_hash.txt
    #[command(after_help = "Example:\n  segue import yes-radio path/to/yes_small")]
    YesRadio {
        /// Folders, or folders of such folders
        #[arg(required = true, value_name = "FOLDER")]
        folders: Vec<PathBuf>,
        /// how to report
        #[command(flatten)]
        reporting: Reporting,
    },
    /// A MovieLens folder: ratings.csv and movies.csv, or u.data and u.item of ml-100k
    #[command(
        after_help = "Example:\n  segue import movielens path/to/ml-latest-small\n\nUsers get the ids movielens:user:<id>, films are tracks movielens:movie:<id>. Bad rows are skipped and listed in the\nrejects file. Importing again changes nothing."
    )]
    Movielens(MovielensArguments),
    /// KKBox's listens of the WSDM Cup 2018: a folder with train.csv and, if there are any, test.csv, members.csv, songs.csv
    /// and song_extra_info.csv
    #[command(
        after_help = "Example:\n  segue import kkbox path/to/kkbox-music-recommendation-challenge\n\nThe files have an order and no times: a listen's time is the number of its row, in seconds from 1970 for train.csv and\nfrom 1980 for test.csv. Bad rows are skipped and listed in the rejects file. Importing again changes nothing."
    )]
    Kkbox {
        /// Folder with train.csv
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
        /// how to report
        #[command(flatten)]
        reporting: Reporting,
    },
    /// Ratings of one's own: CSV files with a header
    #[command(
        after_help = "Example:\n  segue import ratings mine.csv --lowest 1 --highest 10\n\nColumns, in any order: user_id, track_id, rating; and if there are any rated_at (seconds since 1970, or RFC 3339),\ntrack_name, artist_name, genres (parted by |). Tracks that the catalog does not have are added. Of several ratings\nof a track by a user the one given last counts. Importing again changes nothing."
    )]
    Ratings(RatingsArguments),
}

/// What of MovieLens to import, and how to report.
#[derive(Debug, clap::Args)]
pub struct MovielensArguments {
    /// Folder with ratings.csv or u.data
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// how to import
    #[command(flatten)]
    pub how: RatingsImport,
}

/// Which ratings to import, and how to report.
#[derive(Debug, clap::Args)]
pub struct RatingsArguments {
    /// CSV files, plain or gzip
    #[arg(required = true, value_name = "FILE")]
    pub paths: Vec<PathBuf>,
    /// how to import
    #[command(flatten)]
    pub how: RatingsImport,
}

/// How to import ratings.
#[derive(Debug, clap::Args)]
pub struct RatingsImport {
    /// Lowest rating; a row with a lower one is skipped
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true)]
    pub lowest: f32,
    /// Highest rating; a row with a higher one is skipped
    #[arg(long, default_value_t = 5.0, allow_negative_numbers = true)]
    pub highest: f32,
    /// how to report
    #[command(flatten)]
    pub reporting: Reporting,
}

/// How to report.
#[derive(Debug, clap::Args)]
pub struct Reporting {
    /// Where to list skipped rows [default: data/rejects/ below the home folder]
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
}

impl ImportFormat {
    /// Its name as the command line has it, and how to report.
    fn reporting(&self) -> (&'static str, &Reporting) {
        match self {
            Self::Mpd { reporting, .. } => ("mpd", reporting),
            Self::Ndjson { reporting, .. } => ("ndjson", reporting),
            Self::Deezer { reporting, .. } => ("deezer", reporting),
            Self::YesRadio { reporting, .. } => ("yes-radio", reporting),
            Self::Movielens(arguments) => ("movielens", &arguments.how.reporting),
            Self::Kkbox { reporting, .. } => ("kkbox", reporting),
            Self::Ratings(arguments) => ("ratings", &arguments.how.reporting),
        }
    }
}

pub(super) async fn run(global: &Global, format: ImportFormat, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let (name, reporting) = format.reporting();
    let report_format = reporting.format;
    let rejects = match &reporting.rejects {
        Some(path) => path.clone(),
        None => default_rejects(global, name)?,
    };
    let catalog = global.catalog().await?;
    let report = match format {
        ImportFormat::Mpd { paths, .. } => import_mpd(&catalog, &paths, &rejects, interrupt).await?,
        ImportFormat::Ndjson { tracks, users, playlists, .. } => {
            let files = NdjsonFiles { tracks, users, playlists };
            import_ndjson(&catalog, &files, &rejects, interrupt).await?
        }
        ImportFormat::Deezer { paths, placeholder_artists, .. } => {
            import_deezer(&catalog, &paths, DeezerOptions { placeholder_artists }, &rejects, interrupt).await?
        }
        ImportFormat::YesRadio { folders, .. } => import_yes_radio(&catalog, &folders, &rejects, interrupt).await?,
        ImportFormat::Movielens(arguments) => {
            let files = find_movielens(&arguments.folder)?;
            return ratings(catalog, files, &arguments.how, &rejects, interrupt).await;
        }
        ImportFormat::Kkbox { folder, .. } => {
            let report = import_kkbox(&catalog, &folder, &rejects, interrupt).await?;
            catalog.close().await;
            match report_format {
                ReportFormat::Table => print_listening(&report),
                ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
            }
            return Ok(code(report.interrupted, report.failed_files.is_empty()));
        }
        ImportFormat::Ratings(arguments) => {
            let files = arguments.paths.into_iter().map(RatingsFile::Table).collect();
            return ratings(catalog, files, &arguments.how, &rejects, interrupt).await;
        }
    };
    catalog.close().await;
    match report_format {
        ReportFormat::Table => print(&report),
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(code(report.interrupted, report.failed_files.is_empty()))
}

async fn ratings(
    catalog: Catalog,
    files: Vec<RatingsFile>,
    how: &RatingsImport,
    rejects: &Path,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(how.lowest < how.highest, "--lowest must be below --highest");
    let scale = RatingScale { lowest: how.lowest, highest: how.highest };
    let report = import_ratings(&catalog, files, scale, rejects, interrupt).await?;
    catalog.close().await;
    match how.reporting.format {
        ReportFormat::Table => print_ratings(&report),
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(code(report.interrupted, report.failed_files.is_empty()))
}

fn code(interrupted: bool, whole: bool) -> ExitCode {
    match () {
        () if interrupted => ExitCode::from(INTERRUPTED),
        () if !whole => ExitCode::FAILURE,
        () => ExitCode::SUCCESS,
    }
}

fn default_rejects(global: &Global, format_name: &str) -> anyhow::Result<PathBuf> {
    let format = format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:3]Z");
    let time = OffsetDateTime::now_utc().format(format)?;
    Ok(global.home.join("data/rejects").join(format!("import-{format_name}-{time}.ndjson")))
}

/// The report of an import of ratings for people.
fn print_ratings(report: &ImportReport<RatingsOutcome>) {
    let outcome = &report.outcome;
    println!("files        {}", report.files);
    println!(
        "ratings      {} ({} new, {} changed, {} as they were)",
        report.outcome.ratings, outcome.ratings_added, outcome.ratings_changed, outcome.ratings_unchanged
    );
    println!("new tracks   {}", outcome.tracks_added);
    println!("new users    {}", outcome.users_added);
    println!(
        "time         {:.2} s ({:.0} ratings/s)",
        report.seconds,
        report.outcome.ratings as f64 / report.seconds.max(1e-9)
    );
    print_end(report.rejected, report.rejects_file.as_deref(), &report.failed_files, report.interrupted);
}

/// The report of an import of listens for people.
fn print_listening(report: &ImportReport<ListensOutcome>) {
    let outcome = &report.outcome;
    println!("files        {}", report.files);
    println!(
        "listens      {} ({} new, {} changed)",
        report.outcome.listens, outcome.listens_added, outcome.listens_changed
    );
    println!("new tracks   {}", outcome.tracks_added);
    println!("users        {} new, {} changed", outcome.users_added, outcome.users_changed);
    println!("time         {:.2} s", report.seconds);
    print_end(report.rejected, report.rejects_file.as_deref(), &report.failed_files, report.interrupted);
}

/// The report for people.
pub(super) fn print(report: &ImportReport) {
    let outcome = &report.outcome;
    let playlists = outcome.playlists_added + outcome.playlists_changed + outcome.playlists_unchanged;
    println!("files        {}", report.files);
    println!(
        "playlists    {playlists} ({} new, {} changed, {} as they were)",
        outcome.playlists_added, outcome.playlists_changed, outcome.playlists_unchanged
    );
    println!("placements   {}", outcome.placements);
    println!("new tracks   {}", outcome.tracks_added);
    if outcome.tracks_changed > 0 {
        println!("changed      {} tracks", outcome.tracks_changed);
    }
    println!("new artists  {}", outcome.artists_added);
    println!("new albums   {}", outcome.albums_added);
    if outcome.users_added > 0 {
        println!("new users    {}", outcome.users_added);
    }
    println!("time         {:.2} s ({:.0} placements/s)", report.seconds, report.placements_per_second());
    print_end(report.rejected, report.rejects_file.as_deref(), &report.failed_files, report.interrupted);
}

/// What any import's report ends with.
fn print_end(rejected: u64, rejects_file: Option<&Path>, failed_files: &[FailedFile], interrupted: bool) {
    if let Some(rejects) = rejects_file {
        println!("skipped      {rejected} rows, listed in {}", rejects.display());
    }
    for failed in failed_files {
        println!("REFUSED      {}: {}", failed.file.display(), failed.reason);
    }
    if interrupted {
        println!("stopped before the end; the same command goes on from there");
    }
}
