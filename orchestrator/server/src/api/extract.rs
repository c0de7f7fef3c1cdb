//! What a request says, read so that whatever is wrong with it is answered by a problem
//! document: axum's own answers are plain text.

use crate::body::Room;
use crate::problem::Refusal;
use auria_core::protocol::LARGEST_BODY;
use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::request::Parts;
use serde::de::DeserializeOwned;

/// The query of a request.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(error) => Err(Refusal::new(error.status(), error.body_text())),
        }
    }
}

/// The JSON body of a request.
pub(crate) struct Said<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Said<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if let Some(room) = request.extensions().get::<Room>().cloned() {
            let (parts, body) = request.into_parts();
            let (value, _room) = room.json(&parts.headers, body, LARGEST_BODY).await?;
            return Ok(Self(value));
        }
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(error) => Err(Refusal::new(error.status(), error.body_text())),
        }
    }
}
