//! Runs as a whole: `run.json`, the list of recent runs, and what a person means
//! by a run's name. What happens inside a run is the journal's.

use crate::create::Created;
use crate::store::{REQUESTS, decode, encode};
use crate::{Store, StoreError, layout};
use auria_core::plan::Plan;
use auria_core::{Digest, Nonce, RunId, Timestamp};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// The version of [`RunJson`] that this code writes.
pub const RUN_VERSION: u32 = 1;

/// Whether a run may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Its snapshots are being uploaded.
    Preparing,
    /// The store holds all that it needs.
    Ready,
}

/// Who submitted a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitter {
    /// The user's name on that machine.
    pub user: String,
    /// The machine.
    pub host: String,
}

/// `run.json`: what was submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunJson {
    /// [`RUN_VERSION`] of the writer.
    pub version: u32,
    /// Its name.
    pub run: RunId,
    /// Drawn by the submitter, so that it knows its own record again.
    pub nonce: Nonce,
    /// Whether it may start.
    pub state: RunState,
    /// When.
    pub created: Timestamp,
    /// By whom.
    pub by: Submitter,
    /// `process`, `docker`, `kubernetes`, or a compute's name.
    pub target: String,
    /// What `--set` and the file gave, for people.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Every snapshot that the run needs.
    pub snapshots: BTreeSet<Digest>,
    /// Where on the submitter's machine each snapshot came from, so that a submission
    /// that was cut short can be taken up there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<Digest, PathBuf>,
    /// The run that this one tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RunId>,
    /// What it will do.
    pub plan: Arc<Plan>,
}

/// `recent/<key>`: enough of a run to list it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentRun {
    /// Its name.
    pub run: RunId,
    /// The pipeline.
    pub pipeline: String,
    /// The experiment.
    pub experiment: String,
    /// When it was submitted.
    pub created: Timestamp,
}

impl RecentRun {
    /// That of a run.
    #[must_use]
    pub fn of(run: &RunJson) -> Self {
        Self {
            run: run.run.clone(),
            pipeline: run.plan.pipeline.clone(),
            experiment: run.plan.experiment.clone(),
            created: run.created,
        }
    }
}

/// Creates the run. Its state is what `record` says; call [`mark_ready`] once all
/// snapshots are there.
///
/// # Errors
/// [`StoreError::Conflict`] where the name is taken; where the store cannot be written.
pub async fn create(store: &Store, record: &RunJson) -> Result<(), StoreError> {
    let path = layout::run_json(&record.run);
    let same = |bytes: &[u8]| {
        decode::<RunJson>(&path, bytes).is_ok_and(|found| found.nonce == record.nonce)
    };
    if let Created::Lost(bytes) = store
        .create_once(&path, encode(&path, record)?, same)
        .await?
    {
        let by = decode::<RunJson>(&path, &bytes)
            .map(|found| {
                format!(
                    "created {} by {}@{}",
                    found.created, found.by.user, found.by.host
                )
            })
            .unwrap_or_default();
        return Err(StoreError::Conflict {
            what: format!("the run {}", record.run),
            by,
        });
    }
    let recent = RecentRun::of(record);
    let path = layout::recent(&record.run, record.created);
    let same = |bytes: &[u8]| decode::<RecentRun>(&path, bytes).is_ok_and(|found| found == recent);
    match store
        .create_once(&path, encode(&path, &recent)?, same)
        .await?
    {
        Created::Won => Ok(()),
        Created::Lost(_) => Err(StoreError::corrupt(&path, "this run's line", "another")),
    }
}

/// Says that the store holds all that the run needs. Only its submitter does.
///
/// # Errors
/// Where the store cannot be written.
pub async fn mark_ready(store: &Store, record: &mut RunJson) -> Result<(), StoreError> {
    record.state = RunState::Ready;
    store
        .write_json(&layout::run_json(&record.run), record)
        .await
}

/// What was submitted.
///
/// # Errors
/// [`StoreError::NotFound`] where there is no such run.
pub async fn read(store: &Store, run: &RunId) -> Result<RunJson, StoreError> {
    let found: Option<RunJson> = store.read_json(&layout::run_json(run)).await?;
    let record = found.ok_or_else(|| StoreError::NotFound {
        what: format!("the run {run}"),
    })?;
    if record.version > RUN_VERSION {
        return Err(StoreError::Refused {
            store: store.url().to_string(),
            why: format!("the run {run} was written by a newer program"),
            help: "use a newer auria-pipeline".into(),
        });
    }
    Ok(record)
}

/// The newest runs, newest first.
///
/// # Errors
/// Where the store cannot be read.
pub async fn list_recent(store: &Store, limit: usize) -> Result<Vec<RecentRun>, StoreError> {
    let folder = layout::recent_runs();
    let names = store.first_names(&folder, None, limit).await?;
    futures::stream::iter(names)
        .map(|name| {
            let key = folder.clone().join(name.as_str());
            async move { store.read_json(&key).await }
        })
        .buffered(REQUESTS)
        // One that was deleted since it was listed is not there any more.
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await
}

/// The run that `text` means: a name, the beginning of one, or `latest`.
///
/// # Errors
/// [`StoreError::NotFound`] and [`StoreError::Ambiguous`].
pub async fn resolve(store: &Store, text: &str) -> Result<RunId, StoreError> {
    let not_found = |what: String| StoreError::NotFound { what };
    if let Ok(run) = text.parse::<RunId>()
        && store.exists(&layout::run_json(&run)).await?
    {
        return Ok(run);
    }
    let mut keys: Vec<_> = store
        .list(&layout::recent_runs())
        .await?
        .into_iter()
        .map(|meta| meta.location)
        .collect();
    keys.sort();
    let mut runs = keys.iter().filter_map(layout::run_of_recent);
    if text == "latest" {
        return runs
            .next()
            .ok_or_else(|| not_found(format!("any run in {}", store.url())));
    }
    let matches: Vec<_> = runs
        .filter(|run| !text.is_empty() && run.as_str().starts_with(text))
        .collect();
    match matches.as_slice() {
        [] => Err(not_found(format!("the run {text}"))),
        [run] => Ok(run.clone()),
        several => Err(StoreError::Ambiguous {
            text: text.to_owned(),
            matches: several.iter().map(ToString::to_string).collect(),
        }),
    }
}
