//! What is answered over HTTP: the [broker](broker), through which launchers on a cluster
//! reach their store, and the [API](api) of users and their command lines. Each has a port
//! of its own. It knows nothing of Kubernetes: who runs attempts, and who vouches for users,
//! are traits. It decides nothing about a run.

pub mod access;
pub mod api;
pub mod auria;
mod body;
pub mod broker;
mod caller;
mod changes;
mod decisions;
pub mod deletion;
pub mod endpoints;
mod idempotency;
mod listen;
pub mod local;
pub mod look;
pub mod names;
mod objects;
mod openapi;
pub mod pages;
mod problem;
pub mod replicas;
pub mod report;
pub mod retry;
pub mod schedules;
mod stall;
pub mod submission;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;

pub use broker::token::TokenKey;
pub use changes::Changes;
pub use listen::Listening;
pub use openapi::{Routes, openapi};
pub use problem::Refusal;
