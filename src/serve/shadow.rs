//! Where second versions of models answer: a thread of its own that no request waits for.

use crossbeam_channel::{Sender, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

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
