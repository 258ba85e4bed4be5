//! What neighboring playlists, and the seeds, add to a track or an artist.

/// Playlists that vote by the tracks they share.
pub(super) const NEIGHBOURS: usize = 1_500;
/// Playlists that vote by the artists they share.
pub(super) const ARTIST_NEIGHBOURS: usize = 500;
/// Playlists that vote by their title.
pub(super) const TITLED: usize = 1_000;
/// Playlists that a walk goes over, at most.
pub(super) const MOST_NEIGHBOURS: usize = NEIGHBOURS + TITLED + ARTIST_NEIGHBOURS;
/// The last seeds say most about what comes next.
pub(super) const LAST_SEEDS: usize = 5;

/// What a playlist has in common with the seeds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overlap {
    /// seeds it holds
    pub seeds: f32,
    /// sum of the seeds' weights for playlist-kNN
    pub similarity: f32,
    /// sum of the seeds' weights for item-kNN
    pub item: f32,
    /// how many of the last seeds it holds
    pub last: f32,
}

/// A playlist to walk over.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Neighbour {
    /// row of the playlist
    pub playlist: u32,
    /// what it gives to each of its tracks: by playlist-kNN (after Kelen et al. 2018) its squared similarity, of the best
    /// one 1; by item-kNN what its seeds count by rarity; by title its squared similarity; by artists as playlist-kNN,
    /// above the similarity of the last neighbor
    pub gives: TrackSums,
}

/// What is known about the neighbors as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Neighbourhood {
    /// playlists that hold a seed
    pub overlapping: usize,
    /// similarity of the nearest playlist by seeds
    pub best_similarity: f32,
    /// most seeds that one playlist holds
    pub most_seeds: f32,
    /// similarity of the nearest title
    pub best_title: f32,
    /// playlists with the same title
    pub same_title: usize,
}

/// Sums over the neighboring playlists that hold a track, and what one of them adds.
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

/// Sums over the neighboring playlists that hold an artist.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ArtistSums {
    /// playlist-kNN
    pub knn: f32,
    /// playlist-kNN by artists
    pub artist_knn: f32,
    /// similarity of titles
    pub title: f32,
}

/// Sums over the seeds for an artist.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SeedArtist {
    /// share of the seeds that are by this artist
    pub seeds: f32,
    /// share of the last seeds that are by this artist
    pub last_seeds: f32,
    /// nearness to the seeds' artists
    pub near: f32,
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
