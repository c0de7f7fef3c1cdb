//! Runs the command of a step in a container, beside which this process stands:
//! started through an engine, ended by SIGTERM, the grace, then SIGKILL; the time
//! limit; an engine that goes away in the middle. The engine's API is behind
//! [`Engine`]: nothing here knows Docker. Never removes what it did not make.

use crate::command::{EndedBy, Finished};
use crate::options::EngineOptions;
use crate::stop::{Stop, Stopped};
use crate::tree::Tree;
use auria_core::plan::Network;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an engine may be away before its container is given up.
const ENGINE_PATIENCE: Duration = Duration::from_secs(120);
/// How soon it is asked again meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// An engine that was there for so long was not away before.
const THERE_AGAIN: Duration = Duration::from_secs(5);

/// Process 1 of a container: a shell that starts the command as a child, since the
/// kernel keeps signals from a process 1, and waits for what the command leaves
/// behind as [`crate::command`] does: for an instant, or after SIGTERM until the end
/// of the grace. `$1` is the command, `$2` the pipe that takes all of its output, `$3` a
/// file that it makes where the kernel killed one of the processes for want of memory:
/// engines look at process 1 alone, some of them.
pub const INIT: &str = r#"exec >"$2" 2>&1
told=
trap 'told=1' TERM
shell=sh
command -v bash >/dev/null 2>&1 && shell=bash
exec 3>&1 >/dev/null 2>&1
(exec "$shell" -c "$1" >&3 2>&3 3>&-)
code=$?
exec 3>&-
for counts in /sys/fs/cgroup/memory/memory.oom_control /sys/fs/cgroup/memory.events; do
  [ -r "$counts" ] || continue
  while read -r name count; do
    [ "$name" = oom_kill ] && [ "$count" -gt 0 ] && : >"$3"
  done <"$counts"
done
rounds=0
while set -- /proc/[0-9]*; [ $# -gt 1 ]; do
  if [ -z "$told" ]; then
    rounds=$((rounds + 1))
    [ $rounds -gt 20 ] && break
  fi
  sleep 0.01 || break
done
exit $code
"#;

/// The label that holds the [`identity`](crate::tree::identity) of a container's
/// launcher.
pub const LAUNCHER: &str = "auria-pipeline.launcher";

/// The name of the container of an attempt, by the
/// [`AttemptFolder::key`](crate::runtime::AttemptFolder::key).
#[must_use]
pub fn name(key: &str) -> String {
    format!("auria-{key}")
}

/// Reaches the engine that the options of an attempt name.
pub type Connect = fn(&EngineOptions) -> Result<Arc<dyn Engine>, EngineError>;

/// What a launcher asks of a container engine. A container is known by the name that
/// [`ContainerSpec`] gives it.
#[async_trait::async_trait]
pub trait Engine: Send + Sync {
    /// Brings the image where it is not there yet.
    async fn pull(&self, image: &str) -> Result<(), EngineError>;

    /// Starts a container, in the place of one of the same name that another launcher
    /// left. Gives the shell that is its process 1.
    async fn start(&self, spec: &ContainerSpec) -> Result<&'static str, EngineError>;

    /// Waits until the container has ended.
    async fn wait(&self, name: &str) -> Result<Exit, EngineError>;

    /// Sends SIGTERM to every process of the container.
    async fn terminate(&self, name: &str, shell: &str) -> Result<(), EngineError>;

    /// Kills the container.
    async fn kill(&self, name: &str) -> Result<(), EngineError>;

    /// Removes the container, running or not. There being none is no error.
    async fn remove(&self, name: &str) -> Result<(), EngineError>;
}

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name, which no other container of this engine has.
    pub name: String,
    /// The image, as the plan pins it.
    pub image: String,
    /// What follows the shell: `-c`, [`INIT`] and its arguments.
    pub arguments: Vec<String>,
    /// Variables, beside those of the image.
    pub variables: BTreeMap<String, String>,
    /// By which it is found.
    pub labels: BTreeMap<String, String>,
    /// The working folder.
    pub folder: PathBuf,
    /// Folders and files of this host, each at its own path.
    pub mounts: Vec<PathBuf>,
    /// CPU time, in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Memory, in bytes; there is no swap beside it.
    pub memory_bytes: Option<u64>,
    /// `/dev/shm`, in bytes.
    pub shm_bytes: Option<u64>,
    /// Ids of GPUs.
    pub gpus: Vec<String>,
    /// What it may reach.
    pub network: Network,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit status of its process 1.
    pub code: i32,
    /// The kernel killed one of its processes for want of memory.
    pub out_of_memory: bool,
}

/// An engine did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The image is not there and cannot be had.
    #[error("the image `{image}` cannot be had: {message}")]
    NoImage {
        /// Which.
        image: String,
        /// What the engine says.
        message: String,
    },
    /// The image holds no shell.
    #[error("the image `{image}` has neither `bash` nor `sh`: a command cannot run in it")]
    NoShell {
        /// Which.
        image: String,
    },
    /// There is no such container any more.
    #[error("its container is gone: someone removed it")]
    Gone,
    /// It was made, and the engine went away before it was started.
    #[error("its container was not started: the engine went away")]
    NeverStarted,
    /// It will not.
    #[error("the engine refuses: {0}")]
    Refused(String),
    /// It does not answer.
    #[error("the engine does not answer: {0}")]
    Unreachable(String),
}

/// What [`run`] is told beside the container itself.
pub(crate) struct Order<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) spec: ContainerSpec,
    /// The attempt's [`AttemptFolder::key`](crate::runtime::AttemptFolder::key), which
    /// marks its processes.
    pub(crate) key: String,
    /// Keeps the pipe of the output open until the container has ended.
    pub(crate) output: OwnedFd,
    /// The file that [`INIT`] makes where memory ran out.
    pub(crate) memory: PathBuf,
    /// `limits.timeout`.
    pub(crate) timeout: Option<Duration>,
    /// Between SIGTERM and SIGKILL once the time is over.
    pub(crate) grace: Duration,
}

/// Runs a container to its end and removes it.
pub(crate) async fn run(order: Order<'_>, stopped: Stopped) -> Result<Finished, EngineError> {
    let (engine, name, key) = (order.engine, order.spec.name.clone(), order.key.clone());
    let finished = attend(order, stopped).await;
    if let Err(error) = engine.remove(&name).await {
        // An executor looks for containers without a launcher.
        tracing::warn!("the container {name} is left for now: {error}");
    }
    if finished.is_err() {
        // An engine that was away may not know what it had started.
        end_by_mark(&key).await;
    }
    finished
}

async fn attend(order: Order<'_>, mut stopped: Stopped) -> Result<Finished, EngineError> {
    let Order {
        engine,
        spec,
        key,
        output: _output,
        memory,
        timeout,
        grace,
    } = order;
    let name = spec.name.as_str();
    let mut away: Option<Instant> = None;
    let shell = match engine.start(&spec).await {
        Ok(shell) => shell,
        // It may have been started all the same: then it is waited for, else that tells.
        Err(EngineError::Unreachable(message)) => {
            tracing::warn!("the engine went away while a container was started: {message}");
            away = Some(Instant::now());
            "sh"
        }
        Err(error) => return Err(error),
    };
    let began = Instant::now();
    let timeout_at = timeout.map(|timeout| began + timeout);
    let mut ended_by = None;
    let mut kill_at: Option<Instant> = None;
    let mut seen: Option<Stop> = None;
    let mut kills: u32 = 0;
    let mut asked = began;
    let mut waiting = engine.wait(name);
    let exit = loop {
        let wake = match kills {
            0 => kill_at,
            rounds => Some(Instant::now() + Duration::from_millis(200) * rounds.min(25)),
        };
        tokio::select! {
            exit = &mut waiting => match exit {
                Ok(exit) => break exit,
                Err(EngineError::Unreachable(message)) => {
                    if asked.elapsed() > THERE_AGAIN {
                        away = None;
                    }
                    let since = *away.get_or_insert_with(|| {
                        tracing::warn!("the engine went away while the command runs: {message}");
                        Instant::now()
                    });
                    if since.elapsed() > ENGINE_PATIENCE {
                        end_by_mark(&key).await;
                        if ended_by.is_none() {
                            return Err(EngineError::Unreachable(message));
                        }
                        break Exit { code: 137, out_of_memory: false };
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                    asked = Instant::now();
                    waiting = engine.wait(name);
                }
                Err(error) => return Err(error),
            },
            stop = stopped.changed_from(seen) => {
                seen = Some(stop);
                if ended_by.is_none() {
                    ended_by = Some(EndedBy::Stop(stop.cause));
                    terminate(engine, name, shell).await;
                }
                kill_at = Some(kill_at.map_or(stop.kill_at, |at| at.min(stop.kill_at)));
            }
            () = sleep_until(timeout_at.filter(|_| ended_by.is_none())) => {
                ended_by = Some(EndedBy::Timeout);
                kill_at = Some(Instant::now() + grace);
                terminate(engine, name, shell).await;
            }
            () = sleep_until(wake) => {
                kills += 1;
                if let Err(error) = engine.kill(name).await {
                    tracing::warn!("the container does not end through its engine: {error}");
                    end_by_mark(&key).await;
                }
            }
        }
    };
    let ran = began.elapsed();
    if away.is_some() && exit.code != 0 && ended_by.is_none() {
        ended_by = Some(EndedBy::EngineLost);
    }
    Ok(Finished {
        code: exit.code,
        signal: None,
        ran,
        ended_by,
        out_of_memory: (exit.out_of_memory || memory.exists())
            && exit.code != 0
            && ended_by.is_none(),
        left_behind: 0,
    })
}

async fn terminate(engine: &dyn Engine, name: &str, shell: &str) {
    if let Err(error) = engine.terminate(name, shell).await {
        // SIGKILL follows at the end of the grace in any case.
        tracing::warn!("SIGTERM did not reach the container: {error}");
    }
}

/// Ends the processes of a container that its engine does not end.
async fn end_by_mark(key: &str) {
    let key = key.to_owned();
    let ended = tokio::task::spawn_blocking(move || Tree::of_key(&key).end_leftovers()).await;
    if let Ok(Err(left)) = ended {
        tracing::warn!("processes of the container do not end: {left:?}");
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await,
        None => std::future::pending().await,
    }
}
