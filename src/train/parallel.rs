//! Work on many items by several threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::checkpoint::RunContext;
use super::error::TrainError;
use crate::progress::Progress;

/// Results of `work` for each of `items`, in their order; threads take them in turns, each with a workspace of its own.
/// Progress is shown as that of `stage`.
pub(super) fn map_in_parallel<T: Sync, R: Send, W: Default>(
    stage: &'static str,
    items: &[T],
    context: RunContext<'_>,
    work: impl Fn(&T, &mut W) -> R + Sync,
) -> Result<Vec<R>, TrainError> {
    /// Items that a thread takes at a time.
    const CHUNK: usize = 64;
    let progress = Progress::start(stage, items.len() as u64);
    let next = AtomicUsize::new(0);
    let mut parts: Vec<(usize, Vec<R>)> = std::thread::scope(|scope| {
        let worker = || {
            let mut workspace = W::default();
            let mut done = Vec::new();
            loop {
                let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                if first >= items.len() || context.interrupt.is_raised() {
                    return done;
                }
                let chunk = &items[first..(first + CHUNK).min(items.len())];
                done.push((first, chunk.iter().map(|item| work(item, &mut workspace)).collect::<Vec<R>>()));
                progress.at(first as u64, || format!("{first} of {}", items.len()));
            }
        };
        let workers: Vec<_> = (0..context.threads.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
    });
    context.check()?;
    parts.sort_unstable_by_key(|part| part.0);
    Ok(parts.into_iter().flat_map(|part| part.1).collect())
}
