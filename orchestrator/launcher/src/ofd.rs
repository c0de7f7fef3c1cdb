//! Locks on ranges of bytes of a file that belong to an open file description
//! (fcntl, `F_OFD_*`): they are inherited with the descriptor and freed by the
//! kernel when its last copy is closed, so that a killed process holds nothing.
//! Asking about a lock has no side effect. Never waits.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

/// Opens `path` for locks, creating it where it is missing.
///
/// # Errors
/// As opening a file.
pub fn open(path: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}

/// Takes the exclusive lock on `range`; `false` where another holds a part of it.
///
/// # Errors
/// Where the file system has no such locks.
pub fn try_lock(file: &File, range: Range<u64>) -> io::Result<bool> {
    match fcntl(
        file.as_fd(),
        FcntlArg::F_OFD_SETLK(&request(libc::F_WRLCK, &range)?),
    ) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits for the exclusive lock on `range`. For gates that are held for an instant.
///
/// # Errors
/// Where the file system has no such locks, or a signal came.
pub fn lock(file: &File, range: Range<u64>) -> io::Result<()> {
    loop {
        match fcntl(
            file.as_fd(),
            FcntlArg::F_OFD_SETLKW(&request(libc::F_WRLCK, &range)?),
        ) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A part of `range` that another open file description holds.
///
/// # Errors
/// Where the file system has no such locks.
pub fn held(file: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    let mut asked = request(libc::F_WRLCK, &range)?;
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut asked))?;
    if i32::from(asked.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    let start = u64::try_from(asked.l_start).unwrap_or(0);
    let length = u64::try_from(asked.l_len).unwrap_or(0);
    // A length of 0 reaches to the end of all files.
    let end = if length == 0 {
        u64::MAX
    } else {
        start.saturating_add(length)
    };
    Ok(Some(start..end))
}

/// Lets a child of this process keep `file` open, or not.
///
/// # Errors
/// Where the descriptor is not open.
pub fn set_inherited(file: impl AsFd, inherited: bool) -> io::Result<()> {
    let flags = if inherited {
        FdFlag::empty()
    } else {
        FdFlag::FD_CLOEXEC
    };
    fcntl(file, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

fn request(kind: libc::c_int, range: &Range<u64>) -> io::Result<libc::flock> {
    let number =
        |n: u64| i64::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    Ok(libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: number(range.start)?,
        l_len: number(range.end.saturating_sub(range.start))?,
        l_pid: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::{held, open, try_lock};

    #[test]
    fn a_lock_is_seen_by_others_and_freed_by_closing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (a, b) = (open(&path).unwrap(), open(&path).unwrap());
        assert!(try_lock(&a, 10..20).unwrap());
        assert!(!try_lock(&b, 15..16).unwrap());
        assert!(try_lock(&b, 20..21).unwrap());
        assert_eq!(held(&b, 0..20).unwrap(), Some(10..20));
        assert_eq!(
            held(&a, 0..20).unwrap(),
            None,
            "one's own lock is not in one's way"
        );
        let twin = a.try_clone().unwrap();
        drop(a);
        assert!(
            held(&b, 0..20).unwrap().is_some(),
            "a copy of the descriptor keeps it"
        );
        drop(twin);
        assert_eq!(held(&b, 0..20).unwrap(), None);
    }
}
