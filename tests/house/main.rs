//! The layout of `src/`: which folder may import which, where outside crates may be named, and no circles of files.
//!
//! The walls are in [`WALLS`] and [`CRATES`]; docs/architecture.md says what each folder is for.

#![expect(clippy::expect_used, reason = "in a test's helpers a failed expectation is the failure of the test")]

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use imports::{Import, Sources};

/// Each folder (or file) directly below `src/`, and the ones that it may import.
const WALLS: &[(&str, &[&str])] = &[
    ("math", &[]),
    ("progress", &[]),
    ("telemetry", &[]),
    ("config", &[]),
    ("generate", &[]),
    ("catalog", &["progress"]),
    ("import", &["catalog", "progress"]),
    ("dataset", &["catalog", "math"]),
    ("scoring", &["math"]),
    ("bundle", &["dataset", "math", "scoring"]),
    ("recommend", &["bundle", "dataset", "math", "scoring"]),
    // A challenge set is a file in the format of an import.
    ("evaluate", &["bundle", "dataset", "import", "math", "progress", "recommend", "scoring"]),
    ("train", &["bundle", "catalog", "dataset", "evaluate", "math", "progress", "recommend", "scoring"]),
    ("serve", &["bundle", "catalog", "dataset", "math", "progress", "recommend", "scoring"]),
];

/// The command line puts everything together.
const ABOVE_ALL: &[&str] = &["cli", "lib", "main"];

/// Outside crates that only these folders may name.
const CRATES: &[(&str, &[&str])] =
    &[("tch", &["train"]), ("sqlx", &["catalog"]), ("axum", &["serve"]), ("reqwest", &[])];

fn crossed_walls(imports: &[Import]) -> Vec<String> {
    let mut crossed = BTreeSet::new();
    for import in imports {
        let (from, to) = (room(&import.from), room(&import.to));
        if from == to || ABOVE_ALL.contains(&from) {
            continue;
        }
        match WALLS.iter().find(|(folder, _)| *folder == from) {
            Some((_, allowed)) if allowed.contains(&to) => {}
            Some(_) => {
                crossed.insert(format!("{} must not import {} (`{}`)", import.from, import.to, import.name));
            }
            None => {
                crossed.insert(format!("{}: list its folder `{from}` in WALLS", import.from));
            }
        }
    }
    crossed.into_iter().collect()
}

fn misplaced_crates(crates: &[(String, String)]) -> Vec<String> {
    let mut misplaced = BTreeSet::new();
    for (file, name) in crates {
        if let Some((_, folders)) = CRATES.iter().find(|(restricted, _)| restricted == name)
            && !folders.contains(&room(file))
        {
            misplaced.insert(format!("{file} must not name the crate {name}"));
        }
    }
    misplaced.into_iter().collect()
}

/// Groups of files that import each other in a circle, each with the imports that tie it.
fn circles(imports: &[Import]) -> Vec<String> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for import in imports {
        next.entry(&import.from).or_default().insert(&import.to);
    }
    let reachable = |start: &str| {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = next.get(start).into_iter().flatten().copied().collect();
        while let Some(file) = open.pop() {
            if seen.insert(file) {
                open.extend(next.get(file).into_iter().flatten().copied());
            }
        }
        seen
    };
    let reaches: BTreeMap<&str, BTreeSet<&str>> = next.keys().map(|&file| (file, reachable(file))).collect();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for (&file, reached) in &reaches {
        if !reached.contains(file) || named.contains(file) {
            continue;
        }
        let circle: BTreeSet<&str> = reached
            .iter()
            .copied()
            .filter(|other| reaches.get(other).is_some_and(|back| back.contains(file)))
            .collect();
        named.extend(&circle);
        let mut ties: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for import in imports.iter().filter(|import| circle.contains(&*import.from) && circle.contains(&*import.to)) {
            ties.entry((&import.from, &import.to)).or_default().push(&import.name);
        }
        let ties: Vec<String> =
            ties.iter().map(|((from, to), names)| format!("\n  {from} imports {to}: {}", names.join(", "))).collect();
        found.push(format!("a circle of {} files:{}", circle.len(), ties.concat()));
    }
    found
}

/// `serve` for `src/serve/http/listener.rs`, `config` for `src/config.rs`.
fn room(file: &str) -> &str {
    let below = file.strip_prefix("src/").unwrap_or(file);
    below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
}

/// All of `src/` as it stands.
fn tree() -> Sources {
    fn read(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("src/ can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                read(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    read(&root.join("src"), &mut paths);
    Sources::parse(paths.into_iter().map(|path| {
        let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).expect("UTF-8"))
    }))
}

fn sources(files: &[(&str, &str)]) -> Sources {
    Sources::parse(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())))
}

#[test]
fn no_import_crosses_a_wall() {
    let crossed = crossed_walls(&tree().imports());
    assert!(crossed.is_empty(), "{}", crossed.join("\n"));
}

#[test]
fn outside_crates_are_named_where_they_belong() {
    let misplaced = misplaced_crates(&tree().outside_crates());
    assert!(misplaced.is_empty(), "{}", misplaced.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = circles(&tree().imports());
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn every_folder_has_its_walls() {
    let imports = tree().imports();
    let rooms: BTreeSet<&str> = imports.iter().map(|import| room(&import.from)).collect();
    let listed: BTreeSet<&str> = WALLS.iter().map(|(folder, _)| *folder).chain(ABOVE_ALL.iter().copied()).collect();
    assert!(rooms.is_subset(&listed), "{:?}", rooms.difference(&listed));
    assert!(imports.len() > 500, "only {} imports were seen in src/", imports.len());
}

#[test]
fn a_crossed_wall_is_reported_with_both_files() {
    let crossed = crossed_walls(
        &sources(&[
            ("src/lib.rs", "pub mod math; pub mod recommend; pub mod serve;"),
            ("src/math/mod.rs", "pub mod linear;"),
            ("src/math/linear.rs", "use crate::recommend::rank::Ranking;"),
            ("src/recommend/mod.rs", "pub mod rank;"),
            ("src/recommend/rank.rs", "pub struct Ranking; fn f() { crate::serve::start(); }"),
            ("src/serve/mod.rs", "pub fn start() {}"),
        ])
        .imports(),
    );
    assert_eq!(
        crossed,
        [
            "src/math/linear.rs must not import src/recommend/rank.rs (`crate::recommend::rank::Ranking`)",
            "src/recommend/rank.rs must not import src/serve/mod.rs (`crate::serve::start`)"
        ]
    );
}

#[test]
fn an_outside_crate_in_the_wrong_folder_is_reported() {
    let crates = sources(&[
        ("src/lib.rs", "pub mod serve; pub mod train;"),
        ("src/serve.rs", "fn f() { tch::set_num_threads(1); }"),
        ("src/train.rs", "use tch::Tensor;"),
    ])
    .outside_crates();
    assert_eq!(misplaced_crates(&crates), ["src/serve.rs must not name the crate tch"]);
}

#[test]
fn a_circle_is_reported_with_the_imports_that_tie_it() {
    let tied = sources(&[
        ("src/lib.rs", "pub mod math;"),
        ("src/math/mod.rs", "mod csr; mod linear; pub use csr::Csr; pub use linear::dot;"),
        ("src/math/csr.rs", "use super::dot; pub struct Csr;"),
        ("src/math/linear.rs", "use crate::math::Csr; pub fn dot() {}"),
    ]);
    assert_eq!(
        circles(&tied.imports()),
        ["a circle of 2 files:\n  src/math/csr.rs imports src/math/linear.rs: crate::math::dot\n  \
          src/math/linear.rs imports src/math/csr.rs: crate::math::Csr"]
    );
    let parent = sources(&[
        ("src/lib.rs", "pub mod math;"),
        ("src/math/mod.rs", "mod csr; pub struct Error; pub fn rows() { csr::rows(); }"),
        ("src/math/csr.rs", "use super::Error; pub fn rows() {}"),
    ]);
    assert_eq!(circles(&parent.imports()).len(), 1);
}

#[test]
fn tests_within_files_may_import_what_they_need() {
    let sources = sources(&[
        ("src/lib.rs", "pub mod math; pub mod serve;"),
        ("src/math.rs", "#[cfg(test)] mod tests { use super::*; use crate::serve::start; }"),
        ("src/serve.rs", "pub fn start() {}"),
    ]);
    assert!(sources.imports().is_empty());
}
