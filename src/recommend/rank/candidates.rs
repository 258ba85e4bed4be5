//! Candidates: the best tracks by a simple sum of the retrievers' scores.

use super::directions::Directions;
use super::features::features_of;
use super::limits::closer_look_for;
use crate::bundle::{CompletionIndex, DerivedTables};
use crate::math::linear::products;
use crate::math::top_k::{Best, keep_best};
use crate::recommend::retrieve::playlists::{add_by_artists, neighbours};
use crate::recommend::retrieve::walk::{add_seed_artists, walk};
use crate::recommend::retrieve::{Query, Visited, Workspace};

/// The most popular tracks that always are candidates.
const ALWAYS_CANDIDATES: usize = 300;
/// Tracks of each of the seeds' artists, most popular first, that are candidates.
const OF_ARTIST: usize = 20;
/// Tracks of the artists whose name the title says.
const OF_NAMED_ARTIST: usize = 50;
/// Tracks whose own title has most words in common with the playlist's.
const NAMED_TRACKS: usize = 300;
/// Artists whose name may match the title.
const NAMED_ARTISTS: usize = 20;

/// Tracks that may be recommended: the best by a simple sum of the retrievers' scores.
#[derive(Debug, Default)]
pub struct Candidates {
    /// rows of the tracks, rising
    pub rows: Vec<u32>,
    /// `[rows, WIDTH]`, see [`super::FEATURES`]
    pub features: Vec<f32>,
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
    let directions = Directions::new(index, query, workspace);
    add_unvisited(index, query, limit, &directions, workspace);
    let (rows, visited): (Vec<u32>, Vec<usize>) = choose(index, limit, &directions, workspace).into_iter().unzip();
    let features = features_of(index, query, (&rows, &visited), (&found, &about), &directions, workspace);
    workspace.clear();
    Candidates { rows, features }
}

/// Chooses at most `limit` of the visited tracks, as rows (rising) with their indices among these.
///
/// The walk visits tens of thousands of tracks. The available sums choose a few times as many as are needed, and only
/// those are inspected further.
fn choose(index: &CompletionIndex, limit: usize, directions: &Directions, workspace: &Workspace) -> Vec<(u32, usize)> {
    let DerivedTables { discount, log_popularity, .. } = &index.derived;
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
        let of_artist = index.artist(row).map_or(0.0, |artist| {
            workspace.artists.get(artist).seeds + workspace.name_matches.get(artist).iter().sum::<f32>()
        });
        *sum += of_artist + 0.3 * workspace.track_matches.get(row) + 0.02 * log_popularity[row as usize];
    }
    keep_best(&mut by_sums, closer);
    if by_sums.len() > limit {
        let rows: Vec<u32> = by_sums.iter().map(|scored| visited[scored.0 as usize]).collect();
        let values = products(&index.factors, &rows, &[&directions.factor, &directions.title_factor]);
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
    chosen
}

/// Adds tracks that the walk may not have visited.
fn add_unvisited(
    index: &CompletionIndex,
    query: &Query,
    limit: usize,
    directions: &Directions,
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
    let mut extra: Vec<u32> = index.popular.iter().copied().take(ALWAYS_CANDIDATES).collect();
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
    let factors = [&directions.factor, &directions.title_factor]
        .into_iter()
        .filter(|factor| factor.iter().any(|&value| value != 0.0));
    let factors: Vec<&[f32]> = factors.map(Vec::as_slice).collect();
    let vectors: &[&[f32]] = if query.seeds.is_empty() { &[] } else { &[&directions.vector] };
    for (table, directions) in [(&index.derived.popular_factors, &*factors), (&index.derived.popular_vectors, vectors)]
    {
        let found = table.best(directions, &[], limit / 2);
        extra.extend(found.into_iter().flatten().map(|(place, _)| index.popular[place as usize]));
    }
    extra.sort_unstable();
    extra.dedup();
    extra.retain(|&row| !workspace.positions.holds(row));
    workspace.tracks.add(&extra);
}
