//! The thread on which shadow versions of models answer; no request waits for it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam_channel::{Sender, bounded};
use tracing::error;

/// Longest queue; further work is dropped.
const MAX_WAITING: usize = 4;

/// A handle to the thread. Cheap to clone; it ends with the last handle.
#[derive(Debug, Clone)]
pub struct ShadowThread(Sender<Box<dyn FnOnce() + Send>>);

impl ShadowThread {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Self> {
        let (sender, receiver) = bounded::<Box<dyn FnOnce() + Send>>(MAX_WAITING);
        thread::Builder::new().name("shadow".to_owned()).spawn(move || {
            for work in receiver {
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    error!("the shadow version of a model panicked");
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// Queues work if there is space; returns whether it did.
    pub fn offer(&self, work: impl FnOnce() + Send + 'static) -> bool {
        self.0.try_send(Box::new(work)).is_ok()
    }
}

/// Returns the share of the first answer's tracks that the second one has too; 1 if the first has none.
pub fn overlap<'a>(first: &[String], second: impl Iterator<Item = &'a str>) -> f64 {
    let first: HashSet<&str> = first.iter().map(String::as_str).collect();
    let both = second.filter(|id| first.contains(id)).count();
    if first.is_empty() { 1.0 } else { both as f64 / first.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlap_is_a_share_of_the_first_answer() {
        let first = ["a", "b"].map(str::to_owned);
        assert_eq!(overlap(&first, ["c", "b"].into_iter()), 0.5);
        assert_eq!(overlap(&first, std::iter::empty()), 0.0);
        assert_eq!(overlap(&[], std::iter::empty()), 1.0);
    }
}
