//! The engine: threads for work that would block the async ones.
//!
//! Work waits in three lanes: quick work, completions, and the parts of batches. A thread takes from the lane that has had
//! the least time of the threads for its weight (start-time fair queueing), so that a batch of 64 playlists does not delay
//! requests for similar tracks, and many of these don't starve completions.
//!
//! A lane knows how long its work takes on average, and so how long new work would wait: from the warm-up of the models at
//! first, then from the work itself, which is counted before its outcome is sent. The engine rejects work at once if it
//! would wait too long, instead of letting all requests wait longer: beyond its capacity it rejects the excess and answers
//! the others as fast as ever. It does not begin work whose requester has gone.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, error};

use super::lane::Lane;
use crate::serve::metrics::Metrics;

/// Work may wait this many times its own duration, by its lane's average, but at least and at most this long.
const PATIENCE: f64 = 3.0;
const LEAST_WAIT: Duration = Duration::from_millis(10);
const MOST_WAIT: Duration = Duration::from_millis(250);
/// See [`lower_priority`]; of 19, so low that other programs do not displace this one.
const NICENESS: i32 = 4;
/// Weight of the last piece of work in the average.
const MEMORY: f64 = 0.05;
/// Assumed seconds of a piece of work before the first one is counted.
const PRIOR: f64 = 0.01;

/// Lets the threads that handle HTTP go first if there are not enough processors for all: beyond capacity, the server must
/// read requests to reject them.
fn lower_priority() {
    // On Linux, each thread has its own priority.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        debug!("an engine thread keeps its priority: {error}");
    }
}

/// Work that an engine thread does for someone who waits for its outcome.
pub trait Work: Send {
    /// Does the work unless nobody waits for it any more; returns whether it did.
    fn run(&mut self) -> bool;

    /// Sends the outcome to the requester.
    fn answer(self: Box<Self>);
}

/// A function whose value is awaited.
struct Call<W, T> {
    work: Option<W>,
    value: Option<T>,
    answer: oneshot::Sender<T>,
}

impl<T: Send, W: FnOnce() -> T + Send> Work for Call<W, T> {
    fn run(&mut self) -> bool {
        let work = self.work.take().filter(|_| !self.answer.is_closed());
        self.value = work.map(|work| work());
        self.value.is_some()
    }

    fn answer(self: Box<Self>) {
        if let Some(value) = self.value {
            let _ = self.answer.send(value);
        }
    }
}

struct Job {
    work: Box<dyn Work>,
    queued: Instant,
}

/// Seconds that a piece of a lane's work takes on average, as the bits of an `f64`; 0 before the first piece. Counted
/// outside the queue's lock, so that counting delays no outcome.
#[derive(Default)]
struct Average(AtomicU64);

impl Average {
    fn seconds(&self) -> f64 {
        match self.0.load(Ordering::Relaxed) {
            0 => PRIOR,
            bits => f64::from_bits(bits),
        }
    }

    fn count(&self, seconds: f64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
            let average = if bits == 0 { seconds } else { f64::from_bits(bits) };
            Some((average + MEMORY * (seconds - average)).to_bits())
        });
    }
}

/// Why the engine did not do work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It would wait too long.
    #[error("too many requests wait for an engine thread")]
    Full,
    /// The work panicked, or the engine stopped.
    #[error("an engine thread did not finish the work")]
    Lost,
}

#[derive(Default)]
struct LaneState {
    jobs: VecDeque<Job>,
    /// time of the threads that it has had, divided by its weight
    had: f64,
}

struct Queue {
    lanes: [LaneState; 3],
    is_closed: bool,
}

impl Queue {
    /// Returns the seconds that new work of a lane would wait if a piece takes `seconds`.
    fn wait(&self, lane: Lane, threads: usize, seconds: f64) -> f64 {
        let busy = Lane::ALL.iter().filter(|&&other| other == lane || !self.lanes[other as usize].jobs.is_empty());
        let weights: f64 = busy.map(|lane| lane.weight()).sum();
        self.lanes[lane as usize].jobs.len() as f64 * seconds * weights / lane.weight() / threads as f64
    }

    fn push(&mut self, lane: Lane, job: Job) {
        // A lane does not save up time while it is empty.
        let others = self.lanes.iter().filter(|state| !state.jobs.is_empty()).map(|state| state.had);
        let least = others.fold(f64::INFINITY, f64::min);
        let state = &mut self.lanes[lane as usize];
        if state.jobs.is_empty() && least.is_finite() {
            state.had = state.had.max(least);
        }
        state.jobs.push_back(job);
    }

    fn pop(&mut self, averages: &[Average; 3]) -> Option<(Lane, Job)> {
        let waiting = Lane::ALL.into_iter().filter(|&lane| !self.lanes[lane as usize].jobs.is_empty());
        let lane =
            waiting.min_by(|&left, &right| self.lanes[left as usize].had.total_cmp(&self.lanes[right as usize].had))?;
        let state = &mut self.lanes[lane as usize];
        state.had += averages[lane as usize].seconds().max(1e-6) / lane.weight();
        Some((lane, state.jobs.pop_front()?))
    }
}

struct Shared {
    queue: Mutex<Queue>,
    /// signals new work, or that the queue is closed
    news: Condvar,
    averages: [Average; 3],
    threads: usize,
    capacity: usize,
    metrics: Metrics,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks whether this many new pieces of work may join a lane.
    fn admit(&self, queue: &Queue, lane: Lane, pieces: usize) -> Result<(), EngineError> {
        let seconds = self.averages[lane as usize].seconds();
        // All or none: a large request takes longer anyway.
        let work = seconds * pieces.div_ceil(self.threads) as f64;
        let patience = (PATIENCE * work).clamp(LEAST_WAIT.as_secs_f64(), MOST_WAIT.as_secs_f64());
        let is_full = queue.lanes[lane as usize].jobs.len() >= self.capacity;
        if is_full || queue.wait(lane, self.threads, seconds) > patience {
            self.metrics.engine_rejected(lane);
            return Err(EngineError::Full);
        }
        Ok(())
    }

    fn work(&self) {
        let mut queue = self.queue();
        loop {
            let Some((lane, Job { mut work, queued })) = queue.pop(&self.averages) else {
                if queue.is_closed {
                    return;
                }
                queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            let began = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| work.run()));
            let seconds = began.elapsed().as_secs_f64();
            self.metrics.engine_work(lane, began.duration_since(queued).as_secs_f64(), seconds);
            match outcome {
                // Counted first: the next request of the same client is admitted by it.
                Ok(true) => {
                    self.averages[lane as usize].count(seconds);
                    work.answer();
                }
                Ok(false) => drop(work),
                Err(_) => {
                    drop(work);
                    error!("work on an engine thread panicked");
                }
            }
            queue = self.queue();
        }
    }
}

/// Closes the queue when the last handle is dropped.
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
    /// Starts `threads` threads; at most `capacity` pieces of work wait in a lane.
    pub fn start(threads: usize, capacity: usize, metrics: Metrics) -> std::io::Result<Self> {
        let queue = Queue { lanes: Default::default(), is_closed: false };
        let (queue, news, averages) = (Mutex::new(queue), Condvar::new(), Default::default());
        let shared = Arc::new(Shared { queue, news, averages, threads, capacity, metrics });
        for number in 0..threads {
            let shared = shared.clone();
            thread::Builder::new().name(format!("engine-{number}")).spawn(move || {
                lower_priority();
                shared.work();
            })?;
        }
        Ok(Self(Arc::new(Handle(shared))))
    }

    /// Returns the number of pieces of work that wait, in all lanes.
    pub fn waiting(&self) -> usize {
        self.0.0.queue().lanes.iter().map(|state| state.jobs.len()).sum()
    }

    /// Counts the `seconds` that a piece of a lane's work took outside of the engine, as in the warm-up of a model: the first
    /// requests are admitted by it.
    pub fn warm(&self, lane: Lane, seconds: f64) {
        self.0.0.averages[lane as usize].count(seconds);
    }

    /// Checks whether a lane would admit this many pieces of work of one request, before anything else is done for it.
    pub fn admits(&self, lane: Lane, pieces: usize) -> Result<(), EngineError> {
        let shared = &self.0.0;
        shared.admit(&shared.queue(), lane, pieces)
    }

    /// Queues pieces of work, all or none. Each sends its outcome itself; one that panics is dropped.
    pub fn submit(&self, lane: Lane, works: impl ExactSizeIterator<Item = Box<dyn Work>>) -> Result<(), EngineError> {
        let (shared, pieces, queued) = (&self.0.0, works.len(), Instant::now());
        {
            let mut queue = shared.queue();
            shared.admit(&queue, lane, pieces)?;
            works.for_each(|work| queue.push(lane, Job { work, queued }));
        }
        if pieces == 1 {
            shared.news.notify_one();
        } else {
            shared.news.notify_all();
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

    /// Runs pieces of work on the threads, all or none; returns their answers in order.
    pub async fn run_all<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        lane: Lane,
        works: Vec<W>,
    ) -> Result<Vec<T>, EngineError> {
        let mut answers = Vec::with_capacity(works.len());
        let works = works.into_iter().map(|work| -> Box<dyn Work> {
            let (answer, answered) = oneshot::channel();
            answers.push(answered);
            Box::new(Call { work: Some(work), value: None, answer })
        });
        self.submit(lane, works)?;
        let mut done = Vec::with_capacity(answers.len());
        for answer in answers {
            done.push(answer.await.map_err(|_| EngineError::Lost)?);
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    fn engine(threads: usize, capacity: usize) -> Engine {
        Engine::start(threads, capacity, Metrics::new()).expect("threads")
    }

    /// Occupies one thread from when this returns until the sender is dropped.
    async fn occupy(engine: &Engine) -> (crossbeam_channel::Sender<()>, JoinHandle<Result<(), EngineError>>) {
        let (release, wait) = crossbeam_channel::bounded::<()>(0);
        let (started, has_started) = oneshot::channel();
        let engine = engine.clone();
        let running = tokio::spawn(async move {
            let work = move || {
                let _ = started.send(());
                let _ = wait.recv();
            };
            engine.run(Lane::Quick, work).await
        });
        has_started.await.expect("it runs");
        (release, running)
    }

    #[tokio::test]
    async fn a_full_queue_rejects_and_a_panic_harms_only_its_own_work() {
        let engine = engine(1, 1);
        let (release, running) = occupy(&engine).await;
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
        let (release, _running) = occupy(&engine).await;
        let done = Arc::new(AtomicU64::new(0));
        let piece = || {
            let done = done.clone();
            move || done.fetch_add(1, Ordering::SeqCst)
        };
        let batch = engine.run_all(Lane::Batch, (0..40).map(|_| piece()).collect());
        let quick = engine.run(Lane::Quick, {
            let done = done.clone();
            move || done.load(Ordering::SeqCst)
        });
        let finish = async {
            // Polled last: by now all of them wait.
            assert_eq!(engine.waiting(), 41);
            drop(release);
        };
        let (batch, before, ()) = tokio::join!(biased; batch, quick, finish);
        assert_eq!(batch.expect("done").len(), 40);
        let before = before.expect("done");
        assert!(before <= 2, "{before} of the batch came first");
    }

    /// How many of 20 pieces of work that come at once are admitted; none of them ends before all have come.
    async fn admitted_of_a_burst(engine: &Engine, lane: Lane) -> usize {
        let (release, wait) = crossbeam_channel::bounded::<()>(0);
        let works = (0..20).map(|_| {
            let wait = wait.clone();
            engine.run(lane, move || {
                let _ = wait.recv();
            })
        });
        let all = futures_util::future::join_all(works);
        let finish = async { drop(release) };
        let (outcomes, ()) = tokio::join!(biased; all, finish);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(EngineError::Full))), "{outcomes:?}");
        outcomes.iter().filter(|outcome| outcome.is_ok()).count()
    }

    #[tokio::test]
    async fn the_first_burst_after_a_start_is_rejected_beyond_the_capacity() {
        for round in 0..50 {
            for lane in Lane::ALL {
                let engine = engine(1, 1_000);
                // Every other engine has been warmed up, by work as long as a completion is.
                if round % 2 == 1 {
                    engine.warm(lane, 0.03);
                }
                let admitted = admitted_of_a_burst(&engine, lane).await;
                // Three times its own time it may wait, and one piece may run already.
                assert!((4..=5).contains(&admitted), "{admitted} of lane {lane:?} in round {round}");
            }
        }
    }

    #[tokio::test]
    async fn fast_work_may_wait_for_more_of_its_like() {
        let engine = engine(1, 1_000);
        engine.warm(Lane::Quick, 0.001);
        let admitted = admitted_of_a_burst(&engine, Lane::Quick).await;
        assert!((11..=12).contains(&admitted), "{admitted}: ten milliseconds of waiting harm nobody");
    }

    #[tokio::test]
    async fn work_that_would_wait_too_long_is_rejected_at_once() {
        for _ in 0..5 {
            let engine = engine(1, 1_000);
            engine.run(Lane::Completion, || thread::sleep(Duration::from_millis(30))).await.expect("done");
            let admitted = admitted_of_a_burst(&engine, Lane::Completion).await;
            assert!((1..=5).contains(&admitted), "{admitted}");
        }
    }

    #[tokio::test]
    async fn work_is_counted_before_its_outcome_is_sent() {
        for _ in 0..50 {
            let engine = engine(2, 1_000);
            let average = &engine.0.0.averages[Lane::Quick as usize];
            engine.run(Lane::Quick, || ()).await.expect("done");
            let first = average.seconds();
            assert_ne!(first, PRIOR);
            engine.run(Lane::Quick, || thread::sleep(Duration::from_millis(1))).await.expect("done");
            assert_ne!(average.seconds(), first);
        }
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_neither_begun_nor_counted() {
        let engine = engine(1, 1_000);
        let (release, _running) = occupy(&engine).await;
        let began = Arc::new(AtomicU64::new(0));
        let abandoned = engine.run(Lane::Completion, {
            let began = began.clone();
            move || began.fetch_add(1, Ordering::SeqCst)
        });
        tokio::select! {
            biased;
            _ = abandoned => panic!("the thread is occupied"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(engine.waiting(), 1);
        drop(release);
        engine.run(Lane::Quick, || ()).await.expect("done");
        while engine.waiting() > 0 {
            tokio::task::yield_now().await;
        }
        engine.run(Lane::Batch, || ()).await.expect("done");
        assert_eq!(began.load(Ordering::SeqCst), 0);
        assert_eq!(engine.0.0.averages[Lane::Completion as usize].seconds(), PRIOR);
    }
}
