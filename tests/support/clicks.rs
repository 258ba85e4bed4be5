//! Listens by made-up users, each as faithful as it is, as KKBox's files have them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use segue::bundle::{BundleWriter, ClickBundle, Kind, Manifest};
use segue::catalog::Catalog;
use segue::dataset::listens::Listening;
use segue::import::import_kkbox;
use segue::progress::Interrupt;
use segue::train::clicks::{ClickModelName, ClickSettings, Preset, train_clicks};

use super::slices::write;
use super::training::as_before;

/// Users `u0` to `u29`, who listen to songs `s0` to `s39`.
pub const USERS: usize = 30;
/// See [`USERS`].
pub const SONGS: usize = 40;
/// Rows of `train.csv`.
pub const LISTENS: usize = 900;

/// A folder as KKBox's, with what is odd in it: ages that can't be, line breaks in titles, songs described nowhere.
pub fn write_kkbox(folder: &Path) -> PathBuf {
    let folder = folder.join("kkbox");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
    let mut members = String::from("msno,city,bd,gender,registered_via,registration_init_time,expiration_date\n");
    for user in 0..USERS {
        let (age, gender) = if user % 3 == 0 { (1051, "") } else { (20 + user, "female") };
        let _ = writeln!(members, "u{user},{},{age},{gender},7,201108{:02},20170920", user % 5, 1 + user % 28);
    }
    let mut songs = String::from("song_id,song_length,genre_ids,artist_name,composer,lyricist,language\n");
    let mut extra = String::from("song_id,name,isrc\n");
    for song in 0..SONGS / 2 {
        let _ = writeln!(songs, "s{song},{},465|{},Artist {},Composer|Other,,3.0", 200_000 + song, song % 3, song % 7);
        let _ = writeln!(extra, "s{song},\"Song\n{song}\",TWUM71{:02}0043", song % 17);
    }
    let faith: Vec<f64> = (0..USERS).map(|_| rng.random_range(-2.0..2.0)).collect();
    let header = "msno,song_id,source_system_tab,source_screen_name,source_type";
    let (mut train, mut test) = (format!("{header},target\n"), format!("id,{header}\n"));
    for row in 0..LISTENS {
        let (user, song) = (rng.random_range(0..USERS), rng.random_range(0..SONGS));
        let (source, odds) = if rng.random::<bool>() {
            ("my library,Local playlist more,local-library", faith[user] + 1.5)
        } else {
            ("discover,,online-playlist", faith[user] - 0.5)
        };
        let target = u8::from(rng.random::<f64>() < 1.0 / (1.0 + (-odds).exp()));
        let _ = writeln!(train, "u{user},s{song},{source},{target}");
        if row < 20 {
            let _ = writeln!(test, "{row},u{user},s{song},{source}");
        }
    }
    for (name, text) in [
        ("members.csv", members),
        ("songs.csv", songs),
        ("song_extra_info.csv", extra),
        ("train.csv", train),
        ("test.csv", test),
    ] {
        write(&folder, name, text);
    }
    folder
}

/// Imports such a folder.
pub async fn import_listens(catalog: &Catalog, folder: &Path) {
    let files = write_kkbox(folder);
    let report = import_kkbox(catalog, &files, &folder.join("rejects"), &Interrupt::default()).await.expect("imported");
    assert_eq!((report.rejected, report.outcome.listens), (0, LISTENS as u64 + 20), "{report:?}");
}

/// Models small enough for a test.
pub fn tiny(names: &[ClickModelName]) -> Vec<(String, ClickModelName, ClickSettings)> {
    let settings = |name| ClickSettings {
        epochs: 40,
        seeds: 2,
        learning_rate: if name == ClickModelName::Trees { 0.1 } else { 5e-3 },
        ..ClickSettings::preset(name, Preset::Small)
    };
    names.iter().map(|&name| (name.as_str().to_owned(), name, settings(name))).collect()
}

/// Trains on all listens of a catalog.
pub async fn train_clicks_on(catalog: &Catalog, names: &[ClickModelName], models: &Path) -> Manifest {
    let listening = Listening::load(catalog).await.expect("listens");
    train_clicks(&listening, &tiny(names), 0.2, 1, models, 1, &Interrupt::default()).expect("trained")
}

/// Publishes the current clicks bundle of `from` once more in `models`, under a new version.
pub fn publish_clicks_again(from: &Path, models: &Path) -> Manifest {
    let (manifest, bundle) = ClickBundle::load_current(from).expect("a bundle");
    let mut writer = BundleWriter::begin(models, Kind::Clicks).expect("a writer");
    bundle.write(&mut writer).expect("written");
    writer.publish(as_before(&manifest)).expect("published")
}
