//! What the processes of one user on one machine share outside the store: a folder
//! for each attempt with its lock, its socket and its last word. The store holds
//! what happened; this holds what is running, and may vanish at any time.

use crate::ofd;
use auria_core::run::AttemptNews;
use auria_core::{AttemptId, Digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Something about the runtime folder failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The folder could not be made or read.
    #[error("cannot use the runtime folder {path}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Someone else could read or change what stands in it.
    #[error(
        "the runtime folder {path} does not belong to this user alone; remove it, or set XDG_RUNTIME_DIR"
    )]
    NotOurs {
        /// Which.
        path: PathBuf,
    },
    /// A file in it does not say what it should.
    #[error("{path} does not hold what it should: {source}")]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// The runtime folder of this user: short, since the names of sockets are limited
/// to 108 bytes, and with mode 0700.
#[derive(Clone, Debug)]
pub struct RuntimeRoot {
    path: PathBuf,
}

impl RuntimeRoot {
    /// `$XDG_RUNTIME_DIR/auria-pipeline` (the caller passes that variable's value),
    /// or `/tmp/auria-pipeline-<uid>`.
    ///
    /// # Errors
    /// Where it cannot be made, or is not this user's alone.
    pub fn of_user(xdg_runtime_dir: Option<&OsStr>) -> Result<Self, RuntimeError> {
        let user = nix::unistd::getuid();
        let path = match xdg_runtime_dir {
            // A longer one leaves no room for the names of sockets.
            Some(dir) if Path::new(dir).is_absolute() && dir.len() <= 40 => {
                Path::new(dir).join("auria-pipeline")
            }
            _ => PathBuf::from(format!("/tmp/auria-pipeline-{user}")),
        };
        Self::at(path)
    }

    /// The folder `path`, made where it is missing.
    ///
    /// # Errors
    /// Where it cannot be made, or is not this user's alone.
    pub fn at(path: PathBuf) -> Result<Self, RuntimeError> {
        own_folder(&path)?;
        own_folder(&path.join("attempts"))?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of one attempt of a run in `store`; it need not exist.
    #[must_use]
    pub fn attempt(&self, store: &str, attempt: &AttemptId) -> AttemptFolder {
        let AttemptId { run, step, number } = attempt;
        let digest = Digest::of(format!("{store}\0{run}\0{step}\0{number}").as_bytes());
        AttemptFolder {
            path: self.path.join("attempts").join(&digest.hex()[..32]),
        }
    }

    /// Removes what someone moved away and was killed before it removed it.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn sweep(&self) -> Result<(), RuntimeError> {
        let path = self.path.join(GONE);
        let failed = |source| RuntimeError::Folder {
            path: path.clone(),
            source,
        };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(failed(source)),
        };
        for entry in entries {
            remove_all(&entry.map_err(failed)?.path()).map_err(failed)?;
        }
        Ok(())
    }

    /// The folders of all attempts that left one, running or not.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn attempts(&self) -> Result<Vec<AttemptFolder>, RuntimeError> {
        let path = self.path.join("attempts");
        let failed = |source| RuntimeError::Folder {
            path: path.clone(),
            source,
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            found.push(AttemptFolder {
                path: entry.map_err(failed)?.path(),
            });
        }
        Ok(found)
    }
}

fn own_folder(path: &Path) -> Result<(), RuntimeError> {
    let failed = |source| RuntimeError::Folder {
        path: path.to_owned(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed)?;
    let found = fs::symlink_metadata(path).map_err(failed)?;
    if !found.is_dir() || found.uid() != nix::unistd::getuid().as_raw() || found.mode() & 0o022 != 0
    {
        return Err(RuntimeError::NotOurs {
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// The folder of one attempt under the [`RuntimeRoot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptFolder {
    path: PathBuf,
}

impl AttemptFolder {
    /// The folder at `path`, as a launcher is told of it.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes the folder where it is missing; says whether it was.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create(&self) -> Result<bool, RuntimeError> {
        let new = fs::DirBuilder::new().mode(0o700).create(&self.path).is_ok();
        // Whoever cleans up may move it away between its making and the look at it.
        for _ in 0..MAKING_TRIES {
            match own_folder(&self.path) {
                Err(RuntimeError::Folder { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                made => return made.map(|()| new),
            }
        }
        own_folder(&self.path).map(|()| new)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name: what tells this attempt from every other on the machine.
    #[must_use]
    pub fn key(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// The socket on which its launcher listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("socket")
    }

    /// What the launcher says on its standard error.
    #[must_use]
    pub fn launcher_log(&self) -> PathBuf {
        self.path.join("launcher.log")
    }

    /// Takes the attempt's lock, which says that it lives; none where another holds it.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    pub fn try_lock(&self) -> Result<Option<File>, RuntimeError> {
        let path = self.path.join("lock");
        let failed = |source| RuntimeError::Folder {
            path: self.path.clone(),
            source,
        };
        loop {
            let file = match ofd::open(&path) {
                Ok(file) => file,
                // It was removed since it was made.
                Err(source) if source.kind() == io::ErrorKind::NotFound => {
                    let _ = self.create()?;
                    continue;
                }
                Err(source) => return Err(failed(source)),
            };
            if !ofd::try_lock(&file, 0..1).map_err(failed)? {
                return Ok(None);
            }
            // Whoever held it before may have removed the folder meanwhile.
            let ours = file.metadata().map_err(failed)?;
            match fs::metadata(&path) {
                Ok(there) if there.ino() == ours.ino() && there.dev() == ours.dev() => {
                    return Ok(Some(file));
                }
                Ok(_) => {}
                Err(source) if source.kind() == io::ErrorKind::NotFound => {
                    let _ = self.create()?;
                }
                Err(source) => return Err(failed(source)),
            }
        }
    }

    /// Whether some process holds the attempt's lock.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    pub fn is_held(&self) -> Result<bool, RuntimeError> {
        let failed = |source| RuntimeError::Folder {
            path: self.path.clone(),
            source,
        };
        let file = match File::options()
            .read(true)
            .write(true)
            .open(self.path.join("lock"))
        {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(failed(source)),
        };
        Ok(ofd::held(&file, 0..1).map_err(failed)?.is_some())
    }

    /// Writes one of the folder's small files, whole or not at all.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, name: &str, value: &impl Serialize) -> Result<(), RuntimeError> {
        let path = self.path.join(name);
        let content = serde_json::to_vec(value).map_err(|source| RuntimeError::Content {
            path: path.clone(),
            source,
        })?;
        let partial = self.path.join(format!("{name}.partial"));
        fs::write(&partial, content)
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(|source| RuntimeError::Folder { path, source })
    }

    /// Reads one of the folder's small files; none where there is none.
    ///
    /// # Errors
    /// Where it cannot be read, or holds something else.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, RuntimeError> {
        let path = self.path.join(name);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RuntimeError::Folder { path, source }),
        };
        serde_json::from_slice(&content)
            .map(Some)
            .map_err(|source| RuntimeError::Content { path, source })
    }

    /// The launcher's last word, which it leaves before it frees the lock.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn last_word(&self) -> Result<Option<AttemptNews>, RuntimeError> {
        self.read(LAST_WORD)
    }

    /// Removes the folder; nothing where it is gone already. It leaves its place in one
    /// step: whoever starts the same attempt meanwhile has a folder of its own, never
    /// half of this one.
    ///
    /// # Errors
    /// Where it cannot be moved away, or something in it cannot be removed.
    pub fn remove(&self) -> Result<(), RuntimeError> {
        let failed = |source| RuntimeError::Folder {
            path: self.path.clone(),
            source,
        };
        let root = self.path.parent().and_then(Path::parent);
        let gone = root.unwrap_or(&self.path).join(GONE);
        own_folder(&gone)?;
        let place = gone.join(format!("{}-{:016x}", self.key(), rand::random::<u64>()));
        match fs::rename(&self.path, &place) {
            Ok(()) => remove_all(&place).map_err(failed),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(failed(source)),
        }
    }
}

/// Removes a folder; nothing where someone else did.
fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(source),
        _ => Ok(()),
    }
}

/// How often a folder is made that others move away: they do so once each.
const MAKING_TRIES: u32 = 16;

/// Where folders are moved before they are removed.
const GONE: &str = "gone";

/// The file of [`LaunchOptions`](crate::LaunchOptions).
pub const LAUNCH: &str = "launch.json";
/// The file of the launcher's last news.
pub const LAST_WORD: &str = "last.json";
/// The file that says how to find the command's processes.
pub const TREE: &str = "tree.json";

#[cfg(test)]
mod tests {
    use super::{RuntimeError, RuntimeRoot};
    use auria_core::AttemptId;

    fn id() -> AttemptId {
        AttemptId {
            run: "r-1".parse().unwrap(),
            step: "a.b".parse().unwrap(),
            number: 1,
        }
    }

    #[test]
    fn the_lock_says_that_an_attempt_lives() {
        let dir = tempfile::tempdir().unwrap();
        let root = RuntimeRoot::at(dir.path().join("r")).unwrap();
        let folder = root.attempt("/store", &id());
        assert_ne!(folder, root.attempt("/other", &id()));
        assert!(!folder.is_held().unwrap());
        assert!(folder.create().unwrap());
        assert!(!folder.create().unwrap(), "it is there already");
        let lock = folder.try_lock().unwrap().unwrap();
        assert!(folder.is_held().unwrap());
        assert!(folder.try_lock().unwrap().is_none());
        drop(lock);
        // A process that another test has just born holds a copy until it runs its program.
        let begun = std::time::Instant::now();
        while folder.is_held().unwrap() && begun.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(!folder.is_held().unwrap());
        assert_eq!(root.attempts().unwrap(), [folder]);
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            RuntimeRoot::at(path),
            Err(RuntimeError::NotOurs { .. })
        ));
    }
}
