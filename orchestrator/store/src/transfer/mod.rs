//! One file into the store and out of it: in parts that are under way at once, in
//! bounded memory, with its digest taken while the bytes pass. It knows nothing of
//! manifests.

mod digest;
mod download;
mod local;
mod memory;
mod upload;

pub(crate) use local::{Passage, hash_file};
pub(crate) use memory::Memory;

use crate::{StoreError, StorePath};
use auria_core::Digest;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;
/// Larger files go in parts of this size, and come in ranges of it: a power of two,
/// so that a part is a subtree of the file's digest.
const PART: u64 = 8 * MIB;
/// Something that the store broke off is begun anew this often.
const TRIES: u32 = 3;
/// What took longer to fail was tried for long enough.
const QUICK: Duration = Duration::from_secs(10);

/// What passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StoreError::Unreachable {
            doing: "work on files".into(),
            source: Box::new(error),
        }),
    }
}

/// Waits before the try after `tries`; not all at once, since many wait for one store.
pub(crate) async fn pause(tries: u32) {
    let jitter = 0.5 + crate::outside::random_fraction();
    let wait = Duration::from_millis(100) * 2_u32.saturating_pow(tries.saturating_sub(1));
    tokio::time::sleep(wait.min(Duration::from_secs(5)).mul_f64(jitter)).await;
}

/// Does `what` again where an answer broke off. For what may be done twice.
///
/// The client beneath has repeated the request itself where no answer began. So a
/// store that cannot be connected to, or that took long, is not asked again here.
pub(crate) async fn again<T, F>(what: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        let begun = tokio::time::Instant::now();
        match what().await {
            Err(error)
                if tries < TRIES
                    && error.is_transient()
                    && begun.elapsed() < QUICK
                    && !crate::http::is_unconnected(&error) =>
            {
                pause(tries).await;
            }
            result => return result,
        }
    }
}

fn check(what: &StorePath, expected: Passed, found: Passed) -> Result<(), StoreError> {
    if found == expected {
        return Ok(());
    }
    let text = |passed: Passed| format!("{} bytes, {}", passed.size, passed.digest);
    Err(StoreError::corrupt(what, text(expected), text(found)))
}
