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
use crate::train::checkpoint::{RunContext, State, StateFile};
use crate::train::error::TrainError;
use crate::train::gradient_boosting::Examples;
use crate::train::parallel::map_in_parallel;

/// Writes examples to the file of a stage.
pub(super) fn save_examples(file: &StateFile, examples: &Examples) -> Result<(), TrainError> {
    let mut examples = examples.clone();
    let mut groups: Vec<i64> = examples.groups.iter().map(|&end| end as i64).collect();
    file.save(state(&mut examples, &mut groups))
}

/// Reads what [`save_examples`] wrote; `None` without it.
pub(super) fn load_examples(file: &StateFile) -> Result<Option<Examples>, TrainError> {
    let mut examples = Examples { features: Vec::new(), labels: Vec::new(), groups: Vec::new() };
    let mut groups = Vec::new();
    let loaded = file.load(state(&mut examples, &mut groups))?;
    examples.groups = groups.into_iter().map(|end| end as usize).collect();
    Ok(loaded.then_some(examples))
}

fn state<'a>(examples: &'a mut Examples, groups: &'a mut Vec<i64>) -> State<'a> {
    vec![
        ("features".to_owned(), &mut examples.features),
        ("labels".to_owned(), &mut examples.labels),
        ("groups".to_owned(), groups),
    ]
}

/// Masks `playlists` and queries `index`, which must not hold them, for candidates.
pub fn collect_examples(
    corpus: &Corpus,
    index: &CompletionIndex,
    playlists: &[u32],
    settings: &CompletionSettings,
    context: RunContext<'_>,
) -> Result<Examples, TrainError> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed ^ u64::from(playlists.first().copied().unwrap_or(0)));
    let masked = mask_all(corpus, playlists, settings.maskings as usize, &mut rng);
    let examples = map_in_parallel("examples", &masked, context, |(seed, masked), workspace| {
        sample(index, masked, *seed, settings.negatives as usize, workspace)
    })?;
    let mut all = Examples::default();
    examples.into_iter().for_each(|examples| all.append(examples));
    Ok(all)
}

/// Every playlist `times` times, each time in the way that it is long enough for and that came up least so far, with a
/// random seed for each. Long playlists are thus left to the ways that need them.
fn mask_all<'a>(
    corpus: &'a Corpus,
    playlists: &[u32],
    times: usize,
    rng: &mut Xoshiro256PlusPlus,
) -> Vec<(u64, MaskedPlaylist<'a>)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::checkpoint::Checkpoint;

    #[test]
    fn examples_are_read_as_they_were_written() {
        let mut examples = Examples { features: vec![0.5; 2 * WIDTH], labels: vec![true, false], groups: vec![0, 2] };
        examples.append(Examples { features: vec![-1.0; WIDTH], labels: vec![true], groups: vec![0, 0, 1] });
        assert_eq!(examples.groups, [0, 2, 2, 3]);
        let folder = tempfile::tempdir().expect("a folder");
        let file = Checkpoint::in_folder(folder.path().to_owned()).expect("a folder").file("fold-0");
        save_examples(&file, &examples).expect("saved");
        assert_eq!(load_examples(&file).expect("loaded"), Some(examples));
        let path = folder.path().join("fold-0.safetensors");
        let bytes = std::fs::read(&path).expect("a file");
        for length in [0, 10, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).expect("written");
            assert_eq!(load_examples(&file).expect("passed over"), None);
        }
    }
}
