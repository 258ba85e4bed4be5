//! Whether the catalog is there, and word of what others change in it.
//!
//! One connection listens. When it breaks, PostgreSQL is away, and requests that need it are refused at once instead of
//! each waiting for a connection that can't be had; when it can be made again, PostgreSQL is back. A PostgreSQL that hangs
//! breaks nothing, so it is also asked for a sign of life.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::catalog::{CatalogError, ChangeListener};
use crate::progress::Interrupt;
use crate::serve::AppState;

/// How often a catalog that is away is looked for.
const RETRY: Duration = Duration::from_millis(250);
/// How often it is asked for a sign of life, and how long it has for one.
const HEARTBEAT: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);
/// How often everything is read anew, told or not.
const REFRESH: Duration = Duration::from_secs(60);

/// Whether requests may ask the catalog. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate(Arc<AtomicBool>);

impl Default for Gate {
    /// Open: who knows nothing tries.
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Gate {
    /// Whether requests may ask the catalog.
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, open: bool) {
        if self.0.swap(open, Ordering::Relaxed) != open {
            match open {
                true => info!("the catalog is there again"),
                false => warn!("the catalog is away; what needs it is refused until it is back"),
            }
        }
    }
}

/// Follows the catalog until interrupted.
pub async fn watch(state: AppState, interrupt: Interrupt) {
    let following = async {
        loop {
            if let Err(error) = follow(&state).await {
                tracing::debug!("the catalog can't be followed: {error}");
            }
            state.gate.set(false);
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = following => {}
        () = interrupt.raised() => {}
    }
}

/// Reads what is kept in memory, once.
pub async fn refresh(state: &AppState) -> Result<(), CatalogError> {
    state.keys.refresh(&state.catalog).await?;
    state.withheld.refresh(&state.catalog).await
}

/// The same before the first request, which it does not keep waiting for long.
pub async fn refresh_at_start(state: &AppState) -> Result<(), CatalogError> {
    let refreshed = tokio::time::timeout(PATIENCE, refresh(state)).await;
    refreshed.unwrap_or_else(|_| Err(CatalogError::Protocol(format!("no answer within {PATIENCE:?}"))))
}

/// Until the connection breaks.
async fn follow(state: &AppState) -> Result<(), CatalogError> {
    let patient = |what: &str| CatalogError::Protocol(format!("no {what} within {PATIENCE:?}"));
    let mut listener: ChangeListener =
        tokio::time::timeout(PATIENCE, state.catalog.listen()).await.map_err(|_| patient("connection"))??;
    refresh(state).await?;
    state.gate.set(true);
    let mut refreshed = Instant::now();
    loop {
        match tokio::time::timeout(HEARTBEAT, listener.next()).await {
            Ok(Ok(Some(changes))) => {
                let began = Instant::now();
                if changes.api_keys {
                    state.keys.refresh(&state.catalog).await?;
                }
                if changes.hidden_tracks {
                    state.withheld.refresh(&state.catalog).await?;
                }
                // A long list that changes all the time must not be read all the time.
                tokio::time::sleep(began.elapsed()).await;
            }
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                tokio::time::timeout(PATIENCE, state.catalog.ping()).await.map_err(|_| patient("sign of life"))??;
                if refreshed.elapsed() > REFRESH {
                    refresh(state).await?;
                    refreshed = Instant::now();
                }
            }
        }
    }
}
