//! Writes that were cut short: on a folder, files that were staged beside their
//! place; on S3, multipart uploads that nobody completed. Nobody reads either.

use super::Freed;
use super::grave::Clock;
use crate::transfer::blocking;
use crate::{Store, StoreError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Removes what is older than `age`, or only counts it.
pub(super) async fn sweep(
    store: &Store,
    clock: Clock,
    age: Duration,
    dry_run: bool,
) -> Result<Freed, StoreError> {
    match (store.root(), store.bucket()) {
        (Some(root), _) => {
            let root = root.to_owned();
            blocking(move || {
                let mut freed = Freed::default();
                staged(&root, clock, age, dry_run, &mut freed)?;
                Ok(freed)
            })
            .await
        }
        #[cfg(feature = "direct")]
        (None, Some(bucket)) => super::bucket::sweep(bucket, clock, age, dry_run).await,
        #[cfg(not(feature = "direct"))]
        (None, Some(_)) => Ok(Freed::default()),
        (None, None) => Ok(Freed::default()),
    }
}

fn staged(
    folder: &Path,
    clock: Clock,
    age: Duration,
    dry_run: bool,
    freed: &mut Freed,
) -> Result<(), StoreError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // Another removed it meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::local("read", folder)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(StoreError::local("read", folder))?;
        let Ok(meta) = entry.metadata() else { continue };
        let path: PathBuf = entry.path();
        if meta.is_dir() {
            staged(&path, clock, age, dry_run, freed)?;
            continue;
        }
        let is_staged = path
            .file_name()
            .and_then(|name| name.to_str()?.rsplit_once('#'))
            .is_some_and(|(_, end)| !end.is_empty() && end.bytes().all(|b| b.is_ascii_digit()));
        let written = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if !is_staged || clock.age_of(millis(written)) < age {
            continue;
        }
        if !dry_run {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::local("remove", &path)(error));
                }
                _ => {}
            }
        }
        freed.objects += 1;
        freed.bytes += meta.len();
    }
    Ok(())
}

fn millis(time: SystemTime) -> i64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
