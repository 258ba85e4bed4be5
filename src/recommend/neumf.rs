//! Playlist completion by NeuMF with clustered neighbors.
//!
//! Trained are embeddings of playlists, of a sample where there are very many, a network that says of a playlist's and a track's embeddings whether the one
//! belongs in the other, and clusters of playlists. A playlist to complete gets the weighted mean of the embeddings of
//! training playlists like it ([`NeumfModel::fold_in`]). Its candidates are the tracks of its cluster-mates, the training
//! playlists of the nearest clusters; the network ([`scoring::neumf`](crate::scoring::neumf)) scores them
//! ([`NeumfModel::recommend`]).

use crate::bundle::NeumfBundle;
use crate::math::linear::dot;
use crate::math::top_k::{add_up_rows, keep_best, sort_best};
use crate::math::{Array, Csr};
use crate::scoring::neumf::{NeumfNetwork, PlaylistEmbedding};

/// Training playlists that a folded-in embedding is the mean of.
const NEIGHBOURS: usize = 100;
/// Clusters whose playlists are mates, the nearest ones: those of one are too few to say which of their tracks matter
/// (docs/models/neumf.md).
const CLUSTERS: usize = 4;
/// Candidates are those tracks that most of the mates hold.
const CANDIDATES: usize = 4_000;

/// A loaded NeuMF network. Its playlists and tracks have numbers of their own, from 0.
#[derive(Debug)]
pub struct NeumfModel {
    network: NeumfNetwork,
    /// the bundle's rows of its playlists, rising
    playlist_rows: Vec<u32>,
    /// the bundle's rows of its tracks, rising
    track_rows: Vec<u32>,
    /// `[playlists, latent]`
    gmf_playlists: Array<f32>,
    /// `[playlists, m]`
    mlp_playlists: Array<f32>,
    /// `[m]`
    centre: Vec<f32>,
    /// `[clusters, m]`
    centroids: Vec<f32>,
    /// tracks of each cluster, those held by most of its playlists first
    tracks: Csr,
    /// by how many of them, beside each item of `tracks`
    holders: Vec<u32>,
}

impl NeumfModel {
    /// Takes over what is loaded of a bundle that has `playlists`.
    ///
    /// # Panics
    ///
    /// When there are fewer playlists than it was trained on.
    pub fn new(bundle: NeumfBundle, playlists: &Csr) -> Self {
        let clusters = bundle.centroids.shape[0];
        let members = Csr::group(&bundle.clusters.values, clusters);
        let NeumfBundle { playlist_rows, track_rows, .. } = bundle;
        let mut holders = Vec::new();
        let tracks = Csr::from_lists(members.iter().map(|members| {
            let rows: Vec<u32> = members.iter().map(|&member| playlist_rows[member as usize]).collect();
            let mut held = tracks_held(playlists, &rows);
            held.retain_mut(|(track, _)| number_in(&track_rows, *track).inspect(|&number| *track = number).is_some());
            holders.extend(held.iter().map(|&(_, holders)| holders));
            held.into_iter().map(|(track, _)| track)
        }));
        let NeumfBundle { gmf_playlists, mlp_playlists, gmf_tracks, mlp_tracks, dense, .. } = bundle;
        let (output_weights, output_bias) = (bundle.output_weights.values, bundle.output_bias.values[0]);
        let network = NeumfNetwork::new(gmf_tracks, &mlp_tracks, dense, output_weights, output_bias);
        let (centre, centroids) = (bundle.centre.values, bundle.centroids.values);
        Self { network, playlist_rows, track_rows, gmf_playlists, mlp_playlists, centre, centroids, tracks, holders }
    }

    /// Lengths of the GMF and of the MLP embeddings.
    fn lengths(&self) -> (usize, usize) {
        (self.gmf_playlists.shape[1], self.mlp_playlists.shape[1])
    }

    /// Clusters, that of the nearest centroid first. What counts is the direction off the center.
    pub fn nearest_clusters(&self, embedding: &PlaylistEmbedding) -> Vec<u32> {
        let off_centre: Vec<f32> =
            embedding.mlp.iter().zip(&self.centre).map(|(value, centre)| value - centre).collect();
        let norm = dot(&off_centre, &off_centre).sqrt().max(f32::MIN_POSITIVE);
        // |x − c|² = |x|² − 2 x·c + |c|², of which |x|² changes nothing about the order.
        let distance = |centroid: &[f32]| dot(centroid, centroid) - 2.0 * dot(centroid, &off_centre) / norm;
        let centroids = self.centroids.chunks_exact(self.lengths().1);
        let mut clusters: Vec<(f32, u32)> = centroids.map(distance).zip(0..).collect();
        clusters.sort_unstable_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
        clusters.into_iter().map(|(_, cluster)| cluster).collect()
    }

    /// Up to [`CANDIDATES`] distinct tracks, rising; from more than [`CLUSTERS`] clusters only where these hold less than
    /// `limit`.
    fn candidates(&self, embedding: &PlaylistEmbedding, excluded: &[u32], limit: usize) -> Vec<u32> {
        let mut held: Vec<(u32, f32)> = Vec::new();
        for (nth, cluster) in self.nearest_clusters(embedding).into_iter().enumerate() {
            if nth >= CLUSTERS && held.len() >= limit {
                break;
            }
            let tracks = self.tracks.row_with(cluster as usize, &self.holders);
            let allowed = tracks.filter(|(track, _)| excluded.binary_search(track).is_err());
            held.extend(allowed.map(|(track, holders)| (track, holders as f32)));
            add_up_rows(&mut held);
        }
        keep_best(&mut held, CANDIDATES.max(limit));
        let mut tracks: Vec<u32> = held.into_iter().map(|(track, _)| track).collect();
        tracks.sort_unstable(); // read in the order in which they lie
        tracks
    }

    /// The embedding of a playlist that was not trained on: the mean of those of the training playlists most like it, of
    /// which the 100 that weigh most count. Weights are above 0: squared similarities by shared tracks, as of
    /// playlist-kNN, or by title where there is no track to go by. `None` without such a weight. Neighbors are rows of the
    /// bundle; those that were not trained on do not count.
    pub fn fold_in(&self, neighbours: &[(u32, f32)]) -> Option<PlaylistEmbedding> {
        let mut neighbours: Vec<(u32, f32)> = (neighbours.iter().filter(|&&(_, weight)| weight > 0.0))
            .filter_map(|&(row, weight)| Some((number_in(&self.playlist_rows, row)?, weight)))
            .collect();
        sort_best(&mut neighbours, NEIGHBOURS);
        let total: f32 = neighbours.iter().map(|&(_, weight)| weight).sum();
        let mean = |table: &[f32], length: usize| {
            let mut mean = vec![0.0; length];
            for &(playlist, weight) in &neighbours {
                let row = &table[playlist as usize * length..][..length];
                mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight / total * value);
            }
            mean
        };
        let (latent, length) = self.lengths();
        (total > 0.0).then(|| PlaylistEmbedding {
            gmf: mean(&self.gmf_playlists.values, latent),
            mlp: mean(&self.mlp_playlists.values, length),
        })
    }

    /// The `limit` best candidates with their logits, best first: rows of distinct tracks, none of `excluded`, which rises.
    /// There are fewer than `limit` only when the clusters' most held tracks, 4,000 of each, are no more.
    pub fn recommend(&self, embedding: &PlaylistEmbedding, excluded: &[u32], limit: usize) -> Vec<(u32, f32)> {
        let excluded: Vec<u32> = excluded.iter().filter_map(|&row| number_in(&self.track_rows, row)).collect();
        let candidates = self.candidates(embedding, &excluded, limit);
        let logits = self.logits(embedding, &candidates);
        let mut scored: Vec<(u32, f32)> = candidates.into_iter().zip(logits).collect();
        sort_best(&mut scored, limit);
        scored.into_iter().map(|(track, logit)| (self.track_rows[track as usize], logit)).collect()
    }

    /// Returns the network's logit of each of its `tracks`.
    pub fn logits(&self, embedding: &PlaylistEmbedding, tracks: &[u32]) -> Vec<f32> {
        self.network.logits(embedding, tracks)
    }
}

/// The place of a row among `rows`, which rise; none if it is not there.
fn number_in(rows: &[u32], row: u32) -> Option<u32> {
    rows.binary_search(&row).ok().map(|number| number as u32)
}

/// The tracks of the playlists `members` with how many of them hold each; up to [`CANDIDATES`], most first.
fn tracks_held(playlists: &Csr, members: &[u32]) -> Vec<(u32, u32)> {
    let mut tracks: Vec<u32> = Vec::new();
    for &member in members {
        // A playlist that holds a track twice counts once.
        let mut distinct = playlists.row(member as usize).to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        tracks.append(&mut distinct);
    }
    tracks.sort_unstable();
    let same = tracks.chunk_by(|left, right| left == right);
    let mut held: Vec<(u32, f32)> = same.map(|same| (same[0], same.len() as f32)).collect();
    sort_best(&mut held, CANDIDATES);
    held.into_iter().map(|(track, holders)| (track, holders as u32)).collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::scoring::neumf::DenseLayer;

    /// Three clusters of playlists, whose MLP embeddings lie along one axis each; all else is random.
    fn model(playlists: &Csr, clusters: &[u32], tracks: usize) -> NeumfModel {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
        let mut random = |shape: &[usize]| Array {
            shape: shape.to_vec(),
            values: (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect(),
        };
        let axis = |cluster: u32, length: f32| (0..3).map(move |at| if at == cluster { length } else { 0.0 });
        let mlp: Vec<f32> = clusters.iter().zip(1..).flat_map(|(&cluster, nth)| axis(cluster, nth as f32)).collect();
        NeumfModel::new(
            NeumfBundle {
                playlist_rows: (0..clusters.len() as u32).collect(),
                track_rows: (0..tracks as u32).collect(),
                gmf_playlists: random(&[clusters.len(), 2]),
                gmf_tracks: random(&[tracks, 2]),
                mlp_playlists: Array { shape: vec![clusters.len(), 3], values: mlp },
                mlp_tracks: random(&[tracks, 3]),
                dense: vec![
                    DenseLayer { weights: random(&[5, 6]), biases: random(&[5]) },
                    DenseLayer { weights: random(&[7, 5]), biases: random(&[7]) },
                ],
                output_weights: random(&[9]),
                output_bias: random(&[1]),
                centre: Array { shape: vec![3], values: vec![0.0; 3] },
                centroids: Array { shape: vec![3, 3], values: (0..3).flat_map(|cluster| axis(cluster, 1.0)).collect() },
                clusters: Array { shape: vec![clusters.len()], values: clusters.to_vec() },
            },
            playlists,
        )
    }

    fn playlists() -> Csr {
        Csr::from_lists([vec![0, 1, 2], vec![1, 2, 1], vec![3, 4, 5, 6], vec![5, 6], vec![7, 8, 9, 0], vec![8, 9]])
    }

    #[test]
    fn a_playlist_like_some_of_a_cluster_is_folded_into_it() {
        let model = model(&playlists(), &[0, 0, 1, 1, 2, 2], 11);
        for (neighbours, cluster) in [([(0, 0.9), (1, 0.4)], 0), ([(3, 0.2), (2, 0.2)], 1), ([(5, 3.0), (0, 0.5)], 2)] {
            let embedding = model.fold_in(&neighbours).expect("neighbours");
            assert_eq!(model.nearest_clusters(&embedding)[0], cluster);
        }
        let embedding = model.fold_in(&[(2, 1.0), (3, 3.0), (4, 0.0)]).expect("neighbours");
        assert_eq!(embedding.mlp, [0.0, 0.25 * 3.0 + 0.75 * 4.0, 0.0]);
        assert_eq!(model.fold_in(&[(2, 0.0)]), None);
        assert_eq!(model.fold_in(&[]), None);
    }

    #[test]
    fn answers_are_distinct_and_none_is_excluded() {
        let model = model(&playlists(), &[0, 0, 1, 1, 2, 2], 11);
        let embedding = model.fold_in(&[(0, 1.0)]).expect("a neighbour");
        for limit in [1, 3, 20] {
            let answers = model.recommend(&embedding, &[1, 5, 9], limit);
            let mut rows: Vec<u32> = answers.iter().map(|answer| answer.0).collect();
            assert!(answers.is_sorted_by(|left, right| left.1 >= right.1));
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), limit.min(7));
            assert!(rows.iter().all(|row| [0, 2, 3, 4, 6, 7, 8].contains(row)), "{rows:?}");
        }
        assert_eq!(model.recommend(&embedding, &[], 0), []);
    }

    #[test]
    fn candidates_are_those_that_most_mates_hold() {
        assert_eq!(tracks_held(&playlists(), &[0, 1, 4]), [(0, 2), (1, 2), (2, 2), (7, 1), (8, 1), (9, 1)]);
        // Those of the near clusters count together, and clusters further away give tracks only where these have too few.
        let near = model(&playlists(), &[0, 1, 2, 0, 1, 2], 11);
        let embedding = near.fold_in(&[(0, 1.0)]).expect("a neighbour");
        assert_eq!(near.candidates(&embedding, &[3, 7], 5), [0, 1, 2, 4, 5, 6, 8, 9]);
    }
}
