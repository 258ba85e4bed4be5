//! All that completions are learned from: the playlists as sequences, their titles, and what is known of the tracks.

use std::collections::HashMap;
use std::hash::Hash;

use super::Sequences;
use crate::catalog::{Catalog, CatalogError};

/// Stands for "belongs to none", for example a track without an album.
pub const NONE: u32 = u32::MAX;

/// The catalog's playlists with titles, and its tracks with artists and albums.
///
/// Artists and albums are numbered as they first occur in the rows of tracks: the most popular ones come first, and the
/// numbers don't depend on the order of imports.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// tracks and playlists
    pub sequences: Sequences,
    /// title of each playlist, empty where it has none
    pub titles: Vec<String>,
    /// title of each track
    pub track_names: Vec<String>,
    /// artist of each track, or [`NONE`]
    pub artist_of: Vec<u32>,
    /// album of each track, or [`NONE`]
    pub album_of: Vec<u32>,
    /// name of each artist
    pub artist_names: Vec<String>,
    /// name of each album
    pub album_names: Vec<String>,
}

impl Corpus {
    /// Reads the catalog.
    pub async fn load(catalog: &Catalog) -> Result<Self, CatalogError> {
        let (sequences, playlist_rows) = Sequences::load_with_rows(catalog).await?;
        let mut titles = catalog.playlist_titles().await?;
        let titles = playlist_rows.iter().map(|row| titles.remove(row).unwrap_or_default()).collect();
        let descriptions = catalog.track_descriptions().await?;
        let mut of_id = HashMap::with_capacity(descriptions.len());
        for track in descriptions {
            of_id.insert(track.row, track);
        }
        let mut artists = Numbering::new(catalog.artist_names().await?);
        let mut albums = Numbering::new(catalog.album_names().await?);
        let tracks = sequences.catalog_rows.iter().map(|row| of_id.remove(row));
        let (mut track_names, mut artist_of, mut album_of) = (Vec::new(), Vec::new(), Vec::new());
        for track in tracks {
            // Only a track placed for the first time while this reads lacks its description.
            artist_of.push(track.as_ref().and_then(|track| track.artist).map_or(NONE, |artist| artists.number(artist)));
            album_of.push(track.as_ref().and_then(|track| track.album).map_or(NONE, |album| albums.number(album)));
            track_names.push(track.map(|track| track.name).unwrap_or_default());
        }
        Ok(Self {
            sequences,
            titles,
            track_names,
            artist_of,
            album_of,
            artist_names: artists.names,
            album_names: albums.names,
        })
    }

    /// Returns the playlists `kept` (rows of `sequences.playlists`) as if there were no others: tracks, artists and albums
    /// are renumbered, and those in none of the playlists are dropped.
    pub fn select(&self, kept: &[u32]) -> Self {
        let (sequences, rows) = self.sequences.select(kept);
        let (artist_of, artist_names) = select_names(&rows, &self.artist_of, &self.artist_names);
        let (album_of, album_names) = select_names(&rows, &self.album_of, &self.album_names);
        Self {
            sequences,
            titles: kept.iter().map(|&playlist| self.titles[playlist as usize].clone()).collect(),
            track_names: rows.iter().map(|&row| self.track_names[row as usize].clone()).collect(),
            artist_of,
            album_of,
            artist_names,
            album_names,
        }
    }
}

/// What each of `rows` belongs to, numbered by first occurrence, with the names of those.
fn select_names(rows: &[u32], of: &[u32], names: &[String]) -> (Vec<u32>, Vec<String>) {
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let mut selected = Vec::new();
    let of = rows.iter().map(|&row| match of[row as usize] {
        NONE => NONE,
        old => *numbers.entry(old).or_insert_with(|| {
            selected.push(names[old as usize].clone());
            selected.len() as u32 - 1
        }),
    });
    (of.collect(), selected)
}

/// Numbers row ids of the catalog from 0 in the order in which they are requested.
struct Numbering<Row> {
    name_of: HashMap<Row, String>,
    number_of: HashMap<Row, u32>,
    names: Vec<String>,
}

impl<Row: Copy + Eq + Hash> Numbering<Row> {
    fn new(name_of: HashMap<Row, String>) -> Self {
        Self { name_of, number_of: HashMap::new(), names: Vec::new() }
    }

    fn number(&mut self, row: Row) -> u32 {
        *self.number_of.entry(row).or_insert_with(|| {
            self.names.push(self.name_of.remove(&row).unwrap_or_default());
            self.names.len() as u32 - 1
        })
    }
}

#[cfg(test)]
impl Corpus {
    /// Made of playlists of rows, for tests: row `r` has the id `t<r>`, and the artist and album that are named.
    pub(crate) fn by_hand(playlists: &[(&str, &[u32])], artists: &[&str]) -> Self {
        use crate::math::Csr;
        let mut counts = vec![0; artists.len()];
        playlists.iter().flat_map(|(_, rows)| rows.iter()).for_each(|&row| counts[row as usize] += 1);
        let names: Vec<String> = artists.iter().map(|&name| name.to_owned()).collect();
        Self {
            sequences: Sequences::by_hand(
                (0..artists.len()).map(|row| format!("t{row}")).collect(),
                counts,
                Csr::from_lists(playlists.iter().map(|(_, rows)| rows.iter().copied())),
            ),
            titles: playlists.iter().map(|(title, _)| (*title).to_owned()).collect(),
            track_names: vec![String::new(); artists.len()],
            // An artist a track, so that two of them may have one name.
            artist_of: (0..artists.len() as u32).collect(),
            album_of: vec![NONE; artists.len()],
            artist_names: names,
            album_names: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_the_corpus_that_these_playlists_alone_would_make() {
        let corpus =
            Corpus::by_hand(&[("a", &[0, 1, 0]), ("b", &[0, 1, 2, 3]), ("c", &[3, 1, 3])], &["A", "B", "C", "D"]);
        let selected = corpus.select(&[1, 2]);
        // Placements left: t3 has three, t1 two, t0 and t2 one.
        assert_eq!(selected.sequences.track_ids, ["t3", "t1", "t0", "t2"]);
        assert_eq!(selected.sequences.counts, [3, 2, 1, 1]);
        let playlists: Vec<&[u32]> = selected.sequences.playlists.iter().collect();
        assert_eq!(playlists, [&[2, 1, 3, 0][..], &[0, 1, 0]]);
        assert_eq!(selected.titles, ["b", "c"]);
        assert_eq!((selected.artist_of, selected.artist_names.join("")), (vec![0, 1, 2, 3], "DBAC".to_owned()));
        assert_eq!(selected.album_of, [NONE; 4]);
        assert_eq!(selected.sequences.fingerprint.placements, 7);

        let less = corpus.select(&[0]);
        assert_eq!(less.sequences.track_ids, ["t0", "t1"]);
        assert_eq!(less.artist_names, ["A", "B"]);
        assert_ne!(less.sequences.fingerprint.sha256, corpus.sequences.fingerprint.sha256);
    }
}
