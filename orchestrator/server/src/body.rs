//! Bodies of requests: read as long as they move, and held within a bound on all that are
//! held at once. It knows nothing of what they say.

use crate::objects::Served;
use crate::problem::Refusal;
use auria_core::protocol::LARGEST_BODY;
use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRef, FromRequest, Request};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How long nothing may move, in either direction.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// Less than this in the time of a stall is as good as nothing: what a body takes up is
/// held meanwhile.
pub(crate) const LEAST: usize = 128 * 1024;
/// Bytes of requests that are held at once.
const HELD: usize = 192 * 1024 * 1024;
/// What a permit for them stands for.
const UNIT: usize = 1024;
/// How long one waits for its turn to go through.
const TURN: Duration = Duration::from_secs(20);
/// Of a body that is refused, so much is let by: who still sends hears no answer.
const LET_BY: usize = 16 * 1024 * 1024;
/// What a body of JSON takes up, times its length: the text, and what is made of it.
const JSON: usize = 2;

/// Why a body came to no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// Nothing moved.
    #[error("the body does not move, or too slowly; send it again")]
    Stalled,
    /// The caller went away, or sent what is no body.
    #[error("{0}")]
    Line(axum::Error),
}

/// What comes of `body`, as long as it moves.
pub(crate) fn moving(body: Body) -> impl Stream<Item = Result<Bytes, Broken>> + Send {
    moving_within(body.into_data_stream(), STALL)
}

struct Coming {
    stream: BodyDataStream,
    /// What is left of the time in which [`LEAST`] must come; what others take does not
    /// count.
    left: Duration,
    came: usize,
}

fn moving_within(
    stream: BodyDataStream,
    stall: Duration,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send {
    let coming = Coming {
        stream,
        left: stall,
        came: 0,
    };
    futures::stream::try_unfold(coming, move |mut coming| async move {
        let began = Instant::now();
        let Ok(next) = tokio::time::timeout(coming.left, coming.stream.next()).await else {
            return Err(Broken::Stalled);
        };
        let Some(bytes) = next else { return Ok(None) };
        let bytes = bytes.map_err(Broken::Line)?;
        coming.left = coming.left.saturating_sub(began.elapsed());
        coming.came += bytes.len();
        if coming.came >= LEAST {
            (coming.left, coming.came) = (stall, 0);
        }
        Ok(Some((bytes, coming)))
    })
}

/// Waits for a turn, for a while.
pub(crate) async fn turn(
    semaphore: Arc<Semaphore>,
    count: u32,
) -> Result<OwnedSemaphorePermit, Refusal> {
    match tokio::time::timeout(TURN, semaphore.acquire_many_owned(count)).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too much goes through the broker at this moment",
        )),
    }
}

/// Takes what comes of a body that is refused, and keeps none of it.
async fn let_by(coming: impl Stream<Item = Result<Bytes, Broken>>) {
    let mut coming = std::pin::pin!(coming);
    let mut left = LET_BY;
    while let Some(Ok(bytes)) = coming.next().await {
        let Some(rest) = left.checked_sub(bytes.len()) else {
            return;
        };
        left = rest;
    }
}

/// Room for bodies, of which there is only so much. Clones share it.
#[derive(Clone)]
pub(crate) struct Room {
    units: Arc<Semaphore>,
    stall: Duration,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self::with(STALL)
    }

    fn with(stall: Duration) -> Self {
        let units = Arc::new(Semaphore::new(HELD / UNIT));
        Self { units, stall }
    }

    fn units(bytes: usize) -> u32 {
        u32::try_from(bytes.clamp(UNIT, HELD).div_ceil(UNIT)).unwrap_or(u32::MAX)
    }

    /// Room for `bytes`, before any of them is read.
    async fn wait(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        turn(Arc::clone(&self.units), Self::units(bytes)).await
    }

    /// Room for `bytes`, where there is some at this moment.
    pub(crate) fn now(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.units);
        room.try_acquire_many_owned(Self::units(bytes)).ok()
    }

    /// A body of at most `most` bytes, held as long as the permit beside it, which stands
    /// for `times` its length.
    async fn whole(
        &self,
        length: Option<usize>,
        body: Body,
        most: usize,
        times: usize,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
        let too_large = |has: String| {
            Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("it has {has} bytes, and may have {most}"),
            )
        };
        let body = moving_within(body.into_data_stream(), self.stall);
        let mut coming = std::pin::pin!(body);
        let expected = length.unwrap_or(most);
        if expected > most {
            if expected <= LET_BY {
                let_by(coming).await;
            }
            return Err(too_large(expected.to_string()));
        }
        let room = self.wait(expected.saturating_mul(times)).await?;
        let mut all = Vec::with_capacity(length.unwrap_or(0));
        while let Some(bytes) = coming.try_next().await.map_err(Refusal::from)? {
            if all.len() + bytes.len() > expected {
                drop((all, room));
                let_by(coming).await;
                return Err(too_large("more".to_owned()));
            }
            all.extend_from_slice(&bytes);
        }
        Ok((all.into(), room))
    }

    /// The whole body of a request with these headers.
    pub(crate) async fn take(
        &self,
        headers: &HeaderMap,
        body: Body,
        most: usize,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
        self.whole(length(headers), body, most, 1).await
    }

    /// What a body of JSON says, within the bound for as long as the permit beside it is
    /// at hand.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        body: Body,
        most: usize,
    ) -> Result<(T, OwnedSemaphorePermit), Refusal> {
        let (bytes, room) = self.whole(length(headers), body, most, JSON).await?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok((value, room)),
            Err(error) => {
                let status = match error.is_data() {
                    true => StatusCode::UNPROCESSABLE_ENTITY,
                    false => StatusCode::BAD_REQUEST,
                };
                let why = format!("the body cannot be read: {error}");
                Err(Refusal::new(status, why))
            }
        }
    }
}

/// What a request says of its body's length.
pub(crate) fn length(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Self {
        let status = match broken {
            Broken::Stalled => StatusCode::REQUEST_TIMEOUT,
            Broken::Line(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, broken.to_string())
    }
}

/// A body of JSON of at most `MOST` bytes, within the bound for as long as it is at hand.
pub(crate) struct Taken<T, const MOST: usize = LARGEST_BODY> {
    pub(crate) value: T,
    _room: OwnedSemaphorePermit,
}

impl<S, T, const MOST: usize> FromRequest<S> for Taken<T, MOST>
where
    S: Send + Sync,
    T: DeserializeOwned,
    Served: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let room = Served::from_ref(state).room().clone();
        let (parts, body) = request.into_parts();
        let (value, room) = room.json(&parts.headers, body, MOST).await?;
        Ok(Self { value, _room: room })
    }
}

#[cfg(test)]
mod tests {
    use super::{Broken, LEAST, Room, moving_within};
    use axum::body::Body;
    use bytes::Bytes;
    use futures::{StreamExt, TryStreamExt};
    use http::StatusCode;
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// A body whose pieces come with pauses before them, and that stays open.
    fn slow(pieces: Vec<(Duration, usize)>, open: bool) -> Body {
        let pieces = futures::stream::iter(pieces).then(|(pause, size)| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(Bytes::from(vec![0; size]))
        });
        match open {
            true => Body::from_stream(pieces.chain(futures::stream::pending())),
            false => Body::from_stream(pieces),
        }
    }

    const STALL: Duration = Duration::from_millis(500);

    async fn read(body: Body) -> Result<usize, Broken> {
        let sizes = moving_within(body.into_data_stream(), STALL).map_ok(|bytes| bytes.len());
        sizes.try_fold(0, async |all, size| Ok(all + size)).await
    }

    #[tokio::test]
    async fn a_body_may_take_its_time_and_must_move() {
        let pause = STALL / 4;
        let moves = slow(vec![(pause, LEAST); 10], false);
        assert_eq!(read(moves).await.unwrap(), 10 * LEAST);
        for stalls in [
            slow(Vec::new(), true),
            slow(vec![(pause, 10 * LEAST)], true),
            // By the byte.
            slow(vec![(STALL / 20, 1); 100], false),
        ] {
            assert!(matches!(read(stalls).await, Err(Broken::Stalled)));
        }
        // A reader that is busy elsewhere is no stall of the caller's.
        let body = slow(vec![(Duration::ZERO, 1); 3], false).into_data_stream();
        let mut body = Box::pin(moving_within(body, STALL));
        while let Some(bytes) = body.next().await {
            assert_eq!(bytes.unwrap().len(), 1);
            tokio::time::sleep(STALL * 2).await;
        }
    }

    #[tokio::test]
    async fn room_is_held_for_what_may_come_and_given_back_when_it_stalls() {
        let room = Room::with(STALL);
        let all = super::HELD;
        let stalls = slow(vec![(Duration::ZERO, 10)], true);
        let waiting = room.whole(Some(all / 2), stalls, all, 2);
        let looking = async {
            tokio::time::sleep(STALL / 4).await;
            let held = room.now(1).is_none();
            tokio::time::sleep(STALL).await;
            (held, room.now(all).is_some())
        };
        let (refused, (held, free)) = tokio::join!(waiting, looking);
        assert_eq!(refused.unwrap_err().status(), StatusCode::REQUEST_TIMEOUT);
        assert!(held && free, "held {held}, free {free}");
        // Whoever sends too much is let send it, or it would not hear why not.
        for length in [None, Some(3000)] {
            let sent = Arc::<AtomicUsize>::default();
            let counts = Arc::clone(&sent);
            let pieces = futures::stream::iter(0..3).map(move |_| {
                counts.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Bytes::from(vec![0; 1000]))
            });
            let much = room.whole(length, Body::from_stream(pieces), 10, 1);
            let refused = much.await.unwrap_err();
            assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(sent.load(Ordering::Relaxed), 3);
        }
    }
}
