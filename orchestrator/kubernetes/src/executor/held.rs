//! Attempts that the namespace's quota, or their compute, has no room for: they wait here, as they would for
//! a node, and are tried again when a Pod goes, and now and then, since others use the
//! quota too. Bounded by what runs may start at a time.

use super::{Failed, Inner, Relay, called, not_taken};
use auria_core::run::AttemptNews;
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, RunId};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The cluster counts anew a moment after a Pod has ended.
const SOON: Duration = Duration::from_secs(1);
/// Pods of others may end without our knowledge.
const SELDOM: Duration = Duration::from_secs(30);
/// A round ends after so many in a row for which there is no room.
const IN_VAIN: usize = 4;

/// Those that wait.
#[derive(Default)]
pub(super) struct Held {
    waiting: Mutex<VecDeque<Waiting>>,
    /// One more waits, or there may be room.
    changed: Notify,
}

struct Waiting {
    ticket: Arc<Ticket>,
    /// The API server's words, as they were last told.
    why: String,
}

/// Whether the API server's refusal is a quota's: what others use now is free later.
pub(super) fn is_quota(failed: &Failed) -> bool {
    failed.code == Some(403) && failed.message.contains("exceeded quota")
}

impl Held {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an attempt wait, once, and tells why.
    pub(super) fn hold(&self, ticket: &Ticket, why: String, relay: &Relay) {
        let attempt = &ticket.attempt;
        if self.holds(attempt) {
            return;
        }
        self.waiting().push_back(Waiting {
            ticket: Arc::new(ticket.clone()),
            why: why.clone(),
        });
        self.changed.notify_one();
        relay.news(attempt, AttemptNews::Waiting { why });
    }

    /// There is no room for it still: it goes behind the others.
    fn still(&self, attempt: &AttemptId, why: String, relay: &Relay) {
        {
            let mut waiting = self.waiting();
            let place = waiting.iter().position(|w| w.ticket.attempt == *attempt);
            let Some(mut held) = place.and_then(|place| waiting.remove(place)) else {
                return;
            };
            let is_told = held.why == why;
            held.why.clone_from(&why);
            waiting.push_back(held);
            if is_told {
                return;
            }
        }
        relay.news(attempt, AttemptNews::Waiting { why });
    }

    /// Tells why it waits, where that has changed; its place in the queue stays.
    fn says(&self, attempt: &AttemptId, why: String, relay: &Relay) {
        {
            let mut waiting = self.waiting();
            let held = waiting.iter_mut().find(|w| w.ticket.attempt == *attempt);
            let Some(held) = held.filter(|held| held.why != why) else {
                return;
            };
            held.why.clone_from(&why);
        }
        relay.news(attempt, AttemptNews::Waiting { why });
    }

    pub(super) fn holds(&self, attempt: &AttemptId) -> bool {
        let waiting = self.waiting();
        waiting.iter().any(|held| held.ticket.attempt == *attempt)
    }

    /// It waits no longer; whether it did.
    pub(super) fn release(&self, attempt: &AttemptId) -> bool {
        let mut waiting = self.waiting();
        let before = waiting.len();
        waiting.retain(|held| held.ticket.attempt != *attempt);
        waiting.len() != before
    }

    /// None of `run` waits any longer.
    pub(super) fn release_run(&self, run: &RunId) {
        self.waiting()
            .retain(|held| held.ticket.attempt.run != *run);
    }

    /// Those of `run` that wait.
    pub(super) fn of(&self, run: &RunId) -> Vec<AttemptId> {
        let waiting = self.waiting();
        let attempts = waiting.iter().map(|held| &held.ticket.attempt);
        attempts.filter(|id| id.run == *run).cloned().collect()
    }

    /// A Pod has ended, or is gone.
    pub(super) fn freed(&self) {
        if !self.waiting().is_empty() {
            self.changed.notify_one();
        }
    }
}

/// Tries again for ever.
pub(super) async fn retry(inner: Arc<Inner>) {
    let mut pause = SOON;
    loop {
        match tokio::time::timeout(pause, inner.held.changed.notified()).await {
            Ok(()) => pause = SOON,
            Err(_elapsed) => pause = SELDOM.min(pause * 2),
        }
        round(&inner).await;
    }
}

/// Tries each that waits once; what finds no room goes behind the others, so that what
/// asks for little gets past what asks for much.
async fn round(inner: &Inner) {
    let tickets: Vec<Arc<Ticket>> = {
        let waiting = inner.held.waiting();
        waiting.iter().map(|held| held.ticket.clone()).collect()
    };
    let mut in_vain = 0;
    for ticket in tickets {
        let attempt = &ticket.attempt;
        if !inner.held.holds(attempt) {
            continue;
        }
        if let Err(full) = inner.take_place(&ticket) {
            // Nobody was asked: what comes behind it is not kept waiting by that.
            inner.held.says(attempt, full, &inner.relay);
            continue;
        }
        let mut made = 0;
        let news = match inner.pods(&ticket) {
            Err(message) => AttemptNews::Refused { message },
            Ok(pods) => match create(inner, &pods, &mut made).await {
                Ok(()) => {
                    if !inner.held.release(attempt) {
                        // It was stopped meanwhile.
                        inner.unmake(&ticket, made).await;
                    }
                    in_vain = 0;
                    continue;
                }
                Err(failed) if is_quota(&failed) => {
                    inner.unmake(&ticket, made).await;
                    inner.rooms.leave(attempt);
                    inner.held.still(attempt, failed.message, &inner.relay);
                    in_vain += 1;
                    if in_vain == IN_VAIN {
                        return;
                    }
                    continue;
                }
                // The run's driver starts it again, or gives it up.
                Err(failed) => {
                    inner.unmake(&ticket, made).await;
                    AttemptNews::Unavailable {
                        message: not_taken(attempt, &failed.message),
                    }
                }
            },
        };
        inner.rooms.leave(attempt);
        if inner.held.release(attempt) {
            inner.relay.news(attempt, news);
        }
    }
}

/// Creates all Pods of an attempt, and counts those that are.
async fn create(inner: &Inner, pods: &[Pod], made: &mut u32) -> Result<(), Failed> {
    for pod in pods {
        called(inner.pods.create(&PostParams::default(), pod)).await?;
        *made += 1;
    }
    Ok(())
}
