//! The order of an attempt's records, whatever carries its command out: the claim
//! first, then the work with its outputs, then the outcome or the attempt's end.
//! Launchers and the simulation share it. It never decides why an attempt ended.

use crate::failure::chain;
use auria_core::outcome::{Claim, EndRecord, Outcome};
use auria_core::run::AttemptNews;
use auria_store::{Claimed, Commit, ErrorKind, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The records of one attempt; each call is patient with a store that fails.
pub trait Records {
    /// Creates the claim.
    fn claim(&self, claim: &Claim) -> impl Future<Output = Result<Claimed, StoreError>> + Send;
    /// Creates the commit record.
    fn commit(&self, outcome: &Outcome) -> impl Future<Output = Result<Commit, StoreError>> + Send;
    /// Creates the attempt's end, and gives the one that stands.
    fn write_end(
        &self,
        end: &EndRecord,
    ) -> impl Future<Output = Result<EndRecord, StoreError>> + Send;
}

/// What happens between the claim and the last record.
pub trait Work {
    /// Told once, when the claim is held.
    fn claimed(&mut self);
    /// Fetches, runs and publishes. Gives the outcome to commit, whose outputs are all
    /// there, or the attempt's end.
    fn produce(&mut self) -> impl Future<Output = Result<Outcome, Box<EndRecord>>>;
    /// The end of an attempt that published everything and could not commit.
    fn uncommitted(&self, outcome: Outcome, error: &StoreError) -> EndRecord;
}

/// Carries an attempt out, and gives the last news of it.
pub async fn carry_out(records: &impl Records, claim: Claim, mut work: impl Work) -> AttemptNews {
    match records.claim(&claim).await {
        Ok(Claimed::Won) => {}
        Ok(Claimed::Lost(_)) if auria_core::mutant!(ClaimShared) => {}
        Ok(Claimed::Lost(_)) => return AttemptNews::ClaimLost,
        Err(error) => {
            return AttemptNews::Unavailable {
                message: format!("it could not be claimed: {}", chain(&error)),
            };
        }
    }
    work.claimed();
    let end = match work.produce().await {
        Ok(outcome) => match records.commit(&outcome).await {
            Ok(Commit::Won) => {
                return AttemptNews::Committed {
                    outcome: Arc::new(outcome),
                };
            }
            Ok(Commit::Lost(stands)) => {
                return AttemptNews::Committed {
                    outcome: Arc::from(stands),
                };
            }
            Err(error) => work.uncommitted(outcome, &error),
        },
        Err(end) => *end,
    };
    match records.write_end(&end).await {
        Ok(stands) => AttemptNews::Ended { end: stands },
        Err(error) => {
            tracing::error!("the attempt's end could not be written: {}", chain(&error));
            AttemptNews::Gone {
                claim: Some(claim),
                checkpoint: end.checkpoint.clone(),
                end: Some(end),
            }
        }
    }
}

/// Does `what` again, with growing pauses, while the store does not answer or is
/// full, until `patience` ends. `tell` hears what keeps it waiting, and `None` once
/// nothing does.
///
/// # Errors
/// The store's last.
pub async fn patiently<T, F>(
    patience: Duration,
    tell: impl Fn(Option<String>),
    doing: &str,
    what: impl Fn() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    let mut pause = Duration::from_millis(200);
    let mut told = false;
    loop {
        match what().await {
            Err(error)
                if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Full)
                    && began.elapsed() + pause < patience =>
            {
                let trouble = format!("could not {doing}: {}", chain(&error));
                tracing::warn!("{trouble}; trying again");
                tell(Some(trouble));
                told = true;
                // Many launchers may wait for one store.
                let jitter = 0.5 + 0.5 * auria_store::outside::random_fraction();
                tokio::time::sleep(pause.mul_f64(jitter)).await;
                pause = (pause * 2).min(Duration::from_secs(8));
            }
            answer => {
                if told {
                    tell(None);
                }
                return answer;
            }
        }
    }
}
