//! The open connections: how many there may be, and which of them are idle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

/// A connection that has been idle for less time is not closed in favor of a new one: its request may be on its way.
const LEAST_IDLE: Duration = Duration::from_secs(1);
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
    /// signals that another connection needs the place
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
    }
}

impl Connections {
    /// Returns no connections yet; there may be `most` at once.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a place for a new connection, if necessary that of the one that has been idle longest.
    pub fn admit(self: &Arc<Self>) -> Option<Place> {
        let mut open = self.open();
        if open.connections.len() >= self.most && !open.displace() {
            return None;
        }
        open.opened += 1;
        let connection = Arc::new(Connection {
            number: open.opened,
            requests: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            displaced: Notify::new(),
        });
        open.connections.insert(connection.number, connection.clone());
        Some(Place { connections: self.clone(), connection })
    }

    /// Closes the connection that has been idle longest, if one has been for a while; returns whether it does.
    pub fn displace(&self) -> bool {
        self.open().displace()
    }
}

impl Open {
    fn displace(&mut self) -> bool {
        let idle = self.connections.values().filter(|connection| connection.is_idle());
        let longest = idle.map(|connection| (connection.idle_since(), connection.number)).min();
        let Some((_, number)) = longest.filter(|(since, _)| since.elapsed() >= LEAST_IDLE) else { return false };
        if let Some(connection) = self.connections.remove(&number) {
            info!("closing an idle connection in favor of a new one");
            connection.displaced.notify_one();
        }
        true
    }
}
