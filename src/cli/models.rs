//! `segue models`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::global::Global;
use super::output::{Fields, Output, Report, Table, count, print, warn};
use crate::bundle::{BundleFolder, Kind, Manifest, RatingsBundle, current_version, versions};
use crate::recommend::ratings::RatingsModel;

/// How to list bundles, or which one to show.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ModelsArguments {
    /// What to do, if not to list them
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
    /// how to report
    #[command(flatten)]
    pub output: Output,
}

/// What to do with published bundles.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Show a bundle: settings, data, metrics and files
    #[command(
        after_help = "Examples:\n  segue models show similarity\n  segue models show completion --format json > manifest.json"
    )]
    Show(ShowArguments),
    /// Print one part of the current bundle of a kind
    Part {
        /// Kind of the bundle
        #[command(subcommand)]
        kind: PartKind,
    },
}

/// Kinds of bundles that have parts.
#[derive(Debug, Subcommand)]
pub enum PartKind {
    /// What the ratings model learned about tracks
    #[command(
        after_help = "Examples:\n  segue models part ratings item-bias > biases.csv\n  segue models part ratings item-embedding --track movielens:movie:1 --format json"
    )]
    Ratings(PartArguments),
}

/// Which part, and how to print it.
#[derive(Debug, clap::Args)]
pub struct PartArguments {
    /// Part to print
    #[arg(value_enum)]
    pub part: Part,
    /// Only these tracks
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub track: Vec<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = PartFormat::Csv)]
    pub format: PartFormat,
}

/// Parts of the ratings model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// expected rating of a track above the mean
    ItemBias,
    /// the numbers that describe a track
    ItemEmbedding,
}

/// How parts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartFormat {
    /// a line for each track
    Csv,
    /// an object by track id
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
                let bias = model.bias(row).with_context(|| format!("the ratings model {name} has no biases"))?;
                Ok(vec![bias])
            }
        }
    };
    let id = |row: u32| model.vocabulary().id(row).to_owned();
    let text = match arguments.format {
        PartFormat::Csv => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            for (number, row) in rows.into_iter().enumerate() {
                let values = values(row)?;
                if number == 0 {
                    let names = (1..=values.len()).map(|column| format!("value_{column}"));
                    writer.write_record(std::iter::once("track_id".to_owned()).chain(names))?;
                }
                writer.write_record(std::iter::once(id(row)).chain(values.iter().map(f32::to_string)))?;
            }
            String::from_utf8(writer.into_inner()?)?
        }
        PartFormat::Json => {
            let mut object = serde_json::Map::new();
            for row in rows {
                let values = values(row)?;
                object.insert(id(row), if arguments.part == Part::ItemBias { values[0].into() } else { values.into() });
            }
            serde_json::to_string_pretty(&object)?
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Which bundle to show, and how.
#[derive(Debug, clap::Args)]
pub struct ShowArguments {
    /// Kind of the bundle
    #[arg(value_enum)]
    pub kind: KindArgument,
    /// Version of the bundle [default: the current one]
    #[arg(long, value_name = "VERSION")]
    pub bundle: Option<String>,
    /// how to report
    #[command(flatten)]
    pub output: Output,
}

/// A kind of bundles as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindArgument(pub Kind);

impl ValueEnum for KindArgument {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [KindArgument; Kind::ALL.len()] = {
            let mut all = [KindArgument(Kind::ALL[0]); Kind::ALL.len()];
            let mut place = 0;
            while place < all.len() {
                all[place] = KindArgument(Kind::ALL[place]);
                place += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.as_str()))
    }
}

pub(super) fn run(global: &Global, arguments: &ModelsArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        None => list(global, arguments.output),
        Some(ModelsCommand::Show(arguments)) => show(global, arguments),
        Some(ModelsCommand::Part { kind: PartKind::Ratings(arguments) }) => print_part(global, arguments),
    }
}

/// The published bundles, and what marks the current ones.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Published<'a> {
    manifests: Vec<Manifest>,
    #[serde(skip)]
    models: &'a Path,
}

impl Report for Published<'_> {
    fn text(&self) -> String {
        if self.manifests.is_empty() {
            return format!("no bundles in {}: run segue train similarity", self.models.display());
        }
        let mut table = Table::new(["kind", "version", "playlists", "placements", "served"]);
        for Manifest { kind, version, data, .. } in &self.manifests {
            let is_current = current_version(self.models, *kind).as_ref() == Some(version);
            let served = if is_current { "current" } else { "" };
            let counts = [data.playlists, data.placements].map(count);
            let [playlists, placements] = counts;
            table.row([kind.as_str().into(), version.as_str().into(), playlists, placements, served.into()]);
        }
        table.to_string()
    }
}

fn list(global: &Global, output: Output) -> anyhow::Result<ExitCode> {
    let models = global.models();
    let mut manifests = Vec::new();
    for kind in Kind::ALL {
        for version in versions(&models, kind) {
            match BundleFolder::open(&models.join(kind.as_str()).join(&version), kind) {
                Ok(folder) => manifests.push(folder.manifest().clone()),
                Err(error) => warn(&format!("{kind} {version}: {error}")),
            }
        }
    }
    output.print(&Published { manifests, models: &models })?;
    Ok(ExitCode::SUCCESS)
}

/// Opens a version of a kind; where there is none, says which there are.
pub(super) fn open(models: &Path, kind: Kind, version: &str) -> anyhow::Result<BundleFolder> {
    let known = versions(models, kind);
    if !known.iter().any(|known| known == version) {
        match known.is_empty() {
            true => bail!("no {kind} bundle in {}: run segue train {kind}", models.display()),
            false => bail!("no {kind} bundle of version {version:?}: the versions are {}", known.join(", ")),
        }
    }
    Ok(BundleFolder::open(&models.join(kind.as_str()).join(version), kind)?)
}

fn show(global: &Global, arguments: &ShowArguments) -> anyhow::Result<ExitCode> {
    let (models, KindArgument(kind)) = (global.models(), arguments.kind);
    let folder = match &arguments.bundle {
        Some(version) => open(&models, kind, version)?,
        None => BundleFolder::open_current(&models, kind)?,
    };
    let is_current = current_version(&models, kind).as_ref() == Some(&folder.manifest().version);
    arguments.output.print(&Shown { manifest: folder.manifest(), folder: folder.path(""), is_current })?;
    Ok(ExitCode::SUCCESS)
}

/// One bundle with its details.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Shown<'a> {
    manifest: &'a Manifest,
    #[serde(skip)]
    folder: PathBuf,
    #[serde(skip)]
    is_current: bool,
}

impl Report for Shown<'_> {
    fn text(&self) -> String {
        let Self { manifest, folder, is_current } = self;
        let Manifest { kind, version, created_at, segue_version, git_commit, .. } = manifest;
        let mut fields = Fields::default();
        fields.add("published", format!("{created_at} by segue {segue_version} ({git_commit})"));
        fields.add("seed", manifest.seed);
        fields.add("folder", folder.display());
        let mut text = format!("{kind} {version}{}\n\n{fields}", if *is_current { "  current" } else { "" });
        let data = serde_json::to_value(&manifest.data).unwrap_or_default();
        for (title, part) in [("data", &data), ("settings", &manifest.parameters), ("metrics", &manifest.metrics)] {
            let mut fields = Fields::default();
            fields.add_json("", part);
            text.push_str(&format!("\n{title}\n{fields}"));
        }
        let mut files = Table::new(["file", "bytes"]);
        for file in &manifest.files {
            files.row([file.name.as_str().into(), count(file.bytes)]);
        }
        format!("{text}\n{files}")
    }
}
