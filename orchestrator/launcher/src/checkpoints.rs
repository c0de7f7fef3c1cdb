//! Watches the folder of `$AURIA_CHECKPOINTS`: a folder that the command renames
//! into it is published as the next generation. Names that begin with a dot are
//! not there yet. Where the command is quicker than the store, only the newest is
//! published. A checkpoint that cannot be kept is a warning: the step goes on.

use crate::depot::Depot;
use crate::failure::chain;
use crate::inotify::Watcher;
use auria_core::Nonce;
use auria_core::outcome::Checkpoint;
use nix::sys::inotify::{AddWatchFlags, InotifyEvent};
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The task that publishes checkpoints; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    ended: watch::Sender<bool>,
    newest: watch::Receiver<Option<Checkpoint>>,
    task: JoinSet<()>,
}

impl Keeper {
    /// Begins to watch `folder`.
    pub(crate) fn start(folder: &Path, depot: Depot, nonce: Nonce) -> io::Result<Self> {
        let watcher = Watcher::new()?;
        watcher.add(
            folder,
            AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR,
        )?;
        let (ended, mut ending) = watch::channel(false);
        let (known, newest) = watch::channel(None);
        let folder = folder.to_owned();
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Closing it makes the kernel wait for 15 ms until nobody looks at its watches:
            // the end of this process does that, once nobody waits for the attempt.
            let watcher = ManuallyDrop::new(watcher);
            let mut generation = 0;
            loop {
                let over = *ending.borrow_and_update();
                let mut pending = newest_of(&folder, &watcher.changes_now());
                if pending.is_none() {
                    if over {
                        return;
                    }
                    tokio::select! {
                        changes = watcher.changes() => match changes {
                            Ok(changes) => pending = newest_of(&folder, &changes),
                            Err(error) => {
                                tracing::warn!("checkpoints are not watched any more: {error}");
                                return;
                            }
                        },
                        _ = ending.changed() => continue,
                    }
                }
                // Those that came while the last one was published.
                let pending = newest_of(&folder, &watcher.changes_now()).or(pending);
                let Some(path) = pending.filter(|path| path.is_dir()) else {
                    continue;
                };
                match depot
                    .publish_checkpoint(&nonce, generation + 1, &path)
                    .await
                {
                    Ok(checkpoint) => {
                        generation += 1;
                        known.send_replace(Some(checkpoint));
                    }
                    Err(error) if path.is_dir() => {
                        tracing::warn!(
                            "the checkpoint {} is not kept: {}",
                            path.display(),
                            chain(&error)
                        );
                    }
                    // The command took it away meanwhile: a newer one follows.
                    Err(_) => {}
                }
            }
        });
        Ok(Self {
            ended,
            newest,
            task,
        })
    }

    /// Publishes what came last, for at most `patience`, and says what is the newest.
    pub(crate) async fn finish(mut self, patience: Duration) -> Option<Checkpoint> {
        self.ended.send_replace(true);
        if tokio::time::timeout(patience, self.task.join_next())
            .await
            .is_err()
        {
            tracing::warn!(
                "the last checkpoint was not published within {} s",
                patience.as_secs()
            );
        }
        self.newest.borrow().clone()
    }
}

fn newest_of(folder: &Path, changes: &[InotifyEvent]) -> Option<PathBuf> {
    changes
        .iter()
        .rev()
        .filter(|change| change.mask.contains(AddWatchFlags::IN_ISDIR))
        .find_map(|change| {
            let name = change.name.as_ref()?;
            (!name.as_encoded_bytes().starts_with(b".")).then(|| folder.join(name))
        })
}
