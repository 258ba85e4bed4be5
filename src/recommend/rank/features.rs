//! The ranking's features: one table of names, groups and values.

use super::directions::{Directions, mean_factor};
use crate::bundle::{CompletionIndex, DerivedTables, RANKING_FEATURES};
use crate::dataset::NONE;
use crate::math::linear::products;
use crate::math::top_k::by_falling;
use crate::recommend::retrieve::walk::artist_sums;
use crate::recommend::retrieve::{
    ArtistSums, Neighbour, Neighbourhood, OrderSums, Query, SeedArtist, TrackSums, Workspace,
};

/// Seeds that the nearest one is looked for among.
const NEAREST_OF: usize = 8;

/// Makes [`FEATURES`] and the function that computes them from one table: `name: group = value`, in the order in which
/// stored trees count them. The group says what a playlist needs for the value to be a number: `seeds`, a `title`, or
/// nothing (`always`).
macro_rules! features {
    ($candidate:pat => $($name:ident: $group:ident = $value:expr;)*) => {
        /// Number of features.
        pub const WIDTH: usize = [$(stringify!($name)),*].len();

        /// Name of each column of [`super::Candidates::features`].
        pub const FEATURES: [&str; WIDTH] = [$(stringify!($name)),*];

        impl Candidate<'_> {
            #[inline]
            fn features(self, known: &Known) -> [f32; WIDTH] {
                let $candidate = self;
                [$(if known.$group { $value } else { f32::NAN }),*]
            }
        }
    };
}

features! {
    Candidate {
        index, place, row, playlist, about, sums, order, artist, from_seeds, name_match, track_match, album_seeds,
        popularity, artist_count, artist_top, log_album_popularity, factor_cosines, vector_cosines,
        columns: Columns {
            knn, item, title, artist_knn, factored, vectored, title_factored, last, near, behind, before, next, joint,
        },
    } =>
    knn: seeds = sums.knn;
    knn_share: seeds = knn.share(place);
    knn_rank: seeds = knn.rank(place);
    item: seeds = item.value(place);
    item_share: seeds = item.share(place);
    item_rank: seeds = item.rank(place);
    together: seeds = sums.together;
    together_rate: seeds = sums.together / (popularity + 5.0);
    last_share: seeds = last.share(place);
    near: seeds = order.near;
    near_rate: seeds = near.value(place);
    near_rate_share: seeds = near.share(place);
    behind: seeds = behind.value(place);
    behind_share: seeds = behind.share(place);
    before: seeds = before.value(place);
    before_share: seeds = before.share(place);
    next: seeds = next.value(place);
    next_share: seeds = next.share(place);
    factor: seeds = factored.value(place);
    factor_share: seeds = factored.share(place);
    factor_rank: seeds = factored.rank(place);
    factor_cosine: seeds = factor_cosines[0];
    last_factor_cosine: seeds = factor_cosines[1];
    best_factor_cosine: seeds = factor_cosines[2];
    vector_cosine: seeds = vector_cosines[0];
    vector_rank: seeds = vectored.rank(place);
    vector_last_cosine: seeds = vector_cosines[1];
    vector_late_cosine: seeds = vector_cosines[2];
    vector_best_cosine: seeds = vector_cosines[3];
    joint_share: seeds = joint.share(place);
    artist_knn: seeds = sums.artist_knn;
    artist_knn_share: seeds = artist_knn.share(place);
    artist_knn_rank: seeds = artist_knn.rank(place);
    title: title = sums.title;
    title_share: title = title.share(place);
    title_rank: title = title.rank(place);
    title_rate: title = sums.title / (popularity + 5.0);
    same_title_rate: title = sums.same_title / about.same_title.max(1) as f32;
    title_factor_share: title = title_factored.share(place);
    title_factor_rank: title = title_factored.rank(place);
    artist_of_knn: seeds = artist.knn;
    artist_of_artist_knn: seeds = artist.artist_knn;
    artist_of_title: title = artist.title;
    artist_title_rate: title = artist.title / (artist_count + 5.0);
    artist_seeds: seeds = from_seeds.seeds;
    artist_near: seeds = from_seeds.near;
    artist_seed_count: seeds = from_seeds.seeds * playlist.seeds;
    artist_last_seeds: seeds = from_seeds.last_seeds;
    artist_named: title = name_match[0];
    artist_words_named: title = name_match[1];
    track_words_named: title = track_match;
    album_seeds: seeds = album_seeds;
    log_popularity: always = index.derived.log_popularity[row];
    log_artist_popularity: always = artist_count.ln_1p();
    popularity_in_artist: always = popularity / artist_top;
    log_album_popularity: always = log_album_popularity;
    mean_place: always = index.derived.mean_place[row];
    mean_length: always = index.derived.mean_length[row];
    popularity_difference: always = index.derived.log_popularity[row] - playlist.popularity;
    seeds: always = playlist.seeds;
    has_title: always = playlist.has_title;
    seed_popularity: always = playlist.popularity;
    seed_popularity_deviation: always = playlist.popularity_deviation;
    seed_artist_popularity: always = playlist.artist_popularity;
    artist_diversity: always = playlist.artist_diversity;
    album_diversity: always = playlist.album_diversity;
    best_similarity: always = about.best_similarity;
    most_seeds_share: always = about.most_seeds / playlist.seeds.max(1.0);
    overlapping: always = playlist.overlapping;
    best_title: title = about.best_title;
    same_title_playlists: title = playlist.same_titles;
}

/// Bundles of another width are not loaded.
const _: () = assert!(WIDTH == RANKING_FEATURES);

/// Column of a feature.
pub fn column_of(feature: &str) -> Option<usize> {
    FEATURES.iter().position(|&name| name == feature)
}

/// Which parts of a playlist there are. Features of a part that is missing are not a number.
struct Known {
    seeds: bool,
    title: bool,
    always: bool,
}

/// What the playlist as a whole is like: the same for all its candidates.
struct PlaylistFeatures {
    seeds: f32,
    has_title: f32,
    popularity: f32,
    popularity_deviation: f32,
    artist_popularity: f32,
    artist_diversity: f32,
    album_diversity: f32,
    overlapping: f32,
    same_titles: f32,
}

impl PlaylistFeatures {
    fn new(index: &CompletionIndex, query: &Query, about: &Neighbourhood) -> Self {
        let count = query.seeds.len() as f32;
        let distinct = |of: &[u32]| {
            let mut groups: Vec<u32> = query.seeds.iter().map(|&seed| of[seed as usize]).collect();
            groups.sort_unstable();
            groups.dedup();
            groups.len() as f32
        };
        // A track without an artist is by one of its own.
        let own = query.seeds.iter().filter(|&&seed| index.artist(seed).is_none()).count().saturating_sub(1) as f32;
        let artist_popularity = |&seed: &u32| {
            let playlists = index.artist(seed).map(|artist| index.artist_counts[artist as usize] as f32);
            playlists.map_or(index.derived.log_popularity[seed as usize], f32::ln_1p)
        };
        let log_popularity = |seed: &u32| index.derived.log_popularity[*seed as usize];
        let popularity = query.seeds.iter().map(log_popularity).sum::<f32>() / count;
        let squares: f32 = query.seeds.iter().map(|seed| (log_popularity(seed) - popularity).powi(2)).sum();
        Self {
            seeds: count,
            has_title: f32::from(u8::from(!query.title.is_empty())),
            popularity,
            popularity_deviation: (squares / count).sqrt(),
            artist_popularity: query.seeds.iter().map(artist_popularity).sum::<f32>() / count,
            artist_diversity: (distinct(&index.artist_of) + own) / count,
            album_diversity: distinct(&index.album_of) / count,
            overlapping: (about.overlapping as f32).ln_1p(),
            same_titles: (about.same_title as f32).ln_1p(),
        }
    }
}

/// Scores of one retriever for all candidates.
struct Column {
    values: Vec<f32>,
    /// what the values are divided by to compare across playlists: the mean of the hundred highest
    scale: f32,
    /// ln(1 + rank) of each value, from 0 for the highest; equal ones share the rank of the first; empty unless needed
    log_ranks: Vec<f32>,
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
        Self { values, scale: if scale > 1e-9 { scale } else { 1.0 }, log_ranks: Vec::new() }
    }

    /// The same with ranks.
    fn ranked(values: Vec<f32>) -> Self {
        let mut log_ranks = vec![0.0; values.len()];
        let (mut shared, mut last) = (0.0, f32::NAN);
        for (rank, candidate) in by_falling(&values).into_iter().enumerate() {
            let value = values[candidate as usize];
            if value != last {
                shared = (rank as f32).ln_1p();
                last = value;
            }
            log_ranks[candidate as usize] = shared;
        }
        Self { log_ranks, ..Self::new(values) }
    }

    #[inline]
    fn value(&self, candidate: usize) -> f32 {
        self.values[candidate]
    }

    #[inline]
    fn share(&self, candidate: usize) -> f32 {
        self.values[candidate] / self.scale
    }

    #[inline]
    fn rank(&self, candidate: usize) -> f32 {
        self.log_ranks[candidate]
    }
}

/// All retrievers' scores.
struct Columns {
    knn: Column,
    item: Column,
    title: Column,
    artist_knn: Column,
    factored: Column,
    vectored: Column,
    title_factored: Column,
    last: Column,
    near: Column,
    behind: Column,
    before: Column,
    next: Column,
    joint: Column,
}

/// What the features of a candidate are computed from.
struct Candidate<'a> {
    index: &'a CompletionIndex,
    /// its index among the candidates
    place: usize,
    row: usize,
    columns: &'a Columns,
    playlist: &'a PlaylistFeatures,
    about: &'a Neighbourhood,
    sums: &'a TrackSums,
    order: &'a OrderSums,
    artist: &'a ArtistSums,
    from_seeds: SeedArtist,
    /// how much the title has in common with the artist's name: n-grams, words
    name_match: [f32; 2],
    /// how many words the title has in common with the track's
    track_match: f32,
    album_seeds: f32,
    popularity: f32,
    artist_count: f32,
    /// popularity of the artist's most popular track
    artist_top: f32,
    log_album_popularity: f32,
    /// with the mean of the seeds' factors, the last one's, the nearest one's
    factor_cosines: [f32; 3],
    /// with the mean of the seeds' vectors, the last one's, the mean of the last ones', the nearest one's
    vector_cosines: [f32; 4],
}

/// Computes the features, `[rows, WIDTH]`, of candidates: rows of tracks, and the indices of these among those visited.
pub(super) fn features_of(
    index: &CompletionIndex,
    query: &Query,
    (rows, visited): (&[u32], &[usize]),
    (neighbours, about): (&[Neighbour], &Neighbourhood),
    directions: &Directions,
    workspace: &mut Workspace,
) -> Vec<f32> {
    let DerivedTables { discount, inverse_norm, .. } = &index.derived;
    // The nearest of a few seeds from all over the playlist: all of a hundred would cost more than all else.
    let step = query.seeds.len().div_ceil(NEAREST_OF).max(1);
    let few_seeds: Vec<u32> = query.seeds.iter().rev().step_by(step).copied().collect();
    let mean = mean_factor(index, &query.seeds);
    let last_mean = mean_factor(index, &query.seeds[query.seeds.len().saturating_sub(1)..]);
    let mut factors: Vec<&[f32]> = vec![&directions.factor, &directions.title_factor, &mean, &last_mean];
    factors.extend(few_seeds.iter().map(|&seed| index.factor(seed)));
    let by_factors = products(&index.factors, rows, &factors);
    let by_factors = |place: usize| &by_factors[place * factors.len()..(place + 1) * factors.len()];
    let vectors = directions.vectors(index, &few_seeds);
    let by_vectors = products(&index.vectors, rows, &vectors);
    let by_vectors = |place: usize| &by_vectors[place * vectors.len()..(place + 1) * vectors.len()];

    let of_artist = artist_sums(index, neighbours, rows, &mut workspace.artist_numbers);
    let (sums, order) = (&workspace.tracks.sums, &workspace.tracks.order);
    let of_sums =
        |value: fn(&TrackSums) -> f32| -> Vec<f32> { visited.iter().map(|&place| value(&sums[place])).collect() };
    let of_order =
        |value: fn(&OrderSums) -> f32| -> Vec<f32> { visited.iter().map(|&place| value(&order[place])).collect() };
    let discounted = |values: Vec<f32>| -> Vec<f32> {
        values.iter().zip(rows).map(|(value, &row)| value * discount[row as usize]).collect()
    };
    let columns = Columns {
        knn: Column::ranked(of_sums(|sums| sums.knn)),
        item: Column::ranked(discounted(of_sums(|sums| sums.item))),
        title: Column::ranked(of_sums(|sums| sums.title)),
        artist_knn: Column::ranked(of_sums(|sums| sums.artist_knn)),
        factored: Column::ranked((0..rows.len()).map(|place| by_factors(place)[0]).collect()),
        vectored: Column::ranked((0..rows.len()).map(|place| by_vectors(place)[0]).collect()),
        title_factored: Column::ranked((0..rows.len()).map(|place| by_factors(place)[1]).collect()),
        last: Column::new(discounted(of_sums(|sums| sums.last))),
        near: Column::new(discounted(of_order(|order| order.near))),
        behind: Column::new(of_order(|order| order.behind)),
        before: Column::new(of_order(|order| order.before)),
        next: Column::new(of_order(|order| order.next)),
        joint: Column::new(of_sums(|sums| sums.joint)),
    };
    let playlist = PlaylistFeatures::new(index, query, about);
    let known = Known { seeds: !query.seeds.is_empty(), title: !query.title.is_empty(), always: true };
    let mut features = Vec::with_capacity(rows.len() * WIDTH);
    for (place, &row) in rows.iter().enumerate() {
        let artist = index.artist(row);
        let popularity = index.popularity(row) as f32;
        let album = Some(index.album_of[row as usize]).filter(|&album| album != NONE);
        let [_, _, along_mean, along_last, along_seeds @ ..] = by_factors(place) else { continue };
        let [along_vectors, along_last_vector, along_late, near_vectors @ ..] = by_vectors(place) else { continue };
        let nearest = few_seeds.iter().zip(along_seeds).map(|(&seed, along)| along * inverse_norm[seed as usize]);
        let nearest = nearest.fold(f32::NEG_INFINITY, f32::max);
        let nearest_vector = near_vectors.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let candidate = Candidate {
            index,
            place,
            row: row as usize,
            columns: &columns,
            playlist: &playlist,
            about,
            sums: &sums[visited[place]],
            order: &order[visited[place]],
            artist: &of_artist[place],
            from_seeds: artist.map_or(SeedArtist::default(), |artist| workspace.artists.get(artist)),
            name_match: artist.map_or([0.0; 2], |artist| workspace.name_matches.get(artist)),
            track_match: workspace.track_matches.get(row),
            album_seeds: album.map_or(0.0, |album| workspace.albums.get(album)),
            popularity,
            artist_count: artist.map_or(popularity, |artist| index.artist_counts[artist as usize] as f32),
            artist_top: artist.map_or(popularity.max(1.0), |artist| index.derived.artist_top[artist as usize] as f32),
            log_album_popularity: album.map_or(f32::NAN, |album| (index.album_counts[album as usize] as f32).ln_1p()),
            factor_cosines: [along_mean, along_last, &nearest].map(|along| along * inverse_norm[row as usize]),
            vector_cosines: [*along_vectors, *along_last_vector, *along_late, nearest_vector],
        };
        features.extend(candidate.features(&known));
    }
    features
}
