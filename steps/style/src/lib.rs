//! Colours a picture in a mood with wavelet style transfer (WCT², Yoo et al.,
//! ICCV 2019): the network and its training, the transfer, the collections of
//! artworks with moods, and a painter that makes a small one.
//!
//! The binary `auria-style` is the only caller; it never talks to the
//! orchestrator other than through the files and variables of a step.

pub mod budget;
pub mod canvas;
pub mod collection;
pub mod commands;
pub mod data;
pub mod evaluate;
pub mod measures;
pub mod model;
pub mod painter;
pub mod train;
pub mod transfer;
pub mod wavelet;
pub mod weights;
