//! Reports as pictures, in SVG and PNG.

pub mod bars;
pub mod reliability;
