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

use super::{BundleError, BundleFolder, BundleWriter, Kind, Manifest, Vocabulary};
use crate::math::Array;
use crate::scoring::ratings::HiddenLayer;

const SHAPE: &str = "model.json";
const IDS: &str = "track_ids";
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

/// A longer pause within a session means nothing: a hundred years.
const MOST_GAP_SECONDS: i64 = 100 * 366 * 86_400;

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

impl RatingsShape {
    fn check(&self) -> Result<(), &'static str> {
        let (lowest, highest) = self.range;
        let numbers = [self.mean, self.deviation, lowest, highest, self.session_ratio, self.affinity, self.output_bias];
        match () {
            () if !numbers.iter().all(|number| number.is_finite()) => Err("it has numbers that are not finite"),
            () if lowest > highest => Err("its lowest rating is above the highest"),
            () if self.session_ratio < 0.0 || !(0..=MOST_GAP_SECONDS).contains(&self.session_gap_seconds) => {
                Err("its sessions are not possible")
            }
            () => Ok(()),
        }
    }
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
        let shape: RatingsShape = folder.read_json(SHAPE)?;
        shape.check().map_err(|reason| folder.invalid(SHAPE, reason))?;
        let vocabulary = folder.read_vocabulary(IDS)?;
        let shaped = |name: &str, shape: &[usize]| folder.shaped(name, folder.read_finite(name)?, shape);
        let tracks = vocabulary.len();
        let features = folder.read_finite(FEATURES)?;
        let columns = match features.shape.as_slice() {
            &[rows, columns] if rows == tracks && columns > 0 && shape.plain_columns <= columns => columns,
            found => return Err(folder.invalid(FEATURES, format!("its shape is {found:?}, expected {tracks} rows"))),
        };
        let counts = folder.read_array::<u32>(COUNTS)?;
        if counts.shape != [tracks] || !counts.values.is_sorted_by(|left, right| left >= right) {
            return Err(folder.invalid(COUNTS, "it must be one count for each track, in falling order"));
        }
        let precisions = shaped(PRECISIONS, &[columns])?.values;
        if precisions.iter().any(|&precision| precision <= 0.0) {
            return Err(folder.invalid(PRECISIONS, "it has values that are not positive"));
        }
        let implicit = match folder.has(NORMS) {
            false => None,
            true => {
                let singular = folder.read_finite(SINGULAR)?.values;
                if singular.len() + shape.plain_columns > columns || singular.iter().any(|&value| value <= 0.0) {
                    return Err(folder.invalid(SINGULAR, "it must be one positive value for each of some columns"));
                }
                Some(ImplicitBundle { norms: shaped(NORMS, &[tracks])?.values, singular })
            }
        };
        let hidden = match folder.has(HIDDEN_BIASES) {
            false => None,
            true => {
                let biases = folder.read_finite(HIDDEN_BIASES)?.values;
                let units = biases.len();
                Some(HiddenLayer {
                    users: shaped(HIDDEN_USERS, &[units, columns])?,
                    tracks: shaped(HIDDEN_TRACKS, &[units, columns])?,
                    output: shaped(OUTPUT_WEIGHTS, &[units])?.values,
                    biases,
                })
            }
        };
        let base = shaped(BASE, &[tracks])?.values;
        let bundle = Self { shape, vocabulary, base, counts: counts.values, features, precisions, implicit, hidden };
        Ok((folder.manifest().clone(), bundle))
    }

    /// Writes all but the manifest.
    pub fn write(&self, writer: &mut BundleWriter) -> Result<(), BundleError> {
        let tracks = self.vocabulary.len();
        writer.write_json(SHAPE, &self.shape)?;
        writer.write_vocabulary(IDS, &self.vocabulary)?;
        writer.write_array(BASE, &[tracks], &self.base)?;
        writer.write_array(COUNTS, &[tracks], &self.counts)?;
        writer.write_array(FEATURES, &self.features.shape, &self.features.values)?;
        writer.write_values(PRECISIONS, &self.precisions)?;
        if let Some(implicit) = &self.implicit {
            writer.write_array(NORMS, &[tracks], &implicit.norms)?;
            writer.write_values(SINGULAR, &implicit.singular)?;
        }
        if let Some(hidden) = &self.hidden {
            writer.write_array(HIDDEN_USERS, &hidden.users.shape, &hidden.users.values)?;
            writer.write_array(HIDDEN_TRACKS, &hidden.tracks.shape, &hidden.tracks.values)?;
            writer.write_values(HIDDEN_BIASES, &hidden.biases)?;
            writer.write_values(OUTPUT_WEIGHTS, &hidden.output)?;
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
