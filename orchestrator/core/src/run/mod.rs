//! How a run moves on: events in, effects out. The only place where a status
//! changes. It never reads a clock, draws a number or waits.
//!
//! [`RunState`] is what a driver holds: [`RunState::recover`] makes it from what
//! the store and the executor hold (nothing, for a new run), and
//! [`RunState::apply`] moves it on. Reading order: `event` (the contract with the
//! driver), `state` (what is held), `apply`, `attempts` (news of attempts),
//! `settle` (outcomes and what follows from them), `retry` (another attempt or a
//! verdict), `ticket`, `recover`, `view`, `change` (what readers see).

mod apply;
mod attempts;
mod change;
#[cfg(feature = "simulation")]
pub mod coverage;
mod event;
mod graph;
mod limits;
mod recover;
mod retry;
mod settle;
mod state;
mod ticket;
mod view;

#[cfg(test)]
mod tests;

pub use change::{RunChange, StepRow};
pub use event::{AttemptNews, Effect, Event, Phase, Recovered, ReuseAnswer, ReuseMiss};
pub use limits::Limits;
pub use state::RunState;
pub use view::{RunView, StepView};
