//! One run's driver within a server: takes the lease, drives, and tries again where the store
//! or another driver stands in the way.

use super::{Executors, LocalRuns};
use auria_core::outcome::Status;
use auria_core::run::{Limits, RunState};
use auria_core::{AttemptId, RunId, Timestamp};
use auria_engine::driver::{Control, DriveError, Driven, Driver, Observer};
use auria_engine::feed::Feed;
use auria_engine::lease::{Lease, LeaseError};
use auria_store::{ErrorKind, Journal, StoreError, runs, served};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between two tries where another process has the run.
const HELD: Duration = Duration::from_secs(2);
/// After a store or an engine that failed, doubled each time.
const FAILED: Duration = Duration::from_secs(1);
/// No such wait is longer.
const FAILED_MOST: Duration = Duration::from_secs(60);

/// What came of a try.
enum Came {
    /// The run is over, or is gone.
    Over,
    /// The server ends.
    Left,
    /// Another drives it.
    Held,
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
    /// Drives `run` to its end, or until the server ends.
    pub(super) async fn drive(&self, run: &RunId) {
        let mut wait = FAILED;
        loop {
            let pause = match self.try_drive(run).await {
                Came::Over => match self.forget(run).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(%run, %error, "taking it off the queue");
                        HELD
                    }
                },
                Came::Left => return,
                Came::Held => HELD,
                Came::Failed(error) => {
                    tracing::warn!(%run, error, "driving it; again in {wait:?}");
                    let pause = wait;
                    wait = (wait * 2).min(FAILED_MOST);
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ended(self.ends.subscribe()) => return,
            }
        }
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
        let executor = match options.executors.of(&record.plan).await {
            Ok(executor) => executor,
            Err(message) => return Came::Failed(message),
        };
        let driver = Driver {
            run: run.clone(),
            plan: record.plan.clone(),
            store: store.clone(),
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
            Ok(Driven::SteppedDown) => Came::Held,
            Err(error) => Came::Failed(error.to_string()),
        }
    }

    /// Takes a run that is over off the queue.
    async fn forget(&self, run: &RunId) -> Result<(), StoreError> {
        let store = &self.options.store;
        let created = match runs::read(store, run).await {
            Ok(record) => Some(record.created),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match created {
            Some(created) => store.delete(&served::queued(run, created)).await,
            // Its record is gone with the time that its mark is named by.
            None => {
                for key in store.list(&served::queue()).await? {
                    if served::run_of_queued(&key.location).as_ref() == Some(run) {
                        store.delete(&key.location).await?;
                    }
                }
                Ok(())
            }
        }
    }
}
