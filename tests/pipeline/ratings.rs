//! Ratings from files to a published model.

use std::path::{Path, PathBuf};

use segue::bundle::{BundleFolder, Kind, RatingsBundle};
use segue::catalog::{Catalog, RatingScale, RatingsOutcome};
use segue::dataset::Feedback;
use segue::import::{ImportReport, RatingsFile, find_movielens, import_ratings};
use segue::progress::Interrupt;
use segue::recommend::ratings::RatingsModel;
use segue::train::ratings::gaussian::taste_events;
use segue::train::ratings::{RatingsModelName, RatingsSettings, learn, train_ratings};
use segue::train::{RunContext, TrainError};
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::ratings::{ratings, tracks, train_on};
use crate::support::slices::write;
use crate::support::training::{arguments, refusals};

const SCALE: RatingScale = RatingScale { lowest: 0.5, highest: 5.0 };

async fn import(catalog: &Catalog, folder: &Path, files: Vec<RatingsFile>) -> ImportReport<RatingsOutcome> {
    import_ratings(catalog, files, SCALE, &folder.join("rejects.ndjson"), &Interrupt::default())
        .await
        .expect("an import")
}

#[tokio::test]
async fn a_movielens_folder_is_imported_once_and_again_without_a_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    write(path, "movies.csv", "movieId,title,genres\n1,One (1999),Comedy|Drama\n2,Two,(no genres listed)\n");
    write(
        path,
        "ratings.csv",
        "userId,movieId,rating,timestamp\n7,1,4.5,100\n7,2,1.0,200\n8,1,0.0,1\n8,9,3.0,5\n7,1,2.0,50\n",
    );
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let files = find_movielens(path).expect("files");
    let report = import(&catalog, path, files.clone()).await;
    assert_eq!((report.files, report.outcome.ratings, report.rejected), (2, 4, 1), "{report:?}");
    // A film that movies.csv lacks is there by its id.
    assert_eq!((report.outcome.ratings_added, report.outcome.tracks_added, report.outcome.users_added), (3, 3, 2));
    let rejects = std::fs::read_to_string(path.join("rejects.ndjson")).expect("rejects");
    assert!(rejects.contains("\"item\":\"row 3\"") && rejects.contains("from 0.5 to 5"), "{rejects}");
    let stored = "SELECT u.external_id || ' ' || t.uri || ' ' || t.name || ' ' || array_to_string(t.genres, '+') || ' ' || rating
                  FROM ratings r JOIN users u ON u.id = user_id JOIN tracks t ON t.id = track_id ORDER BY 1";
    let expected = [
        "movielens:user:7 movielens:movie:1 One (1999) Comedy+Drama 4.5",
        "movielens:user:7 movielens:movie:2 Two  1",
        "movielens:user:8 movielens:movie:9 movielens:movie:9  3",
    ];
    assert_eq!(database.texts(stored).await, expected);
    let again = import(&catalog, path, files).await;
    assert_eq!((again.outcome.ratings_added, again.outcome.ratings_changed, again.outcome.tracks_added), (0, 0, 0));
    assert_eq!(again.outcome.ratings_unchanged, 3);
    assert_eq!(database.texts(stored).await, expected);

    write(
        path,
        "mine.csv",
        "user_id,track_id,rating,rated_at,track_name\nmovielens:user:8,movielens:movie:9,5,1999,Nine\n",
    );
    let report = import(&catalog, path, vec![RatingsFile::Table(path.join("mine.csv"))]).await;
    assert_eq!((report.outcome.ratings_changed, report.outcome.tracks_added), (1, 0), "{report:?}");
    assert_eq!(database.texts(stored).await[2], "movielens:user:8 movielens:movie:9 Nine  5");
    let empty = tempfile::tempdir().expect("a folder");
    assert!(find_movielens(empty.path()).expect_err("refused").to_string().contains("neither ratings.csv nor u.data"));
    catalog.close().await;
}

#[tokio::test]
async fn what_is_published_reads_back_and_a_damaged_file_is_refused() {
    let database = Database::new().await;
    let catalog = database.catalog().await;
    catalog.import_ratings(&tracks(), &ratings()).await.expect("imported");
    let folder = tempfile::tempdir().expect("a folder");
    for model in [RatingsModelName::Gp, RatingsModelName::Bias, RatingsModelName::Mlp] {
        let flags = ["--plan", "0.01x3", "--factors", "4", "--patience", "2"];
        let manifest = train_on(&catalog, model, &flags, folder.path()).await;
        assert_eq!((manifest.kind, manifest.data.playlists, manifest.data.tracks), (Kind::Ratings, 60, 60));
        assert!(manifest.metrics["withheld"]["ndcg_at_10"].is_number(), "{}", manifest.metrics);
        let (_, bundle) = RatingsBundle::load_current(folder.path()).expect("a bundle");
        assert_eq!((bundle.shape.model.as_str(), bundle.vocabulary.len()), (model.as_str(), 60));
        for file in &manifest.files {
            let path = folder.path().join("ratings").join(&manifest.version).join(&file.name);
            let bytes = std::fs::read(&path).expect("a file");
            let mut damaged = bytes.clone();
            let last = damaged.len() - 1;
            damaged[last] ^= 1;
            std::fs::write(&path, damaged).expect("written");
            let error = RatingsBundle::load_current(folder.path()).expect_err("refused").to_string();
            assert!(error.contains(&file.name), "{error}");
            std::fs::write(&path, bytes).expect("written");
        }
        BundleFolder::open_current(folder.path(), Kind::Ratings).expect("whole again");
    }
    let infinite = json!(1e39);
    let changes = [
        ("/range", json!([5.0, 0.5]), "its lowest rating is above the highest"),
        ("/range/1", infinite.clone(), "it has numbers that are not finite"),
        ("/mean", infinite.clone(), "it has numbers that are not finite"),
        ("/deviation", infinite, "it has numbers that are not finite"),
        ("/session_ratio", json!(-1.0), "its sessions are not possible"),
        ("/session_gap_seconds", json!(i64::MAX), "its sessions are not possible"),
        ("/session_gap_seconds", json!(-1), "its sessions are not possible"),
    ];
    let files: Vec<(&str, &str, Value)> =
        changes.iter().map(|(path, value, _)| ("model.json", *path, value.clone())).collect();
    let refused = refusals(Kind::Ratings, folder.path(), &files, RatingsBundle::load_current);
    for (error, (path, _, reason)) in refused.iter().zip(&changes) {
        assert!(error.contains("model.json") && error.contains(reason), "{path}: {error}");
    }
    catalog.close().await;
}

#[tokio::test]
async fn the_same_seed_gives_the_same_model_and_tastes_are_told_apart() {
    let database = Database::new().await;
    let catalog = database.catalog().await;
    catalog.import_ratings(&tracks(), &ratings()).await.expect("imported");
    let feedback = Feedback::load(&catalog).await.expect("feedback");
    catalog.close().await;
    let settings: RatingsSettings = arguments(&[]);
    let interrupt = Interrupt::default();
    let parts = feedback.split(0.2, 3);
    let learned = |threads| {
        let context = RunContext::new(threads, &interrupt);
        learn(&feedback, &parts.training, RatingsModelName::Gp, &settings, context).expect("learns")
    };
    let (one, two) = (learned(1), learned(2));
    assert_eq!(one.model.bundle().features, two.model.bundle().features);
    assert_eq!(one.model.bundle().base, two.model.bundle().base);
    let metrics = one.measure(&parts.training, &parts.held_out, feedback.users());
    assert!(metrics.mse < 0.5 && metrics.ndcg_at_10 > 0.3, "{metrics:?}");
    let context = RunContext::new(1, &interrupt);
    let baseline = learn(&feedback, &parts.training, RatingsModelName::Baseline, &settings, context).expect("learns");
    let without = baseline.measure(&parts.training, &parts.held_out, feedback.users());
    assert!(without.mse > 1.0, "biases can't tell tastes apart: {without:?}");
    // What is recommended is the best by the exact scores, though most tracks are only scored roughly.
    let model: &RatingsModel = &one.model;
    let taste = model.taste(&taste_events(&parts.training[..10]));
    let all = model.recommend(&taste, &[], 60);
    assert_eq!(all[..10], model.recommend(&taste, &[], 10)[..]);
}

#[tokio::test]
async fn settings_and_data_that_make_no_sense_are_refused() {
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let folder = tempfile::tempdir().expect("a folder");
    let refused = async |flags: &[&str]| {
        let feedback = Feedback::load(&catalog).await.expect("feedback");
        let settings: RatingsSettings = arguments(flags);
        let interrupt = Interrupt::default();
        let outcome = train_ratings(&feedback, RatingsModelName::Gp, &settings, folder.path(), 1, &interrupt);
        outcome.expect_err("refused")
    };
    assert!(matches!(refused(&[]).await, TrainError::TooLittleData(_)));
    assert!(refused(&["--genre-variance", "0"]).await.to_string().contains("--genre-variance"));
    assert!(refused(&["--withheld", "1.5"]).await.to_string().contains("--withheld"));
    catalog.close().await;
}

/// MovieLens itself, where a copy of it lies beside the checkout. It may not be passed on.
#[tokio::test]
async fn on_movielens_the_default_predicts_better_than_what_is_published_for_others() {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/movielens_latest_small_2016");
    if !data.is_dir() {
        println!("skipped: there is no data in {}", data.display());
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let report = import(&catalog, folder.path(), find_movielens(&data).expect("files")).await;
    assert_eq!((report.outcome.ratings_added, report.outcome.users_added, report.rejected), (100_004, 671, 0));
    let feedback = Feedback::load(&catalog).await.expect("feedback");
    catalog.close().await;
    assert_eq!((feedback.tracks(), feedback.genre_names.len()), (9_066, 19));
    let parts = feedback.split(0.2, 0);
    let interrupt = Interrupt::default();
    let context = RunContext::new(2, &interrupt);
    let trained = learn(&feedback, &parts.training, RatingsModelName::Gp, &arguments(&[]), context).expect("learns");
    let metrics = trained.measure(&parts.training, &parts.held_out, feedback.users());
    assert!(metrics.mse < 0.72 && metrics.ndcg_at_10 > 0.25, "{metrics:?}");
}

/// Imports a table of one's own; returns the report and what stands in the rejects file.
async fn table(database: &Database, text: impl AsRef<[u8]>) -> (ImportReport<RatingsOutcome>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    write(path, "mine.csv", text);
    let catalog = database.catalog().await;
    let report = import(&catalog, path, vec![RatingsFile::Table(path.join("mine.csv"))]).await;
    catalog.close().await;
    (report, std::fs::read_to_string(path.join("rejects.ndjson")).unwrap_or_default())
}

#[tokio::test]
async fn times_are_read_in_the_usual_forms_and_one_of_the_future_locks_no_rating() {
    let database = Database::new().await;
    let forms = [
        "1700000000000",
        "1700000000.0",
        "1.7e9",
        "2023-11-14 22:13:20",
        "2023-11-14T22:13:20",
        "2023-11-14T22:13:20+0000",
        "2023-11-14 22:13:20+00:00",
        "2023-11-14 22:13:20 UTC",
        "2023-11-14T22:13:20.0000009Z",
    ];
    let rows: Vec<String> = forms.iter().map(|form| format!("u,t,{},{form}\n", 4)).collect();
    let rows: String = rows.iter().enumerate().map(|(number, row)| row.replace("t,", &format!("t{number},"))).collect();
    let others = "u,none,4,\nu,before,4,-1\nu,epoch,4,0\n";
    let refused = "u,a,4,99999999999\nu,b,4,2262-04-11T23:47:16Z\nu,c,4,9999-12-31T23:59:59-23:59\nu,d,4,soon\n\
                   u,e,4,1800-01-01\n";
    let text = format!("user_id, track_id, rating, rated_at\n{rows}{others}{refused}");
    let (report, rejects) = table(&database, text).await;
    assert_eq!((report.rows, report.rejected), (17, 5), "{rejects}");
    for words in ["must not be in the future", "years 1 to 9999", "must be a time", "must not be before 1900"] {
        assert!(rejects.contains(words), "{words}: {rejects}");
    }
    let times = "SELECT extract(epoch FROM rated_at)::bigint || ' ' || count(*) FROM ratings GROUP BY rated_at ORDER BY rated_at";
    assert_eq!(database.texts(times).await, ["-1 1", "0 2", &format!("1700000000 {}", forms.len())]);
    let (report, rejects) = table(&database, "user_id,track_id,rating,rated_at\nu,t,4,99999999999\n").await;
    assert!(report.is_useless(), "{rejects}");
}

#[tokio::test]
async fn damage_in_a_table_costs_no_more_than_its_row() {
    let database = Database::new().await;
    let rows: Vec<String> = (0..1_000)
        .map(|row| format!("u{row},q{row},4,{}", if row == 9 { "\"Heroes".to_owned() } else { format!("Song {row}") }))
        .collect();
    let (report, rejects) =
        table(&database, format!("user_id,track_id,rating,track_name\n{}\n", rows.join("\n"))).await;
    assert_eq!((report.rows, report.rejected, report.outcome.ratings_added), (1_000, 1, 999));
    assert!(rejects.contains("\"item\":\"row 10\"") && rejects.contains("never closed"), "{rejects}");

    let text =
        "user_id,track_id,rating,track_name\nu1,m1,5,Harder, Better\nu2,m2,4,5\nu3,m3,4\nu4,m4,4,\"12\"\" mix\"\n";
    let (report, rejects) = table(&database, text).await;
    assert_eq!((report.rejected, report.outcome.ratings), (2, 2), "{rejects}");
    assert!(
        rejects.contains("5 fields; the header has 4") && rejects.contains("3 fields; the header has 4"),
        "{rejects}"
    );

    let text =
        b"\xef\xbb\xbfuser_id, track_id, rating, track_name, artist\n u1 , t1 , 4 , Don\x92t Stop , Beyonc\xe9 \n\
                 u1,\tt2,5,caf\xc3\xa9,x\nu\x01,t3,5,,\n";
    let (report, rejects) = table(&database, text).await;
    assert_eq!((report.rejected, report.outcome.ratings_added), (1, 2), "{rejects}");
    assert!(rejects.contains("user_id: must not contain control characters"), "{rejects}");
    let names = "SELECT t.uri || ' ' || t.name || ' ' || a.name FROM tracks t JOIN artists a ON a.id = artist_id
                 WHERE t.uri IN ('t1', 't2') ORDER BY 1";
    assert_eq!(database.texts(names).await, ["t1 Don\u{2019}t Stop Beyonc\u{e9}", "t2 caf\u{e9} x"]);
}

#[tokio::test]
async fn rows_of_a_file_that_describe_a_track_piece_by_piece_add_up() {
    let database = Database::new().await;
    let text = "user_id,track_id,rating,track_name,artist,genres\nu1,t1,4,,,rock\nu2,t1,4,One,,\nu3,t1,4,Other,Band,\n\
                u4,t2,9,Ghost,Band,\n";
    let (report, _) = table(&database, text).await;
    assert_eq!((report.outcome.tracks_added, report.outcome.ratings_added, report.rejected), (1, 3, 1));
    assert_eq!(report.hint.as_deref(), Some("1 ratings are not on the scale from 0.5 to 5: --highest 9 accepts them"));
    let rows = "SELECT concat_ws('|', t.name, a.name, array_to_string(genres, '+')) FROM tracks t JOIN artists a ON a.id = artist_id";
    assert_eq!(database.texts(rows).await, ["One|Band|rock"]);
}
