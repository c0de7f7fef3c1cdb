//! What the command says: standard output and error through one pipe, so that
//! their order is kept, into the log in the store and to those who listen. Where
//! the store is far behind, the command waits; nothing is lost or piled up.

use crate::serve::Hub;
use auria_store::StoreError;
use auria_store::logs::LogWriter;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
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

/// Last lines of a process of a distributed step that are kept for its end, and characters
/// of each.
const LAST_LINES: usize = 10;
const LAST_LINE_LENGTH: usize = 500;

/// The last lines of the processes of a distributed step, by rank.
pub(crate) type LastLines = Arc<Mutex<BTreeMap<u32, VecDeque<String>>>>;

/// The task that carries the command's output; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Pump {
    task: JoinSet<Option<LogWriter>>,
    patience: Duration,
    last_lines: LastLines,
}

impl Pump {
    pub(crate) fn start(
        read: pipe::Receiver,
        log: LogWriter,
        hub: Hub,
        patience: Duration,
    ) -> Self {
        let mut task = JoinSet::new();
        task.spawn(async move { Some(carry(read, log, hub).await) });
        Self {
            task,
            patience,
            last_lines: LastLines::default(),
        }
    }

    /// Carries the output of several processes into one log, in which each line says whose
    /// it is.
    pub(crate) fn start_group(
        reads: Vec<(u32, pipe::Receiver)>,
        log: LogWriter,
        hub: Hub,
        patience: Duration,
    ) -> Self {
        let last_lines = LastLines::default();
        let kept = Arc::clone(&last_lines);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let log = Arc::new(log);
            let mut each = JoinSet::new();
            for (rank, read) in reads {
                let (log, hub, kept) = (Arc::clone(&log), hub.clone(), Arc::clone(&kept));
                each.spawn(carry_rank(rank, read, log, hub, kept));
            }
            while each.join_next().await.is_some() {}
            Arc::into_inner(log)
        });
        Self {
            task,
            patience,
            last_lines,
        }
    }

    /// The last lines of each process, where there are several.
    pub(crate) fn last_lines(&self) -> LastLines {
        Arc::clone(&self.last_lines)
    }

    /// Waits for the end of the output and until the store holds it.
    pub(crate) async fn finish(mut self) -> Result<(), StoreError> {
        let ended = tokio::time::timeout(DRAIN + self.patience, self.task.join_next()).await;
        match ended {
            Ok(Some(Ok(Some(log)))) => flush(log, self.patience).await,
            Ok(Some(Err(error))) => Err(lost(io::Error::other(error))),
            Ok(Some(Ok(None)) | None) | Err(_) => {
                Err(lost(io::Error::from(io::ErrorKind::TimedOut)))
            }
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

async fn carry_rank(
    rank: u32,
    mut read: pipe::Receiver,
    log: Arc<LogWriter>,
    hub: Hub,
    kept: LastLines,
) {
    let prefix = format!("[rank {rank}] ");
    let mut buffer = vec![0; CHUNK];
    let mut begun: Vec<u8> = Vec::new();
    loop {
        let length = match read.read(&mut buffer).await {
            Ok(length) => length,
            Err(error) => {
                tracing::warn!("the output of rank {rank} cannot be read: {error}");
                0
            }
        };
        begun.extend_from_slice(&buffer[..length]);
        let whole = match begun.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            None if length == 0 || begun.len() > LONGEST_LINE => begun.len(),
            None => 0,
        };
        let lines: Vec<u8> = begun.drain(..whole).collect();
        let lines = lines.strip_suffix(b"\n").unwrap_or(&lines);
        if whole > 0 {
            // Whole lines at once, so that those of two processes never mingle.
            let mut bytes = Vec::with_capacity(lines.len() + prefix.len());
            let mut shown = Vec::new();
            for line in lines.split(|byte| *byte == b'\n') {
                bytes.extend_from_slice(prefix.as_bytes());
                bytes.extend_from_slice(line);
                bytes.push(b'\n');
                shown.push(Lines::shown(line));
            }
            keep(&kept, rank, &shown);
            hub.log(shown.iter().map(|line| format!("{prefix}{line}")).collect());
            log.append(&bytes).await;
        }
        if length == 0 && begun.is_empty() {
            return;
        }
    }
}

fn keep(kept: &LastLines, rank: u32, lines: &[String]) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let own = kept.entry(rank).or_default();
    for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
        if own.len() == LAST_LINES {
            own.pop_front();
        }
        own.push_back(line.chars().take(LAST_LINE_LENGTH).collect());
    }
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
