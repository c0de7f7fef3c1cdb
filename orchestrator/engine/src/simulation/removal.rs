//! What may be removed from the store, checked when it is: of a run that is deleted
//! everything, once its tombstone has stood long enough, that was decided, and nobody
//! uses it; of one that has ended what lost; nothing else.

use super::points::Actor;
use super::world::{Pid, World};
use auria_core::RunId;
use serde::Deserialize;

/// What is checked of a tombstone.
#[derive(Deserialize)]
struct Tombstone {
    nonce: String,
    grace_ms: u64,
}

/// How far a deletion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    NotMarked,
    /// Nothing is decided yet; whether it stood for its grace.
    Marked {
        long_enough: bool,
    },
    Kept,
    /// To be deleted, and whether it stood for its grace.
    Deleted {
        long_enough: bool,
    },
}

impl World {
    /// A process removes what is at `path`, which is still there.
    pub(super) fn removes(&mut self, pid: Pid, path: &str) {
        if !self.objects.contains_key(path) || self.processes[pid].actor == Actor::Launcher {
            return;
        }
        let parts: Vec<&str> = path.split('/').collect();
        let right = match parts.as_slice() {
            ["runs", run, rest @ ..] => match run.parse() {
                Ok(run) => self.removes_of_run(&run, rest),
                Err(_) => Err("of no run".into()),
            },
            ["snapshots", digest, rest @ ..] => self.removes_of_snapshot(digest, rest),
            ["reuse" | "recent" | "clock", ..] => Ok(()),
            _ => Err("which is to stay".into()),
        };
        if let Err(why) = right {
            self.violated(format!("{path} is removed, {why}"));
        }
        if let ["runs", run, "run.json"] = parts.as_slice()
            && let Some(truth) = run
                .parse()
                .ok()
                .and_then(|run: RunId| self.truths.get_mut(&run))
        {
            truth.deleted = true;
        }
    }

    /// Whether it was decided that a run is deleted.
    pub(super) fn is_to_be_deleted(&self, run: &RunId) -> bool {
        matches!(self.fate(&format!("runs/{run}")), Fate::Deleted { .. })
    }

    fn fate(&self, folder: &str) -> Fate {
        let at = format!("{folder}/tombstone");
        let Some(tombstone) = self.objects.get(&at) else {
            return Fate::NotMarked;
        };
        let Ok(tombstone) = serde_json::from_slice::<Tombstone>(tombstone) else {
            return Fate::NotMarked;
        };
        // One that is asked for again with less patience is written anew.
        let since = self.marked.get(&tombstone.nonce).copied();
        let stood = self.elapsed_ms().saturating_sub(since.unwrap_or(0));
        let long_enough = stood >= tombstone.grace_ms;
        let verdict = self.objects.get(&format!("verdicts/{}", tombstone.nonce));
        match verdict.map(|bytes| String::from_utf8_lossy(bytes).contains("\"delete\"")) {
            None => Fate::Marked { long_enough },
            Some(false) => Fate::Kept,
            Some(true) => Fate::Deleted { long_enough },
        }
    }

    /// Notes when a tombstone first stood.
    pub(super) fn marks(&mut self, bytes: &[u8]) {
        let now = self.elapsed_ms();
        if let Ok(tombstone) = serde_json::from_slice::<Tombstone>(bytes) {
            self.marked.entry(tombstone.nonce).or_insert(now);
        }
    }

    fn removes_of_run(&mut self, run: &RunId, rest: &[&str]) -> Result<(), String> {
        let fail = |why: &str| Err(why.to_owned());
        let folder = format!("runs/{run}");
        let whole = self.objects.contains_key(&format!("{folder}/run.json"));
        let fate = self.fate(&folder);
        if let ["tombstone"] = rest {
            // A younger one may go with the one before it that a slow driver kept: then the
            // run stays.
            let kept = self.kept.contains(run);
            return match fate {
                Fate::Deleted { .. } if whole => fail("and its run.json stands"),
                Fate::Marked { long_enough: true } if whole && !kept => {
                    fail("and nothing is decided")
                }
                Fate::Kept => {
                    self.kept.insert(run.clone());
                    Ok(())
                }
                _ => Ok(()),
            };
        }
        // What comes late, where a run was.
        if !whole {
            return Ok(());
        }
        match fate {
            Fate::Deleted { long_enough: true } => self.is_unused(run),
            Fate::Deleted { .. } => fail("before its grace is over"),
            Fate::NotMarked | Fate::Marked { .. } | Fate::Kept if self.is_left_over(run, rest) => {
                Ok(())
            }
            Fate::NotMarked | Fate::Marked { .. } | Fate::Kept => fail("and its run stays"),
        }
    }

    /// Nobody's outcome and no asset rests on what a run made.
    fn is_unused(&self, run: &RunId) -> Result<(), String> {
        for (other, truth) in &self.truths {
            let uses = truth.outcomes.values().any(|outcome| {
                let source = outcome.reused_from.as_ref();
                source.is_some_and(|source| source.run == *run)
            });
            if other != run && uses && !truth.deleted {
                return Err(format!("and {other} uses its run"));
            }
        }
        let below = format!("\"runs/{run}/data/");
        let asset = self
            .objects
            .range("assets/".to_owned()..)
            .take_while(|(path, _)| path.starts_with("assets/"))
            .find(|(_, bytes)| String::from_utf8_lossy(bytes).contains(&below));
        match asset {
            Some((asset, _)) => Err(format!("and {asset} rests on its run")),
            None => Ok(()),
        }
    }

    /// Of a run that has ended and stays: what its outcomes do not name.
    fn is_left_over(&self, run: &RunId, rest: &[&str]) -> bool {
        let Some(truth) = self.truths.get(run).filter(|truth| truth.end.is_some()) else {
            return false;
        };
        let outcome = |step: &str| truth.outcomes.get(&step.parse().ok()?);
        match rest {
            ["data", step, attempt, "outputs" | "manifests", ..] => {
                outcome(step).is_some_and(|outcome| {
                    let named = outcome.attempt.zip(outcome.nonce.as_ref());
                    named.is_none_or(|(number, nonce)| *attempt != format!("{number}-{nonce}"))
                })
            }
            ["checkpoints", step, ..] => {
                outcome(step).is_some_and(|outcome| outcome.status.is_success())
            }
            _ => false,
        }
    }

    fn removes_of_snapshot(&self, digest: &str, rest: &[&str]) -> Result<(), String> {
        let folder = format!("snapshots/{digest}");
        match self.fate(&folder) {
            Fate::Kept if rest == ["tombstone"] => Ok(()),
            // A younger one may go with the one before it that a slow collector kept: then
            // the snapshot stays, and is marked anew.
            Fate::Marked { .. } if rest == ["tombstone"] => Ok(()),
            Fate::Deleted { long_enough: true } => Ok(()),
            Fate::Deleted { .. } => Err("before its grace is over".into()),
            _ => Err("and it is not to be deleted".into()),
        }
    }
}
