//! A port, with TLS or without, until it is asked to end: what is under way is answered first.
//! It knows nothing of what is served.

use crate::stall::Watched;
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a caller may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a caller may take to say what it asks for, and how long a connection may wait
/// for the next one: longer than callers keep it for that.
const HEADERS: Duration = Duration::from_secs(30);

/// Connections at once.
const CONNECTIONS: usize = 4096;

/// A port that is served; dropped, it is closed at once.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    serving: JoinSet<io::Result<()>>,
}

impl Listening {
    /// Serves `router` on `listener`, with the certificate of `tls`.
    ///
    /// # Errors
    /// Where the port cannot be used.
    pub fn start(
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        router: Router,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let handle = Handle::new();
        let mut server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls))?
            .map(|acceptor| Watched::new(acceptor.handshake_timeout(HANDSHAKE), CONNECTIONS))
            // One version alone: what finds out which one a caller speaks waits for its
            // first bytes without end.
            .http1_only()
            .handle(handle.clone());
        server
            .http_builder()
            .http1()
            .timer(hyper_util::rt::TokioTimer::new())
            .header_read_timeout(HEADERS);
        let mut serving = JoinSet::new();
        serving.spawn(async move { server.serve(router.into_make_service()).await });
        Ok(Self {
            address,
            handle,
            serving,
        })
    }

    /// Serves `router` on `listener` without TLS, for this machine's own loopback or behind a
    /// proxy that has it; handlers may ask for their caller's address. `most` connections are
    /// there at once.
    ///
    /// # Errors
    /// Where the port cannot be used.
    pub fn plain(listener: TcpListener, router: Router, most: usize) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let handle = Handle::new();
        let mut server = axum_server::from_tcp(listener)?
            .map(|acceptor| Watched::new(acceptor, most.min(CONNECTIONS)))
            .http1_only()
            .handle(handle.clone());
        server
            .http_builder()
            .http1()
            .timer(hyper_util::rt::TokioTimer::new())
            .header_read_timeout(HEADERS);
        let mut serving = JoinSet::new();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        serving.spawn(async move { server.serve(service).await });
        Ok(Self {
            address,
            handle,
            serving,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new caller, and waits for those that are being answered, for so long.
    ///
    /// # Errors
    /// What ended it before.
    pub async fn stop(mut self, grace: Duration) -> io::Result<()> {
        self.handle.graceful_shutdown(Some(grace));
        self.ended().await
    }

    /// Waits until it ends by itself, which it does only where it fails.
    ///
    /// # Errors
    /// What ended it.
    pub async fn ended(&mut self) -> io::Result<()> {
        match self.serving.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => Err(io::Error::other(error)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Listening;
    use axum::Router;
    use axum::routing::get;
    use std::net::TcpListener;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    const ASKS: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// What a connection is answered, at first.
    async fn answered(stream: &mut TcpStream) -> String {
        let mut head = [0; 15];
        // One that is closed unheard is not even written to.
        let _ = stream.write_all(ASKS).await;
        let read = stream.read(&mut head).await.unwrap_or(0);
        String::from_utf8_lossy(&head[..read]).into_owned()
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_until_another_goes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let router = Router::new().route("/", get(async || "here"));
        let listening = Listening::plain(listener, router, 2).unwrap();
        let connect = || TcpStream::connect(listening.address());
        let (mut first, mut second) = (connect().await.unwrap(), connect().await.unwrap());
        assert_eq!(answered(&mut first).await, "HTTP/1.1 200 OK");
        assert_eq!(answered(&mut second).await, "HTTP/1.1 200 OK");
        let mut third = connect().await.unwrap();
        assert_eq!(answered(&mut third).await, "");
        drop(first);
        let begun = tokio::time::Instant::now();
        while answered(&mut connect().await.unwrap()).await.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10), "no room came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
