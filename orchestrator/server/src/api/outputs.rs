//! What a run made: a list, and each file in a stream whose bytes are checked against the
//! manifest as they go. And the metrics that its steps wrote.

use super::Api;
use super::extract::Asked;
use super::logs::inert;
use super::resources::step_of;
use crate::openapi::About;
use crate::problem::Refusal;
use crate::report::OutputReport;
use auria_core::AttemptId;
use auria_core::outcome::{Artifact, EntryKind, Manifest};
use auria_core::plan::DataType;
use auria_core::run::RunState;
use auria_store::runs::RunJson;
use auria_store::{StorePath, artifact, logs};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, StatusCode, header};
use object_store::ObjectStoreExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Values of metrics in one answer; the last ones.
const MOST_VALUES: usize = 100_000;

/// Outputs of steps, by step and name.
type Outputs = BTreeMap<String, BTreeMap<String, OutputReport>>;

/// What a run made.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Made {
    /// The pipeline's own.
    outputs: BTreeMap<String, OutputReport>,
    /// Those of its steps.
    steps: Outputs,
}

pub(super) async fn list(
    State(api): State<Api>,
    Path(run): Path<String>,
) -> Result<Json<Made>, Refusal> {
    let run = api.run(&run).await?;
    let state = api.look(&run).await?;
    let mut steps = Outputs::new();
    for view in state.steps() {
        let Some(outcome) = view.outcome else {
            continue;
        };
        let outputs = outcome.outputs.iter();
        let outputs =
            outputs.map(|(name, one)| (name.clone(), OutputReport::new(api.store(), one)));
        steps.insert(view.step.path.display(), outputs.collect());
    }
    let outputs = run.plan.outputs.keys().filter_map(|name| {
        let made = of_pipeline(&run.plan, &state, name)?;
        Some((name.clone(), OutputReport::new(api.store(), &made)))
    });
    Ok(Json(Made {
        outputs: outputs.collect(),
        steps,
    }))
}

fn of_pipeline(plan: &auria_core::plan::Plan, state: &RunState, name: &str) -> Option<Artifact> {
    let output = plan.outputs.get(name)?;
    let outcome = state.step(&output.step)?.outcome?.clone();
    outcome.outputs.get(&output.output).cloned()
}

/// Which file of an output.
#[derive(Debug, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileQuery {
    path: Option<String>,
}

pub(super) async fn of_run(
    State(api): State<Api>,
    Path((run, output)): Path<(String, String)>,
    Asked(query): Asked<FileQuery>,
) -> Result<Response, Refusal> {
    api.output(&run, &output, query.path.as_deref()).await
}

pub(super) async fn of_step(
    State(api): State<Api>,
    Path((run, step, output)): Path<(String, String, String)>,
    Asked(query): Asked<FileQuery>,
) -> Result<Response, Refusal> {
    let run = api.run(&run).await?;
    let made = api.made(&run, &step, &output).await?;
    answer(&api, &made, query.path.as_deref()).await
}

/// What is said of a call that answers a file.
pub(crate) fn about(id: &'static str, summary: &'static str) -> About {
    About::new(id, summary)
        .streams(
            200,
            "application/octet-stream",
            "The file; of a folder, where no file of it is named, what is in it.",
        )
        .answers::<Manifest>(200, "")
}

fn missing(what: &str) -> Refusal {
    let why = format!("there is no output {what}, or not yet");
    Refusal::new(StatusCode::NOT_FOUND, why)
}

impl Api {
    /// What a step made.
    pub(crate) async fn made(
        &self,
        run: &RunJson,
        step: &str,
        output: &str,
    ) -> Result<Artifact, Refusal> {
        let path = step_of(run, step)?;
        let state = self.look(run).await?;
        let made = state.step(&path).and_then(|view| {
            let outcome = view.outcome?;
            outcome.outputs.get(output).cloned()
        });
        made.ok_or_else(|| missing(&format!("{step}.{output}")))
    }

    /// A pipeline's own output, as an answer.
    pub(crate) async fn output(
        &self,
        run: &str,
        output: &str,
        path: Option<&str>,
    ) -> Result<Response, Refusal> {
        let run = self.run(run).await?;
        let state = self.look(&run).await?;
        let made = of_pipeline(&run.plan, &state, output).ok_or_else(|| missing(output))?;
        answer(self, &made, path).await
    }
}

/// One file in a stream, or what files there are.
pub(crate) async fn answer(
    api: &Api,
    made: &Artifact,
    path: Option<&str>,
) -> Result<Response, Refusal> {
    let store = api.store();
    let manifest = artifact::read_manifest(store, made).await;
    let manifest = manifest.map_err(|error| Refusal::of(&error))?;
    let single = (made.data_type == DataType::UriFile && manifest.entries.len() == 1)
        .then(|| manifest.entries[0].path.as_str());
    let Some(wanted) = path.or(single) else {
        return Ok(Json(&manifest).into_response());
    };
    let found = manifest.entries.iter().find_map(|entry| match &entry.kind {
        EntryKind::File {
            size,
            digest,
            stored_as,
            ..
        } if entry.path == wanted => {
            Some((*size, *digest, stored_as.as_deref().unwrap_or(&entry.path)))
        }
        _ => None,
    });
    let (size, digest, stored) = found.ok_or_else(|| missing(wanted))?;
    let place = StorePath::parse(format!("{}/{stored}", made.prefix))
        .map_err(|error| Refusal::new(StatusCode::BAD_GATEWAY, error.to_string()))?;
    let got = store.objects().get(&place).await;
    let got = got.map_err(|error| Refusal::of_store(&error))?;
    if got.meta.size != size {
        let why = format!("{wanted} is not what was published");
        return Err(Refusal::new(StatusCode::BAD_GATEWAY, why));
    }
    let hashed = (got.into_stream(), Some(blake3::Hasher::new()));
    let checked = futures::stream::unfold(hashed, move |(mut stream, hasher)| async move {
        let mut hasher = hasher?;
        match stream.next().await {
            Some(Ok(bytes)) => {
                hasher.update(&bytes);
                Some((Ok::<Bytes, std::io::Error>(bytes), (stream, Some(hasher))))
            }
            Some(Err(error)) => Some((Err(std::io::Error::other(error)), (stream, None))),
            None if auria_core::Digest::from(hasher.finalize()) == digest => None,
            // The length is said before: a reader sees that the answer broke off.
            None => {
                let error = std::io::Error::other("not what was published");
                Some((Err(error), (stream, None)))
            }
        }
    });
    let mut response = Body::from_stream(checked).into_response();
    let headers = response.headers_mut();
    inert(headers);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    let name = wanted.rsplit('/').next().unwrap_or(wanted);
    // No name of a file can end the header or the name in it.
    let safe = |c: char| c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&c);
    let name: String = name
        .chars()
        .map(|c| if safe(c) { c } else { '_' })
        .collect();
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{digest}\"")) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}

pub(super) async fn metrics(
    State(api): State<Api>,
    Path(run): Path<String>,
) -> Result<Json<Measured>, Refusal> {
    let run = api.run(&run).await?;
    let state = api.look(&run).await?;
    measured(&api, &run, &state).await.map(Json)
}

/// What steps measured, by step.
pub(crate) type Measured = BTreeMap<String, Vec<serde_json::Value>>;

/// What the steps of a run measured, as far as one answer goes.
pub(crate) async fn measured(
    api: &Api,
    run: &RunJson,
    state: &RunState,
) -> Result<Measured, Refusal> {
    let mut all = Measured::new();
    for view in state.steps() {
        let step = view.step.path.clone();
        let Some((number, nonce)) = state.last_claim(&step) else {
            continue;
        };
        let id = AttemptId {
            run: run.run.clone(),
            step,
            number,
        };
        let values = logs::read_metrics(api.store(), &id, nonce).await;
        let mut values = values.map_err(|error| Refusal::of(&error))?;
        let from = values.len().saturating_sub(MOST_VALUES);
        values.drain(..from);
        if !values.is_empty() {
            all.insert(id.step.display(), values);
        }
    }
    Ok(all)
}
