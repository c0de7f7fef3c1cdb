//! The resources of schedules and endpoints, kept as the store has them. Whichever replica
//! changes something, or fires a tick, writes its resource anew; the one that drives watches
//! them too, so that of two that write at a time the store's word is the last. It asks the
//! store for what has changed and never in turns.

use crate::executor::called;
use crate::names::{self, MANAGER};
use crate::served::{Endpoint, Schedule, Stands};
use async_trait::async_trait;
use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Before a resource is written again that could not be.
const AGAIN: Duration = Duration::from_secs(10);

/// What the store holds.
#[async_trait]
pub trait Served: Send + Sync {
    /// The names of all schedules.
    async fn schedules(&self) -> Result<Vec<String>, String>;
    /// A schedule as its resource is to say it; none where there is none.
    async fn schedule(&self, name: &str) -> Result<Option<Schedule>, String>;
    /// The names of all endpoints.
    async fn endpoints(&self) -> Result<Vec<String>, String>;
    /// An endpoint as its resource is to say it; none where there is none.
    async fn endpoint(&self, name: &str) -> Result<Option<Endpoint>, String>;
}

/// Something whose resource may not say any more what the store does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doubted {
    /// A schedule, by its name in the store.
    Schedule(String),
    /// An endpoint.
    Endpoint(String),
    /// A resource under a name that none has: `pipelineschedules`, or the other.
    Stray {
        schedule: bool,
        resource: String,
    },
    /// All, as whoever begins to drive finds them.
    AllSchedules,
    AllEndpoints,
}

/// Keeps the resources. Clones are one.
#[derive(Clone)]
pub struct Mirror {
    served: Arc<dyn Served>,
    schedules: Api<Schedule>,
    endpoints: Api<Endpoint>,
    /// One of each at most.
    doubted: Arc<Mutex<BTreeSet<Doubted>>>,
    woken: Arc<Notify>,
}

impl Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mirror")
    }
}

impl Mirror {
    /// Of what `served` holds, in `namespace`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, served: Arc<dyn Served>) -> Self {
        Self {
            served,
            schedules: Api::namespaced(client.clone(), namespace),
            endpoints: Api::namespaced(client, namespace),
            doubted: Arc::default(),
            woken: Arc::default(),
        }
    }

    /// A schedule has changed, or one of its ticks was fired.
    pub fn schedule(&self, name: &str) {
        self.doubt(Doubted::Schedule(name.to_owned()));
    }

    /// An endpoint has changed.
    pub fn endpoint(&self, name: &str) {
        self.doubt(Doubted::Endpoint(name.to_owned()));
    }

    fn doubt(&self, what: Doubted) {
        self.lock().insert(what);
        self.woken.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Doubted>> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is doubted, for as long as it is polled. What cannot be written keeps
    /// nothing else from being written.
    pub async fn write(&self) {
        let mut failed = BTreeSet::new();
        let mut again = Instant::now();
        loop {
            let next = self.lock().pop_first();
            let Some(what) = next else {
                tokio::select! {
                    () = self.woken.notified() => {}
                    () = tokio::time::sleep_until(again), if !failed.is_empty() => {
                        self.lock().append(&mut failed);
                    }
                }
                continue;
            };
            if let Err(error) = self.settle(&what).await {
                tracing::warn!(?what, error, "the resource of a schedule or an endpoint");
                failed.insert(what);
                again = Instant::now() + AGAIN;
            }
        }
    }

    async fn settle(&self, what: &Doubted) -> Result<(), String> {
        match what {
            Doubted::Schedule(name) => {
                let stands = self.served.schedule(name).await?;
                mirrored(&self.schedules, name, stands).await
            }
            Doubted::Endpoint(name) => {
                let stands = self.served.endpoint(name).await?;
                mirrored(&self.endpoints, name, stands).await
            }
            Doubted::Stray {
                schedule: true,
                resource,
            } => removed(&self.schedules, resource).await,
            Doubted::Stray { resource, .. } => removed(&self.endpoints, resource).await,
            Doubted::AllSchedules => {
                for name in self.served.schedules().await? {
                    self.schedule(&name);
                }
                Ok(())
            }
            Doubted::AllEndpoints => {
                for name in self.served.endpoints().await? {
                    self.endpoint(&name);
                }
                Ok(())
            }
        }
    }

    /// Doubts what it sees change, and at first all, for as long as it is polled: of the
    /// replica that drives.
    pub(super) async fn watch(&self) {
        let schedules = self.watched(&self.schedules, true);
        let endpoints = self.watched(&self.endpoints, false);
        tokio::join!(schedules, endpoints);
    }

    async fn watched<K>(&self, api: &Api<K>, schedule: bool)
    where
        K: Stands + Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let seen = |resource: &K| {
            let name = resource.stands_for();
            let called = resource.meta().name.clone().unwrap_or_default();
            self.doubt(match schedule {
                _ if called != names::served_name(name) => Doubted::Stray {
                    schedule,
                    resource: called,
                },
                true => Doubted::Schedule(name.to_owned()),
                false => Doubted::Endpoint(name.to_owned()),
            });
        };
        let mut events =
            pin!(watcher::watcher(api.clone(), watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => {}
                Ok(Event::InitApply(one) | Event::Apply(one) | Event::Delete(one)) => seen(&one),
                Ok(Event::InitDone) => self.doubt(if schedule {
                    Doubted::AllSchedules
                } else {
                    Doubted::AllEndpoints
                }),
                Err(error) => {
                    tracing::warn!(error = crate::chain(&error), "watching what is served");
                }
            }
        }
    }
}

/// Makes the resource say what the store does.
async fn mirrored<K>(api: &Api<K>, name: &str, stands: Option<K>) -> Result<(), String>
where
    K: Stands + Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let called_so = names::served_name(name);
    let there = called(api.get_opt(&called_so)).await;
    let there = there.map_err(|failed| failed.message)?;
    let Some(stands) = stands else {
        return match there {
            Some(_) => removed(api, &called_so).await,
            None => Ok(()),
        };
    };
    if there.is_some_and(|there| there.says_as(&stands)) {
        return Ok(());
    }
    let stands = stands.written();
    let status = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": called_so},
        "status": stands.status(),
    });
    let params = PatchParams::apply(MANAGER).force();
    let written = called(api.patch(&called_so, &params, &Patch::Apply(&stands))).await;
    written.map_err(|failed| failed.message)?;
    let written = called(api.patch_status(&called_so, &params, &Patch::Apply(&status))).await;
    written.map(drop).map_err(|failed| failed.message)
}

async fn removed<K>(api: &Api<K>, resource: &str) -> Result<(), String>
where
    K: Clone + Debug + DeserializeOwned,
{
    match called(api.delete(resource, &DeleteParams::default())).await {
        Ok(_) => Ok(()),
        Err(failed) if failed.code == Some(404) => Ok(()),
        Err(failed) => Err(failed.message),
    }
}
