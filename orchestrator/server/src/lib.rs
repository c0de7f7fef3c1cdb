//! What is answered over HTTP: the [broker](broker), through which launchers on a cluster
//! reach their store, and what a server shows of a run. Each has a port of its own, with
//! TLS. It knows nothing of Kubernetes: who runs attempts, and who vouches for users, are
//! traits. It decides nothing about a run.

pub mod broker;
mod caller;
mod listen;
mod objects;
mod problem;
mod summary;
pub mod tls;

pub use broker::token::TokenKey;
pub use listen::Listening;
pub use problem::Refusal;
pub use summary::RunSummary;
