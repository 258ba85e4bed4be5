//! One walk over the tracks of neighbouring playlists adds up what several retrievers say of each track.
//!
//! The walk comes by tens of thousands of tracks all over the catalog. Adding to each where it comes by it would wait for
//! memory most of the time, so it only notes its visits first, sorted into ranges of tracks, and then adds up range by
//! range: the sums of one fit into the first- or second-level cache.

use super::playlists::{LAST_SEEDS, MOST_NEIGHBOURS, Neighbour};
use super::{Query, Sparse, Workspace};
use crate::bundle::CompletionIndex;

/// Tracks this far from a seed in a playlist still count as its neighbours.
const WINDOW: usize = 10;
/// What a track so many places away adds, the next one first: 1 / distance.
const GAINS: [f32; WINDOW] =
    [1.0, 1.0 / 2.0, 1.0 / 3.0, 1.0 / 4.0, 1.0 / 5.0, 1.0 / 6.0, 1.0 / 7.0, 1.0 / 8.0, 1.0 / 9.0, 0.1];

/// Tracks of a range, at least; a power of two.
const RANGE: usize = 4_096;
/// Ranges, if a visit has room for the tracks of one: each is written to in turn.
const RANGES: usize = 256;
/// Bits of a visit that say which neighbour it is.
const NEIGHBOUR_BITS: u32 = (MOST_NEIGHBOURS - 1).ilog2() + 1;
/// Bits of a nearby track's note that say how it lies, see [`Nearness`].
const NEARNESS_BITS: u32 = 8;

/// Sums over the neighbouring playlists that hold a track, and what one of them adds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
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

/// Sums of 1 / distance over the playlists that hold a seed and the track nearby.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OrderSums {
    /// near any seed, either side
    pub near: f32,
    /// behind one of the last seeds, the last one counting most
    pub behind: f32,
    /// before one of the last seeds, the last one counting most
    pub before: f32,
    /// behind the last seed
    pub next: f32,
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
}

/// What the seeds say of an artist.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SeedArtist {
    /// share of the seeds that are by this artist
    pub seeds: f32,
    /// share of the last seeds that are by this artist
    pub last_seeds: f32,
    /// nearness to the seeds' artists
    pub near: f32,
}

/// How a track lies to a seed in a playlist, in one number.
struct Nearness;

impl Nearness {
    const BEHIND: usize = 1 << 4;
    const LATE: usize = 1 << 5;

    /// Of the tracks around a seed that is `from_end` places before the end of the query; the places in between are to
    /// be added.
    fn around(from_end: usize, is_behind: bool) -> usize {
        let late = if from_end < LAST_SEEDS { from_end + 1 } else { 0 };
        late * Self::LATE + if is_behind { Self::BEHIND } else { 0 }
    }

    /// What each adds.
    fn gains() -> [OrderSums; 1 << NEARNESS_BITS] {
        std::array::from_fn(|nearness| {
            let gain = GAINS.get(nearness % Self::BEHIND).copied().unwrap_or_default();
            // 1 for the last seed, then 1/2, 1/3 …, and 0 for those before the last few.
            let late = match nearness / Self::LATE {
                0 => 0.0,
                from_end => gain / from_end as f32,
            };
            let is_behind = nearness & Self::BEHIND > 0;
            OrderSums {
                near: gain,
                behind: if is_behind { late } else { 0.0 },
                before: if is_behind { 0.0 } else { late },
                next: if is_behind && nearness / Self::LATE == 1 { gain } else { 0.0 },
            }
        })
    }
}

/// The tracks that the walk came by, with their sums side by side.
#[derive(Debug, Default)]
pub struct Visited {
    /// the tracks, rising, then those of [`Visited::add`]
    pub rows: Vec<u32>,
    /// `[rows]`
    pub sums: Vec<TrackSums>,
    /// `[rows]`
    pub order: Vec<OrderSums>,
    /// of each range, the tracks (counted from its beginning) with the neighbour that holds them, in one number: all
    /// that a walk notes fits the second-level cache
    visits: Vec<Vec<u32>>,
    /// of each range, the tracks near a seed with how they lie to it, in one number
    nearby: Vec<Vec<u32>>,
}

impl Visited {
    /// Adds those of `rows` (rising, distinct) that are not there yet, with sums of 0.
    pub fn add(&mut self, rows: &[u32]) {
        let (mut there, visited) = (0, self.rows.len());
        for &row in rows {
            while there < visited && self.rows[there] < row {
                there += 1;
            }
            if there == visited || self.rows[there] != row {
                self.rows.push(row);
            }
        }
        self.sums.resize(self.rows.len(), TrackSums::default());
        self.order.resize(self.rows.len(), OrderSums::default());
    }

    /// Adds up what was noted.
    fn add_up(&mut self, range: usize, neighbours: &[Neighbour]) {
        let Self { rows, sums, order, visits, nearby } = self;
        let gains = Nearness::gains();
        let mut sums_here = vec![TrackSums::default(); range];
        let mut order_here = vec![OrderSums::default(); range];
        let mut touched = vec![0u64; range / 64];
        for ((number, visits), nearby) in visits.iter_mut().enumerate().zip(nearby) {
            for visit in visits.drain(..) {
                let (place, neighbour) = ((visit >> NEIGHBOUR_BITS) as usize, visit & ((1 << NEIGHBOUR_BITS) - 1));
                touched[place / 64] |= 1 << (place % 64);
                sums_here[place] += neighbours[neighbour as usize].gives;
            }
            for near in nearby.drain(..) {
                let (place, nearness) = ((near >> NEARNESS_BITS) as usize, near & ((1 << NEARNESS_BITS) - 1));
                order_here[place] += gains[nearness as usize];
            }
            for (word, bits) in touched.iter_mut().enumerate() {
                while *bits != 0 {
                    let place = word * 64 + bits.trailing_zeros() as usize;
                    rows.push((number * range + place) as u32);
                    sums.push(std::mem::take(&mut sums_here[place]));
                    order.push(std::mem::take(&mut order_here[place]));
                    *bits &= *bits - 1;
                }
            }
        }
    }

    /// Nothing visited.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.sums.clear();
        self.order.clear();
    }
}

impl std::ops::AddAssign for TrackSums {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.knn += other.knn;
        self.item += other.item;
        self.together += other.together;
        self.last += other.last;
        self.title += other.title;
        self.same_title += other.same_title;
        self.joint += other.joint;
        self.artist_knn += other.artist_knn;
    }
}

impl std::ops::AddAssign for OrderSums {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.near += other.near;
        self.behind += other.behind;
        self.before += other.before;
        self.next += other.next;
    }
}

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

/// Adds up what the seeds say of artists and albums.
pub fn add_seed_artists(index: &CompletionIndex, query: &Query, workspace: &mut Workspace) {
    let Workspace { artists, albums, .. } = workspace;
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

/// `[rows]`: what the neighbours' artists say of the artist of each of `rows`.
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
            let number = numbers.touch(index.artist_of[row as usize]);
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
