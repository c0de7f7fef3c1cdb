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
    /// It serves the others and does not end by itself: once they are done, so is it.
    pub(crate) serves: bool,
}

/// How long commands may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// `limits.timeout`.
    pub(crate) timeout: Option<Duration>,
    /// Between SIGTERM and SIGKILL once the time is over.
    pub(crate) grace: Duration,
}

/// How a command ended.
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
    /// How many processes outlived the first ones, and were killed.
    pub(crate) left_behind: usize,
}

/// Why a command was made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// It took longer than its limit.
    Timeout,
    /// It was asked for.
    Stop(Cause),
    /// Another process of the step did not end well.
    Peer,
    /// It served others, and they are done.
    Served,
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

/// The first process of one of the commands.
struct Main {
    group: i32,
    serves: bool,
    status: Option<(Result<i32, i32>, Duration)>,
    ended_by: Option<EndedBy>,
}

impl Main {
    fn failed(&self) -> bool {
        self.ended_by.is_none() && !matches!(self.status, None | Some((Ok(0), _)))
    }
}

/// Runs `commands` within `tree` until the last process is gone: mostly one, of a
/// distributed step several. Where one of them does not end well the others are ended.
/// Only one of these may run in a process: it reaps every child.
pub(crate) async fn run(
    commands: Vec<Prepared>,
    limits: Limits,
    tree: &Tree,
    mut stopped: Stopped,
) -> Result<Vec<Finished>, StartError> {
    let first = commands.first().ok_or(StartError::NoShell)?;
    let shell = shell(&first.environment).ok_or(StartError::NoShell)?;
    let failed = |source: io::Error| StartError::System {
        shell: shell.clone(),
        source,
    };
    let mut children = signal(SignalKind::child()).map_err(failed)?;
    nix::sys::prctl::set_child_subreaper(true).map_err(|errno| failed(errno.into()))?;
    let kills_before = (tree.memory_kills(), machine_memory_kills());
    let began = Instant::now();
    let mut mains: Vec<Main> = Vec::new();
    for command in &commands {
        let birth = Birth {
            program: &shell,
            arguments: &["-c", &command.text],
            environment: &command.environment,
            folder: &command.folder,
            input: None,
            output: command.output.as_fd(),
            errors: None,
        };
        match birth::start(&birth, tree) {
            Ok(group) => mains.push(Main {
                group,
                serves: command.serves,
                status: None,
                ended_by: None,
            }),
            Err(error) => {
                end_started(tree).await;
                return Err(failed(error));
            }
        }
    }
    drop(commands);

    let mut ended_by = None;
    let mut kill_at: Option<Instant> = None;
    let mut seen: Option<Stop> = None;
    // Rounds of SIGKILL; a process that is just being born is caught by the next.
    let mut kills: u32 = 0;
    let mut left_behind = 0;
    let mut all_ran = None;
    let timeout_at = limits.timeout.map(|timeout| began + timeout);
    loop {
        let no_children = reap(&mut mains, began, ended_by);
        let all_done = mains.iter().all(|main| main.status.is_some());
        if all_done {
            let ran = *all_ran.get_or_insert_with(|| began.elapsed());
            // Orphans become children of this process: without any it has no descendants,
            // and the list of all processes, which is long on a busy machine, is not read.
            if no_children && tree.cgroups_are_empty() {
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
        } else if ended_by.is_none() {
            // A group goes on only as a whole.
            ended_by = if mains.iter().any(Main::failed) {
                Some(EndedBy::Peer)
            } else if mains
                .iter()
                .all(|main| main.serves || main.status.is_some())
                && mains.iter().any(|main| !main.serves)
            {
                Some(EndedBy::Served)
            } else {
                None
            };
            if ended_by.is_some() {
                kill_at = Some(Instant::now() + limits.grace);
                terminate(&mains, tree);
            }
        }
        if kill_at.is_some_and(|at| Instant::now() >= at) {
            kills += 1;
            tree.kill();
        }
        let soon = |millis| Some(Instant::now() + Duration::from_millis(millis));
        let wake = match (kills, all_done) {
            // The end of a grandchild brings no signal to us.
            (0, true) => soon(20).min(kill_at.or(soon(20))),
            (0, false) => kill_at,
            (rounds, _) => soon(u64::from(rounds.min(100)) * 10),
        };
        let running = !all_done && ended_by.is_none();
        tokio::select! {
            _ = children.recv() => {}
            () = sleep_until(wake) => {}
            stop = stopped.changed_from(seen) => {
                seen = Some(stop);
                if !all_done || ended_by.is_some() {
                    if ended_by.is_none() {
                        ended_by = Some(stop.reason());
                        terminate(&mains, tree);
                    }
                    kill_at = Some(kill_at.map_or(stop.kill_at, |at| at.min(stop.kill_at)));
                }
            }
            () = sleep_until(timeout_at.filter(|_| running)) => {
                ended_by = Some(EndedBy::Timeout);
                kill_at = Some(Instant::now() + limits.grace);
                terminate(&mains, tree);
            }
        }
    }
    let grew = |before: Option<u64>, after: Option<u64>| matches!((before, after), (Some(b), Some(a)) if a > b);
    let own = grew(kills_before.0, tree.memory_kills());
    let machine = grew(kills_before.1, machine_memory_kills());
    let finished = mains.into_iter().map(|main| {
        let (status, ran) = main.status.unwrap_or((Err(libc_kill()), began.elapsed()));
        let (code, signal) = match status {
            Ok(code) => (code, None),
            Err(signal) => (128 + signal, Some(signal)),
        };
        let ended_by = main.ended_by;
        let out_of_memory = ended_by.is_none()
            && code != 0
            && (own || (code == 137 && left_behind == 0 && machine));
        Finished {
            code,
            signal,
            ran,
            ended_by,
            out_of_memory,
            left_behind,
        }
    });
    Ok(finished.collect())
}

/// Asks every process of the tree to end.
fn terminate(mains: &[Main], tree: &Tree) {
    let groups: Vec<i32> = mains.iter().map(|main| main.group).collect();
    tree.signal(&groups, Signal::SIGTERM);
}

/// Ends those that were started before one that could not be.
async fn end_started(tree: &Tree) {
    for _ in 0..500 {
        tree.kill();
        while matches!(
            waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::EINTR)
        ) {}
        if tree.members().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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
pub(crate) fn shell(environment: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
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

/// Reaps every child that ended, and says of the commands' first processes how. Those that
/// end from now on were made to by `ended_by`. Whether no child is left.
fn reap(mains: &mut [Main], began: Instant, ended_by: Option<EndedBy>) -> bool {
    loop {
        let (pid, status) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, Ok(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Err(signal as i32)),
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(errno) => return errno == Errno::ECHILD,
        };
        if let Some(main) = mains
            .iter_mut()
            .find(|main| main.group == pid.as_raw() && main.status.is_none())
        {
            main.status = Some((status, began.elapsed()));
            main.ended_by = ended_by;
        }
    }
}
