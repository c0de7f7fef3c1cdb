//! A short log of decisions about one thing (an endpoint, a schedule): dense numbers, each
//! created once, so that of two who decide at a time one is first and the other sees it. The
//! thing is what its decisions come to.

use auria_core::Nonce;
use auria_store::{Created, Store, StoreError, StorePath};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Decisions about one thing; more are refused.
const MOST: u64 = 100_000;
/// Tries to be the next, where others decide at the same time.
const TRIES: u32 = 50;

/// A decision as it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Written<D> {
    /// Drawn by the writer, so that it knows its own record again.
    nonce: Nonce,
    #[serde(flatten)]
    decision: D,
}

/// All decisions below `at`, in order.
///
/// # Errors
/// Where the store cannot be read.
pub(crate) async fn read<D: DeserializeOwned>(
    store: &Store,
    at: impl Fn(u64) -> StorePath,
) -> Result<Vec<D>, StoreError> {
    let mut found = Vec::new();
    for seq in 1..=MOST {
        let record: Option<Written<D>> = store.read_json(&at(seq)).await?;
        match record {
            Some(record) => found.push(record.decision),
            None => break,
        }
    }
    Ok(found)
}

/// Appends what `decide` says of the decisions before; none where there is nothing to do.
/// `decide` is asked again where another was first.
///
/// # Errors
/// That of `decide`; where the store fails.
pub(crate) async fn append<D: Serialize + DeserializeOwned + Clone, E: From<StoreError>>(
    store: &Store,
    at: impl Fn(u64) -> StorePath,
    mut decide: impl FnMut(&[D]) -> Result<Option<D>, E>,
) -> Result<(), E> {
    for _ in 0..TRIES {
        let before: Vec<D> = read(store, &at).await?;
        let Some(decision) = decide(&before)? else {
            return Ok(());
        };
        let path = at(before.len() as u64 + 1);
        let record = Written {
            nonce: auria_engine::driver::nonce(),
            decision,
        };
        let bytes = crate::names::json(&record);
        let same = |found: &[u8]| found == bytes;
        match store.create_once(&path, bytes.clone().into(), same).await? {
            Created::Won => return Ok(()),
            Created::Lost(_) => {}
        }
    }
    Err(E::from(StoreError::Unreachable {
        doing: format!("decide at {}", at(1)),
        source: "others decide all the time".into(),
    }))
}
