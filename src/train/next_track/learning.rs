//! What comes after a track: candidates from the playlists that hold it, ranked by boosted trees.
//!
//! The trees learn from the playlists' ends: the last tracks of every playlist are taken off, and from what is left it
//! is to be predicted which track followed the one that is last now. A list for every track is computed once, when the
//! model is published, so that a server only looks it up.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::candidates::{Candidates, Part, Placements, WIDTH};
use crate::dataset::{Corpus, NextTrackQuery};
use crate::evaluate::next_track::Ranks;
use crate::math::{Csr, top_k};
use crate::progress::{self, Progress};
use crate::scoring::oblivious_trees::ObliviousTrees;
use crate::train::checkpoint::{Kept, RunContext, State, StateFile};
use crate::train::error::TrainError;
use crate::train::gradient_boosting::{BoostingData, BoostingSettings, Examples, Objective, boost_kept};
use crate::train::parallel::{Collected, collect_in_parallel, map_in_parallel};

/// Enough queries to learn from; with fewer playlists, more than one track is taken off their ends.
const QUERIES: usize = 20_000;
/// Tracks taken off the end of a playlist at most.
const ROUNDS: usize = 3;
/// A playlist needs this many tracks before the one that is looked for.
const SHORTEST: usize = 3;
/// Candidates of a query to learn from, beside the one that came next.
const NEGATIVES: usize = 100;
/// Counts differ finely: with 64 bins the NDCG is a tenth lower.
const BINS: usize = 255;
/// The stage of the trees, of which a run keeps the state.
const TREES_STAGE: &str = "trees";
/// Trees by default.
pub const TREES: u32 = 200;

/// Learns the ranking from `playlists`, without the named parts of the description.
///
/// # Errors
///
/// [`TrainError::TooLittleData`] when no playlist is long enough; [`TrainError::Stopped`] when interrupted.
pub fn learn(
    corpus: &Corpus,
    playlists: &Csr,
    vocabulary: usize,
    trees: u32,
    seed: u64,
    without: &[Part],
    context: RunContext<'_>,
) -> Result<ObliviousTrees, TrainError> {
    let kept: Option<ObliviousTrees> = context.load_kept(TREES_STAGE)?;
    if let Some(trees) = kept.filter(|kept| kept.trees() == trees as usize) {
        progress::skip(&["examples", "trees"]);
        return Ok(trees);
    }
    let long_enough = |round: usize| playlists.iter().filter(|rows| rows.len() >= SHORTEST + round).count();
    let rounds = QUERIES.div_ceil(long_enough(1).max(1)).min(ROUNDS);
    let mut examples = Examples::default();
    for round in 1..=rounds {
        let (cut, mut queries) = cut(playlists, round);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ round as u64);
        queries.shuffle(&mut rng);
        queries.truncate(QUERIES);
        let placements = Placements::new(&cut, &corpus.artist_of, &corpus.album_of, vocabulary);
        let name = format!("examples-{round}");
        let found = collect_in_parallel("examples", &name, &queries, context, |query, workspace| {
            let candidates = placements.candidates(query.query, workspace);
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ u64::from(query.query) << 32);
            sample(&candidates, query.target, &mut rng)
        })?;
        examples.append(found);
    }
    if examples.labels.is_empty() {
        return Err(TrainError::TooLittleData(
            "no playlist is long enough to learn from what comes next; import longer ones first".to_owned(),
        ));
    }
    for &left_out in without.iter().flat_map(|part| part.features()) {
        examples.features.iter_mut().skip(left_out).step_by(WIDTH).for_each(|value| *value = 0.0);
    }
    let data = BoostingData::new(examples, WIDTH, BINS);
    let boosting = BoostingSettings {
        trees: trees as usize,
        depth: 6,
        learning_rate: 0.1,
        regularization: 5.0,
        bins: BINS,
        group_share: 0.8,
        feature_share: 0.6,
        objective: Objective::LambdaRank,
        seed,
        threads: context.threads,
    };
    let progress = Progress::start("trees", boosting.trees.max(1) as u64);
    boost_kept(&data, &boosting, TREES_STAGE, context, |trees| {
        progress.at(trees as u64, || format!("{trees} of {}", boosting.trees));
    })
}

/// Playlists with `round` tracks taken off their ends, and the queries: which track was the first of those?
fn cut(playlists: &Csr, round: usize) -> (Csr, Vec<NextTrackQuery>) {
    let mut queries = Vec::new();
    let lists = playlists.iter().map(|rows| {
        let left = rows.len().saturating_sub(round);
        if left >= SHORTEST {
            queries.push(NextTrackQuery { query: rows[left - 1], target: rows[left] });
        }
        // A playlist too short for a query still shows which tracks go together.
        rows[..if left >= SHORTEST { left } else { rows.len() }].iter().copied()
    });
    let cut = Csr::from_lists(lists);
    (cut, queries)
}

/// The target and some other candidates as one group; none if it is no candidate.
fn sample(candidates: &Candidates, target: u32, rng: &mut Xoshiro256PlusPlus) -> Examples {
    let Ok(target) = candidates.rows.binary_search(&target) else { return Examples::default() };
    let mut others: Vec<usize> = (0..candidates.rows.len()).filter(|&place| place != target).collect();
    let (sampled, _) = others.partial_shuffle(rng, NEGATIVES);
    let mut chosen = sampled.to_vec();
    chosen.push(target);
    chosen.sort_unstable();
    let features = chosen.iter().flat_map(|place| &candidates.features[place * WIDTH..(place + 1) * WIDTH]);
    Examples {
        features: features.copied().collect(),
        labels: chosen.iter().map(|&place| place == target).collect(),
        groups: vec![0, chosen.len()],
    }
}

/// The `limit` best tracks to come after each of `tracks`, with their scores, best first. They are kept as `name`.
pub fn rank(
    placements: &Placements<'_>,
    trees: &ObliviousTrees,
    tracks: &[u32],
    limit: usize,
    name: &str,
    context: RunContext<'_>,
) -> Result<Vec<Vec<(u32, f32)>>, TrainError> {
    let lists: Lists = collect_in_parallel("next tracks", name, tracks, context, |&track, workspace| {
        let candidates = placements.candidates(track, workspace);
        let scores = trees.score(&candidates.features);
        let mut ranked: Vec<(u32, f32)> = candidates.rows.into_iter().zip(scores).collect();
        top_k::sort_best(&mut ranked, limit);
        ranked
    })?;
    Ok(lists.0)
}

/// Lists of tracks with their scores, as they are kept: lengths, and the tracks and scores of all.
#[derive(Debug, Default, PartialEq)]
struct Lists(Vec<Vec<(u32, f32)>>);

impl Lists {
    fn state<'a>(lengths: &'a mut Vec<i32>, tracks: &'a mut Vec<i32>, scores: &'a mut Vec<f32>) -> State<'a> {
        vec![("lengths".to_owned(), lengths), ("tracks".to_owned(), tracks), ("scores".to_owned(), scores)]
    }
}

impl Kept for Lists {
    fn save(&self, file: &StateFile) -> Result<(), TrainError> {
        let mut lengths = self.0.iter().map(|list| list.len() as i32).collect();
        let (mut tracks, mut scores) = self.0.iter().flatten().map(|&(track, score)| (track as i32, score)).unzip();
        file.save(Self::state(&mut lengths, &mut tracks, &mut scores))
    }

    fn load(file: &StateFile) -> Result<Option<Self>, TrainError> {
        let (mut lengths, mut tracks, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        if !file.load(Self::state(&mut lengths, &mut tracks, &mut scores))? {
            return Ok(None);
        }
        let mut all = tracks.into_iter().map(|track| track as u32).zip(scores);
        Ok(Some(Self(lengths.into_iter().map(|length| all.by_ref().take(length as usize).collect()).collect())))
    }
}

impl Collected for Lists {
    type Item = Vec<(u32, f32)>;

    fn push(&mut self, item: Self::Item) {
        self.0.push(item);
    }

    fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

/// Ranks of the targets in the lists of what comes after the queries' tracks.
pub fn measure(
    placements: &Placements<'_>,
    trees: &ObliviousTrees,
    queries: &[NextTrackQuery],
    limit: usize,
    context: RunContext<'_>,
) -> Result<Ranks, TrainError> {
    let tracks: Vec<u32> = queries.iter().map(|query| query.query).collect();
    let lists = rank(placements, trees, &tracks, limit, "measured", context)?;
    Ok(places(queries, &lists))
}

/// The same for lists by co-occurrence alone, see [`Placements::co_occurring`].
pub fn measure_co_occurrence(
    placements: &Placements<'_>,
    both_sides: bool,
    queries: &[NextTrackQuery],
    limit: usize,
    context: RunContext<'_>,
) -> Result<Ranks, TrainError> {
    let lists = map_in_parallel(Some("co-occurrence"), queries, context, |query, workspace| {
        placements.co_occurring(query.query, both_sides, limit, workspace)
    })?;
    Ok(places(queries, &lists))
}

fn places(queries: &[NextTrackQuery], lists: &[Vec<(u32, f32)>]) -> Ranks {
    let places = queries.iter().zip(lists);
    Ranks(places.map(|(query, list)| list.iter().position(|next| next.0 == query.target)).collect())
}
