//! Trainings that are killed at any moment. `SEGUE_KILLS=10` kills each ten times.

use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use segue::bundle::{BundleFolder, Kind};

use crate::import;
use crate::support::database::Database;
use crate::support::program::Home;
use crate::support::slices::{generated, write_slices};
use crate::support::training::TINY_COMPLETION;

/// Names and hashes of the files of what a home has published.
fn published(home: &Home, kind: Kind) -> Vec<(String, String)> {
    let folder = BundleFolder::open_current(&home.models(), kind).expect("a bundle");
    folder.manifest().files.iter().map(|file| (file.name.clone(), file.sha256.clone())).collect()
}

#[tokio::test]
async fn trainings_that_are_killed_at_any_moment_end_in_the_bundles_of_those_that_ran_through() {
    let kills = std::env::var("SEGUE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(2);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let (straight, killed) = (Home::new(), Home::new());
    let database = Database::new().await;
    let catalog = database.catalog().await;
    let files = write_slices(&straight.path().join("slices"), &generated(600, 900, 5), 600);
    import(&catalog, straight.path(), &files).await;
    catalog.close().await;
    // Of so many playlists those for the ranking are held out of one index.
    let held_out = [TINY_COMPLETION.as_slice(), &["--ranking-playlists", "30"]].concat();
    let similarity = vec!["--dim", "8", "--epochs", "4", "--next-trees", "30"];
    for (kind, flags) in
        [(Kind::Completion, TINY_COMPLETION.to_vec()), (Kind::Completion, held_out), (Kind::Similarity, similarity)]
    {
        let command = [&["train", kind.as_str(), "--database-url", database.url(), "--threads", "2"], &*flags].concat();
        let began = Instant::now();
        straight.segue(&command).succeed();
        let took = began.elapsed();
        for _ in 0..kills {
            let running = killed.segue(&command).start();
            std::thread::sleep(took.mul_f64(rng.random_range(0.1..0.9)));
            running.kill();
        }
        killed.segue(&command).succeed();
        assert_eq!(published(&killed, kind), published(&straight, kind), "{kind:?}");
    }
}
