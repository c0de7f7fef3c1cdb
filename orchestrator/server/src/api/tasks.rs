//! What goes on though who asked for it may be gone.

use super::Api;
use crate::problem::Refusal;
use http::StatusCode;
use std::sync::PoisonError;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

impl Api {
    /// Does `work` to its end, though the caller's connection may be gone by then: what was
    /// begun is not left half done.
    pub(super) async fn owned<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (done, came) = oneshot::channel();
        self.tasks(|tasks| {
            tasks.spawn(async move { drop(done.send(work.await)) });
        });
        came.await.map_err(|_| broken_off())
    }

    /// Does `work` on a thread of its own, for as long as this API is there, and answers what
    /// it comes to. What reads and deletes a whole store is no future that may move between
    /// threads.
    pub(super) fn apart<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, came) = oneshot::channel();
        let mut ends = self.0.ends.subscribe();
        let runtime = Handle::current();
        self.tasks(|tasks| {
            tasks.spawn_blocking(move || {
                runtime.block_on(async {
                    tokio::select! {
                        made = work() => drop(done.send(made)),
                        _ = ends.changed() => {}
                    }
                });
            });
        });
        came
    }

    fn tasks(&self, begin: impl FnOnce(&mut JoinSet<()>)) {
        let tasks = self.0.tasks.lock();
        let mut tasks = tasks.unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        begin(&mut tasks);
    }
}

/// What was begun has not come to its end.
pub(super) fn broken_off() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the request was broken off; ask again",
    )
}
