//! The records of one run: claims, tickets, ends, the log of decisions, commit
//! records, the run's end; and all of them at once for recovery. Each is created
//! once. It never decides what to write.

use crate::create::Created;
use crate::store::{REQUESTS, decode, encode};
use crate::{Store, StoreError, StorePath, checkpoint, layout, runs};
use auria_core::mutant;
use auria_core::outcome::{
    Checkpoint, Claim, EndRecord, InstanceEnd, LogRecord, Member, Outcome, RunEnd, Status,
};
use auria_core::run::Recovered;
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, Nonce, RunId, StepPath};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whether a launcher holds the claim of its attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It does.
    Won,
    /// Another does: this one ends without running the command.
    Lost(Claim),
}

/// Whether a commit record is the one that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// It is.
    Won,
    /// Another stands.
    Lost(Box<Outcome>),
}

/// Whether a record stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Append {
    /// It does.
    Won,
    /// At its number another's does.
    Lost(LogRecord),
}

/// The records of one run.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Store,
    run: RunId,
}

impl Journal {
    /// The records of `run` in `store`.
    #[must_use]
    pub fn new(store: Store, run: RunId) -> Self {
        Self { store, run }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Creates `record` at `path` unless another is there; `None` where it won.
    async fn create<T: Serialize + DeserializeOwned + Send + Sync>(
        &self,
        path: StorePath,
        record: &T,
        same: impl Fn(&T) -> bool + Send + Sync,
    ) -> Result<Option<T>, StoreError> {
        let is_ours =
            |bytes: &[u8]| serde_json::from_slice::<T>(bytes).is_ok_and(|found| same(&found));
        match self
            .store
            .create_once(&path, encode(&path, record)?, is_ours)
            .await?
        {
            Created::Won => Ok(None),
            Created::Lost(bytes) => decode(&path, &bytes).map(Some),
        }
    }

    /// A launcher's first act. Who loses ends without running the command.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let path = layout::claim(&claim.attempt);
        let found = self
            .create(path, claim, |found| found.nonce == claim.nonce)
            .await?;
        Ok(found.map_or(Claimed::Won, Claimed::Lost))
    }

    /// Creates the commit record of a step. The same attempt and nonce, ended
    /// well, is the same commit, whoever wrote it; a verdict is the same where
    /// it is equal.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn commit(&self, outcome: &Outcome) -> Result<Commit, StoreError> {
        let path = layout::outcome(&self.run, &outcome.step);
        let same = |found: &Outcome| {
            let by_attempt = outcome.status == Status::Completed
                && found.status == Status::Completed
                && outcome.nonce.is_some()
                && (&found.attempt, &found.nonce) == (&outcome.attempt, &outcome.nonce);
            by_attempt || found == outcome
        };
        if mutant!(CommitUnconditional) {
            self.store.write_json(&path, outcome).await?;
            return Ok(Commit::Won);
        }
        let found = self.create(path.clone(), outcome, same).await?;
        if mutant!(LateSuccess)
            && outcome.status.is_success()
            && found
                .as_ref()
                .is_some_and(|found| found.status == Status::Canceled)
        {
            self.store.write_json(&path, outcome).await?;
            return Ok(Commit::Won);
        }
        Ok(found.map_or(Commit::Won, |other| Commit::Lost(Box::new(other))))
    }

    /// Creates the end of an attempt, and gives the one that stands: this, or
    /// what a launcher or another driver wrote before.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn write_end(&self, end: &EndRecord) -> Result<EndRecord, StoreError> {
        let path = layout::attempt_end(&end.attempt);
        let found = self.create(path, end, |found| found == end).await?;
        Ok(found.unwrap_or_else(|| end.clone()))
    }

    /// Appends to the log at the record's number.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn append(&self, record: &LogRecord) -> Result<Append, StoreError> {
        let path = layout::log_record(&self.run, record.seq);
        let found = self
            .create(path, record, |found| found.nonce == record.nonce)
            .await?;
        match found {
            None => Ok(Append::Won),
            Some(stands) => Ok(Append::Lost(sound(&self.run, record.seq, stands)?)),
        }
    }

    /// Creates the run's end, and gives the one that stands.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn end_run(&self, end: &RunEnd) -> Result<RunEnd, StoreError> {
        let found = self
            .create(layout::run_end(&self.run), end, |found| found == end)
            .await?;
        Ok(found.unwrap_or_else(|| end.clone()))
    }

    /// Writes the ticket of an attempt. Every driver writes the same one. On a folder it
    /// stands for every reader when this returns, and is on the disk after
    /// [`Self::sync_ticket`].
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn write_ticket(&self, ticket: &Ticket) -> Result<(), StoreError> {
        let path = layout::ticket(&ticket.attempt);
        self.store
            .write_unsynced(&path, encode(&path, ticket)?)
            .await
    }

    /// Brings the ticket of an attempt to the disk, where the store is a folder.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn sync_ticket(&self, id: &AttemptId) -> Result<(), StoreError> {
        self.store
            .sync_within(&layout::run(&id.run), vec![layout::ticket(id)])
            .await
    }

    /// The ticket of an attempt.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn read_ticket(&self, id: &AttemptId) -> Result<Option<Ticket>, StoreError> {
        self.store.read_json(&layout::ticket(id)).await
    }

    /// The claim of an attempt.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn read_claim(&self, id: &AttemptId) -> Result<Option<Claim>, StoreError> {
        self.store.read_json(&layout::claim(id)).await
    }

    /// The end of an attempt.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn read_end(&self, id: &AttemptId) -> Result<Option<EndRecord>, StoreError> {
        self.store.read_json(&layout::attempt_end(id)).await
    }

    /// The commit record of a step.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn read_outcome(&self, step: &StepPath) -> Result<Option<Outcome>, StoreError> {
        self.store
            .read_json(&layout::outcome(&self.run, step))
            .await
    }

    /// The record of the log at `seq`.
    ///
    /// # Errors
    /// Where the store cannot be reached, or what stands there is no such record.
    pub async fn read_log(&self, seq: u64) -> Result<Option<LogRecord>, StoreError> {
        let path = layout::log_record(&self.run, seq);
        let found = self.store.read_json(&path).await?;
        found
            .map(|record| sound(&self.run, seq, record))
            .transpose()
    }

    /// The run's end.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn read_run_end(&self) -> Result<Option<RunEnd>, StoreError> {
        self.store.read_json(&layout::run_end(&self.run)).await
    }

    /// The commit records of all steps.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn read_outcomes(&self) -> Result<BTreeMap<StepPath, Arc<Outcome>>, StoreError> {
        let found = self.store.list(&layout::outcomes(&self.run)).await?;
        let outcomes: Vec<Outcome> = self
            .read_all(found.into_iter().map(|meta| meta.location))
            .await?;
        Ok(outcomes
            .into_iter()
            .map(|outcome| (outcome.step.clone(), Arc::new(outcome)))
            .collect())
    }

    /// The commit records of a run that others may be deleting: what is left of them.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub(crate) async fn outcomes_left(
        &self,
    ) -> Result<BTreeMap<StepPath, Arc<Outcome>>, StoreError> {
        let found = self.store.list(&layout::outcomes(&self.run)).await?;
        let left: Vec<Option<Outcome>> = futures::stream::iter(found)
            .map(|meta| async move { self.store.read_json(&meta.location).await })
            .buffered(REQUESTS)
            .try_collect()
            .await?;
        Ok(left
            .into_iter()
            .flatten()
            .map(|outcome| (outcome.step.clone(), Arc::new(outcome)))
            .collect())
    }

    /// Every attempt that left a ticket, a claim or an end, in order.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn list_attempts(&self) -> Result<Vec<AttemptId>, StoreError> {
        let found = self.attempt_files().await?;
        let ids: BTreeSet<_> = found.into_iter().map(|(id, _)| id).collect();
        Ok(ids.into_iter().collect())
    }

    /// All that the store holds of the run; `live` is left empty. Lists `log/`,
    /// `attempts/` and `outcomes/` only, and the checkpoints of those attempts
    /// that claimed and left no end.
    ///
    /// # Errors
    /// Where the store cannot be reached or the run is not in it.
    pub async fn recover(&self) -> Result<Recovered, StoreError> {
        let run = runs::read(&self.store, &self.run).await?;
        let (log, files, outcomes, ended) = futures::try_join!(
            self.whole_log(),
            self.attempt_files(),
            self.read_outcomes(),
            self.read_run_end()
        )?;
        // Owned: a future over what is borrowed here could not be sent to another thread.
        let of = |name: &str, path: fn(&AttemptId) -> StorePath| -> Vec<StorePath> {
            let found = files.iter().filter(|(_, file)| file == name);
            found.map(|(id, _)| path(id)).collect()
        };
        let (claims, ends): (Vec<Claim>, Vec<EndRecord>) = futures::try_join!(
            self.read_all(of("claim.json", layout::claim)),
            self.read_all(of("end.json", layout::attempt_end))
        )?;
        let ended_attempts: BTreeSet<_> = ends.iter().map(|end| &end.attempt).collect();
        let is_open = |claim: &Claim| {
            !ended_attempts.contains(&claim.attempt) && !outcomes.contains_key(&claim.attempt.step)
        };
        let mut open = claims.clone();
        open.retain(is_open);
        let checkpoints: Vec<((StepPath, u32), Checkpoint)> = futures::stream::iter(open)
            .map(|claim| async move {
                let newest = checkpoint::latest(&self.store, &claim.attempt, &claim.nonce).await?;
                let AttemptId { step, number, .. } = claim.attempt;
                Ok::<_, StoreError>(newest.map(|found| ((step, number), found)))
            })
            .buffered(REQUESTS)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await?;
        Ok(Recovered {
            log,
            outcomes,
            ends,
            claims,
            live: Vec::new(),
            checkpoints: checkpoints.into_iter().collect(),
            ended,
            created: run.created,
        })
    }

    /// Writes that a launcher of a distributed step is there; a newer one of the same
    /// instance takes its place.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn join(&self, attempt: &AttemptId, member: &Member) -> Result<(), StoreError> {
        let path = layout::joined(attempt, member.instance);
        self.store.write_json(&path, member).await
    }

    /// The launcher of an instance, where one is there.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn read_member(
        &self,
        attempt: &AttemptId,
        instance: u32,
    ) -> Result<Option<Member>, StoreError> {
        self.store
            .read_json(&layout::joined(attempt, instance))
            .await
    }

    /// How the instances of a distributed step ended whose first ranks are these, of those
    /// that have.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn read_instance_ends(
        &self,
        attempt: &AttemptId,
        nonce: &Nonce,
        first_ranks: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<InstanceEnd>, StoreError> {
        futures::stream::iter(first_ranks)
            .map(|rank| async move {
                let path = layout::instance_end(attempt, nonce, rank);
                self.store.read_json(&path).await
            })
            .buffered(REQUESTS)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await
    }

    /// The log, in order, with what was appended while it was listed.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    pub async fn whole_log(&self) -> Result<Vec<LogRecord>, StoreError> {
        let found = self.store.list(&layout::log(&self.run)).await?;
        let last = found
            .iter()
            .filter_map(|meta| seq_of(&meta.location))
            .max()
            .unwrap_or(0);
        // Numbers are dense: what a list that was taken during an append left out is there.
        let found: Vec<LogRecord> = self
            .read_all((1..=last).map(|seq| layout::log_record(&self.run, seq)))
            .await?;
        let sound = |(seq, record)| sound(&self.run, seq, record);
        let mut log: Vec<_> = (1..).zip(found).map(sound).collect::<Result<_, _>>()?;
        while let Some(record) = self.read_log(log.len() as u64 + 1).await? {
            log.push(record);
        }
        Ok(log)
    }

    async fn attempt_files(&self) -> Result<Vec<(AttemptId, String)>, StoreError> {
        let prefix = layout::attempts(&self.run);
        let found = self.store.list(&prefix).await?;
        let mut files: Vec<_> = found
            .iter()
            .filter_map(|meta| self.attempt_of(&meta.location))
            .collect();
        files.sort();
        Ok(files)
    }

    /// `runs/<run>/attempts/<step>/<n>/<file>` taken apart.
    fn attempt_of(&self, path: &StorePath) -> Option<(AttemptId, String)> {
        let parts: Vec<_> = path.parts().skip(3).collect();
        let [step, number, file] = parts.as_slice() else {
            return None;
        };
        let id = AttemptId {
            run: self.run.clone(),
            step: step.as_ref().parse().ok()?,
            number: number.as_ref().parse().ok()?,
        };
        Some((id, file.as_ref().to_owned()))
    }

    /// The records at `paths`, in order, so many at a time. One that was listed
    /// and is not there is damage.
    async fn read_all<T: DeserializeOwned>(
        &self,
        paths: impl IntoIterator<Item = StorePath>,
    ) -> Result<Vec<T>, StoreError> {
        futures::stream::iter(paths)
            .map(|path| async move {
                let record = self.store.read_json(&path).await?;
                record.ok_or_else(|| StoreError::corrupt(&path, "a record", "nothing"))
            })
            .buffered(REQUESTS)
            .try_collect()
            .await
    }
}

/// `record`, which stands in the log of `run` at `seq`, where it can: it knows its place, and
/// its epoch is no newer than drivers can have made it by then, one with each takeover.
fn sound(run: &RunId, seq: u64, record: LogRecord) -> Result<LogRecord, StoreError> {
    if record.seq == seq && record.epoch <= seq {
        return Ok(record);
    }
    let path = layout::log_record(run, seq);
    let found = format!("number {} of epoch {}", record.seq, record.epoch);
    Err(StoreError::corrupt(&path, format!("number {seq}"), found))
}

fn seq_of(path: &StorePath) -> Option<u64> {
    path.filename()?.strip_suffix(".json")?.parse().ok()
}
