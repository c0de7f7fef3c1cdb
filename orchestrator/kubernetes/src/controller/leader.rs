//! Which of the replicas drives: the holder of a Lease. Drivers fence each other by the
//! epochs of their logs, so that the Lease is a courtesy that keeps two replicas from
//! disturbing each other, and no more.

use super::ControllerOptions;
use crate::executor::called;
use crate::names;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How leases are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    /// A holder that has said nothing for so long has lost it.
    pub duration: Duration,
    /// A holder that could not say anything for so long steps down by itself.
    pub deadline: Duration,
    /// How often a holder says something, and the others look.
    pub every: Duration,
}

impl Default for LeaseTiming {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            every: Duration::from_secs(2),
        }
    }
}

/// Where the replica that drives is reached, where that is another. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Leads(Arc<Mutex<Option<String>>>);

impl Leads {
    /// Its address; none while this one drives, and while nobody does.
    #[must_use]
    pub fn elsewhere(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Who drives has changed.
    pub fn set(&self, address: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

pub(super) struct Leader {
    leases: Api<Lease>,
    name: String,
    identity: String,
    address: Option<String>,
    timing: LeaseTiming,
    leads: Leads,
}

impl Leader {
    pub(super) fn new(client: Client, options: &ControllerOptions) -> Self {
        Self {
            leases: Api::namespaced(client, &options.executor.namespace),
            name: options.lease.clone(),
            identity: options.identity.clone(),
            address: options.address.clone(),
            timing: options.timing,
            leads: options.leads.clone(),
        }
    }

    /// Waits until the Lease is ours.
    pub(super) async fn acquire(&self) -> Lease {
        // What another holder last said, and when we first saw it: clocks are not compared.
        let mut seen: Option<(Option<LeaseSpec>, Instant)> = None;
        loop {
            match called(self.leases.get_opt(&self.name)).await {
                Ok(None) => {
                    if let Some(lease) = self.put(None).await {
                        return lease;
                    }
                }
                Ok(Some(lease)) => {
                    let now = Instant::now();
                    let unchanged = seen
                        .as_ref()
                        .filter(|(spec, _)| *spec == lease.spec)
                        .map(|(_, since)| *since);
                    let since = unchanged.unwrap_or(now);
                    seen = Some((lease.spec.clone(), since));
                    let holder = holder(&lease);
                    self.leads.set(holder.and(address(&lease)));
                    let silent = now.duration_since(since) > self.timing.duration;
                    if (holder.is_none() || holder == Some(self.identity.as_str()) || silent)
                        && let Some(lease) = self.put(Some(lease)).await
                    {
                        return lease;
                    }
                }
                Err(failed) => {
                    tracing::warn!(
                        lease = self.name,
                        error = failed.message,
                        "reading the lease"
                    );
                }
            }
            tokio::time::sleep(self.timing.every).await;
        }
    }

    /// Keeps a Lease until it is lost; says why.
    pub(super) async fn keep(&self, mut lease: Lease) -> String {
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(self.timing.every).await;
            // A call may take what is left by then, and no more.
            let left = || self.timing.deadline.saturating_sub(last.elapsed());
            let put = tokio::time::timeout(left(), self.put(Some(lease.clone())));
            match put.await {
                Ok(Some(kept)) => {
                    lease = kept;
                    last = Instant::now();
                    continue;
                }
                Err(_elapsed) => return "the cluster's API does not answer".to_owned(),
                Ok(None) => {}
            }
            let read = tokio::time::timeout(left(), called(self.leases.get_opt(&self.name)));
            match read.await {
                Ok(Ok(Some(found))) if holder(&found) == Some(self.identity.as_str()) => {
                    lease = found;
                }
                Ok(Ok(Some(found))) if holder(&found).is_some() => {
                    return format!("{} has taken it", holder(&found).unwrap_or_default());
                }
                // Given up in our name, or deleted: it is written anew.
                Ok(Ok(found)) => lease = found.unwrap_or_default(),
                _ => {}
            }
            if last.elapsed() >= self.timing.deadline {
                return "it could not be renewed".to_owned();
            }
        }
    }

    /// Gives the Lease up, so that the next one need not wait.
    pub(super) async fn release(&self) {
        let Ok(Some(mut lease)) = called(self.leases.get_opt(&self.name)).await else {
            return;
        };
        if holder(&lease) != Some(self.identity.as_str()) {
            return;
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        let params = PostParams::default();
        let released = self.leases.replace(&self.name, &params, &lease);
        if let Err(failed) = called(released).await {
            tracing::warn!(
                lease = self.name,
                error = failed.message,
                "giving the lease up"
            );
        }
    }

    /// Writes the Lease as ours: none where another one was quicker.
    async fn put(&self, before: Option<Lease>) -> Option<Lease> {
        let now = MicroTime(Timestamp::now());
        let old = before.as_ref().and_then(|lease| lease.spec.clone());
        let ours = before.as_ref().and_then(holder) == Some(self.identity.as_str());
        let old = old.unwrap_or_default();
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.timing.duration.as_secs()).ok(),
            renew_time: Some(now.clone()),
            acquire_time: if ours { old.acquire_time } else { Some(now) },
            lease_transitions: Some(
                old.lease_transitions
                    .unwrap_or(0)
                    .saturating_add(i32::from(!ours)),
            ),
            ..LeaseSpec::default()
        };
        let there = before
            .as_ref()
            .is_some_and(|lease| lease.metadata.resource_version.is_some());
        let mut metadata = match before {
            // With its version: another's word in between is not written over.
            Some(before) if there => before.metadata,
            _ => ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
        };
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.remove(names::ADDRESS);
        if let Some(address) = &self.address {
            annotations.insert(names::ADDRESS.to_owned(), address.clone());
        }
        let lease = Lease {
            metadata,
            spec: Some(spec),
        };
        let params = PostParams::default();
        let written = if there {
            called(self.leases.replace(&self.name, &params, &lease)).await
        } else {
            called(self.leases.create(&params, &lease)).await
        };
        match written {
            Ok(lease) => Some(lease),
            Err(failed) => {
                if failed.code != Some(409) {
                    tracing::warn!(
                        lease = self.name,
                        error = failed.message,
                        "writing the lease"
                    );
                }
                None
            }
        }
    }
}

/// Where its holder hears the others.
fn address(lease: &Lease) -> Option<String> {
    let annotations = lease.metadata.annotations.as_ref()?;
    annotations.get(names::ADDRESS).cloned()
}

/// Who holds it.
fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    (!holder.is_empty()).then_some(holder)
}
