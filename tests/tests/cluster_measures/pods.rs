//! When Pods of a namespace were seen to do what: by one watch, from the beginning on.

use super::now;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// When one was first seen so, in milliseconds since the epoch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) created: f64,
    pub(crate) bound: Option<f64>,
    pub(crate) succeeded: Option<f64>,
    pub(crate) failed: bool,
    /// Its annotations with run and step.
    pub(crate) step: Option<(String, String)>,
}

/// All that were seen.
#[derive(Clone, Default)]
pub(crate) struct Pods {
    seen: Arc<Mutex<HashMap<String, Seen>>>,
    changed: Arc<Notify>,
    /// The task that watches, for as long as the program runs.
    watch: Arc<Mutex<JoinSet<()>>>,
}

impl Pods {
    /// Begins to watch.
    pub(crate) fn watch(client: Client, namespace: &str) -> Self {
        let all = Self::default();
        let told = all.clone();
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let watch = async move {
            let events = watcher::watcher(pods, watcher::Config::default());
            let mut events = pin!(events);
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event {
                    told.note(&pod);
                }
            }
        };
        let mut owner = all.watch.lock().unwrap_or_else(PoisonError::into_inner);
        owner.spawn(watch);
        drop(owner);
        all
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, pod: &Pod) {
        let at = now();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let mut all = self.all();
        let seen = all.entry(name).or_insert_with(|| Seen {
            created: at,
            ..Seen::default()
        });
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        if node.is_some() {
            seen.bound.get_or_insert(at);
        }
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        match phase {
            Some("Succeeded") => {
                seen.succeeded.get_or_insert(at);
            }
            Some("Failed") => seen.failed = true,
            _ => {}
        }
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let of = |name: &str| {
            annotations
                .get(&format!("pipelines.auria.dev/{name}"))
                .cloned()
        };
        seen.step = of("run").zip(of("step"));
        drop(all);
        self.changed.notify_waiters();
    }

    /// What was seen of the Pod of a step.
    pub(crate) fn of_step(&self, run: &str, step: &str) -> Option<Seen> {
        let all = self.all();
        let found = all.values().find(|seen| {
            seen.step
                .as_ref()
                .is_some_and(|(of_run, of_step)| of_run == run && of_step == step)
        });
        found.cloned()
    }

    /// Waits until so many of these have succeeded.
    pub(crate) async fn until(&self, names: &[String], count: usize) {
        loop {
            let changed = self.changed.notified();
            {
                let all = self.all();
                let ended = names.iter().filter(|name| {
                    let seen = all.get(*name);
                    assert!(!seen.is_some_and(|seen| seen.failed), "{name} failed");
                    seen.is_some_and(|seen| seen.succeeded.is_some())
                });
                if ended.count() >= count {
                    return;
                }
            }
            // A change between the two would be missed without a bound.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(100), changed).await;
        }
    }
}
