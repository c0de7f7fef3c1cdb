//! A node, from outside: a set of namespaces whose first process is `init`, with a cable to the
//! bridge and a cgroup of its own.
//!
//! Used by `up`, `down` and `fault`. One signal to that process ends kubelet, containerd and all
//! containers, as the loss of a machine does; its disk is a folder, which stays or is wiped.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::layout::{Node, run};
use super::process::{self, PATH, Process, wait};
use super::{cgroups, config, network};

/// How long a node may be silent before the cluster calls it lost.
pub(crate) const GRACE: &str = "8s";

const PATIENCE: Duration = Duration::from_secs(60);

/// Folders of this machine over which each node mounts its own. Where one is not there, it is
/// made, and removed when the cluster goes.
const MOUNTED_OVER: [&str; 4] = [
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

impl Node {
    /// What its outermost process is noted as.
    pub(crate) fn process(self) -> String {
        format!("node-{}", self.name())
    }

    /// Its first process, if it lives.
    pub(crate) fn init(self) -> Option<Process> {
        let outer = Process::noted(&self.process())?;
        first_child(outer.id).and_then(Process::of)
    }

    /// The nodes that have a disk, whether they run or not.
    pub(crate) fn all() -> Vec<Self> {
        let mut found: Vec<Self> = fs::read_dir(run().join("nodes"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Self::named(entry.file_name().to_str()?))
            .collect();
        found.sort_unstable();
        found
    }

    /// Starts it. It is Ready when the cluster says so.
    pub(crate) fn start(self) -> anyhow::Result<()> {
        if self.init().is_some() {
            return Ok(());
        }
        make_mount_points()?;
        config::write(self)?;
        cgroups::make(&self.cgroup())?;
        let me = process::this_program()?;
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--fork"])
            .args(["--kill-child", "--mount-proc", "--propagation", "slave"])
            .arg(me)
            .args(["cluster", "node-init", &self.name()]);
        let name = self.process();
        process::start(&name, &unshare)?;
        wait("the node's first process", PATIENCE, &[&name], || {
            self.init().is_some()
        })?;
        let init = self.init().context("the node ended at once")?;
        network::connect(self, init.id)
    }

    /// Kills it with all that runs in it, and waits until nothing is left of it but its disk.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        self.kill_only();
        self.clean_up()
    }

    /// Kills it; [`Self::clean_up`] must follow.
    pub(crate) fn kill_only(self) {
        if let Some(init) = self.init() {
            init.signal(Signal::SIGKILL);
        }
    }

    /// Waits until it is gone, and takes away its cable and its cgroup.
    pub(crate) fn clean_up(self) -> anyhow::Result<()> {
        if let Some(outer) = Process::noted(&self.process()) {
            // It ends when all of its namespace have.
            if !outer.wait_for_end(PATIENCE) {
                outer.signal(Signal::SIGKILL);
                ensure!(
                    outer.wait_for_end(PATIENCE),
                    "node {} does not end",
                    self.name()
                );
            }
        }
        process::forget(&self.process());
        if network::has_link(&self.link()) {
            // The kernel may take it away first, with the node's namespace.
            let _ = network::ip(&["link", "delete", &self.link()]);
        }
        let left = cgroups::remove(&self.cgroup());
        ensure!(
            left.is_empty(),
            "these cgroups of node {} cannot be removed: {left:?}",
            self.name()
        );
        Ok(())
    }

    /// Removes its disk. It must not run.
    pub(crate) fn wipe(self) -> anyhow::Result<()> {
        let folder = self.folder();
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        Ok(())
    }

    /// `program` inside of the node.
    pub(crate) fn inside(self, program: &str) -> anyhow::Result<Command> {
        let init = self
            .init()
            .with_context(|| format!("node {} does not run", self.name()))?;
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &init.id.to_string()])
            .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--"])
            .arg(program)
            .env("PATH", PATH);
        Ok(command)
    }

    /// The process of this program in the node, `kubelet` for one, by its number outside.
    pub(crate) fn process_of(self, program: &str) -> Option<Process> {
        let init = self.init()?;
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", init.id)).ok()?;
        children
            .split_whitespace()
            .filter_map(|id| id.parse().ok())
            .filter(|id| {
                let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
                let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
                first.ends_with(format!("/{program}").as_bytes())
            })
            .find_map(Process::of)
    }
}

fn first_child(id: i32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn made() -> PathBuf {
    run().join("made-folders")
}

fn make_mount_points() -> anyhow::Result<()> {
    let mut list = fs::read_to_string(made()).unwrap_or_default();
    for path in MOUNTED_OVER {
        if !PathBuf::from(path).exists() {
            // Written down first: a folder too many on the list is no harm.
            list.push_str(path);
            list.push('\n');
            fs::write(made(), &list)?;
            fs::create_dir_all(path).with_context(|| format!("cannot make {path}"))?;
        }
    }
    Ok(())
}

/// Removes the folders that were made for nodes to mount over.
pub(crate) fn remove_mount_points() -> anyhow::Result<()> {
    for path in fs::read_to_string(made()).unwrap_or_default().lines() {
        // Only if it is empty: nodes never write into it.
        if let Err(error) = fs::remove_dir(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("cannot remove {path}, made by `up`"));
        }
    }
    let _ = fs::remove_file(made());
    Ok(())
}
