//! What the launcher of one claim may do: read its ticket's inputs, write below its own
//! prefix, end its attempt and commit its step, each once and in its own name. Everything
//! else is forbidden, whether it exists or not.

use super::own::Own;
use super::standing::Standing;
use crate::objects::{Rights, Verb};
use crate::problem::Refusal;
use async_trait::async_trait;
use auria_core::outcome::{Cause, Checkpoint, EndRecord, Outcome};
use auria_core::protocol::ATTEMPT_LOST;
use auria_core::run::AttemptNews;
use auria_core::ticket::{Ticket, TicketInput};
use auria_core::{AttemptId, Nonce};
use auria_engine::executor::{AttemptEvent, Happened};
use auria_engine::relay::Wake;
use auria_store::{StorePath, layout};
use bytes::Bytes;
use http::StatusCode;
use std::sync::Arc;

/// The rights of one claim.
pub(crate) struct AttemptRights {
    claimed: Own,
    /// It commits and ends the attempt; other instances of its step write their own alone.
    holds_claim: bool,
    /// Below these it may do everything.
    own: Vec<StorePath>,
    /// Below these, and they themselves, it may read.
    inputs: Vec<StorePath>,
    claim: StorePath,
    end: StorePath,
    outcome: StorePath,
    standing: Arc<Standing>,
    wake: Arc<dyn Wake>,
}

impl AttemptRights {
    /// Of the claim `nonce` of the attempt that `ticket` is for; of a distributed step's,
    /// where it is a `member`'s, what belongs to the processes of that instance.
    pub(super) fn new(
        ticket: &Ticket,
        nonce: &Nonce,
        member: Option<u32>,
        standing: Arc<Standing>,
        wake: Arc<dyn Wake>,
    ) -> Self {
        let attempt = ticket.attempt.clone();
        Self {
            own: match (member, super::group::shape(ticket)) {
                (None, _) => vec![
                    layout::data(&attempt, nonce),
                    layout::checkpoints(&attempt, nonce),
                ],
                (Some(instance), Some(shape)) => shape
                    .ranks_of(instance)
                    .map(|rank| layout::member(&attempt, nonce, rank))
                    .collect(),
                (Some(_), None) => Vec::new(),
            },
            holds_claim: member.is_none(),
            inputs: inputs(ticket),
            claim: layout::claim(&attempt),
            end: layout::attempt_end(&attempt),
            outcome: layout::outcome(&attempt.run, &attempt.step),
            claimed: Own::of(ticket, nonce),
            standing,
            wake,
        }
    }

    fn is_own(&self, path: &StorePath) -> bool {
        self.own.iter().any(|own| is_below(path, own))
    }

    fn is_readable(&self, path: &StorePath) -> bool {
        [&self.claim, &self.end, &self.outcome].contains(&path)
            || self.is_own(path)
            || self.inputs.iter().any(|input| path.prefix_matches(input))
    }

    fn is_listable(&self, path: &StorePath) -> bool {
        !path.is_root()
            && self
                .own
                .iter()
                .chain(&self.inputs)
                .any(|prefix| path.prefix_matches(prefix))
    }

    /// Whether `bytes` may be created at `path`: own files anywhere below the prefix, and
    /// the two records in this attempt's own name.
    fn is_creatable(&self, path: &StorePath, bytes: &Bytes) -> bool {
        if !self.holds_claim {
            return self.is_own(path);
        }
        if *path == self.outcome {
            return serde_json::from_slice(bytes)
                .is_ok_and(|outcome: Outcome| self.claimed.is_outcome(&outcome));
        }
        if *path == self.end {
            return serde_json::from_slice(bytes)
                .is_ok_and(|end: EndRecord| self.claimed.is_end(&end));
        }
        self.is_own(path)
    }
}

/// Strictly below.
fn is_below(path: &StorePath, prefix: &StorePath) -> bool {
    path.prefix_matches(prefix) && path != prefix
}

/// What a ticket lets its attempt read.
fn inputs(ticket: &Ticket) -> Vec<StorePath> {
    let mut all: Vec<StorePath> = ticket.code.iter().map(layout::snapshot).collect();
    for input in ticket.inputs.values() {
        match input {
            TicketInput::Artifact { artifact, mode: _ } => {
                let paths = [&artifact.prefix, &artifact.manifest];
                all.extend(paths.iter().filter_map(|path| StorePath::parse(path).ok()));
            }
            TicketInput::Snapshot { digest, .. } => all.push(layout::snapshot(digest)),
            TicketInput::Literal { .. } | TicketInput::External { .. } | TicketInput::Absent => {}
        }
    }
    if let Some(Checkpoint { attempt, nonce, .. }) = &ticket.restore {
        // All of its generations: a newer one stands in where the pinned one was removed.
        let id = AttemptId {
            number: *attempt,
            ..ticket.attempt.clone()
        };
        all.push(layout::checkpoints(&id, nonce));
    }
    // Nothing that a record says may open more than one run's data or one snapshot.
    all.retain(|path| path.parts_count() >= 2);
    all
}

#[async_trait]
impl Rights for AttemptRights {
    async fn may(
        &self,
        verb: Verb,
        path: &StorePath,
        bytes: Option<&Bytes>,
    ) -> Result<(), Refusal> {
        let allowed = match verb {
            Verb::Read => self.is_readable(path),
            Verb::List => self.is_listable(path),
            Verb::Write | Verb::Lend | Verb::Delete => self.is_own(path),
            Verb::Create => bytes.is_some_and(|bytes| self.is_creatable(path, bytes)),
        };
        if !allowed {
            return Err(Refusal::forbidden());
        }
        // Records that are created once are safe whoever writes them; the rest ends with
        // the attempt's chance to count.
        let record = [&self.end, &self.outcome].contains(&path);
        let changes = !matches!(verb, Verb::Read | Verb::List);
        if changes && !record && self.standing.is_over(&self.claimed.attempt).await? {
            return Err(
                Refusal::new(StatusCode::FORBIDDEN, "the attempt is over").of_kind(ATTEMPT_LOST)
            );
        }
        Ok(())
    }

    /// A launcher that was told to end knows that somebody took its place away, and not who:
    /// its end says what the verdict will say, so that whoever takes the run over says so too.
    async fn amended(&self, path: &StorePath, bytes: Bytes) -> Bytes {
        if *path != self.end {
            return bytes;
        }
        let Ok(mut end) = serde_json::from_slice::<EndRecord>(&bytes) else {
            return bytes;
        };
        if end.cause != Cause::Evicted {
            return bytes;
        }
        let attempt = &self.claimed.attempt;
        let cause = if self.standing.is_canceled(&attempt.run).await {
            Some(Cause::Canceled)
        } else {
            self.wake.taken_by(attempt).await
        };
        let Some(cause) = cause else { return bytes };
        end.cause = cause;
        serde_json::to_vec(&end).map_or(bytes, Bytes::from)
    }

    async fn stands(&self, path: &StorePath, bytes: &Bytes) {
        let news = if *path == self.outcome {
            self.standing.over(&self.claimed.attempt);
            match serde_json::from_slice::<Outcome>(bytes) {
                Ok(outcome) => AttemptNews::Committed {
                    outcome: Arc::new(outcome),
                },
                Err(_) => return,
            }
        } else if *path == self.end {
            self.standing.over(&self.claimed.attempt);
            match serde_json::from_slice::<EndRecord>(bytes) {
                Ok(end) => AttemptNews::Ended { end },
                Err(_) => return,
            }
        } else {
            return;
        };
        self.wake.tell(AttemptEvent {
            attempt: self.claimed.attempt.clone(),
            happened: Happened::News(news),
        });
    }
}
