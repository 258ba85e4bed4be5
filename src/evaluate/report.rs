//! What an evaluation says: as JSON by `serde`, as a picture by [`crate::evaluate::pictures::bars`].

use std::collections::BTreeMap;

use serde::Serialize;

use super::CompletionMetrics;
use crate::dataset::SeedKind;

/// Models side by side on the same playlists.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// playlists measured on
    pub playlists: usize,
    /// tracks that the models can recommend
    pub catalog_tracks: usize,
    /// mean placements of the withheld tracks in what the models know: what `mean_placements_at_10` would be without bias
    pub holdout_mean_placements: f64,
    /// one for each model
    pub models: Vec<ModelReport>,
}

/// How one model did. Figures "at 10" are of the first ten tracks of each list, what a listener sees first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelReport {
    /// its name
    pub name: String,
    /// means over all playlists
    pub all: CompletionMetrics,
    /// means by kind of seeds
    pub kinds: BTreeMap<SeedKind, CompletionMetrics>,
    /// how much of the catalog is recommended at all
    pub coverage_at_10: CoverageAt10,
    /// mean placements of the recommended tracks: popularity bias (average recommendation popularity, Yin et al. 2012)
    pub mean_placements_at_10: f64,
    /// distinct artists among a list's ten by the ten, mean over lists: 1 where no artist occurs twice
    pub distinct_artists_at_10: f64,
    /// time for one playlist's list of 500 tracks
    pub latency_ms: LatencyMs,
}

/// Distinct tracks recommended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CoverageAt10 {
    /// number of them
    pub tracks: usize,
    /// share of the catalog, 0 to 1; can't exceed ten times the number of lists by the number of tracks
    pub share: f64,
}

/// Percentiles in milliseconds (nearest rank).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencyMs {
    /// half of the lists took no longer
    pub median: f64,
    /// 95% took no longer
    pub p95: f64,
    /// 99% took no longer
    pub p99: f64,
}

impl LatencyMs {
    /// Of durations in seconds, in any order.
    pub(super) fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let percentile = |percent: usize| {
            let rank = (seconds.len() * percent).div_ceil(100).max(1);
            seconds.get(rank - 1).map_or(0.0, |seconds| seconds * 1e3)
        };
        Self { median: percentile(50), p95: percentile(95), p99: percentile(99) }
    }
}

impl Report {
    /// The kinds of seeds that occur, in the challenge's order.
    pub fn kinds(&self) -> impl Iterator<Item = SeedKind> {
        self.models.first().into_iter().flat_map(|model| model.kinds.keys().copied())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two models on three kinds of seeds.
    pub(crate) fn report() -> Report {
        let metrics = |factor: f64| CompletionMetrics {
            playlists: 50,
            track_r_precision: 0.1 * factor,
            r_precision: 0.12 * factor,
            ndcg: 0.21234 * factor,
            clicks: 7.5 / factor,
        };
        let model = |name: &str, factor: f64| ModelReport {
            name: name.to_owned(),
            all: CompletionMetrics { playlists: 150, ..metrics(factor) },
            kinds: [SeedKind::Title, SeedKind::First5, SeedKind::TitleRandom100]
                .into_iter()
                .enumerate()
                .map(|(number, kind)| (kind, metrics(factor * (1.0 + number as f64 / 4.0))))
                .collect(),
            coverage_at_10: CoverageAt10 { tracks: 900, share: 0.09 },
            mean_placements_at_10: 120.0,
            distinct_artists_at_10: 0.8,
            latency_ms: LatencyMs { median: 1.5, p95: 2.5, p99: 9.0 },
        };
        Report {
            playlists: 150,
            catalog_tracks: 10_000,
            holdout_mean_placements: 44.0,
            models: vec![model("track2vec", 1.0), model("a&b", 0.5)],
        }
    }

    #[test]
    fn the_json_names_kinds_as_files_do() {
        let json = serde_json::to_value(report()).expect("JSON");
        assert_eq!(json["models"][0]["kinds"]["title_random100"]["playlists"], 50);
        assert_eq!(json["models"][1]["latency_ms"]["p99"], 9.0);
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let latency = LatencyMs::of((1..=200).rev().map(|ms| f64::from(ms) / 1e3).collect());
        for (percentile, expected) in [(latency.median, 100.0), (latency.p95, 190.0), (latency.p99, 198.0)] {
            assert!((percentile - expected).abs() < 1e-9, "{latency:?}");
        }
    }
}
