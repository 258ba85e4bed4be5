//! Options that all commands take.

use std::path::PathBuf;

use crate::catalog::{Catalog, CatalogError};
use crate::telemetry::LogFormat;

/// Exit code after Ctrl-C, as shells have it.
pub(super) const INTERRUPTED: u8 = 130;

/// What all subcommands take.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Folder of all state: bundles in models/, the private PostgreSQL in data/
    #[arg(long, env = "SEGUE_HOME", default_value = ".", global = true, value_name = "FOLDER")]
    pub home: PathBuf,
    /// PostgreSQL 15 or newer that holds the catalog; without it Segue runs a private one
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        hide_default_value = true,
        global = true,
        value_name = "URL"
    )]
    pub database_url: Option<String>,
    /// File of settings [default: segue.toml, if it is there]
    #[arg(long, env = "SEGUE_CONFIG", global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How logs are written to standard error
    #[arg(long, env = "SEGUE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
}

impl Global {
    pub(super) fn models(&self) -> PathBuf {
        self.home.join("models")
    }

    pub(super) async fn catalog(&self) -> Result<Catalog, CatalogError> {
        Catalog::open(self.database_url(), &self.home).await
    }

    /// An empty variable, as compose files leave behind, is one that is not set.
    pub(super) fn database_url(&self) -> Option<&str> {
        self.database_url.as_deref().filter(|url| !url.is_empty())
    }
}
