//! What a run's steps wrote, as plain text in a stream: what the store holds, and where it is
//! asked for, what follows, to the end of the run. Never more of it is held than a chunk for
//! each reader. What a step wrote is text alone: nothing that a browser would run.

use super::extract::Asked;
use super::resources::step_of;
use super::{Api, Shown};
use crate::problem::Refusal;
use auria_core::plan::PlannedStep;
use auria_core::run::RunChange;
use auria_core::{AttemptId, Nonce, StepPath};
use auria_store::logs::LogReader;
use auria_store::runs::RunJson;
use auria_store::{Journal, StoreError, layout};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Chunks that a slow reader may be behind; then the store is read no further.
const BEHIND: usize = 2;
/// Between two looks at the store for new lines, where a step says that there are some.
const LOOK: Duration = Duration::from_millis(300);
/// How long a launcher may keep a line before it is in the store.
const FLUSHED: Duration = Duration::from_secs(15);
/// Between two looks whether somebody drives the run, where nobody does.
const DRIVER: Duration = Duration::from_millis(500);

/// Of a longer line, what there is of it is told as one.
const LONGEST_LINE: usize = 64 * 1024;

/// Where that goes on, no such wait is longer.
const DRIVER_MOST: Duration = Duration::from_secs(15);

/// Which logs are wanted.
#[derive(Clone, Debug, Default, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogsQuery {
    step: Option<String>,
    attempt: Option<u32>,
    follow: bool,
}

pub(super) async fn logs(
    State(api): State<Api>,
    Extension(Shown(token)): Extension<Shown>,
    Path(run): Path<String>,
    Asked(query): Asked<LogsQuery>,
) -> Result<Response, Refusal> {
    read(api, token, &run, query).await
}

/// As [`logs`], for who asks from elsewhere in this crate.
pub(crate) async fn of(
    api: Api,
    token: Arc<str>,
    run: &str,
    step: Option<String>,
    follow: bool,
) -> Result<Response, Refusal> {
    let query = LogsQuery {
        step,
        attempt: None,
        follow,
    };
    read(api, token, run, query).await
}

async fn read(api: Api, token: Arc<str>, run: &str, query: LogsQuery) -> Result<Response, Refusal> {
    let place = api.0.streams.enter()?;
    let run = api.run(run).await?;
    let step = query.step.as_ref().map(|name| step_of(&run, name));
    let step = step.transpose()?;
    let (sender, receiver) = mpsc::channel(BEHIND);
    let reader = Reader {
        journal: Journal::new(api.store().clone(), run.run.clone()),
        width: widest(&run),
        step,
        attempt: query.attempt,
        follow: query.follow,
        tails: BTreeMap::new(),
        to: sender,
        api,
        run,
    };
    let guard = reader.api.clone();
    let lines = lines(receiver, reader.read());
    Ok(text(guard.guarded(token, place, lines)))
}

fn widest(run: &RunJson) -> usize {
    let widths = run.plan.steps.iter().map(|step| step.path.display().len());
    widths.max().unwrap_or(0)
}

/// What `work` writes, which goes on only as long as somebody reads.
fn lines(
    receiver: mpsc::Receiver<Bytes>,
    work: impl Future<Output = Result<(), Stopped>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let work = work.into_stream().filter_map(|done| async move {
        match done {
            Ok(()) | Err(Stopped::Reader) => None,
            // The reader sees that the answer broke off.
            Err(Stopped::Store(error)) => Some(Err(std::io::Error::other(error))),
        }
    });
    merged(receiver, work)
}

/// Text that comes bit by bit, as an answer.
fn text(lines: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Response {
    let body = Body::from_stream(lines);
    let mut response = body.into_response();
    inert(response.headers_mut());
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// What `receiver` brings while `work` goes on.
fn merged(
    receiver: mpsc::Receiver<Bytes>,
    work: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let told = futures::stream::unfold(receiver, |mut receiver| async move {
        let bytes = receiver.recv().await?;
        Some((Ok(bytes), receiver))
    });
    futures::stream::select(told, work)
}

/// Lets a browser show what follows as it is, and run none of it.
pub(crate) fn inert(headers: &mut http::HeaderMap) {
    let pairs = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox",
        ),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    for (name, value) in pairs {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Why the text ends early.
enum Stopped {
    /// Nobody reads it any more.
    Reader,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

struct Tail {
    reader: LogReader,
    /// A line that has no end yet.
    rest: Vec<u8>,
}

struct Reader {
    api: Api,
    run: RunJson,
    journal: Journal,
    step: Option<StepPath>,
    attempt: Option<u32>,
    follow: bool,
    width: usize,
    tails: BTreeMap<(AttemptId, Option<u32>), Tail>,
    to: mpsc::Sender<Bytes>,
}

impl Reader {
    async fn read(mut self) -> Result<(), Stopped> {
        let mut wait = DRIVER;
        loop {
            // Before the look at what there is: nothing falls between the two.
            let feed = self.api.0.runs.feed(&self.run.run).filter(|_| self.follow);
            let changes = feed.map(|feed| feed.follow());
            // Read before the logs: what was written before the end is there after it.
            let ended = match (&self.step, self.journal.read_run_end().await?) {
                (_, Some(_)) => true,
                (Some(step), None) => self.journal.read_outcome(step).await?.is_some(),
                (None, None) => false,
            };
            for (id, nonce) in self.claims().await? {
                self.print(&id, &nonce, ended || !self.follow).await?;
            }
            if ended || !self.follow {
                return Ok(());
            }
            match changes {
                Some(changes) => {
                    wait = DRIVER;
                    self.follow(changes).await?;
                }
                None => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.to.closed() => return Err(Stopped::Reader),
                    }
                    wait = (wait * 2).min(DRIVER_MOST);
                }
            }
        }
    }

    fn wants(&self, step: &StepPath, attempt: u32) -> bool {
        self.step.as_ref().is_none_or(|wanted| wanted == step)
            && self.attempt.is_none_or(|wanted| wanted == attempt)
    }

    /// The last claim of each step, or of the attempt that is asked for, in the plan's order.
    async fn claims(&self) -> Result<Vec<(AttemptId, Nonce)>, StoreError> {
        let found = self.journal.recover().await?;
        let mut last: BTreeMap<StepPath, (AttemptId, Nonce)> = BTreeMap::new();
        for claim in found.claims {
            if !self.wants(&claim.attempt.step, claim.attempt.number) {
                continue;
            }
            let newer = last.get(&claim.attempt.step);
            if newer.is_none_or(|(id, _)| id.number < claim.attempt.number) {
                last.insert(claim.attempt.step.clone(), (claim.attempt, claim.nonce));
            }
        }
        let steps = self.run.plan.steps.iter();
        Ok(steps.filter_map(|step| last.remove(&step.path)).collect())
    }

    async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), Stopped> {
        self.to
            .send(bytes.into())
            .await
            .map_err(|_| Stopped::Reader)
    }

    /// Sends what an attempt has written since the last time.
    async fn print(&mut self, id: &AttemptId, nonce: &Nonce, last: bool) -> Result<(), Stopped> {
        self.print_of(id, nonce, None, last).await?;
        let step = self.run.plan.step(&id.step);
        for rank in step.map(PlannedStep::logs_apart).unwrap_or_default() {
            self.print_of(id, nonce, Some(rank), last).await?;
        }
        Ok(())
    }

    async fn print_of(
        &mut self,
        id: &AttemptId,
        nonce: &Nonce,
        apart: Option<u32>,
        last: bool,
    ) -> Result<(), Stopped> {
        let store = self.journal.store().clone();
        let key = (id.clone(), apart);
        let mut tail = self.tails.remove(&key).unwrap_or_else(|| Tail {
            reader: LogReader::new(store, layout::logs_of(id, nonce, apart)),
            rest: Vec::new(),
        });
        while let Some(bytes) = tail.reader.next().await? {
            if self.step.is_some() {
                self.send(bytes).await?;
                continue;
            }
            tail.rest.extend_from_slice(&bytes);
            if let Some(end) = tail.rest.iter().rposition(|byte| *byte == b'\n') {
                let whole: Vec<u8> = tail.rest.drain(..=end).collect();
                self.send(prefixed(id, &whole, self.width)).await?;
            } else if tail.rest.len() >= LONGEST_LINE {
                // A line without an end would be held until it has one.
                let part = std::mem::take(&mut tail.rest);
                self.send(prefixed(id, &part, self.width)).await?;
            }
        }
        if last && !tail.rest.is_empty() {
            let rest = std::mem::take(&mut tail.rest);
            self.send(prefixed(id, &rest, self.width)).await?;
        }
        self.tails.insert(key, tail);
        Ok(())
    }

    /// Sends what is written while the run is driven from here.
    async fn follow(
        &mut self,
        changes: impl Stream<Item = RunChange> + Send,
    ) -> Result<(), Stopped> {
        let mut changes = std::pin::pin!(changes);
        // Attempts that said something, until what they said must be in the store.
        let mut fresh: BTreeMap<AttemptId, Instant> = BTreeMap::new();
        let mut nonces: BTreeMap<AttemptId, Nonce> = BTreeMap::new();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                () = self.to.closed() => return Err(Stopped::Reader),
                _ = looks.tick(), if !fresh.is_empty() => {
                    let ids: Vec<AttemptId> = fresh.keys().cloned().collect();
                    for id in ids {
                        if let Some(nonce) = nonces.get(&id) {
                            self.print(&id, nonce, false).await?;
                        }
                    }
                    fresh.retain(|_, until| Instant::now() < *until);
                    continue;
                }
            };
            let (step, attempt, ended) = match change {
                None | Some(RunChange::End { .. }) => return Ok(()),
                Some(RunChange::Run { .. }) => continue,
                Some(RunChange::Line { step, attempt, .. }) => (step, attempt, false),
                Some(RunChange::Step(row)) => (row.step, row.attempts, row.status.is_terminal()),
            };
            if attempt == 0 || !self.wants(&step, attempt) {
                if ended && self.step.as_ref() == Some(&step) {
                    return Ok(());
                }
                continue;
            }
            let id = AttemptId {
                run: self.run.run.clone(),
                step,
                number: attempt,
            };
            if !nonces.contains_key(&id)
                && let Some(claim) = self.journal.read_claim(&id).await?
            {
                nonces.insert(id.clone(), claim.nonce);
            }
            if ended && let Some(nonce) = nonces.get(&id) {
                self.print(&id, nonce, false).await?;
            }
            // The step that is followed has ended: the caller looks once more, and ends.
            if ended && self.step.is_some() {
                return Ok(());
            }
            fresh.insert(id, Instant::now() + FLUSHED);
        }
    }
}

fn prefixed(id: &AttemptId, lines: &[u8], width: usize) -> Vec<u8> {
    let prefix = format!("{:width$} | ", id.step.display());
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    let mut text = Vec::with_capacity(lines.len() + prefix.len());
    for line in lines.split(|byte| *byte == b'\n') {
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text
}
