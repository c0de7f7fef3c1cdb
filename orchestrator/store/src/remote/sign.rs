//! Signed URLs, asked for in batches: whoever needs one while another request is under
//! way goes with the next, so that a thousand files cost a few requests. A URL is used at
//! once and kept nowhere.

use super::Remote;
use super::call::{Failed, Request};
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
                Ok(urls) => {
                    for (sender, url) in senders.into_iter().zip(urls) {
                        let _ = sender.send(Ok(url));
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

    async fn sign(&self, requests: Vec<SignRequest>) -> Result<Vec<Option<String>>, Failed> {
        let count = requests.len();
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
                Ok(Signed { mut urls }) => {
                    urls.resize(count, None);
                    return Ok(urls);
                }
                Err(failed) if failed.is_transient() && tries < TRIES => pause(tries).await,
                Err(failed) => return Err(failed),
            }
        }
    }
}
