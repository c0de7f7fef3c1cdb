//! A node, from inside: the first process of its namespaces.
//!
//! Started by `node` as `cargo xtask cluster node-init nI`, never by a person. It mounts the
//! node's own folders, sets up its network, starts containerd, kubelet and kube-proxy, and
//! collects orphans (a container's shim is one). A program that ends by itself is started again,
//! as a machine's service manager does; one that was killed stays dead until SIGHUP asks for it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::config::{SOCKET, log};
use super::layout::{HOST, MOST_NODES, Node, STORE_PORTS, bin, pki};
use super::process::{PATH, outputs};
use super::{images, network};
use crate::shell::run;

const PATIENCE: Duration = Duration::from_secs(60);

/// Before a program that ended by itself is started again.
const PAUSE: Duration = Duration::from_millis(300);

/// The programs, in the order in which they are started.
const PROGRAMS: [&str; 3] = ["containerd", "kubelet", "kube-proxy"];

/// Runs the node until it is killed.
pub(crate) fn main(name: &str) -> anyhow::Result<()> {
    let node = Node::named(name).with_context(|| format!("{name} is no node"))?;
    ensure!(
        std::process::id() == 1,
        "node-init is the first process of a node: `cargo xtask cluster up` starts it"
    );
    let signals: SigSet = [Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGTERM]
        .into_iter()
        .collect();
    // Blocked ones wait for us even though we are a first process, which ignores others.
    signals.thread_block()?;
    mount(&node.folder())?;
    connect(node)?;
    let mut programs: [Option<Pid>; PROGRAMS.len()] = [None; PROGRAMS.len()];
    start_missing(node, &mut programs)?;
    loop {
        match signals.wait()? {
            Signal::SIGHUP => start_missing(node, &mut programs)?,
            Signal::SIGTERM => return Ok(()),
            _ => {
                if collect(&mut programs) {
                    sleep(PAUSE);
                    start_missing(node, &mut programs)?;
                }
            }
        }
    }
}

/// Collects processes that have ended, ours and orphans; whether one of `programs` ended by
/// itself. A kubelet does, where containerd answers before it has found its containers again.
fn collect(programs: &mut [Option<Pid>]) -> bool {
    let mut by_itself = false;
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        let (ended, exited) = match status {
            WaitStatus::StillAlive => break,
            WaitStatus::Exited(id, _) => (id, true),
            WaitStatus::Signaled(id, _, _) => (id, false),
            _ => continue,
        };
        for program in &mut *programs {
            if *program == Some(ended) {
                *program = None;
                by_itself |= exited;
            }
        }
    }
    by_itself
}

fn mount(folder: &Path) -> anyhow::Result<()> {
    let bind = |from: &str, to: &str| {
        run(Command::new("mount")
            .arg("--bind")
            .arg(folder.join(from))
            .arg(to))
    };
    bind("kubelet", "/var/lib/kubelet")?;
    // Kubelets clean up what they do not know, so these cannot be shared.
    bind("pod-logs", "/var/log/pods")?;
    for path in ["/var/log/containers", "/var/lib/cni", "/run"] {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "node", path]))?;
    }
    Ok(())
}

fn connect(node: Node) -> anyhow::Result<()> {
    nix::unistd::sethostname(node.name())?;
    network::ip(&["link", "set", "lo", "up"])?;
    let begun = Instant::now();
    // /sys shows the machine's links; /proc is the node's own.
    while !fs::read_to_string("/proc/self/net/dev")?.contains("eth0:") {
        if begun.elapsed() > PATIENCE {
            bail!("no cable came to node {}", node.name());
        }
        sleep(Duration::from_millis(10));
    }
    let address = format!("{}/24", node.address());
    network::ip(&["address", "add", &address, "dev", "eth0"])?;
    network::ip(&["link", "set", "eth0", "up"])?;
    network::ip(&["route", "add", "default", "via", HOST])?;
    for other in (1..=MOST_NODES).map(Node).filter(|other| *other != node) {
        network::ip(&["route", "add", &other.pods(), "via", &other.address()])?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot forward between Pods")?;
    guard_store()
}

/// Lets nothing of the node pass to those parts of the object store that ask for no key: a Pod
/// could read everything there.
fn guard_store() -> anyhow::Result<()> {
    let ports: Vec<String> = STORE_PORTS
        .iter()
        .map(|(_, port)| port.to_string())
        .collect();
    let ports = ports.join(", ");
    run(Command::new("nft").args([
        "add table ip auria-store;",
        "add chain ip auria-store out { type filter hook postrouting priority 0; };",
        &format!("add rule ip auria-store out ip daddr {HOST} tcp dport {{ {ports} }} drop"),
    ]))
}

fn start_missing(node: Node, programs: &mut [Option<Pid>]) -> anyhow::Result<()> {
    for (place, name) in programs.iter_mut().zip(PROGRAMS) {
        if place.is_none() {
            let child = start(node, name)?;
            *place = Some(Pid::from_raw(i32::try_from(child.id())?));
            if name == "containerd" {
                wait_for_containerd()?;
                images::import_all(node)?;
            }
        }
    }
    Ok(())
}

fn start(node: Node, name: &str) -> anyhow::Result<Child> {
    let folder = node.folder();
    let config = |file: &str| folder.join(file).display().to_string();
    let program = if name == "containerd" {
        "/usr/bin/containerd".into()
    } else {
        bin(name)
    };
    let mut command = Command::new(program);
    match name {
        "containerd" => command.args(["--config", &config("containerd.toml")]),
        "kubelet" => command.args([
            format!("--config={}", config("kubelet.json")),
            format!(
                "--kubeconfig={}",
                pki(&format!("{}.kubeconfig", node.name())).display()
            ),
            format!("--hostname-override={}", node.name()),
            format!("--node-ip={}", node.address()),
            "--root-dir=/var/lib/kubelet".to_owned(),
            "--cert-dir=/var/lib/kubelet/pki".to_owned(),
        ]),
        _ => command.args([
            format!("--config={}", config("kube-proxy.json")),
            format!("--hostname-override={}", node.name()),
        ]),
    };
    let (stdout, stderr) = outputs(&log(node, name))?;
    command
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .with_context(|| format!("cannot start {name}"))
}

fn wait_for_containerd() -> anyhow::Result<()> {
    let begun = Instant::now();
    // It listens before it serves; `ctr version` asks it for an answer.
    loop {
        if UnixStream::connect(SOCKET).is_ok()
            && images::ctr()
                .arg("version")
                .output()
                .is_ok_and(|output| output.status.success())
        {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            bail!("containerd does not answer");
        }
        sleep(Duration::from_millis(20));
    }
}
