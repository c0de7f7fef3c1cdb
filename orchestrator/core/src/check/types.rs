//! A checked pipeline: every name resolved, every type known. Where it exists, a
//! plan can be made from it; nothing in it is text that still has to be read.

use super::distribution;
use super::expression::Piece;
use crate::distribution::Distribution;
use crate::document::{Place, Resolved, Source};
use crate::plan::{AssetName, CudaPin, DataType, InputMode, KeepWarm, Network, RetryPolicy};
use crate::resources::Resources;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A pipeline that can be planned.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its name; of a file with one document without a name, the file's.
    pub name: String,
    /// Shown instead of the name.
    pub display_name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The experiment that its runs belong to.
    pub experiment: Option<String>,
    /// Tags, for people.
    pub tags: BTreeMap<String, String>,
    /// Where the document stands.
    pub source: Arc<Source>,
    /// What holds for all of it.
    pub settings: Settings,
    /// The compute of steps that name none.
    pub compute: Option<String>,
    /// The values of its inputs, where they have one.
    pub values: BTreeMap<String, Bound>,
    /// Assets that its outputs are registered as.
    pub register: BTreeMap<String, AssetName>,
    /// Where its outputs are copied to: absolute paths and `s3://` addresses.
    pub export: BTreeMap<String, String>,
    /// Its steps.
    pub graph: Arc<Graph>,
}

/// `settings` of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The compute of steps that name none.
    pub default_compute: Option<String>,
    /// What `${{default_datastore}}` stands for.
    pub default_datastore: Option<String>,
    /// Independent branches go on after a failure.
    pub continue_on_step_failure: bool,
    /// Nothing is reused.
    pub force_rerun: bool,
    /// The step that runs before all others, by index.
    pub on_init: Option<usize>,
    /// The step that runs after all others, by index.
    pub on_finalize: Option<usize>,
}

/// Inputs, outputs and the steps between them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// What it takes, in the order of the file.
    pub inputs: Vec<Arc<InputDecl>>,
    /// What it gives.
    pub outputs: BTreeMap<String, GraphOutput>,
    /// Steps, in the order of the file.
    pub steps: Vec<Step>,
    /// Indices of `steps`: dependencies first, otherwise the order of the file.
    pub order: Vec<usize>,
    /// Commands in it, those of nested pipelines counted each time they are used.
    pub commands: usize,
}

/// An output of a [`Graph`].
#[derive(Clone, Debug)]
pub struct GraphOutput {
    /// What it holds; none where nothing says so.
    pub data_type: Option<DataType>,
    /// Step (by index) and output that make it.
    pub from: Option<(usize, String)>,
    /// Where it is declared.
    pub place: Place,
}

/// What an input takes.
#[derive(Clone, Debug)]
pub struct InputDecl {
    /// Its name.
    pub name: String,
    /// Its type.
    pub input_type: InputType,
    /// It may have no value.
    pub optional: bool,
    /// Its value where none is given.
    pub default: Option<Bound>,
    /// Least value.
    pub min: Option<f64>,
    /// Greatest value.
    pub max: Option<f64>,
    /// The only values.
    pub choices: Vec<Literal>,
    /// How data reaches the step.
    pub mode: InputMode,
    /// Where it is declared.
    pub place: Place,
}

/// The type of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputType {
    /// A parameter.
    Parameter(ParameterType),
    /// Data.
    Data(DataType),
    /// Nothing says: what is bound decides.
    Any,
    /// What it says is an error that was reported.
    Unknown,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterType {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
}

/// A value as it is written.
#[derive(Clone, Debug)]
pub struct Literal {
    /// Its characters.
    pub text: String,
    /// What they say on their own.
    pub resolved: Resolved,
    /// Where it is written.
    pub place: Place,
}

/// Where a value comes from, as seen from inside one graph.
#[derive(Clone, Debug)]
pub enum Bound {
    /// It is written here.
    Literal(Literal),
    /// It is a file or folder, or objects somewhere.
    Data(DataRef),
    /// It is an input of the graph.
    Parent {
        /// Which.
        input: String,
        /// Where that is said.
        place: Place,
    },
    /// It is another step's output.
    Step {
        /// Which step, by index.
        step: usize,
        /// Which output.
        output: String,
        /// Where that is said.
        place: Place,
    },
}

/// Data outside the run.
#[derive(Clone, Debug)]
pub struct DataRef {
    /// Where it is.
    pub location: Location,
    /// What it holds; none where nothing says so.
    pub data_type: Option<DataType>,
    /// How it reaches the step, where that is said.
    pub mode: Option<InputMode>,
    /// Where it is named.
    pub place: Place,
}

/// Where data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file or folder: its path, joined to the folder of the naming file.
    Local(String),
    /// A registered asset, `azureml:NAME:VERSION` or `azureml:NAME@LABEL`.
    Asset(String),
    /// Objects, by URI.
    Uri(String),
}

/// One step of a graph.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Where its name is written.
    pub place: Place,
    /// Shown instead of its name.
    pub display_name: Option<String>,
    /// Its inputs and what they are bound to.
    pub inputs: Vec<StepInput>,
    /// Its outputs, by name.
    pub outputs: BTreeMap<String, StepOutput>,
    /// Steps that it comes after, by index: those it takes data from and those of
    /// `depends_on`.
    pub needs: Vec<usize>,
    /// The steps of `depends_on` alone, by index.
    pub after: Vec<usize>,
    /// What it does.
    pub work: Work,
}

/// An input of a step.
#[derive(Clone, Debug)]
pub struct StepInput {
    /// What it takes.
    pub decl: Arc<InputDecl>,
    /// What it is bound to; none: it has no value.
    pub bound: Option<Bound>,
}

/// An output of a step.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// What it holds.
    pub data_type: DataType,
    /// The asset that it is registered as.
    pub register: Option<AssetName>,
    /// Where it is copied to: an absolute path, or an `s3://` address.
    pub export: Option<String>,
    /// Where it is declared.
    pub place: Place,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Work {
    /// It runs a command.
    Command(Box<CommandStep>),
    /// It is a pipeline.
    Pipeline(Arc<Graph>),
}

/// A step that runs a command: what its component says, and its own.
#[derive(Clone, Debug)]
pub struct CommandStep {
    /// The command.
    pub body: Arc<CommandBody>,
    /// Its own environment, instead of the component's.
    pub environment: Option<Arc<EnvironmentSpec>>,
    /// Variables, by name, with where each is written.
    pub variables: BTreeMap<String, (Vec<Piece>, Place)>,
    /// What it asks for; the component's where the step says nothing.
    pub resources: Resources,
    /// How it is several processes.
    pub distribution: Option<Distribution>,
    /// `limits.timeout`.
    pub timeout_ms: Option<u64>,
    /// How often it is tried again.
    pub retry: RetryPolicy,
    /// `cache.key`.
    pub cache_key: Option<String>,
    /// `cache.max_age`.
    pub cache_max_age_ms: Option<u64>,
    /// `keep_warm`.
    pub keep_warm: Option<KeepWarm>,
    /// `is_deterministic`.
    pub deterministic: bool,
    /// What it may reach.
    pub network: Network,
    /// The compute that it names.
    pub compute: Option<String>,
}

/// What a command component and an inline command have in common.
#[derive(Clone, Debug, Default)]
pub struct CommandBody {
    /// The command, in pieces.
    pub command: Vec<Piece>,
    /// Where it is written.
    pub place: Option<Place>,
    /// Its code folder.
    pub code: Option<CodeRef>,
    /// Where it runs.
    pub environment: Option<Arc<EnvironmentSpec>>,
}

/// A code folder or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRef {
    /// Its path, joined to the folder of the naming file.
    pub path: String,
    /// Where it is named.
    pub place: Place,
}

/// `environment`.
#[derive(Clone, Debug)]
pub struct EnvironmentSpec {
    /// `azureml:…`: a registered one.
    pub asset: Option<String>,
    /// An image.
    pub image: Option<String>,
    /// `build`: a folder that an image is built from.
    pub build: Option<BuildSpec>,
    /// `conda_file`: packages to add to the image.
    pub conda: Option<CondaFile>,
    /// The CUDA version the image is pinned to.
    pub cuda: Option<CudaPin>,
    /// Variables that it sets.
    pub variables: BTreeMap<String, String>,
    /// Where it is named.
    pub place: Place,
}

/// `environment.build`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BuildSpec {
    /// The folder, joined to the folder of the file that names it.
    pub path: String,
    /// The Dockerfile in it.
    pub dockerfile: String,
}

/// `environment.conda_file`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CondaFile {
    /// A file, joined to the folder of the file that names it.
    Path(String),
    /// Written in place.
    Inline {
        /// Its content, as JSON, which is YAML too.
        text: String,
        /// The folder that its relative paths are below.
        folder: String,
    },
}

/// What a step's container is made from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageSource {
    /// An image, or a registered environment (`azureml:…`).
    Named(String),
    /// A folder to build.
    Build(BuildSpec),
    /// An image and the packages to add to it.
    Conda {
        /// The image.
        base: String,
        /// The packages.
        file: CondaFile,
    },
}

impl EnvironmentSpec {
    /// What its containers are made from; `None` where it says nothing of that.
    #[must_use]
    pub fn source(&self) -> Option<ImageSource> {
        if let Some(build) = &self.build {
            return Some(ImageSource::Build(build.clone()));
        }
        let base = self.image.clone().or_else(|| self.asset.clone())?;
        Some(match &self.conda {
            Some(file) => ImageSource::Conda {
                base,
                file: file.clone(),
            },
            None => ImageSource::Named(base),
        })
    }
}

impl std::fmt::Display for ImageSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Build(build) => write!(f, "the build of {}", build.path),
            Self::Conda { base, file } => {
                let file = match file {
                    CondaFile::Path(path) => path.as_str(),
                    CondaFile::Inline { .. } => "`conda_file`",
                };
                write!(f, "{base} with {file}")
            }
        }
    }
}

/// A component: what a job can name.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    pub(crate) display_name: Option<String>,
    pub(crate) inputs: Vec<Arc<InputDecl>>,
    pub(crate) outputs: BTreeMap<String, (Option<DataType>, Place)>,
    pub(crate) deterministic: bool,
    pub(crate) resources: Resources,
    pub(crate) distribution: Option<distribution::Asked>,
    pub(crate) variables: BTreeMap<String, (Vec<Piece>, Place)>,
    pub(crate) work: ComponentWork,
}

#[derive(Clone, Debug)]
pub(crate) enum ComponentWork {
    Command(Arc<CommandBody>),
    Pipeline(Arc<Graph>),
}

impl Graph {
    /// Steps by name.
    #[must_use]
    pub fn by_name(&self) -> HashMap<&str, usize> {
        self.steps
            .iter()
            .enumerate()
            .map(|(index, step)| (step.name.as_str(), index))
            .collect()
    }
}
