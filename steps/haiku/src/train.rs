//! Trains the network. Every step is decided by seed, step number and the state of the
//! last one, so that a training that was stopped and resumed ends with the same weights.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use auria_steps_common::checkpoint::{Checkpoint, Checkpoints};
use auria_steps_common::device::reseed;
use auria_steps_common::metrics::Metrics;
use auria_steps_common::optim::{Adam, Sgd};
use auria_steps_common::weights::Tensors;
use auria_steps_common::{Error, digest};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::config::{Config, Optimiser, Training};
use crate::data::{Data, Record};
use crate::loss;
use crate::model::{Model, State};
use crate::stream::{Position, Stage, Stream};
use crate::vocab::{Encoded, UNKNOWN_WORD, Vocab};

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

enum Optim {
    Adam(Adam),
    Sgd(Sgd),
}

/// A training.
pub struct Trainer<'a> {
    config: &'a Config,
    seed: u64,
    model: Model,
    optim: Optim,
    state: Option<State>,
    average: Tensors,
    stream: Stream<'a>,
    valid: &'a [Encoded],
    step: u64,
    progress: Progress,
    fingerprint: String,
}

/// The vocabulary and the settings that data and budget give.
pub fn vocabulary(data: &Data, config: &Config) -> (Vocab, Config) {
    let records = data.train.iter().chain(&data.verse);
    let vocab = Vocab::build(
        records,
        &data.names,
        config.model.vocab as usize,
        config.training.at_least,
    );
    let mut config = config.clone();
    config.model.vocab = vocab.len() as i64;
    (vocab, config)
}

/// Numbers of all records of a part of the data.
pub fn encode(records: &[Record], vocab: &Vocab) -> Vec<Encoded> {
    records.iter().map(|r| vocab.encode(r)).collect()
}

/// Numbers of the poems and the verse to train on. Of the words that were seen once, every
/// second is written as unknown: else a model of a small corpus would never meet one, and
/// would be lost at the first held-out word that is new.
pub fn encode_training(data: &Data, vocab: &Vocab) -> (Vec<Encoded>, Vec<Encoded>) {
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for word in data.train.iter().chain(&data.verse).flat_map(|r| r.words()) {
        *counts.entry(word).or_default() += 1;
    }
    let mut rare = 0u64;
    let mut encode = |record: &Record| {
        let mut record = record.clone();
        for token in record.lines.iter_mut().flatten() {
            if counts.get(token.as_str()) == Some(&1) {
                rare += 1;
                if rare.is_multiple_of(2) {
                    *token = UNKNOWN_WORD.to_owned();
                }
            }
        }
        vocab.encode(&record)
    };
    let poems = data.train.iter().map(&mut encode).collect();
    (poems, data.verse.iter().map(&mut encode).collect())
}

impl<'a> Trainer<'a> {
    /// A training at its beginning.
    pub fn new(
        config: &'a Config,
        train: &'a [Encoded],
        verse: &'a [Encoded],
        valid: &'a [Encoded],
        (seed, device): (u64, Device),
        corpus_digest: &str,
    ) -> Self {
        let model = untrained(config, train.iter().chain(verse), seed, device);
        let training = &config.training;
        let optim = match training.optimiser {
            Optimiser::Adam => {
                let mut adam = Adam::new(&model.tensors(), training.lr, (0.9, 0.99));
                adam.weight_decay = training.weight_decay;
                Optim::Adam(adam)
            }
            Optimiser::NtAsgd => Optim::Sgd(Sgd::new(
                &model.tensors(),
                training.lr,
                training.weight_decay,
            )),
        };
        let stage = stage(training, 0);
        let position = Position {
            stage,
            epoch: 0,
            row: 0,
        };
        let settings = serde_json::to_string(config).unwrap_or_default();
        let fingerprint = digest::bytes(format!("{corpus_digest} {seed} {settings}").as_bytes());
        Self {
            config,
            seed,
            model,
            optim,
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
        }
    }

    /// Goes on from the newest checkpoint, where there is one. Returns its step.
    pub fn resume(
        &mut self,
        checkpoints: &Checkpoints,
        (train, verse): (&'a [Encoded], &'a [Encoded]),
        folder: &Path,
    ) -> Result<Option<u64>, Error> {
        let device = self.model.device();
        let Some(found) = checkpoints.resume(&self.fingerprint, device)? else {
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
        if let Optim::Adam(adam) = &mut self.optim
            && !adam.restore("adam", &found.tensors)
        {
            return Err(wrong("lacks the optimiser's state"));
        }
        self.state = State::restore(&found.tensors, self.config.model.layers);
        self.step = found.step;
        let at = self.progress.position;
        self.stream = Stream::new(train, verse, &self.config.training, self.seed, device, at);
        Ok(Some(self.step))
    }

    /// Trains to the end, or to a limit. Returns none where it stopped before its end.
    pub fn run(
        &mut self,
        checkpoints: &mut Checkpoints,
        metrics: &mut Metrics,
        limits: Limits,
    ) -> Result<Option<Summary>, Error> {
        let training = &self.config.training;
        let started = Instant::now();
        let before = self.progress.seconds;
        let mut shown = Instant::now();
        while self.step < training.steps {
            if limits.time.is_some_and(|limit| started.elapsed() >= limit) {
                break;
            }
            if limits.stop_at == Some(self.step) {
                checkpoints.publish(&self.checkpoint())?;
                return Ok(None);
            }
            let loss = self.train_step();
            self.progress.seconds = before + started.elapsed().as_secs_f64();
            if self.step.is_multiple_of(20) {
                metrics.log("train/loss", loss.double_value(&[]), self.step)?;
            }
            if self.step.is_multiple_of(training.validate_every) || self.step == training.steps {
                self.validate(metrics)?;
            } else if shown.elapsed() > Duration::from_secs(10) {
                shown = Instant::now();
                self.show("loss", loss.double_value(&[]));
            }
            if checkpoints.due() {
                checkpoints.publish(&self.checkpoint())?;
            }
        }
        let valid = self.settle(metrics)?;
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
        let speed = self.progress.tokens as f64 / self.progress.seconds.max(1e-9);
        eprintln!(
            "step {}/{}  {what} {value:.4}  {speed:.0} tokens/s",
            self.step, self.config.training.steps
        );
    }

    fn train_step(&mut self) -> Tensor {
        let training = &self.config.training;
        reseed(self.seed, self.step);
        let batch = self.stream.next(stage(training, self.step), self.step);
        let size = batch.input.size();
        let state = match self.state.take() {
            Some(state) if !batch.fresh => state,
            _ => self.model.zero_state(size[1]),
        };
        // As published: the learning rate follows the length of the sequence.
        let lr = rate(training, self.step) * size[0] as f64 / training.bptt as f64;
        let output = self.model.forward(&batch.input, &state, true);
        let (cross, all) = self.model.loss(&output, &batch.target);
        match &mut self.optim {
            Optim::Adam(adam) => {
                adam.lr = lr;
                adam.zero_grad();
                all.backward();
                adam.clip_grad_norm(training.clip);
                adam.step();
            }
            Optim::Sgd(sgd) => {
                sgd.lr = lr;
                sgd.zero_grad();
                all.backward();
                sgd.clip_grad_norm(training.clip);
                sgd.step();
            }
        }
        self.state = Some(output.state.detach());
        self.step += 1;
        self.progress.position = self.stream.position();
        self.progress.tokens += (size[0] * size[1]) as u64;
        self.update_average();
        cross
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
        let value = self.valid_loss();
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

    fn valid_loss(&self) -> f64 {
        loss::of_model(self.valid.iter(), &self.model).per_token()
    }

    /// Takes the averaged weights where they are better, and returns the loss.
    fn settle(&mut self, metrics: &mut Metrics) -> Result<f64, Error> {
        let last = self.valid_loss();
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
        let averaged = loss::of_model(self.valid.iter(), &self.model).per_token();
        metrics.log("valid/loss_averaged", averaged, self.step)?;
        if averaged > last {
            set(&self.model, &own);
        }
        Ok(averaged.min(last))
    }

    fn checkpoint(&self) -> Checkpoint {
        let mut tensors = Tensors::new();
        for (name, tensor) in self.model.tensors() {
            tensors.insert(format!("model.{name}"), tensor);
        }
        for (name, tensor) in &self.average {
            tensors.insert(format!("average.{name}"), tensor.shallow_clone());
        }
        if let Optim::Adam(adam) = &self.optim {
            tensors.extend(adam.state("adam"));
        }
        if let Some(state) = &self.state {
            tensors.extend(state.tensors());
        }
        Checkpoint {
            step: self.step,
            seed: self.seed,
            fingerprint: self.fingerprint.clone(),
            state: serde_json::to_value(&self.progress).unwrap_or_default(),
            tensors,
        }
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
    model.set_bias(&frequencies(records, config.model.vocab));
    model
}

/// The logarithm of each token's share, smoothed by one.
fn frequencies<'r>(records: impl Iterator<Item = &'r Encoded>, vocab: i64) -> Vec<f32> {
    let mut counts = vec![1f32; vocab as usize];
    for &token in records.flat_map(|r| &r.numbers[1..]) {
        counts[token as usize] += 1.0;
    }
    let total: f32 = counts.iter().sum();
    counts.iter().map(|count| (count / total).ln()).collect()
}

/// Gives a network other weights of its own shapes.
fn set(model: &Model, weights: &Tensors) {
    for (name, mut variable) in model.tensors() {
        if let Some(value) = weights.get(&name) {
            tch::no_grad(|| variable.copy_(value));
        }
    }
}

fn stage(training: &Training, step: u64) -> Stage {
    if step < training.pretrain_steps {
        Stage::Pretrain
    } else {
        Stage::Tune
    }
}

/// The learning rate of a step. Adam's rises for a moment and falls in a cosine to a
/// twentieth, anew for tuning; SGD's stays.
fn rate(training: &Training, step: u64) -> f64 {
    if training.optimiser == Optimiser::NtAsgd {
        return training.lr;
    }
    let (top, done, all) = match stage(training, step) {
        Stage::Pretrain => (training.lr, step, training.pretrain_steps),
        Stage::Tune => {
            let before = training.pretrain_steps;
            (training.tune_lr, step - before, training.steps - before)
        }
    };
    let warm = (all / 20).clamp(1, 100);
    let rise = (done + 1).min(warm) as f64 / warm as f64;
    let fall = (std::f64::consts::PI * done as f64 / all.max(1) as f64).cos() / 2.0 + 0.5;
    top * rise * (0.05 + 0.95 * fall)
}
