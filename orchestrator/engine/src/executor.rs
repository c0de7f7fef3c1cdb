//! The seam between a run and what runs its attempts: start, stop, list, watch.
//! Three implementations share it; `conformance` says what each must keep. An
//! executor never decides (retries, verdicts) and never commits: launchers do.

use auria_core::run::AttemptNews;
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, RunId};
use futures::stream::BoxStream;
use std::time::Duration;

/// Starts, stops and watches attempts. Has no default methods, so that each
/// implementation says what it does.
#[async_trait::async_trait]
pub trait Executor: Send + Sync {
    /// Asks for an attempt, whose ticket stands in the store already, and returns
    /// before it runs. Again for one that waits or runs: nothing happens.
    async fn start(&self, ticket: &Ticket) -> Result<(), StartError>;

    /// Asks an attempt to end: SIGTERM, after `grace` SIGKILL; a grace of 0 also
    /// cuts publishing short. Again: the earlier deadline holds. Of one that has
    /// ended or never began: nothing happens.
    async fn stop(&self, attempt: &AttemptId, grace: Duration) -> Result<(), StopError>;

    /// The attempts of `run` that wait or run, whoever started them.
    async fn list(&self, run: &RunId) -> Result<Vec<AttemptId>, ListError>;

    /// News of all attempts of `run`, whoever started them: first the current state
    /// of each, then what happens. It does not end by itself. Something may be told
    /// twice; for each attempt, the last is one for which
    /// [`AttemptEvent::is_last`] holds.
    fn watch(&self, run: &RunId) -> BoxStream<'static, Result<AttemptEvent, WatchError>>;
}

/// Something that happened to an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptEvent {
    /// To which.
    pub attempt: AttemptId,
    /// What.
    pub happened: Happened,
}

/// What an [`AttemptEvent`] says.
#[expect(
    clippy::large_enum_variant,
    reason = "events are passed on at once, and the queues of them are short"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// News for the run state.
    News(AttemptNews),
    /// The command said something: lines without their ends. Some are missed by
    /// those who are slow; the log in the store is whole.
    Log(Vec<String>),
}

impl AttemptEvent {
    /// Whether nothing follows for this attempt.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match &self.happened {
            Happened::Log(_) => false,
            Happened::News(news) => is_last(news),
        }
    }
}

/// Whether `news` is the last of its attempt.
#[must_use]
pub fn is_last(news: &AttemptNews) -> bool {
    match news {
        AttemptNews::Waiting { .. }
        | AttemptNews::Store { .. }
        | AttemptNews::Claimed { .. }
        | AttemptNews::Phase { .. } => false,
        AttemptNews::Committed { .. }
        | AttemptNews::Ended { .. }
        | AttemptNews::ClaimLost
        | AttemptNews::Gone { .. }
        | AttemptNews::Refused { .. }
        | AttemptNews::Unavailable { .. } => true,
    }
}

/// An attempt was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It never will be.
    #[error("{message}")]
    Refused {
        /// Why, for people.
        message: String,
    },
    /// Not at this moment; ask again.
    #[error("{message}")]
    Unavailable {
        /// Why, for people.
        message: String,
    },
}

/// An attempt could not be asked to stop; ask again.
#[derive(Debug, thiserror::Error)]
#[error("could not ask {attempt} to stop: {message}")]
pub struct StopError {
    /// Which.
    pub attempt: AttemptId,
    /// Why, for people.
    pub message: String,
}

/// What runs could not be told.
#[derive(Debug, thiserror::Error)]
#[error("could not list the attempts of {run}: {message}")]
pub struct ListError {
    /// Of which run.
    pub run: RunId,
    /// Why, for people.
    pub message: String,
}

/// A watch is broken; watch again.
#[derive(Debug, thiserror::Error)]
#[error("could not watch the attempts of {run}: {message}")]
pub struct WatchError {
    /// Of which run.
    pub run: RunId,
    /// Why, for people.
    pub message: String,
}
