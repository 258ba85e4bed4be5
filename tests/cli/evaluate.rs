//! `segue evaluate completion` and `segue submit`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::support::database::Database;
use crate::support::program::{Home, text};
use crate::support::slices::{generated, gzip, write, write_slices};

/// A home with a catalog of the first 300 of 330 playlists and models of both kinds trained on it, and a challenge set of the rest.
struct Fixture {
    home: Home,
    database: Database,
    challenge: PathBuf,
    truth: PathBuf,
    /// ids of tracks by pid
    seeds: HashMap<String, HashSet<String>>,
    /// artists by id of track
    artists: HashMap<String, String>,
}

const KINDS: [(&str, usize, bool); 3] = [("title", 0, true), ("title_first1", 1, true), ("first5", 5, false)];

async fn fixture() -> Fixture {
    let playlists = generated(330, 1_200, 5);
    let (home, database) = (Home::new(), Database::new().await);
    write_slices(&home.path().join("slices"), &playlists[..300], 300);
    home.segue(&["import", "mpd", "slices", "--database-url", database.url()]).succeed();
    train(&home, &database);

    let mut artists = HashMap::new();
    for track in playlists.iter().flat_map(|playlist| playlist["tracks"].as_array().expect("tracks")) {
        let of = |field: &str| track[field].as_str().expect("text").to_owned();
        artists.insert(of("track_uri"), of("artist_name"));
    }
    let (mut masked, mut truth, mut seeds) = (Vec::new(), Map::new(), HashMap::new());
    for (playlist, (kind, seen, has_title)) in playlists[300..].iter().zip(KINDS.iter().cycle()) {
        let (seen, rest) = playlist["tracks"].as_array().expect("tracks").split_at(*seen);
        let mut seen = seen.to_vec();
        if *kind == "first5" {
            // No one knows this one.
            seen[4]["track_uri"] = json!("unheard:seed");
        }
        let pid = &playlist["pid"];
        let mut entry = json!({"pid": pid, "num_samples": seen.len(), "num_holdouts": rest.len(), "tracks": seen});
        if *has_title {
            entry["name"] = playlist["name"].clone();
        }
        let seen: HashSet<String> =
            seen.iter().map(|track| track["track_uri"].as_str().expect("text").to_owned()).collect();
        // Distinct ones, as in the challenge: generated playlists repeat a track now and then.
        let mut taken = seen.clone();
        let mut holdouts: Vec<Value> = rest.iter().map(|track| track["track_uri"].clone()).collect();
        holdouts.retain(|uri| taken.insert(uri.as_str().expect("text").to_owned()));
        holdouts.push(json!(format!("unheard:{pid}")));
        masked.push(entry);
        seeds.insert(pid.to_string(), seen);
        truth.insert(pid.to_string(), json!({"category": kind, "holdouts": holdouts}));
    }
    let challenge = gzip(json!({"version": "v1", "playlists": masked}).to_string().as_bytes());
    Fixture {
        challenge: write(home.path(), "challenge.json.gz", challenge),
        truth: write(home.path(), "truth.json", Value::Object(truth).to_string()),
        home,
        database,
        seeds,
        artists,
    }
}

/// Flags of a completion model that is trained in a second or two.
const QUICK: [&str; 12] = [
    "--factors",
    "8",
    "--als-iterations",
    "2",
    "--folds",
    "2",
    "--maskings",
    "1",
    "--trees",
    "20",
    "--order-trees",
    "10",
];

/// What is compared where no model is named.
const DEFAULT_MODELS: [&str; 6] = ["ranking", "playlist-knn", "item-knn", "als", "title", "popularity"];

fn train(home: &Home, database: &Database) {
    let tiny = ["--dim", "8", "--epochs", "3", "--batch", "1024", "--subsample", "0.001"];
    let finished = home.segue(&[&["train", "similarity", "--database-url", database.url()][..], &tiny].concat()).run();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for stage in ["1 of 5: vectors", "2 of 5: examples", "3 of 5: ranking", "4 of 5: measuring", "5 of 5: lists"] {
        assert!(finished.stderr.contains(&format!("stage {stage}")), "{stage}: {finished:?}");
    }
    let finished = home.segue(&[&["train", "completion", "--database-url", database.url()][..], &QUICK].concat()).run();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for stage in ["1 of 4: fold", "2 of 4: ranking", "3 of 4: index", "4 of 4: NeuMF"] {
        assert!(finished.stderr.contains(&format!("stage {stage}")), "{stage}: {finished:?}");
    }
}

/// Names of the models in a report.
fn names(report: &Value) -> Vec<&str> {
    let models = report["models"].as_array().expect("models");
    models.iter().map(|model| model["name"].as_str().expect("a name")).collect()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// The lines of a submission: pid and ids of tracks. Nothing in generated ids has to be quoted.
fn submission(path: &Path) -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(path).expect("a file");
    let mut lines = text.lines().map(|line| line.split(',').map(ToOwned::to_owned).collect::<Vec<String>>());
    assert_eq!(lines.next().expect("a line"), ["team_info", "us", "us@example.org"]);
    lines.map(|mut line| (line.remove(0), line)).collect()
}

/// R-precision with artists, NDCG and clicks, written once more after the challenge's rules, over lists of ids.
fn score(ranked: &[String], holdouts: &[&str], artists: &HashMap<String, String>) -> [f64; 3] {
    let top = &ranked[..holdouts.len()];
    let is_hit = |id: &&String| holdouts.contains(&id.as_str());
    let hits: Vec<&String> = top.iter().filter(is_hit).collect();
    let hit_artists: HashSet<&String> = hits.iter().filter_map(|id| artists.get(*id)).collect();
    let credits: HashSet<&String> = top
        .iter()
        .filter_map(|id| artists.get(id))
        .filter(|artist| !hit_artists.contains(artist))
        .filter(|artist| holdouts.iter().any(|id| artists.get(*id) == Some(artist)))
        .collect();
    let gain = |rank: usize| 1.0 / (rank as f64 + 1.0).log2();
    let ranks: Vec<usize> = (1..=ranked.len()).filter(|rank| is_hit(&&ranked[rank - 1])).collect();
    [
        (hits.len() as f64 + 0.25 * credits.len() as f64) / holdouts.len() as f64,
        ranks.iter().copied().map(gain).sum::<f64>() / (1..=holdouts.len()).map(gain).sum::<f64>(),
        ranks.first().map_or(51.0, |rank| ((rank - 1) / 10) as f64),
    ]
}

#[tokio::test]
async fn a_submission_is_complete_and_a_report_says_of_it_what_scoring_the_file_says() {
    let Fixture { home, database, challenge, truth, seeds, artists } = fixture().await;
    let evaluate = ["evaluate", "completion", "--database-url", database.url(), "--challenge", text(&challenge)];
    let models = ["ranking", "title", "track2vec", "popularity"];
    let how = ["--truth", text(&truth), "--format", "json", "--model", &models.join(",")];
    let report = home.segue(&[&evaluate[..], &how].concat()).succeed();
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!((report["playlists"].as_u64(), names(&report)), (Some(30), models.to_vec()));
    let (truth, out) = (read_json(&truth), home.path().join("out.csv"));
    let mut lists = Vec::new();
    for (number, model) in models.into_iter().enumerate() {
        let who = ["--team", "us", "--email", "us@example.org", "--model", model];
        home.segue(&[&["submit", "--challenge", text(&challenge), "--out", text(&out)][..], &who].concat()).succeed();
        let lines = submission(&out);
        let pids: Vec<String> = (300..330).map(|pid| pid.to_string()).collect();
        assert_eq!(lines.iter().map(|line| line.0.clone()).collect::<Vec<String>>(), pids);
        let mut sums: HashMap<&str, Vec<[f64; 3]>> = HashMap::new();
        for (pid, ranked) in &lines {
            assert_eq!(ranked.len(), 500, "{model}: {pid}");
            assert_eq!(ranked.iter().collect::<HashSet<_>>().len(), 500, "{model}: {pid} has a track twice");
            assert!(!ranked.iter().any(|id| seeds[pid].contains(id)), "{model}: {pid} has a seed");
            let truth = &truth[pid];
            let holdouts: Vec<&str> =
                truth["holdouts"].as_array().expect("tracks").iter().map(|id| id.as_str().expect("text")).collect();
            let metrics = score(ranked, &holdouts, &artists);
            for kind in ["all", truth["category"].as_str().expect("text")] {
                sums.entry(kind).or_default().push(metrics);
            }
        }
        let measured = &report["models"][number];
        assert_eq!(measured["name"], model);
        assert_eq!(measured["kinds"].as_object().expect("kinds").len(), KINDS.len());
        for (kind, scores) in &sums {
            let of_kind = if *kind == "all" { &measured["all"] } else { &measured["kinds"][kind] };
            assert_eq!(of_kind["playlists"], scores.len(), "{model} {kind}");
            for (metric, name) in ["r_precision", "ndcg", "clicks"].into_iter().enumerate() {
                let mean = scores.iter().map(|score| score[metric]).sum::<f64>() / scores.len() as f64;
                let measured = of_kind[name].as_f64().expect("a number");
                assert!((measured - mean).abs() < 1e-9, "{model} {kind} {name}: {measured} instead of {mean}");
            }
        }
        lists.push(lines);
    }
    for (number, list) in lists.iter().enumerate() {
        assert!(!lists[..number].contains(list), "{} answers as another model does", models[number]);
    }
    let who = ["--team", "us", "--email", "us@example.org"];
    home.segue(&[&["submit", "--challenge", text(&challenge), "--out", text(&out)][..], &who].concat()).succeed();
    assert_eq!(submission(&out), lists[0], "the ranking is what answers where no model is named");
}

#[tokio::test]
async fn playlists_of_the_catalog_are_withheld_by_the_seed_and_the_published_models_stay() {
    let Fixture { home, database, .. } = fixture().await;
    let current = || {
        let version = |kind: &str| fs::read_link(home.models().join(kind).join("current")).expect("a version");
        ["completion", "similarity"].map(version)
    };
    let published = current();
    let evaluate = |seed: &str, models: &[&str]| {
        let split = ["--playlists", "30", "--seed", seed, "--format", "json", "--plot", "metrics.svg"];
        let command = ["evaluate", "completion", "--database-url", database.url()];
        let command = [&command[..], &split, &QUICK, models].concat();
        let mut report: Value = serde_json::from_str(&home.segue(&command).succeed()).expect("JSON");
        for model in report["models"].as_array_mut().expect("models") {
            let latency = model.as_object_mut().expect("a model").remove("latency_ms").expect("latency");
            assert!(latency["median"].as_f64() <= latency["p99"].as_f64(), "{latency}");
        }
        report
    };
    let first = evaluate("1", &[]);
    assert_eq!(names(&first), DEFAULT_MODELS);
    // Few generated playlists have 105 tracks: those kinds may lack some.
    let playlists = first["playlists"].as_u64().expect("a number");
    assert!((24..=30).contains(&playlists), "{first}");
    let ndcg = |report: &Value, model: usize| report["models"][model]["all"]["ndcg"].as_f64().expect("a number");
    assert!((0..DEFAULT_MODELS.len()).all(|model| ndcg(&first, model) > 0.0), "{first}");
    assert!(ndcg(&first, 0) > ndcg(&first, 5), "the ranking is no better than popularity: {first}");
    assert_eq!(evaluate("1", &[]), first);
    assert_ne!(evaluate("2", &[]), first);
    let two = evaluate("1", &["--model", "track2vec,popularity"]);
    assert_eq!((names(&two), ndcg(&two, 1)), (vec!["track2vec", "popularity"], ndcg(&first, 5)));
    assert!(ndcg(&two, 0) > 0.0, "{two}");
    assert_eq!(current(), published);
    assert!(!home.path().join("data/evaluation").exists(), "the model that was only to be measured is still there");
    let picture = fs::read_to_string(home.path().join("metrics.svg")).expect("a picture");
    assert!(picture.contains("NDCG") && picture.contains("popularity"), "{picture}");
}

#[tokio::test]
async fn a_challenge_that_can_not_be_met_or_read_is_refused_with_the_reason() {
    let (home, database) = (Home::new(), Database::new().await);
    write_slices(&home.path().join("slices"), &generated(60, 400, 5), 60);
    let challenge = json!({"playlists": [{"pid": 77, "name": "x", "tracks": []}]});
    write(home.path(), "challenge.json", challenge.to_string());
    let submit = |challenge: &str| home.segue(&["submit", "--challenge", challenge, "--out", "out.csv"]).run();
    let without_model = submit("challenge.json");
    assert_eq!(without_model.code, Some(1), "{without_model:?}");
    assert!(without_model.stderr.contains("segue train completion"), "{without_model:?}");
    let track2vec = ["submit", "--challenge", "challenge.json", "--out", "out.csv", "--model", "track2vec"];
    let without_model = home.segue(&track2vec).run();
    assert_eq!(without_model.code, Some(1), "{without_model:?}");
    assert!(without_model.stderr.contains("segue train similarity"), "{without_model:?}");

    home.segue(&["import", "mpd", "slices", "--database-url", database.url()]).succeed();
    train(&home, &database);
    write(home.path(), "truncated.json", r#"{"playlists": [{"pid": 77, "tra"#);
    write(home.path(), "truth.json", r#"{"78": {"category": "title", "holdouts": ["a"]}}"#);
    for (challenge, words) in [
        ("challenge.json", ["playlist 77", "500"]),
        ("truncated.json", ["truncated.json", "at byte"]),
        ("missing.json", ["missing.json", "No such file"]),
    ] {
        let finished = submit(challenge);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        words.iter().for_each(|word| assert!(finished.stderr.contains(word), "{finished:?}"));
        assert!(!home.path().join("out.csv").exists(), "{challenge}: something was written");
    }
    let evaluate = ["evaluate", "completion", "--challenge", "challenge.json", "--truth", "truth.json"];
    let finished = home.segue(&evaluate).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("truth.json: it lacks playlist 77"), "{finished:?}");
    let too_many = ["evaluate", "completion", "--playlists", "31", "--database-url", database.url()];
    let finished = home.segue(&too_many).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("31 of 60 playlists can't be held out"), "{finished:?}");
}
