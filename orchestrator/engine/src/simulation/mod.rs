//! A simulation that tries everything: the real run state, driver and store protocol
//! on virtual time, with an executor and a store that crash, repeat, delay, reorder
//! and lose, drivers that each believe to own the run, and a kill before and after
//! every effect. A seed is a schedule; the same seed is the same schedule.
//!
//! `examples/simulate.rs` plays schedules, `cargo xtask simulate` builds and calls it.
//! Reading order: `schedule` (what befalls), `world` and `objects` (the store and the
//! network), `machine` and `launcher` (the executor), `keeper` (deletions), `truth` and
//! `removal` (what must hold), `play`.
//! It is in no build but its own, and decides nothing for anyone.

mod dice;
mod impossible;
mod keeper;
mod launcher;
mod machine;
mod objects;
mod pipeline;
mod play;
mod points;
mod removal;
mod report;
mod schedule;
mod sign;
mod truth;
mod world;

pub use auria_core::mutant::Mutant;
pub use play::{Played, play};
pub use report::Totals;

/// A seed with this bit is of a schedule in which runs are deleted: one in six is otherwise.
pub const KEPT: u64 = 1 << 40;
