//! Options that all commands take.

use std::path::PathBuf;

use clap::ArgAction;

use crate::catalog::{Catalog, CatalogError};
use crate::telemetry::LogFormat;

/// Exit code after Ctrl-C, as in shells.
pub(super) const INTERRUPTED: u8 = 130;

/// Options that all commands take.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Folder of bundles and private PostgreSQL
    ///
    /// Folder with bundles (models/) and the private PostgreSQL (data/).
    #[arg(long, env = "SEGUE_HOME", default_value = ".", global = true, value_name = "FOLDER")]
    pub home: PathBuf,
    /// PostgreSQL with the catalog [default: a private one]
    ///
    /// PostgreSQL 15 or newer that holds the catalog. If not set, Segue runs a private one below the home folder.
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        hide_default_value = true,
        global = true,
        value_name = "URL"
    )]
    pub database_url: Option<String>,
    /// Schema with the catalog's tables [default: segue]
    ///
    /// Schema of the database that holds the catalog's tables, so that they don't clash with an app's own. Created if it is
    /// missing. If not set, a catalog that version 0.1 left in `public` is used there.
    #[arg(long, env = "SEGUE_DATABASE_SCHEMA", hide_default_value = true, global = true, value_name = "NAME", value_parser = schema)]
    pub database_schema: Option<String>,
    /// Settings file [default: segue.toml, if it exists]
    #[arg(long, env = "SEGUE_CONFIG", global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log format
    #[arg(
        long,
        env = "SEGUE_LOG_FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        global = true,
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
    /// Print help; -h prints a summary
    #[arg(short, long, action = ArgAction::Help, global = true)]
    pub help: Option<bool>,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, global = true)]
    pub version: Option<bool>,
}

impl Global {
    pub(super) fn models(&self) -> PathBuf {
        self.home.join("models")
    }

    pub(super) async fn catalog(&self) -> Result<Catalog, CatalogError> {
        Catalog::open(self.database_url(), self.database_schema(), &self.home).await
    }

    pub(super) fn database_schema(&self) -> Option<&str> {
        self.database_schema.as_deref().filter(|schema| !schema.is_empty())
    }

    /// An empty variable, as compose files leave behind, counts as not set.
    pub(super) fn database_url(&self) -> Option<&str> {
        self.database_url.as_deref().filter(|url| !url.is_empty())
    }
}

/// The name of a schema, or nothing.
fn schema(text: &str) -> Result<String, String> {
    match text {
        text if text.len() > 63 => Err("must not be longer than 63 bytes".to_owned()),
        text if text.starts_with("pg_") => Err("must not begin with pg_, as PostgreSQL's own schemas do".to_owned()),
        text if text.chars().any(char::is_control) => Err("must not contain control characters".to_owned()),
        text => Ok(text.to_owned()),
    }
}
