//! The field network: towers for user, track and context, and a densely connected top (the form that won second place in the
//! WSDM Cup 2018's music recommendation, after Huang et al. 2017 for the dense connections).
//!
//! A tower is a hidden layer over the embeddings of its fields and its numbers; user's and track's are projected to K
//! numbers, the user's embedding (padded to K) is added to the first. [user, track, context, user · track] goes through three
//! hidden layers of which each sees all that came before it, and all of it into the output. Exponential linear units.

use tch::{Kind, Tensor};

use super::logistic_regression;
use super::network::{ClickShape, Forward, Parameter, Plain, Subject, elu};
use crate::math::linear::dot;

/// Place of the first tower among the parameters.
const TOWERS: usize = 2;
/// Parameters of the towers: hidden layer and projection of user and track, hidden layer of the context.
const TOP: usize = TOWERS + 10;
/// Layers of the top.
const BLOCKS: usize = 3;

/// K: what users and tracks are projected to.
fn factors(shape: &ClickShape) -> usize {
    shape.hidden.first().copied().unwrap_or(16)
}

fn tower_inputs(shape: &ClickShape, subject: Subject) -> usize {
    let fields = shape.field_subjects.iter().filter(|one| **one == subject).count();
    fields * shape.dim + shape.number_subjects.iter().filter(|one| **one == subject).count()
}

/// Those of the first order, the towers, the top and the output's weights.
pub fn parameters(shape: &ClickShape) -> Vec<Parameter> {
    let mut parameters = logistic_regression::parameters(shape);
    let factors = factors(shape);
    for (name, subject) in [("user", Subject::User), ("track", Subject::Track)] {
        parameters.extend(Parameter::layer(&format!("{name}_tower"), tower_inputs(shape, subject), 2 * factors));
        parameters.extend(Parameter::layer(&format!("{name}_projection"), 2 * factors, factors));
    }
    parameters.extend(Parameter::layer("context_tower", tower_inputs(shape, Subject::Context), factors));
    let mut width = 3 * factors + 1;
    for block in 0..BLOCKS {
        parameters.extend(Parameter::layer(&format!("top_{block}"), width, 2 * factors));
        width += 2 * factors;
    }
    parameters.extend(Parameter::layer("output", width, 1));
    parameters
}

/// Log-odds `[batch]`.
pub fn forward(inputs: &Forward<'_>) -> Tensor {
    let shape = inputs.shape;
    let kind = inputs.looked_up.kind();
    let embeddings = inputs.embeddings();
    let batch = inputs.numbers.size()[0];
    let tower = |subject: Subject, place: usize| {
        let fields = (0..).zip(&shape.field_subjects).filter(|(_, of)| **of == subject).map(|(field, _)| field);
        let numbers = (0..).zip(&shape.number_subjects).filter(|(_, of)| **of == subject).map(|(number, _)| number);
        let fields = Tensor::from_slice(&fields.collect::<Vec<i64>>());
        let numbers = Tensor::from_slice(&numbers.collect::<Vec<i64>>());
        let flat = embeddings.index_select(1, &fields).reshape([batch, -1]);
        let values = Tensor::cat(&[flat, inputs.numbers.index_select(1, &numbers)], 1);
        inputs.dropout(inputs.layer(&values, place).elu())
    };
    let user = inputs.layer(&tower(Subject::User, TOWERS), TOWERS + 2);
    let user = match shape.field_subjects.first() {
        Some(Subject::User) => {
            let length = (factors(shape).min(shape.dim)) as i64;
            let own = embeddings.select(1, 0).narrow(1, 0, length);
            user + own.constant_pad_nd([0, factors(shape) as i64 - length])
        }
        _ => user,
    };
    let track = inputs.layer(&tower(Subject::Track, TOWERS + 4), TOWERS + 6);
    let context = tower(Subject::Context, TOWERS + 8);
    let joint = (&user * &track).sum_dim_intlist([1].as_slice(), true, kind);
    let mut values = Tensor::cat(&[user, track, context, joint], 1);
    for block in 0..BLOCKS {
        let next = inputs.layer(&values, TOP + 2 * block).elu();
        values = Tensor::cat(&[values, next], 1);
    }
    debug_assert!(kind == Kind::Float || kind == Kind::Double);
    let values = inputs.dropout(values);
    inputs.first_order() + inputs.layer(&values, TOP + 2 * BLOCKS).view(-1)
}

/// Log-odds of one row.
#[inline(always)]
pub fn score(row: &Plain<'_>) -> f32 {
    let shape = row.shape;
    let tower = |subject: Subject, place: usize| {
        let mut values: Vec<f32> = Vec::with_capacity(tower_inputs(shape, subject));
        for (field, _) in shape.field_subjects.iter().enumerate().filter(|(_, of)| **of == subject) {
            values.extend_from_slice(row.embedding(field));
        }
        let numbers = row.numbers.iter().zip(&shape.number_subjects).filter(|(_, of)| **of == subject);
        values.extend(numbers.map(|(number, _)| number));
        let mut values = row.layer(&values, place);
        elu(&mut values);
        values
    };
    let mut user = row.layer(&tower(Subject::User, TOWERS), TOWERS + 2);
    if shape.field_subjects.first() == Some(&Subject::User) {
        user.iter_mut().zip(row.embedding(0)).for_each(|(value, own)| *value += own);
    }
    let track = row.layer(&tower(Subject::Track, TOWERS + 4), TOWERS + 6);
    let joint = dot(&user, &track);
    let mut values = user;
    values.extend(track);
    values.extend(tower(Subject::Context, TOWERS + 8));
    values.push(joint);
    for block in 0..BLOCKS {
        let mut next = row.layer(&values, TOP + 2 * block);
        elu(&mut next);
        values.extend(next);
    }
    row.first_order() + row.layer(&values, TOP + 2 * BLOCKS)[0]
}
