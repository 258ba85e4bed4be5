//! The field network: towers for user, track and context, and a densely connected top (the form that won second place in the
//! WSDM Cup 2018's music recommendation, after Huang et al. 2017 for the dense connections).
//!
//! A tower is a hidden layer over the embeddings of its fields and its numbers. Those of user and track are projected to K
//! numbers, and the user's embedding (padded to K) is added to the user's. [user, track, context, user · track] goes through
//! three hidden layers, each of which reads all that came before it, and all of it into the output. The units are exponential
//! linear.

use super::logistic_regression;
use super::row::{Row, elu};
use super::shape::{ClickShape, Parameter, Subject};
use crate::math::linear::dot;

/// Index of the first tower among the parameters.
pub const TOWERS: usize = 2;
/// Index of the first layer of the top. The towers before it are hidden layer and projection of user and track, and the
/// hidden layer of the context.
pub const TOP: usize = TOWERS + 10;
/// Layers of the top.
pub const BLOCKS: usize = 3;

/// Returns K, the length of the projections of user and track.
pub fn factors(shape: &ClickShape) -> usize {
    shape.hidden.first().copied().unwrap_or(16)
}

fn tower_inputs(shape: &ClickShape, subject: Subject) -> usize {
    let fields = shape.field_subjects.iter().filter(|one| **one == subject).count();
    fields * shape.dim + shape.number_subjects.iter().filter(|one| **one == subject).count()
}

/// Returns the parameters of the first order, the towers, the top and the output.
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

/// Returns the log-odds of a row.
#[inline(always)]
pub fn score(row: &Row<'_>) -> f32 {
    let shape = row.shape;
    let tower = |subject: Subject, index: usize| {
        let mut values: Vec<f32> = Vec::with_capacity(tower_inputs(shape, subject));
        for (field, _) in shape.field_subjects.iter().enumerate().filter(|(_, of)| **of == subject) {
            values.extend_from_slice(row.embedding(field));
        }
        let numbers = row.numbers.iter().zip(&shape.number_subjects).filter(|(_, of)| **of == subject);
        values.extend(numbers.map(|(number, _)| number));
        let mut values = row.layer(&values, index);
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
