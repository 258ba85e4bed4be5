//! `segue export`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::global::Global;
use super::output::{count, print};
use super::track_names::names_of_rows;
use crate::bundle::{
    BundleFolder, CompletionBundle, EmbeddingTable, ExportFormat, ExportName, Kind, SimilarityBundle, export_embeddings,
};

/// What can be exported.
#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Export the tracks' vectors of a published bundle
    #[command(
        after_help = "Examples:\n  segue export embeddings --format parquet --out tracks.parquet\n  segue export embeddings --kind completion --format npy --out factors.npy\n\nRead them with\n  pandas.read_parquet(\"tracks.parquet\")                          names and vectors in one table\n  numpy.load(\"factors.npy\")                                      names in factors.tracks.csv, row for row\n  KeyedVectors.load_word2vec_format(\"tracks.txt\")                gensim; names in tracks.tracks.csv\n\nAn existing file is replaced once the new one is complete."
    )]
    Embeddings(EmbeddingsArguments),
}

/// Which vectors, and where to.
#[derive(Debug, clap::Args)]
pub struct EmbeddingsArguments {
    /// Vectors to export
    #[arg(long, value_enum, default_value_t = EmbeddingKind::Similarity)]
    pub kind: EmbeddingKind,
    /// Version of the bundle [default: the current one]
    #[arg(long, value_name = "VERSION")]
    pub bundle: Option<String>,
    /// File format
    #[arg(long, value_enum)]
    pub format: EmbeddingFormat,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Omit names, which come from the catalog
    #[arg(long)]
    pub without_names: bool,
}

/// Kinds of bundles that have vectors of tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EmbeddingKind {
    /// vectors of Track2Vec, of length 1
    Similarity,
    /// factors of alternating least squares
    Completion,
}

/// Formats of files with vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EmbeddingFormat {
    /// NumPy, with names in a CSV file
    Npy,
    /// Parquet: ids, names and vectors in one table
    Parquet,
    /// word2vec's text format, with names in a CSV file
    Word2vec,
}

impl From<EmbeddingFormat> for ExportFormat {
    fn from(format: EmbeddingFormat) -> Self {
        match format {
            EmbeddingFormat::Npy => Self::Npy,
            EmbeddingFormat::Parquet => Self::Parquet,
            EmbeddingFormat::Word2vec => Self::Word2Vec,
        }
    }
}

pub(super) async fn run(global: &Global, command: ExportCommand) -> anyhow::Result<ExitCode> {
    let ExportCommand::Embeddings(arguments) = command;
    let open = |kind: Kind| match &arguments.bundle {
        Some(version) => super::models::open(&global.models(), kind, version),
        None => Ok(BundleFolder::open_current(&global.models(), kind)?),
    };
    let (manifest, files, rows) = match arguments.kind {
        EmbeddingKind::Similarity => {
            let (manifest, bundle) = SimilarityBundle::load(&open(Kind::Similarity)?)?;
            let rows = bundle.vocabulary.len();
            let names = names_from_catalog(global, &bundle, arguments.without_names).await?;
            let table = EmbeddingTable {
                vocabulary: &bundle.vocabulary,
                vectors: &bundle.vectors,
                dimensions: bundle.dimensions,
                counts: bundle.counts.clone(),
                candidates: bundle.candidates,
                names,
            };
            (manifest, export_embeddings(&table, arguments.format.into(), &arguments.out)?, rows)
        }
        EmbeddingKind::Completion => {
            let (manifest, bundle) = CompletionBundle::load(&open(Kind::Completion)?)?;
            let rows = bundle.vocabulary.len();
            let name = |row: u32| match arguments.without_names {
                true => ExportName::default(),
                false => ExportName {
                    name: Some(bundle.track_names.get(row).to_owned()),
                    artist: Some(bundle.artist_names.get(bundle.index.artist_of[row as usize]).to_owned()),
                },
            };
            let table = EmbeddingTable {
                vocabulary: &bundle.vocabulary,
                vectors: &bundle.index.factors,
                dimensions: bundle.index.dimensions(),
                counts: (0..rows as u32).map(|row| bundle.index.popularity(row) as u32).collect(),
                candidates: rows,
                names: (0..rows as u32).map(name).collect(),
            };
            (manifest, export_embeddings(&table, arguments.format.into(), &arguments.out)?, rows)
        }
    };
    let files: String = files.iter().map(|file| format!("{}\n", file.display())).collect();
    print(&format!("vectors of {} tracks of {} {}\n{files}", count(rows), manifest.kind, manifest.version))?;
    Ok(ExitCode::SUCCESS)
}

async fn names_from_catalog(
    global: &Global,
    bundle: &SimilarityBundle,
    without_names: bool,
) -> anyhow::Result<Vec<ExportName>> {
    let rows = 0..bundle.vocabulary.len() as u32;
    if without_names {
        return Ok(vec![ExportName::default(); rows.len()]);
    }
    let catalog = global.catalog().await?;
    let mut names = names_of_rows(&catalog, &bundle.vocabulary, rows.clone()).await?;
    catalog.close().await;
    let name = |row| {
        names
            .remove(bundle.vocabulary.id(row))
            .map_or_else(ExportName::default, |name| ExportName { name: Some(name.name), artist: name.artist })
    };
    Ok(rows.map(name).collect())
}
