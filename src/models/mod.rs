//! The networks in LibTorch, and other learned functions, one file each. They know neither files nor SQL.

pub mod click_network;
pub mod dcn_v2;
pub mod deepfm;
pub mod ffm;
pub mod field_network;
pub mod fm;
pub mod logistic_regression;
pub mod neumf;
pub mod oblivious_trees;
pub mod rating_network;
pub mod track2vec;
