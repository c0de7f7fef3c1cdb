//! One installer at a time: two tasks that start together on a fresh machine install once.
//!
//! Used by `libtorch` and `tools`. The kernel frees the lock when its holder dies.

use std::fs::{File, TryLockError};

use anyhow::Context;

use crate::shell::{installs, say};

/// How the name of a folder starts that an install fills before it renames it into place.
pub(crate) const PARTIAL: &str = ".xtask-partial-";

/// Waits until no other task installs, and removes what a killed one left half done; dropping the
/// file frees the lock.
pub(crate) fn installing() -> anyhow::Result<File> {
    let folder = installs();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(".xtask-installing");
    let attempted = || format!("cannot lock {}", path.display());
    let file = File::create(&path).with_context(attempted)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say("waiting for another task that installs");
            file.lock().with_context(attempted)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(attempted),
    }
    for folder in [
        folder.join("downloads"),
        folder.join("tools/seaweedfs"),
        folder,
    ] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                // Ours alone, as the lock is held; if it cannot be removed it only takes room.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
    Ok(file)
}
