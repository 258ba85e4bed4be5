//! `segue models`

use std::process::ExitCode;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};

use super::{Global, ReportFormat};
use crate::bundle::{BundleFolder, Kind, Manifest, RatingsBundle, current_version, versions};
use crate::recommend::ratings::RatingsModel;

/// How to list bundles.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ModelsArguments {
    /// What to do instead of listing
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
}

/// What to do with bundles besides listing them.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Print a part of the current bundle of a kind by itself
    Part {
        /// Kind of the bundle
        #[command(subcommand)]
        kind: PartKind,
    },
}

/// Kinds of bundles that have parts.
#[derive(Debug, Subcommand)]
pub enum PartKind {
    /// What the ratings model knows of tracks
    #[command(
        after_help = "Examples:\n  segue models part ratings item-bias > biases.csv\n  segue models part ratings item-embedding --track movielens:movie:1 --format json"
    )]
    Ratings(PartArguments),
}

/// Which part, and how to print it.
#[derive(Debug, clap::Args)]
pub struct PartArguments {
    /// Which part
    #[arg(value_enum)]
    pub part: Part,
    /// Of these tracks alone
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub track: Vec<String>,
    /// How to print: as CSV, or as JSON
    #[arg(long, value_enum, default_value_t = PartFormat::Csv)]
    pub format: PartFormat,
}

/// Parts of the ratings model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// what is expected of a track above the mean rating
    ItemBias,
    /// the numbers that describe a track
    ItemEmbedding,
}

/// How parts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartFormat {
    /// a track a line
    Csv,
    /// an object by track
    Json,
}

fn print_part(global: &Global, arguments: &PartArguments) -> anyhow::Result<ExitCode> {
    let model = RatingsModel::new(RatingsBundle::load_current(&global.models())?.1);
    let rows: Vec<u32> = match arguments.track.as_slice() {
        [] => (0..model.vocabulary().len() as u32).collect(),
        ids => ids
            .iter()
            .map(|id| model.vocabulary().row(id).with_context(|| format!("the model does not know the track {id:?}")))
            .collect::<anyhow::Result<_>>()?,
    };
    let values = |row: u32| -> anyhow::Result<Vec<f32>> {
        let name = &model.bundle().shape.model;
        match arguments.part {
            Part::ItemEmbedding => Ok(model.bundle().feature(row).to_vec()),
            Part::ItemBias => {
                let bias =
                    model.bias(row).with_context(|| format!("a ratings model of the kind {name} has no biases"))?;
                Ok(vec![bias])
            }
        }
    };
    let id = |row: u32| model.vocabulary().id(row);
    let mut writer = csv::Writer::from_writer(std::io::stdout().lock());
    let mut object = serde_json::Map::new();
    for (number, row) in rows.into_iter().enumerate() {
        let values = values(row)?;
        if arguments.format == PartFormat::Json {
            object.insert(
                id(row).to_owned(),
                if values.len() == 1 && arguments.part == Part::ItemBias { values[0].into() } else { values.into() },
            );
            continue;
        }
        if number == 0 {
            let names = (1..=values.len()).map(|column| format!("value_{column}"));
            writer.write_record(std::iter::once("track_id".to_owned()).chain(names))?;
        }
        writer.write_record(std::iter::once(id(row).to_owned()).chain(values.iter().map(f32::to_string)))?;
    }
    match arguments.format {
        PartFormat::Csv => writer.flush()?,
        PartFormat::Json => println!("{}", serde_json::to_string_pretty(&object)?),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run(global: &Global, arguments: &ModelsArguments) -> anyhow::Result<ExitCode> {
    if let Some(ModelsCommand::Part { kind: PartKind::Ratings(part) }) = &arguments.command {
        return print_part(global, part);
    }
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
