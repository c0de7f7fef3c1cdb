//! The command line as people type it: every command, flag and example, in one
//! place, from which help, man page, completions and the reference are made.
//! Nothing here does anything.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Runs pipelines of GPU containers from one file, on a laptop or on Kubernetes.
///
/// A pipeline is a YAML file in the format of Azure ML's CLI v2. Each step runs on its
/// own, and files go from step to step through an object store. A step that finished
/// with the same command, code and inputs before is reused.
#[derive(Debug, Parser)]
#[command(
    name = "auria-pipeline",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:\n  \
      auria-pipeline submit pipelines.yaml\n  \
      auria-pipeline submit --set inputs.mood=joy --set inputs.seed=7\n  \
      auria-pipeline show latest\n  \
      auria-pipeline logs latest paint --follow\n\n\
      Exit codes:\n  \
      0 done, 1 the run Failed, 2 usage or an invalid document, 3 the run was Canceled,\n  \
      4 the store or the engine cannot be reached, 130 interrupted by Ctrl-C"
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Where runs are kept: a folder, or s3://BUCKET/PREFIX
    ///
    /// Default: what auria.yaml says, else the folder `.auria` beside the pipeline file (for
    /// commands without a file: the nearest `.auria` upward from the current folder).
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    pub store: Option<String>,
    /// What runs the steps: process (this machine, no container), docker (containers of this
    /// machine's Docker or Podman), kubernetes (Pods of a cluster), or a compute's name
    ///
    /// Default: what auria.yaml says, else docker where an engine answers and each step has an
    /// image that it can get or build, else process.
    #[arg(
        long,
        global = true,
        value_name = "TARGET",
        help_heading = "Global options"
    )]
    pub on: Option<String>,
    /// Which cluster: a context of the kubeconfig (default: its current one)
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Global options"
    )]
    pub context: Option<String>,
    /// Where the controller is on the cluster (default: auria)
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Global options"
    )]
    pub namespace: Option<String>,
    /// The server that keeps and drives runs, such as http://127.0.0.1:8460
    ///
    /// Default: AURIA_SERVER, else what your own config says, else none: this machine's own
    /// store. Its token is taken from AURIA_TOKEN, or from the file that your config names.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    pub server: Option<String>,
    /// How results are printed
    #[arg(
        long,
        short,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Global options"
    )]
    pub output: OutputFormat,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// A graph in Mermaid's language (`plan`)
    Mermaid,
    /// A graph in Graphviz' language (`plan`)
    Dot,
    /// A graph as a picture (`plan`)
    Svg,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a pipeline, run it, and show how it goes
    #[command(after_help = "Examples:\n  \
        auria-pipeline submit                                  run ./pipelines.yaml\n  \
        auria-pipeline submit pipelines.yaml --pipeline retrain --set inputs.budget=smoke\n  \
        auria-pipeline submit --detach                         leave it running, print its name\n\n\
        Ctrl-C cancels the run; a second Ctrl-C kills its steps at once.")]
    Submit(Submit),
    /// Check files and print every error in them
    #[command(after_help = "Examples:\n  \
        auria-pipeline validate pipelines.yaml\n  \
        auria-pipeline validate *.yml --output json            for editors and CI")]
    Validate(Validate),
    /// Print what a run would do: steps, order, where inputs come from
    #[command(after_help = "Examples:\n  \
        auria-pipeline plan pipelines.yaml\n  \
        auria-pipeline plan pipelines.yaml --output mermaid    a graph for a README\n  \
        auria-pipeline plan pipelines.yaml --output svg > graph.svg")]
    Plan(PlanArgs),
    /// List runs, newest first
    #[command(after_help = "Examples:\n  \
        auria-pipeline runs --last 5\n  \
        auria-pipeline runs --status Failed --output json")]
    Runs(Runs),
    /// Show a run: its steps, times, outputs
    #[command(after_help = "Examples:\n  \
        auria-pipeline show                                    the newest run\n  \
        auria-pipeline show auria-kathi-2026 --output json     a unique prefix is enough")]
    Show(RunArg),
    /// Follow a run until it ends; exits as `submit` would
    #[command(after_help = "Examples:\n  \
        auria-pipeline watch latest\n  \
        auria-pipeline watch latest --output json              its report, at the end")]
    Watch(RunArg),
    /// Print what a run's steps wrote
    #[command(after_help = "Examples:\n  \
        auria-pipeline logs latest                             every step, one after the other\n  \
        auria-pipeline logs latest paint --follow              as it is written\n  \
        auria-pipeline logs latest paint --attempt 1           before a retry")]
    Logs(Logs),
    /// Stop a run
    #[command(after_help = "Examples:\n  \
        auria-pipeline cancel latest\n  \
        auria-pipeline cancel auria-kathi-20261124t101530123abcd")]
    Cancel(RunArg),
    /// Take up a run whose orchestrator is gone
    ///
    /// Steps that finished stay finished, steps that run go on undisturbed.
    #[command(after_help = "Examples:\n  \
        auria-pipeline resume latest\n  \
        auria-pipeline resume latest --takeover                also from an orchestrator that lives")]
    Resume(Resume),
    /// Run a failed run again, keeping what finished
    #[command(after_help = "Examples:\n  \
        auria-pipeline retry latest\n  \
        auria-pipeline retry latest --from paint               run paint again, and what needs it")]
    Retry(Retry),
    /// List the outputs of a run's steps
    #[command(after_help = "Examples:\n  \
        auria-pipeline outputs latest\n  \
        auria-pipeline outputs latest --output json")]
    Outputs(RunArg),
    /// Copy outputs of a run into a folder
    #[command(after_help = "Examples:\n  \
        auria-pipeline download latest                         everything, into ./RUN\n  \
        auria-pipeline download latest --step colour --to work")]
    Download(Download),
    /// Print the metrics that a run's steps wrote
    #[command(after_help = "Examples:\n  \
        auria-pipeline metrics latest\n  \
        auria-pipeline metrics latest --output json")]
    Metrics(RunArg),
    /// Say why a step ran, or why it was reused
    #[command(after_help = "Examples:\n  \
        auria-pipeline explain latest paint\n  \
        auria-pipeline explain latest paint --output json")]
    Explain(Explain),
    /// Say in what two runs differ: inputs, steps, what they ran, what came of it
    #[command(after_help = "Examples:\n  \
        auria-pipeline diff auria-kathi-2026 latest            what changed since\n  \
        auria-pipeline diff OLD NEW --output json")]
    Diff(Diff),
    /// Delete runs: their outputs, logs and records
    ///
    /// A run whose outputs others use (runs that reused them, registered models) is not
    /// deleted. A deleted run is marked first and goes for good with the first `gc` after
    /// the grace, so that whoever reads it at this moment can end.
    #[command(after_help = "Examples:\n  \
        auria-pipeline delete auria-kathi-20261124t101530123abcd\n  \
        auria-pipeline delete OLD1 OLD2 --grace 0s             for good, at once\n\n\
        A run that has not ended is canceled first: auria-pipeline cancel RUN")]
    Delete(Delete),
    /// Free what nobody needs any more
    ///
    /// Ends deletions whose grace is over, and removes outputs of attempts that lost,
    /// checkpoints of steps that ended well, code and inputs that no run names, and uploads
    /// that were cut short. Runs stay, unless --older-than says which may go.
    #[command(after_help = "Examples:\n  \
        auria-pipeline gc --dry-run                            what would be freed\n  \
        auria-pipeline gc --older-than 30d                     delete old runs too")]
    Gc(Gc),
    /// Registered models
    #[command(subcommand)]
    Model(Model),
    /// Drive the runs of a cluster's namespace, and answer its launchers and users
    ///
    /// What `kubectl apply -k manifests/` starts; it takes its store from AURIA_STORE and the
    /// variables of AWS, and ends with SIGTERM: steps that run go on, and the next controller
    /// finds them.
    #[command(after_help = "Examples:\n  \
        kubectl apply -k manifests/                            as a Deployment (docs/install.md)\n  \
        auria-pipeline controller --namespace test --broker-url https://10.0.0.5:8443")]
    Controller(ControllerArgs),
    /// Answer over HTTP on this machine, and drive the runs that are submitted there
    ///
    /// The API is at /api/v1. Runs go on after the server has ended: the next one on the same
    /// store takes them up.
    #[command(after_help = "Examples:\n  \
        auria-pipeline serve\n  \
        auria-pipeline serve --listen 127.0.0.1:9000 --runs 2\n  \
        auria-pipeline --server http://127.0.0.1:8460 submit pipelines.yaml")]
    Serve(Serve),
    /// Published pipelines: a name that callers use
    #[command(subcommand)]
    Endpoint(Endpoint),
    /// What stands behind an endpoint
    #[command(subcommand)]
    Deployment(Deployment),
    /// Pipelines that a server runs by itself
    #[command(subcommand)]
    Schedule(Schedule),
    /// Who may use a server
    #[command(subcommand)]
    Token(Token),
    /// Say what this machine (or a cluster) can run, and what is missing
    #[command(after_help = "Examples:\n  \
        auria-pipeline doctor\n  \
        auria-pipeline doctor --on kubernetes                  the cluster and its controller\n  \
        auria-pipeline doctor --store s3://bucket/runs         try a store as well")]
    Doctor,
    /// Print completions for a shell
    #[command(after_help = "Examples:\n  \
        auria-pipeline completions bash > /etc/bash_completion.d/auria-pipeline\n  \
        auria-pipeline completions zsh > ~/.zfunc/_auria-pipeline")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(
        after_help = "Examples:\n  auria-pipeline man | man -l -\n  auria-pipeline man > auria-pipeline.1"
    )]
    Man,
    /// Print the JSON schema of a kind of file, for editors
    #[command(after_help = "Examples:\n  \
        auria-pipeline schema pipeline > pipeline.schema.json\n  \
        auria-pipeline schema component")]
    Schema {
        /// Which kind of file
        #[arg(default_value = "pipeline")]
        kind: SchemaKind,
    },
    /// Carry out one attempt (what an orchestrator starts for each)
    #[command(hide = true)]
    Launch {
        /// Passed to the launcher as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// Drive a run in the background (what --detach leaves behind)
    #[command(hide = true)]
    Drive {
        /// The run
        run: String,
    },
}

/// `controller`.
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// The config file (default: auria.yaml, looked for upward from the current folder)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where launchers are answered
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    pub broker_listen: SocketAddr,
    /// Where users are answered
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8444")]
    pub api_listen: SocketAddr,
    /// Where Pods reach the broker (default: the address of the Service auria-broker)
    #[arg(long, value_name = "URL")]
    pub broker_url: Option<String>,
    /// The image that brings the launcher into Pods whose own image does not carry it
    /// (manifests take it from the ConfigMap auria-config)
    #[arg(long, value_name = "IMAGE", env = "AURIA_LAUNCHER_IMAGE")]
    pub launcher_image: Option<String>,
    /// Images whose names begin so carry the launcher; several with commas
    #[arg(
        long,
        value_name = "PREFIX",
        env = "AURIA_LAUNCHER_IN",
        value_delimiter = ','
    )]
    pub launcher_in: Vec<String>,
    /// Bring the launcher by image volumes, where a Pod of this cluster has run from one
    #[arg(long)]
    pub image_volumes: bool,
    /// Carry all data through the broker, where Pods do not reach the store
    #[arg(long)]
    pub proxy: bool,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where callers are answered
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8460")]
    pub listen: SocketAddr,
    /// Answer callers of other machines too: without TLS, for a proxy in front that has it
    #[arg(long)]
    pub expose: bool,
    /// Runs that are driven at once; others wait for their turn
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub runs: usize,
    /// Runs that may wait; more are refused
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub queue: usize,
    /// Answer visitors without a token at /auria: Auria's page, whose works this endpoint makes
    #[arg(long, value_name = "ENDPOINT")]
    pub auria: Option<String>,
    /// The experiment whose works are the gallery of that page: anybody may see all of them
    #[arg(
        long,
        value_name = "EXPERIMENT",
        default_value = "auria-kathi",
        requires = "auria"
    )]
    pub auria_works: String,
    /// Memory for programs that stay between runs (`keep_warm: process`); 0: none stays.
    /// [default: a quarter of this machine's]
    #[arg(long, value_name = "BYTES", value_parser = amount)]
    pub warm_memory: Option<u64>,
}

fn amount(text: &str) -> Result<u64, String> {
    auria_core::check::bytes(text).ok_or_else(|| "write bytes, such as 2GiB or 500MB".to_owned())
}

/// `token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token, and print it: once
    #[command(after_help = "Examples:\n  \
        auria-pipeline token create laptop --scope submit\n  \
        auria-pipeline token create page --scope invoke:auria-kathi --expires 365d")]
    Create(TokenCreate),
    /// List tokens: what each may do, and how long
    #[command(after_help = "Examples:\n  auria-pipeline token list")]
    List,
    /// Let a token count for nothing any more
    #[command(after_help = "Examples:\n  auria-pipeline token revoke 0123456789ab")]
    Revoke {
        /// Its id, as `token list` prints it
        id: String,
    },
}

/// `token create`.
#[derive(Debug, Args)]
pub struct TokenCreate {
    /// Who or what it is for
    pub name: String,
    /// What it may do: read, submit, admin, or invoke:ENDPOINT
    #[arg(long, value_name = "SCOPE", required = true)]
    pub scope: Vec<String>,
    /// How long it counts: 12h, 90d, or never
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub expires: String,
}

/// Kinds of files that have a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaKind {
    /// A pipeline file
    Pipeline,
    /// A component file
    Component,
    /// The config file, auria.yaml
    Config,
    /// What `validate --output json` prints, with the meaning of every code
    Diagnostics,
    /// The API of `serve`, in OpenAPI 3.1
    Openapi,
    /// The custom resources of a cluster (YAML)
    Resources,
}

/// The file that holds pipelines, and which of them.
#[derive(Clone, Debug, Args)]
pub struct PipelineFile {
    /// The pipeline file
    #[arg(default_value = "pipelines.yaml")]
    pub file: PathBuf,
    /// Which pipeline of the file, by its name (default: the first)
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Change a value: inputs.mood=joy, settings.force_rerun=true, jobs.train.resources.gpus=2
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

/// `submit`.
#[derive(Debug, Args)]
pub struct Submit {
    /// What to run.
    #[command(flatten)]
    pub file: PipelineFile,
    /// The experiment that the run belongs to
    #[arg(long, value_name = "NAME")]
    pub experiment: Option<String>,
    /// The run's name (default: the pipeline's name and the time)
    #[arg(long, value_name = "RUN")]
    pub name: Option<String>,
    /// Leave the run to a process in the background, print its name, and end
    #[arg(long)]
    pub detach: bool,
    /// Run every step, reuse nothing
    #[arg(long)]
    pub force_rerun: bool,
    /// Check and plan, start nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Pipeline or component files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Change a value before the check, as `submit` does
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

/// `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// What to plan.
    #[command(flatten)]
    pub file: PipelineFile,
}

/// `runs`.
#[derive(Debug, Args)]
pub struct Runs {
    /// Only this experiment's
    #[arg(long, value_name = "NAME")]
    pub experiment: Option<String>,
    /// Only those in this status (Completed, Failed, Canceled, Running, …)
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub last: usize,
}

/// A run.
#[derive(Clone, Debug, Args)]
pub struct RunArg {
    /// The run: its name, a unique prefix of it, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The run: its name, a unique prefix of it, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
    /// Only this step's
    pub step: Option<String>,
    /// Go on until the run (or the step) ends
    #[arg(long, short)]
    pub follow: bool,
    /// This attempt's (default: the last)
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
}

/// `resume`.
#[derive(Debug, Args)]
pub struct Resume {
    /// The run: its name, a unique prefix of it, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
    /// Take the run from an orchestrator that drives it
    #[arg(long)]
    pub takeover: bool,
    /// Leave the run to a process in the background, and end
    #[arg(long)]
    pub detach: bool,
}

/// `retry`.
#[derive(Debug, Args)]
pub struct Retry {
    /// The run: its name, a unique prefix of it, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
    /// Run this step again though it finished, and what needs it
    #[arg(long, value_name = "STEP")]
    pub from: Vec<String>,
    /// Leave the run to a process in the background, print its name, and end
    #[arg(long)]
    pub detach: bool,
}

/// `download`.
#[derive(Debug, Args)]
pub struct Download {
    /// The run: its name, a unique prefix of it, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
    /// Only this step's outputs
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Only the outputs of this name
    #[arg(long, value_name = "OUTPUT")]
    pub output_name: Option<String>,
    /// The folder to copy into (default: the run's name)
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}

/// `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The first run: its name, a unique prefix of it, or `latest`
    pub old: String,
    /// The second
    #[arg(default_value = "latest")]
    pub new: String,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// The runs: names, or unique prefixes of them
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<String>,
    /// How long a marked run stays: 24h, 30m, 0s
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub grace: Duration,
}

/// `gc`.
#[derive(Debug, Args)]
pub struct Gc {
    /// Delete runs that ended longer ago, such as 30d, unless others use them
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// How old remains must be, and how long what is marked stays
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub grace: Duration,
    /// Say what would be freed, and free nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `endpoint`.
#[derive(Debug, Subcommand)]
pub enum Endpoint {
    /// Make an endpoint, and put a pipeline behind it
    #[command(after_help = "Examples:\n  \
        auria-pipeline endpoint create kathi --from pipelines.yaml\n  \
        auria-pipeline endpoint create --file endpoint.yml     as Azure ML writes it")]
    Create(EndpointCreate),
    /// List endpoints and their deployments
    #[command(after_help = "Examples:\n  auria-pipeline endpoint list --output json")]
    List,
    /// Show an endpoint
    #[command(after_help = "Examples:\n  auria-pipeline endpoint show kathi")]
    Show {
        /// The endpoint
        name: String,
    },
    /// Ask an endpoint for a run
    #[command(after_help = "Examples:\n  \
        auria-pipeline endpoint invoke kathi --input mood=joy --wait 30s\n  \
        auria-pipeline endpoint invoke kathi --deployment green --key order-7")]
    Invoke(EndpointInvoke),
    /// End an endpoint; its runs stay
    #[command(after_help = "Examples:\n  auria-pipeline endpoint delete kathi")]
    Delete {
        /// The endpoint
        name: String,
    },
}

/// `endpoint create`.
#[derive(Debug, Args)]
pub struct EndpointCreate {
    /// Its name
    pub name: Option<String>,
    /// A file of Azure ML's kind batchEndpoint
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The pipeline file of its first deployment
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Which pipeline of that file
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
}

/// `endpoint invoke`.
#[derive(Debug, Args)]
pub struct EndpointInvoke {
    /// The endpoint
    pub name: String,
    /// An input of the pipeline; a URL is data, all else a value
    #[arg(long, value_name = "NAME=VALUE")]
    pub input: Vec<String>,
    /// Which deployment (default: the endpoint's own)
    #[arg(long, value_name = "NAME")]
    pub deployment: Option<String>,
    /// Wait so long for the run's end, such as 30s
    #[arg(long, value_name = "TIME")]
    pub wait: Option<String>,
    /// The same key is the same run, however often it is asked
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

/// `deployment`.
#[derive(Debug, Subcommand)]
pub enum Deployment {
    /// Put a version of a pipeline behind an endpoint
    #[command(after_help = "Examples:\n  \
        auria-pipeline deployment create --endpoint kathi --name green --from pipelines.yaml\n  \
        auria-pipeline deployment create --file deployment.yml --default")]
    Create(DeploymentCreate),
    /// List the deployments of an endpoint
    #[command(after_help = "Examples:\n  auria-pipeline deployment list kathi")]
    List {
        /// The endpoint
        endpoint: String,
    },
    /// Show the newest version of a deployment
    #[command(after_help = "Examples:\n  auria-pipeline deployment show kathi green")]
    Show {
        /// The endpoint
        endpoint: String,
        /// The deployment
        name: String,
    },
    /// Take a deployment away; its runs stay
    #[command(after_help = "Examples:\n  auria-pipeline deployment delete kathi green")]
    Delete {
        /// The endpoint
        endpoint: String,
        /// The deployment
        name: String,
    },
}

/// `deployment create`.
#[derive(Debug, Args)]
pub struct DeploymentCreate {
    /// A file of Azure ML's kind pipelineComponentBatchDeployment
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The endpoint
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,
    /// The deployment's name; of one that stands, this is the next version
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The pipeline file
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Which pipeline of that file
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Serve those who name no deployment with it
    #[arg(long)]
    pub default: bool,
}

/// `schedule`.
#[derive(Debug, Subcommand)]
pub enum Schedule {
    /// Make a schedule
    #[command(after_help = "Examples:\n  \
        auria-pipeline schedule create daily --cron '0 6 * * *' --time-zone Europe/Berlin --from pipelines.yaml\n  \
        auria-pipeline schedule create --file schedule.yml     as Azure ML writes it")]
    Create(ScheduleCreate),
    /// List schedules
    #[command(after_help = "Examples:\n  auria-pipeline schedule list")]
    List,
    /// Show a schedule: its next ticks, and what came of the last
    #[command(after_help = "Examples:\n  auria-pipeline schedule show daily")]
    Show {
        /// The schedule
        name: String,
    },
    /// Let a schedule fire from now on
    #[command(after_help = "Examples:\n  auria-pipeline schedule enable daily")]
    Enable {
        /// The schedule
        name: String,
    },
    /// Let a schedule fire no more
    #[command(after_help = "Examples:\n  auria-pipeline schedule disable daily")]
    Disable {
        /// The schedule
        name: String,
    },
    /// Run a schedule's pipeline now
    #[command(after_help = "Examples:\n  auria-pipeline schedule trigger daily")]
    Trigger {
        /// The schedule
        name: String,
    },
    /// End a schedule; its runs stay
    #[command(after_help = "Examples:\n  auria-pipeline schedule delete daily")]
    Delete {
        /// The schedule
        name: String,
    },
}

/// `schedule create`.
#[derive(Debug, Args)]
pub struct ScheduleCreate {
    /// Its name
    pub name: Option<String>,
    /// A file of Azure ML's kind schedule
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// When: minute hour day month weekday
    #[arg(long, value_name = "EXPRESSION")]
    pub cron: Option<String>,
    /// The time zone, of IANA or of Windows (default: UTC)
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// The pipeline file
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Which pipeline of the file
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Change a value, as `submit` does
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Ticks that came while no server was there: all, last or none are fired
    #[arg(long, value_name = "POLICY", default_value = "last", value_parser = ["all", "last", "none"])]
    pub missed: String,
    /// A tick while an earlier run goes on: allow, forbid or replace
    #[arg(long, value_name = "POLICY", default_value = "allow", value_parser = ["allow", "forbid", "replace"])]
    pub concurrency: String,
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    auria_core::check::duration_ms(text)
        .map(Duration::from_millis)
        .ok_or_else(|| "a time is a number with a unit, such as 90s, 30m, 12h or 7d".to_owned())
}

/// `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The run: its name, a unique prefix of it, or `latest`
    pub run: String,
    /// The step
    pub step: String,
}

/// `model`.
#[derive(Debug, Subcommand)]
pub enum Model {
    /// List registered models
    #[command(
        after_help = "Examples:\n  auria-pipeline model list\n  auria-pipeline model list --output json"
    )]
    List,
    /// Show a model: its versions, or one of them
    #[command(after_help = "Examples:\n  \
        auria-pipeline model show auria-haiku\n  \
        auria-pipeline model show azureml:auria-haiku@latest")]
    Show {
        /// NAME, NAME:VERSION or NAME@latest
        model: String,
    },
}
