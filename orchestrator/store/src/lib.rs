//! The layout of runs in object storage, transfers, outcomes, the reuse index and
//! the registry of assets. A store is a folder or a bucket; both are reached
//! through `object_store`, and one conformance suite runs on both.
//!
//! The rest of the orchestrator reads and writes stores through this crate alone.
//! It decides nothing about runs: it keeps what others decided, exactly once.

pub mod artifact;
mod backend;
pub mod checkpoint;
#[cfg(feature = "direct")]
mod connector;
mod create;
mod error;
pub mod export;
pub mod external;
pub mod housekeeping;
mod http;
pub mod journal;
pub mod layout;
#[cfg(feature = "direct")]
mod lend;
pub mod logs;
pub mod outside;
pub mod probe;
pub mod registry;
#[cfg(feature = "brokered")]
pub mod remote;
pub mod reuse;
pub mod runs;
pub mod served;
pub mod snapshot;
mod store;
mod sum;
#[cfg(feature = "testing")]
pub mod testing;
mod transfer;
mod tree;
mod url;

pub use create::Created;
pub use error::{ErrorKind, StoreError, is_full};
pub use journal::{Append, Claimed, Commit, Journal};
/// A path in a store, relative to its root.
pub use object_store::path::Path as StorePath;
pub use outside::now;
pub use store::{Access, Store};
pub use sum::content_md5;
pub use url::StoreUrl;
