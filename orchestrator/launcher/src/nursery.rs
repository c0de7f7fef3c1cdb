//! A process that launchers are born from. To start a program as large as an
//! orchestrator takes the system 2 ms, most of them in the dynamic loader; a copy of one
//! that has begun takes a tenth of that. So an executor starts one nursery and asks it for
//! each launcher.
//!
//! It has one thread and keeps nothing. Launchers are children of its executor, as if
//! that had started them itself; they outlive both. It ends with its executor.

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    self, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg,
};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What stands in a launcher's command line instead of the folder of an attempt: the
/// process is a nursery, and hears on its standard input.
pub const NURSERY: &str = "nursery";

/// The numbers that descriptors have in a launcher that was born: its lock, its share of
/// the machine, its socket.
pub const PLACES: [RawFd; 3] = [10, 11, 12];

/// Connections that may wait until a launcher has begun: those of a few orchestrators.
pub const BACKLOG: i32 = 64;

/// The longest path that the system takes.
const LONGEST: usize = 4096;

/// Asks the nursery at the other end of `socket` for the launcher of `folder`, whose log,
/// lock, share and socket these are. Blocks until it is born; its process, which is a
/// child of this one.
///
/// # Errors
/// Where the nursery is gone, or can have no child.
pub fn ask(socket: &OwnedFd, folder: &Path, held: [BorrowedFd<'_>; 4]) -> io::Result<i32> {
    let numbers = held.map(|descriptor| descriptor.as_raw_fd());
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(folder.as_os_str().as_bytes())],
        &[ControlMessage::ScmRights(&numbers)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    let mut answer = [0; 4];
    let length = loop {
        match socket::recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            read => break read?,
        }
    };
    match i32::from_ne_bytes(answer) {
        process if length == answer.len() && process > 0 => Ok(process),
        errno if length == answer.len() => Err(io::Error::from_raw_os_error(-errno)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Answers until the executor is gone, in the nursery. In a process that was born it
/// returns the folder of its attempt. To be called before there are threads.
pub(crate) fn wait() -> Option<PathBuf> {
    let socket = io::stdin();
    loop {
        let (folder, held) = receive(socket.as_fd()).ok()??;
        let answer = match bear() {
            Ok(0) => return take_place(held).is_ok().then_some(folder),
            Ok(process) => process,
            Err(errno) => -(errno as i32),
        };
        drop(held);
        // An executor that is gone is seen by the next `receive`.
        let _ = socket::send(
            socket.as_fd().as_raw_fd(),
            &answer.to_ne_bytes(),
            MsgFlags::MSG_NOSIGNAL,
        );
    }
}

/// A request; none where nobody can ask any more.
#[expect(
    unsafe_code,
    reason = "descriptors arrive as numbers that nobody owns yet"
)]
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(PathBuf, Vec<OwnedFd>)>> {
    let mut path = [0; LONGEST];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(&mut path)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            read => break read?,
        }
    };
    let length = message.bytes;
    let mut held = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just made these descriptors for this process.
            held.extend(
                numbers
                    .into_iter()
                    .map(|number| unsafe { OwnedFd::from_raw_fd(number) }),
            );
        }
    }
    if length == 0 {
        return Ok(None);
    }
    let folder = OsString::from_vec(path[..length].to_vec());
    Ok(Some((folder.into(), held)))
}

/// A copy of this process that is a child of this one's parent: 0 in the copy.
#[expect(
    unsafe_code,
    reason = "only the system call itself gives a process another parent"
)]
fn bear() -> nix::Result<i32> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: as `fork` of a process with one thread: nothing is shared, no lock is held
    // by a thread that the copy does not have.
    let process = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    i32::try_from(Errno::result(process)?).map_err(|_| Errno::EOVERFLOW)
}

/// What a launcher that is started by itself finds: a session of its own, its log as
/// standard error, no input, its locks, a socket that listens.
#[expect(
    unsafe_code,
    reason = "descriptors get the numbers that the options name"
)]
fn take_place(held: Vec<OwnedFd>) -> io::Result<()> {
    let [log, locks @ ..] = held.as_slice() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    nix::unistd::setsid()?;
    // The command line stays the nursery's.
    nix::sys::prctl::set_name(c"auria-launcher")?;
    let null = File::open("/dev/null")?;
    let numbered = [(null.as_fd(), 0), (log.as_fd(), 2)];
    let locks = locks.iter().map(AsFd::as_fd).zip(PLACES);
    for (descriptor, number) in numbered.into_iter().chain(locks) {
        // SAFETY: nothing in this process owns a descriptor of these numbers but the
        // standard streams, which stay open.
        Errno::result(unsafe { libc::dup2(descriptor.as_raw_fd(), number) })?;
    }
    let [.., listener] = held.as_slice() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // By this process: so the kernel tells those who connect of it.
    socket::listen(listener, Backlog::new(BACKLOG)?)?;
    Ok(())
}
