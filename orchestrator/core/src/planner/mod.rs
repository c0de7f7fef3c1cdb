//! From a checked pipeline to the plan of a run. What has to be looked up on the
//! way (digests, pins, programs) is listed by [`needs`], looked up by whoever may,
//! and given back as [`Facts`]. It reads nothing itself, and a plan never depends
//! on anything but its arguments.

mod flatten;
mod lookup;
mod needs;
mod text;

pub use needs::{AssetNeed, CommandNeed, ImageNeed, Needs, PathKind, PathNeed, UriNeed, needs};

use crate::check::{EnvironmentSpec, ImageSource, Pipeline};
use crate::diagnostic::{Code, Diagnostic, sort};
use crate::digest::Digest;
use crate::plan::{DataType, Executable, Plan};
use std::collections::{BTreeMap, BTreeSet};

/// What was found of that which [`needs`] lists.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The run's name, for `${{name}}`.
    pub run: String,
    /// The current folder, which relative paths of `mode: direct` inputs are below.
    pub folder: String,
    /// The experiment where the file names none; without it the pipeline's name.
    pub experiment: Option<String>,
    /// `--force-rerun`.
    pub force_rerun: bool,
    /// Snapshots of local paths, by the path that [`Needs`] gives.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// Versions or ETags of objects, by URI.
    pub pins: BTreeMap<String, String>,
    /// What registered data and models are, by the name in the file.
    pub assets: BTreeMap<String, Asset>,
    /// Names of computes that config knows; a step's other compute is dropped.
    pub computes: BTreeSet<String>,
    /// Where the steps run.
    pub target: Target,
    /// Whether steps run on other machines, which see no folder of this one.
    pub cluster: bool,
    /// Time between SIGTERM and SIGKILL.
    pub grace_ms: u64,
}

/// A local file or folder, as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Of its content.
    pub digest: Digest,
    /// Whether it is a single file.
    pub is_file: bool,
}

/// What a registered asset is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asset {
    /// Content in the store.
    Snapshot {
        /// Which.
        digest: Digest,
        /// What it holds.
        data_type: DataType,
    },
    /// Objects outside the run.
    External {
        /// Where.
        uri: String,
        /// What they were when it was resolved.
        pin: String,
        /// What it holds.
        data_type: DataType,
    },
}

/// Where the steps run, as far as it identifies their environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// On this machine, without a container.
    Process {
        /// Operating system.
        os: String,
        /// Architecture.
        arch: String,
        /// A fingerprint of the host.
        host: String,
        /// Programs by the word that [`CommandNeed`] gives.
        executables: BTreeMap<String, Executable>,
    },
    /// In containers.
    Image {
        /// References pinned by digest, by what [`Needs::images`] gives.
        images: BTreeMap<ImageSource, String>,
    },
}

impl Default for Target {
    fn default() -> Self {
        Self::Image {
            images: BTreeMap::new(),
        }
    }
}

/// The plan of a run of `pipeline`.
///
/// # Errors
/// Every value that turns out wrong once all layers of bindings are followed, and
/// everything that `facts` lack, each at its place.
pub fn plan(pipeline: &Pipeline, facts: &Facts) -> Result<Plan, Vec<Diagnostic>> {
    let (plan, mut errors) = flatten::flatten(pipeline, facts);
    if errors.is_empty() {
        return Ok(plan);
    }
    sort(&mut errors);
    Err(errors)
}

/// What a run of `pipeline` should say beforehand: that `process` uses no images, and what
/// steps on a cluster do without.
#[must_use]
pub fn notes(pipeline: &Pipeline, facts: &Facts) -> Vec<Diagnostic> {
    if facts.cluster {
        return flatten::left_out(pipeline, facts);
    }
    let Target::Process { .. } = facts.target else {
        return Vec::new();
    };
    let ignored = |spec: &EnvironmentSpec| spec.source().is_some() || spec.conda.is_some();
    let mut places = Vec::new();
    flatten::each_command(&pipeline.graph, &mut |_, step| {
        let environment = step
            .environment
            .as_deref()
            .or(step.body.environment.as_deref());
        places.extend(
            environment
                .filter(|spec| ignored(spec))
                .map(|spec| spec.place.clone()),
        );
    });
    let Some(first) = places.first() else {
        return Vec::new();
    };
    let message = "steps run in this machine's own environment: their images are not used";
    let found = Diagnostic::warning(Code::EnvironmentIgnored, message, first);
    vec![found.help("`--on docker` runs each step in its image")]
}
