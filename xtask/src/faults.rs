//! `cargo xtask faults`: the artist's pipeline and a generated one run on the test cluster, while
//! faults of all kinds are made there at random.
//!
//! What is made, and what must hold, stands in `tests/tests/cluster_recovery`, which is also a test:
//! here the cluster is started for it, and the number of faults is told.

use anyhow::{Context, bail};
use clap::Args;

use crate::programs::{self, Program};
use crate::{cluster, engines, launcher, libtorch, tools};

/// The command's help.
pub(crate) const HELP: &str = "\
Prints each fault with its end, a tally, and the seed. The first that does not end as it should ends
it all: what was seen, the seed and the fault are printed, and the exit status is 1. A hundred take
about half an hour. The cluster is started for it where none is up.

Examples:
  cargo xtask faults --count 100
  cargo xtask faults --count 20 --seed 4711        the same faults again, as far as time allows
  cargo xtask faults --count 10 --kind node-killed";

#[derive(Args)]
pub(crate) struct Faults {
    /// How many
    #[arg(long, default_value_t = 100, value_name = "N")]
    count: u32,
    /// Which faults, at which moments, and which pipelines; drawn where it is not said
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

impl Faults {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
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
            .find(|program| program.name().ends_with(": cluster_recovery"))
            .context("there is no program tests/tests/cluster_recovery")?;
        let launcher = launcher::build()?.display().to_string();
        if cluster::is_up() {
            return self.make(program, launcher);
        }
        if let Some(why) = cluster::prepare()? {
            bail!("{why}");
        }
        cluster::start()?;
        let done = self.make(program, launcher);
        cluster::stop()?;
        done
    }

    fn make(&self, program: &Program, launcher: String) -> anyhow::Result<()> {
        let mut variables = cluster::variables()?;
        variables.push(("AURIA_TEST_LAUNCHER", launcher));
        variables.push(("AURIA_FAULTS_COUNT", self.count.to_string()));
        if let Some(seed) = self.seed {
            variables.push(("AURIA_FAULTS_SEED", seed.to_string()));
        }
        if let Some(kind) = &self.kind {
            variables.push(("AURIA_FAULTS_KIND", kind.clone()));
        }
        let outcome = program.run(&variables)?;
        if outcome.failed > 0 {
            bail!("a fault did not end as it should");
        }
        Ok(())
    }
}
