//! How large a network of click probability is, and what its dense parameters are called.

use serde::{Deserialize, Serialize};

/// Which network. A file of this module describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// logistic regression
    LogisticRegression,
    /// factorization machine
    Fm,
    /// field-aware factorization machine
    Ffm,
    /// DeepFM
    Deepfm,
    /// towers for user, track and context
    FieldNetwork,
    /// deep & cross network, version 2
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

/// The size of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClickShape {
    /// which network
    pub architecture: Architecture,
    /// rows of the table of all fields
    pub rows: usize,
    /// whom each field describes
    pub field_subjects: Vec<Subject>,
    /// whom each number describes
    pub number_subjects: Vec<Subject>,
    /// group of each number, from 0: the numbers of a group lie together, or their indicators lie behind all others
    pub number_groups: Vec<usize>,
    /// length of an embedding
    pub dim: usize,
    /// units of hidden layers
    pub hidden: Vec<usize>,
    /// cross layers
    pub cross_layers: usize,
    /// probability that a unit is dropped in training
    pub dropout: f64,
}

impl ClickShape {
    /// Number of fields.
    pub fn fields(&self) -> usize {
        self.field_subjects.len()
    }

    /// Number of numbers.
    pub fn numbers(&self) -> usize {
        self.number_subjects.len()
    }

    /// Number of groups of numbers.
    pub fn groups(&self) -> usize {
        self.number_groups.iter().max().map_or(0, |group| group + 1)
    }

    /// Values in a row of the table: the weight of the first order, then the embedding.
    pub fn width(&self) -> usize {
        match self.architecture {
            Architecture::LogisticRegression => 1,
            Architecture::Ffm => 1 + (self.fields() + self.groups()) * self.dim,
            _ => 1 + self.dim,
        }
    }
}

/// A dense parameter: its name, its shape, and the bound of the uniform distribution that it starts from.
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
    /// Returns the weights `[out, in]` of a layer, Glorot-uniform, and its biases, at 0.
    pub fn layer(name: &str, inputs: usize, outputs: usize) -> [Self; 2] {
        let bound = (6.0 / (inputs + outputs).max(1) as f32).sqrt();
        let weights = Self { name: format!("{name}.weight"), shape: vec![outputs, inputs], bound };
        [weights, Self { name: format!("{name}.bias"), shape: vec![outputs], bound: 0.0 }]
    }

    /// Returns a parameter that starts within ± `bound`.
    pub fn new(name: &str, shape: &[usize], bound: f32) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), bound }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values, as the weights of numbers where there are no numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
