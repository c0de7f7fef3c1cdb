//! The same key gives the same run, through restarts and however often it is asked: the name
//! of the run that a request is to make stands in the store, by conditional create, before
//! the run does. It starts nothing.

use auria_core::{Digest, Nonce, RunId, Timestamp};
use auria_store::{Created, Store, StoreError, served};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The header that carries a key.
pub(crate) const HEADER: &str = "idempotency-key";
/// The longest key.
pub(crate) const LONGEST: usize = 255;
/// Requests with keys that go on side by side; those of one key never do.
const TURNS: usize = 64;

/// What a request with a key is to come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The run.
    run: RunId,
    /// The run's own nonce: one of this name with another nonce is somebody else's.
    nonce: Nonce,
    /// Of what was asked.
    asked: Digest,
    /// When it was asked first.
    at: Timestamp,
}

/// What stands for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    /// The request is to come to this run, or has.
    Run(RunId, Nonce),
    /// The key was used for something else.
    Other,
}

/// The key of a request.
///
/// # Errors
/// Where it is too long or no text, in words.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, String> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) if (1..=LONGEST).contains(&text.len()) => Ok(Some(text.to_owned())),
        _ => Err(format!(
            "an Idempotency-Key has 1 to {LONGEST} plain letters"
        )),
    }
}

/// One request of each key at a time.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<[Arc<Semaphore>]>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| Arc::new(Semaphore::new(1))).collect())
    }
}

impl Turns {
    /// Waits until no other request of this key is under way.
    pub(crate) async fn take(&self, key: &Digest) -> Option<OwnedSemaphorePermit> {
        let letters = key.hex();
        let place = usize::from_str_radix(&letters[..4], 16).unwrap_or_default() % self.0.len();
        // Closed by nobody.
        Arc::clone(&self.0[place]).acquire_owned().await.ok()
    }
}

/// Names a key of `who` for a thing that is asked.
pub(crate) fn name(who: &str, what: &str, key: &str) -> Digest {
    let whole = serde_json::json!([who, what, key]).to_string();
    Digest::of(whole.as_bytes())
}

/// Lets the key `name` stand for nothing: what was asked came to no run, and never will.
pub(crate) async fn forget(store: &Store, name: &Digest) {
    if let Err(error) = store.delete(&served::request(name)).await {
        tracing::warn!(%error, "the key of a request that was refused stays taken");
    }
}

/// Lets the key `name` stand for `run`, unless it stands for another already.
///
/// # Errors
/// Where the store fails.
pub(crate) async fn stand(
    store: &Store,
    name: &Digest,
    asked: Digest,
    run: RunId,
    at: Timestamp,
) -> Result<Stands, StoreError> {
    let path = served::request(name);
    let nonce = auria_engine::driver::nonce();
    let kept = Kept {
        run,
        nonce,
        asked,
        at,
    };
    let bytes = crate::names::json(&kept);
    let same = |found: &[u8]| found == bytes;
    match store.create_once(&path, bytes.clone().into(), same).await? {
        Created::Won => Ok(Stands::Run(kept.run, kept.nonce)),
        Created::Lost(found) => {
            let found: Kept =
                serde_json::from_slice(&found).map_err(|error| StoreError::Corrupt {
                    what: path.to_string(),
                    expected: "the run of a request".to_owned(),
                    found: error.to_string(),
                })?;
            Ok(if found.asked == asked {
                Stands::Run(found.run, found.nonce)
            } else {
                Stands::Other
            })
        }
    }
}
