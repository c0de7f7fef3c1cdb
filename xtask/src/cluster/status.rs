//! What runs of the cluster, for people and programs.
//!
//! Used by `cargo xtask cluster status`. It changes nothing.

use serde_json::{Value, json};

use super::gpus;
use super::layout::{self, Node, api, config, kubeconfig, s3, store_env};
use super::process::Process;
use super::{Output, control, store, up};

/// Prints what runs.
pub(crate) fn print(output: Output) -> anyhow::Result<()> {
    let status = status();
    match output {
        Output::Json => println!("{status:#}"),
        Output::Text => print_text(&status),
    }
    Ok(())
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

fn print_text(status: &Value) {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    println!("the cluster is {}", text(&status["state"]));
    if status["state"] == "down" {
        return;
    }
    println!(
        "  Kubernetes {} at {}",
        text(&status["kubernetes"]),
        text(&status["api"])
    );
    println!("  S3 at {}", text(&status["store"]));
    println!("  kubeconfig {}", text(&status["kubeconfig"]));
    println!("\n{:<26} {:>8}", "part", "process");
    for part in status["parts"].as_array().into_iter().flatten() {
        println!("{:<26} {:>8}", text(&part["name"]), text(&part["process"]));
    }
    println!(
        "\n{:<5} {:<12} {:<6} {:>8} {:>10} {:>8} {:>10} gpus",
        "node", "address", "ready", "process", "containerd", "kubelet", "kube-proxy"
    );
    for node in status["nodes"].as_array().into_iter().flatten() {
        println!(
            "{:<5} {:<12} {:<6} {:>8} {:>10} {:>8} {:>10} {}",
            text(&node["name"]),
            text(&node["address"]),
            if node["ready"] == true { "yes" } else { "no" },
            text(&node["process"]),
            text(&node["containerd"]),
            text(&node["kubelet"]),
            text(&node["kube_proxy"]),
            text(&node["gpus"]),
        );
    }
}
