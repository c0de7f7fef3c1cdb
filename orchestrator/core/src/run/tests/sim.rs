//! A run state driven through the small world, and what must hold at each step.

use super::facts::{Facts, differences};
use super::world::World;
use crate::ids::{AttemptId, StepPath};
use crate::outcome::{Decision, RunEnd, Status};
use crate::run::{Effect, Event, Limits, Recovered, RunState};
use crate::timestamp::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What disturbs a run. A number is the moment, in steps of the schedule.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    pub(super) kills: Vec<usize>,
    pub(super) cancel: Option<usize>,
    /// The cancellation comes from another process, through the log.
    pub(super) cancel_from_outside: bool,
    /// Some starts of killed drivers come true after the next one took over.
    pub(super) late_starts: bool,
    /// Compare the recovered state with the one that events made.
    pub(super) compare: bool,
}

pub(super) struct Sim {
    pub(super) world: World,
    pub(super) state: RunState,
    pub(super) limits: Limits,
    pub(super) todo: Vec<Effect>,
    pub(super) trouble: Trouble,
    /// What this driver found, and was told since.
    found: Recovered,
    found_at: Timestamp,
    pub(super) told: Vec<(Event, Timestamp)>,
    /// Whether this driver knows of a request to cancel.
    pub(super) knows_cancel: bool,
    /// Whether this driver has decided that a step failed.
    pub(super) knows_failure: bool,
    pub(super) granted: BTreeSet<(StepPath, u32)>,
}

impl Sim {
    pub(super) fn new(mut world: World, limits: Limits, trouble: Trouble) -> Self {
        let found = world.take_over();
        let found_at = world.now;
        let (state, effects) = recover(&world, &found, &limits);
        let mut sim = Self {
            world,
            state,
            limits,
            todo: Vec::new(),
            trouble,
            found,
            found_at,
            told: Vec::new(),
            knows_cancel: false,
            knows_failure: false,
            granted: BTreeSet::new(),
        };
        sim.take(effects);
        sim
    }

    /// Runs to the end, whatever happens.
    pub(super) fn run(&mut self) -> RunEnd {
        for moment in 0..200_000 {
            if self.trouble.kills.contains(&moment) {
                self.kill();
            }
            if self.state.is_over() {
                self.check_end();
                return self.world.run_end.clone().unwrap();
            }
            if self.trouble.cancel == Some(moment) {
                self.cancel();
            }
            self.one_move();
        }
        panic!("the run does not end: {:#?}", Facts::of(&self.state));
    }

    fn one_move(&mut self) {
        self.world.now = self.world.now.plus_millis(1);
        let world = &mut self.world;
        let mut ways = Vec::new();
        if !self.todo.is_empty() {
            ways.push(0);
        }
        if !world.mail.is_empty() {
            ways.push(1);
        }
        if world.can_move() {
            ways.push(2);
        }
        if !world.late.is_empty() {
            ways.push(3);
        }
        if ways.is_empty() || (self.state.next_deadline().is_some() && world.dice.once_in(40)) {
            self.wait();
            return;
        }
        let way = ways[world.dice.below(ways.len())];
        match way {
            0 => self.carry_out(),
            1 => {
                if let Some(letter) = world.letter() {
                    self.deliver(letter);
                }
            }
            2 => world.move_on(),
            _ => {
                let place = world.dice.below(world.late.len());
                let ticket = world.late.remove(place);
                world.start(&ticket);
            }
        }
    }

    /// Nothing else happens: time passes until something is due.
    fn wait(&mut self) {
        let Some(at) = self.state.next_deadline() else {
            if self.trouble.cancel.is_some() && !self.knows_cancel {
                self.cancel();
                return;
            }
            panic!(
                "stuck: nothing is under way and nothing is due: {:#?}",
                Facts::of(&self.state)
            );
        };
        self.world.now = self.world.now.max(at);
        self.deliver(Event::Tick);
        assert!(
            self.state
                .next_deadline()
                .is_none_or(|next| next > self.world.now),
            "what was due is still due"
        );
    }

    fn cancel(&mut self) {
        self.trouble.cancel = Some(usize::MAX);
        if self.trouble.cancel_from_outside {
            self.world.append(Decision::CancelRequested {
                by: "someone".into(),
            });
        } else {
            self.deliver(Event::CancelAsked {
                by: "ctrl-c".into(),
            });
        }
        if self.world.dice.once_in(4) {
            self.deliver(Event::KillAsked {
                by: "ctrl-c".into(),
            });
        }
    }

    fn deliver(&mut self, event: Event) {
        if let Event::Appended(record) = &event {
            self.knows_cancel |= matches!(record.decision, Decision::CancelRequested { .. });
        }
        self.told.push((event.clone(), self.world.now));
        let effects = self.state.apply(event, self.world.now);
        self.check_counts();
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in &effects {
            self.check_effect(effect);
            self.knows_failure |=
                matches!(effect, Effect::Commit(outcome) if outcome.status == Status::Failed);
        }
        self.todo.extend(effects);
        let asked = self
            .todo
            .iter()
            .filter(|effect| matches!(effect, Effect::Start(_)))
            .count();
        let most = self.world.live().len() + asked;
        assert!(
            most <= self.limits.max_starts || self.trouble.late_starts,
            "{most} attempts at once"
        );
    }

    /// Carries one effect out, any of them but that those of one attempt keep
    /// their order, and some twice.
    fn carry_out(&mut self) {
        let place = self.world.dice.below(self.todo.len());
        let of = attempt_of(&self.todo[place]);
        let place = match of {
            Some(id) => self
                .todo
                .iter()
                .position(|effect| attempt_of(effect) == Some(id))
                .unwrap(),
            None => place,
        };
        let effect = self.todo.remove(place);
        if let Effect::Append(Decision::Granted {
            step,
            attempt,
            restore,
            ..
        }) = &effect
        {
            self.check_grant(step, *attempt, restore.as_ref());
        }
        self.world.carry_out(&effect);
        let twice = !matches!(effect, Effect::Start(_) | Effect::Append(_));
        if twice && self.world.disorder && self.world.dice.once_in(6) {
            self.world.carry_out(&effect);
        }
    }

    /// The driver dies, and another takes over.
    fn kill(&mut self) {
        let told_all = self.told_all();
        for effect in std::mem::take(&mut self.todo) {
            if let Effect::Start(ticket) = effect
                && self.trouble.late_starts
                && self.world.dice.once_in(2)
            {
                self.world.late.push(*ticket);
            }
        }
        self.check_replay();
        self.found = self.world.take_over();
        self.found_at = self.world.now;
        self.told.clear();
        self.knows_failure = self
            .world
            .outcomes
            .values()
            .any(|o| o.status == Status::Failed);
        self.knows_cancel = self
            .found
            .log
            .iter()
            .any(|r| matches!(r.decision, Decision::CancelRequested { .. }));
        let (state, effects) = recover(&self.world, &self.found, &self.limits);
        if self.trouble.compare {
            let differ = differences(&Facts::of(&told_all), &Facts::of(&state));
            assert!(differ.is_empty(), "{}", differ.join("\n"));
        }
        self.state = state;
        self.check_counts();
        self.take(effects);
    }

    /// The state as it were had all mail come.
    fn told_all(&self) -> RunState {
        let mut state = self.state.clone();
        for event in self.world.mail.clone() {
            let _ = state.apply(event, self.world.now);
        }
        state
    }

    /// The same events on the same finds give the same state.
    pub(super) fn check_replay(&self) {
        let (mut state, _) = RunState::recover(
            self.world.plan.clone(),
            self.world.run.clone(),
            self.world.epoch,
            self.found.clone(),
            self.limits.clone(),
            self.found_at,
        );
        for (event, at) in &self.told {
            let _ = state.apply(event.clone(), *at);
        }
        assert_eq!(state, self.state, "a replay gives another state");
    }
}

fn recover(world: &World, found: &Recovered, limits: &Limits) -> (RunState, Vec<Effect>) {
    RunState::recover(
        world.plan.clone(),
        world.run.clone(),
        world.epoch,
        found.clone(),
        limits.clone(),
        world.now,
    )
}

fn attempt_of(effect: &Effect) -> Option<&AttemptId> {
    match effect {
        Effect::Start(ticket) => Some(&ticket.attempt),
        Effect::Stop { attempt, .. } => Some(attempt),
        _ => None,
    }
}

/// Statuses of the steps and of the run, where a run ended.
pub(super) fn ends_of(sim: &Sim, end: &RunEnd) -> (Status, BTreeMap<StepPath, Status>) {
    let steps = sim
        .world
        .outcomes
        .iter()
        .map(|(step, outcome)| (step.clone(), outcome.status))
        .collect();
    (end.status, steps)
}
