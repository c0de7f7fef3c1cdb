//! One attempt as its executor sees it: started, listened to, and, where its
//! launcher is gone without a word, looked for in the store. What its processes
//! left is ended before anyone is told.

use super::born::Launcher;
use super::hub::StopOrder;
use super::launch::{LaunchError, launch};
use super::slots::Share;
use super::warm::Warm;
use super::{Inner, Waiting, end_leftovers};
use crate::docker;
use crate::executor::is_last;
use auria_core::AttemptId;
use auria_core::outcome::{Cause, Claim, EndRecord, Timings};
use auria_core::run::AttemptNews;
use auria_launcher::runtime::{AttemptFolder, LAST_WORD, RuntimeError, TREE};
use auria_launcher::tree::Tree;
use auria_launcher::wire::{Line, Request, WIRE_VERSION};
use auria_launcher::{LaunchOptions, monotonic, tree};
use auria_store::{Journal, StoreError, checkpoint, now};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;

/// How much longer than its graces a launcher may take to end; then it is killed.
const MARGIN: Duration = Duration::from_secs(15);
/// Last lines that are kept for the record of an attempt that is gone.
const LAST_LINES: usize = 20;

/// A launcher that this executor started.
#[derive(Debug)]
pub(super) struct Started {
    launcher: Launcher,
    /// How often memory had run out on this machine by then.
    memory_kills: Option<u64>,
}

/// How often a lock is tried that is held by no launcher that listens, and the wait
/// between: longer than a clean-up takes.
const CLEANING_TRIES: u32 = 100;
const CLEANING_WAIT: Duration = Duration::from_millis(10);

/// Starts the launcher of an attempt that has found room, and follows it.
pub(super) async fn begin(inner: &Arc<Inner>, waiting: Waiting, share: Share) {
    let Waiting {
        ticket,
        stops,
        since,
        need: _,
        told: _,
    } = waiting;
    let attempt = ticket.attempt.clone();
    let folder = inner.folder(&attempt);
    let mut options = LaunchOptions {
        store: inner.options.store.url().to_string(),
        identity: inner.options.store.identity(),
        ticket,
        lock: None,
        listener: None,
        holds: Vec::new(),
        warm: inner.warm.as_ref().map(Warm::socket),
        gpus: Vec::new(),
        path: inner.options.path.clone(),
        work_root: inner.options.work_root.clone(),
        queued_ms: u64::try_from(since.elapsed().as_millis()).ok(),
        room_at_ms: u64::try_from(monotonic().as_millis()).ok(),
        store_patience_ms: u64::try_from(inner.options.store_patience.as_millis())
            .unwrap_or(u64::MAX),
        engine: None,
    };
    options.engine = inner
        .beside
        .as_ref()
        .map(|beside| docker::engine_options(beside, &inner.options.runtime, &options.ticket));
    let (starter, place) = (inner.clone(), folder.clone());
    let started = tokio::task::spawn_blocking(move || {
        let new = place.create()?;
        let Some(lock) = lock_or_listen(&place)? else {
            return Ok(None);
        };
        // Nobody was here before: there is nothing of a killed launcher to look for
        // among all processes of the machine.
        if !new {
            clear(&place)?;
        }
        let memory_kills = tree::machine_memory_kills();
        // Within the runtime, which waiting for its end needs.
        launch(
            &starter.nursery,
            &starter.options.launcher,
            &starter.this_program,
            &place,
            &mut options,
            &lock,
            &share,
        )
        .map(|launcher| {
            Some(Started {
                launcher,
                memory_kills,
            })
        })
    });
    let started = match started.await {
        Ok(started) => started,
        Err(error) => Err(LaunchError::Spawn {
            source: std::io::Error::other(error),
        }),
    };
    match started {
        Ok(started) => {
            inner.hub.launched(&attempt);
            inner.spawn(follow(inner.clone(), attempt, folder, stops, started));
        }
        Err(error) => {
            inner
                .hub
                .news(
                    &attempt,
                    AttemptNews::Unavailable {
                        message: error.to_string(),
                    },
                )
                .await;
        }
    }
}

/// The lock of an attempt; none where a launcher holds it. Others hold it for a moment
/// while they clean up: they do not listen.
fn lock_or_listen(folder: &AttemptFolder) -> Result<Option<File>, RuntimeError> {
    for _ in 0..CLEANING_TRIES {
        if let Some(lock) = folder.try_lock()? {
            return Ok(Some(lock));
        }
        if folder.socket().exists() {
            return Ok(None);
        }
        std::thread::sleep(CLEANING_WAIT);
    }
    Ok(None)
}

/// Makes a folder ready that an earlier launcher of this attempt may have left.
fn clear(folder: &AttemptFolder) -> Result<(), RuntimeError> {
    end_leftovers(folder);
    for name in [LAST_WORD, TREE] {
        match std::fs::remove_file(folder.path().join(name)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(RuntimeError::Folder {
                    path: folder.path().to_owned(),
                    source,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Tells the news of an attempt until its last.
pub(super) async fn follow(
    inner: Arc<Inner>,
    attempt: AttemptId,
    folder: AttemptFolder,
    stops: watch::Receiver<Option<StopOrder>>,
    started: Option<Started>,
) {
    let patience = folder
        .read::<LaunchOptions>(auria_launcher::runtime::LAUNCH)
        .ok()
        .flatten()
        .map_or(MARGIN, |options| {
            MARGIN + Duration::from_millis(options.ticket.publish_grace_ms)
        });
    let mut following = Following {
        inner,
        attempt,
        folder,
        stops,
        started,
        patience,
        pid: None,
        killed: false,
        clean: true,
        last_lines: VecDeque::new(),
    };
    let last = following.until_last().await;
    // What the store does not hold is kept until someone has heard it.
    let stored = matches!(
        last,
        AttemptNews::Committed { .. } | AttemptNews::Ended { .. }
    );
    let heard = following.inner.hub.news(&following.attempt, last).await;
    following.clean_up(stored || heard).await;
}

struct Following {
    inner: Arc<Inner>,
    attempt: AttemptId,
    folder: AttemptFolder,
    stops: watch::Receiver<Option<StopOrder>>,
    started: Option<Started>,
    /// After the deadline of a stop, until the launcher is killed.
    patience: Duration,
    /// The launcher's process.
    pid: Option<i32>,
    /// Whether we killed it.
    killed: bool,
    /// Whether nothing of it is left that only its folder tells of.
    clean: bool,
    last_lines: VecDeque<String>,
}

impl Following {
    async fn until_last(&mut self) -> AttemptNews {
        let mut pause = Duration::from_millis(2);
        loop {
            if let Ok(stream) = UnixStream::connect(self.folder.socket()).await {
                pause = Duration::from_millis(2);
                if let Some(last) = self.listen(stream).await {
                    return last;
                }
            }
            // It has not begun to listen, has hung up on us, or is gone.
            match self.folder.is_held() {
                Ok(false) => return self.find_out().await,
                Ok(true) => {}
                Err(error) => tracing::warn!("{error}"),
            }
            self.kill_if_overdue();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Tells what the launcher says; its last news, or none where it hung up.
    async fn listen(&mut self, stream: UnixStream) -> Option<AttemptNews> {
        self.pid = stream
            .peer_cred()
            .ok()
            .and_then(|peer| peer.pid())
            .or(self.pid);
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut sent = None;
        loop {
            let order = *self.stops.borrow_and_update();
            if let Some(order) = order
                && sent != Some(order)
            {
                sent = Some(order);
                let left = if order.at_once {
                    Duration::ZERO
                } else {
                    order.kill_at.saturating_duration_since(Instant::now())
                };
                // Rounded up: a grace of 0 means more than that its time is over.
                let grace_ms = u64::try_from(left.as_millis())
                    .unwrap_or(u64::MAX)
                    .max(u64::from(!order.at_once));
                let mut request =
                    serde_json::to_vec(&Request::Stop { grace_ms }).unwrap_or_default();
                request.push(b'\n');
                if write.write_all(&request).await.is_err() {
                    return None;
                }
            }
            let line = tokio::select! {
                line = lines.next_line() => line.ok()??,
                changed = self.stops.changed() => {
                    if changed.is_err() {
                        // Nobody can ask any more.
                        tokio::time::sleep(Duration::from_millis(250)).await;
                    }
                    continue;
                }
                () = overdue(order, self.patience) => {
                    self.kill_if_overdue();
                    return None;
                }
            };
            match serde_json::from_str(&line) {
                Ok(Line::Hello { version, .. }) if version != WIRE_VERSION => {
                    tracing::warn!("a launcher of another version runs {}", self.attempt);
                    return None;
                }
                Ok(Line::Hello { .. }) => {}
                Ok(Line::News { news }) if is_last(&news) => return Some(news),
                Ok(Line::News { news }) => {
                    self.inner.hub.news(&self.attempt, news).await;
                }
                Ok(Line::Log { lines }) => {
                    self.inner.hub.log(&self.attempt, &lines);
                    self.last_lines.extend(lines);
                    let surplus = self.last_lines.len().saturating_sub(LAST_LINES);
                    self.last_lines.drain(..surplus);
                }
                Err(error) => {
                    tracing::warn!(
                        "the launcher of {} says something unknown: {error}",
                        self.attempt
                    );
                    return None;
                }
            }
        }
    }

    fn kill_if_overdue(&mut self) {
        let overdue = self
            .stops
            .borrow()
            .is_some_and(|order| Instant::now() >= order.kill_at + self.patience);
        let child = self
            .started
            .as_ref()
            .and_then(|started| started.launcher.id());
        if overdue && let Some(pid) = child.or(self.pid) {
            tracing::warn!(
                "the launcher of {} did not end in time and is killed",
                self.attempt
            );
            self.killed = true;
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// What became of an attempt that no launcher has any more.
    async fn find_out(&mut self) -> AttemptNews {
        let (folder, key) = (self.folder.clone(), self.folder.key());
        let read = tokio::task::spawn_blocking(move || {
            let word = folder.last_word().ok().flatten();
            let tree = folder
                .read::<Tree>(TREE)
                .ok()
                .flatten()
                .unwrap_or_else(|| Tree::of_key(&key));
            let memory_kills = tree.memory_kills().unwrap_or(0);
            // Another may have the attempt again by now; then it cleans up.
            let clean = if folder.path().is_dir()
                && let Ok(Some(_lock)) = folder.try_lock()
            {
                end_leftovers(&folder)
            } else {
                true
            };
            (word, memory_kills, clean)
        });
        let (word, memory_kills, clean) = read.await.unwrap_or((None, 0, true));
        self.clean = clean;
        if let Some(word) = word {
            return word;
        }
        let status = match &mut self.started {
            Some(started) => started.launcher.wait().await,
            None => None,
        };
        let mut pause = Duration::from_millis(200);
        loop {
            match self.ask_the_store(status, memory_kills).await {
                Ok(news) => return news,
                Err(error) => {
                    tracing::warn!("what became of {} is not known yet: {error}", self.attempt);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(15));
                }
            }
        }
    }

    async fn ask_the_store(
        &self,
        status: Option<ExitStatus>,
        memory_kills: u64,
    ) -> Result<AttemptNews, StoreError> {
        let store = &self.inner.options.store;
        let journal = Journal::new(store.clone(), self.attempt.run.clone());
        if let Some(outcome) = journal.read_outcome(&self.attempt.step).await? {
            return Ok(AttemptNews::Committed {
                outcome: Arc::new(outcome),
            });
        }
        if let Some(end) = journal.read_end(&self.attempt).await? {
            return Ok(AttemptNews::Ended { end });
        }
        let Some(claim) = journal.read_claim(&self.attempt).await? else {
            return Ok(AttemptNews::Gone {
                claim: None,
                end: None,
                checkpoint: None,
            });
        };
        let checkpoint = checkpoint::latest(store, &self.attempt, &claim.nonce).await?;
        let (cause, message) = self.why(&claim, status, memory_kills);
        let end = EndRecord {
            attempt: self.attempt.clone(),
            nonce: Some(claim.nonce.clone()),
            cause,
            exit_code: None,
            message,
            last_lines: self.last_lines.iter().cloned().collect(),
            timings: Timings::default(),
            checkpoint: checkpoint.clone(),
            published: None,
            node: Some(claim.host.clone()),
            started: Some(claim.claimed),
            ended: now(),
        };
        Ok(AttemptNews::Gone {
            claim: Some(claim),
            end: Some(end),
            checkpoint,
        })
    }

    fn why(&self, claim: &Claim, status: Option<ExitStatus>, memory_kills: u64) -> (Cause, String) {
        let grew = |before: Option<u64>| matches!((before, tree::machine_memory_kills()), (Some(before), Some(after)) if after > before);
        let machine_short = self
            .started
            .as_ref()
            .is_some_and(|started| grew(started.memory_kills));
        let signal = status.and_then(|status| status.signal());
        if self.killed {
            return (
                Cause::Canceled,
                "it did not end within its grace, and was killed".to_owned(),
            );
        }
        // The machine's own count rises with every other step's group too: it speaks only
        // where the kernel's log, which names the process, cannot be read.
        let launcher_short = signal == Some(Signal::SIGKILL as i32)
            && machine_short
            && claim
                .process
                .parse()
                .ok()
                .and_then(tree::killed_for_memory)
                .unwrap_or(true);
        if memory_kills > 0 || launcher_short {
            return (
                Cause::OutOfMemory,
                "memory ran out, and its launcher died with it".to_owned(),
            );
        }
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let message = match (signal, status) {
            (Some(signal), _) => format!("its launcher was ended by signal {signal}"),
            (None, Some(status)) => format!("its launcher left no word ({status})"),
            (None, None) if boot.trim() != claim.boot_id => {
                "the machine that ran it was restarted".to_owned()
            }
            (None, None) => "its launcher is gone".to_owned(),
        };
        (Cause::NodeLost, message)
    }

    /// Waits for the launcher's own end, and removes what it left.
    async fn clean_up(mut self, forget: bool) {
        if let Some(started) = &mut self.started {
            let _ = started.launcher.wait().await;
        }
        if !forget || !self.clean {
            return;
        }
        let folder = self.folder;
        let cleaned = tokio::task::spawn_blocking(move || {
            for _ in 0..100 {
                if !folder.path().is_dir() {
                    return Ok(());
                }
                if let Some(_lock) = folder.try_lock()? {
                    return folder.remove();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        if let Ok(Err(error)) = cleaned.await {
            tracing::warn!("{error}");
        }
    }
}

async fn overdue(order: Option<StopOrder>, patience: Duration) {
    match order {
        Some(order) => {
            tokio::time::sleep_until(tokio::time::Instant::from_std(order.kill_at + patience)).await
        }
        None => std::future::pending().await,
    }
}
