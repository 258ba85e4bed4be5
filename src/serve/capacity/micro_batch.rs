//! Requests that wait together share one pass: a piece of work on an engine thread takes all that have arrived by the time
//! it begins.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::engine::{Engine, EngineError, Work};
use super::lane::Lane;

/// Most requests of one piece of work: other threads take the others meanwhile.
const MAX_SHARED: usize = 16;

struct PendingRequest<Q, A> {
    question: Q,
    answer: oneshot::Sender<Result<A, EngineError>>,
}

/// The requests that wait. Cheap to clone.
pub struct MicroBatch<Q, A> {
    waiting: Arc<Mutex<Vec<PendingRequest<Q, A>>>>,
    /// returns as many answers as questions, in their order
    answer: fn(Vec<Q>) -> Vec<A>,
}

impl<Q, A> Clone for MicroBatch<Q, A> {
    fn clone(&self) -> Self {
        Self { waiting: self.waiting.clone(), answer: self.answer }
    }
}

impl<Q, A> std::fmt::Debug for MicroBatch<Q, A> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MicroBatch").finish_non_exhaustive()
    }
}

impl<Q: Send + 'static, A: Send + 'static> MicroBatch<Q, A> {
    /// Returns a batch without requests; `answer` computes their answers.
    pub fn new(answer: fn(Vec<Q>) -> Vec<A>) -> Self {
        Self { waiting: Arc::default(), answer }
    }

    /// Adds a request, and waits for its answer.
    pub async fn ask(&self, engine: &Engine, question: Q) -> Result<A, EngineError> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(PendingRequest { question, answer });
            // A request that arrives while others wait is answered with them.
            waiting.len() % MAX_SHARED == 1
        };
        if is_first {
            let work: Box<dyn Work> = Box::new(SharedPass { batch: self.clone(), found: Vec::new() });
            if let Err(error) = engine.submit(Lane::Quick, std::iter::once(work)) {
                for one in self.take_some() {
                    let _ = one.answer.send(Err(error));
                }
            }
        }
        answered.await.map_err(|_| EngineError::Lost)?
    }

    /// Takes the requests that have waited longest.
    fn take_some(&self) -> Vec<PendingRequest<Q, A>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(MAX_SHARED);
        waiting.drain(..count).collect()
    }
}

/// Requests that are answered together.
struct SharedPass<Q, A> {
    batch: MicroBatch<Q, A>,
    found: Vec<(oneshot::Sender<Result<A, EngineError>>, A)>,
}

impl<Q: Send + 'static, A: Send + 'static> Work for SharedPass<Q, A> {
    fn run(&mut self) -> bool {
        let taken = self.batch.take_some().into_iter().filter(|one| !one.answer.is_closed());
        let (questions, answers): (Vec<Q>, Vec<_>) = taken.map(|one| (one.question, one.answer)).unzip();
        if questions.is_empty() {
            return false;
        }
        self.found = answers.into_iter().zip((self.batch.answer)(questions)).collect();
        true
    }

    fn answer(self: Box<Self>) {
        for (answer, found) in self.found {
            let _ = answer.send(Ok(found));
        }
    }
}
