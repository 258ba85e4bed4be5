//! `segue tune ratings`

use std::process::ExitCode;

use crate::cli::arguments::Threads;
use crate::cli::data;
use crate::cli::global::Global;
use crate::cli::output::{Output, Report};
use crate::cli::train::ratings::threads;
use crate::dataset::split;
use crate::progress::Interrupt;
use crate::train::RunContext;
use crate::train::ratings::RatingsModelName;
use crate::train::ratings::gaussian::GaussianSettings;
use crate::train::ratings::tuning::{Trial, Tuned, tune as search};

/// How to tune, and how to report.
#[derive(Debug, clap::Args)]
pub struct TuneRatings {
    /// Times that each setting is tried
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Share of ratings to set aside
    ///
    /// The search does not see them.
    #[arg(long, default_value_t = 0.0)]
    pub without: f64,
    /// Share of the other ratings to compare on
    #[arg(long, default_value_t = 0.2)]
    pub withheld: f64,
    /// Random seed of what is set aside and held out
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// how to compute
    #[command(flatten)]
    pub threads: Threads,
    /// how to report
    #[command(flatten)]
    pub output: Output,
    /// where to begin
    #[command(flatten)]
    pub gaussian: GaussianSettings,
}

pub(super) async fn tune(global: &Global, arguments: TuneRatings, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    anyhow::ensure!((0.0..=0.9).contains(&arguments.without), "--without must be from 0 to 0.9");
    let feedback = data::read(global, data::feedback).await?;
    let (output, interrupt) = (arguments.output, interrupt.clone());
    let tuning = move || {
        let events = feedback.split(arguments.without, arguments.seed).training;
        let parts = split(&events, arguments.withheld, arguments.seed.wrapping_add(1));
        let threads = threads(&arguments.threads, RatingsModelName::Gp);
        let tell = |trial: &Trial| {
            let Trial { setting, value, mse, ndcg_at_10 } = trial;
            output.print_line(|| format!("{setting:<24} {value:>10.4}  MSE {mse:.4}  NDCG@10 {ndcg_at_10:.4}"));
        };
        let context = RunContext::new(threads, &interrupt);
        search(&feedback, &parts, &arguments.gaussian, arguments.rounds as usize, arguments.seed, context, tell)
    };
    let tuned = tokio::task::spawn_blocking(tuning).await??;
    output.print(&tuned)?;
    Ok(ExitCode::SUCCESS)
}

impl Report for Tuned {
    fn text(&self) -> String {
        let Self { mse, ndcg_at_10, flags, .. } = self;
        format!("\nbest: MSE {mse:.4}, NDCG@10 {ndcg_at_10:.4}\n\nsegue train ratings {flags}")
    }
}
