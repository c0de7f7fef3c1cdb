//! Runs as resources: list, show, submit, retry. What it answers is read from the store, so
//! that a server and the controller of a cluster answer alike.

use super::extract::{Asked, Said};
use super::{Action, Api, NotStarted, Reserved, Shown, User};
use crate::idempotency::{self, Stands};
use crate::look::look;
use crate::problem::Refusal;
use crate::report::RunReport;
use crate::retry::{NotRetried, retry};
use crate::submission::{Files, NotSubmitted, Planner, Submission, TargetFacts, new_run};
use auria_core::outcome::Status;
use auria_core::protocol::PROBLEM_TYPE;
use auria_core::run::RunState;
use auria_core::{Digest, Nonce, RunId, StepPath, Timestamp};
use auria_store::runs::{self, RecentRun, RunJson};
use auria_store::{ErrorKind, Journal, StoreError, layout};
use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

/// Runs of a page, where nothing is said.
const PAGE: usize = 50;
/// The most of a page.
const LARGEST_PAGE: usize = 500;
/// Runs that are looked at for one page: filters may leave most of them out.
const LOOKED_AT: usize = 5000;
/// Looked at together: enough to hide a store's latency.
const AT_ONCE: usize = 16;
/// Programs that are looked for at once.
const MOST_WORDS: usize = 2000;

/// Which runs are wanted.
#[derive(Debug, Default, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Runs of the page.
    #[schemars(range(min = 1, max = LARGEST_PAGE))]
    pub(crate) limit: Option<usize>,
    /// Where the page before ended: its `next`.
    pub(crate) after: Option<String>,
    /// Those alone that stand so.
    pub(crate) status: Option<Status>,
    /// Those alone of this experiment.
    pub(crate) experiment: Option<String>,
    /// Those alone of this pipeline.
    pub(crate) pipeline: Option<String>,
}

/// A run in a list: small, whatever the number of its steps.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Line {
    pub(crate) run: RunId,
    pub(crate) pipeline: String,
    pub(crate) experiment: String,
    pub(crate) status: Status,
    pub(crate) created: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
}

/// A page of the list.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Page {
    pub(crate) runs: Vec<Line>,
    /// For `after`, where there may be more.
    pub(crate) next: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Page>, Refusal> {
    page(&api, &query).await.map(Json)
}

/// A page, newest first.
pub(crate) async fn page(api: &Api, query: &ListQuery) -> Result<Page, Refusal> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("`limit` is between 1 and {LARGEST_PAGE}"),
        ));
    }
    let store = api.store();
    let folder = layout::recent_runs();
    // One more than is looked at says whether there are more.
    let mut keys = store
        .first_names(&folder, query.after.as_deref(), LOOKED_AT + 1)
        .await
        .map_err(|error| Refusal::of(&error))?;
    let more = keys.len() > LOOKED_AT;
    keys.truncate(LOOKED_AT);
    let last_looked = keys.last().cloned();
    let wanted = |run: &RecentRun| {
        query
            .experiment
            .as_ref()
            .is_none_or(|name| run.experiment == *name)
            && query
                .pipeline
                .as_ref()
                .is_none_or(|name| run.pipeline == *name)
    };
    let mut found = std::pin::pin!(
        futures::stream::iter(keys)
            .map(|key| {
                let path = folder.clone().join(key.as_str());
                async move {
                    let run: Option<RecentRun> = store.read_json(&path).await?;
                    match run.filter(&wanted) {
                        Some(run) => Ok(Some((key, line(api, run).await?))),
                        None => Ok::<_, StoreError>(None),
                    }
                }
            })
            .buffered(AT_ONCE)
            .try_filter_map(|found| async move { Ok(found) })
    );
    let (mut runs, mut last, mut full) = (Vec::new(), None, false);
    while let Some((key, line)) = found.try_next().await.map_err(|e| Refusal::of(&e))? {
        if query.status.is_some_and(|status| status != line.status) {
            continue;
        }
        if runs.len() == limit {
            full = true;
            break;
        }
        last = Some(key);
        runs.push(line);
    }
    let next = if full {
        last
    } else {
        last_looked.filter(|_| more)
    };
    Ok(Page { runs, next })
}

async fn line(api: &Api, run: RecentRun) -> Result<Line, StoreError> {
    let journal = Journal::new(api.store().clone(), run.run.clone());
    let end = journal.read_run_end().await?;
    let status = end
        .as_ref()
        .map_or_else(|| api.status(&run.run), |end| end.status);
    Ok(Line {
        status,
        started: end.as_ref().and_then(|end| end.started),
        ended: end.as_ref().map(|end| end.ended),
        run: run.run,
        pipeline: run.pipeline,
        experiment: run.experiment,
        created: run.created,
    })
}

impl Api {
    /// The status of a run that has not ended.
    fn status(&self, run: &RunId) -> Status {
        let queue = self.0.extras.queue.as_ref();
        match queue.and_then(|queue| queue.status(run)) {
            Some(status) => status,
            None if self.0.runs.feed(run).is_some() => Status::Running,
            None => Status::NotResponding,
        }
    }

    /// The run that a path means: a name, a unique prefix, or `latest`.
    pub(crate) async fn run(&self, text: &str) -> Result<RunJson, Refusal> {
        let store = self.store();
        let found = runs::resolve(store, text).await;
        let run = found.map_err(|error| match error {
            StoreError::Ambiguous { .. } => Refusal::new(StatusCode::CONFLICT, error.to_string()),
            error => Refusal::of(&error),
        })?;
        runs::read(store, &run)
            .await
            .map_err(|error| Refusal::of(&error))
    }

    /// A run as it stands.
    pub(crate) async fn look(&self, run: &RunJson) -> Result<RunState, Refusal> {
        let journal = Journal::new(self.store().clone(), run.run.clone());
        let driven = self.0.runs.feed(&run.run).is_some();
        let now = (self.0.extras.now)();
        look(&journal, run, driven, now)
            .await
            .map_err(|error| Refusal::of(&error))
    }

    /// The report of a run.
    pub(crate) async fn report(&self, run: &RunJson) -> Result<RunReport, Refusal> {
        let state = self.look(run).await?;
        let mut report = RunReport::new(self.store(), run, &state, None);
        if report.ended.is_none() {
            let known = self.0.extras.queue.as_ref();
            let status = known.and_then(|queue| queue.status(&run.run));
            report.status = match status {
                // Asked to cancel by the log, before its driver says so.
                Some(Status::Queued) if report.status == Status::CancelRequested => report.status,
                Some(status) => status,
                None => self.status(&run.run),
            };
        }
        Ok(report)
    }

    /// What is said of a run that was just taken.
    pub(crate) fn taken(&self, run: &RunId) -> Taken {
        let place = self.0.extras.queue.as_ref();
        let place = place.and_then(|queue| queue.place(run));
        Taken {
            run: run.clone(),
            status: self.status(run),
            queue: place.map(|(ahead, waiting)| Place { ahead, waiting }),
        }
    }
}

/// Where a run stands in the queue.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Place {
    /// Runs before it.
    pub(crate) ahead: usize,
    /// Runs that wait.
    pub(crate) waiting: usize,
}

/// A run that was taken.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Taken {
    pub(crate) run: RunId,
    pub(crate) status: Status,
    /// Of one that waits.
    pub(crate) queue: Option<Place>,
}

#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Whole {
    #[serde(flatten)]
    report: RunReport,
    queue: Option<Place>,
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(run): Path<String>,
) -> Result<Json<Whole>, Refusal> {
    let run = api.run(&run).await?;
    let report = api.report(&run).await?;
    let Taken { queue, .. } = api.taken(&run.run);
    Ok(Json(Whole { report, queue }))
}

/// What a request to submit says.
#[derive(Debug, JsonSchema, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubmitBody {
    /// A pipeline document.
    #[serde(default)]
    document: Option<String>,
    /// A folder that was brought here by the store protocol.
    #[serde(default)]
    snapshot: Option<Digest>,
    /// The pipeline file in it.
    #[serde(default)]
    file: Option<String>,
    #[serde(default)]
    pipeline: Option<String>,
    #[serde(default)]
    experiment: Option<String>,
    #[serde(default)]
    name: Option<RunId>,
    #[serde(default)]
    set: Vec<String>,
    #[serde(default)]
    force_rerun: bool,
}

pub(super) async fn submit(
    State(api): State<Api>,
    Extension(Shown(token)): Extension<Shown>,
    headers: HeaderMap,
    Said(body): Said<SubmitBody>,
) -> Result<Response, Refusal> {
    let user = api.0.vouched.vouch(&token, Action::Create).await?;
    let files = match (&body.document, &body.snapshot) {
        (Some(text), None) => Files::Text(text.clone()),
        (None, Some(digest)) => Files::Snapshot {
            digest: *digest,
            file: body
                .file
                .clone()
                .unwrap_or_else(|| "pipelines.yaml".to_owned()),
        },
        _ => {
            return Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "say either `document` or `snapshot`",
            ));
        }
    };
    let asked = serde_json::to_vec(&body).unwrap_or_default();
    let name = body.name.clone().unwrap_or_else(|| {
        let named = body.pipeline.clone().or_else(|| pipeline_of(&files));
        new_run(&named.unwrap_or_default(), (api.0.extras.now)())
    });
    let submission = Submission {
        run: name,
        nonce: auria_engine::driver::nonce(),
        files,
        pipeline: body.pipeline,
        experiment: body.experiment,
        set: body.set,
        force_rerun: body.force_rerun,
        by: user.name.clone(),
        internal: true,
    };
    let run = api
        .submit(&user, "submit", &headers, &asked, submission)
        .await;
    match run {
        Ok(run) => Ok(accepted(&api.taken(&run))),
        Err(NotTaken::Refused(refusal)) => Err(refusal),
        Err(NotTaken::Invalid {
            message,
            diagnostics,
        }) => Ok(invalid(&message, &diagnostics)),
    }
}

/// The name of the first pipeline of a document, for the name of its run.
fn pipeline_of(files: &Files) -> Option<String> {
    let Files::Text(text) = files else {
        return None;
    };
    let source = auria_core::document::decode("document", text.as_bytes().to_vec()).ok()?;
    let read = auria_core::document::read(&source);
    read.documents.first()?.name().map(str::to_owned)
}

/// A submission that was not taken.
pub(crate) enum NotTaken {
    /// It is wrong.
    Invalid {
        message: String,
        diagnostics: serde_json::Value,
    },
    /// Anything else.
    Refused(Refusal),
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Api {
    /// Makes a run of `submission` and lets it wait for its turn; with a key in `headers` the
    /// same `asked` gives the same run.
    pub(crate) async fn submit(
        &self,
        user: &User,
        what: &str,
        headers: &HeaderMap,
        asked: &[u8],
        submission: Submission,
    ) -> Result<RunId, NotTaken> {
        let (api, user, what) = (self.clone(), user.clone(), what.to_owned());
        let (headers, asked) = (headers.clone(), asked.to_vec());
        let work = async move { api.take(&user, &what, &headers, &asked, submission).await };
        self.owned(work).await?
    }

    async fn take(
        &self,
        user: &User,
        what: &str,
        headers: &HeaderMap,
        asked: &[u8],
        mut submission: Submission,
    ) -> Result<RunId, NotTaken> {
        let planner = self.planner()?;
        // Before anything is planned or written: who is refused leaves nothing behind.
        let place = self.reserve()?;
        let keyed = self
            .keyed(user, what, headers, asked, &submission.run)
            .await?;
        if let Some(keyed) = &keyed {
            submission.run.clone_from(&keyed.run);
            submission.nonce.clone_from(&keyed.nonce);
        }
        let made = planner.submit(submission).await;
        if let (Err(NotSubmitted::Invalid { .. } | NotSubmitted::Taken { .. }), Some(keyed)) =
            (&made, &keyed)
        {
            // The caller mends it and asks again.
            idempotency::forget(self.store(), &keyed.name).await;
        }
        let run = made.map_err(|error| match error {
            NotSubmitted::Invalid {
                message,
                diagnostics,
            } => NotTaken::Invalid {
                message,
                diagnostics,
            },
            NotSubmitted::Taken { message } => Refusal::new(StatusCode::CONFLICT, message).into(),
            NotSubmitted::Unavailable { message } => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message).into()
            }
        })?;
        self.start_in(&run.run, user, place).await?;
        drop(keyed);
        Ok(run.run)
    }

    /// What the key of a request stands for: `run`, where it was never used.
    async fn keyed(
        &self,
        user: &User,
        what: &str,
        headers: &HeaderMap,
        asked: &[u8],
        run: &RunId,
    ) -> Result<Option<Keyed>, Refusal> {
        let key = idempotency::key(headers)
            .map_err(|message| Refusal::new(StatusCode::BAD_REQUEST, message))?;
        let Some(key) = key else {
            return Ok(None);
        };
        let name = idempotency::name(&user.id, what, &key);
        let turn = self.0.extras.turns.take(&name).await;
        let (asked, now) = (Digest::of(asked), (self.0.extras.now)());
        let stands = idempotency::stand(self.store(), &name, asked, run.clone(), now).await;
        match stands.map_err(|error| Refusal::of(&error))? {
            Stands::Run(run, nonce) => Ok(Some(Keyed {
                name,
                run,
                nonce,
                _turn: turn,
            })),
            Stands::Other => Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "this Idempotency-Key was used for another request",
            )
            .of_kind("auria:key-used")),
        }
    }

    /// Hands a run over to whoever drives runs.
    pub(crate) async fn start(&self, run: &RunId, user: &User) -> Result<(), Refusal> {
        let place = self.reserve()?;
        self.start_in(run, user, place).await
    }

    fn reserve(&self) -> Result<Reserved, Refusal> {
        self.0.runs.reserve().map_err(not_started)
    }

    async fn start_in(&self, run: &RunId, user: &User, place: Reserved) -> Result<(), Refusal> {
        self.0
            .runs
            .start(run, user, place)
            .await
            .map_err(not_started)
    }
}

/// A request with a key, while it is under way.
struct Keyed {
    /// Of the key's record.
    name: Digest,
    run: RunId,
    nonce: Nonce,
    _turn: Option<OwnedSemaphorePermit>,
}

fn not_started(error: NotStarted) -> Refusal {
    match error {
        NotStarted::Refused { message } => Refusal::new(StatusCode::CONFLICT, message),
        NotStarted::Unavailable { message } => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }
}

pub(crate) fn accepted(taken: &Taken) -> Response {
    let mut response = (StatusCode::ACCEPTED, Json(taken)).into_response();
    let place = format!("{}/runs/{}", auria_core::protocol::API, taken.run);
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// What is wrong with a document, as a problem document.
pub(crate) fn invalid(message: &str, diagnostics: &serde_json::Value) -> Response {
    let problem = serde_json::json!({
        "type": "auria:invalid-pipeline", "title": "Unprocessable Entity", "status": 422,
        "detail": message, "diagnostics": diagnostics,
    });
    let mut response = (StatusCode::UNPROCESSABLE_ENTITY, Json(problem)).into_response();
    let kind = HeaderValue::from_static(PROBLEM_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[derive(Debug, Default, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetryBody {
    /// Steps that run again though they finished.
    from: Vec<String>,
}

pub(super) async fn again(
    State(api): State<Api>,
    Extension(Shown(token)): Extension<Shown>,
    Path(run): Path<String>,
    headers: HeaderMap,
    Said(body): Said<RetryBody>,
) -> Result<Response, Refusal> {
    let user = api.0.vouched.vouch(&token, Action::Create).await?;
    let run = api.again(&user, &run, &body.from, &headers).await?;
    Ok(accepted(&api.taken(&run)))
}

impl Api {
    /// A new run that keeps what finished, but for the steps `from`.
    pub(crate) async fn again(
        &self,
        user: &User,
        run: &str,
        from: &[String],
        headers: &HeaderMap,
    ) -> Result<RunId, Refusal> {
        let old = self.run(run).await?;
        let steps = from.iter().map(|name| step_of(&old, name));
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        let now = self.now();
        let place = self.reserve()?;
        let mut name = new_run(&old.plan.pipeline, now);
        let mut nonce = auria_engine::driver::nonce();
        let asked = serde_json::json!([old.run, from]).to_string();
        let keyed = self
            .keyed(user, "retry", headers, asked.as_bytes(), &name)
            .await?;
        if let Some(keyed) = &keyed {
            name.clone_from(&keyed.run);
            nonce.clone_from(&keyed.nonce);
        }
        let retried = retry(self.store(), &old, steps, name, nonce, now).await;
        let retried = retried.map_err(|error| match error {
            NotRetried::Store(error) if error.kind() == ErrorKind::NotFound => {
                Refusal::new(StatusCode::CONFLICT, error.to_string())
            }
            NotRetried::Store(error) => Refusal::of(&error),
            error => Refusal::new(StatusCode::CONFLICT, error.to_string()),
        })?;
        self.start_in(&retried.run.run, user, place).await?;
        drop(keyed);
        self.0.runs.note(user, "retry", &old.run).await;
        Ok(retried.run.run)
    }

    /// The time of its clock.
    pub(crate) fn now(&self) -> Timestamp {
        (self.0.extras.now)()
    }

    /// Who makes runs of documents, where this server does.
    pub(crate) fn planner(&self) -> Result<&dyn Planner, Refusal> {
        self.0.extras.planner.as_deref().ok_or_else(|| {
            Refusal::new(
                StatusCode::NOT_IMPLEMENTED,
                "this server plans nothing itself: use `auria-pipeline submit`",
            )
        })
    }
}

/// The step of `run` that `name` means.
pub(crate) fn step_of(run: &RunJson, name: &str) -> Result<StepPath, Refusal> {
    let paths = run.plan.steps.iter().map(|step| &step.path);
    let found = paths
        .into_iter()
        .find(|path| path.as_str() == name || path.display() == name);
    found.cloned().ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("run {} has no step `{name}`", run.run),
        )
    })
}

#[derive(Debug, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetBody {
    /// The words that commands begin with.
    #[schemars(length(max = MOST_WORDS))]
    words: Vec<String>,
}

pub(super) async fn target(
    State(api): State<Api>,
    Extension(Shown(token)): Extension<Shown>,
    Said(body): Said<TargetBody>,
) -> Result<Json<TargetFacts>, Refusal> {
    api.0.vouched.vouch(&token, Action::Create).await?;
    if body.words.len() > MOST_WORDS {
        let why = format!("at most {MOST_WORDS} words are looked for at once");
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    let facts = api
        .planner()?
        .target(body.words.into_iter().collect())
        .await;
    facts
        .map(Json)
        .map_err(|message| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message))
}
