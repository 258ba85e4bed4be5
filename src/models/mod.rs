//! The networks in LibTorch, and other learned functions, one file each. They know neither files nor SQL.

pub mod neumf;
pub mod oblivious_trees;
pub mod rating_network;
pub mod track2vec;
