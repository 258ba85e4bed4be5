//! The engine: threads of its own for work that would block the async ones.
//!
//! Work waits in three lanes: quick answers, completions, and the parts of batches. A thread takes from the lane that has
//! had the least of the threads' time for its weight (start-time fair queueing), so that a batch of 64 playlists does not
//! hold up a look at similar tracks, and many of these don't starve completions.
//!
//! A lane knows how long its work takes on average, and so how long new work would wait. What would wait too long is
//! refused at once, with word of when to come back, instead of making everyone wait longer: beyond its capacity the engine
//! refuses the rest and answers the others as fast as ever. Work whose requester has gone is not begun.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, error};

use crate::serve::metrics::Metrics;

/// What kind of work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// a scan or a look-up: similar tracks, recommendations, scores
    Quick,
    /// the completion of one playlist
    Completion,
    /// a playlist among many of one request
    Batch,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Quick, Self::Completion, Self::Batch];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Completion => "completion",
            Self::Batch => "batch",
        }
    }

    /// Its share of the threads' time when all lanes want it.
    fn weight(self) -> f64 {
        match self {
            Self::Quick | Self::Completion => 2.0,
            Self::Batch => 1.0,
        }
    }
}

/// Work may wait so many times as long as it takes itself, on its lane's average, but at least and at most so long.
const PATIENCE: f64 = 3.0;
const LEAST_WAIT: Duration = Duration::from_millis(10);
const MOST_WAIT: Duration = Duration::from_millis(250);
/// See [`give_way`]; of 19, so little that programs beside this one do not push it aside.
const NICENESS: i32 = 4;
/// How much the last piece of work counts in the average.
const MEMORY: f64 = 0.05;

/// Has this thread come after those that talk HTTP when there is not enough of the processors for all: beyond capacity,
/// requests have to be read to be refused.
fn give_way() {
    // Of Linux's threads each has a priority of its own.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        debug!("an engine thread keeps its priority: {error}");
    }
}

type Work = Box<dyn FnOnce() + Send>;

struct Job {
    work: Work,
    queued: Instant,
}

/// Why the engine did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It would wait too long.
    #[error("too many requests are waiting")]
    Full,
    /// The work panicked, or the engine is gone.
    #[error("the work was not finished")]
    Lost,
}

#[derive(Default)]
struct LaneState {
    jobs: VecDeque<Job>,
    /// the threads' time that it has had, over its weight
    had: f64,
    /// seconds that a piece of work takes on average; 0 before the first
    seconds: f64,
}

struct Queue {
    lanes: [LaneState; 3],
    is_closed: bool,
}

impl Queue {
    /// Seconds that work of a lane would wait if it came now.
    fn wait(&self, lane: Lane, threads: usize) -> f64 {
        let state = &self.lanes[lane as usize];
        let busy = Lane::ALL.iter().filter(|&&other| other == lane || !self.lanes[other as usize].jobs.is_empty());
        let weights: f64 = busy.map(|lane| lane.weight()).sum();
        state.jobs.len() as f64 * state.seconds * weights / lane.weight() / threads as f64
    }

    fn push(&mut self, lane: Lane, job: Job) {
        // A lane that had nothing to do does not save up time.
        let others = self.lanes.iter().filter(|state| !state.jobs.is_empty()).map(|state| state.had);
        let least = others.fold(f64::INFINITY, f64::min);
        let state = &mut self.lanes[lane as usize];
        if state.jobs.is_empty() && least.is_finite() {
            state.had = state.had.max(least);
        }
        state.jobs.push_back(job);
    }

    fn pop(&mut self) -> Option<(Lane, Job)> {
        let waiting = Lane::ALL.into_iter().filter(|&lane| !self.lanes[lane as usize].jobs.is_empty());
        let lane =
            waiting.min_by(|&left, &right| self.lanes[left as usize].had.total_cmp(&self.lanes[right as usize].had))?;
        let state = &mut self.lanes[lane as usize];
        state.had += state.seconds.max(1e-6) / lane.weight();
        Some((lane, state.jobs.pop_front()?))
    }
}

struct Shared {
    queue: Mutex<Queue>,
    /// there is work, or never will be again
    news: Condvar,
    threads: usize,
    capacity: usize,
    metrics: Metrics,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut queue = self.queue();
        loop {
            let Some((lane, job)) = queue.pop() else {
                if queue.is_closed {
                    return;
                }
                queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            let began = Instant::now();
            if catch_unwind(AssertUnwindSafe(job.work)).is_err() {
                error!("work on an engine thread panicked");
            }
            let seconds = began.elapsed().as_secs_f64();
            self.metrics.engine_work(lane, began.duration_since(job.queued).as_secs_f64(), seconds);
            queue = self.queue();
            let state = &mut queue.lanes[lane as usize];
            state.seconds += if state.seconds == 0.0 { seconds } else { MEMORY * (seconds - state.seconds) };
        }
    }
}

/// Closes the queue when the last handle goes.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.queue().is_closed = true;
        self.0.news.notify_all();
    }
}

/// A handle to the threads. Cheap to clone; the threads end with the last handle.
#[derive(Clone)]
pub struct Engine(Arc<Handle>);

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").field("threads", &self.0.0.threads).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts `threads` threads; no lane holds more than `capacity` waiting pieces of work.
    pub fn start(threads: usize, capacity: usize, metrics: Metrics) -> std::io::Result<Self> {
        let queue = Queue { lanes: Default::default(), is_closed: false };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), news: Condvar::new(), threads, capacity, metrics });
        for number in 0..threads {
            let shared = shared.clone();
            thread::Builder::new().name(format!("engine-{number}")).spawn(move || {
                give_way();
                shared.work();
            })?;
        }
        Ok(Self(Arc::new(Handle(shared))))
    }

    /// Pieces of work that wait, in all lanes.
    pub fn waiting(&self) -> usize {
        self.0.0.queue().lanes.iter().map(|state| state.jobs.len()).sum()
    }

    /// Whether so many new pieces of work of a lane would be taken, all of one request: to be asked before other work for
    /// it.
    pub fn admits(&self, lane: Lane, pieces: usize) -> Result<(), EngineError> {
        let shared = &self.0.0;
        let queue = shared.queue();
        let state = &queue.lanes[lane as usize];
        // Taken or refused whole: who asks for much waits longer for the answer anyway.
        let work = state.seconds * pieces.div_ceil(shared.threads) as f64;
        let patience = (PATIENCE * work).clamp(LEAST_WAIT.as_secs_f64(), MOST_WAIT.as_secs_f64());
        if state.jobs.len() >= shared.capacity || queue.wait(lane, shared.threads) > patience {
            shared.metrics.engine_refused(lane);
            return Err(EngineError::Full);
        }
        Ok(())
    }

    /// Runs `work` on one of the threads.
    pub async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let mut answers = self.run_all(lane, vec![work]).await?;
        answers.pop().ok_or(EngineError::Lost)
    }

    /// Runs pieces of work on the threads, all or none; their answers in order.
    pub async fn run_all<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        lane: Lane,
        works: Vec<W>,
    ) -> Result<Vec<T>, EngineError> {
        self.admits(lane, works.len())?;
        let shared = &self.0.0;
        let queued = Instant::now();
        let mut answers = Vec::with_capacity(works.len());
        {
            let mut queue = shared.queue();
            for work in works {
                let (answer, answered) = oneshot::channel();
                let work: Work = Box::new(move || {
                    if !answer.is_closed() {
                        let _ = answer.send(work());
                    }
                });
                queue.push(lane, Job { work, queued });
                answers.push(answered);
            }
        }
        if answers.len() == 1 {
            shared.news.notify_one()
        } else {
            shared.news.notify_all()
        }
        let mut done = Vec::with_capacity(answers.len());
        for answer in answers {
            done.push(answer.await.map_err(|_| EngineError::Lost)?);
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(threads: usize, capacity: usize) -> Engine {
        Engine::start(threads, capacity, Metrics::new()).expect("threads")
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_panic_harms_only_its_own_work() {
        let engine = engine(1, 1);
        let (release, wait) = crossbeam_channel::bounded::<()>(0);
        let (started, has_started) = oneshot::channel();
        let running = tokio::spawn({
            let engine = engine.clone();
            async move {
                let work = move || {
                    let _ = started.send(());
                    let _ = wait.recv();
                };
                engine.run(Lane::Quick, work).await
            }
        });
        has_started.await.expect("it runs");
        let waiting = tokio::spawn({
            let engine = engine.clone();
            async move { engine.run(Lane::Quick, || 2).await }
        });
        while engine.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(engine.run(Lane::Quick, || 3).await, Err(EngineError::Full));
        drop(release);
        assert_eq!(running.await.expect("joined"), Ok(()));
        assert_eq!(waiting.await.expect("joined"), Ok(2));
        assert_eq!(engine.run(Lane::Quick, || panic!("on purpose")).await, Err::<(), _>(EngineError::Lost));
        assert_eq!(engine.run(Lane::Completion, || 4).await, Ok(4));
    }

    #[tokio::test]
    async fn a_batch_does_not_hold_up_what_comes_after_it() {
        let engine = engine(1, 1_000);
        let nap = |milliseconds| move || thread::sleep(Duration::from_millis(milliseconds));
        engine.run(Lane::Batch, nap(5)).await.expect("done");
        engine.run(Lane::Quick, nap(1)).await.expect("done");
        let batch = tokio::spawn({
            let engine = engine.clone();
            async move { engine.run_all(Lane::Batch, vec![nap(5); 40]).await }
        });
        while engine.waiting() < 20 {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        engine.run(Lane::Quick, nap(1)).await.expect("done");
        assert!(began.elapsed() < Duration::from_millis(60), "{:?}", began.elapsed());
        assert_eq!(batch.await.expect("joined").expect("done").len(), 40);
    }

    #[tokio::test]
    async fn work_that_would_wait_too_long_is_refused_at_once() {
        let engine = engine(1, 1_000);
        engine.run(Lane::Completion, || thread::sleep(Duration::from_millis(30))).await.expect("done");
        let many = (0..20).map(|_| engine.run(Lane::Completion, || thread::sleep(Duration::from_millis(30))));
        let began = Instant::now();
        let answers = futures_util::future::join_all(many).await;
        let done = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!((2..=8).contains(&done), "{done}");
        assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
    }
}
