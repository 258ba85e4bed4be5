//! Whether the catalog is available, and notifications of what others change in it.
//!
//! One connection listens. When it breaks, PostgreSQL is unavailable, and the server rejects requests that need it at once
//! instead of letting each wait for a connection that it can't get; when the connection can be made again, PostgreSQL is
//! back. A PostgreSQL that hangs breaks no connection, so the server also pings it.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tracing::warn;

use super::catalog_gate::CatalogGate;
use super::hidden_tracks::HiddenTracks;
use super::track_names::TrackNames;
use crate::catalog::{Catalog, CatalogError, ChangeListener, Changes};
use crate::progress::Interrupt;
use crate::serve::access::keys::KeyRing;

/// How often the server tries to reach an unavailable catalog.
const RETRY: Duration = Duration::from_millis(250);
/// How often the server pings it, and how long a reply may take.
const HEARTBEAT: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);
/// Attempts to follow a catalog that accepts connections, after which requests do without it.
const FAILURES: u32 = 2;
/// Pause after a failed restart of the private PostgreSQL; doubled each time, up to the longest.
const REVIVAL_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_REVIVAL_PAUSE: Duration = Duration::from_secs(60);
/// How often everything is reloaded, notified or not.
const REFRESH: Duration = Duration::from_secs(60);

/// Restarts of the private PostgreSQL, less and less often while they fail.
#[derive(Debug, Default)]
struct Revival {
    pause: Duration,
    failed: Option<Instant>,
}

impl Revival {
    /// Starts the private PostgreSQL again if it died, unless that failed a moment ago.
    async fn attempt(&mut self, catalog: &Catalog) {
        if self.failed.is_some_and(|failed| failed.elapsed() < self.pause) {
            return;
        }
        match catalog.revive().await {
            Ok(_) => *self = Self::default(),
            Err(error) => {
                self.pause = (self.pause * 2).clamp(REVIVAL_PAUSE, LONGEST_REVIVAL_PAUSE);
                self.failed = Some(Instant::now());
                warn!("can't start the private PostgreSQL again; next attempt in {:?}: {error}", self.pause);
            }
        }
    }
}

/// Keeps keys, hidden tracks and names as the catalog has them.
#[derive(Debug, Clone)]
pub struct CatalogWatch {
    catalog: Catalog,
    gate: CatalogGate,
    keys: KeyRing,
    hidden_tracks: HiddenTracks,
    names: TrackNames,
}

impl CatalogWatch {
    /// Returns a watch of `catalog` that updates the others.
    pub fn new(
        catalog: &Catalog,
        gate: &CatalogGate,
        keys: &KeyRing,
        hidden_tracks: &HiddenTracks,
        names: &TrackNames,
    ) -> Self {
        Self {
            catalog: catalog.clone(),
            gate: gate.clone(),
            keys: keys.clone(),
            hidden_tracks: hidden_tracks.clone(),
            names: names.clone(),
        }
    }

    /// Follows the catalog until interrupted.
    pub async fn run(self, interrupt: Interrupt) {
        let following = async {
            let mut reported = String::new();
            let mut revival = Revival::default();
            // Attempts without all that requests must not go without. The first one of all is the server's start.
            let mut failures = FAILURES - 1;
            loop {
                let mut has_followed = false;
                if let Err(error) = self.follow(&mut has_followed).await {
                    let error = error.to_string();
                    if error != reported {
                        warn!("can't follow the catalog: {error}");
                        reported = error;
                    }
                } else {
                    reported.clear();
                }
                failures = if has_followed { 0 } else { failures + 1 };
                // Whoever needs it may have started it again before the loss was noticed here. The first attempt after that
                // may still meet what is left of the old one.
                let is_back = failures < FAILURES && self.probe().await.is_ok();
                if !is_back {
                    self.gate.set(false);
                    revival.attempt(&self.catalog).await;
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        tokio::select! {
            () = following => {}
            () = interrupt.raised() => {}
        }
    }

    /// Reloads everything before the first request, which does not wait long for it.
    pub async fn refresh_at_start(&self) -> Result<(), CatalogError> {
        timeout(PATIENCE, self.refresh_all()).await.unwrap_or_else(|_| Err(no_reply("reply")))
    }

    /// Reloads everything.
    async fn refresh_all(&self) -> Result<(), CatalogError> {
        self.refresh().await?;
        self.names.refresh().await
    }

    /// Reloads what requests must not go without.
    async fn refresh(&self) -> Result<(), CatalogError> {
        self.keys.refresh(&self.catalog).await?;
        self.hidden_tracks.refresh(&self.catalog).await
    }

    /// Reloads what changed.
    async fn refresh_changed(&self, changes: Changes) -> Result<(), CatalogError> {
        if changes.api_keys {
            self.keys.refresh(&self.catalog).await?;
        }
        if changes.hidden_tracks {
            self.hidden_tracks.refresh(&self.catalog).await?;
        }
        if changes.names {
            self.names.refresh().await?;
        }
        Ok(())
    }

    /// Follows the catalog until the connection breaks. Says whether it had everything that requests must not go without.
    async fn follow(&self, has_followed: &mut bool) -> Result<(), CatalogError> {
        let listening = timeout(PATIENCE, self.while_up(self.catalog.listen()));
        let mut listener: ChangeListener = listening.await.map_err(|_| no_reply("connection"))??;
        self.while_up(self.refresh()).await?;
        self.gate.set(true);
        *has_followed = true;
        self.while_up(self.names.refresh()).await?;
        let mut refreshed = Instant::now();
        loop {
            match timeout(HEARTBEAT, listener.next()).await {
                Ok(Ok(Some(changes))) => {
                    let began = Instant::now();
                    self.while_up(self.refresh_changed(changes)).await?;
                    // A long list that changes all the time must not be read all the time.
                    tokio::time::sleep(began.elapsed()).await;
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    timeout(PATIENCE, self.catalog.ping()).await.map_err(|_| no_reply("reply to a ping"))??;
                    if refreshed.elapsed() > REFRESH {
                        listener.subscribe().await?;
                        self.while_up(self.refresh_all()).await?;
                        refreshed = Instant::now();
                    }
                }
            }
        }
    }

    /// Awaits work that waits in the pool, unless PostgreSQL goes away meanwhile: the pool would go on trying to connect.
    async fn while_up<T>(&self, work: impl Future<Output = Result<T, CatalogError>>) -> Result<T, CatalogError> {
        let mut work = pin!(work);
        loop {
            match timeout(RETRY, &mut work).await {
                Ok(outcome) => return outcome,
                Err(_) => self.probe().await?,
            }
        }
    }

    /// Checks whether PostgreSQL accepts a connection, beside the pool.
    async fn probe(&self) -> Result<(), CatalogError> {
        timeout(PATIENCE, self.catalog.probe()).await.map_err(|_| no_reply("connection"))?
    }
}

fn no_reply(what: &str) -> CatalogError {
    CatalogError::Protocol(format!("no {what} within {PATIENCE:?}"))
}
