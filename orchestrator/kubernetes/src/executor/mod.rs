//! The executor `kubernetes`: each attempt is a Pod, which goes on when its orchestrator
//! dies and is found again by the next one. One watch of the namespace serves every run.
//! What launchers say by way of the broker comes first; a Pod's own state is told only
//! where a launcher cannot: waiting, trouble with an image, a lost node. It decides
//! nothing and commits nothing.

mod held;
mod hub;
mod room;
mod standing;
mod tracker;

pub use hub::Relay;

use crate::compute::Compute;
use crate::names;
use crate::pod::{LauncherSource, Refused, grace_seconds, instances, pod};
use auria_core::outcome::Cause;
use auria_core::plan::Environment;
use auria_core::run::AttemptNews;
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, RunId, Timestamp};
use auria_engine::executor::{
    AttemptEvent, Executor, ListError, StartError, StopError, WatchError,
};
use auria_engine::relay::TicketIssuer;
use futures::stream::{BoxStream, StreamExt};
use held::{Held, is_quota};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client};
use room::Rooms;
use standing::{Standing, standing};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

/// No call of the API may take longer: a partition is told, and asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a launcher is kept waiting for what its Pod says of its end.
const SOON: Duration = Duration::from_secs(3);
/// What a stop leaves for publishing where the Pod was not seen yet.
const PUBLISH_GRACE_MS: u64 = 30_000;

/// The compute of steps that name none, where places are counted.
const FALLBACK: &str = "default";

/// What the executor works with.
#[derive(Clone, Debug)]
pub struct KubernetesOptions {
    /// Where Pods are made.
    pub namespace: String,
    /// Computes, by the name that pipelines use.
    pub computes: BTreeMap<String, Compute>,
    /// That of steps that name none, or one that is not declared.
    pub fallback: Compute,
    /// How launchers get into Pods.
    pub launcher: LauncherSource,
    /// The clock.
    pub now: fn() -> Timestamp,
}

/// Who took an attempt away, as its Pod says: `Preempted`, or none where it does not say so.
/// For replicas that do not drive, and so do not watch.
pub async fn taken_by(client: &Client, namespace: &str, attempt: &AttemptId) -> Option<Cause> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let name = names::pod_name(attempt);
    let asked = tokio::time::timeout(SOON, pods.get_opt(&name)).await;
    let pod = match asked {
        Ok(Ok(pod)) => pod?,
        Ok(Err(error)) => {
            tracing::warn!(%attempt, error = crate::chain(&error), "asking who took its Pod away");
            return None;
        }
        Err(_elapsed) => return None,
    };
    // Another attempt's would have another name; a Pod of another time, other annotations.
    let is_own = names::attempt_of(&pod.metadata).as_ref() == Some(attempt);
    (is_own && standing::is_preempted(&pod)).then_some(Cause::Preempted)
}

/// The executor `kubernetes`. When it is dropped, Pods go on.
pub struct Kubernetes {
    inner: Arc<Inner>,
    /// The watch of the namespace, and what waits for room in it; end with this.
    _tasks: JoinSet<()>,
}

struct Inner {
    pods: Api<Pod>,
    options: KubernetesOptions,
    issuer: Arc<dyn TicketIssuer>,
    relay: Relay,
    owners: Mutex<HashMap<RunId, OwnerReference>>,
    held: Held,
    rooms: Rooms,
}

impl Kubernetes {
    /// An executor in one namespace, which begins to watch it. `relay` is what the broker
    /// tells. Must be called in a tokio runtime.
    #[must_use]
    pub fn new(
        client: Client,
        options: KubernetesOptions,
        issuer: Arc<dyn TicketIssuer>,
        relay: Relay,
    ) -> Self {
        let inner = Arc::new(Inner {
            pods: Api::namespaced(client, &options.namespace),
            options,
            issuer,
            relay,
            owners: Mutex::default(),
            held: Held::default(),
            rooms: Rooms::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(tracker::track(inner.clone()));
        tasks.spawn(held::retry(inner.clone()));
        Self {
            inner,
            _tasks: tasks,
        }
    }

    /// From now on Pods of `run` belong to `owner`, and go with it.
    pub fn adopt(&self, run: &RunId, owner: OwnerReference) {
        self.inner.owners().insert(run.clone(), owner);
    }

    /// Nothing of `run` is started any more.
    pub fn release(&self, run: &RunId) {
        self.inner.owners().remove(run);
        self.inner.held.release_run(run);
    }
}

impl Inner {
    fn owners(&self) -> MutexGuard<'_, HashMap<RunId, OwnerReference>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A compute, and the name that it is declared by.
    fn compute(&self, name: Option<&str>) -> (&str, &Compute) {
        name.and_then(|name| self.options.computes.get_key_value(name))
            .map_or((FALLBACK, &self.options.fallback), |(name, compute)| {
                (name.as_str(), compute)
            })
    }

    /// Takes the places of its Pods on the ticket's compute.
    fn take_place(&self, ticket: &Ticket) -> Result<(), String> {
        let (name, compute) = self.compute(ticket.compute.as_deref());
        match compute.max_instances {
            Some(most) => {
                let pods = instances(ticket);
                let now = (self.options.now)();
                self.rooms.take(name, &ticket.attempt, pods, most, now)
            }
            None => Ok(()),
        }
    }

    /// The Pods of a ticket: one for each of its instances.
    fn pods(&self, ticket: &Ticket) -> Result<Vec<Pod>, String> {
        let (compute_name, compute) = self.compute(ticket.compute.as_deref());
        let image = match &ticket.environment {
            Environment::Image { image, .. } => image.as_str(),
            Environment::Process(_) => "",
        };
        let launcher = self.options.launcher.delivery(image)?;
        let broker = self.issuer.issue(&ticket.attempt);
        let owner = self.owners().get(&ticket.attempt.run).cloned();
        let made = (0..instances(ticket)).map(|instance| {
            let made = pod(
                ticket,
                instance,
                compute,
                &broker,
                &launcher,
                owner.as_ref(),
            );
            let mut pod = made.map_err(|refused| {
                let each: Vec<_> = refused.iter().map(Refused::to_string).collect();
                each.join("; ")
            })?;
            // Whoever watches counts it where it belongs.
            pod.metadata
                .annotations
                .get_or_insert_default()
                .insert(names::COMPUTE.to_owned(), compute_name.to_owned());
            Ok(pod)
        });
        made.collect()
    }

    /// Makes the Pods of an attempt, or finds that they are there: all of them or none.
    async fn make_all(&self, ticket: &Ticket, pods: &[Pod]) -> Result<(), StartError> {
        for (instance, pod) in (0..).zip(pods) {
            let name = names::instance_pod_name(&ticket.attempt, instance);
            let made = self.make(ticket, pod, &name).await;
            if made.is_err() || self.held.holds(&ticket.attempt) {
                self.unmake(ticket, instance).await;
                return made;
            }
        }
        Ok(())
    }

    /// Takes the first Pods of an attempt away again, which cannot begin without the others.
    async fn unmake(&self, ticket: &Ticket, before: u32) {
        for instance in 0..before {
            let name = names::instance_pod_name(&ticket.attempt, instance);
            self.remove(&name, None).await;
        }
    }

    /// Makes a Pod of an attempt, or finds that it is there.
    async fn make(&self, ticket: &Ticket, pod: &Pod, name: &str) -> Result<(), StartError> {
        let refused = |message: String| Err(StartError::Refused { message });
        let unavailable = |message: String| Err(StartError::Unavailable { message });
        // Twice: what is left of an attempt that has ended makes room first.
        for _ in 0..2 {
            let failed = match called(self.pods.create(&PostParams::default(), pod)).await {
                Ok(_) => return Ok(()),
                Err(failed) => failed,
            };
            if is_quota(&failed) {
                self.held.hold(ticket, failed.message, &self.relay);
                return Ok(());
            }
            let said = not_taken(&ticket.attempt, &failed.message);
            match failed.code {
                Some(409) => {}
                Some(400 | 403 | 404 | 405 | 413 | 415 | 422) => return refused(said),
                _ => return unavailable(said),
            }
            let found = match called(self.pods.get_opt(name)).await {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(Failed { message, .. }) => {
                    return unavailable(format!("the Pod {name} cannot be read: {message}"));
                }
            };
            if names::attempt_of(&found.metadata).as_ref() != Some(&ticket.attempt) {
                return refused(format!("there is a Pod {name} that is not ours"));
            }
            match standing(&found, (self.options.now)()) {
                Standing::Over(_) => {
                    if self.remove(name, found.metadata.uid).await == Removal::Failed {
                        return unavailable(format!("the Pod {name} of before is still there"));
                    }
                    if names::instance_of(&pod.metadata) == 0 {
                        self.relay.starts(&ticket.attempt);
                    }
                }
                Standing::Lives {
                    gone_by: Some(_), ..
                } => return unavailable(format!("the Pod {name} of before is just ending")),
                // It waits or runs.
                _ => return Ok(()),
            }
        }
        unavailable(format!("the Pod {name} of before is still there"))
    }

    /// Stops all Pods of an attempt but the first, where it has others.
    async fn stop_members(
        &self,
        attempt: &AttemptId,
        params: &DeleteParams,
    ) -> Result<(), StopError> {
        let failed = |Failed { message, .. }| StopError {
            attempt: attempt.clone(),
            message,
        };
        let names: Vec<String> = match self.relay.instances(attempt) {
            Some(instances) => (1..instances)
                .map(|instance| names::instance_pod_name(attempt, instance))
                .collect(),
            // Nothing of it was seen yet.
            None => {
                let selector = names::attempt_selector(attempt);
                let all = ListParams::default().labels(&selector);
                let found = called(self.pods.list(&all)).await.map_err(failed)?;
                let members = found.into_iter().filter(|pod| {
                    names::instance_of(&pod.metadata) > 0
                        && names::attempt_of(&pod.metadata).as_ref() == Some(attempt)
                });
                members.filter_map(|pod| pod.metadata.name).collect()
            }
        };
        for name in names {
            match called(self.pods.delete(&name, params)).await {
                Ok(_)
                | Err(Failed {
                    code: Some(404), ..
                }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Removes the Pod with this name and identity, whose process has ended or never
    /// began.
    async fn remove(&self, name: &str, uid: Option<String>) -> Removal {
        self.deleted(name, uid, DeleteParams::default().grace_period(0))
            .await
    }

    /// Asks a Pod to end in its own time.
    async fn ask_to_end(&self, name: &str, uid: Option<String>) -> Removal {
        self.deleted(name, uid, DeleteParams::default()).await
    }

    async fn deleted(&self, name: &str, uid: Option<String>, how: DeleteParams) -> Removal {
        let how = how.preconditions(Preconditions {
            uid,
            resource_version: None,
        });
        match called(self.pods.delete(name, &how)).await {
            Ok(_) => Removal::Done,
            // Gone, or another one by now.
            Err(Failed {
                code: Some(404 | 409),
                ..
            }) => Removal::Missing,
            Err(failed) => {
                tracing::warn!(pod = name, error = failed.message, "deleting a Pod");
                Removal::Failed
            }
        }
    }
}

/// What came of removing a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    /// It goes: the watch tells of it.
    Done,
    /// It was gone before: whether the watch told of it is not known.
    Missing,
    /// It is there still.
    Failed,
}

/// A refusal of the API server, for people.
fn not_taken(attempt: &AttemptId, message: &str) -> String {
    let name = names::pod_name(attempt);
    format!("the cluster does not take the Pod {name}: {message}")
}

/// A call of the API that came to nothing.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The status that the server answered with; none where it did not.
    pub(crate) code: Option<u16>,
    pub(crate) message: String,
}

/// What a call of the API answers, within bounds.
pub(crate) async fn called<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failed> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(Failed {
            code: Some(status.code),
            message: status.message.clone(),
        }),
        Ok(Err(error)) => Err(Failed {
            code: None,
            message: crate::chain(&error),
        }),
        Err(_elapsed) => Err(Failed {
            code: None,
            message: format!("the cluster's API did not answer within {PATIENCE:?}"),
        }),
    }
}

#[async_trait::async_trait]
impl Executor for Kubernetes {
    async fn start(&self, ticket: &Ticket) -> Result<(), StartError> {
        let inner = &self.inner;
        let refused = |message: String| Err(StartError::Refused { message });
        let pods = match inner.pods(ticket) {
            Ok(pods) => pods,
            Err(message) => return refused(message),
        };
        if let Err(full) = inner.take_place(ticket) {
            inner.held.hold(ticket, full, &inner.relay);
            return Ok(());
        }
        let started = inner.make_all(ticket, &pods).await;
        if started.is_err() || inner.held.holds(&ticket.attempt) {
            inner.rooms.leave(&ticket.attempt);
        }
        started
    }

    async fn stop(&self, attempt: &AttemptId, grace: Duration) -> Result<(), StopError> {
        let inner = &self.inner;
        inner.held.release(attempt);
        let publish_grace_ms = inner.relay.stopping(attempt).unwrap_or(PUBLISH_GRACE_MS);
        let name = names::pod_name(attempt);
        // Without a grace nothing is published: one second, since none at all would forget
        // the Pod while its processes still run.
        let seconds = if grace.is_zero() {
            1
        } else {
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            grace_seconds(grace_ms, publish_grace_ms)
        };
        let params =
            DeleteParams::default().grace_period(u32::try_from(seconds).unwrap_or(u32::MAX));
        inner.stop_members(attempt, &params).await?;
        match called(inner.pods.delete(&name, &params)).await {
            Ok(_) => Ok(()),
            Err(Failed {
                code: Some(404), ..
            }) => {
                if !inner.relay.has_ended(attempt) {
                    let gone = AttemptNews::Gone {
                        claim: None,
                        end: None,
                        checkpoint: None,
                    };
                    inner.relay.news(attempt, gone);
                }
                Ok(())
            }
            Err(Failed { message, .. }) => Err(StopError {
                attempt: attempt.clone(),
                message,
            }),
        }
    }

    async fn list(&self, run: &RunId) -> Result<Vec<AttemptId>, ListError> {
        let inner = &self.inner;
        let params = ListParams::default().labels(&names::run_selector(run));
        let pods = called(inner.pods.list(&params)).await;
        let pods = pods.map_err(|Failed { message, .. }| ListError {
            run: run.clone(),
            message,
        })?;
        let now = (inner.options.now)();
        let mut live: Vec<AttemptId> = pods
            .iter()
            // Of a distributed step the first instance's launcher holds the claim.
            .filter(|pod| names::instance_of(&pod.metadata) == 0)
            .filter(|pod| !matches!(standing(pod, now), Standing::Over(_)))
            .filter_map(|pod| names::attempt_of(&pod.metadata))
            // Labels may be shortened.
            .filter(|attempt| attempt.run == *run)
            .collect();
        live.extend(inner.held.of(run));
        live.sort();
        live.dedup();
        Ok(live)
    }

    fn watch(&self, run: &RunId) -> BoxStream<'static, Result<AttemptEvent, WatchError>> {
        let (known, events) = self.inner.relay.watch(run);
        futures::stream::iter(known.into_iter().map(Ok))
            .chain(ReceiverStream::new(events))
            .boxed()
    }
}
