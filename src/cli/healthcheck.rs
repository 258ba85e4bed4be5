//! `segue healthcheck`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::output::{Output, Report};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whom to ask.
#[derive(Debug, clap::Args)]
pub struct HealthcheckArguments {
    /// URL to request, plain HTTP
    #[arg(long, env = "SEGUE_HEALTHCHECK_URL", default_value = "http://127.0.0.1:8080/health/live")]
    pub url: String,
    /// how to report
    #[command(flatten)]
    pub output: Output,
}

/// What the server responded.
#[derive(Debug, Serialize)]
struct Health<'a> {
    url: &'a str,
    /// code and reason
    status: String,
    #[serde(rename = "healthy")]
    is_healthy: bool,
}

impl Report for Health<'_> {
    fn text(&self) -> String {
        self.status.clone()
    }
}

pub(super) async fn run(arguments: &HealthcheckArguments) -> anyhow::Result<ExitCode> {
    let status = tokio::time::timeout(PATIENCE, ask(&arguments.url))
        .await
        .with_context(|| format!("{} did not answer within {PATIENCE:?}", arguments.url))??;
    let is_healthy = status.starts_with("200");
    arguments.output.print(&Health { url: &arguments.url, status, is_healthy })?;
    Ok(if is_healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One request, one status line: not worth an HTTP client in the binary.
async fn ask(url: &str) -> anyhow::Result<String> {
    let rest = url.strip_prefix("http://").context("the URL must begin with http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(&address).await.with_context(|| format!("no server at {address}"))?;
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.lines().next().and_then(|line| line.strip_prefix("HTTP/1.1 ")) {
        Some(status) => Ok(status.to_owned()),
        None => bail!("{address} does not speak HTTP"),
    }
}
