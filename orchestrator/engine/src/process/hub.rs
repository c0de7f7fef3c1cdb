//! Who watches which run, and what is known of each attempt. News reach every
//! watcher, in order for each attempt; log lines those that keep up.

use crate::executor::{AttemptEvent, Happened, WatchError, is_last};
use auria_core::run::AttemptNews;
use auria_core::{AttemptId, RunId};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Events that may wait for one watcher; then those who tell news wait.
const QUEUE: usize = 4096;
/// Of these, log lines leave this many for news.
const KEPT_FOR_NEWS: usize = 1024;

pub(super) type Watched = Result<AttemptEvent, WatchError>;

/// A request to stop, as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StopOrder {
    pub(super) kill_at: Instant,
    pub(super) at_once: bool,
}

#[derive(Debug, Default)]
pub(super) struct Hub(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    attempts: HashMap<AttemptId, Known>,
    watchers: HashMap<RunId, Vec<mpsc::Sender<Watched>>>,
}

#[derive(Debug)]
struct Known {
    /// The latest of each kind; of one that has ended and that nobody heard of, the last.
    news: Vec<AttemptNews>,
    stop: watch::Sender<Option<StopOrder>>,
    /// It waits in this executor, and no launcher holds its lock.
    waits: bool,
    ended: bool,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes responsibility for an attempt; none where someone has it already.
    pub(super) fn begin(
        &self,
        attempt: &AttemptId,
        waits: bool,
    ) -> Option<watch::Receiver<Option<StopOrder>>> {
        let mut state = self.state();
        if state
            .attempts
            .get(attempt)
            .is_some_and(|known| !known.ended)
        {
            return None;
        }
        let (stop, stops) = watch::channel(None);
        state.attempts.insert(
            attempt.clone(),
            Known {
                news: Vec::new(),
                stop,
                waits,
                ended: false,
            },
        );
        Some(stops)
    }

    /// It has been given to a launcher.
    pub(super) fn launched(&self, attempt: &AttemptId) {
        if let Some(known) = self.state().attempts.get_mut(attempt) {
            known.waits = false;
        }
    }

    /// Asks to stop an attempt that someone is responsible for; whether there is one.
    pub(super) fn stop(&self, attempt: &AttemptId, grace: Duration) -> bool {
        let asked = StopOrder {
            kill_at: Instant::now() + grace,
            at_once: grace.is_zero(),
        };
        let state = self.state();
        let Some(known) = state.attempts.get(attempt).filter(|known| !known.ended) else {
            return false;
        };
        known.stop.send_modify(|order| {
            *order = Some(order.map_or(asked, |first| StopOrder {
                kill_at: first.kill_at.min(asked.kill_at),
                at_once: first.at_once || asked.at_once,
            }));
        });
        true
    }

    /// The attempts of `run` that wait in this executor.
    pub(super) fn waiting(&self, run: &RunId) -> Vec<AttemptId> {
        let state = self.state();
        let waiting = state
            .attempts
            .iter()
            .filter(|(id, known)| id.run == *run && known.waits && !known.ended);
        waiting.map(|(id, _)| id.clone()).collect()
    }

    /// Tells every watcher of the attempt's run, and those to come; whether there is
    /// one by now.
    pub(super) async fn news(&self, attempt: &AttemptId, news: AttemptNews) -> bool {
        let last = is_last(&news);
        let (watchers, heard) = {
            let mut state = self.state();
            let watchers = state
                .watchers
                .get(&attempt.run)
                .cloned()
                .unwrap_or_default();
            let heard = watchers.iter().any(|watcher| !watcher.is_closed());
            if last && heard {
                state.attempts.remove(attempt);
            } else if let Some(known) = state.attempts.get_mut(attempt) {
                known.news.retain(|old| {
                    !last && std::mem::discriminant(old) != std::mem::discriminant(&news)
                });
                known.news.push(news.clone());
                known.ended = last;
            }
            (watchers, heard)
        };
        for watcher in watchers {
            let event = AttemptEvent {
                attempt: attempt.clone(),
                happened: Happened::News(news.clone()),
            };
            // A watcher that has gone is swept out by the next `watch`.
            let _ = watcher.send(Ok(event)).await;
        }
        heard
    }

    /// Tells those that keep up what the command said.
    pub(super) fn log(&self, attempt: &AttemptId, lines: &[String]) {
        let state = self.state();
        for watcher in state.watchers.get(&attempt.run).into_iter().flatten() {
            if watcher.capacity() > KEPT_FOR_NEWS {
                let event = AttemptEvent {
                    attempt: attempt.clone(),
                    happened: Happened::Log(lines.to_vec()),
                };
                let _ = watcher.try_send(Ok(event));
            }
        }
    }

    /// What is known of the attempts of `run` and, after it, what happens to them.
    pub(super) fn watch(
        &self,
        run: &RunId,
    ) -> (
        Vec<AttemptEvent>,
        mpsc::Sender<Watched>,
        mpsc::Receiver<Watched>,
    ) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut state = self.state();
        let mut known = Vec::new();
        state.attempts.retain(|id, attempt| {
            if id.run != *run {
                return true;
            }
            known.extend(attempt.news.iter().map(|news| AttemptEvent {
                attempt: id.clone(),
                happened: Happened::News(news.clone()),
            }));
            !attempt.ended
        });
        let watchers = state.watchers.entry(run.clone()).or_default();
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.push(sender.clone());
        (known, sender, receiver)
    }
}
