//! Click probability: whether a user will come back to a track that was just begun.
//!
//! Each model is trained twice: on all but a validation part, which says when to stop, how to calibrate, and how much the
//! model counts in the ensemble; then, for as many epochs at the same learning rates, on that part too.

pub mod network;
mod optimizer;
mod trees;
pub mod tuning;

use std::fs;
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::info;

use super::TrainError;
use crate::bundle::{BundleWriter, ClickBundle, ClickMember, Kind, Manifest, NewManifest, Scorer, Vocabulary};
use crate::dataset::listens::{
    ClickState, ClickTable, Encoding, FeatureGroup, Field, Listening, Variant, number_names, replay,
};
use crate::evaluate::{ClickMetrics, auc, measure_clicks};
use crate::progress::Interrupt;
use crate::recommend::clicks::{ENSEMBLE, ensemble};
use crate::scoring::clicks::shape::{Architecture, ClickShape, Subject};
use network::{Examples, NetworkTask, train_network};
pub use optimizer::Optimizer;

/// Models of click probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClickModelName {
    /// logistic regression
    LogisticRegression,
    /// factorization machine
    Fm,
    /// field-aware factorization machine
    Ffm,
    /// factorization machine and hidden layers
    Deepfm,
    /// towers for user, track and context under a densely connected top
    FieldNetwork,
    /// cross layers beside hidden layers
    DcnV2,
    /// boosted oblivious trees
    Trees,
}

impl ClickModelName {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::LogisticRegression, Self::Fm, Self::Ffm, Self::Deepfm, Self::FieldNetwork, Self::DcnV2, Self::Trees];

    /// The name in commands, requests and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LogisticRegression => "logistic-regression",
            Self::Fm => "fm",
            Self::Ffm => "ffm",
            Self::Deepfm => "deepfm",
            Self::FieldNetwork => "field-network",
            Self::DcnV2 => "dcn-v2",
            Self::Trees => "trees",
        }
    }

    fn architecture(self) -> Option<Architecture> {
        match self {
            Self::LogisticRegression => Some(Architecture::LogisticRegression),
            Self::Fm => Some(Architecture::Fm),
            Self::Ffm => Some(Architecture::Ffm),
            Self::Deepfm => Some(Architecture::Deepfm),
            Self::FieldNetwork => Some(Architecture::FieldNetwork),
            Self::DcnV2 => Some(Architecture::DcnV2),
            Self::Trees => None,
        }
    }
}

/// Where hyper-parameters start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// found for some ten thousand listens
    Small,
    /// as published for millions of them
    Published,
}

/// Hyper-parameters of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClickSettings {
    /// length of an embedding
    pub dim: u32,
    /// units of each hidden layer; of the field network the first one is K
    pub hidden: Vec<u32>,
    /// cross layers
    pub cross_layers: u32,
    /// chance that a unit is dropped
    pub dropout: f64,
    /// L2 penalty on embeddings that a batch looks up
    pub l2: f64,
    /// L2 penalty on dense weights
    pub dense_l2: f64,
    /// learning rate
    pub learning_rate: f64,
    /// what the learning rate is multiplied with after each epoch
    pub decay: f64,
    /// listens in a mini-batch
    pub batch: u32,
    /// epochs at most; of the boosted model trees at most
    pub epochs: u32,
    /// epochs without a better validation AUC until the learning rate falls to a tenth, and after the second time training
    /// ends; 0 goes through all epochs
    pub patience: u32,
    /// how a gradient becomes a step
    pub optimizer: Optimizer,
    /// how often a value must occur to have an embedding
    pub min_count: u32,
    /// networks that differ in their seed, averaged
    pub seeds: u32,
    /// groups of numbers that take part
    pub groups: Vec<FeatureGroup>,
    /// questions of a tree
    pub depth: u32,
}

impl ClickSettings {
    /// The preset of a model.
    pub fn preset(name: ClickModelName, preset: Preset) -> Self {
        let small = preset == Preset::Small;
        let mut groups = vec![
            FeatureGroup::Member,
            FeatureGroup::Track,
            FeatureGroup::Counts,
            FeatureGroup::Shares,
            FeatureGroup::Windows,
            FeatureGroup::Neighbours,
            FeatureGroup::Targets,
        ];
        // It takes many listens to know tastes by.
        groups.extend((!small).then_some(FeatureGroup::Taste));
        let base = Self {
            dim: if small { 8 } else { 10 },
            hidden: if small { vec![64, 32] } else { vec![400, 400] },
            cross_layers: 2,
            dropout: if small { 0.2 } else { 0.3 },
            l2: if small { 1e-3 } else { 5e-4 },
            dense_l2: if small { 2e-3 } else { 0.0 },
            learning_rate: 1e-3,
            decay: 1.0,
            batch: if small { 256 } else { 10_000 },
            epochs: 40,
            patience: if small { 3 } else { 1 },
            optimizer: Optimizer::Adam,
            min_count: 10,
            seeds: if small { 3 } else { 1 },
            groups,
            depth: 5,
        };
        match name {
            ClickModelName::LogisticRegression => Self { hidden: Vec::new(), seeds: 1, dense_l2: 3e-3, ..base },
            ClickModelName::Fm => Self { dim: if small { 4 } else { 10 }, hidden: Vec::new(), ..base },
            ClickModelName::Ffm => Self { dim: if small { 2 } else { 4 }, hidden: Vec::new(), ..base },
            ClickModelName::Deepfm if small => Self {
                dim: 16,
                hidden: vec![88, 36],
                dropout: 0.4,
                l2: 1.6e-3,
                dense_l2: 3e-4,
                learning_rate: 5e-4,
                ..base
            },
            ClickModelName::DcnV2 if small => Self {
                dim: 4,
                hidden: vec![55, 18],
                dropout: 0.1,
                l2: 2e-4,
                dense_l2: 1.3e-2,
                learning_rate: 4e-4,
                batch: 64,
                ..base
            },
            ClickModelName::Deepfm | ClickModelName::DcnV2 => base,
            // The first of `hidden` is K, the embeddings' length K₀.
            ClickModelName::FieldNetwork if small => Self { hidden: vec![24], ..base },
            ClickModelName::FieldNetwork => Self {
                dim: 11,
                hidden: vec![74],
                dropout: 0.5,
                l2: 5.3e-4,
                learning_rate: 1.405e-3,
                decay: 0.778,
                batch: 8_192,
                epochs: 26,
                patience: 0,
                optimizer: Optimizer::Rmsprop,
                ..base
            },
            ClickModelName::Trees => {
                Self { epochs: 600, learning_rate: 0.04, l2: 10.0, seeds: 1, hidden: Vec::new(), ..base }
            }
        }
    }

    fn check(&self) -> Result<(), TrainError> {
        let refuse = |text: &str| Err(TrainError::Settings(text.to_owned()));
        match () {
            () if !(0.0..1.0).contains(&self.dropout) => refuse("--dropout must be from 0 to below 1"),
            () if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) => {
                refuse("--learning-rate must be above 0")
            }
            () if !(self.l2 >= 0.0 && self.dense_l2 >= 0.0) => refuse("--l2 and --dense-l2 must be 0 or above"),
            () if !(self.decay > 0.0 && self.decay <= 1.0) => refuse("--decay must be above 0 and at most 1"),
            () if self.hidden.iter().any(|units| !(1..=4096).contains(units)) => {
                refuse("--hidden must be numbers from 1 to 4096")
            }
            () if self.groups.is_empty() => refuse("--groups must name a group of features"),
            () => Ok(()),
        }
    }
}

/// Listens with a target that it takes to learn anything.
const LEAST_LISTENS: usize = 100;

/// How rows are dealt to learning and measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SplitKind {
    /// the last ones are measured on
    Time,
    /// ones drawn at random are measured on
    Random,
}

/// What is learned from, and by what a model is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClickTask<'a> {
    /// all listens
    pub listening: &'a Listening,
    /// what a row may know
    pub variant: Variant,
    /// for each listen whether it is set aside: its target is never seen
    pub set_aside: &'a [bool],
    /// share of the others that is the validation part
    pub validation: f64,
    /// how that is chosen
    pub split: SplitKind,
    /// random seed
    pub seed: u64,
}

impl PartialEq for Listening {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// Models that have learned.
#[derive(Debug)]
pub struct LearnedClicks {
    /// the models, calibrated
    pub members: Vec<ClickMember>,
    /// slope and intercept of the ensemble
    pub ensemble: (f32, f32),
    /// what was measured of each, and of the ensemble, on the validation part
    pub validation: Vec<(String, ClickMetrics)>,
    /// epochs, or trees, of each
    pub epochs: Vec<usize>,
    /// rows learned from each second, of each
    pub rows_per_second: Vec<f64>,
    /// what the listens tell, but for the targets set aside
    pub state: ClickState,
    /// every listen with a known target, described
    pub table: ClickTable,
}

/// Marks the last `share`, or one drawn at random, of the `rows` (places of listens).
pub fn mark(listens: usize, rows: &[usize], share: f64, split: SplitKind, seed: u64) -> Vec<bool> {
    let mut marked = vec![false; listens];
    let count = (rows.len() as f64 * share).round() as usize;
    match split {
        SplitKind::Time => rows[rows.len() - count..].iter().for_each(|&row| marked[row] = true),
        SplitKind::Random => {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            rows.iter().for_each(|&row| marked[row] = rng.random::<f64>() < share);
        }
    }
    marked
}

/// Where a run keeps its state, and how it is stopped.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// threads that compute
    pub threads: usize,
    /// beginning of the paths of files of the state; none keeps none
    pub resume: Option<&'a Path>,
    /// asked now and then
    pub interrupt: &'a Interrupt,
}

/// A model before calibration, and what it takes to learn it again.
struct Fitted {
    encoding: Encoding,
    scorer: Scorer,
    plans: Vec<Vec<f64>>,
    rows_per_second: f64,
}

/// The rows to learn from at first, and those to choose by.
fn parts(task: &ClickTask<'_>, threads: usize) -> Result<(ClickTable, ClickTable), TrainError> {
    let listening = task.listening;
    let rows: Vec<usize> = listening.labelled().into_iter().filter(|&row| !task.set_aside[row]).collect();
    if rows.len() < LEAST_LISTENS {
        return Err(TrainError::TooLittleData(format!(
            "{} listens have a target (whether the user came back), at least {LEAST_LISTENS} are needed; `segue import \
             kkbox` or POST /listens brings some",
            rows.len()
        )));
    }
    let validates = mark(listening.clicks.len(), &rows, task.validation, task.split, task.seed.wrapping_add(77));
    let taught = taught(task, &[task.set_aside, &validates]);
    let (table, _) =
        replay(listening, task.variant, taught, threads, |place| task.set_aside[place] || validates[place]);
    let (mut training, mut validation) = (Vec::new(), Vec::new());
    for (row, &place) in table.clicks.iter().enumerate() {
        match () {
            () if task.set_aside[place] => {}
            () if validates[place] => validation.push(row),
            () => training.push(row),
        }
    }
    Ok((table.select(&training), table.select(&validation)))
}

/// Listens that tastes are learned from: those before the first one that is measured on, as a server's are from those
/// before the training; all where rows are measured on that were drawn at random.
fn taught(task: &ClickTask<'_>, measured: &[&[bool]]) -> usize {
    let all = task.listening.clicks.len();
    let firsts = measured.iter().filter_map(|marked| marked.iter().position(|&marked| marked));
    if task.split == SplitKind::Random { all } else { firsts.min().unwrap_or(all) }
}

/// What it takes to learn a model again.
struct Chosen {
    /// for each network the learning rate of each epoch
    plans: Vec<Vec<f64>>,
    rows_per_second: f64,
}

/// Learns each of `models` as `task` says. See the module.
pub fn learn(
    task: &ClickTask<'_>,
    models: &[(String, ClickModelName, ClickSettings)],
    running: Running<'_>,
) -> Result<LearnedClicks, TrainError> {
    models.iter().try_for_each(|(_, _, settings)| settings.check())?;
    let (training, validation) = parts(task, running.threads)?;
    let listening = task.listening;
    let taught = taught(task, &[task.set_aside]);
    let (table, state) = replay(listening, task.variant, taught, running.threads, |place| task.set_aside[place]);
    let all: Vec<usize> = (0..table.rows()).filter(|&row| !task.set_aside[table.clicks[row]]).collect();
    let all = table.select(&all);

    let mut learned = LearnedClicks {
        members: Vec::new(),
        ensemble: (1.0, 0.0),
        validation: Vec::new(),
        epochs: Vec::new(),
        rows_per_second: Vec::new(),
        state,
        table,
    };
    let mut on_validation: Vec<Vec<f32>> = Vec::new();
    for (name, model, settings) in models {
        let tag = |stage: &str| running.resume.map(|path| format!("{}-{name}-{stage}", path.display()));
        let (mut member, chosen) =
            choose(name, *model, settings, &training, &validation, task.seed, tag("a"), running)?;
        let scores = member.score(&validation.fields, &validation.numbers);
        let metrics = measure_clicks(&scores, &validation.targets, &validation.users);
        let epochs = chosen.plans.iter().map(Vec::len).max().unwrap_or_default();
        info!(model = name, auc = metrics.auc, logloss = metrics.logloss, epochs, "on the validation part");
        learned.validation.push((name.clone(), metrics));
        on_validation.push(scores);
        let again = fit(*model, settings, &all, None, &chosen.plans, task.seed, tag("b"), running)?;
        (member.encoding, member.scorer) = (again.encoding, again.scorer);
        learned.epochs.push(epochs);
        learned.rows_per_second.push(chosen.rows_per_second);
        learned.members.push(member);
    }
    weigh(&mut learned, &on_validation, &validation);
    Ok(learned)
}

/// Learns a model as far as the validation part says, and calibrates it there.
#[expect(clippy::too_many_arguments, reason = "each says another thing, and two callers give them")]
fn choose(
    name: &str,
    model: ClickModelName,
    settings: &ClickSettings,
    training: &ClickTable,
    validation: &ClickTable,
    seed: u64,
    resume: Option<String>,
    running: Running<'_>,
) -> Result<(ClickMember, Chosen), TrainError> {
    let fitted = fit(model, settings, training, Some(validation), &[], seed, resume, running)?;
    let (name, weight) = (name.to_owned(), 0.0);
    let (encoding, scorer) = (fitted.encoding, fitted.scorer);
    let mut member = ClickMember { name, encoding, scorer, slope: 1.0, intercept: 0.0, weight };
    let raw = member.raw(&validation.fields, &validation.numbers);
    (member.slope, member.intercept) = calibrate(&raw, &validation.targets);
    Ok((member, Chosen { plans: fitted.plans, rows_per_second: fitted.rows_per_second }))
}

/// Chooses the members' weights by forward selection with replacement (Caruana et al. 2004) for the least loss on the
/// validation part, and calibrates their sum.
fn weigh(learned: &mut LearnedClicks, scores: &[Vec<f32>], validation: &ClickTable) {
    /// Choices; each weighs as much as the others.
    const ROUNDS: usize = 20;
    let mut picks = vec![0usize; scores.len()];
    let mut sum = vec![0.0f32; validation.rows()];
    for round in 1..=ROUNDS {
        let loss = |member: usize| {
            let mean: Vec<f32> =
                sum.iter().zip(&scores[member]).map(|(sum, score)| (sum + score) / round as f32).collect();
            measure_clicks(&mean, &validation.targets, &[]).logloss
        };
        let losses: Vec<f64> = (0..scores.len()).map(loss).collect();
        let best = (0..scores.len()).min_by(|&left, &right| losses[left].total_cmp(&losses[right])).unwrap_or(0);
        picks[best] += 1;
        sum.iter_mut().zip(&scores[best]).for_each(|(sum, score)| *sum += score);
    }
    for (member, count) in learned.members.iter_mut().zip(picks) {
        member.weight = count as f32 / ROUNDS as f32;
    }
    sum.iter_mut().for_each(|sum| *sum /= ROUNDS as f32);
    learned.ensemble = calibrate(&sum, &validation.targets);
    let (slope, intercept) = learned.ensemble;
    let calibrated: Vec<f32> = sum.iter().map(|score| slope * score + intercept).collect();
    let metrics = measure_clicks(&calibrated, &validation.targets, &validation.users);
    learned.validation.push((ENSEMBLE.to_owned(), metrics));
}

impl LearnedClicks {
    /// Measures each member and the ensemble on rows of the table.
    pub fn measure(&self, rows: &ClickTable) -> Vec<(String, ClickMetrics)> {
        let measured = |scores: Vec<f32>| measure_clicks(&scores, &rows.targets, &rows.users);
        let members = self.members.iter().map(|member| {
            let scores = member.score(&rows.fields, &rows.numbers);
            (member.name.clone(), measured(scores))
        });
        let together = ensemble(&self.members, self.ensemble, &rows.fields, &rows.numbers);
        members.chain([(ENSEMBLE.to_owned(), measured(together))]).collect()
    }
}

/// Slope and intercept that make log-odds of scores (Platt 1999), by Newton's method with steps halved until the loss falls;
/// drawn a little to 1 and 0.
fn calibrate(scores: &[f32], targets: &[bool]) -> (f32, f32) {
    /// Weight of the prior that scores are right as they are.
    const PRIOR: (f64, f64) = (10.0, 1.0);
    let loss = |slope: f64, intercept: f64| {
        let of_rows = scores.iter().zip(targets).map(|(&score, &target)| {
            let odds = slope * f64::from(score) + intercept;
            let margin = if target { -odds } else { odds };
            margin.max(0.0) + (-margin.abs()).exp().ln_1p()
        });
        of_rows.sum::<f64>() + 0.5 * (PRIOR.0 * (slope - 1.0).powi(2) + PRIOR.1 * intercept.powi(2))
    };
    let (mut slope, mut intercept) = (1.0f64, 0.0f64);
    let mut current = loss(slope, intercept);
    for _ in 0..50 {
        let (mut by_slope, mut by_intercept) = (PRIOR.0 * (slope - 1.0), PRIOR.1 * intercept);
        let (mut second_slope, mut second_both, mut second_intercept) = (PRIOR.0, 0.0, PRIOR.1);
        for (&score, &target) in scores.iter().zip(targets) {
            let score = f64::from(score);
            let probability = 1.0 / (1.0 + (-(slope * score + intercept)).exp());
            let error = probability - f64::from(u8::from(target));
            let curvature = probability * (1.0 - probability);
            by_slope += error * score;
            by_intercept += error;
            second_slope += curvature * score * score;
            second_both += curvature * score;
            second_intercept += curvature;
        }
        let determinant = second_slope * second_intercept - second_both * second_both;
        let slope_step = (second_intercept * by_slope - second_both * by_intercept) / determinant;
        let intercept_step = (second_slope * by_intercept - second_both * by_slope) / determinant;
        let halved = (0..30).map(|halvings| 0.5f64.powi(halvings)).find_map(|share| {
            let next = (slope - share * slope_step, intercept - share * intercept_step);
            let found = loss(next.0, next.1);
            (found < current).then_some((next, found))
        });
        let Some((next, found)) = halved else { break };
        (slope, intercept) = next;
        let gained = current - found;
        current = found;
        if gained < 1e-9 * current.abs() {
            break;
        }
    }
    (slope as f32, intercept as f32)
}

/// Fields that networks embed.
fn fields(variant: Variant) -> Vec<Field> {
    let after = [Field::AfterScreen, Field::AfterType, Field::AfterLanguage];
    Field::ALL.into_iter().filter(|field| variant == Variant::Transductive || !after.contains(field)).collect()
}

fn subject_of_field(field: Field) -> Subject {
    match field {
        Field::User | Field::City | Field::Gender | Field::RegisteredVia => Subject::User,
        Field::Track | Field::Artist | Field::Language | Field::Country | Field::FirstGenre | Field::SecondGenre => {
            Subject::Track
        }
        _ => Subject::Context,
    }
}

fn subject_of_number(group: FeatureGroup, name: &str) -> Subject {
    match group {
        FeatureGroup::Member | FeatureGroup::Profile => Subject::User,
        FeatureGroup::Track => Subject::Track,
        FeatureGroup::Counts | FeatureGroup::Taste if name.starts_with("user") => Subject::User,
        FeatureGroup::Counts => Subject::Track,
        _ => Subject::Context,
    }
}

/// The shape of a network over an encoding.
pub fn shape(architecture: Architecture, encoding: &Encoding, settings: &ClickSettings) -> ClickShape {
    let names = number_names();
    let mut subjects: Vec<Subject> =
        encoding.numbers.iter().map(|&place| subject_of_number(names[place].0, &names[place].1)).collect();
    let of_missing: Vec<Subject> = encoding.missing.iter().map(|&place| subjects[place]).collect();
    subjects.extend(of_missing);
    let mut groups: Vec<FeatureGroup> = encoding.groups.clone();
    groups.sort_unstable();
    groups.dedup();
    let number_groups = encoding.groups.iter().map(|group| groups.binary_search(group).unwrap_or_default()).collect();
    ClickShape {
        architecture,
        rows: encoding.table_rows(),
        field_subjects: encoding.fields.iter().map(|&field| subject_of_field(field)).collect(),
        number_subjects: subjects,
        number_groups,
        dim: settings.dim as usize,
        hidden: settings.hidden.iter().map(|&units| units as usize).collect(),
        cross_layers: settings.cross_layers as usize,
        dropout: settings.dropout,
    }
}

/// Fits a model: with a validation part to stop by, or as `plans` say.
#[expect(clippy::too_many_arguments, reason = "each says another thing, and one caller gives them")]
fn fit(
    name: ClickModelName,
    settings: &ClickSettings,
    training: &ClickTable,
    validation: Option<&ClickTable>,
    plans: &[Vec<f64>],
    seed: u64,
    resume: Option<String>,
    running: Running<'_>,
) -> Result<Fitted, TrainError> {
    // Where nothing is asked of the time after, those fields would be one value.
    let has_after = number_names().iter().zip(0..).any(|((_, name), place)| {
        name == "after_gap" && training.numbers.iter().skip(place).step_by(names_len()).any(|value| !value.is_nan())
    });
    let variant = if has_after { Variant::Transductive } else { Variant::Causal };
    let encoding = Encoding::learn(training, &fields(variant), &settings.groups, settings.min_count);
    let Some(architecture) = name.architecture() else {
        return trees::fit(settings, encoding, training, validation, plans, seed, running);
    };
    /// In smaller batches the steps are too short for threads to share.
    const LARGE_BATCH: u32 = 2_048;
    tch::set_num_threads(if settings.batch < LARGE_BATCH { 1 } else { running.threads as i32 });
    let shape = shape(architecture, &encoding, settings);
    let inputs = encoding.encode(&training.fields, &training.numbers);
    let validation_inputs = validation.map(|rows| encoding.encode(&rows.fields, &rows.numbers));
    let (mut networks, mut chosen, mut rows_per_second) = (Vec::new(), Vec::new(), 0.0);
    for number in 0..settings.seeds.max(1) as usize {
        let task = NetworkTask {
            shape: shape.clone(),
            training: Examples { inputs: &inputs, targets: &training.targets },
            validation: validation
                .zip(validation_inputs.as_ref())
                .map(|(rows, inputs)| Examples { inputs, targets: &rows.targets }),
            rates: plans.get(number).cloned().unwrap_or_default(),
            seed: seed.wrapping_add(1_000 * number as u64),
        };
        let file = resume.as_ref().map(|prefix| PathBuf::from(format!("{prefix}-{number}.safetensors")));
        let trained = train_network(&task, settings, file.as_deref(), running.interrupt)?;
        info!(model = name.as_str(), network = number, auc = trained.auc, epochs = trained.rates.len(), "trained");
        networks.push(trained.network);
        chosen.push(trained.rates);
        rows_per_second += trained.rows_per_second / f64::from(settings.seeds.max(1));
    }
    Ok(Fitted { encoding, scorer: Scorer::Networks(networks), plans: chosen, rows_per_second })
}

fn names_len() -> usize {
    crate::dataset::listens::NUMBERS
}

/// Trains `models` on all listens of `listening` and publishes them in the folder `folder`.
///
/// # Errors
///
/// [`TrainError::Interrupted`] when the person asked to stop; the same call goes on from there.
pub fn train_clicks(
    listening: &Listening,
    models: &[(String, ClickModelName, ClickSettings)],
    validation: f64,
    seed: u64,
    folder: &Path,
    threads: usize,
    interrupt: &Interrupt,
) -> Result<Manifest, TrainError> {
    let mut writer = BundleWriter::begin(folder, Kind::Clicks)?;
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&(models, validation.to_bits(), seed)).unwrap_or_default());
    hash.update(&listening.fingerprint.sha256);
    let key = format!(".resume-{}", &hex::encode(hash.finalize())[..16]);
    let kind_folder = folder.join(Kind::Clicks.as_str());
    let resume = kind_folder.join(&key);
    let nothing = vec![false; listening.clicks.len()];
    let task = ClickTask {
        listening,
        variant: Variant::Causal,
        set_aside: &nothing,
        validation,
        split: SplitKind::Time,
        seed,
    };
    let learned = learn(&task, models, Running { threads, resume: Some(&resume), interrupt })?;
    let vocabulary = |ids: &[String]| Vocabulary::new(ids.iter().map(String::as_str)).map_err(TrainError::Settings);
    let bundle = ClickBundle {
        users: vocabulary(&listening.user_ids)?,
        user_fields: listening.users.clone(),
        tracks: vocabulary(&listening.track_ids)?,
        track_fields: listening.tracks.clone(),
        sources: listening.sources.clone(),
        state: learned.state,
        members: learned.members,
        ensemble: learned.ensemble,
    };
    bundle.write(&mut writer)?;
    let metrics: serde_json::Map<String, serde_json::Value> = learned
        .validation
        .iter()
        .map(|(name, metrics)| (name.clone(), serde_json::to_value(metrics).unwrap_or_default()))
        .collect();
    let weights: serde_json::Map<String, serde_json::Value> =
        bundle.members.iter().map(|member| (member.name.clone(), member.weight.into())).collect();
    let settings: Vec<serde_json::Value> = models
        .iter()
        .map(|(name, model, settings)| serde_json::json!({ "name": name, "model": model, "settings": settings }))
        .collect();
    let manifest = writer.publish(NewManifest {
        seed,
        parameters: serde_json::json!({ "models": settings, "validation": validation }),
        data: listening.fingerprint.clone(),
        metrics: serde_json::json!({
            "protocol": "the last part of the listens withheld, the models trained on the rest; then on all",
            "validation": metrics,
            "weights": weights,
            "epochs": learned.epochs,
            "rows_per_second": learned.rows_per_second,
        }),
    })?;
    for entry in fs::read_dir(&kind_folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&key) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(manifest)
}

/// Area under the curve of a member on rows.
pub fn member_auc(member: &ClickMember, rows: &ClickTable) -> f64 {
    auc(&member.score(&rows.fields, &rows.numbers), &rows.targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::listens::{Click, FIELDS, ListenSource, NUMBERS, SourceValues, TrackFields, UserFields};
    use crate::recommend::clicks::ENSEMBLE;

    /// Users who come back, each with a chance of its own, the more so from one of two sources.
    pub(crate) fn listening(clicks: usize) -> Listening {
        let (users, tracks) = (40usize, 60usize);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
        let faith: Vec<f64> = (0..users).map(|_| rng.random_range(-2.0..2.0)).collect();
        let clicks = (0..clicks).map(|_| {
            let (user, track, kind) =
                (rng.random_range(0..users), rng.random_range(0..tracks), rng.random_range(1..3u32));
            let odds: f64 = faith[user] + if kind == 1 { 1.0 } else { -1.0 };
            Click {
                user: user as u32,
                track: track as u32,
                source: ListenSource { tab: 1, screen: kind, kind },
                target: Some(rng.random::<f64>() < 1.0 / (1.0 + (-odds).exp())),
            }
        });
        Listening {
            clicks: clicks.collect(),
            user_ids: (0..users).map(|user| format!("u{user}")).collect(),
            users: vec![UserFields::UNKNOWN; users],
            track_ids: (0..tracks).map(|track| format!("t{track}")).collect(),
            tracks: vec![TrackFields::UNKNOWN; tracks],
            sources: SourceValues::default(),
            fingerprint: crate::dataset::DataFingerprint {
                playlists: users as u64,
                tracks: tracks as u64,
                placements: 0,
                newest_change: None,
                sha256: String::new(),
            },
        }
    }

    fn task<'a>(listening: &'a Listening, set_aside: &'a [bool]) -> ClickTask<'a> {
        let (variant, split) = (Variant::Causal, SplitKind::Time);
        ClickTask { listening, variant, set_aside, validation: 0.25, split, seed: 3 }
    }

    fn models(names: &[ClickModelName]) -> Vec<(String, ClickModelName, ClickSettings)> {
        let settings = |name| ClickSettings {
            epochs: 40,
            seeds: 1,
            batch: 128,
            learning_rate: if name == ClickModelName::Trees { 0.1 } else { 5e-3 },
            ..ClickSettings::preset(name, Preset::Small)
        };
        names.iter().map(|&name| (name.as_str().to_owned(), name, settings(name))).collect()
    }

    #[test]
    fn every_model_learns_who_comes_back() {
        let listening = listening(1_600);
        let set_aside = mark(1_600, &listening.labelled(), 0.25, SplitKind::Time, 1);
        let interrupt = Interrupt::default();
        let running = Running { threads: 1, resume: None, interrupt: &interrupt };
        let learned = learn(&task(&listening, &set_aside), &models(&ClickModelName::ALL), running).expect("learned");
        let rows: Vec<usize> = (1_200..1_600).collect();
        let measured = learned.measure(&learned.table.select(&rows));
        assert_eq!(measured.len(), ClickModelName::ALL.len() + 1);
        for (name, metrics) in &measured {
            // Who knew the chances behind it all would reach about .83.
            assert!(metrics.auc > 0.72 && metrics.logloss < 0.64, "{name}: {metrics:?}");
        }
        assert_eq!(measured.last().map(|(name, _)| name.as_str()), Some(ENSEMBLE));
        let weight: f32 = learned.members.iter().map(|member| member.weight).sum();
        assert!((weight - 1.0).abs() < 1e-6);
    }

    #[test]
    fn targets_that_are_set_aside_enter_nothing() {
        let first = listening(400);
        let mut second = first.clone();
        second.clicks[300..].iter_mut().for_each(|click| click.target = click.target.map(|target| !target));
        for variant in [Variant::Causal, Variant::Transductive] {
            let [one, two] =
                [&first, &second].map(|listening| replay(listening, variant, 300, 1, |place| place >= 300));
            let bits = |table: &ClickTable| table.numbers.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&one.0), bits(&two.0));
            assert_eq!((one.0.fields.len(), one.0.numbers.len()), (400 * FIELDS, 400 * NUMBERS));
            assert!(one.1 == two.1 && one.0.targets != two.0.targets);
        }
    }

    #[test]
    fn a_run_that_was_stopped_goes_on_as_if_it_had_not_been() {
        let listening = listening(400);
        let nothing = vec![false; 400];
        let task = task(&listening, &nothing);
        // LibTorch's dropout draws from a generator that tests beside this one draw from too.
        let models: Vec<_> = models(&[ClickModelName::Deepfm])
            .into_iter()
            .map(|(name, model, settings)| (name, model, ClickSettings { dropout: 0.0, ..settings }))
            .collect();
        let folder = tempfile::tempdir().expect("a folder");
        let interrupt = Interrupt::default();
        let running = Running { threads: 1, resume: None, interrupt: &interrupt };
        let whole = learn(&task, &models, running).expect("learned");

        let prefix = folder.path().join(".resume-test");
        let brief = models
            .iter()
            .map(|(name, model, settings)| (name.clone(), *model, ClickSettings { epochs: 3, ..settings.clone() }));
        let running = Running { resume: Some(&prefix), ..running };
        learn(&task, &brief.collect::<Vec<_>>(), running).expect("three epochs");
        // Left of it are the files of the first stage alone, as if it had been stopped there.
        for entry in fs::read_dir(folder.path()).expect("a folder").flatten() {
            if entry.file_name().to_string_lossy().contains("-b-") {
                fs::remove_file(entry.path()).expect("removed");
            }
        }
        let resumed = learn(&task, &models, running).expect("learned");
        assert_eq!(resumed.members, whole.members);
        assert_eq!(resumed.epochs, whole.epochs);

        interrupt.raise();
        let running = Running { threads: 1, resume: None, interrupt: &interrupt };
        assert!(matches!(learn(&task, &models, running), Err(TrainError::Interrupted { epoch: 1, .. })));
    }

    #[test]
    fn calibration_finds_the_odds_behind_scores() {
        // Scores twice too large, by one too high; 800 listens at each of two odds.
        let (mut scores, mut targets) = (Vec::new(), Vec::new());
        for (odds, positive) in [(3f32.ln(), 600), (-(3f32.ln()), 200)] {
            for listen in 0..800 {
                scores.push(2.0 * odds + 1.0);
                targets.push(listen < positive);
            }
        }
        let (slope, intercept) = calibrate(&scores, &targets);
        assert!((slope - 0.5).abs() < 0.02 && (intercept + 0.5).abs() < 0.03, "{slope} {intercept}");
    }
}
