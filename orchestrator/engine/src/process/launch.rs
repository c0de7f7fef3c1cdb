//! Starts a launcher: detached from this process and its terminal, with the locks
//! of its attempt and of its share of the machine, which live as long as it does.

use super::born::{Launcher, Nursery};
use super::slots::Share;
use auria_launcher::LaunchOptions;
use auria_launcher::nursery::{BACKLOG, PLACES};
use auria_launcher::runtime::{AttemptFolder, LAUNCH, RuntimeError};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};

/// The program that is a launcher when it is started with `arguments` and the
/// path of an attempt's runtime folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LauncherCommand {
    /// The program.
    pub program: PathBuf,
    /// What stands before the folder.
    pub arguments: Vec<OsString>,
}

impl LauncherCommand {
    /// This very program, with `arguments`.
    ///
    /// # Errors
    /// Where the system does not say which program this is.
    pub fn of_this_program(arguments: &[&str]) -> io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            arguments: arguments.iter().map(OsString::from).collect(),
        })
    }

    /// The file to execute. Where this very program was replaced meanwhile (a new
    /// build), its old file is still there under a name of the kernel's: a launcher
    /// is never of another version than its orchestrator.
    pub(super) fn file(&self, this: &Path) -> PathBuf {
        let own = Path::new("/proc/self/exe");
        let identity = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
        let is_this = self.program == this;
        if is_this && identity(&self.program) != identity(own) {
            own.to_owned()
        } else {
            self.program.clone()
        }
    }
}

/// Starts the launcher of `folder`, whose lock is `lock`. Blocks. Needs a tokio runtime.
pub(super) fn launch(
    nursery: &Nursery,
    command: &LauncherCommand,
    this: &Path,
    folder: &AttemptFolder,
    options: &mut LaunchOptions,
    lock: &File,
    share: &Share,
) -> Result<Launcher, LaunchError> {
    let failed = |source| LaunchError::Spawn { source };
    let listener = bound(&folder.socket()).map_err(failed)?;
    let log = File::create(folder.launcher_log()).map_err(failed)?;
    options.gpus.clone_from(&share.gpus);
    let mut place = |[lock, share, listener]: [RawFd; 3]| {
        options.lock = Some(lock);
        options.holds = vec![share];
        options.listener = Some(listener);
        folder.write(LAUNCH, options)
    };
    if nursery.is_open(command, this) {
        place(PLACES)?;
        let held = [
            log.as_fd(),
            lock.as_fd(),
            share.file.as_fd(),
            listener.as_fd(),
        ];
        if let Some(launcher) = nursery.ask(folder.path(), held) {
            return Ok(launcher);
        }
    }
    place([
        lock.as_raw_fd(),
        share.file.as_raw_fd(),
        listener.as_raw_fd(),
    ])?;
    let held = [lock.as_fd(), share.file.as_fd()];
    let child = spawn(command, this, folder, log, &held, &listener).map_err(failed)?;
    Ok(Launcher::Child(child))
}

/// A socket at `path` that does not listen yet: the launcher's process does that itself,
/// so that the kernel tells those who connect of that process and not of this one.
fn bound(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

#[expect(
    unsafe_code,
    reason = "a session of its own and the inherited locks are set between fork and exec"
)]
fn spawn(
    command: &LauncherCommand,
    this: &Path,
    folder: &AttemptFolder,
    log: File,
    held: &[BorrowedFd<'_>; 2],
    listener: &OwnedFd,
) -> io::Result<Child> {
    let [lock, share] = held.map(|descriptor| descriptor.as_raw_fd());
    let numbers = [lock, share, listener.as_raw_fd()];
    let backlog = Backlog::new(BACKLOG)?;
    let mut launcher = Command::new(command.file(this));
    launcher
        .arg0(&command.program)
        .args(&command.arguments)
        .arg(folder.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(false);
    // SAFETY: only system calls that are safe after fork, and no allocation; the
    // descriptors are open, since `held` and `listener` outlive the call of `spawn`.
    unsafe {
        launcher.pre_exec(move || {
            nix::unistd::setsid()?;
            let [.., listener] = numbers.map(|number| BorrowedFd::borrow_raw(number));
            socket::listen(&listener, backlog)?;
            // In the child alone: no other program that this process starts at the
            // same time may inherit them.
            for number in numbers {
                let descriptor = BorrowedFd::borrow_raw(number);
                auria_launcher::ofd::set_inherited(descriptor, true)?;
            }
            Ok(())
        });
    }
    launcher.spawn()
}

/// A launcher could not be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The system refused.
    #[error("could not start a launcher: {source}")]
    Spawn {
        /// Why.
        source: io::Error,
    },
}
