//! What must hold of a run, checked at the moment at which a record comes to stand
//! in the store. The world sees all of it, which no process does: who lives, what a
//! command really came to, what was written when.

use super::pipeline::Pipeline;
use super::points::{Actor, Effect};
use super::world::{Object, Pid, World};
use auria_core::outcome::{Cause, Claim, Decision, EndRecord, LogRecord, Outcome, RunEnd, Status};
use auria_core::plan::{Plan, PlannedInput, RetryPolicy};
use auria_core::ticket::{Ticket, TicketInput};
use auria_core::{AttemptId, Digest, Nonce, RunId, StepPath};
use auria_store::layout;
use auria_store::runs::RunState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All that is true of a run.
pub(super) struct Truth {
    pub(super) run: RunId,
    pub(super) plan: Arc<Plan>,
    pub(super) log: Vec<LogRecord>,
    /// When each record of the log came to stand.
    log_at: Vec<u64>,
    pub(super) outcomes: BTreeMap<StepPath, Outcome>,
    claims: BTreeMap<(StepPath, u32), Claim>,
    pub(super) ends: BTreeMap<(StepPath, u32), EndRecord>,
    pub(super) end: Option<RunEnd>,
    /// Who ran the command of an attempt.
    commands: BTreeMap<(StepPath, u32), Nonce>,
    /// Whose command ended well.
    finished: BTreeSet<Nonce>,
    /// Whose command was told to end before it had.
    stopped: BTreeSet<Nonce>,
    /// Attempts that their own launchers ended, where the executor saw them.
    ended_seen: BTreeSet<(StepPath, u32)>,
    /// Someone removed a file of its outputs.
    pub(super) damaged: bool,
    /// Its `run.json` was removed.
    pub(super) deleted: bool,
}

impl Truth {
    pub(super) fn new(run: RunId, pipeline: &Pipeline) -> Self {
        Self {
            run,
            plan: pipeline.plan.clone(),
            log: Vec::new(),
            log_at: Vec::new(),
            outcomes: BTreeMap::new(),
            claims: BTreeMap::new(),
            ends: BTreeMap::new(),
            end: None,
            commands: BTreeMap::new(),
            finished: BTreeSet::new(),
            stopped: BTreeSet::new(),
            ended_seen: BTreeSet::new(),
            damaged: false,
            deleted: false,
        }
    }

    pub(super) fn claim(&self, id: &AttemptId) -> Option<&Claim> {
        self.claims.get(&(id.step.clone(), id.number))
    }

    pub(super) fn succeeded(&self, step: &StepPath) -> bool {
        self.outcomes
            .get(step)
            .is_some_and(|outcome| outcome.status.is_success())
    }

    fn grant(&self, step: &StepPath, number: u32) -> Option<&LogRecord> {
        self.log.iter().find(|record| {
            matches!(&record.decision, Decision::Granted { step: of, attempt, .. }
                if of == step && *attempt == number)
        })
    }

    fn judged_lost(&self, step: &StepPath, number: u32) -> bool {
        self.log.iter().any(|record| {
            matches!(&record.decision, Decision::JudgedLost { step: of, attempt, .. }
                if of == step && *attempt == number)
        })
    }

    pub(super) fn canceled(&self) -> bool {
        self.log
            .iter()
            .any(|record| matches!(record.decision, Decision::CancelRequested { .. }))
    }

    /// When a takeover newer than `epoch` came to stand.
    fn lost_since(&self, epoch: u64) -> Option<u64> {
        let newer = self.log.iter().zip(&self.log_at).find(|(record, _)| {
            matches!(record.decision, Decision::TookOver { .. }) && record.epoch > epoch
        });
        newer.map(|(_, at)| *at)
    }

    fn newest_epoch(&self) -> u64 {
        let takeovers = self
            .log
            .iter()
            .filter(|record| matches!(record.decision, Decision::TookOver { .. }));
        takeovers.map(|record| record.epoch).max().unwrap_or(0)
    }

    /// Whether a step failed after which nothing new starts.
    fn halted(&self) -> bool {
        let settings = &self.plan.settings;
        self.outcomes.values().any(|outcome| {
            matches!(outcome.status, Status::Failed | Status::Canceled)
                && (!settings.continue_on_step_failure
                    || settings.on_init.as_ref() == Some(&outcome.step))
        })
    }

    /// Whether a step that is not decided yet can no longer run.
    fn is_doomed(&self, step: &StepPath) -> bool {
        let Some(planned) = self.plan.step(step) else {
            return false;
        };
        let failed = |of: &StepPath| match self.outcomes.get(of) {
            Some(outcome) => !outcome.status.is_success(),
            None => self.is_doomed(of),
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

    fn log_record(&mut self, seq: u64, record: &LogRecord, at: u64) -> Result<(), String> {
        let newest = self.newest_epoch();
        if seq != self.log.len() as u64 + 1 || record.seq != seq {
            return Err(format!(
                "the log is not dense: {seq} after {}",
                self.log.len()
            ));
        }
        match &record.decision {
            Decision::TookOver { driver } if record.epoch <= newest => {
                return Err(format!(
                    "{driver} takes over with epoch {}, and {newest} stands",
                    record.epoch
                ));
            }
            Decision::TookOver { .. } => {}
            Decision::CancelRequested { .. } if record.epoch > newest => {
                return Err(format!("a request to cancel has epoch {}", record.epoch));
            }
            Decision::CancelRequested { .. } => {}
            decision if record.epoch != newest => {
                return Err(format!(
                    "a driver of epoch {} appends {decision:?} after one of epoch {newest} took over",
                    record.epoch
                ));
            }
            Decision::Granted {
                step,
                attempt,
                cause,
                budget_left,
                ..
            } => self.granted(step, *attempt, *cause, *budget_left, &record.decision)?,
            Decision::JudgedLost { step, attempt, .. } => {
                if !self.claims.contains_key(&(step.clone(), *attempt)) {
                    return Err(format!(
                        "{step}/{attempt} is judged lost, and never claimed"
                    ));
                }
                if self.ended_seen.contains(&(step.clone(), *attempt)) {
                    return Err(format!(
                        "{step}/{attempt} is judged lost, and its end stands"
                    ));
                }
            }
        }
        self.log.push(record.clone());
        self.log_at.push(at);
        Ok(())
    }

    /// A grant comes once, within its budget, after the end or the judgement of the
    /// attempt before, and pins the newest checkpoint.
    fn granted(
        &self,
        step: &StepPath,
        number: u32,
        cause: Cause,
        budget_left: u32,
        decision: &Decision,
    ) -> Result<(), String> {
        let fail = |what: String| Err(format!("attempt {number} of {step} is granted {what}"));
        let before = (step.clone(), number - 1);
        if self.grant(step, number).is_some() {
            return fail("twice".into());
        }
        if number > 2 && self.grant(step, number - 1).is_none() {
            return fail("before the one before it".into());
        }
        if self.canceled() {
            // Its driver may not have read that yet.
        }
        let lost = self.judged_lost(step, number - 1);
        let end = self.ends.get(&before);
        match end {
            None if !lost => return fail("and the one before neither ended nor was lost".into()),
            Some(end) if !lost && end.cause != cause => {
                return fail(format!("for {cause:?}, and the end says {:?}", end.cause));
            }
            _ => {}
        }
        let Some((name, size)) = self
            .plan
            .step(step)
            .and_then(|planned| budget(&planned.retry, cause))
        else {
            return fail(format!("for {cause:?}, which has no budget"));
        };
        let used = 1 + self.used(step, name);
        if used.saturating_add(budget_left) != size {
            return fail(format!(
                "with {budget_left} left of its budget for {name} ({size}), of which it is the {used}."
            ));
        }
        let Decision::Granted { restore, .. } = decision else {
            return Ok(());
        };
        let pinned = match self.grant(step, number - 1).map(|record| &record.decision) {
            Some(Decision::Granted { restore, .. }) => restore.as_ref(),
            _ => None,
        };
        let told = end.and_then(|end| end.checkpoint.as_ref());
        if let Some(told) = told.filter(|_| !lost)
            && restore.as_ref() != Some(told)
        {
            return fail(format!(
                "to restore {restore:?}, and its end tells {told:?}"
            ));
        }
        if restore.is_none() && pinned.is_some() {
            return fail("to begin anew, and the one before restored something".into());
        }
        Ok(())
    }

    /// Grants so far on the budget of this name.
    fn used(&self, step: &StepPath, name: &str) -> u32 {
        let Some(planned) = self.plan.step(step) else {
            return 0;
        };
        let grants = self.log.iter().filter(|record| {
            matches!(&record.decision, Decision::Granted { step: of, cause, .. }
                if of == step
                    && budget(&planned.retry, *cause).is_some_and(|(of, _)| of == name))
        });
        u32::try_from(grants.count()).unwrap_or(u32::MAX)
    }

    fn claimed(&mut self, claim: &Claim) -> Result<(), String> {
        let id = &claim.attempt;
        if id.number > 1 && self.grant(&id.step, id.number).is_none() {
            return Err(format!("{id} is claimed without a grant"));
        }
        self.claims
            .insert((id.step.clone(), id.number), claim.clone());
        Ok(())
    }

    fn ended(&mut self, end: &EndRecord) -> Result<(), String> {
        let id = &end.attempt;
        let claim = self.claim(id);
        if let (Some(nonce), Some(claim)) = (&end.nonce, claim)
            && *nonce != claim.nonce
        {
            return Err(format!("{id} is ended by another than who claimed it"));
        }
        if end.nonce.is_some() && claim.is_none() {
            return Err(format!("{id} is ended by one that did not claim it"));
        }
        self.ends.insert((id.step.clone(), id.number), end.clone());
        Ok(())
    }

    /// What a verdict says has happened.
    fn committed(&mut self, outcome: &Outcome) -> Result<(), String> {
        let step = &outcome.step;
        let fail = |what: String| Err(format!("{step} is committed {:?} {what}", outcome.status));
        let planned = self.plan.step(step);
        match outcome.status {
            Status::Completed => {
                let Some(number) = outcome.attempt else {
                    return fail("without an attempt".into());
                };
                let claim = self.claims.get(&(step.clone(), number));
                if claim.map(|claim| &claim.nonce) != outcome.nonce.as_ref() {
                    return fail("by one that does not hold the claim".into());
                }
                let finished = outcome
                    .nonce
                    .as_ref()
                    .is_some_and(|nonce| self.finished.contains(nonce));
                if !finished {
                    return fail("and its command did not end well".into());
                }
                let stopped = outcome
                    .nonce
                    .as_ref()
                    .is_some_and(|nonce| self.stopped.contains(nonce));
                if stopped {
                    return fail("and its command was stopped before its end".into());
                }
            }
            Status::Failed => {
                let halted = self.halted();
                if !halted && !self.canceled() && outcome.cause != Some(Cause::Refused) {
                    let Some(cause) = outcome.cause else {
                        return fail("without a cause".into());
                    };
                    let budget = planned.and_then(|planned| budget(&planned.retry, cause));
                    let Some((name, size)) = budget else {
                        return fail(format!("for {cause:?}: {:?}", outcome.message));
                    };
                    let used = self.used(step, name);
                    if used != size {
                        return fail(format!(
                            "though {used} of its budget for {name} ({size}) are spent"
                        ));
                    }
                }
            }
            Status::Canceled if !self.canceled() && !self.halted() => {
                return fail("and nobody asked to cancel".into());
            }
            Status::Skipped => {
                let init = &self.plan.settings.on_init;
                let gate = init.as_ref().is_some_and(|init| {
                    self.outcomes
                        .get(init)
                        .is_some_and(|outcome| !outcome.status.is_success())
                });
                if !self.halted() && !gate && !self.is_doomed(step) {
                    return fail("and all that it needs is there".into());
                }
            }
            _ => {}
        }
        if let (Status::Failed | Status::Canceled, Some(number)) = (outcome.status, outcome.attempt)
        {
            let key = (step.clone(), number);
            if let Some(end) = self.ends.get(&key)
                && end.published.is_some()
                && !self.judged_lost(step, number)
                && self.grant(step, number + 1).is_none()
            {
                return fail("and its attempt had published everything".into());
            }
        }
        self.outcomes.insert(step.clone(), outcome.clone());
        Ok(())
    }

    /// The end comes last, and says what the steps say. What came to stand in the log
    /// before `known` is known to whoever writes it; `lives` says of a nonce whether its
    /// launcher does.
    fn run_ended(
        &mut self,
        end: &RunEnd,
        known: u64,
        lives: &BTreeSet<Nonce>,
    ) -> Result<(), String> {
        for step in &self.plan.steps {
            if !self.outcomes.contains_key(&step.path) {
                return Err(format!("the run ends, and {} has no outcome", step.path));
            }
        }
        for ((step, number), claim) in &self.claims {
            let won = self.outcomes[step].nonce.as_ref() == Some(&claim.nonce);
            let ended = self.ends.contains_key(&(step.clone(), *number));
            let may_run = lives.contains(&claim.nonce) && !self.finished.contains(&claim.nonce);
            if may_run && !won && !ended && !self.judged_lost(step, *number) {
                return Err(format!(
                    "the run ends, and {step}/{number} neither ended nor was judged lost"
                ));
            }
        }
        let mut counts = BTreeMap::new();
        for outcome in self.outcomes.values() {
            *counts.entry(outcome.status).or_insert(0_u64) += 1;
        }
        if counts != end.counts {
            return Err(format!(
                "the run's end counts {:?}, and there are {counts:?}",
                end.counts
            ));
        }
        let bad = self
            .outcomes
            .values()
            .any(|outcome| matches!(outcome.status, Status::Failed | Status::Canceled));
        let expected = if bad || !end.problems.is_empty() {
            Status::Failed
        } else {
            Status::Completed
        };
        let asked = self.log.iter().zip(&self.log_at).any(|(record, since)| {
            matches!(record.decision, Decision::CancelRequested { .. }) && *since < known
        });
        let right = match end.status {
            Status::Canceled => self.canceled(),
            status => !asked && status == expected,
        };
        if !right {
            return Err(format!(
                "the run ends {:?}; its steps say {expected:?}, and {}",
                end.status,
                if self.canceled() {
                    "it was canceled"
                } else {
                    "nobody canceled it"
                }
            ));
        }
        self.end = Some(end.clone());
        Ok(())
    }
}

/// The budget that `cause` draws on: its name and size.
fn budget(policy: &RetryPolicy, cause: Cause) -> Option<(&'static str, u32)> {
    match cause {
        Cause::Exit | Cause::Timeout => Some(("exit", policy.exit)),
        Cause::OutOfMemory => Some(("out_of_memory", policy.out_of_memory)),
        Cause::Image => Some(("image", policy.image)),
        Cause::Preempted => Some(("preempted", policy.preempted)),
        Cause::Evicted | Cause::Canceled => Some(("evicted", policy.evicted)),
        Cause::NodeLost => Some(("node_lost", policy.node_lost)),
        Cause::UpstreamFailed | Cause::Refused => None,
    }
}

impl World {
    /// A record stands that was not there.
    pub(super) fn stands(&mut self, pid: Pid, path: &str, object: &Object) {
        let at = self.elapsed_ms();
        if let Object::RunJson {
            record: Some(record),
        } = object
        {
            self.submitted(&record.run, path);
        }
        if self.is_deleted(path) {
            // Nobody reads what comes late, and whoever takes over finds that out.
            self.processes[pid].late |= Effect::of(object) == Effect::TakeOver;
            return;
        }
        let result = match object {
            Object::Log { run, seq, record } => {
                let Some(record) = record else {
                    return self.violated(format!("{path} is no record"));
                };
                let lives = self.holder_lives(run, record);
                if matches!(record.decision, Decision::TookOver { .. }) {
                    self.processes[pid].epoch = record.epoch;
                }
                let done = self.truth(run, |truth| truth.log_record(*seq, record, at));
                done.and(lives)
            }
            Object::Ticket {
                ticket: Some(ticket),
            } => {
                let run = ticket.attempt.run.clone();
                let now = auria_store::now();
                self.truth(&run, |truth| truth.ticket(ticket, now))
            }
            Object::Claim { claim: Some(claim) } => {
                self.truth(&claim.attempt.run.clone(), |truth| truth.claimed(claim))
            }
            Object::End { end: Some(end) } => {
                self.truth(&end.attempt.run.clone(), |truth| truth.ended(end))
            }
            Object::Outcome {
                run,
                outcome: Some(outcome),
            } => {
                let there = self.outputs_are_there(outcome);
                let due = match outcome.status.is_success() {
                    true => Ok(()),
                    false => self.is_due(pid, run, path),
                };
                let done = self.truth(run, |truth| truth.committed(outcome));
                done.and(there).and(due)
            }
            Object::RunEnd {
                run,
                end: Some(end),
            } => {
                let due = self.is_due(pid, run, path);
                // One that has lost the run since it looked does not know what runs.
                let lives = if self.has_lost(pid, run) {
                    BTreeSet::new()
                } else {
                    self.seen_living(run)
                };
                let known = self.known_before(pid, path);
                let done = self.truth(run, |truth| truth.run_ended(end, known, &lives));
                done.and(due)
            }
            Object::Ticket { .. }
            | Object::Claim { .. }
            | Object::End { .. }
            | Object::Outcome { .. }
            | Object::RunEnd { .. } => Err(format!("{path} is no record")),
            Object::RunJson {
                record: Some(record),
            } if record.state == RunState::Ready => self.snapshots_are_there(&record.snapshots),
            _ => Ok(()),
        };
        self.note_end(pid, object);
        if self.processes[pid].actor == Actor::Launcher
            && matches!(
                object,
                Object::Log { .. } | Object::RunEnd { .. } | Object::ReuseEntry
            )
        {
            self.violated(format!("a launcher writes {path}"));
        }
        if let Err(what) = result {
            self.violated(what);
        }
        self.news.notify_one();
    }

    /// Whoever submits a run says that it is ready; where it was deleted before it began,
    /// it is there again.
    fn submitted(&mut self, run: &RunId, path: &str) {
        let Some(truth) = self.truths.get_mut(run).filter(|truth| truth.deleted) else {
            return;
        };
        truth.deleted = false;
        if !truth.log.is_empty() {
            self.violated(format!("{path} is there again"));
        }
    }

    /// Whether `path` is below a run that was deleted, or that was decided.
    fn is_deleted(&self, path: &str) -> bool {
        let below = path.strip_prefix("runs/");
        let run = below.and_then(|rest| rest.split('/').next()?.parse::<RunId>().ok());
        run.is_some_and(|run| self.is_going(&run))
    }

    /// Whether a run was deleted, or that was decided.
    pub(super) fn is_going(&self, run: &RunId) -> bool {
        let deleted = self.truths.get(run).is_some_and(|truth| truth.deleted);
        deleted || self.is_to_be_deleted(run)
    }

    /// A run that may begin finds the snapshots that it names.
    fn snapshots_are_there(&self, named: &BTreeSet<Digest>) -> Result<(), String> {
        for digest in named {
            let manifest = layout::snapshot_manifest(digest).to_string();
            if !self.objects.contains_key(&manifest) {
                return Err(format!("a run is ready, and {manifest} is not there"));
            }
        }
        Ok(())
    }

    fn truth(
        &mut self,
        run: &RunId,
        check: impl FnOnce(&mut Truth) -> Result<(), String>,
    ) -> Result<(), String> {
        match self.truths.get_mut(run) {
            Some(truth) => check(truth),
            None => Err(format!("something is written of {run}, which is no run")),
        }
    }

    /// What process `pid` writes at `path` is decided after a look at the log. What came
    /// to stand there before this moment was seen by it: the look's answer was under way
    /// no longer than any answer, and the record was sent when it came.
    fn known_before(&self, pid: Pid, path: &str) -> u64 {
        let sent = self.sent.get(&(pid, path.to_owned())).copied();
        sent.unwrap_or(0).saturating_sub(self.weather.longest_ms)
    }

    /// Who has lost the run decides nothing of it, once that can be known.
    fn is_due(&self, pid: Pid, run: &RunId, path: &str) -> Result<(), String> {
        let epoch = self.processes[pid].epoch;
        let lost = self
            .truths
            .get(run)
            .and_then(|truth| truth.lost_since(epoch));
        match lost {
            Some(since) if since < self.known_before(pid, path) => Err(format!(
                "{path} is decided by a driver of epoch {epoch}, and a newer one took over before"
            )),
            _ => Ok(()),
        }
    }

    /// An attempt is judged lost only where its launcher is, or cannot be seen.
    fn holder_lives(&self, run: &RunId, record: &LogRecord) -> Result<(), String> {
        let Decision::JudgedLost { step, attempt, .. } = &record.decision else {
            return Ok(());
        };
        let Some(claim) = self
            .truths
            .get(run)
            .and_then(|truth| truth.claims.get(&(step.clone(), *attempt)))
        else {
            return Ok(());
        };
        let lives = self.machine.launchers.iter().any(|(pid, launcher)| {
            launcher.nonce.as_ref() == Some(&claim.nonce)
                && self.is_alive(*pid)
                && !launcher.cut_off
        });
        if lives {
            return Err(format!(
                "{step}/{attempt} is judged lost, and its launcher lives"
            ));
        }
        Ok(())
    }

    /// The launchers that live where the executor sees them, and that whoever has the
    /// run asked for.
    fn seen_living(&self, run: &RunId) -> BTreeSet<Nonce> {
        let living = self.machine.launchers.iter().filter(|(pid, launcher)| {
            launcher.id.run == *run && self.is_alive(**pid) && !launcher.cut_off && !launcher.ghost
        });
        living
            .filter_map(|(_, launcher)| launcher.nonce.clone())
            .collect()
    }

    /// Notes that a launcher ended its attempt, where the executor sees it.
    fn note_end(&mut self, pid: Pid, object: &Object) {
        let seen = self
            .machine
            .launchers
            .get(&pid)
            .is_some_and(|launcher| !launcher.cut_off);
        let of = match object {
            Object::End { end: Some(end) } => Some(end.attempt.clone()),
            Object::Outcome {
                run,
                outcome: Some(outcome),
            } => outcome.attempt.map(|number| AttemptId {
                run: run.clone(),
                step: outcome.step.clone(),
                number,
            }),
            _ => None,
        };
        if let Some(id) = of.filter(|_| seen)
            && let Some(truth) = self.truths.get_mut(&id.run)
        {
            truth.ended_seen.insert((id.step, id.number));
        }
    }

    pub(super) fn command_stopped(&mut self, id: &AttemptId, nonce: &Nonce) {
        if let Some(truth) = self.truths.get_mut(&id.run) {
            truth.stopped.insert(nonce.clone());
        }
    }

    /// Whether driver `pid` lost the run to a newer one.
    pub(super) fn has_lost(&self, pid: Pid, run: &RunId) -> bool {
        self.truths
            .get(run)
            .is_some_and(|truth| self.processes[pid].epoch < truth.newest_epoch())
    }

    /// The outputs of a success stand in the store before it does.
    fn outputs_are_there(&self, outcome: &Outcome) -> Result<(), String> {
        if !outcome.status.is_success() {
            return Ok(());
        }
        let fail = |what: String| Err(format!("{} is committed, and {what}", outcome.step));
        for artifact in outcome.outputs.values() {
            let below = format!("{}/", artifact.prefix);
            let files = self
                .objects
                .range(below.clone()..)
                .take_while(|(path, _)| path.starts_with(&below))
                .count() as u64;
            if files != artifact.files || !self.objects.contains_key(&artifact.manifest) {
                return fail(format!("{} is not there", artifact.prefix));
            }
        }
        if let Some(source) = &outcome.reused_from
            && source.run != outcome.run
        {
            let reference = format!("runs/{}/refs/{}", source.run, outcome.run);
            if !self.objects.contains_key(&reference) {
                return fail(format!("{} does not know that it is used", source.run));
            }
        }
        Ok(())
    }

    /// A command begins: the only one of its attempt.
    pub(super) fn command_begins(&mut self, id: &AttemptId, nonce: &Nonce) {
        let key = (id.step.clone(), id.number);
        // Of a run that was deleted the claims are gone, too.
        let going = self.is_going(&id.run);
        let Some(truth) = self.truths.get_mut(&id.run) else {
            return;
        };
        if let Some(other) = truth.commands.insert(key, nonce.clone())
            && other != *nonce
            && !going
        {
            self.violated(format!("the command of {id} runs a second time"));
        }
    }

    pub(super) fn command_ended_well(&mut self, id: &AttemptId, nonce: &Nonce) {
        if let Some(truth) = self.truths.get_mut(&id.run) {
            truth.finished.insert(nonce.clone());
        }
    }
}

impl Truth {
    /// A ticket names only what was committed, and is written when its attempt may start.
    fn ticket(&self, ticket: &Ticket, now: auria_core::Timestamp) -> Result<(), String> {
        let id = &ticket.attempt;
        let fail = |what: String| Err(format!("{id} is to start, {what}"));
        let Some(planned) = self.plan.step(&id.step) else {
            return fail("and the plan has no such step".into());
        };
        for (name, input) in &planned.inputs {
            let PlannedInput::Step {
                step,
                output,
                optional,
                ..
            } = input
            else {
                continue;
            };
            let outcome = self.outcomes.get(step);
            let made = outcome
                .filter(|outcome| outcome.status.is_success())
                .and_then(|outcome| outcome.outputs.get(output));
            match ticket.inputs.get(name) {
                Some(TicketInput::Artifact { artifact, .. }) if made == Some(artifact) => {}
                Some(TicketInput::Absent) if *optional && made.is_none() => {
                    if outcome.is_none() && !self.is_doomed(step) {
                        return fail(format!("and did not wait for {step}"));
                    }
                }
                other => {
                    return fail(format!(
                        "and takes {other:?} of {step}, which is {outcome:?}"
                    ));
                }
            }
        }
        for step in &planned.after {
            if !self.succeeded(step) {
                return fail(format!(
                    "and {step}, after which it comes, did not end well"
                ));
            }
        }
        let settings = &self.plan.settings;
        let is_last = settings.on_finalize.as_ref() == Some(&id.step);
        if let Some(init) = &settings.on_init
            && *init != id.step
            && !is_last
            && !self.succeeded(init)
        {
            return fail("and the first step did not end well".into());
        }
        if is_last {
            let others = self
                .outcomes
                .keys()
                .filter(|step| **step != id.step)
                .count();
            if others + 1 != self.plan.steps.len() {
                return fail("and is to be the last".into());
            }
        }
        if id.number > 1 {
            let Some(Decision::Granted {
                not_before,
                restore,
                ..
            }) = self
                .grant(&id.step, id.number)
                .map(|record| &record.decision)
            else {
                return fail("and was not granted".into());
            };
            if *not_before > now {
                return fail(format!("and that is before {not_before}"));
            }
            if *restore != ticket.restore {
                return fail(format!(
                    "and restores {:?}, and its grant pins {restore:?}",
                    ticket.restore
                ));
            }
        }
        Ok(())
    }
}
