//! Changes of resources that are made beside the loop which decides them: a bounded number
//! at once. Each says whether it was done; one that was not is asked for again.

use crate::executor::called;
use crate::resource::{FINALIZER, PipelineRun};
use futures::StreamExt;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::{self, JoinSet};

/// More at once would not be quicker: the cluster's API is one.
const AT_ONCE: usize = 16;
/// How long the end of a namespace may take this controller, which is being ended itself.
const LAST: Duration = Duration::from_secs(10);

/// Changes that are under way.
#[derive(Default)]
pub(super) struct Chores {
    under_way: JoinSet<bool>,
    names: HashMap<task::Id, String>,
}

impl Chores {
    /// Begins a change of the resource `name`; false where there is no room for it.
    #[must_use = "what was not begun is to be asked for again"]
    pub(super) fn begin(
        &mut self,
        name: &str,
        work: impl Future<Output = bool> + Send + 'static,
    ) -> bool {
        if self.under_way.len() >= AT_ONCE {
            return false;
        }
        let task = self.under_way.spawn(work);
        self.names.insert(task.id(), name.to_owned());
        true
    }

    /// The next that has come back; never where none is under way.
    pub(super) async fn next(&mut self) -> Option<(String, bool)> {
        let (task, done) = match self.under_way.join_next_with_id().await? {
            Ok(done) => done,
            Err(error) => {
                tracing::error!("changing a resource: {error}");
                (error.id(), false)
            }
        };
        Some((self.names.remove(&task)?, done))
    }

    pub(super) async fn shutdown(&mut self) {
        self.under_way.shutdown().await;
    }
}

/// Whether our finalizer holds it.
pub(super) fn has_finalizer(resource: &PipelineRun) -> bool {
    let finalizers = resource.metadata.finalizers.iter().flatten();
    finalizers.into_iter().any(|name| name == FINALIZER)
}

/// The patch that takes our finalizer away; none where it is not there.
pub(super) fn without_finalizer(resource: &PipelineRun) -> Option<Value> {
    if !has_finalizer(resource) {
        return None;
    }
    let others: Vec<_> = resource
        .metadata
        .finalizers
        .iter()
        .flatten()
        .filter(|name| *name != FINALIZER)
        .collect();
    Some(json!({"metadata": {
        "finalizers": others,
        // Nothing is lost that someone else adds at this moment.
        "resourceVersion": resource.metadata.resource_version,
    }}))
}

/// Takes the finalizer away: the run has ended.
pub(super) async fn let_go(runs: Api<PipelineRun>, name: String, patch: Value) -> bool {
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    match called(runs.patch(&name, &params, &patch)).await {
        Ok(_) => true,
        Err(failed) if failed.code == Some(404) => true,
        Err(failed) => {
            tracing::warn!(run = name, error = failed.message, "letting a resource go");
            false
        }
    }
}

/// Removes a resource whose time has come.
pub(super) async fn remove(runs: Api<PipelineRun>, name: String, uid: Option<String>) -> bool {
    let params = DeleteParams::default().preconditions(Preconditions {
        uid,
        resource_version: None,
    });
    match called(runs.delete(&name, &params)).await {
        Ok(_) => true,
        // Gone, or another one by now.
        Err(failed) if matches!(failed.code, Some(404 | 409)) => true,
        Err(failed) => {
            tracing::warn!(run = name, error = failed.message, "removing a resource");
            false
        }
    }
}

/// Whether the namespace itself is being deleted: it takes nothing new then. Asked without
/// making anything.
pub(super) async fn namespace_ends(runs: &Api<PipelineRun>) -> bool {
    let Ok(run) = "auria-namespace-check".parse() else {
        return false;
    };
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let resource = PipelineRun::of(&run);
    let tried = called(runs.create(&params, &resource));
    match tokio::time::timeout(LAST, tried).await {
        Ok(Err(failed)) => failed.code == Some(403) && failed.message.contains("being terminated"),
        _ => false,
    }
}

/// Takes the finalizers of all away, as far as the time allows.
pub(super) async fn let_all_go(
    runs: &Api<PipelineRun>,
    resources: impl Iterator<Item = PipelineRun>,
) {
    let all = futures::stream::iter(resources)
        .filter_map(|resource| async move {
            let name = resource.metadata.name.clone()?;
            // Whoever changed it since loses nothing: there is no later.
            let mut patch = without_finalizer(&resource)?;
            if let Some(metadata) = patch["metadata"].as_object_mut() {
                metadata.remove("resourceVersion");
            }
            Some((name, patch))
        })
        .for_each_concurrent(AT_ONCE, |(name, patch)| async move {
            let_go(runs.clone(), name, patch).await;
        });
    if tokio::time::timeout(LAST, all).await.is_err() {
        tracing::warn!("some PipelineRuns keep their finalizer, and their namespace with it");
    }
}
