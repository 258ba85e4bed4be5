//! What a completion bundle holds.
//!
//! Lists (CSR) are two arrays, `NAME.offsets.npy` (uint64) and `NAME.items.npy` (uint32); texts are `NAME.utf8` and
//! `NAME.offsets.npy`. All is mapped into memory, not read into it.
//!
//! * `track_ids`, `track_names`, `artist_names`: texts, for the rows of tracks and artists.
//! * `playlists`, `postings`, …: see the fields of [`CompletionIndex`]; the indices of titles and names
//!   are `NAME.terms.npy`, `NAME.idf.npy`, `NAME.weights.npy` and the lists `NAME.postings`.
//! * `neumf_*.npy`: NeuMF, see [`NeumfBundle`]; not there if it was trained without.
//! * `trees.*.npy`: the ranking, see [`ObliviousTrees`].

use super::{BundleError, BundleFolder, BundleWriter, Kind, Manifest, NeumfBundle, Vocabulary};
use crate::dataset::{NONE, TextIndex, Texts, Unit};
use crate::math::ByteTable;
use crate::math::{Csr, Values};
use crate::scoring::oblivious_trees::{Binning, ObliviousTrees};

/// The most popular tracks that the factorization and the vectors may propose by themselves.
const LATENT_CANDIDATES: usize = 6_000;

/// Numbers that describe a candidate to the trees.
pub const RANKING_FEATURES: usize = 71;

/// All that completions need.
#[derive(Debug)]
pub struct CompletionBundle {
    /// the app's ids of the rows
    pub vocabulary: Vocabulary,
    /// title of each track
    pub track_names: Texts,
    /// name of each artist
    pub artist_names: Texts,
    /// the playlists, laid out for retrieval
    pub index: CompletionIndex,
    /// the learned ranking
    pub trees: ObliviousTrees,
    /// NeuMF with clusters of the playlists of `index`, unless it was trained without
    pub neumf: Option<NeumfBundle>,
}

impl CompletionBundle {
    /// Maps all that serving needs, and checks all files.
    pub fn load(folder: &BundleFolder) -> Result<(Manifest, Self), BundleError> {
        let vocabulary = folder.read_vocabulary("track_ids")?;
        let index = CompletionIndex::load(folder, vocabulary.len())?;
        let neumf = match NeumfBundle::files(folder).is_empty() {
            true => None,
            false => Some(NeumfBundle::load(folder, index.playlists.rows(), vocabulary.len())?),
        };
        let mut bundle = Self {
            track_names: folder.map_texts("track_names")?,
            artist_names: folder.map_texts("artist_names")?,
            index,
            neumf,
            trees: load_trees(folder)?,
            vocabulary,
        };
        if bundle.track_names.len() != bundle.vocabulary.len() {
            return Err(folder.invalid("track_names.offsets.npy", "its number of rows differs from track_ids"));
        }
        if bundle.artist_names.len() != bundle.index.artist_counts.len() {
            return Err(folder.invalid("artist_names.offsets.npy", "its number of rows differs from artist_counts"));
        }
        bundle.forget_unknown_artist();
        Ok((folder.manifest().clone(), bundle))
    }

    /// Version 0.1 gave tracks without an artist one of this name, or without a name.
    fn forget_unknown_artist(&mut self) {
        let is_unknown = |&artist: &u32| matches!(self.artist_names.get(artist), "Unknown artist" | "");
        let unknown: Vec<u32> = (0..self.artist_names.len() as u32).filter(is_unknown).collect();
        if !unknown.is_empty() {
            let known = |&artist: &u32| if unknown.binary_search(&artist).is_ok() { NONE } else { artist };
            self.index.artist_of = self.index.artist_of.iter().map(known).collect::<Vec<u32>>().into();
        }
    }

    /// Writes all but the manifest.
    pub fn write(&self, writer: &mut BundleWriter) -> Result<(), BundleError> {
        writer.write_vocabulary("track_ids", &self.vocabulary)?;
        writer.write_texts("track_names", &self.track_names)?;
        writer.write_texts("artist_names", &self.artist_names)?;
        self.index.write(writer)?;
        if let Some(neumf) = &self.neumf {
            neumf.write(writer)?;
        }
        write_trees(&self.trees, writer)
    }

    /// Loads the current completion bundle below the folder `models`.
    pub fn load_current(models: &std::path::Path) -> Result<(Manifest, Self), BundleError> {
        Self::load(&BundleFolder::open_current(models, Kind::Completion)?)
    }
}

/// The playlists of the catalog, laid out for retrieval. `P` playlists, `N` tracks, artists and albums by number.
///
/// Rows of tracks are those of the vocabulary; tracks that no playlist of this index holds have empty postings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CompletionIndex {
    /// `[P]` lists: distinct tracks of each playlist, in its order
    pub playlists: Csr,
    /// `[N]` lists: playlists that hold each track, rising
    pub postings: Csr,
    /// tracks that any playlist holds, by falling number of playlists
    pub popular: Values<u32>,
    /// `[N]`: artist of each track, or [`crate::dataset::NONE`]
    pub artist_of: Values<u32>,
    /// `[N]`: album of each track, or [`crate::dataset::NONE`]
    pub album_of: Values<u32>,
    /// tracks of each artist that any playlist holds, by falling number of playlists
    pub artist_tracks: Csr,
    /// tracks of each album that any playlist holds, by falling number of playlists
    pub album_tracks: Csr,
    /// number of playlists that hold each artist
    pub artist_counts: Values<u32>,
    /// number of placements of each album
    pub album_counts: Values<u32>,
    /// `[P]` lists: distinct artists of each playlist
    pub playlist_artists: Csr,
    /// for each entry of `playlist_artists`: ln(1 + number of that artist's tracks in the playlist)
    pub playlist_artist_weights: Values<f32>,
    /// for each artist those that playlists hold together with it, nearest first
    pub artist_neighbours: Csr,
    /// for each entry of `artist_neighbours`: how near
    pub artist_neighbour_weights: Values<f32>,
    /// distinct normalized titles
    pub titles: TextIndex,
    /// for each of `titles` the playlists that are called so
    pub title_playlists: Csr,
    /// normalized names of the artists, by n-grams
    pub artist_names: TextIndex,
    /// normalized names of the artists, by words
    pub artist_words: TextIndex,
    /// normalized titles of the tracks, by words
    pub track_words: TextIndex,
    /// `[N, dimensions]`: factors of the tracks by alternating least squares
    pub factors: Values<f32>,
    /// `[dimensions, dimensions]`: Gram matrix of `factors` plus the L2 penalty on its diagonal
    pub gram: Values<f32>,
    /// weight of an observed cell above that of an unobserved one, as in training
    pub alpha: f32,
    /// `[N, vector_length]`: the tracks' vectors by Track2Vec, of length 1; zeros for tracks that less than two playlists hold
    pub vectors: Values<f32>,
    /// what follows from the rest
    pub derived: DerivedTables,
}

/// What follows from the rest of an index: not stored, computed when it is built or loaded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DerivedTables {
    /// length of a factor
    pub dimensions: usize,
    /// length of a vector
    pub vector_length: usize,
    /// `[N]`: (playlists that hold the track + 20)^−0.75, the discount of item-kNN
    pub discount: Vec<f32>,
    /// for each artist, how many playlists hold the most popular of its tracks
    pub artist_top: Vec<u32>,
    /// `[N]`: ln(1 + playlists that hold the track)
    pub log_popularity: Vec<f32>,
    /// `[N]`: 1 / length of the track's factor, 0 where it has none
    pub inverse_norm: Vec<f32>,
    /// `[N]`: mean place of the track in its playlists, from 0 for the first to 1 for the last; ½ where it is in none
    pub mean_place: Vec<f32>,
    /// `[N]`: mean of ln(length) of the track's playlists; 0 where it is in none
    pub mean_length: Vec<f32>,
    /// for each artist the playlists that hold it, rising
    pub artist_postings: Csr,
    /// factors of the first [`LATENT_CANDIDATES`] of `popular`
    pub popular_factors: ByteTable,
    /// vectors of the first [`LATENT_CANDIDATES`] of `popular`
    pub popular_vectors: ByteTable,
}

impl CompletionIndex {
    /// Number of tracks, held by any playlist or not.
    pub fn tracks(&self) -> usize {
        self.artist_of.len()
    }

    /// Number of playlists that hold a track.
    #[inline]
    pub fn popularity(&self, track: u32) -> usize {
        self.postings.row(track as usize).len()
    }

    /// Artist of a track, if it has one.
    #[inline]
    pub fn artist(&self, track: u32) -> Option<u32> {
        Some(self.artist_of[track as usize]).filter(|&artist| artist != NONE)
    }

    /// Length of a factor.
    #[inline]
    pub fn dimensions(&self) -> usize {
        self.derived.dimensions
    }

    /// Computes [`CompletionIndex::derived`].
    pub fn derive(&mut self) {
        let dimensions = self.gram.len().isqrt();
        self.derived.dimensions = dimensions; // factors are looked at below
        let popularity = |track: u32| self.popularity(track) as f32;
        let tracks = 0..self.tracks() as u32;
        // Drawn towards the middle for tracks in few playlists.
        let (mut places, mut lengths) = (vec![1.0f32; self.tracks()], vec![0.0f32; self.tracks()]);
        for rows in self.playlists.iter() {
            let length = (rows.len() as f32).ln();
            for (place, &row) in rows.iter().enumerate() {
                places[row as usize] += place as f32 / (rows.len() - 1).max(1) as f32;
                lengths[row as usize] += length;
            }
        }
        for track in tracks.clone() {
            let (place, length) = (&mut places[track as usize], &mut lengths[track as usize]);
            *place /= popularity(track) + 2.0;
            *length /= popularity(track).max(1.0);
        }
        let vector_length = self.vectors.len() / self.tracks().max(1);
        let popular = &self.popular[..LATENT_CANDIDATES.min(self.popular.len())];
        let of_popular = |table: &[f32], length: usize| {
            let rows = popular.iter().flat_map(|&row| &table[row as usize * length..][..length]);
            ByteTable::new(&rows.copied().collect::<Vec<f32>>(), length)
        };
        self.derived = DerivedTables {
            dimensions,
            vector_length,
            popular_factors: of_popular(&self.factors, dimensions),
            popular_vectors: of_popular(&self.vectors, vector_length),
            discount: tracks.clone().map(|track| (popularity(track) + 20.0).powf(-0.75)).collect(),
            artist_top: (self.artist_tracks.iter())
                .map(|rows| rows.first().map_or(1, |&top| self.popularity(top).max(1) as u32))
                .collect(),
            log_popularity: tracks.clone().map(|track| popularity(track).ln_1p()).collect(),
            inverse_norm: tracks
                .map(|track| self.factor(track).iter().map(|value| value * value).sum::<f32>().sqrt())
                .map(|norm| if norm > 0.0 { 1.0 / norm } else { 0.0 })
                .collect(),
            mean_place: places,
            mean_length: lengths,
            artist_postings: self.playlist_artists.transpose(self.artist_counts.len()),
        };
    }

    /// Vector of a track.
    #[inline]
    pub fn vector(&self, track: u32) -> &[f32] {
        let length = self.derived.vector_length;
        &self.vectors[track as usize * length..(track as usize + 1) * length]
    }

    /// Factor of a track.
    #[inline]
    pub fn factor(&self, track: u32) -> &[f32] {
        let dimensions = self.dimensions();
        &self.factors[track as usize * dimensions..(track as usize + 1) * dimensions]
    }
}

impl CompletionIndex {
    fn load(folder: &BundleFolder, tracks: usize) -> Result<Self, BundleError> {
        let below =
            |name: &str, values: &[u32], limit: usize| match values.iter().all(|&value| (value as usize) < limit) {
                true => Ok(()),
                false => Err(folder.invalid(name, "it refers to a row that does not exist")),
            };
        let artist_counts: Values<u32> = folder.map_array("artist_counts.npy")?.1;
        let album_counts: Values<u32> = folder.map_array("album_counts.npy")?.1;
        let (artists, albums) = (artist_counts.len(), album_counts.len());
        let playlists = folder.map_csr("playlists", None, tracks)?;
        let count = playlists.rows();
        let popular: Values<u32> = folder.map_array("popular.npy")?.1;
        below("popular.npy", &popular, tracks)?;
        folder.check_distinct("popular.npy", &popular, tracks)?;
        let [artist_of, album_of] = [("artist_of.npy", artists), ("album_of.npy", albums)].map(|(name, limit)| {
            let of: Values<u32> = folder.map_values(name, tracks)?;
            match of.iter().any(|&group| group != NONE && group as usize >= limit) {
                true => Err(folder.invalid(name, "it refers to a row that does not exist")),
                false => Ok(of),
            }
        });
        let (artist_of, album_of) = (artist_of?, album_of?);
        let playlist_artists = folder.map_csr("playlist_artists", Some(count), artists)?;
        let artist_neighbours = folder.map_csr("artist_neighbours", Some(artists), artists)?;
        let titles = load_text_index(folder, "titles", Unit::Gram)?;
        let artist_names = load_text_index(folder, "artist_grams", Unit::Gram)?;
        let artist_words = load_text_index(folder, "artist_words", Unit::Word)?;
        let track_words = load_text_index(folder, "track_words", Unit::Word)?;
        for (name, index, documents) in [
            ("artist_grams.documents.npy", &artist_names, artists),
            ("artist_words.documents.npy", &artist_words, artists),
            ("track_words.documents.npy", &track_words, tracks),
        ] {
            if index.documents != documents {
                return Err(folder.invalid(name, "its number of documents differs from the number of rows"));
            }
        }
        let (shape, gram) = folder.map_array::<f32>("gram.npy")?;
        let &[dimensions, across] = shape.as_slice() else {
            return Err(folder.invalid("gram.npy", "it does not have two dimensions"));
        };
        if dimensions == 0 || dimensions != across {
            return Err(folder.invalid("gram.npy", "it is not square"));
        }
        let factors = folder.map_finite("factors.npy", tracks * dimensions)?;
        folder.check_finite("gram.npy", &gram)?;
        let alpha = folder.map_finite("alpha.npy", 1)?;
        let (shape, vectors) = folder.map_array::<f32>("vectors.npy")?;
        if shape.len() != 2 || shape[0] != tracks {
            return Err(folder.invalid("vectors.npy", "its number of rows differs from track_ids"));
        }
        folder.check_finite("vectors.npy", &vectors)?;
        let mut index = Self {
            postings: folder.map_csr("postings", Some(tracks), count)?,
            popular,
            artist_of,
            album_of,
            artist_tracks: folder.map_csr("artist_tracks", Some(artists), tracks)?,
            album_tracks: folder.map_csr("album_tracks", Some(albums), tracks)?,
            artist_counts,
            album_counts,
            playlist_artist_weights: folder
                .map_finite("playlist_artist_weights.npy", playlist_artists.items().len())?,
            playlist_artists,
            artist_neighbour_weights: folder
                .map_finite("artist_neighbour_weights.npy", artist_neighbours.items().len())?,
            artist_neighbours,
            title_playlists: folder.map_csr("title_playlists", Some(titles.documents), count)?,
            titles,
            artist_names,
            artist_words,
            track_words,
            factors,
            gram,
            alpha: alpha[0],
            vectors,
            derived: DerivedTables::default(),
            playlists,
        };
        index.derive();
        Ok(index)
    }

    fn write(&self, writer: &mut BundleWriter) -> Result<(), BundleError> {
        let dimensions = self.dimensions();
        for (name, lists) in [
            ("playlists", &self.playlists),
            ("postings", &self.postings),
            ("artist_tracks", &self.artist_tracks),
            ("album_tracks", &self.album_tracks),
            ("playlist_artists", &self.playlist_artists),
            ("artist_neighbours", &self.artist_neighbours),
            ("title_playlists", &self.title_playlists),
        ] {
            writer.write_csr(name, lists)?;
        }
        for (name, values) in [
            ("popular.npy", &self.popular),
            ("artist_of.npy", &self.artist_of),
            ("album_of.npy", &self.album_of),
            ("artist_counts.npy", &self.artist_counts),
            ("album_counts.npy", &self.album_counts),
        ] {
            writer.write_values(name, values)?;
        }
        for (name, values) in [
            ("playlist_artist_weights.npy", &self.playlist_artist_weights),
            ("artist_neighbour_weights.npy", &self.artist_neighbour_weights),
        ] {
            writer.write_values(name, values)?;
        }
        write_text_index(writer, "titles", &self.titles)?;
        write_text_index(writer, "artist_grams", &self.artist_names)?;
        write_text_index(writer, "artist_words", &self.artist_words)?;
        write_text_index(writer, "track_words", &self.track_words)?;
        writer.write_array("factors.npy", &[self.tracks(), dimensions], &self.factors)?;
        writer.write_array("gram.npy", &[dimensions, dimensions], &self.gram)?;
        writer.write_array("alpha.npy", &[1], &[self.alpha])?;
        writer.write_array("vectors.npy", &[self.tracks(), self.derived.vector_length], &self.vectors)
    }
}

fn load_text_index(folder: &BundleFolder, name: &str, unit: Unit) -> Result<TextIndex, BundleError> {
    let file = format!("{name}.terms.npy");
    let terms: Values<u64> = folder.map_array(&file)?.1;
    if !terms.is_sorted_by(|left, right| left < right) {
        return Err(folder.invalid(&file, "its terms do not rise"));
    }
    let documents: Values<u32> = folder.map_values(&format!("{name}.documents.npy"), 1)?;
    let documents = documents[0] as usize;
    let postings = folder.map_csr(&format!("{name}.postings"), Some(terms.len()), documents)?;
    Ok(TextIndex {
        idf: folder.map_finite(&format!("{name}.idf.npy"), terms.len())?,
        weights: folder.map_finite(&format!("{name}.weights.npy"), postings.items().len())?,
        postings,
        terms,
        documents,
        unit,
    })
}

fn write_text_index(writer: &mut BundleWriter, name: &str, index: &TextIndex) -> Result<(), BundleError> {
    writer.write_values(&format!("{name}.terms.npy"), &index.terms)?;
    writer.write_values(&format!("{name}.idf.npy"), &index.idf)?;
    writer.write_values(&format!("{name}.weights.npy"), &index.weights)?;
    writer.write_array(&format!("{name}.documents.npy"), &[1], &[index.documents as u32])?;
    writer.write_csr(&format!("{name}.postings"), &index.postings)
}

fn load_trees(folder: &BundleFolder) -> Result<ObliviousTrees, BundleError> {
    let (shape, features) = folder.map_array::<u8>("trees.features.npy")?;
    let &[trees, depth] = shape.as_slice() else {
        return Err(folder.invalid("trees.features.npy", "it does not have two dimensions"));
    };
    if !(1..=8).contains(&depth) {
        return Err(folder.invalid("trees.features.npy", "the depth of the trees must be from 1 to 8"));
    }
    let thresholds: Values<u8> = folder.map_values("trees.thresholds.npy", trees * depth)?;
    let leaves = folder.map_finite("trees.leaves.npy", trees << depth)?;
    let borders: Values<f32> = folder.map_array("trees.borders.npy")?.1;
    let counts: Values<u32> = folder.map_values("trees.border_counts.npy", RANKING_FEATURES)?;
    if counts.iter().map(|&count| count as usize).sum::<usize>() != borders.len() {
        return Err(folder.invalid("trees.border_counts.npy", "the counts do not add up to the number of borders"));
    }
    let mut rest = &borders[..];
    let borders = counts.iter().map(|&count| {
        let (own, others) = rest.split_at(count as usize);
        rest = others;
        own.to_vec()
    });
    let trees = ObliviousTrees {
        binning: Binning { borders: borders.collect() },
        depth,
        features: features.to_vec(),
        thresholds: thresholds.to_vec(),
        leaves: leaves.to_vec(),
    };
    trees.check(RANKING_FEATURES).map_err(|reason| folder.invalid("trees.features.npy", reason))?;
    Ok(trees)
}

fn write_trees(trees: &ObliviousTrees, writer: &mut BundleWriter) -> Result<(), BundleError> {
    let (count, depth) = (trees.trees(), trees.depth);
    let borders = trees.binning.borders.concat();
    let counts: Vec<u32> = trees.binning.borders.iter().map(|borders| borders.len() as u32).collect();
    writer.write_array("trees.features.npy", &[count, depth], &trees.features)?;
    writer.write_array("trees.thresholds.npy", &[count, depth], &trees.thresholds)?;
    writer.write_array("trees.leaves.npy", &[count, 1 << depth], &trees.leaves)?;
    writer.write_values("trees.borders.npy", &borders)?;
    writer.write_values("trees.border_counts.npy", &counts)
}
