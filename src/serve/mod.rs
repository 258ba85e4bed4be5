//! The HTTP server.
//!
//! [`router`](router::router) says what a request passes before it reaches its handler in [`routes`]. A handler extracts,
//! makes one call and responds; the threads of the [`engine`](capacity::engine) compute.

pub mod access;
pub mod capacity;
pub mod http;
mod metrics;
mod models;
mod router;
pub mod routes;
mod settings;
mod state;

use std::time::Duration;

use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::progress::Interrupt;

pub use models::{LoadedModel, ModelStore};
pub use router::{openapi, router};
pub use settings::{AuthMode, ServeSettings};
pub use state::AppState;

/// Most connections to the port of the metrics.
const METRICS_CONNECTIONS: usize = 16;

/// Serves on `listener` until interrupted, then lets requests in progress finish.
///
/// Without a published bundle it serves all the same, logs so, and loads one as soon as it is published.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    settings: &ServeSettings,
    interrupt: Interrupt,
) -> std::io::Result<()> {
    models::allocator::map_large_arrays();
    let store = state.models.clone();
    tokio::task::spawn_blocking(move || store.load_at_start()).await.map_err(std::io::Error::other)?;
    let models_watch = tokio::spawn(state.models.clone().watch(interrupt.clone()));
    let catalog_watch = state.catalog_watch();
    // Before the first request: tracks that were hidden while no server ran must not be recommended.
    if let Err(error) = catalog_watch.refresh_at_start().await {
        warn!("keys and hidden tracks are unknown until the catalog is available: {error}");
    }
    let catalog_watch = tokio::spawn(catalog_watch.run(interrupt.clone()));
    let catching_up = tokio::spawn(state::listen_feed::catch_up(state.catalog.clone(), state.models.clone()));
    let upkeep = tokio::spawn(state::upkeep::follow(state.catalog.clone()));
    info!("listening on http://{}", listener.local_addr()?);
    if !(settings.needs_keys() || settings.is_local()) {
        warn!("requests need no API key: anyone who can reach {} can read and change everything", settings.listen);
    }
    let idle = settings.idle();
    let connections =
        http::connections::within_file_limit(settings.max_connections, settings.database_connections as usize);
    let shutdown = {
        let interrupt = interrupt.clone();
        async move { interrupt.raised().await }
    };
    let metrics = match settings.metrics_listen {
        Some(address) => Some(tokio::spawn(http::listener::run(
            TcpListener::bind(address).await?,
            routes::metrics::open_router(state.clone()),
            METRICS_CONNECTIONS,
            idle,
            std::future::pending(),
        ))),
        None => None,
    };
    let serving = http::listener::run(listener, router(state, settings), connections, idle, shutdown);
    let grace = Duration::from_secs_f64(settings.shutdown_seconds);
    tokio::select! {
        () = serving => {}
        () = async { interrupt.raised().await; tokio::time::sleep(grace).await } => {
            warn!("requests were still in progress after {grace:?}; closing their connections");
        }
    }
    models_watch.abort();
    catalog_watch.abort();
    catching_up.abort();
    upkeep.abort();
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    info!("stopped");
    Ok(())
}
