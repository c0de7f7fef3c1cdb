//! Requests to end an attempt: over the socket (someone cancelled it), by SIGTERM
//! (the machine wants it gone). The first says why; the earliest deadline holds.

use crate::command::EndedBy;
use auria_core::outcome::Cause;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A request to end the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// What the attempt ends with.
    pub(crate) cause: Cause,
    /// Another process of the step ended: that says what the attempt ends with.
    pub(crate) drawn: Option<EndedBy>,
    /// When SIGKILL follows SIGTERM.
    pub(crate) kill_at: Instant,
    /// Whether publishing is cut short, too.
    pub(crate) at_once: bool,
}

impl Stop {
    /// What it makes of a command that runs.
    pub(crate) fn reason(&self) -> EndedBy {
        self.drawn.unwrap_or(EndedBy::Stop(self.cause))
    }
}

/// Asks; see [`Stopped`].
#[derive(Clone, Debug)]
pub(crate) struct Stopper(watch::Sender<Option<Stop>>);

/// Listens; see [`Stopper`].
#[derive(Clone, Debug)]
pub(crate) struct Stopped(watch::Receiver<Option<Stop>>);

/// The two ends.
pub(crate) fn channel() -> (Stopper, Stopped) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), Stopped(receiver))
}

impl Stopper {
    /// Asks to end with `cause`, SIGKILL following after `grace`.
    pub(crate) fn ask(&self, cause: Cause, grace: Duration) {
        self.put(cause, None, grace);
    }

    /// Asks to end because another process of the step has ended, in the way that `drawn`
    /// says.
    pub(crate) fn draw_along(&self, drawn: EndedBy, grace: Duration) {
        self.put(Cause::Canceled, Some(drawn), grace);
    }

    fn put(&self, cause: Cause, drawn: Option<EndedBy>, grace: Duration) {
        let asked = Stop {
            cause,
            drawn,
            kill_at: Instant::now() + grace,
            at_once: grace.is_zero(),
        };
        self.0.send_modify(|known| {
            *known = Some(match *known {
                None => asked,
                Some(first) => Stop {
                    cause: first.cause,
                    drawn: first.drawn,
                    kill_at: first.kill_at.min(asked.kill_at),
                    at_once: first.at_once || asked.at_once,
                },
            });
        });
    }
}

impl Stopped {
    /// The request that stands.
    pub(crate) fn now(&self) -> Option<Stop> {
        *self.0.borrow()
    }

    /// Waits for a request, or for a change of the one that was seen.
    pub(crate) async fn changed_from(&mut self, seen: Option<Stop>) -> Stop {
        loop {
            if let Some(stop) = *self.0.borrow_and_update()
                && Some(stop) != seen
            {
                return stop;
            }
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until publishing is to be cut short: `publish_grace` after the
    /// command's own grace, or at once.
    pub(crate) async fn publishing_over(&mut self, publish_grace: Duration) -> Stop {
        let mut seen = None;
        loop {
            let stop = match seen {
                None => self.changed_from(None).await,
                Some(stop) => stop,
            };
            if stop.at_once {
                return stop;
            }
            let until = tokio::time::Instant::from_std(stop.kill_at + publish_grace);
            tokio::select! {
                () = tokio::time::sleep_until(until) => return stop,
                changed = self.changed_from(Some(stop)) => seen = Some(changed),
            }
        }
    }
}
