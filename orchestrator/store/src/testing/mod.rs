//! What tests of this crate and of others stand on: a real S3 server, a proxy before
//! it that fails and lies, and a store that fails as real ones do. Only with the
//! feature `testing`.

mod faults;
mod proxy;
mod weed;

pub use faults::{Fault, Operation, Verb, faulty};
pub use proxy::{Asked, FaultProxy, Hits, Wrong};
pub use weed::Weed;
