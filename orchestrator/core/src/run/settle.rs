//! Outcomes: which one is committed where an attempt commits none, and what
//! follows from one that stands. Its dependents are told, once; a failure closes
//! the run unless its settings say that it goes on.
//!
//! After a failure without `continue_on_step_failure` nothing new starts. What
//! has claimed runs on to its end, since its work can be reused, but is not tried
//! again; what waits for room is stopped. The rest is skipped. The step named by
//! `on_finalize` runs all the same, but not in a run that is canceled.

use super::event::Effect;
use super::graph::Index;
use super::state::{Delivery, Fate, Phase, RunState, Turn, Way};
use super::ticket::MissingOutput;
use crate::ids::StepPath;
use crate::outcome::{Artifact, Cause, OUTCOME_VERSION, Outcome, ReuseSource, Status, Timings};
use crate::timestamp::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The earlier of what is known and now.
pub(super) fn now_or(known: Option<Timestamp>, now: Timestamp) -> Timestamp {
    known.map_or(now, |known| known.min(now))
}

impl RunState {
    /// A step's outcome stands in the store.
    pub(super) fn settle(&mut self, outcome: Arc<Outcome>, turn: &mut Turn) {
        if outcome.run != self.run {
            return;
        }
        let Some(&i) = self.graph.index.get(&outcome.step) else {
            return;
        };
        if self.note_outcome(i, outcome) {
            self.follow(i, turn);
        }
    }

    /// Keeps an outcome. False where one was known: the first one stands.
    pub(super) fn note_outcome(&mut self, i: Index, outcome: Arc<Outcome>) -> bool {
        if self.slots[i].outcome.is_some() {
            return false;
        }
        if let Some(number) = outcome.attempt {
            let attempt = self.ensure(i, number);
            attempt.claimed |= outcome.nonce.is_some();
            attempt.nonce = attempt.nonce.take().or_else(|| outcome.nonce.clone());
            self.set_fate(i, number, Fate::Over);
        }
        self.set_phase(i, Phase::Done);
        self.unfinished -= 1;
        let slot = self.slot_mut(i);
        slot.note = None;
        slot.outcome = Some(outcome);
        true
    }

    /// What follows from an outcome that stands.
    pub(super) fn follow(&mut self, i: Index, turn: &mut Turn) {
        let Some(outcome) = self.slots[i].outcome.clone() else {
            return;
        };
        let others: Vec<_> = self.open.range((i, 0)..=(i, u32::MAX)).copied().collect();
        for (_, number) in others {
            self.stop(i, number, false, turn);
        }
        let success = outcome.status.is_success();
        if success {
            self.deliver(i, &outcome, turn);
        } else if outcome.status != Status::Skipped {
            self.failed = true;
            if !self.plan.settings.continue_on_step_failure || self.graph.init == Some(i) {
                self.halt(i, turn);
            }
        }
        self.propagate(i, success, turn);
        if success && self.graph.init == Some(i) && !self.gate_open {
            self.open_gate(turn);
        }
    }

    /// The first step has ended well: those that wait for nothing else begin.
    pub(super) fn open_gate(&mut self, turn: &mut Turn) {
        self.gate_open = true;
        let graph = Arc::clone(&self.graph);
        for i in 0..self.slots.len() {
            let slot = &self.slots[i];
            if slot.phase == Phase::Waiting
                && slot.missing == 0
                && slot.doomed_by.is_none()
                && graph.finalize != Some(i)
            {
                self.ready(i, turn);
            }
        }
    }

    fn deliver(&mut self, i: Index, outcome: &Outcome, turn: &mut Turn) {
        let plan = Arc::clone(&self.plan);
        let step = &plan.steps[i];
        for (name, output) in &step.outputs {
            let Some(artifact) = outcome.outputs.get(name) else {
                continue;
            };
            let mut add = |way, effect| {
                self.deliveries.insert(Delivery {
                    step: i,
                    output: name.clone(),
                    way,
                });
                turn.effects.push(effect);
            };
            if let Some(asset) = output.register.clone() {
                let (step, output, artifact) = (step.path.clone(), name.clone(), artifact.clone());
                add(
                    Way::Register,
                    Effect::Register {
                        step,
                        output,
                        asset,
                        artifact,
                    },
                );
            }
            if let Some(uri) = output.export.clone() {
                let (step, output, artifact) = (step.path.clone(), name.clone(), artifact.clone());
                add(
                    Way::Export,
                    Effect::Export {
                        step,
                        output,
                        uri,
                        artifact,
                    },
                );
            }
        }
    }

    fn halt(&mut self, i: Index, turn: &mut Turn) {
        if self.halted_by.is_none() {
            self.halted_by = Some(i);
            self.close(turn);
        }
    }

    /// Tells those that wait for a step how it ended, and those that wait for
    /// them in turn where they can no longer run.
    pub(super) fn propagate(&mut self, i: Index, success: bool, turn: &mut Turn) {
        let graph = Arc::clone(&self.graph);
        let mut told = vec![(i, success)];
        while let Some((from, success)) = told.pop() {
            if std::mem::replace(&mut self.slot_mut(from).propagated, true) {
                continue;
            }
            for edge in &graph.dependents[from] {
                let slot = self.slot_mut(edge.to);
                slot.missing = slot.missing.saturating_sub(1);
                if !success && edge.required {
                    slot.doomed_by.get_or_insert(from);
                }
                if slot.phase != Phase::Waiting {
                    continue;
                }
                if slot.doomed_by.is_some() {
                    self.skip(edge.to, turn);
                    told.push((edge.to, false));
                } else if slot.missing == 0 && self.gate_open {
                    self.ready(edge.to, turn);
                }
            }
        }
    }

    /// A step that can no longer run.
    fn skip(&mut self, i: Index, turn: &mut Turn) {
        let culprit = self.slots[i].doomed_by.or(self.halted_by);
        let message = match culprit {
            Some(culprit) => format!(
                "`{}` did not end well",
                self.step_at(culprit).path.display()
            ),
            None => "the run has failed".to_owned(),
        };
        let outcome = self.verdict(i, Status::Skipped, Cause::UpstreamFailed, message, turn.now);
        self.commit(i, outcome, turn);
    }

    /// Nothing new starts from now on, or (a cancellation) nothing runs on.
    /// Looks at every step once; a run does this twice at most.
    pub(super) fn close(&mut self, turn: &mut Turn) {
        for i in 0..self.slots.len() {
            if !self.is_closed(i) {
                continue;
            }
            match self.slots[i].phase {
                Phase::Done | Phase::Committing(_) => {}
                Phase::Active => self.hold_back(i, self.slots[i].number(), turn),
                _ => self.commit_closed(i, turn),
            }
        }
    }

    /// The verdict on a step of a closed run that has nothing running.
    pub(super) fn commit_closed(&mut self, i: Index, turn: &mut Turn) {
        if let Some(by) = &self.canceling {
            let message = format!("canceled by {by}");
            let outcome = self.verdict(i, Status::Canceled, Cause::Canceled, message, turn.now);
            self.commit(i, outcome, turn);
            return;
        }
        let Some((_, last)) = self.slots[i].last() else {
            self.skip(i, turn);
            return;
        };
        let (cause, what) = match &last.end {
            Some(end) => (end.cause, end.message.clone()),
            None => (Cause::NodeLost, "its node or launcher was lost".to_owned()),
        };
        let status = if cause == Cause::Canceled {
            Status::Canceled
        } else {
            Status::Failed
        };
        let culprit = self
            .halted_by
            .map(|by| self.step_at(by).path.display())
            .unwrap_or_default();
        let message = format!("{what} (not tried again: `{culprit}` did not end well)");
        let outcome = self.verdict(i, status, cause, message, turn.now);
        self.commit(i, outcome, turn);
    }

    pub(super) fn cannot_start(&mut self, i: Index, missing: &MissingOutput, turn: &mut Turn) {
        let outcome = self.verdict(
            i,
            Status::Failed,
            Cause::UpstreamFailed,
            missing.to_string(),
            turn.now,
        );
        self.commit(i, outcome, turn);
    }

    pub(super) fn commit(&mut self, i: Index, outcome: Outcome, turn: &mut Turn) {
        self.set_phase(i, Phase::Committing(outcome.status));
        self.slot_mut(i).note.clone_from(&outcome.message);
        turn.effects.push(Effect::Commit(Arc::new(outcome)));
    }

    /// The outcome of a step that no attempt commits. It carries what its last
    /// attempt left.
    pub(super) fn verdict(
        &self,
        i: Index,
        status: Status,
        cause: Cause,
        message: String,
        now: Timestamp,
    ) -> Outcome {
        let slot = &self.slots[i];
        let last = slot.last();
        let attempt = last.map(|(_, attempt)| attempt);
        let end = attempt.and_then(|attempt| attempt.end.as_deref());
        Outcome {
            version: OUTCOME_VERSION,
            run: self.run.clone(),
            step: self.step_at(i).path.clone(),
            status,
            attempt: last.map(|(number, _)| number),
            nonce: attempt.and_then(|attempt| attempt.nonce.clone()),
            attempts: slot.claims(),
            cause: Some(cause),
            exit_code: end.and_then(|end| end.exit_code),
            message: Some(message),
            outputs: BTreeMap::new(),
            reused_from: None,
            key: None,
            timings: end.map_or_else(Timings::default, |end| end.timings),
            last_lines: end.map(|end| end.last_lines.clone()).unwrap_or_default(),
            node: end
                .and_then(|end| end.node.clone())
                .or_else(|| attempt?.node.clone()),
            started: end.and_then(|end| end.started).or_else(|| attempt?.started),
            ended: end.map_or(now, |end| end.ended),
        }
    }

    /// The outcome of a step for which another's outputs stand.
    pub(super) fn reused(
        &self,
        i: Index,
        source: ReuseSource,
        outputs: BTreeMap<String, Artifact>,
        now: Timestamp,
    ) -> Outcome {
        Outcome {
            version: OUTCOME_VERSION,
            run: self.run.clone(),
            step: self.step_at(i).path.clone(),
            status: Status::Reused,
            attempt: None,
            nonce: None,
            attempts: 0,
            cause: None,
            exit_code: None,
            message: None,
            outputs,
            reused_from: Some(source),
            key: self.key(i).ok().flatten().map(|(key, _)| key),
            timings: Timings::default(),
            last_lines: Vec::new(),
            node: None,
            started: None,
            ended: now,
        }
    }

    /// Whether an output is there for those that take it.
    pub(super) fn artifact(&self, step: &StepPath, output: &str) -> Option<&Artifact> {
        let i = *self.graph.index.get(step)?;
        let outcome = self.slots[i].outcome.as_deref()?;
        outcome
            .status
            .is_success()
            .then(|| outcome.outputs.get(output))?
    }
}
