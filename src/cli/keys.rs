//! `segue keys`

use std::process::ExitCode;

use anyhow::{Context, bail};

use super::global::Global;
use super::output::{ReportFormat, print_text};
use crate::catalog::Scope;
use crate::serve::access::keys::NewKey;

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, this one time
    #[command(
        after_help = "Example:\n  segue keys create --scope write --name backend\n\nThe key goes into the header `Authorization: Bearer …`. Only its hash is stored: a lost key is revoked, and another one made."
    )]
    Create {
        /// What it is good for; write includes read, and admin both
        #[arg(long, value_enum)]
        scope: Scope,
        /// What it is called
        #[arg(long)]
        name: String,
    },
    /// List keys
    #[command(after_help = "Example:\n  segue keys list")]
    List {
        /// How to print them
        #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
        format: ReportFormat,
    },
    /// Make a key useless, at once and for good
    #[command(after_help = "Example:\n  segue keys revoke backend")]
    Revoke {
        /// Its name or id
        name: String,
    },
}

pub(super) async fn run(global: &Global, command: KeysCommand) -> anyhow::Result<ExitCode> {
    let catalog = global.catalog().await?;
    match command {
        KeysCommand::Create { scope, name } => {
            if name.trim().is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
                bail!("a name has 1 to 200 characters, none of them control characters");
            }
            let new = NewKey::generate().context("no random bytes are to be had")?;
            if !catalog.add_api_key(&new.id, &name, scope, &new.hash).await? {
                bail!("there is a key called {name:?} already; `segue keys list` shows it");
            }
            eprintln!("A key for {scope}, called {name:?}. It is not shown again:");
            print_text(&format!("{}\n", new.key))?;
        }
        KeysCommand::List { format: ReportFormat::Json } => {
            print_text(&format!("{}\n", serde_json::to_string_pretty(&catalog.api_keys().await?)?))?;
        }
        KeysCommand::List { format: ReportFormat::Table } => {
            let mut text = format!("{:<14} {:<6} {:<20} {:<20} name\n", "id", "scope", "created", "revoked");
            for key in catalog.api_keys().await? {
                let minute = |at: time::OffsetDateTime| format!("{} {:02}:{:02}", at.date(), at.hour(), at.minute());
                let revoked = key.revoked_at.map_or("-".to_owned(), minute);
                let (id, scope, created) = (key.id, key.scope, minute(key.created_at));
                text.push_str(&format!("{id:<14} {scope:<6} {created:<20} {revoked:<20} {}\n", key.name));
            }
            print_text(&text)?;
        }
        KeysCommand::Revoke { name } => {
            if !catalog.revoke_api_key(&name).await? {
                bail!("no key in use is called {name:?}; `segue keys list` shows them");
            }
            eprintln!("Revoked.");
        }
    }
    catalog.close().await;
    Ok(ExitCode::SUCCESS)
}
