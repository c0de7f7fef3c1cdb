//! Who runs steps where nobody can: enough to bring a run to its end that was canceled and of
//! which nothing runs. It starts nothing.

use auria_core::ticket::Ticket;
use auria_core::{AttemptId, RunId};
use auria_engine::executor::{
    AttemptEvent, Executor, ListError, StartError, StopError, WatchError,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::time::Duration;

/// Nobody.
pub(super) struct Nobody {
    /// Why there is nobody else.
    pub(super) why: String,
}

#[async_trait::async_trait]
impl Executor for Nobody {
    async fn start(&self, _ticket: &Ticket) -> Result<(), StartError> {
        Err(StartError::Unavailable {
            message: self.why.clone(),
        })
    }

    async fn stop(&self, _attempt: &AttemptId, _grace: Duration) -> Result<(), StopError> {
        Ok(())
    }

    async fn list(&self, _run: &RunId) -> Result<Vec<AttemptId>, ListError> {
        Ok(Vec::new())
    }

    fn watch(&self, _run: &RunId) -> BoxStream<'static, Result<AttemptEvent, WatchError>> {
        futures::stream::pending().boxed()
    }
}
