//! Faults of the cluster's machinery, each with the command that mends it.
//!
//! Used by tests and by people. What happens to Pods alone (deletion, eviction, drain) is
//! kubectl's or the API's matter, and is not here.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Subcommand, ValueEnum};
use nix::sys::signal::Signal;

use super::layout::Node;
use super::process::{self, Process, wait};
use super::{control, kubectl, network, store, up};

const PATIENCE: Duration = Duration::from_secs(60);

/// What to break, or to mend.
#[derive(Subcommand)]
pub(crate) enum Fault {
    /// Kill a node with all that runs in it, as the loss of its power does
    KillNode {
        /// The node
        #[arg(value_parser = node)]
        node: Node,
    },
    /// Bring a killed node back, and wait until it is Ready
    StartNode {
        /// The node
        #[arg(value_parser = node)]
        node: Node,
        /// With a new disk: no Pod of before, images imported again
        #[arg(long)]
        wiped: bool,
    },
    /// Cut a node off from the network; its containers go on
    CutNode {
        /// The node
        #[arg(value_parser = node)]
        node: Node,
    },
    /// Join a node that was cut off
    JoinNode {
        /// The node
        #[arg(value_parser = node)]
        node: Node,
    },
    /// Kill a node's kubelet; its containers go on
    KillKubelet {
        /// The node
        #[arg(value_parser = node)]
        node: Node,
    },
    /// Start a node's kubelet again (or whatever of the node does not run)
    StartKubelet {
        /// The node
        #[arg(value_parser = node)]
        node: Node,
    },
    /// Kill a part, and leave it dead
    Kill {
        /// The part
        part: Part,
    },
    /// Start a part that was killed, and wait until it serves
    Start {
        /// The part
        part: Part,
    },
    /// Stop a part where it stands (SIGSTOP): who asks it waits
    Freeze {
        /// The part
        part: Part,
    },
    /// Let a frozen part go on
    Thaw {
        /// The part
        part: Part,
    },
}

/// A process of the control plane, or the object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// etcd
    Etcd,
    /// The API server
    Apiserver,
    /// The controller manager
    ControllerManager,
    /// The scheduler
    Scheduler,
    /// SeaweedFS
    Store,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Apiserver => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Store => store::NAME,
        }
    }

    fn process(self) -> anyhow::Result<Process> {
        Process::noted(self.name()).with_context(|| format!("{} does not run", self.name()))
    }
}

fn node(text: &str) -> Result<Node, String> {
    super::node(text)
}

impl Fault {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let _held = up::lock()?;
        match *self {
            Self::KillNode { node } => {
                ensure!(node.init().is_some(), "node {} does not run", node.name());
                node.kill()
            }
            Self::StartNode { node, wiped } => start_node(node, wiped),
            Self::CutNode { node } => network::ip(&["link", "set", &node.link(), "down"]),
            Self::JoinNode { node } => network::ip(&["link", "set", &node.link(), "up"]),
            Self::KillKubelet { node } => {
                let kubelet = node
                    .process_of("kubelet")
                    .with_context(|| format!("no kubelet runs on node {}", node.name()))?;
                kubelet.signal(Signal::SIGKILL);
                ensure!(kubelet.wait_for_end(PATIENCE), "the kubelet does not end");
                Ok(())
            }
            Self::StartKubelet { node } => {
                let init = node
                    .init()
                    .with_context(|| format!("node {} does not run", node.name()))?;
                init.signal(Signal::SIGHUP);
                wait("the kubelet", PATIENCE, &[&node.process()], || {
                    node.process_of("kubelet").is_some()
                })
            }
            Self::Kill { part } => {
                let process = part.process()?;
                process.signal(Signal::SIGKILL);
                ensure!(
                    process.wait_for_end(PATIENCE),
                    "{} does not end",
                    part.name()
                );
                process::forget(part.name());
                Ok(())
            }
            Self::Start { part } => start_part(part),
            Self::Freeze { part } => {
                part.process()?.signal(Signal::SIGSTOP);
                Ok(())
            }
            Self::Thaw { part } => {
                part.process()?.signal(Signal::SIGCONT);
                Ok(())
            }
        }
    }
}

fn start_node(node: Node, wiped: bool) -> anyhow::Result<()> {
    ensure!(
        node.init().is_none(),
        "node {} runs: kill it first",
        node.name()
    );
    ensure!(
        Node::all().contains(&node),
        "the cluster has no node {}",
        node.name()
    );
    if wiped {
        node.wipe()?;
    }
    // Nobody may be there to tell; then only the node is waited for.
    let before: BTreeMap<String, String> = up::leases().unwrap_or_default();
    node.start()?;
    if Process::noted("kube-apiserver").is_some() {
        up::wait_until_ready(&[node], &[node], &before)?;
    }
    Ok(())
}

fn start_part(part: Part) -> anyhow::Result<()> {
    if part == Part::Store {
        return store::start();
    }
    control::start_part(part.name())?;
    let needed = [part.name()];
    match part {
        Part::Etcd => wait("etcd", PATIENCE, &needed, || {
            // The API server cannot serve without it, where there is one.
            Process::noted("kube-apiserver").is_none() || kubectl::is_ok("/readyz")
        }),
        Part::Apiserver => wait("the API server", PATIENCE, &needed, || {
            kubectl::is_ok("/readyz")
        }),
        _ => Ok(()),
    }
}
