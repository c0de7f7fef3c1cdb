//! Writes haiku with an LSTM language model.
//!
//! `prepare` makes data of a corpus, `train` makes weights of data, `evaluate` measures
//! them, `gate` chooses which weights go on, and `write` writes one poem. The library is
//! for the program `auria-haiku` and its tests; it never reaches a network.

pub mod artifact;
pub mod cli;
pub mod commands;
pub mod config;
pub mod corpus;
pub mod data;
pub mod evaluate;
pub mod gating;
pub mod judge;
pub mod lexicon;
pub mod loss;
pub mod model;
pub mod ngram;
pub mod prepare;
pub mod rules;
pub mod runs;
pub mod sampler;
pub mod spelling;
pub mod stream;
pub mod syllables;
pub mod text;
pub mod train;
pub mod vocab;
pub mod writer;
pub mod written;
