//! Drives the runs that a server of one machine took: so many at once, the others in the order
//! in which they came. What was taken stands in the store (`queue/`) before it is said to be
//! taken, so that a server that was killed takes it up again. It decides nothing about a run,
//! and knows nothing of HTTP.

mod drive;

use crate::access::audit;
use crate::api::{NotStarted, Queue, Runs, User};
use async_trait::async_trait;
use auria_core::outcome::Status;
use auria_core::plan::Plan;
use auria_core::{RunId, Timestamp};
use auria_engine::executor::Executor;
use auria_engine::feed::Feed;
use auria_engine::lease::Lease;
use auria_store::runs::{self, RunState};
use auria_store::{ErrorKind, Journal, Store, StoreError, served};
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// How long drivers are given to leave their runs.
const LEAVE: Duration = Duration::from_secs(10);
/// Knocks at drivers' doors that are under way.
const KNOCKS: usize = 64;

/// What runs the steps of this machine.
#[async_trait]
pub trait Executors: Send + Sync + 'static {
    /// All that it has.
    type Executor: Executor + 'static;
    /// The one for a run of `plan`; an error where there is none at this moment.
    async fn of(&self, plan: &Plan) -> Result<Arc<Self::Executor>, String>;
    /// What of `plan` can never run here, each in words.
    fn misfits(&self, plan: &Plan) -> Vec<String>;
    /// The names of the computes that config knows.
    fn computes(&self) -> Vec<String>;
}

/// What the runs of a machine are made of.
pub struct LocalOptions<X> {
    /// The store, opened for writing.
    pub store: Store,
    /// What runs steps.
    pub executors: X,
    /// Where drivers of this machine leave their locks.
    pub runtime: PathBuf,
    /// Runs that are driven at once.
    pub at_once: usize,
    /// Runs that may wait; more are refused.
    pub queue: usize,
    /// Who drives, for people.
    pub name: String,
    /// The clock.
    pub now: fn() -> Timestamp,
}

/// The runs of a machine.
pub struct LocalRuns<X> {
    options: LocalOptions<X>,
    state: Mutex<State>,
    /// Something waits, or the server ends.
    changed: Notify,
    ends: watch::Sender<bool>,
    knocks: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct State {
    /// In the order in which they came.
    waiting: VecDeque<RunId>,
    /// Canceled while they waited: ending them needs no turn.
    urgent: VecDeque<RunId>,
    known: HashMap<RunId, Known>,
    driven: usize,
}

/// A run that waits or is driven.
struct Known {
    feed: Feed,
    status: Arc<Mutex<Status>>,
}

impl<X> std::fmt::Debug for LocalRuns<X> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalRuns({:?})", self.options.store)
    }
}

impl<X: Executors> LocalRuns<X> {
    /// The runs of this machine; none is driven before [`Self::run`].
    #[must_use]
    pub fn new(options: LocalOptions<X>) -> Self {
        Self {
            options,
            state: Mutex::default(),
            changed: Notify::new(),
            ends: watch::Sender::new(false),
            knocks: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what an earlier server left, in its order.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let store = &self.options.store;
        let mut keys: Vec<_> = store.list(&served::queue()).await?;
        keys.sort_by(|one, other| one.location.cmp(&other.location));
        let mut taken = 0;
        for key in keys {
            let Some(run) = served::run_of_queued(&key.location) else {
                continue;
            };
            let journal = Journal::new(store.clone(), run.clone());
            if journal.read_run_end().await?.is_some() {
                store.delete(&key.location).await?;
            } else {
                self.enqueue(&run, usize::MAX);
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Lets `run` wait, once; whether there is room.
    fn enqueue(&self, run: &RunId, most: usize) -> bool {
        let mut state = self.state();
        if state.known.contains_key(run) {
            return true;
        }
        if state.waiting.len() >= most {
            return false;
        }
        let known = Known {
            feed: Feed::new(run.clone()),
            status: Arc::new(Mutex::new(Status::Queued)),
        };
        state.known.insert(run.clone(), known);
        state.waiting.push_back(run.clone());
        drop(state);
        self.changed.notify_one();
        true
    }

    /// The next run that may be driven.
    fn next(&self) -> Option<(RunId, bool)> {
        let mut state = self.state();
        if let Some(run) = state.urgent.pop_front() {
            return Some((run, false));
        }
        if state.driven >= self.options.at_once {
            return None;
        }
        let run = state.waiting.pop_front()?;
        state.driven += 1;
        Some((run, true))
    }

    /// Drives runs until [`Self::end`] is called; then the drivers leave, and steps go on.
    pub async fn run(self: Arc<Self>) {
        let mut ends = self.ends.subscribe();
        let mut drives = JoinSet::new();
        while !*ends.borrow_and_update() {
            while let Some((run, counted)) = self.next() {
                let turn = Turn {
                    runs: self.clone(),
                    run,
                    counted,
                };
                drives.spawn(async move { turn.runs.drive(&turn.run).await });
            }
            tokio::select! {
                () = self.changed.notified() => {}
                _ = ends.changed() => {}
                Some(_) = drives.join_next(), if !drives.is_empty() => {}
            }
        }
        let left = async { while drives.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVE, left).await.is_err() {
            tracing::warn!(
                "some drivers did not leave in time; the next server takes their runs up"
            );
        }
    }

    /// Asks the drivers to leave.
    pub fn end(&self) {
        self.ends.send_replace(true);
    }

    /// What of `run` is told here.
    fn known(&self, run: &RunId) -> Option<(Feed, Arc<Mutex<Status>>)> {
        let state = self.state();
        let known = state.known.get(run)?;
        Some((known.feed.clone(), known.status.clone()))
    }
}

/// A run's turn: given back however its driver ends.
struct Turn<X: Executors> {
    runs: Arc<LocalRuns<X>>,
    run: RunId,
    counted: bool,
}

impl<X: Executors> Drop for Turn<X> {
    fn drop(&mut self) {
        let mut state = self.runs.state();
        // Those who follow it end with its feed.
        state.known.remove(&self.run);
        if self.counted {
            state.driven -= 1;
        }
        drop(state);
        self.runs.changed.notify_one();
    }
}

#[async_trait]
impl<X: Executors> Runs for LocalRuns<X> {
    async fn start(&self, run: &RunId, by: &User) -> Result<(), NotStarted> {
        let refused = |message: String| NotStarted::Refused { message };
        let unavailable = |error: StoreError| NotStarted::Unavailable {
            message: error.to_string(),
        };
        if self.known(run).is_some() {
            return Ok(());
        }
        let store = &self.options.store;
        let record = match runs::read(store, run).await {
            Ok(record) => record,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(refused(error.to_string()));
            }
            Err(error) => return Err(unavailable(error)),
        };
        if record.state != RunState::Ready {
            return Err(refused(format!(
                "run {run} is not ready: what it needs is still being uploaded"
            )));
        }
        let misfits = self.options.executors.misfits(&record.plan);
        if !misfits.is_empty() {
            return Err(refused(misfits.join("\n")));
        }
        let journal = Journal::new(store.clone(), run.clone());
        if journal.read_run_end().await.map_err(unavailable)?.is_some() {
            return Ok(());
        }
        let waiting = self.state().waiting.len();
        if waiting >= self.options.queue {
            return Err(full(waiting));
        }
        // Before it is said to be taken.
        let mark = served::queued(run, record.created);
        let bytes = serde_json::json!({"run": run}).to_string();
        store
            .create_once(&mark, bytes.into_bytes().into(), |_| true)
            .await
            .map_err(unavailable)?;
        if self.enqueue(run, self.options.queue) {
            let now = (self.options.now)();
            audit::note(store, now, &by.name, "start", run.as_str()).await;
            Ok(())
        } else {
            store.delete(&mark).await.map_err(unavailable)?;
            Err(full(self.options.queue))
        }
    }

    fn nudge(&self, run: &RunId) {
        {
            let mut state = self.state();
            if let Some(place) = state.waiting.iter().position(|waiting| waiting == run) {
                let found = state.waiting.remove(place);
                state.urgent.extend(found);
                drop(state);
                self.changed.notify_one();
                return;
            }
        }
        let knocks = self.knocks.lock();
        let mut knocks = knocks.unwrap_or_else(PoisonError::into_inner);
        while knocks.try_join_next().is_some() {}
        if knocks.len() >= KNOCKS {
            // The driver looks at the log every few seconds by itself.
            return;
        }
        let (folder, run) = (self.options.runtime.clone(), run.clone());
        let identity = self.options.store.identity();
        knocks.spawn(async move {
            Lease::knock(&folder, &identity, &run).await;
        });
    }

    fn feed(&self, run: &RunId) -> Option<Feed> {
        self.known(run).map(|(feed, _)| feed)
    }

    async fn check(&self, plan: &Plan) -> Result<Vec<String>, String> {
        Ok(self.options.executors.misfits(plan))
    }

    fn computes(&self) -> Vec<String> {
        self.options.executors.computes()
    }
}

impl<X: Executors> Queue for LocalRuns<X> {
    fn status(&self, run: &RunId) -> Option<Status> {
        let (_, status) = self.known(run)?;
        let status = *status.lock().unwrap_or_else(PoisonError::into_inner);
        Some(status)
    }

    fn place(&self, run: &RunId) -> Option<(usize, usize)> {
        let state = self.state();
        let place = state.waiting.iter().position(|waiting| waiting == run)?;
        Some((place, state.waiting.len()))
    }
}

fn full(waiting: usize) -> NotStarted {
    NotStarted::Unavailable {
        message: format!("{waiting} runs wait already; submit again when some have ended"),
    }
}
