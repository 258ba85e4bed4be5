//! A network of click probability in plain memory: one table of embeddings over all fields, and dense parameters by name.
//! It gives the same scores offline and in the server, and knows nothing of files, features or optimizers.

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::row::Row;
use super::shape::{Architecture, ClickShape, Parameter};
use super::{dcn_v2, deepfm, ffm, field_network, fm, logistic_regression};
use crate::math::linear::vectorised;

/// Embeddings start within ± this.
const EMBEDDING_BOUND: f32 = 0.05;

/// The parameters of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct ClickNetwork {
    /// size of the network
    pub shape: ClickShape,
    /// `[rows, width]`
    pub table: Vec<f32>,
    /// dense parameters in the order of [`parameters`]
    pub dense: Vec<Vec<f32>>,
}

/// Returns the dense parameters of a network of that shape.
pub fn parameters(shape: &ClickShape) -> Vec<Parameter> {
    match shape.architecture {
        Architecture::LogisticRegression => logistic_regression::parameters(shape),
        Architecture::Fm => fm::parameters(shape),
        Architecture::Ffm => ffm::parameters(shape),
        Architecture::Deepfm => deepfm::parameters(shape),
        Architecture::FieldNetwork => field_network::parameters(shape),
        Architecture::DcnV2 => dcn_v2::parameters(shape),
    }
}

impl ClickNetwork {
    /// Returns a new network: embeddings uniform within ± .05, those of the first order 0, dense weights Glorot-uniform.
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
            (0..parameter.len()).map(|_| value(rng)).collect()
        };
        let dense = parameters(&shape).iter().map(&mut uniform).collect();
        Self { shape, table, dense }
    }

    /// Puts a network together from its parts.
    ///
    /// # Errors
    ///
    /// Says which part does not have the size that the shape asks for.
    pub fn from_parts(shape: ClickShape, table: Vec<f32>, dense: Vec<Vec<f32>>) -> Result<Self, String> {
        if table.len() != shape.rows * shape.width() {
            return Err(format!("its table has {} values, expected {}", table.len(), shape.rows * shape.width()));
        }
        let parameters = parameters(&shape);
        if parameters.len() != dense.len() {
            return Err(format!("it has {} dense parameters, expected {}", dense.len(), parameters.len()));
        }
        match parameters.iter().zip(&dense).find(|(parameter, values)| parameter.len() != values.len()) {
            Some((parameter, _)) => Err(format!("{} does not have the shape {:?}", parameter.name, parameter.shape)),
            None => Ok(Self { shape, table, dense }),
        }
    }

    /// Copies rows of the table, given as `[rows, fields]`: `[rows, fields, width]`.
    pub fn look_up(&self, fields: &[u32], into: &mut Vec<f32>) {
        let width = self.shape.width();
        into.clear();
        for &row in fields {
            into.extend_from_slice(&self.table[row as usize * width..(row as usize + 1) * width]);
        }
    }

    /// Returns the log-odds of listens, given as `[rows, fields]` and `[rows, numbers]`.
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
                        let row = Row {
                            shape: &self.shape,
                            looked_up: &looked_up,
                            numbers: &numbers[row * count..(row + 1) * count],
                            dense: &self.dense,
                        };
                        match self.shape.architecture {
                            Architecture::LogisticRegression => row.first_order(),
                            Architecture::Fm => fm::score(&row),
                            Architecture::Ffm => ffm::score(&row),
                            Architecture::Deepfm => deepfm::score(&row),
                            Architecture::FieldNetwork => field_network::score(&row),
                            Architecture::DcnV2 => dcn_v2::score(&row),
                        }
                    })
                    .collect()
            },
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::scoring::clicks::shape::Subject;

    pub(crate) fn shape(architecture: Architecture) -> ClickShape {
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

    pub(crate) fn of_shape(shape: ClickShape) -> ClickNetwork {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let mut network = ClickNetwork::new(shape, &mut rng);
        let values = network.table.iter_mut().chain(network.dense.iter_mut().flatten());
        values.for_each(|value| *value += rng.random_range(-0.4..0.4));
        network
    }

    pub(crate) fn batch() -> (Vec<u32>, Vec<f32>, Vec<f32>) {
        let fields = vec![0, 3, 6, 1, 4, 8, 0, 5, 7, 2, 3, 6];
        let numbers = (0..20).map(|place| ((place * 7) % 11) as f32 / 5.0 - 1.0).collect();
        (fields, numbers, vec![1.0, 0.0, 1.0, 1.0])
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
