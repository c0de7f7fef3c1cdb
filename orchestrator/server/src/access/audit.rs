//! Who did what: one small record for each deed, below `access/audit/`. A deed is told before
//! its answer; that it cannot be written never undoes it.

use auria_core::Timestamp;
use auria_store::{Store, StoreError, served};
use futures::{StreamExt, TryStreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Records that are read together.
const AT_ONCE: usize = 16;

/// One deed.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Deed {
    /// When.
    pub at: Timestamp,
    /// Who, as their token is named.
    pub who: String,
    /// What: `submit`, `cancel`, `retry`, `token.create`, `denied`, …
    pub what: String,
    /// To what: a run, a token's id, an endpoint.
    pub to: String,
}

/// Notes a deed.
pub async fn note(store: &Store, at: Timestamp, who: &str, what: &str, to: &str) {
    let deed = Deed {
        at,
        who: who.to_owned(),
        what: what.to_owned(),
        to: to.to_owned(),
    };
    let nonce = auria_engine::driver::nonce();
    let path = served::audit_record(at, nonce.as_str());
    let bytes = crate::names::json(&deed);
    let same = |found: &[u8]| found == bytes;
    if let Err(error) = store.create_once(&path, bytes.clone().into(), same).await {
        tracing::error!(who, what, to, %error, "the audit log cannot be written");
    }
}

/// The last deeds, newest first.
///
/// # Errors
/// Where the store cannot be read.
pub async fn last(store: &Store, count: usize) -> Result<Vec<Deed>, StoreError> {
    let mut days = store.list_folders(&served::audit()).await?;
    days.sort();
    let mut keys = Vec::new();
    // Whole days, newest first: what was years ago is not listed for what was today.
    while keys.len() < count
        && let Some(day) = days.pop()
    {
        let mut found = store.list(&served::audit().join(day.as_str())).await?;
        found.sort_by(|one, other| other.location.cmp(&one.location));
        found.truncate(count - keys.len());
        keys.extend(found);
    }
    futures::stream::iter(keys)
        .map(|key| async move { store.read_json(&key.location).await })
        .buffered(AT_ONCE)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await
}
