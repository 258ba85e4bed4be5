//! From KKBox's files to a bundle of click models.

use std::path::Path;

use segue::bundle::{BundleFolder, ClickBundle, ClickMember, Kind, Scorer, encode_array};
use segue::catalog::ListensOutcome;
use segue::dataset::listens::{HISTORY, Listening};
use segue::import::import_kkbox;
use segue::progress::Interrupt;
use segue::recommend::clicks::{ClickModel, ObservedListen, Question};
use segue::train::clicks::ClickModelName;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::support::app::flip_byte;
use crate::support::clicks::{
    LISTENS, SONGS, USERS, import_listens, publish_clicks_again, train_clicks_on, write_kkbox,
};
use crate::support::database::Database;
use crate::support::training::{publish_with, refusals};

#[tokio::test]
async fn a_folder_fills_the_catalog_and_once_more_changes_nothing() {
    let (database, folder) = (Database::new().await, tempfile::tempdir().expect("a folder"));
    let catalog = database.catalog().await;
    import_listens(&catalog, folder.path()).await;
    let said = database
        .texts(
            "SELECT concat_ws('|', name, language, genres[1], composers[2], isrc, duration_ms) FROM tracks WHERE uri = 's3'
             UNION ALL SELECT concat_ws('|', name, 'bare') FROM tracks WHERE uri = 's39' AND isrc IS NULL
             UNION ALL SELECT concat_ws('|', city, age, gender, registered_via, registered_on) FROM users WHERE external_id = 'u4'
             UNION ALL SELECT concat_ws('|', city, age, gender) FROM users WHERE external_id = 'u3'
             UNION ALL SELECT (count(*) FILTER (WHERE target IS NULL))::text FROM listens
             UNION ALL SELECT a.name FROM tracks t JOIN artists a ON a.id = t.artist_id WHERE t.uri = 's8'",
        )
        .await;
    assert_eq!(
        said,
        ["Song\n3|3|465|Other|TWUM71030043|200003", "s39|bare", "4|24|female|7|2011-08-05", "3", "20", "Artist 1"]
    );

    let before = database.texts("SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM (SELECT l::text t FROM listens l UNION ALL SELECT u::text FROM users u UNION ALL SELECT t::text FROM tracks t) rows").await;
    let files = write_kkbox(folder.path());
    let rejects = folder.path().join("rejects");
    let report = import_kkbox(&catalog, &files, &rejects, &Interrupt::default()).await.expect("imported");
    assert_eq!(report.outcome, ListensOutcome { listens: LISTENS as u64 + 20, ..ListensOutcome::default() });
    let after = database.texts("SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM (SELECT l::text t FROM listens l UNION ALL SELECT u::text FROM users u UNION ALL SELECT t::text FROM tracks t) rows").await;
    assert_eq!(before, after);

    let listening = Listening::load(&catalog).await.expect("listens");
    assert_eq!((listening.users.len(), listening.tracks.len()), (USERS, SONGS));
    assert_eq!((listening.clicks.len(), listening.labelled().len()), (LISTENS + 20, LISTENS));
    assert!(listening.clicks[LISTENS..].iter().all(|click| click.target.is_none()), "the unlabelled ones come last");
    assert_eq!(listening.sources.fields[2].len(), 3);
    catalog.close().await;
}

#[tokio::test]
async fn a_bundle_reads_back_and_a_damaged_one_is_refused_by_name() {
    let (database, folder) = (Database::new().await, tempfile::tempdir().expect("a folder"));
    let catalog = database.catalog().await;
    import_listens(&catalog, folder.path()).await;
    let models = folder.path().join("models");
    let names = [ClickModelName::Ffm, ClickModelName::DcnV2, ClickModelName::Trees];
    let manifest = train_clicks_on(&catalog, &names, &models).await;
    catalog.close().await;
    assert_eq!((manifest.kind, manifest.data.placements), (Kind::Clicks, LISTENS as u64 + 20));
    let auc = manifest.metrics["validation"]["ensemble"]["auc"].as_f64().expect("an area");
    assert!(auc > 0.6, "{}", manifest.metrics);
    assert!(
        std::fs::read_dir(models.join("clicks"))
            .expect("a folder")
            .flatten()
            .all(|entry| { !entry.file_name().to_string_lossy().starts_with(".resume") })
    );

    let (_, bundle) = ClickBundle::load_current(&models).expect("whole");
    let again = tempfile::tempdir().expect("a folder");
    publish_clicks_again(&models, again.path());
    let (_, copy) = ClickBundle::load_current(again.path()).expect("whole");
    assert_eq!(copy.state, bundle.state);
    assert_eq!(copy.members, bundle.members);
    assert_eq!(bundle.state.events(), LISTENS as u64 + 20);

    listens_in_the_midst_of_catching_up_count_once(&models);
    for name in ["member0.network0.table.npy", "state.tallies.npy", "model.json"] {
        let file = BundleFolder::open_current(&models, Kind::Clicks).expect("a folder").path(name);
        flip_byte(&file, 200);
        let error = ClickBundle::load_current(&models).expect_err("damaged").to_string();
        assert!(error.contains(name) && error.contains("SHA-256"), "{error}");
        flip_byte(&file, 200);
    }
    what_could_not_be_computed_with_is_refused(&models);
}

/// Hashes that are right do not make the rest right.
fn what_could_not_be_computed_with_is_refused(models: &Path) {
    let load = |models: &Path| ClickBundle::load_current(models);
    let (_, bundle) = load(models).expect("whole");
    let is_trees = |member: &ClickMember| matches!(member.scorer, Scorer::Trees(_));
    let trees = bundle.members.iter().position(is_trees).expect("trees");
    let depth = format!("/members/{trees}/scorer/trees/depth");
    let threshold = format!("/members/{trees}/scorer/trees/leaves/0");
    let infinite = json!(1e39);
    let changes = [
        ("/ensemble/0", infinite.clone(), "its calibration is not finite"),
        ("/ensemble/1", infinite.clone(), "its calibration is not finite"),
        ("/members/0/slope", infinite.clone(), "does not fit together"),
        ("/members/0/weight", infinite.clone(), "does not fit together"),
        (depth.as_str(), json!(0), "the depth of its trees must be from 1 to 8"),
        (depth.as_str(), json!(64), "the depth of its trees must be from 1 to 8"),
        (threshold.as_str(), infinite, "it has leaves that are not finite"),
        ("/members", json!([]), "it has no member"),
    ];
    let files: Vec<(&str, &str, Value)> =
        changes.iter().map(|(path, value, _)| ("model.json", *path, value.clone())).collect();
    for (error, (path, _, reason)) in refusals(Kind::Clicks, models, &files, load).iter().zip(&changes) {
        assert!(error.contains("model.json") && error.contains(reason), "{path}: {error}");
    }

    // Counters that the next listen would carry beyond their type.
    let arrays = bundle.state.to_arrays();
    let [events, known, positive] = arrays.scalars[..] else { panic!("three numbers") };
    let full = vec![u32::MAX; arrays.tallies.len()];
    let mut histories = arrays.histories.clone();
    histories[3] = u64::MAX;
    let cases = [
        ("state.scalars.npy", encode_array(&[3], &[u64::MAX, known, positive])),
        ("state.scalars.npy", encode_array(&[3], &[0, known, positive])),
        ("state.scalars.npy", encode_array(&[2], &[events, known])),
        ("state.tallies.npy", encode_array(&[full.len() / 3, 3], &full)),
        ("state.tallies.npy", encode_array(&[1, 3], &full[..3])),
        ("state.histories.npy", encode_array(&[histories.len() / HISTORY, HISTORY], &histories)),
        ("state.last_of_track.npy", encode_array(&[arrays.tracks.len()], &vec![u64::MAX; arrays.tracks.len()])),
    ];
    for (file, bytes) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        publish_with(Kind::Clicks, models, &[(file, bytes)], folder.path());
        let error = load(folder.path()).expect_err(file).to_string();
        assert!(error.contains("state.") || error.contains("counts more"), "{file}: {error}");
    }
    // What is counted without an end stays where it is.
    let mut histories = arrays.histories.clone();
    for history in histories.chunks_exact_mut(HISTORY) {
        history[..3].fill(u64::MAX);
        history[11..].fill(u64::MAX);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = encode_array(&[histories.len() / HISTORY, HISTORY], &histories);
    publish_with(Kind::Clicks, models, &[("state.histories.npy", bytes)], folder.path());
    let model = ClickModel::new(load(folder.path()).expect("counted to the most").1);
    let user = bundle.users.id(arrays.users[0]).to_owned();
    let question = Question { user, tracks: ["s1"].map(str::to_owned).into(), ..Question::default() };
    let answer = model.answer(&question).expect("an answer");
    assert!(answer.probabilities.iter().all(|probability| (0.0..=1.0).contains(probability)), "{answer:?}");
}

/// Of listens that are received while those since the training are read, some are among these and some are not.
fn listens_in_the_midst_of_catching_up_count_once(models: &Path) {
    let model = || ClickModel::new(ClickBundle::load_current(models).expect("a bundle").1);
    let at = |seconds: i64| OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).expect("a time");
    let listen = |track: &str, taken_at: i64| ObservedListen {
        user: "newcomer".to_owned(),
        track: track.to_owned(),
        source: [None, None, None],
        is_new: true,
        target: Some(true),
        listened_at: at(0),
        taken_at: at(taken_at),
    };
    // The transaction of the third began before that of the second, and ended after the reading began.
    let [first, second, third, fourth] = [listen("s1", 1), listen("s2", 5), listen("s3", 4), listen("s4", 9)];
    let expected = model();
    expected.catch_up(&[first.clone(), second.clone(), third.clone(), fourth.clone()]);
    let live = model();
    live.hear(std::slice::from_ref(&first));
    live.begin_to_catch_up();
    live.hear(std::slice::from_ref(&second));
    live.hear(&[third]);
    assert!(live.is_behind());
    live.catch_up(&[first, second.clone()]);
    live.hear(&[fourth]);
    live.hear(&[second]);
    let question = Question {
        user: "newcomer".to_owned(),
        tracks: ["s1", "s2", "s3", "s4", "s5"].map(str::to_owned).into(),
        ..Question::default()
    };
    assert_eq!(live.answer(&question), expected.answer(&question));
    assert_ne!(live.answer(&question), model().answer(&question));
}

#[tokio::test]
async fn files_that_are_not_kkboxs_are_refused() {
    let (database, folder) = (Database::new().await, tempfile::tempdir().expect("a folder"));
    let catalog = database.catalog().await;
    let rejects = folder.path().join("rejects");
    let interrupt = Interrupt::default();
    let error = import_kkbox(&catalog, folder.path(), &rejects, &interrupt).await.expect_err("nothing there");
    assert!(error.to_string().contains("train.csv is not in this folder"), "{error}");
    std::fs::write(folder.path().join("train.csv"), "user,song\n1,2\n").expect("written");
    let report = import_kkbox(&catalog, folder.path(), &rejects, &interrupt).await.expect("a report");
    assert!(report.failed_files[0].reason.contains("no column msno in the header (user, song)"), "{report:?}");
    catalog.close().await;
}
