//! `segue import`

mod formats;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use time::OffsetDateTime;
use time::macros::format_description;

use super::global::{Global, INTERRUPTED};
use super::output::{Output, Report};
use crate::catalog::{Catalog, NamedRows, Prunable, RatingScale};
use crate::import::deezer::DeezerOptions;
use crate::import::ndjson::NdjsonFiles;
use crate::import::{
    ImportReport, Outcome, RatingsFile, find_movielens, import_deezer, import_kkbox, import_mpd_naming,
    import_ndjson_naming, import_ratings, import_ratings_naming, import_yes_radio,
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
            let mut pruning = Pruning::begin(&catalog, prune, vec![Prunable::Playlists]).await?;
            let report = import_mpd_naming(&catalog, &paths, pruning.named.as_mut(), &rejects, interrupt).await?;
            end(&catalog, output, pruning.end(&catalog, report, interrupt).await?).await
        }
        ImportFormat::Ndjson { tracks, users, playlists, prune, .. } => {
            let files = NdjsonFiles { tracks, users, playlists };
            let kinds = [
                (Prunable::Tracks, &files.tracks),
                (Prunable::Users, &files.users),
                (Prunable::Playlists, &files.playlists),
            ];
            let kinds = kinds.into_iter().filter(|(_, files)| !files.is_empty()).map(|(kind, _)| kind).collect();
            let mut pruning = Pruning::begin(&catalog, prune, kinds).await?;
            let report = import_ndjson_naming(&catalog, &files, pruning.named.as_mut(), &rejects, interrupt).await?;
            end(&catalog, output, pruning.end(&catalog, report, interrupt).await?).await
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
        ImportFormat::Ratings(RatingsArguments { paths, prune, how }) => {
            let (files, scale) = (paths.into_iter().map(RatingsFile::Table).collect(), scale(&how)?);
            let mut pruning = Pruning::begin(&catalog, prune, vec![Prunable::Ratings]).await?;
            let named = pruning.named.as_mut();
            let report = import_ratings_naming(&catalog, files, scale, named, &rejects, interrupt).await?;
            end(&catalog, output, pruning.end(&catalog, report, interrupt).await?).await
        }
    }
}

/// Removes the rows that an import does not name.
struct Pruning {
    kinds: Vec<Prunable>,
    /// none if nothing is removed
    named: Option<NamedRows>,
}

impl Pruning {
    async fn begin(catalog: &Catalog, is_asked_for: bool, kinds: Vec<Prunable>) -> anyhow::Result<Self> {
        let named = if is_asked_for { Some(catalog.begin_pruning(&kinds).await?) } else { None };
        Ok(Self { kinds, named })
    }

    async fn end<O>(
        self,
        catalog: &Catalog,
        mut report: ImportReport<O>,
        interrupt: &Interrupt,
    ) -> anyhow::Result<ImportReport<O>> {
        let Some(named) = self.named else { return Ok(report) };
        if !report.is_whole() {
            report.add_hint("nothing was removed, because the source was not imported as a whole");
            return Ok(report);
        }
        report.pruned = named.prune(|| interrupt.is_raised()).await?;
        report.interrupted = interrupt.is_raised();
        for kind in self.kinds {
            if !report.interrupted && !report.pruned.contains_key(&kind) {
                report.add_hint(&format!("no {} were removed, because the source has none at all", kind.table()));
            }
        }
        if report.pruned.values().any(|pruned| pruned.removed > 0) {
            catalog.analyze().await?;
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
