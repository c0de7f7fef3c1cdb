//! What is answered over HTTP: the [broker](broker), through which launchers on a cluster
//! reach their store, and the [API](api) of users and their command lines. Each has a port
//! of its own, with TLS. It knows nothing of Kubernetes: who runs attempts, and who vouches for users, are
//! traits. It decides nothing about a run.

pub mod api;
pub mod broker;
mod caller;
mod listen;
mod objects;
mod problem;
mod summary;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;

pub use broker::token::TokenKey;
pub use listen::Listening;
pub use problem::Refusal;
pub use summary::RunSummary;
