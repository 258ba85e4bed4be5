//! `segue import`

mod formats;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use time::OffsetDateTime;
use time::macros::format_description;

use super::global::{Global, INTERRUPTED};
use super::output::{Output, Report};
use crate::catalog::{Catalog, RatingScale};
use crate::import::deezer::DeezerOptions;
use crate::import::ndjson::NdjsonFiles;
use crate::import::{
    ImportReport, NamedPlaylists, Outcome, RatingsFile, find_movielens, import_deezer, import_kkbox, import_mpd_naming,
    import_ndjson_naming, import_ratings, import_yes_radio,
};
use crate::progress::Interrupt;

pub use formats::{ImportFormat, MovielensArguments, RatingsArguments, RatingsImport};

pub(super) async fn run(global: &Global, format: ImportFormat, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let (name, reporting) = format.reporting();
    let output = reporting.output;
    let rejects = match &reporting.rejects {
        Some(path) => path.clone(),
        None => default_rejects(global, name)?,
    };
    let scale = |how: &RatingsImport| {
        anyhow::ensure!(how.lowest < how.highest, "--lowest must be below --highest");
        Ok(RatingScale { lowest: how.lowest, highest: how.highest })
    };
    let catalog = global.catalog().await?;
    match format {
        ImportFormat::Mpd { paths, prune, .. } => {
            let pruning = Pruning::begin(&catalog, prune).await?;
            let report = import_mpd_naming(&catalog, &paths, &pruning.named, &rejects, interrupt).await?;
            end(&catalog, output, pruning.end(&catalog, report).await?).await
        }
        ImportFormat::Ndjson { tracks, users, playlists, prune, .. } => {
            let files = NdjsonFiles { tracks, users, playlists };
            let pruning = Pruning::begin(&catalog, prune).await?;
            let report = import_ndjson_naming(&catalog, &files, &pruning.named, &rejects, interrupt).await?;
            end(&catalog, output, pruning.end(&catalog, report).await?).await
        }
        ImportFormat::Deezer { paths, placeholder_artists, .. } => {
            let options = DeezerOptions { placeholder_artists };
            end(&catalog, output, import_deezer(&catalog, &paths, options, &rejects, interrupt).await?).await
        }
        ImportFormat::YesRadio { folders, .. } => {
            end(&catalog, output, import_yes_radio(&catalog, &folders, &rejects, interrupt).await?).await
        }
        ImportFormat::Kkbox { folder, .. } => {
            end(&catalog, output, import_kkbox(&catalog, &folder, &rejects, interrupt).await?).await
        }
        ImportFormat::Movielens(MovielensArguments { folder, how }) => {
            let (files, scale) = (find_movielens(&folder)?, scale(&how)?);
            end(&catalog, output, import_ratings(&catalog, files, scale, &rejects, interrupt).await?).await
        }
        ImportFormat::Ratings(RatingsArguments { paths, how }) => {
            let (files, scale) = (paths.into_iter().map(RatingsFile::Table).collect(), scale(&how)?);
            end(&catalog, output, import_ratings(&catalog, files, scale, &rejects, interrupt).await?).await
        }
    }
}

/// Removes the playlists that an import does not name.
struct Pruning {
    /// when the import began, by PostgreSQL's clock; none if nothing is removed
    since: Option<OffsetDateTime>,
    named: NamedPlaylists,
}

impl Pruning {
    async fn begin(catalog: &Catalog, is_asked_for: bool) -> anyhow::Result<Self> {
        Ok(match is_asked_for {
            false => Self { since: None, named: NamedPlaylists::default() },
            true => Self { since: Some(catalog.now().await?), named: NamedPlaylists::collected() },
        })
    }

    async fn end(self, catalog: &Catalog, mut report: ImportReport) -> anyhow::Result<ImportReport> {
        let Some(since) = self.since else { return Ok(report) };
        if report.is_whole() && report.rows > 0 {
            report.playlists_removed = Some(catalog.prune_playlists(&self.named.into_ids(), since).await?);
        } else {
            report.hint = Some("nothing was removed, because the source was not imported as a whole".to_owned());
        }
        Ok(report)
    }
}

/// Prints the report and returns the exit code.
async fn end<O: Outcome>(catalog: &Catalog, output: Output, report: ImportReport<O>) -> anyhow::Result<ExitCode>
where
    ImportReport<O>: Report,
{
    catalog.close().await;
    output.print(&report)?;
    Ok(match () {
        () if report.interrupted => ExitCode::from(INTERRUPTED),
        () if !report.failed_files.is_empty() || report.is_useless() => ExitCode::FAILURE,
        () => ExitCode::SUCCESS,
    })
}

fn default_rejects(global: &Global, format_name: &str) -> anyhow::Result<PathBuf> {
    let format = format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:3]Z");
    let time = OffsetDateTime::now_utc().format(format)?;
    Ok(global.home.join("data/rejects").join(format!("import-{format_name}-{time}.ndjson")))
}
