//! `segue similar`

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::bail;
use serde::Serialize;

use super::global::Global;
use super::output::{Output, Report, Table, count, figure, warn};
use super::track_names::names_of_rows;
use crate::bundle::{SimilarityBundle, Vocabulary};
use crate::catalog::{Catalog, TrackId, TrackName};
use crate::dataset::{TrackFinder, TrackMatches};
use crate::recommend::SimilarityModel;

/// Tracks listed if the name is ambiguous.
const LISTED: usize = 10;

/// Which track, and how many similar ones.
#[derive(Debug, clap::Args)]
pub struct SimilarArguments {
    /// Name or id of the track
    ///
    /// The name is artist and title, or the title alone.
    #[arg(required = true, value_name = "TRACK")]
    pub track: Vec<String>,
    /// Show tracks likely to come next, instead of similar ones
    #[arg(long)]
    pub next: bool,
    /// Number of tracks
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub limit: u16,
    /// how to report
    #[command(flatten)]
    pub output: Output,
}

/// Tracks similar to one, or next after it.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    track_id: &'a str,
    model_version: &'a str,
    items: Vec<Item<'a>>,
    #[serde(skip)]
    heading: String,
}

#[derive(Debug, Serialize)]
struct Item<'a> {
    track_id: &'a str,
    score: f32,
    source: &'static str,
    name: Option<&'a str>,
    artist: Option<&'a str>,
}

pub(super) async fn run(global: &Global, arguments: SimilarArguments) -> anyhow::Result<ExitCode> {
    let (manifest, bundle) = SimilarityBundle::load_current(&global.models())?;
    let model = SimilarityModel::new(bundle);
    let vocabulary = model.vocabulary();
    let catalog = global.catalog().await?;
    let track = arguments.track.join(" ");
    let row = match vocabulary.row(&track) {
        Some(row) => row,
        None => match find(&catalog, vocabulary, &track).await? {
            Ok(row) => row,
            Err(message) => {
                catalog.close().await;
                bail!(message);
            }
        },
    };
    let similar = match arguments.next {
        true => model.next(row, &[], arguments.limit.into()),
        false => model.similar(row, arguments.limit.into()),
    };
    let rows: Vec<u32> = std::iter::once(row).chain(similar.iter().map(|item| item.row)).collect();
    let names = names_of_rows(&catalog, vocabulary, rows).await?;
    catalog.close().await;
    let items = similar.iter().map(|item| {
        let (track_id, name) = (vocabulary.id(item.row), names.get(vocabulary.id(item.row)));
        let (name, artist) = (name.map(|name| name.name.as_str()), name.and_then(|name| name.artist.as_deref()));
        Item { track_id, score: item.score, source: item.source.as_str(), name, artist }
    });
    arguments.output.print(&Answer {
        track_id: vocabulary.id(row),
        model_version: &manifest.version,
        items: items.collect(),
        heading: format!(
            "{} {}, model {}",
            if arguments.next { "next after" } else { "similar to" },
            label(vocabulary, &names, row),
            manifest.version
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}

impl Report for Answer<'_> {
    fn text(&self) -> String {
        let mut table = Table::new(["rank", "score", "artist", "track", "id"]);
        for (rank, item) in (1_u64..).zip(&self.items) {
            let (artist, name) = (item.artist.unwrap_or_default().into(), item.name.unwrap_or_default().into());
            table.row([count(rank), figure(item.score.into(), 3), artist, name, item.track_id.into()]);
        }
        format!("{}\n\n{table}", self.heading)
    }
}

/// Returns the row of the track with this name, or an error message.
async fn find(catalog: &Catalog, vocabulary: &Vocabulary, query: &str) -> anyhow::Result<Result<u32, String>> {
    if let Ok(id) = TrackId::storable(query)
        && let Some(track) = catalog.track(&id).await?
    {
        let message = format!(
            "the model does not know {} yet: it was imported after the last training; run segue train similarity",
            title(&track.name, track.artist.as_deref())
        );
        return Ok(Err(message));
    }
    let rows: Vec<u32> = (0..vocabulary.len() as u32).collect();
    let names = names_of_rows(catalog, vocabulary, rows.iter().copied()).await?;
    let name_of = |&row: &u32| {
        names.get(vocabulary.id(row)).map(|name| (name.name.as_str(), name.artist.as_deref().unwrap_or_default()))
    };
    let list = |rows: &[u32]| -> String {
        rows.iter().take(LISTED).map(|&row| format!("\n  {}", label(vocabulary, &names, row))).collect()
    };
    Ok(match TrackFinder::new(rows.iter().map(name_of)).find(query, LISTED) {
        TrackMatches::Track(rows) => {
            if let [_, others @ ..] = rows.as_slice()
                && !others.is_empty()
            {
                let others = list(others);
                warn(&format!("{} tracks have this name; using the most popular one. The others:{others}", rows.len()));
            }
            Ok(rows[0])
        }
        TrackMatches::Several(rows) => {
            let and_more = if rows.len() > LISTED { "\n  and more" } else { "" };
            Err(format!(
                "{} tracks are called {query:?}: add the artist, or pass the id:{}{and_more}",
                rows.len(),
                list(&rows)
            ))
        }
        TrackMatches::Nearest(rows) if rows.is_empty() => Err(format!("no track has a name like {query:?}")),
        TrackMatches::Nearest(rows) => {
            Err(format!("no track is called {query:?}; the nearest names are:{}", list(&rows)))
        }
    })
}

/// Returns artist and name.
fn title(name: &str, artist: Option<&str>) -> String {
    artist.map_or_else(|| name.to_owned(), |artist| format!("{artist} – {name}"))
}

/// Returns artist, name and id.
fn label(vocabulary: &Vocabulary, names: &HashMap<String, TrackName>, row: u32) -> String {
    let id = vocabulary.id(row);
    match names.get(id) {
        Some(name) => format!("{}  ({id})", title(&name.name, name.artist.as_deref())),
        None => id.to_owned(),
    }
}
