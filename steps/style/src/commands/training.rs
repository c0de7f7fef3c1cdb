//! `prepare`, `train`, `evaluate` and `gate`: the way of a retraining.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use auria_steps_common::card::{Card, Size, Training};
use auria_steps_common::checkpoint::{CheckpointArgs, Checkpoints};
use auria_steps_common::cli::{Output, Usage, print};
use auria_steps_common::gate::{
    self, Baseline, Better, Choice, Current, Learning, Question, Record,
};
use auria_steps_common::metrics::Metrics;
use auria_steps_common::{card, files, weights as tensors};
use clap::Args;
use tch::Device;

use crate::budget::Budget;
use crate::data::{self, Data, Part};
use crate::evaluate::{self, BASELINE, RECONSTRUCTION, UNTRAINED};
use crate::model::Config;
use crate::train::{self, Request, Trained};
use crate::weights;

/// Training must at least halve the held-out error of the untrained network.
const LEARNED: f64 = 0.5;

/// Arguments of `prepare`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  auria-style prepare --seed 1 --budget small --out data
  auria-style prepare --seed 1 --budget full --images ~/photos --out data")]
pub struct PrepareArgs {
    /// Seed of the painted pictures
    #[arg(long, value_name = "N")]
    seed: u64,
    /// How much to paint
    #[arg(long, value_enum)]
    budget: Budget,
    /// Folder of pictures of your own to train on as well (PNG, JPEG)
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Where the prepared data goes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl PrepareArgs {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let images = self.images.as_deref().filter(|p| !p.as_os_str().is_empty());
        let data = data::prepare(self.seed, self.budget, images, &self.out, &mut |line| {
            eprintln!("{line}")
        })?;
        print(output, &data, || {
            format!(
                "{} pictures to train on, {} held out; digest {}",
                data.train, data.held_out, data.digest
            )
        });
        Ok(())
    }
}

/// The sizes of network that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Width {
    /// 16, 32, 64 and 128 channels: the weights that ship
    Small,
    /// VGG-19 to conv4_1, as published: 64, 128, 256 and 512 channels
    Published,
    /// 8 and 12 channels, for tests
    Tiny,
}

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  auria-style train --data data --budget small --seed 1 --out weights
  AURIA_CHECKPOINTS=ckpt auria-style train --data data --budget full --seed 1 --out weights")]
pub struct TrainArgs {
    /// Folder that `prepare` made
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// How long to train
    #[arg(long, value_enum)]
    budget: Budget,
    /// Seed of the first parameters and of the crops
    #[arg(long, value_name = "N")]
    seed: u64,
    /// Where the weights go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// End after so many minutes at the latest; the result then depends on the
    /// speed of the machine
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Width of the network
    #[arg(long, value_enum, default_value = "small")]
    width: Width,
    #[command(flatten)]
    checkpoints: CheckpointArgs,
}

impl TrainArgs {
    pub(super) fn run(self, device: Device, output: Output) -> Result<()> {
        if self.minutes.is_some_and(|m| !(m.is_finite() && m > 0.0)) {
            bail!(Usage("--minutes must be a number above 0".to_owned()));
        }
        let config = match self.width {
            Width::Small => Config::small(),
            Width::Published => Config::published(),
            Width::Tiny => Config::tiny(),
        };
        let mut checkpoints = Checkpoints::open(&self.checkpoints)?;
        let mut metrics = Metrics::from_env()?;
        let request = Request {
            folder: &self.data,
            sizes: self.budget.sizes(),
            seed: self.seed,
            config,
            minutes: self.minutes,
            device,
        };
        let trained = train::train(&request, &mut checkpoints, &mut metrics)?;
        weights::write(&self.out, &trained.network)?;
        // Measured as it was stored, in half precision.
        let network = weights::read(&self.out, device)?;
        let held_out = data::pictures(&self.data, Part::HeldOut)?;
        let measured = evaluate::evaluate(
            &network,
            &held_out,
            self.budget.sizes().pairs,
            &trained.data.digest,
        )?;
        metrics.log(
            "held_out/reconstruction_error",
            measured.reconstruction_error,
            trained.steps,
        )?;
        metrics.log("held_out/edge_ssim", measured.edge_ssim, trained.steps)?;
        let card = self.card(
            &trained,
            network.parameters(),
            weights::bytes(&self.out)?,
            device,
            &measured,
        );
        card.write(&self.out)?;
        print(output, &card, || {
            format!(
                "{}\nuntrained             {:.3}",
                measured.text(),
                trained.untrained
            )
        });
        Ok(())
    }

    fn card(
        &self,
        trained: &Trained,
        parameters: &tensors::Tensors,
        bytes: u64,
        device: Device,
        measured: &evaluate::Evaluation,
    ) -> Card {
        let config = trained.network.config();
        let minutes = self
            .minutes
            .map(|m| format!(" --minutes {m}"))
            .unwrap_or_default();
        Card {
            name: "auria-style".to_owned(),
            summary: "Gives a picture the colours of an artwork and leaves its structure."
                .to_owned(),
            architecture: format!(
                "wavelet autoencoder of WCT² (Yoo et al., ICCV 2019): widths {:?}, convolutions {:?}, {:?} unpooling; trained from nothing",
                config.widths, config.convolutions, config.unpool
            ),
            size: Size {
                parameters: tensors::count(parameters),
                bytes,
            },
            data: describe(&trained.data),
            training: Training {
                command: format!(
                    "auria-style train --data DATA --budget {} --seed {}{minutes} --out WEIGHTS",
                    self.budget.name(),
                    self.seed
                ),
                budget: self.budget.name().to_owned(),
                seed: self.seed,
                steps: trained.steps,
                minutes: trained.minutes,
                device: evaluate::device_name(device),
            },
            measures: measured.measures(trained.untrained),
            works: Vec::new(),
            limits: vec![
                "It carries colours and their contrasts over, not brush strokes or shapes."
                    .to_owned(),
                "It knows no objects: a sky may take the colours of a field.".to_owned(),
            ],
            licence: "Apache-2.0".to_owned(),
        }
    }
}

fn describe(data: &Data) -> card::Data {
    let own = data.train + data.held_out - data.painted;
    let painted = format!(
        "{} pictures painted by the project's own painter: `auria-style prepare --seed {} --budget {}`",
        data.painted,
        data.seed,
        data.budget.name()
    );
    let (description, licence) = match own {
        0 => (painted + ".", "Apache-2.0, made by the project".to_owned()),
        n => (
            format!(
                "{painted} with `--images`, which added {n} crops of pictures of the user's own."
            ),
            "Apache-2.0 for what was painted; the user's pictures are the user's".to_owned(),
        ),
    };
    card::Data {
        description,
        licence,
        corpus_digest: data.digest.clone(),
        train_items: data.train,
        held_out_items: data.held_out,
    }
}

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  auria-style evaluate --weights weights --data data --out evaluation.json")]
pub struct EvaluateArgs {
    /// Folder of weights
    #[arg(long, value_name = "DIR")]
    weights: PathBuf,
    /// Folder that `prepare` made
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl EvaluateArgs {
    pub(super) fn run(self, device: Device, output: Output) -> Result<()> {
        let network = weights::read(&self.weights, device)?;
        let data = data::read(&self.data)?;
        let held_out = data::pictures(&self.data, Part::HeldOut)?;
        let measured =
            evaluate::evaluate(&network, &held_out, data.budget.sizes().pairs, &data.digest)?;
        files::write_json(&self.out, &measured)?;
        print(output, &measured, || measured.text());
        Ok(())
    }
}

/// Arguments of `gate`.
#[derive(Debug, Args)]
#[command(after_help = "\
New weights are taken where they are not worse than the current ones on the same
held-out pictures, or than a stated baseline where there are none. Current weights
that were measured on other data are kept. Training must have at least halved the
error of the untrained network; else the gate fails.

Example:
  auria-style gate --candidate weights --current steps/style/weights --data data --out taken")]
pub struct GateArgs {
    /// Folder of the new weights
    #[arg(long, value_name = "DIR")]
    candidate: PathBuf,
    /// Folder that `prepare` made
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder of the weights that stand; an empty one: there are none
    #[arg(long, value_name = "DIR")]
    current: Option<PathBuf>,
    /// Where the weights that go on are copied, with gate.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl GateArgs {
    pub(super) fn run(self, device: Device, output: Output) -> Result<()> {
        let data = data::read(&self.data)?;
        let held_out = data::pictures(&self.data, Part::HeldOut)?;
        let error = |folder: &Path| -> Result<f64> {
            Ok(evaluate::reconstruction_error(
                &weights::read(folder, device)?,
                &held_out,
            ))
        };
        let card = Card::read(&self.candidate).context("reading the card of the candidate")?;
        let untrained = card
            .measure(UNTRAINED)
            .context("the candidate's card does not say what training began with")?;
        let current = match gate::standing(self.current.as_deref()) {
            None => None,
            Some(folder) => {
                let corpus_digest = Card::read(folder)
                    .context("reading the card of the current weights")?
                    .data
                    .corpus_digest;
                let same = corpus_digest == data.digest;
                let value = same.then(|| error(folder)).transpose()?;
                Some(Current {
                    corpus_digest,
                    value,
                })
            }
        };
        let question = Question {
            measure: format!("held-out {RECONSTRUCTION}"),
            better: Better::Lower,
            corpus_digest: data.digest.clone(),
            candidate: error(&self.candidate)?,
            learning: Some(Learning {
                untrained: untrained.value,
                margin: untrained.value * LEARNED,
            }),
            current,
            baseline: Baseline {
                name: BASELINE.to_owned(),
                value: evaluate::baseline_error(&held_out),
            },
            tolerance: 0.0,
        };
        let record = Record {
            decision: gate::decide(&question),
            question,
        };
        match (record.decision.choice, &self.current) {
            (Choice::Candidate, _) => files::copy_dir(&self.candidate, &self.out)?,
            (Choice::Current, Some(current)) => files::copy_dir(current, &self.out)?,
            (Choice::Current, None) | (Choice::Neither, _) => {}
        }
        files::write_json(&self.out.join("gate.json"), &record)?;
        print(output, &record, || record.decision.reason.clone());
        if !record.decision.passed {
            bail!("no weights passed the gate: {}", record.decision.reason);
        }
        Ok(())
    }
}
