//! Synthetic catalogs in the format of the Million Playlist Dataset, to try Segue without data and to test it.
//!
//! Tracks belong to artists, artists to a scene, scenes to a genre. How often an artist and a track occur follows a
//! power law. A playlist is about one or two scenes of a genre, says so in its title, and keeps tracks of a scene
//! together in runs; so similar tracks, titles and order all carry signal, as in real playlists. Nothing in it is real,
//! and every file says so in its `info`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Distribution, LogNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

/// Playlists in one slice file, as in the data set.
const SLICE: usize = 1_000;
const SCENES_PER_GENRE: usize = 4;
const TRACKS_PER_ARTIST: usize = 8;
/// Exponents of the power laws of popularity: of scenes, of a scene's artists, of an artist's tracks.
const SCENE_EXPONENT: f64 = 0.7;
const ARTIST_EXPONENT: f64 = 1.1;
const TRACK_EXPONENT: f64 = 1.1;
/// Median and spread of a playlist's length.
const LENGTH_MEDIAN: f64 = 30.0;
const LENGTH_SIGMA: f64 = 0.6;

/// A genre's name and words that its titles and tracks share.
const GENRES: [(&str, [&str; 8]); 12] = [
    ("rock", ["thunder", "highway", "rebel", "stone", "riot", "gasoline", "midnight", "wild"]),
    ("jazz", ["blue", "smoke", "velvet", "swing", "uptown", "corner", "brass", "lounge"]),
    ("house", ["floor", "pulse", "deep", "warehouse", "signal", "bounce", "strobe", "loop"]),
    ("country", ["river", "truck", "whiskey", "porch", "county", "dusty", "boots", "home"]),
    ("hip hop", ["crown", "block", "flow", "gold", "city", "hustle", "verse", "heavy"]),
    ("classical", ["nocturne", "suite", "winter", "prelude", "aria", "garden", "opus", "quiet"]),
    ("metal", ["iron", "ashes", "wolf", "doom", "storm", "blood", "forge", "black"]),
    ("folk", ["meadow", "harbor", "letter", "lantern", "willow", "raven", "road", "mother"]),
    ("latin", ["fuego", "noche", "corazon", "baila", "luna", "calle", "sol", "mar"]),
    ("soul", ["tender", "mercy", "honey", "faith", "slow", "sugar", "believe", "rain"]),
    ("ambient", ["drift", "cloud", "glass", "tide", "silence", "orbit", "vapor", "dawn"]),
    ("pop", ["heart", "summer", "neon", "dance", "forever", "mirror", "crush", "sparkle"]),
];
const MOODS: [&str; 12] = [
    "morning",
    "late night",
    "workout",
    "focus",
    "party",
    "chill",
    "road trip",
    "best of",
    "throwback",
    "sunday",
    "rainy day",
    "new",
];
const SYLLABLES: [&str; 20] = [
    "ka", "lo", "ven", "mi", "ra", "tor", "sel", "na", "dru", "phi", "bel", "or", "yan", "cas", "tem", "li", "zu",
    "mar", "on", "ea",
];

/// What to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateSettings {
    /// number of playlists
    pub playlists: usize,
    /// number of tracks
    pub tracks: usize,
    /// the same seed gives the same files
    pub seed: u64,
}

#[derive(Serialize)]
struct Info {
    generated_on: &'static str,
    slice: String,
    version: &'static str,
    synthetic: bool,
    note: String,
}

#[derive(Serialize)]
struct SlicePlaylist {
    name: String,
    collaborative: &'static str,
    pid: usize,
    modified_at: i64,
    num_tracks: usize,
    num_albums: usize,
    num_artists: usize,
    num_followers: u32,
    num_edits: u32,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    tracks: Vec<SliceTrack>,
}

#[derive(Serialize)]
struct SliceTrack {
    pos: usize,
    artist_name: String,
    track_uri: String,
    artist_uri: String,
    track_name: String,
    album_uri: String,
    album_name: String,
    duration_ms: u32,
}

#[derive(Serialize)]
struct Slice {
    info: Info,
    playlists: Vec<SlicePlaylist>,
}

struct Artist {
    name: String,
    scene: usize,
}

struct Track {
    name: String,
    artist: usize,
    album: usize,
    duration_ms: u32,
}

struct World {
    artists: Vec<Artist>,
    tracks: Vec<Track>,
    /// tracks of each scene, and a sampler of them by popularity
    scenes: Vec<(Vec<usize>, WeightedAliasIndex<f64>)>,
    /// a sampler of scenes by popularity
    popularity: WeightedAliasIndex<f64>,
}

/// Writes `settings.playlists` playlists as slices into `folder`, which is made if it is not there; returns the files.
///
/// # Errors
///
/// When the files can't be written, or there are fewer tracks than the genres need.
pub fn generate(settings: &GenerateSettings, folder: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let world = World::new(settings.tracks, &mut rng)?;
    let mut files = Vec::new();
    for first in (0..settings.playlists).step_by(SLICE) {
        let last = (first + SLICE).min(settings.playlists) - 1;
        let range = format!("{first}-{last}");
        let slice = Slice {
            info: Info {
                generated_on: "synthetic",
                slice: range.clone(),
                version: "v1",
                synthetic: true,
                note: format!(
                    "made by segue generate --playlists {} --tracks {} --seed {}; no real user, artist or track is in it",
                    settings.playlists, settings.tracks, settings.seed
                ),
            },
            playlists: (first..=last).map(|pid| world.playlist(pid, &mut rng)).collect(),
        };
        let path = folder.join(format!("mpd.slice.{range}.json"));
        let mut writer = BufWriter::new(File::create(&path)?);
        serde_json::to_writer(&mut writer, &slice)?;
        writer.flush()?;
        files.push(path);
    }
    Ok(files)
}

fn pick<T: Copy, const N: usize>(choices: &[T; N], rng: &mut Xoshiro256PlusPlus) -> T {
    choices[rng.random_range(0..choices.len())]
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

impl World {
    fn new(tracks: usize, rng: &mut Xoshiro256PlusPlus) -> io::Result<Self> {
        let scenes = GENRES.len() * SCENES_PER_GENRE;
        if tracks < scenes * TRACKS_PER_ARTIST {
            let least = scenes * TRACKS_PER_ARTIST;
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("at least {least} tracks are needed")));
        }
        let artists: Vec<Artist> = (0..tracks.div_ceil(TRACKS_PER_ARTIST))
            .map(|number| {
                let word = |rng: &mut Xoshiro256PlusPlus| {
                    let syllables = rng.random_range(2..=3);
                    capitalised(&(0..syllables).map(|_| pick(&SYLLABLES, rng)).collect::<String>())
                };
                let name = match rng.random_range(0..3) {
                    0 => format!("The {}s", word(rng)),
                    1 => format!("{} {}", word(rng), word(rng)),
                    _ => word(rng),
                };
                Artist { name, scene: number % scenes }
            })
            .collect();
        let tracks: Vec<Track> = (0..tracks)
            .map(|number| {
                let artist = number % artists.len();
                let (_, words) = GENRES[artists[artist].scene / SCENES_PER_GENRE];
                let name = match rng.random_range(0..3) {
                    0 => format!("{} {}", capitalised(pick(&words, rng)), capitalised(pick(&words, rng))),
                    1 => format!("{} of {}", capitalised(pick(&words, rng)), capitalised(pick(&SYLLABLES, rng))),
                    _ => format!("{} (Take {})", capitalised(pick(&words, rng)), rng.random_range(1..40)),
                };
                let album = rng.random_range(0..3);
                Track { name, artist, album, duration_ms: rng.random_range(95_000..420_000) }
            })
            .collect();
        // Popularity: an artist's rank in its scene times a track's rank with its artist, both by a power law.
        let weight = |rank: usize, exponent: f64| ((rank + 1) as f64).powf(-exponent);
        let mut members: Vec<(Vec<usize>, Vec<f64>)> = vec![Default::default(); scenes];
        for (number, track) in tracks.iter().enumerate() {
            let (tracks, weights) = &mut members[artists[track.artist].scene];
            tracks.push(number);
            weights
                .push(weight(track.artist / scenes, ARTIST_EXPONENT) * weight(number / artists.len(), TRACK_EXPONENT));
        }
        let scenes: Vec<(Vec<usize>, WeightedAliasIndex<f64>)> = members
            .into_iter()
            .map(|(tracks, weights)| Ok((tracks, WeightedAliasIndex::new(weights).map_err(io::Error::other)?)))
            .collect::<io::Result<_>>()?;
        // Ranks of scenes are scattered over the genres: 7 has no divisor in common with their number.
        let ranks = (0..scenes.len()).map(|scene| weight(scene * 7 % scenes.len(), SCENE_EXPONENT)).collect();
        let popularity = WeightedAliasIndex::new(ranks).map_err(io::Error::other)?;
        Ok(Self { artists, tracks, scenes, popularity })
    }

    fn playlist(&self, pid: usize, rng: &mut Xoshiro256PlusPlus) -> SlicePlaylist {
        let main_scene = self.popularity.sample(rng);
        let genre = main_scene / SCENES_PER_GENRE;
        let (genre_name, words) = GENRES[genre];
        let scenes = [main_scene, genre * SCENES_PER_GENRE + rng.random_range(0..SCENES_PER_GENRE)];
        let name = match rng.random_range(0..4) {
            0 => genre_name.to_owned(),
            1 => format!("{} {genre_name}", pick(&MOODS, rng)),
            2 => format!("{} {}", pick(&words, rng), pick(&MOODS, rng)),
            _ => format!("{genre_name} {}", pick(&words, rng)),
        };
        // The parameters are constants that satisfy LogNormal's one condition, a finite positive spread.
        let length = LogNormal::new(LENGTH_MEDIAN.ln(), LENGTH_SIGMA).map_or(LENGTH_MEDIAN, |law| law.sample(rng));
        let length = (length as usize).clamp(5, 250);

        let mut chosen: Vec<usize> = Vec::with_capacity(length);
        let mut scene = scenes[0];
        for _ in 0..length * 4 {
            if chosen.len() == length {
                break;
            }
            // Runs of about eight tracks of one scene, now and then something else altogether.
            if rng.random_bool(0.12) {
                scene = pick(&scenes, rng);
            }
            let from = if rng.random_bool(0.1) { self.popularity.sample(rng) } else { scene };
            let (tracks, popularity) = &self.scenes[from];
            let track = tracks[popularity.sample(rng)];
            // Real playlists repeat a track now and then too.
            if !chosen.contains(&track) || rng.random_bool(0.01) {
                chosen.push(track);
            }
        }
        let tracks: Vec<SliceTrack> =
            chosen.iter().enumerate().map(|(pos, &track)| self.slice_track(pos, track)).collect();
        let distinct =
            |of: fn(&SliceTrack) -> &str| tracks.iter().map(of).collect::<std::collections::HashSet<&str>>().len();
        SlicePlaylist {
            collaborative: if rng.random_bool(0.02) { "true" } else { "false" },
            pid,
            modified_at: 1_500_000_000 + 86_400 * rng.random_range(0..1_000i64),
            num_tracks: tracks.len(),
            num_albums: distinct(|track| &track.album_uri),
            num_artists: distinct(|track| &track.artist_uri),
            num_followers: 1 + (1.0 / rng.random_range(0.001..1.0f64)) as u32,
            num_edits: rng.random_range(1..60),
            duration_ms: tracks.iter().map(|track| u64::from(track.duration_ms)).sum(),
            description: rng.random_bool(0.02).then(|| format!("a synthetic playlist of {genre_name}")),
            name,
            tracks,
        }
    }

    fn slice_track(&self, pos: usize, number: usize) -> SliceTrack {
        let track = &self.tracks[number];
        let artist = track.artist;
        SliceTrack {
            pos,
            artist_name: self.artists[artist].name.clone(),
            track_uri: format!("synthetic:track:{number}"),
            artist_uri: format!("synthetic:artist:{artist}"),
            track_name: track.name.clone(),
            album_uri: format!("synthetic:album:{artist}-{}", track.album),
            album_name: format!("{} {}", self.artists[artist].name, track.album + 1),
            duration_ms: track.duration_ms,
        }
    }
}
