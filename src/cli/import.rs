//! `segue import`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use time::OffsetDateTime;
use time::macros::format_description;

use super::{Global, INTERRUPTED, ReportFormat};
use crate::import::{ImportReport, import_mpd};
use crate::progress::Interrupt;

/// Formats that can be imported.
#[derive(Debug, Subcommand)]
pub enum ImportFormat {
    /// Slices of the Million Playlist Dataset: JSON, plain or gzip
    #[command(
        after_help = "Examples:\n  segue import mpd path/to/mpd/data\n  segue import mpd mpd.slice.0-999.json.gz mine.json\n\nNeeded in a file are playlists[].pid and tracks[] with track_uri, track_name and artist_name. A file that can't be\nread is refused whole; bad rows are skipped and listed in the rejects file. Importing again changes nothing."
    )]
    Mpd(ImportArguments),
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
    let ImportFormat::Mpd(arguments) = format;
    let rejects = match arguments.rejects {
        Some(path) => path,
        None => default_rejects(global)?,
    };
    let catalog = global.catalog().await?;
    let report = import_mpd(&catalog, &arguments.paths, &rejects, interrupt).await?;
    catalog.close().await;
    match arguments.format {
        ReportFormat::Table => print(&report),
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(match () {
        () if report.interrupted => ExitCode::from(INTERRUPTED),
        () if !report.failed_files.is_empty() => ExitCode::FAILURE,
        () => ExitCode::SUCCESS,
    })
}

fn default_rejects(global: &Global) -> anyhow::Result<PathBuf> {
    let format = format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:3]Z");
    let time = OffsetDateTime::now_utc().format(format)?;
    Ok(global.home.join("data/rejects").join(format!("import-mpd-{time}.ndjson")))
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
