//! Whether this machine can hold a test cluster, and what it needs for that: root, cgroups, and
//! programs of Debian's packages.
//!
//! Used by `up` and by `cargo xtask test`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cluster::layout::{BRIDGE, NODES, PODS, SERVICES};
use crate::lock;
use crate::shell::{human, read, run, say, timed};

/// Programs, and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 13] = [
    ("busybox", "busybox-static"),
    ("conntrack", "conntrack"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("runc", "runc"),
    ("socat", "socat"),
    ("unshare", "util-linux"),
];

/// Where Debian puts the CNI plugins.
pub(crate) const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Why there can be no cluster here, where there can be none.
pub(crate) fn why_not() -> Option<String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Some("a test cluster needs Linux on x86_64".to_owned());
    }
    if !nix::unistd::getuid().is_root() {
        return Some(
            "a test cluster needs root: its nodes are namespaces with containers in them"
                .to_owned(),
        );
    }
    if super::cgroups::hierarchies().is_empty() {
        return Some(
            "a test cluster needs cgroups that can be written, and /sys/fs/cgroup has none"
                .to_owned(),
        );
    }
    if !missing().is_empty() && !is_program("apt-get") {
        return Some(format!(
            "a test cluster needs {}, and there is no apt-get to install them",
            missing().join(", ")
        ));
    }
    let unshared = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--fork"])
        .args(["--mount-proc", "true"])
        .output();
    match unshared {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "a test cluster needs namespaces, and this machine refuses them: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        // It is among the packages that are installed.
        Err(_) => None,
    }
}

/// Why the addresses of the cluster are not free, where they are not.
pub(crate) fn taken() -> anyhow::Result<Option<String>> {
    let routes = read(Command::new("ip").args(["-4", "route", "show", "table", "all"]))?;
    Ok(routes.lines().find_map(|line| {
        if line.contains(&format!("dev {BRIDGE}")) {
            return None;
        }
        let network = line
            .split(' ')
            .find(|word| word.contains('.'))
            .and_then(prefix)?;
        [NODES, PODS, SERVICES]
            .iter()
            .filter_map(|ours| prefix(ours))
            .find(|ours| overlap(*ours, network))
            .map(|_| format!("this machine routes `{line}` already, and the cluster needs {NODES}, {PODS} and {SERVICES}"))
    }))
}

/// Address and length of a network such as `10.0.0.0/8`.
fn prefix(text: &str) -> Option<(u32, u32)> {
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    Some((address.into(), length.parse().ok()?))
}

fn overlap(one: (u32, u32), other: (u32, u32)) -> bool {
    let shorter = one.1.min(other.1);
    let mask = u32::MAX.checked_shl(32 - shorter).unwrap_or(0);
    // The default route is everybody's.
    shorter > 0 && one.0 & mask == other.0 & mask
}

/// Installs Debian's packages that are missing.
pub(crate) fn install() -> anyhow::Result<()> {
    if missing().is_empty() {
        return Ok(());
    }
    let _held = lock::installing()?;
    let missing = missing();
    say(format!(
        "installing Debian's packages {} (for the test cluster; no service is started)",
        missing.join(", ")
    ));
    let (done, took) = timed(|| {
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        run(Command::new("apt-get")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    });
    done?;
    say(format!("installed in {}", human(took)));
    Ok(())
}

fn missing() -> Vec<&'static str> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !is_program(program))
        .map(|(_, package)| *package)
        .collect();
    if !Path::new(CNI_PLUGINS).join("bridge").is_file() {
        packages.push("containernetworking-plugins");
    }
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn is_program(name: &str) -> bool {
    super::process::PATH
        .split(':')
        .any(|folder| fs::metadata(Path::new(folder).join(name)).is_ok_and(|file| file.is_file()))
}

#[cfg(test)]
mod tests {
    use super::{overlap, prefix};

    #[test]
    fn networks_overlap_where_one_holds_the_other() {
        let overlaps = |one, other| overlap(prefix(one).unwrap(), prefix(other).unwrap());
        assert!(overlaps("10.0.0.0/8", "10.213.0.0/24"));
        assert!(overlaps("10.213.0.7", "10.213.0.0/24"));
        assert!(!overlaps("10.213.1.0/24", "10.213.0.0/24"));
        assert!(!overlaps("0.0.0.0/0", "10.213.0.0/24"));
        assert_eq!(prefix("default"), None);
    }
}
