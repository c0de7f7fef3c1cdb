//! Whether an attempt can still count: no outcome of its step stands, it left no end, and
//! no driver gave it up. Read from the store now and then, and remembered; what is over
//! stays so.

use crate::caller::Bounded;
use crate::problem::Refusal;
use auria_core::outcome::Decision;
use auria_core::{AttemptId, RunId, StepPath};
use auria_store::{Journal, Store, StoreError};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long it is remembered that an attempt was not over.
const FRESH: Duration = Duration::from_secs(10);
/// Attempts that are remembered.
const ATTEMPTS: usize = 20_000;
/// Runs of whose log it is remembered how far it was read.
const RUNS: usize = 1_000;

#[derive(Clone, Copy)]
enum Known {
    Open { at: Instant },
    Over { since: Instant },
}

/// How far a run's log was read, and what it says: whom it gives up, and that the run is to be
/// canceled.
#[derive(Clone, Default)]
struct Log {
    read: u64,
    canceled: bool,
    lost: BTreeSet<(StepPath, u32)>,
}

/// What is known of attempts.
pub(super) struct Standing {
    store: Store,
    attempts: Bounded<AttemptId, Known>,
    logs: Bounded<RunId, Log>,
}

impl Standing {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            attempts: Bounded::new(ATTEMPTS),
            logs: Bounded::new(RUNS),
        }
    }

    /// This attempt has ended, or its step has an outcome.
    pub(super) fn over(&self, attempt: &AttemptId) {
        if !matches!(self.attempts.get(attempt), Some(Known::Over { .. })) {
            let since = Instant::now();
            self.attempts.put(attempt.clone(), Known::Over { since });
        }
    }

    /// Whether nothing that this attempt writes can count any more.
    pub(super) async fn is_over(&self, attempt: &AttemptId) -> Result<bool, Refusal> {
        Ok(self.over_for(attempt).await?.is_some())
    }

    /// For how long it has been known that nothing of this attempt can count any more.
    pub(super) async fn over_for(&self, attempt: &AttemptId) -> Result<Option<Duration>, Refusal> {
        match self.attempts.get(attempt) {
            Some(Known::Open { at }) if at.elapsed() < FRESH => return Ok(None),
            // The others go on with what was known while this one looks.
            Some(Known::Open { .. }) => self.open(attempt),
            Some(Known::Over { .. }) | None => {}
        }
        let over = self.over_now(attempt).await?;
        if over.is_none() {
            self.open(attempt);
        }
        Ok(over)
    }

    /// The same, looked for anew; that it is open is not remembered, since whoever claims
    /// may long since have lost when it writes for the first time.
    pub(super) async fn over_now(&self, attempt: &AttemptId) -> Result<Option<Duration>, Refusal> {
        if let Some(Known::Over { since }) = self.attempts.get(attempt) {
            return Ok(Some(since.elapsed()));
        }
        let over = self.look(attempt).await;
        if !over.map_err(|error| Refusal::of(&error))? {
            return Ok(None);
        }
        self.over(attempt);
        Ok(Some(Duration::ZERO))
    }

    fn open(&self, attempt: &AttemptId) {
        // What ended while somebody looked stays over.
        if !matches!(self.attempts.get(attempt), Some(Known::Over { .. })) {
            let at = Instant::now();
            self.attempts.put(attempt.clone(), Known::Open { at });
        }
    }

    async fn look(&self, attempt: &AttemptId) -> Result<bool, StoreError> {
        let journal = Journal::new(self.store.clone(), attempt.run.clone());
        if journal.read_outcome(&attempt.step).await?.is_some()
            || journal.read_end(attempt).await?.is_some()
        {
            return Ok(true);
        }
        let log = self.log(&journal).await?;
        Ok(log.lost.contains(&(attempt.step.clone(), attempt.number)))
    }

    /// Whether somebody asked to cancel a run; where that cannot be told at this moment, not.
    pub(super) async fn is_canceled(&self, run: &RunId) -> bool {
        let journal = Journal::new(self.store.clone(), run.clone());
        self.log(&journal).await.is_ok_and(|log| log.canceled)
    }

    /// The run's log, read on from where it was read to.
    async fn log(&self, journal: &Journal) -> Result<Log, StoreError> {
        let mut log = self.logs.get(journal.run()).unwrap_or_default();
        let before = log.read;
        while let Some(record) = journal.read_log(log.read + 1).await? {
            log.read += 1;
            match record.decision {
                Decision::JudgedLost { step, attempt, .. } => {
                    log.lost.insert((step, attempt));
                }
                Decision::CancelRequested { .. } => log.canceled = true,
                Decision::TookOver { .. } | Decision::Granted { .. } => {}
            }
        }
        if log.read > before {
            self.logs.put(journal.run().clone(), log.clone());
        }
        Ok(log)
    }
}
