//! Where the steps of a file run: what `--on`, config and computes say, or else what
//! this machine can do. Brings the images that it takes. Starts no step.

use crate::args::Global;
use crate::config::Config;
use crate::edge;
use crate::failure::Failure;
use auria_core::check::ImageSource;
use auria_core::diagnostic::{Code, Diagnostic};
use auria_core::planner::{ImageNeed, Needs};
use auria_engine::docker::images::{self, ImageError};
use auria_engine::docker::{Client, NoEngine, Places};
use auria_launcher::container::EngineError;
use std::collections::BTreeMap;

/// The target of a cluster, as `--on` writes it.
pub const KUBERNETES: &str = "kubernetes";

/// Where all steps of a run run.
pub enum Chosen {
    /// On this machine, without containers.
    Process,
    /// In containers of this machine's engine: their images, pinned.
    Docker(BTreeMap<ImageSource, String>),
    /// In Pods of a cluster: their images, as they are pulled there.
    Kubernetes(BTreeMap<ImageSource, String>),
}

impl Chosen {
    /// As `--on` writes it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker(_) => "docker",
            Self::Kubernetes(_) => KUBERNETES,
        }
    }
}

/// A target that was not chosen, since images are wrong: each at its place.
pub enum NotChosen {
    /// The file's fault.
    File(Vec<Diagnostic>),
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for NotChosen {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The places of this user where an engine may listen.
pub fn places() -> Places {
    Places {
        docker_host: edge::variable("DOCKER_HOST"),
        container_host: edge::variable("CONTAINER_HOST"),
        runtime_folder: edge::variable("XDG_RUNTIME_DIR").map(Into::into),
        home: edge::variable("HOME").map(Into::into),
    }
}

/// This machine's engine.
///
/// # Errors
/// Exit 4 where none answers.
pub async fn engine() -> Result<Client, Failure> {
    places().find().await.map_err(|error| no_engine(&error))
}

fn no_engine(error: &NoEngine) -> Failure {
    Failure::unreachable(error.to_string()).help(
        "start Docker or `podman system service`, or say where one listens: DOCKER_HOST=unix:///PATH; `--on process` runs the steps without containers",
    )
}

/// Where the steps run whose `needs` these are.
///
/// # Errors
/// Where what was said is no target, steps would run on two, no engine answers, or an
/// image cannot be had.
pub async fn choose(global: &Global, config: &Config, needs: &Needs) -> Result<Chosen, NotChosen> {
    let said = global
        .on
        .clone()
        .or_else(|| edge::variable("AURIA_TARGET"))
        .or_else(|| config.target.clone());
    let default = said.map(|said| known(config, &said)).transpose()?;
    let mut asked: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut undecided = Vec::new();
    let mut unknown = Vec::new();
    for (compute, steps) in &needs.computes {
        let named = compute
            .as_ref()
            .and_then(|name| Some((name, config.computes.get(name)?)));
        match (named, default) {
            (Some((name, _)), _) => {
                let target = known(config, name)?;
                let which = format!("{} by the compute `{name}`", listed(steps));
                asked.entry(target).or_default().push(which);
            }
            (None, Some(target)) => asked.entry(target).or_default().push(listed(steps)),
            (None, None) => undecided.push(listed(steps)),
        }
        if let (Some(name), None) = (compute, named) {
            unknown.push(format!("`{name}`"));
        }
    }
    if asked.len() > 1 {
        let parts: Vec<String> = asked
            .iter()
            .map(|(target, steps)| format!("{} on `{target}`", steps.join(", ")))
            .collect();
        return Err(Failure::usage(format!(
            "one run would use several targets: {}",
            parts.join("; ")
        ))
        .help("a run stays on one of process, docker and kubernetes; change the computes of auria.yaml, or make two pipelines")
        .into());
    }
    let chosen = match (asked.keys().next().copied(), undecided.is_empty()) {
        (Some(target), true) => on(target, needs).await?,
        // Steps that say nothing follow those that do.
        (Some(target), false) => on(target, needs).await?,
        (None, _) => by_default(needs).await,
    };
    // On a cluster the controller knows them.
    if !unknown.is_empty() && !matches!(chosen, Chosen::Kubernetes(_)) {
        eprintln!(
            "note: auria.yaml names no compute {}: such steps run on `{}`",
            unknown.join(", "),
            chosen.word()
        );
    }
    Ok(chosen)
}

fn listed(steps: &[String]) -> String {
    let names: Vec<String> = steps
        .iter()
        .take(3)
        .map(|step| format!("`{step}`"))
        .collect();
    let more = steps.len().saturating_sub(names.len());
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", names.join(", "))
}

/// The target that a word means: itself, or that of a compute.
fn known(config: &Config, said: &str) -> Result<&'static str, Failure> {
    let target = config
        .computes
        .get(said)
        .map_or(said, |compute| compute.target.as_str());
    match target {
        "process" => Ok("process"),
        "docker" => Ok("docker"),
        KUBERNETES => Ok(KUBERNETES),
        _ => {
            let computes: Vec<&str> = config.computes.keys().map(String::as_str).collect();
            let more = if computes.is_empty() {
                String::new()
            } else {
                format!(", or a compute of auria.yaml: {}", computes.join(", "))
            };
            Err(
                Failure::usage(format!("--on {said}: there is no such target"))
                    .help(format!("use `process`, `docker`, `kubernetes`{more}")),
            )
        }
    }
}

async fn on(target: &str, needs: &Needs) -> Result<Chosen, NotChosen> {
    if target == "process" {
        return Ok(Chosen::Process);
    }
    if target == KUBERNETES {
        return on_cluster(needs);
    }
    let client = engine().await?;
    let mut found = BTreeMap::new();
    let mut errors = Vec::new();
    for need in &needs.images {
        match resolve(&client, need).await {
            Ok(Some(pinned)) => drop(found.insert(need.source.clone(), pinned)),
            // The planner says that nothing registers environments yet.
            Ok(None) => {}
            Err(error @ ImageError::Engine(EngineError::Unreachable(_))) => {
                return Err(Failure::unreachable(error.to_string()).into());
            }
            Err(error) => {
                for line in error.log() {
                    eprintln!("  | {line}");
                }
                let found =
                    Diagnostic::error(Code::ImageUnavailable, error.to_string(), &need.place);
                errors.push(match error.help() {
                    Some(help) => found.help(help),
                    None => found,
                });
            }
        }
    }
    if errors.is_empty() {
        Ok(Chosen::Docker(found))
    } else {
        Err(NotChosen::File(errors))
    }
}

/// Images are pulled by nodes: nothing here can build one for them.
fn on_cluster(needs: &Needs) -> Result<Chosen, NotChosen> {
    let mut found = BTreeMap::new();
    let mut errors = Vec::new();
    for need in &needs.images {
        match &need.source {
            // The planner says that nothing registers environments yet.
            source if is_registered(source) => {}
            ImageSource::Named(name) => drop(found.insert(need.source.clone(), name.clone())),
            ImageSource::Build(_) | ImageSource::Conda { .. } => {
                let message = "nodes of a cluster pull images, and nothing there builds this one";
                let help = "build it (`--on docker` does), push it where the nodes pull, and name it: `environment: {image: NAME@sha256:…}`";
                errors.push(
                    Diagnostic::error(Code::ImageUnavailable, message, &need.place).help(help),
                );
            }
        }
    }
    if errors.is_empty() {
        Ok(Chosen::Kubernetes(found))
    } else {
        Err(NotChosen::File(errors))
    }
}

async fn resolve(client: &Client, need: &ImageNeed) -> Result<Option<String>, ImageError> {
    if is_registered(&need.source) {
        return Ok(None);
    }
    let tell = |text: &str| eprintln!("{text}");
    images::resolve(client, &need.source, &tell).await.map(Some)
}

fn is_registered(source: &ImageSource) -> bool {
    matches!(source, ImageSource::Named(name) | ImageSource::Conda { base: name, .. } if name.starts_with("azureml:"))
}

/// Containers, where an engine answers and each step has an image that can be had.
async fn by_default(needs: &Needs) -> Chosen {
    let process = |why: String| {
        eprintln!("note: steps run without containers: {why}; `--on` says where");
        Chosen::Process
    };
    if needs.images.is_empty() {
        return process("the file names no image".to_owned());
    }
    if let Some(step) = needs.without_image.first() {
        return process(format!("the step `{step}` names no image"));
    }
    let client = match places().find().await {
        Ok(client) => client,
        Err(error) => return process(error.to_string()),
    };
    let mut found = BTreeMap::new();
    for need in &needs.images {
        match resolve(&client, need).await {
            Ok(Some(pinned)) => drop(found.insert(need.source.clone(), pinned)),
            Ok(None) => return process(format!("`{}` is not registered", need.source)),
            Err(error) => {
                let text = error.to_string();
                return process(text.lines().next().unwrap_or_default().to_owned());
            }
        }
    }
    let engine = match client.facts().await {
        Ok(facts) => facts.to_string(),
        Err(error) => return process(error.to_string()),
    };
    eprintln!(
        "note: steps run in containers of {engine} at {}; `--on` says where",
        client.address()
    );
    Chosen::Docker(found)
}
