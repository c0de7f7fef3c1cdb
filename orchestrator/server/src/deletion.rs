//! Deleting a run, for the command line and the API alike. The rules are the store's.

use auria_core::RunId;
use auria_store::housekeeping::{self, Assets, Finished, Freed, Marked, User};
use auria_store::runs::RunJson;
use auria_store::{Store, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What became of a request to delete a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deletion {
    /// Which.
    pub run: RunId,
    /// What became of it.
    pub fate: Fate,
    /// What that freed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, u64>>")]
    pub freed: Option<Freed>,
    /// How long it still stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
    /// Who keeps it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<BTreeMap<String, String>>")]
    pub used_by: Vec<User>,
    /// Why it is kept where nobody uses it: `not ended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A run's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is gone.
    Deleted,
    /// It goes once its grace is over.
    Marked,
    /// It is being deleted, which takes a while.
    GoesOn,
    /// It stays.
    Kept,
}

impl Deletion {
    fn new(run: &RunId, fate: Fate) -> Self {
        Self {
            run: run.clone(),
            fate,
            freed: None,
            left_ms: None,
            used_by: Vec::new(),
            why: None,
        }
    }

    /// Of a deletion that goes on.
    pub(crate) fn going_on(run: &RunId) -> Self {
        Self::new(run, Fate::GoesOn)
    }
}

/// Marks `run` in the name of `by`, and deletes it where `grace` is over.
///
/// # Errors
/// Where the store cannot be read or written.
pub async fn delete(
    store: &Store,
    run: &RunJson,
    assets: &Assets,
    by: &str,
    grace: Duration,
) -> Result<Deletion, StoreError> {
    let id = &run.run;
    let kept = |used_by| Deletion {
        used_by,
        ..Deletion::new(id, Fate::Kept)
    };
    match housekeeping::mark(store, run, assets, by, grace).await? {
        Marked::Yes => {}
        Marked::NotEnded => {
            return Ok(Deletion {
                why: Some("not ended".to_owned()),
                ..Deletion::new(id, Fate::Kept)
            });
        }
        Marked::InUse(users) => return Ok(kept(users)),
    }
    Ok(match housekeeping::finish(store, id).await? {
        Finished::Deleted(freed) => Deletion {
            freed: Some(freed),
            ..Deletion::new(id, Fate::Deleted)
        },
        Finished::Waits(left) => Deletion {
            left_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            ..Deletion::new(id, Fate::Marked)
        },
        Finished::Kept(users) => kept(users),
        // Another deleted it in the same moment.
        Finished::NotMarked => Deletion::new(id, Fate::Deleted),
    })
}
