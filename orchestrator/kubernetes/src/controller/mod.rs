//! The controller: drives the run of every `PipelineRun` of a namespace, with the real
//! driver and the executor `kubernetes`. Of several replicas, the one that holds the Lease
//! drives; any can serve what the store holds. It watches and never polls. Killed at any
//! moment, it leaves Pods running, and the next one goes on from the store.

mod chores;
mod drive;
mod leader;
mod mirror;
mod reign;
mod standing;
mod status;

pub use leader::{Leads, LeaseTiming};
pub use mirror::{Mirror, Served};
pub use standing::Standing;

use crate::executor::{Failed, Kubernetes, KubernetesOptions, Relay, called};
use crate::names::{self, MANAGER};
use crate::resource::PipelineRun;
use auria_core::RunId;
use auria_core::run::Limits;
use auria_engine::feed::Feed;
use auria_engine::relay::TicketIssuer;
use auria_store::Store;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use leader::Leader;
use reign::Reign;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// What the controller works with.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// This replica, for people and for the Lease: its Pod's name.
    pub identity: String,
    /// Where the other replicas reach this one (`https://ADDRESS:PORT`), where they do.
    pub address: Option<String>,
    /// Who drives, for whoever passes on what this one hears.
    pub leads: Leads,
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
    /// What keeps the resources of schedules and endpoints, where they are served.
    pub mirror: Option<Mirror>,
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
    let leader = Leader::new(client.clone(), &options);
    loop {
        let lease = tokio::select! {
            lease = leader.acquire() => lease,
            () = turned(&mut shutdown) => return,
        };
        options.leads.set(None);
        tracing::info!(lease = options.lease, "drives");
        let executor = Kubernetes::new(
            client.clone(),
            options.executor.clone(),
            issuer.clone(),
            relay.clone(),
        );
        let mut reign = Reign::new(
            client.clone(),
            options.clone(),
            store.clone(),
            executor,
            feeds.clone(),
        );
        let over = tokio::select! {
            () = reign.go_on() => "the watch has ended".to_owned(),
            why = leader.keep(lease) => why,
            () = watched(options.mirror.as_ref()) => "the watch of what is served has ended".to_owned(),
            () = turned(&mut shutdown) => String::new(),
        };
        let down = *shutdown.borrow();
        reign.leave(down).await;
        if down {
            leader.release().await;
            return;
        }
        tracing::warn!(lease = options.lease, "does not drive any more: {over}");
    }
}

/// Watches what is mirrored, for as long as it is polled.
async fn watched(mirror: Option<&Mirror>) {
    match mirror {
        Some(mirror) => mirror.watch().await,
        None => std::future::pending().await,
    }
}

async fn turned(shutdown: &mut watch::Receiver<bool>) {
    // Who cannot say it any more has gone.
    let _ = shutdown.wait_for(|down| *down).await;
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

/// Takes away the resource of a run that is not in the store any more. Again: nothing happens;
/// the resource of a run that came to be under its name meanwhile stays.
///
/// # Errors
/// Where the cluster does not take that, or the store does not answer.
pub async fn forget(
    client: Client,
    namespace: &str,
    store: &Store,
    run: &RunId,
) -> Result<(), String> {
    let runs: Api<PipelineRun> = Api::namespaced(client.clone(), namespace);
    let name = names::resource_name(run);
    let failed = |failed: Failed| {
        let why = failed.message;
        format!("the PipelineRun of {run} cannot be deleted: {why}")
    };
    // First the resource, then the store: one that is made between the two has another uid.
    let found = called(runs.get_opt(&name)).await.map_err(failed)?;
    let Some(uid) = found.and_then(|found| found.metadata.uid) else {
        return Ok(());
    };
    match auria_store::runs::read(store, run).await {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == auria_store::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("whether {run} is gone cannot be told: {error}")),
    }
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: Some(uid),
        resource_version: None,
    });
    match called(runs.delete(&name, &params)).await {
        Ok(_) => {}
        Err(gone) if matches!(gone.code, Some(404 | 409)) => {}
        Err(why) => return Err(failed(why)),
    }
    // A run of the same name that was announced just before found the old resource standing.
    match auria_store::runs::read(store, run).await {
        Ok(_) => announce(client, namespace, run).await,
        Err(_) => Ok(()),
    }
}
