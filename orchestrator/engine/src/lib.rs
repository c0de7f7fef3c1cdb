//! The driver that joins run state, store and executor; the executors on one machine.

#[cfg(feature = "testing")]
#[expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]
pub mod conformance;
pub mod docker;
pub mod driver;
pub mod executor;
pub mod feed;
pub mod lease;
pub mod machine;
pub mod process;
pub mod relay;
#[cfg(feature = "simulation")]
pub mod simulation;
