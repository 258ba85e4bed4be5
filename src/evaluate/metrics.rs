//! Metrics of playlist completion, as in the RecSys Challenge 2018.
//!
//! A playlist is masked, a model ranks 500 tracks for what it still sees of it, and the ranked list R is held against the
//! set G of withheld tracks. Formulas after Zamani, Schedl, Lamere and Chen, "An Analysis of Approaches Taken in the ACM
//! RecSys Challenge 2018 for Automatic Music Playlist Continuation", 2019 (arXiv 1810.01520), section 4:
//!
//! * R-precision: (|G ∩ R₁..|G|| + ¼ · artists) / |G|, where `artists` counts the distinct artists of G that occur among
//!   the first |G| of R, but not by a track of G. Without the artists it is the track R-precision.
//! * NDCG: Σ 1/log₂(rank + 1) over the ranks, from 1, of the tracks of G in R, divided by what the same number of tracks
//!   (|R| at most) gives when they come first.
//! * Clicks: how often a list of ten would have to be refreshed until it shows a track of G; 51 if it never does.

use std::collections::HashSet;

use serde::Serialize;

use crate::dataset::NONE;

/// Length of a ranked list, in tracks.
pub const LIST_LENGTH: usize = 500;
/// Tracks shown at a time.
pub(super) const PAGE: usize = 10;
/// What an artist is worth where a track is worth 1.
const ARTIST_CREDIT: f64 = 0.25;
/// Clicks charged where no page has a hit: one more than there are.
const NO_HIT: usize = LIST_LENGTH / PAGE + 1;

/// Metrics of one ranked list, or their means over several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CompletionMetrics {
    /// number of playlists
    pub playlists: usize,
    /// share of G among the first |G|
    pub track_r_precision: f64,
    /// the same with a quarter of a hit for an artist of G
    pub r_precision: f64,
    /// normalized discounted cumulative gain over the whole list, 0 to 1
    pub ndcg: f64,
    /// refreshes until the first hit, 0 to 51; fewer are better
    pub clicks: f64,
}

/// Metrics of the list `ranked`, best first, of distinct rows.
///
/// `holdouts` are the distinct rows of G, one or more; `artist_of` has the artist of each row, or [`NONE`] where that is
/// not known.
pub fn completion_metrics(ranked: &[u32], holdouts: &[u32], artist_of: &[u32]) -> CompletionMetrics {
    let withheld: HashSet<u32> = holdouts.iter().copied().collect();
    let artists = |rows: &mut dyn Iterator<Item = u32>| -> HashSet<u32> {
        rows.map(|row| artist_of[row as usize]).filter(|&artist| artist != NONE).collect()
    };
    let (hits, misses): (Vec<u32>, Vec<u32>) =
        ranked.iter().take(holdouts.len()).partition(|&row| withheld.contains(row));
    let wanted = artists(&mut holdouts.iter().copied());
    let hit = artists(&mut hits.iter().copied());
    let credited = artists(&mut misses.into_iter())
        .iter()
        .filter(|&artist| wanted.contains(artist) && !hit.contains(artist))
        .count();

    let gain = |index: usize| 1.0 / ((index + 2) as f64).log2();
    let hit_indices = || ranked.iter().enumerate().filter(|(_, row)| withheld.contains(row)).map(|(index, _)| index);
    let ideal: f64 = (0..holdouts.len().min(ranked.len())).map(gain).sum();
    let size = holdouts.len() as f64;
    CompletionMetrics {
        playlists: 1,
        track_r_precision: hits.len() as f64 / size,
        r_precision: (hits.len() as f64 + ARTIST_CREDIT * credited as f64) / size,
        ndcg: if ideal > 0.0 { hit_indices().map(gain).sum::<f64>() / ideal } else { 0.0 },
        clicks: hit_indices().next().map_or(NO_HIT, |index| index / PAGE) as f64,
    }
}

/// Means over playlists; `None` of none.
pub(super) fn means<'a>(metrics: impl Iterator<Item = &'a CompletionMetrics>) -> Option<CompletionMetrics> {
    let mut sums = CompletionMetrics::default();
    for one in metrics {
        sums.playlists += one.playlists;
        sums.track_r_precision += one.track_r_precision;
        sums.r_precision += one.r_precision;
        sums.ndcg += one.ndcg;
        sums.clicks += one.clicks;
    }
    let count = sums.playlists as f64;
    (sums.playlists > 0).then(|| CompletionMetrics {
        playlists: sums.playlists,
        track_r_precision: sums.track_r_precision / count,
        r_precision: sums.r_precision / count,
        ndcg: sums.ndcg / count,
        clicks: sums.clicks / count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-12
    }

    #[test]
    fn artists_count_a_quarter_once_each_and_only_where_no_track_of_theirs_was_hit() {
        // Rows 0 to 9; artists A (0, 1, 5), B (2, 6, 7), C (3, 8); of row 4 and 9 none is known.
        let artist_of = [0, 0, 1, 2, NONE, 0, 1, 1, 2, NONE];
        let holdouts = [0, 2, 3, 4];
        // First four: row 0 is a hit; 5 is by A, which row 0 has hit already; 6 and 7 are by B: one credit.
        let metrics = completion_metrics(&[0, 5, 6, 7, 8, 3, 9], &holdouts, &artist_of);
        assert!(close(metrics.track_r_precision, 0.25), "{metrics:?}");
        assert!(close(metrics.r_precision, (1.0 + 0.25) / 4.0), "{metrics:?}");
        // Hits at ranks 1 and 6; the ideal has ranks 1 to 4.
        let ideal = 1.0 + 1.0 / 3f64.log2() + 0.5 + 1.0 / 5f64.log2();
        assert!(close(metrics.ndcg, (1.0 + 1.0 / 7f64.log2()) / ideal), "{metrics:?}");
        assert!(close(metrics.clicks, 0.0), "{metrics:?}");
        // A track without a known artist earns nothing, though one without is withheld.
        assert!(close(completion_metrics(&[9, 8, 1], &[4], &artist_of).r_precision, 0.0));
        // Behind the first |G|, tracks and artists count for nothing.
        let late = completion_metrics(&[9, 1, 0], &[0], &artist_of);
        assert!(close(late.r_precision, 0.0) && close(late.ndcg, 0.5), "{late:?}");
    }

    #[test]
    fn the_ideal_is_no_longer_than_the_list() {
        let holdouts: Vec<u32> = (0..20).collect();
        let metrics = completion_metrics(&[4, 2, 9], &holdouts, &[NONE; 20]);
        assert!(close(metrics.ndcg, 1.0) && close(metrics.track_r_precision, 3.0 / 20.0), "{metrics:?}");
        let none = completion_metrics(&[], &holdouts, &[NONE; 20]);
        assert_eq!((none.ndcg, none.clicks), (0.0, 51.0));
    }

    #[test]
    fn clicks_are_pages_before_that_of_the_first_hit() {
        let ranked: Vec<u32> = (0..500).collect();
        let clicks = |target: u32| completion_metrics(&ranked, &[target, 600], &vec![NONE; 601]).clicks;
        assert_eq!([0, 9, 10, 499, 550].map(clicks), [0.0, 0.0, 1.0, 49.0, 51.0]);
    }
}
