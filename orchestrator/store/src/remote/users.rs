//! What a user's program asks of an API beside the store: whether a plan can run, to take a
//! run up, and what changes in it. It knows nothing of what drives runs.

use super::{Remote, encode};
use crate::error::sort_error;
use crate::{StoreError, StorePath};
use auria_core::RunId;
use auria_core::plan::Plan;
use auria_core::protocol::{self, CANCEL, Checked, EVENTS, RUNS, ServerFacts};
use auria_core::run::RunChange;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
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
                let lines = lines(stream.map_err(drop).boxed());
                let changes = lines.filter_map(|line| async move {
                    let data = line.strip_prefix(b"data:")?.to_vec();
                    serde_json::from_slice(&data).ok()
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

/// The lines of a stream, without their ends; it ends where one is too long.
fn lines(stream: BoxStream<'static, Result<Bytes, ()>>) -> BoxStream<'static, Vec<u8>> {
    let begun = (stream, Vec::new());
    futures::stream::unfold(begun, |(mut stream, mut rest)| async move {
        loop {
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = rest.drain(..=end).collect();
                line.pop();
                return Some((line, (stream, rest)));
            }
            if rest.len() > LONGEST_EVENT {
                return None;
            }
            rest.extend_from_slice(&stream.next().await?.ok()?);
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::lines;
    use bytes::Bytes;
    use futures::StreamExt;

    #[tokio::test]
    async fn lines_are_found_across_pieces() {
        let pieces = ["da", "ta: 1\n\nda", "ta: 2\n", "rest"];
        let pieces = pieces.map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
        let found: Vec<_> = lines(futures::stream::iter(pieces).boxed()).collect().await;
        let found: Vec<_> = found
            .iter()
            .map(|line| String::from_utf8_lossy(line))
            .collect();
        assert_eq!(found, ["data: 1", "", "data: 2"]);
    }
}
