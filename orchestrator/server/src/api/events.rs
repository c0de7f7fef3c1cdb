//! A run's changes as server-sent events: every step as it stands, then what changes, to
//! the run's end. Each event's data is one `RunChange` as JSON. A reader that is slow is
//! told everything anew.

use super::{Api, Shown, run_of};
use crate::problem::Refusal;
use axum::extract::{Extension, Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt};
use http::StatusCode;
use std::convert::Infallible;
use std::sync::Arc;

pub(super) async fn events(
    State(api): State<Api>,
    Extension(Shown(token)): Extension<Shown>,
    Path(run): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    of(&api, token, &run)
}

/// The changes of a run, for whoever shows `token`.
pub(crate) fn of(
    api: &Api,
    token: Arc<str>,
    run: &str,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, Refusal> {
    let run = run_of(run)?;
    let feed = api.0.runs.feed(&run).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("the run {run} is not driven here: it has ended, or has not begun"),
        )
        .of_kind("auria:not-driven")
    })?;
    let events = feed.follow().filter_map(|change| async move {
        match Event::default().event("change").json_data(&change) {
            Ok(event) => Some(Ok(event)),
            Err(error) => {
                tracing::error!("a change cannot be written as JSON: {error}");
                None
            }
        }
    });
    let place = api.0.streams.enter()?;
    let events = api.guarded(token, place, events);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}
