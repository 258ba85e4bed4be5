//! `segue demo`.

use crate::support::program::{Home, text};
use crate::support::slices::{generated, write_slices};

#[test]
fn the_demo_shows_a_completion_and_similar_tracks_with_names_and_leaves_nothing_running() {
    let home = Home::new();
    let slices = home.path().join("slices");
    write_slices(&slices, &generated(60, 400, 3), 60);
    for run in 0..2 {
        let printed = home.segue(&["demo", "--once", "--data", text(&slices)]).succeed();
        let playlists = printed.lines().find(|line| line.starts_with("playlists ")).unwrap_or_default();
        assert!(playlists.split_whitespace().eq(["playlists", "60", "0", "0"]), "run {run} begins anew: {printed}");
        for kind in ["completion", "similarity"] {
            assert!(printed.contains(&format!("published    {kind} ")), "{printed}");
        }
        let shown = [("== What comes next in the playlist ", "ranking"), ("== Tracks similar to ", "track2vec")];
        for (heading, source) in shown {
            let (_, answer) = printed.split_once(heading).unwrap_or_else(|| panic!("no {heading:?} in {printed}"));
            let (_, items) = answer.split_once("-> by ").expect("a source");
            assert!(items.starts_with(source), "{heading}: {items}");
            for rank in 1..=10 {
                let start = format!("{rank:5}. ");
                let line = items.lines().find_map(|line| line.strip_prefix(&start));
                let line = line.unwrap_or_else(|| panic!("no line {rank} in {items}"));
                let (name, score) = line.rsplit_once("  (").expect("a score");
                let (artist, title) = name.split_once(" - ").expect("artist and title");
                assert!(artist.len() > 1 && title.len() > 1 && !name.contains('?'), "{line}");
                score.trim_end_matches(')').parse::<f64>().expect("a number");
            }
        }
        assert!(printed.contains("curl -X POST http://127.0.0.1:"), "{printed}");
        let demo = home.path().join("data/demo");
        assert!(demo.join("data/postgres/PG_VERSION").exists());
        assert!(!demo.join("data/postgres/postmaster.pid").exists());
        home.assert_nothing_runs();
    }
    assert!(!home.models().exists() && !home.path().join("data/postgres").exists(), "what is the demo's is apart");
}

#[test]
fn a_demo_of_data_that_is_not_there_ends_with_1_and_leaves_nothing_running() {
    let home = Home::new();
    let finished = home.segue(&["demo", "--once", "--data", "nowhere"]).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("nowhere"), "{finished:?}");
    home.assert_nothing_runs();
}

#[test]
fn ctrl_c_ends_a_serving_demo_with_0_and_leaves_nothing_running() {
    let home = Home::new();
    let slices = home.path().join("slices");
    write_slices(&slices, &generated(60, 400, 3), 60);
    let running = home.segue(&["demo", "--data", text(&slices)]).start();
    let serving = running.wait_for_output("Serving on ");
    let url = serving.split_whitespace().next().expect("a URL");
    let live = home.segue(&["healthcheck", "--url", &format!("{url}/health/live")]).succeed();
    assert!(live.starts_with("200"), "{live}");
    running.wait_for_output("Ctrl-C stops it");
    running.interrupt();
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    home.assert_nothing_runs();
}
