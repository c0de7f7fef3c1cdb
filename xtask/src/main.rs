//! The project's own tasks: `cargo xtask demo | test | cluster | faults | simulate | bench | images | launcher | libtorch | schema | weed`.
//!
//! A blocking program that calls other programs and says what it does. It is no part of the
//! product: nothing here is linked into a binary that users run.

mod bench;
mod cluster;
mod demo;
mod engines;
mod faults;
mod fuzz;
mod gloo;
mod images;
mod launcher;
mod libtorch;
mod lock;
mod on_cluster;
mod processes;
mod programs;
mod purity;
mod python;
mod report;
mod schema;
mod shell;
mod showing;
mod simulate;
mod test;
mod tools;
mod wheel;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own tasks
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "\
Examples:
  cargo xtask demo                 install what is needed, build, and run the artist's pipeline
  cargo xtask test                 everything that must hold, with counts and minutes
  cargo xtask test lints purity    only these parts
  cargo xtask libtorch             only put libtorch under target/, so that plain cargo builds the steps

Everything that is installed goes under target/; nothing else on the machine is changed."
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the artist's pipeline: a haiku, its painting, and the painting coloured in a mood
    #[command(after_help = "\
Examples:
  cargo xtask demo
  cargo xtask demo --seed 12 --mood sadness --topic rain
  cargo xtask demo --serve         Auria's page, with three works in it

A second demo with the same inputs reuses what is there, and says so. The runs are kept in .auria/;
`target/debug/auria-pipeline runs` lists them.")]
    Demo(demo::Demo),
    /// Run every check and test, and print counts and minutes for each part
    #[command(after_help = test::PARTS_HELP)]
    Test(test::Test),
    /// Start, end and break a real Kubernetes on this machine, for tests
    #[command(after_help = cluster::HELP)]
    Cluster(cluster::Cluster),
    /// Make faults of every kind on the test cluster, at random, while pipelines run there
    #[command(after_help = faults::HELP)]
    Faults(faults::Faults),
    /// Play schedules of kills, faults and delays against the real engine, on virtual time
    #[command(after_help = "\
A seed is a schedule. Prints how often each state met each event and each process was killed where,
and the seeds of what must not be; docs/simulation.md says how to read them.

Examples:
  cargo xtask simulate                           20,000 schedules, as `cargo xtask test` plays them
  cargo xtask simulate --schedules 1000000       many more: minutes
  cargo xtask simulate --seed 4711 --trace       one, with all that happens in it
  cargo xtask simulate --mutants                 the schedule that finds each mutant")]
    Simulate(simulate::Simulate),
    /// Measure what things cost on this machine, beside programs that do the same
    #[command(after_help = "\
Prints numbers and ratios of this machine; it never fails because of a number.

Examples:
  cargo xtask bench local
  cargo xtask bench local --peers snakemake --rounds 3
  cargo xtask bench cluster")]
    Bench(bench::Bench),
    /// Build the project's images from dockerfiles/, with the engine of this machine
    #[command(after_help = "\
Programs are built by cargo and copied into the images; the Dockerfiles name CUDA bases, and --base
another one. Nothing is pushed.

Examples:
  cargo xtask images                              all, as auria.local/NAME:VERSION
  cargo xtask images haiku --base docker.io/nvidia/cuda:12.6.3-base-ubuntu24.04@sha256:…
  cargo xtask images --prefix registry.example.com/auria/ --tag v3
  cargo xtask images --save images.tar            and an archive of all of them")]
    Images(images::Images),
    /// Build the launcher that runs in Pods: one static binary, target/static/auria-launcher
    #[command(after_help = "\
It needs no C library, no certificates and no resolver of the image that it runs in.

Examples:
  cargo xtask launcher")]
    Launcher,
    /// Put the CPU part of libtorch 2.11.0 under target/libtorch if it is absent, and print where it is
    #[command(after_help = "\
The wheels come through `python3 -m pip download`, are checked against recorded SHA-256 digests and
kept in target/downloads. Installed once; a second call only looks.

Examples:
  cargo xtask libtorch
  cargo xtask libtorch --to /opt/libtorch")]
    Libtorch {
        /// Where to put it, instead of target/libtorch
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
    /// Write docs/schema/*.json, docs/cli.md and docs/man/*.1 from the auria-pipeline binary
    #[command(after_help = "\
Examples:
  cargo xtask schema
  cargo xtask schema --check       fail if what is checked in is stale")]
    Schema {
        /// Write nothing; fail if a file is stale
        #[arg(long)]
        check: bool,
    },
    /// Install SeaweedFS for the tests if it is absent, and print the path of its binary
    Weed {
        /// Where to put it, instead of target/tools/seaweedfs
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Demo(demo) => demo.run(),
        Task::Test(test) => return test.run(),
        Task::Cluster(cluster) => cluster.run(),
        Task::Faults(faults) => faults.run(),
        Task::Simulate(simulate) => simulate.run(),
        Task::Bench(bench) => bench.run(),
        Task::Images(images) => images.run(),
        Task::Launcher => launcher::build().map(|path| println!("{}", path.display())),
        Task::Libtorch { to } => libtorch::install(to).map(|path| println!("{}", path.display())),
        Task::Schema { check } => schema::run(check),
        Task::Weed { to } => tools::seaweedfs(to).map(|path| println!("{}", path.display())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
