//! Whether an attempt can still count: no outcome of its step stands, and no driver gave
//! it up. Read from the store now and then, and remembered; what is over stays so.

use crate::caller::Bounded;
use crate::problem::Refusal;
use auria_core::outcome::Decision;
use auria_core::{AttemptId, Nonce, RunId, StepPath};
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
    Over,
}

/// How far a run's log was read, and whom it gives up.
#[derive(Clone, Default)]
struct Log {
    read: u64,
    lost: BTreeSet<(StepPath, u32)>,
}

/// What is known of attempts.
pub(super) struct Standing {
    store: Store,
    attempts: Bounded<(AttemptId, Nonce), Known>,
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

    /// This attempt's step has an outcome.
    pub(super) fn over(&self, attempt: &AttemptId, nonce: &Nonce) {
        let key = (attempt.clone(), nonce.clone());
        self.attempts.put(key, Known::Over);
    }

    /// Whether nothing that this attempt writes can count any more.
    pub(super) async fn is_over(
        &self,
        attempt: &AttemptId,
        nonce: &Nonce,
    ) -> Result<bool, Refusal> {
        let key = (attempt.clone(), nonce.clone());
        match self.attempts.get(&key) {
            Some(Known::Over) => return Ok(true),
            Some(Known::Open { at }) if at.elapsed() < FRESH => return Ok(false),
            // The others go on with what was known while this one looks.
            Some(Known::Open { .. }) => self
                .attempts
                .put(key.clone(), Known::Open { at: Instant::now() }),
            None => {}
        }
        let over = self.look(attempt).await;
        let over = over.map_err(|error| Refusal::of(&error))?;
        let known = if over {
            Known::Over
        } else {
            Known::Open { at: Instant::now() }
        };
        self.attempts.put(key, known);
        Ok(over)
    }

    async fn look(&self, attempt: &AttemptId) -> Result<bool, StoreError> {
        let journal = Journal::new(self.store.clone(), attempt.run.clone());
        if journal.read_outcome(&attempt.step).await?.is_some() {
            return Ok(true);
        }
        let mut log = self.logs.get(&attempt.run).unwrap_or_default();
        let before = log.read;
        while let Some(record) = journal.read_log(log.read + 1).await? {
            log.read += 1;
            if let Decision::JudgedLost { step, attempt, .. } = record.decision {
                log.lost.insert((step, attempt));
            }
        }
        let over = log.lost.contains(&(attempt.step.clone(), attempt.number));
        if log.read > before {
            self.logs.put(attempt.run.clone(), log);
        }
        Ok(over)
    }
}
