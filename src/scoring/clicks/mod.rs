//! The networks of click probability: [`shape`] says how large one is, [`row`] is what it reads of one listen, a file for
//! each architecture computes log-odds from that, and [`network`] holds the parameters and scores rows with them.

pub mod dcn_v2;
pub mod deepfm;
pub mod ffm;
pub mod field_network;
pub mod fm;
pub mod logistic_regression;
pub mod network;
pub mod row;
pub mod shape;
