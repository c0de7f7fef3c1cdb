//! A test program of the cluster as a command of its own (`faults`, `bench cluster`): what it needs
//! is installed and built, and the cluster is started for it where none is up.

use anyhow::{Context, bail};

use crate::programs::{self, Program};
use crate::{cluster, engines, launcher, libtorch, tools};

/// Runs `work` with the program `name` of `tests/tests` and the variables that it needs.
pub(crate) fn run(
    name: &str,
    work: impl FnOnce(&Program, Vec<(&'static str, String)>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if let Some(why) = cluster::why_not() {
        bail!("{why}");
    }
    libtorch::install(None)?;
    tools::seaweedfs(None)?;
    if let Some(why) = engines::install()? {
        bail!("no images can be built: {why}");
    }
    let programs = programs::build_all()?;
    let program = programs
        .iter()
        .find(|program| program.name().ends_with(&format!(": {name}")))
        .with_context(|| format!("there is no program tests/tests/{name}"))?;
    let launcher = launcher::build()?.display().to_string();
    let work = || {
        let mut variables = cluster::variables()?;
        variables.push(("AURIA_TEST_LAUNCHER", launcher));
        work(program, variables)
    };
    if cluster::is_up() {
        return work();
    }
    if let Some(why) = cluster::prepare()? {
        bail!("{why}");
    }
    cluster::start()?;
    let done = work();
    cluster::stop()?;
    done
}
