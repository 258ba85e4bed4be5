//! Admission to the catalog: which requests may use, or wait for, one of its connections.
//!
//! A burst may wait: it is soon over. If requests keep arriving faster than they finish, waiting only makes all of them
//! late, so after a while without a calm moment only a few may wait and the rest is rejected at once (after "controlled
//! delay", Nichols and Jacobson 2012).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Requests that may wait for each connection, in a burst.
const WAITING_IN_BURSTS: usize = 7;
/// Without a calm moment for [`LONGEST_BURST`], one request may wait for this many connections.
const CONNECTIONS_UNDER_PRESSURE: usize = 2;
/// A moment is calm if fewer than one in this many connections are in use.
const CALM: usize = 4;
const LONGEST_BURST: Duration = Duration::from_millis(100);

/// Counts the requests that use the catalog.
#[derive(Debug)]
pub struct CatalogAdmission {
    connections: usize,
    in_progress: AtomicUsize,
    began: Instant,
    /// the last calm moment, in milliseconds after `began`
    calm: AtomicU64,
}

/// The right of a request to use the catalog, as long as this is held.
#[derive(Debug)]
pub struct Permit<'a>(&'a CatalogAdmission);

impl CatalogAdmission {
    /// Returns the admission to a catalog with this many connections.
    pub fn new(connections: usize) -> Self {
        Self { connections, in_progress: AtomicUsize::new(0), began: Instant::now(), calm: AtomicU64::new(0) }
    }

    /// Admits a request, or rejects it.
    pub fn admit(&self) -> Option<Permit<'_>> {
        self.admit_after(self.began.elapsed())
    }

    fn admit_after(&self, elapsed: Duration) -> Option<Permit<'_>> {
        let now = elapsed.as_millis() as u64;
        let in_progress = self.in_progress.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(self);
        if in_progress * CALM < self.connections {
            self.calm.store(now, Ordering::Relaxed);
        }
        let pressed_for = now.saturating_sub(self.calm.load(Ordering::Relaxed));
        let waiting = match pressed_for > LONGEST_BURST.as_millis() as u64 {
            true => self.connections / CONNECTIONS_UNDER_PRESSURE,
            false => self.connections * WAITING_IN_BURSTS,
        };
        (in_progress < self.connections + waiting).then_some(permit)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_may_wait_and_lasting_pressure_may_not() {
        let admission = CatalogAdmission::new(4);
        let at = |milliseconds| admission.admit_after(Duration::from_millis(milliseconds));
        let mut burst: Vec<Permit> = (0..32).map(|_| at(1_000).expect("a burst")).collect();
        assert!(at(1_000).is_none(), "seven for each connection");
        // They finish one by one while others arrive.
        burst.truncate(20);
        assert!(at(1_050).is_some());
        assert!(at(1_200).is_none(), "no calm moment for long");
        burst.truncate(5);
        let another = at(1_200);
        assert!(another.is_some() && at(1_200).is_none());
        burst.clear();
        drop(another);
        let burst: Vec<Option<Permit>> = (0..33).map(|_| at(1_300)).collect();
        assert_eq!(burst.iter().flatten().count(), 32, "calm again");
    }
}
