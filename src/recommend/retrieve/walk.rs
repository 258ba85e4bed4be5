//! One walk over the tracks of neighbouring playlists adds up what several retrievers say of each track.
//!
//! A track's sums lie together in memory, so that a visit costs one cache line however many retrievers there are.

use super::playlists::{LAST_SEEDS, Neighbour};
use super::{Query, Workspace};
use crate::bundle::CompletionIndex;

/// Tracks this far from a seed in a playlist still count as its neighbours.
const WINDOW: usize = 10;

/// Sums over the neighbouring playlists that hold a track. Aligned, so that none lies on two lines of the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(align(32))]
pub struct TrackSums {
    /// playlist-kNN
    pub knn: f32,
    /// item-kNN, not yet divided by the track's popularity
    pub item: f32,
    /// playlists that hold it and a seed
    pub together: f32,
    /// of the last seeds, how many share how many playlists with it
    pub last: f32,
    /// similarity of titles
    pub title: f32,
    /// playlists of the same title
    pub same_title: f32,
    /// by seeds and title together
    pub joint: f32,
    /// playlist-kNN by artists
    pub artist_knn: f32,
}

/// Sums over the neighbouring playlists that hold an artist.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ArtistSums {
    /// playlist-kNN
    pub knn: f32,
    /// playlist-kNN by artists
    pub artist_knn: f32,
    /// similarity of titles
    pub title: f32,
    /// share of the seeds that are by this artist
    pub seeds: f32,
    /// share of the last seeds that are by this artist
    pub last_seeds: f32,
    /// nearness to the seeds' artists
    pub near: f32,
}

/// Places in [`Workspace::ordered`]: sums of 1 / distance over the playlists that hold a seed and the track nearby.
pub mod order {
    /// near any seed, either side
    pub const NEAR: usize = 0;
    /// behind one of the last seeds, the last one counting most
    pub const BEHIND: usize = 1;
    /// before one of the last seeds, the last one counting most
    pub const BEFORE: usize = 2;
    /// behind the last seed
    pub const NEXT: usize = 3;
}

/// Adds up over `neighbours`.
pub fn walk(index: &CompletionIndex, query: &Query, neighbours: &[Neighbour], workspace: &mut Workspace) {
    let Workspace { tracks, ordered, artists, albums, positions, .. } = workspace;
    for (position, &seed) in query.seeds.iter().enumerate() {
        *positions.touch(seed) = position as u32;
    }
    // 1 for the last seed, then 1/2, 1/3 …, and 0 for those before the last few.
    let count = query.seeds.len();
    let lastness: Vec<f32> = (0..count)
        .map(|position| if position + LAST_SEEDS >= count { 1.0 / (count - position) as f32 } else { 0.0 })
        .collect();
    let mut places: Vec<(usize, u32)> = Vec::new();
    for neighbour in neighbours {
        let rows = index.playlists.row(neighbour.playlist as usize);
        places.clear();
        for (place, &row) in rows.iter().enumerate() {
            if positions.holds(row) {
                places.push((place, positions.get(row)));
                continue;
            }
            let sums = tracks.touch(row);
            sums.knn += neighbour.knn;
            sums.item += neighbour.item;
            sums.together += neighbour.together;
            sums.last += neighbour.last;
            sums.title += neighbour.title;
            sums.same_title += neighbour.same_title;
            sums.joint += neighbour.joint;
            sums.artist_knn += neighbour.artist_knn;
        }
        for &(place, position) in &places {
            let position = position as usize;
            let last = lastness[position];
            let next = f32::from(u8::from(position + 1 == count));
            for (distance, &row) in rows[place + 1..].iter().take(WINDOW).enumerate() {
                if !positions.holds(row) {
                    let gain = 1.0 / (distance + 1) as f32;
                    let sums = ordered.touch(row);
                    sums[order::NEAR] += gain;
                    sums[order::BEHIND] += gain * last;
                    sums[order::NEXT] += gain * next;
                }
            }
            for (distance, &row) in rows[..place].iter().rev().take(WINDOW).enumerate() {
                if !positions.holds(row) {
                    let gain = 1.0 / (distance + 1) as f32;
                    let sums = ordered.touch(row);
                    sums[order::NEAR] += gain;
                    sums[order::BEFORE] += gain * last;
                }
            }
        }
        if neighbour.knn > 0.0 || neighbour.title > 0.0 || neighbour.artist_knn > 0.0 {
            let weighted = index.playlist_artists.row_with(neighbour.playlist as usize, &index.playlist_artist_weights);
            for (artist, weight) in weighted {
                let sums = artists.touch(artist);
                sums.knn += weight * neighbour.knn;
                sums.title += weight * neighbour.title;
                sums.artist_knn += weight * neighbour.artist_knn;
            }
        }
    }
    let share = 1.0 / query.seeds.len().max(1) as f32;
    let last_share = 1.0 / query.seeds.len().clamp(1, LAST_SEEDS) as f32;
    for (position, &seed) in query.seeds.iter().enumerate() {
        let sums = artists.touch(index.artist_of[seed as usize]);
        sums.seeds += share;
        if position + LAST_SEEDS >= query.seeds.len() {
            sums.last_seeds += last_share;
        }
        if let Some(&album) = index.album_of.get(seed as usize).filter(|&&album| album != crate::dataset::NONE) {
            *albums.touch(album) += share;
        }
    }
    let of_seeds: Vec<(u32, f32)> = {
        let mut of_seeds: Vec<u32> = query.seeds.iter().map(|&seed| index.artist_of[seed as usize]).collect();
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
