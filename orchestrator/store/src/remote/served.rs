//! What a user's program asks of a server that drives runs by itself: where its steps run, to
//! try a run again, and whatever else is JSON. It knows nothing of what is asked.

use super::call::{Failed, own_headers};
use super::{Remote, encode};
use crate::error::ErrorKind;
use crate::error::sort_error;
use crate::{StoreError, StorePath};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

impl Remote {
    /// Sends `body` to `path` of the API, and reads the JSON that comes back.
    ///
    /// # Errors
    /// Where the server cannot be reached, or refuses.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, StoreError> {
        self.call(Method::POST, path, encode(body)?).await
    }

    /// As [`Self::post`], with headers of the caller's.
    ///
    /// # Errors
    /// Where the server cannot be reached, or refuses.
    pub async fn post_with<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        more: &[(&'static str, String)],
    ) -> Result<T, StoreError> {
        let place = StorePath::from(path);
        let mut headers = own_headers(Some(&self.token()));
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        for (name, value) in more {
            let value = HeaderValue::from_str(value).map_err(|error| StoreError::InvalidUrl {
                text: value.clone(),
                why: error.to_string(),
            })?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let failed = |failed: Failed| declined("change", &place, &failed);
        let url = self.0.line.address(path, &[]).map_err(failed)?;
        let body = encode(body)?;
        let sent = self
            .0
            .line
            .send_to(Method::POST, url.as_str(), headers, body.into())
            .await;
        self.read(sent.map_err(failed)?, &place).await
    }

    /// Reads the JSON at `path` of the API.
    ///
    /// # Errors
    /// Where the server cannot be reached, or refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, StoreError> {
        self.call(Method::GET, path, bytes::Bytes::new()).await
    }

    /// Deletes what is at `path` of the API.
    ///
    /// # Errors
    /// Where the server cannot be reached, or refuses.
    pub async fn remove<T: DeserializeOwned>(&self, path: &str) -> Result<T, StoreError> {
        self.call(Method::DELETE, path, bytes::Bytes::new()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: bytes::Bytes,
    ) -> Result<T, StoreError> {
        let verb = if method == Method::GET {
            "read"
        } else {
            "change"
        };
        let token = self.token();
        let place = StorePath::from(path);
        let sent = self.0.line.send_at(method, path, body, Some(&token)).await;
        let answer = sent.map_err(|failed| declined(verb, &place, &failed))?;
        self.read(answer, &place).await
    }
}

/// Why there is no answer: what a server says of a request is told in its words.
fn declined(verb: &str, place: &StorePath, failed: &Failed) -> StoreError {
    let said = match failed {
        Failed::Refused(refusal) => Some((refusal.status, refusal.said())),
        Failed::Line(_) => None,
    };
    let kind = said.and_then(|(status, _)| match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Some(ErrorKind::NotFound),
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Some(ErrorKind::Conflict),
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => Some(ErrorKind::Usage),
        _ => None,
    });
    match (said, kind) {
        (Some((_, why)), Some(kind)) if !why.is_empty() => StoreError::Declined {
            why: why.to_owned(),
            kind,
        },
        _ => sort_error(verb, place, failed.as_error(place)),
    }
}
