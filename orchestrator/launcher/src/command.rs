//! Runs the command of a step and waits until its last process is gone: a session
//! and process group of its own, SIGTERM, the grace, then SIGKILL for all of them;
//! the time limit. Knows nothing of stores and tickets.

use crate::birth::{self, Birth};
use crate::stop::{Stop, Stopped};
use crate::tree::{Tree, machine_memory_kills};
use auria_core::outcome::Cause;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// What to run.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The text for the shell.
    pub(crate) text: String,
    /// The working folder.
    pub(crate) folder: PathBuf,
    /// The whole environment.
    pub(crate) environment: BTreeMap<OsString, OsString>,
    /// Where standard output and error go.
    pub(crate) output: OwnedFd,
    /// `limits.timeout`.
    pub(crate) timeout: Option<Duration>,
    /// Between SIGTERM and SIGKILL once the time is over.
    pub(crate) grace: Duration,
}

/// How the command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Its exit status; 128 + n for a signal.
    pub(crate) code: i32,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// How long its first process ran.
    pub(crate) ran: Duration,
    /// Why it was made to end.
    pub(crate) ended_by: Option<EndedBy>,
    /// The kernel killed one of its processes for want of memory.
    pub(crate) out_of_memory: bool,
    /// How many processes outlived the first one, and were killed.
    pub(crate) left_behind: usize,
}

/// Why a command was made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// It took longer than its limit.
    Timeout,
    /// It was asked for.
    Stop(Cause),
    /// The engine of its container went away, and the container with it.
    EngineLost,
}

/// Why a command did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// No shell.
    #[error("there is neither `bash` nor `sh` in PATH")]
    NoShell,
    /// The system refused.
    #[error("could not start `{shell}`: {source}")]
    System {
        /// The shell.
        shell: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How long what outlives the command may still take to end by itself.
const LINGER: Duration = Duration::from_millis(200);

/// Runs `prepared` within `tree` until its last process is gone. Only one of these
/// may run in a process: it reaps every child.
pub(crate) async fn run(
    prepared: Prepared,
    tree: &Tree,
    mut stopped: Stopped,
) -> Result<Finished, StartError> {
    let shell = shell(&prepared.environment).ok_or(StartError::NoShell)?;
    let failed = |source: io::Error| StartError::System {
        shell: shell.clone(),
        source,
    };
    let mut children = signal(SignalKind::child()).map_err(failed)?;
    nix::sys::prctl::set_child_subreaper(true).map_err(|errno| failed(errno.into()))?;
    let kills_before = (tree.memory_kills(), machine_memory_kills());
    let began = Instant::now();
    let birth = Birth {
        program: &shell,
        arguments: &["-c", &prepared.text],
        environment: &prepared.environment,
        folder: &prepared.folder,
        output: prepared.output.as_fd(),
    };
    let group = birth::start(&birth, tree).map_err(failed)?;
    drop(prepared.output);

    let mut main: Option<(Result<i32, i32>, Duration)> = None;
    let mut ended_by = None;
    let mut kill_at: Option<Instant> = None;
    let mut seen: Option<Stop> = None;
    // Rounds of SIGKILL; a process that is just being born is caught by the next.
    let mut kills: u32 = 0;
    let mut left_behind = 0;
    let timeout_at = prepared.timeout.map(|timeout| began + timeout);
    loop {
        let reaped = reap(group);
        if let Some(status) = reaped.main {
            main = Some((status, began.elapsed()));
        }
        if let Some((_, ran)) = main {
            // Orphans become children of this process: without any it has no descendants,
            // and the list of all processes, which is long on a busy machine, is not read.
            if reaped.no_children && tree.cgroups_are_empty() {
                break;
            }
            let members = tree.members();
            if members.is_empty() {
                break;
            }
            // What a step leaves behind is ended before anything is published, after
            // an instant in which `> >(tee log)` ends by itself. After SIGTERM all of
            // its processes have the grace time.
            if ended_by.is_none() && began.elapsed() >= ran + LINGER {
                left_behind = left_behind.max(members.len());
                kills += 1;
                tree.kill();
            }
        }
        if kill_at.is_some_and(|at| Instant::now() >= at) {
            kills += 1;
            tree.kill();
        }
        let soon = |millis| Some(Instant::now() + Duration::from_millis(millis));
        let wake = match (kills, main.is_some()) {
            // The end of a grandchild brings no signal to us.
            (0, true) => soon(20).min(kill_at.or(soon(20))),
            (0, false) => kill_at,
            (rounds, _) => soon(u64::from(rounds.min(100)) * 10),
        };
        let running = main.is_none() && ended_by.is_none();
        tokio::select! {
            _ = children.recv() => {}
            () = sleep_until(wake) => {}
            stop = stopped.changed_from(seen) => {
                seen = Some(stop);
                if main.is_none() || ended_by.is_some() {
                    if ended_by.is_none() {
                        ended_by = Some(EndedBy::Stop(stop.cause));
                        tree.signal(group, Signal::SIGTERM);
                    }
                    kill_at = Some(kill_at.map_or(stop.kill_at, |at| at.min(stop.kill_at)));
                }
            }
            () = sleep_until(timeout_at.filter(|_| running)) => {
                ended_by = Some(EndedBy::Timeout);
                kill_at = Some(Instant::now() + prepared.grace);
                tree.signal(group, Signal::SIGTERM);
            }
        }
    }
    let (status, ran) = main.unwrap_or((Err(libc_kill()), began.elapsed()));
    let (code, signal) = match status {
        Ok(code) => (code, None),
        Err(signal) => (128 + signal, Some(signal)),
    };
    let grew = |before: Option<u64>, after: Option<u64>| matches!((before, after), (Some(b), Some(a)) if a > b);
    let own = grew(kills_before.0, tree.memory_kills());
    let machine = grew(kills_before.1, machine_memory_kills());
    let out_of_memory =
        ended_by.is_none() && code != 0 && (own || (code == 137 && left_behind == 0 && machine));
    Ok(Finished {
        code,
        signal,
        ran,
        ended_by,
        out_of_memory,
        left_behind,
    })
}

fn libc_kill() -> i32 {
    Signal::SIGKILL as i32
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await,
        None => std::future::pending().await,
    }
}

/// `bash` where there is one, else `sh`, in the step's own PATH.
fn shell(environment: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
    let path = environment.get(std::ffi::OsStr::new("PATH"))?;
    ["bash", "sh"].iter().find_map(|name| {
        std::env::split_paths(path)
            .map(|folder| folder.join(name))
            .find(|file| is_program(file))
    })
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// What a round of reaping found.
struct Reaped {
    /// The status of the command's first process, where it was among them: its exit
    /// status, or the signal that ended it.
    main: Option<Result<i32, i32>>,
    /// No child is left.
    no_children: bool,
}

/// Reaps every child that ended, `main` among them or not.
fn reap(main: i32) -> Reaped {
    let mut reaped = Reaped {
        main: None,
        no_children: false,
    };
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == main => {
                reaped.main = Some(Ok(code));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == main => {
                reaped.main = Some(Err(signal as i32));
            }
            Ok(WaitStatus::StillAlive) => return reaped,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                reaped.no_children = errno == Errno::ECHILD;
                return reaped;
            }
        }
    }
}
