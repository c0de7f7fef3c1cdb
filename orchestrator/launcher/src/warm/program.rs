//! A warm program's process, for the executor that keeps it: how it is born, when it is
//! ready, how it is lent and ended.

use super::{Kind, LONGEST_LINE, Ready};
use crate::birth::{self, Birth};
use crate::command::shell;
use crate::tree::{MARK, Tree};
use nix::fcntl::OFlag;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;

/// Bytes that are kept of what a program says before it is ready.
const SAID_BEFORE: usize = 4 * 1024;

/// A program that was started and carries out no attempt, or one after the other.
#[derive(Debug)]
pub struct Program {
    process: i32,
    /// Taken by who ends it.
    tree: Option<Tree>,
    input: OwnedFd,
    output: OwnedFd,
    errors: OwnedFd,
}

impl Program {
    /// Starts `kind`'s program in `folder`, marked with `key`. The process ends with the
    /// thread that calls this, and is the caller's to wait for. Blocks for an instant.
    ///
    /// # Errors
    /// Where there is no shell, or the system refuses.
    pub fn start(kind: &Kind, folder: &Path, key: &str) -> io::Result<Self> {
        let mut environment: BTreeMap<OsString, OsString> = kind
            .environment
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        environment.insert(MARK.into(), key.into());
        environment.insert("PWD".into(), folder.into());
        let shell = shell(&environment)
            .ok_or_else(|| io::Error::other("there is neither `bash` nor `sh` in PATH"))?;
        let (their_input, input) = pipe2(OFlag::O_CLOEXEC)?;
        let (output, their_output) = pipe2(OFlag::O_CLOEXEC)?;
        let (errors, their_errors) = pipe2(OFlag::O_CLOEXEC)?;
        let tree = Tree::create(key, kind.memory_bytes);
        // The shell gives its place to the program, which is then the process that is lent.
        let text = format!("exec {}", kind.start);
        let birth = Birth {
            program: &shell,
            arguments: &["-c", &text],
            environment: &environment,
            folder,
            input: Some(their_input.as_fd()),
            output: their_output.as_fd(),
            errors: Some(their_errors.as_fd()),
        };
        match birth::start(&birth, &tree) {
            Ok(process) => Ok(Self {
                process,
                tree: Some(tree),
                input,
                output,
                errors,
            }),
            Err(error) => {
                tree.remove();
                Err(error)
            }
        }
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> i32 {
        self.process
    }

    /// The pipes to its input, from its output and from its errors.
    #[must_use]
    pub fn pipes(&self) -> [BorrowedFd<'_>; 3] {
        [self.input.as_fd(), self.output.as_fd(), self.errors.as_fd()]
    }

    /// Waits until it says that it is ready, for at most `patience`.
    ///
    /// # Errors
    /// What it said instead, with the end of its errors.
    pub async fn ready(&self, patience: Duration) -> Result<(), String> {
        let reader = |pipe: BorrowedFd<'_>| {
            let copy = pipe.try_clone_to_owned()?;
            pipe::Receiver::from_owned_fd(copy)
        };
        let [_, output, errors] = self.pipes();
        let pipes = reader(output).and_then(|output| Ok((output, reader(errors)?)));
        let (output, mut errors) = pipes.map_err(|error| error.to_string())?;
        let mut said = Vec::new();
        let listen = async {
            let mut line = Vec::new();
            // A program says nothing further until it is asked, so that no byte of an
            // answer is taken along.
            let mut output = BufReader::new(output.take(LONGEST_LINE as u64));
            let mut buffer = vec![0; SAID_BEFORE];
            let mut read = std::pin::pin!(output.read_until(b'\n', &mut line));
            let length = loop {
                tokio::select! {
                    length = &mut read => break length,
                    length = errors.read(&mut buffer) => match length {
                        Ok(length) if length > 0 => {
                            said.extend_from_slice(&buffer[..length]);
                            let beyond = said.len().saturating_sub(SAID_BEFORE);
                            said.drain(..beyond);
                        }
                        // Its output ends, too.
                        _ => break read.await,
                    },
                }
            };
            match length {
                Ok(0) => Err("it ended before it was ready".to_owned()),
                Ok(_) => match serde_json::from_slice(&line) {
                    Ok(Ready { ready: true }) => Ok(()),
                    _ => Err(format!(
                        "its first line is not {{\"ready\":true}}: {}",
                        String::from_utf8_lossy(&line[..line.len().min(200)]).trim_end()
                    )),
                },
                Err(error) => Err(error.to_string()),
            }
        };
        let heard = tokio::time::timeout(patience, listen).await;
        heard
            .unwrap_or_else(|_| Err(format!("it was not ready after {} s", patience.as_secs())))
            .map_err(|why| match String::from_utf8_lossy(&said).trim() {
                "" => why,
                said => format!("{why}; it said: {said}"),
            })
    }

    /// How often the kernel has ended a process of it for want of memory.
    #[must_use]
    pub fn memory_kills(&self) -> Option<u64> {
        self.tree().and_then(Tree::memory_kills)
    }

    /// Ends what it has started and left running. Blocks for some milliseconds.
    ///
    /// # Errors
    /// The processes that did not end: then nothing is to be lent any more.
    pub fn end_others(&self) -> Result<(), std::collections::BTreeSet<i32>> {
        match self.tree() {
            Some(tree) => tree.end_all_but(Some(self.process)),
            None => Ok(()),
        }
    }

    /// Ends it and what it has started. Blocks for at most a few seconds.
    pub fn end(mut self) {
        if let Some(tree) = self.tree.take() {
            end(self.process, &tree);
        }
    }

    /// There until the end.
    fn tree(&self) -> Option<&Tree> {
        self.tree.as_ref()
    }
}

impl Drop for Program {
    /// Whoever holds it may be dropped in the middle of a task: nothing of it stays then either,
    /// and the thread that drops it does not wait for that.
    fn drop(&mut self) {
        let Some(tree) = self.tree.take() else {
            return;
        };
        let process = self.process;
        let ending = std::thread::Builder::new().name("warm-end".to_owned());
        if let Err(error) = ending.spawn(move || end(process, &tree)) {
            // Its closed input ends it, too.
            tracing::warn!("no thread ends a warm program: {error}");
        }
    }
}

fn end(process: i32, tree: &Tree) {
    if let Err(left) = tree.end_all_but(None) {
        tracing::warn!("of a warm program processes are left: {left:?}");
        return;
    }
    // As a zombie it would keep its cgroup, and it is no zombie yet where the kernel is still
    // taking it apart. Whoever waits for it finds it gone.
    for _ in 0..200 {
        let waited = waitpid(Pid::from_raw(process), Some(WaitPidFlag::WNOHANG));
        match waited {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(10)),
            _ => break,
        }
    }
    tree.remove();
}
