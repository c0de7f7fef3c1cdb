//! The beginning of `/api/v1`: what users and their command lines ask. The same store
//! protocol as the broker's, with a user's rights, so that every command that reads or
//! writes a store works over it; starting a run; its changes as server-sent events. Who a
//! token belongs to, and what it may do, is for a [`Vouch`] to say; what drives runs is
//! behind [`Runs`]. It decides nothing about a run.

pub(crate) mod events;
pub(crate) mod extract;
mod housekeeping;
pub(crate) mod logs;
pub(crate) mod outputs;
pub(crate) mod resources;
mod rights;
mod streams;
mod tasks;
mod vouch;

pub use vouch::{Action, Denied, User, Vouch};
pub(crate) use vouch::{Memory, refusal};

use crate::body::Taken;
use crate::caller::{bearer, checked_version};
use crate::idempotency::Turns;
use crate::objects::{self, Rights, Served};
use crate::openapi::{About, Document, Routes};
use crate::problem::Refusal;
use crate::submission::Planner;
use async_trait::async_trait;
use auria_core::outcome::Status;
use auria_core::plan::Plan;
use auria_core::protocol::{self, API, Checked, LauncherFacts, PROTOCOL_VERSION, ServerFacts};
use auria_core::{RunId, Timestamp};
use auria_engine::driver;
use auria_engine::feed::Feed;
use auria_store::{Journal, Store, runs};
use axum::extract::{Extension, FromRef, FromRequest, Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use housekeeping::Collections;
use http::StatusCode;
use rights::UserRights;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::{Arc, Mutex};
use streams::Streams;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use vouch::Vouched;

/// The largest plan that is checked.
const LARGEST_PLAN: usize = 64 * 1024 * 1024;

/// Plans that are read and checked at once.
const CHECKS: usize = 4;
/// The longest refusal of the HTTP library's own that is passed on.
const LONGEST_WORDS: usize = 4096;

/// What drives runs, as the API sees it.
#[async_trait]
pub trait Runs: Send + Sync {
    /// A place among those that wait; an error where there is none at this moment.
    fn reserve(&self) -> Result<Reserved, NotStarted> {
        Ok(Reserved::default())
    }
    /// Asks that a run is driven whose `run.json` stands in the store, in a place of its own.
    /// Again: nothing happens.
    async fn start(&self, run: &RunId, by: &User, place: Reserved) -> Result<(), NotStarted>;
    /// Asks those who drive a run to look at its log: a request to cancel stands there. It
    /// must not block, and may forget.
    fn nudge(&self, run: &RunId);
    /// The changes of a run that is driven from here; none of another.
    fn feed(&self, run: &RunId) -> Option<Feed>;
    /// What of a plan can never run here, each in words; an error where that cannot be told
    /// at this moment.
    async fn check(&self, plan: &Plan) -> Result<Vec<String>, String>;
    /// The names of the computes that are known here.
    fn computes(&self) -> Vec<String>;
    /// Notes who did something to a run, where such notes are kept.
    async fn note(&self, _by: &User, _what: &str, _run: &RunId) {}
    /// A run is deleted: what else stands for it may go.
    async fn forget(&self, _run: &RunId) {}
    /// Waits until a run has ended that is not driven from here; where that cannot be told, not
    /// at all.
    async fn ended(&self, _run: &RunId) {}
    /// How launchers get into the containers of steps; none where they stand beside them.
    fn launcher(&self) -> Option<LauncherFacts> {
        None
    }
}

/// A place in the queue, given back when it is dropped; of who has no queue, nothing.
#[derive(Debug, Default)]
pub struct Reserved {
    _place: Option<OwnedSemaphorePermit>,
}

impl Reserved {
    /// One of so many.
    pub(crate) fn one(place: OwnedSemaphorePermit) -> Self {
        Self {
            _place: Some(place),
        }
    }
}

/// A run was not started.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// There is none of this name, or it is not ready.
    #[error("{message}")]
    Refused {
        /// Why, for people.
        message: String,
    },
    /// Not at this moment; ask again.
    #[error("{message}")]
    Unavailable {
        /// Why, for people.
        message: String,
    },
}

/// What an API is made of.
pub struct ApiOptions {
    /// The store, opened for writing.
    pub store: Store,
    /// Says who shows a token, and what they may.
    pub vouch: Arc<dyn Vouch>,
    /// Drives runs.
    pub runs: Arc<dyn Runs>,
    /// Whether data goes straight to the store by signed URLs: where users reach it.
    pub sign: bool,
    /// Certificates (PEM) that the store's own may be signed by, for users.
    pub store_authorities: Option<String>,
}

impl std::fmt::Debug for ApiOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiOptions({:?})", self.store)
    }
}

/// What a server has beside a controller's: what it drives runs by itself with.
#[derive(Clone)]
pub struct Extras {
    /// Where runs stand that wait.
    pub queue: Option<Arc<dyn Queue>>,
    /// Makes runs of documents.
    pub planner: Option<Arc<dyn Planner>>,
    /// The clock.
    pub now: fn() -> Timestamp,
    pub(crate) turns: Turns,
}

impl std::fmt::Debug for Extras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Extras")
    }
}

impl Extras {
    /// Nothing but the time.
    #[must_use]
    pub fn none(now: fn() -> Timestamp) -> Self {
        Self {
            queue: None,
            planner: None,
            now,
            turns: Turns::default(),
        }
    }
}

/// Where runs stand that a server took and that have not ended.
pub trait Queue: Send + Sync {
    /// The status of a run that waits or is driven.
    fn status(&self, run: &RunId) -> Option<Status>;
    /// Of one that waits: how many are before it, and how many wait.
    fn place(&self, run: &RunId) -> Option<(usize, usize)>;
}

/// The API. Clones are the same one.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    served: Served,
    vouched: Vouched,
    runs: Arc<dyn Runs>,
    extras: Extras,
    checks: Semaphore,
    streams: Streams,
    collections: Collections,
    /// Goes with this API: what is done apart from it ends then.
    ends: watch::Sender<()>,
    /// What goes on though who asked for it may be gone.
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Api({:?})", self.0.served.store())
    }
}

impl FromRef<Api> for Served {
    fn from_ref(api: &Api) -> Self {
        api.0.served.clone()
    }
}

/// What this server is.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Version {
    /// The release.
    pub version: &'static str,
    /// The protocol.
    pub protocol: u32,
}

/// The token of a request, for the checks of single calls.
#[derive(Clone)]
struct Shown(Arc<str>);

impl Api {
    /// The API of these options.
    #[must_use]
    pub fn new(options: ApiOptions) -> Self {
        Self::with(options, Extras::none(auria_store::now))
    }

    /// The API of these options, of a server that has more.
    #[must_use]
    pub fn with(options: ApiOptions, extras: Extras) -> Self {
        let ApiOptions {
            store,
            vouch,
            runs,
            sign,
            store_authorities,
        } = options;
        Self(Arc::new(Inner {
            served: Served::new(store, sign, store_authorities),
            vouched: Vouched::new(vouch),
            runs,
            extras,
            checks: Semaphore::new(CHECKS),
            streams: Streams::default(),
            collections: Collections::default(),
            ends: watch::Sender::new(()),
            tasks: Mutex::default(),
        }))
    }

    /// What changes in a run that waits or is driven here.
    pub(crate) fn feed(&self, run: &RunId) -> Option<Feed> {
        self.0.runs.feed(run)
    }

    /// Waits until a run that has no feed here has ended, where that can be told.
    pub(crate) async fn wait_for(&self, run: &RunId) {
        self.0.runs.ended(run).await;
    }

    /// Asks who drives a run to look at its log.
    pub(crate) fn nudge(&self, run: &RunId) {
        self.0.runs.nudge(run);
    }

    /// The store that is served.
    pub(crate) fn store(&self) -> &Store {
        self.0.served.store()
    }

    /// What it answers, on a port of its own. `/healthz` and its own description alone need no
    /// token.
    pub fn router(&self) -> Router {
        self.router_with(Routes::new(), Routes::new())
    }

    /// What it answers; `beside` it, below the same base, what lets callers in by itself; and
    /// `elsewhere` the same below no base.
    pub fn router_with(&self, beside: Routes, elsewhere: Routes) -> Router {
        let document = Document::default();
        let calls = described().with_state(self.clone());
        let store = objects::routes(self.0.served.clone())
            .map(|store| store.route_layer(axum::middleware::from_fn(checked)));
        let known = axum::middleware::from_fn_with_state(self.clone(), known);
        let nothing = || async { Refusal::new(StatusCode::NOT_FOUND, "nothing is at this path") };
        let all = calls
            .merge(store)
            .map(|calls| calls.fallback(nothing).layer(known))
            .merge(beside)
            .merge(document.routes())
            .below(API)
            .merge(elsewhere)
            .map(|all| all.layer(axum::middleware::map_response(in_words)));
        let router = document
            .of(all)
            .route("/healthz", get(async || "ok\n"))
            .fallback(async || Refusal::unknown());
        crate::caller::bounded(router)
    }
}

/// What it does.
pub(crate) fn described() -> Routes<Api> {
    Routes::new()
        .get(
            "/version",
            version,
            About::new("version", "What this server is"),
        )
        .get(
            protocol::FACTS,
            facts,
            About::new("facts", "What a command line must know of it"),
        )
        .post(
            protocol::CHECK,
            check,
            About::new("checkPlan", "What of a plan can never run here"),
        )
        .get(
            "/runs",
            resources::list,
            About::new("listRuns", "A page of runs, newest first"),
        )
        .post(
            "/runs",
            resources::submit,
            About::new("submitRun", "Submits a pipeline")
                .keyed()
                .answers::<resources::Taken>(202, "It is taken, and waits for its turn."),
        )
        .get(
            "/runs/{run}",
            resources::show,
            About::new("showRun", "A run as it stands"),
        )
        .post(
            "/runs/{run}",
            start,
            About::new("startRun", "Starts a run whose record stands in the store").status(202),
        )
        .get(
            "/runs/{run}/logs",
            logs::logs,
            About::new(
                "readLogs",
                "What steps wrote; with `follow`, until it has ended",
            )
            .streams(200, "text/plain", "Lines, in a stream."),
        )
        .post(
            "/runs/{run}/retry",
            resources::again,
            About::new("retryRun", "A new run that keeps what finished")
                .keyed()
                .answers::<resources::Taken>(202, "It is taken, and waits for its turn."),
        )
        .post(
            "/runs/{run}/delete",
            housekeeping::delete_run,
            About::new(
                "deleteRun",
                "Marks a run, and deletes it once its grace is over",
            ),
        )
        .post(
            "/gc",
            housekeeping::begin,
            About::new("collect", "Begins to collect what nobody needs any more").status(202),
        )
        .get(
            "/gc/{collection}",
            housekeeping::after,
            About::new("showCollection", "A collection as it stands"),
        )
        .get(
            "/runs/{run}/metrics",
            outputs::metrics,
            About::new("readMetrics", "What steps measured, by step"),
        )
        .get(
            "/runs/{run}/outputs",
            outputs::list,
            About::new("listOutputs", "What a run made"),
        )
        .get(
            "/runs/{run}/outputs/{output}",
            outputs::of_run,
            outputs::about("readOutput", "A file of an output of the pipeline"),
        )
        .get(
            "/runs/{run}/steps/{step}/outputs/{output}",
            outputs::of_step,
            outputs::about("readStepOutput", "A file of an output of a step"),
        )
        .post(
            "/target",
            resources::target,
            About::new(
                "showTarget",
                "Where steps run here, for who plans elsewhere",
            ),
        )
        .get(
            "/runs/{run}/events",
            events::events,
            About::new("followRun", "What changes in a run, as server-sent events"),
        )
        .post(
            "/runs/{run}/cancel",
            cancel,
            About::new("cancelRun", "Asks for a run to be canceled").status(202),
        )
}

/// Lets those pass whose token somebody vouches for.
async fn known(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let token: Arc<str> = bearer(request.headers())
        .filter(|token| !token.is_empty())
        .ok_or_else(Refusal::unknown)?
        .into();
    // Whoever may not even look is told no more than that.
    let user = api.0.vouched.vouch(&token, Action::Read).await?;
    let rights: Arc<dyn Rights> = Arc::new(UserRights::new(api.clone(), Arc::clone(&token)));
    request.extensions_mut().insert(user);
    request.extensions_mut().insert(Shown(token));
    request.extensions_mut().insert(rights);
    // For bodies that are read by who knows no more of this API.
    request.extensions_mut().insert(api.0.served.room().clone());
    Ok(next.run(request).await)
}

/// What the HTTP library refuses by itself, as a problem document like every other refusal.
async fn in_words(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(http::header::CONTENT_TYPE);
    let plain = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !plain || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let said = axum::body::to_bytes(body, LONGEST_WORDS).await;
    let said = said.map(|said| String::from_utf8_lossy(&said).into_owned());
    let said = match (status, said) {
        (StatusCode::METHOD_NOT_ALLOWED, _) => "this path does not take that method".to_owned(),
        (_, said) => said.unwrap_or_default(),
    };
    let mut answer = Refusal::new(status, said).into_response();
    // Which methods it takes.
    if let Some(allow) = parts.headers.get(http::header::ALLOW) {
        let name = http::header::ALLOW;
        answer.headers_mut().insert(name, allow.clone());
    }
    answer
}

async fn checked(request: Request, next: Next) -> Result<Response, Refusal> {
    checked_version(request.headers())?;
    Ok(next.run(request).await)
}

async fn version() -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION"),
        protocol: PROTOCOL_VERSION,
    })
}

async fn facts(State(api): State<Api>, Extension(user): Extension<User>) -> Json<ServerFacts> {
    Json(ServerFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL_VERSION,
        store: api.0.served.grant().clone(),
        computes: api.0.runs.computes(),
        user: user.name,
        launcher: api.0.runs.launcher(),
    })
}

async fn check(
    State(api): State<Api>,
    Extension(Shown(token)): Extension<Shown>,
    request: Request,
) -> Result<Json<Checked>, Refusal> {
    api.0.vouched.vouch(&token, Action::Create).await?;
    let Ok(_turn) = api.0.checks.try_acquire() else {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many plans are checked at this moment",
        ));
    };
    // Read only now: a plan is large.
    let plan = Taken::<Plan, LARGEST_PLAN>::from_request(request, &api).await?;
    let checked = api.0.runs.check(&plan.value).await;
    let refusals =
        checked.map_err(|message| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message))?;
    Ok(Json(Checked { refusals }))
}

/// The run that a path names.
fn run_of(text: &str) -> Result<RunId, Refusal> {
    text.parse().map_err(|error: auria_core::ids::NameError| {
        Refusal::new(StatusCode::NOT_FOUND, error.to_string())
    })
}

async fn cancel(
    State(api): State<Api>,
    Extension(Shown(token)): Extension<Shown>,
    Path(run): Path<String>,
) -> Result<StatusCode, Refusal> {
    let user = api.0.vouched.vouch(&token, Action::Update).await?;
    api.cancel(&run, &user).await?;
    Ok(StatusCode::ACCEPTED)
}

impl Api {
    /// Writes the request to cancel into the run's log, in the caller's own name, and wakes who
    /// drives it.
    pub(crate) async fn cancel(&self, run: &str, user: &User) -> Result<(), Refusal> {
        let run = run_of(run)?;
        let store = self.store();
        let refused = |error: auria_store::StoreError| Refusal::of(&error);
        // A log without a record would be that of the next run of this name.
        runs::read(store, &run).await.map_err(refused)?;
        let journal = Journal::new(store.clone(), run.clone());
        if journal.read_run_end().await.map_err(refused)?.is_none() {
            let asked = driver::request_cancel(store, &run, &user.name, auria_store::now).await;
            asked.map_err(refused)?;
            self.nudge(&run);
            self.0.runs.note(user, "cancel", &run).await;
        }
        Ok(())
    }
}

async fn start(
    State(api): State<Api>,
    Extension(Shown(token)): Extension<Shown>,
    Path(run): Path<String>,
) -> Result<StatusCode, Refusal> {
    let run = run_of(&run)?;
    let user = api.0.vouched.vouch(&token, Action::Create).await?;
    let known = runs::read(api.store(), &run).await;
    known.map_err(|error| Refusal::of(&error))?;
    api.start(&run, &user).await?;
    Ok(StatusCode::ACCEPTED)
}
