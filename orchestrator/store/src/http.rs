//! The HTTP client beneath a store on S3. A request is given up when nothing moves
//! any more, in either direction: a large object may take as long as it needs, and a
//! peer that is silent, or that answers by the byte, ends with an error. What is
//! asked, and whether it is asked again, is decided by those who call it.

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How long nothing may move.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// Less than this in the time of a stall is as good as nothing.
const LEAST: u64 = 4096;
/// What is sent is handed over in pieces of this size, so that its way is seen.
const PIECE: usize = 64 * 1024;

/// `client`, which gives a request up when nothing moves for so long.
pub(crate) fn watched(client: reqwest::Client, stall: Duration) -> HttpClient {
    HttpClient::new(Watched { client, stall })
}

#[derive(Debug)]
struct Watched {
    client: reqwest::Client,
    stall: Duration,
}

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse::<reqwest::Url>();
        let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let sent = Arc::new(AtomicU64::new(0));
        *request.body_mut() = Some(match body.as_bytes() {
            Some(bytes) => bytes.clone().into(),
            None => reqwest::Body::wrap(Counted {
                body,
                piece: Bytes::new(),
                sent: Arc::clone(&sent),
            }),
        });
        let mut answer = std::pin::pin!(self.client.execute(request));
        let mut before = 0;
        let answer = loop {
            match tokio::time::timeout(self.stall, &mut answer).await {
                Ok(answer) => break answer.map_err(sorted)?,
                Err(_) => {
                    let now = sent.load(Ordering::Relaxed);
                    if now < before + LEAST {
                        return Err(stalled(self.stall));
                    }
                    before = now;
                }
            }
        };
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = HttpResponse::new(HttpResponseBody::new(Timed {
            body: answer.into(),
            stall: self.stall,
            until: Box::pin(tokio::time::sleep(self.stall)),
            waiting: true,
            passed: 0,
        }));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

fn stalled(stall: Duration) -> HttpError {
    let message = format!("nothing moved for {stall:?}");
    let error = std::io::Error::new(std::io::ErrorKind::TimedOut, message);
    HttpError::new(HttpErrorKind::Timeout, error)
}

/// What it means for the next try: only what never reached the store is asked
/// again in any case.
fn sorted(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_builder() || error.is_redirect() {
        HttpErrorKind::Unknown
    } else {
        HttpErrorKind::Interrupted
    };
    // The address may be signed; those who report the error name the object.
    HttpError::new(kind, error.without_url())
}

/// Whether `error` is that of a connection which could not be made.
pub(crate) fn is_unconnected(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return error.kind() == HttpErrorKind::Connect;
        }
        next = error.source();
    }
    false
}

/// What is sent, counted as the connection takes it.
struct Counted {
    body: HttpRequestBody,
    piece: Bytes,
    sent: Arc<AtomicU64>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        while self.piece.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => self.piece = bytes,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return other,
            }
        }
        let count = self.piece.len().min(PIECE);
        let bytes = self.piece.split_to(count);
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.body.size_hint().exact().unwrap_or(0);
        SizeHint::with_exact(left + self.piece.len() as u64)
    }
}

/// What is received, as long as it comes.
struct Timed {
    body: reqwest::Body,
    stall: Duration,
    until: Pin<Box<Sleep>>,
    /// Whether it is waited for; a reader that is busy elsewhere is no stall.
    waiting: bool,
    /// Bytes since the time was last set.
    passed: u64,
}

impl Body for Timed {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.waiting = false;
                if let Some(Ok(frame)) = &frame {
                    self.passed += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(sorted)))
            }
            Poll::Pending => {
                if !self.waiting && self.passed >= LEAST {
                    self.passed = 0;
                    let until = Instant::now() + self.stall;
                    self.until.as_mut().reset(until);
                }
                self.waiting = true;
                match self.until.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(stalled(self.stall)))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
