//! What runs the command of an attempt: a process of this host, or a container of an
//! engine beside it. Says what each of them is to be; running them is
//! [`crate::command`]'s and [`crate::container`]'s.

use super::{Attempt, text};
use crate::command::{self, Finished, Limits, Prepared, StartError};
use crate::container::{self, ContainerSpec, Engine};
use crate::failure::Failure;
use crate::group::Group;
use crate::options::millis;
use crate::runtime::TREE;
use crate::stop::Stopped;
use crate::template::Values;
use crate::tree::{self, Tree};
use crate::warm::{Borrowed, Job};
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

    /// The command as a process of this host; of a distributed step, the one of `rank`.
    fn prepare(
        &self,
        values: &Values,
        output: OwnedFd,
        rank: Option<(&Group, u32)>,
    ) -> Result<Prepared, Failure> {
        let instance = rank.map_or(0, |(group, rank)| group.instance_of(rank));
        let values = match rank {
            None => values.clone(),
            Some((_, rank)) => self.values_of(values, rank),
        };
        let filled = |template| fill(&values, template);
        let mut environment = host_environment();
        environment.extend(self.work.variables(&self.ticket.attempt, instance));
        environment.insert(tree::MARK.into(), self.around.key.clone().into());
        if !self.around.in_image {
            // Whoever made the container chose its GPUs.
            environment.insert(
                "CUDA_VISIBLE_DEVICES".into(),
                self.gpus_of(instance).join(",").into(),
            );
        }
        let sharing = rank.map_or(1, |(group, _)| group.per_instance());
        environment
            .entry("OMP_NUM_THREADS".into())
            .or_insert_with(|| threads(&self.ticket.resources, sharing).into());
        for (name, value) in &self.ticket.variables {
            environment.insert(name.into(), filled(value)?.into());
        }
        for (name, value) in rank
            .map(|(group, rank)| group.variables(rank))
            .unwrap_or_default()
        {
            environment.insert(name.into(), value.into());
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
        let mut text = filled(&self.ticket.command)?;
        if let Some((group, _)) = rank {
            text = group.started(text, &self.work.hosts(), &path)?;
        }
        environment.insert("PATH".into(), path);
        Ok(Prepared {
            text,
            folder: self.work.code(),
            environment,
            output,
            serves: rank.is_some_and(|(group, rank)| group.serves(rank)),
        })
    }

    /// The GPUs of one of the instances on this machine: each has as many as the others.
    fn gpus_of(&self, instance: u32) -> Vec<String> {
        let each = self.ticket.resources.gpus as usize;
        let gpus = self.options.gpus.iter();
        let apart = self
            .group
            .as_ref()
            .is_some_and(|group| group.instances().len() > 1);
        if !apart {
            return gpus.cloned().collect();
        }
        let before = each.saturating_mul(instance as usize);
        gpus.skip(before).take(each).cloned().collect()
    }

    /// What bindings stand for in one process of a distributed step: it writes its outputs
    /// apart from the others.
    fn values_of(&self, values: &Values, rank: u32) -> Values {
        let names = self.ticket.outputs.keys();
        let outputs = names.map(|name| (name.clone(), text(&self.work.output_of(rank, name))));
        Values {
            inputs: values.inputs.clone(),
            outputs: outputs.collect(),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            timeout: self.ticket.timeout_ms.map(Duration::from_millis),
            grace: Duration::from_millis(self.ticket.grace_ms),
        }
    }

    /// The container that the command runs in. Of this host it sees the work folder and
    /// what the executor named, and of this process's environment nothing.
    fn container_spec(&self, values: &Values, image: &str) -> Result<ContainerSpec, Failure> {
        let mut variables: BTreeMap<String, String> = self
            .work
            .variables(&self.ticket.attempt, 0)
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
        variables.insert("OMP_NUM_THREADS".to_owned(), threads(resources, 1));
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

    /// What runs the command, whose output goes to `writes`: one for each process of it.
    pub(super) async fn runner<'a>(
        &self,
        values: &Values,
        writes: Vec<OwnedFd>,
        container: Option<&'a InImage>,
    ) -> Result<Runner<'a>, Failure> {
        let mut commands = Vec::new();
        for (place, write) in writes.into_iter().enumerate() {
            if let Some(InImage { engine, image }) = container {
                return Ok(Runner::Container(Box::new(container::Order {
                    engine: &**engine,
                    spec: self.container_spec(values, image)?,
                    key: self.around.key.clone(),
                    output: write,
                    memory: self.work.memory(),
                    timeout: self.ticket.timeout_ms.map(Duration::from_millis),
                    grace: Duration::from_millis(self.ticket.grace_ms),
                })));
            }
            let group = self.group.as_deref();
            let rank = group.and_then(|group| Some((group, group.ranks().nth(place)?)));
            commands.push(self.prepare(values, write, rank)?);
        }
        if let [prepared] = &commands[..]
            && let Some(wanted) = self.wanted(values, prepared)
        {
            match Borrowed::of(&wanted).await {
                Ok(program) => {
                    return Ok(Runner::Warm(Box::new(Warm {
                        program,
                        job: wanted.job,
                        output: commands.remove(0).output,
                        limits: self.limits(),
                    })));
                }
                Err(why) => tracing::warn!("no warm program: {why}"),
            }
        }
        let instances = self.group.as_ref().map_or(1, |group| group.hosted());
        let memory = self.ticket.resources.memory_bytes;
        let memory = memory.map(|bytes| bytes.saturating_mul(instances.into()));
        let tree = Tree::create(&self.around.key, memory);
        if let Some(folder) = self.around.folder
            && let Err(error) = folder.write(TREE, &tree)
        {
            tracing::warn!("the step's processes could not be written down: {error}");
        }
        Ok(Runner::Process(commands, self.limits(), tree))
    }
}

/// An image that is there, and the engine that runs it.
pub(super) struct InImage {
    engine: Arc<dyn Engine>,
    image: String,
}

/// What runs the command.
pub(super) enum Runner<'a> {
    Process(Vec<Prepared>, Limits, Tree),
    Warm(Box<Warm>),
    Container(Box<container::Order<'a>>),
}

/// A program that stays, and what it is to do.
pub(super) struct Warm {
    program: Borrowed,
    job: Job,
    output: OwnedFd,
    limits: Limits,
}

impl Runner<'_> {
    /// Undoes what was made for a command that is not run.
    pub(super) fn discard(self) {
        if let Self::Process(_, _, tree) = self {
            tree.remove();
        }
    }

    /// How its processes ended, in the order of their outputs.
    pub(super) async fn run(self, stopped: Stopped) -> Result<Vec<Finished>, Failure> {
        match self {
            Self::Process(commands, limits, tree) => {
                let finished = command::run(commands, limits, &tree, stopped).await;
                tree.remove();
                finished.map_err(|error| match &error {
                    StartError::NoShell => Failure::new(Cause::Image, error.to_string()),
                    StartError::System { .. } => Failure::new(Cause::Exit, error.to_string()),
                })
            }
            Self::Warm(warm) => {
                let Warm {
                    program,
                    job,
                    output,
                    limits,
                } = *warm;
                Ok(vec![program.carry_out(&job, output, limits, stopped).await])
            }
            Self::Container(order) => container::run(*order, stopped)
                .await
                .map(|finished| vec![finished])
                .map_err(|error| Failure::of_engine(&error)),
        }
    }
}

fn fill(values: &Values, template: &Template) -> Result<String, Failure> {
    values
        .fill(template)
        .map_err(|error| Failure::new(Cause::Refused, error.to_string()))
}

/// As many threads as cores were asked for: numeric libraries would take all. So many
/// processes share them.
fn threads(resources: &Resources, sharing: u32) -> String {
    let millis = resources.cpu_millis.unwrap_or(1000) / u64::from(sharing.max(1));
    millis.div_ceil(1000).max(1).to_string()
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
        "AURIA_GROUP_PATIENCE_MS",
        "AURIA_INSTANCE",
        "AURIA_POD_IP",
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
