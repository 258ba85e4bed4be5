//! `segue tune clicks`

use std::process::ExitCode;

use crate::cli::arguments::{Threads, check_share};
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::output::{Output, Report, Table, figure};
use crate::cli::train::clicks::Overrides;
use crate::dataset::listens::Variant;
use crate::progress::Interrupt;
use crate::train::RunContext;
use crate::train::clicks::tuning::{Trial, TuneTask, Tuned, tune as search};
use crate::train::clicks::{ClickModelName, ClickTask, SplitKind, mark};

/// Where to look for settings.
#[derive(Debug, clap::Args)]
pub struct TuneClicks {
    /// Model to tune
    #[arg(long, value_enum, default_value_t = ClickModelName::FieldNetwork)]
    pub model: ClickModelName,
    /// Number of settings to try
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub trials: u32,
    /// Number of best trials in the ensemble
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub best: u32,
    /// Share of listens to set aside
    ///
    /// The last ones; the search does not see them.
    #[arg(long, default_value_t = 0.0)]
    pub without: f64,
    /// Share of the other listens to compare on
    ///
    /// The last ones of them.
    #[arg(long, default_value_t = 0.2)]
    pub validation: f64,
    /// Random seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// how to report
    #[command(flatten)]
    pub output: Output,
    /// what is not searched for
    #[command(flatten)]
    pub overrides: Overrides,
}

pub(super) async fn tune(global: &Global, arguments: TuneClicks, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    anyhow::ensure!((0.0..=0.9).contains(&arguments.without), "--without must be from 0 to 0.9");
    check_share("validation", arguments.validation)?;
    let listening = data::read(global, data::listening).await?;
    let (output, interrupt) = (arguments.output, interrupt.clone());
    let searching = move || {
        let labelled = listening.labelled();
        let set_aside = mark(listening.clicks.len(), &labelled, arguments.without, SplitKind::Time, arguments.seed);
        let task = TuneTask {
            task: ClickTask {
                listening: &listening,
                variant: Variant::Causal,
                set_aside: &set_aside,
                validation: arguments.validation,
                split: SplitKind::Time,
                seed: arguments.seed,
            },
            model: arguments.model,
            start: arguments.overrides.settings(arguments.model),
            trials: arguments.trials as usize,
            best: arguments.best as usize,
        };
        let context = RunContext::new(arguments.threads.get(), &interrupt);
        let tell = |trial: &Trial| {
            let Trial { auc, logloss, flags, .. } = trial;
            output.print_line(|| format!("AUC {auc:.4}  logloss {logloss:.4}  {flags}"));
        };
        search(&task, context, tell)
    };
    let tuned = tokio::task::spawn_blocking(searching).await??;
    output.print(&tuned)?;
    Ok(ExitCode::SUCCESS)
}

impl Report for Tuned {
    fn text(&self) -> String {
        let mut table = Table::new(["held out", "AUC", "logloss"]);
        let validation = std::iter::once(("ensemble (validation)", &self.ensemble));
        let set_aside = self.set_aside.iter().map(|(name, metrics)| (name.as_str(), metrics));
        for (name, metrics) in validation.chain(set_aside) {
            table.row([name.into(), figure(metrics.auc, 4), figure(metrics.logloss, 4)]);
        }
        let flags = self.trials.first().map_or("", |best| best.flags.as_str());
        format!("\n{table}\nsegue train clicks --model {} {flags}", self.model.as_str())
    }
}
