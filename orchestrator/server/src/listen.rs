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
            .map(|acceptor| Watched(acceptor.handshake_timeout(HANDSHAKE)))
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
    /// proxy that has it; handlers may ask for their caller's address.
    ///
    /// # Errors
    /// Where the port cannot be used.
    pub fn plain(listener: TcpListener, router: Router) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let handle = Handle::new();
        let mut server = axum_server::from_tcp(listener)?
            .map(Watched)
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
