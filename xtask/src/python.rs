//! Python packages that tests and measurements use: pinned, each with what it needs in a folder
//! of its own below `target/`, so that no Python of this machine is changed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::lock;
use crate::shell::{human, installs, run, say, timed};

/// The folder below `target/PLACE` that holds a package, installed if it is absent.
pub(crate) fn package(place: &str, name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let place = installs().join(place);
    let folder = place.join(format!("{name}-{version}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let _held = lock::installing()?;
    if folder.is_dir() {
        return Ok(folder);
    }
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let staging = tempfile::Builder::new()
        .prefix(lock::PARTIAL)
        .tempdir_in(&place)
        .with_context(|| format!("cannot make a folder in {}", place.display()))?;
    say(format!("installing {name} {version} with pip"));
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ])
    .args(["--no-warn-script-location", "--target"])
    .arg(staging.path())
    .arg(format!("{name}=={version}"));
    let (done, took) = timed(|| run(&mut pip));
    done.context("pip is needed (Debian: apt-get install python3-pip) and must reach its index")?;
    fs::rename(staging.path(), &folder)
        .with_context(|| format!("cannot move {name} to {}", folder.display()))?;
    say(format!("{name} {version} is installed ({})", human(took)));
    Ok(folder)
}
