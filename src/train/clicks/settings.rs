//! Models of click probability, and their hyper-parameters.

use serde::{Deserialize, Serialize};

use crate::dataset::listens::FeatureGroup;
use crate::scoring::clicks::shape::Architecture;
use crate::train::error::TrainError;
use crate::train::optimizer::Optimizer;
use crate::train::settings::{above_0, below_1, check, from_0};

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

    pub(super) fn architecture(self) -> Option<Architecture> {
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
    /// splits of a tree
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

    pub(super) fn check(&self) -> Result<(), TrainError> {
        below_1(&[("--dropout", self.dropout)])?;
        above_0(&[("--learning-rate", self.learning_rate)])?;
        from_0(&[("--l2", self.l2), ("--dense-l2", self.dense_l2)])?;
        check(&[("--decay", self.decay)], |decay| decay > 0.0 && decay <= 1.0, "above 0 and at most 1")?;
        let units: Vec<(&str, f64)> = self.hidden.iter().map(|&units| ("--hidden", units.into())).collect();
        check(&units, |units| (1.0..=4096.0).contains(&units), "numbers from 1 to 4096")?;
        match self.groups.is_empty() {
            true => Err(TrainError::Settings("--groups must name a group of features".to_owned())),
            false => Ok(()),
        }
    }
}
