//! The networks of click probability, one file each.

pub mod dcn_v2;
pub mod deepfm;
pub mod ffm;
pub mod field_network;
pub mod fm;
pub mod logistic_regression;
pub mod network;
