//! A container engine, through Docker's API, which Podman's service speaks too: what
//! it is, and what a launcher asks of it. Knows nothing of runs and stores.

use super::create;
use auria_launcher::EngineOptions;
use auria_launcher::container::{ContainerSpec, Engine, EngineError, Exit};
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions};
use bollard::models::{ContainerStateStatusEnum, SystemVersion};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions,
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptionsBuilder,
};
use bollard::{ClientVersion, Docker};
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// The oldest version of the API that has all of what is asked here: Docker 20.10's,
/// and Podman's.
const OLDEST: ClientVersion = ClientVersion {
    major_version: 1,
    minor_version: 41,
};
/// The same for engines that do not speak [`OLDEST`] any more.
const NEWER: ClientVersion = ClientVersion {
    major_version: 1,
    minor_version: 44,
};
/// Seconds that an engine has for an answer.
const ANSWER: u64 = 60;
/// Seconds that one request may wait for the end of a container; then it is repeated.
const WAIT: u64 = 3600;
/// An engine that is not there says so at once; one that hangs is asked no longer.
const GREETING: Duration = Duration::from_secs(20);

/// The shells that can be a container's process 1, in the order in which they are tried.
const SHELLS: [&str; 2] = ["sh", "bash"];

/// A container engine.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    known: Arc<OnceCell<Known>>,
}

#[derive(Debug)]
struct Known {
    docker: Docker,
    facts: Facts,
}

/// What an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Docker's own, or Podman's.
    pub kind: Kind,
    /// Its version.
    pub version: String,
    /// The name of the machine that it runs on.
    pub host: String,
    /// That machine's kernel.
    pub kernel: String,
    /// It runs without root: root of a container is its user.
    pub rootless: bool,
    /// It maps users of containers to others of the host.
    pub maps_users: bool,
    /// It can hold a container to an amount of memory.
    pub limits_memory: bool,
    /// It can hold a container to a share of the CPUs.
    pub limits_cpus: bool,
}

/// Whose engine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
}

impl std::fmt::Display for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Docker => "Docker",
            Kind::Podman => "Podman",
        };
        let rootless = if self.rootless { ", rootless" } else { "" };
        write!(f, "{kind} {}{rootless}", self.version)
    }
}

impl Client {
    /// The engine at `address`, which is not asked yet.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            known: Arc::default(),
        }
    }

    /// Where it is, as `DOCKER_HOST` writes it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it is. Asked once.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn facts(&self) -> Result<&Facts, EngineError> {
        Ok(&self.known().await?.facts)
    }

    pub(super) async fn docker(&self) -> Result<&Docker, EngineError> {
        Ok(&self.known().await?.docker)
    }

    async fn known(&self) -> Result<&Known, EngineError> {
        self.known
            .get_or_try_init(|| async {
                tokio::time::timeout(GREETING, self.greet())
                    .await
                    .unwrap_or_else(|_| {
                        let seconds = GREETING.as_secs();
                        Err(EngineError::Unreachable(format!(
                            "{} takes connections and says nothing within {seconds} s",
                            self.address
                        )))
                    })
            })
            .await
    }

    async fn greet(&self) -> Result<Known, EngineError> {
        let at = |error: EngineError| match error {
            EngineError::Unreachable(message) => {
                EngineError::Unreachable(format!("{}: {message}", self.address))
            }
            other => other,
        };
        let mut docker = self.connect(&OLDEST).map_err(|error| at(told(error)))?;
        let version = match docker.version().await {
            Err(Error::DockerResponseServerError { message, .. })
                if message.contains("too old") =>
            {
                docker = self.connect(&NEWER).map_err(|error| at(told(error)))?;
                docker.version().await
            }
            other => other,
        };
        let version = version.map_err(|error| at(told(error)))?;
        let info = docker.info().await.map_err(|error| at(told(error)))?;
        let security = info.security_options.unwrap_or_default();
        let has = |what: &str| security.iter().any(|option| option.contains(what));
        let facts = Facts {
            kind: kind(&version),
            version: version.version.unwrap_or_default(),
            host: info.name.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            rootless: has("rootless"),
            maps_users: has("name=userns"),
            limits_memory: info.memory_limit.unwrap_or(true),
            limits_cpus: info.cpu_cfs_quota.unwrap_or(true),
        };
        Ok(Known { docker, facts })
    }

    fn connect(&self, version: &ClientVersion) -> Result<Docker, Error> {
        match self.address.strip_prefix("unix://") {
            Some(path) => Docker::connect_with_unix(path, ANSWER, version),
            None => Docker::connect_with_http(&self.address, ANSWER, version),
        }
    }

    async fn create(&self, spec: &ContainerSpec, shell: &str) -> Result<(), Error> {
        let known = self.known().await.map_err(untold)?;
        let options = CreateContainerOptionsBuilder::default()
            .name(&spec.name)
            .build();
        let body = create::body(spec, shell, &known.facts);
        known
            .docker
            .create_container(Some(options), body)
            .await
            .map(drop)
    }

    /// The containers that carry `label`, running or not: their names and labels.
    ///
    /// # Errors
    /// Where the engine does not answer.
    pub async fn containers_with(
        &self,
        label: &str,
    ) -> Result<Vec<(String, HashMap<String, String>)>, EngineError> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let found = self.docker().await?.list_containers(Some(options)).await;
        let names = found.map_err(told)?.into_iter().filter_map(|container| {
            let names = container.names?;
            let name = names.first()?.trim_start_matches('/').to_owned();
            Some((name, container.labels.unwrap_or_default()))
        });
        Ok(names.collect())
    }
}

fn kind(version: &SystemVersion) -> Kind {
    let names = version.components.iter().flatten().map(|part| &part.name);
    let podman = names.into_iter().any(|name| name.contains("Podman"));
    if podman { Kind::Podman } else { Kind::Docker }
}

/// The engine of an attempt, for its launcher.
///
/// # Errors
/// None: whether it answers shows when it is asked.
pub fn connect(options: &EngineOptions) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(Arc::new(Client::new(&options.address)))
}

#[async_trait::async_trait]
impl Engine for Client {
    async fn pull(&self, image: &str) -> Result<(), EngineError> {
        let docker = self.docker().await?;
        let missing = |message: String| EngineError::NoImage {
            image: image.to_owned(),
            message,
        };
        match docker.inspect_image(image).await {
            Ok(_) => return Ok(()),
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => {}
            Err(error) => return Err(told(error)),
        }
        if image.starts_with("sha256:") {
            return Err(missing(
                "it was made on this engine and is not there any more; submit the pipeline again"
                    .to_owned(),
            ));
        }
        let (name, tag) = split(image);
        let mut options = CreateImageOptionsBuilder::default().from_image(name);
        if let Some(tag) = tag {
            options = options.tag(tag);
        }
        let mut told_of = docker.create_image(Some(options.build()), None, None);
        while let Some(line) = told_of.next().await {
            match line {
                Ok(_) => {}
                Err(
                    Error::DockerResponseServerError { message, .. }
                    | Error::DockerStreamError { error: message },
                ) => return Err(missing(message.trim().to_owned())),
                Err(error) => return Err(told(error)),
            }
        }
        match docker.inspect_image(image).await {
            Ok(_) => Ok(()),
            Err(error) => Err(missing(error.to_string())),
        }
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<&'static str, EngineError> {
        let docker = self.docker().await?;
        for shell in SHELLS {
            let mut created = self.create(spec, shell).await;
            if let Err(Error::DockerResponseServerError {
                status_code: 409, ..
            }) = created
            {
                // Of a launcher of this attempt that died: the caller holds its lock.
                self.remove(&spec.name).await?;
                created = self.create(spec, shell).await;
            }
            match created {
                Ok(()) => {}
                Err(Error::DockerResponseServerError {
                    status_code: 404,
                    message,
                }) => {
                    return Err(EngineError::NoImage {
                        image: spec.image.clone(),
                        message,
                    });
                }
                Err(error) => return Err(told(error)),
            }
            let started = docker
                .start_container(&spec.name, None::<StartContainerOptions>)
                .await;
            match started {
                Ok(()) => return Ok(shell),
                Err(Error::DockerResponseServerError { message, .. })
                    if is_missing_program(&message, shell) =>
                {
                    self.remove(&spec.name).await?;
                }
                Err(error) => return Err(told(error)),
            }
        }
        Err(EngineError::NoShell {
            image: spec.image.clone(),
        })
    }

    async fn wait(&self, name: &str) -> Result<Exit, EngineError> {
        let docker = self.docker().await?;
        let patient = docker.clone().with_timeout(Duration::from_secs(WAIT));
        loop {
            let options = WaitContainerOptionsBuilder::default()
                .condition("not-running")
                .build();
            let ended = patient.wait_container(name, Some(options)).next().await;
            match ended {
                Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => {}
                Some(Err(Error::RequestTimeoutError)) => continue,
                Some(Err(Error::DockerResponseServerError {
                    status_code: 404, ..
                })) => return Err(EngineError::Gone),
                Some(Err(error)) => return Err(EngineError::Unreachable(error.to_string())),
                None => {
                    return Err(EngineError::Unreachable(
                        "it hung up while a container ran".to_owned(),
                    ));
                }
            }
            let found = docker
                .inspect_container(name, None::<InspectContainerOptions>)
                .await;
            let state = match found {
                Ok(found) => found.state.unwrap_or_default(),
                Err(Error::DockerResponseServerError {
                    status_code: 404, ..
                }) => return Err(EngineError::Gone),
                Err(error) => return Err(EngineError::Unreachable(error.to_string())),
            };
            let over = matches!(
                state.status,
                Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD)
            );
            if over {
                return Ok(Exit {
                    code: state
                        .exit_code
                        .and_then(|code| i32::try_from(code).ok())
                        .unwrap_or(255),
                    out_of_memory: state.oom_killed.unwrap_or(false),
                });
            }
            if state.status == Some(ContainerStateStatusEnum::CREATED) {
                return Err(EngineError::NeverStarted);
            }
            // Podman tells the end before its record does.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn terminate(&self, name: &str, shell: &str) -> Result<(), EngineError> {
        // Process 1 first: it notes that the others have the grace to end in.
        self.signal(name, "SIGTERM").await?;
        let docker = self.docker().await?;
        let options = CreateExecOptions {
            cmd: Some(vec![shell, "-c", "kill -TERM -1"]),
            ..CreateExecOptions::default()
        };
        let sent = async {
            let exec = docker.create_exec(name, options).await?;
            let detached = StartExecOptions {
                detach: true,
                ..StartExecOptions::default()
            };
            docker.start_exec(&exec.id, Some(detached)).await
        };
        match sent.await {
            Ok(_) => Ok(()),
            Err(error) => ended_is_fine(error),
        }
    }

    async fn kill(&self, name: &str) -> Result<(), EngineError> {
        self.signal(name, "SIGKILL").await
    }

    async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        match self
            .docker()
            .await?
            .remove_container(name, Some(options))
            .await
        {
            Ok(()) => Ok(()),
            // Another removes it at this moment.
            Err(error) => ended_is_fine(error),
        }
    }
}

impl Client {
    async fn signal(&self, name: &str, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::default()
            .signal(signal)
            .build();
        match self
            .docker()
            .await?
            .kill_container(name, Some(options))
            .await
        {
            Ok(()) => Ok(()),
            Err(error) => ended_is_fine(error),
        }
    }
}

/// A container that is gone or has ended needs nothing more.
fn ended_is_fine(error: Error) -> Result<(), EngineError> {
    match error {
        Error::DockerResponseServerError {
            status_code: 404 | 409,
            ..
        } => Ok(()),
        // Podman's words for the same.
        Error::DockerResponseServerError { message, .. }
            if message.contains("container state improper")
                || message.contains("no container with") =>
        {
            Ok(())
        }
        error => Err(told(error)),
    }
}

/// Whether a container did not start since it has no program of this name.
fn is_missing_program(message: &str, program: &str) -> bool {
    let quoted = message.contains(&format!("\"{program}\""))
        || message.contains(&format!("`{program}`"))
        || message.contains(&format!("{program}:"));
    quoted
        && (message.contains("executable file not found")
            || message.contains("no such file or directory"))
}

/// An image's name and its tag or digest, as the API takes them: without a tag it would
/// bring all of them.
fn split(image: &str) -> (&str, Option<&str>) {
    if image.contains('@') {
        return (image, None);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, Some("latest")),
    }
}

pub(super) fn told(error: Error) -> EngineError {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } if status_code < 500 || !message.is_empty() => {
            EngineError::Refused(message.trim().to_owned())
        }
        Error::DockerStreamError { error } => EngineError::Refused(error.trim().to_owned()),
        Error::SocketNotFoundError(path) => {
            EngineError::Unreachable(format!("there is no socket {path}"))
        }
        other => EngineError::Unreachable(chain(&other)),
    }
}

/// The way back, where both come together.
fn untold(error: EngineError) -> Error {
    Error::DockerStreamError {
        error: error.to_string(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{is_missing_program, split};

    #[test]
    fn an_image_without_a_tag_is_its_latest() {
        assert_eq!(split("python"), ("python", Some("latest")));
        assert_eq!(
            split("host:5000/a/python"),
            ("host:5000/a/python", Some("latest"))
        );
        assert_eq!(
            split("host:5000/python:3.12"),
            ("host:5000/python", Some("3.12"))
        );
        assert_eq!(split("a@sha256:12"), ("a@sha256:12", None));
    }

    #[test]
    fn a_missing_shell_is_told_from_a_missing_program() {
        let docker = "failed to create shim: OCI runtime create failed: exec: \"sh\": executable file not found in $PATH: unknown";
        assert!(is_missing_program(docker, "sh"));
        assert!(!is_missing_program(docker, "bash"));
        assert!(!is_missing_program(
            "OCI runtime create failed: no space left on device",
            "sh"
        ));
    }
}
