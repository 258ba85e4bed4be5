//! NeuMF: neural matrix factorisation (He et al. 2017, arXiv 1708.05031, eq. 12) of playlists × tracks.
//!
//! Two pairs of embeddings, one for each half of the network. With g and m those of playlist p and track t:
//!
//! * GMF: the product g_p ⊙ g_t, element by element;
//! * MLP: the concatenation [m_p; m_t] through dense layers with ReLU;
//! * logit: the two side by side through one linear unit; σ of it is the probability that t belongs in p.
//!
//! The first dense layer is computed in halves, W [m_p; m_t] = W_p m_p + W_t m_t: the playlist's half once for each
//! distinct playlist of a batch, the track's half once for each distinct track. Gradients are written out
//! by hand: a table's gradient covers only the rows that the batch touches, and LibTorch builds no graph.

use rand_distr::{Distribution, Normal, Uniform};
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::{Device, Kind, Tensor};

/// Standard deviation of new embeddings.
const EMBEDDING_DEVIATION: f32 = 0.05;

/// The size of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeumfShape {
    /// rows of the playlists' embeddings
    pub playlists: usize,
    /// rows of the tracks' embeddings
    pub tracks: usize,
    /// length of a GMF embedding
    pub latent: usize,
    /// inputs of the first dense layer, half of them a playlist's and half a track's MLP embedding; then the outputs of
    /// each dense layer
    pub dense: Vec<usize>,
}

/// Interactions of a batch, each with its negatives. `playlists` and `tracks` index the lists of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InteractionBatch {
    /// distinct playlists of the batch
    pub playlist_rows: Vec<i64>,
    /// distinct tracks of the batch
    pub track_rows: Vec<i64>,
    /// `[interactions]`: the playlist of each
    pub playlists: Vec<i64>,
    /// `[interactions × (1 + negatives)]`: the track of each interaction, followed by its negatives
    pub tracks: Vec<i64>,
}

/// The network's parameters.
#[derive(Debug)]
pub struct Neumf {
    /// `[rows, length]` embeddings, in the order of [`Neumf::TABLES`]
    pub tables: [Tensor; 4],
    /// of each dense layer the weights `[outputs, inputs]` and biases `[outputs]`, then those of the logit,
    /// `[latent + outputs of the last layer]` (GMF first) and `[1]`
    pub dense: Vec<Tensor>,
}

/// L2 penalties, each half its factor times the squared length, in the mean over a batch's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Penalties {
    /// on the four embeddings of a row
    pub embeddings: f64,
    /// on the outputs of the dense layers
    pub activations: f64,
}

/// Loss and gradients of a batch.
#[derive(Debug)]
pub struct Gradients {
    /// mean binary cross-entropy of a row, without penalties
    pub loss: f64,
    /// the rows that each table's gradient is for
    pub rows: [Tensor; 4],
    /// `[rows touched, length]` of each table
    pub tables: [Tensor; 4],
    /// of each tensor of [`Neumf::dense`]
    pub dense: Vec<Tensor>,
}

/// Results of a forward pass that the backward pass reads. The N rows are interactions and their negatives.
struct Forward {
    /// `[distinct playlists, length]` and `[distinct tracks, length]`
    rows: [Tensor; 4],
    /// `[N, latent]`: g_p and g_t of each row, and their product
    gmf: [Tensor; 3],
    /// `[N, outputs]` of each dense layer
    activations: Vec<Tensor>,
    /// `[N]`
    logits: Tensor,
}

impl Neumf {
    /// The names of the tables, in order.
    pub const TABLES: [&'static str; 4] = ["gmf_playlists", "gmf_tracks", "mlp_playlists", "mlp_tracks"];

    /// Returns a new network: embeddings normal with deviation 0.05, dense weights Glorot-uniform, those of the logit
    /// LeCun-uniform, biases 0.
    pub fn new(shape: &NeumfShape, rng: &mut Xoshiro256PlusPlus) -> Self {
        let mlp = shape.dense[0] / 2;
        let tables = [
            (shape.playlists, shape.latent),
            (shape.tracks, shape.latent),
            (shape.playlists, mlp),
            (shape.tracks, mlp),
        ]
        .map(|(rows, length)| normal(rows, length, rng));
        let mut dense = Vec::new();
        for sizes in shape.dense.windows(2) {
            let bound = (6.0 / (sizes[0] + sizes[1]) as f32).sqrt();
            dense.push(uniform(&[sizes[1], sizes[0]], bound, rng));
            dense.push(zeros(&[sizes[1] as i64]));
        }
        let last = shape.latent + shape.dense[shape.dense.len() - 1];
        dense.push(uniform(&[last], (3.0 / last as f32).sqrt(), rng));
        dense.push(zeros(&[1]));
        Self { tables, dense }
    }

    /// Number of dense layers.
    fn layers(&self) -> usize {
        self.dense.len() / 2 - 1
    }

    /// Halves of the first layer's weights, of playlists and of tracks: `[outputs, length of an MLP embedding]`.
    fn first_halves(&self) -> (Tensor, Tensor) {
        let length = self.tables[2].size()[1];
        (self.dense[0].narrow(1, 0, length), self.dense[0].narrow(1, length, length))
    }

    /// Weights of the logit, those of GMF `[latent]` and of the last layer `[outputs]`.
    fn logit_halves(&self) -> (Tensor, Tensor) {
        let weights = &self.dense[2 * self.layers()];
        let latent = self.tables[0].size()[1];
        (weights.narrow(0, 0, latent), weights.narrow(0, latent, weights.size()[0] - latent))
    }

    fn forward(&self, batch: &InteractionBatch, indices: &Indices) -> Forward {
        let (interactions, group) = (batch.playlists.len() as i64, indices.group);
        let rows = [0, 1, 2, 3].map(|table| self.tables[table].index_select(0, indices.rows(table)));
        let [gmf_playlists, gmf_tracks, mlp_playlists, mlp_tracks] = &rows;

        // A playlist's values are broadcast to all rows of its group, not copied.
        let of_playlists = gmf_playlists.index_select(0, &indices.playlists).unsqueeze(1);
        let of_tracks = gmf_tracks.index_select(0, &indices.tracks);
        let product = (of_tracks.view([interactions, group, -1]) * &of_playlists).view([interactions * group, -1]);

        let (playlist_half, track_half) = self.first_halves();
        let playlists = self.dense[1].addmm(mlp_playlists, &playlist_half.tr()).index_select(0, &indices.playlists);
        let tracks = mlp_tracks.matmul(&track_half.tr()).index_select(0, &indices.tracks);
        let outputs = playlists.size()[1];
        let mut sum = tracks.view([interactions, group, outputs]);
        sum += playlists.unsqueeze(1);
        let mut activations = vec![sum.view([-1, outputs]).relu_()];
        for layer in 1..self.layers() {
            let input = &activations[layer - 1];
            activations.push(self.dense[2 * layer + 1].addmm(input, &self.dense[2 * layer].tr()).relu_());
        }

        let (gmf_weights, mlp_weights) = self.logit_halves();
        let last = &activations[self.layers() - 1];
        let logits = product.mv(&gmf_weights) + last.mv(&mlp_weights) + &self.dense[2 * self.layers() + 1];
        Forward { rows, gmf: [of_playlists, of_tracks, product], activations, logits }
    }

    /// Returns the logits of a batch, `[interactions, 1 + negatives]`.
    pub fn logits(&self, batch: &InteractionBatch) -> Tensor {
        self.forward(batch, &Indices::new(batch)).logits.view([batch.playlists.len() as i64, -1])
    }

    /// Computes the mean loss of a batch and the gradients of the rows that it touches.
    pub fn gradients(&self, batch: &InteractionBatch, penalties: Penalties) -> Gradients {
        let indices = Indices::new(batch);
        let (interactions, group) = (batch.playlists.len() as i64, indices.group);
        let Forward { rows, gmf: [gmf_of_playlists, gmf_of_tracks, product], activations, logits } =
            self.forward(batch, &indices);
        let count = logits.size()[0] as f64;
        // Of each group the first row is the interaction. softplus(x) − x = −log σ(x).
        let positive = logits.view([interactions, group]).narrow(1, 0, 1);
        let loss = (logits.softplus().sum(Kind::Float) - positive.sum(Kind::Float)) / count;
        let mut at_logits = logits.sigmoid();
        let _ = at_logits.view([interactions, group]).narrow(1, 0, 1).g_sub_scalar_(1.0);
        let _ = at_logits.g_div_scalar_(count);

        let layers = self.layers();
        let (gmf_weights, mlp_weights) = self.logit_halves();
        let mut dense: Vec<Tensor> = Vec::with_capacity(self.dense.len());
        let at_logit_weights =
            Tensor::cat(&[product.tr().mv(&at_logits), activations[layers - 1].tr().mv(&at_logits)], 0);

        // Backwards through the dense layers; `at` is the gradient at a layer's sums.
        let through_relu = |mut at: Tensor, layer: usize| {
            if penalties.activations > 0.0 {
                at += &activations[layer] * (penalties.activations / count);
            }
            activations[layer].threshold_backward(&at, 0)
        };
        let mut at = through_relu(at_logits.outer(&mlp_weights), layers - 1);
        for layer in (1..layers).rev() {
            dense.push(at.sum_dim_intlist([0i64].as_slice(), false, Kind::Float));
            dense.push(at.tr().matmul(&activations[layer - 1]));
            at = through_relu(at.matmul(&self.dense[2 * layer]), layer - 1);
        }
        let outputs = at.size()[1];
        let at_tracks = indices.gather(3, &rows[3], &at);
        let of_groups = at.view([interactions, group, outputs]).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let at_playlists = indices.gather(2, &rows[2], &of_groups);
        dense.push(of_groups.sum_dim_intlist([0i64].as_slice(), false, Kind::Float));
        dense.push(Tensor::cat(&[at_playlists.tr().matmul(&rows[2]), at_tracks.tr().matmul(&rows[3])], 1));
        dense.reverse();
        dense.push(at_logit_weights);
        dense.push(at_logits.sum(Kind::Float).view([1]));

        let (playlist_half, track_half) = self.first_halves();
        let at_product = at_logits.outer(&gmf_weights);
        let at_gmf_tracks = at_product.view([interactions, group, -1]) * gmf_of_playlists;
        let at_gmf_playlists = (at_product * gmf_of_tracks).view([interactions, group, -1]).sum_dim_intlist(
            [1i64].as_slice(),
            false,
            None,
        );
        let mut tables = [
            indices.gather(0, &rows[0], &at_gmf_playlists),
            indices.gather(1, &rows[1], &at_gmf_tracks.view([interactions * group, -1])),
            at_playlists.matmul(&playlist_half),
            at_tracks.matmul(&track_half),
        ];
        if penalties.embeddings > 0.0 {
            // How often each row occurs in the batch, as a share of the batch's rows.
            let playlists = indices.playlists.bincount(None::<&Tensor>, rows[0].size()[0]).to_kind(Kind::Float);
            let tracks = indices.tracks.bincount(None::<&Tensor>, rows[1].size()[0]).to_kind(Kind::Float);
            let shares = [playlists * (group as f64 / count), tracks / count].map(|share| share.unsqueeze(1));
            for (table, gradient) in tables.iter_mut().enumerate() {
                *gradient += &rows[table] * &shares[table % 2] * penalties.embeddings;
            }
        }
        let rows = [0, 1, 2, 3].map(|table| indices.rows(table).shallow_clone());
        Gradients { loss: loss.double_value(&[]), rows, tables, dense }
    }
}

/// A batch's numbers as tensors.
struct Indices {
    playlist_rows: Tensor,
    track_rows: Tensor,
    playlists: Tensor,
    tracks: Tensor,
    /// rows of an interaction: itself and its negatives
    group: i64,
}

impl Indices {
    fn new(batch: &InteractionBatch) -> Self {
        Self {
            playlist_rows: Tensor::from_slice(&batch.playlist_rows),
            track_rows: Tensor::from_slice(&batch.track_rows),
            playlists: Tensor::from_slice(&batch.playlists),
            tracks: Tensor::from_slice(&batch.tracks),
            group: (batch.tracks.len() / batch.playlists.len().max(1)) as i64,
        }
    }

    /// The rows of a table that the batch touches.
    fn rows(&self, table: usize) -> &Tensor {
        if table.is_multiple_of(2) { &self.playlist_rows } else { &self.track_rows }
    }

    /// Sums the gradients of a row's occurrences. `like` has the rows of the table.
    fn gather(&self, table: usize, like: &Tensor, gradients: &Tensor) -> Tensor {
        let slots = if table.is_multiple_of(2) { &self.playlists } else { &self.tracks };
        zeros(&[like.size()[0], gradients.size()[1]]).index_add_(0, slots, gradients)
    }
}

fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Float, Device::Cpu))
}

fn normal(rows: usize, length: usize, rng: &mut Xoshiro256PlusPlus) -> Tensor {
    // Normal rejects only a deviation that is not finite.
    let values: Vec<f32> = Normal::new(0.0, EMBEDDING_DEVIATION)
        .map(|law| law.sample_iter(rng).take(rows * length).collect())
        .unwrap_or_default();
    Tensor::from_slice(&values).view([rows as i64, length as i64])
}

fn uniform(shape: &[usize], bound: f32, rng: &mut Xoshiro256PlusPlus) -> Tensor {
    // Uniform rejects only a bound that is not finite or not above 0.
    let values: Vec<f32> = Uniform::new(-bound, bound)
        .map(|law| law.sample_iter(rng).take(shape.iter().product()).collect())
        .unwrap_or_default();
    let shape: Vec<i64> = shape.iter().map(|&length| length as i64).collect();
    Tensor::from_slice(&values).view(shape.as_slice())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Returns a network whose activations are large enough for all parts to matter, and a batch with repeats.
    fn model_and_batch() -> (Neumf, InteractionBatch) {
        let shape = NeumfShape { playlists: 4, tracks: 7, latent: 3, dense: vec![8, 6, 5] };
        let mut model = Neumf::new(&shape, &mut Xoshiro256PlusPlus::seed_from_u64(11));
        for table in &mut model.tables {
            let _ = table.g_mul_scalar_(20.0);
        }
        let batch = InteractionBatch {
            playlist_rows: vec![3, 1],
            track_rows: vec![6, 0, 2, 5],
            playlists: vec![0, 1, 0],
            tracks: vec![0, 1, 2, 3, 0, 2, 1, 3, 3],
        };
        (model, batch)
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::<f32>::try_from(tensor.detach().contiguous().view(-1)).expect("values")
    }

    #[test]
    fn logits_are_those_of_the_formula() {
        let (model, batch) = model_and_batch();
        let table = |table: usize, row: i64| values(&model.tables[table].get(row));
        let relu_layer = |layer: usize, inputs: &[f32]| -> Vec<f32> {
            let (weights, biases) = (values(&model.dense[2 * layer]), values(&model.dense[2 * layer + 1]));
            let sums = weights.chunks_exact(inputs.len()).zip(biases);
            sums.map(|(row, bias)| row.iter().zip(inputs).map(|(left, right)| left * right).sum::<f32>() + bias)
                .map(|sum| sum.max(0.0))
                .collect()
        };
        let logits = values(&model.logits(&batch));
        assert_eq!(logits.len(), 9);
        for (place, logit) in logits.iter().enumerate() {
            let playlist = batch.playlist_rows[batch.playlists[place / 3] as usize];
            let track = batch.track_rows[batch.tracks[place] as usize];
            let mut last: Vec<f32> =
                table(0, playlist).iter().zip(table(1, track)).map(|(left, right)| left * right).collect();
            let hidden = relu_layer(0, &[table(2, playlist), table(3, track)].concat());
            last.extend(relu_layer(1, &hidden));
            let expected: f32 = last.iter().zip(values(&model.dense[4])).map(|(left, right)| left * right).sum();
            assert!((expected - logit).abs() < 1e-4, "{place}: {expected} {logit}");
        }
    }

    #[test]
    fn gradients_are_those_of_automatic_differentiation() {
        let penalties = Penalties { embeddings: 0.3, activations: 0.2 };
        let (mut model, batch) = model_and_batch();
        let gradients = model.gradients(&batch, penalties);
        for tensor in model.tables.iter_mut().chain(&mut model.dense) {
            *tensor = tensor.copy().set_requires_grad(true);
        }
        let forward = model.forward(&batch, &Indices::new(&batch));
        let labels = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        let none = None::<&Tensor>;
        let loss = forward.logits.binary_cross_entropy_with_logits(&labels, none, none, tch::Reduction::Mean);
        assert!((gradients.loss - loss.double_value(&[])).abs() < 1e-6);
        // A row's embeddings count as often as it stands in the batch: each playlist for itself and its two negatives.
        let playlists = Tensor::from_slice(&[3i64, 3, 3, 1, 1, 1, 3, 3, 3]);
        let tracks = Tensor::from_slice(&[6i64, 0, 2, 5, 6, 2, 0, 5, 5]);
        let squares = |tensor: &Tensor| tensor.square().sum(Kind::Float) / 18.0;
        let embeddings = [0usize, 1, 2, 3].map(|table| {
            let rows = if table.is_multiple_of(2) { &playlists } else { &tracks };
            squares(&model.tables[table].index_select(0, rows))
        });
        let [first, second, third, fourth] = embeddings;
        let activations = forward.activations.iter().map(squares).fold(Tensor::from(0.0f32), |sum, next| sum + next);
        let penalty = (first + second + third + fourth) * penalties.embeddings + activations * penalties.activations;
        (loss + penalty).backward();

        let close = |name: &str, expected: &Tensor, actual: &Tensor| {
            assert_eq!(expected.size(), actual.size(), "{name}");
            let difference = (expected - actual).abs().max().double_value(&[]);
            assert!(difference < 1e-5 && expected.abs().max().double_value(&[]) > 1e-4, "{name}: {difference}");
        };
        for (table, name) in Neumf::TABLES.iter().enumerate() {
            let expected = model.tables[table].grad().index_select(0, &gradients.rows[table]);
            close(name, &expected, &gradients.tables[table]);
        }
        for (number, gradient) in gradients.dense.iter().enumerate() {
            close(&format!("dense {number}"), &model.dense[number].grad(), gradient);
        }
    }
}
