//! Who may use the catalog now, or wait for one of its connections.
//!
//! A burst may wait: it is over soon. Where requests keep coming faster than they are done, waiting only makes all of them
//! late, so once there has been no calm moment for a while only few may wait and the rest is refused at once (after
//! "controlled delay", Nichols and Jacobson 2012).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Requests that may wait for each connection that there may be, in a burst.
const WAITING_IN_BURSTS: usize = 7;
/// When there has been no calm moment for [`LONGEST_BURST`], one may wait for so many connections.
const CONNECTIONS_UNDER_PRESSURE: usize = 2;
/// A moment is calm in which not even one in so many connections is in use.
const CALM: usize = 4;
const LONGEST_BURST: Duration = Duration::from_millis(100);

/// Counts the requests that use the catalog.
#[derive(Debug)]
pub struct Admission {
    connections: usize,
    under_way: AtomicUsize,
    began: Instant,
    /// the last calm moment, in milliseconds since the beginning
    calm: AtomicU64,
}

/// A request that may use the catalog, as long as this is held.
#[derive(Debug)]
pub struct Admitted<'a>(&'a Admission);

impl Admission {
    /// To a catalog with so many connections.
    pub fn new(connections: usize) -> Self {
        Self { connections, under_way: AtomicUsize::new(0), began: Instant::now(), calm: AtomicU64::new(0) }
    }

    /// Lets a request in, or not.
    pub fn admit(&self) -> Option<Admitted<'_>> {
        self.admit_after(self.began.elapsed())
    }

    fn admit_after(&self, elapsed: Duration) -> Option<Admitted<'_>> {
        let now = elapsed.as_millis() as u64;
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(self);
        if under_way * CALM < self.connections {
            self.calm.store(now, Ordering::Relaxed);
        }
        let pressed_for = now.saturating_sub(self.calm.load(Ordering::Relaxed));
        let waiting = match pressed_for > LONGEST_BURST.as_millis() as u64 {
            true => self.connections / CONNECTIONS_UNDER_PRESSURE,
            false => self.connections * WAITING_IN_BURSTS,
        };
        (under_way < self.connections + waiting).then_some(admitted)
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_may_wait_and_lasting_pressure_may_not() {
        let admission = Admission::new(4);
        let at = |milliseconds| admission.admit_after(Duration::from_millis(milliseconds));
        let mut burst: Vec<Admitted> = (0..32).map(|_| at(1_000).expect("a burst")).collect();
        assert!(at(1_000).is_none(), "seven for each connection");
        // They are done one by one, while others come.
        burst.truncate(20);
        assert!(at(1_050).is_some());
        assert!(at(1_200).is_none(), "no calm moment for long");
        burst.truncate(5);
        let another = at(1_200);
        assert!(another.is_some() && at(1_200).is_none());
        burst.clear();
        drop(another);
        let burst: Vec<Option<Admitted>> = (0..33).map(|_| at(1_300)).collect();
        assert_eq!(burst.iter().flatten().count(), 32, "calm again");
    }
}
