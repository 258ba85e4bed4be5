//! `segue demo`: everything once, from playlists to answers.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::global::Global;
use super::output::{Report, print, warn};
use super::train::completion::{self, CompletionArguments};
use super::train::similarity::{self, SimilarityArguments};
use crate::catalog::Catalog;
use crate::generate::{GenerateSettings, generate};
use crate::import::import_mpd;
use crate::progress::Interrupt;
use crate::serve::{AppState, ServeSettings, serve};

/// What the demo shows.
#[derive(Debug, clap::Args)]
pub struct DemoArguments {
    /// Million Playlist Dataset slices to use: files or folders
    ///
    /// Without it the demo generates synthetic playlists.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Address and port; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Show the responses and exit, instead of serving on
    #[arg(long)]
    pub once: bool,
}

/// Tracks shown of each answer.
const SHOWN: usize = 10;

pub(super) async fn run(global: &Global, arguments: DemoArguments, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    // First of all: a port that is taken should be known now, not after the training.
    let settings = ServeSettings { listen: arguments.listen, ..defaults::<ServeSettings>()? };
    let listener =
        TcpListener::bind(settings.listen).await.with_context(|| format!("can't listen on {}", settings.listen))?;
    let address = listener.local_addr()?;
    let home = fresh_home(global)?;
    let slices = if arguments.data.is_empty() {
        print("== No data given: generating synthetic playlists. No artist or track in them is real.")?;
        let folder = home.folder.join("synthetic");
        generate(&GenerateSettings { playlists: 2_000, tracks: 10_000, seed: 1 }, &folder)?;
        vec![folder]
    } else {
        arguments.data
    };

    print(&format!("== Importing into the demo's own PostgreSQL in {}", home.folder.display()))?;
    let catalog = Catalog::open(None, None, &home.folder).await?;
    let report = import_mpd(&catalog, &slices, &home.folder.join("data/rejects/import.ndjson"), interrupt).await?;
    print(&report.text())?;
    if report.interrupted {
        bail!("stopped");
    }
    let counts = catalog.counts().await?;
    print(&format!("catalog      {} playlists, {} placements", counts.playlists, counts.placements))?;

    let global = Global { home: home.folder.clone(), ..global.clone() };
    print("== Training for completions: retrievers and a ranking")?;
    let manifest = completion::train(&global, &catalog, short_training()?, interrupt).await?;
    print(&format!("published    {} {}", manifest.kind, manifest.version))?;

    print("== Training Track2Vec")?;
    let manifest = similarity::train(&global, &catalog, defaults::<SimilarityArguments>()?, interrupt).await?;
    let metrics = &manifest.metrics["next_track"];
    print(&format!("published    {} {}", manifest.kind, manifest.version))?;
    print(&format!(
        "next track   Hit@10 {:.4}, NDCG@10 {:.4}",
        number(&metrics["hit_at_10"]),
        number(&metrics["ndcg_at_10"])
    ))?;

    let state = AppState::new(catalog.clone(), &global.models(), &settings)?;
    let serving = tokio::spawn({
        let (settings, interrupt) = (settings.clone(), interrupt.clone());
        async move { serve(listener, state, &settings, interrupt).await }
    });
    let shown = show_answers(address, &catalog).await;
    if let Err(error) = &shown {
        warn(&format!("error: {error:#}"));
    }
    if arguments.once || shown.is_err() {
        interrupt.raise();
    } else {
        print(&format!("\nServing on http://{address} (try it there: http://{address}/docs). Ctrl-C stops it."))?;
    }
    serving.await??;
    catalog.close().await;
    Ok(if shown.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The demo's own state, and the claim on it.
struct DemoHome {
    folder: PathBuf,
    /// Held for as long as the demo runs.
    _lock: File,
}

/// `data/demo` below the home folder, emptied: a demo shows what is in front of it, not what an earlier one left.
fn fresh_home(global: &Global) -> anyhow::Result<DemoHome> {
    let data = global.home.join("data");
    fs::create_dir_all(&data).with_context(|| data.display().to_string())?;
    let lock = File::create(data.join("demo.lock"))?;
    if lock.try_lock().is_err() {
        bail!("another demo runs in {}; stop it first, or give this one its own --home", data.display());
    }
    let folder = data.join("demo");
    if folder.join("data/postgres").exists() {
        // A demo that was killed may have left its PostgreSQL running; joining and leaving it stops it.
        drop(crate::catalog::EmbeddedPostgres::start(&folder)?);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("could not clear {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;
    Ok(DemoHome { folder: folder.canonicalize()?, _lock: lock })
}

/// A subcommand's arguments as they are when none is given.
fn defaults<T: clap::Args>() -> anyhow::Result<T> {
    let command = T::augment_args(clap::Command::new("defaults"));
    Ok(T::from_arg_matches(&command.get_matches_from(["defaults"]))?)
}

/// Less than is good for a catalog that matters: a demo should not keep anyone waiting.
fn short_training() -> anyhow::Result<CompletionArguments> {
    let mut arguments = defaults::<CompletionArguments>()?;
    let settings = &mut arguments.settings;
    (settings.factors, settings.als_iterations) = (32, 6);
    (settings.folds, settings.maskings, settings.trees, settings.order_trees) = (3, 1, 100, 50);
    settings.without_neumf = true;
    Ok(arguments)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// Asks the server two questions over HTTP and prints both with names.
async fn show_answers(address: SocketAddr, catalog: &Catalog) -> anyhow::Result<()> {
    let id = catalog.sample_playlist(20).await?.context("no playlist is long enough to complete")?;
    let path = format!("/playlists/{}/complete", percent_encode(id.as_str()));
    let playlist =
        request(address, "GET", &format!("/playlists/{}?limit=500", percent_encode(id.as_str())), "").await?;
    let title = playlist["title"].as_str().unwrap_or("(no title)");
    print(&format!("\n== What comes next in the playlist {title:?}, which ends with"))?;
    let tracks = playlist["tracks"].as_array().map_or(&[][..], Vec::as_slice);
    for track in &tracks[tracks.len().saturating_sub(5)..] {
        print(&format!("     {}", label(track)))?;
    }
    let body = format!("{{\"limit\": {SHOWN}}}");
    let completion = request(address, "POST", &path, &body).await?;
    print_items(&completion)?;
    print(&format!("   curl -X POST http://{address}{path} -H 'content-type: application/json' -d '{body}'"))?;

    let track = tracks.last().context("the playlist is empty")?;
    let track_id = track["track_id"].as_str().context("a track without id")?;
    let path = format!("/tracks/{}/similar?limit={SHOWN}", percent_encode(track_id));
    print(&format!("\n== Tracks similar to {}", label(track)))?;
    print_items(&request(address, "GET", &path, "").await?)?;
    print(&format!("   curl 'http://{address}{path}'"))?;
    Ok(())
}

fn print_items(answer: &Value) -> anyhow::Result<()> {
    let items =
        answer["items"].as_array().filter(|items| !items.is_empty()).context("the server recommended nothing")?;
    print(&format!("   -> by {}", answer["source"].as_str().unwrap_or_default()))?;
    for (rank, item) in items.iter().enumerate() {
        print(&format!("   {:2}. {}  ({:.3})", rank + 1, label(item), number(&item["score"])))?;
    }
    Ok(())
}

fn label(track: &Value) -> String {
    let text = |key| track[key].as_str().unwrap_or("?");
    format!("{} - {}", text("artist"), text("name"))
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// One request to the server beside us, one JSON answer.
async fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{method} {path} answered {}: {body}", head.lines().next().unwrap_or_default());
    }
    Ok(serde_json::from_str(body)?)
}
