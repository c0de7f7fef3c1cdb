//! What must hold at each effect, at each grant, and at the end of a run.

use super::sim::Sim;
use crate::ids::{AttemptId, StepPath};
use crate::outcome::{Cause, Checkpoint, Decision, EndRecord, RunEnd, Status};
use crate::plan::PlannedInput;
use crate::run::retry::Budget;
use crate::run::{Effect, Event};
use crate::ticket::{Ticket, TicketInput};
use std::collections::BTreeMap;

impl Sim {
    pub(super) fn check_effect(&self, effect: &Effect) {
        match effect {
            Effect::Start(ticket) => self.check_start(ticket),
            Effect::LookUpReuse { step, .. } => self.check_inputs(step),
            Effect::EndRun(end) => self.check_run_end(end),
            Effect::Register { step, .. } | Effect::Export { step, .. } => {
                assert!(
                    self.world.outcomes[step].status.is_success(),
                    "{step} is delivered and did not end well"
                );
            }
            Effect::Commit(outcome) => {
                let published = |end: &EndRecord| end.published.as_deref() == Some(&**outcome);
                assert!(
                    outcome.status != Status::Completed || self.world.ends.values().any(published),
                    "only what an attempt published completes a step"
                );
            }
            _ => {}
        }
    }

    fn check_inputs(&self, step: &StepPath) {
        let outcome = |of: &StepPath| self.world.outcomes.get(of);
        let planned = self.world.plan.step(step).unwrap();
        for input in planned.inputs.values() {
            if let PlannedInput::Step {
                step: of, optional, ..
            } = input
            {
                let status = outcome(of).map(|outcome| outcome.status);
                // An optional input is waited for as well, unless it can no longer come.
                let there = status.is_some_and(Status::is_success);
                let never = *optional && self.world.plan.settings.continue_on_step_failure;
                assert!(
                    there || never,
                    "{step} begins before its input from {of} exists: {status:?}"
                );
                if !there && never {
                    let told = status.is_some_and(Status::is_terminal);
                    assert!(
                        told || self.is_doomed(of),
                        "{step} did not wait for its optional input from {of}"
                    );
                }
            }
        }
        for of in &planned.after {
            assert!(
                outcome(of).is_some_and(|o| o.status.is_success()),
                "{step} begins before {of}, on which it depends"
            );
        }
        let settings = &self.world.plan.settings;
        if let Some(init) = &settings.on_init
            && init != step
            && settings.on_finalize.as_ref() != Some(step)
        {
            assert!(
                outcome(init).is_some_and(|o| o.status.is_success()),
                "{step} begins before the first step"
            );
        }
        if settings.on_finalize.as_ref() == Some(step) {
            let others = self.world.outcomes.keys().filter(|of| *of != step).count();
            assert_eq!(
                others + 1,
                self.world.plan.steps.len(),
                "the last step is not last"
            );
        }
    }

    /// Whether a step that is not decided yet can no longer run.
    fn is_doomed(&self, step: &StepPath) -> bool {
        let planned = self.world.plan.step(step).unwrap();
        let failed = |of: &StepPath| {
            self.world.outcomes.get(of).map_or_else(
                || self.is_doomed(of),
                |outcome| !outcome.status.is_success(),
            )
        };
        let data = planned.inputs.values().filter_map(|input| match input {
            PlannedInput::Step {
                step,
                optional: false,
                ..
            } => Some(step),
            _ => None,
        });
        data.chain(&planned.after).any(failed)
    }

    fn check_start(&self, ticket: &Ticket) {
        let id = &ticket.attempt;
        self.check_inputs(&id.step);
        assert!(!self.knows_cancel, "{id} starts in a canceled run");
        let last = self.world.plan.settings.on_finalize.as_ref() == Some(&id.step);
        let goes_on = self.world.plan.settings.continue_on_step_failure;
        assert!(
            goes_on || last || !self.knows_failure || self.trouble.late_starts,
            "{id} starts after a failure"
        );
        if !self.trouble.late_starts {
            assert!(
                !self.world.claims.contains_key(id),
                "{id} starts, and was claimed"
            );
            assert!(
                !self.world.outcomes.contains_key(&id.step),
                "{id} starts, and its step has an outcome"
            );
        }
        if id.number > 1 {
            let at = self
                .world
                .log
                .iter()
                .find_map(|record| match &record.decision {
                    Decision::Granted {
                        step,
                        attempt,
                        not_before,
                        restore,
                        ..
                    } if *step == id.step && *attempt == id.number => {
                        Some((*not_before, restore.clone()))
                    }
                    _ => None,
                });
            let (not_before, restore) = at.unwrap_or_else(|| panic!("{id} starts without a grant"));
            assert!(not_before <= self.world.now, "{id} starts before its time");
            assert_eq!(
                restore, ticket.restore,
                "{id} restores what its grant does not pin"
            );
        }
        for (name, input) in &self.world.plan.step(&id.step).unwrap().inputs {
            let PlannedInput::Step { step, .. } = input else {
                continue;
            };
            let there = self
                .world
                .outcomes
                .get(step)
                .is_some_and(|o| o.status.is_success());
            let given = matches!(ticket.inputs[name], TicketInput::Artifact { .. });
            assert_eq!(there, given, "input {name} of {id}");
        }
        // A launcher of a late start may have claimed since the driver was told.
        if !self.trouble.late_starts {
            let before = |claim: &&AttemptId| claim.step == id.step && claim.number < id.number;
            let claims = self.world.claims.keys().filter(before).count();
            assert_eq!(claims, ticket.claims_before as usize, "claims before {id}");
        }
    }

    /// A grant is appended once, within its budget, and after the end or the
    /// judgement of the one before.
    pub(super) fn check_grant(
        &mut self,
        step: &StepPath,
        number: u32,
        restore: Option<&Checkpoint>,
    ) {
        assert!(
            self.granted.insert((step.clone(), number)),
            "attempt {number} of {step} is granted twice"
        );
        let before = AttemptId {
            run: self.world.run.clone(),
            step: step.clone(),
            number: number - 1,
        };
        let judged = self.world.log.iter().any(|record| {
            matches!(&record.decision, Decision::JudgedLost { step: of, attempt, .. }
                if of == step && *attempt == before.number)
        });
        assert!(
            judged || self.world.ends.contains_key(&before),
            "{before} neither ended nor was judged lost, and the next is granted"
        );
        let pinned = self
            .world
            .log
            .iter()
            .find_map(|record| match &record.decision {
                Decision::Granted {
                    step: of,
                    attempt,
                    restore,
                    ..
                } if of == step && *attempt == before.number => restore.as_ref(),
                _ => None,
            });
        let newest = self
            .world
            .checkpoints
            .get(&(step.clone(), before.number))
            .or(pinned);
        assert_eq!(restore, newest, "what attempt {number} of {step} restores");
    }

    fn check_budgets(&self) {
        let mut used: BTreeMap<(StepPath, Budget), u32> = BTreeMap::new();
        for record in &self.world.log {
            if let Decision::Granted {
                step,
                cause,
                budget_left,
                ..
            } = &record.decision
            {
                let policy = &self.world.plan.step(step).unwrap().retry;
                let size = match cause {
                    Cause::Exit | Cause::Timeout => policy.exit,
                    Cause::OutOfMemory => policy.out_of_memory,
                    Cause::Image => policy.image,
                    Cause::Preempted => policy.preempted,
                    Cause::Evicted | Cause::Canceled => policy.evicted,
                    Cause::NodeLost => policy.node_lost,
                    other => panic!("{other:?} has no budget"),
                };
                let used = used
                    .entry((step.clone(), Budget::of(*cause).unwrap()))
                    .or_default();
                *used += 1;
                assert_eq!(
                    used.saturating_add(*budget_left),
                    size,
                    "budget of {step} for {cause:?}"
                );
            }
        }
    }

    pub(super) fn check_counts(&self) {
        let mut counts = BTreeMap::new();
        for step in self.state.steps() {
            *counts.entry(step.status).or_insert(0u64) += 1;
        }
        assert_eq!(&counts, self.state.view().counts, "counts are kept wrong");
        let unfinished = self
            .state
            .steps()
            .filter(|step| step.outcome.is_none())
            .count();
        assert_eq!(unfinished, self.state.view().unfinished);
    }

    fn check_run_end(&self, end: &RunEnd) {
        for step in &self.world.plan.steps {
            assert!(
                self.world.outcomes.contains_key(&step.path),
                "the run ends, {} has no outcome",
                step.path
            );
        }
        if !self.trouble.late_starts {
            assert!(
                self.world.live().is_empty(),
                "the run ends and leaves running: {:?}",
                self.world.live()
            );
        }
        for (id, claim) in &self.world.claims {
            let lost = self.world.log.iter().any(|record| {
                matches!(&record.decision, Decision::JudgedLost { step, attempt, .. }
                    if *step == id.step && *attempt == id.number)
            });
            let won = self.world.outcomes[&id.step].nonce.as_ref() == Some(&claim.nonce);
            let told =
                self.world.ends.contains_key(id) || lost || won || self.world.beaten.contains(id);
            assert!(
                told || self.trouble.late_starts,
                "the run ends, {id} neither ended nor was judged lost"
            );
        }
        let bad = self
            .world
            .outcomes
            .values()
            .any(|o| matches!(o.status, Status::Failed | Status::Canceled));
        let status = match (self.knows_cancel, bad) {
            (true, _) => Status::Canceled,
            (false, true) => Status::Failed,
            (false, false) => Status::Completed,
        };
        assert_eq!(end.status, status);
        assert_eq!(
            end.counts.values().sum::<u64>(),
            self.world.plan.steps.len() as u64
        );
    }

    pub(super) fn check_end(&mut self) {
        self.check_replay();
        self.check_budgets();
        for end in self
            .world
            .ends
            .values()
            .filter(|end| end.published.is_some() && !self.trouble.late_starts)
        {
            let outcome = &self.world.outcomes[&end.attempt.step];
            assert_eq!(
                outcome.nonce, end.nonce,
                "what {} published was not committed",
                end.attempt
            );
        }
        for (step, outcome) in &self.world.outcomes {
            let unfed =
                outcome.status == Status::Failed && outcome.cause == Some(Cause::UpstreamFailed);
            assert!(
                !unfed,
                "{step} was to start without what it needs: {:?}",
                outcome.message
            );
            let planned = self.world.plan.step(step).unwrap();
            let wanted = |there: bool| there && outcome.status.is_success();
            let key = (step.clone(), "out".to_owned());
            assert_eq!(
                self.world.registered.contains(&key),
                wanted(planned.outputs["out"].register.is_some())
            );
            assert_eq!(
                self.world.exported.contains(&key),
                wanted(planned.outputs["out"].export.is_some())
            );
            let claims = self
                .world
                .claims
                .keys()
                .filter(|claim| claim.step == *step)
                .count();
            if !self.trouble.late_starts {
                assert_eq!(
                    outcome.attempts as usize, claims,
                    "attempts of {step} are counted wrong"
                );
            }
            if let (Status::Failed | Status::Canceled, Some(number)) =
                (outcome.status, outcome.attempt)
            {
                let id = AttemptId {
                    run: self.world.run.clone(),
                    step: step.clone(),
                    number,
                };
                if let Some(end) = self.world.ends.get(&id) {
                    assert_eq!(outcome.exit_code, end.exit_code);
                    assert_eq!(outcome.last_lines, end.last_lines);
                }
            }
        }
        // Whatever comes after the end changes nothing.
        let before = self.state.clone();
        let mut late: Vec<Event> = self.world.mail.clone();
        late.extend(self.told.iter().map(|(event, _)| event.clone()));
        for event in late {
            assert_eq!(self.state.apply(event, self.world.now), []);
        }
        assert_eq!(self.state.view(), before.view());
        assert_eq!(self.state.next_deadline(), None);
    }
}
