//! From what the retrievers say to candidates and their features.

use super::closer_look_for;
use crate::bundle::{CompletionIndex, Derived};
use crate::dataset::NONE;
use crate::math::ByteTable;
use crate::math::linear::{axpy, dot, products};
use crate::math::top_k::{Best, by_falling, keep_best};
use crate::recommend::retrieve::factors::fold_in;
use crate::recommend::retrieve::playlists::{Neighbour, Neighbourhood, add_by_artists, neighbours};
use crate::recommend::retrieve::walk::{OrderSums, TrackSums, Visited, add_seed_artists, artist_sums, walk};
use crate::recommend::retrieve::{Query, Workspace};

/// The most popular tracks that always are candidates.
const POPULAR: usize = 300;
/// Tracks of each of the seeds' artists, most popular first, that are candidates.
const OF_ARTIST: usize = 20;
/// Tracks of the artists whose name the title says.
const OF_NAMED_ARTIST: usize = 50;
/// Seeds that the nearest one is looked for among.
const NEAREST_OF: usize = 8;
/// Tracks of playlists with similar titles that stand in for seeds.
const TITLE_SEEDS: usize = 30;
/// Tracks whose own title has most words in common with the playlist's.
const NAMED_TRACKS: usize = 300;
/// Artists whose name may match the title.
const NAMED_ARTISTS: usize = 20;

/// What each column of [`Candidates::features`] is.
pub const FEATURES: [&str; 71] = [
    "knn",
    "knn_share",
    "knn_rank",
    "item",
    "item_share",
    "item_rank",
    "together",
    "together_rate",
    "last_share",
    "near",
    "near_rate",
    "near_rate_share",
    "behind",
    "behind_share",
    "before",
    "before_share",
    "next",
    "next_share",
    "factor",
    "factor_share",
    "factor_rank",
    "factor_cosine",
    "last_factor_cosine",
    "best_factor_cosine",
    "vector_cosine",
    "vector_rank",
    "vector_last_cosine",
    "vector_late_cosine",
    "vector_best_cosine",
    "joint_share",
    "artist_knn",
    "artist_knn_share",
    "artist_knn_rank",
    "title",
    "title_share",
    "title_rank",
    "title_rate",
    "same_title_rate",
    "title_factor_share",
    "title_factor_rank",
    "artist_of_knn",
    "artist_of_artist_knn",
    "artist_of_title",
    "artist_title_rate",
    "artist_seeds",
    "artist_near",
    "artist_seed_count",
    "artist_last_seeds",
    "artist_named",
    "artist_words_named",
    "track_words_named",
    "album_seeds",
    "log_popularity",
    "log_artist_popularity",
    "popularity_in_artist",
    "log_album_popularity",
    "mean_place",
    "mean_length",
    "popularity_difference",
    "seeds",
    "has_title",
    "seed_popularity",
    "seed_popularity_deviation",
    "seed_artist_popularity",
    "artist_diversity",
    "album_diversity",
    "best_similarity",
    "most_seeds_share",
    "overlapping",
    "best_title",
    "same_title_playlists",
];

/// Number of features.
pub const WIDTH: usize = FEATURES.len();

/// Tracks that may be recommended: the best by a simple sum of the retrievers' scores.
#[derive(Debug, Default)]
pub struct Candidates {
    /// rows of the tracks, rising
    pub rows: Vec<u32>,
    /// `[rows, WIDTH]`
    pub features: Vec<f32>,
}

/// What the query as a whole is like: the same for all its candidates.
struct Context {
    seeds: f32,
    has_title: f32,
    popularity: f32,
    popularity_deviation: f32,
    artist_popularity: f32,
    artist_diversity: f32,
    album_diversity: f32,
}

impl Context {
    fn new(index: &CompletionIndex, query: &Query) -> Self {
        let count = query.seeds.len() as f32;
        let distinct = |of: &[u32]| {
            let mut groups: Vec<u32> = query.seeds.iter().map(|&seed| of[seed as usize]).collect();
            groups.sort_unstable();
            groups.dedup();
            groups.len() as f32 / count
        };
        let log_popularity = |seed: &u32| index.derived.log_popularity[*seed as usize];
        let popularity = query.seeds.iter().map(log_popularity).sum::<f32>() / count;
        let squares: f32 = query.seeds.iter().map(|seed| (log_popularity(seed) - popularity).powi(2)).sum();
        Self {
            seeds: count,
            has_title: f32::from(u8::from(!query.title.is_empty())),
            popularity,
            popularity_deviation: (squares / count).sqrt(),
            artist_popularity: query
                .seeds
                .iter()
                .map(|&seed| (index.artist_counts[index.artist_of[seed as usize] as usize] as f32).ln_1p())
                .sum::<f32>()
                / count,
            artist_diversity: distinct(&index.artist_of),
            album_diversity: distinct(&index.album_of),
        }
    }
}

/// Scores of one retriever for all candidates.
struct Column {
    values: Vec<f32>,
    /// what the values are divided by to compare across playlists: the mean of the hundred highest
    scale: f32,
}

impl Column {
    fn new(values: Vec<f32>) -> Self {
        const TOP: usize = 100;
        let mut top = values.clone();
        if top.len() > TOP {
            top.select_nth_unstable_by(TOP, |left, right| right.total_cmp(left));
            top.truncate(TOP);
        }
        let scale = top.iter().sum::<f32>() / top.len().max(1) as f32;
        Self { values, scale: if scale > 1e-9 { scale } else { 1.0 } }
    }

    fn share(&self, candidate: usize) -> f32 {
        self.values[candidate] / self.scale
    }

    /// ln(1 + rank) of each value, from 0 for the highest; equal ones share the rank of the first.
    fn log_ranks(&self) -> Vec<f32> {
        let mut ranks = vec![0.0; self.values.len()];
        let (mut shared, mut last) = (0.0, f32::NAN);
        for (rank, candidate) in by_falling(&self.values).into_iter().enumerate() {
            let value = self.values[candidate as usize];
            if value != last {
                shared = (rank as f32).ln_1p();
                last = value;
            }
            ranks[candidate as usize] = shared;
        }
        ranks
    }
}

/// Retrieves at most `limit` candidates that are neither seeds nor among `excluded` (rising), with their features.
pub fn candidates(
    index: &CompletionIndex,
    query: &Query,
    excluded: &[u32],
    limit: usize,
    workspace: &mut Workspace,
) -> Candidates {
    workspace.reserve(index);
    let (mut found, about) = neighbours(index, query, workspace);
    add_by_artists(index, query, &mut found, workspace);
    walk(index, query, excluded, &found, workspace);
    add_seed_artists(index, query, workspace);
    let candidates = gather(index, query, limit, (&found, &about), workspace);
    workspace.clear();
    candidates
}

fn gather(
    index: &CompletionIndex,
    query: &Query,
    limit: usize,
    (neighbours, about): (&[Neighbour], &Neighbourhood),
    workspace: &mut Workspace,
) -> Candidates {
    let Derived { discount, log_popularity, inverse_norm, .. } = &index.derived;
    let factor = fold_in(index, &query.seeds);
    let title_factor = (!query.title.is_empty()).then(|| title_factor(index, workspace)).flatten();
    let towards = VectorDirections::new(index, &query.seeds);
    let by_factors: Vec<&[f32]> = [&factor, &title_factor].into_iter().flatten().map(Vec::as_slice).collect();
    let by_vectors: &[&[f32]] = if query.seeds.is_empty() { &[] } else { &[&towards.mean] };
    let latent =
        [(&index.derived.popular_factors, by_factors.as_slice()), (&index.derived.popular_vectors, by_vectors)];
    add_unvisited(index, query, limit, &latent, workspace);

    // The walk comes by tens of thousands of tracks. The sums at hand choose a few times as many as are wanted, and
    // only those are looked at closer.
    let Visited { rows: visited, sums, order, .. } = &workspace.tracks;
    let seen = |place: usize| {
        let (sums, order, discount) = (&sums[place], &order[place], discount[visited[place] as usize]);
        [sums.knn, sums.item * discount, sums.artist_knn, sums.title, order.near * discount, order.next]
    };
    let mut highest = [1e-9f32; 6];
    for place in 0..visited.len() {
        for (highest, value) in highest.iter_mut().zip(seen(place)) {
            *highest = highest.max(value);
        }
    }
    let weights = [1.0, 1.0, 1.0, 0.5, 0.5, 0.3];
    let weights: [f32; 6] = std::array::from_fn(|place| weights[place] / highest[place]);
    let weighted = |place: usize| seen(place).iter().zip(&weights).map(|(value, weight)| value * weight).sum();
    // Places in `visited`, with scores.
    let closer = closer_look_for(limit);
    let mut best = Best::new(2 * closer, f32::NEG_INFINITY);
    (0..visited.len()).for_each(|place| best.push(place as u32, weighted(place)));
    let mut by_sums = best.finish();
    for (place, sum) in &mut by_sums {
        let row = visited[*place as usize];
        let artist = index.artist_of[row as usize];
        *sum += workspace.artists.get(artist).seeds
            + workspace.name_matches.get(artist).iter().sum::<f32>()
            + 0.3 * workspace.track_matches.get(row)
            + 0.02 * log_popularity[row as usize];
    }
    keep_best(&mut by_sums, closer);
    let nothing = vec![0.0; index.dimensions()];
    let factor = factor.as_deref().unwrap_or(&nothing);
    let title_factor = title_factor.as_deref().unwrap_or(&nothing);
    if by_sums.len() > limit {
        let rows: Vec<u32> = by_sums.iter().map(|scored| visited[scored.0 as usize]).collect();
        let values = products(&index.factors, &rows, &[factor, title_factor]);
        let top = |place: usize| values.iter().skip(place).step_by(2).copied().fold(1e-9f32, f32::max);
        let (by_seeds, by_title) = (top(0), top(1));
        for ((_, sum), values) in by_sums.iter_mut().zip(values.chunks_exact(2)) {
            *sum += 2.0 * values[0] / by_seeds + 0.5 * values[1] / by_title;
        }
        keep_best(&mut by_sums, limit);
    }
    let mut chosen: Vec<(u32, usize)> =
        by_sums.into_iter().map(|(place, _)| (visited[place as usize], place as usize)).collect();
    chosen.sort_unstable();
    let (rows, places): (Vec<u32>, Vec<usize>) = chosen.into_iter().unzip();

    let mean = mean_direction(index, &query.seeds);
    let last_mean = mean_direction(index, &query.seeds[query.seeds.len().saturating_sub(1)..]);
    let mut directions: Vec<&[f32]> = vec![factor, title_factor, &mean, &last_mean];
    // The nearest of a few seeds from all over the playlist: all of a hundred would cost more than all else.
    let step = query.seeds.len().div_ceil(NEAREST_OF).max(1);
    let few_seeds: Vec<u32> = query.seeds.iter().rev().step_by(step).copied().collect();
    directions.extend(few_seeds.iter().map(|&seed| index.factor(seed)));
    let alike = products(&index.factors, &rows, &directions);
    let alike = |place: usize| &alike[place * directions.len()..(place + 1) * directions.len()];
    let by_vectors = products(&index.vectors, &rows, &towards.list(index, &few_seeds));
    let by_vectors = |place: usize| {
        let width = 3 + few_seeds.len();
        &by_vectors[place * width..(place + 1) * width]
    };

    let of_sums =
        |value: fn(&TrackSums) -> f32| -> Vec<f32> { places.iter().map(|&place| value(&sums[place])).collect() };
    let of_order =
        |value: fn(&OrderSums) -> f32| -> Vec<f32> { places.iter().map(|&place| value(&order[place])).collect() };
    let discounted = |values: Vec<f32>| -> Vec<f32> {
        values.iter().zip(&rows).map(|(value, &row)| value * discount[row as usize]).collect()
    };
    let knn = Column::new(of_sums(|sums| sums.knn));
    let item = Column::new(discounted(of_sums(|sums| sums.item)));
    let title = Column::new(of_sums(|sums| sums.title));
    let artist_knn = Column::new(of_sums(|sums| sums.artist_knn));
    let factored = Column::new((0..rows.len()).map(|place| alike(place)[0]).collect());
    let vectored = Column::new((0..rows.len()).map(|place| by_vectors(place)[0]).collect());
    let title_factored = Column::new((0..rows.len()).map(|place| alike(place)[1]).collect());
    let last = Column::new(discounted(of_sums(|sums| sums.last)));
    let near = Column::new(discounted(of_order(|order| order.near)));
    let behind = Column::new(of_order(|order| order.behind));
    let before = Column::new(of_order(|order| order.before));
    let next = Column::new(of_order(|order| order.next));
    let joint = Column::new(of_sums(|sums| sums.joint));
    let [knn_ranks, item_ranks, factor_ranks, vector_ranks, artist_knn_ranks, title_ranks, title_factor_ranks] =
        [&knn, &item, &factored, &vectored, &artist_knn, &title, &title_factored].map(Column::log_ranks);
    let of_artist = artist_sums(index, neighbours, &rows, &mut workspace.artist_numbers);
    let context = Context::new(index, query);
    let by_seeds = |value: f32| if query.seeds.is_empty() { f32::NAN } else { value };
    let by_title = |value: f32| if query.title.is_empty() { f32::NAN } else { value };
    let (overlapping, same_titles) = ((about.overlapping as f32).ln_1p(), by_title((about.same_title as f32).ln_1p()));
    let mut features = Vec::with_capacity(rows.len() * WIDTH);
    for (place, &row) in rows.iter().enumerate() {
        let (sums, order) = (&sums[places[place]], &order[places[place]]);
        let artist_row = index.artist_of[row as usize] as usize;
        let (artist, from_seeds) = (&of_artist[place], workspace.artists.get(artist_row as u32));
        let artist_count = index.artist_counts[artist_row] as f32;
        let album = index.album_of[row as usize];
        let popularity = index.popularity(row) as f32;
        let [_, _, along_mean, along_last, along_seeds @ ..] = alike(place) else { continue };
        let [along_vectors, along_last_vector, along_late, near_vectors @ ..] = by_vectors(place) else { continue };
        let nearest_vector = near_vectors.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let norm = inverse_norm[row as usize];
        let nearest_seed = few_seeds
            .iter()
            .zip(along_seeds)
            .map(|(&seed, along)| along * inverse_norm[seed as usize])
            .fold(f32::NEG_INFINITY, f32::max);
        let values: [f32; WIDTH] = [
            by_seeds(sums.knn),
            by_seeds(knn.share(place)),
            by_seeds(knn_ranks[place]),
            by_seeds(item.values[place]),
            by_seeds(item.share(place)),
            by_seeds(item_ranks[place]),
            by_seeds(sums.together),
            by_seeds(sums.together / (popularity + 5.0)),
            by_seeds(last.share(place)),
            by_seeds(order.near),
            by_seeds(near.values[place]),
            by_seeds(near.share(place)),
            by_seeds(behind.values[place]),
            by_seeds(behind.share(place)),
            by_seeds(before.values[place]),
            by_seeds(before.share(place)),
            by_seeds(next.values[place]),
            by_seeds(next.share(place)),
            by_seeds(factored.values[place]),
            by_seeds(factored.share(place)),
            by_seeds(factor_ranks[place]),
            by_seeds(along_mean * norm),
            by_seeds(along_last * norm),
            by_seeds(nearest_seed * norm),
            by_seeds(*along_vectors),
            by_seeds(vector_ranks[place]),
            by_seeds(*along_last_vector),
            by_seeds(*along_late),
            by_seeds(nearest_vector),
            by_seeds(joint.share(place)),
            by_seeds(sums.artist_knn),
            by_seeds(artist_knn.share(place)),
            by_seeds(artist_knn_ranks[place]),
            by_title(sums.title),
            by_title(title.share(place)),
            by_title(title_ranks[place]),
            by_title(sums.title / (popularity + 5.0)),
            by_title(sums.same_title / about.same_title.max(1) as f32),
            by_title(title_factored.share(place)),
            by_title(title_factor_ranks[place]),
            by_seeds(artist.knn),
            by_seeds(artist.artist_knn),
            by_title(artist.title),
            by_title(artist.title / (artist_count + 5.0)),
            by_seeds(from_seeds.seeds),
            by_seeds(from_seeds.near),
            by_seeds(from_seeds.seeds * context.seeds),
            by_seeds(from_seeds.last_seeds),
            by_title(workspace.name_matches.get(artist_row as u32)[0]),
            by_title(workspace.name_matches.get(artist_row as u32)[1]),
            by_title(workspace.track_matches.get(row)),
            by_seeds(if album == NONE { 0.0 } else { workspace.albums.get(album) }),
            log_popularity[row as usize],
            artist_count.ln_1p(),
            popularity / index.derived.artist_top[artist_row] as f32,
            if album == NONE { f32::NAN } else { (index.album_counts[album as usize] as f32).ln_1p() },
            index.derived.mean_place[row as usize],
            index.derived.mean_length[row as usize],
            log_popularity[row as usize] - context.popularity,
            context.seeds,
            context.has_title,
            context.popularity,
            context.popularity_deviation,
            context.artist_popularity,
            context.artist_diversity,
            context.album_diversity,
            about.best_similarity,
            about.most_seeds / context.seeds.max(1.0),
            overlapping,
            by_title(about.best_title),
            same_titles,
        ];
        features.extend(values);
    }
    Candidates { rows, features }
}

/// The factor of the tracks that playlists of similar titles hold most: stands in for seeds.
fn title_factor(index: &CompletionIndex, workspace: &Workspace) -> Option<Vec<f32>> {
    let Visited { rows, sums, .. } = &workspace.tracks;
    let mut best = Best::new(TITLE_SEEDS, f32::MIN_POSITIVE);
    for (&row, sums) in rows.iter().zip(sums).filter(|(_, sums)| sums.title > 0.0) {
        best.push(row, sums.title * index.derived.discount[row as usize].sqrt());
    }
    let mut rows: Vec<u32> = best.finish().into_iter().map(|scored| scored.0).collect();
    rows.sort_unstable();
    fold_in(index, &rows)
}

/// Makes candidates of tracks that the walk may not have come by. `latent` are tables of the most popular tracks, each
/// with the directions in which the playlist lies.
fn add_unvisited(
    index: &CompletionIndex,
    query: &Query,
    limit: usize,
    latent: &[(&ByteTable, &[&[f32]])],
    workspace: &mut Workspace,
) {
    if !query.title.is_empty() {
        for (artist, similarity) in index.artist_names.search(&query.title, NAMED_ARTISTS) {
            if similarity > 0.3 {
                workspace.name_matches.touch(artist)[0] = similarity;
            }
        }
        for (artist, similarity) in index.artist_words.search(&query.title, NAMED_ARTISTS) {
            if similarity > 0.3 {
                workspace.name_matches.touch(artist)[1] = similarity;
            }
        }
        for (track, similarity) in index.track_words.search(&query.title, NAMED_TRACKS) {
            if index.popularity(track) > 0 {
                *workspace.track_matches.touch(track) = similarity;
            }
        }
    }
    let mut extra: Vec<u32> = index.popular.iter().copied().take(POPULAR).collect();
    extra.extend(workspace.track_matches.touched());
    for artist in workspace.name_matches.touched() {
        extra.extend(index.artist_tracks.row(artist as usize).iter().take(OF_NAMED_ARTIST));
    }
    for artist in workspace.artists.touched() {
        if workspace.artists.get(artist).seeds > 0.0 {
            extra.extend(index.artist_tracks.row(artist as usize).iter().take(OF_ARTIST));
        }
    }
    for album in workspace.albums.touched() {
        extra.extend(index.album_tracks.row(album as usize).iter().take(OF_ARTIST));
    }
    for (table, directions) in latent {
        let found = table.best(directions, &[], limit / 2);
        extra.extend(found.into_iter().flatten().map(|(place, _)| index.popular[place as usize]));
    }
    extra.sort_unstable();
    extra.dedup();
    extra.retain(|&row| !workspace.positions.holds(row));
    workspace.tracks.add(&extra);
}

/// Directions in the space of the vectors that candidates are compared with.
struct VectorDirections {
    /// mean of the seeds' vectors, of length 1
    mean: Vec<f32>,
    /// mean of the seeds' vectors, the last ones weighing most, of length 1
    late: Vec<f32>,
    last: Option<u32>,
}

impl VectorDirections {
    fn new(index: &CompletionIndex, seeds: &[u32]) -> Self {
        /// A seed this many places further from the end weighs half.
        const HALF_LIFE: f32 = 3.0;
        let mean = |half_life: f32| {
            let mut mean = vec![0.0; index.derived.vector_length];
            for (distance, &seed) in seeds.iter().rev().enumerate() {
                axpy(0.5f32.powf(distance as f32 / half_life), index.vector(seed), &mut mean);
            }
            let norm = dot(&mean, &mean).sqrt();
            if norm > 1e-6 {
                mean.iter_mut().for_each(|value| *value /= norm);
            }
            mean
        };
        Self { mean: mean(f32::INFINITY), late: mean(HALF_LIFE), last: seeds.last().copied() }
    }

    /// The mean, the last seed (or the mean without seeds), the late mean, then some of the seeds.
    fn list<'a>(&'a self, index: &'a CompletionIndex, few_seeds: &[u32]) -> Vec<&'a [f32]> {
        let last = self.last.map_or(self.mean.as_slice(), |last| index.vector(last));
        let mut directions = vec![self.mean.as_slice(), last, self.late.as_slice()];
        directions.extend(few_seeds.iter().map(|&seed| index.vector(seed)));
        directions
    }
}

/// The mean of the tracks' factors, each of length 1; zeros of no tracks.
fn mean_direction(index: &CompletionIndex, rows: &[u32]) -> Vec<f32> {
    let mut mean = vec![0.0; index.dimensions()];
    for &row in rows {
        axpy(index.derived.inverse_norm[row as usize] / rows.len() as f32, index.factor(row), &mut mean);
    }
    mean
}
