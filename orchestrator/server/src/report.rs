//! What a run is, as the contract's JSON: a reader of the run state and the outcomes. It never
//! changes anything, and never prints.

use auria_core::outcome::{Artifact, Cause, ReuseSource, Status, Timings};
use auria_core::plan::DataType;
use auria_core::run::{RunState, StepView};
use auria_core::{Digest, RunId, Timestamp};
use auria_store::Store;
use auria_store::runs::RunJson;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// `show --output json`.
#[derive(Debug, JsonSchema, Serialize)]
pub struct RunReport {
    /// The run.
    pub run: RunId,
    /// The pipeline.
    pub pipeline: String,
    /// The experiment.
    pub experiment: String,
    /// The run's status.
    pub status: Status,
    /// When it was submitted.
    pub created: Timestamp,
    /// When its first step began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What it was given.
    pub inputs: BTreeMap<String, serde_json::Value>,
    /// What it made.
    pub outputs: BTreeMap<String, OutputReport>,
    /// Its steps, by path, in the order of the plan.
    #[schemars(with = "BTreeMap<String, StepReport>")]
    #[serde(serialize_with = "in_order")]
    pub steps: Vec<(String, StepReport)>,
    /// What went wrong outside of any step: an output that could not be registered,
    /// or copied to its place.
    pub problems: Vec<String>,
    /// Where the run is kept.
    pub store: String,
    /// Who drives it, where someone on this machine does.
    pub driver: Option<String>,
}

fn in_order<S: serde::Serializer>(
    steps: &[(String, StepReport)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(steps.iter().map(|(path, step)| (path, step)))
}

/// One step.
#[derive(Debug, JsonSchema, Serialize)]
pub struct StepReport {
    /// Its status.
    pub status: Status,
    /// Attempts that claimed.
    pub attempts: u32,
    /// Whose outputs stand for it.
    pub reused_from: Option<ReuseSource>,
    /// Exit status of its command; 128 + n for a signal.
    pub exit_code: Option<i32>,
    /// Why it did not end well.
    pub cause: Option<Cause>,
    /// Where it ran.
    pub node: Option<String>,
    /// What it made.
    pub outputs: BTreeMap<String, OutputReport>,
    /// How long each part took.
    pub timings: Timings,
    /// What happened, for a person.
    pub message: Option<String>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The last lines of its log, where it did not end well.
    #[serde(skip)]
    pub last_lines: Vec<String>,
}

/// One output.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub struct OutputReport {
    /// Where: of a file the file, of a folder the folder.
    pub uri: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// Number of files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Of a folder: of its manifest; of a file: of its content.
    pub digest: Digest,
}

impl OutputReport {
    /// How `artifact` in `store` is shown.
    #[must_use]
    pub fn new(store: &Store, artifact: &Artifact) -> Self {
        Self {
            uri: uri(store, artifact),
            data_type: artifact.data_type,
            files: artifact.files,
            bytes: artifact.bytes,
            digest: artifact.digest,
        }
    }
}

/// Where an artifact is: of a `uri_file`, which a launcher always stores under the
/// output's own name, the file.
#[must_use]
pub fn uri(store: &Store, artifact: &Artifact) -> String {
    match (artifact.data_type, artifact.prefix.rsplit_once('/')) {
        (DataType::UriFile, Some((_, name))) => store.uri(&format!("{}/{name}", artifact.prefix)),
        _ => store.uri(&artifact.prefix),
    }
}

impl RunReport {
    /// The report of `run` in `state`.
    #[must_use]
    pub fn new(store: &Store, run: &RunJson, state: &RunState, driver: Option<String>) -> Self {
        let plan = &run.plan;
        let steps = state
            .steps()
            .map(|view| (view.step.path.display(), step_report(store, &view)));
        let view = state.view();
        let outputs = plan.outputs.iter().filter_map(|(name, output)| {
            let artifact = state
                .step(&output.step)?
                .outcome?
                .outputs
                .get(&output.output)?;
            Some((name.clone(), OutputReport::new(store, artifact)))
        });
        Self {
            run: run.run.clone(),
            pipeline: plan.pipeline.clone(),
            experiment: plan.experiment.clone(),
            status: view.status,
            created: run.created,
            // As it stands in the store, whoever looks.
            started: view.end.and_then(|end| end.started).or(view.started),
            ended: view.end.map(|end| end.ended),
            inputs: plan.inputs.clone(),
            outputs: outputs.collect(),
            steps: steps.collect(),
            problems: view.end.map_or(view.problems, |end| &end.problems).to_vec(),
            store: store.url().to_string(),
            driver,
        }
    }
}

fn step_report(store: &Store, view: &StepView<'_>) -> StepReport {
    let outcome = view.outcome;
    let outputs = outcome
        .map(|outcome| &outcome.outputs)
        .into_iter()
        .flatten();
    StepReport {
        status: view.status,
        attempts: view.attempts,
        reused_from: outcome.and_then(|outcome| outcome.reused_from.clone()),
        exit_code: view.exit_code,
        cause: view.cause,
        node: view.node.map(str::to_owned),
        outputs: outputs
            .map(|(name, artifact)| (name.clone(), OutputReport::new(store, artifact)))
            .collect(),
        timings: outcome.map(|outcome| outcome.timings).unwrap_or_default(),
        message: view.reason.map(str::to_owned),
        started: view.started,
        ended: view.ended,
        last_lines: view.last_lines.to_vec(),
    }
}
