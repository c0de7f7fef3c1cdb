//! What the resource of a run shows: its status, written at most once a second, and
//! Kubernetes events for what people want to know. It changes nothing of the run.

use crate::executor::called;
use crate::names::MANAGER;
use crate::resource::{PipelineRun, PipelineRunStatus, REFUSED};
use auria_core::outcome::{Cause, RunEnd, Status};
use auria_core::run::{RunState, RunView};
use auria_core::{AttemptId, StepPath, Timestamp};
use auria_engine::driver::Observer;
use auria_engine::feed::Feed;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// No status is written more often.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Notes that may wait to become events; more are missed, and the store knows all.
pub(super) const NOTES: usize = 64;
/// The longest note of an event.
const LONGEST_NOTE: usize = 1024;
/// Before a last status is written again that could not be.
const AGAIN: Duration = Duration::from_secs(2);
/// Tries to write a last status; the next driver of the run does it otherwise.
const TRIES: u32 = 30;

/// A note for people, which becomes an event of the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) text: String,
}

/// Reads the run state for the resource and for readers of the run.
pub(super) struct Shown {
    feed: Feed,
    status: watch::Sender<PipelineRunStatus>,
    notes: mpsc::Sender<Note>,
    /// What was noted of steps: attempts, and whether they failed.
    noted: HashMap<StepPath, (u32, bool)>,
}

impl Shown {
    pub(super) fn new(
        feed: Feed,
        status: watch::Sender<PipelineRunStatus>,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        Self {
            feed,
            status,
            notes,
            noted: HashMap::new(),
        }
    }

    fn note(&mut self, state: &RunState) {
        for step in state.changed() {
            let path = &step.step.path;
            let failed = step.status == Status::Failed;
            let before = self.noted.get(path).copied().unwrap_or((0, false));
            if (step.attempts, failed) == before {
                continue;
            }
            let why = step.reason.unwrap_or_default();
            let cause = step.cause.map_or_else(String::new, cause_text);
            let note = if failed && !before.1 {
                Some(Note {
                    warning: true,
                    reason: "StepFailed",
                    text: format!("{} failed ({cause}): {why}", path.display()),
                })
            } else if step.attempts > before.0 && step.attempts > 1 {
                Some(Note {
                    warning: true,
                    reason: "StepRetried",
                    text: format!(
                        "{} is tried for the {}. time, after: {cause}",
                        path.display(),
                        step.attempts
                    ),
                })
            } else {
                None
            };
            self.noted.insert(path.clone(), (step.attempts, failed));
            if let Some(note) = note {
                let _ = self.notes.try_send(note);
            }
        }
    }
}

/// As reports write it.
fn cause_text(cause: Cause) -> String {
    serde_json::to_value(cause)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

impl Observer for Shown {
    fn changed(&mut self, state: &RunState, _now: Timestamp) {
        self.feed.tell(state);
        let status = of_view(&state.view());
        self.status.send_if_modified(|shown| {
            let changes = *shown != status;
            *shown = status;
            changes
        });
        self.note(state);
    }

    fn line(&mut self, attempt: &AttemptId, line: &str) {
        self.feed.line(attempt, line);
    }
}

fn of_view(view: &RunView<'_>) -> PipelineRunStatus {
    let RunView {
        run: _,
        status,
        counts,
        steps,
        unfinished,
        open_attempts: _,
        started,
        canceled_by: _,
        problems,
        end,
    } = view;
    shown(
        *status,
        counts,
        (*steps, *unfinished),
        *started,
        end.map(|end| end.ended),
        problems,
    )
}

/// The status of a run that has ended.
pub(super) fn of_end(end: &RunEnd) -> PipelineRunStatus {
    let RunEnd {
        status,
        started,
        ended,
        counts,
        problems,
    } = end;
    let steps = usize::try_from(counts.values().sum::<u64>()).unwrap_or(usize::MAX);
    shown(
        *status,
        counts,
        (steps, 0),
        *started,
        Some(*ended),
        problems,
    )
}

fn shown(
    status: Status,
    counts: &BTreeMap<Status, u64>,
    (steps, unfinished): (usize, usize),
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    problems: &[String],
) -> PipelineRunStatus {
    let count = |of: &[Status]| of.iter().filter_map(|status| counts.get(status)).sum();
    let phase = format!("{status:?}");
    let succeeded = match (ended, status) {
        (None, _) => "Unknown",
        (Some(_), Status::Completed) => "True",
        (Some(_), _) => "False",
    };
    let at = ended.or(started).unwrap_or_default();
    let condition = Condition {
        type_: "Succeeded".to_owned(),
        status: succeeded.to_owned(),
        reason: phase.clone(),
        message: problems.join("; "),
        last_transition_time: Time(
            k8s_openapi::jiff::Timestamp::from_millisecond(at.0).unwrap_or_default(),
        ),
        observed_generation: None,
    };
    PipelineRunStatus {
        observed_generation: None,
        phase,
        done: (steps - unfinished.min(steps)) as u64,
        total: steps as u64,
        running: count(&[Status::Preparing, Status::Running, Status::Finalizing]),
        failed: count(&[Status::Failed]),
        started: started.map(|at| at.to_string()),
        ended: ended.map(|at| at.to_string()),
        conditions: vec![condition],
    }
}

/// Of one that nobody drives yet.
pub(super) fn pending(why: &str) -> PipelineRunStatus {
    PipelineRunStatus {
        phase: "Pending".to_owned(),
        conditions: vec![Condition {
            type_: "Succeeded".to_owned(),
            status: "Unknown".to_owned(),
            reason: "Pending".to_owned(),
            message: why.to_owned(),
            last_transition_time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
            observed_generation: None,
        }],
        ..PipelineRunStatus::default()
    }
}

/// Writes to one resource.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) runs: Api<PipelineRun>,
    pub(super) name: String,
    pub(super) generation: Option<i64>,
    pub(super) reference: ObjectReference,
    pub(super) recorder: Recorder,
}

impl Writer {
    /// Writes what `status` shows until nobody changes it any more.
    pub(super) async fn follow(&self, mut status: watch::Receiver<PipelineRunStatus>) {
        while status.changed().await.is_ok() {
            let current = status.borrow_and_update().clone();
            if !self.write(current).await {
                status.mark_changed();
            }
            tokio::time::sleep(AT_MOST_EVERY).await;
        }
    }

    /// Makes events of notes until there are no more.
    pub(super) async fn tell(&self, mut notes: mpsc::Receiver<Note>) {
        while let Some(note) = notes.recv().await {
            self.publish(note).await;
        }
    }

    pub(super) async fn publish(&self, note: Note) {
        let Note {
            warning,
            reason,
            text,
        } = note;
        let event = Event {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(text.chars().take(LONGEST_NOTE).collect()),
            action: "Run".to_owned(),
            secondary: None,
        };
        if let Err(failed) = called(self.recorder.publish(&event, &self.reference)).await {
            tracing::debug!(
                run = self.name,
                error = failed.message,
                "an event is not told"
            );
        }
    }

    /// Whether a status was written, or there is nothing left to write it to.
    pub(super) async fn write(&self, mut status: PipelineRunStatus) -> bool {
        status.observed_generation = self.generation;
        let object = json!({
            "apiVersion": self.reference.api_version,
            "kind": self.reference.kind,
            "metadata": {"name": self.name},
            "status": status,
        });
        let patch = Patch::Apply(&object);
        let params = PatchParams::apply(MANAGER).force();
        let patched = self.runs.patch_status(&self.name, &params, &patch);
        match called(patched).await {
            Ok(_) => true,
            Err(failed) if failed.code == Some(404) => true,
            Err(failed) => {
                tracing::warn!(
                    run = self.name,
                    error = failed.message,
                    "writing the status"
                );
                false
            }
        }
    }

    /// Says of a resource that it will never be driven.
    pub(super) async fn refuse(&self, why: &str, now: Timestamp) {
        let mut status = PipelineRunStatus {
            phase: "Failed".to_owned(),
            ended: Some(now.to_string()),
            ..pending(why)
        };
        for condition in &mut status.conditions {
            "False".clone_into(&mut condition.status);
            REFUSED.clone_into(&mut condition.reason);
        }
        self.write_last(status).await;
    }

    /// Writes the last status, with patience.
    pub(super) async fn write_last(&self, status: PipelineRunStatus) {
        for _ in 0..TRIES {
            if self.write(status.clone()).await {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
