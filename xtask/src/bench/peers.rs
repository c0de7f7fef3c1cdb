//! The programs that are compared: how each is installed, started and versioned. Peers come from
//! PyPI, pinned, each with what it needs in a folder of its own under `target/peers`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::python;
use crate::shell::timed;

/// A program that runs pipelines.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// This project's; where its binary is.
    Ours(PathBuf),
    /// Keeps nothing: what the shells alone cost.
    Make,
    /// A Python package; where it is installed.
    Peer(&'static Peer, PathBuf),
}

/// A Python package, pinned.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    version: &'static str,
}

pub(crate) const OURS: &str = "auria-pipeline";
pub(crate) const SNAKEMAKE: &str = "snakemake";

/// Every peer.
pub(crate) const PEERS: [Peer; 3] = [
    Peer {
        name: SNAKEMAKE,
        version: "9.27.1",
    },
    Peer {
        name: "luigi",
        version: "3.8.1",
    },
    Peer {
        name: "metaflow",
        version: "2.19.39",
    },
];

impl Peer {
    /// The folder that holds the package, installed if it is absent.
    pub(crate) fn install(&'static self) -> anyhow::Result<PathBuf> {
        python::package("peers", self.name, self.version)
    }
}

impl Program {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => OURS,
            Self::Make => "make",
            Self::Peer(peer, _) => peer.name,
        }
    }

    /// Its name and version, for people.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Ours(_) => format!("{OURS} {}", env!("CARGO_PKG_VERSION")),
            Self::Make => "GNU make (keeps nothing)".to_owned(),
            Self::Peer(peer, _) => format!("{} {}", peer.name, peer.version),
        }
    }

    /// Runs the pipeline in `folder`, `jobs` steps at a time. The folder holds nothing of an
    /// earlier run; `runtime` is auria-pipeline's runtime folder.
    pub(crate) fn command(&self, folder: &Path, jobs: usize, runtime: &Path) -> Command {
        let jobs = jobs.to_string();
        let mut command = match self {
            Self::Ours(binary) => {
                let mut command = Command::new(binary);
                // The steps have one key: without this, all but the first would be reused.
                command
                    .args(["submit", "pipelines.yaml", "--on", "process"])
                    .args(["--force-rerun", "--output", "json", "--store"])
                    .arg(folder.join("store"))
                    .env("XDG_RUNTIME_DIR", runtime);
                command
            }
            Self::Make => {
                let mut command = Command::new("make");
                command
                    .args(["-j", &jobs])
                    // As xtask may itself run below a make.
                    .env_remove("MAKEFLAGS")
                    .env_remove("MAKELEVEL");
                command
            }
            Self::Peer(peer, packages) => {
                let mut command = Command::new("python3");
                command.env("PYTHONPATH", packages);
                match peer.name {
                    SNAKEMAKE => command
                        .args(["-m", "snakemake", "--snakefile", "Snakefile"])
                        .args(["--cores", &jobs, "--quiet", "all"]),
                    "luigi" => command
                        .args(["-m", "luigi", "--module", "luigi_flow", "All"])
                        .args(["--local-scheduler", "--log-level", "ERROR"])
                        .args(["--workers", &jobs])
                        // Where it finds the module.
                        .env("PYTHONPATH", join(&[packages, folder])),
                    _ => command
                        .args(["metaflow_flow.py", "--no-pylint", "--quiet"])
                        .args(["--datastore", "local", "--metadata", "local", "run"])
                        .args(["--max-workers", &jobs, "--max-num-splits", "100000"])
                        .env("METAFLOW_USER", "bench")
                        .env("METAFLOW_DATASTORE_SYSROOT_LOCAL", folder)
                        .env("METAFLOW_HOME", folder.join("home")),
                };
                command
            }
        };
        command.current_dir(folder).stdin(Stdio::null());
        command
    }
}

fn join(folders: &[&Path]) -> std::ffi::OsString {
    // Paths of ours; a colon in one would be a surprise.
    std::env::join_paths(folders).unwrap_or_default()
}

/// Runs `command` to its end, and says how many seconds that took.
pub(crate) fn once(command: &mut Command) -> anyhow::Result<f64> {
    let (output, took) = timed(|| command.output());
    let program = command.get_program().to_string_lossy().into_owned();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::{Program, once};
    use crate::bench::work::{Shape, write_all};

    #[test]
    fn make_runs_its_pipeline() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path(), Shape::Fan(3)).unwrap();
        let make = || Program::Make.command(folder.path(), 2, folder.path());
        assert!(once(&mut make()).unwrap() > 0.0);
        std::fs::remove_file(folder.path().join("Makefile")).unwrap();
        once(&mut make()).unwrap_err();
    }
}
