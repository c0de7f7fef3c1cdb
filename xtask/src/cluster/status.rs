//! What runs of the cluster, for people and programs.
//!
//! Used by `cargo xtask cluster status`. It changes nothing.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::gpus;
use super::layout::{self, Node, api, config, kubeconfig, s3, store_env};
use super::process::Process;
use super::{Output, control, store, up};

/// Prints what runs.
pub(crate) fn print(output: Output) -> anyhow::Result<()> {
    let status = status();
    super::print(&match output {
        Output::Json => format!("{status:#}\n"),
        Output::Text => text(&status).unwrap_or_default(),
    })
}

fn status() -> Value {
    let nodes = Node::all();
    let ready = up::ready().unwrap_or_default();
    let running = |name: &str| Process::noted(name).map(|process| process.id);
    let parts: Vec<Value> = control::PARTS
        .iter()
        .chain([&store::NAME])
        .map(|name| json!({"name": name, "process": running(name)}))
        .collect();
    let lives = parts
        .iter()
        .filter(|part| !part["process"].is_null())
        .count();
    let node_list: Vec<Value> = gpus::of(&nodes)
        .into_iter()
        .map(|(node, gpus)| {
            let program = |name: &str| node.process_of(name).map(|process| process.id);
            json!({
                "name": node.name(),
                "address": node.address(),
                "process": node.init().map(|process| process.id),
                "containerd": program("containerd"),
                "kubelet": program("kubelet"),
                "kube_proxy": program("kube-proxy"),
                "ready": ready.contains(&node.name()),
                "gpus": gpus.name(),
                "capacity": gpus.capacity(),
            })
        })
        .collect();
    let any_node = node_list.iter().any(|node| !node["process"].is_null());
    let state = if up::is_up() && node_list.iter().all(|node| node["ready"] == true) {
        "up"
    } else if lives == 0 && !any_node {
        "down"
    } else {
        "partly up"
    };
    json!({
        "state": state,
        "kubernetes": layout::KUBERNETES,
        "api": api(),
        "store": s3(),
        "kubeconfig": kubeconfig(),
        "config": config(),
        "store_env": store_env(),
        "parts": parts,
        "nodes": node_list,
    })
}

fn text(status: &Value) -> Result<String, std::fmt::Error> {
    let mut lines = String::new();
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    writeln!(lines, "the cluster is {}", text(&status["state"]))?;
    if status["state"] == "down" {
        return Ok(lines);
    }
    writeln!(
        lines,
        "  Kubernetes {} at {}",
        text(&status["kubernetes"]),
        text(&status["api"])
    )?;
    writeln!(lines, "  S3 at {}", text(&status["store"]))?;
    writeln!(lines, "  kubeconfig {}", text(&status["kubeconfig"]))?;
    writeln!(lines, "\n{:<26} {:>8}", "part", "process")?;
    for part in status["parts"].as_array().into_iter().flatten() {
        writeln!(
            lines,
            "{:<26} {:>8}",
            text(&part["name"]),
            text(&part["process"])
        )?;
    }
    writeln!(
        lines,
        "\n{:<5} {:<12} {:<6} {:>8} {:>10} {:>8} {:>10} gpus",
        "node", "address", "ready", "process", "containerd", "kubelet", "kube-proxy"
    )?;
    for node in status["nodes"].as_array().into_iter().flatten() {
        writeln!(
            lines,
            "{:<5} {:<12} {:<6} {:>8} {:>10} {:>8} {:>10} {}",
            text(&node["name"]),
            text(&node["address"]),
            if node["ready"] == true { "yes" } else { "no" },
            text(&node["process"]),
            text(&node["containerd"]),
            text(&node["kubelet"]),
            text(&node["kube_proxy"]),
            text(&node["gpus"]),
        )?;
    }
    Ok(lines)
}
