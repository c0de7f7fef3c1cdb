//! Plain pages for people, rendered here, without a script: runs, a run with its graph, logs.
//! Whoever shows a token once is known by a cookie, which names a session in this server's
//! memory and never the token. Everything that users or steps wrote is text.

mod graph;
mod session;
mod views;

use crate::access::Access;
use crate::api::extract::Asked;
use crate::api::resources::ListQuery;
use crate::api::{Action, Api};
use crate::problem::Refusal;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::Markup;
use serde::Deserialize;
use session::Sessions;
use std::sync::Arc;

/// A form with a token is no longer.
const LARGEST_FORM: usize = 4096;
/// What a page may do: show itself, with this server's own style.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// The pages of a server. Clones are the same.
#[derive(Clone)]
pub struct Pages {
    api: Api,
    access: Arc<Access>,
    sessions: Arc<Sessions>,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pages({:?})", self.api)
    }
}

impl Pages {
    /// The pages of what `api` answers.
    #[must_use]
    pub fn new(api: Api, access: Arc<Access>) -> Self {
        Self {
            api,
            access,
            sessions: Arc::default(),
        }
    }

    /// What it answers, below no base.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(runs))
            .route("/login", get(ask).post(enter))
            .route("/style.css", get(style))
            .route("/run/{run}", get(run))
            .route("/run/{run}/logs", get(logs))
            .layer(DefaultBodyLimit::max(LARGEST_FORM))
            .with_state(self.clone())
    }

    /// What a caller is answered who may not look: where it may say who it is.
    async fn turned_away(&self, headers: &HeaderMap) -> Option<Response> {
        let Some(token) = self.sessions.token(headers) else {
            return Some(Redirect::to("/login").into_response());
        };
        match self.access.principal(&token).await {
            Ok(principal) if principal.may(Action::Read) => None,
            Ok(_) => {
                let why = views::refused("This token may not look at runs.");
                Some(page(StatusCode::FORBIDDEN, &why))
            }
            Err(_) => Some(Redirect::to("/login").into_response()),
        }
    }
}

/// A page with the headers that every page has.
fn page(status: StatusCode, markup: &Markup) -> Response {
    let mut response = (status, axum::response::Html(markup.0.clone())).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn failed(refusal: &Refusal) -> Response {
    let why = refusal.document().detail.unwrap_or_default();
    page(refusal.status(), &views::refused(&why))
}

async fn style() -> Response {
    let css = HeaderValue::from_static("text/css; charset=utf-8");
    let mut response = views::STYLE.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, css);
    response
}

async fn ask() -> Response {
    page(StatusCode::OK, &views::login(false))
}

async fn enter(State(pages): State<Pages>, headers: HeaderMap, body: String) -> Response {
    // A form of another page does not let anybody in here.
    if session::is_foreign(&headers) {
        return page(
            StatusCode::FORBIDDEN,
            &views::refused("This came from another site."),
        );
    }
    let mut fields = url::form_urlencoded::parse(body.as_bytes());
    let token = fields.find(|(name, _)| name == "token");
    let token = token
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default();
    let token = token.as_str();
    if pages.access.principal(token).await.is_err() {
        return page(StatusCode::UNAUTHORIZED, &views::login(true));
    }
    let mut response = Redirect::to("/").into_response();
    let cookie = pages.sessions.begin(token);
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

async fn runs(
    State(pages): State<Pages>,
    headers: HeaderMap,
    Asked(query): Asked<ListQuery>,
) -> Response {
    if let Some(response) = pages.turned_away(&headers).await {
        return response;
    }
    match crate::api::resources::page(&pages.api, query).await {
        Ok(found) => page(StatusCode::OK, &views::runs(&found)),
        Err(refusal) => failed(&refusal),
    }
}

async fn run(State(pages): State<Pages>, headers: HeaderMap, Path(run): Path<String>) -> Response {
    if let Some(response) = pages.turned_away(&headers).await {
        return response;
    }
    let shown = async {
        let run = pages.api.run(&run).await?;
        let report = pages.api.report(&run).await?;
        Ok::<_, Refusal>(views::run(&report, &graph::of(&run.plan, &report)))
    };
    match shown.await {
        Ok(markup) => page(StatusCode::OK, &markup),
        Err(refusal) => failed(&refusal),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsQuery {
    step: Option<String>,
}

async fn logs(
    State(pages): State<Pages>,
    headers: HeaderMap,
    Path(run): Path<String>,
    Asked(query): Asked<LogsQuery>,
) -> Response {
    if let Some(response) = pages.turned_away(&headers).await {
        return response;
    }
    let Some(token) = pages.sessions.token(&headers) else {
        return Redirect::to("/login").into_response();
    };
    // As text, in a stream, to the run's end.
    let answered = crate::api::logs::of(pages.api.clone(), token, &run, query.step, true).await;
    answered.unwrap_or_else(|refusal| failed(&refusal))
}
