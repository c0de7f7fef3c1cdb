//! The launchers of an executor and the nursery that they are born from. Where there can
//! be no nursery, each launcher is started by itself.

use super::launch::LauncherCommand;
use auria_launcher::nursery::{self, NURSERY};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair};
use nix::sys::time::TimeVal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A nursery that does not answer for so long is not asked again, in seconds.
const PATIENCE: i64 = 10;

/// The nursery of an executor.
#[derive(Debug, Default)]
pub(super) struct Nursery(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Nobody has asked.
    #[default]
    Unopened,
    Open {
        socket: OwnedFd,
        process: Child,
    },
    /// It cannot be had.
    Closed,
}

impl Nursery {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is one; starts it where nobody has asked before. Blocks.
    pub(super) fn is_open(&self, command: &LauncherCommand, this: &Path) -> bool {
        let mut state = self.state();
        if matches!(*state, State::Unopened) {
            *state = open(command, this).unwrap_or_else(|error| {
                tracing::warn!("launchers are started one by one: {error}");
                State::Closed
            });
        }
        matches!(*state, State::Open { .. })
    }

    /// The launcher of `folder`, whose log, lock, share and socket are `held`; none where
    /// the nursery cannot have it. Blocks. Needs a tokio runtime.
    pub(super) fn ask(&self, folder: &Path, held: [BorrowedFd<'_>; 4]) -> Option<Launcher> {
        let mut state = self.state();
        let State::Open { socket, .. } = &*state else {
            return None;
        };
        let born = nursery::ask(socket, folder, held).and_then(Born::new);
        match born {
            Ok(born) => Some(Launcher::Born(born)),
            Err(error) => {
                tracing::warn!("launchers are started one by one from now on: {error}");
                close(&mut state);
                None
            }
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        close(self.0.get_mut().unwrap_or_else(PoisonError::into_inner));
    }
}

fn close(state: &mut State) {
    if let State::Open {
        socket,
        mut process,
    } = std::mem::replace(state, State::Closed)
    {
        drop(socket);
        // It ends with the socket; one that hangs must not hold us.
        let _ = process.kill();
        let _ = process.wait();
    }
}

#[expect(
    unsafe_code,
    reason = "a session of its own is set between fork and exec"
)]
fn open(command: &LauncherCommand, this: &Path) -> io::Result<State> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    setsockopt(&ours, ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
    let mut nursery = Command::new(command.file(this));
    nursery
        .arg0(&command.program)
        .args(&command.arguments)
        .arg(NURSERY)
        .current_dir("/")
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: a system call that is safe after fork, and no allocation.
    unsafe {
        nursery.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?));
    }
    let process = nursery.spawn()?;
    let id = i32::try_from(process.id()).map_err(io::Error::other)?;
    let state = State::Open {
        socket: ours,
        process,
    };
    // Without these, nobody would know when a launcher has ended.
    pidfd(id).map(|_| state)
}

#[expect(unsafe_code, reason = "no crate here has this system call")]
fn pidfd(process: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes a number and flags, and makes a descriptor that nobody else owns.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, process, libc::PIDFD_NONBLOCK) };
    let number = i32::try_from(Errno::result(number)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A launcher that this process started.
#[derive(Debug)]
pub(super) enum Launcher {
    /// By itself.
    Child(tokio::process::Child),
    /// Through the nursery.
    Born(Born),
}

/// A child of this process that a nursery has borne.
#[derive(Debug)]
pub(super) struct Born {
    process: i32,
    /// Readable once it has ended.
    ended: AsyncFd<OwnedFd>,
    status: Option<ExitStatus>,
}

impl Launcher {
    /// Its process, while it has not been waited for.
    pub(super) fn id(&self) -> Option<i32> {
        match self {
            Self::Child(child) => child.id().and_then(|id| i32::try_from(id).ok()),
            Self::Born(born) => born.status.is_none().then_some(born.process),
        }
    }

    /// Waits until it has ended; again: the same status.
    pub(super) async fn wait(&mut self) -> Option<ExitStatus> {
        match self {
            Self::Child(child) => child.wait().await.ok(),
            Self::Born(born) => born.wait().await.ok(),
        }
    }
}

impl Born {
    #[expect(
        unsafe_code,
        reason = "tokio leaves it to the caller that a descriptor stays open"
    )]
    pub(super) fn new(process: i32) -> io::Result<Self> {
        let pidfd = pidfd(process)?;
        // SAFETY: it is owned, always the same one, and closed only when it is dropped.
        let ended = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        Ok(Self {
            process,
            ended,
            status: None,
        })
    }

    /// Whether it has ended by now.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.reap(), Ok(None))
    }

    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.reap()? {
                return Ok(status);
            }
            self.ended.readable().await?.clear_ready();
        }
    }

    fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = match waitpid(Pid::from_raw(self.process), Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, code) => Some(ExitStatus::from_raw(code << 8)),
                WaitStatus::Signaled(_, signal, core) => {
                    Some(ExitStatus::from_raw(signal as i32 | (i32::from(core) << 7)))
                }
                _ => None,
            };
        }
        Ok(self.status)
    }
}

impl Drop for Born {
    fn drop(&mut self) {
        // What has ended leaves no zombie; what goes on is init's after this process.
        let _ = self.reap();
    }
}
