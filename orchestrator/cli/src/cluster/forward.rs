//! A port of this machine that leads to a port of the controller's Pod, through the API
//! server, as `kubectl port-forward` does. It lives as long as this process.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// At most so many connections at once; HTTP/2 needs one or two.
const CONNECTIONS: usize = 64;

/// Begins to forward, and gives the address.
///
/// # Errors
/// Where no port can be had.
pub async fn begin(pods: Api<Pod>, pod: String, port: u16) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "it serves until this process ends, and holds nothing that must be given back"
    )]
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= CONNECTIONS {
                connections.join_next().await;
            }
            while connections.try_join_next().is_some() {}
            if let Ok((stream, _)) = listener.accept().await {
                connections.spawn(carry(pods.clone(), pod.clone(), port, stream));
            }
        }
    });
    Ok(address)
}

async fn carry(pods: Api<Pod>, pod: String, port: u16, mut here: TcpStream) {
    let forwarded = async {
        let mut forward = pods.portforward(&pod, &[port]).await?;
        if let Some(mut there) = forward.take_stream(port) {
            // One side has closed: whoever asks again gets a new connection.
            let _ = copy_bidirectional(&mut here, &mut there).await;
        }
        forward.abort();
        Ok::<_, kube::Error>(())
    };
    if let Err(error) = forwarded.await {
        tracing::debug!(%pod, port, %error, "forwarding to the controller");
    }
}
