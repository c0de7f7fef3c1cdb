//! The command line: arguments, help, and what is printed. Decides nothing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use auria_steps_common::checkpoint::CheckpointArgs;
use auria_steps_common::cli::{self, Output, print};
use auria_steps_common::device::ComputeArgs;
use auria_steps_common::distributed::{Group, GroupArgs, Place};
use auria_steps_common::gate;
use auria_steps_common::mood::Mood;
use auria_steps_common::termination;
use clap::{Parser, Subcommand};

use crate::commands;
use crate::config::{Budget, Optimiser};
use crate::data::Data;
use crate::{gating, prepare};

const EXAMPLES: &str = "\
Examples:
  One poem, with the weights that ship:
    auria-haiku write --weights steps/haiku/weights --seed 7 --mood joy --out poem

  Weights of your own, from a folder of poems:
    auria-haiku prepare  --corpus steps/haiku/corpus --out data
    auria-haiku train    --data data --budget smoke --seed 1 --out candidate
    auria-haiku evaluate --weights candidate --data data --out measures.json
    auria-haiku gate     --candidate candidate --data data --out weights

Exit codes: 0 done, 1 failed (a gate that no weights pass is a failure), 2 used wrongly.";

/// Write haiku with an LSTM language model: prepare poems, train, measure, write
#[derive(Debug, Parser)]
#[command(name = "auria-haiku", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Print the result as text or as JSON
    #[arg(
        long,
        value_enum,
        default_value_t,
        global = true,
        hide_possible_values = true,
        value_name = "text|json"
    )]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Clean poems, drop doubles, and hold some out: the data for training
    ///
    /// Reads .csv (line1,line2,line3 or 0,1,2 or text), .jsonl and .txt (poems parted by blank
    /// lines, or one a line with " / " between lines). A corpus.json in the folder may say
    /// what the corpus is, its licence, and which files are verse to train on before.
    Prepare {
        /// Folder of poems; may be given more than once
        #[arg(long, required = true, value_name = "DIR")]
        corpus: Vec<PathBuf>,
        /// File of verse to train on before, a stanza or sentence a line
        #[arg(long, value_name = "FILE")]
        verse: Vec<PathBuf>,
        /// Folder to write: train, valid, held_out, verse, report.json
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Train an AWD-LSTM on prepared data; resumes from --checkpoints
    ///
    /// SIGTERM ends it after a checkpoint. Where the environment says so (RANK, WORLD_SIZE,
    /// MASTER_ADDR, MASTER_PORT, as `distribution: {type: pytorch}` and torchrun set them),
    /// several processes train together: each works on its share of every batch, the weights
    /// are those of one process but for rounding, and rank 0 writes. On the CPU, by Gloo.
    Train {
        /// Folder that `prepare` wrote
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// How much it may cost: smoke (seconds), small (minutes), full (half an hour)
        #[arg(long, value_enum, default_value = "small", hide_possible_values = true)]
        budget: Budget,
        /// The seed: one seed and one machine give one set of weights
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Folder to write: model.safetensors, config.json, vocab.txt, card.json, card.md
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Stop after so many minutes, finished or not
        #[arg(long, value_name = "MINUTES")]
        minutes: Option<f64>,
        /// Another optimiser than the budget's: adam, or nt-asgd as published
        #[arg(long, value_enum, hide_possible_values = true)]
        optimiser: Option<Optimiser>,
        /// Other steps than the budget's
        #[arg(long, value_name = "N")]
        steps: Option<u64>,
        /// JSON of other settings than the budget's, any of those in config.json beside
        /// weights: {"model": {"hidden": 1150}}
        #[arg(long, value_name = "FILE")]
        settings: Option<PathBuf>,
        #[command(flatten)]
        checkpoints: CheckpointArgs,
        #[command(flatten)]
        group: GroupArgs,
    },
    /// Measure weights on held-out poems, beside a Kneser-Ney n-gram, and on what they write
    Evaluate {
        /// Folder of weights
        #[arg(long, value_name = "DIR")]
        weights: PathBuf,
        /// Folder that `prepare` wrote
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// How many poems to let it write
        #[arg(long, default_value_t = 40, value_name = "N")]
        poems: u64,
        /// File to write, JSON
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Choose which weights go on: the candidate, unless it measures worse
    ///
    /// Both are measured on the same held-out poems. Without current weights the candidate
    /// must not be worse than the baseline; current weights that were measured on another
    /// corpus are kept; a candidate that hardly betters its own untrained network fails.
    Gate {
        /// Folder of the new weights
        #[arg(long, value_name = "DIR")]
        candidate: PathBuf,
        /// Folder that `prepare` wrote
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Folder of the weights that stand; an empty one: there are none
        #[arg(long, value_name = "DIR")]
        current: Option<PathBuf>,
        /// How many poems to let the candidate write
        #[arg(long, default_value_t = 40, value_name = "N")]
        poems: u64,
        /// Folder to write: the chosen weights, gate.json
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Write one poem in 5-7-5: poem.txt and poem.json
    ///
    /// One seed, mood and topic give one poem with one set of weights. The poem is printed
    /// as well. Moods are the emotions of WikiArt Emotions: agreeableness, anger,
    /// anticipation, arrogance, disagreeableness, disgust, fear, gratitude, happiness,
    /// humility, love, optimism, pessimism, regret, sadness, shame, shyness, surprise,
    /// trust, neutral; and everyday words for them, such as joy, calm, hope, grief.
    Write {
        /// Folder of weights
        #[arg(long, value_name = "DIR")]
        weights: PathBuf,
        /// The seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The mood, such as joy or sadness
        #[arg(long, default_value = "neutral")]
        mood: String,
        /// What the poem is about, such as "winter moon"
        #[arg(long)]
        topic: Option<String>,
        /// Folder to write: poem.txt, poem.json
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    cli::main(run)
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if matches!(cli.command, Command::Train { .. }) {
        // Before a GPU is looked for and others are met: both begin threads.
        termination::watch();
    }
    let device = cli.compute.apply()?;
    match cli.command {
        Command::Prepare { corpus, verse, out } => {
            let report = prepare::prepare(&corpus, &verse, &out)?;
            print(cli.output, &report, || report.text());
        }
        Command::Train {
            data,
            budget,
            seed,
            out,
            minutes,
            optimiser,
            steps,
            settings,
            checkpoints,
            group,
        } => {
            let (device, group) = match Place::from_env()? {
                None => (device, Group::alone()),
                Some(place) => (
                    place.device(cli.compute.device)?,
                    Group::join(&place, group.timeout())?,
                ),
            };
            let (rank, size) = (group.rank(), group.size());
            let card = commands::train(&commands::Train {
                data,
                budget,
                seed,
                out,
                time: minutes.map(|m| Duration::from_secs_f64(m.max(0.0) * 60.0)),
                optimiser,
                steps,
                settings,
                checkpoints,
                device,
                group,
            })?;
            match card {
                Some(card) => print(cli.output, &card, || card.markdown()),
                None => eprintln!("rank {rank} of {size} is done; rank 0 writes"),
            }
        }
        Command::Evaluate {
            weights,
            data,
            poems,
            out,
        } => {
            let measures = commands::evaluate(&weights, &data, poems, &out, device)?;
            print(cli.output, &measures, || measures.text());
        }
        Command::Gate {
            candidate,
            data,
            current,
            poems,
            out,
        } => {
            let data = Data::read(&data)?;
            let current = gate::standing(current.as_deref());
            let record = gating::gate(&candidate, current, &data, poems, &out, device)?;
            print(cli.output, &record, || record.decision.reason.clone());
            if !record.decision.passed {
                anyhow::bail!("no weights pass the gate: {}", record.decision.reason);
            }
        }
        Command::Write {
            weights,
            seed,
            mood,
            topic,
            out,
        } => {
            let mood: Mood = mood.parse()?;
            let poem = commands::write(&weights, seed, mood, topic.as_deref(), &out)?;
            if topic.is_some_and(|t| !t.trim().is_empty()) && !poem.topic_said {
                eprintln!("the poem does not name its topic: these weights hardly know the word");
            }
            print(cli.output, &poem, || poem.text());
        }
    }
    Ok(())
}
