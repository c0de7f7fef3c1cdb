//! Which state met which event, counted by each thread: how the simulation knows
//! what it has tried. There in the simulation's build alone, and changes nothing.

use super::event::{AttemptNews, Event, ReuseAnswer};
use super::graph::Index;
use super::state::{Attempt, Fate, Phase, RunState};
use crate::outcome::Decision;
use std::cell::RefCell;

/// What a table's rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Where the step is that an event is about; of an event about the run, where
    /// each step is.
    Step,
    /// Where the attempt is that news is about.
    Attempt,
    /// What has befallen the run.
    Run,
}

const STEPS: [&str; 9] = [
    "waiting",
    "look-up-queued",
    "looking-up",
    "start-queued",
    "backoff",
    "active",
    "granting",
    "committing",
    "done",
];
const ATTEMPTS: [&str; 9] = [
    "unknown", "idle", "asked", "live", "stopping", "ending", "judging", "over", "lost",
];
const RUNS: [&str; 4] = ["open", "halted", "canceling", "ending"];
const EVENTS: [&str; 24] = [
    "waiting",
    "claimed",
    "phase",
    "committed-news",
    "ended",
    "claim-lost",
    "gone-unclaimed",
    "gone-claimed",
    "gone-known",
    "refused",
    "unavailable",
    "granted",
    "judged-lost",
    "committed",
    "reuse-hit",
    "reuse-miss",
    "registered",
    "exported",
    "took-over",
    "cancel-requested",
    "cancel-asked",
    "kill-asked",
    "run-ended",
    "tick",
];
/// Of the events, so many are news of an attempt.
const NEWS: usize = 11;
const CELLS: usize = STEPS.len() * EVENTS.len() + ATTEMPTS.len() * NEWS + RUNS.len() * EVENTS.len();

/// How often each state met each event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(Box<[u64; CELLS]>);

impl Default for Counts {
    fn default() -> Self {
        Self(Box::new([0; CELLS]))
    }
}

/// One cell of [`Counts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The table.
    pub table: Table,
    /// The row.
    pub state: &'static str,
    /// The column.
    pub event: &'static str,
    /// How often they met.
    pub count: u64,
}

impl Counts {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        for (cell, more) in self.0.iter_mut().zip(other.0.iter()) {
            *cell += more;
        }
    }

    /// Every cell, row by row.
    pub fn cells(&self) -> impl Iterator<Item = Cell> {
        let table = |table, rows: &'static [&'static str], columns: &'static [&'static str]| {
            rows.iter()
                .flat_map(move |state| columns.iter().map(move |event| (table, *state, *event)))
        };
        table(Table::Step, &STEPS, &EVENTS)
            .chain(table(Table::Attempt, &ATTEMPTS, &EVENTS[..NEWS]))
            .chain(table(Table::Run, &RUNS, &EVENTS))
            .zip(self.0.iter())
            .map(|((table, state, event), count)| Cell {
                table,
                state,
                event,
                count: *count,
            })
    }

    fn step(&mut self, state: usize, event: usize) {
        self.0[state * EVENTS.len() + event] += 1;
    }

    fn attempt(&mut self, state: usize, event: usize) {
        self.0[STEPS.len() * EVENTS.len() + state * NEWS + event] += 1;
    }

    fn run(&mut self, state: usize, event: usize) {
        let before = STEPS.len() * EVENTS.len() + ATTEMPTS.len() * NEWS;
        self.0[before + state * EVENTS.len() + event] += 1;
    }
}

thread_local! {
    static COUNTS: RefCell<Counts> = RefCell::new(Counts::default());
}

/// This thread's counts so far, which begin again at nothing.
#[must_use]
pub fn take() -> Counts {
    COUNTS.take()
}

/// Counts that `state` meets `event`.
pub(super) fn met(state: &RunState, event: &Event) {
    let (column, step, attempt) = sort(event);
    let place = step.and_then(|step| state.graph.index.get(step).copied());
    COUNTS.with_borrow_mut(|counts| {
        match (step, place) {
            (Some(_), Some(i)) => counts.step(step_row(state, i), column),
            // Of a step that the plan does not hold.
            (Some(_), None) => {}
            (None, _) => {
                for i in 0..state.slots.len() {
                    counts.step(step_row(state, i), column);
                }
            }
        }
        if let (Some(number), Some(i)) = (attempt, place) {
            let row = attempt_row(state.slots[i].attempt(number));
            counts.attempt(row, column);
        }
        counts.run(run_row(state), column);
    });
}

fn run_row(state: &RunState) -> usize {
    if state.ending {
        3
    } else if state.canceling.is_some() {
        2
    } else {
        usize::from(state.halted_by.is_some())
    }
}

fn step_row(state: &RunState, i: Index) -> usize {
    match state.slots[i].phase {
        Phase::Waiting => 0,
        Phase::LookUpQueued => 1,
        Phase::LookingUp => 2,
        Phase::StartQueued => 3,
        Phase::Backoff { .. } => 4,
        Phase::Active => 5,
        Phase::Granting => 6,
        Phase::Committing(_) => 7,
        Phase::Done => 8,
    }
}

fn attempt_row(attempt: Option<&Attempt>) -> usize {
    match attempt {
        None => 0,
        Some(attempt) if attempt.lost => 8,
        Some(attempt) => match attempt.fate {
            Fate::Idle => 1,
            Fate::Live if attempt.stop_at.is_some() => 4,
            Fate::Live if attempt.claimed => 3,
            Fate::Live => 2,
            Fate::Ending => 5,
            Fate::Judging => 6,
            Fate::Over => 7,
        },
    }
}

/// The event's column, its step, and the number of its attempt where it is news.
fn sort(event: &Event) -> (usize, Option<&crate::StepPath>, Option<u32>) {
    match event {
        Event::Attempt { id, news } => (news_column(news), Some(&id.step), Some(id.number)),
        Event::Appended(record) => match &record.decision {
            Decision::Granted { step, .. } => (11, Some(step), None),
            Decision::JudgedLost { step, .. } => (12, Some(step), None),
            Decision::TookOver { .. } => (18, None, None),
            Decision::CancelRequested { .. } => (19, None, None),
        },
        Event::Committed(outcome) => (13, Some(&outcome.step), None),
        Event::Reuse { step, answer } => match answer {
            ReuseAnswer::Hit { .. } => (14, Some(step), None),
            ReuseAnswer::Miss { .. } => (15, Some(step), None),
        },
        Event::Registered { step, .. } => (16, Some(step), None),
        Event::Exported { step, .. } => (17, Some(step), None),
        Event::CancelAsked { .. } => (20, None, None),
        Event::KillAsked { .. } => (21, None, None),
        Event::Ended(_) => (22, None, None),
        Event::Tick => (23, None, None),
    }
}

fn news_column(news: &AttemptNews) -> usize {
    match news {
        // The driver keeps news of the store for itself.
        AttemptNews::Waiting { .. } | AttemptNews::Store { .. } => 0,
        AttemptNews::Claimed { .. } => 1,
        AttemptNews::Phase { .. } => 2,
        AttemptNews::Committed { .. } => 3,
        AttemptNews::Ended { .. } => 4,
        AttemptNews::ClaimLost => 5,
        AttemptNews::Gone { end: Some(_), .. } => 8,
        AttemptNews::Gone { claim: Some(_), .. } => 7,
        AttemptNews::Gone { .. } => 6,
        AttemptNews::Refused { .. } => 9,
        AttemptNews::Unavailable { .. } => 10,
    }
}
