//! What a ratings bundle holds. T tracks, each described by D numbers:
//!
//! * `model.json`: the scalars, see [`RatingsShape`].
//! * `track_ids.utf8`, `track_ids.offsets.npy`: the vocabulary, by falling number of users who rated or played a track.
//! * `base.npy`: float32 `[T]`, what is expected of a track before anything is known of the user: mean and track bias.
//! * `counts.npy`: uint32 `[T]`, users who rated or played it.
//! * `features.npy`: float32 `[T, D]`, what a user's taste is a linear function of.
//! * `precisions.npy`: float32 `[D]`, how strongly a weight of a user is drawn to 0, in units of ratings.
//! * `norms.npy`: float32 `[T]`, and `singular.npy`: float32 `[K]`, if who-rated-what takes part in the ranking: lengths
//!   of the tracks' singular vectors, whose directions are K columns of the features, and the singular values.
//! * `hidden_users.npy` `[H, D]`, `hidden_tracks.npy` `[H, D]`, `hidden_biases.npy` `[H]`, `output_weights.npy` `[H]`, all
//!   float32, if a network with a hidden layer predicts: its inputs are a user's D weights and a track's D features.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{BundleError, BundleFolder, BundleWriter, Kind, Manifest, Vocabulary, encode_array};
use crate::math::Array;
use crate::scoring::ratings::HiddenLayer;

const SHAPE: &str = "model.json";
const IDS: &str = "track_ids.utf8";
const ID_OFFSETS: &str = "track_ids.offsets.npy";
const BASE: &str = "base.npy";
const COUNTS: &str = "counts.npy";
const FEATURES: &str = "features.npy";
const PRECISIONS: &str = "precisions.npy";
const NORMS: &str = "norms.npy";
const SINGULAR: &str = "singular.npy";
const HIDDEN_USERS: &str = "hidden_users.npy";
const HIDDEN_TRACKS: &str = "hidden_tracks.npy";
const HIDDEN_BIASES: &str = "hidden_biases.npy";
const OUTPUT_WEIGHTS: &str = "output_weights.npy";

/// The scalars of a ratings model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RatingsShape {
    /// name of the model: `gp`, `dot`, `bias`, `mlp`
    pub model: String,
    /// ratings that it learned from; without any it can rank, and predicts nothing
    pub ratings: u64,
    /// mean of the ratings
    pub mean: f32,
    /// their standard deviation
    pub deviation: f32,
    /// lowest and highest of them
    pub range: (f32, f32),
    /// columns of the features that are scalars of a track of any size, before those that are parts of vectors
    pub plain_columns: usize,
    /// variance of a session's effect on its ratings, as a multiple of the noise's; 0 for none
    pub session_ratio: f32,
    /// a pause of more seconds ends a session
    pub session_gap_seconds: i64,
    /// how much who-rated-what counts in the ranking, beside the predicted rating; 0 for not at all
    pub affinity: f32,
    /// bias of the network's output; added to nothing else
    pub output_bias: f32,
}

/// Who rated what, as a truncated singular value decomposition.
#[derive(Debug, Clone, PartialEq)]
pub struct ImplicitBundle {
    /// `[T]`: length of a track's row of the right singular vectors, each times its singular value
    pub norms: Vec<f32>,
    /// `[K]`: singular values, falling. The K columns after the plain ones are the rows' directions
    pub singular: Vec<f32>,
}

/// A ratings model as arrays.
#[derive(Debug)]
pub struct RatingsBundle {
    /// scalars
    pub shape: RatingsShape,
    /// the app's ids of the T tracks
    pub vocabulary: Vocabulary,
    /// `[T]`
    pub base: Vec<f32>,
    /// `[T]`, falling
    pub counts: Vec<u32>,
    /// `[T, D]`
    pub features: Array<f32>,
    /// `[D]`
    pub precisions: Vec<f32>,
    /// who rated what, if that takes part
    pub implicit: Option<ImplicitBundle>,
    /// the network, if one predicts
    pub hidden: Option<HiddenLayer>,
}

impl RatingsBundle {
    /// Reads and checks all of it.
    pub fn load(folder: &BundleFolder) -> Result<(Manifest, Self), BundleError> {
        let refuse = |name: &str, reason: &str| BundleError::file(&folder.path(name), reason);
        let shape: RatingsShape =
            serde_json::from_slice(&folder.read(SHAPE)?).map_err(|error| refuse(SHAPE, &error.to_string()))?;
        let text = String::from_utf8(folder.read(IDS)?).map_err(|_| refuse(IDS, "it is not UTF-8"))?;
        let vocabulary = Vocabulary::from_parts(text, folder.read_array::<u64>(ID_OFFSETS)?.values)
            .map_err(|reason| refuse(ID_OFFSETS, &reason))?;
        let tracks = vocabulary.len();
        let features = finite(folder, FEATURES)?;
        let columns = match features.shape.as_slice() {
            &[rows, columns] if rows == tracks && columns > 0 && shape.plain_columns <= columns => columns,
            found => return Err(refuse(FEATURES, &format!("its shape is {found:?}, expected {tracks} rows"))),
        };
        let counts = folder.read_array::<u32>(COUNTS)?;
        if counts.shape != [tracks] || !counts.values.is_sorted_by(|left, right| left >= right) {
            return Err(refuse(COUNTS, "it is not a falling count for each track"));
        }
        let precisions = shaped(folder, PRECISIONS, &[columns])?.values;
        if precisions.iter().any(|&precision| precision <= 0.0) {
            return Err(refuse(PRECISIONS, "it has values that are not above 0"));
        }
        let listed = |name: &str| folder.manifest().files.iter().any(|file| file.name == name);
        let implicit = match listed(NORMS) {
            false => None,
            true => {
                let singular = finite(folder, SINGULAR)?.values;
                if singular.len() + shape.plain_columns > columns || singular.iter().any(|&value| value <= 0.0) {
                    return Err(refuse(SINGULAR, "it is not a value above 0 for each of some columns"));
                }
                Some(ImplicitBundle { norms: shaped(folder, NORMS, &[tracks])?.values, singular })
            }
        };
        let hidden = match listed(HIDDEN_BIASES) {
            false => None,
            true => {
                let biases = finite(folder, HIDDEN_BIASES)?.values;
                let units = biases.len();
                Some(HiddenLayer {
                    users: shaped(folder, HIDDEN_USERS, &[units, columns])?,
                    tracks: shaped(folder, HIDDEN_TRACKS, &[units, columns])?,
                    output: shaped(folder, OUTPUT_WEIGHTS, &[units])?.values,
                    biases,
                })
            }
        };
        let base = shaped(folder, BASE, &[tracks])?.values;
        let bundle = Self { shape, vocabulary, base, counts: counts.values, features, precisions, implicit, hidden };
        Ok((folder.manifest().clone(), bundle))
    }

    /// Writes all but the manifest.
    pub fn write(&self, writer: &mut BundleWriter) -> Result<(), BundleError> {
        let tracks = self.vocabulary.len();
        let shape = serde_json::to_vec_pretty(&self.shape)
            .map_err(|error| BundleError::file(Path::new(SHAPE), error.to_string()))?;
        writer.write(SHAPE, &shape)?;
        let (text, offsets) = self.vocabulary.parts();
        writer.write(IDS, text.as_bytes())?;
        writer.write(ID_OFFSETS, &encode_array(&[offsets.len()], offsets))?;
        writer.write(BASE, &encode_array(&[tracks], &self.base))?;
        writer.write(COUNTS, &encode_array(&[tracks], &self.counts))?;
        writer.write(FEATURES, &encode_array(&self.features.shape, &self.features.values))?;
        writer.write(PRECISIONS, &encode_array(&[self.precisions.len()], &self.precisions))?;
        if let Some(implicit) = &self.implicit {
            writer.write(NORMS, &encode_array(&[tracks], &implicit.norms))?;
            writer.write(SINGULAR, &encode_array(&[implicit.singular.len()], &implicit.singular))?;
        }
        if let Some(hidden) = &self.hidden {
            writer.write(HIDDEN_USERS, &encode_array(&hidden.users.shape, &hidden.users.values))?;
            writer.write(HIDDEN_TRACKS, &encode_array(&hidden.tracks.shape, &hidden.tracks.values))?;
            writer.write(HIDDEN_BIASES, &encode_array(&[hidden.biases.len()], &hidden.biases))?;
            writer.write(OUTPUT_WEIGHTS, &encode_array(&[hidden.output.len()], &hidden.output))?;
        }
        Ok(())
    }

    /// Loads the current ratings bundle below the folder `models`.
    pub fn load_current(models: &Path) -> Result<(Manifest, Self), BundleError> {
        Self::load(&BundleFolder::open_current(models, Kind::Ratings)?)
    }

    /// Numbers that describe a track.
    pub fn columns(&self) -> usize {
        self.precisions.len()
    }

    /// `[D]`: the features of a row.
    pub fn feature(&self, row: u32) -> &[f32] {
        let columns = self.columns();
        &self.features.values[row as usize * columns..(row as usize + 1) * columns]
    }
}

fn finite(folder: &BundleFolder, name: &str) -> Result<Array<f32>, BundleError> {
    let array = folder.read_array::<f32>(name)?;
    if array.values.iter().any(|value| !value.is_finite()) {
        return Err(BundleError::file(&folder.path(name), "it has values that are not finite"));
    }
    Ok(array)
}

fn shaped(folder: &BundleFolder, name: &str, shape: &[usize]) -> Result<Array<f32>, BundleError> {
    let array = finite(folder, name)?;
    if array.shape != shape {
        let reason = format!("its shape is {:?}, expected {shape:?}", array.shape);
        return Err(BundleError::file(&folder.path(name), reason));
    }
    Ok(array)
}
