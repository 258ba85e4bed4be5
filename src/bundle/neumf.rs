//! The files of a NeuMF network with clusters of its playlists, within a bundle that holds more than this. It knows P
//! playlists and T tracks of the bundle, all of them or some:
//!
//! * `neumf_playlist_rows.npy`, `neumf_track_rows.npy`: uint32 `[P]` and `[T]`, the bundle's rows of these, rising. Without
//!   these files they are all that the bundle has.
//! * `neumf_gmf_playlists.npy`, `neumf_gmf_tracks.npy`: float32 `[P, latent]` and `[T, latent]`.
//! * `neumf_mlp_playlists.npy`, `neumf_mlp_tracks.npy`: float32 `[P, m]` and `[T, m]`.
//! * `neumf_dense_1_weights.npy`, `neumf_dense_1_biases.npy` and on: float32 `[outputs, inputs]` and `[outputs]` of each
//!   dense layer. The first one's inputs are 2 m, a playlist's before a track's.
//! * `neumf_output_weights.npy`, `neumf_output_bias.npy`: float32 `[latent + outputs of the last layer]`, those of GMF
//!   first, and `[1]`.
//! * `neumf_centre.npy`: float32 `[m]`, the mean of the playlists' MLP embeddings.
//! * `neumf_centroids.npy`: float32 `[clusters, m]`, means of what each playlist's MLP embedding is off the center, brought
//!   to length 1.
//! * `neumf_clusters.npy`: uint32 `[P]`, cluster of each playlist.

use super::{BundleError, BundleFolder, BundleWriter};
use crate::math::Array;
use crate::scoring::neumf::DenseLayer;

/// The four tables of embeddings.
const TABLES: [&str; 4] = ["gmf_playlists", "gmf_tracks", "mlp_playlists", "mlp_tracks"];
const PLAYLIST_ROWS: &str = "playlist_rows";
const TRACK_ROWS: &str = "track_rows";
/// More layers than anyone would train.
const MOST_LAYERS: usize = 32;

/// NeuMF as arrays; P playlists, T tracks, embeddings of lengths `latent` and m.
#[derive(Debug, Clone, PartialEq)]
pub struct NeumfBundle {
    /// `[P]`: the bundle's rows of the playlists that it was trained on, rising
    pub playlist_rows: Vec<u32>,
    /// `[T]`: the bundle's rows of the tracks that it knows, rising
    pub track_rows: Vec<u32>,
    /// `[P, latent]`
    pub gmf_playlists: Array<f32>,
    /// `[T, latent]`
    pub gmf_tracks: Array<f32>,
    /// `[P, m]`
    pub mlp_playlists: Array<f32>,
    /// `[T, m]`
    pub mlp_tracks: Array<f32>,
    /// the first one's inputs are 2 m, a playlist's before a track's
    pub dense: Vec<DenseLayer>,
    /// `[latent + outputs of the last layer]`
    pub output_weights: Array<f32>,
    /// `[1]`
    pub output_bias: Array<f32>,
    /// `[m]`: mean of the playlists' MLP embeddings
    pub centre: Array<f32>,
    /// `[clusters, m]`: means of the MLP embeddings less the center, each brought to length 1
    pub centroids: Array<f32>,
    /// `[P]`
    pub clusters: Array<u32>,
}

fn file(name: &str) -> String {
    format!("neumf_{name}.npy")
}

impl NeumfBundle {
    /// Names of the files that [`NeumfBundle::load`] reads from `folder`.
    pub fn files(folder: &BundleFolder) -> Vec<String> {
        let names = folder.manifest().files.iter().map(|file| file.name.clone());
        names.filter(|name| name.starts_with("neumf_")).collect()
    }

    /// Adds its files to a bundle.
    pub fn write(&self, writer: &mut BundleWriter) -> Result<(), BundleError> {
        let mut write = |name: &str, array: &Array<f32>| writer.write_array(&file(name), &array.shape, &array.values);
        let tables = [&self.gmf_playlists, &self.gmf_tracks, &self.mlp_playlists, &self.mlp_tracks];
        for (name, table) in TABLES.iter().zip(tables) {
            write(name, table)?;
        }
        for (number, layer) in (1..).zip(&self.dense) {
            write(&format!("dense_{number}_weights"), &layer.weights)?;
            write(&format!("dense_{number}_biases"), &layer.biases)?;
        }
        write("output_weights", &self.output_weights)?;
        write("output_bias", &self.output_bias)?;
        write("centre", &self.centre)?;
        write("centroids", &self.centroids)?;
        for (name, rows) in [(PLAYLIST_ROWS, &self.playlist_rows), (TRACK_ROWS, &self.track_rows)] {
            writer.write_array(&file(name), &[rows.len()], rows)?;
        }
        writer.write_array(&file("clusters"), &self.clusters.shape, &self.clusters.values)
    }

    /// Reads and checks its files from a bundle of `playlists` and `tracks`.
    pub fn load(folder: &BundleFolder, playlists: usize, tracks: usize) -> Result<Self, BundleError> {
        let playlist_rows = rows(folder, PLAYLIST_ROWS, playlists)?;
        let track_rows = rows(folder, TRACK_ROWS, tracks)?;
        let (playlists, tracks) = (playlist_rows.len(), track_rows.len());
        let mut tables = Vec::with_capacity(TABLES.len());
        for (number, name) in TABLES.iter().enumerate() {
            let rows = if number % 2 == 0 { playlists } else { tracks };
            tables.push(table(folder, name, rows)?);
        }
        let (latent, length) = (tables[0].shape[1], tables[2].shape[1]);
        for (name, table, expected) in [("gmf_tracks", &tables[1], latent), ("mlp_tracks", &tables[3], length)] {
            if table.shape[1] != expected {
                return Err(invalid(folder, name, "its rows differ in length from those of the playlists"));
            }
        }
        let mut dense: Vec<DenseLayer> = Vec::new();
        let mut inputs = 2 * length;
        for number in 1..=MOST_LAYERS {
            let [weights, biases] = ["weights", "biases"].map(|part| format!("dense_{number}_{part}"));
            if number > 1 && !folder.has(&file(&weights)) {
                break;
            }
            let layer = DenseLayer { weights: array(folder, &weights)?, biases: array(folder, &biases)? };
            let &[outputs] = layer.biases.shape.as_slice() else {
                return Err(invalid(folder, &biases, "it does not have one dimension"));
            };
            let weights = folder.shaped(&file(&weights), layer.weights, &[outputs.max(1), inputs])?;
            inputs = outputs;
            dense.push(DenseLayer { weights, ..layer });
        }
        let output_weights = shaped(folder, "output_weights", &[latent + inputs])?;
        let output_bias = shaped(folder, "output_bias", &[1])?;
        let centre = shaped(folder, "centre", &[length])?;
        let centroids = array(folder, "centroids")?;
        if centroids.shape.len() != 2 || centroids.shape[1] != length {
            return Err(invalid(
                folder,
                "centroids",
                "its rows differ in length from those of the playlists embeddings",
            ));
        }
        let clusters = file("clusters");
        let clusters = folder.shaped(&clusters, folder.read_array::<u32>(&clusters)?, &[playlists])?;
        if clusters.values.iter().any(|&cluster| cluster as usize >= centroids.shape[0]) {
            return Err(invalid(folder, "clusters", "it refers to a cluster that has no centroid"));
        }
        let [gmf_playlists, gmf_tracks, mlp_playlists, mlp_tracks] = <[Array<f32>; 4]>::try_from(tables)
            .map_err(|_| invalid(folder, TABLES[0], "there are not four tables of embeddings"))?;
        Ok(Self {
            playlist_rows,
            track_rows,
            gmf_playlists,
            gmf_tracks,
            mlp_playlists,
            mlp_tracks,
            dense,
            output_weights,
            output_bias,
            centre,
            centroids,
            clusters,
        })
    }
}

fn invalid(folder: &BundleFolder, name: &str, reason: impl Into<String>) -> BundleError {
    folder.invalid(&file(name), reason)
}

fn array(folder: &BundleFolder, name: &str) -> Result<Array<f32>, BundleError> {
    folder.read_finite(&file(name))
}

fn shaped(folder: &BundleFolder, name: &str, shape: &[usize]) -> Result<Array<f32>, BundleError> {
    folder.shaped(&file(name), array(folder, name)?, shape)
}

/// The bundle's rows that NeuMF knows, of `all`.
fn rows(folder: &BundleFolder, name: &str, all: usize) -> Result<Vec<u32>, BundleError> {
    if !folder.has(&file(name)) {
        return Ok((0..all as u32).collect());
    }
    let rows = folder.read_array::<u32>(&file(name))?;
    let is_rising = rows.shape.len() == 1 && rows.values.is_sorted_by(|left, right| left < right);
    match rows.values.last() {
        _ if !is_rising => Err(invalid(folder, name, "its rows do not rise")),
        Some(&last) if last as usize >= all => Err(invalid(folder, name, "it refers to a row that does not exist")),
        _ => Ok(rows.values),
    }
}

/// `[rows, any length above 0]`.
fn table(folder: &BundleFolder, name: &str, rows: usize) -> Result<Array<f32>, BundleError> {
    let array = array(folder, name)?;
    match array.shape.as_slice() {
        &[found, length] if found == rows && length > 0 => Ok(array),
        found => Err(invalid(folder, name, format!("its shape is {found:?}, expected {rows} rows"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bundle::{Kind, NewManifest};
    use crate::dataset::DataFingerprint;

    fn array(shape: &[usize]) -> Array<f32> {
        let length = shape.iter().product::<usize>();
        Array { shape: shape.to_vec(), values: (0..length).map(|value| value as f32 / 7.0).collect() }
    }

    fn bundle() -> NeumfBundle {
        NeumfBundle {
            playlist_rows: (0..4).collect(),
            track_rows: (0..5).collect(),
            gmf_playlists: array(&[4, 2]),
            gmf_tracks: array(&[5, 2]),
            mlp_playlists: array(&[4, 3]),
            mlp_tracks: array(&[5, 3]),
            dense: vec![
                DenseLayer { weights: array(&[8, 6]), biases: array(&[8]) },
                DenseLayer { weights: array(&[2, 8]), biases: array(&[2]) },
            ],
            output_weights: array(&[4]),
            output_bias: array(&[1]),
            centre: array(&[3]),
            centroids: array(&[2, 3]),
            clusters: Array { shape: vec![4], values: vec![0, 1, 1, 0] },
        }
    }

    fn published(models: &Path, bundle: &NeumfBundle) -> BundleFolder {
        let mut writer = BundleWriter::begin(models, Kind::Similarity).expect("begins");
        bundle.write(&mut writer).expect("writes");
        let data =
            DataFingerprint { playlists: 4, tracks: 5, placements: 9, newest_change: None, sha256: String::new() };
        let (parameters, metrics) = (serde_json::Value::Null, serde_json::Value::Null);
        writer.publish(NewManifest { seed: 1, parameters, data, metrics }).expect("publishes");
        BundleFolder::open_current(models, Kind::Similarity).expect("opens")
    }

    #[test]
    fn it_reads_back_as_written() {
        let models = tempfile::tempdir().expect("a folder");
        let folder = published(models.path(), &bundle());
        assert_eq!(NeumfBundle::load(&folder, 4, 5).expect("loads"), bundle());
        assert_eq!(NeumfBundle::files(&folder).len(), 15);
        let some = NeumfBundle { playlist_rows: vec![0, 2, 5, 9], track_rows: vec![3, 4, 5, 6, 7], ..bundle() };
        let models = tempfile::tempdir().expect("a folder");
        let folder = published(models.path(), &some);
        assert_eq!(NeumfBundle::load(&folder, 10, 8).expect("loads"), some);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refused = |bundle: NeumfBundle, tracks: usize| {
            let models = tempfile::tempdir().expect("a folder");
            NeumfBundle::load(&published(models.path(), &bundle), 4, tracks).expect_err("refused").to_string()
        };
        assert!(refused(bundle(), 4).contains("neumf_track_rows.npy: it refers to a row that does not exist"));
        let track_rows = vec![0, 1, 2, 4];
        let few = NeumfBundle { track_rows, ..bundle() };
        assert!(refused(few, 5).contains("neumf_gmf_tracks.npy: its shape is [5, 2], expected 4 rows"));
        let twice = NeumfBundle { playlist_rows: vec![0, 1, 1, 2], ..bundle() };
        assert!(refused(twice, 5).contains("neumf_playlist_rows.npy: its rows do not rise"));
        let dense = vec![DenseLayer { weights: array(&[8, 5]), biases: array(&[8]) }];
        assert!(refused(NeumfBundle { dense, ..bundle() }, 5).contains("neumf_dense_1_weights.npy"));
        let output_weights = array(&[3]);
        assert!(refused(NeumfBundle { output_weights, ..bundle() }, 5).contains("[3], expected [4]"));
        let clusters = Array { shape: vec![4], values: vec![0, 1, 2, 0] };
        assert!(refused(NeumfBundle { clusters, ..bundle() }, 5).contains("no centroid"));
        let mut infinite = bundle();
        infinite.mlp_tracks.values[3] = f32::INFINITY;
        assert!(refused(infinite, 5).contains("neumf_mlp_tracks.npy: it has values that are not finite"));
    }
}
