//! What readers see of a run: the terminal, `show`, the API. Reading a step, the
//! counts, or what the last event changed costs nothing of the run's size.

use super::event::{Phase as Part, ReuseMiss};
use super::graph::Index;
use super::state::{Fate, Phase, RunState};
use crate::ids::{AttemptId, Nonce, RunId, StepPath};
use crate::outcome::{Cause, EndRecord, Outcome, RunEnd, Status};
use crate::plan::{Plan, PlannedStep};
use crate::timestamp::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A run, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct RunView<'a> {
    /// The run.
    pub run: &'a RunId,
    /// Its status.
    pub status: Status,
    /// Steps by status.
    pub counts: &'a BTreeMap<Status, u64>,
    /// All steps.
    pub steps: usize,
    /// Steps without an outcome.
    pub unfinished: usize,
    /// Attempts that may run.
    pub open_attempts: usize,
    /// When the first step was asked for.
    pub started: Option<Timestamp>,
    /// Who asked to cancel it.
    pub canceled_by: Option<&'a str>,
    /// What went wrong outside of any step.
    pub problems: &'a [String],
    /// How it ended.
    pub end: Option<&'a RunEnd>,
}

/// A step, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct StepView<'a> {
    /// The step of the plan.
    pub step: &'a PlannedStep,
    /// Its place in the plan.
    pub place: usize,
    /// Its status.
    pub status: Status,
    /// Attempts that claimed.
    pub attempts: u32,
    /// The number of the current attempt, where there is one.
    pub attempt: Option<u32>,
    /// What the current attempt does.
    pub part: Option<Part>,
    /// Whether the current attempt is being stopped.
    pub stopping: bool,
    /// Where it runs or ran.
    pub node: Option<&'a str>,
    /// Why it, or its last attempt, did not end well.
    pub cause: Option<Cause>,
    /// Exit status of the command of its last attempt that ended.
    pub exit_code: Option<i32>,
    /// What it waits for, or what happened, for people.
    pub reason: Option<&'a str>,
    /// Last lines of the log of its last attempt that ended.
    pub last_lines: &'a [String],
    /// When its inputs were there, where this driver saw it.
    pub ready: Option<Timestamp>,
    /// When its current attempt claimed.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// When its next attempt may start.
    pub not_before: Option<Timestamp>,
    /// Why it was not reused.
    pub miss: Option<&'a ReuseMiss>,
    /// Its outcome.
    pub outcome: Option<&'a Arc<Outcome>>,
}

impl RunState {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The run's status.
    #[must_use]
    pub fn status(&self) -> Status {
        if let Some(end) = &self.ended {
            end.status
        } else if self.canceling.is_some() || self.cancel_asked {
            Status::CancelRequested
        } else if self.ending {
            Status::Finalizing
        } else if self.started.is_some() || self.unfinished < self.slots.len() {
            Status::Running
        } else if self.looking_up > 0 || !self.lookups.is_empty() || !self.starts.is_empty() {
            Status::Queued
        } else {
            Status::NotStarted
        }
    }

    /// Whether the run's end stands in the store.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether a driver with a newer epoch has the run: this one does nothing more.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.superseded
    }

    /// Whether it wants the end that it asked for last.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// The run as it stands.
    #[must_use]
    pub fn view(&self) -> RunView<'_> {
        RunView {
            run: &self.run,
            status: self.status(),
            counts: &self.counts,
            steps: self.slots.len(),
            unfinished: self.unfinished,
            open_attempts: self.open.len(),
            started: self.started,
            canceled_by: self.canceling.as_deref(),
            problems: &self.problems,
            end: self.ended.as_ref(),
        }
    }

    /// The step at `path`.
    #[must_use]
    pub fn step(&self, path: &StepPath) -> Option<StepView<'_>> {
        self.graph.index.get(path).map(|&i| self.step_view(i))
    }

    /// Every step, in the plan's order.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = StepView<'_>> {
        (0..self.slots.len()).map(|i| self.step_view(i))
    }

    /// The steps that the last event, or the recovery, touched, in the plan's order.
    pub fn changed(&self) -> impl ExactSizeIterator<Item = StepView<'_>> {
        self.changed.iter().map(|&i| self.step_view(i))
    }

    /// Attempts that may run: started or seen, and neither ended nor judged lost.
    pub fn open_attempts(&self) -> impl ExactSizeIterator<Item = AttemptId> {
        self.open.iter().map(|&(i, number)| self.id(i, number))
    }

    /// The version that an output was registered as.
    #[must_use]
    pub fn registered(&self, step: &StepPath, output: &str) -> Option<&str> {
        let i = *self.graph.index.get(step)?;
        self.versions
            .get(&(i, output.to_owned()))
            .map(String::as_str)
    }

    /// The number and nonce of the last attempt of a step that claimed: where its
    /// logs and partial outputs are.
    #[must_use]
    pub fn last_claim(&self, step: &StepPath) -> Option<(u32, &Nonce)> {
        let slot = &self.slots[*self.graph.index.get(step)?];
        let (place, attempt) = slot
            .attempts
            .iter()
            .enumerate()
            .rev()
            .find(|(_, attempt)| attempt.claimed)?;
        Some((u32::try_from(place + 1).ok()?, attempt.nonce.as_ref()?))
    }

    /// What the key of a step is computed from, where its inputs are there and it may
    /// be reused.
    #[must_use]
    pub fn key_parts(&self, step: &StepPath) -> Option<serde_json::Value> {
        let i = *self.graph.index.get(step)?;
        self.key(i).ok()?.map(|(_, parts)| parts)
    }

    fn step_view(&self, i: Index) -> StepView<'_> {
        let slot = &self.slots[i];
        let outcome = slot.outcome.as_ref();
        let current = slot.attempts.last();
        let last = slot.last().map(|(_, attempt)| attempt);
        let end: Option<&EndRecord> = last.and_then(|attempt| attempt.end.as_deref());
        let lost = last
            .is_some_and(|attempt| attempt.lost)
            .then_some(Cause::NodeLost);
        StepView {
            step: self.step_at(i),
            place: i,
            status: slot.status,
            attempts: outcome.map_or_else(|| slot.claims(), |outcome| outcome.attempts),
            attempt: current.map(|_| slot.number()),
            part: current
                .filter(|attempt| attempt.fate == Fate::Live)
                .and_then(|attempt| attempt.part),
            stopping: current.is_some_and(|attempt| attempt.stop_at.is_some()),
            node: outcome
                .and_then(|outcome| outcome.node.as_deref())
                .or_else(|| current.and_then(|attempt| attempt.node.as_deref())),
            cause: match outcome {
                Some(outcome) => outcome.cause,
                None => end.map(|end| end.cause).or(lost),
            },
            exit_code: match outcome {
                Some(outcome) => outcome.exit_code,
                None => end.and_then(|end| end.exit_code),
            },
            reason: outcome
                .and_then(|outcome| outcome.message.as_deref())
                .or(slot.note.as_deref()),
            last_lines: match outcome {
                Some(outcome) => &outcome.last_lines,
                None => end.map_or(&[], |end| &end.last_lines),
            },
            ready: slot.ready_at,
            started: match outcome {
                Some(outcome) => outcome.started,
                None => current.and_then(|attempt| attempt.started),
            },
            ended: outcome.map(|outcome| outcome.ended),
            not_before: match slot.phase {
                Phase::Backoff { until } => Some(until),
                _ => None,
            },
            miss: slot.miss.as_deref(),
            outcome,
        }
    }
}
