//! A run's state from what the store and the executor hold. First the facts are
//! noted, then what each step without an outcome waits for is made out, then
//! what follows from the outcomes is done as it was when they came.

use super::event::{Effect, Recovered};
use super::graph::Index;
use super::limits::Limits;
use super::retry::Budgets;
use super::settle::now_or;
use super::state::{Fate, Phase, RunState, Turn};
use crate::ids::RunId;
use crate::mutant;
use crate::outcome::{Decision, LogRecord, Status};
use crate::plan::Plan;
use crate::timestamp::Timestamp;
use std::sync::Arc;

impl RunState {
    /// The state of a run, and what is to be done first. `epoch` is that of this
    /// driver's takeover, which stands in the log by now; a newer one there, and
    /// this driver has lost the run before it began. `found` is empty for a run
    /// that is new.
    #[must_use]
    pub fn recover(
        plan: Arc<Plan>,
        run: RunId,
        epoch: u64,
        found: Recovered,
        limits: Limits,
        now: Timestamp,
    ) -> (Self, Vec<Effect>) {
        let mut state = Self::blank(plan, run, epoch, limits);
        let mut turn = Turn::at(now);
        state.note_log(&found.log);
        state.note_attempts(&found);
        state.note_outcomes(&found);
        state.ended = found.ended;
        state.note_failures();
        if state.ended.is_none() && !state.superseded {
            state.take_up(&mut turn);
        }
        let effects = state.finish(turn);
        (state, effects)
    }

    fn note_log(&mut self, log: &[LogRecord]) {
        for record in log {
            match &record.decision {
                Decision::TookOver { .. } => self.superseded |= record.epoch > self.epoch,
                Decision::CancelRequested { .. } if mutant!(CancelForgotten) => {}
                Decision::CancelRequested { by } => {
                    self.canceling.get_or_insert_with(|| by.clone());
                }
                Decision::Granted {
                    step,
                    attempt,
                    cause,
                    budget_left: _,
                    not_before,
                    restore,
                } => {
                    if let Some(&i) = self.graph.index.get(step) {
                        self.note_grant(i, *attempt, *cause, *not_before, restore.clone());
                        if mutant!(BudgetForgotten) {
                            self.slot_mut(i).used = Budgets::default();
                        }
                    }
                }
                Decision::JudgedLost {
                    step,
                    attempt,
                    reason: _,
                } => {
                    if let Some(&i) = self.graph.index.get(step)
                        && *attempt > 0
                    {
                        let attempt = self.ensure(i, *attempt);
                        attempt.lost = true;
                        attempt.claimed = true;
                        attempt.fate = Fate::Over;
                    }
                }
            }
        }
    }

    fn note_attempts(&mut self, found: &Recovered) {
        for claim in &found.claims {
            let Some(i) = self.place(&claim.attempt.step, claim.attempt.number) else {
                continue;
            };
            let attempt = self.ensure(i, claim.attempt.number);
            attempt.claimed = true;
            attempt.nonce = Some(claim.nonce.clone());
            attempt.node = Some(claim.host.clone());
            attempt.started = Some(claim.claimed);
            self.started = Some(now_or(self.started, claim.claimed));
        }
        for end in &found.ends {
            let Some(i) = self.place(&end.attempt.step, end.attempt.number) else {
                continue;
            };
            let attempt = self.ensure(i, end.attempt.number);
            attempt.claimed |= end.nonce.is_some();
            attempt.nonce = attempt.nonce.take().or_else(|| end.nonce.clone());
            attempt.end = Some(Arc::new(end.clone()));
            attempt.fate = Fate::Over;
        }
        for ((step, number), checkpoint) in &found.checkpoints {
            if let Some(i) = self.place(step, *number) {
                self.ensure(i, *number).checkpoint = Some(checkpoint.clone());
            }
        }
        for id in &found.live {
            if mutant!(LiveIgnored) {
                break;
            }
            let Some(i) = self.place(&id.step, id.number) else {
                continue;
            };
            let attempt = self.ensure(i, id.number);
            // Its own end stands: it is on its way out.
            if attempt.end.as_ref().is_none_or(|end| end.nonce.is_none()) {
                self.set_fate(i, id.number, Fate::Live);
            }
        }
    }

    fn place(&self, step: &crate::ids::StepPath, number: u32) -> Option<Index> {
        let i = *self.graph.index.get(step)?;
        (number > 0).then_some(i)
    }

    fn note_outcomes(&mut self, found: &Recovered) {
        for (path, outcome) in &found.outcomes {
            let Some(&i) = self.graph.index.get(path) else {
                continue;
            };
            if let Some(started) = outcome.started {
                self.started = Some(now_or(self.started, started));
            }
            self.note_outcome(i, Arc::clone(outcome));
            self.gate_open |= self.graph.init == Some(i) && outcome.status.is_success();
        }
    }

    /// Whether the run was closed by a failure, before anything is decided.
    fn note_failures(&mut self) {
        let goes_on = self.plan.settings.continue_on_step_failure;
        for i in 0..self.slots.len() {
            let status = self.slots[i].outcome.as_ref().map(|outcome| outcome.status);
            if matches!(status, Some(Status::Failed | Status::Canceled)) {
                self.failed = true;
                if !goes_on || self.graph.init == Some(i) {
                    self.halted_by.get_or_insert(i);
                }
            }
        }
    }

    fn take_up(&mut self, turn: &mut Turn) {
        for i in 0..self.slots.len() {
            self.take_up_attempts(i, turn);
        }
        for i in 0..self.slots.len() {
            self.follow(i, turn);
        }
        for i in 0..self.slots.len() {
            let slot = &self.slots[i];
            let first = self.gate_open || self.graph.init == Some(i);
            let last = self.graph.finalize == Some(i);
            if slot.phase == Phase::Waiting
                && slot.missing == 0
                && slot.doomed_by.is_none()
                && first
                && !last
            {
                self.ready(i, turn);
            }
        }
        if self.canceling.is_some() || self.halted_by.is_some() {
            self.close(turn);
        }
    }

    fn take_up_attempts(&mut self, i: Index, turn: &mut Turn) {
        let current = self.slots[i].number();
        for number in 1..=current {
            let slot = &self.slots[i];
            let Some(attempt) = slot.attempt(number) else {
                continue;
            };
            let told = attempt.end.is_some() || attempt.lost;
            let decides = number == current && slot.phase != Phase::Done;
            match attempt.fate {
                Fate::Live if decides && !told => self.is_live(i, number, turn),
                Fate::Live => {
                    if decides {
                        self.set_phase(i, Phase::Active);
                        self.decide(i, turn);
                    }
                    self.stop(i, number, false, turn);
                }
                Fate::Over if decides => {
                    self.set_phase(i, Phase::Active);
                    self.decide(i, turn);
                }
                Fate::Idle if attempt.claimed => {
                    self.judge(i, number, "it claimed and does not run".to_owned(), turn)
                }
                // Granted, not claimed and not live: it may be started.
                Fate::Idle if decides && number > 1 => self.queue_start(i, turn.now),
                Fate::Idle if number < current => self.set_fate(i, number, Fate::Over),
                Fate::Idle | Fate::Over | Fate::Ending | Fate::Judging => {}
            }
        }
    }
}
