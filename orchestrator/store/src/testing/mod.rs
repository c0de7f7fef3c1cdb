//! What tests of this crate and of others stand on: a real S3 server, and a store
//! that fails as real ones do. Only with the feature `testing`.

mod faults;
mod weed;

pub use faults::{Fault, Operation, Verb, faulty};
pub use weed::Weed;
