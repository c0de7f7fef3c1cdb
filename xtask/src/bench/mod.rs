//! `cargo xtask bench`: what things cost on this machine, beside programs that do the same.
//!
//! Programs that are compared do the same work on the same machine in the same call, in turns. It
//! prints numbers and ratios, and never fails because of one.

mod cluster;
mod figures;
mod floor;
mod local;
mod measured;
mod peers;
mod scale;
mod server;
mod transfers;
mod work;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::shell::{cargo, run, say, target};

#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The cost of steps on this machine, beside snakemake, Luigi, Metaflow and GNU make
    #[command(after_help = local::HELP)]
    Local(local::Local),
    /// The cost of steps on the test cluster, beside bare Pods
    #[command(after_help = cluster::HELP)]
    Cluster(cluster::Cluster),
    /// Works by an endpoint, warm and cold; lists, logs and memory of `serve`
    #[command(after_help = server::HELP)]
    Server(server::Server),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Bench {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match &self.what {
            What::Local(local) => local.run(),
            What::Cluster(cluster) => cluster.run(),
            What::Server(server) => server.run(),
        }
    }
}

/// What the project's own programs are built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// As users install it.
    Release,
    /// As the demo and the tests use it: built in a minute.
    Dev,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "dev",
        }
    }

    /// `auria-pipeline`, built if it is not there.
    fn binary(self) -> anyhow::Result<PathBuf> {
        say(format!(
            "building auria-pipeline in the {} profile",
            self.name()
        ));
        run(cargo()
            .args(["build", "--locked", "--package", "auria-pipeline"])
            .args(["--profile", self.name()]))?;
        Ok(target().join(self.folder()).join("auria-pipeline"))
    }

    /// Where cargo puts what it builds.
    fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "debug",
        }
    }
}
