//! Arithmetic on plain arrays: arrays in, arrays out. This module knows nothing of catalogs, models or files of bundles.

pub mod array;
pub mod csr;
mod even_sample;
pub mod linear;
pub mod mapped;
pub mod quantized;
pub mod top_k;
pub mod truncated_svd;

pub use array::Array;
pub use csr::Csr;
pub use even_sample::even_sample;
pub use mapped::Values;
pub use quantized::ByteTable;
