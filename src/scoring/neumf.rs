//! NeuMF (He et al. 2017) on plain arrays: the logit that a track belongs in a playlist, from the embeddings of both.
//!
//! The first dense layer is linear in the two embeddings before its ReLU, so a track's half of it is computed once, when
//! the model is loaded. The rest is computed for [`LANES`] candidates at once: an activation is a short vector with one
//! value for each, which compilers turn into vector instructions.

use crate::math::Array;
use crate::math::linear::{dot, vectorised};

/// Candidates that are scored at once.
const LANES: usize = 8;
/// Outputs of a dense layer that are summed at once: as many as registers hold sums of.
const OUTPUTS: usize = 4;

/// One value for each candidate of a block.
type Lanes = [f32; LANES];

/// A playlist as the network sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaylistEmbedding {
    /// `[latent]`
    pub gmf: Vec<f32>,
    /// `[m]`
    pub mlp: Vec<f32>,
}

/// A dense layer.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseLayer {
    /// `[outputs, inputs]`
    pub weights: Array<f32>,
    /// `[outputs]`
    pub biases: Array<f32>,
}

/// The network and the tracks that it scores.
#[derive(Debug)]
pub struct NeumfNetwork {
    /// `[tracks, latent]`
    gmf_tracks: Array<f32>,
    /// the inputs of the first layer are a playlist's MLP embedding, then a track's
    dense: Vec<DenseLayer>,
    /// `[latent + outputs of the last layer]`
    output_weights: Vec<f32>,
    output_bias: f32,
    /// `[tracks, outputs of the first layer]`: its sums for tracks alone, without bias
    track_halves: Vec<f32>,
}

impl NeumfNetwork {
    /// Computes the tracks' halves of the first layer; `mlp_tracks` are the tracks' MLP embeddings, `[tracks, m]`, and
    /// `output_weights` those of GMF before those of the last layer.
    pub fn new(
        gmf_tracks: Array<f32>,
        mlp_tracks: &Array<f32>,
        dense: Vec<DenseLayer>,
        output_weights: Vec<f32>,
        output_bias: f32,
    ) -> Self {
        let track_halves = dense.first().map(|first| track_halves(mlp_tracks, first)).unwrap_or_default();
        Self { gmf_tracks, dense, output_weights, output_bias, track_halves }
    }

    /// Returns the logit of each of the tracks `rows`.
    pub fn logits(&self, embedding: &PlaylistEmbedding, rows: &[u32]) -> Vec<f32> {
        let Some((first, rest)) = self.dense.split_first() else { return Vec::new() };
        let (latent, length) = (embedding.gmf.len(), embedding.mlp.len());
        let (gmf_weights, mlp_weights) = self.output_weights.split_at(latent);
        // What does not depend on the track: the playlist's half of the first layer, and its factors in GMF.
        let inputs = first.weights.values.chunks_exact(2 * length);
        let playlist_half: Vec<f32> = inputs
            .zip(&first.biases.values)
            .map(|(weights, bias)| bias + dot(&weights[..length], &embedding.mlp))
            .collect();
        let gmf: Vec<f32> = gmf_weights.iter().zip(&embedding.gmf).map(|(weight, value)| weight * value).collect();
        let outputs = playlist_half.len();

        let mut logits = Vec::with_capacity(rows.len());
        let (mut activations, mut next): (Vec<Lanes>, Vec<Lanes>) = (vec![[0.0; LANES]; outputs], Vec::new());
        for block in rows.chunks(LANES) {
            activations.resize(outputs, [0.0; LANES]);
            for (lane, &row) in block.iter().enumerate() {
                let track_half = &self.track_halves[row as usize * outputs..][..outputs];
                for ((activation, track), playlist) in activations.iter_mut().zip(track_half).zip(&playlist_half) {
                    activation[lane] = (track + playlist).max(0.0);
                }
            }
            for layer in rest {
                dense(layer, &activations, &mut next);
                std::mem::swap(&mut activations, &mut next);
            }
            let mut sums = [self.output_bias; LANES];
            for (activation, weight) in activations.iter().zip(mlp_weights) {
                for lane in 0..LANES {
                    sums[lane] += weight * activation[lane];
                }
            }
            logits.extend(block.iter().zip(sums).map(|(&row, sum)| {
                let track = &self.gmf_tracks.values[row as usize * latent..][..latent];
                sum + dot(&gmf, track)
            }));
        }
        logits
    }
}

/// Returns W_t m_t of the first layer for each track.
fn track_halves(mlp_tracks: &Array<f32>, first: &DenseLayer) -> Vec<f32> {
    let length = mlp_tracks.shape[1];
    let outputs = first.biases.values.len();
    let weights: Vec<f32> =
        first.weights.values.chunks_exact(2 * length).flat_map(|row| &row[length..]).copied().collect();
    let mut halves = vec![0.0; mlp_tracks.shape[0] * outputs];
    let (mut inputs, mut sums) = (vec![[0.0; LANES]; length], Vec::new());
    let blocks = mlp_tracks.values.chunks(LANES * length).zip(halves.chunks_mut(LANES * outputs));
    for (tracks, halves) in blocks {
        for (lane, track) in tracks.chunks_exact(length).enumerate() {
            inputs.iter_mut().zip(track).for_each(|(input, value)| input[lane] = *value);
        }
        multiply(&weights, &inputs, &mut sums);
        for (lane, half) in halves.chunks_exact_mut(outputs).enumerate() {
            half.iter_mut().zip(&sums).for_each(|(value, sum)| *value = sum[lane]);
        }
    }
    halves
}

/// Applies a dense layer with ReLU.
fn dense(layer: &DenseLayer, inputs: &[Lanes], outputs: &mut Vec<Lanes>) {
    multiply(&layer.weights.values, inputs, outputs);
    for (output, bias) in outputs.iter_mut().zip(&layer.biases.values) {
        output.iter_mut().for_each(|value| *value = (*value + bias).max(0.0));
    }
}

/// `outputs` = `weights` · `inputs`; `weights` is `[outputs, inputs]`.
fn multiply(weights: &[f32], inputs: &[Lanes], outputs: &mut Vec<Lanes>) {
    outputs.clear();
    vectorised(
        #[inline(always)]
        || {
            let mut blocks = weights.chunks_exact(OUTPUTS * inputs.len());
            for block in &mut blocks {
                outputs.extend(multiply_rows::<OUTPUTS>(block, inputs));
            }
            for row in blocks.remainder().chunks_exact(inputs.len()) {
                outputs.extend(multiply_rows::<1>(row, inputs));
            }
        },
    );
}

/// The sums of `ROWS` outputs stay in registers while the inputs go by.
#[inline(always)]
fn multiply_rows<const ROWS: usize>(weights: &[f32], inputs: &[Lanes]) -> [Lanes; ROWS] {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &weights[row * inputs.len()..][..inputs.len()]);
    let mut sums = [[0.0; LANES]; ROWS];
    for (index, input) in inputs.iter().enumerate() {
        for (sum, row) in sums.iter_mut().zip(&rows) {
            let weight = row[index];
            for lane in 0..LANES {
                sum[lane] += weight * input[lane];
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn logits_are_the_same_one_by_one_and_in_blocks() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
        let mut random = |shape: &[usize]| Array {
            shape: shape.to_vec(),
            values: (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect(),
        };
        let dense = vec![
            DenseLayer { weights: random(&[5, 6]), biases: random(&[5]) },
            DenseLayer { weights: random(&[7, 5]), biases: random(&[7]) },
        ];
        let network = NeumfNetwork::new(random(&[30, 2]), &random(&[30, 3]), dense, random(&[9]).values, 0.3);
        let embedding = PlaylistEmbedding { gmf: random(&[2]).values, mlp: random(&[3]).values };
        let rows: Vec<u32> = (0..30).collect();
        let all = network.logits(&embedding, &rows);
        assert_eq!(all.len(), 30);
        for (row, logit) in rows.iter().zip(&all) {
            assert_eq!(network.logits(&embedding, &[*row]), [*logit]);
        }
        assert!(all.iter().any(|logit| (logit - all[0]).abs() > 0.1));
    }
}
