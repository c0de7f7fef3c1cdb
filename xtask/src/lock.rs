//! One installer at a time: two tasks that start together on a fresh machine install once.
//!
//! Used by `libtorch` and `tools`. The kernel frees the lock when its holder dies.

use std::fs::{File, TryLockError};

use anyhow::Context;

use crate::shell::{installs, say};

/// Waits until no other task installs; dropping the file frees it.
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
    Ok(file)
}
