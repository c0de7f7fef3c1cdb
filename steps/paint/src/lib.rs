//! Paints a poem with AttnGAN: its data, its network, its training and its brush.
//!
//! The program `auria-paint` is a thin command line over this. Nothing here knows of the
//! orchestrator: a step reads and writes folders.

pub mod artist;
pub mod brush;
pub mod caption;
pub mod data;
pub mod evaluate;
pub mod gate;
pub mod lexicon;
pub mod model;
pub mod noise;
pub mod paint;
pub mod poem;
pub mod render;
pub mod scene;
pub mod train;
pub mod vocabulary;
