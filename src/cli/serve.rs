//! `segue serve`

use std::process::ExitCode;

use anyhow::Context;
use tokio::net::TcpListener;
use tracing::warn;

use super::Global;
use crate::catalog::Catalog;
use crate::progress::Interrupt;
use crate::serve::{AppState, ServeSettings, serve};

pub(super) async fn run(global: &Global, settings: &ServeSettings, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let listener =
        TcpListener::bind(settings.listen).await.with_context(|| format!("can't listen on {}", settings.listen))?;
    let catalog = Catalog::connect(global.database_url.as_deref(), &global.home).await?;
    if let Err(error) = catalog.migrate().await {
        // What needs no catalog is answered all the same.
        warn!("the catalog is not there yet: {error}");
    }
    let state = AppState::new(catalog.clone(), &global.models(), settings).context("the engine can't be started")?;
    serve(listener, state, settings, interrupt.clone()).await?;
    catalog.close().await;
    Ok(ExitCode::SUCCESS)
}
