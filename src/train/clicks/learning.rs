//! Learning click probability from listens.
//!
//! Each model is trained twice: on all but a validation part, which says when to stop, how to calibrate, and how much the
//! model counts in the ensemble; then, for as many epochs at the same learning rates, on that part too.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::ensemble::{calibrate, weigh};
use super::network::{Examples, NetworkTask, train_network};
use super::settings::{ClickModelName, ClickSettings};
use super::shape::{fields, shape};
use super::trees::fit_trees;
use crate::bundle::{ClickMember, Scorer};
use crate::dataset::listens::Listening;
use crate::dataset::listens::{ClickState, NUMBERS, number_names};
use crate::dataset::listens::{ClickTable, Encoding, Variant, replay};
use crate::evaluate::{ClickMetrics, measure_clicks};
use crate::recommend::clicks::{ENSEMBLE, ensemble};
use crate::train::checkpoint::RunContext;
use crate::train::error::TrainError;

/// Fewer listens with a target are too few to learn from.
const FEWEST_LISTENS: usize = 100;

/// How rows are dealt to learning and measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SplitKind {
    /// hold out the last listens
    Time,
    /// hold out listens drawn at random
    Random,
}

/// What is learned from, and by what a model is chosen.
#[derive(Debug, Clone, Copy)]
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

/// The rows to learn from at first, and those to choose by.
pub(super) fn parts(task: &ClickTask<'_>, threads: usize) -> Result<(ClickTable, ClickTable), TrainError> {
    let listening = task.listening;
    let rows: Vec<usize> = listening.labelled().into_iter().filter(|&row| !task.set_aside[row]).collect();
    if rows.len() < FEWEST_LISTENS {
        return Err(TrainError::TooLittleData(format!(
            "{} listens have a target (whether the user came back), at least {FEWEST_LISTENS} are needed: add some with \
             `segue import kkbox` or POST /listens",
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

/// Learns each of `models` as `task` says. See the module's documentation.
pub fn learn(
    task: &ClickTask<'_>,
    models: &[(String, ClickModelName, ClickSettings)],
    context: RunContext<'_>,
) -> Result<LearnedClicks, TrainError> {
    models.iter().try_for_each(|(_, _, settings)| settings.check())?;
    let (training, validation) = parts(task, context.threads)?;
    let listening = task.listening;
    let taught = taught(task, &[task.set_aside]);
    let (table, state) = replay(listening, task.variant, taught, context.threads, |place| task.set_aside[place]);
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
        let (mut member, chosen) = choose(name, *model, settings, &training, &validation, task.seed, context)?;
        let scores = member.score(&validation.fields, &validation.numbers);
        let metrics = measure_clicks(&scores, &validation.targets, &validation.users);
        let epochs = chosen.epochs();
        info!(model = name, auc = metrics.auc, logloss = metrics.logloss, epochs, "on the validation part");
        learned.validation.push((name.clone(), metrics));
        on_validation.push(scores);
        let again = fit(*model, settings, &all, Goal::Plans(&chosen.plans), task.seed, &format!("{name}-b"), context)?;
        (member.encoding, member.scorer, _) = again;
        learned.epochs.push(epochs);
        learned.rows_per_second.push(chosen.rows_per_second);
        learned.members.push(member);
    }
    let (ensemble, metrics) = weigh(&mut learned.members, &on_validation, &validation);
    learned.ensemble = ensemble;
    learned.validation.push((ENSEMBLE.to_owned(), metrics));
    Ok(learned)
}

/// How to learn a model again.
pub(super) struct Chosen {
    /// for each network the learning rate of each epoch
    pub plans: Vec<Vec<f64>>,
    rows_per_second: f64,
}

impl Chosen {
    /// Epochs, or trees, at most.
    pub fn epochs(&self) -> usize {
        self.plans.iter().map(Vec::len).max().unwrap_or_default()
    }
}

/// Learns a model until the validation part is predicted best, and calibrates it there.
pub(super) fn choose(
    name: &str,
    model: ClickModelName,
    settings: &ClickSettings,
    training: &ClickTable,
    validation: &ClickTable,
    seed: u64,
    context: RunContext<'_>,
) -> Result<(ClickMember, Chosen), TrainError> {
    let (encoding, scorer, chosen) =
        fit(model, settings, training, Goal::Best(validation), seed, &format!("{name}-a"), context)?;
    let (name, weight) = (name.to_owned(), 0.0);
    let mut member = ClickMember { name, encoding, scorer, slope: 1.0, intercept: 0.0, weight };
    let raw = member.raw(&validation.fields, &validation.numbers);
    (member.slope, member.intercept) = calibrate(&raw, &validation.targets);
    Ok((member, chosen))
}

/// When a model has learned enough.
#[derive(Clone, Copy)]
enum Goal<'a> {
    /// when these rows are predicted best
    Best(&'a ClickTable),
    /// after the epochs at these learning rates, for each network
    Plans(&'a [Vec<f64>]),
}

/// Fits a model, which is not calibrated yet.
fn fit(
    name: ClickModelName,
    settings: &ClickSettings,
    training: &ClickTable,
    goal: Goal<'_>,
    seed: u64,
    stage: &str,
    context: RunContext<'_>,
) -> Result<(Encoding, Scorer, Chosen), TrainError> {
    // Without any time after a listen, those fields would have a single value.
    let has_after = number_names().iter().zip(0..).any(|((_, name), place)| {
        name == "after_gap" && training.numbers.iter().skip(place).step_by(NUMBERS).any(|value| !value.is_nan())
    });
    let variant = if has_after { Variant::Transductive } else { Variant::Causal };
    let encoding = Encoding::learn(training, &fields(variant), &settings.groups, settings.min_count);
    let (validation, plans) = match goal {
        Goal::Best(rows) => (Some(rows), &[][..]),
        Goal::Plans(plans) => (None, plans),
    };
    let Some(architecture) = name.architecture() else {
        let count = plans.first().map_or(settings.epochs as usize, Vec::len);
        let trees = fit_trees(settings, &encoding, training, validation, count, seed, context)?;
        let plans = vec![vec![settings.learning_rate; trees.trees()]];
        return Ok((encoding, Scorer::Trees(trees), Chosen { plans, rows_per_second: 0.0 }));
    };
    /// In smaller batches the steps are too short for threads to share.
    const LARGE_BATCH: u32 = 2_048;
    tch::set_num_threads(if settings.batch < LARGE_BATCH { 1 } else { context.threads as i32 });
    let shape = shape(architecture, &encoding, settings);
    let inputs = encoding.encode(&training.fields, &training.numbers);
    let validation_inputs = validation.map(|rows| encoding.encode(&rows.fields, &rows.numbers));
    let (mut networks, mut chosen) = (Vec::new(), Chosen { plans: Vec::new(), rows_per_second: 0.0 });
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
        let trained = train_network(&task, settings, &format!("{stage}-{number}"), context)?;
        info!(model = name.as_str(), network = number, auc = trained.auc, epochs = trained.rates.len(), "trained");
        networks.push(trained.network);
        chosen.plans.push(trained.rates);
        chosen.rows_per_second += trained.rows_per_second / f64::from(settings.seeds.max(1));
    }
    Ok((encoding, Scorer::Networks(networks), chosen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::listens::FIELDS;
    use crate::dataset::listens::{Click, ListenSource, SourceValues, TrackFields, UserFields};
    use crate::progress::Interrupt;
    use crate::train::checkpoint::Checkpoint;
    use crate::train::clicks::settings::Preset;

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
        let context = RunContext::new(1, &interrupt);
        let learned = learn(&task(&listening, &set_aside), &models(&ClickModelName::ALL), context).expect("learned");
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
    fn a_stopped_run_continues_as_if_it_had_not_been_stopped() {
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
        let context = RunContext::new(1, &interrupt);
        let whole = learn(&task, &models, context).expect("learned");

        let checkpoint = Checkpoint::in_folder(folder.path().to_owned()).expect("a folder");
        let brief = models
            .iter()
            .map(|(name, model, settings)| (name.clone(), *model, ClickSettings { epochs: 3, ..settings.clone() }));
        let context = context.kept_in(&checkpoint);
        learn(&task, &brief.collect::<Vec<_>>(), context).expect("three epochs");
        // Left of it are the files of the first stage alone, as if it had been stopped there.
        for entry in std::fs::read_dir(folder.path()).expect("a folder").flatten() {
            if entry.file_name().to_string_lossy().contains("-b-") {
                std::fs::remove_file(entry.path()).expect("removed");
            }
        }
        let resumed = learn(&task, &models, context).expect("learned");
        assert_eq!(resumed.members, whole.members);
        assert_eq!(resumed.epochs, whole.epochs);

        interrupt.raise();
        let context = RunContext::new(1, &interrupt);
        assert!(matches!(learn(&task, &models, context), Err(TrainError::Interrupted { epoch: 1, .. })));
    }
}
