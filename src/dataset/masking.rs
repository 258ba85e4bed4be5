//! Playlists with some of their tracks hidden, in the ten ways of the RecSys Challenge 2018 (Zamani, Schedl, Lamere and
//! Chen, "An Analysis of Approaches Taken in the ACM RecSys Challenge 2018", 2019, section 3).
//!
//! Test and training playlists are masked by the same function, so that training has the kinds of playlists that are
//! measured.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// Fewest distinct tracks to hold out: a metric over fewer says little about the playlist.
pub const MIN_HOLDOUTS: usize = 5;

/// What is left to see of a playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeedKind {
    /// the title alone
    Title,
    /// title and first track
    TitleFirst1,
    /// title and first 5 tracks
    TitleFirst5,
    /// first 5 tracks, no title
    First5,
    /// title and first 10 tracks
    TitleFirst10,
    /// first 10 tracks, no title
    First10,
    /// title and first 25 tracks
    TitleFirst25,
    /// title and 25 tracks from anywhere
    TitleRandom25,
    /// title and first 100 tracks
    TitleFirst100,
    /// title and 100 tracks from anywhere
    TitleRandom100,
}

impl SeedKind {
    /// All kinds, in the challenge's order.
    pub const ALL: [Self; 10] = [
        Self::Title,
        Self::TitleFirst1,
        Self::TitleFirst5,
        Self::First5,
        Self::TitleFirst10,
        Self::First10,
        Self::TitleFirst25,
        Self::TitleRandom25,
        Self::TitleFirst100,
        Self::TitleRandom100,
    ];

    /// The name in files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::TitleFirst1 => "title_first1",
            Self::TitleFirst5 => "title_first5",
            Self::First5 => "first5",
            Self::TitleFirst10 => "title_first10",
            Self::First10 => "first10",
            Self::TitleFirst25 => "title_first25",
            Self::TitleRandom25 => "title_random25",
            Self::TitleFirst100 => "title_first100",
            Self::TitleRandom100 => "title_random100",
        }
    }

    /// Number of placements that are seen.
    pub fn seeds(self) -> usize {
        match self {
            Self::Title => 0,
            Self::TitleFirst1 => 1,
            Self::TitleFirst5 | Self::First5 => 5,
            Self::TitleFirst10 | Self::First10 => 10,
            Self::TitleFirst25 | Self::TitleRandom25 => 25,
            Self::TitleFirst100 | Self::TitleRandom100 => 100,
        }
    }

    /// Whether the title is seen.
    pub fn has_title(self) -> bool {
        !matches!(self, Self::First5 | Self::First10)
    }

    /// Whether the seeds are from anywhere in the playlist.
    pub fn is_random(self) -> bool {
        matches!(self, Self::TitleRandom25 | Self::TitleRandom100)
    }
}

impl fmt::Display for SeedKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for SeedKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| format!("{name:?} is not a kind of seeds: {}", known()))
    }
}

/// What is seen of a playlist, and what is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedPlaylist<'a> {
    /// its title, where the kind shows it
    pub title: Option<&'a str>,
    /// rows that are seen, in the playlist's order, repeats included
    pub seeds: Vec<u32>,
    /// the distinct rows of the rest that are not among the seeds, in the playlist's order
    pub holdouts: Vec<u32>,
}

/// Masks a playlist of `rows` as `kind` says; `rng` is used only if the seeds are random.
///
/// `None` if the playlist does not fit the kind: it has no title, or fewer than [`MIN_HOLDOUTS`] distinct tracks would be
/// held out.
pub fn mask<'a>(rows: &[u32], title: &'a str, kind: SeedKind, rng: &mut impl Rng) -> Option<MaskedPlaylist<'a>> {
    let title = title.trim();
    if (kind.has_title() && title.is_empty()) || rows.len() < kind.seeds() + MIN_HOLDOUTS {
        return None;
    }
    let mut is_seed = vec![false; rows.len()];
    if kind.is_random() {
        let mut positions: Vec<usize> = (0..rows.len()).collect();
        let (chosen, _) = positions.partial_shuffle(rng, kind.seeds());
        chosen.iter().for_each(|&position| is_seed[position] = true);
    } else {
        is_seed[..kind.seeds()].fill(true);
    }
    let of = |seen: bool| rows.iter().zip(&is_seed).filter(move |&(_, &is_seed)| is_seed == seen).map(|(&row, _)| row);
    let seeds: Vec<u32> = of(true).collect();
    let mut taken: HashSet<u32> = seeds.iter().copied().collect();
    let holdouts: Vec<u32> = of(false).filter(|&row| taken.insert(row)).collect();
    (holdouts.len() >= MIN_HOLDOUTS).then_some(MaskedPlaylist {
        title: kind.has_title().then_some(title),
        seeds,
        holdouts,
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    fn masked(rows: &[u32], title: &'static str, kind: SeedKind, seed: u64) -> Option<MaskedPlaylist<'static>> {
        mask(rows, title, kind, &mut Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    #[test]
    fn every_kind_shows_as_many_tracks_as_it_says_and_withholds_the_others() {
        let rows: Vec<u32> = (0..160).map(|row| row * 3).collect();
        for kind in SeedKind::ALL {
            let masked = masked(&rows, " Road trip ", kind, 1).expect("long enough");
            assert_eq!(masked.seeds.len(), kind.seeds(), "{kind}");
            assert_eq!(masked.title, kind.has_title().then_some("Road trip"), "{kind}");
            let first = rows[..kind.seeds()] == masked.seeds;
            assert_eq!(first, !kind.is_random(), "{kind}");
            assert!(masked.seeds.is_sorted() && masked.holdouts.is_sorted(), "{kind}: not in the playlist's order");
            let mut all = [masked.seeds, masked.holdouts].concat();
            all.sort_unstable();
            assert_eq!(all, rows, "{kind}");
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.as_str());
        }
    }

    #[test]
    fn random_seeds_depend_on_the_generator_alone() {
        let rows: Vec<u32> = (0..60).collect();
        let seeds = |seed| masked(&rows, "x", SeedKind::TitleRandom25, seed).expect("long enough").seeds;
        assert_eq!(seeds(4), seeds(4));
        assert_ne!(seeds(4), seeds(5));
    }

    #[test]
    fn a_track_is_withheld_once_and_not_at_all_if_it_is_seen() {
        let masked = masked(&[7, 1, 7, 2, 3, 2, 4, 5, 1, 6], "x", SeedKind::TitleFirst1, 1).expect("long enough");
        assert_eq!((masked.seeds, masked.holdouts), (vec![7], vec![1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn too_short_or_nameless_playlists_are_not_masked() {
        let rows: Vec<u32> = (0..10).collect();
        assert!(masked(&rows, "x", SeedKind::First5, 1).is_some());
        assert_eq!(masked(&rows[..9], "x", SeedKind::First5, 1), None);
        // Ten placements, but only four tracks besides the seeds.
        assert_eq!(masked(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 0], "x", SeedKind::First5, 1), None);
        assert_eq!(masked(&rows, " ", SeedKind::TitleFirst5, 1), None);
        assert!(masked(&rows, "", SeedKind::First5, 1).is_some());
        assert_eq!(masked(&rows, "x", SeedKind::TitleFirst10, 1), None);
    }
}
