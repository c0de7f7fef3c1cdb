//! The metrics that a step writes: lines in `$AURIA_METRICS`, or in a
//! `metrics.jsonl` where the command starts. While it runs they follow into the
//! store in chunks; at its end all of them stand in one file. Never reads a line's
//! meaning.

use crate::depot::Depot;
use crate::output::flush;
use crate::work::Work;
use auria_core::Nonce;
use auria_store::StoreError;
use auria_store::logs::LogWriter;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinSet;

/// Between two looks at the files.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of one file that are read at once.
const MOST_AT_ONCE: u64 = 4 << 20;

/// The task that follows metrics; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Metrics {
    depot: Depot,
    nonce: Nonce,
    files: [PathBuf; 2],
    end: tokio::sync::oneshot::Sender<()>,
    task: JoinSet<Option<LogWriter>>,
}

impl Metrics {
    pub(crate) fn start(depot: Depot, nonce: Nonce, work: &Work) -> Self {
        let files = [work.metrics(), work.code().join("metrics.jsonl")];
        let (end, ended) = tokio::sync::oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(follow(depot.clone(), nonce.clone(), files.clone(), ended));
        Self {
            depot,
            nonce,
            files,
            end,
            task,
        }
    }

    /// Puts all metrics into one file of the store.
    pub(crate) async fn finish(mut self) -> Result<(), StoreError> {
        let _ = self.end.send(());
        if let Some(Ok(Some(chunks))) = self.task.join_next().await {
            flush(chunks, self.depot.patience()).await?;
        }
        let mut all = Vec::new();
        for file in &self.files {
            // What the command put there instead of a file is not metrics. Most steps have
            // none, and are not kept waiting for another thread to say so.
            if file.exists()
                && let Ok(content) = tokio::fs::read(file).await
            {
                all.extend(content);
                if all.last().is_some_and(|byte| *byte != b'\n') {
                    all.push(b'\n');
                }
            }
        }
        if all.is_empty() {
            Ok(())
        } else {
            self.depot.write_metrics(&self.nonce, all).await
        }
    }
}

async fn follow(
    depot: Depot,
    nonce: Nonce,
    files: [PathBuf; 2],
    mut ended: tokio::sync::oneshot::Receiver<()>,
) -> Option<LogWriter> {
    let mut read = [0, 0];
    let mut chunks: Option<LogWriter> = None;
    loop {
        let over = tokio::select! {
            _ = &mut ended => true,
            () = tokio::time::sleep(PAUSE) => false,
        };
        for (file, read) in files.iter().zip(&mut read) {
            while let Some(lines) = new_lines(file, read, over) {
                chunks
                    .get_or_insert_with(|| depot.metrics_chunks(&nonce))
                    .append(&lines)
                    .await;
            }
        }
        if over {
            return chunks;
        }
    }
}

/// The whole lines of `file` after `read` bytes; at the end also what has no line end.
fn new_lines(file: &PathBuf, read: &mut u64, over: bool) -> Option<Vec<u8>> {
    let mut file = std::fs::File::open(file).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() <= *read {
        return None;
    }
    file.seek(SeekFrom::Start(*read)).ok()?;
    let mut bytes = Vec::new();
    file.take(MOST_AT_ONCE).read_to_end(&mut bytes).ok()?;
    let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(last) => last + 1,
        None if over || bytes.len() as u64 == MOST_AT_ONCE => bytes.len(),
        None => return None,
    };
    bytes.truncate(whole);
    *read += whole as u64;
    (!bytes.is_empty()).then_some(bytes)
}
