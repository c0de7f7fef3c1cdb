//! Answers that go on as long as something happens: so many at once, and each only as long as
//! its reader's token counts.

use super::{Action, Api};
use crate::problem::Refusal;
use futures::{Stream, StreamExt};
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Readers at once: each holds a connection, and a chunk or an event.
const READERS: usize = 512;
/// Between two looks whether the token of a reader still counts.
const ASKED_AGAIN: Duration = Duration::from_secs(15);

/// The readers of a server.
pub(super) struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS)))
    }
}

impl Streams {
    /// A place for one more reader.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place = Arc::clone(&self.0).try_acquire_owned();
        place.map_err(|_| {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many follow something at this moment",
            )
        })
    }
}

impl Api {
    /// `stream` for whoever shows `token`: it ends when that counts no more.
    pub(super) fn guarded<S: Stream + Send>(
        &self,
        token: Arc<str>,
        place: OwnedSemaphorePermit,
        stream: S,
    ) -> impl Stream<Item = S::Item> + Send + use<S> {
        let api = self.clone();
        let gone = async move {
            let _place = place;
            loop {
                tokio::time::sleep(ASKED_AGAIN).await;
                // A store that does not answer for a moment says nothing about the token.
                match api.0.vouched.vouch(&token, Action::Read).await {
                    Ok(_) => {}
                    Err(refusal) if refusal.status() == StatusCode::SERVICE_UNAVAILABLE => {}
                    Err(_) => return,
                }
            }
        };
        stream.take_until(gone)
    }
}
