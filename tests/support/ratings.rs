//! Ratings by made-up users of three tastes, and models trained on them.

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use segue::bundle::{BundleWriter, Kind, Manifest, RatingsBundle};
use segue::catalog::{Catalog, RatingRecord, TrackId, TrackRecord, UserId};
use segue::dataset::Feedback;
use segue::progress::Interrupt;
use segue::train::ratings::{RatingsModelName, RatingsSettings, train_ratings};
use time::OffsetDateTime;

use super::training::{arguments, as_before};

/// Genres, each of [`TRACKS`] tracks.
pub const GENRES: [&str; 3] = ["dub", "folk", "metal"];
/// Tracks of a genre.
pub const TRACKS: usize = 20;
const USERS: usize = 60;

/// Id of a track.
pub fn track(genre: usize, number: usize) -> String {
    format!("{}:{number}", GENRES[genre])
}

/// Every track.
pub fn tracks() -> Vec<TrackRecord> {
    let all = (0..GENRES.len()).flat_map(|genre| (0..TRACKS).map(move |number| (genre, number)));
    all.map(|(genre, number)| {
        let id = track(genre, number);
        let name = format!("Song {id}");
        TrackRecord::named(TrackId::new(id).expect("an id"), &name).of_genres([GENRES[genre]])
    })
    .collect()
}

/// A rating at a number of seconds after some day.
pub fn rating(user: &str, track: &str, rating: f32, seconds: i64) -> RatingRecord {
    let rated_at = OffsetDateTime::from_unix_timestamp(1_600_000_000 + seconds).expect("a time");
    let (user, track) = (UserId::new(user).expect("an id"), TrackId::new(track).expect("an id"));
    RatingRecord { user, track, rating, rated_at }
}

/// User `u<n>` likes the genre n mod 3: rates two thirds of it well, and a sixth of the others badly.
pub fn ratings() -> Vec<RatingRecord> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let mut ratings = Vec::new();
    for user in 0..USERS {
        for genre in 0..GENRES.len() {
            let likes = user % GENRES.len() == genre;
            for number in 0..TRACKS {
                let (chance, half_star) = (rng.random::<f32>(), rng.random::<bool>());
                if chance < if likes { 0.67 } else { 0.17 } {
                    let value = if likes { 4.5 } else { 1.5 } + if half_star { 0.5 } else { 0.0 };
                    let at = (user * 100_000 + genre * 40_000 + number) as i64;
                    ratings.push(rating(&format!("u{user}"), &track(genre, number), value, at));
                }
            }
        }
    }
    ratings
}

/// Trains on all feedback of a catalog.
pub async fn train_on(catalog: &Catalog, model: RatingsModelName, flags: &[&str], models: &Path) -> Manifest {
    let feedback = Feedback::load(catalog).await.expect("feedback");
    let settings: RatingsSettings = arguments(flags);
    train_ratings(&feedback, model, &settings, models, 1, &Interrupt::default()).expect("trained")
}

/// Publishes the current ratings bundle of `from` once more in `models`, under a new version.
pub fn publish_ratings_again(from: &Path, models: &Path) -> Manifest {
    let (manifest, bundle) = RatingsBundle::load_current(from).expect("a bundle");
    let mut writer = BundleWriter::begin(models, Kind::Ratings).expect("a writer");
    bundle.write(&mut writer).expect("written");
    writer.publish(as_before(&manifest)).expect("published")
}
