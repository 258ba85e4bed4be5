//! `segue keys`

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde::Serialize;
use time::OffsetDateTime;

use super::global::Global;
use super::output::{Output, Report, Table, or_dash, print, warn};
use crate::catalog::{ApiKey, Scope};
use crate::serve::access::keys::NewKey;

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Create a key and print it once
    #[command(
        after_help = "Example:\n  segue keys create --scope write --name backend\n\nSend the key in the header `Authorization: Bearer …`. Segue stores only its hash: if a key is lost, revoke it and create\nanother."
    )]
    Create {
        /// What the key permits; write includes read, admin both
        #[arg(long, value_enum)]
        scope: Scope,
        /// The key's name
        #[arg(long)]
        name: String,
    },
    /// List keys
    #[command(after_help = "Example:\n  segue keys list")]
    List {
        /// how to report
        #[command(flatten)]
        output: Output,
    },
    /// Revoke a key at once and for good
    #[command(after_help = "Example:\n  segue keys revoke backend")]
    Revoke {
        /// Name or id of the key
        name: String,
    },
}

pub(super) async fn run(global: &Global, command: KeysCommand) -> anyhow::Result<ExitCode> {
    let catalog = global.catalog().await?;
    match command {
        KeysCommand::Create { scope, name } => {
            if name.trim().is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
                bail!("--name must have 1 to 200 characters, none of them control characters");
            }
            let new = NewKey::generate().context("no random bytes are available")?;
            if !catalog.add_api_key(&new.id, &name, scope, &new.hash).await? {
                bail!("a key named {name:?} exists already: `segue keys list` shows it");
            }
            warn(&format!("a key of scope {scope}, named {name:?}; it is not shown again:"));
            print(&new.key)?;
        }
        KeysCommand::List { output } => output.print(&Keys(catalog.api_keys().await?))?,
        KeysCommand::Revoke { name } => {
            if !catalog.revoke_api_key(&name).await? {
                bail!("no active key is named {name:?}: `segue keys list` lists the keys");
            }
            warn(&format!("revoked the key {name:?}"));
        }
    }
    catalog.close().await;
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Serialize)]
struct Keys(Vec<ApiKey>);

impl Report for Keys {
    fn text(&self) -> String {
        let minute = |at: OffsetDateTime| format!("{} {:02}:{:02}", at.date(), at.hour(), at.minute());
        let mut table = Table::new(["id", "scope", "created", "revoked", "name"]);
        for key in &self.0 {
            let revoked = or_dash(key.revoked_at.map(|at| minute(at).into()));
            let (id, created) = (key.id.as_str().into(), minute(key.created_at).into());
            table.row([id, key.scope.to_string().into(), created, revoked, key.name.as_str().into()]);
        }
        table.to_string()
    }
}
