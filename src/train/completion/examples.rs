//! What the ranking is learned from: candidates of masked playlists, with whether they were in the hidden part.

use std::collections::HashSet;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::bundle::CompletionIndex;
use crate::dataset::{Corpus, Masked, SeedKind, mask};
use crate::progress::{Interrupt, Progress};
use crate::recommend::rank::{LONGEST_ANSWER, WIDTH, candidates, candidates_for};
use crate::recommend::retrieve::{Query, Workspace};

/// How to sample examples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// how often each playlist is masked
    pub maskings: usize,
    /// candidates of a masked playlist that were not in it
    pub negatives: usize,
    /// threads that share the playlists
    pub threads: usize,
    /// random seed
    pub seed: u64,
}

/// Candidates of masked playlists, playlist by playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// `[candidates, WIDTH]`
    pub features: Vec<f32>,
    /// whether each was in the hidden part
    pub labels: Vec<bool>,
    /// where the candidates of each masked playlist begin, and the end
    pub groups: Vec<usize>,
}

impl Default for Examples {
    fn default() -> Self {
        Self { features: Vec::new(), labels: Vec::new(), groups: vec![0] }
    }
}

impl Examples {
    /// Adds those of `other` behind these.
    pub fn append(&mut self, other: Self) {
        let first = self.labels.len();
        self.features.extend(other.features);
        self.labels.extend(other.labels);
        self.groups.extend(other.groups[1..].iter().map(|end| first + end));
    }

    /// As bytes to keep for a run that goes on later.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.features.len() * 4 + self.labels.len() + self.groups.len() * 8);
        bytes.extend((self.labels.len() as u64).to_le_bytes());
        bytes.extend((self.groups.len() as u64).to_le_bytes());
        bytes.extend(self.groups.iter().flat_map(|&end| (end as u64).to_le_bytes()));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.features));
        bytes.extend(self.labels.iter().map(|&label| u8::from(label)));
        bytes
    }

    /// Of the bytes that [`Examples::write`] gave; `None` if they are not whole.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
        let (rows, ends) = (number(0)?, number(8)?);
        let features = 16 + ends.checked_mul(8)?;
        let labels = features.checked_add(rows.checked_mul(4 * WIDTH)?)?;
        if bytes.len() != labels + rows {
            return None;
        }
        let groups: Vec<usize> = (0..ends).map_while(|end| number(16 + 8 * end)).collect();
        let whole = groups.first() == Some(&0) && groups.last() == Some(&rows) && groups.is_sorted();
        whole.then(|| Self {
            features: bytemuck::allocation::pod_collect_to_vec(&bytes[features..labels]),
            labels: bytes[labels..].iter().map(|&label| label != 0).collect(),
            groups,
        })
    }
}

/// Masks `playlists` and asks `index`, which must not hold them, for candidates. `None` when interrupted.
pub fn collect(
    corpus: &Corpus,
    index: &CompletionIndex,
    playlists: &[u32],
    sampling: &Sampling,
    interrupt: &Interrupt,
) -> Option<Examples> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(sampling.seed ^ u64::from(playlists.first().copied().unwrap_or(0)));
    let masked = mask_all(corpus, playlists, sampling.maskings, &mut rng);
    let progress = Progress::start("examples", masked.len() as u64);
    let share = masked.len().div_ceil(sampling.threads.max(1)).max(1);
    let parts: Vec<Option<Examples>> = std::thread::scope(|scope| {
        let workers: Vec<_> = masked
            .chunks(share)
            .map(|masked| {
                let progress = &progress;
                scope.spawn(move || {
                    let mut workspace = Workspace::default();
                    let mut examples = Examples::default();
                    for (done, (seed, masked)) in masked.iter().enumerate() {
                        if interrupt.is_raised() {
                            return None;
                        }
                        add(index, masked, *seed, sampling.negatives, &mut workspace, &mut examples);
                        progress.at(done as u64 * sampling.threads as u64, || format!("{done} playlists a thread"));
                    }
                    Some(examples)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().ok().flatten()).collect()
    });
    let mut all = Examples::default();
    for part in parts {
        all.append(part?);
    }
    Some(all)
}

/// Every playlist `times` times, each time in the way that it is long enough for and that came up least so far, with a
/// random seed for each. The ways that ask for long playlists are so kept for those.
fn mask_all<'a>(
    corpus: &'a Corpus,
    playlists: &[u32],
    times: usize,
    rng: &mut Xoshiro256PlusPlus,
) -> Vec<(u64, Masked<'a>)> {
    let mut uses = [0u32; SeedKind::ALL.len()];
    let mut all = Vec::with_capacity(playlists.len() * times);
    for _ in 0..times {
        for &playlist in playlists {
            let rows = corpus.sequences.playlists.row(playlist as usize);
            let title = &corpus.titles[playlist as usize];
            let mut kinds: Vec<usize> = (0..uses.len()).collect();
            kinds.shuffle(rng);
            kinds.sort_by_key(|&kind| uses[kind]);
            let found = kinds.into_iter().find_map(|kind| Some((kind, mask(rows, title, SeedKind::ALL[kind], rng)?)));
            if let Some((kind, masked)) = found {
                uses[kind] += 1;
                all.push((rng.random(), masked));
            }
        }
    }
    all
}

/// All hidden tracks that are candidates, and a sample of the other candidates.
fn add(
    index: &CompletionIndex,
    masked: &Masked<'_>,
    seed: u64,
    negatives: usize,
    workspace: &mut Workspace,
    examples: &mut Examples,
) {
    let mut excluded = masked.seeds.clone();
    excluded.sort_unstable();
    let query = Query::new(index, masked.title, &masked.seeds);
    let found = candidates(index, &query, &excluded, candidates_for(LONGEST_ANSWER), workspace);
    let hidden: HashSet<u32> = masked.holdouts.iter().copied().collect();
    let (mut chosen, mut others): (Vec<usize>, Vec<usize>) =
        (0..found.rows.len()).partition(|&place| hidden.contains(&found.rows[place]));
    if chosen.is_empty() {
        return;
    }
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (sampled, _) = others.partial_shuffle(&mut rng, negatives);
    chosen.extend_from_slice(sampled);
    chosen.sort_unstable();
    for place in chosen {
        examples.features.extend_from_slice(&found.features[place * WIDTH..(place + 1) * WIDTH]);
        examples.labels.push(hidden.contains(&found.rows[place]));
    }
    examples.groups.push(examples.labels.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_read_as_they_were_written() {
        let mut examples = Examples { features: vec![0.5; 2 * WIDTH], labels: vec![true, false], groups: vec![0, 2] };
        examples.append(Examples { features: vec![-1.0; WIDTH], labels: vec![true], groups: vec![0, 0, 1] });
        assert_eq!(examples.groups, [0, 2, 2, 3]);
        let bytes = examples.write();
        assert_eq!(Examples::read(&bytes), Some(examples));
        for length in [0, 10, bytes.len() - 1] {
            assert_eq!(Examples::read(&bytes[..length]), None);
        }
    }
}
