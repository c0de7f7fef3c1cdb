//! A cgroup for each node, in every hierarchy that this machine has.
//!
//! Used by `node`. Kubelets that shared one would end each other's Pods as orphans.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context;

const ROOT: &str = "/sys/fs/cgroup";

/// The hierarchies in which containers are: one of version 2, or those of version 1.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(path), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let writes = options.split(',').any(|option| option == "rw");
        // Version 2 beside version 1 is systemd's; runc leaves folders there, too.
        if writes && path.starts_with(ROOT) && (kind == "cgroup" || kind == "cgroup2") {
            found.push(PathBuf::from(path));
        }
    }
    found
}

/// Makes the cgroup `name`.
pub(crate) fn make(name: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies() {
        let path = hierarchy.join(name);
        if hierarchy.ends_with("unified") {
            continue;
        }
        if hierarchy == Path::new(ROOT) {
            // Version 2: a controller is there if the parent passes it on.
            let controllers = fs::read_to_string(hierarchy.join("cgroup.controllers"))?;
            for controller in controllers.split_whitespace() {
                // One that cannot be passed on is not needed, or the kubelet says so.
                let _ = fs::write(
                    hierarchy.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // Version 1 begins with none, and nothing could run there.
            if hierarchy != Path::new(ROOT) && path.join(file).exists() {
                let all = fs::read_to_string(hierarchy.join(file))?;
                fs::write(path.join(file), all.trim())
                    .with_context(|| format!("cannot write {file} of {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Removes the cgroup `name` and all below it, and returns what would not go.
pub(crate) fn remove(name: &str) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = hierarchies()
        .iter()
        .map(|hierarchy| hierarchy.join(name))
        .collect();
    // A process that was killed leaves its cgroup a moment later.
    for _ in 0..50 {
        for path in &paths {
            remove_tree(path);
        }
        if paths.iter().all(|path| !path.exists()) {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    paths.into_iter().filter(|path| path.exists()).collect()
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
