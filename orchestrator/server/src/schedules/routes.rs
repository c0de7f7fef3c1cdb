//! Schedules over HTTP. Who submits may make and change them; who reads may look.

use super::{Definition, Schedule, ScheduleError, Tick, create, delete, enable, list, show};
use crate::access::{Access, Deed, Kind, Principal};
use crate::api::Api;
use crate::api::extract::Said;
use crate::api::resources::{NotTaken, Taken, accepted, invalid};
use crate::changes::{self, Changes};
use crate::openapi::{About, Routes};
use crate::problem::Refusal;
use crate::submission::{has_files, new_run};
use auria_core::{RunId, Timestamp};
use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
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
    pub(super) changes: Arc<dyn Changes>,
}

impl Schedules {
    /// The schedules whose runs `api` takes.
    #[must_use]
    pub fn new(api: Api, access: Arc<Access>) -> Self {
        Self {
            api,
            access,
            changed: Arc::new(Notify::new()),
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

    async fn may(&self, headers: &HeaderMap, deed: Deed) -> Result<Principal, Refusal> {
        self.access.allowed(headers, deed, Kind::Schedules).await
    }

    /// Somebody has changed a schedule, or had it make a run.
    async fn note(&self, who: &Principal, what: &str, to: &str) {
        self.changes.schedule(to);
        self.access.note(who, what, to).await;
    }
}

/// What it does.
pub(crate) fn described() -> Routes<Schedules> {
    Routes::new()
        .get(
            "/schedules",
            listed,
            About::new("listSchedules", "All schedules"),
        )
        .post(
            "/schedules",
            made,
            About::new("createSchedule", "Makes a schedule").status(201),
        )
        .get(
            "/schedules/{name}",
            shown,
            About::new("showSchedule", "A schedule, its next ticks and its last"),
        )
        .delete(
            "/schedules/{name}",
            gone,
            About::new("deleteSchedule", "Ends a schedule; its runs stay"),
        )
        .post(
            "/schedules/{name}/enable",
            enabled,
            About::new("enableSchedule", "Lets a schedule fire"),
        )
        .post(
            "/schedules/{name}/disable",
            disabled,
            About::new("disableSchedule", "Lets a schedule fire no more"),
        )
        .post(
            "/schedules/{name}/trigger",
            triggered,
            About::new(
                "triggerSchedule",
                "Makes a run now, whatever the clock says",
            )
            .answers::<Taken>(202, "It is taken, and waits for its turn."),
        )
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
    schedules.may(&headers, Deed::List).await?;
    list(schedules.api.store()).await.map(Json).map_err(refusal)
}

#[derive(JsonSchema, Deserialize)]
struct NewBody {
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"))]
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
) -> Result<(StatusCode, Json<Shown>), Refusal> {
    let who = schedules.may(&headers, Deed::Make).await?;
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

#[derive(JsonSchema, Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    pub(crate) schedule: Schedule,
    /// The next ticks, whether it fires or not.
    pub(crate) next: Vec<Timestamp>,
    /// The last ticks, newest first.
    pub(crate) ticks: Vec<Tick>,
}

async fn whole(schedules: &Schedules, name: &str) -> Result<Shown, Refusal> {
    let schedule = show(schedules.api.store(), name).await.map_err(refusal)?;
    let next = schedules.next(name, NEXT).await.map_err(refusal)?;
    let ticks = schedules.ticks(name, schedules.access.now()).await;
    let mut ticks = ticks.map_err(|error| Refusal::of(&error))?;
    ticks.reverse();
    ticks.truncate(LAST);
    Ok(Shown {
        schedule,
        next,
        ticks,
    })
}

async fn shown(
    State(schedules): State<Schedules>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Shown>, Refusal> {
    schedules.may(&headers, Deed::Look).await?;
    whole(&schedules, &name).await.map(Json)
}

/// That a schedule is no more.
#[derive(JsonSchema, Serialize)]
struct Gone {
    name: String,
    deleted: bool,
}

async fn gone(
    State(schedules): State<Schedules>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Gone>, Refusal> {
    let who = schedules.may(&headers, Deed::End).await?;
    delete(schedules.api.store(), &name)
        .await
        .map_err(refusal)?;
    schedules.note(&who, "schedule.delete", &name).await;
    schedules.changed.notify_one();
    Ok(Json(Gone {
        name,
        deleted: true,
    }))
}

async fn switched(
    schedules: &Schedules,
    name: &str,
    headers: &HeaderMap,
    on: bool,
) -> Result<Json<Shown>, Refusal> {
    let who = schedules.may(headers, Deed::Change).await?;
    schedules.switch(name, &who, on).await?;
    whole(schedules, name).await.map(Json)
}

impl Schedules {
    /// Lets a schedule fire, or not, for somebody who may say so.
    pub(crate) async fn switch(
        &self,
        name: &str,
        who: &Principal,
        on: bool,
    ) -> Result<(), Refusal> {
        let now = self.access.now();
        let done = enable(self.api.store(), name, on, now).await;
        done.map_err(refusal)?;
        let what = if on {
            "schedule.enable"
        } else {
            "schedule.disable"
        };
        self.note(who, what, name).await;
        self.changed.notify_one();
        Ok(())
    }

    /// Makes a run now, for somebody who may: no tick, and no policy of ticks.
    pub(crate) async fn trigger(&self, name: &str, who: &Principal) -> Result<RunId, NotTaken> {
        let schedule = show(self.api.store(), name).await.map_err(refusal)?;
        let now = self.access.now();
        let run = self.start(&schedule, &new_run(name, now), now).await?;
        self.note(who, "schedule.trigger", name).await;
        Ok(run)
    }

    /// A schedule, its next ticks and its last.
    pub(crate) async fn one(&self, name: &str) -> Result<Shown, Refusal> {
        whole(self, name).await
    }

    /// All schedules, each with its ticks.
    pub(crate) async fn all(&self) -> Result<Vec<Shown>, Refusal> {
        let mut all = Vec::new();
        for schedule in list(self.api.store()).await.map_err(refusal)? {
            all.push(whole(self, &schedule.name).await?);
        }
        Ok(all)
    }
}

async fn enabled(
    State(schedules): State<Schedules>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Shown>, Refusal> {
    switched(&schedules, &name, &headers, true).await
}

async fn disabled(
    State(schedules): State<Schedules>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Shown>, Refusal> {
    switched(&schedules, &name, &headers, false).await
}

async fn triggered(
    State(schedules): State<Schedules>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let who = schedules.may(&headers, Deed::Change).await?;
    match schedules.trigger(&name, &who).await {
        Ok(run) => Ok(accepted(&schedules.api.taken(&run))),
        Err(NotTaken::Refused(refusal)) => Err(refusal),
        Err(NotTaken::Invalid {
            message,
            diagnostics,
        }) => Ok(invalid(&message, &diagnostics)),
    }
}
