//! The controller: drives the run of every `PipelineRun` of a namespace, with the real
//! driver and the executor `kubernetes`. Of several replicas, the one that holds the Lease
//! drives; any can serve what the store holds. It watches and never polls. Killed at any
//! moment, it leaves Pods running, and the next one goes on from the store.

mod drive;
mod leader;
mod status;

pub use leader::LeaseTiming;

use crate::executor::{Kubernetes, KubernetesOptions, Relay, called};
use crate::names::{self, MANAGER};
use crate::resource::{FINALIZER, PipelineRun};
use auria_core::run::Limits;
use auria_core::{RunId, Timestamp};
use auria_engine::driver::Control;
use auria_engine::feed::Feed;
use auria_engine::relay::TicketIssuer;
use auria_store::Store;
use drive::{Drive, Driven};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::WatchStreamExt;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use leader::Leader;
use serde_json::json;
use status::{Note, Writer, pending};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

/// Requests to one driver that may wait: cancel, and cancel again.
const REQUESTS: usize = 8;
/// How long drivers are given to leave their runs at the end.
const LEAVE: Duration = Duration::from_secs(5);
/// Before a run is driven again whose driver could not go on, at first and at most.
const AGAIN_MS: (u64, u64) = (1_000, 60_000);
/// Before a run is driven again that someone else took over.
const TAKEN_MS: u64 = 60_000;

/// What the controller works with.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// This replica, for people and for the Lease: its Pod's name.
    pub identity: String,
    /// The Lease.
    pub lease: String,
    /// How it is held.
    pub timing: LeaseTiming,
    /// Runs that are driven at once; others wait in their order.
    pub at_once: usize,
    /// What bounds each run.
    pub limits: Limits,
    /// Where and how Pods are made.
    pub executor: KubernetesOptions,
}

/// The feeds of the runs that this replica drives, for who serves them. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Feeds(Arc<Mutex<HashMap<RunId, Feed>>>);

impl Feeds {
    /// The feed of `run`, where it is driven here.
    #[must_use]
    pub fn get(&self, run: &RunId) -> Option<Feed> {
        self.lock().get(run).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Feed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one replica until `shutdown` turns true: then drivers leave their runs, whose
/// Pods go on, and the Lease is given up. `relay` is told by the broker, and gives way to
/// nobody: without a Lease it is told and not listened to.
pub async fn run(
    client: Client,
    options: ControllerOptions,
    store: Store,
    issuer: Arc<dyn TicketIssuer>,
    relay: Relay,
    feeds: Feeds,
    mut shutdown: watch::Receiver<bool>,
) {
    let leader = Leader::new(
        client.clone(),
        &options.executor.namespace,
        &options.lease,
        &options.identity,
        options.timing,
    );
    loop {
        let lease = tokio::select! {
            lease = leader.acquire() => lease,
            () = turned(&mut shutdown) => return,
        };
        tracing::info!(lease = options.lease, "drives");
        let executor = Kubernetes::new(
            client.clone(),
            options.executor.clone(),
            issuer.clone(),
            relay.clone(),
        );
        let mut reign = Reign {
            client: client.clone(),
            runs: Api::namespaced(client.clone(), &options.executor.namespace),
            recorder: Recorder::new(
                client.clone(),
                Reporter {
                    controller: format!("{}/controller", names::GROUP),
                    instance: Some(options.identity.clone()),
                },
            ),
            options: options.clone(),
            store: store.clone(),
            executor: Arc::new(executor),
            feeds: feeds.clone(),
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            drivers: JoinSet::new(),
        };
        let over = tokio::select! {
            () = reign.go_on() => "the watch has ended".to_owned(),
            why = leader.keep(lease) => why,
            () = turned(&mut shutdown) => String::new(),
        };
        reign.leave().await;
        if *shutdown.borrow() {
            leader.release().await;
            return;
        }
        tracing::warn!(lease = options.lease, "does not drive any more: {over}");
    }
}

async fn turned(shutdown: &mut watch::Receiver<bool>) {
    // Who cannot say it any more has gone.
    let _ = shutdown.wait_for(|down| *down).await;
}

/// What is known of one resource.
struct Known {
    resource: PipelineRun,
    driver: Option<Active>,
    /// It is in the queue.
    waits: bool,
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

/// The time in which this replica drives.
struct Reign {
    client: Client,
    runs: Api<PipelineRun>,
    recorder: Recorder,
    options: ControllerOptions,
    store: Store,
    executor: Arc<Kubernetes>,
    feeds: Feeds,
    known: BTreeMap<String, Known>,
    waiting: VecDeque<String>,
    drivers: JoinSet<(String, Driven)>,
}

impl Reign {
    fn now(&self) -> Timestamp {
        (self.options.executor.now)()
    }

    /// Drives for as long as it is polled.
    async fn go_on(&mut self) {
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
                        self.seen(resource).await;
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
                    }
                    Some(Ok(Event::Apply(resource))) => self.seen(resource).await,
                    Some(Ok(Event::Delete(resource))) => {
                        self.gone(&resource.metadata.name.unwrap_or_default());
                    }
                    Some(Err(error)) => {
                        tracing::warn!(error = crate::chain(&error), "watching runs");
                    }
                    None => return,
                },
                Some(done) = self.drivers.join_next() => match done {
                    Ok((name, driven)) => self.driven(&name, driven).await,
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => {
                        tracing::error!("a driver has panicked: {error}");
                        self.panicked().await;
                    }
                },
                () = sleep(due) => self.look().await,
            }
            self.begin_next();
        }
    }

    /// A resource is there or has changed.
    async fn seen(&mut self, resource: PipelineRun) {
        let Some(name) = resource.metadata.name.clone() else {
            return;
        };
        let ended = resource.has_ended();
        let known = self.known.entry(name.clone()).or_insert_with(|| Known {
            resource: resource.clone(),
            driver: None,
            waits: false,
            due: None,
            failures: 0,
            ended,
        });
        known.resource = resource;
        known.ended |= ended;
        self.attend(&name).await;
    }

    async fn look(&mut self) {
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
            self.attend(&name).await;
        }
    }

    /// Does what a resource asks for.
    async fn attend(&mut self, name: &str) {
        let now = self.now();
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        let resource = &known.resource;
        let deleting = resource.metadata.deletion_timestamp.is_some();
        if known.ended {
            if deleting {
                self.let_go(name).await;
                return;
            }
            match resource.expires() {
                Some(at) if at <= now => {
                    let params = DeleteParams::default().preconditions(Preconditions {
                        uid: resource.metadata.uid.clone(),
                        resource_version: None,
                    });
                    if let Err(failed) = called(self.runs.delete(name, &params)).await {
                        tracing::warn!(run = name, error = failed.message, "removing a resource");
                        if let Some(known) = self.known.get_mut(name) {
                            known.due = Some(now.plus_millis(AGAIN_MS.1));
                        }
                    }
                }
                at => known.due = at,
            }
            return;
        }
        let cancels = deleting || resource.spec.cancel;
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
            self.waiting.push_back(name.to_owned());
        }
    }

    /// Starts drivers while there is room.
    fn begin_next(&mut self) {
        while self.drivers.len() < self.options.at_once
            && let Some(name) = self.waiting.pop_front()
        {
            self.begin(&name);
        }
    }

    fn begin(&mut self, name: &str) {
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        known.waits = false;
        if known.driver.is_some() || known.ended {
            return;
        }
        let resource = &known.resource;
        let writer = Writer {
            runs: self.runs.clone(),
            name: name.to_owned(),
            generation: resource.metadata.generation,
            reference: resource.object_ref(&()),
            recorder: self.recorder.clone(),
        };
        let cancels = resource.metadata.deletion_timestamp.is_some() || resource.spec.cancel;
        let (control, asked) = mpsc::channel(REQUESTS);
        if cancels {
            let by = "its PipelineRun".to_owned();
            let _ = control.try_send(Control::Cancel { by });
        }
        let drive = Drive {
            run: resource.spec.run.clone(),
            owner: owner(resource),
            has_finalizer: resource
                .metadata
                .finalizers
                .iter()
                .flatten()
                .any(|finalizer| finalizer == FINALIZER),
            writer,
            store: self.store.clone(),
            executor: self.executor.clone(),
            limits: self.options.limits.clone(),
            identity: self.options.identity.clone(),
            feeds: self.feeds.clone(),
            now: self.options.executor.now,
        };
        let own = name.to_owned();
        let abort = self.drivers.spawn(async move {
            let driven = drive.go(asked).await;
            (own, driven)
        });
        known.driver = Some(Active {
            control,
            abort,
            asked_to_cancel: cancels,
        });
    }

    /// A driver has come back.
    async fn driven(&mut self, name: &str, driven: Driven) {
        let now = self.now();
        let Some(known) = self.known.get_mut(name) else {
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
                    let writer = self.writer(name);
                    if let Some(writer) = writer {
                        let note = Note {
                            warning: true,
                            reason: "CannotGoOn",
                            text: why.clone(),
                        };
                        writer.publish(note).await;
                        if self.known.get(name).is_some_and(|known| {
                            known.resource.status.as_ref().is_none_or(|status| {
                                status.phase.is_empty() || status.phase == "Pending"
                            })
                        }) {
                            writer.write(pending(&why)).await;
                        }
                    }
                }
            }
        }
        self.attend(name).await;
    }

    /// A driver came back with nothing, by a defect: its run is driven again.
    async fn panicked(&mut self) {
        let lost: Vec<String> = self
            .known
            .iter()
            .filter(|(_, known)| {
                let driver = known.driver.as_ref();
                driver.is_some_and(|driver| driver.abort.is_finished())
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in lost {
            let why = "its driver has panicked".to_owned();
            self.driven(&name, Driven::Failed(why)).await;
        }
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

    /// Takes the finalizer away: the run has ended.
    async fn let_go(&mut self, name: &str) {
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        let finalizers: Vec<_> = known
            .resource
            .metadata
            .finalizers
            .iter()
            .flatten()
            .filter(|finalizer| *finalizer != FINALIZER)
            .collect();
        if known.resource.metadata.finalizers.as_ref().map(Vec::len) == Some(finalizers.len()) {
            return;
        }
        let patch = json!({"metadata": {
            "finalizers": finalizers,
            "resourceVersion": known.resource.metadata.resource_version,
        }});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let patched = self.runs.patch(name, &params, &patch);
        match called(patched).await {
            Ok(_) => {}
            Err(failed) if failed.code == Some(404) => {}
            Err(failed) => {
                tracing::warn!(run = name, error = failed.message, "letting a resource go");
                let again = self.now().plus_millis(AGAIN_MS.0);
                if let Some(known) = self.known.get_mut(name) {
                    known.due = Some(again);
                }
            }
        }
    }

    /// A resource is gone, though its finalizer held it: someone insisted.
    fn gone(&mut self, name: &str) {
        if let Some(known) = self.known.remove(name)
            && let Some(active) = known.driver
        {
            // It cancels what runs; there is nothing left to show it on.
            let by = "the deletion of its PipelineRun".to_owned();
            let _ = active.control.try_send(Control::Cancel { by });
        }
    }

    /// Leaves all runs; Pods go on.
    async fn leave(mut self) {
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
        drop(self.client);
    }
}

async fn sleep(due: Option<Duration>) {
    match due {
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
}

/// What the Pods of a run belong to.
fn owner(resource: &PipelineRun) -> Option<OwnerReference> {
    resource.controller_owner_ref(&())
}

/// Makes a run visible to the cluster, whose controller drives it from then on: its record
/// stands in the store. Again: nothing happens.
///
/// # Errors
/// Where the cluster does not take the resource.
pub async fn announce(client: Client, namespace: &str, run: &RunId) -> Result<(), String> {
    let runs: Api<PipelineRun> = Api::namespaced(client, namespace);
    let resource = PipelineRun::of(run);
    let params = kube::api::PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..Default::default()
    };
    match called(runs.create(&params, &resource)).await {
        Ok(_) => Ok(()),
        Err(failed) if failed.code == Some(409) => Ok(()),
        Err(failed) => Err(format!(
            "the cluster does not take the PipelineRun of {run}: {}",
            failed.message
        )),
    }
}

/// Asks for a run to be canceled, by its resource: whoever drives it is woken.
///
/// # Errors
/// Where the cluster does not take that.
pub async fn cancel(client: Client, namespace: &str, run: &RunId) -> Result<(), String> {
    let runs: Api<PipelineRun> = Api::namespaced(client, namespace);
    let patch = json!({"spec": {"cancel": true}});
    let name = names::resource_name(run);
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let patched = runs.patch(&name, &params, &patch);
    match called(patched).await {
        Ok(_) => Ok(()),
        Err(failed) => Err(format!(
            "the PipelineRun of {run} cannot be canceled: {}",
            failed.message
        )),
    }
}
