//! Searches for settings: a grid over one setting after another, draws at random of which the better ones are trained
//! longer (successive halving; Jamieson and Talwalkar 2016, arXiv 1502.07943), and a coordinate search.
//!
//! A kind declares its settings as a space of parameters, and how to evaluate some. With a file, every trial is appended
//! to it as a line of JSON; the same search on the same data continues from there.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::TrainError;

/// Of the trials of a round, one in so many enters the next, and is trained so many times as long.
const HALVING: usize = 3;
/// The parameter that successive halving sets.
const EPOCHS: &str = "epochs";
/// Of settings drawn at random, many parameters are changed.
const DRAWN: Change = ("drawn", 0.0);
/// A coordinate search multiplies and divides a setting by this in the first round; by its root in the next, and so on.
const FACTOR: f32 = 2.0;
/// A coordinate search takes a smaller gain for chance.
const LEAST_GAIN: f64 = 1e-4;

/// A setting that can be searched for.
pub struct Parameter<S> {
    /// the flag, without dashes
    pub name: &'static str,
    /// what a grid tries by default
    pub grid: &'static [f64],
    range: Option<(f64, f64, Scale)>,
    rounded: bool,
    get: Box<dyn Fn(&S) -> f64>,
    set: Setter<S>,
}

/// Gives a setting a value.
type Setter<S> = Box<dyn Fn(&mut S, f64)>;

/// How a range is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// evenly
    Even,
    /// evenly by order of magnitude
    Logarithmic,
}

impl<S> Parameter<S> {
    /// A parameter that `set` sets.
    pub fn new(name: &'static str, set: impl Fn(&mut S, f64) + 'static) -> Self {
        Self { name, grid: &[], range: None, rounded: false, get: Box::new(|_| 0.0), set: Box::new(set) }
    }

    /// Values for a grid.
    pub fn grid(self, grid: &'static [f64]) -> Self {
        Self { grid, ..self }
    }

    /// Where a random search draws from.
    pub fn range(self, from: f64, to: f64, scale: Scale) -> Self {
        Self { range: Some((from, to, scale)), ..self }
    }

    /// Draws of two digits, which say as much as all of them and are read back as they were written.
    pub fn rounded(self) -> Self {
        Self { rounded: true, ..self }
    }

    /// How a coordinate search reads it.
    pub fn read_by(self, get: impl Fn(&S) -> f64 + 'static) -> Self {
        Self { get: Box::new(get), ..self }
    }

    /// Its value in some settings.
    pub fn value(&self, settings: &S) -> f64 {
        (self.get)(settings)
    }

    fn applied(&self, base: &S, value: f64) -> S
    where
        S: Clone,
    {
        let mut settings = base.clone();
        (self.set)(&mut settings, value);
        settings
    }

    fn draw(&self, rng: &mut Xoshiro256PlusPlus) -> Option<f64> {
        let (from, to, scale) = self.range?;
        let value = match scale {
            Scale::Even => rng.random_range(from..to),
            Scale::Logarithmic => rng.random_range(from.ln()..to.ln()).exp(),
        };
        Some(if self.rounded { format!("{value:.1e}").parse().unwrap_or(value) } else { value })
    }
}

/// One setting over some values, the others as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// name of a [`Parameter`]
    pub name: String,
    /// its values
    pub values: Vec<f64>,
}

impl Grid {
    /// Reads `name` or `name=value,value,…`.
    ///
    /// # Errors
    ///
    /// When `space` has no such setting, or a value is not a number.
    pub fn parse<S>(text: &str, space: &[Parameter<S>]) -> Result<Self, String> {
        let (name, values) = text.split_once('=').map_or((text, None), |(name, values)| (name, Some(values)));
        let number = |value: &str| match value.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(format!("{value:?} is not a number")),
        };
        let grid = space[position(space, name)?].grid;
        let values = values.map_or(Ok(grid.to_vec()), |values| values.split(',').map(number).collect())?;
        Ok(Self { name: name.to_owned(), values })
    }

    /// Those of the default values, for all settings of `space`.
    pub fn all<S>(space: &[Parameter<S>]) -> Vec<Self> {
        space
            .iter()
            .map(|parameter| Self { name: parameter.name.to_owned(), values: parameter.grid.to_vec() })
            .collect()
    }
}

fn position<S>(space: &[Parameter<S>], name: &str) -> Result<usize, String> {
    space.iter().position(|parameter| parameter.name == name).ok_or_else(|| {
        let names: Vec<&str> = space.iter().map(|parameter| parameter.name).collect();
        format!("there is no setting {name:?} to tune; there are {}", names.join(", "))
    })
}

/// The parameter that a search changed, and its value.
pub type Change = (&'static str, f64);

type Evaluation<'a, S, T> = Box<dyn FnMut(&S, Change) -> Result<T, TrainError> + 'a>;

/// A search over a space of settings `S`, in which each trial is a `T`.
pub struct Tuner<'a, S, T> {
    space: Vec<Parameter<S>>,
    evaluate: Evaluation<'a, S, T>,
    file: Option<PathBuf>,
    /// all trials, those of earlier runs included
    pub trials: Vec<(S, T)>,
}

impl<'a, S: Clone + PartialEq, T: Clone + Serialize> Tuner<'a, S, T> {
    /// A search over `space`, in which `evaluate` makes a trial of settings.
    pub fn new(space: Vec<Parameter<S>>, evaluate: impl FnMut(&S, Change) -> Result<T, TrainError> + 'a) -> Self {
        Self { space, evaluate: Box::new(evaluate), file: None, trials: Vec::new() }
    }

    /// Continues from those trials in `file` that `known` finds the settings of, and appends new ones.
    ///
    /// # Errors
    ///
    /// When the file can't be read, or a line of it is no trial. The last line may be cut short, if the search was killed
    /// while it was written; it is removed.
    pub fn with_file(self, file: &Path, known: impl Fn(&T) -> Option<S>) -> Result<Self, TrainError>
    where
        T: DeserializeOwned,
    {
        let trials = read_trials(file)?.into_iter().filter_map(|trial| Some((known(&trial)?, trial))).collect();
        Ok(Self { trials, file: Some(file.to_owned()), ..self })
    }

    /// The trial of `settings`: one from the file, or a new one. Calls `each` with it.
    fn attempt(&mut self, settings: &S, change: Change, mut each: impl FnMut(&T)) -> Result<T, TrainError> {
        let known = self.trials.iter().find(|(tried, _)| self.file.is_some() && tried == settings);
        let trial = match known {
            Some((_, trial)) => trial.clone(),
            None => {
                let trial = (self.evaluate)(settings, change)?;
                self.append(&trial)?;
                self.trials.push((settings.clone(), trial.clone()));
                trial
            }
        };
        each(&trial);
        Ok(trial)
    }

    /// A trial for each value of `grid`; `each` is called with every one.
    pub fn along(&mut self, base: &S, grid: &Grid, mut each: impl FnMut(&T)) -> Result<Vec<T>, TrainError> {
        let place = position(&self.space, &grid.name).map_err(TrainError::Settings)?;
        let values = grid.values.iter();
        values
            .map(|&value| {
                let settings = self.space[place].applied(base, value);
                self.attempt(&settings, (self.space[place].name, value), &mut each)
            })
            .collect()
    }

    /// `base`, and settings drawn around it until there are `count`.
    fn draw(&self, base: &S, count: usize, seed: u64) -> Vec<S> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut drawn = vec![base.clone()];
        while drawn.len() < count.max(1) {
            let mut settings = base.clone();
            for parameter in &self.space {
                if let Some(value) = parameter.draw(&mut rng) {
                    (parameter.set)(&mut settings, value);
                }
            }
            drawn.push(settings);
        }
        drawn
    }

    /// Tries `base` and settings drawn at random, `count` in all; `each` is called with every trial.
    pub fn random(
        &mut self,
        base: &S,
        count: usize,
        seed: u64,
        mut each: impl FnMut(&T),
    ) -> Result<Vec<T>, TrainError> {
        let drawn = self.draw(base, count, seed);
        drawn.iter().map(|settings| self.attempt(settings, DRAWN, &mut each)).collect()
    }

    /// Draws `count` settings at random, trains each for a ninth of `epochs`, the best third of them for a third, and the
    /// best third of those for all; `each` is called with every trial. Returns the last round, the highest score first.
    pub fn halve(
        &mut self,
        base: &S,
        count: usize,
        seed: u64,
        epochs: u32,
        score: impl Fn(&T) -> f64,
        mut each: impl FnMut(&T),
    ) -> Result<Vec<T>, TrainError> {
        let place = position(&self.space, EPOCHS).map_err(TrainError::Settings)?;
        let (mut drawn, epochs) = (self.draw(base, count, seed), epochs as usize);
        let mut round_epochs = epochs / (HALVING * HALVING);
        loop {
            let mut round = Vec::new();
            for settings in &drawn {
                let settings = self.space[place].applied(settings, round_epochs as f64);
                round.push((self.attempt(&settings, DRAWN, &mut each)?, settings));
            }
            sort_best(&mut round, |(trial, _)| score(trial));
            if round_epochs >= epochs {
                return Ok(round.into_iter().map(|(trial, _)| trial).collect());
            }
            round.truncate(drawn.len().div_ceil(HALVING));
            drawn = round.into_iter().map(|(_, settings)| settings).collect();
            round_epochs = (round_epochs.max(1) * HALVING).min(epochs);
            // What is left of a division by nine would be a round of its own.
            if round_epochs * HALVING > epochs {
                round_epochs = epochs;
            }
        }
    }

    /// Makes one setting after another smaller and larger, and keeps what raises the score; `each` is called with every
    /// trial. Skips settings that `is_valid` rejects. Returns the best settings and their trial.
    pub fn coordinate(
        &mut self,
        start: &S,
        rounds: usize,
        is_valid: impl Fn(&S) -> bool,
        score: impl Fn(&T) -> f64,
        mut each: impl FnMut(&T),
    ) -> Result<(S, T), TrainError> {
        let (mut settings, mut best) = (start.clone(), self.attempt(start, ("start", 0.0), &mut each)?);
        let mut factor = FACTOR;
        for _ in 0..rounds {
            for place in 0..self.space.len() {
                let (name, value) = (self.space[place].name, self.space[place].value(&settings));
                for changed in [value * f64::from(factor), value / f64::from(factor)] {
                    let candidate = self.space[place].applied(&settings, changed);
                    if candidate == settings || !is_valid(&candidate) {
                        continue;
                    }
                    let trial = self.attempt(&candidate, (name, changed), &mut each)?;
                    if score(&trial) > score(&best) + LEAST_GAIN {
                        (settings, best) = (candidate, trial);
                        break; // a gain in one direction is a loss in the other
                    }
                }
            }
            factor = factor.sqrt();
        }
        Ok((settings, best))
    }

    fn append(&self, trial: &T) -> Result<(), TrainError> {
        let Some(path) = &self.file else { return Ok(()) };
        let failed = |error: io::Error| TrainError::file(path, error);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut line = serde_json::to_vec(trial).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(failed)
    }
}

/// Sorts trials by falling score; of equal ones the earlier stays first.
pub fn sort_best<T>(trials: &mut [T], score: impl Fn(&T) -> f64) {
    trials.sort_by(|left, right| score(right).total_cmp(&score(left)));
}

/// Writes settings as a file that `segue --config FILE train KIND` takes.
pub fn write_best(path: &Path, kind: &str, settings: &impl Serialize) -> Result<(), TrainError> {
    let config = BTreeMap::from([("train", BTreeMap::from([(kind, settings)]))]);
    let text = toml::to_string(&config).map_err(|error| TrainError::file(path, error))?;
    std::fs::write(path, text).map_err(|error| TrainError::file(path, error))
}

fn read_trials<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, TrainError> {
    let failed = |error: io::Error| TrainError::file(path, error);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let whole = text.rfind('\n').map_or(0, |last| last + 1);
    if whole < text.len() {
        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(whole as u64)).map_err(failed)?;
    }
    let trial = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| failed(io::Error::other(format!("line {} is no trial: {error}", number + 1))))
    };
    text[..whole].lines().enumerate().map(trial).collect()
}
