//! Logs and metrics on their way into the store while a step runs: immutable
//! chunks with dense numbers, below the claim's own prefix. What has been flushed
//! survives every kill. It never interprets a line.

use crate::create::Created;
use crate::{Store, StoreError, StorePath, layout};
use auria_core::{AttemptId, Nonce};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// When what was written becomes a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushPolicy {
    /// How long bytes wait at first.
    pub early: Duration,
    /// How many chunks count as *at first*: a quiet step stays prompt for long.
    pub early_chunks: u64,
    /// How long bytes wait later.
    pub late: Duration,
    /// So many bytes wait for nothing.
    pub size: usize,
}

impl FlushPolicy {
    /// What suits the kind of store: a folder takes small files gladly, each
    /// object of a bucket is a request.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        let late = if store.root().is_some() {
            Duration::from_secs(1)
        } else {
            Duration::from_secs(10)
        };
        Self {
            early: Duration::from_millis(500),
            early_chunks: 120,
            late,
            size: 4 * 1024 * 1024,
        }
    }

    fn wait(&self, chunks: u64) -> Duration {
        if chunks < self.early_chunks {
            self.early
        } else {
            self.late
        }
    }
}

/// Bytes that may wait for a store that does not answer; then writers wait too,
/// so that nothing is lost and memory stays bounded.
const MOST_WAITING: usize = 16 * 1024 * 1024;
/// Between two tries to write a chunk, after the store's own retries.
const RETRY: Duration = Duration::from_secs(5);

/// Appends to a log (or to metrics) in the store. One for each claim.
#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    /// The one task that writes chunks; awaited in [`Self::finish`], aborted by a drop.
    task: JoinSet<Result<u64, StoreError>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to do for the task.
    work: Notify,
    /// There is room for writers.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    closed: bool,
    flush: bool,
    failed: bool,
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic while the lock was held leaves bytes, never half a record.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogWriter {
    /// Begins to write chunks below `folder` ([`layout::logs`] or
    /// [`layout::metrics_chunks`]). Must be called in a Tokio runtime.
    #[must_use]
    pub fn start(store: Store, folder: StorePath, policy: FlushPolicy) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let result = flush_loop(store, folder, policy, &theirs).await;
            theirs.state().failed = result.is_err();
            theirs.room.notify_waiters();
            result
        });
        Self { shared, task }
    }

    /// Appends `bytes`; waits where the store is behind by more than 16 MiB. After
    /// the store has refused a chunk for good, which [`Self::finish`] tells, it does
    /// nothing.
    pub async fn append(&self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let taken = {
                let mut state = self.shared.state();
                if state.failed {
                    return;
                }
                let count = rest
                    .len()
                    .min(MOST_WAITING.saturating_sub(state.waiting.len()));
                state.waiting.extend_from_slice(&rest[..count]);
                count
            };
            rest = &rest[taken..];
            self.shared.work.notify_one();
            if !rest.is_empty() {
                room.await;
            }
        }
    }

    /// Asks that what was appended becomes a chunk now, without waiting for it.
    pub fn flush(&self) {
        self.shared.state().flush = true;
        self.shared.work.notify_one();
    }

    /// Writes what is left, and says how many chunks there are. Drop the future to
    /// give up on a store that does not answer.
    ///
    /// # Errors
    /// Where the store refuses the chunk for good.
    pub async fn finish(mut self) -> Result<u64, StoreError> {
        self.shared.state().closed = true;
        self.shared.work.notify_one();
        match self.task.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(StoreError::Unreachable {
                doing: "write a log".into(),
                source: Box::new(error),
            }),
            None => Ok(0),
        }
    }
}

async fn flush_loop(
    store: Store,
    folder: StorePath,
    policy: FlushPolicy,
    shared: &Shared,
) -> Result<u64, StoreError> {
    let mut chunks = 0;
    loop {
        loop {
            {
                let state = shared.state();
                if !state.waiting.is_empty() {
                    break;
                }
                if state.closed {
                    return Ok(chunks);
                }
            }
            shared.work.notified().await;
        }
        // Let a chunk grow, unless it is large, asked for, or the last.
        let due = tokio::time::Instant::now() + policy.wait(chunks);
        loop {
            let ready = {
                let state = shared.state();
                state.closed || state.flush || state.waiting.len() >= policy.size
            };
            if ready
                || tokio::time::timeout_at(due, shared.work.notified())
                    .await
                    .is_err()
            {
                break;
            }
        }
        let bytes = {
            let mut state = shared.state();
            state.flush = false;
            Bytes::from(std::mem::take(&mut state.waiting))
        };
        shared.room.notify_waiters();
        if !bytes.is_empty() {
            chunks += 1;
            write_chunk(&store, &layout::chunk(&folder, chunks), bytes).await?;
        }
    }
}

/// Creates a chunk, for as long as the store does not answer.
async fn write_chunk(store: &Store, path: &StorePath, bytes: Bytes) -> Result<(), StoreError> {
    loop {
        let same = |found: &[u8]| found == bytes;
        // Not synced on a folder: a kill leaves it there, and a power cut ends the step anyway.
        match store
            .create_in(store.data(), path, bytes.clone(), same)
            .await
        {
            Ok(Created::Won) => return Ok(()),
            Ok(Created::Lost(found)) => {
                let sizes = (
                    format!("{} bytes of this claim", bytes.len()),
                    format!("{} others", found.len()),
                );
                return Err(StoreError::corrupt(path, sizes.0, sizes.1));
            }
            Err(error) if error.is_transient() || matches!(error, StoreError::Full { .. }) => {
                tracing::warn!(%path, %error, "a log chunk waits for the store");
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads a log, whole or as it grows.
#[derive(Clone, Debug)]
pub struct LogReader {
    store: Store,
    folder: StorePath,
    next: u64,
}

impl LogReader {
    /// The log (or metrics) whose chunks are below `folder`.
    #[must_use]
    pub fn new(store: Store, folder: StorePath) -> Self {
        Self {
            store,
            folder,
            next: 1,
        }
    }

    /// The next chunk, where it is there already. Ask again later otherwise.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let found = self
            .store
            .read(&layout::chunk(&self.folder, self.next))
            .await?;
        if found.is_some() {
            self.next += 1;
        }
        Ok(found)
    }

    /// All that is there from here on; a later call goes on from there.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn read_rest(&mut self) -> Result<Vec<u8>, StoreError> {
        let last = self.last().await?;
        let store = &self.store;
        let paths: Vec<_> = (self.next..last + 1)
            .map(|seq| layout::chunk(&self.folder, seq))
            .collect();
        let chunks: Vec<Option<Bytes>> = futures::stream::iter(paths)
            .map(|path| async move { store.read(&path).await })
            .buffered(crate::store::REQUESTS)
            .try_collect()
            .await?;
        let mut all = Vec::new();
        for bytes in chunks.into_iter().map_while(|chunk| chunk) {
            self.next += 1;
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// The last `count` lines of what is there, without reading more than they need.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn last_lines(&self, count: usize) -> Result<Vec<String>, StoreError> {
        let mut tail: Vec<u8> = Vec::new();
        for seq in (1..=self.last().await?).rev() {
            let mut chunk = self
                .store
                .read(&layout::chunk(&self.folder, seq))
                .await?
                .unwrap_or_default()
                .to_vec();
            chunk.extend_from_slice(&tail);
            tail = chunk;
            if tail.iter().filter(|byte| **byte == b'\n').count() > count {
                break;
            }
        }
        let text = String::from_utf8_lossy(&tail);
        let lines: Vec<_> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(count)..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect())
    }

    /// The number of the last chunk, 0 where there is none.
    async fn last(&self) -> Result<u64, StoreError> {
        let found = self.store.list(&self.folder).await?;
        Ok(found
            .iter()
            .filter_map(|meta| meta.location.filename()?.parse().ok())
            .max()
            .unwrap_or(0))
    }
}

/// Joins the chunks of the metrics into `metrics.jsonl`, once the step has ended.
///
/// # Errors
/// Where the store cannot be read or written.
pub async fn publish_metrics(
    store: &Store,
    id: &AttemptId,
    nonce: &Nonce,
) -> Result<(), StoreError> {
    let all = LogReader::new(store.clone(), layout::metrics_chunks(id, nonce))
        .read_rest()
        .await?;
    if all.is_empty() {
        Ok(())
    } else {
        store.write(&layout::metrics(id, nonce), all).await
    }
}

/// The metrics of a claim: one JSON value a line, whether it runs or has ended.
/// Lines that are no JSON are left out.
///
/// # Errors
/// Where the store cannot be read.
pub async fn read_metrics(
    store: &Store,
    id: &AttemptId,
    nonce: &Nonce,
) -> Result<Vec<serde_json::Value>, StoreError> {
    let all = match store.read(&layout::metrics(id, nonce)).await? {
        Some(all) => all.to_vec(),
        None => {
            LogReader::new(store.clone(), layout::metrics_chunks(id, nonce))
                .read_rest()
                .await?
        }
    };
    Ok(all
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}
