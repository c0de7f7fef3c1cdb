//! After an attempt has ended: another one, or a verdict. Each cause draws on a
//! budget of its own; what a run has drawn is counted by its grants, which stand
//! in the log.

use super::event::Effect;
use super::graph::Index;
use super::state::{Phase, RunState, Turn};
use crate::mutant;
use crate::outcome::{Cause, Checkpoint, Decision, EndRecord, Status};
use crate::plan::RetryPolicy;
use crate::timestamp::Timestamp;
use std::sync::Arc;

/// The causes that have a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Budget {
    Exit,
    OutOfMemory,
    Image,
    Preempted,
    Evicted,
    NodeLost,
}

/// How many grants were drawn on each budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Budgets([u32; 6]);

impl Budget {
    /// What an attempt that ended by `cause` draws on. None: it is not tried again.
    pub(super) fn of(cause: Cause) -> Option<Self> {
        match cause {
            Cause::Exit | Cause::Timeout => Some(Self::Exit),
            Cause::OutOfMemory => Some(Self::OutOfMemory),
            Cause::Image => Some(Self::Image),
            Cause::Preempted => Some(Self::Preempted),
            // Nobody of this run asked for the stop: someone took the place away.
            Cause::Evicted | Cause::Canceled => Some(Self::Evicted),
            Cause::NodeLost => Some(Self::NodeLost),
            Cause::UpstreamFailed | Cause::Refused => None,
        }
    }

    fn size(self, policy: &RetryPolicy) -> u32 {
        match self {
            Self::Exit => policy.exit,
            Self::OutOfMemory => policy.out_of_memory,
            Self::Image => policy.image,
            Self::Preempted => policy.preempted,
            Self::Evicted => policy.evicted,
            Self::NodeLost => policy.node_lost,
        }
    }
}

impl Budgets {
    pub(super) fn draw(&mut self, budget: Budget) {
        self.0[budget as usize] += 1;
    }

    /// What is left after one more grant; none where nothing is left for it.
    fn left_after(&self, budget: Budget, policy: &RetryPolicy) -> Option<u32> {
        budget.size(policy).checked_sub(self.0[budget as usize] + 1)
    }

    fn grants(&self) -> u32 {
        self.0.iter().sum()
    }
}

/// `base × factor^times`, at most `max`, in milliseconds.
pub(super) fn backoff_ms(base: u64, factor: f64, max: u64, times: u32) -> u64 {
    let wait = base as f64 * factor.powf(f64::from(times));
    // A cast from a float saturates, and makes 0 of what is no number.
    (wait as u64).min(max)
}

impl RunState {
    /// A record of the log: `number` may start. False where that was known.
    pub(super) fn note_grant(
        &mut self,
        i: Index,
        number: u32,
        cause: Cause,
        not_before: Timestamp,
        restore: Option<Checkpoint>,
    ) -> bool {
        if number <= self.slots[i].number() {
            return false;
        }
        let attempt = self.ensure(i, number);
        attempt.not_before = Some(not_before);
        attempt.restore = restore;
        let slot = self.slot_mut(i);
        slot.stalls = 0;
        if let Some(budget) = Budget::of(cause) {
            slot.used.draw(budget);
            if mutant!(BudgetSpentTwice) {
                slot.used.draw(budget);
            }
        }
        true
    }

    /// The current attempt has ended, or was judged lost: what now?
    pub(super) fn decide(&mut self, i: Index, turn: &mut Turn) {
        let slot = &self.slots[i];
        let number = slot.number();
        let Some(attempt) = slot.attempts.last() else {
            return;
        };
        let end: Option<Arc<EndRecord>> = attempt.end.clone();
        // A success that only could not be committed is one, whatever was asked since.
        if let Some(published) = end.as_ref().and_then(|end| end.published.as_deref()) {
            let outcome = published.clone();
            self.commit(i, outcome, turn);
            return;
        }
        if self.is_closed(i) {
            self.commit_closed(i, turn);
            return;
        }
        let cause = end.as_ref().map_or(Cause::NodeLost, |end| end.cause);
        let policy = &self.step_at(i).retry;
        let left = Budget::of(cause).and_then(|budget| slot.used.left_after(budget, policy));
        let Some(budget_left) = left else {
            let message = self.exhausted(i, cause, end.as_deref());
            let outcome = self.verdict(i, Status::Failed, cause, message, turn.now);
            self.commit(i, outcome, turn);
            return;
        };
        let wait = backoff_ms(
            policy.backoff_ms,
            policy.backoff_factor,
            policy.backoff_max_ms,
            slot.used.grants(),
        );
        let restore = end
            .as_ref()
            .and_then(|end| end.checkpoint.clone())
            .or_else(|| attempt.checkpoint.clone())
            .or_else(|| attempt.restore.clone());
        let grant = Decision::Granted {
            step: self.step_at(i).path.clone(),
            attempt: number + 1,
            cause,
            budget_left,
            not_before: turn.now.plus_millis(wait),
            restore,
        };
        self.slot_mut(i).note = Some(format!("attempt {number} ended: {}", cause_text(cause)));
        self.set_phase(i, Phase::Granting);
        turn.effects.push(Effect::Append(grant));
        if mutant!(StartBeforeGrant) {
            self.note_grant(i, number + 1, cause, turn.now, None);
            self.queue_start(i, turn.now);
        }
    }

    fn exhausted(&self, i: Index, cause: Cause, end: Option<&EndRecord>) -> String {
        let what = end.map_or_else(
            || "its node or launcher was lost".to_owned(),
            |end| end.message.clone(),
        );
        let budget = Budget::of(cause).map_or(0, |budget| budget.size(&self.step_at(i).retry));
        if budget == 0 {
            what
        } else {
            format!(
                "{what}; its budget of {budget} for that ({}) is spent",
                cause_text(cause)
            )
        }
    }
}

/// A cause in words.
pub(super) fn cause_text(cause: Cause) -> &'static str {
    match cause {
        Cause::Exit => "the command failed",
        Cause::OutOfMemory => "memory ran out",
        Cause::Timeout => "it took too long",
        Cause::Image => "its image or program could not be had",
        Cause::Preempted => "it was preempted",
        Cause::Evicted => "it was evicted",
        Cause::NodeLost => "its node or launcher was lost",
        Cause::UpstreamFailed => "a step that it needs did not end well",
        Cause::Canceled => "it was stopped",
        Cause::Refused => "it was refused",
    }
}

#[cfg(test)]
mod tests {
    use super::backoff_ms;

    #[test]
    fn waits_grow_up_to_their_bound() {
        let waits: Vec<_> = (0..5)
            .map(|times| backoff_ms(1000, 2.0, 6000, times))
            .collect();
        assert_eq!(waits, [1000, 2000, 4000, 6000, 6000]);
        assert_eq!(backoff_ms(1000, 2.0, 6000, u32::MAX), 6000);
        assert_eq!(backoff_ms(1000, f64::NAN, 6000, 1), 0);
        assert_eq!(backoff_ms(1000, -2.0, 6000, 1), 0);
    }
}
