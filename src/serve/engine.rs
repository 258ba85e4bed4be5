//! The engine: threads of its own for work that would block the async ones.
//!
//! A bounded queue stands before a few OS threads. When it is full the request is refused at once, with word of when
//! to come back, instead of making everyone wait longer. Work whose requester has gone is not begun.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::oneshot;
use tracing::error;

type Job = Box<dyn FnOnce() + Send>;

/// Why the engine did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The queue is full.
    #[error("too many requests are waiting")]
    Full,
    /// The work panicked, or the engine is gone.
    #[error("the work was not finished")]
    Lost,
}

/// A handle to the threads. Cheap to clone; the threads end with the last handle.
#[derive(Debug, Clone)]
pub struct Engine {
    sender: Sender<Job>,
}

impl Engine {
    /// Starts `threads` threads behind a queue of `queue` waiting pieces of work.
    pub fn start(threads: usize, queue: usize) -> std::io::Result<Self> {
        let (sender, receiver) = bounded::<Job>(queue);
        for number in 0..threads {
            let receiver: Receiver<Job> = receiver.clone();
            thread::Builder::new().name(format!("engine-{number}")).spawn(move || {
                for job in receiver {
                    if catch_unwind(AssertUnwindSafe(job)).is_err() {
                        error!("work on an engine thread panicked");
                    }
                }
            })?;
        }
        Ok(Self { sender })
    }

    /// Runs `work` on one of the threads.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, EngineError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        });
        self.sender.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => EngineError::Full,
            TrySendError::Disconnected(_) => EngineError::Lost,
        })?;
        answered.await.map_err(|_| EngineError::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_panic_harms_only_its_own_work() {
        let engine = Engine::start(1, 1).expect("a thread");
        let (release, wait) = crossbeam_channel::bounded::<()>(0);
        let (started, has_started) = oneshot::channel();
        let running = tokio::spawn({
            let engine = engine.clone();
            async move {
                engine
                    .run(move || {
                        let _ = started.send(());
                        let _ = wait.recv();
                    })
                    .await
            }
        });
        has_started.await.expect("it runs");
        let waiting = tokio::spawn({
            let engine = engine.clone();
            async move { engine.run(|| 2).await }
        });
        while !engine.sender.is_full() {
            tokio::task::yield_now().await;
        }
        assert_eq!(engine.run(|| 3).await, Err(EngineError::Full));
        drop(release);
        assert_eq!(running.await.expect("joined"), Ok(()));
        assert_eq!(waiting.await.expect("joined"), Ok(2));
        assert_eq!(engine.run(|| panic!("on purpose")).await, Err::<(), _>(EngineError::Lost));
        assert_eq!(engine.run(|| 4).await, Ok(4));
    }
}
