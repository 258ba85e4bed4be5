//! All that completions are learned from: the playlists as sequences, their titles, and what is known of the tracks.

use std::collections::HashMap;

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
    /// artist of each track
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
        let mut titles: HashMap<i32, String> = named(catalog.playlist_titles().await?);
        let titles = playlist_rows.iter().map(|row| titles.remove(row).unwrap_or_default()).collect();
        let descriptions = catalog.track_descriptions().await?;
        let mut of_id = HashMap::with_capacity(descriptions.len());
        for track in descriptions {
            of_id.insert(track.row, track);
        }
        let mut artists = Numbering::new(named(catalog.artist_names().await?));
        let mut albums = Numbering::new(named(catalog.album_names().await?));
        let tracks = sequences.catalog_rows.iter().map(|row| of_id.remove(row));
        let (mut track_names, mut artist_of, mut album_of) = (Vec::new(), Vec::new(), Vec::new());
        for track in tracks {
            // Only a track placed for the first time while this reads lacks its description.
            artist_of.push(artists.number(track.as_ref().map_or(-1, |track| track.artist)));
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
}

fn named(rows: Vec<crate::catalog::RowName>) -> HashMap<i32, String> {
    rows.into_iter().map(|row| (row.row, row.name)).collect()
}

/// Gives row ids of the catalog numbers from 0 in the order in which they are asked for.
struct Numbering {
    name_of: HashMap<i32, String>,
    number_of: HashMap<i32, u32>,
    names: Vec<String>,
}

impl Numbering {
    fn new(name_of: HashMap<i32, String>) -> Self {
        Self { name_of, number_of: HashMap::new(), names: Vec::new() }
    }

    fn number(&mut self, row: i32) -> u32 {
        *self.number_of.entry(row).or_insert_with(|| {
            self.names.push(self.name_of.remove(&row).unwrap_or_default());
            self.names.len() as u32 - 1
        })
    }
}
