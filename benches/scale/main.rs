//! Cost against size: `make scale`, or `make scale PARTS="1/64 1/16"`.
//!
//! Generates catalogs that are parts of the Million Playlist Dataset's size, and for each imports it, trains, and serves it
//! under load. What a stage took is written down when it ends, and every few seconds before: a run that was stopped goes
//! on where it was, and a stage that was stopped counts the time of all its runs. At the end there is a table, with the
//! exponent that each cost grows by and what the machine allows, and a picture with logarithmic axes.

#![expect(clippy::expect_used, reason = "a benchmark that can't be set up has nothing to report")]

#[path = "../load/client.rs"]
#[expect(dead_code, reason = "each benchmark uses its own part of it")]
mod client;
mod machine;
mod report;
mod stages;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "each benchmark uses its own part of it")]
mod support;

use std::path::PathBuf;

use stages::Part;

/// The size of the whole: what makes as many placements and tracks as the Million Playlist Dataset has.
const PLAYLISTS: f64 = 1_880_000.0;
const TRACKS: f64 = 2_262_292.0;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let flag = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1).cloned();
    let folder = PathBuf::from(flag("--out").unwrap_or_else(|| "target/scale".to_owned()));
    let names = flag("--parts").unwrap_or_else(|| "1/64 1/16 1/4 1".to_owned());
    let with_neumf = arguments.iter().any(|argument| argument == "--neumf");
    std::fs::create_dir_all(&folder).expect("a folder for results");
    let parts = names.split_whitespace().map(|name| {
        let share = match name.split_once('/') {
            Some((one, of)) => one.parse::<f64>().ok().zip(of.parse::<f64>().ok()).map(|(one, of)| one / of),
            None => name.parse().ok(),
        };
        let share = share.filter(|share| *share > 0.0 && *share <= 1.0).expect("parts are like 1/64");
        Part::new(&folder, name, (PLAYLISTS * share) as usize, (TRACKS * share) as usize)
    });
    let mut parts: Vec<Part> = parts.collect();
    let machine = machine::measure(&folder);
    for part in &mut parts {
        part.run(with_neumf);
        report::write(&folder, &machine);
    }
    println!("{}", report::write(&folder, &machine));
}
