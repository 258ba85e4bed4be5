//! What may come after a track, and how each candidate is described to the trees.
//!
//! Everything is read off the playlists that hold the track: what follows it and what goes before it, weighted by
//! 1 / distance; what follows the tracks that go before it ("context": it says something even of a track that is in one
//! playlist only); what shares a playlist with it; and which artists follow its artist. The work for a track is bounded,
//! however popular it is: of many placements an even sample stands for all.

use crate::dataset::NONE;
use crate::math::{Csr, top_k};
use crate::recommend::retrieve::Sparse;

/// Tracks this far apart count as neighbours.
const WINDOW: usize = 10;
/// Placements of the track itself that are inspected.
const OWN_PLACEMENTS: usize = 500;
/// Its playlists that are gone through whole.
const PLAYLISTS: usize = 200;
/// Neighbors whose own neighbors are inspected, and placements of each.
const NEIGHBOURS: usize = 40;
const NEIGHBOUR_PLACEMENTS: usize = 100;
/// Placements of an artist that are inspected for the artists that come next, and how many of those count.
const ARTIST_PLACEMENTS: usize = 5_000;
const NEXT_ARTISTS: usize = 64;

/// Candidates by: neighbourhood, what follows, either context, playlists shared, the artist's tracks.
const BY_NEAR: usize = 150;
const BY_BEHIND: usize = 100;
const BY_CONTEXT: usize = 80;
const BY_PLAYLISTS: usize = 80;
const BY_ARTIST: usize = 40;
/// And the best tracks of artists that come next.
const BY_NEXT_ARTISTS: (usize, usize) = (8, 4);

/// Length of a candidate's description.
pub const WIDTH: usize = 25;

/// What a number of the description rests on, for those who want to know what each part is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// what stands next to the track, before or behind it
    Neighbours,
    /// whether it stands before or behind
    Order,
    /// what stands behind the tracks that stand before it
    Context,
    /// what shares a playlist with it
    Playlists,
    /// artists and albums
    Artists,
    /// how often tracks are placed, and where in playlists
    Popularity,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Neighbours, Self::Order, Self::Context, Self::Playlists, Self::Artists, Self::Popularity];

    /// The places in a description that rest on it.
    pub fn features(self) -> &'static [usize] {
        match self {
            Self::Neighbours => &[0, 1, 2, 3, 4, 5, 20],
            Self::Order => &[0, 1, 3, 4],
            Self::Context => &[8, 9, 10, 21, 22],
            Self::Playlists => &[6, 7, 23],
            Self::Artists => &[11, 12, 15, 16, 17, 18],
            Self::Popularity => &[13, 14, 19, 24],
        }
    }
}

/// What is added up for a track that may come next.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
struct Sums {
    behind: f32,
    before: f32,
    context: f32,
    near_context: f32,
    playlists: f32,
}

/// What candidates are chosen by.
type Score<'a> = &'a dyn Fn(u32, &Sums) -> f32;

/// Playlists laid out by track, and what is known of the tracks.
#[derive(Debug)]
pub struct Placements<'a> {
    playlists: &'a Csr,
    /// artist of each track, or [`Placements::no_artist`]
    artist_of: Vec<u32>,
    album_of: &'a [u32],
    /// rows below it may be recommended
    vocabulary: usize,
    /// playlist of each placement
    playlist_of: Vec<u32>,
    /// placements of each track
    of_track: Csr,
    /// how many those are
    counts: Vec<f32>,
    /// mean position of each track, from 0 for the first of a playlist to 1 for the last
    position: Vec<f32>,
    /// share of each track's placements that end a playlist
    ends: Vec<f32>,
    /// number of artists: stands for none
    no_artist: u32,
    /// tracks of each artist, the most popular first
    of_artist: Csr,
    artist_counts: Vec<f32>,
    /// for each artist, those that come next most often with their share of all that come next
    next_artists: Vec<Vec<(u32, f32)>>,
    /// for each artist the chance that the next track is by it too
    stays: Vec<f32>,
}

/// Candidates for what comes after one track.
#[derive(Debug, Default)]
pub struct Candidates {
    /// their rows, rising
    pub rows: Vec<u32>,
    /// `[rows, WIDTH]`
    pub features: Vec<f32>,
}

/// Arrays that the work for a track is done in; used again for the next one.
#[derive(Debug, Default)]
pub struct Workspace {
    sums: Sparse<Sums>,
    scored: Vec<(u32, f32)>,
}

impl<'a> Placements<'a> {
    /// Lays out `playlists` of tracks numbered by falling popularity; those below `vocabulary` may be recommended. Tracks
    /// without an artist, or album, have [`NONE`].
    pub fn new(playlists: &'a Csr, artist_of: &'a [u32], album_of: &'a [u32], vocabulary: usize) -> Self {
        let tracks = artist_of.len();
        let mut playlist_of = Vec::with_capacity(playlists.items().len());
        let (mut position, mut ends) = (vec![0.0f32; tracks], vec![0.0f32; tracks]);
        for (playlist, rows) in (0..).zip(playlists.iter()) {
            playlist_of.extend(rows.iter().map(|_| playlist));
            let last = rows.len().saturating_sub(1).max(1) as f32;
            for (place, &row) in rows.iter().enumerate() {
                position[row as usize] += place as f32 / last;
            }
            if let Some(&row) = rows.last() {
                ends[row as usize] += 1.0;
            }
        }
        let of_track = Csr::group(playlists.items(), tracks);
        let counts: Vec<f32> = of_track.iter().map(|placements| placements.len() as f32).collect();
        for ((position, ends), &count) in position.iter_mut().zip(&mut ends).zip(&counts) {
            // Towards the middle where there is little to go by.
            *position = (*position + 2.5) / (count + 5.0);
            *ends /= count + 1.0;
        }
        let no_artist = artist_of.iter().filter(|&&artist| artist != NONE).max().map_or(0, |&last| last + 1);
        let artist_of: Vec<u32> = artist_of.iter().map(|&artist| artist.min(no_artist)).collect();
        let mut artist_counts = vec![0.0; no_artist as usize + 1];
        for (&artist, &count) in artist_of.iter().zip(&counts) {
            artist_counts[artist as usize] += count;
        }
        let of_artist = Csr::group(&artist_of, no_artist as usize + 1);
        let mut laid_out = Self {
            playlists,
            artist_of,
            album_of,
            vocabulary,
            playlist_of,
            of_track,
            counts,
            position,
            ends,
            no_artist,
            of_artist,
            artist_counts,
            next_artists: Vec::new(),
            stays: Vec::new(),
        };
        laid_out.count_next_artists();
        laid_out
    }

    fn count_next_artists(&mut self) {
        let artists = self.of_artist.rows();
        let mut next: Sparse<f32> = Sparse::default();
        next.reserve(artists);
        for artist in 0..artists {
            // Nothing follows from having none.
            let tracks = if artist == self.no_artist as usize { &[] } else { self.of_artist.row(artist) };
            let all: usize = tracks.iter().map(|&row| self.of_track.row(row as usize).len()).sum();
            let step = all.div_ceil(ARTIST_PLACEMENTS).max(1);
            let placements = tracks.iter().flat_map(|&row| self.of_track.row(row as usize)).step_by(step);
            let mut seen = 0.0;
            for &place in placements {
                let place = place as usize;
                if self.playlist_of.get(place + 1) == Some(&self.playlist_of[place]) {
                    seen += 1.0;
                    let follows = self.artist_of[self.playlists.items()[place + 1] as usize];
                    if follows != self.no_artist {
                        *next.touch(follows) += 1.0;
                    }
                }
            }
            let mut shares: Vec<(u32, f32)> =
                next.touched().map(|other| (other, next.get(other) / (seen + 3.0))).collect();
            self.stays.push(next.get(artist as u32) / (seen + 2.0));
            next.clear();
            top_k::sort_best(&mut shares, NEXT_ARTISTS);
            self.next_artists.push(shares);
        }
    }

    /// An even sample of a track's placements, and how many each stands for.
    fn sample(&self, row: u32, most: usize) -> (impl Iterator<Item = usize> + '_, f32) {
        let placements = self.of_track.row(row as usize);
        let step = placements.len().div_ceil(most).max(1);
        let taken = placements.len().div_ceil(step).max(1);
        (placements.iter().step_by(step).map(|&place| place as usize), placements.len() as f32 / taken as f32)
    }

    /// The tracks behind a placement in its playlist and those before it, nearest first.
    fn around(&self, place: usize) -> (&[u32], impl Iterator<Item = &u32>) {
        let playlist = self.playlist_of[place] as usize;
        let (start, end) =
            (self.playlists.offsets()[playlist] as usize, self.playlists.offsets()[playlist + 1] as usize);
        let items = self.playlists.items();
        let behind = &items[place + 1..(place + 1 + WINDOW).min(end)];
        (behind, items[place.saturating_sub(WINDOW).max(start)..place].iter().rev())
    }

    fn add_neighbours(&self, track: u32, sums: &mut Sparse<Sums>) {
        let (placements, weight) = self.sample(track, OWN_PLACEMENTS);
        for place in placements {
            let (behind, before) = self.around(place);
            for (&row, distance) in behind.iter().zip(1..) {
                sums.touch(row).behind += weight / distance as f32;
            }
            for (&row, distance) in before.zip(1..) {
                sums.touch(row).before += weight / distance as f32;
            }
        }
    }

    /// The `limit` tracks with the most co-occurrence, the sum of 1 / distance over what stands behind `track` and, with
    /// `both_sides`, before it too.
    pub fn co_occurring(
        &self,
        track: u32,
        both_sides: bool,
        limit: usize,
        workspace: &mut Workspace,
    ) -> Vec<(u32, f32)> {
        let Workspace { sums, .. } = workspace;
        sums.reserve(self.counts.len());
        self.add_neighbours(track, sums);
        let score = |sums: Sums| sums.behind + if both_sides { sums.before } else { 0.0 };
        let scored = sums.touched().map(|row| (row, score(sums.get(row))));
        let mut scored: Vec<(u32, f32)> = scored.filter(|&(row, score)| row != track && score > 0.0).collect();
        top_k::sort_best(&mut scored, limit);
        sums.clear();
        scored
    }

    fn add_up(&self, track: u32, sums: &mut Sparse<Sums>, scored: &mut Vec<(u32, f32)>) {
        self.add_neighbours(track, sums);

        // The neighbours' neighbours, each neighbour weighing what it has of the track's neighbourhood.
        let best_of = |sums: &Sparse<Sums>, scored: &mut Vec<(u32, f32)>, score: fn(&Sums) -> f32| {
            scored.clear();
            scored.extend(
                sums.touched()
                    .map(|row| (row, score(&sums.get(row))))
                    .filter(|&(row, score)| row != track && score > 0.0),
            );
            top_k::sort_best(scored, NEIGHBOURS);
            let whole: f32 = scored.iter().map(|neighbour| neighbour.1).sum();
            scored.iter().map(|&(row, score)| (row, score / whole)).collect::<Vec<(u32, f32)>>()
        };
        let before = best_of(sums, scored, |sums| sums.before);
        let near = best_of(sums, scored, |sums| sums.before + sums.behind);
        let mut neighbours: Vec<(u32, f32, f32)> = before.iter().map(|&(row, share)| (row, share, 0.0)).collect();
        neighbours.extend(near.iter().map(|&(row, share)| (row, 0.0, share)));
        neighbours.sort_unstable_by_key(|neighbour| neighbour.0);
        neighbours.dedup_by(|second, first| {
            let same = second.0 == first.0;
            if same {
                (first.1, first.2) = (first.1 + second.1, first.2 + second.2);
            }
            same
        });
        for (neighbour, before, near) in neighbours {
            let (placements, weight) = self.sample(neighbour, NEIGHBOUR_PLACEMENTS);
            let (before, near) = (before * weight, near * weight);
            for place in placements {
                let (behind, ahead) = self.around(place);
                for (&row, distance) in behind.iter().zip(1..).filter(|&(&row, _)| row != neighbour) {
                    let sums = sums.touch(row);
                    sums.context += before / distance as f32;
                    sums.near_context += near / distance as f32;
                }
                for (&row, distance) in ahead.zip(1..).filter(|&(&row, _)| row != neighbour) {
                    sums.touch(row).near_context += near / distance as f32;
                }
            }
        }

        let (placements, weight) = self.sample(track, PLAYLISTS);
        let mut last = NONE;
        for place in placements {
            let playlist = self.playlist_of[place];
            if playlist != last {
                let rows = self.playlists.row(playlist as usize);
                let share = weight / rows.len() as f32;
                rows.iter().for_each(|&row| sums.touch(row).playlists += share);
            }
            last = playlist;
        }
    }

    /// Finds and describes candidates for what comes after `track`, in the order of their rows.
    pub fn candidates(&self, track: u32, workspace: &mut Workspace) -> Candidates {
        let Workspace { sums, scored } = workspace;
        sums.reserve(self.counts.len());
        self.add_up(track, sums, scored);

        let count = |row: u32| self.counts[row as usize];
        let may_follow = |row: u32| row != track && (row as usize) < self.vocabulary && count(row) > 0.0;
        let mut rows: Vec<u32> = Vec::new();
        let near_context = |row: u32, sums: &Sums| sums.near_context / (count(row) + 5.0).sqrt();
        let lists: [(usize, Score<'_>); 5] = [
            (BY_NEAR, &|_, sums| sums.behind + sums.before),
            (BY_BEHIND, &|_, sums| sums.behind),
            (BY_CONTEXT, &|_, sums| sums.context),
            (BY_CONTEXT, &near_context),
            (BY_PLAYLISTS, &|_, sums| sums.playlists),
        ];
        for (limit, score) in lists {
            scored.clear();
            scored.extend(
                sums.touched()
                    .filter(|&row| may_follow(row))
                    .map(|row| (row, score(row, &sums.get(row))))
                    .filter(|scored| scored.1 > 0.0),
            );
            top_k::keep_best(scored, limit);
            rows.extend(scored.iter().map(|scored| scored.0));
        }
        let artist = self.artist_of[track as usize] as usize;
        let popular_of = |artist: usize, limit: usize| {
            self.of_artist.row(artist).iter().copied().filter(|&row| may_follow(row)).take(limit)
        };
        if artist != self.no_artist as usize {
            rows.extend(popular_of(artist, BY_ARTIST));
        }
        for &(next, _) in self.next_artists[artist].iter().take(BY_NEXT_ARTISTS.0) {
            rows.extend(popular_of(next as usize, BY_NEXT_ARTISTS.1));
        }
        rows.sort_unstable();
        rows.dedup();

        let mut features = Vec::with_capacity(rows.len() * WIDTH);
        for &row in &rows {
            features.extend(self.describe(track, row, &sums.get(row)));
        }
        // Ranks: by neighbourhood, either context, and playlists shared.
        for (rank, by) in [(20, 5), (21, 8), (22, 10), (23, 6)] {
            let values: Vec<f32> = features.iter().skip(by).step_by(WIDTH).copied().collect();
            for (place, candidate) in top_k::by_falling(&values).into_iter().enumerate() {
                features[candidate as usize * WIDTH + rank] = place as f32;
            }
        }
        sums.clear();
        Candidates { rows, features }
    }

    /// A candidate in numbers, the ranks left out. [`Part::features`] says what rests on what.
    fn describe(&self, track: u32, row: u32, sums: &Sums) -> [f32; WIDTH] {
        let (own, count) = (self.counts[track as usize], self.counts[row as usize]);
        let (own_artist, artist) = (self.artist_of[track as usize], self.artist_of[row as usize]);
        let near = sums.behind + sums.before;
        let rare = (count + 3.0).sqrt();
        let (album, own_album) = (self.album_of[row as usize], self.album_of[track as usize]);
        let is_same_artist = artist == own_artist && artist != self.no_artist;
        // A track without an artist is by one of its own.
        let artist_count = if artist == self.no_artist { count } else { self.artist_counts[artist as usize] };
        let next = self.next_artists[own_artist as usize].iter().find(|next| next.0 == artist);
        [
            sums.behind,
            sums.before,
            near / rare,
            sums.behind / (count + 5.0),
            sums.behind / (own + 1.0),
            near / (own + 1.0),
            sums.playlists,
            sums.playlists / rare,
            sums.context,
            sums.context / rare,
            sums.near_context / (count + 5.0).sqrt(),
            f32::from(u8::from(is_same_artist)),
            f32::from(u8::from(album == own_album && album != NONE)),
            count.ln_1p(),
            own.ln_1p(),
            self.stays[own_artist as usize],
            next.map_or(0.0, |next| next.1),
            artist_count.ln_1p(),
            count / (artist_count + 1.0),
            self.position[row as usize],
            0.0,
            0.0,
            0.0,
            0.0,
            self.ends[track as usize],
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tracks 0 to 5 by artists 0, 0, 1, 1, 2, 2.
    const ARTISTS: [u32; 6] = [0, 0, 1, 1, 2, 2];

    fn features_of(candidates: &Candidates, row: u32) -> &[f32] {
        let place = candidates.rows.binary_search(&row).expect("a candidate");
        &candidates.features[place * WIDTH..(place + 1) * WIDTH]
    }

    #[test]
    fn a_description_is_what_counting_by_hand_gives() {
        let playlists = Csr::from_lists([vec![0, 1, 2], vec![3, 0, 2], vec![3, 4]]);
        let albums = [7, 7, NONE, NONE, 1, 2];
        let placements = Placements::new(&playlists, &ARTISTS, &albums, 6);
        let found = placements.candidates(0, &mut Workspace::default());
        assert_eq!(found.rows, [1, 2, 3, 4], "itself and what no playlist holds are no candidates");
        let two = features_of(&found, 2);
        // Behind at distance 2 and 1; never before.
        assert_eq!(two[..2], [1.5, 0.0]);
        assert!((two[2] - 1.5 / 5f32.sqrt()).abs() < 1e-6 && (two[3] - 1.5 / 7.0).abs() < 1e-6);
        // Two of its playlists, a third of each.
        assert!((two[6] - 2.0 / 3.0).abs() < 1e-6);
        // Before track 0 stands track 3 alone; behind that stand 0 and 2 in one playlist and 4 in the other.
        assert_eq!((two[8], features_of(&found, 4)[8], features_of(&found, 1)[8]), (0.5, 1.0, 0.0));
        let one = features_of(&found, 1);
        assert_eq!((one[11], one[12], two[11], two[12]), (1.0, 1.0, 0.0, 0.0));
        // After artist 0 came artists 0, 1 (after track 1) and 1 (after track 0).
        assert!((two[16] - 2.0 / 6.0).abs() < 1e-6 && (one[15] - 1.0 / 5.0).abs() < 1e-6);
        // Neighbourhood: 2 has 1.5, then 1 and 3 with 1 each, in the order of their rows; 4 has none.
        let ranks: Vec<f32> = [2, 1, 3, 4].iter().map(|&row| features_of(&found, row)[20]).collect();
        assert_eq!(ranks, [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn tracks_without_an_artist_have_none_in_common() {
        let playlists = Csr::from_lists([vec![0, 1, 2], vec![1, 0]]);
        let placements = Placements::new(&playlists, &[NONE, NONE, 0, NONE], &[NONE; 4], 4);
        let found = placements.candidates(0, &mut Workspace::default());
        assert_eq!(found.rows, [1, 2], "what shares neither playlist nor artist is no candidate");
        let one = features_of(&found, 1);
        // Same artist, chance to stay, that the artist comes next, and the artist's popularity: its own.
        assert_eq!((one[11], one[15], one[16], one[17]), (0.0, 0.0, 0.0, 2f32.ln_1p()));
    }

    #[test]
    fn one_track_leaves_nothing_behind_for_the_next() {
        let playlists = Csr::from_lists([vec![0, 1, 2, 3], vec![3, 0, 2, 5], vec![3, 4, 0, 0, 1]]);
        let placements = Placements::new(&playlists, &ARTISTS, &[NONE; 6], 5);
        let mut workspace = Workspace::default();
        let first = placements.candidates(0, &mut workspace);
        placements.candidates(3, &mut workspace);
        let again = placements.candidates(0, &mut workspace);
        assert_eq!((&first.rows, &first.features), (&again.rows, &again.features));
        assert!(first.rows.iter().all(|&row| row < 5), "rows beyond the vocabulary are not recommended");
    }

    #[test]
    fn many_placements_are_sampled_and_weigh_as_many() {
        let lists: Vec<Vec<u32>> = (0..1_200).map(|number| vec![0, 1 + number % 2]).collect();
        let playlists = Csr::from_lists(lists);
        let placements = Placements::new(&playlists, &ARTISTS, &[NONE; 6], 6);
        let found = placements.candidates(0, &mut Workspace::default());
        let behind: f32 = [1, 2].iter().map(|&row| features_of(&found, row)[0]).sum();
        assert!((behind - 1_200.0).abs() < 1.0, "{behind}");
    }
}
