//! `segue import`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use time::OffsetDateTime;
use time::macros::format_description;

use super::{Global, INTERRUPTED, ReportFormat};
use crate::catalog::{Catalog, RatingScale};
use crate::import::{ImportReport, RatingsFile, RatingsReport, find_movielens, import_mpd, import_ratings};
use crate::progress::Interrupt;

/// Formats that can be imported.
#[derive(Debug, Subcommand)]
pub enum ImportFormat {
    /// Slices of the Million Playlist Dataset: JSON, plain or gzip
    #[command(
        after_help = "Examples:\n  segue import mpd path/to/mpd/data\n  segue import mpd mpd.slice.0-999.json.gz mine.json\n\nNeeded in a file are playlists[].pid and tracks[] with track_uri, track_name and artist_name. A file that can't be\nread is refused whole; bad rows are skipped and listed in the rejects file. Importing again changes nothing."
    )]
    Mpd(ImportArguments),
    /// A MovieLens folder: ratings.csv and movies.csv, or u.data and u.item of ml-100k
    #[command(
        after_help = "Example:\n  segue import movielens path/to/ml-latest-small\n\nUsers get the ids movielens:user:<id>, films are tracks movielens:movie:<id>. Bad rows are skipped and listed in the\nrejects file. Importing again changes nothing."
    )]
    Movielens(MovielensArguments),
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
    /// Where to list skipped rows [default: data/rejects/ below the home folder]
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
}

/// What to import, and how to report.
#[derive(Debug, clap::Args)]
pub struct ImportArguments {
    /// Files, or folders of mpd.slice.*.json[.gz]
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Where to list skipped rows [default: data/rejects/ below the home folder]
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
}

pub(super) async fn run(global: &Global, format: ImportFormat, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    match format {
        ImportFormat::Mpd(arguments) => {
            let rejects = arguments.rejects.map_or_else(|| default_rejects(global, "mpd"), Ok)?;
            let catalog = global.catalog().await?;
            let report = import_mpd(&catalog, &arguments.paths, &rejects, interrupt).await?;
            catalog.close().await;
            match arguments.format {
                ReportFormat::Table => print(&report),
                ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
            }
            Ok(code(report.interrupted, report.failed_files.is_empty()))
        }
        ImportFormat::Movielens(arguments) => {
            let files = find_movielens(&arguments.folder)?;
            ratings(global, files, arguments.how, "movielens", interrupt).await
        }
        ImportFormat::Ratings(arguments) => {
            let files = arguments.paths.into_iter().map(RatingsFile::Table).collect();
            ratings(global, files, arguments.how, "ratings", interrupt).await
        }
    }
}

async fn ratings(
    global: &Global,
    files: Vec<RatingsFile>,
    how: RatingsImport,
    name: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(how.lowest < how.highest, "--lowest must be below --highest");
    let scale = RatingScale { lowest: how.lowest, highest: how.highest };
    let rejects = how.rejects.map_or_else(|| default_rejects(global, name), Ok)?;
    let catalog: Catalog = global.catalog().await?;
    let report = import_ratings(&catalog, files, scale, &rejects, interrupt).await?;
    catalog.close().await;
    match how.format {
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
fn print_ratings(report: &RatingsReport) {
    let outcome = &report.outcome;
    println!("files        {}", report.files);
    println!(
        "ratings      {} ({} new, {} changed, {} as they were)",
        report.ratings, outcome.ratings_added, outcome.ratings_changed, outcome.ratings_unchanged
    );
    println!("new tracks   {}", outcome.tracks_added);
    println!("new users    {}", outcome.users_added);
    println!(
        "time         {:.2} s ({:.0} ratings/s)",
        report.seconds,
        report.ratings as f64 / report.seconds.max(1e-9)
    );
    if let Some(rejects) = &report.rejects_file {
        println!("skipped      {} rows, listed in {}", report.rejected, rejects.display());
    }
    for failed in &report.failed_files {
        println!("REFUSED      {}: {}", failed.file.display(), failed.reason);
    }
    if report.interrupted {
        println!("stopped before the end; the same command goes on from there");
    }
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
    println!("new artists  {}", outcome.artists_added);
    println!("new albums   {}", outcome.albums_added);
    println!("time         {:.2} s ({:.0} placements/s)", report.seconds, report.placements_per_second());
    if let Some(rejects) = &report.rejects_file {
        println!("skipped      {} rows, listed in {}", report.rejected, rejects.display());
    }
    for failed in &report.failed_files {
        println!("REFUSED      {}: {}", failed.file.display(), failed.reason);
    }
    if report.interrupted {
        println!("stopped before the end; the same command goes on from there");
    }
}
