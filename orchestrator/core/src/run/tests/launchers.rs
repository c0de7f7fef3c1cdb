//! What the world's launchers do: claim, run by the script, publish, end.

use super::plans::Act;
use super::world::{Launcher, Stage, World, artifact};
use crate::outcome::{
    Cause, Checkpoint, Claim, EndRecord, OUTCOME_VERSION, Outcome, Status, Timings,
};
use crate::run::{AttemptNews, Phase};
use std::collections::BTreeMap;
use std::sync::Arc;

fn cause_of(number: u8) -> Cause {
    [
        Cause::Exit,
        Cause::OutOfMemory,
        Cause::Image,
        Cause::Preempted,
        Cause::Evicted,
        Cause::Timeout,
    ][number as usize % 6]
}

impl World {
    pub(super) fn can_move(&self) -> bool {
        self.launchers.iter().any(|launcher| {
            launcher.stopped
                || launcher.stage != Stage::Running
                || self.act(&launcher.id) != Act::Hang
        })
    }

    /// One launcher takes one step.
    pub(super) fn move_on(&mut self) {
        if self.launchers.is_empty() {
            return;
        }
        let place = self.dice.below(self.launchers.len());
        let mut launcher = self.launchers[place].clone();
        let stays = self.move_launcher(&mut launcher);
        if stays {
            self.launchers[place] = launcher;
        }
    }

    /// Takes the launcher out first, so that what is said of it is true.
    fn leave(&mut self, launcher: &Launcher) {
        self.launchers.retain(|other| other.nonce != launcher.nonce);
    }

    fn move_launcher(&mut self, launcher: &mut Launcher) -> bool {
        let id = launcher.id.clone();
        match launcher.stage {
            Stage::Born if launcher.stopped => {
                self.leave(launcher);
                if !self.is_live(&id) {
                    let news = self.gone(&id);
                    self.tell(&id, news);
                }
                return false;
            }
            Stage::Born => {
                if self.claims.contains_key(&id) {
                    self.leave(launcher);
                    self.tell(&id, AttemptNews::ClaimLost);
                    return false;
                }
                let claim = Claim {
                    attempt: id.clone(),
                    nonce: launcher.nonce.clone(),
                    host: "h".into(),
                    boot_id: String::new(),
                    process: String::new(),
                    claimed: self.now,
                };
                self.claims.insert(id.clone(), claim);
                launcher.stage = Stage::Claimed;
                self.tell(
                    &id,
                    AttemptNews::Claimed {
                        nonce: launcher.nonce.clone(),
                        node: "h".into(),
                    },
                );
            }
            Stage::Claimed => {
                launcher.stage = Stage::Fetching;
                self.tell(
                    &id,
                    AttemptNews::Phase {
                        phase: Phase::Fetching,
                    },
                );
            }
            Stage::Fetching => {
                launcher.stage = Stage::Running;
                self.tell(
                    &id,
                    AttemptNews::Phase {
                        phase: Phase::Running,
                    },
                );
            }
            Stage::Running if launcher.stopped => {
                self.leave(launcher);
                self.end(launcher, Cause::Canceled, None);
                return false;
            }
            Stage::Running => return self.run_command(launcher),
            Stage::Publishing => {
                self.leave(launcher);
                if self.act(&id) == Act::Publish {
                    let outcome = self.success(launcher);
                    self.end(launcher, Cause::NodeLost, Some(Box::new(outcome)));
                    return false;
                }
                let mine = Arc::new(self.success(launcher));
                let stands = self
                    .outcomes
                    .entry(id.step.clone())
                    .or_insert_with(|| Arc::clone(&mine))
                    .clone();
                if stands.nonce != mine.nonce {
                    self.beaten.insert(id.clone());
                }
                self.tell(&id, AttemptNews::Committed { outcome: stands });
                return false;
            }
        }
        true
    }

    fn run_command(&mut self, launcher: &mut Launcher) -> bool {
        let id = launcher.id.clone();
        if self.dice.once_in(4) {
            launcher.checkpoints += 1;
            let checkpoint = Checkpoint {
                attempt: id.number,
                nonce: launcher.nonce.clone(),
                generation: launcher.checkpoints,
            };
            self.checkpoints
                .insert((id.step.clone(), id.number), checkpoint);
            return true;
        }
        match self.act(&id) {
            Act::Succeed | Act::Publish => {
                launcher.stage = Stage::Publishing;
                self.tell(
                    &id,
                    AttemptNews::Phase {
                        phase: Phase::Publishing,
                    },
                );
                return true;
            }
            Act::Hang => return true,
            Act::Fail(cause) => {
                self.leave(launcher);
                self.end(launcher, cause_of(cause), None);
            }
            Act::Vanish => {
                self.leave(launcher);
                let news = self.gone(&id);
                self.tell(&id, news);
            }
            Act::Killed(cause) => {
                self.leave(launcher);
                let mut news = self.gone(&id);
                let known = self.end_record(launcher, cause_of(cause), None);
                if let AttemptNews::Gone { end, .. } = &mut news {
                    *end = Some(known);
                }
                self.tell(&id, news);
            }
        }
        false
    }

    fn end_record(
        &self,
        launcher: &Launcher,
        cause: Cause,
        published: Option<Box<Outcome>>,
    ) -> EndRecord {
        EndRecord {
            attempt: launcher.id.clone(),
            nonce: Some(launcher.nonce.clone()),
            cause,
            exit_code: (cause == Cause::Exit).then_some(3),
            message: "it ended".into(),
            last_lines: vec![format!("line of {}", launcher.id)],
            timings: Timings::default(),
            checkpoint: self
                .checkpoints
                .get(&(launcher.id.step.clone(), launcher.id.number))
                .cloned(),
            published,
            node: Some("h".into()),
            started: Some(self.now),
            ended: self.now,
        }
    }

    fn end(&mut self, launcher: &Launcher, cause: Cause, published: Option<Box<Outcome>>) {
        let record = self.end_record(launcher, cause, published);
        let id = &launcher.id;
        if self.ends.contains_key(id) {
            // An end without a claim stands there: this launcher came too late.
            let claim = self.claims.get(id).cloned();
            self.tell(
                id,
                AttemptNews::Gone {
                    claim,
                    end: None,
                    checkpoint: None,
                },
            );
            return;
        }
        self.ends.insert(id.clone(), record.clone());
        self.tell(id, AttemptNews::Ended { end: record });
    }

    fn success(&self, launcher: &Launcher) -> Outcome {
        let step = &launcher.id.step;
        Outcome {
            version: OUTCOME_VERSION,
            run: self.run.clone(),
            step: step.clone(),
            status: Status::Completed,
            attempt: Some(launcher.id.number),
            nonce: Some(launcher.nonce.clone()),
            attempts: launcher.claims_before + 1,
            cause: None,
            exit_code: Some(0),
            message: None,
            outputs: BTreeMap::from([("out".to_owned(), artifact(step))]),
            reused_from: None,
            key: None,
            timings: Timings::default(),
            last_lines: Vec::new(),
            node: Some("h".into()),
            started: Some(self.now),
            ended: self.now,
        }
    }
}
