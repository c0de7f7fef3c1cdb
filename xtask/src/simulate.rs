//! `cargo xtask simulate`: plays schedules of the simulation, whose code is in
//! `orchestrator/engine/src/simulation`.
//!
//! The simulation is a build of its own: its features put a virtual clock, seeded dice and mutants
//! into the crates, and no other build may have those.

use std::process::Command;

use clap::Args;

use crate::programs::count_tests;
use crate::report::Outcome;
use crate::shell::{cargo, run, target};

/// Schedules that `cargo xtask test` plays.
const TESTED: u64 = 20_000;

#[derive(Args)]
pub(crate) struct Simulate {
    /// How many schedules
    #[arg(long, default_value_t = TESTED)]
    schedules: u64,
    /// The seed of the first schedule; the others follow it
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    first: u64,
    /// Play this schedule alone
    #[arg(long, value_name = "SEED", conflicts_with = "mutants")]
    seed: Option<u64>,
    /// With --seed: print what happens, in order
    #[arg(long, requires = "seed")]
    trace: bool,
    /// With this mistake built in; a name that there is not prints those that there are
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Prove that each mutant is found within 2,000 schedules
    #[arg(long, conflicts_with = "mutant")]
    mutants: bool,
    /// Threads; by default as many as there are CPUs
    #[arg(long)]
    threads: Option<usize>,
}

impl Simulate {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut simulate = program()?;
        match self.seed {
            Some(seed) => simulate.args(["--seed", &seed.to_string()]),
            None => simulate.args([
                "--schedules",
                &self.schedules.to_string(),
                "--first",
                &self.first.to_string(),
            ]),
        };
        for (flag, given) in [("--trace", self.trace), ("--mutants", self.mutants)] {
            if given {
                simulate.arg(flag);
            }
        }
        if let Some(mutant) = &self.mutant {
            simulate.args(["--mutant", mutant]);
        }
        if let Some(threads) = self.threads {
            simulate.args(["--threads", &threads.to_string()]);
        }
        run(&mut simulate)
    }
}

/// Builds the simulation and gives a call of it.
fn program() -> anyhow::Result<Command> {
    run(cargo().args([
        "build",
        "--locked",
        "--package",
        "auria-engine",
        "--features",
        "simulation",
        "--example",
        "simulate",
    ]))?;
    Ok(Command::new(target().join("debug/examples/simulate")))
}

/// What is linted besides the workspace, whose build has none of it.
pub(crate) fn clippy() -> Command {
    let mut clippy = cargo();
    clippy.args([
        "clippy",
        "--locked",
        "--package",
        "auria-engine",
        "--features",
        "simulation",
        "--example",
        "simulate",
        "--",
        "-D",
        "warnings",
    ]);
    clippy
}

/// The part of `cargo xtask test`: the engine is clean, and each mutant is found.
pub(crate) fn test() -> anyhow::Result<Outcome> {
    let mut outcome = count_tests(program()?.args(["--schedules", &TESTED.to_string()]))?;
    outcome.add(&count_tests(program()?.arg("--mutants"))?);
    Ok(outcome)
}
