//! Memory that requests reuse.

use super::sparse::Sparse;
use super::sums::{Overlap, SeedArtist};
use super::visited::Visited;
use crate::bundle::CompletionIndex;

/// Arrays that a request works in; used again for the next one on the same thread.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(in crate::recommend) overlaps: Sparse<Overlap>,
    pub(in crate::recommend) titles: Sparse<[f32; 2]>,
    pub(in crate::recommend) by_artists: Sparse<f32>,
    pub(in crate::recommend) places: Sparse<u32>,
    pub(in crate::recommend) tracks: Visited,
    pub(in crate::recommend) artists: Sparse<SeedArtist>,
    pub(in crate::recommend) artist_numbers: Sparse<u32>,
    pub(in crate::recommend) albums: Sparse<f32>,
    pub(in crate::recommend) positions: Sparse<u32>,
    pub(in crate::recommend) name_matches: Sparse<[f32; 2]>,
    pub(in crate::recommend) track_matches: Sparse<f32>,
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
