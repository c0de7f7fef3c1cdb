//! The executor `docker`: each attempt is a launcher process of its own on this
//! machine, as with `process`, and its command runs in a container beside it. The
//! launcher fetches and publishes through a folder that the container sees; the
//! container holds no credential and needs no route to the store. Docker and Podman
//! are driven through the same API.

pub mod client;
mod conda;
mod context;
mod create;
pub mod find;
pub mod images;
pub(crate) mod leftovers;

pub use client::{Client, Facts, Kind, connect};
pub use find::{NoEngine, Places};

use crate::executor::{AttemptEvent, Executor, ListError, StartError, StopError, WatchError};
use crate::machine::gib;
use crate::process::{Beside, ProcessExecutor, ProcessOptions};
use auria_core::plan::{Environment, InputMode};
use auria_core::ticket::{Ticket, TicketInput};
use auria_core::{AttemptId, RunId};
use auria_launcher::EngineOptions;
use auria_launcher::container::EngineError;
use auria_launcher::runtime::{RuntimeError, RuntimeRoot};
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How often it is looked for containers whose launcher is gone.
const SWEPT_EVERY: Duration = Duration::from_secs(60);

/// The executor `docker`. When it is dropped, launchers and their containers go on.
#[derive(Debug)]
pub struct DockerExecutor {
    attempts: ProcessExecutor,
    facts: Facts,
    work_root: PathBuf,
}

/// The executor `docker` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The engine does not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It runs on another machine.
    #[error(
        "the engine at {address} runs on `{there}`, and this is `{here}`: its containers cannot see this machine's files"
    )]
    Elsewhere {
        /// Where it is.
        address: String,
        /// Its machine and kernel.
        there: String,
        /// This one's.
        here: String,
    },
    /// The runtime folder cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl DockerExecutor {
    /// An executor beside the engine `client`. `mounts` are what every container sees of
    /// this host beside its own work folder. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// Where the engine does not answer, or is another machine's.
    pub async fn new(
        options: ProcessOptions,
        client: Client,
        mounts: Vec<PathBuf>,
    ) -> Result<Self, DockerError> {
        let facts = here(&client).await?.clone();
        let beside = Beside {
            address: client.address().to_owned(),
            mounts,
        };
        let (runtime, work_root) = (options.runtime.clone(), options.work_root.clone());
        let attempts = ProcessExecutor::beside(options, Some(beside))?;
        attempts.spawn(async move {
            loop {
                leftovers::sweep(&client, &runtime).await;
                tokio::time::sleep(SWEPT_EVERY).await;
            }
        });
        Ok(Self {
            attempts,
            facts,
            work_root,
        })
    }

    /// What this engine cannot do of what a step asks for; `None` where it can.
    fn refusal(&self, ticket: &Ticket) -> Option<String> {
        let resources = &ticket.resources;
        let engine = &self.facts;
        if resources.memory_bytes.is_some() && !engine.limits_memory {
            return Some(format!(
                "the step asks for memory, and {engine} cannot hold containers to an amount of it here"
            ));
        }
        if resources.cpu_millis.is_some() && !engine.limits_cpus {
            return Some(format!(
                "the step asks for CPUs, and {engine} cannot hold containers to a share of them here"
            ));
        }
        if let (Some(asked), Some(free)) = (
            resources.ephemeral_storage_bytes,
            free_below(&self.work_root),
        ) && asked > free
        {
            return Some(format!(
                "the step asks for {} of scratch space, and {} are free at {}",
                gib(asked),
                gib(free),
                self.work_root.display()
            ));
        }
        if resources.gpus > 0 && engine.kind == Kind::Podman {
            return Some(format!(
                "the step asks for GPUs, and {engine} does not take that through Docker's API; run it with Docker, or with `--on process`"
            ));
        }
        None
    }
}

/// Bytes that are free on the disk where `folder` is or will be.
fn free_below(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let disk = nix::sys::statvfs::statvfs(there).ok()?;
    Some(disk.blocks_available() * disk.fragment_size())
}

/// What the engine is, which has to be this machine's own.
///
/// # Errors
/// Where it does not answer, or runs elsewhere: on another host, or in a virtual machine.
pub async fn here(client: &Client) -> Result<&Facts, DockerError> {
    let facts = client.facts().await?;
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        text.trim().to_owned()
    };
    let (host, kernel) = (read("hostname"), read("osrelease"));
    if facts.host == host && facts.kernel == kernel {
        return Ok(facts);
    }
    Err(DockerError::Elsewhere {
        address: client.address().to_owned(),
        there: format!("{} (Linux {})", facts.host, facts.kernel),
        here: format!("{host} (Linux {kernel})"),
    })
}

/// What the launcher of `ticket` is told of its engine.
pub(crate) fn engine_options(
    beside: &Beside,
    runtime: &RuntimeRoot,
    ticket: &Ticket,
) -> EngineOptions {
    let labels = [
        (leftovers::RUNTIME, runtime.path().display().to_string()),
        ("auria-pipeline.run", ticket.attempt.run.to_string()),
        ("auria-pipeline.step", ticket.attempt.step.to_string()),
        ("auria-pipeline.attempt", ticket.attempt.number.to_string()),
    ];
    let mut mounts = beside.mounts.clone();
    mounts.extend(ticket.inputs.values().filter_map(|input| match input {
        TicketInput::External {
            uri,
            mode: InputMode::Direct,
            ..
        } if uri.starts_with('/') => Some(PathBuf::from(uri)),
        _ => None,
    }));
    EngineOptions {
        address: beside.address.clone(),
        labels: labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<BTreeMap<_, _>>(),
        mounts,
    }
}

/// The main function of a launcher: of a process on this host or of a container, as its
/// attempt says.
#[must_use]
pub fn launch(folder: PathBuf) -> ExitCode {
    auria_launcher::main(folder, Some(connect))
}

#[async_trait::async_trait]
impl Executor for DockerExecutor {
    async fn start(&self, ticket: &Ticket) -> Result<(), StartError> {
        let Ticket {
            environment,
            distribution,
            // The container's limits and devices; what never fits is refused below.
            resources: _,
            // The container's network.
            network: _,
            // Looked at where it waits for room.
            attempt: _,
            // Carried out by the launcher.
            version: _,
            claims_before: _,
            pipeline: _,
            experiment: _,
            command: _,
            code: _,
            variables: _,
            inputs: _,
            outputs: _,
            timeout_ms: _,
            grace_ms: _,
            publish_grace_ms: _,
            restore: _,
            key: _,
            // A container ends with its attempt.
            keep_warm: _,
            // Resolved to resources before.
            compute: _,
        } = ticket;
        let refuse = |message: String| Err(StartError::Refused { message });
        if !matches!(environment, Environment::Image { .. }) {
            return refuse(
                "the target `docker` runs containers, and the step has no image to run in"
                    .to_owned(),
            );
        }
        if let Some(distribution) = distribution {
            return refuse(format!(
                "the target `docker` runs one container for a step, and this one is distributed (`distribution` of type `{}`); `--on process` and `--on kubernetes` run it",
                distribution.as_str()
            ));
        }
        if let Some(refusal) = self.refusal(ticket) {
            return refuse(refusal);
        }
        self.attempts.queue(ticket)
    }

    async fn stop(&self, attempt: &AttemptId, grace: Duration) -> Result<(), StopError> {
        self.attempts.stop(attempt, grace).await
    }

    async fn list(&self, run: &RunId) -> Result<Vec<AttemptId>, ListError> {
        self.attempts.list(run).await
    }

    fn watch(&self, run: &RunId) -> BoxStream<'static, Result<AttemptEvent, WatchError>> {
        self.attempts.watch(run)
    }
}
