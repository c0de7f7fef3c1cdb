//! `cargo xtask bench local`: steps of this machine, beside programs that do the same, and the
//! project's goals for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::figures::{Figures, Sample, Unit};
use super::peers::{OURS, PEERS, Program, SNAKEMAKE, once};
use super::transfers::Transfers;
use super::work::{Shape, write_all};
use super::{Output, Profile, floor, scale};
use crate::shell::{human, say, timed};

pub(crate) const HELP: &str = "\
Peers come from PyPI, pinned, into folders under target/peers. All programs run the same steps in
turns, in fresh folders, as many at a time as there are CPUs; the ratio is to auria-pipeline.

Examples:
  cargo xtask bench local
  cargo xtask bench local --rounds 3 --peers snakemake
  cargo xtask bench local --peers none --steps 1000 --output json
  cargo xtask bench local --only transfers --large 512 --rounds 1

Transfers go to SeaweedFS on this machine, beside s5cmd; the large file needs about five times its
size on the disk of the temporary folder.";

/// No further round of a work is begun by a program that has taken so long for it.
const LONG: Duration = Duration::from_secs(90);

#[derive(Args)]
pub(crate) struct Local {
    /// Runs of each; the median counts. A slow peer has fewer
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Peers to compare with, besides make: names, or `none`
    #[arg(long, value_delimiter = ',', value_name = "NAMES", default_values = ["snakemake", "luigi", "metaflow"])]
    peers: Vec<String>,
    /// Steps of the large run
    #[arg(long, default_value_t = 10_000)]
    steps: usize,
    /// MiB of the large file that is transferred
    #[arg(long, default_value_t = 4096, value_name = "MIB")]
    large: u64,
    /// A part of it alone
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// What auria-pipeline is built with
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Steps, beside programs that run steps.
    Steps,
    /// Files to a store and back, beside s5cmd.
    Transfers,
}

impl Local {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if self.rounds == 0 || self.steps < 100 || self.large < 16 {
            bail!(
                "at least one round, a large run of at least 100 steps and a large file of at least 16 MiB are needed"
            );
        }
        let folder = tempfile::tempdir().context("cannot make a folder to measure in")?;
        let mut figures = Figures::default();
        let mut titles = Vec::new();
        if self.only != Some(Part::Transfers) {
            titles.extend(self.steps(&mut figures, folder.path())?);
        }
        if self.only != Some(Part::Steps) {
            let transfers = Transfers {
                large: self.large,
                rounds: self.rounds,
                profile: self.profile,
            };
            titles.push(transfers.measure(&mut figures, folder.path())?);
            figures.compare(OURS);
            transfers.goals(&mut figures);
        }
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        match self.output {
            Output::Text => {
                println!(
                    "{jobs} CPUs; {}, built with the {} profile\n\n{}",
                    titles.join(", "),
                    self.profile.name(),
                    figures.text()
                );
            }
            Output::Json => {
                let mut value = figures.json();
                value["cpus"] = jobs.into();
                value["profile"] = self.profile.name().into();
                value["programs"] = titles.into();
                println!("{value:#}");
            }
        }
        Ok(())
    }

    /// Measures steps, and says of which programs.
    fn steps(&self, figures: &mut Figures, folder: &Path) -> anyhow::Result<Vec<String>> {
        let ours = self.profile.binary()?;
        let mut programs = vec![Program::Ours(ours.clone()), Program::Make];
        for name in self.peers.iter().filter(|name| *name != "none") {
            let Some(peer) = PEERS.iter().find(|peer| peer.name == name) else {
                let known: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
                bail!("--peers {name}: known are {} and none", known.join(", "));
            };
            programs.push(Program::Peer(peer, peer.install()?));
        }
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = runtime_folder()?;
        floor::measure(figures, folder)?;
        let large = scale::Large {
            binary: &ours,
            folder,
            runtime: runtime.path(),
            rounds: self.rounds,
            steps: self.steps,
            profile: self.profile,
        };
        large.first_step(figures)?;
        for shape in [Shape::Wide(1), Shape::Chain(20), Shape::Fan(200)] {
            say(format!("measuring: {}", shape.name()));
            let fresh = |program: &Program| fresh(program, shape, jobs, &large);
            self.beside(figures, &programs, &shape.name(), fresh)?;
        }
        figures.compare(OURS);
        large.measure(figures)?;
        goals(figures);
        Ok(programs.iter().map(Program::title).collect())
    }

    /// All programs in turns, so that what else the machine does meets all of them.
    fn beside(
        &self,
        figures: &mut Figures,
        programs: &[Program],
        name: &str,
        once: impl Fn(&Program) -> anyhow::Result<f64>,
    ) -> anyhow::Result<()> {
        let mut samples = vec![Sample::default(); programs.len()];
        for _ in 0..self.rounds {
            for (program, sample) in programs.iter().zip(&mut samples) {
                if sample.sum() < LONG.as_secs_f64() {
                    sample.push(once(program)?);
                }
            }
        }
        for (program, sample) in programs.iter().zip(samples) {
            figures.add(name, program.name(), Unit::Seconds, sample);
        }
        Ok(())
    }
}

/// Where auria-pipeline's processes meet: of its own, so that the shares of this machine that
/// other runs hold are not waited for, and in memory, as a login session has it.
fn runtime_folder() -> anyhow::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    tempfile::tempdir_in(&place)
        .with_context(|| format!("cannot make a folder in {}", place.display()))
}

/// A run in a folder, and so a store, of its own.
fn fresh(
    program: &Program,
    shape: Shape,
    jobs: usize,
    large: &scale::Large<'_>,
) -> anyhow::Result<f64> {
    let folder =
        tempfile::tempdir_in(large.folder).context("cannot make a folder to measure in")?;
    write_all(folder.path(), shape)?;
    let (took, all) = timed(|| once(&mut program.command(folder.path(), jobs, large.runtime)));
    let took = took.with_context(|| format!("{} of {}", shape.name(), program.name()))?;
    if all > LONG {
        say(format!("{}: {}", program.name(), human(all)));
    }
    Ok(took)
}

/// What the project wants of itself.
fn goals(figures: &mut Figures) {
    let (chain, fan) = (Shape::Chain(20).name(), Shape::Fan(200).name());
    for (work, times) in [(&chain, 10.0), (&fan, 7.0)] {
        let ratio = figures.median(work, SNAKEMAKE) / figures.median(work, OURS);
        if ratio.is_finite() {
            let what = format!("{work}: at least {times:.0} times faster than snakemake");
            figures.goal(&what, format!("{ratio:.1} times"), ratio >= times);
        }
    }
    let seconds = figures.median(&chain, OURS);
    let what = format!("{chain}: 0.2 s in all");
    figures.goal(&what, format!("{seconds:.3} s"), seconds <= 0.2);
    scale::goals(figures);
}

/// A path in `folder` that nothing has used.
pub(crate) fn place(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let place = folder.join(name);
    std::fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    Ok(place)
}
