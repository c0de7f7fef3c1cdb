//! The first process of a command: in its cgroups, its session and its folder from its
//! first instant on, and gone with its launcher. It does not wait for the process.
//!
//! A process that writes itself into `cgroup.procs` makes the kernel wait until no thread
//! of the machine is being born, which takes 7 to 15 ms. So the process is born in its
//! cgroup of version 2 (`CLONE_INTO_CGROUP`), and enters one of version 1 as the single
//! thread that it is (`tasks`).

use crate::tree::Tree;
use nix::fcntl::OFlag;
use nix::libc;
use std::collections::BTreeMap;
use std::ffi::{CString, OsString, c_char};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// As in the kernel's `sched.h`; `libc` has it in a type that is too small for it.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Birth<'a> {
    /// The program's file.
    pub(crate) program: &'a Path,
    /// What follows its name.
    pub(crate) arguments: &'a [&'a str],
    /// Its whole environment.
    pub(crate) environment: &'a BTreeMap<OsString, OsString>,
    /// Where it starts.
    pub(crate) folder: &'a Path,
    /// Its standard input; without one there is nothing to read.
    pub(crate) input: Option<BorrowedFd<'a>>,
    /// Its standard output.
    pub(crate) output: BorrowedFd<'a>,
    /// Its standard error, where that goes elsewhere.
    pub(crate) errors: Option<BorrowedFd<'a>>,
}

/// Starts it within `tree`; the number of its process, which leads a session and group.
pub(crate) fn start(birth: &Birth<'_>, tree: &Tree) -> io::Result<i32> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
    let program = text(birth.program.as_os_str().as_bytes())?;
    let mut arguments = vec![program.clone()];
    for argument in birth.arguments {
        arguments.push(text(argument.as_bytes())?);
    }
    let mut environment = Vec::new();
    for (name, value) in birth.environment {
        environment.push(text(&[name.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    let folder = text(birth.folder.as_os_str().as_bytes())?;
    let pointers = |texts: &[CString]| -> Vec<*const c_char> {
        let all = texts.iter().map(|text| text.as_ptr());
        all.chain([std::ptr::null()]).collect()
    };
    let null = File::open("/dev/null")?;
    // Closed by a start that goes well; else it carries the number of the error.
    let (failed, failing) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let cgroup = tree.unified_folder();
    let doors = tree.doors(cgroup.is_none());
    let child = Child {
        program: &program,
        arguments: &pointers(&arguments),
        environment: &pointers(&environment),
        folder: &folder,
        descriptors: [
            birth
                .input
                .map_or(null.as_raw_fd(), |input| input.as_raw_fd()),
            birth.output.as_raw_fd(),
            birth.errors.unwrap_or(birth.output).as_raw_fd(),
        ],
        doors: &doors.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(),
        failing: failing.as_raw_fd(),
        launcher: std::process::id(),
    };
    let process = match cgroup {
        Some(cgroup) => match child.born_in(&cgroup) {
            Ok(process) => Ok(process),
            // A kernel before 5.7, or a filter of system calls that does not know it.
            Err(_) => {
                let doors = tree.doors(true);
                let doors: Vec<RawFd> = doors.iter().map(AsRawFd::as_raw_fd).collect();
                let doors = doors.as_slice();
                Child { doors, ..child }.forked()
            }
        },
        None => child.forked(),
    }?;
    drop(failing);
    let mut number = [0; 4];
    match File::from(failed).read_exact(&mut number) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(process),
        Err(error) => Err(error),
        Ok(()) => {
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(process), None);
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number)))
        }
    }
}

/// All that a new process needs, made before it is born: until it has become another
/// program it may neither allocate nor take a lock.
struct Child<'a> {
    program: &'a CString,
    arguments: &'a [*const c_char],
    environment: &'a [*const c_char],
    folder: &'a CString,
    /// Its input, its output, its errors.
    descriptors: [RawFd; 3],
    /// Where it writes `0` to enter a cgroup.
    doors: &'a [RawFd],
    failing: RawFd,
    launcher: u32,
}

impl Child<'_> {
    #[expect(
        unsafe_code,
        reason = "only the system call itself takes the cgroup of a new process"
    )]
    fn born_in(&self, cgroup: &File) -> io::Result<i32> {
        // SAFETY: all bits zero is a value of this plain struct: nothing is asked for.
        let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
        how.flags = CLONE_INTO_CGROUP;
        how.exit_signal = libc::SIGCHLD as u64;
        how.cgroup = cgroup.as_raw_fd() as u64;
        // SAFETY: as `fork`: without shared memory the child has a copy of this thread and
        // goes on in `become_command`, which makes system calls only.
        let process = unsafe {
            libc::syscall(
                libc::SYS_clone3,
                &raw mut how,
                size_of::<libc::clone_args>(),
            )
        };
        match process {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: this is the child.
            0 => unsafe { self.become_command() },
            process => i32::try_from(process).map_err(io::Error::other),
        }
    }

    #[expect(unsafe_code, reason = "std's own fork takes an allocation on the way")]
    fn forked(&self) -> io::Result<i32> {
        // SAFETY: the child goes on in `become_command`, which makes system calls only.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: this is the child.
            0 => unsafe { self.become_command() },
            process => Ok(process),
        }
    }

    /// # Safety
    /// To be called in a new process alone.
    #[expect(
        unsafe_code,
        reason = "between birth and exec only system calls are safe"
    )]
    unsafe fn become_command(&self) -> ! {
        // SAFETY: pointers and descriptors outlive the parent's call of `start`, and this
        // process has copies of them; every call is a system call.
        unsafe {
            let failed = self.take_place().is_none() || {
                libc::execve(
                    self.program.as_ptr(),
                    self.arguments.as_ptr(),
                    self.environment.as_ptr(),
                );
                true
            };
            if failed {
                let number = (*libc::__errno_location()).to_ne_bytes();
                libc::write(self.failing, number.as_ptr().cast(), number.len());
            }
            libc::_exit(127)
        }
    }

    /// Descriptors, folder, session, cgroups, the end with the launcher, signals as they
    /// are by default. `None` where one of them failed, with its `errno`.
    ///
    /// # Safety
    /// To be called in a new process alone.
    #[expect(
        unsafe_code,
        reason = "between birth and exec only system calls are safe"
    )]
    unsafe fn take_place(&self) -> Option<()> {
        let done = |answer: libc::c_int| (answer != -1).then_some(());
        let [input, output, errors] = self.descriptors;
        // SAFETY: as in `become_command`.
        unsafe {
            done(libc::dup2(input, 0))?;
            done(libc::dup2(output, 1))?;
            done(libc::dup2(errors, 2))?;
            done(libc::chdir(self.folder.as_ptr()))?;
            done(libc::setsid())?;
            for door in self.doors {
                if libc::write(*door, c"0".as_ptr().cast(), 1) != 1 {
                    return None;
                }
            }
            done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // The launcher may have ended before that.
            if libc::getppid() as u32 != self.launcher {
                *libc::__errno_location() = libc::ESRCH;
                return None;
            }
            // Rust's own programs ignore it, which others do not expect to inherit.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            done(libc::sigprocmask(
                libc::SIG_SETMASK,
                &raw const none,
                std::ptr::null_mut(),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Birth, start};
    use crate::tree::Tree;
    use std::collections::BTreeMap;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::path::Path;

    #[test]
    fn a_command_has_what_it_was_given_and_nothing_else() {
        let (mut read, write) = std::io::pipe().unwrap();
        let environment = BTreeMap::from([("NAME".into(), "a b=c".into())]);
        let dir = tempfile::tempdir().unwrap();
        let birth = Birth {
            program: Path::new("/bin/sh"),
            arguments: &["-c", "pwd; echo \"$NAME$HOME\"; echo $$ >&2; exit 3"],
            environment: &environment,
            folder: dir.path(),
            input: None,
            output: write.as_fd(),
            errors: None,
        };
        let process = start(&birth, &Tree::of_key("birth")).unwrap();
        drop(write);
        let mut said = String::new();
        read.read_to_string(&mut said).unwrap();
        let folder = dir.path().canonicalize().unwrap();
        assert_eq!(said, format!("{}\na b=c\n{process}\n", folder.display()));
        let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(process), None).unwrap();
        assert!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 3)));
    }

    #[test]
    fn what_cannot_start_says_why() {
        let (_read, write) = std::io::pipe().unwrap();
        let start = |program: &str, folder: &str| {
            let birth = Birth {
                program: Path::new(program),
                arguments: &[],
                environment: &BTreeMap::new(),
                folder: Path::new(folder),
                input: None,
                output: write.as_fd(),
                errors: None,
            };
            start(&birth, &Tree::of_key("birth")).unwrap_err().kind()
        };
        assert_eq!(start("/no/such/program", "/"), std::io::ErrorKind::NotFound);
        assert_eq!(start("/bin/sh", "/no/such"), std::io::ErrorKind::NotFound);
        assert_eq!(
            start("/etc/passwd", "/"),
            std::io::ErrorKind::PermissionDenied
        );
        assert_eq!(start("/bin/s\0h", "/"), std::io::ErrorKind::InvalidInput);
    }
}
