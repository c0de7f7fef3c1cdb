//! The bridge between the machine and its nodes, the nodes' cables, routes, and the kernel
//! settings that a cluster changes.
//!
//! Used by `up`, `down` and `node`. What was changed is written down first, and put back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::{Map, Value};

use super::layout::{BRIDGE, BRIDGE_MAC, HOST, Node, SERVICES, home, run};
use crate::shell::show;

/// Kernel settings that kubelets write, or that many programs on one machine need, and what we
/// set them to.
pub(super) const SETTINGS: [(&str, Option<&str>); 5] = [
    // Three nodes watch many more files than one machine does.
    ("fs/inotify/max_user_instances", Some("8192")),
    ("kernel/panic", None),
    ("kernel/panic_on_oops", None),
    ("net/ipv4/ip_forward", None),
    ("vm/overcommit_memory", None),
];

/// `ip` with these words.
pub(crate) fn ip(words: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    command.args(words).stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", show(&command)))?;
    if !output.status.success() {
        bail!(
            "`{}`: {}",
            show(&command),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Whether the machine has a link of this name.
pub(crate) fn has_link(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// The folder whose cluster has the bridge, where one has it.
pub(crate) fn owner() -> Option<PathBuf> {
    let alias = fs::read_to_string(format!("/sys/class/net/{BRIDGE}/ifalias")).ok()?;
    Some(PathBuf::from(alias.trim()))
}

/// Makes the bridge, with the machine's own address on it.
pub(crate) fn make_bridge() -> anyhow::Result<()> {
    if has_link(BRIDGE) {
        return Ok(());
    }
    let folder = home().display().to_string();
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    ip(&[
        "link", "set", BRIDGE, "address", BRIDGE_MAC, "alias", &folder,
    ])?;
    ip(&["address", "add", &format!("{HOST}/24"), "dev", BRIDGE])?;
    ip(&["link", "set", BRIDGE, "up"])
}

/// Removes the bridge, and with it all routes that lead over it.
pub(crate) fn remove_bridge() -> anyhow::Result<()> {
    if has_link(BRIDGE) {
        ip(&["link", "delete", BRIDGE])?;
    }
    Ok(())
}

/// Lays a cable from the bridge to the network namespace of the process `init`.
pub(crate) fn connect(node: Node, init: i32) -> anyhow::Result<()> {
    let link = node.link();
    if has_link(&link) {
        // Of a node that was killed a moment ago.
        let _ = ip(&["link", "delete", &link]);
    }
    let init = init.to_string();
    ip(&[
        "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &init,
    ])?;
    ip(&["link", "set", &link, "master", BRIDGE, "up"])?;
    ip(&[
        "route",
        "replace",
        &node.pods(),
        "via",
        &node.address(),
        "dev",
        BRIDGE,
    ])?;
    // Each node knows the way to Services; one is enough.
    if node == Node(1) {
        let address = node.address();
        ip(&["route", "replace", SERVICES, "via", &address, "dev", BRIDGE])?;
    }
    Ok(())
}

fn setting(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

fn saved() -> PathBuf {
    run().join("settings.json")
}

/// Writes down the kernel settings as they are, and changes those that must be.
pub(crate) fn change_settings() -> anyhow::Result<()> {
    if !saved().exists() {
        let now: Map<String, Value> = SETTINGS
            .iter()
            .filter_map(|(name, _)| {
                let value = fs::read_to_string(setting(name)).ok()?;
                Some(((*name).to_owned(), Value::String(value.trim().to_owned())))
            })
            .collect();
        fs::write(saved(), Value::Object(now).to_string())?;
    }
    for (name, wanted) in SETTINGS {
        let (Some(wanted), Ok(now)) = (wanted, fs::read_to_string(setting(name))) else {
            continue;
        };
        let (wanted, now): (u64, u64) = (wanted.parse()?, now.trim().parse()?);
        if now < wanted {
            fs::write(setting(name), wanted.to_string())
                .with_context(|| format!("cannot set {name} to {wanted}"))?;
        }
    }
    Ok(())
}

/// Puts the kernel settings back, and forgets them.
pub(crate) fn restore_settings() -> anyhow::Result<()> {
    let Ok(text) = fs::read_to_string(saved()) else {
        return Ok(());
    };
    let before: Map<String, Value> = serde_json::from_str(&text)
        .with_context(|| format!("cannot read {}", saved().display()))?;
    for (name, value) in &before {
        let value = value.as_str().unwrap_or_default();
        let now = fs::read_to_string(setting(name)).unwrap_or_default();
        if now.trim() != value {
            fs::write(setting(name), value)
                .with_context(|| format!("cannot set {name} back to {value}"))?;
        }
    }
    fs::remove_file(saved())?;
    Ok(())
}
