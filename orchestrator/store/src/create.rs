//! Creating a record once, whatever the store answers. Claims, outcomes, the log,
//! run names and asset versions all stand on this one function.
//!
//! A store may answer "already exists" to its own retried write, 500 or nothing
//! to a write that it applied, 409 while others write. So a status code never
//! means *lost*: after anything but a clean success the record itself is read.

use crate::error::sort_error;
use crate::outside::random_fraction;
use crate::{Store, StoreError, StorePath};
use auria_core::mutant;
use bytes::Bytes;
use object_store::{ObjectStore, PutMode, PutOptions};
use std::sync::Arc;
use std::time::Duration;

/// Who created a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// This call, or an earlier one with the same record.
    Won,
    /// Another; its bytes.
    Lost(Bytes),
}

/// Writes are tried this often before the store counts as unreachable.
const TRIES: u32 = 12;
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Store {
    /// Creates `path` with `bytes` unless it is there. `same` says of the bytes
    /// that are there whether they are this caller's own record.
    ///
    /// # Errors
    /// Where the store can be neither written nor read, after retries.
    pub async fn create_once(
        &self,
        path: &StorePath,
        bytes: Bytes,
        same: impl Fn(&[u8]) -> bool + Send + Sync,
    ) -> Result<Created, StoreError> {
        self.create_in(self.objects(), path, bytes, same).await
    }

    /// [`Self::create_once`] with the store's own choice of durability.
    pub(crate) async fn create_in(
        &self,
        objects: &Arc<dyn ObjectStore>,
        path: &StorePath,
        bytes: Bytes,
        same: impl Fn(&[u8]) -> bool + Send + Sync,
    ) -> Result<Created, StoreError> {
        let mut wait = FIRST_WAIT;
        let mut tries = 0;
        loop {
            let options = PutOptions {
                mode: PutMode::Create,
                ..PutOptions::default()
            };
            let Err(error) = objects.put_opts(path, bytes.clone().into(), options).await else {
                return Ok(Created::Won);
            };
            let error = sort_error("create", path, error);
            let is_conflict = matches!(error, StoreError::Conflict { .. });
            match self.read(path).await {
                Ok(Some(found)) if mutant!(LostByStatus) && is_conflict => {
                    return Ok(Created::Lost(found));
                }
                Ok(Some(found)) if same(&found) => return Ok(Created::Won),
                Ok(Some(found)) => return Ok(Created::Lost(found)),
                // Nothing is there, or that could not be found out: the same bytes again.
                Ok(None) => {}
                Err(reading) if !reading.is_transient() => return Err(reading),
                Err(_) => {}
            }
            let hopeless = !matches!(
                error,
                StoreError::Unreachable { .. }
                    | StoreError::Conflict { .. }
                    | StoreError::NotFound { .. }
            );
            tries += 1;
            if hopeless || tries == TRIES {
                return Err(match error {
                    // Always "exists" to the writer and "nothing there" to the reader.
                    StoreError::Conflict { .. } => StoreError::Unreachable {
                        doing: format!("create {path}"),
                        source: "it is said to exist, and cannot be read".into(),
                    },
                    error => error,
                });
            }
            let jitter = 0.5 + 0.5 * random_fraction();
            tokio::time::sleep(wait.mul_f64(jitter)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}
