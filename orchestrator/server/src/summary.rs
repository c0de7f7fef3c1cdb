//! The JSON of one entry in a list of runs. It reads run state and never changes it.

use auria_core::Timestamp;
use auria_core::outcome::Status;
use auria_core::run::RunView;
use serde::Serialize;
use std::collections::BTreeMap;

/// A run in a list: small, whatever the number of its steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    /// The run.
    pub run: String,
    /// Its status.
    pub status: Status,
    /// All steps.
    pub steps: usize,
    /// Steps without an outcome.
    pub unfinished: usize,
    /// Steps by status.
    pub counts: BTreeMap<Status, u64>,
    /// When the first step was asked for.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Who asked to cancel it.
    pub canceled_by: Option<String>,
    /// What went wrong outside of any step.
    pub problems: Vec<String>,
}

impl RunSummary {
    /// The summary of a run as it stands.
    #[must_use]
    pub fn of(view: &RunView<'_>) -> Self {
        Self {
            run: view.run.to_string(),
            status: view.status,
            steps: view.steps,
            unfinished: view.unfinished,
            counts: view.counts.clone(),
            started: view.started,
            ended: view.end.map(|end| end.ended),
            canceled_by: view.canceled_by.map(str::to_owned),
            problems: view.problems.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RunSummary;
    use auria_core::outcome::{RunEnd, Status};
    use auria_core::run::RunView;
    use auria_core::{RunId, Timestamp};
    use std::collections::BTreeMap;

    #[test]
    fn a_summary_has_the_names_and_times_of_the_contract() {
        let run: RunId = "hello-1".parse().unwrap();
        let counts = BTreeMap::from([(Status::Completed, 2), (Status::Failed, 1)]);
        let end = RunEnd {
            status: Status::Failed,
            started: Some(Timestamp(1_000)),
            ended: Timestamp(61_000),
            counts: counts.clone(),
            problems: Vec::new(),
        };
        let summary = RunSummary::of(&RunView {
            run: &run,
            status: Status::Failed,
            counts: &counts,
            steps: 3,
            unfinished: 0,
            open_attempts: 0,
            started: end.started,
            canceled_by: None,
            problems: &[],
            end: Some(&end),
        });
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "run": "hello-1",
                "status": "Failed",
                "steps": 3,
                "unfinished": 0,
                "counts": {"Completed": 2, "Failed": 1},
                "started": "1970-01-01T00:00:01.000Z",
                "ended": "1970-01-01T00:01:01.000Z",
                "canceled_by": null,
                "problems": [],
            })
        );
    }
}
