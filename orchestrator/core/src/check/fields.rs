//! Which keys stand where, what they hold, and how far they are built: the one
//! list that the check, its suggestions and the JSON schema are made from.

/// A place in a file that takes keys.
#[derive(Debug)]
pub struct Table {
    /// What it is, for messages: `a command job`.
    pub name: &'static str,
    /// Its keys.
    pub fields: &'static [Field],
    /// Unknown keys pass with a warning.
    pub open: bool,
}

/// One key.
#[derive(Debug)]
pub struct Field {
    /// The key.
    pub key: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// How far it is built.
    pub status: Status,
    /// What it is for.
    pub doc: &'static str,
}

/// How far a key is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Supported,
    /// It changes nothing here, and a warning says why.
    Ignored(&'static str),
    /// It is refused until it is built, with what to use instead.
    NotYet(&'static str),
    /// It needs a service of Azure, with what to use instead.
    AzureOnly(&'static str),
}

/// What a key holds.
#[derive(Debug)]
pub enum Shape {
    /// Anything.
    Any,
    /// Any scalar, read as text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A whole number, at least this.
    Integer(i64),
    /// A number.
    Number,
    /// A scalar of any type.
    Scalar,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Seconds, or a text such as `30m`.
    Duration,
    /// Bytes, or a text such as `16GiB`.
    Bytes,
    /// A list of these.
    List(&'static Shape),
    /// A mapping from names to these.
    Map(&'static Shape),
    /// A mapping with the keys of a table.
    Object(&'static Table),
    /// Any of these.
    OneOf(&'static [Shape]),
    /// A job of a pipeline, by its `type`.
    Job,
}

impl Table {
    /// The field `key`.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.key == key)
    }

    /// Every key that works here.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.fields.iter().map(|field| field.key)
    }
}

const fn yes(key: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field {
        key,
        shape,
        status: Status::Supported,
        doc,
    }
}
const fn note(key: &'static str, shape: Shape, why: &'static str, doc: &'static str) -> Field {
    Field {
        key,
        shape,
        status: Status::Ignored(why),
        doc,
    }
}
const fn later(key: &'static str, shape: Shape, instead: &'static str, doc: &'static str) -> Field {
    Field {
        key,
        shape,
        status: Status::NotYet(instead),
        doc,
    }
}
const fn azure(key: &'static str, shape: Shape, instead: &'static str, doc: &'static str) -> Field {
    Field {
        key,
        shape,
        status: Status::AzureOnly(instead),
        doc,
    }
}

/// Types of an input.
pub const INPUT_TYPES: &[&str] = &[
    "string",
    "integer",
    "number",
    "boolean",
    "uri_file",
    "uri_folder",
    "mltable",
    "custom_model",
    "mlflow_model",
    "triton_model",
];
/// Types of an output.
pub const OUTPUT_TYPES: &[&str] = &[
    "uri_file",
    "uri_folder",
    "mltable",
    "custom_model",
    "mlflow_model",
    "triton_model",
];
/// Modes of an input.
pub const INPUT_MODES: &[&str] = &[
    "ro_mount",
    "rw_mount",
    "mount",
    "download",
    "direct",
    "eval_mount",
    "eval_download",
];
/// Modes of an output.
pub const OUTPUT_MODES: &[&str] = &["rw_mount", "mount", "upload", "direct"];

const IDENTITY: &str = "steps hold no credentials here";
const SERVICES: &str = "no service is opened into a running step";

/// A pipeline job: a document of `pipelines.yaml`.
pub static PIPELINE: Table = Table {
    name: "a pipeline",
    open: false,
    fields: &[
        yes(
            "$schema",
            Shape::Text,
            "The schema that an editor checks this file against.",
        ),
        yes("type", Shape::Text, "`pipeline`."),
        yes(
            "name",
            Shape::Text,
            "The pipeline's name. A file with one document needs none.",
        ),
        yes("display_name", Shape::Text, "Shown instead of the name."),
        yes("description", Shape::Text, "What it is for."),
        yes(
            "experiment_name",
            Shape::Text,
            "The experiment that its runs belong to.",
        ),
        yes("tags", Shape::Map(&Shape::Scalar), "Tags, for people."),
        yes(
            "properties",
            Shape::Map(&Shape::Scalar),
            "Further tags, for programs.",
        ),
        yes(
            "compute",
            Shape::Text,
            "The compute of steps that name none: `azureml:NAME` or NAME.",
        ),
        yes(
            "component",
            COMPONENT_SHAPE,
            "Run one component as a pipeline.",
        ),
        yes(
            "settings",
            Shape::Object(&SETTINGS),
            "What holds for the whole run.",
        ),
        yes(
            "inputs",
            Shape::Map(&INPUT_SHAPE),
            "Its inputs: literals or data, by name.",
        ),
        yes(
            "outputs",
            Shape::Map(&OUTPUT_SHAPE),
            "Its outputs, by name; an empty one is a folder.",
        ),
        yes("jobs", Shape::Map(&Shape::Job), "Its steps, by name."),
        note(
            "identity",
            Shape::Any,
            IDENTITY,
            "Whose rights a job has in Azure.",
        ),
        note(
            "services",
            Shape::Any,
            SERVICES,
            "Services of a job in Azure.",
        ),
    ],
};

/// `settings` of a pipeline.
pub static SETTINGS: Table = Table {
    name: "`settings`",
    open: true,
    fields: &[
        yes(
            "default_compute",
            Shape::Text,
            "The compute of steps that name none.",
        ),
        yes(
            "default_datastore",
            Shape::Text,
            "What `${{default_datastore}}` stands for.",
        ),
        yes(
            "continue_on_step_failure",
            Shape::Boolean,
            "Independent branches go on after a failure.",
        ),
        yes("force_rerun", Shape::Boolean, "Nothing is reused."),
        yes(
            "on_init",
            Shape::Text,
            "A step without connections that runs before all others.",
        ),
        yes(
            "on_finalize",
            Shape::Text,
            "A step without connections that runs last, also after a failure.",
        ),
    ],
};

const COMPONENT_SHAPE: Shape = Shape::OneOf(&[Shape::Text, Shape::Object(&COMMAND_COMPONENT)]);
static INPUT_SHAPE: Shape = Shape::OneOf(&[Shape::Scalar, Shape::Object(&INPUT)]);
static DECL_SHAPE: Shape = Shape::Object(&INPUT);
static OUTPUT_SHAPE: Shape = Shape::OneOf(&[Shape::Text, Shape::Object(&OUTPUT)]);
const ENVIRONMENT_SHAPE: Shape = Shape::OneOf(&[Shape::Text, Shape::Object(&ENVIRONMENT)]);

/// An input: of a pipeline, a job or a component.
pub static INPUT: Table = Table {
    name: "an input",
    open: false,
    fields: &[
        yes("type", Shape::Choice(INPUT_TYPES), "What it takes."),
        yes("path", Shape::Text, "Where its data is, or a binding."),
        yes(
            "mode",
            Shape::Choice(INPUT_MODES),
            "How data reaches the step: a copy, or `direct`: its URI.",
        ),
        yes("default", Shape::Scalar, "Its value where none is given."),
        yes("optional", Shape::Boolean, "It may have no value."),
        yes("min", Shape::Number, "Least value."),
        yes("max", Shape::Number, "Greatest value."),
        yes("enum", Shape::List(&Shape::Scalar), "The only values."),
        yes("description", Shape::Text, "What it is for."),
        yes("value", Shape::Scalar, "Its value."),
        azure(
            "path_on_compute",
            Shape::Any,
            "name the data with `path`",
            "A path on an Azure compute.",
        ),
        azure(
            "datastore",
            Shape::Any,
            "data is kept in the run's store",
            "Where Azure uploads local data to.",
        ),
    ],
};

/// An output: of a pipeline, a job or a component.
pub static OUTPUT: Table = Table {
    name: "an output",
    open: false,
    fields: &[
        yes("type", Shape::Choice(OUTPUT_TYPES), "What it holds."),
        yes("path", Shape::Text, "A binding; or where a copy goes."),
        yes(
            "mode",
            Shape::Choice(OUTPUT_MODES),
            "How it leaves the step; every mode publishes a copy.",
        ),
        yes("name", Shape::Text, "The asset that it is registered as."),
        yes(
            "version",
            Shape::Scalar,
            "That asset's version; the next free number where there is none.",
        ),
        yes("description", Shape::Text, "What it is for."),
        note(
            "early_available",
            Shape::Boolean,
            "an output is there once its step has ended",
            "Preview of Azure.",
        ),
    ],
};

const INCLUDES: &str = "put the files into the code folder";

/// A job of a pipeline that runs a command.
pub static COMMAND_JOB: Table = Table {
    name: "a command job",
    open: false,
    fields: &[
        yes(
            "$schema",
            Shape::Text,
            "The schema that an editor checks this file against.",
        ),
        yes(
            "type",
            Shape::Text,
            "`command`, which is also what an absent type means.",
        ),
        yes(
            "name",
            Shape::Text,
            "Kept for people; a step is called by its key.",
        ),
        yes("display_name", Shape::Text, "Shown instead of its name."),
        yes("description", Shape::Text, "What it is for."),
        yes("comment", Shape::Text, "For people."),
        yes("tags", Shape::Map(&Shape::Scalar), "Tags, for people."),
        yes(
            "properties",
            Shape::Map(&Shape::Scalar),
            "Further tags, for programs.",
        ),
        yes(
            "experiment_name",
            Shape::Text,
            "Of the pipeline; kept for people here.",
        ),
        yes(
            "component",
            COMPONENT_SHAPE,
            "The component to run: a file, or written here.",
        ),
        yes("command", Shape::Text, "The command, run by a shell."),
        yes(
            "code",
            Shape::Text,
            "The folder or file that the command runs in a copy of.",
        ),
        yes("environment", ENVIRONMENT_SHAPE, "Where the command runs."),
        yes(
            "environment_variables",
            Shape::Map(&Shape::Scalar),
            "Variables for the command.",
        ),
        yes(
            "inputs",
            Shape::Map(&INPUT_SHAPE),
            "Its inputs: literals, data or bindings.",
        ),
        yes(
            "outputs",
            Shape::Map(&OUTPUT_SHAPE),
            "Its outputs; an empty one is a folder.",
        ),
        yes(
            "compute",
            Shape::Text,
            "The compute that it runs on: `azureml:NAME` or NAME.",
        ),
        yes(
            "resources",
            Shape::Object(&RESOURCES),
            "What it asks of the machine or node.",
        ),
        yes("limits", Shape::Object(&LIMITS), "Limits of the command."),
        yes(
            "is_deterministic",
            Shape::Boolean,
            "Whether a finished step with the same key may stand for it.",
        ),
        yes(
            "depends_on",
            Shape::OneOf(&[Shape::Text, Shape::List(&Shape::Text)]),
            "Steps that it comes after without taking data from them.",
        ),
        yes(
            "retry",
            Shape::OneOf(&[Shape::Integer(1), Shape::Object(&RETRY)]),
            "How often it is tried again, and why.",
        ),
        yes(
            "cache",
            Shape::Object(&CACHE),
            "What else its reuse depends on.",
        ),
        yes(
            "network",
            Shape::Choice(&["default", "none"]),
            "What it may reach.",
        ),
        yes(
            "distribution",
            Shape::Object(&DISTRIBUTION),
            "Several processes for one step.",
        ),
        later(
            "priority",
            Shape::Any,
            "runs are taken in the order of their submission",
            "Its place in the queue.",
        ),
        yes(
            "keep_warm",
            Shape::OneOf(&[Shape::Choice(KEEP_WARM_KINDS), Shape::Object(&KEEP_WARM)]),
            "A program that stays between attempts, where a server keeps one.",
        ),
        later(
            "additional_includes",
            Shape::Any,
            INCLUDES,
            "Further files beside the code.",
        ),
        note(
            "queue_settings",
            Shape::Any,
            "Azure's job tiers do not exist here",
            "Job tier and priority in Azure.",
        ),
        note(
            "identity",
            Shape::Any,
            IDENTITY,
            "Whose rights a job has in Azure.",
        ),
        note(
            "services",
            Shape::Any,
            SERVICES,
            "Services of a job in Azure.",
        ),
    ],
};

/// A job that is a pipeline.
pub static PIPELINE_JOB: Table = Table {
    name: "a pipeline job",
    open: false,
    fields: &[
        yes(
            "$schema",
            Shape::Text,
            "The schema that an editor checks this file against.",
        ),
        yes("type", Shape::Text, "`pipeline`."),
        yes(
            "name",
            Shape::Text,
            "Kept for people; a step is called by its key.",
        ),
        yes("display_name", Shape::Text, "Shown instead of its name."),
        yes("description", Shape::Text, "What it is for."),
        yes("comment", Shape::Text, "For people."),
        yes("tags", Shape::Map(&Shape::Scalar), "Tags, for people."),
        yes(
            "properties",
            Shape::Map(&Shape::Scalar),
            "Further tags, for programs.",
        ),
        yes(
            "component",
            Shape::OneOf(&[Shape::Text, Shape::Object(&PIPELINE_COMPONENT)]),
            "The pipeline component: a file, or written here.",
        ),
        yes(
            "inputs",
            Shape::Map(&INPUT_SHAPE),
            "Its inputs: literals, data or bindings.",
        ),
        yes("outputs", Shape::Map(&OUTPUT_SHAPE), "Its outputs."),
        yes(
            "jobs",
            Shape::Map(&Shape::Job),
            "Its steps, where no component is named.",
        ),
        yes(
            "depends_on",
            Shape::OneOf(&[Shape::Text, Shape::List(&Shape::Text)]),
            "Steps that it comes after without taking data from them.",
        ),
        later(
            "settings",
            Shape::Any,
            "write them at the top of the file: they hold for the whole run",
            "Settings of the nested pipeline alone.",
        ),
        later(
            "compute",
            Shape::Any,
            "write it at the steps inside",
            "The compute of the steps inside.",
        ),
        note(
            "identity",
            Shape::Any,
            IDENTITY,
            "Whose rights a job has in Azure.",
        ),
    ],
};

/// A component that runs a command.
pub static COMMAND_COMPONENT: Table = Table {
    name: "a command component",
    open: false,
    fields: &[
        yes(
            "$schema",
            Shape::Text,
            "The schema that an editor checks this file against.",
        ),
        yes("type", Shape::Text, "`command`."),
        yes("name", Shape::Text, "Its name."),
        yes("version", Shape::Scalar, "Its version."),
        yes("display_name", Shape::Text, "Shown instead of its name."),
        yes("description", Shape::Text, "What it is for."),
        yes("tags", Shape::Map(&Shape::Scalar), "Tags, for people."),
        yes(
            "properties",
            Shape::Map(&Shape::Scalar),
            "Further tags, for programs.",
        ),
        yes(
            "is_deterministic",
            Shape::Boolean,
            "Whether a finished step with the same key may stand for it.",
        ),
        yes("inputs", Shape::Map(&DECL_SHAPE), "What it takes, by name."),
        yes(
            "outputs",
            Shape::Map(&OUTPUT_SHAPE),
            "What it gives, by name.",
        ),
        yes("command", Shape::Text, "The command, run by a shell."),
        yes(
            "code",
            Shape::Text,
            "The folder or file that the command runs in a copy of.",
        ),
        yes("environment", ENVIRONMENT_SHAPE, "Where the command runs."),
        yes(
            "environment_variables",
            Shape::Map(&Shape::Scalar),
            "Variables for the command.",
        ),
        yes(
            "resources",
            Shape::Object(&RESOURCES),
            "What it asks of the machine or node.",
        ),
        yes(
            "distribution",
            Shape::Object(&DISTRIBUTION),
            "Several processes for one step.",
        ),
        later(
            "additional_includes",
            Shape::Any,
            INCLUDES,
            "Further files beside the code.",
        ),
    ],
};

/// A component that is a pipeline.
pub static PIPELINE_COMPONENT: Table = Table {
    name: "a pipeline component",
    open: false,
    fields: &[
        yes(
            "$schema",
            Shape::Text,
            "The schema that an editor checks this file against.",
        ),
        yes("type", Shape::Text, "`pipeline`."),
        yes("name", Shape::Text, "Its name."),
        yes("version", Shape::Scalar, "Its version."),
        yes("display_name", Shape::Text, "Shown instead of its name."),
        yes("description", Shape::Text, "What it is for."),
        yes("tags", Shape::Map(&Shape::Scalar), "Tags, for people."),
        yes(
            "properties",
            Shape::Map(&Shape::Scalar),
            "Further tags, for programs.",
        ),
        yes(
            "is_deterministic",
            Shape::Boolean,
            "Its steps say this one by one.",
        ),
        yes("inputs", Shape::Map(&DECL_SHAPE), "What it takes, by name."),
        yes(
            "outputs",
            Shape::Map(&OUTPUT_SHAPE),
            "What it gives, by name.",
        ),
        yes("jobs", Shape::Map(&Shape::Job), "Its steps, by name."),
        later(
            "settings",
            Shape::Any,
            "write them in the pipeline that uses this component",
            "Settings of the nested pipeline alone.",
        ),
    ],
};

/// `environment`, written in place or in a file of its own.
pub static ENVIRONMENT: Table = Table {
    name: "an environment",
    open: false,
    fields: &[
        yes(
            "$schema",
            Shape::Text,
            "The schema that an editor checks this file against.",
        ),
        yes("name", Shape::Text, "Its name."),
        yes("version", Shape::Scalar, "Its version."),
        yes("description", Shape::Text, "What it is for."),
        yes("tags", Shape::Map(&Shape::Scalar), "Tags, for people."),
        yes("image", Shape::Text, "The image that the command runs in."),
        yes(
            "conda_file",
            Shape::Any,
            "Packages to add to the image: a path, or written here.",
        ),
        yes("build", Shape::Object(&BUILD), "How the image is built."),
        yes(
            "variables",
            Shape::Map(&Shape::Scalar),
            "Variables for the command.",
        ),
        yes(
            "cuda",
            Shape::OneOf(&[Shape::Scalar, Shape::Object(&CUDA)]),
            "The CUDA version the image is pinned to: \"12.6\".",
        ),
        note(
            "os_type",
            Shape::Text,
            "steps run on Linux",
            "The operating system.",
        ),
        note(
            "inference_config",
            Shape::Any,
            "it concerns online endpoints alone",
            "Routes of a server.",
        ),
    ],
};

/// `environment.build`.
pub static BUILD: Table = Table {
    name: "`build`",
    open: false,
    fields: &[
        yes("path", Shape::Text, "The folder to build."),
        yes("dockerfile_path", Shape::Text, "The Dockerfile in it."),
    ],
};

/// `environment.cuda` as a mapping.
pub static CUDA: Table = Table {
    name: "`cuda`",
    open: false,
    fields: &[
        yes("version", Shape::Scalar, "The CUDA version: \"12.6\"."),
        yes(
            "compat",
            Shape::Choice(&["minor"]),
            "`minor`: any driver of the same major version serves.",
        ),
    ],
};

/// `distribution`.
pub static DISTRIBUTION: Table = Table {
    name: "`distribution`",
    open: false,
    fields: &[
        yes(
            "type",
            Shape::Choice(&["pytorch", "mpi", "tensorflow"]),
            "How the processes find each other: `pytorch`, `mpi` or `tensorflow`.",
        ),
        yes(
            "process_count_per_instance",
            Shape::Integer(1),
            "Processes on each instance, of `pytorch` and `mpi`.",
        ),
        yes(
            "worker_count",
            Shape::Integer(1),
            "Workers, of `tensorflow`; each is an instance.",
        ),
        yes(
            "parameter_server_count",
            Shape::Integer(0),
            "Parameter servers, of `tensorflow`; each is an instance.",
        ),
    ],
};

/// `resources`.
pub static RESOURCES: Table = Table {
    name: "`resources`",
    open: false,
    fields: &[
        yes("gpus", Shape::Integer(0), "Whole GPUs."),
        yes("gpu", Shape::Object(&GPU), "Which GPU."),
        yes("cpus", Shape::Scalar, "CPUs: 2, 0.5 or 500m."),
        yes("memory", Shape::Bytes, "Memory: 16GiB."),
        yes("ephemeral_storage", Shape::Bytes, "Scratch space: 50GiB."),
        yes("shm_size", Shape::Bytes, "Shared memory: 2g."),
        yes(
            "instance_count",
            Shape::Integer(1),
            "Instances of the step.",
        ),
        yes(
            "instance_type",
            Shape::Text,
            "An instance type of the compute's config.",
        ),
        later(
            "docker_args",
            Shape::Any,
            "say what the step needs with `shm_size`, `gpus`, `memory`",
            "Arguments of `docker run`.",
        ),
        note(
            "max_instance_count",
            Shape::Any,
            "a step has as many instances as `instance_count` says",
            "Most instances in Azure.",
        ),
        note(
            "locations",
            Shape::Any,
            "Azure's regions do not exist here",
            "Regions of Azure.",
        ),
        note(
            "properties",
            Shape::Any,
            "they speak to Azure's own schedulers",
            "Further properties in Azure.",
        ),
    ],
};

/// `resources.gpu`.
pub static GPU: Table = Table {
    name: "`gpu`",
    open: false,
    fields: &[
        yes(
            "model",
            Shape::Text,
            "Product name, as NVIDIA's feature discovery writes it.",
        ),
        yes("memory", Shape::Bytes, "Least memory of each GPU."),
        yes("mig", Shape::Text, "A MIG profile, such as 1g.10gb."),
    ],
};

/// `limits`.
pub static LIMITS: Table = Table {
    name: "`limits`",
    open: false,
    fields: &[yes(
        "timeout",
        Shape::Duration,
        "Longest time of the command: seconds, or 30m.",
    )],
};

/// `retry`.
pub static RETRY: Table = Table {
    name: "`retry`",
    open: false,
    fields: &[
        yes(
            "attempts",
            Shape::Integer(1),
            "Attempts in all where the command fails or times out.",
        ),
        yes(
            "exit",
            Shape::Integer(0),
            "Further attempts after the command failed or timed out.",
        ),
        yes(
            "out_of_memory",
            Shape::Integer(0),
            "Further attempts after memory ran out.",
        ),
        yes(
            "image",
            Shape::Integer(0),
            "Further attempts after the image could not be pulled.",
        ),
        yes(
            "preempted",
            Shape::Integer(0),
            "Further attempts after the node was taken for something else.",
        ),
        yes(
            "evicted",
            Shape::Integer(0),
            "Further attempts after the node was short of something.",
        ),
        yes(
            "node_lost",
            Shape::Integer(0),
            "Further attempts after the node was lost.",
        ),
        yes(
            "backoff",
            Shape::OneOf(&[Shape::Duration, Shape::Object(&BACKOFF)]),
            "Wait before the second attempt.",
        ),
    ],
};

/// `retry.backoff` as a mapping.
pub static BACKOFF: Table = Table {
    name: "`backoff`",
    open: false,
    fields: &[
        yes(
            "initial",
            Shape::Duration,
            "Wait before the second attempt.",
        ),
        yes(
            "factor",
            Shape::Number,
            "Each further wait is this many times the one before.",
        ),
        yes("max", Shape::Duration, "No wait is longer."),
    ],
};

/// What `keep_warm` may name by a word.
const KEEP_WARM_KINDS: &[&str] = &["process", "pod"];

/// `keep_warm`.
pub static KEEP_WARM: Table = Table {
    name: "`keep_warm`",
    open: false,
    fields: &[yes(
        "process",
        Shape::Text,
        "The command that starts the program; else the step's own first word with `warm`.",
    )],
};

/// `cache`.
pub static CACHE: Table = Table {
    name: "`cache`",
    open: false,
    fields: &[
        yes(
            "key",
            Shape::Scalar,
            "What else tells two runs of the step apart.",
        ),
        yes(
            "max_age",
            Shape::Duration,
            "Older outcomes are not reused: seconds, or 7d.",
        ),
    ],
};

/// What a job or component of another type meets.
pub fn other_type(name: &str) -> Option<Status> {
    Some(match name {
        "sweep" => Status::NotYet("write one command job for each trial"),
        "parallel" => Status::NotYet("split the data in a command job and process it there"),
        "if_else" => Status::NotYet("decide inside the command of a step"),
        "do_while" => Status::NotYet("loop inside the command of a step"),
        "parallel_for" => Status::NotYet("write one job for each item"),
        "spark" => Status::AzureOnly("run Spark inside a command job, with an image that has it"),
        "automl" => Status::AzureOnly("write the training as a command job"),
        "import" | "data_transfer" => Status::AzureOnly("copy the data in a command job"),
        "flow_parallel" | "promptflow" | "flow" => {
            Status::AzureOnly("call the model in a command job")
        }
        "finetuning" | "distillation" => Status::AzureOnly("write the training as a command job"),
        _ => return None,
    })
}

/// What a whole document of another type meets.
pub fn other_document(name: &str) -> Option<Status> {
    Some(match name {
        "command" => Status::NotYet("put the job under `jobs:` of a pipeline"),
        "schedule" => Status::NotYet("start `auria-pipeline submit` from cron"),
        "batchEndpoint" | "batch" | "endpoint" => {
            Status::NotYet("start runs with `auria-pipeline submit`")
        }
        "pipelineComponentBatchDeployment" | "deployment" => {
            Status::NotYet("start runs with `auria-pipeline submit`")
        }
        _ => return other_type(name),
    })
}

/// Types of a job.
pub const JOB_TYPES: &[&str] = &[
    "command",
    "pipeline",
    "sweep",
    "parallel",
    "if_else",
    "do_while",
    "parallel_for",
    "spark",
    "automl",
    "import",
    "data_transfer",
];
