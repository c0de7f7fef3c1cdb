//! One request to a broker, or to an object store by a signed URL, and what its answer
//! means. Nothing is asked twice here.

use crate::{StoreError, StorePath, http as watched};
use auria_core::protocol::{PROTOCOL_VERSION, Problem, VERSION_HEADER};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
};
use serde::de::DeserializeOwned;
use std::fmt;
use std::time::Duration;
use url::Url;

/// The largest answer that is read whole.
const LARGEST_ANSWER: usize = 256 * 1024 * 1024;
/// Of what was refused, so much is read.
const LARGEST_REFUSAL: usize = 1024 * 1024;
/// For the way to a broker: a handshake needs no longer.
const CONNECT: Duration = Duration::from_secs(5);
/// Shorter than a server keeps what is idle.
const IDLE: Duration = Duration::from_secs(20);

/// A way to a server.
pub(super) struct Line {
    base: Option<Url>,
    client: HttpClient,
    pub(super) plain: reqwest::Client,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            Some(base) => write!(f, "{}", base.origin().ascii_serialization()),
            None => f.write_str("the object store"),
        }
    }
}

/// What is asked.
pub(super) struct Request {
    method: Method,
    path: &'static str,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: HttpRequestBody,
}

impl Request {
    pub(super) fn new(method: Method, path: &'static str) -> Self {
        Self {
            method,
            path,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: HttpRequestBody::empty(),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    pub(super) fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    pub(super) fn body(mut self, body: impl Into<HttpRequestBody>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn json(mut self, body: Bytes) -> Self {
        let json = HeaderValue::from_static("application/json");
        self.headers.insert(header::CONTENT_TYPE, json);
        self.body(body)
    }
}

/// Why there is no answer to work with.
pub(super) enum Failed {
    /// Nobody answered.
    Line(HttpError),
    /// It was refused.
    Refused(Box<Refusal>),
}

/// A status that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// What the server said.
    said: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.said)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// What the server said, in its own words.
    pub(super) fn said(&self) -> &str {
        &self.said
    }

    /// As an object store would say it.
    pub(super) fn as_error(&self, path: &StorePath) -> object_store::Error {
        use object_store::Error as E;
        let (path, source) = (path.to_string(), self.to_string().into());
        match self.status {
            StatusCode::NOT_FOUND => E::NotFound { path, source },
            StatusCode::CONFLICT => E::AlreadyExists { path, source },
            StatusCode::PRECONDITION_FAILED => E::Precondition { path, source },
            StatusCode::NOT_MODIFIED => E::NotModified { path, source },
            StatusCode::UNAUTHORIZED => E::Unauthenticated { path, source },
            StatusCode::FORBIDDEN => E::PermissionDenied { path, source },
            _ => E::Generic {
                store: "broker",
                source,
            },
        }
    }
}

impl Failed {
    pub(super) fn as_error(&self, path: &StorePath) -> object_store::Error {
        match self {
            Self::Line(error) => object_store::Error::Generic {
                store: "broker",
                source: Box::new(HttpError::new(error.kind(), Told(error.to_string()))),
            },
            Self::Refused(refusal) => refusal.as_error(path),
        }
    }

    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Line(_) => None,
            Self::Refused(refusal) => Some(refusal.status),
        }
    }

    /// Whether the same may succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Line(_) => true,
            Self::Refused(refusal) => {
                refusal.status.is_server_error() || refusal.status == StatusCode::TOO_MANY_REQUESTS
            }
        }
    }

    /// Whether nobody is there.
    pub(super) fn is_unconnected(&self) -> bool {
        matches!(self, Self::Line(error) if error.kind() == HttpErrorKind::Connect)
    }
}

#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

/// A success.
pub(super) struct Answer {
    response: HttpResponse,
}

impl Answer {
    pub(super) fn text(&self, name: impl header::AsHeaderName) -> Option<String> {
        let value = self.response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    }

    pub(super) fn number<T: std::str::FromStr>(
        &self,
        name: impl header::AsHeaderName,
    ) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    pub(super) fn stream(self) -> BoxStream<'static, Result<Bytes, HttpError>> {
        self.response.into_body().bytes_stream()
    }

    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, Failed> {
        let bytes = gather(self.stream(), LARGEST_ANSWER)
            .await
            .map_err(Failed::Line)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failed::Line(HttpError::new(HttpErrorKind::Decode, error)))
    }
}

async fn gather(
    mut stream: BoxStream<'static, Result<Bytes, HttpError>>,
    most: usize,
) -> Result<Bytes, HttpError> {
    let mut all = Vec::new();
    while let Some(bytes) = stream.try_next().await? {
        if all.len() + bytes.len() > most {
            let why = Told(format!("the answer is longer than {most} bytes"));
            return Err(HttpError::new(HttpErrorKind::Decode, why));
        }
        all.extend_from_slice(&bytes);
    }
    Ok(all.into())
}

fn client(authorities: Option<&str>, only: bool) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("auria-pipeline/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE);
    let certificates = match authorities {
        Some(pem) => reqwest::Certificate::from_pem_bundle(pem.as_bytes())?,
        None => Vec::new(),
    };
    builder = if only {
        builder.tls_certs_only(certificates)
    } else {
        builder.tls_certs_merge(certificates)
    };
    builder.build()
}

impl Line {
    /// To the broker at `url`, whose certificate is signed by `authority`.
    pub(super) fn to_broker(
        url: &str,
        base: &str,
        authority: Option<&str>,
    ) -> Result<Self, StoreError> {
        let invalid = |why: String| StoreError::InvalidUrl {
            text: url.to_owned(),
            why,
        };
        let base = format!("{}{base}/", url.trim_end_matches('/'));
        let base = Url::parse(&base).map_err(|error| invalid(error.to_string()))?;
        // A token goes over no network in the clear; this machine's own loopback is none.
        let here = match base.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if base.scheme() != "https" && !(base.scheme() == "http" && here) {
            return Err(invalid(
                "its address begins with https://; http:// is for this machine alone".into(),
            ));
        }
        let plain = client(authority, authority.is_some())
            .map_err(|error| invalid(format!("no way to it: {}", error.without_url())))?;
        Ok(Self::over(Some(base), plain))
    }

    /// To whatever signed URLs name.
    pub(super) fn to_data(authorities: Option<&str>) -> Result<Self, HttpError> {
        // An image without certificates of its own has those that the broker gave.
        let plain = client(authorities, false).or_else(|_| client(authorities, true));
        plain
            .map(|plain| Self::over(None, plain))
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))
    }

    fn over(base: Option<Url>, plain: reqwest::Client) -> Self {
        Self {
            base,
            client: watched::watched(plain.clone(), watched::STALL),
            plain,
        }
    }

    /// The address of `path` on this line.
    pub(super) fn address(
        &self,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<Url, Failed> {
        let unknown =
            |error: url::ParseError| Failed::Line(HttpError::new(HttpErrorKind::Unknown, error));
        let base = self.base.as_ref();
        let base = base.ok_or_else(|| unknown(url::ParseError::RelativeUrlWithoutBase))?;
        let mut url = base.join(path.trim_start_matches('/')).map_err(unknown)?;
        if !query.is_empty() {
            url.query_pairs_mut()
                .extend_pairs(query.iter().map(|(name, value)| (*name, value.as_str())));
        }
        Ok(url)
    }

    /// Asks this line's server.
    pub(super) async fn send(
        &self,
        request: Request,
        token: Option<&str>,
    ) -> Result<Answer, Failed> {
        let url = self.address(request.path, &request.query)?;
        let mut headers = request.headers;
        headers.extend(own_headers(token));
        self.send_to(request.method, url.as_str(), headers, request.body)
            .await
    }

    /// Asks this line's server for something that is told for hours, with pauses.
    pub(super) async fn listen(
        &self,
        path: &str,
        token: Option<&str>,
    ) -> Result<BoxStream<'static, Result<Bytes, HttpError>>, Failed> {
        let url = self.address(path, &[])?;
        let asked = self.plain.get(url).headers(own_headers(token)).send().await;
        let response = asked.map_err(|error| {
            let error = error.without_url();
            Failed::Line(HttpError::new(HttpErrorKind::Connect, error))
        })?;
        let status = response.status();
        let stream = response
            .bytes_stream()
            .map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error.without_url()))
            .boxed();
        if status.is_success() {
            return Ok(stream);
        }
        let body = gather(stream, LARGEST_REFUSAL).await;
        Err(refused(status, body.unwrap_or_default()))
    }

    /// Asks this line's server, at a path that is made for this request.
    pub(super) async fn send_at(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        token: Option<&str>,
    ) -> Result<Answer, Failed> {
        let url = self.address(path, &[])?;
        let mut headers = own_headers(token);
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        self.send_to(method, url.as_str(), headers, body.into())
            .await
    }

    /// Asks whatever `url` names.
    pub(super) async fn send_to(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: HttpRequestBody,
    ) -> Result<Answer, Failed> {
        let built = http::Request::builder().method(method).uri(url).body(body);
        let mut request: HttpRequest =
            built.map_err(|error| Failed::Line(HttpError::new(HttpErrorKind::Unknown, error)))?;
        *request.headers_mut() = headers;
        let response = self.client.execute(request).await.map_err(Failed::Line)?;
        answer(response).await
    }
}

/// What every request to a broker carries.
pub(super) fn own_headers(token: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let version = HeaderValue::from(PROTOCOL_VERSION);
    headers.insert(HeaderName::from_static(VERSION_HEADER), version);
    let bearer = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
    if let Some(mut bearer) = bearer {
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    headers
}

async fn answer(response: HttpResponse) -> Result<Answer, Failed> {
    let status = response.status();
    if status.is_success() {
        return Ok(Answer { response });
    }
    let body = gather(response.into_body().bytes_stream().boxed(), LARGEST_REFUSAL).await;
    Err(refused(status, body.unwrap_or_default()))
}

/// What a refusal says.
pub(super) fn refused(status: StatusCode, body: Bytes) -> Failed {
    let said = match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => problem.detail.unwrap_or(problem.title),
        Err(_) => {
            let said: String = String::from_utf8_lossy(&body).chars().take(500).collect();
            format!("{said:?}")
        }
    };
    Failed::Refused(Box::new(Refusal { status, body, said }))
}

/// A refusal that stands in an answer.
pub(super) fn of_problem(problem: &Problem) -> Failed {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_GATEWAY);
    refused(
        status,
        serde_json::to_vec(problem).unwrap_or_default().into(),
    )
}
