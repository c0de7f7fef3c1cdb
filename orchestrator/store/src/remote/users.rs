//! What a user's program asks of an API beside the store: whether a plan can run, to take a
//! run up, and what changes in it. It knows nothing of what drives runs.

use super::lines::lines;
use super::{Remote, encode};
use crate::error::sort_error;
use crate::{StoreError, StorePath};
use auria_core::RunId;
use auria_core::plan::Plan;
use auria_core::protocol::{self, CANCEL, Checked, EVENTS, Heard, RUNS, ServerFacts, TOLD};
use auria_core::run::RunChange;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Method, StatusCode};

/// The longest event that is read.
const LONGEST_EVENT: usize = 4 * 1024 * 1024;

impl Remote {
    /// What the server says of itself.
    ///
    /// # Errors
    /// Where it cannot be reached, or refuses.
    pub async fn facts(&self) -> Result<ServerFacts, StoreError> {
        self.ask("ask", "the server", Method::GET, protocol::FACTS, &())
            .await
    }

    /// What of `plan` can never run there, in words.
    ///
    /// # Errors
    /// Where the server cannot be reached, or refuses.
    pub async fn check(&self, plan: &Plan) -> Result<Vec<String>, StoreError> {
        let checked: Checked = self
            .ask("check", "the plan", Method::POST, protocol::CHECK, plan)
            .await?;
        Ok(checked.refusals)
    }

    /// Hands over a run whose record stands in the store. Again: nothing happens.
    ///
    /// # Errors
    /// Where the server cannot be reached, or refuses.
    pub async fn announce(&self, run: &RunId) -> Result<(), StoreError> {
        self.tell_of_run("hand over", run, &format!("{RUNS}/{run}"))
            .await
    }

    /// Asks for a run to be canceled, in the name of who holds the token. Again: nothing
    /// happens.
    ///
    /// # Errors
    /// Where there is no such run, or the server cannot be reached, or refuses.
    pub async fn cancel(&self, run: &RunId) -> Result<(), StoreError> {
        self.tell_of_run("cancel", run, &format!("{RUNS}/{run}/{CANCEL}"))
            .await
    }

    /// Passes on to another replica what launchers said to this one.
    ///
    /// # Errors
    /// Where it cannot be reached, or refuses.
    pub async fn pass_on(&self, heard: &[Heard]) -> Result<(), StoreError> {
        self.ask("tell", "another replica", Method::POST, TOLD, &heard)
            .await
    }

    async fn tell_of_run(&self, verb: &str, run: &RunId, path: &str) -> Result<(), StoreError> {
        let token = self.token();
        let body = encode(&())?;
        let sent = self.0.line.send_at(Method::POST, path, body, Some(&token));
        let place = StorePath::from(run.as_str());
        match sent.await {
            Ok(_) => Ok(()),
            Err(failed) => Err(sort_error(verb, &place, failed.as_error(&place))),
        }
    }

    /// What changes in a run; none where it is not driven from there. Ends with the run,
    /// or when the server is gone.
    ///
    /// # Errors
    /// Where the server cannot be reached, or refuses.
    pub async fn follow(
        &self,
        run: &RunId,
    ) -> Result<Option<BoxStream<'static, RunChange>>, StoreError> {
        let token = self.token();
        let path = format!("{RUNS}/{run}/{EVENTS}");
        match self.0.line.listen(&path, Some(&token)).await {
            Ok(stream) => {
                // What breaks off has ended.
                let lines = lines(stream, LONGEST_EVENT).filter_map(|line| async { line.ok() });
                let changes = lines.filter_map(|line| async move {
                    serde_json::from_slice(line.strip_prefix(b"data:")?).ok()
                });
                Ok(Some(changes.boxed()))
            }
            Err(failed) if failed.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(failed) => {
                let place = StorePath::from(run.as_str());
                Err(sort_error("follow", &place, failed.as_error(&place)))
            }
        }
    }
}
