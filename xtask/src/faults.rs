//! `cargo xtask faults`: the artist's pipeline and a generated one run on the test cluster, while
//! faults of all kinds are made there at random.
//!
//! What is made, and what must hold, stands in `tests/tests/cluster_recovery`, which is also a test:
//! here the cluster is started for it, and the number of faults is told.

use anyhow::bail;
use clap::Args;

use crate::on_cluster;
use crate::programs::Program;

/// The command's help.
pub(crate) const HELP: &str = "\
Prints each fault with its end, a tally, and the seed. The first that does not end as it should ends
it all: what was seen, the seed and the fault are printed, and the exit status is 1. The cluster is
started for it where none is up.

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
        on_cluster::run("cluster_recovery", |program, variables| {
            self.make(program, variables)
        })
    }

    fn make(
        &self,
        program: &Program,
        mut variables: Vec<(&'static str, String)>,
    ) -> anyhow::Result<()> {
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
