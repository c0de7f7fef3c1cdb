//! One event, one turn: who is asked, and what follows once it is answered.
//! Starting, due timers and the run's end are looked after at the end of each
//! turn, so that no event can forget them.

use super::event::{Effect, Event, ReuseAnswer, ReuseMiss};
use super::graph::Index;
use super::settle::now_or;
use super::state::{Delivery, Fate, Phase, RunState, Turn, Way};
use crate::ids::StepPath;
use crate::mutant;
use crate::outcome::{Decision, LogRecord, RunEnd, Status};
use crate::plan::Reuse;
use crate::timestamp::Timestamp;

impl RunState {
    /// Moves the run on by what happened, and says what is to be done. The same
    /// event twice, a late one, or one after the end is no harm.
    #[must_use]
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        self.changed.clear();
        if self.superseded || self.ended.is_some() {
            return Vec::new();
        }
        #[cfg(feature = "simulation")]
        super::coverage::met(self, &event);
        let mut turn = Turn::at(now);
        match event {
            Event::Appended(record) => self.appended(record, &mut turn),
            Event::Attempt { id, news } => self.news(&id, news, &mut turn),
            Event::Committed(outcome) => self.settle(outcome, &mut turn),
            Event::Reuse { step, answer } => self.answered(&step, answer, &mut turn),
            Event::CancelAsked { by } => self.ask_to_cancel(by, &mut turn),
            Event::KillAsked { by } => self.ask_to_kill(by, &mut turn),
            Event::Registered {
                step,
                output,
                result,
            } => {
                let version = self.delivered(&step, output.clone(), Way::Register, result);
                if let (Some(version), Some(&i)) = (version, self.graph.index.get(&step)) {
                    self.versions.insert((i, output), version);
                }
            }
            Event::Exported {
                step,
                output,
                result,
            } => {
                self.delivered(&step, output, Way::Export, result);
            }
            Event::Ended(end) => self.ended = Some(end),
            Event::Tick => {}
        }
        self.finish(turn)
    }

    /// When [`Event::Tick`] is due, where anything is.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if self.superseded || self.ended.is_some() {
            return None;
        }
        self.timers.first().map(|(at, ..)| *at)
    }

    /// The end of a turn.
    pub(super) fn finish(&mut self, mut turn: Turn) -> Vec<Effect> {
        if self.superseded || self.ended.is_some() {
            turn.effects.clear();
        } else {
            self.fire(&mut turn);
            self.pump(&mut turn);
            self.advance(&mut turn);
        }
        self.recount();
        turn.effects
    }

    fn appended(&mut self, record: LogRecord, turn: &mut Turn) {
        match record.decision {
            Decision::TookOver { .. } => self.superseded |= record.epoch > self.epoch,
            Decision::CancelRequested { by } => {
                if self.canceling.is_none() {
                    self.canceling = Some(by);
                    self.close(turn);
                    // The end that was asked for is asked for again, as it is now; the
                    // first that is written stands.
                    self.ending &= mutant!(EndUnchanged);
                }
            }
            Decision::Granted {
                step,
                attempt,
                cause,
                budget_left: _,
                not_before,
                restore,
            } => {
                let Some(&i) = self.graph.index.get(&step) else {
                    return;
                };
                if self.note_grant(i, attempt, cause, not_before, restore)
                    && self.slots[i].phase == Phase::Granting
                {
                    self.queue_start(i, turn.now);
                }
            }
            Decision::JudgedLost {
                step,
                attempt,
                reason: _,
            } => {
                if let Some(&i) = self.graph.index.get(&step) {
                    self.judged_lost(i, attempt, turn);
                }
            }
        }
    }

    /// The current attempt may start: at once, or once its wait is over.
    pub(super) fn queue_start(&mut self, i: Index, now: Timestamp) {
        // An attempt of another driver showed itself before what it takes was known here.
        if self.slots[i].missing > 0 {
            self.set_phase(i, Phase::Waiting);
            return;
        }
        let until = self.slots[i]
            .attempts
            .last()
            .and_then(|attempt| attempt.not_before);
        match until {
            Some(until) if until > now => self.set_phase(i, Phase::Backoff { until }),
            _ => self.set_phase(i, Phase::StartQueued),
        }
    }

    fn answered(&mut self, step: &StepPath, answer: ReuseAnswer, turn: &mut Turn) {
        let Some(&i) = self.graph.index.get(step) else {
            return;
        };
        if self.slots[i].phase != Phase::LookingUp {
            return;
        }
        match answer {
            ReuseAnswer::Hit { source, outputs } => {
                let outcome = self.reused(i, source, outputs, turn.now);
                self.commit(i, outcome, turn);
            }
            ReuseAnswer::Miss { miss } => {
                self.slot_mut(i).miss = Some(Box::new(miss));
                self.set_phase(i, Phase::StartQueued);
            }
        }
    }

    fn ask_to_cancel(&mut self, by: String, turn: &mut Turn) {
        if self.canceling.is_none() && !self.cancel_asked {
            self.cancel_asked = true;
            turn.effects
                .push(Effect::Append(Decision::CancelRequested { by }));
        }
    }

    fn ask_to_kill(&mut self, by: String, turn: &mut Turn) {
        self.kill = true;
        self.ask_to_cancel(by, turn);
        if self.canceling.is_some() {
            let live: Vec<_> = self.open.iter().copied().collect();
            for (i, number) in live {
                self.stop(i, number, true, turn);
            }
        }
    }

    fn delivered<T>(
        &mut self,
        step: &StepPath,
        output: String,
        way: Way,
        result: Result<T, String>,
    ) -> Option<T> {
        let &i = self.graph.index.get(step)?;
        let delivery = Delivery {
            step: i,
            output,
            way,
        };
        if !self.deliveries.remove(&delivery) {
            return None;
        }
        self.slot_mut(i);
        result
            .map_err(|why| {
                let what = match way {
                    Way::Register => "registering",
                    Way::Export => "exporting",
                };
                self.failed = true;
                self.problems.push(format!(
                    "{what} `{}` of `{}`: {why}",
                    delivery.output,
                    step.display()
                ));
            })
            .ok()
    }

    /// A step whose dependencies are there: it asks for reuse, or starts.
    pub(super) fn ready(&mut self, i: Index, turn: &mut Turn) {
        if self.is_closed(i) {
            return;
        }
        if self.slots[i].number() > 1 {
            // It was granted another attempt, and is not asked for reuse any more.
            self.queue_start(i, turn.now);
            return;
        }
        let forced = self.plan.settings.force_rerun;
        let miss = match self.step_at(i).reuse {
            Reuse::NotDeterministic => Some(ReuseMiss::NotDeterministic),
            Reuse::Allowed { .. } if forced => Some(ReuseMiss::Forced),
            Reuse::Allowed { .. } => None,
        };
        let slot = self.slot_mut(i);
        slot.ready_at = Some(turn.now);
        if miss.is_some() {
            slot.miss = miss.map(Box::new);
            self.set_phase(i, Phase::StartQueued);
        } else {
            self.set_phase(i, Phase::LookUpQueued);
        }
    }

    /// What is due.
    fn fire(&mut self, turn: &mut Turn) {
        while let Some(&(at, i, number)) = self.timers.first() {
            if at > turn.now {
                break;
            }
            self.timers.remove(&(at, i, number));
            if number == 0 {
                self.set_phase(i, Phase::StartQueued);
            } else {
                self.repeat(i, number, at, turn);
            }
        }
    }

    /// Asks and starts as much as the limits allow.
    fn pump(&mut self, turn: &mut Turn) {
        // A failure is on its way that will close the run: nothing starts before it stands.
        if self.failing > 0 && !self.plan.settings.continue_on_step_failure {
            return;
        }
        while self.looking_up < self.limits.max_lookups
            && let Some(&i) = self.lookups.first()
        {
            self.look_up(i, turn);
        }
        while self.open.len() < self.limits.max_starts
            && let Some(&i) = self.starts.first()
        {
            self.start(i, turn);
        }
    }

    fn look_up(&mut self, i: Index, turn: &mut Turn) {
        match self.key(i) {
            Ok(Some((key, parts))) => {
                self.set_phase(i, Phase::LookingUp);
                let step = self.step_at(i);
                let max_age_ms = match &step.reuse {
                    Reuse::Allowed { max_age_ms, .. } => *max_age_ms,
                    Reuse::NotDeterministic => None,
                };
                turn.effects.push(Effect::LookUpReuse {
                    step: step.path.clone(),
                    key,
                    parts,
                    max_age_ms,
                });
            }
            Ok(None) => self.set_phase(i, Phase::StartQueued),
            Err(missing) => self.cannot_start(i, &missing, turn),
        }
    }

    fn start(&mut self, i: Index, turn: &mut Turn) {
        let number = self.slots[i].number().max(1);
        match self.ticket(i, number) {
            Ok(ticket) => {
                self.ensure(i, number);
                self.set_fate(i, number, Fate::Live);
                self.set_phase(i, Phase::Active);
                self.started = Some(now_or(self.started, turn.now));
                turn.effects.push(Effect::Start(Box::new(ticket)));
            }
            Err(missing) => self.cannot_start(i, &missing, turn),
        }
    }

    /// The last step, and the run's end.
    fn advance(&mut self, turn: &mut Turn) {
        if (!self.open.is_empty() && !mutant!(EndBeforeAttempts)) || self.ending {
            return;
        }
        if self.unfinished == 1
            && let Some(last) = self.graph.finalize
            && self.slots[last].phase == Phase::Waiting
            && !self.is_closed(last)
        {
            self.ready(last, turn);
            self.pump(turn);
        }
        if self.unfinished == 0 && (self.deliveries.is_empty() || mutant!(EndBeforeDeliveries)) {
            self.ending = true;
            turn.effects.push(Effect::EndRun(RunEnd {
                status: if self.canceling.is_some() {
                    Status::Canceled
                } else if self.failed {
                    Status::Failed
                } else {
                    Status::Completed
                },
                started: self.started,
                ended: turn.now,
                counts: self.outcome_counts(),
                problems: self.problems.clone(),
            }));
        }
    }

    /// Steps by the status of their outcome.
    fn outcome_counts(&mut self) -> std::collections::BTreeMap<Status, u64> {
        self.recount();
        self.counts.clone()
    }
}
