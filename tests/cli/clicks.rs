//! `segue import kkbox`, `segue train clicks`, `segue evaluate clicks`, `segue tune clicks`.

use serde_json::Value;

use crate::support::clicks::write_kkbox;
use crate::support::database::Database;
use crate::support::program::{Home, text};

#[tokio::test]
async fn listens_are_imported_trained_evaluated_and_tuned() {
    let (home, database) = (Home::new(), Database::new().await);
    let folder = write_kkbox(home.path());
    let url = ["--database-url", database.url()];
    let segue = |arguments: &[&str]| home.segue(&[arguments, &url].concat()).succeed();
    let printed = segue(&["import", "kkbox", text(&folder)]);
    let line = |name: &str| printed.lines().find(|line| line.starts_with(name)).unwrap_or_default().split_whitespace();
    assert!(line("listens").eq(["listens", "920", "0", "0"]) && line("users").nth(1) == Some("30"), "{printed}");

    let brief = ["--seeds", "1", "--epochs", "10", "--threads", "1"];
    let models = ["--model", "fm,trees"];
    let report = segue(&[&["evaluate", "clicks", "--format", "json"], &models[..], &brief].concat());
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let names: Vec<&str> = report.as_array().expect("models").iter().filter_map(|one| one["model"].as_str()).collect();
    assert_eq!(names, ["fm", "trees", "ensemble"]);
    for model in report.as_array().expect("models") {
        assert_eq!((model["split"].as_str(), model["listens"].as_u64()), (Some("time"), Some(180)), "{model}");
        assert!(["auc", "logloss", "calibration_error", "user_auc"].iter().all(|key| model[key].is_f64()), "{model}");
        assert_eq!(model["reliability"].as_array().map(Vec::len), Some(10));
    }
    let picture = home.path().join("reliability.svg");
    let random = ["--split", "random", "--variant", "transductive", "--plot", text(&picture)];
    let table = segue(&[&["evaluate", "clicks", "--model", "logistic-regression"], &random[..], &brief].concat());
    assert!(table.contains("random ones") && table.contains("logistic-regression"), "{table}");
    assert!(std::fs::read_to_string(&picture).expect("a picture").contains("ECE"));

    let printed = segue(&[&["train", "clicks"], &models[..], &brief].concat());
    assert!(printed.starts_with("published clicks "), "{printed}");
    let listed = home.segue(&["models"]).succeed();
    assert!(listed.lines().nth(1).is_some_and(|line| line.starts_with("clicks")), "{listed}");
    let tuned = segue(&[&["tune", "clicks", "--model", "fm", "--trials", "2", "--best", "2"], &brief[..]].concat());
    assert!(tuned.lines().last().is_some_and(|line| line.starts_with("segue train clicks --model fm --")), "{tuned}");
}

#[test]
fn what_is_wrong_is_said() {
    let home = Home::new();
    for (arguments, code, word) in [
        (vec!["import", "kkbox", "nowhere"], 1, "this is no folder"),
        (vec!["train", "clicks", "--model", "oracle"], 2, "oracle"),
        (vec!["train", "clicks", "--validation", "2"], 1, "--validation"),
        (vec!["evaluate", "clicks", "--split", "alphabet"], 2, "alphabet"),
        (vec!["evaluate", "clicks", "--plot", "x.pdf"], 2, ".svg or .png"),
        (vec!["tune", "clicks", "--without", "2"], 1, "--without"),
    ] {
        let finished = home.segue(&arguments).run();
        assert_eq!(finished.code, Some(code), "{finished:?}");
        assert!(finished.stderr.contains(word), "{arguments:?}: {finished:?}");
    }
}
