//! Writes a haiku with an LSTM language model.

fn main() {}
