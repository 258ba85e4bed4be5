//! `segue serve`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tracing::{info, warn};

use super::global::Global;
use crate::catalog::Catalog;
use crate::progress::Interrupt;
use crate::serve::{AppState, ServeSettings, serve};

/// How often a catalog that was away at the start is looked for.
const RETRY: Duration = Duration::from_secs(5);

pub(super) async fn run(global: &Global, settings: &ServeSettings, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let listener =
        TcpListener::bind(settings.listen).await.with_context(|| format!("can't listen on {}", settings.listen))?;
    let catalog = Catalog::connect(global.database_url(), global.database_schema(), &global.home).await?;
    tokio::select! {
        migrated = catalog.migrate() => {
            if let Err(error) = migrated {
                if error.needs_setup() {
                    return Err(error.into());
                }
                // What needs no catalog is answered all the same.
                warn!("the catalog is not there yet, trying again every {RETRY:?}: {error}");
                tokio::spawn(migrate_later(catalog.clone()));
            }
        }
        () = interrupt.raised() => return Ok(ExitCode::SUCCESS),
    }
    let state = AppState::new(catalog.clone(), &global.models(), settings).context("the engine can't be started")?;
    let requests = state.catalog.clone();
    serve(listener, state, settings, interrupt.clone()).await?;
    requests.close().await;
    catalog.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn migrate_later(catalog: Catalog) {
    loop {
        tokio::time::sleep(RETRY).await;
        if catalog.migrate().await.is_ok() {
            info!("the catalog is there");
            return;
        }
    }
}
