//! The search for settings of Track2Vec: its space, and what a trial measures.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::settings::SimilaritySettings;
use super::training::fit;
use crate::dataset::{HeldOutSequences, NextTrackQuery};
use crate::evaluate::next_track::{Distance, Parts, rank_by_vectors};
use crate::train::checkpoint::RunContext;
use crate::train::error::TrainError;
use crate::train::tuning::Scale::{Even, Logarithmic};
use crate::train::tuning::{Grid, Parameter, Tuner};

/// Validation queries that a learning curve is measured on after every epoch.
const CURVE_QUERIES: usize = 1_000;

/// All settings that can be searched for.
fn space() -> Vec<Parameter<SimilaritySettings>> {
    let set = |name, set: fn(&mut SimilaritySettings, f64)| Parameter::new(name, set);
    let space =
        [
            set("alpha", |settings, value| settings.alpha = value)
                .grid(&[-1.0, -0.7, -0.5, -0.2, 0.0, 0.2, 0.5, 0.7, 1.0])
                .range(-1.0, 1.0, Even),
            set("dim", |settings, value| settings.dim = whole(value)).grid(&[30.0, 50.0, 64.0, 100.0, 150.0]).range(
                32.0,
                160.0,
                Logarithmic,
            ),
            set("window", |settings, value| settings.window = whole(value))
                .grid(&[1.0, 2.0, 3.0, 5.0, 7.0, 10.0])
                .range(1.0, 10.0, Logarithmic),
            set("negatives", |settings, value| settings.negatives = whole(value))
                .grid(&[1.0, 2.0, 5.0, 10.0, 20.0])
                .range(1.0, 20.0, Logarithmic),
            set("subsample", |settings, value| settings.subsample = value).grid(&[0.0, 1e-6, 1e-5, 1e-4, 1e-3]).range(
                1e-6,
                1e-3,
                Logarithmic,
            ),
            set("learning-rate", |settings, value| settings.learning_rate = value)
                .grid(&[0.001, 0.002, 0.005, 0.01, 0.02])
                .range(0.001, 0.02, Logarithmic),
            set("epochs", |settings, value| settings.epochs = whole(value)).grid(&[1.0, 2.0, 3.0, 5.0, 10.0, 20.0]),
            set("batch", |settings, value| settings.batch = whole(value)).grid(&[1024.0, 4096.0, 16384.0]),
            set("pool", |settings, value| settings.pool = whole(value)).grid(&[8.0, 16.0, 32.0, 64.0]),
        ];
    space.map(Parameter::rounded).into()
}

fn whole(value: f64) -> u32 {
    value.round().max(1.0) as u32
}

/// Reads `name` or `name=value,value,…`.
///
/// # Errors
///
/// When there is no such setting, or a value is not a number.
pub fn parse_grid(text: &str) -> Result<Grid, String> {
    Grid::parse(text, &space())
}

/// Those of the documented values, for all settings.
pub fn all_grids() -> Vec<Grid> {
    Grid::all(&space())
}

/// Settings that were tried, and what came of them. Metrics are those of the validation part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// all of them
    pub settings: SimilaritySettings,
    /// share of queries whose target is among the first ten
    pub hit_at_10: f64,
    /// see [`crate::evaluate::next_track::Ranks::ndcg`]
    pub ndcg_at_10: f64,
    /// share of pairs and negatives on the right side
    pub accuracy: f64,
    /// mean loss of a pair in the last epoch; null where it was no number any more
    pub loss: Option<f64>,
    /// time that training took, the curve's measuring left out
    pub seconds: f64,
    /// after each epoch
    pub curve: Vec<CurvePoint>,
    /// SHA-256 of the data, so that trials on other data are not taken for these
    pub data: String,
}

/// How far training had come after an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// its number, from 1
    pub epoch: usize,
    /// mean loss of a pair
    pub loss: f64,
    /// over some of the validation part
    pub hit_at_10: f64,
}

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Hit@10
    Hit,
    /// NDCG@10
    Ndcg,
}

impl Metric {
    /// Of a trial.
    pub fn of(self, trial: &Trial) -> f64 {
        match self {
            Self::Hit => trial.hit_at_10,
            Self::Ndcg => trial.ndcg_at_10,
        }
    }
}

/// A search on the validation part of `held_out`, which continues from the trials on the same `data` in `file`.
pub fn tuner<'a>(
    held_out: &'a HeldOutSequences,
    parts: &Parts,
    data: &'a str,
    file: &Path,
    context: RunContext<'a>,
) -> Result<Tuner<'a, SimilaritySettings, Trial>, TrainError> {
    let validation: Vec<NextTrackQuery> = parts.validation.iter().map(|&query| held_out.queries[query]).collect();
    if validation.is_empty() {
        return Err(TrainError::TooLittleData(
            "the catalog has no playlist of four or more tracks to compare settings by".to_owned(),
        ));
    }
    let evaluate = move |settings: &SimilaritySettings, _| evaluate(held_out, &validation, settings, data, context);
    let known = |trial: &Trial| (trial.data == data).then(|| trial.settings.clone());
    Tuner::new(space(), evaluate).with_file(file, known)
}

fn evaluate(
    held_out: &HeldOutSequences,
    queries: &[NextTrackQuery],
    settings: &SimilaritySettings,
    data: &str,
    context: RunContext<'_>,
) -> Result<Trial, TrainError> {
    settings.check()?;
    let some = &queries[..queries.len().min(CURVE_QUERIES)];
    let mut curve = Vec::new();
    let fitted = fit(held_out, settings, None, context, |run| {
        let (vectors, lengths) = run.learner.vectors();
        let hit_at_10 = rank_by_vectors(&vectors, &lengths, Distance::Cosine, some, 10).hit(10);
        curve.push(CurvePoint { epoch: run.epochs(), loss: run.loss(), hit_at_10 });
    });
    context.check()?;
    let (settings, data) = (settings.clone(), data.to_owned());
    let (hit_at_10, ndcg_at_10, accuracy, loss, seconds) = match fitted {
        Ok(fitted) => {
            let ranks = rank_by_vectors(&fitted.vectors, &fitted.lengths, Distance::Cosine, queries, 10);
            (ranks.hit(10), ranks.ndcg(10), fitted.accuracy, Some(fitted.loss), fitted.seconds)
        }
        // That settings make training diverge is a result too.
        Err(TrainError::Diverged { .. }) => (0.0, 0.0, 0.0, None, 0.0),
        Err(error) => return Err(error),
    };
    Ok(Trial { settings, hit_at_10, ndcg_at_10, accuracy, loss, seconds, curve, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::Csr;
    use crate::progress::Interrupt;

    /// Two kinds of tracks that never meet.
    fn held_out() -> HeldOutSequences {
        let lists = (0..60u32).map(|number| (0..8).map(move |place| (number % 2) * 10 + (number + place * 3) % 10));
        let playlists = Csr::from_lists(lists);
        let queries = (0..20).map(|number| NextTrackQuery { query: number, target: (number + 1) % 10 }).collect();
        HeldOutSequences { playlists, queries, vocabulary: 20, counts: vec![24; 20] }
    }

    fn base() -> SimilaritySettings {
        #[derive(clap::Parser)]
        struct Arguments {
            #[command(flatten)]
            settings: SimilaritySettings,
        }
        let flags = ["", "--dim", "4", "--epochs", "2", "--min-count", "1", "--batch", "64"];
        <Arguments as clap::Parser>::parse_from(flags).settings
    }

    #[test]
    fn a_search_goes_on_from_the_trials_that_are_written_down() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, held_out) = (folder.path().join("tuning/trials.jsonl"), held_out());
        let (parts, interrupt) = (Parts::new(20, 1), Interrupt::default());
        let context = RunContext::new(1, &interrupt);
        let begin = |data: &'static str| tuner(&held_out, &parts, data, &file, context).expect("begins");
        let grid = parse_grid("window=1,2").expect("a grid");

        let trials = begin("a").along(&base(), &grid, |_| ()).expect("trials");
        assert_eq!(trials.iter().map(|trial| trial.settings.window).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(trials[0].curve.iter().map(|point| point.epoch).collect::<Vec<_>>(), [1, 2]);

        // Killed while it wrote the second line.
        let text = std::fs::read_to_string(&file).expect("the trials");
        std::fs::write(&file, &text[..text.len() - 10]).expect("written");
        let mut search = begin("a");
        let read: Vec<u32> = search.trials.iter().map(|(settings, _)| settings.window).collect();
        assert_eq!(read, [1]);
        let again = search.along(&base(), &grid, |_| ()).expect("trials");
        assert!(again[0] == search.trials[0].1, "it was trained again");
        assert_eq!((again[1].hit_at_10, again[1].loss), (trials[1].hit_at_10, trials[1].loss));
        assert_eq!(std::fs::read_to_string(&file).expect("the trials").lines().count(), 2);

        assert!(begin("b").trials.is_empty(), "trials on other data count");
        std::fs::write(&file, "{}\n").expect("written");
        let error = tuner(&held_out, &parts, "a", &file, RunContext::new(1, &interrupt)).err().expect("no trial");
        assert!(error.to_string().contains("trials.jsonl: line 1 is no trial"), "{error}");
    }

    #[test]
    fn each_round_keeps_the_best_third_and_trains_it_longer() {
        let folder = tempfile::tempdir().expect("a folder");
        let (held_out, parts, interrupt) = (held_out(), Parts::new(20, 1), Interrupt::default());
        let file = folder.path().join("trials.jsonl");
        let mut search = tuner(&held_out, &parts, "a", &file, RunContext::new(1, &interrupt)).expect("begins");
        let mut rounds: Vec<(u32, f64)> = Vec::new();
        let last = search
            .halve(
                &base(),
                9,
                1,
                9,
                |trial| Metric::Hit.of(trial),
                |trial| rounds.push((trial.settings.epochs, trial.hit_at_10)),
            )
            .expect("trials");
        let epochs: Vec<u32> = rounds.iter().map(|round| round.0).collect();
        assert_eq!(epochs, [[1; 9].as_slice(), &[3; 3], &[9]].concat());
        let best_of_second = rounds[9..12].iter().map(|round| round.1).fold(0.0, f64::max);
        assert!(last.len() == 1 && search.trials.len() == 13);
        let chosen = search.trials[9..12].iter().find(|(_, trial)| trial.hit_at_10 == best_of_second).expect("a trial");
        assert_eq!(SimilaritySettings { epochs: 3, ..last[0].settings.clone() }, chosen.0);
    }

    #[test]
    fn what_can_not_be_tuned_is_named() {
        assert!(parse_grid("dims").expect_err("no such setting").contains("there are alpha, dim, window"));
        assert_eq!(parse_grid("alpha=1,x").expect_err("no number"), "\"x\" is not a number");
        assert_eq!(parse_grid("alpha").expect("a grid").values.len(), 9);
        assert_eq!(all_grids().len(), space().len());
    }
}
