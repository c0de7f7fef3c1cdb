//! The plan: what a run will do, complete and immutable. Made from a checked
//! pipeline and its arguments; a run needs nothing else from the machine that
//! submitted it. Nested pipelines are flattened, bindings resolved, local files
//! replaced by snapshots.

use crate::digest::Digest;
use crate::distribution::Distribution;
use crate::ids::StepPath;
use crate::resources::Resources;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The version of [`Plan`] that this code writes.
pub const PLAN_VERSION: u32 = 1;

/// What a run will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`] of the writer.
    pub version: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// Shown instead of the name where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// The experiment that the run belongs to.
    pub experiment: String,
    /// What holds for the whole run.
    pub settings: PlanSettings,
    /// The pipeline's inputs as they were given, for people and for `show`.
    pub inputs: BTreeMap<String, serde_json::Value>,
    /// Every step, dependencies before dependents.
    pub steps: Vec<PlannedStep>,
    /// The pipeline's own outputs.
    pub outputs: BTreeMap<String, PlannedPipelineOutput>,
}

/// What holds for the whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSettings {
    /// Independent branches go on after a failure.
    pub continue_on_step_failure: bool,
    /// Nothing is reused.
    pub force_rerun: bool,
    /// Runs before every other step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_init: Option<StepPath>,
    /// Runs after every other step, also after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_finalize: Option<StepPath>,
}

/// An output of the pipeline: that of one of its steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPipelineOutput {
    /// The step that makes it.
    pub step: StepPath,
    /// That step's output.
    pub output: String,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its place: `write`, `outer.inner`.
    pub path: StepPath,
    /// Shown instead of the path where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// The command, with its bindings.
    pub command: Template,
    /// Snapshot of the code folder; the command runs in a copy of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Digest>,
    /// Where the command runs.
    pub environment: Environment,
    /// Variables that the step's file sets. Values may hold bindings.
    #[serde(default)]
    pub variables: BTreeMap<String, Template>,
    /// Inputs, by name.
    pub inputs: BTreeMap<String, PlannedInput>,
    /// Outputs, by name.
    pub outputs: BTreeMap<String, PlannedOutput>,
    /// `depends_on`: order that is not data.
    #[serde(default)]
    pub after: BTreeSet<StepPath>,
    /// What it asks for.
    pub resources: Resources,
    /// How it is several processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// `limits.timeout`, of the command alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Time between SIGTERM and SIGKILL.
    pub grace_ms: u64,
    /// How often it is tried again, and why.
    pub retry: RetryPolicy,
    /// Whether a finished step with the same key may stand for it.
    pub reuse: Reuse,
    /// The compute, where config names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<String>,
    /// What the step may reach.
    pub network: Network,
    /// The program that a server may keep between attempts. No part of the key: it
    /// changes how soon a result is there, not which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_warm: Option<KeepWarm>,
}

/// `keep_warm`: the step's program implements the protocol of warm processes, and may
/// carry out one attempt after the other (docs/serve.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepWarm {
    /// The command, for a shell, that starts the program; without it the first word of
    /// the step's own command, with the argument `warm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

/// Whether and how a step is reused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reuse {
    /// Its component is deterministic: equal keys give equal outputs.
    Allowed {
        /// `cache.key`: what the author adds to the key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        extra_key: Option<String>,
        /// `cache.max_age`: older outcomes are a miss.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_age_ms: Option<u64>,
    },
    /// It says `is_deterministic: false`.
    NotDeterministic,
}

/// What a step may reach over the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// What the target gives.
    #[default]
    Default,
    /// Nothing.
    None,
}

/// Where a command runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Environment {
    /// On this machine, without a container.
    Process(ProcessEnvironment),
    /// In a container.
    Image {
        /// The reference, pinned by digest where that is known.
        image: String,
        /// The CUDA version the image is pinned to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cuda: Option<CudaPin>,
    },
}

/// What identifies the environment of a step that runs without a container:
/// part of its key, never shared with containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEnvironment {
    /// Operating system.
    pub os: String,
    /// Architecture.
    pub arch: String,
    /// A fingerprint of the host.
    pub host: String,
    /// The executable that the command's first word resolves to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<Executable>,
    /// The image that the file names, which `process` does not use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// A program and its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executable {
    /// The command's first word.
    pub name: String,
    /// The file's content.
    pub digest: Digest,
}

/// `environment.cuda`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaPin {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// `compat: minor`: any driver of the same major version serves.
    #[serde(default)]
    pub minor_compatible: bool,
}

/// Text with bindings that the launcher replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub Vec<TemplatePart>);

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplatePart {
    /// Text as it stands.
    Text(String),
    /// `${{inputs.X}}`: a literal's text, or the local path of data.
    Input(String),
    /// `${{outputs.X}}`: the local path of an output.
    Output(String),
    /// `$[[ … ]]`: dropped when an input that it names has no value.
    Optional(Vec<TemplatePart>),
}

/// What an input or output holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// One file.
    UriFile,
    /// A folder.
    #[default]
    UriFolder,
    /// A folder with an `MLTable` file.
    Mltable,
    /// A model in a format of its own.
    CustomModel,
    /// A model in MLflow's format.
    MlflowModel,
    /// A model for Triton.
    TritonModel,
}

impl DataType {
    /// As YAML and JSON write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UriFile => "uri_file",
            Self::UriFolder => "uri_folder",
            Self::Mltable => "mltable",
            Self::CustomModel => "custom_model",
            Self::MlflowModel => "mlflow_model",
            Self::TritonModel => "triton_model",
        }
    }
}

/// How data reaches a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputMode {
    /// A copy that the step may read (mounts are copies here).
    #[default]
    Download,
    /// The URI itself, as text.
    Direct,
}

/// Where an input's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum PlannedInput {
    /// A parameter, as the text that the command sees.
    Literal {
        /// The text.
        value: String,
    },
    /// A snapshot of a local file or folder.
    Snapshot {
        /// Which.
        digest: Digest,
        /// What it holds.
        data_type: DataType,
        /// How it reaches the step.
        #[serde(default)]
        mode: InputMode,
    },
    /// An object or prefix outside the run, pinned at planning.
    External {
        /// Where.
        uri: String,
        /// What it was: a version, an ETag, or a digest over a listing of them.
        pin: String,
        /// What it holds.
        data_type: DataType,
        /// How it reaches the step.
        #[serde(default)]
        mode: InputMode,
    },
    /// An output of another step.
    Step {
        /// The step.
        step: StepPath,
        /// Its output.
        output: String,
        /// What it holds, as the input declares it.
        data_type: DataType,
        /// How it reaches the step.
        #[serde(default)]
        mode: InputMode,
        /// The step runs without it where the other failed and the run goes on.
        #[serde(default)]
        optional: bool,
    },
    /// An optional input without a value.
    Absent,
}

/// One output of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedOutput {
    /// What it holds.
    pub data_type: DataType,
    /// Registered as an asset once the step has ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<AssetName>,
    /// Copied to this URI once the step has ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<String>,
}

/// What an asset is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetName {
    /// `model` or `data`.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The version; none means the next free number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// How often a step is tried again: one budget for each cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// After the command failed or timed out.
    pub exit: u32,
    /// After memory ran out.
    pub out_of_memory: u32,
    /// After the image could not be pulled.
    pub image: u32,
    /// After the scheduler took the node for something else.
    pub preempted: u32,
    /// After the node was short of something.
    pub evicted: u32,
    /// After the node, or the launcher with it, was lost.
    pub node_lost: u32,
    /// Wait before the second attempt.
    pub backoff_ms: u64,
    /// Each further wait is this many times the one before.
    pub backoff_factor: f64,
    /// No wait is longer.
    pub backoff_max_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            exit: 0,
            out_of_memory: 0,
            image: 3,
            preempted: 20,
            evicted: 5,
            node_lost: 5,
            backoff_ms: 1_000,
            backoff_factor: 2.0,
            backoff_max_ms: 60_000,
        }
    }
}

impl PlannedStep {
    /// The steps that this one comes after: those it takes data from, and those of
    /// `depends_on`.
    #[must_use]
    pub fn dependencies(&self) -> BTreeSet<&StepPath> {
        let data = self.inputs.values().filter_map(|input| match input {
            PlannedInput::Step { step, .. } => Some(step),
            _ => None,
        });
        data.chain(&self.after).collect()
    }

    /// The first ranks of its instances but the first one's: where each has a launcher of its
    /// own, what it says is kept apart.
    #[must_use]
    pub fn logs_apart(&self) -> Vec<u32> {
        let Some(distribution) = &self.distribution else {
            return Vec::new();
        };
        let shape = distribution.shape(self.resources.instances);
        let others = 1..shape.instances;
        others
            .map(|instance| shape.ranks_of(instance).start)
            .collect()
    }
}

impl Plan {
    /// The step at `path`.
    #[must_use]
    pub fn step(&self, path: &StepPath) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.path == *path)
    }

    /// Every snapshot that the run needs.
    #[must_use]
    pub fn snapshots(&self) -> BTreeSet<Digest> {
        let inputs = self
            .steps
            .iter()
            .flat_map(|step| step.inputs.values())
            .filter_map(|input| match input {
                PlannedInput::Snapshot { digest, .. } => Some(*digest),
                _ => None,
            });
        inputs
            .chain(self.steps.iter().filter_map(|step| step.code))
            .collect()
    }
}
