//! `segue train clicks`

use crate::bundle::Manifest;
use crate::catalog::Catalog;
use crate::cli::arguments::{Threads, check_share};
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::output::Output;
use crate::dataset::listens::FeatureGroup;
use crate::progress::{Interrupt, Stage, in_stages};
use crate::train::clicks::{ClickModelName, ClickSettings, Preset, train_clicks};
use crate::train::optimizer::Optimizer;

/// How to train models of click probability.
#[derive(Debug, clap::Args)]
pub struct TrainClicks {
    /// Models to train and publish together
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["ffm", "deepfm", "dcn-v2", "field-network", "trees"])]
    pub model: Vec<ClickModelName>,
    /// Share of listens for validation
    ///
    /// The last listens decide when models stop, how they are calibrated, and their weights in the ensemble.
    #[arg(long, default_value_t = 0.2)]
    pub validation: f64,
    /// Random seed
    ///
    /// The same data, settings and seed give the same model on the same machine.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// how to report
    #[command(flatten)]
    pub output: Output,
    /// hyper-parameters
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Settings that override those of a preset.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Hyper-parameters of all named models [default: from the preset]")]
pub struct Overrides {
    /// Where hyper-parameters start from
    #[arg(long, value_enum, default_value_t = Preset::Small)]
    pub preset: Preset,
    /// Length of an embedding
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub dim: Option<u32>,
    /// Units of each hidden layer, such as 64,32
    ///
    /// For the field network: its width K.
    #[arg(long, value_delimiter = ',')]
    pub hidden: Option<Vec<u32>>,
    /// Cross layers (dcn-v2)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub cross_layers: Option<u32>,
    /// Dropout on hidden units
    #[arg(long)]
    pub dropout: Option<f64>,
    /// L2 penalty on embeddings, or on leaves (trees)
    ///
    /// On the embeddings that a batch looks up; for trees on their leaves.
    #[arg(long)]
    pub l2: Option<f64>,
    /// L2 penalty on dense weights
    #[arg(long)]
    pub dense_l2: Option<f64>,
    /// Learning rate
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Factor of the learning rate after each epoch
    #[arg(long)]
    pub decay: Option<f64>,
    /// Listens in a mini-batch
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: Option<u32>,
    /// Maximum number of epochs, or trees
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub epochs: Option<u32>,
    /// Epochs without improvement; 0: train all
    ///
    /// After so many epochs without a better AUC on the validation part, the learning rate falls to a tenth; the second time
    /// training stops. 0 trains all epochs.
    #[arg(long)]
    pub patience: Option<u32>,
    /// Optimizer
    #[arg(long, value_enum)]
    pub optimizer: Option<Optimizer>,
    /// Minimum count of a value with an embedding
    ///
    /// Rarer values share one embedding.
    #[arg(long)]
    pub min_count: Option<u32>,
    /// Networks with different seeds, averaged
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub seeds: Option<u32>,
    /// Groups of numeric features to use
    #[arg(long, value_enum, value_delimiter = ',')]
    pub groups: Option<Vec<FeatureGroup>>,
    /// Depth of a tree
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub depth: Option<u32>,
}

impl Overrides {
    /// Hyper-parameters of a model.
    pub(in crate::cli) fn settings(&self, name: ClickModelName) -> ClickSettings {
        fn set<T: Clone>(value: &mut T, other: Option<&T>) {
            if let Some(other) = other {
                value.clone_from(other);
            }
        }
        let mut settings = ClickSettings::preset(name, self.preset);
        set(&mut settings.dim, self.dim.as_ref());
        set(&mut settings.hidden, self.hidden.as_ref());
        set(&mut settings.cross_layers, self.cross_layers.as_ref());
        set(&mut settings.dropout, self.dropout.as_ref());
        set(&mut settings.l2, self.l2.as_ref());
        set(&mut settings.dense_l2, self.dense_l2.as_ref());
        set(&mut settings.learning_rate, self.learning_rate.as_ref());
        set(&mut settings.decay, self.decay.as_ref());
        set(&mut settings.batch, self.batch.as_ref());
        set(&mut settings.epochs, self.epochs.as_ref());
        set(&mut settings.patience, self.patience.as_ref());
        set(&mut settings.optimizer, self.optimizer.as_ref());
        set(&mut settings.min_count, self.min_count.as_ref());
        set(&mut settings.seeds, self.seeds.as_ref());
        set(&mut settings.groups, self.groups.as_ref());
        set(&mut settings.depth, self.depth.as_ref());
        settings
    }

    pub(in crate::cli) fn models(&self, names: &[ClickModelName]) -> Vec<(String, ClickModelName, ClickSettings)> {
        names.iter().map(|&name| (name.as_str().to_owned(), name, self.settings(name))).collect()
    }
}

/// Reads the catalog and trains on a thread of its own.
pub(in crate::cli) async fn train(
    global: &Global,
    catalog: &Catalog,
    arguments: TrainClicks,
    interrupt: &Interrupt,
) -> anyhow::Result<Manifest> {
    check_share("validation", arguments.validation)?;
    let listening = data::listening(catalog).await?;
    let (folder, interrupt) = (global.models(), interrupt.clone());
    let models = arguments.overrides.models(&arguments.model);
    let training = tokio::task::spawn_blocking(move || {
        let threads = arguments.threads.get();
        in_stages(stages(&models), || {
            train_clicks(&listening, &models, arguments.validation, arguments.seed, &folder, threads, &interrupt)
        })
    });
    Ok(training.await??)
}

/// Each model is trained twice, once for each seed: until the validation part says stop, and on all listens.
fn stages(models: &[(String, ClickModelName, ClickSettings)]) -> Vec<Stage> {
    let networks = models.iter().filter(|(_, model, _)| *model != ClickModelName::Trees);
    let stage = |(_, model, settings): &(String, ClickModelName, ClickSettings)| {
        let networks = 2 * settings.seeds.max(1) as usize;
        Stage::new(model.as_str(), &["training"]).repeated(networks).weighing(networks as f64)
    };
    networks.map(stage).collect()
}
