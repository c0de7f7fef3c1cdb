//! Signed URLs, asked for in batches: whoever needs one while another request is under
//! way goes with the next, so that a thousand files cost a few requests. A URL is used at
//! once and kept nowhere.

use super::Remote;
use super::call::{Failed, Request, of_problem};
use crate::transfer::pause;
use auria_core::protocol::{self, MOST_SIGNED, Sign, SignFor, SignRequest, Signed};
use http::Method;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

/// Requests for URLs that are under way at once.
const AT_ONCE: usize = 2;
/// A broker that does not answer is asked so often; those who wait ask again themselves.
const TRIES: u32 = 6;

type Answer = Result<Option<String>, Arc<Failed>>;

/// The answers to a batch, in its order.
fn answers(signed: Signed, count: usize) -> impl Iterator<Item = Answer> {
    let Signed { urls, mut refused } = signed;
    let urls = urls.into_iter().chain(std::iter::repeat(None)).take(count);
    urls.enumerate()
        .map(move |(place, url)| match refused.remove(&place) {
            None => Ok(url),
            Some(problem) => Err(Arc::new(of_problem(&problem))),
        })
}

/// Those who wait for a URL. As many as there are transfers, which are bounded.
pub(super) struct Signatures {
    waiting: Mutex<VecDeque<(SignRequest, oneshot::Sender<Answer>)>>,
    turns: Semaphore,
}

impl Default for Signatures {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }
}

impl Signatures {
    fn wait(&self, request: &SignRequest) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back((request.clone(), sender));
        receiver
    }

    fn take(&self) -> Vec<(SignRequest, oneshot::Sender<Answer>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(MOST_SIGNED);
        let mut taken: Vec<_> = waiting.drain(..count).collect();
        taken.retain(|(_, sender)| !sender.is_closed());
        taken
    }
}

impl Remote {
    /// A URL for `to` at `path`; none where the broker signs none.
    pub(super) async fn signed(
        &self,
        path: &crate::StorePath,
        to: SignFor,
    ) -> Result<Option<String>, Arc<Failed>> {
        let request = SignRequest {
            path: path.to_string(),
            to,
        };
        let mut answer = self.0.signatures.wait(&request);
        loop {
            let turn = tokio::select! {
                biased;
                answered = &mut answer => match answered {
                    Ok(answered) => return answered,
                    // Whoever asked for it went away.
                    Err(_) => {
                        answer = self.0.signatures.wait(&request);
                        continue;
                    }
                },
                turn = self.0.signatures.turns.acquire() => turn,
            };
            let _turn = turn;
            let taken = self.0.signatures.take();
            if taken.is_empty() {
                // Another has this one; its answer comes.
                tokio::task::yield_now().await;
                drop(_turn);
                if let Ok(answered) = (&mut answer).await {
                    return answered;
                }
                answer = self.0.signatures.wait(&request);
                continue;
            }
            let (requests, senders): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
            match self.sign(requests).await {
                Ok(signed) => {
                    let answers = answers(signed, senders.len());
                    for (sender, answer) in senders.into_iter().zip(answers) {
                        let _ = sender.send(answer);
                    }
                }
                Err(failed) => {
                    let failed = Arc::new(failed);
                    for sender in senders {
                        let _ = sender.send(Err(Arc::clone(&failed)));
                    }
                }
            }
        }
    }

    async fn sign(&self, requests: Vec<SignRequest>) -> Result<Signed, Failed> {
        let body = serde_json::to_vec(&Sign { requests }).unwrap_or_default();
        let body = bytes::Bytes::from(body);
        let mut tries = 0;
        loop {
            let request = Request::new(Method::POST, protocol::SIGN).json(body.clone());
            let signed = match self.send(request).await {
                Ok(answer) => answer.json::<Signed>().await,
                Err(failed) => Err(failed),
            };
            tries += 1;
            match signed {
                Ok(signed) => return Ok(signed),
                Err(failed) if failed.is_transient() && tries < TRIES => pause(tries).await,
                Err(failed) => return Err(failed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::answers;
    use auria_core::protocol::{Problem, Signed};
    use http::StatusCode;
    use std::collections::BTreeMap;

    #[test]
    fn one_that_is_refused_is_the_only_one() {
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: "Forbidden".to_owned(),
            status: 403,
            detail: None,
        };
        let signed = Signed {
            urls: vec![Some("a".to_owned()), None, Some("c".to_owned())],
            refused: BTreeMap::from([(1, problem)]),
        };
        let mut answers = answers(signed, 4);
        let url = |answer: Option<super::Answer>| answer.unwrap().ok().flatten();
        assert_eq!(url(answers.next()).as_deref(), Some("a"));
        let refused = answers.next().unwrap().err().unwrap();
        assert_eq!(refused.status(), Some(StatusCode::FORBIDDEN));
        assert_eq!(url(answers.next()).as_deref(), Some("c"));
        // What the broker did not answer goes through it.
        assert_eq!(answers.next().unwrap().ok(), Some(None));
        assert!(answers.next().is_none());
    }
}
