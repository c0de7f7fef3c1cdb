//! Schedules over HTTP. Who submits may make and change them; who reads may look.

use super::{Definition, Schedule, ScheduleError, Tick, create, delete, enable, list, show};
use crate::access::{Access, Principal};
use crate::api::extract::Said;
use crate::api::resources::{NotTaken, accepted, invalid};
use crate::api::{Action, Api};
use crate::problem::Refusal;
use crate::submission::{has_files, new_run};
use auria_core::Timestamp;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;

/// Ticks to come that are told.
const NEXT: usize = 5;
/// Past ticks that are told.
const LAST: usize = 20;
/// The schedules of a server. Clones are the same.
#[derive(Clone, Debug)]
pub struct Schedules {
    pub(super) api: Api,
    pub(super) access: Arc<Access>,
    /// One was made or changed here.
    pub(super) changed: Arc<Notify>,
}

impl Schedules {
    /// The schedules whose runs `api` takes.
    #[must_use]
    pub fn new(api: Api, access: Arc<Access>) -> Self {
        Self {
            api,
            access,
            changed: Arc::new(Notify::new()),
        }
    }

    /// What it answers, below the API's base.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/schedules", get(listed).post(made))
            .route("/schedules/{name}", get(shown).delete(gone))
            .route("/schedules/{name}/enable", post(enabled))
            .route("/schedules/{name}/disable", post(disabled))
            .route("/schedules/{name}/trigger", post(triggered))
            .with_state(self.clone())
    }

    async fn may(&self, headers: &HeaderMap, action: Action) -> Result<Principal, Refusal> {
        self.access.allowed(headers, action, "schedules").await
    }

    async fn note(&self, who: &Principal, what: &str, to: &str) {
        self.access.note(who, what, to).await;
    }
}

fn refusal(error: ScheduleError) -> Refusal {
    match &error {
        ScheduleError::Unknown(_) => Refusal::new(StatusCode::NOT_FOUND, error.to_string()),
        ScheduleError::Exists(_) => Refusal::new(StatusCode::CONFLICT, error.to_string()),
        ScheduleError::Wrong(_) => {
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
        }
        ScheduleError::Store(error) => Refusal::of(error),
    }
}

async fn listed(
    State(schedules): State<Schedules>,
    headers: HeaderMap,
) -> Result<Json<Vec<Schedule>>, Refusal> {
    schedules.may(&headers, Action::Read).await?;
    list(schedules.api.store()).await.map(Json).map_err(refusal)
}

#[derive(Deserialize)]
struct NewBody {
    name: String,
    /// Whether it does not fire yet.
    #[serde(default)]
    disabled: bool,
    #[serde(flatten)]
    definition: Definition,
}

async fn made(
    State(schedules): State<Schedules>,
    headers: HeaderMap,
    Said(body): Said<NewBody>,
) -> Result<(StatusCode, Json<Whole>), Refusal> {
    let who = schedules.may(&headers, Action::Create).await?;
    let (store, now) = (schedules.api.store(), schedules.access.now());
    has_files(
        store,
        body.definition.document.as_deref(),
        body.definition.snapshot.as_ref(),
    )
    .await?;
    create(store, &body.name, body.definition, &who.name, now)
        .await
        .map_err(refusal)?;
    if !body.disabled {
        enable(store, &body.name, true, now)
            .await
            .map_err(refusal)?;
    }
    schedules.note(&who, "schedule.create", &body.name).await;
    schedules.changed.notify_one();
    let whole = whole(&schedules, &body.name).await?;
    Ok((StatusCode::CREATED, Json(whole)))
}

#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    schedule: Schedule,
    /// The next ticks, whether it fires or not.
    next: Vec<Timestamp>,
    /// The last ticks, newest first.
    ticks: Vec<Tick>,
}

async fn whole(schedules: &Schedules, name: &str) -> Result<Whole, Refusal> {
    let schedule = show(schedules.api.store(), name).await.map_err(refusal)?;
    let next = schedules.next(name, NEXT).await.map_err(refusal)?;
    let ticks = schedules.ticks(name, schedules.access.now()).await;
    let mut ticks = ticks.map_err(|error| Refusal::of(&error))?;
    ticks.reverse();
    ticks.truncate(LAST);
    Ok(Whole {
        schedule,
        next,
        ticks,
    })
}

async fn shown(
    State(schedules): State<Schedules>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Whole>, Refusal> {
    schedules.may(&headers, Action::Read).await?;
    whole(&schedules, &name).await.map(Json)
}

async fn gone(
    State(schedules): State<Schedules>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let who = schedules.may(&headers, Action::Create).await?;
    delete(schedules.api.store(), &name)
        .await
        .map_err(refusal)?;
    schedules.note(&who, "schedule.delete", &name).await;
    schedules.changed.notify_one();
    Ok(Json(json!({"name": name, "deleted": true})))
}

async fn switch(
    schedules: &Schedules,
    name: &str,
    headers: &HeaderMap,
    on: bool,
) -> Result<Json<Whole>, Refusal> {
    let who = schedules.may(headers, Action::Create).await?;
    let now = schedules.access.now();
    enable(schedules.api.store(), name, on, now)
        .await
        .map_err(refusal)?;
    let what = if on {
        "schedule.enable"
    } else {
        "schedule.disable"
    };
    schedules.note(&who, what, name).await;
    schedules.changed.notify_one();
    whole(schedules, name).await.map(Json)
}

async fn enabled(
    State(schedules): State<Schedules>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Whole>, Refusal> {
    switch(&schedules, &name, &headers, true).await
}

async fn disabled(
    State(schedules): State<Schedules>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Whole>, Refusal> {
    switch(&schedules, &name, &headers, false).await
}

/// Makes a run now: no tick, and no policy of ticks.
async fn triggered(
    State(schedules): State<Schedules>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let who = schedules.may(&headers, Action::Create).await?;
    let schedule = show(schedules.api.store(), &name).await.map_err(refusal)?;
    let run = new_run(&name, schedules.access.now());
    match schedules.start(&schedule, &run).await {
        Ok(run) => {
            schedules.note(&who, "schedule.trigger", &name).await;
            Ok(accepted(&schedules.api.taken(&run)))
        }
        Err(NotTaken::Refused(refusal)) => Err(refusal),
        Err(NotTaken::Invalid {
            message,
            diagnostics,
        }) => Ok(invalid(&message, &diagnostics)),
    }
}
