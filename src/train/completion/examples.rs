//! Examples for the ranking: candidates of masked playlists, relevant where they were in the hidden part.

use std::collections::HashSet;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::settings::CompletionSettings;
use crate::bundle::CompletionIndex;
use crate::dataset::{Corpus, MaskedPlaylist, SeedKind, mask};
use crate::recommend::rank::{LONGEST_ANSWER, WIDTH, candidates, candidates_for};
use crate::recommend::retrieve::{Query, Workspace};
use crate::train::checkpoint::RunContext;
use crate::train::error::TrainError;
use crate::train::gradient_boosting::Examples;
use crate::train::parallel::collect_in_parallel;

/// A playlist with a part of it hidden, and the seed for its examples.
pub type Masked<'a> = (u64, MaskedPlaylist<'a>);

/// Queries `index`, which must not hold the `masked` playlists, for candidates.
pub fn collect_examples(
    index: &CompletionIndex,
    masked: &[Masked<'_>],
    settings: &CompletionSettings,
    context: RunContext<'_>,
) -> Result<Examples, TrainError> {
    collect_in_parallel("examples", "examples", masked, context, |(seed, masked), workspace| {
        sample(index, masked, *seed, settings.negatives as usize, workspace)
    })
}

/// Every playlist as often as the settings say, each time masked in the way that it is long enough for and that came up
/// least so far. Long playlists are thus left to the ways that need them.
pub fn mask_all<'a>(corpus: &'a Corpus, playlists: &[u32], settings: &CompletionSettings) -> Vec<Masked<'a>> {
    let seed = settings.seed ^ u64::from(playlists.first().copied().unwrap_or(0));
    let (rng, times) = (&mut Xoshiro256PlusPlus::seed_from_u64(seed), settings.maskings as usize);
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
fn sample(
    index: &CompletionIndex,
    masked: &MaskedPlaylist<'_>,
    seed: u64,
    negatives: usize,
    workspace: &mut Workspace,
) -> Examples {
    let mut examples = Examples::default();
    let mut excluded = masked.seeds.clone();
    excluded.sort_unstable();
    let query = Query::new(index, masked.title, &masked.seeds);
    let found = candidates(index, &query, &excluded, candidates_for(LONGEST_ANSWER), workspace);
    let hidden: HashSet<u32> = masked.holdouts.iter().copied().collect();
    let (mut chosen, mut others): (Vec<usize>, Vec<usize>) =
        (0..found.rows.len()).partition(|&place| hidden.contains(&found.rows[place]));
    if chosen.is_empty() {
        return examples;
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
    examples
}
