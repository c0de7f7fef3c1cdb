//! Why a request was refused, as a problem document (RFC 9457). What a caller may not see
//! is not told: a refusal of what exists and one of what does not look the same.

use auria_core::protocol::{PROBLEM_TYPE, Problem};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

/// A refusal on its way to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    kind: &'static str,
    detail: Option<String>,
}

impl Refusal {
    /// A refusal with something to say.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind: "about:blank",
            detail: Some(detail.into()),
        }
    }

    /// No token, or none that counts.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            kind: "about:blank",
            detail: None,
        }
    }

    /// Not for this caller; no hint of why.
    #[must_use]
    pub fn forbidden() -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            kind: "about:blank",
            detail: None,
        }
    }

    /// With a short stable name.
    #[must_use]
    pub fn of_kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What an object store's error means for a caller.
    #[must_use]
    pub fn of_store(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let (status, detail) = match error {
            E::NotFound { path, .. } => (StatusCode::NOT_FOUND, format!("{path} is not there")),
            E::AlreadyExists { path, .. } => (StatusCode::CONFLICT, format!("{path} is there")),
            E::Precondition { path, .. } => (
                StatusCode::PRECONDITION_FAILED,
                format!("{path} is not what it was"),
            ),
            E::NotModified { .. } => (StatusCode::NOT_MODIFIED, String::new()),
            E::InvalidPath { source } => (StatusCode::BAD_REQUEST, source.to_string()),
            E::NotSupported { source } => (StatusCode::BAD_REQUEST, source.to_string()),
            // The broker's own credentials do not suffice: nothing of the caller's.
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => (
                StatusCode::BAD_GATEWAY,
                "the store denies the broker access".to_owned(),
            ),
            error if auria_store::is_full(error) => (
                StatusCode::INSUFFICIENT_STORAGE,
                "the store is full".to_owned(),
            ),
            _ => (
                StatusCode::BAD_GATEWAY,
                "the store does not answer the broker".to_owned(),
            ),
        };
        if status == StatusCode::BAD_GATEWAY {
            tracing::warn!("the store failed a request: {error}");
        }
        Self::new(status, detail)
    }

    /// What an error of the store's crate means for a caller.
    #[must_use]
    pub fn of(error: &auria_store::StoreError) -> Self {
        use auria_store::ErrorKind as K;
        let status = match error.kind() {
            K::NotFound => StatusCode::NOT_FOUND,
            K::Conflict => StatusCode::CONFLICT,
            K::Full => StatusCode::INSUFFICIENT_STORAGE,
            K::Usage => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        };
        if status == StatusCode::BAD_GATEWAY {
            tracing::warn!("the store failed a request: {error}");
        }
        Self::new(status, error.to_string())
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> Problem {
        Problem {
            kind: self.kind.to_owned(),
            title: self.status.canonical_reason().unwrap_or("").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.document()).into_response();
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static(PROBLEM_TYPE);
        headers.insert(header::CONTENT_TYPE, kind);
        if self.status == StatusCode::UNAUTHORIZED {
            let how = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, how);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
