//! A small world for a run state: a store, an executor whose launchers do what a
//! plan's script says, and mail that may be late, twice and out of order. It is
//! deterministic: a seed is a schedule.

use super::plans::{Act, PlanSpec, Prelude};
use crate::digest::Digest;
use crate::ids::{AttemptId, Nonce, RunId, StepPath};
use crate::outcome::{
    Artifact, Checkpoint, Claim, Decision, EndRecord, LogRecord, Outcome, ReuseSource, RunEnd,
};
use crate::plan::{DataType, Plan};
use crate::run::{AttemptNews, Effect, Event, Recovered, ReuseAnswer, ReuseMiss};
use crate::ticket::Ticket;
use crate::timestamp::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A seeded sequence of choices (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z % bound.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// Where a launcher is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Born,
    Claimed,
    Fetching,
    Running,
    Publishing,
}

#[derive(Clone, Debug)]
pub(super) struct Launcher {
    pub(super) id: AttemptId,
    pub(super) nonce: Nonce,
    pub(super) stage: Stage,
    pub(super) stopped: bool,
    pub(super) claims_before: u32,
    pub(super) checkpoints: u32,
}

/// The store, the executor, and what is on its way to the driver.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) spec: PlanSpec,
    pub(super) plan: Arc<Plan>,
    pub(super) run: RunId,
    pub(super) now: Timestamp,
    pub(super) dice: Dice,
    pub(super) epoch: u64,
    pub(super) log: Vec<LogRecord>,
    pub(super) outcomes: BTreeMap<StepPath, Arc<Outcome>>,
    pub(super) ends: BTreeMap<AttemptId, EndRecord>,
    pub(super) claims: BTreeMap<AttemptId, Claim>,
    pub(super) checkpoints: BTreeMap<(StepPath, u32), Checkpoint>,
    pub(super) run_end: Option<RunEnd>,
    pub(super) registered: BTreeSet<(StepPath, String)>,
    pub(super) exported: BTreeSet<(StepPath, String)>,
    pub(super) launchers: Vec<Launcher>,
    /// Attempts that lost the commit to another of their step.
    pub(super) beaten: BTreeSet<AttemptId>,
    /// Starts so far of each attempt.
    starts: BTreeMap<AttemptId, usize>,
    /// Mail for the driver.
    pub(super) mail: Vec<Event>,
    /// What earlier drivers had under way: it happens later all the same.
    pub(super) late: Vec<Ticket>,
    /// Whether mail comes late, twice and out of order.
    pub(super) disorder: bool,
    /// Whether news that is not an end may be lost.
    pub(super) lossy: bool,
    /// Whether a stop may come to nothing.
    pub(super) deaf: bool,
    nonces: u64,
}

pub(super) fn artifact(step: &StepPath) -> Artifact {
    Artifact {
        prefix: format!("data/{step}"),
        manifest: String::new(),
        data_type: DataType::UriFolder,
        files: 1,
        bytes: 1,
        digest: Digest::of(step.as_str().as_bytes()),
    }
}

impl World {
    pub(super) fn new(spec: PlanSpec, seed: u64) -> Self {
        let plan = Arc::new(spec.plan());
        Self {
            spec,
            plan,
            run: "r".parse().unwrap(),
            now: Timestamp(1_000_000),
            dice: Dice(seed),
            epoch: 0,
            log: Vec::new(),
            outcomes: BTreeMap::new(),
            ends: BTreeMap::new(),
            claims: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            run_end: None,
            registered: BTreeSet::new(),
            exported: BTreeSet::new(),
            launchers: Vec::new(),
            beaten: BTreeSet::new(),
            starts: BTreeMap::new(),
            mail: Vec::new(),
            late: Vec::new(),
            disorder: true,
            lossy: false,
            deaf: false,
            nonces: 0,
        }
    }

    fn nonce(&mut self) -> Nonce {
        self.nonces += 1;
        format!("{:016x}", self.nonces).parse().unwrap()
    }

    fn place(&self, step: &StepPath) -> usize {
        self.plan
            .steps
            .iter()
            .position(|planned| planned.path == *step)
            .unwrap()
    }

    pub(super) fn act(&self, id: &AttemptId) -> Act {
        let acts = &self.spec.steps[self.place(&id.step)].acts;
        acts.get(id.number as usize - 1)
            .copied()
            .unwrap_or(Act::Succeed)
    }

    pub(super) fn live(&self) -> Vec<AttemptId> {
        let ids: BTreeSet<_> = self
            .launchers
            .iter()
            .map(|launcher| launcher.id.clone())
            .collect();
        ids.into_iter().collect()
    }

    pub(super) fn is_live(&self, id: &AttemptId) -> bool {
        self.launchers.iter().any(|launcher| launcher.id == *id)
    }

    pub(super) fn tell(&mut self, id: &AttemptId, news: AttemptNews) {
        let minor = matches!(
            news,
            AttemptNews::Waiting { .. }
                | AttemptNews::Store { .. }
                | AttemptNews::Phase { .. }
                | AttemptNews::Claimed { .. }
        );
        if minor && self.lossy && self.dice.once_in(4) {
            return;
        }
        self.mail.push(Event::Attempt {
            id: id.clone(),
            news,
        });
    }

    /// Takes a letter: any of them where there is disorder, and it may stay.
    pub(super) fn letter(&mut self) -> Option<Event> {
        if self.mail.is_empty() {
            return None;
        }
        if !self.disorder {
            return Some(self.mail.remove(0));
        }
        let place = self.dice.below(self.mail.len());
        let letter = self.mail[place].clone();
        let frees = matches!(
            &letter,
            Event::Attempt {
                news: AttemptNews::Gone { claim: None, .. }
                    | AttemptNews::Refused { .. }
                    | AttemptNews::Unavailable { .. },
                ..
            }
        );
        if frees || !self.dice.once_in(5) {
            self.mail.remove(place);
        }
        Some(letter)
    }

    /// What a driver finds when it takes over: its record is in the log.
    pub(super) fn take_over(&mut self) -> Recovered {
        self.epoch += 1;
        self.append(Decision::TookOver {
            driver: "test".into(),
        });
        self.mail.clear();
        self.found()
    }

    pub(super) fn found(&self) -> Recovered {
        Recovered {
            log: self.log.clone(),
            outcomes: self.outcomes.clone(),
            ends: self.ends.values().cloned().collect(),
            claims: self.claims.values().cloned().collect(),
            live: self.live(),
            checkpoints: self.checkpoints.clone(),
            ended: self.run_end.clone(),
            created: Timestamp(0),
        }
    }

    pub(super) fn append(&mut self, decision: Decision) -> LogRecord {
        let nonce = self.nonce();
        let record = LogRecord {
            seq: self.log.len() as u64 + 1,
            epoch: self.epoch,
            nonce,
            at: self.now,
            decision,
        };
        self.log.push(record.clone());
        self.mail.push(Event::Appended(record.clone()));
        record
    }

    /// Carries an effect out.
    pub(super) fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Append(decision) => {
                self.append(decision.clone());
            }
            Effect::LookUpReuse { step, .. } => {
                let hit = self.spec.steps[self.place(step)].reuse == Some(true);
                let answer = if hit {
                    ReuseAnswer::Hit {
                        source: ReuseSource {
                            run: "other".parse().unwrap(),
                            step: step.clone(),
                        },
                        outputs: BTreeMap::from([("out".to_owned(), artifact(step))]),
                    }
                } else {
                    ReuseAnswer::Miss {
                        miss: ReuseMiss::FirstTime,
                    }
                };
                self.mail.push(Event::Reuse {
                    step: step.clone(),
                    answer,
                });
            }
            Effect::Start(ticket) => {
                if !self.is_live(&ticket.attempt) {
                    self.start(ticket);
                }
            }
            Effect::Stop { attempt, .. } => self.stop(attempt),
            // The executor is out of reach.
            Effect::Inspect(_) if self.deaf && self.dice.once_in(2) => {}
            Effect::Inspect(id) => self.inspect(id),
            Effect::WriteEnd(end) => {
                let stands = self
                    .ends
                    .entry(end.attempt.clone())
                    .or_insert_with(|| (**end).clone())
                    .clone();
                self.tell(&stands.attempt.clone(), AttemptNews::Ended { end: stands });
            }
            Effect::Commit(outcome) => {
                let stands = self
                    .outcomes
                    .entry(outcome.step.clone())
                    .or_insert_with(|| Arc::clone(outcome))
                    .clone();
                self.mail.push(Event::Committed(stands));
            }
            Effect::Register { step, output, .. } => {
                self.registered.insert((step.clone(), output.clone()));
                self.mail.push(Event::Registered {
                    step: step.clone(),
                    output: output.clone(),
                    result: Ok("1".into()),
                });
            }
            Effect::Export { step, output, .. } => {
                self.exported.insert((step.clone(), output.clone()));
                self.mail.push(Event::Exported {
                    step: step.clone(),
                    output: output.clone(),
                    result: Ok(()),
                });
            }
            Effect::EndRun(end) => {
                let stands = self.run_end.get_or_insert_with(|| end.clone()).clone();
                self.mail.push(Event::Ended(stands));
            }
        }
    }

    /// Asks the executor to start a ticket: a launcher, or what the script has first.
    pub(super) fn start(&mut self, ticket: &Ticket) {
        let id = &ticket.attempt;
        let count = self.starts.entry(id.clone()).or_default();
        let prelude = if id.number == 1 { *count } else { usize::MAX };
        *count += 1;
        match self.spec.steps[self.place(&id.step)]
            .preludes
            .get(prelude)
            .copied()
        {
            Some(Prelude::Unavailable) => {
                self.tell(
                    id,
                    AttemptNews::Unavailable {
                        message: "busy".into(),
                    },
                );
            }
            Some(Prelude::GoneUnclaimed) => {
                // An executor says so only where no launcher of this number lives.
                if !self.is_live(id) {
                    let news = self.gone(id);
                    self.tell(id, news);
                }
            }
            Some(Prelude::Refused) => self.tell(
                id,
                AttemptNews::Refused {
                    message: "too large".into(),
                },
            ),
            None => {
                let nonce = self.nonce();
                self.launchers.push(Launcher {
                    id: id.clone(),
                    nonce,
                    stage: Stage::Born,
                    stopped: false,
                    claims_before: ticket.claims_before,
                    checkpoints: 0,
                });
                self.tell(id, AttemptNews::Waiting { why: "room".into() });
            }
        }
    }

    fn stop(&mut self, id: &AttemptId) {
        if !self.is_live(id) {
            let news = self.gone(id);
            self.tell(id, news);
            return;
        }
        if self.deaf && self.dice.once_in(2) {
            return;
        }
        for launcher in &mut self.launchers {
            launcher.stopped |= launcher.id == *id;
        }
    }

    /// What is to be said of an attempt that does not run.
    pub(super) fn gone(&self, id: &AttemptId) -> AttemptNews {
        if let Some(end) = self.ends.get(id) {
            return AttemptNews::Ended { end: end.clone() };
        }
        let claim = self.claims.get(id).cloned();
        if let Some(outcome) = self.outcomes.get(&id.step)
            && (self.beaten.contains(id)
                || claim
                    .as_ref()
                    .is_some_and(|claim| Some(&claim.nonce) == outcome.nonce.as_ref()))
        {
            return AttemptNews::Committed {
                outcome: Arc::clone(outcome),
            };
        }
        AttemptNews::Gone {
            claim,
            end: None,
            checkpoint: self.checkpoints.get(&(id.step.clone(), id.number)).cloned(),
        }
    }

    fn inspect(&mut self, id: &AttemptId) {
        if let Some(outcome) = self.outcomes.get(&id.step) {
            self.mail.push(Event::Committed(Arc::clone(outcome)));
        }
        let news = match self.claims.get(id) {
            Some(claim) if self.is_live(id) => AttemptNews::Claimed {
                nonce: claim.nonce.clone(),
                node: claim.host.clone(),
            },
            None if self.is_live(id) => return,
            _ => self.gone(id),
        };
        self.mail.push(Event::Attempt {
            id: id.clone(),
            news,
        });
    }
}
