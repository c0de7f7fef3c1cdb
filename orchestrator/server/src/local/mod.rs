//! Drives the runs that a server of one machine took: so many at once, the others in the order
//! in which they came. What was taken stands in the store (`queue/`) before it is said to be
//! taken, so that a server that was killed takes it up again. It decides nothing about a run,
//! and knows nothing of HTTP.

mod drive;
mod nobody;

use crate::access::audit;
use crate::api::{NotStarted, Queue, Reserved, Runs, User};
use crate::idempotency::Turns;
use async_trait::async_trait;
use auria_core::outcome::Status;
use auria_core::plan::Plan;
use auria_core::{Digest, RunId, Timestamp};
use auria_engine::executor::Executor;
use auria_engine::feed::Feed;
use auria_engine::lease::Lease;
use auria_store::runs::{self, RunState};
use auria_store::{ErrorKind, Journal, Store, StoreError, StorePath, served};
use drive::After;
use futures::FutureExt;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

/// How long drivers are given to leave their runs.
const LEAVE: Duration = Duration::from_secs(10);
/// Before a run is tried again whose driver panicked.
const PANICKED: Duration = Duration::from_secs(60);
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
    /// Those of the queue.
    places: Arc<Semaphore>,
    /// One start of a run at a time.
    starts: Turns,
    /// Marks of this server.
    seq: AtomicU64,
}

#[derive(Default)]
struct State {
    /// In the order in which they came.
    waiting: VecDeque<RunId>,
    /// Canceled while they waited: ending them needs no turn.
    urgent: VecDeque<RunId>,
    /// Could not be driven, and until when they are left alone; they have no turn.
    paused: HashMap<RunId, Instant>,
    known: HashMap<RunId, Known>,
    driven: usize,
}

/// A run that waits or is driven.
struct Known {
    feed: Feed,
    status: Arc<Mutex<Status>>,
    /// What stands for it in the store.
    mark: StorePath,
    /// Its place among those that wait.
    place: Reserved,
    /// The last pause after a failure.
    pause: Duration,
    /// Somebody asked to look at its log since its turn began.
    nudged: bool,
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
            places: Arc::new(Semaphore::new(options.queue.min(Semaphore::MAX_PERMITS))),
            starts: Turns::default(),
            seq: AtomicU64::new(0),
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
                let mark = key.location.as_ref();
                tracing::error!(mark, "no mark of the queue: no run is taken up for it");
                continue;
            };
            // One record that cannot be read must not keep the others waiting.
            match self.is_over(&run).await {
                Ok(false) => {
                    taken += usize::from(self.enqueue(&run, key.location, Reserved::default()))
                }
                Ok(true) => {
                    if let Err(error) = store.delete(&key.location).await {
                        tracing::error!(%run, %error, "taking it off the queue");
                    }
                }
                Err(error) => {
                    tracing::error!(%run, %error, "looking whether it has ended; it is tried again");
                    taken += usize::from(self.enqueue(&run, key.location, Reserved::default()));
                }
            }
        }
        Ok(taken)
    }

    async fn is_over(&self, run: &RunId) -> Result<bool, StoreError> {
        let journal = Journal::new(self.options.store.clone(), run.clone());
        Ok(journal.read_run_end().await?.is_some())
    }

    /// Lets `run` wait, once; false where it is known already.
    fn enqueue(&self, run: &RunId, mark: StorePath, place: Reserved) -> bool {
        let mut state = self.state();
        if state.known.contains_key(run) {
            return false;
        }
        let known = Known {
            feed: Feed::new(run.clone()),
            status: Arc::new(Mutex::new(Status::Queued)),
            mark,
            place,
            pause: Duration::ZERO,
            nudged: false,
        };
        state.known.insert(run.clone(), known);
        state.waiting.push_back(run.clone());
        drop(state);
        self.changed.notify_one();
        true
    }

    /// When the next run that was left alone is tried again.
    fn next_due(&self) -> Option<Instant> {
        self.state().paused.values().min().copied()
    }

    /// The next run that may be driven.
    fn next(&self) -> Option<(RunId, bool)> {
        let mut state = self.state();
        let now = Instant::now();
        let due: Vec<RunId> = state
            .paused
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(run, _)| run.clone())
            .collect();
        for run in due {
            state.paused.remove(&run);
            // It had its turn before those that wait now.
            state.waiting.push_front(run);
        }
        let (run, counted) = match state.urgent.pop_front() {
            Some(run) => (run, false),
            None if state.driven >= self.options.at_once => return None,
            None => (state.waiting.pop_front()?, true),
        };
        state.driven += usize::from(counted);
        if let Some(known) = state.known.get_mut(&run) {
            known.place = Reserved::default();
            known.nudged = false;
        }
        Some((run, counted))
    }

    /// Drives runs until [`Self::end`] is called; then the drivers leave, and steps go on.
    pub async fn run(self: Arc<Self>) {
        let mut ends = self.ends.subscribe();
        let mut drives = JoinSet::new();
        while !*ends.borrow_and_update() {
            while let Some((run, counted)) = self.next() {
                drives.spawn(self.clone().turn(run, counted));
            }
            let due = self.next_due();
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = due => {}
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

    /// A run's turn, which is given back however its driver ends.
    async fn turn(self: Arc<Self>, run: RunId, counted: bool) {
        let driven = AssertUnwindSafe(self.drive(&run)).catch_unwind().await;
        let after = driven.unwrap_or_else(|_| {
            tracing::error!(%run, "its driver panicked, which is a fault of this program; again in a while");
            After::Again(PANICKED)
        });
        let mut state = self.state();
        state.driven -= usize::from(counted);
        match (after, state.known.get_mut(&run)) {
            (After::Again(pause), Some(known)) => {
                // Asked for while it was tried: at once, and once.
                let pause = if std::mem::take(&mut known.nudged) {
                    Duration::ZERO
                } else {
                    pause
                };
                state.paused.insert(run, Instant::now() + pause);
            }
            // Those who follow it end with its feed.
            (After::Done, _) | (_, None) => drop(state.known.remove(&run)),
        }
        drop(state);
        self.changed.notify_one();
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

#[async_trait]
impl<X: Executors> Runs for LocalRuns<X> {
    fn reserve(&self) -> Result<Reserved, NotStarted> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Ok(Reserved::one(place)),
            Err(_) => Err(full(self.options.queue)),
        }
    }

    async fn start(&self, run: &RunId, by: &User, place: Reserved) -> Result<(), NotStarted> {
        let refused = |message: String| NotStarted::Refused { message };
        let unavailable = |error: StoreError| NotStarted::Unavailable {
            message: error.to_string(),
        };
        let _alone = self.starts.take(&Digest::of(run.as_str().as_bytes())).await;
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
        if self.is_over(run).await.map_err(unavailable)? {
            return Ok(());
        }
        // Before it is said to be taken; by this machine's clock, whatever the caller's says.
        let now = (self.options.now)();
        let mark = served::queued(run, now, self.seq.fetch_add(1, Ordering::Relaxed));
        let bytes = serde_json::json!({"run": run}).to_string();
        store
            .create_once(&mark, bytes.into_bytes().into(), |_| true)
            .await
            .map_err(unavailable)?;
        self.enqueue(run, mark, place);
        audit::note(store, now, &by.name, "start", run.as_str()).await;
        Ok(())
    }

    async fn note(&self, by: &User, what: &str, run: &RunId) {
        let (store, now) = (&self.options.store, (self.options.now)());
        audit::note(store, now, &by.name, what, run.as_str()).await;
    }

    fn nudge(&self, run: &RunId) {
        {
            let mut state = self.state();
            if let Some(known) = state.known.get_mut(run) {
                known.nudged = true;
            }
            if state.paused.remove(run).is_some() {
                state.urgent.push_back(run.clone());
                self.changed.notify_one();
            } else if let Some(place) = state.waiting.iter().position(|waiting| waiting == run) {
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
        let Some((_, status)) = self.known(run) else {
            // A `submit` or `resume` on this machine may drive it.
            let identity = self.options.store.identity();
            let holder = Lease::holder(&self.options.runtime, &identity, run);
            return holder.map(|_| Status::Running);
        };
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
