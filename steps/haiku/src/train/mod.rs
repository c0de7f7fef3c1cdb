//! Trains the network. Every step is decided by seed, step number and the state of the
//! last one, so that a training that was stopped and resumed ends with the same weights.
//! Several processes may carry it out together: each step's batch is shared by its
//! sequences, and what they end with is what one process would, but for rounding.

mod optim;
mod rate;
mod records;
mod together;

use std::path::Path;
use std::time::{Duration, Instant};

use auria_steps_common::checkpoint::{Checkpoint, Checkpoints};
use auria_steps_common::device::reseed;
use auria_steps_common::distributed::{self, Group, Share};
use auria_steps_common::metrics::Metrics;
use auria_steps_common::weights::Tensors;
use auria_steps_common::{Error, digest, termination};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::config::Config;
use crate::loss;
use crate::model::{Model, State};
use crate::stream::{Position, Stream};
use crate::vocab::Encoded;
use optim::Optim;
use rate::{rate, stage};
pub use records::{encode, encode_training, vocabulary};
use together::{Together, Word};

/// What a training ended with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Steps done.
    pub steps: u64,
    /// Loss on the validation records, nats per token.
    pub valid: f64,
    /// Minutes of all attempts together.
    pub minutes: f64,
    /// Tokens trained on in a second, over all attempts.
    pub tokens_per_second: f64,
    /// From which step on weights were averaged.
    pub averaged_from: Option<u64>,
}

/// How a run of the trainer ends early.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// After so much time of this attempt the training is done.
    pub time: Option<Duration>,
    /// Stop before this step as if killed, after a checkpoint; for tests of resuming.
    pub stop_at: Option<u64>,
}

/// The part of the state that is no tensor.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Progress {
    position: Position,
    losses: Vec<f64>,
    averaged_from: Option<u64>,
    seconds: f64,
    tokens: u64,
}

/// A training.
pub struct Trainer<'a> {
    config: &'a Config,
    seed: u64,
    model: Model,
    optim: Optim,
    together: Together,
    /// Of this process's share of the sequences.
    state: Option<State>,
    average: Tensors,
    stream: Stream<'a>,
    valid: &'a [Encoded],
    step: u64,
    progress: Progress,
    fingerprint: String,
}

impl<'a> Trainer<'a> {
    /// A training at its beginning, by this process alone.
    pub fn new(
        config: &'a Config,
        train: &'a [Encoded],
        verse: &'a [Encoded],
        valid: &'a [Encoded],
        seed: (u64, Device),
        corpus_digest: &str,
    ) -> Self {
        let alone = Group::alone();
        Self::in_group(alone, config, (train, verse), valid, seed, corpus_digest)
            .unwrap_or_else(|never| unreachable!("nobody else can be lost: {never}"))
    }

    /// A training at its beginning, by all members of a group.
    ///
    /// # Errors
    /// A member that trains something else, or that is lost.
    pub fn in_group(
        group: Group,
        config: &'a Config,
        (train, verse): (&'a [Encoded], &'a [Encoded]),
        valid: &'a [Encoded],
        (seed, device): (u64, Device),
        corpus_digest: &str,
    ) -> Result<Self, Error> {
        let model = untrained(config, train.iter().chain(verse), seed, device);
        let training = &config.training;
        let stage = stage(training, 0);
        let position = Position {
            stage,
            epoch: 0,
            row: 0,
        };
        let settings = serde_json::to_string(config).unwrap_or_default();
        let fingerprint = digest::bytes(format!("{corpus_digest} {seed} {settings}").as_bytes());
        let together = Together::new(group, &model, &fingerprint)?;
        Ok(Self {
            config,
            seed,
            optim: Optim::new(training, &model),
            model,
            together,
            state: None,
            average: Tensors::new(),
            stream: Stream::new(train, verse, training, seed, device, position),
            valid,
            step: 0,
            progress: Progress {
                position,
                losses: Vec::new(),
                averaged_from: None,
                seconds: 0.0,
                tokens: 0,
            },
            fingerprint,
        })
    }

    /// Goes on from the newest checkpoint, where there is one. Returns its step. Of a group,
    /// rank 0 reads it.
    pub fn resume(
        &mut self,
        checkpoints: &Checkpoints,
        (train, verse): (&'a [Encoded], &'a [Encoded]),
        folder: &Path,
    ) -> Result<Option<u64>, Error> {
        let device = self.model.device();
        let group = self.together.group();
        let Some(found) = distributed::resume(group, checkpoints, &self.fingerprint, device)?
        else {
            return Ok(None);
        };
        let wrong = |what: &str| Error::content(folder, format!("a checkpoint there {what}"));
        self.progress = serde_json::from_value(found.state).map_err(Error::json(folder))?;
        for (name, mut variable) in self.model.tensors() {
            let saved = found.tensors.get(&format!("model.{name}"));
            let saved = saved.ok_or_else(|| wrong("lacks weights"))?;
            tch::no_grad(|| variable.copy_(saved));
            if self.progress.averaged_from.is_some() {
                let mean = found.tensors.get(&format!("average.{name}"));
                let mean = mean.ok_or_else(|| wrong("lacks the averaged weights"))?;
                self.average.insert(name, mean.shallow_clone());
            }
        }
        if !self.optim.restore(&found.tensors) {
            return Err(wrong("lacks the optimiser's state"));
        }
        self.state = State::restore(&found.tensors, self.config.model.layers)
            .map(|whole| self.together.part_of(&whole))
            .transpose()?;
        self.step = found.step;
        let at = self.progress.position;
        self.stream = Stream::new(train, verse, &self.config.training, self.seed, device, at);
        Ok(Some(self.step))
    }

    /// Trains to the end, or to a limit. Returns none where it stopped before its end; told
    /// to stop by SIGTERM it is an error, after a checkpoint.
    pub fn run(
        &mut self,
        checkpoints: &mut Checkpoints,
        metrics: &mut Metrics,
        limits: Limits,
    ) -> Result<Option<Summary>, Error> {
        let training = &self.config.training;
        let started = Instant::now();
        let before = self.progress.seconds;
        let is_over = || limits.time.is_some_and(|limit| started.elapsed() >= limit);
        let mut shown = Instant::now();
        let mut over = self.together.begins(is_over())?;
        while self.step < training.steps && !over {
            if limits.stop_at == Some(self.step) {
                self.publish(checkpoints)?;
                return Ok(None);
            }
            let (loss, share) = self.train_step()?;
            self.progress.seconds = before + started.elapsed().as_secs_f64();
            let word = Word {
                loss,
                over: is_over(),
                due: checkpoints.due(),
                terminated: termination::is_asked(),
            };
            let word = self.together.agree(word, share)?;
            over = word.over;
            if self.step.is_multiple_of(20) {
                metrics.log("train/loss", word.loss.double_value(&[]), self.step)?;
            }
            if self.step.is_multiple_of(training.validate_every) || self.step == training.steps {
                self.validate(metrics)?;
            } else if shown.elapsed() > Duration::from_secs(10) {
                shown = Instant::now();
                self.show("loss", word.loss.double_value(&[]));
            }
            // What is nearly done is rather ended than left.
            let terminated = word.terminated && self.step < training.steps;
            if word.due || terminated {
                self.publish(checkpoints)?;
            }
            if terminated {
                return Err(Error::Terminated {
                    step: self.step,
                    saved: checkpoints.are_kept(),
                });
            }
        }
        let valid = self.settle(metrics)?;
        self.together.ends()?;
        Ok(Some(Summary {
            steps: self.step,
            valid,
            minutes: self.progress.seconds / 60.0,
            tokens_per_second: self.progress.tokens as f64 / self.progress.seconds.max(1e-9),
            averaged_from: self.progress.averaged_from,
        }))
    }

    /// The trained network.
    pub fn into_model(self) -> Model {
        self.model
    }

    fn show(&self, what: &str, value: f64) {
        if !self.together.group().is_first() {
            return;
        }
        let speed = self.progress.tokens as f64 / self.progress.seconds.max(1e-9);
        eprintln!(
            "step {}/{}  {what} {value:.4}  {speed:.0} tokens/s",
            self.step, self.config.training.steps
        );
    }

    /// One step. Returns the loss of this process's share of the batch, and the share.
    fn train_step(&mut self) -> Result<(Tensor, Share), Error> {
        let training = &self.config.training;
        reseed(self.seed, self.step);
        let batch = self.stream.next(stage(training, self.step), self.step);
        let size = batch.input.size();
        let share = self.together.group().share(size[1])?;
        let state = match self.state.take() {
            Some(state) if !batch.fresh => state,
            _ => self.model.zero_state(share.count),
        };
        let own = |whole: &Tensor| whole.narrow(1, share.first, share.count);
        // As published: the learning rate follows the length of the sequence.
        let lr = rate(training, self.step) * size[0] as f64 / training.bptt as f64;
        let reducer = self.together.reducer();
        reducer.begin()?;
        let output = self.model.forward(&own(&batch.input), &state, Some(share));
        let (cross, all) = self.model.loss(&output, &own(&batch.target));
        self.optim.zero_grad();
        reducer.backward(&all, share)?;
        self.optim.step(lr, training.clip);
        self.state = Some(output.state.detach());
        self.step += 1;
        self.progress.position = self.stream.position();
        self.progress.tokens += (size[0] * size[1]) as u64;
        self.update_average();
        Ok((cross, share))
    }

    /// The mean of the weights of all steps since averaging began.
    fn update_average(&mut self) {
        let Some(from) = self.progress.averaged_from else {
            return;
        };
        let weight = 1.0 / (self.step - from + 1) as f64;
        tch::no_grad(|| {
            for (name, variable) in self.model.tensors() {
                if let Some(mean) = self.average.get_mut(&name) {
                    let _ = mean.lerp_(&variable, weight);
                }
            }
        });
    }

    /// Looks at the validation records, and begins to average when the loss is no better
    /// than the best of all looks but the last `nonmono`.
    fn validate(&mut self, metrics: &mut Metrics) -> Result<(), Error> {
        let value = self.valid_loss()?;
        metrics.log("valid/loss", value, self.step)?;
        self.show("valid", value);
        let losses = &mut self.progress.losses;
        let nonmono = self.config.training.nonmono;
        let tuned = self.step > self.config.training.pretrain_steps;
        if tuned && self.progress.averaged_from.is_none() && losses.len() > nonmono {
            let earlier = losses[..losses.len() - nonmono].iter().copied();
            if value > earlier.fold(f64::INFINITY, f64::min) {
                self.progress.averaged_from = Some(self.step);
                self.average = self
                    .model
                    .tensors()
                    .into_iter()
                    .map(|(k, v)| (k, v.detach().copy()))
                    .collect();
            }
        }
        losses.push(value);
        Ok(())
    }

    fn valid_loss(&self) -> Result<f64, Error> {
        let group = self.together.group();
        Ok(loss::of_model_together(self.valid.iter(), &self.model, group)?.per_token())
    }

    /// Takes the averaged weights where they are better, and returns the loss.
    fn settle(&mut self, metrics: &mut Metrics) -> Result<f64, Error> {
        let last = self.valid_loss()?;
        if self.average.is_empty() {
            return Ok(last);
        }
        let own: Tensors = self
            .model
            .tensors()
            .into_iter()
            .map(|(k, v)| (k, v.detach().copy()))
            .collect();
        set(&self.model, &self.average);
        let averaged = self.valid_loss()?;
        metrics.log("valid/loss_averaged", averaged, self.step)?;
        if averaged > last {
            set(&self.model, &own);
        }
        Ok(averaged.min(last))
    }

    /// Writes a checkpoint; of a group, rank 0 writes what all have.
    fn publish(&self, checkpoints: &mut Checkpoints) -> Result<(), Error> {
        let state = match &self.state {
            None => Tensors::new(),
            Some(own) => self.together.whole_of(own, self.stream.batch())?.tensors(),
        };
        if !self.together.group().is_first() {
            return Ok(());
        }
        let mut tensors = state;
        for (name, tensor) in self.model.tensors() {
            tensors.insert(format!("model.{name}"), tensor);
        }
        for (name, tensor) in &self.average {
            tensors.insert(format!("average.{name}"), tensor.shallow_clone());
        }
        tensors.extend(self.optim.state());
        checkpoints.publish(&Checkpoint {
            step: self.step,
            seed: self.seed,
            fingerprint: self.fingerprint.clone(),
            state: serde_json::to_value(&self.progress).unwrap_or_default(),
            tensors,
        })
    }
}

/// The network before its first step: random weights, and an output bias that knows how
/// frequent each token is, so that no step is spent on learning that.
pub fn untrained<'r>(
    config: &Config,
    records: impl Iterator<Item = &'r Encoded>,
    seed: u64,
    device: Device,
) -> Model {
    let mut model = Model::new(&config.model, seed, device);
    model.set_bias(&records::frequencies(records, config.model.vocab));
    model
}

/// Gives a network other weights of its own shapes.
fn set(model: &Model, weights: &Tensors) {
    for (name, mut variable) in model.tensors() {
        if let Some(value) = weights.get(&name) {
            tch::no_grad(|| variable.copy_(value));
        }
    }
}
