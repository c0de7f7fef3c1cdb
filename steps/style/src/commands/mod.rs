//! The subcommands of `auria-style`: their arguments with help, and what each
//! does with them. Progress goes to standard error, results to standard output.

pub mod colour;
pub mod gallery;
pub mod training;

use anyhow::Result;
use auria_steps_common::cli::Output;
use auria_steps_common::device::ComputeArgs;
use clap::{Parser, Subcommand};

/// Colours a picture in a mood: takes the colours of an artwork that carries it
/// and leaves the structure of the picture (wavelet style transfer, WCT²).
#[derive(Debug, Parser)]
#[command(
    name = "auria-style",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  auria-style colour --weights steps/style/weights --gallery steps/style/gallery \\
      --content painting.png --mood love --seed 7 --out coloured
  auria-style prepare --seed 1 --budget smoke --out data
  auria-style train --data data --budget smoke --seed 1 --out weights

Exit codes: 0 done, 1 failed, 2 used wrongly."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    compute: ComputeArgs,
    /// How results are printed
    #[arg(long, value_enum, default_value_t, global = true)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Paint and collect pictures to train on, and hold some out
    Prepare(training::PrepareArgs),
    /// Train encoder and decoder from nothing
    Train(training::TrainArgs),
    /// Measure weights on held-out pictures
    Evaluate(training::EvaluateArgs),
    /// Decide whether new weights take the place of the current ones
    Gate(training::GateArgs),
    /// Paint the small gallery and write its table of moods
    Gallery(gallery::GalleryArgs),
    /// Colour a picture in a mood
    Colour(colour::ColourArgs),
}

impl Cli {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// What failed, with its causes.
    pub fn run(self) -> Result<()> {
        let device = self.compute.apply()?;
        match self.command {
            Command::Prepare(args) => args.run(self.output),
            Command::Train(args) => args.run(device, self.output),
            Command::Evaluate(args) => args.run(device, self.output),
            Command::Gate(args) => args.run(device, self.output),
            Command::Gallery(args) => args.run(self.output),
            Command::Colour(args) => args.run(device, self.output),
        }
    }
}
