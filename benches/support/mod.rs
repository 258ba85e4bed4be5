//! What the benchmarks share: a home folder with a catalog and models, and the program itself.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use segue::bundle::{Kind, current_version};
use segue::catalog::PlaylistRecord;
use segue::import::mpd::{find_slices, parse_slice};
use segue::import::{BytesRead, read_file};

/// Imports what `--data` names, or synthetic playlists, and trains briefly; some of the playlists, shuffled.
pub fn prepare(home: &Path) -> Vec<PlaylistRecord> {
    let arguments: Vec<String> = std::env::args().collect();
    let data: Vec<PathBuf> =
        arguments.iter().skip_while(|argument| *argument != "--data").skip(1).map(PathBuf::from).take(1).collect();
    let slices = if data.is_empty() {
        let folder = home.join("synthetic");
        segue(home, &["generate", "--playlists", "5000", "--tracks", "60000", "--out", &text(&folder)]);
        vec![folder]
    } else {
        data
    };
    let mut import = vec!["import", "mpd"];
    let paths: Vec<String> = slices.iter().map(|path| text(path)).collect();
    import.extend(paths.iter().map(String::as_str));
    segue(home, &import);
    segue(home, &["train", "similarity", "--epochs", "1"]);
    let brief =
        ["--folds", "2", "--maskings", "1", "--ranking-playlists", "600", "--negatives", "50", "--without-neumf"];
    segue(home, &[&["train", "completion"], brief.as_slice()].concat());

    let mut playlists: Vec<PlaylistRecord> = Vec::new();
    for file in find_slices(&slices).expect("slices").iter().take(2) {
        let bytes = read_file(file, &BytesRead::default()).expect("a slice");
        playlists.extend(parse_slice(file, &bytes).expect("a slice").playlists);
    }
    playlists.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(1));
    playlists
}

/// What a version's copy is called beside it.
const COPY: &str = "-copy";

/// Publishes a copy of each bundle beside it, so that there is something to swap.
pub fn copy_bundles(home: &Path) {
    for kind in Kind::ALL {
        let models = home.join("models");
        let Some(version) = current_version(&models, kind) else { continue };
        let (from, to) = (models.join(kind.as_str()).join(&version), models.join(kind.as_str()).join(other(&version)));
        if version.ends_with(COPY) || to.exists() {
            continue;
        }
        std::fs::create_dir(&to).expect("a folder");
        for entry in std::fs::read_dir(&from).expect("a bundle").flatten() {
            if entry.file_name() != "manifest.json" {
                std::fs::hard_link(entry.path(), to.join(entry.file_name())).expect("a link");
            }
        }
        let manifest = std::fs::read(from.join("manifest.json")).expect("a manifest");
        let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        manifest["version"] = other(&version).into();
        std::fs::write(to.join("manifest.json"), manifest.to_string()).expect("a manifest");
    }
}

/// The version to swap `version` for.
pub fn other(version: &str) -> String {
    version.strip_suffix(COPY).map_or_else(|| format!("{version}{COPY}"), ToOwned::to_owned)
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The program in a home folder, not started yet.
pub fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command
        .args(arguments)
        .env_remove("DATABASE_URL")
        .env("SEGUE_HOME", home)
        .env("SEGUE_LOG", "warn,segue::serve=info");
    command
}

/// Runs a command of the program, which must succeed.
pub fn segue(home: &Path, arguments: &[&str]) {
    let status = command(home, arguments).stdout(Stdio::null()).status().expect("segue starts");
    assert!(status.success(), "segue {arguments:?} failed");
}

/// Starts the server on a free port and waits until it says which.
pub fn serve(home: &Path) -> (Child, String) {
    serve_with(home, &[])
}

/// The same with further flags.
pub fn serve_with(home: &Path, flags: &[&str]) -> (Child, String) {
    let arguments = [&["serve", "--listen", "127.0.0.1:0", "--log-format", "json"], flags].concat();
    let mut child =
        command(home, &arguments).env("SEGUE_LOG", "info").stderr(Stdio::piped()).spawn().expect("segue starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let address = loop {
        let line = lines.next().expect("it says where it listens").expect("text");
        if let Some((_, rest)) = line.split_once("listening on ") {
            break rest.split('"').next().expect("a first part").to_owned();
        }
    };
    // Whoever writes logs must be read.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address)
}

/// Ends the server as a service manager would.
pub fn stop(mut server: Child) {
    let _ = Command::new("kill").args(["-TERM", &server.id().to_string()]).status();
    let _ = server.wait();
}
