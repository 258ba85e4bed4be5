//! `segue models`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use super::global::Global;
use super::output::{ReportFormat, print_text};
use crate::bundle::{BundleFolder, Kind, Manifest, RatingsBundle, current_version, versions};
use crate::recommend::ratings::RatingsModel;

/// How to list bundles, or which one to show.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ModelsArguments {
    /// What to do, if not to list them
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
    /// How to report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
}

/// What to do with published bundles.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Show one bundle: settings, data, metrics and files
    #[command(
        after_help = "Examples:\n  segue models show similarity\n  segue models show completion --format json > manifest.json"
    )]
    Show(ShowArguments),
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

/// Which bundle to show, and how.
#[derive(Debug, clap::Args)]
pub struct ShowArguments {
    /// Kind of the bundle
    #[arg(value_enum)]
    pub kind: KindArgument,
    /// Version of the bundle, if not the current one
    #[arg(long, value_name = "VERSION")]
    pub bundle: Option<String>,
    /// How to report; as json it is the manifest
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
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
        None => list(global, arguments.format),
        Some(ModelsCommand::Show(arguments)) => show(global, arguments),
        Some(ModelsCommand::Part { kind: PartKind::Ratings(arguments) }) => print_part(global, arguments),
    }
}

fn list(global: &Global, format: ReportFormat) -> anyhow::Result<ExitCode> {
    let models = global.models();
    let mut manifests: Vec<Manifest> = Vec::new();
    for kind in Kind::ALL {
        let current = current_version(&models, kind);
        for version in versions(&models, kind) {
            match BundleFolder::open(&models.join(kind.as_str()).join(&version), kind) {
                Ok(folder) => {
                    let manifest = folder.manifest().clone();
                    if format == ReportFormat::Table {
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
    match format {
        ReportFormat::Json => println!("{}", serde_json::to_string_pretty(&manifests)?),
        ReportFormat::Table if manifests.is_empty() => {
            println!("no bundles in {}; `segue train similarity` publishes one", models.display());
        }
        ReportFormat::Table => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens a version of a kind; where there is none, says which there are.
pub(super) fn open(models: &Path, kind: Kind, version: &str) -> anyhow::Result<BundleFolder> {
    let known = versions(models, kind);
    if !known.iter().any(|known| known == version) {
        match known.is_empty() {
            true => bail!("no {kind} bundle in {}; `segue train {kind}` publishes one", models.display()),
            false => bail!("no {kind} bundle of version {version:?}; there are {}", known.join(", ")),
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
    let manifest = folder.manifest();
    if arguments.format == ReportFormat::Json {
        print_text(&(serde_json::to_string_pretty(manifest)? + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let value = serde_json::to_value(manifest).context("the manifest can't be printed")?;
    let is_current = current_version(&models, kind).as_ref() == Some(&manifest.version);
    let mut lines = vec![
        format!("{kind} {}{}", manifest.version, if is_current { "  current" } else { "" }),
        format!("published     {} by segue {} ({})", manifest.created_at, manifest.segue_version, manifest.git_commit),
        format!("seed          {}", manifest.seed),
    ];
    for (title, part) in [("data", &value["data"]), ("settings", &value["parameters"]), ("metrics", &value["metrics"])]
    {
        lines.push(title.to_owned());
        add_fields(part, "", &mut lines);
    }
    lines.push(format!("files in {}", folder.path("").display()));
    lines.extend(manifest.files.iter().map(|file| format!("  {:<40} {:>12} bytes", file.name, file.bytes)));
    print_text(&(lines.join("\n") + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Lists this long are not shown.
const LONG_LIST: usize = 10;

/// A line a value, names of nested objects joined by dots.
fn add_fields(value: &Value, path: &str, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                add_fields(value, &path, lines);
            }
        }
        Value::Null => {}
        Value::String(text) => lines.push(format!("  {path:<40} {text}")),
        Value::Array(values) if values.len() > LONG_LIST => {
            lines.push(format!("  {path:<40} {} of them; --format json lists them", values.len()));
        }
        other => lines.push(format!("  {path:<40} {other}")),
    }
}
