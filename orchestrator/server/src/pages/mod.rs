//! Pages for people, rendered here: runs, a run with its graph, its steps, time, logs, outputs
//! and measures; endpoints with a form of what they take; schedules. They work without the
//! one small script, which only keeps what is shown up to date.
//!
//! Whoever shows a token once is known by a cookie, which names a session in this server's
//! memory and never the token. Everything that users or steps wrote is text, or a picture.

mod asset;
mod endpoints;
pub(crate) mod files;
mod graph;
mod plots;
mod run;
mod runs;
mod schedules;
mod session;
mod shell;
mod step;
mod timeline;

pub(crate) use asset::asset;
pub(crate) use session::is_foreign;

use crate::access::{Access, Principal};
use crate::api::extract::Asked;
use crate::api::resources::{ListQuery, NotTaken};
use crate::api::{Action, Api};
use crate::endpoints::Endpoints;
use crate::problem::Refusal;
use crate::schedules::Schedules;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::Markup;
use serde::Deserialize;
use session::Sessions;
use shell::Room;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// A form is no longer.
const LARGEST_FORM: usize = 64 * 1024;
/// What a page may do: show itself, with this server's own style, script and pictures.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Runs of an endpoint that its page names.
const JOBS: usize = 10;

/// The pages of a server. Clones are the same.
#[derive(Clone)]
pub struct Pages {
    api: Api,
    access: Arc<Access>,
    endpoints: Endpoints,
    schedules: Schedules,
    sessions: Arc<Sessions>,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pages({:?})", self.api)
    }
}

impl Pages {
    /// The pages of what these answer.
    #[must_use]
    pub fn new(api: Api, access: Arc<Access>, endpoints: Endpoints, schedules: Schedules) -> Self {
        Self {
            api,
            access,
            endpoints,
            schedules,
            sessions: Arc::default(),
        }
    }

    /// What it answers, below no base.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(list))
            .route("/login", get(ask).post(enter))
            .route("/logout", post(leave))
            .route("/run/{run}", get(show))
            .route("/run/{run}/step", get(show_step))
            .route("/run/{run}/file", get(file))
            .route("/run/{run}/events", get(events))
            .route("/run/{run}/logs", get(log))
            .route("/run/{run}/logs/text", get(log_text))
            .route("/run/{run}/cancel", post(cancel))
            .route("/run/{run}/retry", post(retry))
            .route("/endpoints", get(all_endpoints))
            .route("/endpoints/{name}", get(endpoint).post(invoke))
            .route("/schedules", get(all_schedules))
            .route("/schedules/{name}", get(schedule))
            .route("/schedules/{name}/{act}", post(change_schedule))
            .merge(asset::routes())
            .layer(DefaultBodyLimit::max(LARGEST_FORM))
            .with_state(self.clone())
    }
}

/// Somebody who may look.
struct Viewer {
    principal: Principal,
    token: Arc<str>,
}

impl Viewer {
    fn may_change(&self) -> bool {
        self.principal.may(Action::Create)
    }
}

impl FromRequestParts<Pages> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, pages: &Pages) -> Result<Self, Response> {
        let ask = || Redirect::to("/login").into_response();
        let token = pages.sessions.token(&parts.headers).ok_or_else(ask)?;
        match pages.access.principal(&token).await {
            Ok(principal) if principal.may(Action::Read) => Ok(Self { principal, token }),
            Ok(_) => {
                let why = "This token may not look at runs.";
                let why = shell::refused(Room::Outside, "Not here", why);
                Err(page(StatusCode::FORBIDDEN, &why))
            }
            Err(_) => Err(ask()),
        }
    }
}

/// Somebody who may change something, by a form of these pages.
struct Actor(Viewer);

impl FromRequestParts<Pages> for Actor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, pages: &Pages) -> Result<Self, Response> {
        if session::is_foreign(&parts.headers) {
            return Err(foreign());
        }
        let viewer = Viewer::from_request_parts(parts, pages).await?;
        if viewer.may_change() {
            return Ok(Self(viewer));
        }
        let why = "This token may look, and change nothing: that needs the scope submit.";
        let why = shell::refused(Room::Runs, "Not for this token", why);
        Err(page(StatusCode::FORBIDDEN, &why))
    }
}

fn foreign() -> Response {
    let why = "This came from another site.";
    let why = shell::refused(Room::Outside, "Not here", why);
    page(StatusCode::FORBIDDEN, &why)
}

/// A page with the headers that every page has.
pub(crate) fn page(status: StatusCode, markup: &Markup) -> Response {
    let mut response = (status, axum::response::Html(markup.0.clone())).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn failed(room: Room, refusal: &Refusal) -> Response {
    let document = refusal.document();
    let why = document.detail.unwrap_or_default();
    page(
        refusal.status(),
        &shell::refused(room, &document.title, &why),
    )
}

fn answered(room: Room, made: Result<Markup, Refusal>) -> Response {
    match made {
        Ok(markup) => page(StatusCode::OK, &markup),
        Err(refusal) => failed(room, &refusal),
    }
}

async fn ask() -> Response {
    page(StatusCode::OK, &shell::login(false))
}

/// The fields of a form.
fn fields(body: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect()
}

async fn enter(State(pages): State<Pages>, headers: HeaderMap, body: String) -> Response {
    // A form of another page does not let anybody in here.
    if session::is_foreign(&headers) {
        return foreign();
    }
    let fields = fields(&body);
    let token = fields.get("token").map_or("", |token| token.trim());
    if pages.access.principal(token).await.is_err() {
        return page(StatusCode::UNAUTHORIZED, &shell::login(true));
    }
    let mut response = Redirect::to("/").into_response();
    let cookie = pages.sessions.begin(token);
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

async fn leave(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    if session::is_foreign(&headers) {
        return foreign();
    }
    pages.sessions.end(&headers);
    Redirect::to("/login").into_response()
}

async fn list(State(pages): State<Pages>, _: Viewer, Asked(query): Asked<RunsQuery>) -> Response {
    let made = async {
        let query = query.list()?;
        let found = crate::api::resources::page(&pages.api, &query).await?;
        Ok(runs::list(&found, &query))
    };
    answered(Room::Runs, made.await)
}

/// A form's fields: those that were left alone are empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RunsQuery {
    after: String,
    status: String,
    experiment: String,
    pipeline: String,
}

impl RunsQuery {
    fn list(self) -> Result<ListQuery, Refusal> {
        let filled = |text: String| (!text.is_empty()).then_some(text);
        let status = filled(self.status).map(|text| {
            serde_json::from_value(text.into())
                .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "there is no such status"))
        });
        Ok(ListQuery {
            limit: None,
            after: filled(self.after),
            status: status.transpose()?,
            experiment: filled(self.experiment),
            pipeline: filled(self.pipeline),
        })
    }
}

async fn show(State(pages): State<Pages>, viewer: Viewer, Path(run): Path<String>) -> Response {
    let made = async {
        let run = pages.api.run(&run).await?;
        run::page(&pages.api, &run, viewer.may_change()).await
    };
    answered(Room::Runs, made.await)
}

#[derive(Deserialize)]
struct StepQuery {
    step: String,
}

async fn show_step(
    State(pages): State<Pages>,
    _: Viewer,
    Path(run): Path<String>,
    Asked(query): Asked<StepQuery>,
) -> Response {
    let made = async {
        let run = pages.api.run(&run).await?;
        let path = crate::api::resources::step_of(&run, &query.step)?;
        step::page(&pages.api, &run, &path).await
    };
    answered(Room::Runs, made.await)
}

#[derive(Deserialize)]
struct FileQuery {
    step: String,
    output: String,
    path: Option<String>,
    #[serde(default)]
    show: bool,
}

async fn file(
    State(pages): State<Pages>,
    _: Viewer,
    Path(run): Path<String>,
    Asked(query): Asked<FileQuery>,
) -> Response {
    let (api, path) = (&pages.api, query.path.as_deref());
    let answer = async {
        let run = api.run(&run).await?;
        let made = api.made(&run, &query.step, &query.output).await?;
        match query.show {
            true => files::show(api, &made, path).await,
            false => crate::api::outputs::answer(api, &made, path).await,
        }
    };
    answer.await.unwrap_or_else(|why| failed(Room::Runs, &why))
}

/// Until a browser asks again for the changes of a run that nobody drives here.
const AGAIN: Duration = Duration::from_secs(2);

/// The changes of a run. Of a run that is not driven here there is one, so that a page that was
/// made before the run's end, or before its beginning, is made anew.
async fn events(State(pages): State<Pages>, viewer: Viewer, Path(run): Path<String>) -> Response {
    let why = match crate::api::events::of(&pages.api, viewer.token, &run) {
        Ok(events) => return events.into_response(),
        Err(why) => why,
    };
    if why.status() != StatusCode::NOT_FOUND {
        return why.into_response();
    }
    match pages.api.run(&run).await {
        Ok(_) => {
            let change = Event::default().event("change").data("{}").retry(AGAIN);
            Sse::new(futures::stream::iter([Ok::<_, Infallible>(change)])).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

#[derive(Deserialize)]
struct LogsQuery {
    step: Option<String>,
}

async fn log(
    State(pages): State<Pages>,
    _: Viewer,
    Path(run): Path<String>,
    Asked(query): Asked<LogsQuery>,
) -> Response {
    let made = async {
        let run = pages.api.run(&run).await?;
        if let Some(step) = &query.step {
            crate::api::resources::step_of(&run, step)?;
        }
        Ok(run::log(run.run.as_str(), query.step.as_deref()))
    };
    answered(Room::Runs, made.await)
}

async fn log_text(
    State(pages): State<Pages>,
    viewer: Viewer,
    Path(run): Path<String>,
    Asked(query): Asked<LogsQuery>,
) -> Response {
    // As text, in a stream, to the run's end.
    let api = pages.api.clone();
    let answer = crate::api::logs::of(api, viewer.token, &run, query.step, true).await;
    answer.unwrap_or_else(|refusal| failed(Room::Runs, &refusal))
}

async fn cancel(State(pages): State<Pages>, actor: Actor, Path(run): Path<String>) -> Response {
    let user = actor.0.principal.user();
    match pages.api.cancel(&run, &user).await {
        Ok(()) => Redirect::to(&format!("/run/{run}")).into_response(),
        Err(refusal) => failed(Room::Runs, &refusal),
    }
}

async fn retry(State(pages): State<Pages>, actor: Actor, Path(run): Path<String>) -> Response {
    let user = actor.0.principal.user();
    match pages.api.again(&user, &run, &[], &HeaderMap::new()).await {
        Ok(run) => Redirect::to(&format!("/run/{run}")).into_response(),
        Err(refusal) => failed(Room::Runs, &refusal),
    }
}

async fn all_endpoints(State(pages): State<Pages>, _: Viewer) -> Response {
    let found = crate::endpoints::list(pages.api.store()).await;
    let found = found.map_err(crate::endpoints::refusal);
    answered(Room::Endpoints, found.map(|found| endpoints::list(&found)))
}

/// The page of an endpoint, with what was given to it and what is wrong with that.
async fn shown_endpoint(
    pages: &Pages,
    viewer: &Viewer,
    name: &str,
    given: &BTreeMap<String, String>,
    wrong: Option<&str>,
) -> Result<Markup, Refusal> {
    let store = pages.api.store();
    let found = crate::endpoints::show(store, name).await;
    let found = found.map_err(crate::endpoints::refusal)?;
    let form = pages.endpoints.takes(&found).await;
    let query = ListQuery {
        limit: Some(JOBS),
        experiment: Some(name.to_owned()),
        ..ListQuery::default()
    };
    let jobs = crate::api::resources::page(&pages.api, &query).await?;
    let may = viewer.principal.may_invoke(name);
    Ok(endpoints::page(
        &found, &form, given, wrong, may, &jobs.runs,
    ))
}

async fn endpoint(
    State(pages): State<Pages>,
    viewer: Viewer,
    Path(name): Path<String>,
) -> Response {
    let made = shown_endpoint(&pages, &viewer, &name, &BTreeMap::new(), None).await;
    answered(Room::Endpoints, made)
}

async fn invoke(
    State(pages): State<Pages>,
    actor: Actor,
    Path(name): Path<String>,
    body: String,
) -> Response {
    let Actor(viewer) = actor;
    let given: BTreeMap<String, String> = fields(&body)
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("input.")?.to_owned(), value)))
        .collect();
    let taken = pages
        .endpoints
        .invoke(&name, &viewer.principal, &given)
        .await;
    let (status, why) = match taken {
        Ok(run) => return Redirect::to(&format!("/run/{run}")).into_response(),
        Err(NotTaken::Refused(refusal)) => {
            let why = refusal.document().detail.unwrap_or_default();
            (refusal.status(), why)
        }
        Err(NotTaken::Invalid {
            message,
            diagnostics,
        }) => {
            let found = diagnostics.as_array().into_iter().flatten();
            let found = found.filter_map(|one| one["message"].as_str());
            let found: Vec<&str> = found.collect();
            let why = if found.is_empty() {
                message
            } else {
                found.join("\n")
            };
            (StatusCode::UNPROCESSABLE_ENTITY, why)
        }
    };
    match shown_endpoint(&pages, &viewer, &name, &given, Some(&why)).await {
        Ok(markup) => page(status, &markup),
        Err(refusal) => failed(Room::Endpoints, &refusal),
    }
}

async fn all_schedules(State(pages): State<Pages>, _: Viewer) -> Response {
    let found = pages.schedules.all().await;
    answered(Room::Schedules, found.map(|all| schedules::list(&all)))
}

async fn schedule(
    State(pages): State<Pages>,
    viewer: Viewer,
    Path(name): Path<String>,
) -> Response {
    let found = pages.schedules.one(&name).await;
    let made = found.map(|one| schedules::page(&one, viewer.may_change()));
    answered(Room::Schedules, made)
}

async fn change_schedule(
    State(pages): State<Pages>,
    actor: Actor,
    Path((name, act)): Path<(String, String)>,
) -> Response {
    let who = &actor.0.principal;
    let done = match act.as_str() {
        "trigger" => match pages.schedules.trigger(&name, who).await {
            Ok(run) => return Redirect::to(&format!("/run/{run}")).into_response(),
            Err(NotTaken::Refused(refusal)) => Err(refusal),
            Err(NotTaken::Invalid { message, .. }) => {
                Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message))
            }
        },
        "enable" => pages.schedules.switch(&name, who, true).await,
        "disable" => pages.schedules.switch(&name, who, false).await,
        _ => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "nothing is at this path",
        )),
    };
    match done {
        Ok(()) => Redirect::to(&format!("/schedules/{name}")).into_response(),
        Err(refusal) => failed(Room::Schedules, &refusal),
    }
}
