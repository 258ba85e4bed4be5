//! Three networks that predict a rating from a user's and a track's embedding (Koren, Bell and Volinsky 2009 for the
//! first two):
//!
//! * dot: p · q;
//! * bias: p · q + b_u + b_i;
//! * mlp: o · relu(W [p; q] + b) + c, with dropout before and after the hidden layer.
//!
//! The loss of a batch is the mean squared error plus λ (Σ p² + Σ q²) over whole tables. Its gradient would touch every
//! row at every step; instead each example carries the share of its own rows that adds up to the same over an epoch.
//! Gradients are written out by hand: LibTorch builds no graph.

use rand::RngExt;
use rand_distr::{Distribution, Uniform};
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::{Device, Kind, Tensor};

/// Embeddings start within ± this.
const EMBEDDING_BOUND: f32 = 0.05;

/// Which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RatingArchitecture {
    /// p · q
    Dot,
    /// with biases
    Bias,
    /// with a hidden layer
    Mlp,
}

/// The size of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatingShape {
    /// which network
    pub architecture: RatingArchitecture,
    /// rows of the users' table
    pub users: usize,
    /// rows of the tracks' table
    pub tracks: usize,
    /// length of an embedding
    pub factors: usize,
    /// units of the hidden layer
    pub units: usize,
    /// probabilities that an input and an output of the hidden layer are dropped in training
    pub dropouts: (f64, f64),
}

/// Ratings of a batch. `users` and `tracks` index the lists of rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RatingBatch {
    /// distinct users of the batch
    pub user_rows: Vec<i64>,
    /// distinct tracks of the batch
    pub track_rows: Vec<i64>,
    /// the user of each rating
    pub users: Vec<i64>,
    /// the track of each rating
    pub tracks: Vec<i64>,
    /// the ratings
    pub ratings: Vec<f32>,
    /// for each rating the factors of the squared lengths of its user's and its track's embedding in the loss
    pub penalties: [Vec<f32>; 2],
}

/// The network's parameters.
#[derive(Debug)]
pub struct RatingNetwork {
    shape: RatingShape,
    /// of users and of tracks, `[rows, factors]`, plus a column for biases where there are any
    pub tables: [Tensor; 2],
    /// of the hidden layer the weights `[units, 2 factors]` (a user's first) and biases `[units]`, of the output the
    /// weights `[units]` and bias `[1]`; none without a hidden layer
    pub dense: Vec<Tensor>,
}

/// Loss and gradients of a batch.
#[derive(Debug)]
pub struct RatingGradients {
    /// mean squared error, without penalties
    pub loss: f64,
    /// the rows that each table's gradient is for
    pub rows: [Tensor; 2],
    /// `[rows touched, columns]` of each table
    pub tables: [Tensor; 2],
    /// of each tensor of [`RatingNetwork::dense`]
    pub dense: Vec<Tensor>,
}

impl RatingNetwork {
    /// Returns a new network: embeddings uniform within ±0.05, dense weights Glorot-uniform, biases 0, except
    /// that those of users (or that of the output) start at the `mean` rating. Tracks with few ratings stay near where they
    /// start, so the tracks' biases must not have to learn a share of the mean.
    pub fn new(shape: RatingShape, mean: f32, rng: &mut Xoshiro256PlusPlus) -> Self {
        let factors = shape.factors;
        let has_biases = shape.architecture == RatingArchitecture::Bias;
        let mut table = |rows: usize, bias: f32| {
            let mut values: Vec<f32> = Vec::with_capacity(rows * (factors + 1));
            for _ in 0..rows {
                values.extend((0..factors).map(|_| rng.random_range(-EMBEDDING_BOUND..EMBEDDING_BOUND)));
                values.extend(has_biases.then_some(bias));
            }
            Tensor::from_slice(&values).reshape([rows as i64, (factors + usize::from(has_biases)) as i64])
        };
        let tables = [table(shape.users, mean), table(shape.tracks, 0.0)];
        let mut dense = Vec::new();
        if shape.architecture == RatingArchitecture::Mlp {
            let units = shape.units;
            dense.push(glorot(&[units, 2 * factors], rng));
            dense.push(Tensor::zeros([units as i64], (Kind::Float, Device::Cpu)));
            dense.push(glorot(&[1, units], rng).view(-1));
            dense.push(Tensor::from_slice(&[mean]));
        }
        Self { shape, tables, dense }
    }

    /// Returns the size of the network.
    pub fn shape(&self) -> RatingShape {
        self.shape
    }

    /// Predicts ratings of users and tracks by row, without dropout.
    pub fn predict(&self, users: &[i64], tracks: &[i64]) -> Tensor {
        let users = self.tables[0].index_select(0, &Tensor::from_slice(users));
        let tracks = self.tables[1].index_select(0, &Tensor::from_slice(tracks));
        let factors = self.shape.factors as i64;
        match self.shape.architecture {
            RatingArchitecture::Dot => (users * tracks).sum_dim_intlist(1, false, Kind::Float),
            RatingArchitecture::Bias => {
                let product = users.narrow(1, 0, factors) * tracks.narrow(1, 0, factors);
                product.sum_dim_intlist(1, false, Kind::Float) + users.select(1, factors) + tracks.select(1, factors)
            }
            RatingArchitecture::Mlp => {
                let hidden = (Tensor::cat(&[users, tracks], 1).matmul(&self.dense[0].tr()) + &self.dense[1]).relu();
                hidden.mv(&self.dense[2]) + &self.dense[3]
            }
        }
    }

    /// Computes loss and gradients of a batch. `rng` draws the dropout masks.
    pub fn gradients(&self, batch: &RatingBatch, rng: &mut Xoshiro256PlusPlus) -> RatingGradients {
        tch::no_grad(|| self.backward(batch, rng))
    }

    fn backward(&self, batch: &RatingBatch, rng: &mut Xoshiro256PlusPlus) -> RatingGradients {
        let factors = self.shape.factors as i64;
        let rows = [Tensor::from_slice(&batch.user_rows), Tensor::from_slice(&batch.track_rows)];
        let places = [Tensor::from_slice(&batch.users), Tensor::from_slice(&batch.tracks)];
        let touched = [0, 1].map(|table| self.tables[table].index_select(0, &rows[table]));
        let [users, tracks] = [0, 1].map(|table| touched[table].index_select(0, &places[table]));
        let ratings = Tensor::from_slice(&batch.ratings);
        let scale = 2.0 / batch.ratings.len().max(1) as f64;
        let mut dense = Vec::new();
        // `slope` is the derivative of the mean squared error by the prediction.
        let (loss, of_examples) = match self.shape.architecture {
            RatingArchitecture::Dot => {
                let errors = (&users * &tracks).sum_dim_intlist(1, false, Kind::Float) - ratings;
                let slope = (&errors * scale).unsqueeze(1);
                (errors.square().mean(Kind::Float), [&slope * &tracks, &slope * &users])
            }
            RatingArchitecture::Bias => {
                let [p, q] = [users.narrow(1, 0, factors), tracks.narrow(1, 0, factors)];
                let predicted = (&p * &q).sum_dim_intlist(1, false, Kind::Float)
                    + users.select(1, factors)
                    + tracks.select(1, factors);
                let errors = predicted - ratings;
                let slope = (&errors * scale).unsqueeze(1);
                let of = |other: &Tensor| Tensor::cat(&[&(&slope * other), &slope], 1);
                (errors.square().mean(Kind::Float), [of(&q), of(&p)])
            }
            RatingArchitecture::Mlp => {
                let kept_inputs = mask(batch.ratings.len(), 2 * self.shape.factors, self.shape.dropouts.0, rng);
                let kept_units = mask(batch.ratings.len(), self.shape.units, self.shape.dropouts.1, rng);
                let inputs = Tensor::cat(&[&users, &tracks], 1) * &kept_inputs;
                let hidden = (inputs.matmul(&self.dense[0].tr()) + &self.dense[1]).relu();
                let outputs = &hidden * &kept_units;
                let errors = outputs.mv(&self.dense[2]) + &self.dense[3] - ratings;
                let slope = &errors * scale;
                let of_hidden = slope.outer(&self.dense[2]) * kept_units * hidden.gt(0.0);
                let of_inputs = of_hidden.matmul(&self.dense[0]) * kept_inputs;
                dense.push(of_hidden.tr().matmul(&inputs));
                dense.push(of_hidden.sum_dim_intlist(0, false, Kind::Float));
                dense.push(outputs.tr().mv(&slope));
                dense.push(slope.sum(Kind::Float).view(1));
                let halves = [of_inputs.narrow(1, 0, factors), of_inputs.narrow(1, factors, factors)];
                (errors.square().mean(Kind::Float), halves)
            }
        };
        let tables = [0, 1].map(|table| {
            let mut gradient = touched[table].zeros_like();
            let _ = gradient.index_add_(0, &places[table], &of_examples[table]);
            // Of each row touched: the sum of its examples' penalties.
            let mut penalty = Tensor::zeros([touched[table].size()[0]], (Kind::Float, Device::Cpu));
            let _ = penalty.index_add_(0, &places[table], &Tensor::from_slice(&batch.penalties[table]));
            let embedding = touched[table].narrow(1, 0, factors);
            let _ = gradient.narrow(1, 0, factors).g_add_(&(embedding * (penalty * 2.0).unsqueeze(1)));
            gradient
        });
        RatingGradients { loss: f64::try_from(loss).unwrap_or(f64::NAN), rows, tables, dense }
    }
}

/// Returns a dropout mask `[rows, columns]`: 0 with the probability `dropped`, otherwise the factor that preserves the mean.
fn mask(rows: usize, columns: usize, dropped: f64, rng: &mut Xoshiro256PlusPlus) -> Tensor {
    let kept = (1.0 / (1.0 - dropped)) as f32;
    let bar = (dropped * 65_536.0) as u16;
    let mut values = Vec::with_capacity(rows * columns + 3);
    while values.len() < rows * columns {
        let bits: u64 = rng.random();
        values.extend([0, 16, 32, 48].map(|shift| if (bits >> shift) as u16 >= bar { kept } else { 0.0 }));
    }
    values.truncate(rows * columns);
    Tensor::from_slice(&values).reshape([rows as i64, columns as i64])
}

fn glorot(shape: &[usize], rng: &mut Xoshiro256PlusPlus) -> Tensor {
    let bound = (6.0 / shape.iter().sum::<usize>() as f32).sqrt();
    let count = shape.iter().product();
    let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    let values: Vec<f32> = match Uniform::new(-bound, bound) {
        Ok(law) => law.sample_iter(rng).take(count).collect(),
        Err(_) => vec![0.0; count], // of an empty layer
    };
    Tensor::from_slice(&values).reshape(sizes)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn shape(architecture: RatingArchitecture) -> RatingShape {
        RatingShape { architecture, users: 4, tracks: 5, factors: 3, units: 6, dropouts: (0.0, 0.0) }
    }

    fn batch() -> RatingBatch {
        RatingBatch {
            user_rows: vec![1, 3],
            track_rows: vec![0, 2, 4],
            users: vec![0, 1, 0],
            tracks: vec![0, 1, 2],
            ratings: vec![4.0, 2.5, 1.0],
            penalties: [vec![0.1, 0.2, 0.1], vec![0.3, 0.1, 0.2]],
        }
    }

    /// Computes the loss with its penalties example by example from [`RatingNetwork::predict`].
    fn loss(network: &RatingNetwork, batch: &RatingBatch) -> f64 {
        let users: Vec<i64> = batch.users.iter().map(|&user| batch.user_rows[user as usize]).collect();
        let tracks: Vec<i64> = batch.tracks.iter().map(|&track| batch.track_rows[track as usize]).collect();
        let predicted = Vec::<f32>::try_from(network.predict(&users, &tracks)).expect("numbers");
        let mut loss = 0.0;
        for (example, predicted) in predicted.iter().enumerate() {
            loss += f64::from((predicted - batch.ratings[example]).powi(2)) / predicted_len(batch);
            for (table, row) in [(0, users[example]), (1, tracks[example])] {
                let length = network.tables[table].get(row).narrow(0, 0, 3).square().sum(Kind::Double);
                loss += f64::from(batch.penalties[table][example]) * f64::try_from(length).expect("a number");
            }
        }
        loss
    }

    fn predicted_len(batch: &RatingBatch) -> f64 {
        batch.ratings.len() as f64
    }

    #[test]
    fn gradients_are_those_of_the_loss() {
        use RatingArchitecture::{Bias, Dot, Mlp};
        for architecture in [Dot, Bias, Mlp] {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
            let mut network = RatingNetwork::new(shape(architecture), 1.0, &mut rng);
            network.tables = network.tables.map(|table| table * 20.0);
            let batch = batch();
            let gradients = network.gradients(&batch, &mut rng);
            let step = 1e-3;
            let check = |network: &mut RatingNetwork, place: &dyn Fn(&mut RatingNetwork) -> Tensor, expected: f64| {
                let _ = place(network).g_add_scalar_(step);
                let above = loss(network, &batch);
                let _ = place(network).g_add_scalar_(-2.0 * step);
                let below = loss(network, &batch);
                let _ = place(network).g_add_scalar_(step);
                let slope = (above - below) / (2.0 * step);
                assert!((slope - expected).abs() < 0.02 * (1.0 + slope.abs()), "{architecture:?}: {slope} {expected}");
            };
            for table in 0..2 {
                let rows = Vec::<i64>::try_from(&gradients.rows[table]).expect("rows");
                for (place, &row) in rows.iter().enumerate() {
                    for column in 0..network.tables[table].size()[1] {
                        let expected = gradients.tables[table].double_value(&[place as i64, column]);
                        check(&mut network, &|network| network.tables[table].get(row).get(column), expected);
                    }
                }
            }
            for tensor in 0..network.dense.len() {
                for index in 0..network.dense[tensor].numel() as i64 {
                    let expected = gradients.dense[tensor].view(-1).double_value(&[index]);
                    check(&mut network, &|network| network.dense[tensor].view(-1).get(index), expected);
                }
            }
        }
    }

    #[test]
    fn dropping_keeps_the_mean() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let dropped = mask(400, 100, 0.75, &mut rng);
        assert!((dropped.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 0.05);
        assert_eq!((dropped.max().double_value(&[]), dropped.min().double_value(&[])), (4.0, 0.0));
    }
}
