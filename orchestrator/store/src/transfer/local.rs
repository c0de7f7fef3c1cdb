//! The local side of a transfer: a file that is read, and one that grows unseen
//! until it is whole. What is written is nowhere under any name before that, so
//! that a process which is killed leaves nothing behind.

use super::{MIB, Passed, blocking};
use crate::StoreError;
use crate::tree::MODE_BITS;
use bytes::Bytes;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::Mode;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens a regular file; a link is not followed, since what is walked and what
/// is read must be the same.
pub(super) fn open_file(path: &Path) -> Result<(File, u64), StoreError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path);
    let file = opened.map_err(StoreError::local("read", path))?;
    let meta = file.metadata().map_err(StoreError::local("read", path))?;
    if meta.is_file() {
        return Ok((file, meta.len()));
    }
    Err(StoreError::Unsuitable {
        path: path.to_owned(),
        why: "it is no longer a file".into(),
    })
}

/// A file that is not what it was.
pub(super) fn changed(path: &Path) -> StoreError {
    StoreError::Unsuitable {
        path: path.to_owned(),
        why: "it changed while it was being read; submit again".into(),
    }
}

/// Whether the file at `path` is `expected`, with these permission bits. Blocks.
pub(super) fn is_there(path: &Path, expected: Passed, mode: u32) -> bool {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return false;
    };
    meta.is_file()
        && meta.len() == expected.size
        && meta.permissions().mode() & 0o7777 == mode & MODE_BITS
        && hash_file(path).is_ok_and(|found| found == expected)
}

/// The size and digest of a local file. Blocks.
pub(crate) fn hash_file(path: &Path) -> Result<Passed, StoreError> {
    let (mut file, _) = open_file(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; MIB as usize];
    let mut size = 0;
    loop {
        let count = read_some(&mut file, &mut buffer).map_err(StoreError::local("read", path))?;
        if count == 0 {
            return Ok(Passed {
                size,
                digest: hasher.finalize().into(),
            });
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A local file that grows, without a name where the file system can do that.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    to: PathBuf,
    /// Its name until it is whole, where it must have one.
    named: Option<PathBuf>,
}

impl Staged {
    /// One that is to be at `to`. Blocks.
    pub(super) fn create(to: &Path) -> Result<Self, StoreError> {
        let folder = match to.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        if let Ok(fd) = nix::fcntl::open(folder, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            return Ok(Self {
                file: fd.into(),
                to: to.to_owned(),
                named: None,
            });
        }
        Self::named(to)
    }

    fn named(to: &Path) -> Result<Self, StoreError> {
        let name = beside(to);
        // Never through a link, and never into what another writes.
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&name);
        Ok(Self {
            file: created.map_err(StoreError::local("write", &name))?,
            to: to.to_owned(),
            named: Some(name),
        })
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(StoreError::local("write", &self.to))
    }

    /// Gives it its name, in the place of what is there. Blocks.
    pub(super) fn finish(mut self, mode: u32) -> Result<(), StoreError> {
        let permissions = std::fs::Permissions::from_mode(mode & MODE_BITS);
        self.file
            .set_permissions(permissions)
            .map_err(StoreError::local("set the mode of", &self.to))?;
        let named = match self.named.take() {
            Some(named) => named,
            None => {
                let Err(error) = self.link(&self.to) else {
                    return Ok(());
                };
                if error.kind() != ErrorKind::AlreadyExists {
                    return Err(StoreError::local("write", &self.to)(error));
                }
                let name = beside(&self.to);
                self.link(&name)
                    .map_err(StoreError::local("write", &self.to))?;
                name
            }
        };
        std::fs::rename(&named, &self.to).map_err(|error| {
            std::fs::remove_file(&named).ok();
            StoreError::local("write", &self.to)(error)
        })
    }

    fn link(&self, name: &Path) -> std::io::Result<()> {
        let of = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        nix::unistd::linkat(AT_FDCWD, of.as_str(), AT_FDCWD, name, follow)
            .map_err(std::io::Error::from)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(named) = &self.named {
            // It was not finished, and means nothing to anyone.
            std::fs::remove_file(named).ok();
        }
    }
}

/// Bytes on their way from one end to the other into a file that is not seen before
/// it is whole.
#[derive(Debug)]
pub(crate) struct Passage {
    staged: Arc<Staged>,
    gathered: Vec<Bytes>,
    held: u64,
    at: u64,
}

impl Passage {
    /// One that is to be at `to`.
    pub(crate) async fn begin(to: &Path) -> Result<Self, StoreError> {
        let place = to.to_owned();
        let staged = blocking(move || Staged::create(&place)).await?;
        Ok(Self {
            staged: Arc::new(staged),
            gathered: Vec::new(),
            held: 0,
            at: 0,
        })
    }

    /// Bytes that have passed.
    pub(crate) fn at(&self) -> u64 {
        self.at + self.held
    }

    pub(crate) async fn put(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.held += bytes.len() as u64;
        self.gathered.push(bytes);
        if self.held >= MIB {
            self.flush().await?;
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Result<(), StoreError> {
        let (staged, at) = (Arc::clone(&self.staged), self.at);
        let chunks = std::mem::take(&mut self.gathered);
        self.at += std::mem::take(&mut self.held);
        blocking(move || {
            let mut offset = at;
            for bytes in &chunks {
                staged.write_at(bytes, offset)?;
                offset += bytes.len() as u64;
            }
            Ok(())
        })
        .await
    }

    /// From the start.
    pub(crate) async fn again(&mut self) -> Result<(), StoreError> {
        if self.at() > 0 {
            *self = Self::begin(&self.staged.to.clone()).await?;
        }
        Ok(())
    }

    pub(crate) async fn finish(mut self, mode: u32) -> Result<(), StoreError> {
        self.flush().await?;
        finish(self.staged, mode).await
    }
}

/// [`Staged::finish`] of what nobody writes any more.
pub(super) async fn finish(staged: Arc<Staged>, mode: u32) -> Result<(), StoreError> {
    match Arc::try_unwrap(staged) {
        Ok(staged) => blocking(move || staged.finish(mode)).await,
        Err(staged) => Err(StoreError::local("write", &staged.to)(
            ErrorKind::ResourceBusy.into(),
        )),
    }
}

/// A fresh name beside `to`, no longer than a file system allows, whatever the file
/// is called.
fn beside(to: &Path) -> PathBuf {
    to.with_file_name(format!(".auria-{:016x}.part", rand::random::<u64>()))
}

#[cfg(test)]
mod tests {
    use super::Staged;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nothing_is_seen_before_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("poem.txt");
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        for create in [Staged::create, Staged::named] {
            let before = names();
            let staged = create(&to).unwrap();
            staged.write_at(b"pond", 4).unwrap();
            staged.write_at(b"old ", 0).unwrap();
            assert!(
                names() <= before + 1,
                "at most the name of the one that grows"
            );
            staged.finish(0o4640).unwrap();
            assert_eq!(std::fs::read(&to).unwrap(), b"old pond");
            let mode = std::fs::metadata(&to).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o640);
            // Over an older one, and dropped halfway.
            let staged = create(&to).unwrap();
            staged.write_at(b"new", 0).unwrap();
            drop(staged);
            assert_eq!(std::fs::read(&to).unwrap(), b"old pond");
            assert_eq!(names(), 1);
            let staged = create(&to).unwrap();
            staged.write_at(b"new", 0).unwrap();
            staged.finish(0o600).unwrap();
            assert_eq!(std::fs::read(&to).unwrap(), b"new");
            assert_eq!(names(), 1);
        }
    }
}
