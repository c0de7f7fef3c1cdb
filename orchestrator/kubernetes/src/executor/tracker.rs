//! The one watch of the namespace: tells what Pods say and launchers did not, gives up
//! what waits in vain, and takes Pods away once they are no use. Ends with its executor.

use super::hub::PodSays;
use super::standing::{OVERDUE_MS, Over, Standing, deleted, is_preempted, standing};
use super::{Inner, Relay, Removal};
use crate::names;
use auria_core::outcome::Cause;
use auria_core::run::AttemptNews;
use auria_core::{AttemptId, Timestamp};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a Pod that did not end well stays, to be looked at.
const KEPT_MS: u64 = 10 * 60 * 1000;
/// How long the start of a Pod may take that does not say it.
const STARTS_MS: u64 = 30 * 60 * 1000;
/// Before a Pod is removed again that could not be.
const AGAIN_MS: u64 = 2_000;
/// After the end of one Pod of a group was told, so long the others are left to themselves:
/// the attempt's end is written meanwhile, and theirs do not stand for it.
const AFTER_END_MS: u64 = 3_000;
/// How often it is looked whether the group of a Pod that runs is over.
const GROUP_LOOK_MS: u64 = 5_000;
/// How launchers of other instances end that have left in the store how their instance did.
const SAID_SO: [i32; 2] = [0, 10];
/// Pods that are removed at once; more wait for the next round.
const REMOVED_AT_ONCE: usize = 16;

/// A Pod that is there.
struct Tracked {
    attempt: AttemptId,
    pod: Pod,
    /// What was last told of its waiting.
    told: Option<String>,
    /// Since when its image is trouble.
    trouble: Option<Timestamp>,
    /// When to look at it again.
    due: Option<Timestamp>,
    /// Its end was told: that its object goes is no news, also where the same number has
    /// been started again since.
    over: bool,
    /// It is being removed.
    removing: bool,
    /// What to tell once it is removed.
    parting: Option<AttemptNews>,
    /// Which instance of its attempt it is, and of how many.
    instance: u32,
    instances: u32,
    /// Its group is over: it is stopped then, once.
    doomed: Option<Timestamp>,
}

impl Tracked {
    /// It is one of several Pods of its attempt.
    fn is_grouped(&self) -> bool {
        self.instances > 1
    }

    /// Its launcher holds its attempt's claim.
    fn is_first(&self) -> bool {
        self.instance == 0
    }

    /// Looks at it again at `at`, if not before.
    fn due_by(&mut self, at: Timestamp) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

/// Watches for ever.
pub(super) async fn track(inner: Arc<Inner>) {
    let config = watcher::Config::default().labels(&names::selector());
    let events = watcher::watcher(inner.pods.clone(), config).default_backoff();
    let mut events = pin!(events.into_stream());
    let mut tracker = Tracker {
        inner,
        pods: HashMap::new(),
        removals: JoinSet::new(),
    };
    let mut listed: HashSet<String> = HashSet::new();
    loop {
        let due = tracker.due();
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(pod))) => {
                    listed.extend(pod.metadata.name.clone());
                    tracker.seen(pod);
                }
                Some(Ok(Event::InitDone)) => tracker.listed(&listed),
                Some(Ok(Event::Apply(pod))) => tracker.seen(pod),
                Some(Ok(Event::Delete(pod))) => tracker.gone(pod),
                Some(Err(error)) => tracing::warn!(error = crate::chain(&error), "watching Pods"),
                None => return,
            },
            Some(removed) = tracker.removals.join_next() => match removed {
                Ok((name, uid, done)) => tracker.removed(&name, uid.as_deref(), done),
                Err(error) => tracing::warn!("removing a Pod: {error}"),
            },
            () = until(due) => tracker.look(),
        }
    }
}

async fn until(due: Option<Duration>) {
    match due {
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
}

struct Tracker {
    inner: Arc<Inner>,
    pods: HashMap<String, Tracked>,
    removals: JoinSet<(String, Option<String>, Removal)>,
}

impl Tracker {
    fn now(&self) -> Timestamp {
        (self.inner.options.now)()
    }

    fn relay(&self) -> &Relay {
        &self.inner.relay
    }

    fn due(&self) -> Option<Duration> {
        let now = self.now();
        let next = self.pods.values().filter_map(|tracked| tracked.due).min();
        next.map(|at| Duration::from_millis(at.millis_since(now)))
    }

    /// A Pod is there or has changed.
    fn seen(&mut self, pod: Pod) {
        let (Some(name), Some(attempt)) =
            (pod.metadata.name.clone(), names::attempt_of(&pod.metadata))
        else {
            return;
        };
        let before = self.pods.remove(&name);
        if before
            .as_ref()
            .is_some_and(|before| before.pod.metadata.uid != pod.metadata.uid)
            && names::instance_of(&pod.metadata) == 0
        {
            // Another Pod of the same attempt: nothing of the first one was missed, since
            // its end made room.
            self.relay().pod_gone(&attempt);
        }
        let annotations = pod.metadata.annotations.as_ref();
        let publish_grace_ms =
            annotations.and_then(|annotations| annotations.get(names::PUBLISH_GRACE)?.parse().ok());
        let says = PodSays {
            publish_grace_ms,
            preempted: is_preempted(&pod),
            instances: names::instances_of(&pod.metadata),
        };
        let instance = names::instance_of(&pod.metadata);
        if instance == 0 {
            self.relay().pod_seen(&attempt, says);
        } else {
            self.relay().member_seen(&attempt, says);
        }
        let before = before.filter(|before| before.pod.metadata.uid == pod.metadata.uid);
        let mut tracked = before.unwrap_or_else(|| Tracked {
            attempt,
            pod: Pod::default(),
            told: None,
            trouble: None,
            due: None,
            over: false,
            removing: false,
            parting: None,
            instance,
            instances: says.instances,
            doomed: None,
        });
        tracked.pod = pod;
        let annotations = tracked.pod.metadata.annotations.as_ref();
        let compute = annotations.and_then(|annotations| annotations.get(names::COMPUTE));
        if let (Some(compute), false) = (compute, tracked.over) {
            let pods = tracked.instances;
            self.inner.rooms.seen(compute, &tracked.attempt, pods);
        }
        self.judge(&mut tracked);
        self.pods.insert(name, tracked);
    }

    /// Looks again at what is due.
    fn look(&mut self) {
        let now = self.now();
        let due: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, tracked)| tracked.due.is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            if let Some(mut tracked) = self.pods.remove(&name) {
                tracked.due = None;
                self.judge(&mut tracked);
                self.pods.insert(name, tracked);
            }
        }
    }

    fn judge(&mut self, tracked: &mut Tracked) {
        if tracked.removing {
            return;
        }
        let now = self.now();
        let attempt = tracked.attempt.clone();
        let patience = |name: &str, default: u64| -> u64 {
            let annotations = tracked.pod.metadata.annotations.as_ref();
            annotations
                .and_then(|annotations| annotations.get(name)?.parse().ok())
                .unwrap_or(default)
        };
        let stands = standing(&tracked.pod, now);
        if !matches!(stands, Standing::Over(_)) && tracked.doomed.is_some_and(|at| now >= at) {
            self.stop(tracked);
            return;
        }
        match stands {
            Standing::Unschedulable { since, why } => {
                let end = since.plus_millis(patience(names::PENDING_TIMEOUT, KEPT_MS));
                if now >= end {
                    let waited = now.millis_since(since) / 1000;
                    let what = whose(tracked);
                    let message = format!("no node took {what} within {waited} s: {why}");
                    self.give_up(tracked, AttemptNews::Refused { message });
                } else {
                    tracked.due = Some(end);
                    self.tell_waiting(tracked, why);
                }
            }
            Standing::Held { why } => self.tell_waiting(tracked, why),
            Standing::Trouble { why, hopeless } => {
                let since = *tracked.trouble.get_or_insert(now);
                let end = since.plus_millis(patience(names::IMAGE_PATIENCE, KEPT_MS));
                if hopeless || now >= end {
                    let over = Over {
                        cause: Some(Cause::Image),
                        message: why,
                        node: tracked
                            .pod
                            .spec
                            .as_ref()
                            .and_then(|spec| spec.node_name.clone()),
                        ..Over::default()
                    };
                    self.give_up(tracked, over.news(&attempt, now));
                } else {
                    tracked.due = Some(end);
                    self.tell_waiting(tracked, why);
                }
            }
            Standing::Starting { since, why } => {
                tracked.trouble = None;
                let end = since.plus_millis(patience(names::START_TIMEOUT, STARTS_MS));
                if now >= end {
                    let waited = now.millis_since(since) / 1000;
                    let node = tracked
                        .pod
                        .spec
                        .as_ref()
                        .and_then(|spec| spec.node_name.clone());
                    let on = node.as_deref().unwrap_or("a node");
                    let over = Over {
                        // Another node may do better: nothing of it has run.
                        cause: Some(Cause::NodeLost),
                        message: format!(
                            "{on} has had {} for {waited} s, and {why}",
                            whose(tracked)
                        ),
                        node,
                        ..Over::default()
                    };
                    self.give_up(tracked, over.news(&attempt, now));
                } else {
                    tracked.due = Some(end);
                }
            }
            Standing::Lives { gone_by } => {
                // An image that came after all does not count against the next one.
                tracked.trouble = None;
                tracked.due = gone_by.map(|at| at.plus_millis(OVERDUE_MS));
                if tracked.is_grouped() && gone_by.is_none() {
                    if let Some(at) = tracked.doomed {
                        tracked.due_by(at);
                    } else if self.relay().has_ended(&attempt) {
                        self.stop(tracked);
                    } else {
                        tracked.due_by(now.plus_millis(GROUP_LOOK_MS));
                    }
                }
            }
            Standing::Over(over) => {
                let (stuck, finished) = (over.stuck, over.finished.unwrap_or(now));
                let well = over.exit_code == Some(0);
                // Once for each Pod: by now the same number may have been started again.
                if !tracked.over {
                    tracked.over = true;
                    if tracked.is_first() {
                        self.inner.rooms.leave(&attempt);
                    }
                    self.inner.held.freed();
                    // Of other instances the first one's launcher hears by way of the store.
                    let said_so = !tracked.is_first()
                        && over.exit_code.is_some_and(|code| SAID_SO.contains(&code));
                    let told = tracked.doomed.is_some() && !tracked.is_first();
                    if !said_so && !told && !self.relay().has_ended(&attempt) {
                        let news = self.parting(tracked, *over);
                        self.relay().news(&attempt, news);
                        self.doom(tracked);
                    }
                }
                // A launcher that ended well has said so, or has left it in the store.
                let kept = if well || stuck { 0 } else { KEPT_MS };
                let end = finished.plus_millis(kept);
                if now < end {
                    tracked.due = Some(end);
                } else {
                    self.remove(tracked);
                }
            }
        }
    }

    /// The news of an end; of one that we were asked to stop, nothing but that.
    fn parting(&self, tracked: &Tracked, mut over: Over) -> AttemptNews {
        let attempt = &tracked.attempt;
        if !tracked.is_first() {
            over.message = format!("instance {}: {}", tracked.instance, over.message);
            // It ended well, and of the others nothing is known: its launcher said so.
            over.said.clear();
        }
        // A launcher that could not reach the broker says more than the cluster knows; the
        // step could have written in its place.
        let left = self.inner.issuer.last_word(attempt, &over.said);
        if let Some(news @ AttemptNews::Gone { end: Some(_), .. }) = left {
            return news;
        }
        if self.relay().was_stopped(attempt) && over.cause == Some(Cause::Evicted) {
            return AttemptNews::Gone {
                claim: None,
                end: None,
                checkpoint: None,
            };
        }
        over.news(attempt, self.now())
    }

    /// The group of a Pod is over: the others are stopped once the end was heard.
    fn doom(&mut self, of: &Tracked) {
        if !of.is_grouped() {
            return;
        }
        let at = self.now().plus_millis(AFTER_END_MS);
        let others = self.pods.values_mut();
        for other in others.filter(|other| other.attempt == of.attempt && !other.over) {
            other.doomed.get_or_insert(at);
            other.due_by(at);
        }
    }

    /// Stops a Pod whose group is over.
    fn stop(&mut self, tracked: &mut Tracked) {
        let Some(name) = tracked.pod.metadata.name.clone() else {
            return;
        };
        tracked.due = None;
        if tracked.pod.metadata.deletion_timestamp.is_some() {
            tracked.doomed = None;
            return;
        }
        // Once more later, should it be there still.
        let again = self.now().plus_millis(GROUP_LOOK_MS);
        tracked.doomed = Some(again);
        tracked.due_by(again);
        if self.removals.len() >= REMOVED_AT_ONCE {
            return;
        }
        let (inner, uid) = (self.inner.clone(), tracked.pod.metadata.uid.clone());
        self.removals.spawn(async move {
            let done = inner.ask_to_end(&name, uid.clone()).await;
            (name, uid, done)
        });
    }

    fn tell_waiting(&self, tracked: &mut Tracked, why: String) {
        let why = match tracked.is_grouped() {
            true => format!("{}: {why}", whose(tracked)),
            false => why,
        };
        if tracked.told.as_ref() != Some(&why) {
            tracked.told = Some(why.clone());
            self.relay()
                .news(&tracked.attempt, AttemptNews::Waiting { why });
        }
    }

    /// Removes a Pod whose process never began, then tells why: its number is free then.
    fn give_up(&mut self, tracked: &mut Tracked, news: AttemptNews) {
        tracked.parting = Some(news);
        self.remove(tracked);
    }

    fn remove(&mut self, tracked: &mut Tracked) {
        let Some(name) = tracked.pod.metadata.name.clone() else {
            return;
        };
        if self.removals.len() >= REMOVED_AT_ONCE {
            tracked.due = Some(self.now().plus_millis(AGAIN_MS / 10));
            return;
        }
        tracked.removing = true;
        tracked.due = None;
        let (inner, uid) = (self.inner.clone(), tracked.pod.metadata.uid.clone());
        self.removals.spawn(async move {
            let done = inner.remove(&name, uid.clone()).await;
            (name, uid, done)
        });
    }

    /// A removal has come back. The watch tells of what goes; what was gone before has
    /// ended, also where the watch never says so.
    fn removed(&mut self, name: &str, uid: Option<&str>, done: Removal) {
        let again = self.now().plus_millis(AGAIN_MS);
        let Some(tracked) = self
            .pods
            .get_mut(name)
            .filter(|tracked| tracked.pod.metadata.uid.as_deref() == uid)
        else {
            return;
        };
        match done {
            Removal::Done => {}
            Removal::Missing => {
                let pod = tracked.pod.clone();
                self.gone(pod);
            }
            Removal::Failed => {
                tracked.removing = false;
                tracked.due = Some(again);
            }
        }
    }

    /// All Pods that there are have been seen: every one that is not among `listed` is gone.
    fn listed(&mut self, listed: &HashSet<String>) {
        let lost: Vec<Pod> = self
            .pods
            .iter()
            .filter(|(name, _)| !listed.contains(*name))
            .map(|(_, tracked)| tracked.pod.clone())
            .collect();
        for pod in lost {
            self.gone(pod);
        }
        let there = self.pods.values().filter(|tracked| tracked.is_first());
        let there = there.map(|tracked| tracked.attempt.clone());
        let there = there.collect();
        self.relay().pods_are(&there);
        self.inner.rooms.counted();
        self.inner.held.freed();
    }

    /// A Pod's object is gone.
    fn gone(&mut self, pod: Pod) {
        let (Some(name), Some(attempt)) =
            (pod.metadata.name.clone(), names::attempt_of(&pod.metadata))
        else {
            return;
        };
        let is_it = |tracked: &Tracked| tracked.pod.metadata.uid == pod.metadata.uid;
        let known = self.pods.get(&name).is_some_and(is_it);
        let Some(tracked) = (if known { self.pods.remove(&name) } else { None }) else {
            // Another of this name is there by now, or it was never seen.
            if !self.pods.contains_key(&name) && names::instance_of(&pod.metadata) == 0 {
                self.relay().pod_gone(&attempt);
            }
            return;
        };
        if !tracked.over && tracked.is_first() {
            self.inner.rooms.leave(&attempt);
        }
        self.inner.held.freed();
        let open = if tracked.is_first() {
            self.relay().pod_gone(&attempt)
        } else {
            !self.relay().has_ended(&attempt) && tracked.doomed.is_none()
        };
        if open && !tracked.over {
            let news = match tracked.parting.clone() {
                Some(news) => news,
                None => self.parting(&tracked, deleted(&pod)),
            };
            self.relay().news(&attempt, news);
            self.doom(&tracked);
        }
    }
}

/// A Pod, for people.
fn whose(tracked: &Tracked) -> String {
    if tracked.is_grouped() {
        let (instance, instances) = (tracked.instance, tracked.instances);
        format!("the Pod of instance {instance} of {instances}")
    } else {
        "its Pod".to_owned()
    }
}
