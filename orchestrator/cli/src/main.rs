//! Run pipelines of containers, one step at a time, from one file.

fn main() {}
