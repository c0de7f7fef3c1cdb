//! What a pipeline is, what a run of it is, and how a run moves on: documents,
//! check, plan, the run state machine, and the records that tickets and outcomes
//! are. Everything here is a pure function of its arguments: no I/O, no clock, no
//! randomness, no async. Every other crate of the orchestrator stands on this one.

pub mod check;
pub mod diagnostic;
pub mod digest;
pub mod distribution;
pub mod document;
pub mod ids;
pub mod key;
pub mod last_word;
pub mod mutant;
pub mod outcome;
pub mod plan;
pub mod planner;
pub mod protocol;
pub mod resources;
pub mod run;
#[cfg(feature = "schema")]
mod schema;
pub mod set;
pub mod ticket;
pub mod timestamp;

pub use digest::Digest;
pub use ids::{AttemptId, Nonce, RunId, StepPath};
pub use timestamp::Timestamp;
