//! `segue models`

use std::process::ExitCode;

use super::{Global, ReportFormat};
use crate::bundle::{BundleFolder, Kind, Manifest, current_version, versions};

/// How to list bundles.
#[derive(Debug, clap::Args)]
pub struct ModelsArguments {
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
}

pub(super) fn run(global: &Global, arguments: &ModelsArguments) -> anyhow::Result<ExitCode> {
    let models = global.models();
    let mut manifests: Vec<Manifest> = Vec::new();
    for kind in Kind::ALL {
        let current = current_version(&models, kind);
        for version in versions(&models, kind) {
            match BundleFolder::open(&models.join(kind.as_str()).join(&version), kind) {
                Ok(folder) => {
                    let manifest = folder.manifest().clone();
                    if arguments.format == ReportFormat::Table {
                        let mark = if current.as_ref() == Some(&version) { "current" } else { "" };
                        let data = &manifest.data;
                        println!("{kind:<12} {version}  {:>10} placements  {mark}", data.placements);
                    }
                    manifests.push(manifest);
                }
                Err(error) => eprintln!("{kind} {version}: {error}"),
            }
        }
    }
    match arguments.format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&manifests)?),
        ReportFormat::Table if manifests.is_empty() => {
            println!("no bundles in {}; `segue train similarity` publishes one", models.display());
        }
        ReportFormat::Table => {}
    }
    Ok(ExitCode::SUCCESS)
}
