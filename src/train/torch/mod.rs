//! Networks in LibTorch: forward passes and gradients.

pub mod click_networks;
pub mod neumf;
pub mod rating_network;
