//! Networks in LibTorch: forward passes and gradients.

pub mod neumf;
pub mod rating_network;
