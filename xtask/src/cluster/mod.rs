//! `cargo xtask cluster`: a real Kubernetes on this machine, for tests.
//!
//! etcd, the API server, controller manager and scheduler run as processes of this machine; each
//! node is a set of namespaces with a containerd, a kubelet and a kube-proxy of its own, so that
//! it can be killed, cut off and brought back. Everything lies under `target/cluster`, and `down`
//! leaves nothing else. Used by developers and by `cargo xtask test`; what was found to work on
//! such a machine, and why, stands beside each flag.

mod build;
mod cgroups;
mod config;
mod control;
mod fault;
mod gpus;
mod images;
mod init;
mod kubectl;
pub(crate) mod layout;
mod machine;
mod network;
mod node;
mod process;
mod status;
mod store;
mod traces;
mod up;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand, ValueEnum};

use self::gpus::Gpus;
use self::layout::Node;
pub(crate) use self::machine::why_not;
pub(crate) use self::traces::traces;

/// The command's help.
pub(crate) const HELP: &str = "\
Kubernetes is built from tests/cluster, a Go module of the project: once, about five minutes. A
cluster starts in seconds then. It needs root and cgroups; on Debian it installs the packages that
are missing (containerd, runc, CNI plugins, iptables and the like), and says so. One machine holds
one cluster. docs/cluster.md says how it is made and how to work with it.

Examples:
  cargo xtask cluster up                          three nodes: an old GPU, a new one, none
  export KUBECONFIG=$PWD/target/cluster/kubeconfig
  target/cluster/bin/kubectl get nodes -L nvidia.com/gpu.product
  cargo xtask cluster load image.tar              from `docker save NAME:TAG`, for every node
  cargo xtask cluster gpus n1=b200 n2=v100        exchange what two nodes advertise
  cargo xtask cluster fault kill-node n1          as a machine that loses its power
  cargo xtask cluster down                        keeps the state; `reset` wipes it";

#[derive(Args)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the cluster: what does not run is started, what is missing is built or installed
    Up(Up),
    /// End everything that runs, and leave no trace but the files under target/cluster
    Down,
    /// Say what runs
    Status {
        /// How to print it
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Wipe the state (objects, node disks, the object store) and start anew; images stay
    Reset(Up),
    /// Give images to all nodes, from archives of `docker save` or of OCI
    #[command(after_help = "\
Names must be full (test.local/haiku:1), and Pods that use them say `imagePullPolicy: Never` or
`IfNotPresent`: there is no registry. Archives are kept in target/cluster/images, and a node with a
new disk gets them again.

Examples:
  cargo xtask cluster load haiku.tar paint.tar")]
    Load {
        /// Archives with named images
        #[arg(value_name = "ARCHIVE", required = true)]
        archives: Vec<PathBuf>,
    },
    /// Say what GPUs nodes advertise, or change it
    #[command(after_help = "\
Labels are those of NVIDIA's GPU feature discovery, capacity that of its device plugin. There is no
GPU behind them: a Pod gets a place on the node, and no device.

Examples:
  cargo xtask cluster gpus                        what each node advertises
  cargo xtask cluster gpus n1=b200 n2=v100        exchange two nodes
  cargo xtask cluster gpus n2=none")]
    Gpus {
        /// NODE=MODEL, where MODEL is v100, b200, h100, a100-mig or none
        #[arg(value_name = "NODE=MODEL", value_parser = choice)]
        choices: Vec<(Node, Gpus)>,
        /// How to print it
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Break something, or mend it
    #[command(subcommand)]
    Fault(fault::Fault),
    /// The first process of a node
    #[command(hide = true)]
    NodeInit {
        /// The node
        name: String,
    },
}

/// How a cluster is started.
#[derive(Args, Clone, Copy)]
pub(crate) struct Up {
    /// How many nodes: n1 has an old GPU, n2 a new one, the others none
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(layout::MOST_NODES)))]
    pub(crate) nodes: u8,
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

fn choice(text: &str) -> Result<(Node, Gpus), String> {
    let (node, gpus) = text
        .split_once('=')
        .ok_or("write NODE=MODEL, such as n1=h100")?;
    let node = self::node(node)?;
    let names = || Gpus::value_variants().iter().map(|gpus| gpus.name());
    let gpus = Gpus::from_str(gpus, true).map_err(|_| {
        let names: Vec<String> = names().collect();
        format!("a node has one of {}, and {gpus} is none", names.join(", "))
    })?;
    Ok((node, gpus))
}

/// The node that an argument names.
fn node(text: &str) -> Result<Node, String> {
    Node::named(text).ok_or_else(|| {
        format!(
            "nodes are called n1 to n{}, and {text} is none",
            layout::MOST_NODES
        )
    })
}

impl Cluster {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match &self.command {
            Command::Up(up) => up::up(*up),
            Command::Down => up::down(),
            Command::Status { output } => status::print(*output),
            Command::Reset(up) => up::reset(*up),
            Command::Load { archives } => {
                let _held = up::lock()?;
                images::load(archives)
            }
            Command::Gpus { choices, output } => print_gpus(choices, *output),
            Command::Fault(fault) => fault.run(),
            Command::NodeInit { name } => init::main(name),
        }
    }
}

fn print_gpus(choices: &[(Node, Gpus)], output: Output) -> anyhow::Result<()> {
    let all = Node::all();
    ensure!(
        !all.is_empty(),
        "there is no cluster: start one with `cargo xtask cluster up`"
    );
    if !choices.is_empty() {
        let _held = up::lock()?;
        if let Some((node, _)) = choices.iter().find(|(node, _)| !all.contains(node)) {
            anyhow::bail!("the cluster has no node {}", node.name());
        }
        gpus::choose(choices).context("cannot change what nodes advertise")?;
    }
    let now = gpus::of(&all).into_iter();
    let text = match output {
        Output::Text => now
            .map(|(node, gpus)| format!("{:<4} {}\n", node.name(), gpus.name()))
            .collect(),
        Output::Json => {
            let object: serde_json::Map<_, _> = now
                .map(|(node, gpus)| {
                    let value = serde_json::json!({
                        "gpus": gpus.name(), "labels": gpus.labels(), "capacity": gpus.capacity(),
                    });
                    (node.name(), value)
                })
                .collect();
            format!("{:#}\n", serde_json::Value::Object(object))
        }
    };
    print(&text)
}

/// Prints what was asked for; who reads may have gone.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot print"),
    }
}

/// What the cluster's tests are told by environment.
pub(crate) fn variables() -> anyhow::Result<Vec<(&'static str, String)>> {
    let path = |path: PathBuf| path.display().to_string();
    Ok(vec![
        ("KUBECONFIG", path(layout::kubeconfig())),
        ("AURIA_TEST_CLUSTER", path(layout::home())),
        ("AURIA_TEST_XTASK", path(process::this_program()?)),
    ])
}

/// Whether the whole cluster of this project runs.
pub(crate) fn is_up() -> bool {
    up::is_up()
}

/// Installs what a cluster needs of Debian's packages, which stay; the reason where its
/// addresses are not free all the same.
pub(crate) fn prepare() -> anyhow::Result<Option<String>> {
    machine::install()?;
    machine::taken()
}

/// Starts the cluster with its usual nodes.
pub(crate) fn start() -> anyhow::Result<()> {
    up::up(Up { nodes: 3 })
}

/// Ends the cluster.
pub(crate) fn stop() -> anyhow::Result<()> {
    up::down()
}
