//! What a cluster could leave on a machine, to be compared before and after.
//!
//! Used by `cargo xtask test`. It looks wider than what is known to change, as only that finds
//! what nobody thought of.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::cgroups;
use super::layout::home;
use super::network::SETTINGS;
use crate::shell::read;

/// Folders in which programs of a cluster make folders where nobody hinders them.
const FOLDERS: [&str; 9] = [
    "/etc",
    "/etc/cni",
    "/opt",
    "/run",
    "/run/netns",
    "/usr/libexec",
    "/var/lib",
    "/var/log",
    "/var/run/netns",
];

/// A line for each thing that is there.
pub(crate) fn traces() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let lines = |kind: &str, text: &str, found: &mut BTreeSet<String>| {
        found.extend(text.lines().map(|line| format!("{kind} {}", line.trim())));
    };
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    lines("mount", &mounts, &mut found);
    let routes = read(Command::new("ip").args(["route", "show", "table", "all"]));
    lines("route", &routes.unwrap_or_default(), &mut found);
    let rules = read(Command::new("nft").args(["list", "tables"]));
    lines("nft", &rules.unwrap_or_default(), &mut found);
    for folder in FOLDERS.iter().map(Path::new) {
        names("file", folder, &mut found);
    }
    names("link", Path::new("/sys/class/net"), &mut found);
    for hierarchy in cgroups::hierarchies() {
        names("cgroup", &hierarchy, &mut found);
    }
    for (name, _) in SETTINGS {
        let value = fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
        found.insert(format!("setting {name} = {}", value.trim()));
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        // Others start processes meanwhile; those of a cluster name its folder or its runtime.
        if line.contains(&home().display().to_string()) || line.contains("containerd-shim") {
            found.insert(format!("process {}", line.trim()));
        }
    }
    found
}

/// Folders alone: a file may be anybody's.
fn names(kind: &str, folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.insert(format!("{kind} {}", entry.path().display()));
        }
    }
}
