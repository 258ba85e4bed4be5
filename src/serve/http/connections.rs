//! The open connections: how many there may be, and which of them are idle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

/// A connection that has been idle for less time is not closed in favor of a new one: its request may be on its way.
const LEAST_IDLE: Duration = Duration::from_secs(1);
/// How long a connection may take to close in favor of a new one.
const CLOSING: Duration = Duration::from_millis(50);
/// File descriptors for all else: PostgreSQL, bundles, logs.
const RESERVED_FILES: usize = 96;
/// Fewest connections, however few file descriptors there are.
const FEWEST: usize = 16;

/// Raises the limit on open files as far as allowed, and returns how many connections fit below it, `most` at most,
/// beside this many to PostgreSQL.
pub fn within_file_limit(most: usize, database_connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            debug!("can't raise the limit on open files: {error}");
            limit.current
        }
    };
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let fit = files.saturating_sub(RESERVED_FILES + database_connections).max(FEWEST);
    if fit < most {
        warn!("only {fit} connections at once, because {files} files may be open: raise `ulimit -n`");
    }
    fit.min(most)
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    /// requests of which the response is not sent yet
    requests: AtomicUsize,
    idle_since: Mutex<Instant>,
    /// whether another connection waits for the place
    is_displaced: AtomicBool,
    /// signals that
    displaced: Notify,
}

impl Connection {
    fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Acquire) == 0
    }

    fn idle_since(&self) -> Instant {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what stands for a request until its response is sent.
    pub fn request(self: &Arc<Self>) -> RequestInProgress {
        self.requests.fetch_add(1, Ordering::AcqRel);
        RequestInProgress(self.clone())
    }

    /// Waits until another connection needs the place of this one while it is idle.
    pub async fn displaced(&self) {
        loop {
            self.displaced.notified().await;
            if self.is_idle() {
                return;
            }
            // A request came first.
            self.is_displaced.store(false, Ordering::Release);
        }
    }
}

/// A request of which the response is not sent yet.
#[derive(Debug)]
pub struct RequestInProgress(Arc<Connection>);

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The open connections.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    open: Mutex<Open>,
    /// signals that one closed
    closed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    opened: u64,
    connections: HashMap<u64, Arc<Connection>>,
}

/// The place of an open connection.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    /// the connection
    pub connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().connections.remove(&self.connection.number);
        self.connections.closed.notify_one();
    }
}

impl Connections {
    /// Returns no connections yet; there may be `most` at once.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default(), closed: Notify::new() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a place for a new connection, if necessary that of the one that has been idle longest, once it is closed: its
    /// file has to be free before that of the next one is opened.
    ///
    /// For one caller at a time.
    pub async fn admit(self: &Arc<Self>) -> Option<Place> {
        if self.is_full() {
            if !self.displace() {
                return None;
            }
            let closed = async {
                while self.is_full() {
                    self.closed.notified().await;
                }
            };
            tokio::time::timeout(CLOSING, closed).await.ok()?;
        }
        let mut open = self.open();
        open.opened += 1;
        let connection = Arc::new(Connection {
            number: open.opened,
            requests: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            is_displaced: AtomicBool::new(false),
            displaced: Notify::new(),
        });
        open.connections.insert(connection.number, connection.clone());
        Some(Place { connections: self.clone(), connection })
    }

    fn is_full(&self) -> bool {
        self.open().connections.len() >= self.most
    }

    /// Closes the connection that has been idle longest, if one has been for a while; returns whether it does.
    pub fn displace(&self) -> bool {
        let open = self.open();
        let idle = open.connections.values().filter(|one| one.is_idle() && !one.is_displaced.load(Ordering::Acquire));
        let longest = idle.min_by_key(|connection| (connection.idle_since(), connection.number));
        let Some(connection) = longest.filter(|one| one.idle_since().elapsed() >= LEAST_IDLE) else { return false };
        info!("closing an idle connection in favor of a new one");
        connection.is_displaced.store(true, Ordering::Release);
        connection.displaced.notify_one();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_connection_waits_until_the_one_whose_place_it_takes_is_closed() {
        let connections = Connections::new(2);
        let places = [connections.admit().await.expect("a place"), connections.admit().await.expect("a place")];
        assert!(connections.admit().await.is_none(), "nobody has been idle for long");
        for place in &places {
            *place.connection.idle_since.lock().expect("no panic") -= LEAST_IDLE;
        }
        let [first, second] = places;
        let busy = second.connection.request();
        assert!(connections.admit().await.is_none(), "the first one does not close");
        let closing = first.connection.clone();
        tokio::spawn(async move {
            closing.displaced().await;
            drop(first);
        });
        assert!(connections.admit().await.is_none(), "the first one has been told already, and is closing");
        tokio::task::yield_now().await;
        let third = connections.admit().await;
        assert!(third.is_some(), "it is closed");
        assert!(connections.admit().await.is_none(), "the second one is busy");
        drop(busy);
    }
}
