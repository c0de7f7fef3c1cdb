//! What is held of a run, and the small moves that keep its queues, timers and
//! counts true. Every change of a step goes through [`RunState::slot_mut`] and
//! [`RunState::set_phase`], so that none of them can be forgotten.

use super::event::{Effect, Phase as Part, ReuseMiss};
use super::graph::{Graph, Index};
use super::limits::Limits;
use super::retry::Budgets;
use crate::ids::{AttemptId, Nonce, RunId};
use crate::mutant;
use crate::outcome::{Checkpoint, EndRecord, Outcome, RunEnd, Status};
use crate::plan::{Plan, PlannedStep};
use crate::timestamp::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The state of a run. [`RunState::recover`] makes one, [`RunState::apply`]
/// moves it on, `view.rs` reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState {
    pub(super) plan: Arc<Plan>,
    pub(super) graph: Arc<Graph>,
    pub(super) run: RunId,
    pub(super) limits: Limits,
    /// The epoch of this driver's takeover.
    pub(super) epoch: u64,
    pub(super) slots: Vec<Slot>,
    /// Steps that wait to ask the reuse index, in the plan's order.
    pub(super) lookups: BTreeSet<Index>,
    /// Questions under way.
    pub(super) looking_up: usize,
    /// Steps that wait to be started, in the plan's order.
    pub(super) starts: BTreeSet<Index>,
    /// What is due when: the number is that of an attempt whose stop or inspection
    /// is to be repeated, or 0 for the start of a step's next attempt.
    pub(super) timers: BTreeSet<(Timestamp, Index, u32)>,
    /// Attempts that may run: started or seen, and neither ended nor judged lost.
    pub(super) open: BTreeSet<(Index, u32)>,
    /// Outputs that are being registered or exported.
    pub(super) deliveries: BTreeSet<Delivery>,
    /// Versions that registered outputs got.
    pub(super) versions: BTreeMap<(Index, String), String>,
    /// Registrations and exports that were refused.
    pub(super) problems: Vec<String>,
    /// Steps by status.
    pub(super) counts: BTreeMap<Status, u64>,
    /// Steps without an outcome.
    pub(super) unfinished: usize,
    /// Whether the first step, where there is one, has ended well.
    pub(super) gate_open: bool,
    /// Who asked to cancel, once that stands in the log.
    pub(super) canceling: Option<String>,
    /// That a request to cancel is being appended.
    pub(super) cancel_asked: bool,
    /// Stops grant no grace any more.
    pub(super) kill: bool,
    /// Whether a step or a delivery failed.
    pub(super) failed: bool,
    /// Verdicts of failure that are being committed.
    pub(super) failing: usize,
    /// The failure after which nothing new starts.
    pub(super) halted_by: Option<Index>,
    /// When the first step was asked for.
    pub(super) started: Option<Timestamp>,
    /// Whether the run's end is being written.
    pub(super) ending: bool,
    pub(super) ended: Option<RunEnd>,
    /// A driver with a newer epoch has the run.
    pub(super) superseded: bool,
    /// Steps touched by the last event.
    pub(super) changed: Vec<Index>,
}

/// An output on its way to the registry or to a place that the user named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Delivery {
    pub(super) step: Index,
    pub(super) output: String,
    pub(super) way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Register,
    Export,
}

/// What is held of one step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slot {
    pub(super) phase: Phase,
    /// The status last counted.
    pub(super) status: Status,
    /// Steps that it waits for.
    pub(super) missing: u32,
    /// The step that it needs and that did not end well.
    pub(super) doomed_by: Option<Index>,
    /// Whether its dependents have been told how it ended.
    pub(super) propagated: bool,
    /// Attempts, from number 1; the last is the current one.
    pub(super) attempts: Vec<Attempt>,
    /// Grants so far, by budget.
    pub(super) used: Budgets,
    /// Starts of the current attempt that came to nothing.
    pub(super) stalls: u32,
    /// What it waits for, for people.
    pub(super) note: Option<String>,
    /// When it became ready.
    pub(super) ready_at: Option<Timestamp>,
    pub(super) miss: Option<Box<ReuseMiss>>,
    pub(super) outcome: Option<Arc<Outcome>>,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// For other steps.
    Waiting,
    /// Waits to ask the reuse index.
    LookUpQueued,
    /// Asks it.
    LookingUp,
    /// Its current attempt may start.
    StartQueued,
    /// Its current attempt may start later.
    Backoff { until: Timestamp },
    /// Its current attempt may run, or its end is being made certain.
    Active,
    /// A grant is being appended.
    Granting,
    /// A verdict is being committed.
    Committing(Status),
    /// The outcome stands.
    Done,
}

/// What is held of one attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attempt {
    pub(super) fate: Fate,
    pub(super) claimed: bool,
    pub(super) nonce: Option<Nonce>,
    pub(super) node: Option<String>,
    pub(super) started: Option<Timestamp>,
    /// What its launcher does.
    pub(super) part: Option<Part>,
    /// Judged lost, in the log.
    pub(super) lost: bool,
    pub(super) end: Option<Arc<EndRecord>>,
    /// The newest checkpoint it left, where no end record says it.
    pub(super) checkpoint: Option<Checkpoint>,
    /// What its grant pinned.
    pub(super) restore: Option<Checkpoint>,
    pub(super) not_before: Option<Timestamp>,
    /// It is being stopped; when that is repeated.
    pub(super) stop_at: Option<Timestamp>,
    /// It is asked who holds its claim; when that is repeated.
    pub(super) inspect_at: Option<Timestamp>,
    /// What is told next was asked for too early: then it is asked again.
    pub(super) inspect_again: bool,
}

/// Whether an attempt may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not started, and may be.
    #[default]
    Idle,
    /// Started or seen; its end is not.
    Live,
    /// Gone; its end is being written.
    Ending,
    /// Gone with its claim; that verdict is being appended.
    Judging,
    /// Ended, judged lost, or given up without a claim.
    Over,
}

/// One call of [`RunState::apply`] or [`RunState::recover`].
pub(super) struct Turn {
    pub(super) now: Timestamp,
    pub(super) effects: Vec<Effect>,
}

impl Turn {
    pub(super) fn at(now: Timestamp) -> Self {
        Self {
            now,
            effects: Vec::new(),
        }
    }
}

impl Slot {
    /// The number of the current attempt; 0 where there is none.
    pub(super) fn number(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn attempt(&self, number: u32) -> Option<&Attempt> {
        self.attempts.get((number as usize).checked_sub(1)?)
    }

    /// Attempts that claimed.
    pub(super) fn claims(&self) -> u32 {
        u32::try_from(
            self.attempts
                .iter()
                .filter(|attempt| attempt.claimed)
                .count(),
        )
        .unwrap_or(u32::MAX)
    }

    /// The last attempt that claimed or left an end.
    pub(super) fn last(&self) -> Option<(u32, &Attempt)> {
        let told = |attempt: &Attempt| attempt.claimed || attempt.lost || attempt.end.is_some();
        let place = self.attempts.iter().rposition(told)?;
        Some((
            u32::try_from(place + 1).unwrap_or(u32::MAX),
            &self.attempts[place],
        ))
    }

    /// Whether it is decided how the step goes on or ends, and being written.
    pub(super) fn is_decided(&self) -> bool {
        matches!(
            self.phase,
            Phase::Granting | Phase::Committing(_) | Phase::Done
        )
    }

    /// What people see.
    pub(super) fn shown(&self) -> Status {
        match self.phase {
            Phase::Done => self
                .outcome
                .as_ref()
                .map_or(Status::Finalizing, |outcome| outcome.status),
            Phase::Waiting => Status::NotStarted,
            Phase::LookUpQueued
            | Phase::LookingUp
            | Phase::StartQueued
            | Phase::Backoff { .. }
            | Phase::Granting
            | Phase::Committing(Status::Reused) => Status::Queued,
            Phase::Committing(Status::Skipped) => Status::NotStarted,
            Phase::Committing(Status::Canceled) => Status::CancelRequested,
            Phase::Committing(_) => Status::Finalizing,
            Phase::Active => self.attempts.last().map_or(Status::Queued, Attempt::shown),
        }
    }
}

impl Attempt {
    fn shown(&self) -> Status {
        match (self.fate, self.part) {
            (Fate::Judging | Fate::Ending, _) => Status::NotResponding,
            (Fate::Live, _) if self.stop_at.is_some() => Status::CancelRequested,
            (Fate::Live, Some(Part::Fetching)) => Status::Preparing,
            (Fate::Live, Some(Part::Running)) => Status::Running,
            (Fate::Live, Some(Part::Publishing)) => Status::Finalizing,
            (Fate::Live, None) if self.claimed => Status::Preparing,
            _ => Status::Queued,
        }
    }
}

impl RunState {
    /// A run of which nothing is known.
    pub(super) fn blank(plan: Arc<Plan>, run: RunId, epoch: u64, limits: Limits) -> Self {
        let graph = Graph::of(&plan);
        let slot = |missing: &u32| Slot {
            phase: Phase::Waiting,
            status: Status::NotStarted,
            missing: *missing,
            doomed_by: None,
            propagated: false,
            attempts: Vec::new(),
            used: Budgets::default(),
            stalls: 0,
            note: None,
            ready_at: None,
            miss: None,
            outcome: None,
        };
        let slots: Vec<_> = graph.missing.iter().map(slot).collect();
        let steps = slots.len();
        Self {
            gate_open: graph.init.is_none(),
            unfinished: steps,
            counts: BTreeMap::from([(Status::NotStarted, steps as u64)]),
            plan,
            graph: Arc::new(graph),
            run,
            limits,
            epoch,
            slots,
            lookups: BTreeSet::new(),
            looking_up: 0,
            starts: BTreeSet::new(),
            timers: BTreeSet::new(),
            open: BTreeSet::new(),
            deliveries: BTreeSet::new(),
            versions: BTreeMap::new(),
            problems: Vec::new(),
            canceling: None,
            cancel_asked: false,
            kill: false,
            failed: false,
            failing: 0,
            halted_by: None,
            started: None,
            ending: false,
            ended: None,
            superseded: false,
            changed: Vec::new(),
        }
    }

    pub(super) fn step_at(&self, i: Index) -> &PlannedStep {
        &self.plan.steps[i]
    }

    pub(super) fn id(&self, i: Index, number: u32) -> AttemptId {
        AttemptId {
            run: self.run.clone(),
            step: self.step_at(i).path.clone(),
            number,
        }
    }

    /// The only way to change a step: it notes that it was touched.
    pub(super) fn slot_mut(&mut self, i: Index) -> &mut Slot {
        if self.changed.last() != Some(&i) {
            self.changed.push(i);
        }
        &mut self.slots[i]
    }

    /// An attempt that is known. `None` where the number is not.
    pub(super) fn attempt_mut(&mut self, i: Index, number: u32) -> Option<&mut Attempt> {
        let place = (number as usize).checked_sub(1)?;
        self.slot_mut(i).attempts.get_mut(place)
    }

    /// Makes sure that `number` and all before it are known. Those before it
    /// are over: nobody counts on after an attempt that may run.
    pub(super) fn ensure(&mut self, i: Index, number: u32) -> &mut Attempt {
        let slot = self.slot_mut(i);
        let place = (number as usize).saturating_sub(1);
        while slot.attempts.len() <= place {
            if let Some(before) = slot.attempts.last_mut()
                && before.fate == Fate::Idle
            {
                before.fate = Fate::Over;
            }
            slot.attempts.push(Attempt::default());
        }
        &mut slot.attempts[place]
    }

    /// Moves a step, and keeps queues and timers true.
    pub(super) fn set_phase(&mut self, i: Index, phase: Phase) {
        match self.slots[i].phase {
            Phase::LookUpQueued => drop(self.lookups.remove(&i)),
            Phase::LookingUp => self.looking_up = self.looking_up.saturating_sub(1),
            Phase::StartQueued => drop(self.starts.remove(&i)),
            Phase::Backoff { until } => drop(self.timers.remove(&(until, i, 0))),
            Phase::Committing(Status::Failed) => self.failing = self.failing.saturating_sub(1),
            Phase::Waiting
            | Phase::Active
            | Phase::Granting
            | Phase::Committing(_)
            | Phase::Done => {}
        }
        match phase {
            Phase::LookUpQueued => drop(self.lookups.insert(i)),
            Phase::LookingUp => self.looking_up += 1,
            Phase::StartQueued => drop(self.starts.insert(i)),
            Phase::Backoff { .. } if mutant!(DeadlineLost) => {}
            Phase::Backoff { until } => drop(self.timers.insert((until, i, 0))),
            Phase::Committing(Status::Failed) => self.failing += 1,
            Phase::Waiting
            | Phase::Active
            | Phase::Granting
            | Phase::Committing(_)
            | Phase::Done => {}
        }
        self.slot_mut(i).phase = phase;
    }

    /// Moves an attempt, and keeps the set of open ones and its timer true.
    pub(super) fn set_fate(&mut self, i: Index, number: u32, fate: Fate) {
        let Some(attempt) = self.attempt_mut(i, number) else {
            return;
        };
        attempt.fate = fate;
        let stop_at = if fate == Fate::Live {
            None
        } else {
            attempt.stop_at.take()
        };
        let inspect_at = attempt.inspect_at.take();
        attempt.inspect_again = false;
        for at in stop_at.into_iter().chain(inspect_at) {
            self.timers.remove(&(at, i, number));
        }
        if matches!(fate, Fate::Live | Fate::Ending | Fate::Judging) {
            self.open.insert((i, number));
        } else {
            self.open.remove(&(i, number));
        }
    }

    /// Whether nothing new may start of this step.
    pub(super) fn is_closed(&self, i: Index) -> bool {
        self.canceling.is_some() || (self.halted_by.is_some() && self.graph.finalize != Some(i))
    }

    /// Brings statuses and their counts up to date with what was touched.
    pub(super) fn recount(&mut self) {
        self.changed.sort_unstable();
        self.changed.dedup();
        for &i in &self.changed {
            let slot = &mut self.slots[i];
            let shown = slot.shown();
            if shown != slot.status {
                if let Some(count) = self.counts.get_mut(&slot.status) {
                    *count -= 1;
                    if *count == 0 {
                        self.counts.remove(&slot.status);
                    }
                }
                *self.counts.entry(shown).or_default() += 1;
                slot.status = shown;
            }
        }
    }
}
