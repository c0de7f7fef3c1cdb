//! What a Pod says of its attempt: whether it waits, runs or is over, and why. Pure; the
//! tracker tells of it what a launcher has not told before.

use crate::pod::CONTAINER;
use auria_core::outcome::{Cause, EndRecord, Timings};
use auria_core::run::AttemptNews;
use auria_core::{AttemptId, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How long a Pod may be there after the time at which it was to be gone: then nobody
/// answers for it, and its node is lost.
pub(super) const OVERDUE_MS: u64 = 30_000;

/// Waiting reasons of images and containers that cannot be had.
const TROUBLE: [&str; 8] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
];
/// Of these, what waiting does not mend.
const HOPELESS: [&str; 2] = ["ErrImageNeverPull", "InvalidImageName"];

/// Where an attempt stands, as its Pod says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// No node takes it.
    Unschedulable {
        /// Since when.
        since: Timestamp,
        /// The scheduler's words.
        why: String,
    },
    /// It is held back before scheduling: a queue.
    Held {
        /// What the condition says.
        why: String,
    },
    /// Its image or container cannot be had.
    Trouble {
        /// The kubelet's words.
        why: String,
        /// Waiting does not mend it.
        hopeless: bool,
    },
    /// A node has it, and its container has not begun.
    Starting {
        /// Since when the node has it.
        since: Timestamp,
        /// What it is doing.
        why: String,
    },
    /// It starts or runs.
    Lives {
        /// It is to be gone by then.
        gone_by: Option<Timestamp>,
    },
    /// Its container is gone, or nobody answers for it any more.
    Over(Box<Over>),
}

/// How a Pod ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Over {
    /// None where its launcher ended well: then the store holds the rest.
    pub(super) cause: Option<Cause>,
    pub(super) message: String,
    pub(super) exit_code: Option<i32>,
    /// When its container ended.
    pub(super) finished: Option<Timestamp>,
    pub(super) node: Option<String>,
    /// What stood in its termination message: a word of its launcher, or of its step.
    pub(super) said: String,
    /// The cluster has lost it: its object stays until someone removes it.
    pub(super) stuck: bool,
}

impl Over {
    /// The news of it, where its launcher left none.
    pub(super) fn news(self, attempt: &AttemptId, now: Timestamp) -> AttemptNews {
        let Self {
            cause,
            message,
            exit_code,
            finished,
            node,
            said: _,
            stuck: _,
        } = self;
        let end = cause.map(|cause| EndRecord {
            attempt: attempt.clone(),
            nonce: None,
            cause,
            // The launcher's is not the command's.
            exit_code: exit_code.filter(|_| cause == Cause::OutOfMemory),
            message,
            last_lines: Vec::new(),
            timings: Timings::default(),
            checkpoint: None,
            published: None,
            node,
            started: None,
            ended: finished.unwrap_or(now),
        });
        AttemptNews::Gone {
            claim: None,
            end,
            checkpoint: None,
        }
    }
}

/// What `pod` says at `now`.
pub(super) fn standing(pod: &Pod, now: Timestamp) -> Standing {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let gone_by = pod.metadata.deletion_timestamp.as_ref().map(timestamp);
    if let Some(terminated) = terminated(pod) {
        return Standing::Over(Box::new(ended(pod, Some(terminated))));
    }
    if matches!(phase, Some("Failed" | "Succeeded")) {
        return Standing::Over(Box::new(ended(pod, failed_init(pod))));
    }
    if let Some(gone_by) = gone_by {
        let overdue = now >= gone_by.plus_millis(OVERDUE_MS);
        if is_silent(pod) || overdue {
            let mut over = ended(pod, None);
            over.cause = Some(Cause::NodeLost);
            over.stuck = true;
            return Standing::Over(Box::new(over));
        }
        return Standing::Lives {
            gone_by: Some(gone_by),
        };
    }
    if let Some(condition) = condition(pod, "PodScheduled")
        && condition.status == "False"
    {
        let why = condition.message.clone().unwrap_or_default();
        if condition.reason.as_deref() == Some("SchedulingGated") {
            return Standing::Held { why };
        }
        let since = condition.last_transition_time.as_ref().map(timestamp);
        return Standing::Unschedulable {
            since: since.unwrap_or(now),
            why,
        };
    }
    for status in containers(pod) {
        let waiting = status
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref());
        let Some(waiting) = waiting else { continue };
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if TROUBLE.contains(&reason) {
            let said = waiting.message.as_deref().unwrap_or_default();
            return Standing::Trouble {
                why: format!("{reason}: {said}"),
                hopeless: HOPELESS.contains(&reason),
            };
        }
    }
    match starting(pod) {
        Some((since, why)) => Standing::Starting { since, why },
        None => Standing::Lives { gone_by: None },
    }
}

/// Since when a node has a Pod whose container has not begun, and what it waits for.
fn starting(pod: &Pod) -> Option<(Timestamp, String)> {
    let scheduled = condition(pod, "PodScheduled").filter(|c| c.status == "True")?;
    let since = timestamp(scheduled.last_transition_time.as_ref()?);
    let own = own_status(pod).and_then(|status| status.state.as_ref());
    if own.is_some_and(|state| state.running.is_some()) {
        return None;
    }
    // What an init container does comes before what waits for it.
    let doing = containers(pod).find_map(|status| {
        let state = status.state.as_ref()?;
        let waiting = state.waiting.as_ref().and_then(|w| w.reason.as_deref());
        let doing = match (waiting, &state.running) {
            (Some(reason), _) => reason,
            (None, Some(_)) => "runs",
            (None, None) => return None,
        };
        Some(format!("its container {} {doing}", status.name))
    });
    Some((
        since,
        doing.unwrap_or_else(|| "its node has not answered for it yet".to_owned()),
    ))
}

/// Whether the node is silent that a deleted Pod is on. The node's controller says of its
/// Pods that they are not ready, and nobody says that of their containers.
fn is_silent(pod: &Pod) -> bool {
    let is = |kind: &str, value: &str| condition(pod, kind).is_some_and(|c| c.status == value);
    let began = containers(pod).any(|status| {
        let state = status.state.as_ref();
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    });
    let taken_away = reason(pod) == Some("DeletionByTaintManager");
    taken_away && is("Ready", "False") && (is("ContainersReady", "True") || !began)
}

/// How it ended, from its container's state and its own conditions.
fn ended(pod: &Pod, terminated: Option<&ContainerStateTerminated>) -> Over {
    let status = pod.status.as_ref();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let on = node.as_deref().unwrap_or("no node");
    let said = terminated
        .and_then(|terminated| terminated.message.as_deref())
        .unwrap_or_default();
    let why = terminated.and_then(|terminated| terminated.reason.as_deref());
    let of_pod = status.and_then(|status| status.reason.as_deref());
    let pod_says = status
        .and_then(|status| status.message.as_deref())
        .unwrap_or_default();
    let disruption = condition(pod, "DisruptionTarget")
        .and_then(|condition| condition.message.as_deref())
        .unwrap_or_default();
    let exit_code = terminated.map(|terminated| terminated.exit_code);
    let is_own = own_status(pod)
        .and_then(|status| status.state.as_ref())
        .is_some_and(|state| state.terminated.is_some());
    let (cause, message) = match (why, reason(pod), of_pod) {
        (Some("OOMKilled"), _, _) => (
            Some(Cause::OutOfMemory),
            format!("memory ran out on {on}, and its launcher was killed too"),
        ),
        (_, Some("PreemptionByScheduler"), _) => (
            Some(Cause::Preempted),
            format!("the scheduler gave its place on {on} to something else: {disruption}"),
        ),
        (_, Some("DeletionByPodGC"), _) => (
            Some(Cause::NodeLost),
            format!("its node {on} is gone: {disruption}"),
        ),
        (_, Some("DeletionByTaintManager"), _) if is_silent(pod) => (
            Some(Cause::NodeLost),
            format!("its node {on} does not answer: {disruption}"),
        ),
        (_, Some(_), _) => (
            Some(Cause::Evicted),
            format!("it was evicted from {on}: {disruption}"),
        ),
        (Some("ContainerStatusUnknown"), _, _) | (_, _, Some("NodeLost")) => (
            Some(Cause::NodeLost),
            format!("its node {on} does not know its container any more: {said}"),
        ),
        (
            Some(
                "StartError" | "ContainerCannotRun" | "RunContainerError" | "CreateContainerError",
            ),
            _,
            _,
        ) => (
            Some(Cause::Image),
            format!("its container could not be started on {on}: {said}"),
        ),
        (_, _, Some("Preempting")) => (
            Some(Cause::Preempted),
            format!("the kubelet of {on} needed its place: {pod_says}"),
        ),
        (None, _, Some(reason)) => (
            Some(Cause::Evicted),
            format!("{on} did not keep it: {reason}: {pod_says}"),
        ),
        // The launcher says in the store how it ended.
        _ if exit_code == Some(0) => (None, String::new()),
        // What brings the launcher did not: nothing of the step has run.
        (Some(_), _, _) if !is_own && pod.metadata.deletion_timestamp.is_none() => (
            Some(Cause::Image),
            format!(
                "its launcher could not be brought into its container on {on}: the init container ended with status {}: {said}",
                exit_code.unwrap_or_default()
            ),
        ),
        _ if pod.metadata.deletion_timestamp.is_some() => (
            Some(Cause::Evicted),
            format!("its Pod was deleted while it was on {on}"),
        ),
        _ => (
            Some(Cause::NodeLost),
            format!(
                "its launcher on {on} ended with status {}{}",
                exit_code.map_or_else(|| "unknown".to_owned(), |code| code.to_string()),
                if said.is_empty() {
                    String::new()
                } else {
                    format!(": {said}")
                }
            ),
        ),
    };
    Over {
        cause,
        message,
        exit_code,
        finished: terminated
            .and_then(|terminated| terminated.finished_at.as_ref())
            .map(timestamp),
        node,
        said: said.to_owned(),
        stuck: false,
    }
}

/// What became of an attempt whose Pod's object is gone, as it was last seen.
pub(super) fn deleted(pod: &Pod) -> Over {
    let mut pod = pod.clone();
    pod.metadata
        .deletion_timestamp
        .get_or_insert(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
    ended(&pod, terminated(&pod).or_else(|| failed_init(&pod)))
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    own_status(pod)?.state.as_ref()?.terminated.as_ref()
}

fn own_status(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == CONTAINER)
}

/// The end of an init container that failed, for which the step's own never began.
fn failed_init(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let ends = statuses
        .iter()
        .filter_map(|status| status.state.as_ref()?.terminated.as_ref());
    ends.into_iter().find(|end| end.exit_code != 0)
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let own = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().chain(own).flatten()
}

fn condition<'p>(pod: &'p Pod, kind: &str) -> Option<&'p PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the scheduler gives its place to something else.
pub(crate) fn is_preempted(pod: &Pod) -> bool {
    reason(pod) == Some("PreemptionByScheduler")
}

/// Why the cluster takes a Pod away.
fn reason(pod: &Pod) -> Option<&str> {
    let condition = condition(pod, "DisruptionTarget")?;
    (condition.status == "True").then_some(())?;
    condition.reason.as_deref()
}

pub(super) fn timestamp(time: &Time) -> Timestamp {
    Timestamp(time.0.as_millisecond())
}

#[cfg(test)]
mod tests;
