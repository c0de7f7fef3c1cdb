//! What the commands do, from files to files. Called by the command line and by tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use auria_steps_common::card::{self, Card, Measure};
use auria_steps_common::checkpoint::{CheckpointArgs, Checkpoints};
use auria_steps_common::distributed::Group;
use auria_steps_common::gate::Better;
use auria_steps_common::metrics::Metrics;
use auria_steps_common::mood::Mood;
use auria_steps_common::{Error, files, warm, weights};
use tch::Device;

use crate::artifact::{Artifact, WEIGHTS};
use crate::config::{Budget, Config, Optimiser};
use crate::data::Data;
use crate::evaluate::{self, Measures};
use crate::runs::{Runs, Which};
use crate::spelling::Spelling;
use crate::train::{self, Limits, Summary, Trainer};
use crate::writer::{Poem, WriteError, Writer};

/// The arguments of a training.
#[derive(Debug, Clone)]
pub struct Train {
    /// Prepared data.
    pub data: PathBuf,
    /// How much it may cost.
    pub budget: Budget,
    /// The seed.
    pub seed: u64,
    /// Where the weights go.
    pub out: PathBuf,
    /// The most time.
    pub time: Option<Duration>,
    /// Another optimiser than the budget's.
    pub optimiser: Option<Optimiser>,
    /// Other steps than the budget's.
    pub steps: Option<u64>,
    /// A file of settings to have instead of the budget's.
    pub settings: Option<PathBuf>,
    /// Where checkpoints are.
    pub checkpoints: CheckpointArgs,
    /// Where to compute.
    pub device: Device,
    /// The processes that train together.
    pub group: Group,
}

impl Train {
    /// The settings of the budget with what was asked for instead.
    fn config(&self) -> Result<Config, Error> {
        let mut config = self.budget.config();
        let training = &mut config.training;
        if let Some(optimiser) = self.optimiser {
            training.optimiser = optimiser;
            if optimiser == Optimiser::NtAsgd {
                // As published for Penn Treebank.
                (training.lr, training.tune_lr, training.clip) = (30.0, 30.0, 0.25);
                training.weight_decay = 1.2e-6;
            }
        }
        if let Some(path) = &self.settings {
            config = config.with(path)?;
        }
        let training = &mut config.training;
        if let Some(steps) = self.steps {
            training.pretrain_steps = training.pretrain_steps * steps / training.steps.max(1);
            training.steps = steps;
        }
        Ok(config)
    }

    /// The command that was given.
    fn command(&self) -> String {
        let mut command = format!(
            "auria-haiku train --budget {} --seed {}",
            self.budget.name(),
            self.seed
        );
        if let Some(Optimiser::NtAsgd) = self.optimiser {
            command.push_str(" --optimiser nt-asgd");
        }
        if let Some(path) = &self.settings {
            command.push_str(&format!(" --settings {}", path.display()));
        }
        if let Some(steps) = self.steps {
            command.push_str(&format!(" --steps {steps}"));
        }
        command
    }
}

/// Trains, and writes a folder of weights with its card. Of several processes that train
/// together, the first writes, and the others give no card. What is to save a checkpoint at
/// SIGTERM calls `termination::watch` before, and before it has a group, whose threads would
/// take the signal.
pub fn train(args: &Train) -> Result<Option<Card>, Error> {
    let data = Data::read(&args.data)?;
    let (vocab, config) = train::vocabulary(&data, &args.config()?);
    let (poems, verse) = train::encode_training(&data, &vocab);
    let valid = train::encode(&data.valid, &vocab, &Spelling::learn(&data, &vocab));
    let mut checkpoints = Checkpoints::open(&args.checkpoints)?;
    let first = args.group.is_first();
    let mut metrics = if first {
        Metrics::from_env()?
    } else {
        Metrics::of_another()
    };
    let digest = &data.report.corpus_digest;
    let mut trainer = Trainer::in_group(
        args.group.clone(),
        &config,
        (&poems, &verse),
        &valid,
        (args.seed, args.device),
        digest,
    )?;
    let dir = args.checkpoints.checkpoints.as_deref();
    let dir = dir.unwrap_or(Path::new("--checkpoints"));
    if let Some(step) = trainer.resume(&checkpoints, (&poems, &verse), dir)?
        && first
    {
        eprintln!("resumed at step {step} of {}", config.training.steps);
    }
    let limits = Limits {
        time: args.time,
        stop_at: None,
    };
    let Some(summary) = trainer.run(&mut checkpoints, &mut metrics, limits)? else {
        return Err(Error::content(
            &args.out,
            "the training stopped before its end",
        ));
    };
    if !first {
        return Ok(None);
    }
    let model = trainer.into_model();
    let parameters = weights::count(&model.tensors());
    let poems = data.train.iter().chain(&data.valid);
    Runs::of(Which::Copies, poems, |_| true).write(&args.out)?;
    let all = data.train.iter().chain(&data.verse);
    Runs::of(Which::Pairs, all, |w| vocab.number(w).is_some()).write(&args.out)?;
    Artifact {
        model,
        config: config.clone(),
        vocab,
    }
    .write(&args.out)?;
    let bytes = std::fs::metadata(args.out.join(WEIGHTS))
        .map_err(Error::read(&args.out))?
        .len();
    let card = card_of(
        args,
        &data,
        &config,
        &summary,
        card::Size { parameters, bytes },
    );
    card.write(&args.out)?;
    Ok(Some(card))
}

/// Measures weights, writes the figures to a file and logs them as metrics.
pub fn evaluate(
    weights: &Path,
    data: &Path,
    poems: u64,
    out: &Path,
    device: Device,
) -> Result<Measures, WriteError> {
    let data = Data::read(data)?;
    let measures = evaluate::evaluate(weights, &data, poems, device)?;
    files::write_json(out, &measures)?;
    let mut metrics = Metrics::from_env()?;
    for measure in measures.card() {
        metrics.log(&measure.name.replace(' ', "_"), measure.value, 0)?;
    }
    Ok(measures)
}

/// Writes a poem, and `poem.txt` and `poem.json` into `out`.
pub fn write(
    weights: &Path,
    seed: u64,
    mood: Mood,
    topic: Option<&str>,
    out: &Path,
) -> Result<Poem, WriteError> {
    let writer = warm::kept(weights, || Writer::read(weights))?;
    let poem = writer.write(seed, mood, topic)?;
    files::write_atomic(&out.join("poem.txt"), poem.text().as_bytes())?;
    files::write_json(&out.join("poem.json"), &poem)?;
    Ok(poem)
}

fn card_of(
    args: &Train,
    data: &Data,
    config: &Config,
    summary: &Summary,
    size: card::Size,
) -> Card {
    let model = &config.model;
    let report = &data.report;
    let threads = tch::get_num_threads();
    let device = match (args.device, args.group.size()) {
        (Device::Cpu, 1) => format!("cpu, {threads} threads"),
        (Device::Cpu, size) => format!("cpu, {size} processes, {threads} threads each"),
        _ => "one GPU (CUDA)".to_owned(),
    };
    let averaged = match summary.averaged_from {
        Some(step) => format!("; weights averaged from step {step}"),
        None => String::new(),
    };
    Card {
        name: "Auria's haiku model".into(),
        summary: "A word-level language model of haiku in English, from which `auria-haiku \
                  write` samples poems in 5-7-5."
            .into(),
        architecture: format!(
            "AWD-LSTM (Merity, Keskar and Socher 2018): {} layers, embedding {}, hidden {}, \
             vocabulary {}, tied weights, weight drop {}, locked dropout {}/{}/{}, embedding \
             dropout {}, AR {} and TAR {}; {}{averaged}",
            model.layers,
            model.embedding,
            model.hidden,
            model.vocab,
            model.weight_drop,
            model.dropout_input,
            model.dropout_hidden,
            model.dropout_output,
            model.dropout_embedding,
            model.alpha,
            model.beta,
            match config.training.optimiser {
                Optimiser::Adam => "Adam with a cosine schedule",
                Optimiser::NtAsgd => "NT-ASGD",
            },
        ),
        size,
        data: card::Data {
            description: report.description.clone(),
            licence: report.licence.clone(),
            corpus_digest: report.corpus_digest.clone(),
            train_items: report.train + report.verse,
            held_out_items: report.held_out,
        },
        training: card::Training {
            command: args.command(),
            budget: args.budget.name().into(),
            seed: args.seed,
            steps: summary.steps,
            minutes: summary.minutes,
            device,
        },
        measures: vec![
            Measure::new(
                "validation loss",
                summary.valid,
                "nats per token",
                Some(Better::Lower),
                "poems that training looked at to choose when to average; unknown words are spelled",
            ),
            Measure::new(
                "training speed",
                summary.tokens_per_second.round(),
                "tokens/s",
                Some(Better::Higher),
                "forward, backward and update, all attempts together, the machine shared",
            ),
        ],
        works: Vec::new(),
        limits: vec![
            "English only; it says what its corpus says, in the corpus's old-fashioned words."
                .into(),
            "It knows nothing of the world; a poem's truth is an accident.".into(),
        ],
        licence: "Apache-2.0".into(),
    }
}
