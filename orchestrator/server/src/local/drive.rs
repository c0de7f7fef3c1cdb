//! One run's driver within a server: takes the lease, drives, and tries again where the store
//! or another driver stands in the way.

use super::nobody::Nobody;
use super::{Executors, LocalRuns};
use auria_core::outcome::{Decision, Status};
use auria_core::run::{Limits, RunState};
use auria_core::{AttemptId, RunId, Timestamp};
use auria_engine::driver::{Control, DriveError, Driven, Driver, Observer};
use auria_engine::executor::Executor;
use auria_engine::feed::Feed;
use auria_engine::lease::{Lease, LeaseError};
use auria_store::runs::{self, RunJson};
use auria_store::{ErrorKind, Journal, StoreError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between two tries where another process has the run.
const HELD: Duration = Duration::from_secs(2);
/// After a store or an engine that failed, doubled each time.
const FAILED: Duration = Duration::from_secs(1);
/// No such wait is longer.
const FAILED_MOST: Duration = Duration::from_secs(60);

/// What becomes of a run after its turn.
pub(super) enum After {
    /// It is over, or others see to it: it is known here no more.
    Done,
    /// It waits so long, without a turn, and is tried again.
    Again(Duration),
}

/// What came of a try.
enum Came {
    /// The run is over, or is gone.
    Over,
    /// The server ends.
    Left,
    /// Another process of this machine drives it.
    Held,
    /// Another driver took it over.
    Lost,
    /// Something failed.
    Failed(String),
}

/// Tells a run's readers, and keeps its status.
struct Told {
    feed: Feed,
    status: Arc<Mutex<Status>>,
}

impl Observer for Told {
    fn changed(&mut self, state: &RunState, _now: Timestamp) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = state.status();
        self.feed.tell(state);
    }

    fn line(&mut self, attempt: &AttemptId, line: &str) {
        self.feed.line(attempt, line);
    }
}

/// Waits until the server ends.
async fn ended(mut ends: watch::Receiver<bool>) {
    // Its sender lives as long as what waits here.
    let _ = ends.wait_for(|ends| *ends).await;
}

impl<X: Executors> LocalRuns<X> {
    /// Drives `run` to its end, or until it cannot go on, or the server ends.
    pub(super) async fn drive(&self, run: &RunId) -> After {
        match self.try_drive(run).await {
            Came::Over => match self.forget(run).await {
                Ok(()) => After::Done,
                Err(error) => {
                    tracing::warn!(%run, %error, "taking it off the queue");
                    After::Again(HELD)
                }
            },
            Came::Left => After::Done,
            Came::Held => After::Again(HELD),
            Came::Lost => {
                // To take it back would take it from whoever has it, to and fro. Its mark stays
                // until a server starts anew.
                tracing::warn!(%run, "another driver took it over: it is left to that one");
                After::Done
            }
            Came::Failed(error) => {
                let pause = self.longer_pause(run);
                tracing::warn!(%run, error, "driving it; again in {pause:?}");
                After::Again(pause)
            }
        }
    }

    /// Doubles with each failure in a row.
    fn longer_pause(&self, run: &RunId) -> Duration {
        let mut state = self.state();
        let Some(known) = state.known.get_mut(run) else {
            return FAILED_MOST;
        };
        known.pause = (known.pause * 2).clamp(FAILED, FAILED_MOST);
        known.pause
    }

    async fn try_drive(&self, run: &RunId) -> Came {
        let options = &self.options;
        let store = &options.store;
        let Some((feed, status)) = self.known(run) else {
            return Came::Left;
        };
        let record = match runs::read(store, run).await {
            Ok(record) => record,
            Err(error) if error.kind() == ErrorKind::NotFound => return Came::Over,
            Err(error) => return Came::Failed(error.to_string()),
        };
        let journal = Journal::new(store.clone(), run.clone());
        match journal.read_run_end().await {
            Ok(None) => {}
            Ok(Some(_)) => return Came::Over,
            Err(error) => return Came::Failed(error.to_string()),
        }
        let lease = match Lease::take(&options.runtime, &store.identity(), run) {
            Ok(lease) => Some(lease.telling(feed.clone())),
            Err(LeaseError::Held { .. }) => return Came::Held,
            Err(error @ LeaseError::Io { .. }) => {
                tracing::warn!(%error, "others on this machine cannot see who drives it");
                None
            }
        };
        match options.executors.of(&record.plan).await {
            Ok(executor) => {
                self.drive_with(executor, &record, lease, feed, status)
                    .await
            }
            Err(message) => match is_canceled_idle(&journal).await {
                // Nothing of it runs, and nothing is to: that takes nobody who runs steps.
                Ok(true) => {
                    let nobody = Arc::new(Nobody { why: message });
                    self.drive_with(nobody, &record, lease, feed, status).await
                }
                Ok(false) => Came::Failed(message),
                Err(error) => Came::Failed(error.to_string()),
            },
        }
    }

    async fn drive_with<E: Executor + 'static>(
        &self,
        executor: Arc<E>,
        record: &RunJson,
        lease: Option<Lease>,
        feed: Feed,
        status: Arc<Mutex<Status>>,
    ) -> Came {
        let options = &self.options;
        let driver = Driver {
            run: record.run.clone(),
            plan: record.plan.clone(),
            store: options.store.clone(),
            executor,
            limits: Limits::default(),
            name: options.name.clone(),
            now: options.now,
        };
        // One request alone is ever made: to leave.
        let (requests, control) = mpsc::channel(1);
        let mut observer = Told { feed, status };
        let drive = driver.drive(lease.as_ref(), control, &mut observer);
        tokio::pin!(drive);
        let driven = tokio::select! {
            driven = &mut drive => driven,
            () = ended(self.ends.subscribe()) => {
                let _ = requests.send(Control::Detach).await;
                drive.await
            }
        };
        if let (Ok(Driven::Ended(_)), Some(lease)) = (&driven, &lease) {
            lease.told().await;
        }
        match driven {
            Ok(Driven::Ended(_)) | Err(DriveError::Deleted { .. }) => Came::Over,
            Ok(Driven::Detached) => Came::Left,
            Ok(Driven::SteppedDown) => Came::Lost,
            Err(error) => Came::Failed(error.to_string()),
        }
    }

    /// Takes a run that is over off the queue.
    async fn forget(&self, run: &RunId) -> Result<(), StoreError> {
        let mark = self.state().known.get(run).map(|known| known.mark.clone());
        match mark {
            Some(mark) => self.options.store.delete(&mark).await,
            None => Ok(()),
        }
    }
}

/// Whether it was asked to cancel a run of which nothing may still run.
async fn is_canceled_idle(journal: &Journal) -> Result<bool, StoreError> {
    let found = journal.recover().await?;
    let asked = found
        .log
        .iter()
        .any(|record| matches!(record.decision, Decision::CancelRequested { .. }));
    let open = found.claims.iter().any(|claim| {
        let id = &claim.attempt;
        !found.ends.iter().any(|end| end.attempt == *id) && !found.outcomes.contains_key(&id.step)
    });
    Ok(asked && !open)
}
