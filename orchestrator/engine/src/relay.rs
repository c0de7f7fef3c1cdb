//! The seam between those who start attempts far from the store and the broker that
//! their launchers call: what a launcher needs to reach it, and who is told of what a
//! launcher says. The broker (`server`) and an executor (`kubernetes`) know each other
//! by these traits alone. Nothing here decides or stores anything.

use crate::executor::AttemptEvent;
use async_trait::async_trait;
use auria_core::AttemptId;
use auria_core::outcome::Cause;
use auria_core::run::AttemptNews;

/// All that a launcher needs to reach the broker.
#[derive(Clone)]
pub struct BrokerAccess {
    /// Where it listens: `https://HOST:PORT`.
    pub url: String,
    /// Good for the first calls of this attempt alone: its ticket and its claim.
    pub token: String,
    /// The certificate (PEM) that the broker's own is signed by.
    pub authority: String,
}

impl std::fmt::Debug for BrokerAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the token.
        write!(f, "BrokerAccess({})", self.url)
    }
}

/// Gives attempts what their launchers need to reach the broker.
pub trait TicketIssuer: Send + Sync {
    /// Of one attempt. Again: as good as the first.
    fn issue(&self, attempt: &AttemptId) -> BrokerAccess;
    /// What the attempt's launcher says in `word`, which lay where its step could write:
    /// none where it is not from the launcher (see [`auria_core::last_word`]).
    fn last_word(&self, attempt: &AttemptId, word: &str) -> Option<AttemptNews>;
}

/// Is told at once what launchers say to the broker, so that the next step does not
/// wait for a cluster's own report. It may forget.
#[async_trait]
pub trait Wake: Send + Sync {
    /// What happened to an attempt, as its launcher says. It must not block.
    fn tell(&self, event: AttemptEvent);
    /// Who took an attempt away whose launcher only knows that somebody did: `Preempted` or
    /// `Canceled`; none where it is not known to be either. Asked before such an end is
    /// written, and answered within seconds.
    async fn taken_by(&self, attempt: &AttemptId) -> Option<Cause>;
}
