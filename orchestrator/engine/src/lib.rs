//! The driver that joins run state, store and executor; the executors on one machine.

pub mod driver;
pub mod executor;
pub mod lease;
pub mod machine;
pub mod process;
