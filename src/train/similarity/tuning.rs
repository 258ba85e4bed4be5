//! A search for settings of Track2Vec: one setting after another over a grid, or several at once by chance, of which
//! the better ones are trained longer (successive halving; Jamieson and Talwalkar 2016, arXiv 1502.07943).
//!
//! Every trial is written down when it is done, as a line of JSON. The same search on the same data goes on from there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use super::settings::SimilaritySettings;
use super::training::fit;
use crate::dataset::{HeldOut, NextTrackQuery};
use crate::evaluate::next_track::{Distance, Parts, rank_by_vectors};
use crate::train::checkpoint::RunContext;
use crate::train::error::TrainError;

/// Validation queries that a learning curve is measured on after every epoch.
const CURVE_QUERIES: usize = 1_000;
/// Of the trials of a round, one in so many goes on to the next, and is trained so many times as long.
const HALVING: usize = 3;

/// A setting that can be searched for.
pub struct Knob {
    /// the flag, without dashes
    pub name: &'static str,
    /// what a grid tries when it is not told
    pub grid: &'static [f64],
    /// sets it
    set: fn(&mut SimilaritySettings, f64),
    /// where a search draws from, and whether by size rather than evenly
    range: Option<(f64, f64, Scale)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Even,
    BySize,
}

/// All of them.
pub const KNOBS: [Knob; 9] = [
    Knob {
        name: "alpha",
        grid: &[-1.0, -0.7, -0.5, -0.2, 0.0, 0.2, 0.5, 0.7, 1.0],
        set: |settings, value| settings.alpha = value,
        range: Some((-1.0, 1.0, Scale::Even)),
    },
    Knob {
        name: "dim",
        grid: &[30.0, 50.0, 64.0, 100.0, 150.0],
        set: |settings, value| settings.dim = whole(value),
        range: Some((32.0, 160.0, Scale::BySize)),
    },
    Knob {
        name: "window",
        grid: &[1.0, 2.0, 3.0, 5.0, 7.0, 10.0],
        set: |settings, value| settings.window = whole(value),
        range: Some((1.0, 10.0, Scale::BySize)),
    },
    Knob {
        name: "negatives",
        grid: &[1.0, 2.0, 5.0, 10.0, 20.0],
        set: |settings, value| settings.negatives = whole(value),
        range: Some((1.0, 20.0, Scale::BySize)),
    },
    Knob {
        name: "subsample",
        grid: &[0.0, 1e-6, 1e-5, 1e-4, 1e-3],
        set: |settings, value| settings.subsample = value,
        range: Some((1e-6, 1e-3, Scale::BySize)),
    },
    Knob {
        name: "learning-rate",
        grid: &[0.001, 0.002, 0.005, 0.01, 0.02],
        set: |settings, value| settings.learning_rate = value,
        range: Some((0.001, 0.02, Scale::BySize)),
    },
    Knob {
        name: "epochs",
        grid: &[1.0, 2.0, 3.0, 5.0, 10.0, 20.0],
        set: |settings, value| settings.epochs = whole(value),
        range: None,
    },
    Knob {
        name: "batch",
        grid: &[1024.0, 4096.0, 16384.0],
        set: |settings, value| settings.batch = whole(value),
        range: None,
    },
    Knob {
        name: "pool",
        grid: &[8.0, 16.0, 32.0, 64.0],
        set: |settings, value| settings.pool = whole(value),
        range: None,
    },
];

fn whole(value: f64) -> u32 {
    value.round().max(1.0) as u32
}

/// One setting over some values, the others as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// name of a [`Knob`]
    pub name: String,
    /// what it is set to
    pub values: Vec<f64>,
}

impl Grid {
    /// Of `name` or `name=value,value,…`.
    ///
    /// # Errors
    ///
    /// When there is no such setting, or a value is no number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, values) = text.split_once('=').map_or((text, None), |(name, values)| (name, Some(values)));
        let knob = knob(name)?;
        let values = match values {
            None => knob.grid.to_vec(),
            Some(values) => values
                .split(',')
                .map(|value| match value.trim().parse::<f64>() {
                    Ok(number) if number.is_finite() => Ok(number),
                    _ => Err(format!("{value:?} is not a number")),
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { name: name.to_owned(), values })
    }

    /// Those of the documented values, for all settings.
    pub fn all() -> Vec<Self> {
        KNOBS.iter().map(|knob| Self { name: knob.name.to_owned(), values: knob.grid.to_vec() }).collect()
    }
}

fn knob(name: &str) -> Result<&'static Knob, String> {
    KNOBS.iter().find(|knob| knob.name == name).ok_or_else(|| {
        let names: Vec<&str> = KNOBS.iter().map(|knob| knob.name).collect();
        format!("there is no setting {name:?} to tune; there are {}", names.join(", "))
    })
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

/// Trials on one set of data, old ones and new ones.
pub struct Tuning<'a> {
    held_out: &'a HeldOut,
    validation: Vec<NextTrackQuery>,
    data: String,
    context: RunContext<'a>,
    file: PathBuf,
    /// trials that are written down, those on other data left out
    pub trials: Vec<Trial>,
}

impl<'a> Tuning<'a> {
    /// Goes on from the trials in `file`, if there are any.
    ///
    /// # Errors
    ///
    /// When the file can't be read, or a line of it is no trial. The last line may be half of one: it was being written
    /// when the search was killed, and is cut off.
    pub fn begin(
        held_out: &'a HeldOut,
        parts: &Parts,
        data: &str,
        file: &Path,
        context: RunContext<'a>,
    ) -> Result<Self, TrainError> {
        let validation: Vec<NextTrackQuery> = parts.validation.iter().map(|&query| held_out.queries[query]).collect();
        if validation.is_empty() {
            return Err(TrainError::TooLittleData(
                "the catalog has no playlist of four or more tracks to compare settings by".to_owned(),
            ));
        }
        let trials = read_trials(file)?.into_iter().filter(|trial| trial.data == data).collect();
        Ok(Self { held_out, validation, data: data.to_owned(), context, file: file.to_owned(), trials })
    }

    /// The trial of `settings`: the one that is written down, or a new one.
    ///
    /// # Errors
    ///
    /// Of settings that make no sense, of the file, and [`TrainError::Stopped`] when the person asked to stop.
    pub fn attempt(&mut self, settings: &SimilaritySettings) -> Result<Trial, TrainError> {
        if let Some(trial) = self.trials.iter().find(|trial| trial.settings == *settings) {
            return Ok(trial.clone());
        }
        settings.check()?;
        let queries = &self.validation;
        let some = &queries[..queries.len().min(CURVE_QUERIES)];
        let mut curve = Vec::new();
        let fitted = fit(self.held_out, settings, None, self.context, |run| {
            let (vectors, lengths) = run.learner.vectors();
            let hit_at_10 = rank_by_vectors(&vectors, &lengths, Distance::Cosine, some, 10).hit(10);
            curve.push(CurvePoint { epoch: run.epochs(), loss: run.loss(), hit_at_10 });
        });
        self.context.check()?;
        let data = self.data.clone();
        let settings = settings.clone();
        let trial = match fitted {
            Ok(fitted) => {
                let ranks = rank_by_vectors(&fitted.vectors, &fitted.lengths, Distance::Cosine, queries, 10);
                let (hit_at_10, ndcg_at_10) = (ranks.hit(10), ranks.ndcg(10));
                let (accuracy, loss, seconds) = (fitted.accuracy, Some(fitted.loss), fitted.seconds);
                Trial { settings, hit_at_10, ndcg_at_10, accuracy, loss, seconds, curve, data }
            }
            // That settings make training diverge is a result too.
            Err(TrainError::Diverged { .. }) => Trial {
                settings,
                hit_at_10: 0.0,
                ndcg_at_10: 0.0,
                accuracy: 0.0,
                loss: None,
                seconds: 0.0,
                curve,
                data,
            },
            Err(error) => return Err(error),
        };
        self.write_down(&trial)?;
        self.trials.push(trial.clone());
        Ok(trial)
    }

    /// A trial for each value of `grid`; `each` hears of them.
    pub fn along(
        &mut self,
        base: &SimilaritySettings,
        grid: &Grid,
        mut each: impl FnMut(&Trial),
    ) -> Result<Vec<Trial>, TrainError> {
        let knob = knob(&grid.name).map_err(TrainError::Settings)?;
        let mut trials = Vec::new();
        for &value in &grid.values {
            let mut settings = base.clone();
            (knob.set)(&mut settings, value);
            let trial = self.attempt(&settings)?;
            each(&trial);
            trials.push(trial);
        }
        Ok(trials)
    }

    /// Draws `count` settings by chance, trains each for a ninth of `epochs`, the best third of them for a third, and the
    /// best third of those for all; `each` hears of every trial. The best of the last round comes first.
    pub fn halve(
        &mut self,
        base: &SimilaritySettings,
        count: usize,
        epochs: u32,
        metric: Metric,
        mut each: impl FnMut(&Trial),
    ) -> Result<Vec<Trial>, TrainError> {
        let mut settings: Vec<SimilaritySettings> = draw(base, count);
        let mut round_epochs = epochs as usize / (HALVING * HALVING);
        loop {
            let mut trials = Vec::new();
            for settings in &settings {
                let trial =
                    self.attempt(&SimilaritySettings { epochs: round_epochs.max(1) as u32, ..settings.clone() })?;
                each(&trial);
                trials.push(trial);
            }
            trials.sort_by(|left, right| metric.of(right).total_cmp(&metric.of(left)));
            if round_epochs >= epochs as usize {
                return Ok(trials);
            }
            trials.truncate(settings.len().div_ceil(HALVING));
            settings = trials.into_iter().map(|trial| trial.settings).collect();
            round_epochs = (round_epochs.max(1) * HALVING).min(epochs as usize);
            // What is left of a division by nine would be a round of its own.
            if round_epochs * HALVING > epochs as usize {
                round_epochs = epochs as usize;
            }
        }
    }

    fn write_down(&self, trial: &Trial) -> Result<(), TrainError> {
        let failed = |error: io::Error| TrainError::file(&self.file, error);
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut line = serde_json::to_vec(trial).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).append(true).open(&self.file).map_err(failed)?;
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(failed)
    }
}

/// The settings that were given, and others by chance around them.
fn draw(base: &SimilaritySettings, count: usize) -> Vec<SimilaritySettings> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(base.seed);
    let mut drawn = vec![base.clone()];
    while drawn.len() < count.max(1) {
        let mut settings = base.clone();
        for knob in &KNOBS {
            let Some((from, to, scale)) = knob.range else { continue };
            let value = match scale {
                Scale::Even => rng.random_range(from..to),
                Scale::BySize => rng.random_range(from.ln()..to.ln()).exp(),
            };
            // Two digits say as much as all of them, and are read back as they were written.
            (knob.set)(&mut settings, format!("{value:.1e}").parse().unwrap_or(value));
        }
        drawn.push(settings);
    }
    drawn
}

fn read_trials(path: &Path) -> Result<Vec<Trial>, TrainError> {
    let failed = |error: io::Error| TrainError::file(path, error);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut reader = BufReader::new(OpenOptions::new().read(true).write(true).open(path).map_err(failed)?);
    let (mut trials, mut line, mut whole) = (Vec::new(), String::new(), 0u64);
    loop {
        line.clear();
        let length = reader.read_line(&mut line).map_err(failed)?;
        if length == 0 {
            return Ok(trials);
        }
        if !line.ends_with('\n') {
            let file: &mut File = reader.get_mut();
            file.set_len(whole).and_then(|()| file.rewind()).map_err(failed)?;
            return Ok(trials);
        }
        let trial = serde_json::from_str(&line)
            .map_err(|error| failed(io::Error::other(format!("line {} is no trial: {error}", trials.len() + 1))))?;
        trials.push(trial);
        whole += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::Csr;
    use crate::progress::Interrupt;

    /// Two kinds of tracks that never meet.
    fn held_out() -> HeldOut {
        let lists = (0..60u32).map(|number| (0..8).map(move |place| (number % 2) * 10 + (number + place * 3) % 10));
        let playlists = Csr::from_lists(lists);
        let queries = (0..20).map(|number| NextTrackQuery { query: number, target: (number + 1) % 10 }).collect();
        HeldOut { playlists, queries, vocabulary: 20, counts: vec![24; 20] }
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
        let begin =
            |data: &str| Tuning::begin(&held_out, &parts, data, &file, RunContext::new(1, &interrupt)).expect("begins");
        let grid = Grid::parse("window=1,2").expect("a grid");

        let trials = begin("a").along(&base(), &grid, |_| ()).expect("trials");
        assert_eq!(trials.iter().map(|trial| trial.settings.window).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(trials[0].curve.iter().map(|point| point.epoch).collect::<Vec<_>>(), [1, 2]);

        // Killed while it wrote the second line.
        let text = std::fs::read_to_string(&file).expect("the trials");
        std::fs::write(&file, &text[..text.len() - 10]).expect("written");
        let mut tuning = begin("a");
        let read: Vec<u32> = tuning.trials.iter().map(|trial| trial.settings.window).collect();
        assert_eq!(read, [1]);
        let again = tuning.along(&base(), &grid, |_| ()).expect("trials");
        assert!(again[0] == tuning.trials[0], "it was trained again");
        assert_eq!((again[1].hit_at_10, again[1].loss), (trials[1].hit_at_10, trials[1].loss));
        assert_eq!(std::fs::read_to_string(&file).expect("the trials").lines().count(), 2);

        assert!(begin("b").trials.is_empty(), "trials on other data count");
        std::fs::write(&file, "{}\n").expect("written");
        let error =
            Tuning::begin(&held_out, &parts, "a", &file, RunContext::new(1, &interrupt)).err().expect("no trial");
        assert!(error.to_string().contains("trials.jsonl: line 1 is no trial"), "{error}");
    }

    #[test]
    fn each_round_keeps_the_best_third_and_trains_it_longer() {
        let folder = tempfile::tempdir().expect("a folder");
        let (held_out, parts, interrupt) = (held_out(), Parts::new(20, 1), Interrupt::default());
        let file = folder.path().join("trials.jsonl");
        let mut tuning = Tuning::begin(&held_out, &parts, "a", &file, RunContext::new(1, &interrupt)).expect("begins");
        let mut rounds: Vec<(u32, f64)> = Vec::new();
        let last = tuning
            .halve(&base(), 9, 9, Metric::Hit, |trial| rounds.push((trial.settings.epochs, trial.hit_at_10)))
            .expect("trials");
        let epochs: Vec<u32> = rounds.iter().map(|round| round.0).collect();
        assert_eq!(epochs, [[1; 9].as_slice(), &[3; 3], &[9]].concat());
        let best_of_second = rounds[9..12].iter().map(|round| round.1).fold(0.0, f64::max);
        assert!(last.len() == 1 && tuning.trials.len() == 13);
        let chosen = tuning.trials[9..12].iter().find(|trial| trial.hit_at_10 == best_of_second).expect("a trial");
        assert_eq!(SimilaritySettings { epochs: 3, ..last[0].settings.clone() }, chosen.settings);
    }

    #[test]
    fn what_can_not_be_tuned_is_named() {
        assert!(Grid::parse("dims").expect_err("no such setting").contains("there are alpha, dim, window"));
        assert_eq!(Grid::parse("alpha=1,x").expect_err("no number"), "\"x\" is not a number");
        assert_eq!(Grid::parse("alpha").expect("a grid").values.len(), 9);
        assert_eq!(Grid::all().len(), KNOBS.len());
    }
}
