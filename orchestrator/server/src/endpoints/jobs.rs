//! Invoking an endpoint: a request becomes a run of the deployment that serves it. Who may do
//! no more than invoke sees the jobs of its own alone.

use super::routes::Endpoints;
use super::shapes::{
    Asked, Job, JobKind, JobOutput, JobProperties, Submitted, SubmittedStatus, V1, V2,
};
use super::{Deployment, Endpoint, deployment, show};
use crate::access::Principal;
use crate::api::Action;
use crate::api::extract::{Asked as Query, Said};
use crate::api::resources::{NotTaken, invalid};
use crate::problem::Refusal;
use crate::submission::{Files, InputFacts, InputKind, Submission, new_run};
use auria_core::protocol::API;
use auria_core::run::RunChange;
use auria_core::{RunId, Timestamp};
use auria_store::served;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The header that picks a deployment.
pub(super) const DEPLOYMENT: &str = "azureml-model-deployment";
/// The longest that a request may wait for its run.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    endpoint: String,
    deployment: String,
    version: u64,
    by: String,
    at: Timestamp,
}

#[derive(Debug, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitQuery {
    wait: Option<String>,
}

impl WaitQuery {
    fn time(&self) -> Result<Option<Duration>, Refusal> {
        let Some(text) = &self.wait else {
            return Ok(None);
        };
        let time = auria_core::check::duration_ms(text).map(Duration::from_millis);
        match time {
            Some(time) if time <= LONGEST_WAIT => Ok(Some(time)),
            _ => Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                format!(
                    "`wait` is a time such as 30s, at most {}s",
                    LONGEST_WAIT.as_secs()
                ),
            )),
        }
    }
}

/// Refuses what could end the quotes of a command, or begin another one: values become part
/// of commands for a shell, and who may do no more than invoke chooses no commands. An
/// ampersand stands in many URLs, and counts in other values alone.
fn for_a_shell(set: &str) -> Result<(), Refusal> {
    let (input, value) = set.split_once('=').unwrap_or_default();
    let is_url = value.starts_with("https://") || value.starts_with("http://");
    let means_more = |letter: char| {
        letter.is_control() || r#"'"`$\;|<>(){}"#.contains(letter) || (letter == '&' && !is_url)
    };
    match value.chars().find(|letter| means_more(*letter)) {
        None => Ok(()),
        Some(letter) => Err(unprocessable(format!(
            "{letter:?} in `{input}` may mean something to a shell: leave it out, or ask with a token that has the scope submit"
        ))),
    }
}

fn unprocessable(why: String) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why)
}

pub(super) async fn invoke(
    State(endpoints): State<Endpoints>,
    Path(name): Path<String>,
    Query(query): Query<WaitQuery>,
    headers: HeaderMap,
    Said(body): Said<V2>,
) -> Result<Response, Refusal> {
    let wait = query.time()?;
    let asked = body.asked().map_err(unprocessable)?;
    let whole = serde_json::to_vec(&body).unwrap_or_default();
    let taken = endpoints.take(&name, &headers, &whole, asked).await;
    let run = match taken {
        Ok(run) => run,
        Err(NotTaken::Refused(refusal)) => return Err(refusal),
        Err(NotTaken::Invalid {
            message,
            diagnostics,
        }) => {
            return Ok(invalid(&message, &diagnostics));
        }
    };
    let ended = match wait {
        Some(time) => tokio::time::timeout(time, endpoints.ended(&run))
            .await
            .is_ok(),
        None => false,
    };
    let value = endpoints.job(&name, &run).await?;
    let status = if ended {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let mut response = (status, Json(&value)).into_response();
    let place = format!("{API}/endpoints/{name}/jobs/{run}");
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// A published pipeline of the first kind: the answer has its run's `Id`.
pub(super) async fn invoke_v1(
    State(endpoints): State<Endpoints>,
    Path(path): Path<String>,
    headers: HeaderMap,
    Said(body): Said<V1>,
) -> Result<Response, Refusal> {
    // Subscriptions and workspaces before it name nothing here.
    let (_, name) = path
        .rsplit_once("PipelineRuns/PipelineSubmit/")
        .ok_or_else(|| {
            Refusal::new(
                StatusCode::NOT_FOUND,
                "use …/PipelineRuns/PipelineSubmit/ENDPOINT",
            )
        })?;
    let asked = body.asked().map_err(unprocessable)?;
    let whole = serde_json::to_vec(&body).unwrap_or_default();
    match endpoints.take(name, &headers, &whole, asked).await {
        Ok(run) => {
            let status_detail = endpoints.api.taken(&run).status;
            let submitted = Submitted {
                id: run.clone(),
                run_id: run,
                status: SubmittedStatus { status_detail },
            };
            Ok(Json(submitted).into_response())
        }
        Err(NotTaken::Refused(refusal)) => Err(refusal),
        Err(NotTaken::Invalid {
            message,
            diagnostics,
        }) => Ok(invalid(&message, &diagnostics)),
    }
}

pub(super) async fn show_job(
    State(endpoints): State<Endpoints>,
    Path((name, run)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Job>, Refusal> {
    let run = endpoints.seen(&name, &run, &headers).await?;
    endpoints.job(&name, &run).await.map(Json)
}

#[derive(Debug, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileQuery {
    path: Option<String>,
}

pub(super) async fn output(
    State(endpoints): State<Endpoints>,
    Path((name, run, output)): Path<(String, String, String)>,
    Query(query): Query<FileQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let run = endpoints.seen(&name, &run, &headers).await?;
    endpoints
        .api
        .output(run.as_str(), &output, query.path.as_deref())
        .await
}

impl Endpoints {
    /// Whoever asks, where it may invoke `name`.
    async fn invoker(&self, name: &str, headers: &HeaderMap) -> Result<Principal, Refusal> {
        self.access.invoker(headers, name).await
    }

    /// Makes a run of what is asked.
    async fn take(
        &self,
        name: &str,
        headers: &HeaderMap,
        whole: &[u8],
        asked: Asked,
    ) -> Result<RunId, NotTaken> {
        let principal = self.invoker(name, headers).await?;
        let run = new_run(name, self.access.now());
        self.take_from(&principal, name, run, headers, whole, asked)
            .await
    }

    /// Makes a run of what a form gives: texts, by the names of inputs.
    pub(crate) async fn invoke(
        &self,
        name: &str,
        principal: &Principal,
        given: &BTreeMap<String, String>,
    ) -> Result<RunId, NotTaken> {
        let run = new_run(name, self.access.now());
        self.make(run, name, principal, given).await
    }

    /// As [`Self::invoke`], with the name that its run is to have.
    pub(crate) async fn make(
        &self,
        run: RunId,
        name: &str,
        principal: &Principal,
        given: &BTreeMap<String, String>,
    ) -> Result<RunId, NotTaken> {
        let endpoint = show(self.api.store(), name).await.map_err(refusal)?;
        let takes = self.takes(&endpoint).await.map_err(unprocessable)?;
        let mut asked = Asked::default();
        for input in takes {
            match given.get(&input.name) {
                // A field that was left alone.
                Some(text) if text.is_empty() && input.kind != InputKind::Text => {}
                Some(text) => asked.set.push(format!("inputs.{}={text}", input.name)),
                None => {}
            }
        }
        self.take_from(principal, name, run, &HeaderMap::new(), &[], asked)
            .await
    }

    /// What the default deployment of an endpoint takes; why that cannot be told, in words.
    pub(crate) async fn takes(&self, endpoint: &Endpoint) -> Result<Vec<InputFacts>, String> {
        let said = |refusal: Refusal| refusal.document().detail.unwrap_or_default();
        let found = deployment(self.api.store(), endpoint, None).await;
        let found = found.map_err(|error| error.to_string())?;
        let files = files_of(&found).map_err(said)?;
        let planner = self.api.planner().map_err(said)?;
        let takes = planner.inputs(&files, found.pipeline.as_deref(), &found.set);
        takes.await.map_err(|error| error.to_string())
    }

    async fn take_from(
        &self,
        principal: &Principal,
        name: &str,
        run: RunId,
        headers: &HeaderMap,
        whole: &[u8],
        asked: Asked,
    ) -> Result<RunId, NotTaken> {
        let trusted = principal.may(Action::Create);
        if asked.exports && !trusted {
            return Err(unprocessable(
                "OutputData needs the scope submit: outputs are copied with the server's own credentials"
                    .to_owned(),
            )
            .into());
        }
        if !trusted {
            asked.set.iter().try_for_each(|value| for_a_shell(value))?;
        }
        let store = self.api.store();
        let endpoint = show(store, name).await.map_err(refusal)?;
        let picked = match headers.get(DEPLOYMENT) {
            Some(value) => Some(value.to_str().map_err(|_| {
                Refusal::new(StatusCode::BAD_REQUEST, format!("{DEPLOYMENT} is no text"))
            })?),
            None => None,
        };
        let found = deployment(store, &endpoint, picked)
            .await
            .map_err(refusal)?;
        let files = files_of(&found)?;
        let now = self.access.now();
        let mut set = found.set.clone();
        set.extend(asked.set);
        let submission = Submission {
            run,
            nonce: auria_engine::driver::nonce(),
            files,
            pipeline: found.pipeline.clone(),
            experiment: asked.experiment.or_else(|| Some(name.to_owned())),
            set,
            force_rerun: found.force_rerun,
            by: principal.name.clone(),
            internal: trusted,
        };
        let user = principal.user();
        // Another deployment is another request.
        let whole = [whole, b"\n", picked.unwrap_or_default().as_bytes()].concat();
        let what = format!("endpoint/{name}");
        let run = self
            .api
            .submit(&user, &what, headers, &whole, submission)
            .await?;
        let job = Record {
            endpoint: name.to_owned(),
            deployment: found.name,
            version: found.version,
            by: principal.name.clone(),
            at: now,
        };
        // Asked again with the same key, it stands already.
        let bytes = crate::names::json(&job).into();
        let stands = store
            .create_once(&served::job(name, &run), bytes, |_| true)
            .await;
        stands.map_err(|error| Refusal::of(&error))?;
        Ok(run)
    }

    async fn record(&self, name: &str, run: &RunId) -> Result<Record, Refusal> {
        let unknown = || {
            let why = format!("the endpoint {name} has no job {run}");
            Refusal::new(StatusCode::NOT_FOUND, why)
        };
        if !crate::names::is_name(name) {
            return Err(unknown());
        }
        let found = self.api.store().read_json(&served::job(name, run)).await;
        found
            .map_err(|error| Refusal::of(&error))?
            .ok_or_else(unknown)
    }

    /// The run of a job that the caller may see.
    async fn seen(&self, name: &str, run: &str, headers: &HeaderMap) -> Result<RunId, Refusal> {
        let principal = self.access.viewer(headers, name).await?;
        let reads = principal.may(Action::Read);
        let unknown = |_| Refusal::new(StatusCode::NOT_FOUND, format!("there is no job {run}"));
        let run: RunId = run.parse().map_err(unknown)?;
        let job = self.record(name, &run).await?;
        if reads || job.by == principal.name {
            Ok(run)
        } else {
            let why = format!("the endpoint {name} has no job {run}");
            Err(Refusal::new(StatusCode::NOT_FOUND, why))
        }
    }

    /// A job as it stands.
    async fn job(&self, name: &str, run: &RunId) -> Result<Job, Refusal> {
        let record = self.record(name, run).await?;
        let found = self.api.run(run.as_str()).await?;
        let report = self.api.report(&found).await?;
        let id = format!("{API}/endpoints/{name}/jobs/{run}");
        let outputs = report.outputs.iter().map(|(output, made)| {
            let one = JobOutput {
                href: format!("{id}/outputs/{output}"),
                files: made.files,
                bytes: made.bytes,
                digest: made.digest,
                data_type: made.data_type,
            };
            (output.clone(), one)
        });
        let properties = JobProperties {
            display_name: run.clone(),
            status: report.status,
            deployment: record.deployment,
            version: record.version,
            is_archived: false,
            created_time: report.created,
            start_time_utc: report.started,
            end_time_utc: report.ended,
            outputs: outputs.collect(),
            queue: self.api.taken(run).queue,
        };
        Ok(Job {
            id,
            name: run.clone(),
            kind: JobKind::Job,
            properties,
        })
    }

    /// Waits until a run has ended.
    pub(crate) async fn ended(&self, run: &RunId) {
        loop {
            let Some(feed) = self.api.feed(run) else {
                // On a cluster it waits for a driver, or another replica has it.
                return self.api.wait_for(run).await;
            };
            let mut changes = std::pin::pin!(feed.follow());
            drop(feed);
            while let Some(change) = changes.next().await {
                if matches!(change, RunChange::End { .. }) {
                    return;
                }
            }
        }
    }
}

/// The files of a deployment.
fn files_of(found: &Deployment) -> Result<Files, Refusal> {
    match (&found.document, &found.snapshot) {
        (Some(text), _) => Ok(Files::Text(text.clone())),
        (None, Some(digest)) => Ok(Files::Snapshot {
            digest: *digest,
            file: found
                .file
                .clone()
                .unwrap_or_else(|| "pipelines.yaml".to_owned()),
        }),
        (None, None) => Err(Refusal::new(
            StatusCode::BAD_GATEWAY,
            format!("the deployment {} holds no pipeline", found.name),
        )),
    }
}

/// What is wrong with an endpoint, for a caller.
pub(crate) fn refusal(error: super::EndpointError) -> Refusal {
    use super::EndpointError as E;
    match &error {
        E::Unknown(_) => Refusal::new(StatusCode::NOT_FOUND, error.to_string()),
        E::Exists(_) => Refusal::new(StatusCode::CONFLICT, error.to_string()),
        E::Name(_) => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        E::Store(error) => Refusal::of(error),
    }
}
