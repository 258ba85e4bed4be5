//! What a clicks bundle holds. U users, T tracks:
//!
//! * `model.json`: the members of the ensemble ([`ClickMember`]) without their arrays, and what sources are called.
//! * `user_ids.utf8`, `user_ids.offsets.npy`, `track_ids.utf8`, `track_ids.offsets.npy`: the vocabularies, rising.
//! * `users.npy`: uint32 `[U, 6]`, `tracks.npy`: uint32 `[T, 10]`: what is known of them, see
//!   [`UserFields::words`](crate::dataset::listens::UserFields::words) and its like for tracks.
//! * `state.*.npy`: what is known from the listens so far, see [`StateArrays`]; a server continues from there.
//! * `taste.{tracks,artists}.{users,items}.npy`: uint32, rising, and `.user_vectors.npy`, `.item_vectors.npy`: float32
//!   `[users, length]`, `[items, length]`, see [`Taste`].
//! * `member<n>.rows<f>.npy`: uint32, for field f of member n the row of each value in the table of embeddings.
//! * `member<n>.network<s>.table.npy`: float32 `[rows, width]`, and `.dense<p>.npy`, for each network of a member.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{BundleError, BundleFolder, BundleWriter, Kind, Manifest, Vocabulary, encode_array};
use crate::dataset::listens::{
    ClickState, Encoding, FIELDS, HISTORY, NUMBERS, SourceValues, StateArrays, Taste, Tastes, TrackFields, UserFields,
};
use crate::scoring::clicks::network::{ClickNetwork, parameters};
use crate::scoring::clicks::shape::ClickShape;
use crate::scoring::oblivious_trees::ObliviousTrees;

const MODEL: &str = "model.json";

/// A model of an ensemble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClickMember {
    /// its name in requests
    pub name: String,
    /// how listens become its inputs
    pub encoding: Encoding,
    /// what it computes
    pub scorer: Scorer,
    /// log-odds = slope · what it computes + intercept (Platt 1999)
    pub slope: f32,
    /// see above
    pub intercept: f32,
    /// its share of the ensemble's log-odds; 0 takes no part
    pub weight: f32,
}

/// What a member computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scorer {
    /// the mean of networks that differ in their seed
    Networks(#[serde(with = "shapes")] Vec<ClickNetwork>),
    /// trees on the numbers as they are
    Trees(ObliviousTrees),
}

/// In `model.json` stand the shapes alone.
mod shapes {
    use super::{ClickNetwork, ClickShape, Deserialize, Serialize};

    pub fn serialize<S: serde::Serializer>(networks: &[ClickNetwork], to: S) -> Result<S::Ok, S::Error> {
        networks.iter().map(|network| &network.shape).collect::<Vec<&ClickShape>>().serialize(to)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<ClickNetwork>, D::Error> {
        let shapes = Vec::<ClickShape>::deserialize(from)?;
        Ok(shapes.into_iter().map(|shape| ClickNetwork { shape, table: Vec::new(), dense: Vec::new() }).collect())
    }
}

/// `model.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Model {
    members: Vec<ClickMember>,
    /// slope and intercept of the ensemble
    ensemble: (f32, f32),
    sources: [Vec<String>; 3],
}

/// A clicks bundle as arrays.
#[derive(Debug)]
pub struct ClickBundle {
    /// the app's ids of users
    pub users: Vocabulary,
    /// what is known of them
    pub user_fields: Vec<UserFields>,
    /// the app's ids of tracks
    pub tracks: Vocabulary,
    /// what is known of them
    pub track_fields: Vec<TrackFields>,
    /// what sources are called
    pub sources: SourceValues,
    /// what is known from the listens so far
    pub state: ClickState,
    /// the models
    pub members: Vec<ClickMember>,
    /// slope and intercept of the weighted sum of the members' log-odds
    pub ensemble: (f32, f32),
}

impl ClickBundle {
    /// Reads and checks all of it.
    pub fn load(folder: &BundleFolder) -> Result<(Manifest, Self), BundleError> {
        let model: Model = folder.read_json(MODEL)?;
        let (users, tracks) = (folder.read_vocabulary("user_ids")?, folder.read_vocabulary("track_ids")?);
        let words =
            |name: &str, shape: [usize; 2]| Ok(folder.shaped(name, folder.read_array::<u32>(name)?, &shape)?.values);
        let user_words = words("users.npy", [users.len(), 6])?;
        let track_words = words("tracks.npy", [tracks.len(), 10])?;
        let mut members = model.members;
        for (number, member) in members.iter_mut().enumerate() {
            load_member(folder, number, member)?;
        }
        if members.is_empty() {
            return Err(folder.invalid(MODEL, "it has no member"));
        }
        if !(model.ensemble.0.is_finite() && model.ensemble.1.is_finite()) {
            return Err(folder.invalid(MODEL, "its calibration is not finite"));
        }
        let numbers = |name: &str| Ok(folder.read_array::<u64>(&format!("state.{name}.npy"))?.values);
        let small = |name: &str| Ok(folder.read_array::<u32>(&format!("state.{name}.npy"))?.values);
        let arrays = StateArrays {
            scalars: numbers("scalars")?,
            keys: numbers("keys")?,
            tallies: small("tallies")?,
            users: small("users")?,
            histories: numbers("histories")?,
            tracks: small("tracks")?,
            last_of_track: numbers("last_of_track")?,
            recent: small("recent")?,
        };
        let mut state = ClickState::from_arrays(&arrays).map_err(|reason| folder.invalid("state.keys.npy", reason))?;
        let taste = |of: &str| -> Result<Taste, BundleError> {
            let name = |part: &str| format!("taste.{of}.{part}.npy");
            let rows = |part: &str| Ok(folder.read_array::<u32>(&name(part))?.values);
            let vectors = |part: &str| Ok(folder.read_array::<f32>(&name(part))?.values);
            Taste::from_parts(rows("users")?, vectors("user_vectors")?, rows("items")?, vectors("item_vectors")?)
                .map_err(|reason| folder.invalid(&name("item_vectors"), reason))
        };
        state.tastes = Arc::new(Tastes { tracks: taste("tracks")?, artists: taste("artists")? });
        let bundle = Self {
            users,
            user_fields: user_words.as_chunks::<6>().0.iter().map(|&words| UserFields::from_words(words)).collect(),
            tracks,
            track_fields: track_words.as_chunks::<10>().0.iter().map(|&words| TrackFields::from_words(words)).collect(),
            sources: SourceValues { fields: model.sources },
            state,
            members,
            ensemble: model.ensemble,
        };
        Ok((folder.manifest().clone(), bundle))
    }

    /// Writes all but the manifest.
    pub fn write(&self, writer: &mut BundleWriter) -> Result<(), BundleError> {
        let model =
            Model { members: self.members.clone(), ensemble: self.ensemble, sources: self.sources.fields.clone() };
        writer.write_json(MODEL, &model)?;
        writer.write_vocabulary("user_ids", &self.users)?;
        writer.write_vocabulary("track_ids", &self.tracks)?;
        let words: Vec<u32> = self.user_fields.iter().flat_map(UserFields::words).collect();
        writer.write_array("users.npy", &[self.user_fields.len(), 6], &words)?;
        let words: Vec<u32> = self.track_fields.iter().flat_map(TrackFields::words).collect();
        writer.write_array("tracks.npy", &[self.track_fields.len(), 10], &words)?;
        let state = self.state.to_arrays();
        let large = [
            ("scalars", &state.scalars, 1),
            ("keys", &state.keys, 1),
            ("histories", &state.histories, HISTORY),
            ("last_of_track", &state.last_of_track, 1),
        ];
        for (name, values, columns) in large {
            writer.write(&format!("state.{name}.npy"), &array(values, columns))?;
        }
        let small = [
            ("tallies", &state.tallies, 3),
            ("users", &state.users, 1),
            ("tracks", &state.tracks, 1),
            ("recent", &state.recent, 2),
        ];
        for (name, values, columns) in small {
            writer.write(&format!("state.{name}.npy"), &array(values, columns))?;
        }
        for (of, taste) in [("tracks", &self.state.tastes.tracks), ("artists", &self.state.tastes.artists)] {
            for (part, rows, vectors) in
                [("user", &taste.users, &taste.user_vectors), ("item", &taste.items, &taste.item_vectors)]
            {
                let length = vectors.len().checked_div(rows.len()).unwrap_or(0);
                writer.write(&format!("taste.{of}.{part}s.npy"), &array(rows, 1))?;
                writer.write_array(&format!("taste.{of}.{part}_vectors.npy"), &[rows.len(), length], vectors)?;
            }
        }
        for (number, member) in self.members.iter().enumerate() {
            for (field, rows) in member.encoding.rows.iter().enumerate() {
                writer.write_values(&format!("member{number}.rows{field}.npy"), rows)?;
            }
            let Scorer::Networks(networks) = &member.scorer else { continue };
            for (seed, network) in networks.iter().enumerate() {
                let (prefix, width) = (format!("member{number}.network{seed}"), network.shape.width());
                writer.write(&format!("{prefix}.table.npy"), &array(&network.table, width))?;
                for (place, values) in network.dense.iter().enumerate() {
                    writer.write(&format!("{prefix}.dense{place}.npy"), &array(values, 1))?;
                }
            }
        }
        Ok(())
    }

    /// Loads the current clicks bundle below the folder `models`.
    pub fn load_current(models: &Path) -> Result<(Manifest, Self), BundleError> {
        Self::load(&BundleFolder::open_current(models, Kind::Clicks)?)
    }
}

/// As an array of rows of `columns` values, or of values alone.
fn array<T: super::array::Element>(values: &[T], columns: usize) -> Vec<u8> {
    match columns {
        1 => encode_array(&[values.len()], values),
        columns => encode_array(&[values.len() / columns, columns], values),
    }
}

/// Reads a member's arrays, and checks that nothing in it leads out of them.
fn load_member(folder: &BundleFolder, number: usize, member: &mut ClickMember) -> Result<(), BundleError> {
    let encoding = &mut member.encoding;
    let numbers = encoding.numbers.len();
    let fits = encoding.offsets.len() == encoding.fields.len() + 1
        && encoding.offsets.is_sorted_by(|left, right| left < right)
        && encoding.fields.len() <= FIELDS
        && encoding.means.len() == numbers
        && encoding.deviations.len() == numbers
        && encoding.numbers.iter().all(|&place| place < NUMBERS)
        && encoding.means.iter().all(|mean| mean.is_finite())
        && encoding.deviations.iter().all(|&deviation| deviation > 0.0 && deviation.is_finite())
        && [member.slope, member.intercept, member.weight].iter().all(|number| number.is_finite())
        && encoding.missing.iter().all(|&place| place < numbers);
    if !fits {
        return Err(folder.invalid(MODEL, format!("the encoding of {} does not fit together", member.name)));
    }
    encoding.rows.clear();
    for field in 0..encoding.fields.len() {
        let name = format!("member{number}.rows{field}.npy");
        let rows = folder.read_array::<u32>(&name)?.values;
        let most = encoding.offsets[field + 1] - encoding.offsets[field];
        if rows.iter().any(|&row| row >= most) {
            return Err(folder.invalid(&name, "it refers to a row beyond the table"));
        }
        encoding.rows.push(rows);
    }
    match &mut member.scorer {
        Scorer::Trees(trees) => {
            trees.check(numbers).map_err(|reason| folder.invalid(MODEL, reason))?;
        }
        Scorer::Networks(networks) => {
            for (seed, network) in networks.iter_mut().enumerate() {
                let prefix = format!("member{number}.network{seed}");
                let shape = network.shape.clone();
                if shape.rows != encoding.table_rows()
                    || shape.fields() != encoding.fields.len()
                    || shape.numbers() != encoding.width()
                    || shape.number_groups.len() != shape.numbers()
                {
                    return Err(folder
                        .invalid(MODEL, format!("a network of {} has another size than its encoding", member.name)));
                }
                let read = |name: String| Ok::<_, BundleError>(folder.read_finite(&name)?.values);
                let table = read(format!("{prefix}.table.npy"))?;
                let dense = (0..parameters(&shape).len()).map(|place| read(format!("{prefix}.dense{place}.npy")));
                let dense = dense.collect::<Result<Vec<_>, _>>()?;
                *network = ClickNetwork::from_parts(shape, table, dense)
                    .map_err(|reason| folder.invalid(&format!("{prefix}.table.npy"), reason))?;
            }
        }
    }
    Ok(())
}
