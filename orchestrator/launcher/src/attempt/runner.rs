//! What runs the command of an attempt: a process of this host, or a container of an
//! engine beside it. Says what each of them is to be; running them is
//! [`crate::command`]'s and [`crate::container`]'s.

use super::{Attempt, text};
use crate::command::{self, Finished, Prepared, StartError};
use crate::container::{self, ContainerSpec, Engine};
use crate::failure::Failure;
use crate::options::millis;
use crate::runtime::TREE;
use crate::stop::Stopped;
use crate::template::Values;
use crate::tree::{self, Tree};
use auria_core::outcome::Cause;
use auria_core::plan::{Environment, Template};
use auria_core::resources::Resources;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Attempt<'_> {
    /// The image and its engine, where the command runs in a container; the image is
    /// there then.
    pub(super) async fn container(&mut self) -> Result<Option<InImage>, Failure> {
        let Environment::Image { image, .. } = &self.ticket.environment else {
            return Ok(None);
        };
        if self.around.in_image {
            return Ok(None);
        }
        let (Some(options), Some(connect)) = (&self.options.engine, self.engines) else {
            return Err(Failure::new(
                Cause::Refused,
                format!("it wants the image `{image}`, and runs without a container"),
            ));
        };
        let engine = connect(options).map_err(|error| Failure::of_engine(&error))?;
        let began = Instant::now();
        let mut stopped = self.stopped.clone();
        tokio::select! {
            pulled = engine.pull(image) => pulled.map_err(|error| Failure::of_engine(&error))?,
            stop = stopped.changed_from(None) => {
                return Err(Failure::of_stop(stop, "while its image was pulled"));
            }
        }
        self.timings.pulled_ms = Some(millis(began.elapsed()));
        Ok(Some(InImage {
            engine,
            image: image.clone(),
        }))
    }

    fn prepare(&self, values: &Values, output: OwnedFd) -> Result<Prepared, Failure> {
        let filled = |template| fill(values, template);
        let mut environment = host_environment();
        environment.extend(self.work.variables(&self.ticket.attempt));
        environment.insert(tree::MARK.into(), self.around.key.clone().into());
        if !self.around.in_image {
            // Whoever made the container chose its GPUs.
            environment.insert(
                "CUDA_VISIBLE_DEVICES".into(),
                self.options.gpus.join(",").into(),
            );
        }
        environment
            .entry("OMP_NUM_THREADS".into())
            .or_insert_with(|| threads(&self.ticket.resources).into());
        for (name, value) in &self.ticket.variables {
            environment.insert(name.into(), filled(value)?.into());
        }
        let path = environment
            .get(std::ffi::OsStr::new("PATH"))
            .cloned()
            .unwrap_or_else(|| "/usr/bin:/bin".into());
        let folders = self
            .options
            .path
            .iter()
            .cloned()
            .chain(std::env::split_paths(&path));
        let path = std::env::join_paths(folders).map_err(|error| {
            Failure::new(Cause::Refused, format!("its PATH cannot be set: {error}"))
        })?;
        environment.insert("PATH".into(), path);
        Ok(Prepared {
            text: filled(&self.ticket.command)?,
            folder: self.work.code(),
            environment,
            output,
            timeout: self.ticket.timeout_ms.map(Duration::from_millis),
            grace: Duration::from_millis(self.ticket.grace_ms),
        })
    }

    /// The container that the command runs in. Of this host it sees the work folder and
    /// what the executor named, and of this process's environment nothing.
    fn container_spec(&self, values: &Values, image: &str) -> Result<ContainerSpec, Failure> {
        let mut variables: BTreeMap<String, String> = self
            .work
            .variables(&self.ticket.attempt)
            .into_iter()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .collect();
        let resources = &self.ticket.resources;
        variables.insert(tree::MARK.to_owned(), self.around.key.clone());
        variables.insert("OMP_NUM_THREADS".to_owned(), threads(resources));
        if !nix::unistd::getuid().is_root() {
            // An image knows no home of this user.
            variables.insert("HOME".to_owned(), text(&self.work.root().join("tmp")));
        }
        if let Environment::Image {
            cuda: Some(cuda), ..
        } = &self.ticket.environment
            && resources.gpus > 0
        {
            // NVIDIA's runtime refuses a driver that is older.
            let least = format!("cuda>={}.{}", cuda.major, cuda.minor);
            variables.insert("NVIDIA_REQUIRE_CUDA".to_owned(), least);
        }
        for (name, value) in &self.ticket.variables {
            variables.insert(name.clone(), fill(values, value)?);
        }
        let options = self.options.engine.clone().unwrap_or_default();
        let mut labels = options.labels;
        if let Some(launcher) = tree::identity(std::process::id()) {
            labels.insert(container::LAUNCHER.to_owned(), launcher);
        }
        let mut mounts = vec![self.work.root().to_owned()];
        mounts.extend(options.mounts);
        Ok(ContainerSpec {
            name: container::name(&self.around.key),
            image: image.to_owned(),
            arguments: vec![
                "-c".to_owned(),
                container::INIT.to_owned(),
                "auria".to_owned(),
                fill(values, &self.ticket.command)?,
                text(&self.work.pipe()),
                text(&self.work.memory()),
            ],
            variables,
            labels,
            folder: self.work.code(),
            mounts,
            cpu_millis: resources.cpu_millis,
            memory_bytes: resources.memory_bytes,
            shm_bytes: resources.shm_bytes,
            gpus: self.options.gpus.clone(),
            network: self.ticket.network,
        })
    }

    /// What runs the command, whose output goes to `write`.
    pub(super) fn runner<'a>(
        &self,
        values: &Values,
        write: OwnedFd,
        container: Option<&'a InImage>,
    ) -> Result<Runner<'a>, Failure> {
        Ok(match container {
            Some(InImage { engine, image }) => Runner::Container(container::Order {
                engine: &**engine,
                spec: self.container_spec(values, image)?,
                key: self.around.key.clone(),
                output: write,
                memory: self.work.memory(),
                timeout: self.ticket.timeout_ms.map(Duration::from_millis),
                grace: Duration::from_millis(self.ticket.grace_ms),
            }),
            None => {
                let prepared = self.prepare(values, write)?;
                let tree = Tree::create(&self.around.key, self.ticket.resources.memory_bytes);
                if let Some(folder) = self.around.folder
                    && let Err(error) = folder.write(TREE, &tree)
                {
                    tracing::warn!("the step's processes could not be written down: {error}");
                }
                Runner::Process(prepared, tree)
            }
        })
    }
}

/// An image that is there, and the engine that runs it.
pub(super) struct InImage {
    engine: Arc<dyn Engine>,
    image: String,
}

/// What runs the command.
pub(super) enum Runner<'a> {
    Process(Prepared, Tree),
    Container(container::Order<'a>),
}

impl Runner<'_> {
    /// Undoes what was made for a command that is not run.
    pub(super) fn discard(self) {
        if let Self::Process(_, tree) = self {
            tree.remove();
        }
    }

    pub(super) async fn run(self, stopped: Stopped) -> Result<Finished, Failure> {
        match self {
            Self::Process(prepared, tree) => {
                let finished = command::run(prepared, &tree, stopped).await;
                tree.remove();
                finished.map_err(|error| match &error {
                    StartError::NoShell => Failure::new(Cause::Image, error.to_string()),
                    StartError::System { .. } => Failure::new(Cause::Exit, error.to_string()),
                })
            }
            Self::Container(order) => container::run(order, stopped)
                .await
                .map_err(|error| Failure::of_engine(&error)),
        }
    }
}

fn fill(values: &Values, template: &Template) -> Result<String, Failure> {
    values
        .fill(template)
        .map_err(|error| Failure::new(Cause::Refused, error.to_string()))
}

/// As many threads as cores were asked for: numeric libraries would take all.
fn threads(resources: &Resources) -> String {
    let millis = resources.cpu_millis.unwrap_or(1000);
    millis.div_ceil(1000).to_string()
}

/// The launcher's own environment without what concerns only the orchestrator.
#[expect(
    clippy::disallowed_methods,
    reason = "on `process` the command inherits the environment of its host"
)]
fn host_environment() -> BTreeMap<OsString, OsString> {
    let ours = [
        "AURIA_BROKER",
        "AURIA_BROKER_CA",
        "AURIA_BROKER_TOKEN",
        "AURIA_STORE",
        "AURIA_SERVER",
        "AURIA_TOKEN",
        "AURIA_WORK",
        "AURIA_CHECKPOINTS",
        "AURIA_METRICS",
        tree::MARK,
    ];
    std::env::vars_os()
        .filter(|(name, _)| !ours.iter().any(|ours| name == *ours))
        .collect()
}
