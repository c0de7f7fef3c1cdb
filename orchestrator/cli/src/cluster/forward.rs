//! A port of this machine that leads to a port of the controller's Pod, through the API
//! server, as `kubectl port-forward` does. Each connection goes to the Pod that leads at
//! that moment, so that whoever uses the port outlives any controller. It ends with its
//! guard.

use super::leader::Leader;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// At most so many connections at once; a transfer needs a few.
const CONNECTIONS: usize = 64;
/// Before the next connection is taken where none could be: descriptors come back.
const AGAIN: Duration = Duration::from_millis(200);

/// Why the last connection came to nothing.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What the cluster answered, where it did.
    pub status: Option<u16>,
    /// For people.
    pub text: String,
}

impl Trouble {
    /// Something that is not there yet.
    pub fn passing(text: impl Into<String>) -> Self {
        Self {
            status: None,
            text: text.into(),
        }
    }

    /// Waiting does not mend it.
    pub fn is_refusal(&self) -> bool {
        matches!(self.status, Some(401 | 403))
    }
}

/// The port; it is closed when this is dropped.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    resets: watch::Sender<u64>,
    trouble: Arc<Mutex<Option<Trouble>>>,
    _task: JoinSet<()>,
}

impl Forward {
    /// Opens a port that leads to `port` of who leads.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn open(leader: Leader, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (resets, asked) = watch::channel(0);
        let trouble = Arc::<Mutex<Option<Trouble>>>::default();
        let mut task = JoinSet::new();
        task.spawn(serve(listener, leader, port, asked, trouble.clone()));
        Ok(Self {
            address,
            resets,
            trouble,
            _task: task,
        })
    }

    /// Where the port is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Why the last connection came to nothing, where it did.
    pub fn trouble(&self) -> Option<Trouble> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cuts all connections: those that follow go to who leads by then.
    pub fn reset(&self) {
        self.resets.send_modify(|times| *times += 1);
    }
}

async fn serve(
    listener: TcpListener,
    leader: Leader,
    port: u16,
    mut resets: watch::Receiver<u64>,
    trouble: Arc<Mutex<Option<Trouble>>>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let (leader, trouble) = (leader.clone(), trouble.clone());
                    connections.spawn(async move {
                        let failed = carry(&leader, port, stream).await.err();
                        if let Some(failed) = &failed {
                            tracing::debug!(port, "forwarding to the controller: {}", failed.text);
                        }
                        *trouble.lock().unwrap_or_else(PoisonError::into_inner) = failed;
                    });
                }
                Err(error) => {
                    tracing::debug!("taking a connection: {error}");
                    tokio::time::sleep(AGAIN).await;
                }
            },
            Some(_) = connections.join_next() => {}
            asked = resets.changed() => match asked {
                Ok(()) => connections.abort_all(),
                Err(_) => return,
            },
        }
    }
}

async fn carry(leader: &Leader, port: u16, mut here: TcpStream) -> Result<(), Trouble> {
    let Some(pod) = leader.holder().await? else {
        return Err(Trouble::passing("none leads at this moment"));
    };
    let mut forward = leader.forward(&pod, port).await?;
    let said = forward.0.take_error(port);
    if let Some(mut there) = forward.0.take_stream(port) {
        // One side has closed: whoever asks again gets a new connection.
        let _ = copy_bidirectional(&mut here, &mut there).await;
    }
    // What the node says of a port that nobody listens at is there by now, or never.
    let said = match said {
        Some(said) => tokio::time::timeout(Duration::ZERO, said)
            .await
            .ok()
            .flatten(),
        None => None,
    };
    match said {
        Some(text) => Err(Trouble::passing(format!("{pod}: {text}"))),
        None => Ok(()),
    }
}
