//! News of attempts. Whatever comes, and in whatever order, an attempt that may
//! run is in the set of open ones until its end was seen or it was judged lost,
//! and one that is not the step's current attempt any more is stopped.

use super::event::{AttemptNews, Effect, Phase as Part};
use super::graph::Index;
use super::state::{Fate, Phase, RunState, Turn};
use crate::ids::{AttemptId, Nonce};
use crate::mutant;
use crate::outcome::{Cause, Checkpoint, Claim, Decision, EndRecord, Outcome, Status, Timings};
use crate::timestamp::Timestamp;
use std::sync::Arc;

/// Why a start came to nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stall {
    /// The launcher went before its claim.
    Gone,
    /// The executor could not start it.
    Unavailable,
}

impl RunState {
    pub(super) fn news(&mut self, id: &AttemptId, news: AttemptNews, turn: &mut Turn) {
        if id.run != self.run {
            return;
        }
        let Some(&i) = self.graph.index.get(&id.step) else {
            return;
        };
        let number = id.number;
        if !self.is_known(i, number, &news) {
            if let AttemptNews::Committed { outcome } = news {
                self.settle(outcome, turn);
            }
            return;
        }
        match news {
            AttemptNews::Waiting { why } => self.waits(i, number, why),
            // The driver's: no status depends on it.
            AttemptNews::Store { .. } => {}
            AttemptNews::Claimed { nonce, node } => self.claimed(i, number, nonce, node, turn),
            AttemptNews::Phase { phase } => self.moved(i, number, phase, turn),
            AttemptNews::Committed { outcome } => self.committed(i, number, outcome, turn),
            AttemptNews::Ended { end } => self.ended(i, number, end, turn),
            AttemptNews::ClaimLost => self.claim_lost(i, number, turn),
            AttemptNews::Gone {
                claim,
                end,
                checkpoint,
            } => self.gone(i, number, claim, end, checkpoint, turn),
            AttemptNews::Refused { message } => self.refused(i, number, message, turn),
            AttemptNews::Unavailable { message } => {
                self.unstarted(i, number, Stall::Unavailable, message, turn)
            }
        }
    }

    /// Whether `number` was started by us or found; a first attempt that an
    /// earlier driver started at its end is taken up when it shows itself. No
    /// other number can run without a grant, which we would know.
    fn is_known(&mut self, i: Index, number: u32, news: &AttemptNews) -> bool {
        if number == 0 {
            return false;
        }
        if number <= self.slots[i].number() {
            return true;
        }
        let shows = match news {
            AttemptNews::Claimed { .. } | AttemptNews::Phase { .. } | AttemptNews::Ended { .. } => {
                true
            }
            AttemptNews::Gone { claim, end, .. } => claim.is_some() || end.is_some(),
            AttemptNews::ClaimLost => true,
            AttemptNews::Committed { .. }
            | AttemptNews::Waiting { .. }
            | AttemptNews::Store { .. }
            | AttemptNews::Refused { .. }
            | AttemptNews::Unavailable { .. } => false,
        };
        if number == 1 && shows {
            self.ensure(i, 1);
            return true;
        }
        false
    }

    fn waits(&mut self, i: Index, number: u32, why: String) {
        let slot = &self.slots[i];
        let waiting = slot
            .attempt(number)
            .is_some_and(|attempt| attempt.fate == Fate::Live && !attempt.claimed);
        if waiting && slot.number() == number && slot.phase == Phase::Active {
            self.slot_mut(i).note = Some(why);
        }
    }

    fn claimed(&mut self, i: Index, number: u32, nonce: Nonce, node: String, turn: &mut Turn) {
        let now = turn.now;
        let Some(attempt) = self.attempt_mut(i, number) else {
            return;
        };
        let was_claimed = attempt.claimed;
        attempt.claimed = true;
        attempt.nonce.get_or_insert(nonce);
        attempt.node.get_or_insert(node);
        attempt.started.get_or_insert(now);
        attempt.part = attempt.part.max(Some(Part::Fetching));
        match attempt.fate {
            // Late news of one that ended; or a launcher that claimed after it
            // was given up without a claim, and is stopped.
            Fate::Over if was_claimed && !attempt.lost => {}
            Fate::Judging | Fate::Ending => {}
            Fate::Idle | Fate::Live | Fate::Over => self.is_live(i, number, turn),
        }
    }

    fn moved(&mut self, i: Index, number: u32, part: Part, turn: &mut Turn) {
        let Some(attempt) = self.attempt_mut(i, number) else {
            return;
        };
        match attempt.fate {
            Fate::Judging | Fate::Ending => return,
            Fate::Over if !attempt.lost => return,
            Fate::Idle | Fate::Live | Fate::Over => {}
        }
        attempt.claimed = true;
        attempt.part = attempt.part.max(Some(part));
        self.is_live(i, number, turn);
    }

    /// An attempt shows that it runs.
    pub(super) fn is_live(&mut self, i: Index, number: u32, turn: &mut Turn) {
        let again = self.slots[i]
            .attempt(number)
            .is_some_and(|attempt| attempt.inspect_again);
        self.set_fate(i, number, Fate::Live);
        if self.engage(i, number) {
            if again {
                self.inspect(i, number, turn);
            }
            let slot = self.slot_mut(i);
            slot.stalls = 0;
            slot.note = None;
            if self.is_closed(i) {
                self.hold_back(i, number, turn);
            }
        } else {
            self.stop(i, number, false, turn);
        }
    }

    /// Makes the step wait for `number`, where that is its current attempt and
    /// nothing is decided yet. False where `number` can only be a straggler.
    fn engage(&mut self, i: Index, number: u32) -> bool {
        let slot = &self.slots[i];
        let attempt = slot.attempts.last();
        if slot.number() != number
            || slot.is_decided()
            || attempt.is_none_or(|a| a.lost || a.end.is_some())
        {
            return false;
        }
        if slot.phase != Phase::Active {
            self.set_phase(i, Phase::Active);
        }
        true
    }

    /// In a closed run: stops an attempt unless it may run to its end.
    pub(super) fn hold_back(&mut self, i: Index, number: u32, turn: &mut Turn) {
        let claimed = self.slots[i]
            .attempt(number)
            .is_some_and(|attempt| attempt.claimed);
        if self.canceling.is_some() || !claimed {
            self.stop(i, number, false, turn);
        }
    }

    /// Asks to stop an attempt that may run, and sees to it that this is
    /// repeated until its end is seen. `again`: though it was asked before.
    pub(super) fn stop(&mut self, i: Index, number: u32, again: bool, turn: &mut Turn) {
        let grace_ms = if self.kill {
            0
        } else {
            self.step_at(i).grace_ms
        };
        let wait = grace_ms
            .saturating_add(self.limits.publish_grace_ms)
            .saturating_add(self.limits.stop_margin_ms);
        let at = turn.now.plus_millis(wait.max(1));
        let Some(attempt) = self.attempt_mut(i, number) else {
            return;
        };
        if attempt.fate != Fate::Live || (attempt.stop_at.is_some() && !again) {
            return;
        }
        if let Some(before) = attempt.stop_at.replace(at) {
            self.timers.remove(&(before, i, number));
        }
        self.timers.insert((at, i, number));
        turn.effects.push(Effect::Stop {
            attempt: self.id(i, number),
            grace_ms,
        });
    }

    fn committed(&mut self, i: Index, number: u32, outcome: Arc<Outcome>, turn: &mut Turn) {
        if let Some(attempt) = self.attempt_mut(i, number) {
            attempt.claimed = true;
        }
        self.set_fate(i, number, Fate::Over);
        self.settle(outcome, turn);
    }

    fn ended(&mut self, i: Index, number: u32, end: EndRecord, turn: &mut Turn) {
        let Some(attempt) = self.attempt_mut(i, number) else {
            return;
        };
        let is_news = attempt.end.is_none();
        // The end of one that never claimed, and yet a claim was seen: its
        // launcher came late and is still to be seen gone.
        let straggles = is_news && end.nonce.is_none() && attempt.claimed;
        if is_news {
            attempt.claimed |= end.nonce.is_some();
            attempt.nonce = attempt.nonce.take().or_else(|| end.nonce.clone());
            attempt.end = Some(Arc::new(end));
        }
        if straggles && attempt.fate != Fate::Over {
            self.set_fate(i, number, Fate::Live);
            self.stop(i, number, false, turn);
        } else {
            self.set_fate(i, number, Fate::Over);
        }
        let slot = &self.slots[i];
        let lost = slot.attempt(number).is_some_and(|attempt| attempt.lost);
        if is_news && !lost && slot.number() == number && !slot.is_decided() {
            self.set_phase(i, Phase::Active);
            self.decide(i, turn);
        }
    }

    /// A launcher of this number ended, and it does not hold the claim. Who does may be gone
    /// by now, and nobody says so as long as another launcher of this number lives.
    fn claim_lost(&mut self, i: Index, number: u32, turn: &mut Turn) {
        let Some(attempt) = self.attempt_mut(i, number) else {
            return;
        };
        if !matches!(attempt.fate, Fate::Live | Fate::Idle) {
            return;
        }
        if attempt.inspect_at.is_some() {
            // The answer that is under way may have seen the one that ended now.
            attempt.inspect_again = true;
        } else {
            self.inspect(i, number, turn);
        }
    }

    /// Asks what holds a claim, and sees to it that this is repeated until
    /// something is told of the attempt.
    fn inspect(&mut self, i: Index, number: u32, turn: &mut Turn) {
        let at = turn.now.plus_millis(self.limits.stop_margin_ms.max(1));
        let Some(attempt) = self.attempt_mut(i, number) else {
            return;
        };
        if attempt.inspect_at.is_none() {
            attempt.inspect_at = Some(at);
            self.timers.insert((at, i, number));
            turn.effects.push(Effect::Inspect(self.id(i, number)));
        }
    }

    /// What is due of an attempt.
    pub(super) fn repeat(&mut self, i: Index, number: u32, at: Timestamp, turn: &mut Turn) {
        let Some(attempt) = self.attempt_mut(i, number) else {
            return;
        };
        let stops = attempt.stop_at == Some(at);
        if attempt.inspect_at == Some(at) {
            attempt.inspect_at = None;
            self.inspect(i, number, turn);
        }
        if stops && !mutant!(StopOnce) {
            self.stop(i, number, true, turn);
        }
    }

    fn gone(
        &mut self,
        i: Index,
        number: u32,
        claim: Option<Claim>,
        end: Option<EndRecord>,
        checkpoint: Option<Checkpoint>,
        turn: &mut Turn,
    ) {
        let Some(attempt) = self.attempt_mut(i, number) else {
            return;
        };
        if matches!(attempt.fate, Fate::Over | Fate::Ending | Fate::Judging) {
            return;
        }
        if claim.is_none() && end.is_none() && attempt.claimed {
            // Told before the claim that is known by now: another launcher holds it.
            self.inspect(i, number, turn);
            return;
        }
        if let Some(claim) = claim {
            attempt.claimed = true;
            attempt.nonce.get_or_insert(claim.nonce);
            attempt.node.get_or_insert(claim.host);
            attempt.started.get_or_insert(claim.claimed);
        }
        // What was found at a takeover may be older: the launcher went on.
        attempt.checkpoint = checkpoint.or_else(|| attempt.checkpoint.take());
        if attempt.end.is_some() || attempt.lost {
            self.set_fate(i, number, Fate::Over);
            return;
        }
        if let Some(mut end) = end {
            end.nonce = end.nonce.or_else(|| attempt.nonce.clone());
            end.checkpoint = end.checkpoint.or_else(|| attempt.checkpoint.clone());
            self.write_end(i, number, Box::new(end), turn);
        } else if attempt.claimed {
            let reason = format!(
                "its launcher on {} is gone",
                attempt.node.as_deref().unwrap_or("an unknown host")
            );
            self.judge(i, number, reason, turn);
        } else {
            self.unstarted(
                i,
                number,
                Stall::Gone,
                "its launcher went before it had claimed".to_owned(),
                turn,
            );
        }
    }

    fn write_end(&mut self, i: Index, number: u32, end: Box<EndRecord>, turn: &mut Turn) {
        self.engage(i, number);
        self.set_fate(i, number, Fate::Ending);
        turn.effects.push(Effect::WriteEnd(end));
    }

    /// Gives an attempt up that claimed and is gone.
    pub(super) fn judge(&mut self, i: Index, number: u32, reason: String, turn: &mut Turn) {
        self.engage(i, number);
        self.set_fate(i, number, Fate::Judging);
        if mutant!(LostNotLogged) {
            self.judged_lost(i, number, turn);
            return;
        }
        let step = self.step_at(i).path.clone();
        turn.effects.push(Effect::Append(Decision::JudgedLost {
            step,
            attempt: number,
            reason,
        }));
    }

    pub(super) fn judged_lost(&mut self, i: Index, number: u32, turn: &mut Turn) {
        if number == 0 {
            return;
        }
        let attempt = self.ensure(i, number);
        let was_lost = std::mem::replace(&mut attempt.lost, true);
        attempt.claimed = true;
        if attempt.fate == Fate::Judging {
            self.set_fate(i, number, Fate::Over);
        }
        let slot = &self.slots[i];
        if !was_lost && slot.number() == number && slot.phase == Phase::Active {
            self.decide(i, turn);
        }
    }

    fn refused(&mut self, i: Index, number: u32, message: String, turn: &mut Turn) {
        let Some(attempt) = self.slots[i].attempt(number) else {
            return;
        };
        if attempt.claimed {
            return self.claim_lost(i, number, turn);
        }
        if attempt.fate != Fate::Live {
            return;
        }
        self.set_fate(i, number, Fate::Over);
        if self.slots[i].number() != number || self.slots[i].phase != Phase::Active {
            return;
        }
        if self.is_closed(i) {
            self.commit_closed(i, turn);
        } else {
            let outcome = self.verdict(i, Status::Failed, Cause::Refused, message, turn.now);
            self.commit(i, outcome, turn);
        }
    }

    /// Nothing was started, and nobody claimed: the same number may be started again.
    fn unstarted(&mut self, i: Index, number: u32, stall: Stall, why: String, turn: &mut Turn) {
        let Some(attempt) = self.slots[i].attempt(number) else {
            return;
        };
        if attempt.claimed {
            // Of another launcher, which had not claimed: who holds the claim?
            return self.claim_lost(i, number, turn);
        }
        if attempt.fate != Fate::Live {
            return;
        }
        if self.slots[i].number() != number || self.slots[i].phase != Phase::Active {
            self.set_fate(i, number, Fate::Over);
            return;
        }
        self.set_fate(i, number, Fate::Idle);
        if self.is_closed(i) {
            self.commit_closed(i, turn);
            return;
        }
        let slot = self.slot_mut(i);
        slot.stalls += 1;
        slot.note = Some(why.clone());
        let stalls = slot.stalls;
        match stall {
            Stall::Gone if stalls > self.limits.max_unclaimed => {
                let end = EndRecord {
                    attempt: self.id(i, number),
                    nonce: None,
                    cause: Cause::NodeLost,
                    exit_code: None,
                    message: format!("{why}, {stalls} times"),
                    last_lines: Vec::new(),
                    timings: Timings::default(),
                    checkpoint: None,
                    published: None,
                    node: None,
                    started: None,
                    ended: turn.now,
                };
                self.write_end(i, number, Box::new(end), turn);
            }
            Stall::Unavailable if stalls > self.limits.max_unavailable => {
                self.set_fate(i, number, Fate::Over);
                let message = format!("it could not be started in {stalls} tries: {why}");
                let outcome = self.verdict(i, Status::Failed, Cause::Refused, message, turn.now);
                self.commit(i, outcome, turn);
            }
            Stall::Gone | Stall::Unavailable => {
                let until = turn.now.plus_millis(self.limits.stall_wait_ms(stalls));
                self.set_phase(i, Phase::Backoff { until });
            }
        }
    }
}
