//! The networks of click probability in LibTorch: forward passes to train by, and the gradients of a batch.

use tch::{Kind, Reduction, Tensor};

use crate::scoring::clicks::network::{ClickNetwork, parameters};
use crate::scoring::clicks::shape::{Architecture, ClickShape, Subject};
use crate::scoring::clicks::{dcn_v2, deepfm, ffm, field_network, fm};

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

/// Computes loss and gradients of a batch, given as `[batch, fields]`, `[batch, numbers]` and `[batch]`, with dropout.
///
/// The result replaces what `into` holds: that of a large batch takes megabytes, and reusing them saves an allocation per
/// batch.
pub fn gradients(network: &ClickNetwork, fields: &[u32], numbers: &[f32], targets: &[f32], into: &mut ClickGradients) {
    let shape = &network.shape;
    network.look_up(fields, &mut into.looked_up);
    let batch = targets.len() as i64;
    let sizes = [batch, shape.fields() as i64, shape.width() as i64];
    let looked_up = Tensor::from_slice(&into.looked_up).view(sizes).set_requires_grad(true);
    let numbers = Tensor::from_slice(numbers).view([batch, shape.numbers() as i64]);
    let dense: Vec<Tensor> = dense_tensors(network).map(|tensor| tensor.set_requires_grad(true)).collect();
    let loss = loss(
        &Inputs { shape, looked_up: &looked_up, numbers: &numbers, dense: &dense, training: true },
        &Tensor::from_slice(targets),
    );
    loss.backward();
    let copy = |tensor: &Tensor, into: &mut Vec<f32>| {
        into.resize(tensor.numel(), 0.0);
        let gradient = tensor.grad();
        // Parameters that the loss does not depend on have none, as the weights of numbers where there are no numbers.
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

/// Mean logistic loss of a batch.
fn loss(inputs: &Inputs<'_>, targets: &Tensor) -> Tensor {
    log_odds(inputs).binary_cross_entropy_with_logits::<Tensor>(targets, None, None, Reduction::Mean)
}

/// The dense parameters as tensors.
fn dense_tensors(network: &ClickNetwork) -> impl Iterator<Item = Tensor> {
    parameters(&network.shape).into_iter().zip(&network.dense).map(|(parameter, values)| {
        let sizes: Vec<i64> = parameter.shape.iter().map(|&size| size as i64).collect();
        Tensor::from_slice(values).view(sizes.as_slice())
    })
}

/// What a forward pass reads.
struct Inputs<'a> {
    shape: &'a ClickShape,
    /// `[batch, fields, width]`
    looked_up: &'a Tensor,
    /// `[batch, numbers]`
    numbers: &'a Tensor,
    /// dense parameters
    dense: &'a [Tensor],
    /// whether units are dropped
    training: bool,
}

impl Inputs<'_> {
    /// Bias and weights of the first order, summed up: `[batch]`.
    fn first_order(&self) -> Tensor {
        let fields = self.looked_up.select(2, 0).sum_dim_intlist(1, false, self.kind());
        fields + self.numbers.mv(&self.dense[0]) + &self.dense[1]
    }

    /// `[batch, fields, width − 1]`: the embeddings.
    fn embeddings(&self) -> Tensor {
        self.looked_up.narrow(2, 1, self.shape.width() as i64 - 1)
    }

    fn dropout(&self, values: Tensor) -> Tensor {
        if self.training && self.shape.dropout > 0.0 { values.dropout(self.shape.dropout, true) } else { values }
    }

    /// Applies the dense layer whose weights are parameter `index` and whose biases are the next one.
    fn layer(&self, values: &Tensor, index: usize) -> Tensor {
        values.linear(&self.dense[index], Some(&self.dense[index + 1]))
    }

    fn batch(&self) -> i64 {
        self.numbers.size()[0]
    }

    /// The type of the numbers: tests compute in double precision.
    fn kind(&self) -> Kind {
        self.looked_up.kind()
    }
}

/// Where `wanted` stands in `of`.
fn positions<T: PartialEq>(of: &[T], wanted: T) -> Tensor {
    let members = (0..).zip(of).filter(|(_, one)| **one == wanted);
    Tensor::from_slice(&members.map(|(position, _)| position).collect::<Vec<i64>>())
}

/// Log-odds `[batch]`.
fn log_odds(inputs: &Inputs<'_>) -> Tensor {
    match inputs.shape.architecture {
        Architecture::LogisticRegression => inputs.first_order(),
        Architecture::Fm => fm(inputs),
        Architecture::Ffm => ffm(inputs),
        Architecture::Deepfm => deepfm(inputs),
        Architecture::FieldNetwork => field_network(inputs),
        Architecture::DcnV2 => dcn_v2(inputs),
    }
}

fn fm(inputs: &Inputs<'_>) -> Tensor {
    let (embeddings, vectors) = (inputs.embeddings(), &inputs.dense[fm::VECTORS]);
    let kind = inputs.kind();
    let sum = embeddings.sum_dim_intlist(1, false, kind) + inputs.numbers.matmul(vectors);
    let squares =
        embeddings.square().sum_dim_intlist(1, false, kind) + inputs.numbers.square().matmul(&vectors.square());
    inputs.first_order() + (sum.square() - squares).sum_dim_intlist(1, false, kind) * 0.5
}

fn ffm(inputs: &Inputs<'_>) -> Tensor {
    let shape = inputs.shape;
    let (fields, dim) = (shape.fields(), shape.dim as i64);
    let all = (fields + shape.groups()) as i64;
    let batch = inputs.batch();
    let kind = inputs.kind();
    let mut parts = vec![inputs.embeddings().view([batch, fields as i64, all, dim])];
    let mut within = Vec::new();
    for group in 0..shape.groups() {
        let members = positions(&shape.number_groups, group);
        let numbers = inputs.numbers.index_select(1, &members);
        let vectors = inputs.dense[ffm::VECTORS].index_select(0, &members);
        parts.push(numbers.matmul(&vectors).view([batch, 1, all, dim]));
        let own = vectors.narrow(1, (fields + group) as i64 * dim, dim).square().sum_dim_intlist(1, false, kind);
        within.push(numbers.square().mv(&own));
    }
    let sums = Tensor::cat(&parts, 1);
    let pairs = (&sums * sums.transpose(1, 2)).sum_dim_intlist([1, 2, 3].as_slice(), false, kind);
    let diagonal = sums.diagonal(0, 1, 2).square();
    // A field of one value has no pairs within itself.
    let alone = diagonal.narrow(2, 0, fields as i64).sum_dim_intlist([1, 2].as_slice(), false, kind);
    let squares = within.into_iter().fold(alone, |sum, one| sum + one);
    inputs.first_order() + (pairs - squares) * 0.5
}

fn deepfm(inputs: &Inputs<'_>) -> Tensor {
    let shape = inputs.shape;
    let batch = inputs.batch();
    let kind = inputs.kind();
    let embeddings = inputs.embeddings();
    let embeddings = match shape.groups() {
        0 => embeddings,
        groups => {
            let mut parts = vec![embeddings];
            for group in 0..groups {
                let members = positions(&shape.number_groups, group);
                let vectors = inputs.dense[deepfm::VECTORS].index_select(0, &members);
                parts.push(inputs.numbers.index_select(1, &members).matmul(&vectors).unsqueeze(1));
            }
            Tensor::cat(&parts, 1)
        }
    };
    let sum = embeddings.sum_dim_intlist(1, false, kind);
    let pairs = sum.square().sum_dim_intlist(1, false, kind)
        - embeddings.square().sum_dim_intlist([1, 2].as_slice(), false, kind);
    let flat = embeddings.reshape([batch, -1]);
    let mut values = if shape.numbers() > 0 { Tensor::cat(&[&flat, inputs.numbers], 1) } else { flat };
    for layer in 0..shape.hidden.len() {
        values = inputs.dropout(inputs.layer(&values, deepfm::LAYERS + 2 * layer).relu());
    }
    inputs.first_order() + pairs * 0.5 + inputs.layer(&values, deepfm::LAYERS + 2 * shape.hidden.len()).view(-1)
}

fn dcn_v2(inputs: &Inputs<'_>) -> Tensor {
    let shape = inputs.shape;
    let flat = inputs.embeddings().reshape([inputs.batch(), -1]);
    let first = Tensor::cat(&[&flat, inputs.numbers], 1);
    let mut crossed = first.shallow_clone();
    for layer in 0..shape.cross_layers {
        crossed = &first * inputs.layer(&crossed, dcn_v2::CROSS + 2 * layer) + crossed;
    }
    let mut values = first;
    for layer in 0..shape.hidden.len() {
        values = inputs.dropout(inputs.layer(&values, dcn_v2::hidden(shape) + 2 * layer).relu());
    }
    let both = Tensor::cat(&[crossed, values], 1);
    inputs.first_order() + inputs.layer(&both, dcn_v2::hidden(shape) + 2 * shape.hidden.len()).view(-1)
}

fn field_network(inputs: &Inputs<'_>) -> Tensor {
    let shape = inputs.shape;
    let kind = inputs.kind();
    let embeddings = inputs.embeddings();
    let batch = inputs.batch();
    let tower = |subject: Subject, index: usize| {
        let flat = embeddings.index_select(1, &positions(&shape.field_subjects, subject)).reshape([batch, -1]);
        let numbers = inputs.numbers.index_select(1, &positions(&shape.number_subjects, subject));
        inputs.dropout(inputs.layer(&Tensor::cat(&[flat, numbers], 1), index).elu())
    };
    let user = inputs.layer(&tower(Subject::User, field_network::TOWERS), field_network::TOWERS + 2);
    let user = match shape.field_subjects.first() {
        Some(Subject::User) => {
            let length = field_network::factors(shape).min(shape.dim) as i64;
            let own = embeddings.select(1, 0).narrow(1, 0, length);
            user + own.constant_pad_nd([0, field_network::factors(shape) as i64 - length])
        }
        _ => user,
    };
    let track = inputs.layer(&tower(Subject::Track, field_network::TOWERS + 4), field_network::TOWERS + 6);
    let context = tower(Subject::Context, field_network::TOWERS + 8);
    let joint = (&user * &track).sum_dim_intlist([1].as_slice(), true, kind);
    let mut values = Tensor::cat(&[user, track, context, joint], 1);
    for block in 0..field_network::BLOCKS {
        let next = inputs.layer(&values, field_network::TOP + 2 * block).elu();
        values = Tensor::cat(&[values, next], 1);
    }
    let values = inputs.dropout(values);
    inputs.first_order() + inputs.layer(&values, field_network::TOP + 2 * field_network::BLOCKS).view(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::clicks::network::tests::{batch, of_shape, shape};

    const ALL: [Architecture; 6] = [
        Architecture::LogisticRegression,
        Architecture::Fm,
        Architecture::Ffm,
        Architecture::Deepfm,
        Architecture::FieldNetwork,
        Architecture::DcnV2,
    ];

    /// Mean loss in double precision, of parameters given as one list: table first.
    fn loss(network: &ClickNetwork, parameters: &[Tensor]) -> Tensor {
        let (fields, numbers, targets) = batch();
        let width = network.shape.width() as i64;
        let rows = Tensor::from_slice(&fields.iter().map(|&row| i64::from(row)).collect::<Vec<_>>());
        let looked_up = parameters[0].view([-1, width]).index_select(0, &rows).view([4, 3, width]);
        let numbers = Tensor::from_slice(&numbers).to_kind(Kind::Double).view([4, 5]);
        let inputs = Inputs {
            shape: &network.shape,
            looked_up: &looked_up,
            numbers: &numbers,
            dense: &parameters[1..],
            training: false,
        };
        let targets = Tensor::from_slice(&targets).to_kind(Kind::Double);
        super::loss(&inputs, &targets)
    }

    fn doubles(network: &ClickNetwork) -> Vec<Tensor> {
        let table = Tensor::from_slice(&network.table);
        [table].into_iter().chain(dense_tensors(network)).map(|tensor| tensor.to_kind(Kind::Double)).collect()
    }

    #[test]
    fn scores_on_plain_arrays_are_those_in_libtorch() {
        for architecture in ALL {
            let network = of_shape(shape(architecture));
            let (fields, numbers, _) = batch();
            let plain = network.score(&fields, &numbers);
            let mut looked_up = Vec::new();
            network.look_up(&fields, &mut looked_up);
            let looked_up = Tensor::from_slice(&looked_up).view([4, 3, network.shape.width() as i64]);
            let dense: Vec<Tensor> = dense_tensors(&network).collect();
            let inputs = Inputs {
                shape: &network.shape,
                looked_up: &looked_up,
                numbers: &Tensor::from_slice(&numbers).view([4, 5]),
                dense: &dense,
                training: false,
            };
            let expected = Vec::<f32>::try_from(log_odds(&inputs)).expect("numbers");
            for (found, expected) in plain.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5, "{architecture:?}: {found} {expected}");
            }
        }
    }

    /// Against central differences in double precision, for every parameter.
    #[test]
    fn gradients_are_those_of_the_loss() {
        for architecture in ALL {
            let network = of_shape(ClickShape { dim: 2, hidden: vec![3, 2], ..shape(architecture) });
            let (fields, numbers, targets) = batch();
            let mut gradients = ClickGradients::default();
            super::gradients(&network, &fields, &numbers, &targets, &mut gradients);
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
}
