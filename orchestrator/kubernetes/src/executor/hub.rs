//! What launchers and Pods say of attempts, joined: each watcher of a run is first told
//! what is known, then what happens. A launcher's word comes by way of the broker
//! ([`Wake`]), long before the cluster shows the same. It decides nothing.

use async_trait::async_trait;
use auria_core::outcome::Cause;
use auria_core::run::AttemptNews;
use auria_core::{AttemptId, RunId};
use auria_engine::executor::{AttemptEvent, Happened, WatchError, is_last};
use auria_engine::relay::Wake;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Events that may wait for one watcher. One that falls behind is cut off: its driver
/// watches again, and looks in the store for what it missed.
const QUEUE: usize = 4096;
/// Of these, log lines leave this many for news.
const KEPT_FOR_NEWS: usize = 1024;
/// Attempts that are remembered whose Pod is not seen: of a replica that does not drive, or
/// whose Pod is seen a moment later. Beyond it the older half is forgotten; the store knows
/// what became of them. Those with a Pod are bounded by the namespace's Pods.
const REMEMBERED: usize = 8 * 1024;

type Watched = Result<AttemptEvent, WatchError>;

/// The relay between the broker and the executor `kubernetes`: clones are one.
#[derive(Clone, Debug, Default)]
pub struct Relay(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    attempts: HashMap<AttemptId, Known>,
    watchers: HashMap<RunId, Vec<mpsc::Sender<Watched>>>,
    /// Counts news.
    told: u64,
}

impl State {
    /// Keeps what is remembered within its bound.
    fn forget(&mut self) {
        if self.attempts.len() <= REMEMBERED {
            return;
        }
        let without = self.attempts.values().filter(|known| !known.has_pod);
        let mut ages: Vec<u64> = without.map(|known| known.told).collect();
        if ages.len() <= REMEMBERED {
            return;
        }
        let middle = ages.len() / 2;
        let (_, middle, _) = ages.select_nth_unstable(middle);
        let oldest = *middle;
        self.attempts
            .retain(|_, known| known.has_pod || known.told >= oldest);
    }
}

#[derive(Debug, Default)]
struct Known {
    /// The latest of each kind; of one that has ended, the last.
    news: Vec<AttemptNews>,
    ended: bool,
    /// Which of all news its latest was.
    told: u64,
    /// Its Pod is seen.
    has_pod: bool,
    /// We were asked to stop it.
    stopped: bool,
    /// What its Pod says.
    pod: PodSays,
    /// Another Pod of its, where it has several, was preempted.
    member_preempted: bool,
}

/// What a Pod says that its launcher cannot know.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PodSays {
    /// What a stop leaves for publishing.
    pub(super) publish_grace_ms: Option<u64>,
    /// The scheduler gives its place to something else.
    pub(super) preempted: bool,
    /// How many Pods the attempt has.
    pub(super) instances: u32,
}

impl Known {
    /// A launcher that got SIGTERM knows that it was taken away, and not by whom.
    fn tell_apart(&self, news: &mut AttemptNews) {
        if let AttemptNews::Ended { end } = news
            && end.cause == Cause::Evicted
            && let Some(cause) = self.taken_by()
        {
            end.cause = cause;
        }
    }

    fn taken_by(&self) -> Option<Cause> {
        if self.stopped {
            return Some(Cause::Canceled);
        }
        (self.pod.preempted || self.member_preempted).then_some(Cause::Preempted)
    }
}

#[async_trait]
impl Wake for Relay {
    fn tell(&self, event: AttemptEvent) {
        let AttemptEvent { attempt, happened } = event;
        match happened {
            Happened::News(news) => self.news(&attempt, news),
            Happened::Log(lines) => self.log(attempt, lines),
        }
    }

    async fn taken_by(&self, attempt: &AttemptId) -> Option<Cause> {
        self.state().attempts.get(attempt)?.taken_by()
    }
}

impl Relay {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every watcher of the attempt's run, and those to come.
    pub(super) fn news(&self, attempt: &AttemptId, mut news: AttemptNews) {
        let mut state = self.state();
        let last = is_last(&news);
        state.told += 1;
        let told = state.told;
        let known = state.attempts.entry(attempt.clone()).or_default();
        known.told = told;
        known.tell_apart(&mut news);
        known
            .news
            .retain(|old| !last && std::mem::discriminant(old) != std::mem::discriminant(&news));
        known.news.push(news.clone());
        known.ended |= last;
        let has_pod = known.has_pod;
        let event = AttemptEvent {
            attempt: attempt.clone(),
            happened: Happened::News(news),
        };
        let mut heard = false;
        if let Some(watchers) = state.watchers.get_mut(&attempt.run) {
            watchers.retain(|watcher| watcher.try_send(Ok(event.clone())).is_ok());
            heard = !watchers.is_empty();
            if watchers.is_empty() {
                state.watchers.remove(&attempt.run);
            }
        }
        if last && heard && !has_pod {
            state.attempts.remove(attempt);
        }
        state.forget();
    }

    fn log(&self, attempt: AttemptId, lines: Vec<String>) {
        let state = self.state();
        for watcher in state.watchers.get(&attempt.run).into_iter().flatten() {
            if watcher.capacity() > KEPT_FOR_NEWS {
                let event = AttemptEvent {
                    attempt: attempt.clone(),
                    happened: Happened::Log(lines.clone()),
                };
                let _ = watcher.try_send(Ok(event));
            }
        }
    }

    /// What is known of the attempts of `run` and, after it, what happens to them.
    pub(super) fn watch(&self, run: &RunId) -> (Vec<AttemptEvent>, mpsc::Receiver<Watched>) {
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
            attempt.has_pod || !attempt.ended
        });
        // Those of runs that have ended left nobody who would be told so.
        state.watchers.retain(|_, watchers| {
            watchers.retain(|watcher| !watcher.is_closed());
            !watchers.is_empty()
        });
        let watchers = state.watchers.entry(run.clone()).or_default();
        watchers.push(sender);
        (known, receiver)
    }

    /// Whether nothing follows for an attempt.
    pub(super) fn has_ended(&self, attempt: &AttemptId) -> bool {
        self.state()
            .attempts
            .get(attempt)
            .is_some_and(|known| known.ended)
    }

    /// A Pod of the attempt is there.
    pub(super) fn pod_seen(&self, attempt: &AttemptId, says: PodSays) {
        let mut state = self.state();
        let known = state.attempts.entry(attempt.clone()).or_default();
        known.has_pod = true;
        known.pod = says;
    }

    /// Another Pod of a distributed step's attempt than the first is there.
    pub(super) fn member_seen(&self, attempt: &AttemptId, says: PodSays) {
        let mut state = self.state();
        let known = state.attempts.entry(attempt.clone()).or_default();
        known.pod.instances = says.instances;
        known.member_preempted |= says.preempted;
    }

    /// How many Pods an attempt has, where one of them was seen.
    pub(super) fn instances(&self, attempt: &AttemptId) -> Option<u32> {
        let state = self.state();
        let known = state.attempts.get(attempt)?;
        (known.pod.instances > 0).then_some(known.pod.instances)
    }

    /// The attempt is started anew: what was known was of an earlier Pod.
    pub(super) fn starts(&self, attempt: &AttemptId) {
        self.state().attempts.remove(attempt);
    }

    /// Its Pod is gone. Whether the attempt had not ended by then.
    pub(super) fn pod_gone(&self, attempt: &AttemptId) -> bool {
        let mut state = self.state();
        let Some(known) = state.attempts.get_mut(attempt) else {
            return true;
        };
        known.has_pod = false;
        if known.ended {
            state.attempts.remove(attempt);
            return false;
        }
        true
    }

    /// These alone have a Pod: what was seen before was by a watch that has ended, of an
    /// earlier time in which this process drove.
    pub(super) fn pods_are(&self, there: &HashSet<AttemptId>) {
        let mut state = self.state();
        state.attempts.retain(|attempt, known| {
            known.has_pod = there.contains(attempt);
            known.has_pod || !known.ended
        });
    }

    /// We were asked to stop it. What that leaves for publishing, where its Pod was seen.
    pub(super) fn stopping(&self, attempt: &AttemptId) -> Option<u64> {
        let mut state = self.state();
        let known = state.attempts.get_mut(attempt)?;
        known.stopped = true;
        known.pod.publish_grace_ms
    }

    pub(super) fn was_stopped(&self, attempt: &AttemptId) -> bool {
        self.state()
            .attempts
            .get(attempt)
            .is_some_and(|known| known.stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::{PodSays, QUEUE, REMEMBERED, Relay};
    use auria_core::outcome::{Cause, EndRecord, Timings};
    use auria_core::run::{AttemptNews, Phase};
    use auria_core::{AttemptId, Timestamp};
    use auria_engine::executor::{AttemptEvent, Happened};
    use auria_engine::relay::Wake;

    fn attempt(step: &str) -> AttemptId {
        AttemptId {
            run: "r".parse().unwrap(),
            step: step.parse().unwrap(),
            number: 1,
        }
    }

    fn phase(phase: Phase) -> AttemptNews {
        AttemptNews::Phase { phase }
    }

    #[test]
    fn a_new_watch_is_told_the_current_state_first_and_the_last_word_once() {
        let relay = Relay::default();
        let one = attempt("one");
        relay.news(&one, phase(Phase::Fetching));
        relay.news(&one, phase(Phase::Running));
        let (known, mut events) = relay.watch(&one.run);
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].happened, Happened::News(phase(Phase::Running)));
        relay.news(&one, AttemptNews::ClaimLost);
        assert_eq!(
            events.try_recv().unwrap().unwrap().happened,
            Happened::News(AttemptNews::ClaimLost)
        );
        let (known, _events) = relay.watch(&one.run);
        assert!(known.is_empty(), "{known:?}");
    }

    #[test]
    fn the_last_word_of_one_whose_pod_is_there_is_kept_until_the_pod_goes() {
        let relay = Relay::default();
        let one = attempt("one");
        let (_, _events) = relay.watch(&one.run);
        relay.pod_seen(&one, PodSays::default());
        relay.news(&one, AttemptNews::ClaimLost);
        assert!(relay.has_ended(&one));
        assert!(!relay.pod_gone(&one));
        // Nothing is known of it any more.
        assert!(!relay.has_ended(&one));
        assert!(relay.pod_gone(&one));
    }

    #[test]
    fn pods_that_went_while_nobody_watched_are_not_remembered_for_ever() {
        let relay = Relay::default();
        let (one, two) = (attempt("one"), attempt("two"));
        for id in [&one, &two] {
            relay.pod_seen(id, PodSays::default());
            relay.news(id, AttemptNews::ClaimLost);
        }
        relay.pods_are(&[two.clone()].into());
        assert!(!relay.has_ended(&one));
        assert!(relay.has_ended(&two));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let relay = Relay::default();
        let with_pod = attempt("pod");
        relay.pod_seen(&with_pod, PodSays::default());
        let first = attempt("first");
        relay.news(&first, phase(Phase::Running));
        for number in 0..REMEMBERED {
            let id = AttemptId {
                number: u32::try_from(number).unwrap(),
                ..attempt("many")
            };
            relay.news(&id, phase(Phase::Running));
        }
        let state = relay.state();
        assert!(
            state.attempts.len() <= REMEMBERED,
            "{}",
            state.attempts.len()
        );
        assert!(state.attempts.contains_key(&with_pod));
        assert!(!state.attempts.contains_key(&first));
        let last = u32::try_from(REMEMBERED - 1).unwrap();
        let newest = AttemptId {
            number: last,
            ..attempt("many")
        };
        assert!(state.attempts.contains_key(&newest));
    }

    #[test]
    fn who_took_an_attempt_away_is_told_by_its_pod() {
        let one = attempt("one");
        let end = AttemptNews::Ended {
            end: EndRecord {
                attempt: one.clone(),
                nonce: None,
                cause: Cause::Evicted,
                exit_code: Some(143),
                message: String::new(),
                last_lines: Vec::new(),
                timings: Timings::default(),
                checkpoint: None,
                published: None,
                node: None,
                started: None,
                ended: Timestamp(0),
            },
        };
        for (preempted, stopped, expected) in [
            (false, false, Cause::Evicted),
            (true, false, Cause::Preempted),
            (true, true, Cause::Canceled),
        ] {
            let relay = Relay::default();
            let (_, mut events) = relay.watch(&one.run);
            let says = PodSays {
                preempted,
                ..PodSays::default()
            };
            relay.pod_seen(&one, says);
            if stopped {
                relay.stopping(&one);
            }
            relay.news(&one, end.clone());
            match events.try_recv().unwrap().unwrap().happened {
                Happened::News(AttemptNews::Ended { end }) => assert_eq!(end.cause, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn who_does_not_listen_is_cut_off_and_nobody_waits_for_it() {
        let relay = Relay::default();
        let one = attempt("one");
        let (_, mut slow) = relay.watch(&one.run);
        for _ in 0..=QUEUE {
            relay.news(&one, phase(Phase::Running));
        }
        let mut told = 0;
        while slow.try_recv().is_ok() {
            told += 1;
        }
        assert_eq!(told, QUEUE);
        assert!(slow.is_closed());
        let lines = AttemptEvent {
            attempt: one.clone(),
            happened: Happened::Log(vec!["x".to_owned()]),
        };
        let (_, mut quick) = relay.watch(&one.run);
        relay.tell(lines.clone());
        assert_eq!(quick.try_recv().unwrap().unwrap(), lines);
    }
}
