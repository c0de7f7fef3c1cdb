//! How a run moves on: events in, effects out. The only place where a status
//! changes. It never reads a clock, draws a number or waits.

mod event;

pub use event::{AttemptNews, Effect, Event, Phase, Recovered, ReuseAnswer, ReuseMiss};
