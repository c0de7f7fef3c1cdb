//! What two states of one run must agree on where one was told everything by
//! events and the other was recovered from the store. Left out is what no record
//! holds: what a launcher does at the moment, starts that came to nothing,
//! questions under way, messages.

use crate::outcome::{Cause, Checkpoint, Status};
use crate::run::RunState;
use crate::run::retry::Budgets;
use crate::run::state::{Attempt, Fate, Phase, Slot};
use crate::timestamp::Timestamp;
use std::collections::BTreeSet;

#[derive(Debug, PartialEq)]
pub(super) struct Facts {
    steps: Vec<StepFacts>,
    canceling: bool,
    failed: bool,
    halted: bool,
    gate_open: bool,
    unfinished: usize,
    /// Attempts that claimed and may run. One that was judged lost may seem to,
    /// by mail that comes late, until the executor is asked to stop it.
    running: BTreeSet<(usize, u32)>,
    ended: Option<Status>,
}

#[derive(Debug, PartialEq)]
struct StepFacts {
    place: Place,
    outcome: Option<Status>,
    attempts: Vec<AttemptFacts>,
    /// Once a step has its outcome, a grant matters no more: it may be written after the run's end.
    used: Option<Budgets>,
    /// In a run that is closed, and once a step has its outcome, this matters no more.
    waits: Option<(u32, bool)>,
}

#[derive(Debug, PartialEq)]
enum Place {
    Waits,
    /// It is asked whether it may be reused, or it is to be started.
    Ready,
    Runs,
    /// Its attempt is gone, and that is being written.
    Lost,
    Granting,
    Committing(Status),
    /// In a closed run: nothing of it had claimed, or its verdict is that of the closing.
    Closing,
    Done,
}

#[derive(Debug, PartialEq)]
struct AttemptFacts {
    number: usize,
    claimed: bool,
    lost: bool,
    end: Option<(Cause, Option<i32>)>,
    granted: Option<(Timestamp, Option<Checkpoint>)>,
}

impl Facts {
    pub(super) fn of(state: &RunState) -> Self {
        let live = |&(i, number): &(usize, u32)| {
            state.slots[i]
                .attempt(number)
                .is_some_and(|a| a.claimed && !a.lost && a.fate == Fate::Live)
        };
        Self {
            steps: (0..state.slots.len())
                .map(|i| StepFacts::of(state, i))
                .collect(),
            canceling: state.canceling.is_some(),
            failed: state.failed,
            halted: state.halted_by.is_some(),
            gate_open: state.gate_open,
            unfinished: state.unfinished,
            running: state.open.iter().copied().filter(live).collect(),
            ended: state.ended.as_ref().map(|end| end.status),
        }
    }
}

/// What differs, step by step; empty where nothing does.
pub(super) fn differences(told: &Facts, recovered: &Facts) -> Vec<String> {
    let steps = told
        .steps
        .iter()
        .zip(&recovered.steps)
        .enumerate()
        .filter(|(_, (told, recovered))| told != recovered);
    let mut all: Vec<_> = steps
        .map(|(i, (told, recovered))| format!("s{i}\n  told {told:?}\n  found {recovered:?}"))
        .collect();
    if all.is_empty() && told != recovered {
        all.push(format!("told {told:?}\nfound {recovered:?}"));
    }
    all
}

impl StepFacts {
    fn of(state: &RunState, i: usize) -> Self {
        let slot = &state.slots[i];
        let attempts = slot
            .attempts
            .iter()
            .enumerate()
            .filter_map(|(place, attempt)| {
                let granted = attempt.not_before.is_some() && slot.outcome.is_none();
                let told = attempt.claimed || attempt.end.is_some() || granted;
                told.then(|| AttemptFacts::of(place + 1, attempt))
            });
        Self {
            place: place(state, i, slot),
            outcome: slot.outcome.as_ref().map(|outcome| outcome.status),
            attempts: attempts.collect(),
            used: slot.outcome.is_none().then_some(slot.used),
            waits: (!state.is_closed(i) && slot.outcome.is_none())
                .then_some((slot.missing, slot.doomed_by.is_some())),
        }
    }
}

impl AttemptFacts {
    fn of(number: usize, attempt: &Attempt) -> Self {
        Self {
            number,
            claimed: attempt.claimed,
            lost: attempt.lost,
            end: attempt.end.as_ref().map(|end| (end.cause, end.exit_code)),
            granted: attempt.not_before.map(|at| (at, attempt.restore.clone())),
        }
    }
}

fn place(state: &RunState, i: usize, slot: &Slot) -> Place {
    let current = slot.attempts.last();
    let unclaimed = current.is_none_or(|a| !a.claimed && a.end.is_none());
    let place = match slot.phase {
        // The last step waits for stragglers too, and mail that comes late may seem one.
        Phase::Waiting if state.graph.finalize == Some(i) && state.unfinished == 1 => Place::Ready,
        Phase::Waiting => Place::Waits,
        Phase::LookUpQueued | Phase::LookingUp | Phase::StartQueued | Phase::Backoff { .. } => {
            Place::Ready
        }
        Phase::Committing(Status::Reused) => Place::Ready,
        // No record says that an executor refused.
        Phase::Committing(Status::Failed) if unclaimed && !state.is_closed(i) => Place::Ready,
        Phase::Active => match current.map(|a| a.fate) {
            Some(Fate::Judging | Fate::Ending) if !unclaimed => Place::Lost,
            _ if unclaimed => Place::Ready,
            _ => Place::Runs,
        },
        Phase::Granting => Place::Granting,
        Phase::Committing(status) => Place::Committing(status),
        Phase::Done => Place::Done,
    };
    let closing = state.is_closed(i) && unclaimed && !matches!(place, Place::Done | Place::Waits);
    // A verdict under way when a request to cancel came first becomes that of the cancellation.
    let overtaken = state.canceling.is_some() && matches!(place, Place::Committing(_));
    if closing || overtaken {
        Place::Closing
    } else {
        place
    }
}
