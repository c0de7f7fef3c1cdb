//! Deleting runs, and what nobody needs any more, for those who may delete `pipelineruns`. A
//! collection takes as long as the store is large: it is begun by one call and asked after by
//! others, and goes on though who began it may be gone.

use super::extract::Said;
use super::tasks::broken_off;
use super::{Action, Api, Shown};
use crate::deletion::{Deletion, Fate, delete};
use crate::problem::Refusal;
use auria_core::{Nonce, RunId};
use auria_store::housekeeping::{self, Assets, Collect, Collected, Progress};
use auria_store::{Store, StoreError};
use axum::Json;
use axum::extract::{Extension, Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Collections whose end is remembered, for those who ask after them.
const REMEMBERED: usize = 16;
/// A caller waits so long for a deletion; it goes on after that.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a run is to be deleted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteBody {
    /// How long it stays once it is marked.
    #[serde(default = "grace_ms")]
    grace_ms: u64,
}

fn grace_ms() -> u64 {
    u64::try_from(housekeeping::GRACE.as_millis()).unwrap_or(u64::MAX)
}

pub(super) async fn delete_run(
    State(api): State<Api>,
    Extension(Shown(token)): Extension<Shown>,
    Path(run): Path<String>,
    Said(body): Said<DeleteBody>,
) -> Result<Json<Deletion>, Refusal> {
    let user = api.0.vouched.vouch(&token, Action::Delete).await?;
    let run = api.run(&run).await?;
    let grace = Duration::from_millis(body.grace_ms);
    let id = run.run.clone();
    let (store, runs) = (api.store().clone(), Arc::clone(&api.0.runs));
    // What belongs to it is done with it: who asked may be gone by then.
    let mut came = api.apart(async move || {
        let assets = Assets::read(&store).await?;
        let deletion = delete(&store, &run, &assets, &user.name, grace).await?;
        if deletion.fate != Fate::Kept {
            runs.note(&user, "delete", &run.run).await;
        }
        if deletion.fate == Fate::Deleted {
            runs.forget(&run.run).await;
        }
        Ok::<_, StoreError>(deletion)
    });
    match tokio::time::timeout(PATIENCE, &mut came).await {
        Ok(Ok(Ok(deletion))) => Ok(Json(deletion)),
        Ok(Ok(Err(error))) => Err(Refusal::of(&error)),
        Ok(Err(_)) => Err(broken_off()),
        Err(_) => Ok(Json(Deletion::going_on(&id))),
    }
}

/// What is to be collected.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CollectBody {
    /// Runs that ended longer ago go too.
    #[serde(default)]
    older_than_ms: Option<u64>,
    #[serde(default = "grace_ms")]
    grace_ms: u64,
    #[serde(default)]
    dry_run: bool,
}

/// A collection.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Collection {
    id: Nonce,
    /// What it does at this moment, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    doing: Option<String>,
    /// What it came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    collected: Option<Arc<Collected>>,
    /// Why it came to nothing; what was done until then stays done.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

impl Collection {
    fn is_over(&self) -> bool {
        self.collected.is_some() || self.failed.is_some()
    }
}

/// The collections of this process. Clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Collections(Arc<Mutex<VecDeque<Collection>>>);

impl Collections {
    fn all(&self) -> MutexGuard<'_, VecDeque<Collection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new one; none where one is under way.
    fn begin(&self) -> Option<Collection> {
        let mut all = self.all();
        if all.iter().any(|collection| !collection.is_over()) {
            return None;
        }
        let begun = Collection {
            id: auria_engine::driver::nonce(),
            doing: None,
            collected: None,
            failed: None,
        };
        all.push_back(begun.clone());
        while all.len() > REMEMBERED {
            all.pop_front();
        }
        Some(begun)
    }

    fn change(&self, id: &Nonce, change: impl FnOnce(&mut Collection)) {
        let mut all = self.all();
        if let Some(collection) = all.iter_mut().find(|collection| collection.id == *id) {
            change(collection);
        }
    }
}

/// Whatever becomes of its task, a collection ends.
struct Under {
    collections: Collections,
    id: Nonce,
}

impl Drop for Under {
    fn drop(&mut self) {
        self.collections.change(&self.id, |collection| {
            if !collection.is_over() {
                collection.failed = Some("it was broken off: ask for another".to_owned());
            }
        });
    }
}

/// Collects; each run that is gone is told to `gone` at once.
async fn collect(store: &Store, what: &Collect, under: &Under, gone: mpsc::UnboundedSender<RunId>) {
    let told = |progress: Progress<'_>| {
        if let Progress::Deleted(run) = progress {
            // Whoever hears it is there until this is over.
            let _ = gone.send(run.clone());
        }
        under.collections.change(&under.id, |collection| {
            collection.doing = Some(progress.to_string());
        });
    };
    let done = housekeeping::collect(store, what, &told).await;
    under
        .collections
        .change(&under.id, |collection| match done {
            Ok(collected) => collection.collected = Some(Arc::new(collected)),
            Err(error) => collection.failed = Some(error.to_string()),
        });
}

pub(super) async fn begin(
    State(api): State<Api>,
    Extension(Shown(token)): Extension<Shown>,
    Said(body): Said<CollectBody>,
) -> Result<(StatusCode, Json<Collection>), Refusal> {
    let user = api.0.vouched.vouch(&token, Action::Delete).await?;
    let grace = Duration::from_millis(body.grace_ms);
    let what = Collect {
        older_than: body.older_than_ms.map(Duration::from_millis),
        grace,
        uploads: grace.max(housekeeping::GRACE),
        dry_run: body.dry_run,
        by: format!("gc of {}", user.name),
    };
    let collections = api.0.collections.clone();
    let begun = collections.begin().ok_or_else(|| {
        Refusal::new(
            StatusCode::CONFLICT,
            "a collection is under way; ask again when it has ended",
        )
    })?;
    let under = Under {
        collections,
        id: begun.id.clone(),
    };
    let (store, runs) = (api.store().clone(), Arc::clone(&api.0.runs));
    let _goes_on = api.apart(async move || {
        #[expect(
            clippy::disallowed_methods,
            reason = "what is collected names each of these runs, too"
        )]
        let (gone, mut went) = mpsc::unbounded_channel();
        let clear = async {
            while let Some(run) = went.recv().await {
                runs.note(&user, "delete", &run).await;
                runs.forget(&run).await;
            }
        };
        tokio::join!(collect(&store, &what, &under, gone), clear);
    });
    Ok((StatusCode::ACCEPTED, Json(begun)))
}

pub(super) async fn after(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<Collection>, Refusal> {
    let all = api.0.collections.all();
    let found = all.iter().find(|collection| collection.id.as_str() == id);
    found.cloned().map(Json).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "no collection of this name is known here: another replica may have begun it, or it was long ago",
        )
    })
}
