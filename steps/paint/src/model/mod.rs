//! AttnGAN (Xu et al., CVPR 2018, arXiv:1711.10485), a file for each part.
//!
//! Variables carry the names of the authors' PyTorch code, so that their weights can be
//! told apart by name. Nothing here reads files or draws random numbers: noise is an
//! argument, so one input gives one output.

pub mod config;
pub mod damsm;
pub mod discriminator;
pub mod generator;
pub mod image_encoder;
pub mod layers;
pub mod text_encoder;

pub use config::Config;
