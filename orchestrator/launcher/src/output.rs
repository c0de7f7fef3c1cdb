//! What the command says: standard output and error through one pipe, so that
//! their order is kept, into the log in the store and to those who listen. Where
//! the store is far behind, the command waits; nothing is lost or piled up.

use crate::serve::Hub;
use auria_store::StoreError;
use auria_store::logs::LogWriter;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinSet;

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// A longer line is told to listeners in pieces; the log in the store is exact.
const LONGEST_LINE: usize = 16 * 1024;
/// How long the pipe may stay open once the last process has ended.
const DRAIN: Duration = Duration::from_secs(5);

/// A pipe: for us, for the command.
pub(crate) fn pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    Ok((pipe::Receiver::from_owned_fd(read)?, write))
}

/// A pipe with a name, for a command in a container, which sees it at its path: what
/// reads from it, and what keeps it open until the container has ended.
pub(crate) fn named_pipe(path: &Path) -> io::Result<(pipe::Receiver, OwnedFd)> {
    nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let read = pipe::OpenOptions::new().open_receiver(path)?;
    let write = std::fs::File::options().write(true).open(path)?;
    Ok((read, write.into()))
}

/// The task that carries the command's output; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Pump {
    task: JoinSet<LogWriter>,
    patience: Duration,
}

impl Pump {
    pub(crate) fn start(
        read: pipe::Receiver,
        log: LogWriter,
        hub: Hub,
        patience: Duration,
    ) -> Self {
        let mut task = JoinSet::new();
        task.spawn(carry(read, log, hub));
        Self { task, patience }
    }

    /// Waits for the end of the output and until the store holds it.
    pub(crate) async fn finish(mut self) -> Result<(), StoreError> {
        let ended = tokio::time::timeout(DRAIN + self.patience, self.task.join_next()).await;
        match ended {
            Ok(Some(Ok(log))) => flush(log, self.patience).await,
            Ok(Some(Err(error))) => Err(lost(io::Error::other(error))),
            Ok(None) | Err(_) => Err(lost(io::Error::from(io::ErrorKind::TimedOut))),
        }
    }
}

/// Writes what is left of `log`, for at most `patience`.
pub(crate) async fn flush(log: LogWriter, patience: Duration) -> Result<(), StoreError> {
    match tokio::time::timeout(patience, log.finish()).await {
        Ok(flushed) => flushed.map(drop),
        Err(_) => Err(lost(io::Error::from(io::ErrorKind::TimedOut))),
    }
}

fn lost(source: io::Error) -> StoreError {
    StoreError::Unreachable {
        doing: "write the log".to_owned(),
        source: Box::new(source),
    }
}

async fn carry(mut read: pipe::Receiver, log: LogWriter, hub: Hub) -> LogWriter {
    let mut buffer = vec![0; CHUNK];
    let mut lines = Lines::default();
    loop {
        match read.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => {
                let complete = lines.add(&buffer[..length]);
                if !complete.is_empty() {
                    hub.log(complete);
                }
                log.append(&buffer[..length]).await;
            }
            Err(error) => {
                tracing::warn!("the command's output cannot be read: {error}");
                break;
            }
        }
    }
    let rest = lines.rest();
    if !rest.is_empty() {
        hub.log(rest);
    }
    log
}

/// Bytes put together to lines.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        // What follows the last line end is the begin of the next line.
        let rest = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.begun.extend_from_slice(piece);
            lines.push(Self::shown(&std::mem::take(&mut self.begun)));
        }
        self.begun.extend_from_slice(rest);
        if self.begun.len() > LONGEST_LINE {
            lines.push(Self::shown(&std::mem::take(&mut self.begun)));
        }
        lines
    }

    fn rest(&mut self) -> Vec<String> {
        let begun = std::mem::take(&mut self.begun);
        if begun.is_empty() {
            Vec::new()
        } else {
            vec![Self::shown(&begun)]
        }
    }

    /// As a terminal would leave it: a progress bar goes back to the line's begin.
    fn shown(line: &[u8]) -> String {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let last = line
            .rsplit(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        String::from_utf8_lossy(last).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_LINE, Lines};

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let mut lines = Lines::default();
        assert!(lines.add("grö".as_bytes()).is_empty());
        assert_eq!(
            lines.add("ße\n10%\r20%\r\n\nrest".as_bytes()),
            ["größe", "20%", ""]
        );
        assert_eq!(lines.rest(), ["rest"]);
        assert!(lines.rest().is_empty());
        assert_eq!(lines.add(&vec![b'x'; LONGEST_LINE + 1]).len(), 1);
    }
}
