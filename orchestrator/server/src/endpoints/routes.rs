//! Endpoints and their deployments over HTTP. Who submits may make and change them; who reads
//! may look.

use super::jobs::{DEPLOYMENT, invoke, invoke_v1, output, refusal, show_job};
use super::shapes::{Job, Submitted};
use super::{
    Deployment, Endpoint, create, delete, deploy, deployment, list, set_default, show, withdraw,
};
use crate::access::{Access, Deed, Kind, Principal};
use crate::api::extract::Said;
use crate::api::{Api, outputs};
use crate::changes::{self, Changes};
use crate::openapi::{About, Routes};
use crate::problem::Refusal;
use crate::submission::has_files;
use auria_core::Digest;
use axum::Json;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

/// The endpoints of a server. Clones are the same.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub(super) api: Api,
    pub(super) access: Arc<Access>,
    changes: Arc<dyn Changes>,
}

impl Endpoints {
    /// The endpoints whose runs `api` takes.
    #[must_use]
    pub fn new(api: Api, access: Arc<Access>) -> Self {
        Self {
            api,
            access,
            changes: changes::nobody(),
        }
    }

    /// The same, which tell `changes` what changes.
    #[must_use]
    pub fn telling(mut self, changes: Arc<dyn Changes>) -> Self {
        self.changes = changes;
        self
    }

    /// What it answers, below the API's base.
    pub fn routes(&self) -> Routes {
        self.access.known(described().with_state(self.clone()))
    }

    /// What it answers at the paths of published pipelines, below no base.
    pub fn published(&self) -> Routes {
        self.access.known(published().with_state(self.clone()))
    }

    async fn may(&self, headers: &HeaderMap, deed: Deed) -> Result<Principal, Refusal> {
        self.access.allowed(headers, deed, Kind::Endpoints).await
    }

    /// Somebody has changed `endpoint`, or this part of it (`ENDPOINT/DEPLOYMENT`).
    async fn note(&self, who: &Principal, what: &str, part: &str) {
        let endpoint = part.split('/').next().unwrap_or(part);
        self.changes.endpoint(endpoint);
        self.access.note(who, what, part).await;
    }
}

/// What it does.
pub(crate) fn described() -> Routes<Endpoints> {
    let job = "/endpoints/{name}/jobs/{run}";
    let picks = json!({
        "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$", "maxLength": 63,
        "description": "The deployment that is to serve this request; the default where nothing is said.",
    });
    Routes::new()
        .get(
            "/endpoints",
            listed,
            About::new("listEndpoints", "All endpoints"),
        )
        .post(
            "/endpoints",
            made,
            About::new("createEndpoint", "Makes an endpoint").status(201),
        )
        .get(
            "/endpoints/{name}",
            shown,
            About::new("showEndpoint", "An endpoint as it stands"),
        )
        .patch(
            "/endpoints/{name}",
            changed,
            About::new(
                "changeEndpoint",
                "Says which deployment serves who names none",
            ),
        )
        .delete(
            "/endpoints/{name}",
            ended,
            About::new("deleteEndpoint", "Ends an endpoint; its runs stay"),
        )
        .post(
            "/endpoints/{name}/deployments",
            deployed,
            About::new(
                "deploy",
                "Puts a new version of a deployment behind an endpoint",
            )
            .status(201),
        )
        .get(
            "/endpoints/{name}/deployments/{deployment}",
            version,
            About::new("showDeployment", "The newest version of a deployment"),
        )
        .delete(
            "/endpoints/{name}/deployments/{deployment}",
            withdrawn,
            About::new(
                "withdrawDeployment",
                "Takes a deployment away; its runs go on",
            ),
        )
        .post(
            "/endpoints/{name}/jobs",
            invoke,
            About::new(
                "invokeEndpoint",
                "Invokes an endpoint, as Azure ML's batch endpoints are",
            )
            .keyed()
            .header(DEPLOYMENT, picks)
            .answers::<Job>(200, "It ended within the time that was to be waited.")
            .answers::<Job>(202, "It is taken, or runs."),
        )
        .get(job, show_job, About::new("showJob", "A job as it stands"))
        .get(
            "/endpoints/{name}/jobs/{run}/outputs/{output}",
            output,
            outputs::about("readJobOutput", "A file of an output of a job"),
        )
}

/// What it does at the paths of published pipelines.
pub(crate) fn published() -> Routes<Endpoints> {
    let path = "/pipelines/v1.0/subscriptions/{subscription}/resourceGroups/{group}/providers/\
                Microsoft.MachineLearningServices/workspaces/{workspace}/PipelineRuns/PipelineSubmit/\
                {endpoint}";
    Routes::new().post(
        path,
        invoke_v1,
        About::new(
            "submitPublished",
            "Invokes an endpoint, as Azure ML's published pipelines are",
        )
        .keyed()
        .served_at("/pipelines/v1.0/{*path}")
        .answers::<Submitted>(200, "It is taken, and waits for its turn."),
    )
}

async fn listed(
    State(endpoints): State<Endpoints>,
    headers: HeaderMap,
) -> Result<Json<Vec<Endpoint>>, Refusal> {
    endpoints.may(&headers, Deed::List).await?;
    list(endpoints.api.store()).await.map(Json).map_err(refusal)
}

#[derive(JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBody {
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"))]
    name: String,
    #[serde(default)]
    description: String,
}

async fn made(
    State(endpoints): State<Endpoints>,
    headers: HeaderMap,
    Said(body): Said<NewBody>,
) -> Result<(StatusCode, Json<Endpoint>), Refusal> {
    let who = endpoints.may(&headers, Deed::Make).await?;
    let (store, now) = (endpoints.api.store(), endpoints.access.now());
    let made = create(store, &body.name, &body.description, &who.name, now).await;
    made.map_err(refusal)?;
    endpoints.note(&who, "endpoint.create", &body.name).await;
    let found = show(store, &body.name).await.map_err(refusal)?;
    Ok((StatusCode::CREATED, Json(found)))
}

async fn shown(
    State(endpoints): State<Endpoints>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Endpoint>, Refusal> {
    endpoints.may(&headers, Deed::Look).await?;
    show(endpoints.api.store(), &name)
        .await
        .map(Json)
        .map_err(refusal)
}

#[derive(JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    /// The deployment that serves who names none.
    default: String,
}

async fn changed(
    State(endpoints): State<Endpoints>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Said(body): Said<ChangeBody>,
) -> Result<Json<Endpoint>, Refusal> {
    let who = endpoints.may(&headers, Deed::Change).await?;
    let store = endpoints.api.store();
    let found = show(store, &name).await.map_err(refusal)?;
    if !found.deployments.contains_key(&body.default) {
        let why = format!("the endpoint {name} has no deployment `{}`", body.default);
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    set_default(store, &name, &body.default)
        .await
        .map_err(refusal)?;
    endpoints
        .note(
            &who,
            "endpoint.default",
            &format!("{name}/{}", body.default),
        )
        .await;
    show(store, &name).await.map(Json).map_err(refusal)
}

/// That something is no more.
#[derive(JsonSchema, Serialize)]
struct Gone {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<String>,
    deleted: bool,
}

impl Gone {
    fn new(name: String) -> Self {
        Self {
            name: Some(name),
            endpoint: None,
            deployment: None,
            deleted: true,
        }
    }

    fn of(endpoint: String, deployment: String) -> Self {
        Self {
            name: None,
            endpoint: Some(endpoint),
            deployment: Some(deployment),
            deleted: true,
        }
    }
}

async fn ended(
    State(endpoints): State<Endpoints>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Gone>, Refusal> {
    let who = endpoints.may(&headers, Deed::End).await?;
    delete(endpoints.api.store(), &name)
        .await
        .map_err(refusal)?;
    endpoints.note(&who, "endpoint.delete", &name).await;
    Ok(Json(Gone::new(name)))
}

#[derive(JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployBody {
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"))]
    name: String,
    #[serde(default)]
    document: Option<String>,
    #[serde(default)]
    snapshot: Option<Digest>,
    #[serde(default)]
    file: Option<String>,
    #[serde(default)]
    pipeline: Option<String>,
    #[serde(default)]
    set: Vec<String>,
    #[serde(default)]
    force_rerun: bool,
    /// Whether it serves from now on who names none.
    #[serde(default)]
    default: bool,
}

#[derive(JsonSchema, Serialize)]
struct Deployed {
    endpoint: String,
    deployment: String,
    version: u64,
}

async fn deployed(
    State(endpoints): State<Endpoints>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Said(body): Said<DeployBody>,
) -> Result<(StatusCode, Json<Deployed>), Refusal> {
    let who = endpoints.may(&headers, Deed::Change).await?;
    let store = endpoints.api.store();
    has_files(store, body.document.as_deref(), body.snapshot.as_ref()).await?;
    let made = Deployment {
        name: body.name.clone(),
        version: 0,
        document: body.document,
        snapshots: body.snapshot.into_iter().collect(),
        snapshot: body.snapshot,
        file: body.file,
        pipeline: body.pipeline,
        set: body.set,
        force_rerun: body.force_rerun,
        created: endpoints.access.now(),
        by: who.name.clone(),
    };
    let version = deploy(store, &name, made).await.map_err(refusal)?;
    if body.default {
        set_default(store, &name, &body.name)
            .await
            .map_err(refusal)?;
    }
    let to = format!("{name}/{}/{version}", body.name);
    endpoints.note(&who, "deployment.create", &to).await;
    let answer = Deployed {
        endpoint: name,
        deployment: body.name,
        version,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

async fn version(
    State(endpoints): State<Endpoints>,
    Path((name, wanted)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Deployment>, Refusal> {
    endpoints.may(&headers, Deed::Look).await?;
    let store = endpoints.api.store();
    let endpoint = show(store, &name).await.map_err(refusal)?;
    deployment(store, &endpoint, Some(&wanted))
        .await
        .map(Json)
        .map_err(refusal)
}

async fn withdrawn(
    State(endpoints): State<Endpoints>,
    Path((name, gone)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Gone>, Refusal> {
    let who = endpoints.may(&headers, Deed::Change).await?;
    withdraw(endpoints.api.store(), &name, &gone)
        .await
        .map_err(refusal)?;
    endpoints
        .note(&who, "deployment.delete", &format!("{name}/{gone}"))
        .await;
    Ok(Json(Gone::of(name, gone)))
}
