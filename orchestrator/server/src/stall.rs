//! A connection that is given up where its other side takes nothing any more: what waits to
//! be sent holds memory and a turn. What comes is bounded elsewhere: headers by the server
//! of HTTP, bodies where they are read. And so many at once: each holds a file of the process,
//! and one without files cannot even write what it has accepted. It knows nothing of what goes
//! over it.

use crate::body::{LEAST, STALL};
use axum_server::accept::Accept;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Accepts what another does, while there is room, and watches it.
#[derive(Clone)]
pub(crate) struct Watched<A> {
    inner: A,
    room: Arc<Semaphore>,
}

impl<A> Watched<A> {
    /// `most` connections at once: one more is closed unheard.
    pub(crate) fn new(inner: A, most: usize) -> Self {
        let room = Arc::new(Semaphore::new(most));
        Self { inner, room }
    }
}

impl<A, I, S> Accept<I, S> for Watched<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
{
    type Stream = Moving<A::Stream>;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let Ok(place) = self.room.clone().try_acquire_owned() else {
            return async { Err(io::Error::other("too many connections")) }.boxed();
        };
        let accepted = self.inner.accept(stream, service);
        async move {
            let (stream, service) = accepted.await?;
            let moving = Moving {
                _place: Some(place),
                ..Moving::new(stream, STALL)
            };
            Ok((moving, service))
        }
        .boxed()
    }
}

/// A connection that must move while something waits to be sent.
pub(crate) struct Moving<I> {
    io: I,
    stall: Duration,
    /// Until when [`LEAST`] must go, while something waits.
    until: Option<Pin<Box<Sleep>>>,
    went: usize,
    /// Among all connections.
    _place: Option<OwnedSemaphorePermit>,
}

impl<I> Moving<I> {
    fn new(io: I, stall: Duration) -> Self {
        Self {
            io,
            stall,
            until: None,
            went: 0,
            _place: None,
        }
    }

    /// Something waits: an error where it has waited too long.
    fn waits<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let stall = self.stall;
        let until = self.until.get_or_insert_with(|| {
            self.went = 0;
            Box::pin(tokio::time::sleep(stall))
        });
        match until.as_mut().poll(context) {
            Poll::Ready(()) => {
                let message = format!("nothing was taken for {stall:?}");
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Pending => self.waits(context),
            Poll::Ready(Ok(bytes)) => {
                self.went = self.went.saturating_add(bytes);
                if self.went >= LEAST
                    && let Some(until) = &mut self.until
                {
                    self.went = 0;
                    until.as_mut().reset(Instant::now() + self.stall);
                }
                Poll::Ready(Ok(bytes))
            }
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }

    fn sent(
        &mut self,
        context: &mut Context<'_>,
        sent: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if sent.is_pending() {
            return self.waits(context);
        }
        // Nothing waits any more.
        self.until = None;
        sent
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Moving<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Moving<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(context, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.wrote(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.io).poll_flush(context);
        self.sent(context, sent)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.io).poll_shutdown(context);
        self.sent(context, sent)
    }
}

#[cfg(test)]
mod tests {
    use super::{LEAST, Moving};
    use std::io::ErrorKind;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const STALL: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn what_nobody_takes_is_given_up() {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let mut near = Moving::new(near, STALL);
        let begun = tokio::time::Instant::now();
        let error = near.write_all(&vec![0; LEAST]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= STALL);
        drop(far);
    }

    #[tokio::test]
    async fn what_is_taken_slowly_goes_on_and_by_the_byte_does_not() {
        for (pause, size, goes) in [(STALL / 100, 16 * 1024, true), (STALL / 4, 1, false)] {
            let (near, mut far) = tokio::io::duplex(16 * 1024);
            let mut near = Moving::new(near, STALL);
            let taking = async {
                let mut taken = vec![0; size];
                while far.read_exact(&mut taken).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
            };
            let giving = async {
                for _ in 0..3 {
                    near.write_all(&vec![0; LEAST]).await?;
                    near.flush().await?;
                    // What is idle is not stalled.
                    tokio::time::sleep(STALL * 2).await;
                }
                Ok::<_, std::io::Error>(())
            };
            let gave = tokio::select! {
                gave = giving => gave,
                () = taking => panic!("the other side was let go"),
            };
            assert_eq!(gave.is_ok(), goes);
        }
    }
}
