//! What readers are told of a run as it goes: the terminal, `watch`, the API's events and
//! the web pages all read one stream of these. A reader that comes late is first told of
//! every step as it stands. Made of a [`RunState`](super::RunState) by whoever drives it.

use super::event::Phase;
use super::view::StepView;
use crate::ids::StepPath;
use crate::outcome::{Cause, RunEnd, Status};
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// Something changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum RunChange {
    /// The run's status.
    Run {
        /// What it is now.
        status: Status,
        /// What went wrong outside of any step.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        problems: Vec<String>,
    },
    /// A step.
    Step(StepRow),
    /// A step's command said something. Some lines are missed by those who are slow; the log in
    /// the store is whole.
    Line {
        /// Which step's.
        step: StepPath,
        /// Of which attempt.
        attempt: u32,
        /// Without its end.
        line: String,
    },
    /// The run is over; nothing follows.
    End {
        /// How.
        end: RunEnd,
    },
}

/// A step as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRow {
    /// Which.
    pub step: StepPath,
    /// Its status.
    pub status: Status,
    /// Attempts that claimed.
    pub attempts: u32,
    /// What the current attempt does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Where it runs or ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When its current attempt claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Why it, or its last attempt, did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What it waits for, why it failed, whose outputs stand for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl StepRow {
    /// A step as it stands.
    #[must_use]
    pub fn of(view: &StepView<'_>) -> Self {
        let source = view
            .outcome
            .and_then(|outcome| outcome.reused_from.as_ref());
        let note = match source {
            Some(source) => Some(format!("from {}", source.run)),
            None => view
                .reason
                .filter(|_| !view.status.is_success())
                .map(str::to_owned),
        };
        Self {
            step: view.step.path.clone(),
            status: view.status,
            attempts: view.attempts,
            phase: view.part,
            node: view.node.map(str::to_owned),
            started: view.started,
            ended: view.ended,
            cause: view.cause,
            note,
        }
    }
}
