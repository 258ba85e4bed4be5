//! Work on many items by several threads.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::checkpoint::{Kept, RunContext, StateFile};
use super::error::TrainError;
use crate::progress::{self, Progress};

/// Items whose results are kept together: seconds of work, to half a minute.
const PIECE: usize = 8_192;

/// What results are collected in.
pub(super) trait Collected: Kept + Default {
    /// One result.
    type Item: Send;

    /// Adds a result behind the others.
    fn push(&mut self, item: Self::Item);

    /// Adds all results of `other` behind these.
    fn append(&mut self, other: Self);
}

/// Results of `work` for each of `items`, in their order; threads take them in turns, each with a workspace of its own.
/// Progress is shown as that of `stage`.
pub(super) fn map_in_parallel<T: Sync, R: Send, W: Default>(
    stage: Option<&'static str>,
    items: &[T],
    context: RunContext<'_>,
    work: impl Fn(&T, &mut W) -> R + Sync,
) -> Result<Vec<R>, TrainError> {
    let progress = stage.map(|stage| Progress::start(stage, items.len() as u64));
    map_range(progress.as_ref(), items, 0..items.len(), context, &work)
}

/// Like [`map_in_parallel`], but what a run finds is kept as `name`, and one that was stopped resumes there.
pub(super) fn collect_in_parallel<T: Sync, C: Collected, W: Default>(
    stage: &'static str,
    name: &str,
    items: &[T],
    context: RunContext<'_>,
    work: impl Fn(&T, &mut W) -> C::Item + Sync,
) -> Result<C, TrainError> {
    let progress = Progress::start(stage, items.len() as u64);
    let mut all = C::default();
    for first in (0..items.len()).step_by(PIECE) {
        let name = piece_name(name, first);
        let piece = match context.load_kept(&name)? {
            Some(piece) => piece,
            None => {
                let mut piece = C::default();
                let range = first..(first + PIECE).min(items.len());
                map_range(Some(&progress), items, range, context, &work)?.into_iter().for_each(|item| piece.push(item));
                context.keep(&name, &piece)?;
                piece
            }
        };
        all.append(piece);
    }
    Ok(all)
}

/// What [`collect_in_parallel`] kept as `name` of as many `items`, if it is all there: `stages` are then skipped.
pub(super) fn load_collected<C: Collected>(
    name: &str,
    items: usize,
    stages: &[&'static str],
    context: RunContext<'_>,
) -> Result<Option<C>, TrainError> {
    let files: Option<Vec<StateFile>> =
        (0..items).step_by(PIECE).map(|first| context.file(&piece_name(name, first))).collect();
    let Some(files) = files.filter(|files| files.iter().all(StateFile::exists)) else { return Ok(None) };
    let mut all = C::default();
    for file in files {
        let Some(piece) = C::load(&file)? else { return Ok(None) };
        all.append(piece);
    }
    progress::skip(stages);
    Ok(Some(all))
}

/// What the results from item `first` on are kept as.
fn piece_name(name: &str, first: usize) -> String {
    format!("{name}-{}", first / PIECE)
}

fn map_range<T: Sync, R: Send, W: Default>(
    progress: Option<&Progress>,
    items: &[T],
    range: Range<usize>,
    context: RunContext<'_>,
    work: &(impl Fn(&T, &mut W) -> R + Sync),
) -> Result<Vec<R>, TrainError> {
    /// Items that a thread takes at a time.
    const CHUNK: usize = 64;
    let next = AtomicUsize::new(range.start);
    let mut parts: Vec<(usize, Vec<R>)> = std::thread::scope(|scope| {
        let worker = || {
            let mut workspace = W::default();
            let mut done = Vec::new();
            loop {
                let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                if first >= range.end || context.interrupt.is_raised() {
                    return done;
                }
                let chunk = &items[first..(first + CHUNK).min(range.end)];
                done.push((first, chunk.iter().map(|item| work(item, &mut workspace)).collect::<Vec<R>>()));
                progress.inspect(|progress| progress.at(first as u64, || format!("{first} of {}", items.len())));
            }
        };
        let workers: Vec<_> = (0..context.threads.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
    });
    context.check()?;
    parts.sort_unstable_by_key(|part| part.0);
    Ok(parts.into_iter().flat_map(|part| part.1).collect())
}
