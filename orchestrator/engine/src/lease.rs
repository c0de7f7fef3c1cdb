//! Who drives a run on this machine: a lock that the kernel frees at death, and
//! a socket by which others wake the driver or ask it to step down. It only keeps
//! drivers from disturbing each other; correctness never rests on it (epochs in the
//! run's log do that).

use auria_core::RunId;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

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
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LeaseError::Held {
                    run: run.clone(),
                    holder: read_holder(&mut lock),
                });
            }
            Err(TryLockError::Error(source)) => return Err(fail(source)),
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

    /// Waits until somebody knocks.
    pub async fn knocked(&self) -> Knock {
        loop {
            if let Ok((mut stream, _)) = self.listener.accept().await {
                let mut byte = [0_u8; 1];
                let read =
                    tokio::time::timeout(std::time::Duration::from_secs(1), stream.read(&mut byte));
                if matches!(read.await, Ok(Ok(1))) {
                    return Knock::Wake;
                }
            } else {
                // Out of descriptors: the next look at the log is the driver's own.
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }

    /// Wakes the driver of `run`, where one lives on this machine.
    pub async fn knock(folder: &Path, store: &str, run: &RunId) -> bool {
        let (_, socket) = paths(folder, store, run);
        match UnixStream::connect(socket).await {
            Ok(mut stream) => stream.write_all(b"w").await.is_ok(),
            Err(_) => false,
        }
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
