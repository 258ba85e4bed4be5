//! The networks, one file each, in LibTorch. They know neither files nor SQL.

pub mod neumf;
pub mod track2vec;
