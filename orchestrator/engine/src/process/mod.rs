//! The executor `process`: each attempt is a launcher process of its own on this
//! machine, which goes on when its orchestrator dies and is found again by the next
//! one. It waits for room on the machine, starts launchers, listens to them, and
//! cleans up after those that were killed. It gives no isolation.

mod born;
mod follow;
mod hub;
mod launch;
pub mod slots;
mod warm;

pub use launch::LauncherCommand;
pub use warm::WarmOptions;

use crate::docker::leftovers;
use crate::executor::{AttemptEvent, Executor, ListError, StartError, StopError, WatchError};
use crate::machine::Machine;
use auria_core::plan::Environment;
use auria_core::run::AttemptNews;
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, RunId};
use auria_launcher::LaunchOptions;
use auria_launcher::runtime::{AttemptFolder, LAUNCH, RuntimeError, RuntimeRoot, TREE};
use auria_launcher::tree::Tree;
use auria_store::Store;
use born::Nursery;
use futures::stream::{BoxStream, StreamExt};
use hub::{Hub, StopOrder};
use slots::{Need, Room, Slots};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use warm::Warm;

/// How long an attempt lets later ones pass that need less; then they wait too.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a dead launcher left to be read is kept this long.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often it is looked for dead launchers that nobody follows.
const CLEANED_EVERY: Duration = Duration::from_secs(60);

/// What the executor works with.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// Where the runs are, for launchers and for what a dead one left there.
    pub store: Store,
    /// What the processes of this user share.
    pub runtime: RuntimeRoot,
    /// How a launcher is started.
    pub launcher: LauncherCommand,
    /// What this machine has.
    pub machine: Machine,
    /// Where work folders are made; on a disk with room for a step's data.
    pub work_root: PathBuf,
    /// Put before every command's PATH: the folder of this program.
    pub path: Vec<PathBuf>,
    /// How long launchers ask a store again that does not answer.
    pub store_patience: Duration,
}

/// The engine beside whose containers launchers stand, for the executor `docker`.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    /// Its address.
    pub(crate) address: String,
    /// What every container sees of this host beside its own work folder.
    pub(crate) mounts: Vec<PathBuf>,
}

/// The executor `process`. When it is dropped, launchers go on; what still waits
/// for room is forgotten.
#[derive(Debug)]
pub struct ProcessExecutor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: ProcessOptions,
    beside: Option<Beside>,
    warm: Option<Warm>,
    this_program: PathBuf,
    slots: Arc<Slots>,
    nursery: Nursery,
    hub: Hub,
    queue: Mutex<VecDeque<Waiting>>,
    /// The queue changed, or someone in it is to stop.
    changed: Notify,
    tasks: Mutex<JoinSet<()>>,
}

/// An attempt that waits for room.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    need: Need,
    stops: watch::Receiver<Option<StopOrder>>,
    since: Instant,
    told: bool,
}

impl ProcessExecutor {
    /// An executor on this machine. Begins to clean up what launchers left that were
    /// killed. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// Where the runtime folder cannot be used.
    pub fn new(options: ProcessOptions) -> Result<Self, RuntimeError> {
        Self::beside(options, None)
    }

    /// As [`ProcessExecutor::new`], and keeps the programs of steps that say
    /// `keep_warm: process`, until it is dropped.
    ///
    /// # Errors
    /// Where the runtime folder cannot be used.
    pub fn keeping_warm(options: ProcessOptions, warm: WarmOptions) -> Result<Self, RuntimeError> {
        let path = options.runtime.path().to_owned();
        let warm =
            Warm::open(&path, warm).map_err(|source| RuntimeError::Folder { path, source })?;
        Self::made(options, None, Some(warm))
    }

    pub(crate) fn beside(
        options: ProcessOptions,
        beside: Option<Beside>,
    ) -> Result<Self, RuntimeError> {
        Self::made(options, beside, None)
    }

    fn made(
        options: ProcessOptions,
        beside: Option<Beside>,
        warm: Option<Warm>,
    ) -> Result<Self, RuntimeError> {
        let folder = options.runtime.path().to_owned();
        let slots = Slots::open(options.machine.clone(), &folder).map_err(|source| {
            RuntimeError::Folder {
                path: folder,
                source,
            }
        })?;
        let inner = Arc::new(Inner {
            options,
            beside,
            warm,
            this_program: std::env::current_exe().unwrap_or_default(),
            slots: Arc::new(slots),
            nursery: Nursery::default(),
            hub: Hub::default(),
            queue: Mutex::default(),
            changed: Notify::new(),
            tasks: Mutex::default(),
        });
        inner.spawn(schedule(inner.clone()));
        inner.spawn(clean(inner.clone()));
        Ok(Self { inner })
    }

    /// What this executor divides among its attempts.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.inner.options.machine
    }

    /// Lets an attempt wait for room, once; one that runs already is listened to.
    pub(crate) fn queue(&self, ticket: &Ticket) -> Result<(), StartError> {
        let Ticket {
            attempt, resources, ..
        } = ticket;
        let inner = &self.inner;
        if let Err(refusal) = inner.options.machine.check(resources) {
            return Err(StartError::Refused {
                message: refusal.to_string(),
            });
        }
        let folder = inner.folder(attempt);
        if folder.is_held().unwrap_or(false) && folder.socket().exists() {
            inner.attach(attempt, folder);
            return Ok(());
        }
        if let Some(stops) = inner.hub.begin(attempt, true) {
            let need = Need::of(resources, &inner.options.machine);
            let waiting = Waiting {
                ticket: ticket.clone(),
                need,
                stops,
                since: Instant::now(),
                told: false,
            };
            inner.queue().push_back(waiting);
            inner.changed.notify_one();
        }
        Ok(())
    }

    /// Runs `task` until this executor is dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.spawn(task);
    }
}

impl Drop for ProcessExecutor {
    fn drop(&mut self) {
        // The tasks hold what holds them.
        self.inner.tasks().abort_all();
    }
}

impl Inner {
    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn folder(&self, attempt: &AttemptId) -> AttemptFolder {
        self.options
            .runtime
            .attempt(&self.options.store.identity(), attempt)
    }

    /// Follows an attempt that some launcher has or had.
    fn attach(self: &Arc<Self>, attempt: &AttemptId, folder: AttemptFolder) {
        if let Some(stops) = self.hub.begin(attempt, false) {
            self.spawn(follow::follow(
                self.clone(),
                attempt.clone(),
                folder,
                stops,
                None,
            ));
        }
    }

    /// The runtime folders of `run`, running or not.
    fn folders_of(&self, run: &RunId) -> Result<Vec<(AttemptId, AttemptFolder)>, RuntimeError> {
        let store = self.options.store.identity();
        let folders = self
            .options
            .runtime
            .attempts()?
            .into_iter()
            .filter_map(|folder| {
                // One that has just ended takes its folder with it.
                let options: LaunchOptions = folder.read(LAUNCH).ok()??;
                (options.identity == store && options.ticket.attempt.run == *run)
                    .then_some((options.ticket.attempt, folder))
            });
        Ok(folders.collect())
    }
}

#[async_trait::async_trait]
impl Executor for ProcessExecutor {
    async fn start(&self, ticket: &Ticket) -> Result<(), StartError> {
        let Ticket {
            environment,
            network,
            // Looked at where it waits for room.
            attempt: _,
            resources: _,
            // Carried out by the launcher, which is all of its instances.
            distribution: _,
            version: _,
            claims_before: _,
            pipeline: _,
            experiment: _,
            command: _,
            code: _,
            variables: _,
            inputs: _,
            outputs: _,
            timeout_ms: _,
            grace_ms: _,
            publish_grace_ms: _,
            restore: _,
            key: _,
            // Carried out by the launcher, where this executor keeps programs warm.
            keep_warm: _,
            // Resolved to resources before.
            compute: _,
        } = ticket;
        let refuse = |message: String| Err(StartError::Refused { message });
        if let Environment::Image { image, .. } = environment {
            return refuse(format!(
                "the target `process` runs no containers, and the step wants the image `{image}`"
            ));
        }
        if *network == auria_core::plan::Network::None {
            return refuse(
                "the target `process` gives no isolation, and the step wants `network: none`"
                    .to_owned(),
            );
        }
        self.queue(ticket)
    }

    async fn stop(&self, attempt: &AttemptId, grace: Duration) -> Result<(), StopError> {
        let inner = &self.inner;
        if !inner.hub.stop(attempt, grace) {
            // Another orchestrator's, or nobody's: then what it left is told.
            inner.attach(attempt, inner.folder(attempt));
            inner.hub.stop(attempt, grace);
        }
        inner.changed.notify_one();
        Ok(())
    }

    async fn list(&self, run: &RunId) -> Result<Vec<AttemptId>, ListError> {
        let failed = |error: &dyn std::fmt::Display| ListError {
            run: run.clone(),
            message: error.to_string(),
        };
        let (inner, of_run) = (self.inner.clone(), run.clone());
        let found = tokio::task::spawn_blocking(move || {
            let mut live = inner.hub.waiting(&of_run);
            for (attempt, folder) in inner.folders_of(&of_run)? {
                if folder.is_held()? && !live.contains(&attempt) {
                    live.push(attempt);
                }
            }
            live.sort();
            Ok::<_, RuntimeError>(live)
        });
        found
            .await
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))
    }

    fn watch(&self, run: &RunId) -> BoxStream<'static, Result<AttemptEvent, WatchError>> {
        let (known, sender, receiver) = self.inner.hub.watch(run);
        let (inner, run) = (self.inner.clone(), run.clone());
        self.inner.spawn(async move {
            let (finder, of_run) = (inner.clone(), run.clone());
            match tokio::task::spawn_blocking(move || finder.folders_of(&of_run)).await {
                Ok(Ok(folders)) => {
                    for (attempt, folder) in folders {
                        inner.attach(&attempt, folder);
                    }
                }
                Ok(Err(error)) => {
                    let _ = sender
                        .send(Err(WatchError {
                            run,
                            message: error.to_string(),
                        }))
                        .await;
                }
                Err(_aborted) => {}
            }
        });
        futures::stream::iter(known.into_iter().map(Ok))
            .chain(ReceiverStream::new(receiver))
            .boxed()
    }
}

/// Gives room to those who wait, in their order, for ever.
async fn schedule(inner: Arc<Inner>) {
    loop {
        let waiting = std::mem::take(&mut *inner.queue());
        let mut left = VecDeque::new();
        // What found no room in this round; who needs as much is not tried.
        let mut short: Vec<Need> = Vec::new();
        let mut closed = false;
        for waiting in waiting {
            let attempt = waiting.ticket.attempt.clone();
            if waiting.stops.borrow().is_some() {
                let gone = AttemptNews::Gone {
                    claim: None,
                    end: None,
                    checkpoint: None,
                };
                inner.hub.news(&attempt, gone).await;
                continue;
            }
            let room = if closed || short.iter().any(|need| waiting.need.is_at_least(need)) {
                Room::Short("waits for room on this machine".to_owned())
            } else {
                let (slots, need) = (inner.slots.clone(), waiting.need.clone());
                let taken = tokio::task::spawn_blocking(move || slots.take(&need)).await;
                taken
                    .unwrap_or_else(|error| Err(std::io::Error::other(error)))
                    .unwrap_or_else(|error| {
                        Room::Short(format!("the machine's slots cannot be read: {error}"))
                    })
            };
            match room {
                Room::Found(share) => follow::begin(&inner, waiting, share).await,
                Room::Short(why) => {
                    closed |= waiting.since.elapsed() > PATIENCE;
                    short.push(waiting.need.clone());
                    if !waiting.told {
                        inner.hub.news(&attempt, AttemptNews::Waiting { why }).await;
                    }
                    left.push_back(Waiting {
                        told: true,
                        ..waiting
                    });
                }
            }
        }
        let idle = {
            let mut queue = inner.queue();
            // What came meanwhile stands behind.
            left.append(&mut queue);
            *queue = left;
            queue.is_empty()
        };
        tokio::select! {
            () = inner.changed.notified() => {}
            () = inner.slots.freed(), if !idle => {}
        }
    }
}

/// Cleans up after dead launchers now and then, for ever: also after those that die
/// later and that nobody follows.
async fn clean(inner: Arc<Inner>) {
    loop {
        let cleaner = inner.clone();
        let cleaned = tokio::task::spawn_blocking(move || clean_stale(&cleaner.options)).await;
        if let Ok(Err(error)) = cleaned {
            tracing::warn!("what dead launchers left is not cleaned up: {error}");
        }
        tokio::time::sleep(CLEANED_EVERY).await;
    }
}

/// Ends what launchers left that were killed, and forgets what is old.
fn clean_stale(options: &ProcessOptions) -> Result<(), RuntimeError> {
    for folder in options.runtime.attempts()? {
        let Some(lock) = folder.try_lock()? else {
            continue;
        };
        if !end_leftovers(&folder) {
            // Its engine is away; what the folder says of it is needed again.
            continue;
        }
        let age = folder
            .path()
            .metadata()
            .and_then(|found| found.modified())
            .ok()
            .and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) {
            folder.remove()?;
        }
        drop(lock);
    }
    options.runtime.sweep()
}

/// Ends the container or the processes of an attempt whose launcher is gone, and
/// removes its work folder; whether all of it is gone. The caller holds its lock.
/// Blocks; needs a tokio runtime.
fn end_leftovers(folder: &AttemptFolder) -> bool {
    let options = folder.read::<LaunchOptions>(LAUNCH).ok().flatten();
    let contained = options.as_ref().is_none_or(|options| {
        options
            .engine
            .as_ref()
            .is_none_or(|engine| leftovers::remove(engine, folder))
    });
    let tree = folder
        .read::<Tree>(TREE)
        .ok()
        .flatten()
        .unwrap_or_else(|| Tree::of_key(&folder.key()));
    if let Err(left) = tree.end_leftovers() {
        tracing::warn!("processes of a dead launcher do not end: {left:?}");
    }
    if let Some(options) = options
        && let Err(error) = auria_launcher::remove_work(&options.work_folder(folder))
    {
        tracing::warn!("a dead launcher's work folder is left: {error}");
    }
    contained
}
