//! Deleting runs, and what nobody needs any more, for those who may delete `pipelineruns`. A
//! collection takes as long as the store is large: it is begun by one call and asked after by
//! others, and goes on though who began it may be gone.

use super::extract::Said;
use super::{Action, Api, Shown};
use crate::deletion::{Deletion, Fate, delete};
use crate::problem::Refusal;
use auria_core::{Nonce, RunId};
use auria_store::Store;
use auria_store::housekeeping::{self, Assets, Collect, Collected};
use axum::Json;
use axum::extract::{Extension, Path, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Collections whose end is remembered, for those who ask after them.
const REMEMBERED: usize = 16;

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
    let (store, by) = (api.store().clone(), user.name.clone());
    let id = run.run.clone();
    let (done, came) = oneshot::channel();
    api.apart(async move || {
        let deleted = async {
            let assets = Assets::read(&store).await?;
            delete(&store, &run, &assets, &by, grace).await
        };
        drop(done.send(deleted.await));
    });
    let deletion = came.await.map_err(|_| {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the deletion was broken off; ask again",
        )
    })?;
    let deletion = deletion.map_err(|error| Refusal::of(&error))?;
    if deletion.fate != Fate::Kept {
        api.0.runs.note(&user, "delete", &id).await;
    }
    if deletion.fate == Fate::Deleted {
        api.0.runs.forget(&id).await;
    }
    Ok(Json(deletion))
}

impl Api {
    /// Does `work` on a thread of its own, for as long as this API is there: who asked may be
    /// gone. What reads and deletes a whole store is no future that may move between threads.
    fn apart(&self, work: impl AsyncFnOnce() + Send + 'static) {
        let mut ends = self.0.ends.subscribe();
        let runtime = Handle::current();
        let tasks = self.0.tasks.lock();
        let mut tasks = tasks.unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_blocking(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = work() => {}
                    _ = ends.changed() => {}
                }
            });
        });
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

async fn collect(store: &Store, what: &Collect, under: &Under) -> Vec<RunId> {
    let told = |doing: &str| {
        under.collections.change(&under.id, |collection| {
            collection.doing = Some(doing.to_owned());
        });
    };
    let done = housekeeping::collect(store, what, &told).await;
    let mut gone = Vec::new();
    under
        .collections
        .change(&under.id, |collection| match done {
            Ok(collected) => {
                if !collected.dry_run {
                    let fates = collected.runs.iter();
                    gone.extend(fates.filter(|f| f.fate == "deleted").map(|f| f.run.clone()));
                }
                collection.collected = Some(Arc::new(collected));
            }
            Err(error) => collection.failed = Some(error.to_string()),
        });
    gone
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
    api.apart(async move || {
        for run in collect(&store, &what, &under).await {
            runs.note(&user, "delete", &run).await;
            runs.forget(&run).await;
        }
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
