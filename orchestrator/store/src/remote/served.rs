//! What a user's program asks of a server that drives runs by itself: where its steps run, to
//! try a run again, and whatever else is JSON. It knows nothing of what is asked.

use super::{Remote, encode};
use crate::error::sort_error;
use crate::{StoreError, StorePath};
use http::Method;
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
        let answer = sent.map_err(|failed| sort_error(verb, &place, failed.as_error(&place)))?;
        self.read(answer, &place).await
    }
}
