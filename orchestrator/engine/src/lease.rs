//! Who drives a run on this machine: a lock that the kernel frees at death, and
//! a socket by which others wake the driver, ask it to step down, or follow the run. It
//! only keeps drivers from disturbing each other; correctness never rests on it (epochs in the
//! run's log do that).

use crate::feed::Feed;
use auria_core::RunId;
use auria_core::run::RunChange;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// At most so many follow one run from this machine; another waits for its turn.
const FOLLOWERS: usize = 64;
/// How long a lock is waited for whose holder is no more.
const OF_THE_DEAD: Duration = Duration::from_secs(5);
/// How long followers are given to read the last changes.
const LAST_CHANGES: Duration = Duration::from_secs(2);
/// What somebody writes who wants the driver to look at the log.
const WAKE: u8 = b'w';
/// What somebody writes who wants to follow the run.
const FOLLOW: u8 = b'f';

/// The lease could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another process holds it.
    #[error("run {run} is driven by {holder}")]
    Held {
        /// The run.
        run: RunId,
        /// Process id and host, as the holder wrote them.
        holder: String,
    },
    /// The lock file could not be made or read.
    #[error("taking the lease of run {run} at {path}: {source}")]
    Io {
        /// The run.
        run: RunId,
        /// The lock file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// What others may ask of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knock {
    /// Something stands in the log: look.
    Wake,
}

/// The right to drive one run from this machine. Dropping it gives it back.
#[derive(Debug)]
pub struct Lease {
    lock: File,
    socket: PathBuf,
    listener: UnixListener,
    feed: Option<Feed>,
    followers: Mutex<JoinSet<()>>,
    woken: Arc<Notify>,
}

fn paths(folder: &Path, store: &str, run: &RunId) -> (PathBuf, PathBuf) {
    let name = blake3::hash(format!("{store}\n{run}").as_bytes()).to_hex();
    let stem = format!("driver-{}", &name[..20]);
    (
        folder.join(format!("{stem}.lock")),
        folder.join(format!("{stem}.sock")),
    )
}

fn read_holder(file: &mut File) -> String {
    let mut holder = String::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(200).read_to_string(&mut holder));
    match read {
        Ok(_) if !holder.trim().is_empty() => holder.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}

/// Whether the process that `holder` names is no more. What it was just starting when it
/// was killed holds its lock until it has become another program.
fn is_gone(holder: &str) -> bool {
    let process = holder
        .strip_prefix("process ")
        .and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
}

impl Lease {
    /// Takes the lease of `run` in `store`; `folder` is the machine's runtime folder.
    ///
    /// # Errors
    /// [`LeaseError::Held`] where a living process holds it.
    pub fn take(folder: &Path, store: &str, run: &RunId) -> Result<Self, LeaseError> {
        let (path, socket) = paths(folder, store, run);
        let fail = |source| LeaseError::Io {
            run: run.clone(),
            path: path.clone(),
            source,
        };
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let holder = read_holder(&mut lock);
                    if is_gone(&holder) && begun.elapsed() < OF_THE_DEAD {
                        std::thread::sleep(Duration::from_millis(10));
                        continue;
                    }
                    return Err(LeaseError::Held {
                        run: run.clone(),
                        holder,
                    });
                }
                Err(TryLockError::Error(source)) => return Err(fail(source)),
            }
        }
        let host = nix::unistd::gethostname().map_or_else(
            |_| "this host".into(),
            |name| name.to_string_lossy().into_owned(),
        );
        lock.set_len(0)
            .and_then(|()| write!(lock, "process {} on {host}", std::process::id()))
            .map_err(fail)?;
        // Only the holder of the lock touches the socket, so a file there is a dead driver's.
        match std::fs::remove_file(&socket) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(fail(source)),
            _ => {}
        }
        let listener = UnixListener::bind(&socket).map_err(fail)?;
        Ok(Self {
            lock,
            socket,
            listener,
            feed: None,
            followers: Mutex::new(JoinSet::new()),
            woken: Arc::new(Notify::new()),
        })
    }

    /// Who drives `run`, where a living process does.
    #[must_use]
    pub fn holder(folder: &Path, store: &str, run: &RunId) -> Option<String> {
        let (path, _) = paths(folder, store, run);
        let mut lock = OpenOptions::new().read(true).write(true).open(path).ok()?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => Some(read_holder(&mut lock)),
            _ => None,
        }
    }

    /// Lets others follow the run: they read what `feed` tells.
    #[must_use]
    pub fn telling(mut self, feed: Feed) -> Self {
        self.feed = Some(feed);
        self
    }

    /// Waits until somebody knocks; serves those who follow meanwhile. Nothing is lost
    /// where it is dropped and called again.
    pub async fn knocked(&self) -> Knock {
        loop {
            tokio::select! {
                biased;
                () = self.woken.notified() => return Knock::Wake,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.serve(stream),
                    // Out of descriptors: the next look at the log is the driver's own.
                    Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                },
            }
        }
    }

    fn serve(&self, mut stream: UnixStream) {
        let followers = self.followers.lock();
        let mut followers = followers.unwrap_or_else(PoisonError::into_inner);
        while followers.try_join_next().is_some() {}
        if followers.len() >= FOLLOWERS {
            return;
        }
        let (feed, woken) = (self.feed.clone(), self.woken.clone());
        followers.spawn(async move {
            let mut byte = [0_u8; 1];
            let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut byte));
            match (read.await, byte, feed) {
                (Ok(Ok(1)), [WAKE], _) => woken.notify_one(),
                (Ok(Ok(1)), [FOLLOW], Some(feed)) => tell(feed, stream).await,
                _ => {}
            }
        });
    }

    /// Waits a moment until those who follow have read the run's end.
    pub async fn told(&self) {
        let mut followers = {
            let followers = self.followers.lock();
            std::mem::take(&mut *followers.unwrap_or_else(PoisonError::into_inner))
        };
        let all = async { while followers.join_next().await.is_some() {} };
        // Who does not read is not waited for.
        let _ = tokio::time::timeout(LAST_CHANGES, all).await;
    }

    /// Follows `run`, where a process of this machine drives it.
    pub async fn follow(folder: &Path, store: &str, run: &RunId) -> Option<Following> {
        let (_, socket) = paths(folder, store, run);
        let mut stream = UnixStream::connect(socket).await.ok()?;
        stream.write_all(&[FOLLOW]).await.ok()?;
        Some(Following(BufReader::new(stream).lines()))
    }

    /// Wakes the driver of `run`, where one lives on this machine.
    pub async fn knock(folder: &Path, store: &str, run: &RunId) -> bool {
        let (_, socket) = paths(folder, store, run);
        match UnixStream::connect(socket).await {
            Ok(mut stream) => stream.write_all(&[WAKE]).await.is_ok(),
            Err(_) => false,
        }
    }
}

/// Writes what `feed` tells, a line of JSON each, until the run or the reader is gone.
async fn tell(feed: Feed, mut stream: UnixStream) {
    let mut changes = std::pin::pin!(feed.follow());
    while let Some(change) = changes.next().await {
        let Ok(mut line) = serde_json::to_vec(&change) else {
            continue;
        };
        line.push(b'\n');
        if stream.write_all(&line).await.is_err() {
            return;
        }
    }
}

/// What a driver of this machine tells of its run.
#[derive(Debug)]
pub struct Following(Lines<BufReader<UnixStream>>);

impl Following {
    /// The next change; none where the driver is gone, or is of another version.
    pub async fn next(&mut self) -> Option<RunChange> {
        let line = self.0.next_line().await.ok().flatten()?;
        serde_json::from_str(&line).ok()
    }

    /// All changes from here on, as an API's stream gives them too.
    #[must_use]
    pub fn changes(self) -> BoxStream<'static, RunChange> {
        futures::stream::unfold(self, |mut following| async move {
            let change = following.next().await?;
            Some((change, following))
        })
        .boxed()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
        let _ = self.lock.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::{Knock, Lease, LeaseError};

    #[tokio::test]
    async fn one_holder_who_can_be_woken() {
        let folder = tempfile::tempdir().unwrap();
        let run = "kathi-1".parse().unwrap();
        assert_eq!(Lease::holder(folder.path(), "s", &run), None);
        assert!(!Lease::knock(folder.path(), "s", &run).await);
        let lease = Lease::take(folder.path(), "s", &run).unwrap();
        let held = Lease::take(folder.path(), "s", &run);
        let Err(LeaseError::Held { holder, .. }) = held else {
            panic!("{held:?}")
        };
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        let (knock, woken) = tokio::join!(lease.knocked(), Lease::knock(folder.path(), "s", &run));
        assert_eq!((knock, woken), (Knock::Wake, true));
        drop(lease);
        Lease::take(folder.path(), "s", &run).unwrap();
    }
}
