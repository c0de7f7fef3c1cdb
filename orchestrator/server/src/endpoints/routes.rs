//! Endpoints and their deployments over HTTP. Who submits may make and change them; who reads
//! may look.

use super::jobs::{invoke, invoke_v1, output, refusal, show_job};
use super::{
    Deployment, Endpoint, create, delete, deploy, deployment, list, set_default, show, withdraw,
};
use crate::access::{Access, Principal};
use crate::api::extract::Said;
use crate::api::{Action, Api};
use crate::problem::Refusal;
use crate::submission::has_files;
use auria_core::Digest;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// The endpoints of a server. Clones are the same.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub(super) api: Api,
    pub(super) access: Arc<Access>,
}

impl Endpoints {
    /// The endpoints whose runs `api` takes.
    #[must_use]
    pub fn new(api: Api, access: Arc<Access>) -> Self {
        Self { api, access }
    }

    /// What it answers, below the API's base.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/endpoints", get(listed).post(made))
            .route("/endpoints/{name}", get(shown).delete(ended).patch(changed))
            .route("/endpoints/{name}/deployments", post(deployed))
            .route(
                "/endpoints/{name}/deployments/{deployment}",
                get(version).delete(withdrawn),
            )
            .route("/endpoints/{name}/jobs", post(invoke))
            .route("/endpoints/{name}/jobs/{run}", get(show_job))
            .route("/endpoints/{name}/jobs/{run}/outputs/{output}", get(output))
            .with_state(self.clone())
    }

    /// What it answers at the paths of published pipelines, below no base.
    pub fn published(&self) -> Router {
        Router::new()
            .route("/pipelines/v1.0/{*path}", post(invoke_v1))
            .with_state(self.clone())
    }

    async fn may(&self, headers: &HeaderMap, action: Action) -> Result<Principal, Refusal> {
        self.access.allowed(headers, action, "endpoints").await
    }

    async fn note(&self, who: &Principal, what: &str, to: &str) {
        self.access.note(who, what, to).await;
    }
}

async fn listed(
    State(endpoints): State<Endpoints>,
    headers: HeaderMap,
) -> Result<Json<Vec<Endpoint>>, Refusal> {
    endpoints.may(&headers, Action::Read).await?;
    list(endpoints.api.store()).await.map(Json).map_err(refusal)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBody {
    name: String,
    #[serde(default)]
    description: String,
}

async fn made(
    State(endpoints): State<Endpoints>,
    headers: HeaderMap,
    Said(body): Said<NewBody>,
) -> Result<(StatusCode, Json<Endpoint>), Refusal> {
    let who = endpoints.may(&headers, Action::Create).await?;
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
    endpoints.may(&headers, Action::Read).await?;
    show(endpoints.api.store(), &name)
        .await
        .map(Json)
        .map_err(refusal)
}

#[derive(Deserialize)]
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
    let who = endpoints.may(&headers, Action::Create).await?;
    let store = endpoints.api.store();
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

async fn ended(
    State(endpoints): State<Endpoints>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let who = endpoints.may(&headers, Action::Create).await?;
    delete(endpoints.api.store(), &name)
        .await
        .map_err(refusal)?;
    endpoints.note(&who, "endpoint.delete", &name).await;
    Ok(Json(json!({"name": name, "deleted": true})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployBody {
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

#[derive(Serialize)]
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
    let who = endpoints.may(&headers, Action::Create).await?;
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
    endpoints.may(&headers, Action::Read).await?;
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
) -> Result<Json<Value>, Refusal> {
    let who = endpoints.may(&headers, Action::Create).await?;
    withdraw(endpoints.api.store(), &name, &gone)
        .await
        .map_err(refusal)?;
    endpoints
        .note(&who, "deployment.delete", &format!("{name}/{gone}"))
        .await;
    Ok(Json(
        json!({"endpoint": name, "deployment": gone, "deleted": true}),
    ))
}
