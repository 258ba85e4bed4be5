//! Retrievers: from a playlist's seeds and title to tracks with scores. Pure functions over a [`CompletionIndex`].
//!
//! [`playlists`] finds playlists like the one asked about; [`walk`] goes over their tracks once and adds up, for each
//! track, what every retriever built on neighbouring playlists says of it; [`factors`] folds the seeds into the
//! factorisation.

pub mod factors;
pub mod playlists;
pub mod walk;

use crate::bundle::CompletionIndex;
use crate::dataset::normalise;

/// A playlist to complete, as the retrievers want it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// normalised title, empty if it has none
    pub title: String,
    /// distinct rows of tracks that the index holds, in the playlist's order
    pub seeds: Vec<u32>,
}

impl Query {
    /// Drops repeats and tracks that no playlist of the index holds.
    pub fn new(index: &CompletionIndex, title: Option<&str>, seeds: &[u32]) -> Self {
        let mut seen = std::collections::HashSet::with_capacity(seeds.len());
        let known = |&row: &u32| (row as usize) < index.tracks() && index.popularity(row) > 0 && seen.insert(row);
        Self { title: title.map(normalise).unwrap_or_default(), seeds: seeds.iter().copied().filter(known).collect() }
    }
}

/// An array as long as a table of the index that is all zeros between requests: whoever writes to it notes where, and
/// clears only that. Saves clearing megabytes for every request.
///
/// Which rows were written to is kept as one bit each. The bits of a hundred thousand rows fit the first-level cache, so
/// the question whether a row is new never waits for the row itself: additions to many rows overlap.
#[derive(Debug, Default)]
pub struct Sparse<T> {
    values: Vec<T>,
    /// bit `row % 64` of word `row / 64`: whether the row was touched
    touched: Vec<u64>,
}

impl<T: Copy + Default> Sparse<T> {
    /// Makes room for `length` rows.
    pub fn reserve(&mut self, length: usize) {
        if self.values.len() < length {
            self.values.resize(length, T::default());
            self.touched.resize(length.div_ceil(64), 0);
        }
    }

    /// The value of a row, to be changed.
    #[inline]
    pub fn touch(&mut self, row: u32) -> &mut T {
        self.touched[row as usize / 64] |= 1 << (row % 64);
        &mut self.values[row as usize]
    }

    /// Whether a row was touched.
    #[inline]
    pub fn holds(&self, row: u32) -> bool {
        self.touched[row as usize / 64] >> (row % 64) & 1 == 1
    }

    /// The value of a row.
    #[inline]
    pub fn get(&self, row: u32) -> T {
        self.values[row as usize]
    }

    /// Rows that were touched, rising.
    pub fn touched(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.touched).flat_map(|(word, &bits)| rows_of(word, bits))
    }

    /// All zeros again.
    pub fn clear(&mut self) {
        for (word, bits) in (0..).zip(&mut self.touched) {
            for row in rows_of(word, *bits) {
                self.values[row as usize] = T::default();
            }
            *bits = 0;
        }
    }
}

/// The rows whose bits are set in a word.
fn rows_of(word: u32, mut bits: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let row = (bits != 0).then(|| word * 64 + bits.trailing_zeros());
        bits &= bits.wrapping_sub(1);
        row
    })
}

/// Arrays that a request works in; used again for the next one on the same thread.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(super) overlaps: Sparse<playlists::Overlap>,
    pub(super) titles: Sparse<[f32; 2]>,
    pub(super) by_artists: Sparse<f32>,
    pub(super) places: Sparse<u32>,
    pub(super) tracks: walk::Visited,
    pub(super) artists: Sparse<walk::SeedArtist>,
    pub(super) artist_numbers: Sparse<u32>,
    pub(super) albums: Sparse<f32>,
    pub(super) positions: Sparse<u32>,
    pub(super) name_matches: Sparse<[f32; 2]>,
    pub(super) track_matches: Sparse<f32>,
}

impl Workspace {
    /// Makes room for the tables of `index`.
    pub fn reserve(&mut self, index: &CompletionIndex) {
        self.overlaps.reserve(index.playlists.rows());
        self.titles.reserve(index.playlists.rows());
        self.by_artists.reserve(index.playlists.rows());
        self.places.reserve(index.playlists.rows());
        self.artist_numbers.reserve(index.artist_counts.len());
        self.positions.reserve(index.tracks());
        self.artists.reserve(index.artist_counts.len());
        self.albums.reserve(index.album_counts.len());
        self.name_matches.reserve(index.artist_counts.len());
        self.track_matches.reserve(index.tracks());
    }

    /// All zeros again.
    pub fn clear(&mut self) {
        self.overlaps.clear();
        self.titles.clear();
        self.by_artists.clear();
        self.places.clear();
        self.tracks.clear();
        self.artist_numbers.clear();
        self.positions.clear();
        self.artists.clear();
        self.albums.clear();
        self.name_matches.clear();
        self.track_matches.clear();
    }
}
