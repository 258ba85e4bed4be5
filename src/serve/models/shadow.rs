//! Where second versions of models answer: a thread of its own that no request waits for.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam_channel::{Sender, bounded};
use tracing::error;

/// Pieces of work that wait; further ones are dropped.
const WAITING: usize = 4;

/// A handle to the thread. Cheap to clone; it ends with the last handle.
#[derive(Debug, Clone)]
pub struct ShadowThread(Sender<Box<dyn FnOnce() + Send>>);

impl ShadowThread {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Self> {
        let (sender, receiver) = bounded::<Box<dyn FnOnce() + Send>>(WAITING);
        thread::Builder::new().name("shadow".to_owned()).spawn(move || {
            for work in receiver {
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    error!("a second version of a model panicked");
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// Takes work if there is room for it.
    pub fn offer(&self, work: impl FnOnce() + Send + 'static) -> bool {
        self.0.try_send(Box::new(work)).is_ok()
    }
}

/// The share of the tracks of a first answer that a second one has too; 1 where the first has none.
pub fn share_of_both<'a>(first: &[String], second: impl Iterator<Item = &'a str>) -> f64 {
    let first: HashSet<&str> = first.iter().map(String::as_str).collect();
    let both = second.filter(|id| first.contains(id)).count();
    if first.is_empty() { 1.0 } else { both as f64 / first.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_the_first_answer() {
        let first = ["a", "b"].map(str::to_owned);
        assert_eq!(share_of_both(&first, ["c", "b"].into_iter()), 0.5);
        assert_eq!(share_of_both(&first, std::iter::empty()), 0.0);
        assert_eq!(share_of_both(&[], std::iter::empty()), 1.0);
    }
}
