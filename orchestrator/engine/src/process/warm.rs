//! The warm programs of an executor (`keep_warm: process`): started when they are first
//! wanted, lent to one launcher at a time over a socket in the runtime folder, ended when
//! nobody has wanted them for a while, when they take too much memory, or at any doubt.
//! Programs are told apart by all that makes them ([`Kind`]): none is lent to a step that
//! wants another. They end with this process.

use super::born::Born;
use auria_launcher::tree::Tree;
use auria_launcher::warm::{Answer, Ask, BACK, Kind, LONGEST_LINE, Program, WARM_VERSION};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::collections::HashMap;
use std::fs;
use std::io::{self, IoSlice, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

/// A program that is not ready after so long is ended.
const READY: Duration = Duration::from_secs(120);
/// A program that did not start is not tried again for so long.
const FAILED: Duration = Duration::from_secs(60);
/// Kinds whose failure is remembered.
const MOST_FAILED: usize = 64;

/// What an executor keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmOptions {
    /// Resident bytes of all programs; the longest idle one is ended above that.
    pub memory_bytes: u64,
    /// A program that nobody wants for so long is ended.
    pub idle: Duration,
    /// The most programs, idle or at work.
    pub most: usize,
}

/// The programs that are kept, and where they are lent. They end when it is dropped.
#[derive(Debug)]
pub(super) struct Warm {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    options: WarmOptions,
    folder: PathBuf,
    state: Mutex<State>,
    /// Something became idle.
    changed: Notify,
    starter: mpsc::Sender<Start>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// The longest idle first.
    idle: Vec<Idle>,
    /// Lent or being started.
    at_work: usize,
    /// What did not start, by its kind as JSON: when, and why.
    failed: HashMap<String, (Instant, String)>,
}

#[derive(Debug)]
struct Idle {
    kept: Kept,
    since: Instant,
}

/// A program with what belongs to it.
#[derive(Debug)]
struct Kept {
    kind: Arc<Kind>,
    program: Program,
    process: Born,
    folder: PathBuf,
    memory_kills: Option<u64>,
}

/// What the thread is asked that starts programs: they end with it.
#[derive(Debug)]
struct Start {
    kind: Arc<Kind>,
    folder: PathBuf,
    key: String,
    started: oneshot::Sender<io::Result<Program>>,
}

impl Warm {
    /// Lends programs at a socket in `runtime`. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    pub(super) fn open(runtime: &Path, options: WarmOptions) -> io::Result<Self> {
        let parent = runtime.join("warm");
        fs::create_dir_all(&parent)?;
        sweep(&parent);
        // Several executors may be in one process.
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let listener = UnixListener::bind(folder.join(SOCKET))?;
        let (starter, starts) = mpsc::channel::<Start>();
        std::thread::Builder::new()
            .name("warm".to_owned())
            .spawn(move || {
                while let Ok(start) = starts.recv() {
                    let program = Program::start(&start.kind, &start.folder, &start.key);
                    // Who asked may be gone: then the program ends with what is dropped here.
                    let _ = start.started.send(program);
                }
            })?;
        let shared = Arc::new(Shared {
            options,
            folder,
            state: Mutex::default(),
            changed: Notify::new(),
            starter,
            next: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(shared.clone().lend_to_all(listener));
        tasks.spawn(shared.clone().end_idle());
        Ok(Self { shared, tasks })
    }

    /// Where programs are lent.
    pub(super) fn socket(&self) -> PathBuf {
        self.shared.folder.join(SOCKET)
    }
}

const SOCKET: &str = "s";
static OPENED: AtomicU64 = AtomicU64::new(0);

impl Drop for Warm {
    fn drop(&mut self) {
        self.tasks.abort_all();
        let idle = std::mem::take(&mut self.shared.state().idle);
        for idle in idle {
            idle.kept.program.end();
        }
        let _ = fs::remove_dir_all(&self.shared.folder);
    }
}

/// Ends and removes what executors left that are gone. Their programs ended with them; what
/// those had started may run, and cgroups are left.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.split('-').next().unwrap_or_default();
        if Path::new("/proc").join(process).exists() {
            continue;
        }
        for program in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            let number = program.file_name();
            let tree = Tree::create(&key(&name, &number.to_string_lossy()), None);
            if let Err(left) = tree.end_leftovers() {
                tracing::warn!("of an earlier server processes are left: {left:?}");
            }
        }
        let _ = fs::remove_dir_all(entry.path());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn lend_to_all(self: Arc<Self>, listener: UnixListener) {
        let mut lent = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((connection, _)) => {
                        lent.spawn(self.clone().lend(connection));
                    }
                    Err(error) => {
                        tracing::warn!("nobody can borrow a warm program: {error}");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                },
                Some(_) = lent.join_next() => {}
            }
        }
    }

    /// One launcher: asks, is lent a program, and gives it back or is gone.
    async fn lend(self: Arc<Self>, connection: UnixStream) {
        let (reader, mut writer) = connection.into_split();
        let mut reader = BufReader::new(reader);
        let Some(ask) = read_line(&mut reader)
            .await
            .and_then(|line| serde_json::from_str::<Ask>(&line).ok())
        else {
            return;
        };
        let mut kept = match self.have(ask).await {
            Ok(kept) => kept,
            Err(why) => {
                let _ = writer.write_all(&line(&Answer::Refused { why })).await;
                return;
            }
        };
        let _at_work = AtWork(self.clone());
        if let Err(error) = hand_over(&writer, &kept.program).await {
            tracing::warn!("a warm program could not be lent: {error}");
            end(kept).await;
            return;
        }
        let back = tokio::select! {
            ended = kept.process.wait() => {
                let answer = how(ended.ok(), &kept);
                let _ = writer.write_all(&line(&answer)).await;
                false
            }
            said = read_line(&mut reader) => said.as_deref() == Some(BACK),
        };
        if back {
            self.take_back(kept).await;
        } else {
            end(kept).await;
        }
    }

    /// A program of the kind that is asked for, idle until now or new; counted as at work.
    async fn have(self: &Arc<Self>, ask: Ask) -> Result<Kept, String> {
        let Ask { kind, folder } = ask;
        if kind.version != WARM_VERSION {
            return Err("it is asked for by a launcher of another version".to_owned());
        }
        let named = serde_json::to_string(&kind).unwrap_or_default();
        let counted = loop {
            let (found, ended) = {
                let mut state = self.state();
                let known = state.failed.get(&named);
                if let Some((at, why)) = known
                    && at.elapsed() < FAILED
                {
                    return Err(why.clone());
                }
                let place = state.idle.iter().rposition(|idle| *idle.kept.kind == kind);
                let found = place.map(|place| state.idle.remove(place));
                let full = state.at_work + state.idle.len() >= self.options.most;
                let ended = match (&found, full) {
                    (None, true) if state.idle.is_empty() => {
                        return Err(format!(
                            "{} programs are at work, as many as are kept",
                            state.at_work
                        ));
                    }
                    (None, true) => Some(state.idle.remove(0)),
                    _ => None,
                };
                state.at_work += 1;
                (found, ended)
            };
            let counted = AtWork(self.clone());
            if let Some(ended) = ended {
                end(ended.kept).await;
            }
            match found {
                // What it said when nobody listened is of no step: any doubt ends it.
                Some(Idle { mut kept, .. }) => {
                    if kept.process.has_ended() || !is_silent(&kept.program) {
                        end(kept).await;
                    } else {
                        counted.keep();
                        return Ok(kept);
                    }
                }
                None => break counted,
            }
        };
        let kind = Arc::new(kind);
        match self.start(&kind, &folder).await {
            Ok(kept) => {
                counted.keep();
                Ok(kept)
            }
            Err(why) => {
                let why = format!("`{}` was not kept warm: {why}", kind.start);
                let mut state = self.state();
                state.failed.retain(|_, (at, _)| at.elapsed() < FAILED);
                if state.failed.len() < MOST_FAILED {
                    state.failed.insert(named, (Instant::now(), why.clone()));
                }
                Err(why)
            }
        }
    }

    async fn start(&self, kind: &Arc<Kind>, code: &Path) -> Result<Kept, String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // No other executor's: processes are found by it.
        let own = self.folder.file_name().unwrap_or_default();
        let key = key(&own.to_string_lossy(), &number.to_string());
        let folder = self.folder.join(number.to_string());
        let (from, to, copied) = (code.to_owned(), folder.clone(), kind.code.is_some());
        let made = tokio::task::spawn_blocking(move || {
            fs::create_dir_all(&to)?;
            if copied { copy(&from, &to) } else { Ok(()) }
        });
        made.await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| format!("its folder {}: {error}", folder.display()))?;
        let (started, heard) = oneshot::channel();
        let start = Start {
            kind: kind.clone(),
            folder: folder.clone(),
            key,
            started,
        };
        let program = match self.starter.send(start) {
            Ok(()) => heard.await.map_err(|_| "the executor ends".to_owned())?,
            Err(_) => return Err("the executor ends".to_owned()),
        };
        let program = program.map_err(|error| error.to_string())?;
        let process = Born::new(program.process()).map_err(|error| error.to_string())?;
        let kept = Kept {
            kind: kind.clone(),
            memory_kills: program.memory_kills(),
            program,
            process,
            folder,
        };
        match kept.program.ready(READY).await {
            Ok(()) => Ok(kept),
            Err(why) => {
                end(kept).await;
                Err(why)
            }
        }
    }

    /// Makes it as it was before it was lent, and keeps it.
    async fn take_back(&self, kept: Kept) {
        let cleaned = tokio::task::spawn_blocking(move || {
            let whole = kept.program.end_others().is_ok();
            (kept, whole)
        });
        let Ok((kept, whole)) = cleaned.await else {
            return;
        };
        if !whole {
            end(kept).await;
            return;
        }
        let mut beyond = Vec::new();
        {
            let mut state = self.state();
            state.idle.push(Idle {
                kept,
                since: Instant::now(),
            });
            let mut resident: u64 = state
                .idle
                .iter()
                .map(|idle| resident(idle.kept.program.process()))
                .sum();
            while resident > self.options.memory_bytes && !state.idle.is_empty() {
                let idle = state.idle.remove(0);
                resident = resident.saturating_sub(self::resident(idle.kept.program.process()));
                beyond.push(idle);
            }
        }
        self.changed.notify_one();
        for idle in beyond {
            end(idle.kept).await;
        }
    }

    /// Ends programs that have been idle for too long, for ever.
    async fn end_idle(self: Arc<Self>) {
        loop {
            let next = {
                let state = self.state();
                state
                    .idle
                    .first()
                    .map(|idle| idle.since + self.options.idle)
            };
            let until = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = until => {
                    let over = {
                        let mut state = self.state();
                        let over = |idle: &Idle| idle.since.elapsed() >= self.options.idle;
                        let count = state.idle.iter().take_while(|idle| over(idle)).count();
                        state.idle.drain(..count).collect::<Vec<_>>()
                    };
                    for idle in over {
                        end(idle.kept).await;
                    }
                }
                () = self.changed.notified() => {}
            }
        }
    }
}

/// One program at work, counted until it is dropped.
struct AtWork(Arc<Shared>);

impl AtWork {
    /// It goes on to be counted, by another.
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.at_work = state.at_work.saturating_sub(1);
    }
}

/// What the processes of a program are marked with: of the executor whose folder is
/// `executor`, its program `number`.
fn key(executor: &str, number: &str) -> String {
    format!("warm-{executor}-{number}")
}

/// Ends a program, and removes its folder.
async fn end(kept: Kept) {
    let Kept {
        program,
        process,
        folder,
        ..
    } = kept;
    let ended = tokio::task::spawn_blocking(move || {
        program.end();
        let _ = fs::remove_dir_all(folder);
    });
    if let Err(error) = ended.await {
        tracing::warn!("a warm program was not ended: {error}");
    }
    drop(process);
}

fn how(ended: Option<ExitStatus>, kept: &Kept) -> Answer {
    use std::os::unix::process::ExitStatusExt;
    let signal = ended.and_then(|status| status.signal());
    let code = match (ended.and_then(|status| status.code()), signal) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    let kills = (kept.memory_kills, kept.program.memory_kills());
    Answer::Ended {
        code,
        signal,
        out_of_memory: matches!(kills, (Some(before), Some(after)) if after > before),
    }
}

/// Whether nothing is left in the pipes of its output; what is in that of its errors is
/// taken away.
fn is_silent(program: &Program) -> bool {
    let [_, output, errors] = program.pipes();
    let read = |pipe: std::os::fd::BorrowedFd<'_>| -> io::Result<usize> {
        // The launchers that had it share this setting of the pipe.
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut file = fs::File::from(pipe.try_clone_to_owned()?);
        let mut all = 0;
        let mut buffer = [0; 4096];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) if all < 1024 * 1024 => all += length,
                Ok(_) => return Err(io::Error::other("it does not stop talking")),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
                Err(error) => return Err(error),
            }
        }
    };
    matches!(read(output), Ok(0)) && read(errors).is_ok()
}

async fn hand_over(writer: &tokio::net::unix::OwnedWriteHalf, program: &Program) -> io::Result<()> {
    let answer = line(&Answer::Lent {
        process: program.process(),
    });
    let pipes = program.pipes().map(|pipe| pipe.as_raw_fd());
    let socket: &UnixStream = writer.as_ref();
    socket
        .async_io(tokio::io::Interest::WRITABLE, || {
            let sent = sendmsg::<()>(
                socket.as_raw_fd(),
                &[IoSlice::new(&answer)],
                &[ControlMessage::ScmRights(&pipes)],
                MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
                None,
            );
            Ok(sent.map(drop)?)
        })
        .await
}

/// A line with its end, of no more than a bounded length.
async fn read_line(reader: &mut BufReader<tokio::net::unix::OwnedReadHalf>) -> Option<String> {
    let mut line = String::new();
    let mut bounded = reader.take(LONGEST_LINE as u64);
    match bounded.read_line(&mut line).await {
        Ok(length) if length > 0 => Some(line),
        _ => None,
    }
}

fn line(answer: &Answer) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Resident bytes of a process; 0 where it is gone.
fn resident(process: i32) -> u64 {
    let pages = fs::read_to_string(format!("/proc/{process}/statm")).ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Copies what is in one folder into another. Symlinks stay what they are.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, place) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir_all(&place)?;
            copy(&entry.path(), &place)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &place)?;
        } else {
            fs::copy(entry.path(), &place)?;
        }
    }
    Ok(())
}
