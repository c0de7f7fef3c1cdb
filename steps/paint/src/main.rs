//! The command line of `auria-paint`: reads arguments, calls the library, prints.
//!
//! Exit codes: 0 done, 1 failed, 2 used wrongly. Results go to standard output, progress
//! to standard error.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use auria_paint::artist::Artist;
use auria_paint::data::{self, Budget, Data};
use auria_paint::evaluate::Measured;
use auria_paint::poem::Poem;
use auria_paint::train::{self, Plan};
use auria_paint::{gate, paint};
use auria_steps_common::checkpoint::CheckpointArgs;
use auria_steps_common::cli::{self, Output};
use auria_steps_common::device::ComputeArgs;
use auria_steps_common::files;
use auria_steps_common::gate::standing;
use auria_steps_common::metrics::Metrics;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "auria-paint",
    version,
    about = "Paints a poem with AttnGAN",
    after_help = "Examples:\n  auria-paint paint --weights steps/paint/weights --poem poem.txt --seed 7 --out painting\n  auria-paint prepare --seed 1 --budget small --out data\n  auria-paint train --data data --budget small --seed 1 --out weights\n  auria-paint evaluate --weights weights --data data --out measures.json"
)]
struct Cli {
    #[command(flatten)]
    compute: ComputeArgs,
    /// How results are printed
    #[arg(long, value_enum, default_value_t, global = true)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Draw scenes with captions to train on, some held out
    #[command(after_help = "Example:\n  auria-paint prepare --seed 1 --budget full --out data")]
    Prepare {
        /// Seed of the scenes
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many scenes
        #[arg(long, value_enum, default_value = "small")]
        budget: Budget,
        /// Folder for scenes, summary and a contact sheet
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Train text and image encoder, then the generator
    #[command(
        after_help = "Examples:\n  auria-paint train --data data --budget full --seed 1 --minutes 40 --out weights\n  AURIA_CHECKPOINTS=ck auria-paint train --data data --out weights    resumes from ck"
    )]
    Train {
        /// Folder of `prepare`
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// How many steps
        #[arg(long, value_enum, default_value = "small")]
        budget: Budget,
        /// Seed of weights, order and noise
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// End after so many minutes, even if steps are left
        #[arg(long, value_parser = minutes)]
        minutes: Option<f64>,
        #[command(flatten)]
        checkpoints: CheckpointArgs,
        /// Folder for weights, configuration, vocabulary and card
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Measure weights on held-out scenes
    #[command(
        after_help = "Example:\n  auria-paint evaluate --weights weights --data data --out measures.json"
    )]
    Evaluate {
        /// Folder of weights
        #[arg(long, value_name = "DIR")]
        weights: PathBuf,
        /// Folder of `prepare`
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// File for the measures; a contact sheet lies beside it, with the ending .png
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Choose between new weights and those that stand, on the same held-out scenes
    #[command(
        after_help = "Example:\n  auria-paint gate --candidate weights --data data --current steps/paint/weights --out chosen\n\nExit code 1: the candidate did not learn, or is worse than the network before training."
    )]
    Gate {
        /// Folder of new weights
        #[arg(long, value_name = "DIR")]
        candidate: PathBuf,
        /// Folder of `prepare`
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Folder of the weights that stand; an empty one: there are none
        #[arg(long, value_name = "DIR")]
        current: Option<PathBuf>,
        /// Folder for gate.json and the chosen weights
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Paint a poem
    #[command(
        after_help = "Examples:\n  auria-paint paint --weights steps/paint/weights --poem haiku/ --seed 7 --out painting\n  auria-paint paint --weights steps/paint/weights --poem poem.txt --seed 7 --size 768 --out painting"
    )]
    Paint {
        /// Folder of weights
        #[arg(long, value_name = "DIR")]
        weights: PathBuf,
        /// poem.json, poem.txt, or a folder with one of them
        #[arg(long, value_name = "DIR_OR_FILE")]
        poem: PathBuf,
        /// Seed: one seed, one picture
        #[arg(long)]
        seed: u64,
        /// Pixels on a side
        #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(512..=4096))]
        size: u32,
        /// Folder for painting.png and painting.json
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("a number of minutes above 0 is asked for".into()),
    }
}

fn main() -> ExitCode {
    cli::main(|cli: Cli| run(&cli))
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let device = cli.compute.apply()?;
    match &cli.command {
        Command::Prepare { seed, budget, out } => {
            let summary = data::prepare(*seed, *budget, out)?;
            cli::print(cli.output, &summary, || {
                format!(
                    "{} scenes to train on and {} held out, {} captions, digest {}",
                    summary.train_scenes, summary.held_out_scenes, summary.captions, summary.digest
                )
            });
        }
        Command::Train {
            data,
            budget,
            seed,
            minutes,
            checkpoints,
            out,
        } => {
            let data = Data::read(data)?;
            let plan = Plan::of(*budget);
            let request = train::Request {
                data: &data,
                config: None,
                plan,
                budget: *budget,
                seed: *seed,
                minutes: *minutes,
                device,
            };
            let card = train::run(&request, checkpoints, &mut Metrics::from_env()?, out)?;
            cli::print(cli.output, &card, || {
                let measures: Vec<String> = card
                    .measures
                    .iter()
                    .map(|m| format!("{} {:.4}", m.name, m.value))
                    .collect();
                format!(
                    "{} steps, {} parameters; {}",
                    card.training.steps,
                    card.size.parameters,
                    measures.join(", ")
                )
            });
        }
        Command::Evaluate { weights, data, out } => {
            let artist = Artist::read(weights, device)?;
            let data = Data::read(data)?;
            let (measured, tiles) = Measured::all(&artist, &data);
            data::sheet(&tiles, 8, &out.with_extension("png"))
                .context("cannot write the contact sheet")?;
            files::write_json(out, &measured)?;
            cli::print(cli.output, &measured, || {
                serde_json::to_string_pretty(&measured).unwrap_or_default()
            });
        }
        Command::Gate {
            candidate,
            data,
            current,
            out,
        } => {
            let data = Data::read(data)?;
            let current = standing(current.as_deref());
            let verdict = gate::run(candidate, current, &data, out, device)?;
            let decision = &verdict.picture.decision;
            cli::print(cli.output, &verdict, || decision.reason.clone());
            if !decision.passed {
                bail!("the gate took no weights: {}", decision.reason);
            }
        }
        Command::Paint {
            weights,
            poem,
            seed,
            size,
            out,
        } => {
            let poem = Poem::read(poem)?;
            let painting = paint::paint(weights, &poem, *seed, *size, out, device)?;
            cli::print(cli.output, &painting, || {
                format!(
                    "{}\npainted: {}",
                    out.join(&painting.picture).display(),
                    painting.reading.caption
                )
            });
        }
    }
    Ok(())
}
