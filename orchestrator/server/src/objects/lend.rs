//! Ways for data that is not seen here whole: signed URLs, and uploads in parts.

use super::{Caller, Rights, Served, Verb, arrived, few, object, written};
use crate::api::extract::Asked;
use crate::body::Taken;
use crate::problem::Refusal;
use auria_core::protocol::{
    BeginParts, Begun, CompleteParts, LARGEST_PART, MOST_PARTS, MOST_SIGNED, PartTaken, Sign,
    SignFor, SignRequest, Signed, Written,
};
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

/// How long a signed URL lives: less than the quarter of an hour that the protocol allows,
/// since whoever holds one asks for another when it has grown old.
const URL_LIFE: Duration = Duration::from_secs(10 * 60);
#[derive(JsonSchema, Deserialize)]
pub(super) struct PartQuery {
    path: String,
    upload: String,
    part: u32,
}

pub(super) async fn sign(
    State(served): State<Served>,
    Extension(caller): Caller,
    asked: Taken<Sign>,
) -> Result<Json<Signed>, Refusal> {
    let requests = &asked.value.requests;
    few(requests.len(), MOST_SIGNED)?;
    let mut signed = Signed::default();
    for (place, request) in requests.iter().enumerate() {
        // One that is refused is no fault of those that were asked for beside it.
        let url = match sign_one(&served, &*caller, request).await {
            Ok(url) => url,
            Err(refusal) if refusal.status().is_client_error() => {
                signed.refused.insert(place, refusal.document());
                None
            }
            Err(refusal) => return Err(refusal),
        };
        signed.urls.push(url);
    }
    Ok(Json(signed))
}

async fn sign_one(
    served: &Served,
    caller: &dyn Rights,
    request: &SignRequest,
) -> Result<Option<String>, Refusal> {
    let path = object(&request.path)?;
    let verb = match request.to {
        SignFor::Get => Verb::Read,
        SignFor::Put => Verb::Lend,
        SignFor::Part { part, .. } => {
            part_number(part)?;
            Verb::Lend
        }
    };
    caller.may(verb, &path, None).await?;
    if !served.grant().signs {
        return Ok(None);
    }
    let signed = served.store().sign(&path, &request.to, URL_LIFE).await;
    signed.map_err(|error| Refusal::of_store(&error))
}

/// A part's number, from 0, where an object can have so many.
fn part_number(part: u32) -> Result<(), Refusal> {
    match usize::try_from(part) {
        Ok(part) if part < MOST_PARTS => Ok(()),
        _ => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!(
                "{part} is no part's number: they go from 0 to {}",
                MOST_PARTS - 1
            ),
        )),
    }
}

pub(super) async fn begin(
    State(served): State<Served>,
    Extension(caller): Caller,
    asked: Taken<BeginParts>,
) -> Result<Json<Begun>, Refusal> {
    let asked = &asked.value;
    let path = object(&asked.path)?;
    caller.may(Verb::Lend, &path, None).await?;
    let begun = served.store().begin_parts(&path).await;
    let begun = begun.map_err(|error| Refusal::of_store(&error))?;
    Ok(Json(match begun {
        Some(upload) => Begun::Parts { upload },
        None => Begun::Stream,
    }))
}

pub(super) async fn part(
    State(served): State<Served>,
    Extension(caller): Caller,
    Asked(query): Asked<PartQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PartTaken>, Refusal> {
    let path = object(&query.path)?;
    part_number(query.part)?;
    caller.may(Verb::Lend, &path, None).await?;
    let (bytes, _room) = served.room().take(&headers, body, LARGEST_PART).await?;
    arrived(&headers, &bytes)?;
    served.passed(bytes.len());
    let sent = served
        .store()
        .put_part(&path, &query.upload, query.part, bytes);
    let id = sent.await.map_err(|error| Refusal::of_store(&error))?;
    Ok(Json(PartTaken { id }))
}

pub(super) async fn complete(
    State(served): State<Served>,
    Extension(caller): Caller,
    asked: Taken<CompleteParts>,
) -> Result<Json<Written>, Refusal> {
    let CompleteParts {
        path,
        upload,
        parts,
    } = asked.value;
    few(parts.len(), MOST_PARTS)?;
    let path = object(&path)?;
    caller.may(Verb::Lend, &path, None).await?;
    let done = served.store().complete_parts(&path, &upload, parts);
    written(done.await)
}

pub(super) async fn abort(
    State(served): State<Served>,
    Extension(caller): Caller,
    asked: Taken<BeginParts>,
) -> Result<StatusCode, Refusal> {
    let asked = asked.value;
    let path = object(&asked.path)?;
    caller.may(Verb::Lend, &path, None).await?;
    let Some(upload) = asked.upload else {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "which upload?"));
    };
    let aborted = served.store().abort_parts(&path, &upload).await;
    aborted.map_err(|error| Refusal::of_store(&error))?;
    Ok(StatusCode::NO_CONTENT)
}
