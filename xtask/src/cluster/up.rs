//! Starting and ending the whole cluster.
//!
//! Used by the commands and by `cargo xtask test`. Each step looks first and does what is
//! missing, so that a second call mends what a killed one left; what cannot be finished is taken
//! away again.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::layout::{self, BUCKET, Node, bin, config, home, kubeconfig, pki, run, store_env};
use super::process::{self, Process, wait};
use super::{Up, build, control, gpus, images, kubectl, machine, network, node, store};
use crate::shell::{human, say, timed};

const PATIENCE: Duration = Duration::from_secs(90);

/// One command at a time changes the cluster; dropping the file frees the lock.
pub(crate) fn lock() -> anyhow::Result<File> {
    fs::create_dir_all(home()).with_context(|| format!("cannot make {}", home().display()))?;
    let path = home().join("lock");
    let attempted = || format!("cannot lock {}", path.display());
    let file = File::create(&path).with_context(attempted)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say("waiting for another command that changes the cluster");
            file.lock().with_context(attempted)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(attempted),
    }
    Ok(file)
}

/// Whether everything runs.
pub(crate) fn is_up() -> bool {
    let nodes = Node::all();
    control::PARTS
        .iter()
        .chain([&store::NAME])
        .all(|name| Process::noted(name).is_some())
        && !nodes.is_empty()
        && nodes.iter().all(|node| node.init().is_some())
}

/// Starts what does not run.
pub(crate) fn up(options: Up) -> anyhow::Result<()> {
    if let Some(why) = machine::why_not() {
        bail!("{why}");
    }
    let _held = lock()?;
    check_owner()?;
    if is_up() && Node::all().len() >= usize::from(options.nodes) {
        say(format!("the cluster is up: {} nodes", Node::all().len()));
        print_usage();
        return Ok(());
    }
    // First what tells whether addresses are taken: it may have to be installed.
    machine::install()?;
    if let Some(why) = machine::taken()? {
        bail!("{why}");
    }
    build::programs()?;
    // Before anything runs: it may have to be fetched.
    crate::tools::seaweedfs(None)?;
    let (done, took) = timed(|| start(options.nodes));
    if let Err(error) = done {
        say("taking away what was started");
        if let Err(also) = end() {
            say(format!("this failed too: {also:#}"));
        }
        return Err(error)
            .context("the cluster did not start (its logs are in target/cluster/run/log)");
    }
    say(format!(
        "the cluster is up in {}: Kubernetes {}, {} nodes, SeaweedFS",
        human(took),
        layout::KUBERNETES,
        Node::all().len()
    ));
    print_usage();
    Ok(())
}

/// Fails where the bridge is another cluster's.
fn check_owner() -> anyhow::Result<()> {
    if let Some(owner) = network::owner() {
        ensure!(
            owner == home(),
            "this machine holds a cluster already, that of {}: end it there (`cargo xtask cluster down`)",
            owner.display()
        );
    }
    Ok(())
}

fn start(nodes: u8) -> anyhow::Result<()> {
    let nodes: Vec<Node> = (1..=nodes)
        .map(Node)
        .chain(Node::all())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    let count = nodes.iter().map(|node| node.0).max().unwrap_or(1);
    fs::create_dir_all(run())?;
    control::make_certificates(count)?;
    images::make_own()?;
    network::change_settings()?;
    network::make_bridge()?;
    thread::scope(|scope| {
        let weed = scope.spawn(store::start);
        let rest = start_kubernetes(&nodes);
        let weed = weed
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the thread of the object store panicked")));
        rest.and(weed)
    })?;
    fs::copy(pki("admin.kubeconfig"), kubeconfig())?;
    write_config()
}

fn start_kubernetes(nodes: &[Node]) -> anyhow::Result<()> {
    say("starting the control plane");
    control::start()?;
    let before = leases()?;
    say(format!("starting {} nodes", nodes.len()));
    let fresh: Vec<Node> = nodes
        .iter()
        .copied()
        .filter(|node| node.init().is_none())
        .collect();
    for node in &fresh {
        node.start()
            .with_context(|| format!("cannot start node {}", node.name()))?;
    }
    wait_until_ready(nodes, &fresh, &before)?;
    gpus::advertise(nodes)
}

/// When each node's kubelet last said that it lives, by its Lease and by its condition.
pub(crate) fn leases() -> anyhow::Result<BTreeMap<String, String>> {
    let list = kubectl::get(&[
        "get",
        "leases",
        "--namespace=kube-node-lease",
        "--output=json",
    ])?;
    let items = list["items"].as_array().into_iter().flatten();
    let mut said: BTreeMap<String, String> = items
        .filter_map(|lease| {
            let name = lease["metadata"]["name"].as_str()?.to_owned();
            Some((name, lease["spec"]["renewTime"].as_str()?.to_owned()))
        })
        .collect();
    // The Lease alone may be renewed while the condition is still that of before.
    let list = kubectl::get(&["get", "nodes", "--output=json"])?;
    for node in list["items"].as_array().into_iter().flatten() {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let heartbeat = ready_condition(node).and_then(|found| found["lastHeartbeatTime"].as_str());
        said.insert(
            format!("{name} heartbeat"),
            heartbeat.unwrap_or_default().to_owned(),
        );
    }
    Ok(said)
}

/// Waits until all `nodes` are Ready and the kubelets of those that were started renewed their
/// Lease and their condition: with a kept state, a node that is not there yet still reads Ready.
pub(crate) fn wait_until_ready(
    nodes: &[Node],
    started: &[Node],
    before: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let processes: Vec<String> = nodes.iter().map(|node| node.process()).collect();
    let needed: Vec<&str> = processes.iter().map(String::as_str).collect();
    let is_renewed = |leases: &BTreeMap<String, String>, node: &Node| {
        [node.name(), format!("{} heartbeat", node.name())]
            .iter()
            .all(|key| leases.contains_key(key) && leases.get(key) != before.get(key))
    };
    // In this order: what is asked last is of after the renewal.
    wait("all nodes to be Ready", PATIENCE, &needed, || {
        leases().is_ok_and(|now| started.iter().all(|node| is_renewed(&now, node)))
            && ready().is_ok_and(|ready| nodes.iter().all(|node| ready.contains(&node.name())))
    })
}

/// The nodes that the cluster calls Ready.
pub(crate) fn ready() -> anyhow::Result<Vec<String>> {
    let list = kubectl::get(&["get", "nodes", "--output=json"])?;
    let items = list["items"].as_array().into_iter().flatten();
    Ok(items
        .filter(|node| is_ready(node))
        .filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned))
        .collect())
}

fn is_ready(node: &Value) -> bool {
    ready_condition(node).is_some_and(|condition| condition["status"] == "True")
}

fn ready_condition(node: &Value) -> Option<&Value> {
    let conditions = node["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == "Ready")
}

fn write_config() -> anyhow::Result<()> {
    let text = format!(
        "# Written by `cargo xtask cluster up`. The store's keys are in {}.\n\
         store: s3://{BUCKET}/runs\n\
         target: kubernetes\n",
        store_env().display()
    );
    fs::write(config(), text).with_context(|| format!("cannot write {}", config().display()))
}

fn print_usage() {
    println!("export KUBECONFIG={}", kubeconfig().display());
    println!("set -a; . {}; set +a", store_env().display());
    println!(
        "export PATH={}:$PATH",
        bin("").display().to_string().trim_end_matches('/')
    );
}

/// Ends everything that runs.
pub(crate) fn down() -> anyhow::Result<()> {
    let _held = lock()?;
    if let Some(owner) = network::owner() {
        ensure!(
            owner == home(),
            "the cluster of this machine is that of {}: end it there",
            owner.display()
        );
    }
    let (done, took) = timed(end);
    done?;
    say(format!("the cluster is down ({})", human(took)));
    Ok(())
}

/// Wipes the state, and starts anew.
pub(crate) fn reset(options: Up) -> anyhow::Result<()> {
    down()?;
    {
        let _held = lock()?;
        if run().exists() {
            fs::remove_dir_all(run())
                .with_context(|| format!("cannot remove {}", run().display()))?;
        }
    }
    up(options)
}

/// Goes on after an error, so that as much as possible is gone; returns the first one.
fn end() -> anyhow::Result<()> {
    let mut result = Ok(());
    let mut note = |done: anyhow::Result<()>| {
        if let Err(error) = done
            && result.is_ok()
        {
            result = Err(error);
        }
    };
    let nodes = Node::all();
    for node in &nodes {
        node.kill_only();
    }
    // State is kept in etcd's log, which a kill does not hurt.
    for name in control::PARTS.iter().rev() {
        if let Some(process) = Process::noted(name) {
            process.signal(Signal::SIGKILL);
        }
    }
    store::stop();
    for node in &nodes {
        note(node.clean_up());
    }
    for name in control::PARTS {
        if let Some(process) = Process::noted(name)
            && !process.wait_for_end(PATIENCE)
        {
            note(Err(anyhow::anyhow!("{name} does not end")));
        }
        process::forget(name);
    }
    note(network::remove_bridge());
    note(network::restore_settings());
    note(node::remove_mount_points());
    result
}
