//! Arrays of several dimensions.

/// An array in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Array<T> {
    /// length of each dimension
    pub shape: Vec<usize>,
    /// values, the last dimension fastest
    pub values: Vec<T>,
}
