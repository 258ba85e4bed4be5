//! One walk over the tracks of neighboring playlists adds up the scores of several retrievers for each track.
//!
//! The walk visits tens of thousands of tracks all over the catalog. Adding to each at once would spend most of the time
//! waiting for memory, so the walk first records its visits, sorted into ranges of tracks, and then adds up range by
//! range: the sums of a range fit into the first- or second-level cache.

use super::query::Query;
use super::sparse::Sparse;
use super::sums::{ArtistSums, LAST_SEEDS, Neighbour, TrackSums};
use super::visited::{NEARNESS_BITS, NEIGHBOUR_BITS, Nearness, WINDOW};
use super::workspace::Workspace;
use crate::bundle::CompletionIndex;
use crate::dataset::NONE;

/// Tracks of a range, at least; a power of two.
const RANGE: usize = 4_096;
/// Ranges, if a visit has room for the tracks of one: each is written to in turn.
const RANGES: usize = 256;
/// Adds up over `neighbours` for all tracks but the seeds and those of `excluded`.
pub fn walk(
    index: &CompletionIndex,
    query: &Query,
    excluded: &[u32],
    neighbours: &[Neighbour],
    workspace: &mut Workspace,
) {
    /// in place of a seed's position
    const EXCLUDED: u32 = u32::MAX;
    let Workspace { tracks, positions, .. } = workspace;
    for &row in excluded.iter().filter(|&&row| (row as usize) < index.tracks()) {
        *positions.touch(row) = EXCLUDED;
    }
    for (position, &seed) in query.seeds.iter().enumerate() {
        *positions.touch(seed) = position as u32;
    }
    let range_bits = index.tracks().div_ceil(RANGES).next_power_of_two().max(RANGE).ilog2().min(32 - NEIGHBOUR_BITS);
    let range = 1usize << range_bits;
    let place_in_range = |row: u32| row & (range as u32 - 1);
    tracks.visits.resize(index.tracks().div_ceil(range), Vec::new());
    tracks.nearby.resize(index.tracks().div_ceil(range), Vec::new());
    let mut places: Vec<(usize, usize)> = Vec::new();
    for (neighbour, number) in neighbours.iter().zip(0..) {
        let rows = index.playlists.row(neighbour.playlist as usize);
        places.clear();
        for (place, &row) in rows.iter().enumerate() {
            if !positions.holds(row) {
                let visit = place_in_range(row) << NEIGHBOUR_BITS | number;
                tracks.visits[(row >> range_bits) as usize].push(visit);
            } else if positions.get(row) != EXCLUDED {
                places.push((place, positions.get(row) as usize));
            }
        }
        for &(place, position) in &places {
            let mut note = |row: u32, nearness: usize| {
                if !positions.holds(row) {
                    let near = place_in_range(row) << NEARNESS_BITS | nearness as u32;
                    tracks.nearby[(row >> range_bits) as usize].push(near);
                }
            };
            let from_end = query.seeds.len() - 1 - position;
            let (behind, before) = (Nearness::around(from_end, true), Nearness::around(from_end, false));
            for (distance, &row) in rows[place + 1..].iter().take(WINDOW).enumerate() {
                note(row, behind + distance);
            }
            for (distance, &row) in rows[..place].iter().rev().take(WINDOW).enumerate() {
                note(row, before + distance);
            }
        }
    }
    tracks.add_up(range, neighbours);
}

/// Adds up the seeds of each artist and album.
pub fn add_seed_artists(index: &CompletionIndex, query: &Query, workspace: &mut Workspace) {
    let Workspace { artists, albums, .. } = workspace;
    let share = 1.0 / query.seeds.len().max(1) as f32;
    let last_share = 1.0 / query.seeds.len().clamp(1, LAST_SEEDS) as f32;
    for (position, &seed) in query.seeds.iter().enumerate() {
        if let Some(artist) = index.artist(seed) {
            let sums = artists.touch(artist);
            sums.seeds += share;
            if position + LAST_SEEDS >= query.seeds.len() {
                sums.last_seeds += last_share;
            }
        }
        if let Some(&album) = index.album_of.get(seed as usize).filter(|&&album| album != NONE) {
            *albums.touch(album) += share;
        }
    }
    let of_seeds: Vec<(u32, f32)> = {
        let mut of_seeds: Vec<u32> = query.seeds.iter().filter_map(|&seed| index.artist(seed)).collect();
        of_seeds.sort_unstable();
        of_seeds.dedup();
        of_seeds.into_iter().map(|artist| (artist, artists.get(artist).seeds)).collect()
    };
    for (artist, share) in of_seeds {
        for (other, weight) in index.artist_neighbours.row_with(artist as usize, &index.artist_neighbour_weights) {
            artists.touch(other).near += share.sqrt() * weight;
        }
    }
}

/// Returns `[rows]`: the sums over the neighbors for the artist of each of `rows`.
///
/// Only of these: the sums of a few hundred artists lie in the first-level cache.
pub fn artist_sums(
    index: &CompletionIndex,
    neighbours: &[Neighbour],
    rows: &[u32],
    numbers: &mut Sparse<u32>,
) -> Vec<ArtistSums> {
    let mut sums = vec![ArtistSums::default()];
    let number_of: Vec<u32> = rows
        .iter()
        .map(|&row| {
            // The sums at 0 are those of no artist.
            let Some(artist) = index.artist(row) else { return 0 };
            let number = numbers.touch(artist);
            if *number == 0 {
                *number = sums.len() as u32;
                sums.push(ArtistSums::default());
            }
            *number
        })
        .collect();
    for Neighbour { playlist, gives: TrackSums { knn, title, artist_knn, .. } } in neighbours {
        for (artist, weight) in index.playlist_artists.row_with(*playlist as usize, &index.playlist_artist_weights) {
            if !numbers.holds(artist) {
                continue;
            }
            let sums = &mut sums[numbers.get(artist) as usize];
            sums.knn += weight * knn;
            sums.title += weight * title;
            sums.artist_knn += weight * artist_knn;
        }
    }
    number_of.into_iter().map(|number| sums[number as usize]).collect()
}
