//! What the networks of click probability have in common: one table of embeddings over all fields, dense parameters by
//! name, a forward pass in LibTorch to train by, and one on plain arrays that scores, the same offline and in the server.
//!
//! Each network is a file of its own and knows nothing of files, features or optimisers.

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{dcn_v2, deepfm, ffm, field_network, fm, logistic_regression};
use crate::math::linear::{axpy, dot, vectorised};

/// Which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// [`logistic_regression`]
    LogisticRegression,
    /// [`fm`]
    Fm,
    /// [`ffm`]
    Ffm,
    /// [`deepfm`]
    Deepfm,
    /// [`field_network`]
    FieldNetwork,
    /// [`dcn_v2`]
    DcnV2,
}

/// Whom an input describes; the field network has a tower for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// the user
    User,
    /// the track
    Track,
    /// where and when, and user and track together
    Context,
}

/// How large a network is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClickShape {
    /// which network
    pub architecture: Architecture,
    /// rows of the table of all fields
    pub rows: usize,
    /// for each field whom it describes
    pub field_subjects: Vec<Subject>,
    /// for each number whom it describes
    pub number_subjects: Vec<Subject>,
    /// for each number its group, from 0: numbers of a group lie together, or its indicators do behind all others
    pub number_groups: Vec<usize>,
    /// length of an embedding
    pub dim: usize,
    /// units of hidden layers
    pub hidden: Vec<usize>,
    /// cross layers
    pub cross_layers: usize,
    /// chance that a unit is dropped in training
    pub dropout: f64,
}

/// A dense parameter: its name, shape, and the bound of the uniform law that it starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// name
    pub name: String,
    /// shape
    pub shape: Vec<usize>,
    /// starts within ± this
    pub bound: f32,
}

impl Parameter {
    /// Weights `[out, in]` of a layer, Glorot-uniform, and its biases, at 0.
    pub fn layer(name: &str, inputs: usize, outputs: usize) -> [Self; 2] {
        let bound = (6.0 / (inputs + outputs).max(1) as f32).sqrt();
        let weights = Self { name: format!("{name}.weight"), shape: vec![outputs, inputs], bound };
        [weights, Self { name: format!("{name}.bias"), shape: vec![outputs], bound: 0.0 }]
    }

    /// One that starts within ± `bound`.
    pub fn new(name: &str, shape: &[usize], bound: f32) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), bound }
    }

    fn values(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Embeddings start within ± this.
const EMBEDDING_BOUND: f32 = 0.05;

impl ClickShape {
    /// Number of fields.
    pub fn fields(&self) -> usize {
        self.field_subjects.len()
    }

    /// Number of numbers.
    pub fn numbers(&self) -> usize {
        self.number_subjects.len()
    }

    /// Groups of numbers.
    pub fn groups(&self) -> usize {
        self.number_groups.iter().max().map_or(0, |group| group + 1)
    }

    /// Values of a row of the table: the first is the weight of the first order.
    pub fn width(&self) -> usize {
        match self.architecture {
            Architecture::LogisticRegression => 1,
            Architecture::Ffm => 1 + (self.fields() + self.groups()) * self.dim,
            _ => 1 + self.dim,
        }
    }

    /// Dense parameters.
    pub fn parameters(&self) -> Vec<Parameter> {
        match self.architecture {
            Architecture::LogisticRegression => logistic_regression::parameters(self),
            Architecture::Fm => fm::parameters(self),
            Architecture::Ffm => ffm::parameters(self),
            Architecture::Deepfm => deepfm::parameters(self),
            Architecture::FieldNetwork => field_network::parameters(self),
            Architecture::DcnV2 => dcn_v2::parameters(self),
        }
    }
}

/// A network in plain memory.
#[derive(Debug, Clone, PartialEq)]
pub struct ClickNetwork {
    /// how large it is
    pub shape: ClickShape,
    /// `[rows, width]`
    pub table: Vec<f32>,
    /// dense parameters in the order of [`ClickShape::parameters`]
    pub dense: Vec<Vec<f32>>,
}

/// Loss and gradients of a batch.
#[derive(Debug, Default)]
pub struct ClickGradients {
    /// mean logistic loss
    pub loss: f64,
    /// `[batch, fields, width]`: by what was looked up
    pub looked_up: Vec<f32>,
    /// by each dense parameter
    pub dense: Vec<Vec<f32>>,
}

/// What a forward pass in LibTorch is given.
pub struct Forward<'a> {
    /// how large the network is
    pub shape: &'a ClickShape,
    /// `[batch, fields, width]`
    pub looked_up: &'a Tensor,
    /// `[batch, numbers]`
    pub numbers: &'a Tensor,
    /// dense parameters
    pub dense: &'a [Tensor],
    /// whether units are dropped
    pub training: bool,
}

impl Forward<'_> {
    /// The weights of the first order: `[batch]`.
    pub fn first_order(&self) -> Tensor {
        let fields = self.looked_up.select(2, 0).sum_dim_intlist(1, false, Kind::Float.max_of(self.looked_up));
        fields + self.numbers.mv(&self.dense[0]) + &self.dense[1]
    }

    /// `[batch, fields, width − 1]`: the embeddings.
    pub fn embeddings(&self) -> Tensor {
        self.looked_up.narrow(2, 1, self.shape.width() as i64 - 1)
    }

    /// Drops units.
    pub fn dropout(&self, values: Tensor) -> Tensor {
        if self.training && self.shape.dropout > 0.0 { values.dropout(self.shape.dropout, true) } else { values }
    }

    /// A dense layer whose weights are parameter `place` and whose biases the next one.
    pub fn layer(&self, values: &Tensor, place: usize) -> Tensor {
        values.linear(&self.dense[place], Some(&self.dense[place + 1]))
    }
}

/// The kind of a tensor's numbers: tests compute in doubles.
trait KindOf {
    fn max_of(self, tensor: &Tensor) -> Kind;
}

impl KindOf for Kind {
    fn max_of(self, tensor: &Tensor) -> Kind {
        tensor.kind()
    }
}

/// A batch on plain arrays.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a> {
    /// how large the network is
    pub shape: &'a ClickShape,
    /// `[fields, width]` of one row
    pub looked_up: &'a [f32],
    /// of one row
    pub numbers: &'a [f32],
    /// dense parameters
    pub dense: &'a [Vec<f32>],
}

impl Plain<'_> {
    /// The weights of the first order.
    #[inline(always)]
    pub fn first_order(&self) -> f32 {
        let fields: f32 = self.looked_up.chunks_exact(self.shape.width()).map(|row| row[0]).sum();
        fields + dot(self.numbers, &self.dense[0]) + self.dense[1][0]
    }

    /// The embedding of a field.
    #[inline(always)]
    pub fn embedding(&self, field: usize) -> &[f32] {
        let width = self.shape.width();
        &self.looked_up[field * width + 1..(field + 1) * width]
    }

    /// A dense layer whose weights are parameter `place` and whose biases the next one.
    #[inline(always)]
    pub fn layer(&self, values: &[f32], place: usize) -> Vec<f32> {
        let rows = self.dense[place].chunks_exact(values.len().max(1));
        rows.zip(&self.dense[place + 1]).map(|(weights, bias)| dot(weights, values) + bias).collect()
    }
}

/// In place: what is below 0 becomes 0.
#[inline(always)]
pub fn relu(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = value.max(0.0));
}

/// In place: the exponential linear unit.
#[inline(always)]
pub fn elu(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = if *value > 0.0 { *value } else { value.exp() - 1.0 });
}

/// Σ x · v and Σ x² · v² over the numbers' vectors `[numbers, length]`.
#[inline(always)]
pub fn weighted_sum(numbers: &[f32], vectors: &[f32], sum: &mut [f32]) {
    for (&number, vector) in numbers.iter().zip(vectors.chunks_exact(sum.len())) {
        axpy(number, vector, sum);
    }
}

impl ClickNetwork {
    /// A new one: embeddings uniform within ± .05, those of the first order 0, dense weights Glorot-uniform.
    pub fn new(shape: ClickShape, rng: &mut Xoshiro256PlusPlus) -> Self {
        let width = shape.width();
        let mut table = Vec::with_capacity(shape.rows * width);
        for _ in 0..shape.rows {
            table.push(0.0);
            table.extend((1..width).map(|_| rng.random_range(-EMBEDDING_BOUND..EMBEDDING_BOUND)));
        }
        let mut uniform = |parameter: &Parameter| -> Vec<f32> {
            let bound = parameter.bound;
            let value = |rng: &mut Xoshiro256PlusPlus| if bound > 0.0 { rng.random_range(-bound..bound) } else { 0.0 };
            (0..parameter.values()).map(|_| value(rng)).collect()
        };
        let dense = shape.parameters().iter().map(&mut uniform).collect();
        Self { shape, table, dense }
    }

    /// From its parts, checked against the shape.
    ///
    /// # Errors
    ///
    /// Says which part is of another size.
    pub fn from_parts(shape: ClickShape, table: Vec<f32>, dense: Vec<Vec<f32>>) -> Result<Self, String> {
        if table.len() != shape.rows * shape.width() {
            return Err(format!("its table has {} values, expected {}", table.len(), shape.rows * shape.width()));
        }
        let parameters = shape.parameters();
        if parameters.len() != dense.len() {
            return Err(format!("it has {} dense parameters, expected {}", dense.len(), parameters.len()));
        }
        match parameters.iter().zip(&dense).find(|(parameter, values)| parameter.values() != values.len()) {
            Some((parameter, _)) => Err(format!("{} is not of the shape {:?}", parameter.name, parameter.shape)),
            None => Ok(Self { shape, table, dense }),
        }
    }

    /// `[rows, fields, width]`: what rows of the table (`[rows, fields]`) hold.
    pub fn look_up(&self, fields: &[u32], into: &mut Vec<f32>) {
        let width = self.shape.width();
        into.clear();
        for &row in fields {
            into.extend_from_slice(&self.table[row as usize * width..(row as usize + 1) * width]);
        }
    }

    /// Log-odds of rows of inputs: `[rows, fields]` and `[rows, numbers]`.
    pub fn score(&self, fields: &[u32], numbers: &[f32]) -> Vec<f32> {
        let (width, count) = (self.shape.fields(), self.shape.numbers());
        let rows = fields.len() / width.max(1);
        let mut looked_up = Vec::with_capacity(width * self.shape.width());
        vectorised(
            #[inline(always)]
            || {
                (0..rows)
                    .map(|row| {
                        self.look_up(&fields[row * width..(row + 1) * width], &mut looked_up);
                        let plain = Plain {
                            shape: &self.shape,
                            looked_up: &looked_up,
                            numbers: &numbers[row * count..(row + 1) * count],
                            dense: &self.dense,
                        };
                        match self.shape.architecture {
                            Architecture::LogisticRegression => plain.first_order(),
                            Architecture::Fm => fm::score(&plain),
                            Architecture::Ffm => ffm::score(&plain),
                            Architecture::Deepfm => deepfm::score(&plain),
                            Architecture::FieldNetwork => field_network::score(&plain),
                            Architecture::DcnV2 => dcn_v2::score(&plain),
                        }
                    })
                    .collect()
            },
        )
    }

    /// Loss and gradients of a batch with units dropped; `[batch, fields]`, `[batch, numbers]` and `[batch]`.
    ///
    /// They are written over what `into` holds: of a large batch they are megabytes, which are not asked from the system
    /// for every one.
    pub fn gradients(&self, fields: &[u32], numbers: &[f32], targets: &[f32], into: &mut ClickGradients) {
        self.look_up(fields, &mut into.looked_up);
        let batch = targets.len() as i64;
        let sizes = [batch, self.shape.fields() as i64, self.shape.width() as i64];
        let looked_up = Tensor::from_slice(&into.looked_up).view(sizes).set_requires_grad(true);
        let numbers = Tensor::from_slice(numbers).view([batch, self.shape.numbers() as i64]);
        let dense: Vec<Tensor> = self.tensors().map(|tensor| tensor.set_requires_grad(true)).collect();
        let logits = forward(&Forward {
            shape: &self.shape,
            looked_up: &looked_up,
            numbers: &numbers,
            dense: &dense,
            training: true,
        });
        let loss = logits.binary_cross_entropy_with_logits::<Tensor>(
            &Tensor::from_slice(targets),
            None,
            None,
            tch::Reduction::Mean,
        );
        loss.backward();
        let copy = |tensor: &Tensor, into: &mut Vec<f32>| {
            into.resize(tensor.numel(), 0.0);
            let gradient = tensor.grad();
            // What the loss does not depend on has none: the weights of numbers where there are no numbers.
            if gradient.defined() {
                gradient.contiguous().copy_data(into, tensor.numel());
            } else {
                into.fill(0.0);
            }
        };
        into.loss = f64::try_from(loss).unwrap_or(f64::NAN);
        copy(&looked_up, &mut into.looked_up);
        into.dense.resize(dense.len(), Vec::new());
        dense.iter().zip(&mut into.dense).for_each(|(tensor, into)| copy(tensor, into));
    }

    /// The dense parameters as tensors.
    fn tensors(&self) -> impl Iterator<Item = Tensor> {
        self.shape.parameters().into_iter().zip(&self.dense).map(|(parameter, values)| {
            let sizes: Vec<i64> = parameter.shape.iter().map(|&size| size as i64).collect();
            Tensor::from_slice(values).view(sizes.as_slice())
        })
    }
}

/// Log-odds `[batch]` in LibTorch.
pub fn forward(inputs: &Forward<'_>) -> Tensor {
    match inputs.shape.architecture {
        Architecture::LogisticRegression => inputs.first_order(),
        Architecture::Fm => fm::forward(inputs),
        Architecture::Ffm => ffm::forward(inputs),
        Architecture::Deepfm => deepfm::forward(inputs),
        Architecture::FieldNetwork => field_network::forward(inputs),
        Architecture::DcnV2 => dcn_v2::forward(inputs),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const ALL: [Architecture; 6] = [
        Architecture::LogisticRegression,
        Architecture::Fm,
        Architecture::Ffm,
        Architecture::Deepfm,
        Architecture::FieldNetwork,
        Architecture::DcnV2,
    ];

    fn shape(architecture: Architecture) -> ClickShape {
        use Subject::{Context, Track, User};
        ClickShape {
            architecture,
            rows: 9,
            field_subjects: vec![User, Track, Context],
            number_subjects: vec![User, Context, Track, Context, User],
            number_groups: vec![0, 0, 1, 1, 0],
            dim: 4,
            hidden: vec![6, 5],
            cross_layers: 2,
            dropout: 0.0,
        }
    }

    /// With parameters of a size at which every term counts.
    fn network(architecture: Architecture) -> ClickNetwork {
        of_shape(shape(architecture))
    }

    fn of_shape(shape: ClickShape) -> ClickNetwork {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let mut network = ClickNetwork::new(shape, &mut rng);
        let values = network.table.iter_mut().chain(network.dense.iter_mut().flatten());
        values.for_each(|value| *value += rng.random_range(-0.4..0.4));
        network
    }

    fn batch() -> (Vec<u32>, Vec<f32>, Vec<f32>) {
        let fields = vec![0, 3, 6, 1, 4, 8, 0, 5, 7, 2, 3, 6];
        let numbers = (0..20).map(|place| ((place * 7) % 11) as f32 / 5.0 - 1.0).collect();
        (fields, numbers, vec![1.0, 0.0, 1.0, 1.0])
    }

    /// Mean loss in doubles, of parameters given as one list: table first.
    fn loss(network: &ClickNetwork, parameters: &[Tensor]) -> Tensor {
        let (fields, numbers, targets) = batch();
        let width = network.shape.width() as i64;
        let rows = Tensor::from_slice(&fields.iter().map(|&row| i64::from(row)).collect::<Vec<_>>());
        let looked_up = parameters[0].view([-1, width]).index_select(0, &rows).view([4, 3, width]);
        let numbers = Tensor::from_slice(&numbers).to_kind(Kind::Double).view([4, 5]);
        let inputs = Forward {
            shape: &network.shape,
            looked_up: &looked_up,
            numbers: &numbers,
            dense: &parameters[1..],
            training: false,
        };
        let targets = Tensor::from_slice(&targets).to_kind(Kind::Double);
        forward(&inputs).binary_cross_entropy_with_logits::<Tensor>(&targets, None, None, tch::Reduction::Mean)
    }

    fn doubles(network: &ClickNetwork) -> Vec<Tensor> {
        let table = Tensor::from_slice(&network.table);
        [table].into_iter().chain(network.tensors()).map(|tensor| tensor.to_kind(Kind::Double)).collect()
    }

    #[test]
    fn scores_on_plain_arrays_are_those_in_libtorch() {
        for architecture in ALL {
            let network = network(architecture);
            let (fields, numbers, _) = batch();
            let plain = network.score(&fields, &numbers);
            let mut looked_up = Vec::new();
            network.look_up(&fields, &mut looked_up);
            let looked_up = Tensor::from_slice(&looked_up).view([4, 3, network.shape.width() as i64]);
            let dense: Vec<Tensor> = network.tensors().collect();
            let inputs = Forward {
                shape: &network.shape,
                looked_up: &looked_up,
                numbers: &Tensor::from_slice(&numbers).view([4, 5]),
                dense: &dense,
                training: false,
            };
            let expected = Vec::<f32>::try_from(forward(&inputs)).expect("numbers");
            for (found, expected) in plain.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5, "{architecture:?}: {found} {expected}");
            }
        }
    }

    /// Against central differences in doubles, of every single parameter.
    #[test]
    fn gradients_are_those_of_the_loss() {
        for architecture in ALL {
            let network = of_shape(ClickShape { dim: 2, hidden: vec![3, 2], ..shape(architecture) });
            let (fields, numbers, targets) = batch();
            let mut gradients = ClickGradients::default();
            network.gradients(&fields, &numbers, &targets, &mut gradients);
            let width = network.shape.width();
            let mut of_table = vec![0.0f32; network.table.len()];
            for (row, values) in fields.iter().zip(gradients.looked_up.chunks_exact(width)) {
                let place = *row as usize * width;
                of_table[place..place + width].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            let parameters = doubles(&network);
            let analytic = std::iter::once(&of_table).chain(&gradients.dense);
            for (tensor, analytic) in parameters.iter().zip(analytic) {
                for (index, &found) in analytic.iter().enumerate() {
                    let value = tensor.view(-1).get(index as i64);
                    let step = 1e-5;
                    let _ = value.shallow_clone().g_add_scalar_(step);
                    let above = loss(&network, &parameters).double_value(&[]);
                    let _ = value.shallow_clone().g_add_scalar_(-2.0 * step);
                    let below = loss(&network, &parameters).double_value(&[]);
                    let _ = value.shallow_clone().g_add_scalar_(step);
                    let slope = (above - below) / (2.0 * step);
                    assert!((f64::from(found) - slope).abs() < 1e-5, "{architecture:?} {index}: {found} {slope}");
                }
            }
        }
    }

    #[test]
    fn the_linear_form_of_a_factorization_machine_is_the_sum_over_pairs() {
        let network = network(Architecture::Fm);
        let (fields, numbers, _) = batch();
        let scores = network.score(&fields, &numbers);
        for row in 0..4 {
            let (mut features, mut score) = (Vec::new(), f64::from(network.dense[1][0]));
            for &field in &fields[row * 3..row * 3 + 3] {
                let values = &network.table[field as usize * 5..field as usize * 5 + 5];
                score += f64::from(values[0]);
                features.push((1.0, values[1..].to_vec()));
            }
            for (place, &number) in numbers[row * 5..row * 5 + 5].iter().enumerate() {
                score += f64::from(number * network.dense[0][place]);
                features.push((number, network.dense[2][place * 4..place * 4 + 4].to_vec()));
            }
            for (place, (value, vector)) in features.iter().enumerate() {
                for (other_value, other) in &features[..place] {
                    let product: f64 = vector.iter().zip(other).map(|(one, two)| f64::from(one * two)).sum();
                    score += f64::from(value * other_value) * product;
                }
            }
            assert!((f64::from(scores[row]) - score).abs() < 1e-5, "{} {score}", scores[row]);
        }
    }

    #[test]
    fn field_aware_sums_are_the_sum_over_pairs_of_features() {
        let network = network(Architecture::Ffm);
        let (fields, numbers, _) = batch();
        let (scores, width) = (network.score(&fields, &numbers), network.shape.width());
        for row in 0..4 {
            // Value, field and vectors of each feature; the two groups of numbers are fields 3 and 4.
            let mut features: Vec<(f32, usize, Vec<f32>)> = Vec::new();
            let mut score = f64::from(network.dense[1][0]);
            for (field, &place) in fields[row * 3..row * 3 + 3].iter().enumerate() {
                let values = &network.table[place as usize * width..(place as usize + 1) * width];
                score += f64::from(values[0]);
                features.push((1.0, field, values[1..].to_vec()));
            }
            for (place, &number) in numbers[row * 5..row * 5 + 5].iter().enumerate() {
                score += f64::from(number * network.dense[0][place]);
                let vectors = network.dense[2][place * 20..place * 20 + 20].to_vec();
                features.push((number, 3 + network.shape.number_groups[place], vectors));
            }
            for (place, (value, field, vectors)) in features.iter().enumerate() {
                for (other_value, other_field, other) in &features[..place] {
                    let (mine, theirs) = (&vectors[other_field * 4..][..4], &other[field * 4..][..4]);
                    let product: f64 = mine.iter().zip(theirs).map(|(one, two)| f64::from(one * two)).sum();
                    score += f64::from(value * other_value) * product;
                }
            }
            assert!((f64::from(scores[row]) - score).abs() < 1e-5, "{} {score}", scores[row]);
        }
    }

    #[test]
    fn parts_of_another_size_are_refused_by_name() {
        let network = network(Architecture::Deepfm);
        let mut dense = network.dense.clone();
        dense[3].pop();
        let error = ClickNetwork::from_parts(network.shape.clone(), network.table.clone(), dense).expect_err("short");
        assert!(error.contains("hidden_0.weight"), "{error}");
    }
}
