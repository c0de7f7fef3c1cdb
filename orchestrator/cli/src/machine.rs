//! This machine as the command line sees it: what it has for steps, its executor,
//! and the folders where steps' programs are looked for first.

use crate::edge;
use crate::failure::Failure;
use crate::target;
use auria_core::plan::{Environment, Plan, PlannedStep};
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, RunId};
use auria_engine::docker::DockerExecutor;
use auria_engine::executor::{
    AttemptEvent, Executor, ListError, StartError, StopError, WatchError,
};
use auria_engine::machine::{Machine, MachineConfig};
use auria_engine::process::{LauncherCommand, ProcessExecutor, ProcessOptions, WarmOptions};
use auria_launcher::runtime::RuntimeRoot;
use auria_store::Store;
use futures::stream::BoxStream;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// How long a launcher asks a store again that does not answer (`broker_grace`).
const STORE_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What this machine has for steps; `AURIA_GPUS` says which GPUs instead of looking.
/// Looked for once: a driver of GPUs may take a second to answer.
pub fn detect() -> Machine {
    static FOUND: OnceLock<Machine> = OnceLock::new();
    FOUND.get_or_init(look).clone()
}

fn look() -> Machine {
    let gpus = edge::variable("AURIA_GPUS").map(|gpus| {
        gpus.split(',')
            .map(str::trim)
            .filter(|id| !id.is_empty() && *id != "none")
            .map(str::to_owned)
            .collect()
    });
    Machine::detect(&MachineConfig {
        cpu_millis: None,
        memory_bytes: None,
        gpus,
    })
}

/// What of `plan` can never run on this machine, each in words, once.
pub fn misfits(plan: &Plan) -> Vec<String> {
    let machine = detect();
    let refusals = plan.steps.iter().filter_map(|step| {
        let refusal = machine.check(&step.resources).err()?;
        Some(format!("step {}: {refusal}", step.path.display()))
    });
    refusals.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Folders before a step's PATH: that of this program, and where that is a build
/// folder of cargo's, the other profile's.
pub fn program_folders() -> Vec<PathBuf> {
    let Some(folder) = std::env::current_exe()
        .ok()
        .and_then(|program| program.parent().map(PathBuf::from))
    else {
        return Vec::new();
    };
    let mut folders = vec![folder.clone()];
    if let Some(target) = folder.parent()
        && target.join("CACHEDIR.TAG").is_file()
    {
        folders.extend(
            ["debug", "release"]
                .map(|profile| target.join(profile))
                .into_iter()
                .filter(|other| *other != folder),
        );
    }
    folders
}

/// An executor of this machine.
pub enum Local {
    /// Without containers.
    Process(ProcessExecutor),
    /// In containers.
    Docker(DockerExecutor),
}

/// The executor for a run of `plan` in `store`.
///
/// # Errors
/// Where this program cannot be found, or no container engine answers.
pub async fn executor(store: &Store, runtime: RuntimeRoot, plan: &Plan) -> Result<Local, Failure> {
    let contained = |step: &PlannedStep| matches!(step.environment, Environment::Image { .. });
    if !plan.steps.iter().any(contained) {
        return Ok(Local::Process(processes(store, runtime)?));
    }
    let client = target::engine().await?;
    let executor = DockerExecutor::new(options(store, runtime)?, client, Vec::new()).await;
    executor
        .map(Local::Docker)
        .map_err(|error| Failure::unreachable(error.to_string()))
}

/// The executor of processes, which sees what runs in containers, too.
///
/// # Errors
/// Where this program cannot be found.
pub fn processes(store: &Store, runtime: RuntimeRoot) -> Result<ProcessExecutor, Failure> {
    ProcessExecutor::new(options(store, runtime)?)
        .map_err(|error| Failure::unreachable(error.to_string()))
}

/// A warm program that nobody wants for so long ends.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// Warm programs at once.
const MOST_WARM: usize = 16;

/// The executor of processes for a server: it keeps programs warm, in `warm_memory` bytes
/// or a quarter of this machine's; 0: none.
///
/// # Errors
/// As [`processes`].
pub fn serving(
    store: &Store,
    runtime: RuntimeRoot,
    warm_memory: Option<u64>,
) -> Result<ProcessExecutor, Failure> {
    let options = options(store, runtime)?;
    let memory_bytes = warm_memory.unwrap_or(options.machine.memory_bytes / 4);
    let executor = if memory_bytes == 0 {
        ProcessExecutor::new(options)
    } else {
        let warm = WarmOptions {
            memory_bytes,
            idle: IDLE,
            most: MOST_WARM,
        };
        ProcessExecutor::keeping_warm(options, warm)
    };
    executor.map_err(|error| Failure::unreachable(error.to_string()))
}

fn options(store: &Store, runtime: RuntimeRoot) -> Result<ProcessOptions, Failure> {
    let launcher = LauncherCommand::of_this_program(&["launch"])
        .map_err(|error| Failure::unreachable(format!("finding this program: {error}")))?;
    Ok(ProcessOptions {
        store: store.clone(),
        launcher,
        runtime,
        machine: detect(),
        path: program_folders(),
        work_root: std::env::temp_dir()
            .join(format!("auria-pipeline-{}", nix::unistd::getuid()))
            .join("work"),
        store_patience: STORE_PATIENCE,
    })
}

#[async_trait::async_trait]
impl Executor for Local {
    async fn start(&self, ticket: &Ticket) -> Result<(), StartError> {
        match self {
            Self::Process(executor) => executor.start(ticket).await,
            Self::Docker(executor) => executor.start(ticket).await,
        }
    }

    async fn stop(&self, attempt: &AttemptId, grace: Duration) -> Result<(), StopError> {
        match self {
            Self::Process(executor) => executor.stop(attempt, grace).await,
            Self::Docker(executor) => executor.stop(attempt, grace).await,
        }
    }

    async fn list(&self, run: &RunId) -> Result<Vec<AttemptId>, ListError> {
        match self {
            Self::Process(executor) => executor.list(run).await,
            Self::Docker(executor) => executor.list(run).await,
        }
    }

    fn watch(&self, run: &RunId) -> BoxStream<'static, Result<AttemptEvent, WatchError>> {
        match self {
            Self::Process(executor) => executor.watch(run),
            Self::Docker(executor) => executor.watch(run),
        }
    }
}
