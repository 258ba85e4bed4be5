//! Track2Vec: skip-gram with negative sampling over playlists (Mikolov et al. 2013; Caselles-Dupré et al. 2018 for
//! music, arXiv 1804.04212).
//!
//! Two networks share everything but the score of a target track t and a context track c:
//!
//! * `cosine`: σ(w · cos(u_t, u_c) + b), one table u, and w, b the weights of the one sigmoid unit.
//! * `sgns`: σ(u_t · v_c), two tables u and v; the tracks' vectors are u.
//!
//! The loss of a pair is −log σ(score of the pair) − Σ log σ(−score of each negative). Negatives are drawn once for a
//! whole batch: with a pool of N tracks and k negatives wished for, each pair's loss against the pool counts k/N. The
//! expectation is that of k negatives of its own, and the scores are one matrix product (Ji et al. 2016).

use tch::{IndexOp, Kind, Tensor};

/// Which of the two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// one table, cosine, one sigmoid unit
    Cosine,
    /// two tables, dot product
    Sgns,
}

/// Pairs of a batch. Numbers index `target_rows` and `context_rows`, which index the tables' rows; with one table the
/// two lists of rows are one and the same, in `target_rows`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairBatch {
    /// distinct rows of the first table that the batch touches
    pub target_rows: Vec<i64>,
    /// distinct rows of the second table that the batch touches; empty with one table
    pub context_rows: Vec<i64>,
    /// target of each pair
    pub targets: Vec<i64>,
    /// context of each pair
    pub contexts: Vec<i64>,
    /// the pool of negatives
    pub negatives: Vec<i64>,
}

/// The network's parameters.
#[derive(Debug)]
pub struct Track2Vec {
    architecture: Architecture,
    /// `[tracks, dimensions]` tables: u, and v with two
    pub tables: Vec<Tensor>,
    /// `[2]`: w and b of the sigmoid unit; used by `cosine` alone
    pub unit: Tensor,
}

/// Where w starts: at 1, a cosine could never say more than σ(1) = .73.
const INITIAL_WEIGHT: f32 = 5.0;

/// Loss and gradients of a batch.
#[derive(Debug)]
pub struct Gradients {
    /// mean loss of a pair
    pub loss: f64,
    /// for each table the rows touched and their gradients `[rows touched, dimensions]`
    pub tables: Vec<(Tensor, Tensor)>,
    /// gradient of the unit
    pub unit: Option<Tensor>,
}

impl Track2Vec {
    /// A new network for `tracks` tracks. `initial` gives the first table's start, `[tracks * dimensions]` values; the
    /// second starts at zero, as is usual.
    pub fn new(architecture: Architecture, tracks: usize, dimensions: usize, initial: &[f32]) -> Self {
        let shape = [tracks as i64, dimensions as i64];
        let mut tables = vec![Tensor::from_slice(initial).reshape(shape)];
        if architecture == Architecture::Sgns {
            tables.push(Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu)));
        }
        Self { architecture, tables, unit: Tensor::from_slice(&[INITIAL_WEIGHT, 0.0]) }
    }

    /// Mean loss of the batch's pairs and its gradients for the rows that it touches. `negatives` is k.
    pub fn gradients(&self, batch: &PairBatch, negatives: f64) -> Gradients {
        let targets = Tensor::from_slice(&batch.targets);
        let contexts = Tensor::from_slice(&batch.contexts);
        let pool = Tensor::from_slice(&batch.negatives);
        let target_rows = Tensor::from_slice(&batch.target_rows);
        // Leaves of the graph are the rows touched, not the tables: no gradient as large as a table ever exists.
        let leaf = |table: &Tensor, rows: &Tensor| table.index_select(0, rows).set_requires_grad(true);
        let first = leaf(&self.tables[0], &target_rows);
        let second = self.tables.get(1).map(|table| {
            let rows = Tensor::from_slice(&batch.context_rows);
            let leaf = leaf(table, &rows);
            (rows, leaf)
        });
        let unit = self.unit.copy().set_requires_grad(self.architecture == Architecture::Cosine);

        let (u, v) = match &second {
            Some((_, second)) => (first.shallow_clone(), second.shallow_clone()),
            None => {
                let normalised = &first / first.norm_scalaropt_dim(2, [1], true).clamp_min(1e-12);
                (normalised.shallow_clone(), normalised)
            }
        };
        let score = |dots: Tensor| match self.architecture {
            Architecture::Cosine => dots * unit.i(0) + unit.i(1),
            Architecture::Sgns => dots,
        };
        let target = u.index_select(0, &targets);
        let positive =
            score((&target * v.index_select(0, &contexts)).sum_dim_intlist([1i64].as_slice(), false, Kind::Float));
        let negative = score(target.matmul(&v.index_select(0, &pool).tr()));
        // A pool's track that is the pair's own context is no negative of it.
        let is_context = contexts.unsqueeze(1).eq_tensor(&pool.unsqueeze(0));
        let against = negative.softplus().masked_fill(&is_context, 0.0);
        let pairs = batch.targets.len() as f64;
        let share = negatives / batch.negatives.len() as f64;
        let loss = ((-positive).softplus().sum(Kind::Float) + against.sum(Kind::Float) * share) / pairs;
        loss.backward();

        let mut tables = vec![(target_rows, first.grad())];
        if let Some((rows, second)) = &second {
            tables.push((rows.shallow_clone(), second.grad()));
        }
        let unit = (self.architecture == Architecture::Cosine).then(|| unit.grad());
        Gradients { loss: loss.double_value(&[]), tables, unit }
    }

    /// The tracks' vectors, `[tracks, dimensions]`, each row of length 1 (or zero).
    pub fn normalised_vectors(&self) -> Tensor {
        let table = &self.tables[0];
        table / table.norm_scalaropt_dim(2, [1], true).clamp_min(1e-12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores and loss by hand for tables small enough to write down.
    #[test]
    fn loss_and_gradient_are_those_of_the_formula() {
        // u of two tracks, v of three; one pair (0, 1) against a pool of (2, 1): the pool's 1 is its context.
        let mut model = Track2Vec::new(Architecture::Sgns, 3, 2, &[0.5, -0.25, 1.0, 2.0, 0.0, 0.0]);
        model.tables[1] = Tensor::from_slice(&[0.0f32, 0.0, 0.3, 0.1, -0.4, 0.8]).reshape([3, 2]);
        let batch = PairBatch {
            target_rows: vec![0],
            context_rows: vec![1, 2],
            targets: vec![0],
            contexts: vec![0],
            negatives: vec![1, 0],
        };
        let gradients = model.gradients(&batch, 5.0);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (positive, negative) = (0.5 * 0.3 - 0.25 * 0.1, 0.5 * -0.4 - 0.25 * 0.8);
        let loss = -sigmoid(positive).ln() - 2.5 * sigmoid(-negative).ln();
        assert!((gradients.loss - loss).abs() < 1e-6, "{} {loss}", gradients.loss);
        // d loss / d u_0 = −σ(−s⁺) v_1 + 2.5 σ(s⁻) v_2
        let expected = [
            -sigmoid(-positive) * 0.3 + 2.5 * sigmoid(negative) * -0.4,
            -sigmoid(-positive) * 0.1 + 2.5 * sigmoid(negative) * 0.8,
        ];
        let actual = Vec::<f32>::try_from(gradients.tables[0].1.reshape([2])).expect("two values");
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((f64::from(*actual) - expected).abs() < 1e-6, "{actual} {expected}");
        }
    }

    #[test]
    fn the_cosine_network_does_not_see_lengths() {
        let batch = PairBatch {
            target_rows: vec![0, 1, 2],
            context_rows: vec![],
            targets: vec![0],
            contexts: vec![1],
            negatives: vec![2],
        };
        let loss = |scale: f32| {
            let initial = [0.5, -0.25, scale, 2.0 * scale, 0.3, 0.3];
            Track2Vec::new(Architecture::Cosine, 3, 2, &initial).gradients(&batch, 1.0).loss
        };
        assert!((loss(1.0) - loss(7.0)).abs() < 1e-6);
    }
}
