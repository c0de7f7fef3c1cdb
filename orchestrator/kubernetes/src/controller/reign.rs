//! The time in which this replica drives: each resource that is there gets a driver, in its
//! turn, and goes when its time has come. The loop itself asks nothing of the cluster but
//! its watch: what changes resources is done beside it (`chores`), so that no slow answer
//! keeps a run waiting.

use super::chores::{self, Chores};
use super::drive::{Drive, Driven};
use super::status::{Note, Writer, pending};
use super::{ControllerOptions, Feeds};
use crate::executor::Kubernetes;
use crate::names;
use crate::resource::PipelineRun;
use auria_core::Timestamp;
use auria_engine::driver::Control;
use auria_store::Store;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::runtime::WatchStreamExt;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{self, AbortHandle, JoinSet};

/// Requests to one driver that may wait: cancel, and cancel again.
const REQUESTS: usize = 8;
/// Drivers beyond their number for runs that are to end.
const CANCELS: usize = 16;
/// How long drivers are given to leave their runs at the end.
const LEAVE: Duration = Duration::from_secs(5);
/// Before a run is driven again whose driver could not go on, at first and at most.
const AGAIN_MS: (u64, u64) = (1_000, 60_000);
/// Before a run is driven again that someone else took over.
const TAKEN_MS: u64 = 60_000;

/// What is known of one resource.
struct Known {
    resource: PipelineRun,
    driver: Option<Active>,
    /// It is in the queue.
    waits: bool,
    /// Its resource is being changed.
    busy: bool,
    /// Something happened meanwhile.
    missed: bool,
    /// It is a second one of its run.
    refused: bool,
    /// When something is to be done for it.
    due: Option<Timestamp>,
    /// How often its driver could not go on, one after the other.
    failures: u32,
    /// Its end is known to stand in the store.
    ended: bool,
}

struct Active {
    control: mpsc::Sender<Control>,
    abort: AbortHandle,
    asked_to_cancel: bool,
}

/// Whose a driver is. The resource may be gone before its driver is, and another be there of
/// its name.
struct Task {
    name: String,
    run: String,
}

/// In which order resources of one run came; the first has it.
type Rank = (i64, bool, String);

/// The time in which this replica drives.
pub(super) struct Reign {
    runs: Api<PipelineRun>,
    recorder: Recorder,
    options: ControllerOptions,
    store: Store,
    executor: Arc<Kubernetes>,
    feeds: Feeds,
    known: BTreeMap<String, Known>,
    /// The resources of each run: one, where nobody made a second.
    of_run: HashMap<String, BTreeSet<Rank>>,
    waiting: VecDeque<String>,
    drivers: JoinSet<Driven>,
    /// Whose they are.
    tasks: HashMap<task::Id, Task>,
    chores: Chores,
    /// All that there was has been seen.
    listed: bool,
}

impl Reign {
    pub(super) fn new(
        client: Client,
        options: ControllerOptions,
        store: Store,
        executor: Kubernetes,
        feeds: Feeds,
    ) -> Self {
        let reporter = Reporter {
            controller: format!("{}/controller", names::GROUP),
            instance: Some(options.identity.clone()),
        };
        Self {
            runs: Api::namespaced(client.clone(), &options.executor.namespace),
            recorder: Recorder::new(client, reporter),
            options,
            store,
            executor: Arc::new(executor),
            feeds,
            known: BTreeMap::new(),
            of_run: HashMap::new(),
            waiting: VecDeque::new(),
            drivers: JoinSet::new(),
            tasks: HashMap::new(),
            chores: Chores::default(),
            listed: false,
        }
    }

    fn now(&self) -> Timestamp {
        (self.options.executor.now)()
    }

    /// Drives for as long as it is polled.
    pub(super) async fn go_on(&mut self) {
        let events = watcher::watcher(self.runs.clone(), watcher::Config::default());
        let mut events = pin!(events.default_backoff());
        let mut listed: HashSet<String> = HashSet::new();
        loop {
            let now = self.now();
            let due = self.known.values().filter_map(|known| known.due).min();
            let due = due.map(|at| Duration::from_millis(at.millis_since(now)));
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(Event::Init)) => listed.clear(),
                    Some(Ok(Event::InitApply(resource))) => {
                        listed.extend(resource.metadata.name.clone());
                        self.seen(resource);
                    }
                    Some(Ok(Event::InitDone)) => {
                        let gone: Vec<String> = self
                            .known
                            .keys()
                            .filter(|name| !listed.contains(*name))
                            .cloned()
                            .collect();
                        for name in gone {
                            self.gone(&name);
                        }
                        self.listed = true;
                    }
                    Some(Ok(Event::Apply(resource))) => self.seen(resource),
                    Some(Ok(Event::Delete(resource))) => {
                        self.gone(&resource.metadata.name.unwrap_or_default());
                    }
                    Some(Err(error)) => {
                        tracing::warn!(error = crate::chain(&error), "watching runs");
                    }
                    None => return,
                },
                Some(done) = self.drivers.join_next_with_id() => match done {
                    Ok((task, driven)) => self.driven(task, driven),
                    Err(error) => {
                        // By a defect: its run is driven again.
                        tracing::error!("a driver has panicked: {error}");
                        let why = "its driver has panicked".to_owned();
                        self.driven(error.id(), Driven::Failed(why));
                    }
                },
                Some((name, done)) = self.chores.next() => self.changed(&name, done),
                () = sleep(due) => self.look(),
            }
            self.begin_next();
        }
    }

    /// A resource is there or has changed.
    fn seen(&mut self, resource: PipelineRun) {
        let Some(name) = resource.metadata.name.clone() else {
            return;
        };
        let before = self.known.get(&name).map(|known| &known.resource);
        let is_other = before.is_some_and(|before| {
            // Another one of this name, or made to be of another run.
            before.metadata.uid != resource.metadata.uid || before.spec.run != resource.spec.run
        });
        if is_other {
            self.gone(&name);
        }
        let ended = resource.has_ended();
        let ranks = self.of_run.entry(resource.spec.run.clone()).or_default();
        ranks.insert(rank(&resource, &name));
        let known = self.known.entry(name.clone()).or_insert_with(|| Known {
            resource: resource.clone(),
            driver: None,
            waits: false,
            busy: false,
            missed: false,
            refused: resource.is_refused(),
            due: None,
            failures: 0,
            ended,
        });
        known.resource = resource;
        known.ended |= ended;
        self.attend(&name);
    }

    fn look(&mut self) {
        let now = self.now();
        let due: Vec<String> = self
            .known
            .iter_mut()
            .filter(|(_, known)| known.due.is_some_and(|at| at <= now))
            .map(|(name, known)| {
                known.due = None;
                name.clone()
            })
            .collect();
        for name in due {
            self.attend(&name);
        }
    }

    /// Does what a resource asks for.
    fn attend(&mut self, name: &str) {
        let now = self.now();
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        let deleting = known.resource.metadata.deletion_timestamp.is_some();
        let cancels = deleting || known.resource.spec.cancel;
        if known.busy {
            known.missed = true;
            return;
        }
        if known.ended {
            self.after_its_end(name);
            return;
        }
        if let Some(active) = &mut known.driver {
            if cancels && !active.asked_to_cancel {
                let by = if deleting {
                    "the deletion of its PipelineRun"
                } else {
                    "its PipelineRun"
                };
                active.asked_to_cancel = active
                    .control
                    .try_send(Control::Cancel { by: by.to_owned() })
                    .is_ok();
            }
            return;
        }
        if !known.waits && known.due.is_none_or(|at| at <= now) {
            known.waits = true;
            // One that is to end does not wait for those that are to begin.
            if cancels {
                self.waiting.push_front(name.to_owned());
            } else {
                self.waiting.push_back(name.to_owned());
            }
        }
    }

    /// Lets a resource go whose run has ended, or removes it when its time has come.
    fn after_its_end(&mut self, name: &str) {
        let now = self.now();
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        if known.resource.metadata.deletion_timestamp.is_some() {
            if let Some(patch) = chores::without_finalizer(&known.resource) {
                let work = chores::let_go(self.runs.clone(), name.to_owned(), patch);
                self.change(name, work);
            }
            return;
        }
        match known.resource.expires() {
            Some(at) if at <= now => {
                let uid = known.resource.metadata.uid.clone();
                let work = chores::remove(self.runs.clone(), name.to_owned(), uid);
                self.change(name, work);
            }
            at => known.due = at,
        }
    }

    /// Another resource of the same run, which is driven or came first.
    fn holder_of_its_run(&self, name: &str) -> Option<String> {
        let known = self.known.get(name)?;
        let ranks = self.of_run.get(&known.resource.spec.run)?;
        let others = || {
            ranks.iter().map(|(_, _, other)| other).filter(|other| {
                let other = self.known.get(*other);
                other.is_some_and(|other| !other.refused)
            })
        };
        let driven = others().find(|other| {
            *other != name && self.known.get(*other).is_some_and(|o| o.driver.is_some())
        });
        let first = driven.or_else(|| others().next())?;
        (first != name).then(|| first.clone())
    }

    /// Says of a second resource of a run that it will not be driven.
    fn refuse(&mut self, name: &str, holder: &str) {
        let (Some(known), Some(writer)) = (self.known.get(name), self.writer(name)) else {
            return;
        };
        let why = format!(
            "the run {} is that of the PipelineRun {holder}: delete this one",
            known.resource.spec.run
        );
        let ended = self.now();
        self.change(name, async move {
            writer.refuse(&why, ended).await;
            true
        });
        if let Some(known) = self.known.get_mut(name)
            && known.busy
        {
            (known.ended, known.refused) = (true, true);
        }
    }

    /// Changes a resource beside the loop; says that it is to be looked at again where too
    /// much is being changed.
    fn change(&mut self, name: &str, work: impl Future<Output = bool> + Send + 'static) {
        let now = self.now();
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        if self.chores.begin(name, work) {
            known.busy = true;
        } else {
            known.due = Some(now.plus_millis(AGAIN_MS.0));
        }
    }

    /// A change of a resource has come back.
    fn changed(&mut self, name: &str, done: bool) {
        let again = self.now().plus_millis(AGAIN_MS.0);
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        known.busy = false;
        let missed = std::mem::take(&mut known.missed);
        if !done {
            known.due = Some(again);
        } else if missed {
            self.attend(name);
        }
        // Else the watch tells what has become of it.
    }

    /// Starts drivers while there is room.
    fn begin_next(&mut self) {
        // Which of two resources of a run is the first is known once all are.
        while self.listed
            && let Some(name) = self.waiting.front()
        {
            let cancels = self.known.get(name).is_some_and(|known| {
                known.resource.spec.cancel || known.resource.metadata.deletion_timestamp.is_some()
            });
            let most = self.options.at_once + if cancels { CANCELS } else { 0 };
            if self.drivers.len() >= most {
                return;
            }
            if let Some(name) = self.waiting.pop_front() {
                self.begin(&name);
            }
        }
    }

    fn begin(&mut self, name: &str) {
        let holder = self.holder_of_its_run(name);
        let Some(writer) = self.writer(name) else {
            return;
        };
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        known.waits = false;
        if known.driver.is_some() || known.ended {
            return;
        }
        if let Some(holder) = holder {
            self.refuse(name, &holder);
            return;
        }
        let resource = &known.resource;
        // The driver of a resource that is gone may still be at it: two in one process would
        // take its feed and its Pods' owner from each other. It is attended to when that ends.
        if self
            .tasks
            .values()
            .any(|task| task.run == resource.spec.run)
        {
            return;
        }
        let deleting = resource.metadata.deletion_timestamp.is_some();
        let cancels = deleting || resource.spec.cancel;
        let (control, asked) = mpsc::channel(REQUESTS);
        if cancels {
            let by = "its PipelineRun".to_owned();
            let _ = control.try_send(Control::Cancel { by });
        }
        let drive = Drive {
            run: resource.spec.run.clone(),
            owner: owner(resource),
            has_finalizer: chores::has_finalizer(resource),
            deleting,
            writer,
            store: self.store.clone(),
            executor: self.executor.clone(),
            limits: self.options.limits.clone(),
            identity: self.options.identity.clone(),
            feeds: self.feeds.clone(),
            now: self.options.executor.now,
        };
        let task = Task {
            name: name.to_owned(),
            run: drive.run.clone(),
        };
        let abort = self.drivers.spawn(drive.go(asked));
        self.tasks.insert(abort.id(), task);
        known.driver = Some(Active {
            control,
            abort,
            asked_to_cancel: cancels,
        });
    }

    /// A driver has come back.
    fn driven(&mut self, task: task::Id, driven: Driven) {
        let now = self.now();
        let Some(Task { name, run }) = self.tasks.remove(&task) else {
            return;
        };
        let name = name.as_str();
        let is_its_own = |known: &&mut Known| {
            let active = known.driver.as_ref();
            active.is_some_and(|active| active.abort.id() == task)
        };
        let Some(known) = self.known.get_mut(name).filter(is_its_own) else {
            // Of a resource that is gone: who has the run now waited for it.
            let others = self.of_run.get(&run).into_iter().flatten();
            let others: Vec<String> = others.map(|(_, _, other)| other.clone()).collect();
            for other in others {
                self.attend(&other);
            }
            return;
        };
        known.driver = None;
        match driven {
            Driven::Ended => {
                known.ended = true;
                known.failures = 0;
            }
            Driven::TakenOver => known.due = Some(now.plus_millis(TAKEN_MS)),
            Driven::Left => {}
            Driven::Failed(why) => {
                let doubled = AGAIN_MS.0.saturating_mul(1 << known.failures.min(16));
                known.failures = known.failures.saturating_add(1);
                known.due = Some(now.plus_millis(doubled.min(AGAIN_MS.1)));
                tracing::warn!(run = name, "could not go on: {why}");
                if known.failures == 1 {
                    self.tell_failure(name, why);
                }
            }
        }
        self.attend(name);
    }

    /// Says of a run that it does not go on at this moment.
    fn tell_failure(&mut self, name: &str, why: String) {
        let (Some(known), Some(writer)) = (self.known.get(name), self.writer(name)) else {
            return;
        };
        let status = known.resource.status.as_ref();
        let is_pending =
            status.is_none_or(|status| status.phase.is_empty() || status.phase == "Pending");
        let note = Note {
            warning: true,
            reason: "CannotGoOn",
            text: why.clone(),
        };
        let work = async move {
            writer.publish(note).await;
            if is_pending {
                writer.write(pending(&why)).await;
            }
            true
        };
        // Of no resource that waits for it. Where too much is being told, the next try says it.
        let _ = self.chores.begin("", work);
    }

    fn writer(&self, name: &str) -> Option<Writer> {
        let known = self.known.get(name)?;
        Some(Writer {
            runs: self.runs.clone(),
            name: name.to_owned(),
            generation: known.resource.metadata.generation,
            reference: known.resource.object_ref(&()),
            recorder: self.recorder.clone(),
        })
    }

    /// A resource is gone, though its finalizer held it: someone insisted.
    fn gone(&mut self, name: &str) {
        let Some(known) = self.known.remove(name) else {
            return;
        };
        let run = &known.resource.spec.run;
        if let Some(ranks) = self.of_run.get_mut(run) {
            ranks.retain(|(_, _, other)| other != name);
            if ranks.is_empty() {
                self.of_run.remove(run);
            }
        }
        if let Some(active) = known.driver {
            // It cancels what runs; there is nothing left to show it on.
            let by = "the deletion of its PipelineRun".to_owned();
            let _ = active.control.try_send(Control::Cancel { by });
        }
    }

    /// Leaves all runs; Pods go on. With `for_good`, the namespace is asked whether it goes
    /// too: then no other controller would ever let resources go.
    pub(super) async fn leave(mut self, for_good: bool) {
        for known in self.known.values() {
            if let Some(active) = &known.driver {
                let _ = active.control.try_send(Control::Detach);
            }
        }
        let left = async { while self.drivers.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVE, left).await.is_err() {
            for known in self.known.values() {
                if let Some(active) = &known.driver {
                    active.abort.abort();
                }
            }
        }
        self.drivers.shutdown().await;
        self.chores.shutdown().await;
        if for_good && chores::namespace_ends(&self.runs).await {
            tracing::info!("the namespace is being deleted: its PipelineRuns are let go");
            let resources = self.known.into_values().map(|known| known.resource);
            chores::let_all_go(&self.runs, resources).await;
        }
    }
}

async fn sleep(due: Option<Duration>) {
    match due {
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
}

/// The older one first; of two of the same second the one that is called as its run is.
fn rank(resource: &PipelineRun, name: &str) -> Rank {
    let created = resource.metadata.creation_timestamp.as_ref();
    let created = created.map_or(0, |at| at.0.as_millisecond());
    let run = resource.spec.run.parse();
    let is_its_own = run.is_ok_and(|run| names::resource_name(&run) == name);
    (created, !is_its_own, name.to_owned())
}

/// What the Pods of a run belong to.
fn owner(resource: &PipelineRun) -> Option<OwnerReference> {
    resource.controller_owner_ref(&())
}
