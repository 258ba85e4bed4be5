//! `segue import movielens`, `segue train ratings`, `segue evaluate ratings`, `segue tune ratings`, `segue models part`.

use serde_json::Value;

use crate::support::database::Database;
use crate::support::program::{Home, text};
use crate::support::ratings::ratings;
use crate::support::slices::write;

/// A catalog with ratings imported from a file.
async fn imported(home: &Home) -> Database {
    let database = Database::new().await;
    let mut table = String::from("user_id,track_id,rating,rated_at,track_name,genres\n");
    for one in ratings() {
        let genre = one.track.as_str().split(':').next().expect("a genre");
        let time = one.rated_at.unix_timestamp();
        table.push_str(&format!("{},{},{},{time},Song {},{genre}\n", one.user, one.track, one.rating, one.track));
    }
    table.push_str("u1,dub:1,9,1,,\n");
    let file = write(home.path(), "ratings.csv", table);
    let printed = home.segue(&["import", "ratings", text(&file), "--database-url", database.url()]).succeed();
    let line = |name: &str| printed.lines().find(|line| line.starts_with(name)).unwrap_or_default().split_whitespace();
    assert_eq!(line("users").nth(1), Some("60"), "{printed}");
    assert_eq!(line("rejected").nth(1), Some("1"), "{printed}");
    database
}

#[tokio::test]
async fn ratings_are_imported_trained_evaluated_and_taken_apart() {
    let home = Home::new();
    let database = imported(&home).await;
    let url = ["--database-url", database.url()];
    let segue = |arguments: &[&str]| home.segue(&[arguments, &url].concat()).succeed();
    let printed = segue(&["train", "ratings"]);
    assert!(printed.starts_with("published ratings "), "{printed}");
    let listed = home.segue(&["models"]).succeed();
    let line = listed.lines().nth(1).expect("a bundle");
    assert!(line.starts_with("ratings") && line.ends_with("current"), "{listed}");

    let biases = home.segue(&["models", "part", "ratings", "item-bias"]).succeed();
    assert_eq!((biases.lines().next(), biases.lines().count()), (Some("track_id,value_1"), 61), "{biases}");
    let arguments = ["models", "part", "ratings", "item-embedding", "--track", "dub:1,folk:2", "--format", "json"];
    let embeddings: Value = serde_json::from_str(&home.segue(&arguments).succeed()).expect("JSON");
    assert_eq!(embeddings["folk:2"].as_array().map(Vec::len), embeddings["dub:1"].as_array().map(Vec::len));
    let unknown = home.segue(&["models", "part", "ratings", "item-bias", "--track", "nobody's"]).run();
    assert!(unknown.code == Some(1) && unknown.stderr.contains("does not know"), "{unknown:?}");

    let report = segue(&["evaluate", "ratings", "--seed", "0,1", "--model", "gp,baseline", "--format", "json"]);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    for (model, name) in report.as_array().expect("models").iter().zip(["gp", "baseline"]) {
        assert_eq!((model["model"].as_str(), model["splits"].as_array().map(Vec::len)), (Some(name), Some(2)));
        assert!(["mse", "rmse", "mae", "ndcg_at_10"].iter().all(|key| model[key].is_f64()), "{model}");
    }
    assert!(report[0]["mse"].as_f64() < report[1]["mse"].as_f64());
    let table = segue(&["evaluate", "ratings", "--model", "dot", "--plan", "0.01x2"]);
    assert!(table.contains("NDCG@10") && table.lines().last().is_some_and(|line| line.starts_with("dot")), "{table}");
    let tuned = segue(&["tune", "ratings", "--rounds", "1", "--without", "0.2"]);
    assert!(tuned.lines().last().is_some_and(|line| line.starts_with("segue train ratings --")), "{tuned}");
}

#[test]
fn what_is_wrong_is_said() {
    let home = Home::new();
    for (arguments, code, word) in [
        (vec!["import", "movielens"], 2, "FOLDER"),
        (vec!["import", "movielens", "nowhere"], 1, "this is no folder"),
        (vec!["import", "ratings", "x.csv", "--lowest", "5", "--highest", "1"], 1, "--lowest"),
        (vec!["train", "ratings", "--model", "oracle"], 2, "oracle"),
        (vec!["train", "ratings", "--plan", "fast"], 2, "0.001x6"),
        (vec!["evaluate", "ratings", "--withheld", "2"], 1, "--withheld"),
        (vec!["models", "part", "ratings", "item-colour"], 2, "item-colour"),
        (vec!["models", "part", "ratings", "item-bias"], 1, "segue train ratings"),
    ] {
        let finished = home.segue(&arguments).run();
        assert_eq!(finished.code, Some(code), "{finished:?}");
        assert!(finished.stderr.contains(word), "{arguments:?}: {finished:?}");
    }
}
