//! `segue submit`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::global::Global;
use super::loaded_model::LoadedModel;
use super::output::{Output, Report, count};
use crate::evaluate::{Challenge, Team, submit};
use crate::progress::Interrupt;
use crate::recommend::dispatch::CompletionMethod;

/// What to complete, and where to write it.
#[derive(Debug, clap::Args)]
pub struct SubmitArguments {
    /// challenge_set.json of the RecSys Challenge 2018
    ///
    /// Plain or gzip.
    #[arg(long, value_name = "FILE")]
    pub challenge: PathBuf,
    /// Submission to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Name of the team
    #[arg(long, default_value = "segue")]
    pub team: String,
    /// Email address of the team
    #[arg(long, default_value = "segue@example.org", value_name = "ADDRESS")]
    pub email: String,
    /// Model that completes the playlists
    #[arg(long, value_enum, default_value_t = CompletionMethod::Ranking)]
    pub model: CompletionMethod,
    /// how to report
    #[command(flatten)]
    pub output: Output,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Submitted<'a> {
    playlists: usize,
    model: &'a str,
    model_version: &'a str,
    file: &'a Path,
}

impl Report for Submitted<'_> {
    fn text(&self) -> String {
        let Self { model, model_version, file, .. } = self;
        format!("{} playlists completed by {model} {model_version} in {}", count(self.playlists), file.display())
    }
}

pub(super) async fn run(
    global: &Global,
    arguments: SubmitArguments,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    let (models, interrupt) = (global.models(), interrupt.clone());
    let submission = tokio::task::spawn_blocking(move || -> anyhow::Result<ExitCode> {
        let challenge = Challenge::read(&arguments.challenge)?;
        let (manifest, answering) = LoadedModel::load(&models, arguments.model)?;
        answering.check(&[arguments.model])?;
        let recommender = answering.recommender(arguments.model);
        let team = Team { name: arguments.team, email: arguments.email };
        submit(&challenge, answering.completer().vocabulary(), &recommender, &team, &arguments.out, &interrupt)?;
        arguments.output.print(&Submitted {
            playlists: challenge.playlists.len(),
            model: &recommender.name,
            model_version: &manifest.version,
            file: &arguments.out,
        })?;
        Ok(ExitCode::SUCCESS)
    });
    submission.await?
}
