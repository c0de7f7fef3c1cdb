//! Training: first the DAMSM, then the generator against its discriminators.
//!
//! A step depends on seed, step number and the variables alone, so that a training
//! which goes on from a checkpoint equals one that was never interrupted.

mod damsm;
mod gan;
mod naming;
mod plan;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Instant;

use anyhow::bail;
use auria_steps_common::card::{self, Card, Measure};
use auria_steps_common::checkpoint::{Checkpoint, CheckpointArgs, Checkpoints};
use auria_steps_common::metrics::Metrics;
use auria_steps_common::optim::Adam;
use auria_steps_common::weights::{self, Tensors};
use auria_steps_common::{device, digest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use naming::Naming;
pub use plan::Plan;

use crate::artist::{Artist, WEIGHTS};
use crate::data::{Budget, Data, Gallery};
use crate::evaluate;
use crate::model::Config;
use crate::model::discriminator::Discriminator;
use crate::vocabulary::Vocabulary;

/// What is to be trained, and how long.
#[derive(Debug)]
pub struct Request<'a> {
    /// The data set.
    pub data: &'a Data,
    /// Sizes, where they are not those of the budget.
    pub config: Option<Config>,
    /// The steps and rates.
    pub plan: Plan,
    /// The budget's name, for the card.
    pub budget: Budget,
    /// Seed of weights, order and noise.
    pub seed: u64,
    /// Wall-clock limit in minutes, over all attempts.
    pub minutes: Option<f64>,
    /// Where to compute.
    pub device: Device,
}

/// Where a training stands; with the tensors, all that a checkpoint holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Steps of the DAMSM that are done.
    damsm: u64,
    /// Whether its part is over.
    matched: bool,
    /// Steps of the generator that are done.
    gan: u64,
    /// Seconds over all attempts.
    seconds: f64,
}

/// A training under way.
struct Training<'a> {
    request: &'a Request<'a>,
    artist: Artist,
    critics: VarStore,
    naming: Naming,
    discriminators: Vec<Discriminator>,
    matcher: Adam,
    reader: Adam,
    painter: Adam,
    judge: Adam,
    /// Running averages of the generator's variables, which are what is shipped.
    averages: Tensors,
    gallery: Gallery<'a>,
    progress: Progress,
    before: f64,
    started: Instant,
}

/// Trains and writes weights, configuration, vocabulary and card to `out`.
pub fn run(
    request: &Request<'_>,
    checkpoints: &CheckpointArgs,
    metrics: &mut Metrics,
    out: &Path,
) -> anyhow::Result<Card> {
    let mut checkpoints = Checkpoints::open(checkpoints)?;
    let mut training = Training::new(request);
    let fingerprint = training.fingerprint();
    if let Some(found) = checkpoints.resume(&fingerprint, request.device)? {
        training.restore(&found)?;
        eprintln!(
            "resumed at step {} ({:.1} minutes done)",
            found.step,
            training.progress.seconds / 60.0
        );
    }
    while let Some(losses) = training.step() {
        training.progress.seconds = training.seconds();
        let step = training.progress.damsm + training.progress.gan;
        if training.progress.gan == 0 || step.is_multiple_of(request.plan.report) || training.done()
        {
            training.report(&losses, step, metrics)?;
        }
        if losses.iter().any(|(_, value)| !value.is_finite()) {
            bail!("the training diverged at step {step}: {losses:?}; another --seed may help");
        }
        if checkpoints.due() {
            checkpoints.publish(&training.checkpoint(&fingerprint))?;
        }
    }
    checkpoints.publish(&training.checkpoint(&fingerprint))?;
    training.finish(metrics, out)
}

/// The losses of one step by name.
type Losses = Vec<(&'static str, f64)>;

impl<'a> Training<'a> {
    fn new(request: &'a Request<'a>) -> Self {
        let data = request.data;
        let words = data
            .train
            .iter()
            .flat_map(|scene| scene.captions.iter().map(String::as_str));
        let vocabulary = Vocabulary::of(words);
        let mut config = request
            .config
            .clone()
            .unwrap_or_else(|| match request.budget {
                Budget::Smoke => Config::tiny(0),
                Budget::Small | Budget::Full => Config::small(0),
            });
        config.vocabulary = vocabulary.size();
        device::reseed(request.seed, 0);
        let artist = Artist::new(config, vocabulary, request.device);
        let critics = VarStore::new(request.device);
        let discriminators = (0..artist.config.stages)
            .map(|stage| Discriminator::new(&(critics.root() / stage), &artist.config, stage))
            .collect();
        let plan = &request.plan;
        let mut matching = artist.part("text");
        matching.extend(artist.part("image"));
        let naming = Naming::new(artist.config.shared, request.device);
        let mut reading = artist.part("text");
        for (name, value) in weights::of_store(&naming.store) {
            matching.insert(format!("naming.{name}"), value.shallow_clone());
            reading.insert(format!("naming.{name}"), value);
        }
        let generator = artist.part("generator");
        let averages = generator
            .iter()
            .map(|(name, value)| (name.clone(), value.detach().copy()))
            .collect();
        Self {
            request,
            matcher: Adam::new(&matching, plan.damsm_rate, (0.5, 0.999)),
            reader: Adam::new(&reading, plan.damsm_rate, (0.9, 0.999)),
            painter: Adam::new(&generator, plan.generator_rate, (0.5, 0.999)),
            judge: Adam::new(
                &weights::of_store(&critics),
                plan.discriminator_rate,
                (0.5, 0.999),
            ),
            averages,
            gallery: Gallery::new(&data.train, artist.config.last_side()),
            artist,
            critics,
            naming,
            discriminators,
            progress: Progress::default(),
            before: 0.0,
            started: Instant::now(),
        }
    }

    /// Tells trainings apart: data, sizes, plan and seed.
    fn fingerprint(&self) -> String {
        let request = self.request;
        let all = json!([
            request.data.summary.digest,
            self.artist.config,
            request.plan,
            request.seed,
            request.minutes
        ]);
        digest::bytes(all.to_string().as_bytes())
    }

    fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// The share of the time limit that is used up; 0 where there is none.
    fn time_used(&self) -> f64 {
        self.request.minutes.map_or(0.0, |minutes| {
            self.progress.seconds / (60.0 * minutes.max(1e-6))
        })
    }

    /// The share of the generator's training that is done, by steps or by time.
    fn painted_share(&self) -> f64 {
        let plan = &self.request.plan;
        let by_steps = self.progress.gan as f64 / plan.gan_steps.max(1) as f64;
        let by_time = (self.time_used() - plan.damsm_share) / (1.0 - plan.damsm_share);
        by_steps.max(by_time)
    }

    fn done(&self) -> bool {
        self.progress.matched && self.painted_share() >= 1.0
    }

    /// One step of whichever part is on; none when all is done.
    fn step(&mut self) -> Option<Losses> {
        let plan = &self.request.plan;
        if !self.progress.matched
            && (self.progress.damsm >= plan.damsm_steps || self.time_used() >= plan.damsm_share)
        {
            self.progress.matched = true;
        }
        if !self.progress.matched {
            let losses = self.damsm_step();
            self.progress.damsm += 1;
            return Some(losses);
        }
        if self.done() {
            return None;
        }
        let losses = self.gan_step();
        self.progress.gan += 1;
        Some(losses)
    }

    fn report(&self, losses: &Losses, step: u64, metrics: &mut Metrics) -> anyhow::Result<()> {
        let part = if self.progress.matched {
            "gan"
        } else {
            "damsm"
        };
        let mut line = String::new();
        for (name, value) in losses {
            metrics.log(&format!("{part}/{name}"), *value, step)?;
            line.push_str(&format!("  {name} {value:.3}"));
        }
        if step.is_multiple_of(self.request.plan.report) || self.done() {
            eprintln!(
                "{part} step {step} ({:.2} min){line}",
                self.progress.seconds / 60.0
            );
        }
        Ok(())
    }

    fn checkpoint(&self, fingerprint: &str) -> Checkpoint {
        let mut tensors = Tensors::new();
        let mut add = |prefix: &str, from: Tensors| {
            tensors.extend(
                from.into_iter()
                    .map(|(name, value)| (format!("{prefix}.{name}"), value)),
            );
        };
        add("artist", weights::of_store(&self.artist.store));
        add("critics", weights::of_store(&self.critics));
        add("naming", weights::of_store(&self.naming.store));
        add(
            "average",
            self.averages
                .iter()
                .map(|(name, value)| (name.clone(), value.shallow_clone()))
                .collect(),
        );
        tensors.extend(self.matcher.state("matcher"));
        tensors.extend(self.reader.state("reader"));
        tensors.extend(self.painter.state("painter"));
        tensors.extend(self.judge.state("judge"));
        Checkpoint {
            step: self.progress.damsm + self.progress.gan,
            seed: self.request.seed,
            fingerprint: fingerprint.to_owned(),
            state: json!(self.progress),
            tensors,
        }
    }

    fn restore(&mut self, found: &Checkpoint) -> anyhow::Result<()> {
        let part = |prefix: &str| -> Tensors {
            let own = found.tensors.iter().filter_map(|(name, value)| {
                Some((name.strip_prefix(prefix)?.to_owned(), value.shallow_clone()))
            });
            own.collect()
        };
        let place = Path::new("checkpoint");
        weights::load_store(place, &part("artist."), &mut self.artist.store)?;
        weights::load_store(place, &part("critics."), &mut self.critics)?;
        weights::load_store(place, &part("naming."), &mut self.naming.store)?;
        let averages = part("average.");
        let optimisers = self.matcher.restore("matcher", &found.tensors)
            && self.reader.restore("reader", &found.tensors)
            && self.painter.restore("painter", &found.tensors)
            && self.judge.restore("judge", &found.tensors);
        if !optimisers || averages.len() != self.averages.len() {
            bail!(
                "the checkpoint of step {} lacks a part of the training; name an empty folder",
                found.step
            );
        }
        self.averages = averages;
        self.progress = serde_json::from_value(found.state.clone())?;
        self.before = self.progress.seconds;
        self.started = Instant::now();
        Ok(())
    }

    /// Takes the averages for the generator, measures, and writes everything.
    fn finish(mut self, metrics: &mut Metrics, out: &Path) -> anyhow::Result<Card> {
        let mut all = weights::of_store(&self.artist.store);
        all.extend(
            self.averages
                .iter()
                .map(|(name, value)| (name.clone(), value.shallow_clone())),
        );
        weights::load_store(Path::new(WEIGHTS), &all, &mut self.artist.store)?;
        self.settle();
        self.artist
            .write(&weights::of_store(&self.artist.store), out)?;
        // What is measured is what was written: half precision included.
        let artist = Artist::read(out, self.request.device)?;
        let step = self.progress.damsm + self.progress.gan;
        let measures = match self.request.budget {
            Budget::Smoke => evaluate::Measured::quick(&artist, self.request.data).measures(),
            Budget::Small | Budget::Full => evaluate::Measured::all(&artist, self.request.data)
                .0
                .measures(),
        };
        for measure in &measures {
            metrics.log(&format!("held_out/{}", measure.name), measure.value, step)?;
        }
        let card = self.card(measures, &artist, out);
        card.write(out)?;
        Ok(card)
    }

    fn card(&self, measures: Vec<Measure>, artist: &Artist, out: &Path) -> Card {
        let (request, config) = (self.request, &artist.config);
        let summary = &request.data.summary;
        let minutes = request
            .minutes
            .map(|m| format!(" --minutes {m}"))
            .unwrap_or_default();
        let plan = &request.plan;
        let size = card::Size {
            parameters: weights::count(&weights::of_store(&artist.store)),
            bytes: std::fs::metadata(out.join(WEIGHTS)).map_or(0, |m| m.len()),
        };
        Card {
            name: "auria-paint".into(),
            summary: "Paints a landscape from a few words: words and noise become pictures of 64 and 128 pixels, \
                      which a brush renderer lays down as strokes on a large canvas."
                .into(),
            architecture: format!(
                "AttnGAN (Xu et al., CVPR 2018) at a small size: bidirectional LSTM text encoder and a convolutional \
                 image encoder with D = {}, noise {}, condition {}, Ng = {}, Nd = {}, {} residual block(s), pictures up to {} px. \
                 Beside the paper: the adversarial loss has weight {}, KL {}, DAMSM {}, and a reconstruction loss weight {}: \
                 the first {} numbers of the noise are the layout of the training picture, so that caption and noise \
                 together determine it. Text and image encoder are also asked to name what scenes show (weight {}). \
                 The generator has {:?} normalisation, and its up-samplings add planes over the \
                 picture that a code of width {} decides. What ships is a running average of the generator.",
                config.shared, config.noise, config.condition, config.generator, config.discriminator,
                config.residuals, config.last_side(), plan.adversarial, plan.divergence, plan.lambda,
                plan.reconstruction, crate::scene::LAYOUT, plan.naming, config.normalisation, config.placement
            ),
            size,
            data: card::Data {
                description: format!(
                    "Landscapes that the project paints itself from scene descriptions, with {} captions each \
                     (`auria-paint prepare --seed {} --budget {}`). Held out are combinations of season, time, weather \
                     and land that are absent from training.",
                    crate::caption::PER_SCENE, summary.seed, summary.budget.name()
                ),
                licence: "Apache-2.0, made by the project".into(),
                corpus_digest: summary.digest.clone(),
                train_items: summary.train_scenes as u64,
                held_out_items: summary.held_out_scenes as u64,
            },
            training: card::Training {
                command: format!("auria-paint train --data DATA --budget {} --seed {}{minutes} --out DIR", request.budget.name(), request.seed),
                budget: request.budget.name().into(),
                seed: request.seed,
                steps: self.progress.damsm + self.progress.gan,
                minutes: self.progress.seconds / 60.0,
                device: match request.device {
                    Device::Cpu => format!("cpu, {} threads", tch::get_num_threads()),
                    other => format!("{other:?}"),
                },
            },
            measures,
            works: Vec::new(),
            limits: vec![
                "It knows landscapes only, of the kinds that its data shows; other words fall back on a table or are left out.".into(),
                "English captions and poems.".into(),
            ],
            licence: "Apache-2.0".into(),
        }
    }
}

/// Captions of a batch, one of each scene's wordings; which one, the step decides.
fn captions<'a>(gallery: &Gallery<'a>, indices: &[usize], step: u64) -> Vec<&'a str> {
    let scenes = gallery.scenes();
    indices
        .iter()
        .map(|&index| {
            let all = &scenes[index].captions;
            let which = (step as usize)
                .wrapping_mul(7)
                .wrapping_add(index.wrapping_mul(3))
                % all.len().max(1);
            all.get(which).map_or("", String::as_str)
        })
        .collect()
}

/// Pairs beside the diagonal that show the same things: `[batch, batch]`, bool.
pub(crate) fn same_scene(gallery: &Gallery<'_>, indices: &[usize], device: Device) -> Tensor {
    let scenes = gallery.scenes();
    let mut flat = Vec::with_capacity(indices.len() * indices.len());
    for (i, &a) in indices.iter().enumerate() {
        for (j, &b) in indices.iter().enumerate() {
            flat.push(i != j && scenes[a].attributes == scenes[b].attributes);
        }
    }
    let side = indices.len() as i64;
    Tensor::from_slice(&flat)
        .view([side, side])
        .to_device(device)
}

/// The noise of scenes: `[batch, width]`; its first part is each scene's layout.
pub(crate) fn scene_noise(
    gallery: &Gallery<'_>,
    indices: &[usize],
    width: i64,
    device: Device,
) -> Tensor {
    let flat: Vec<f32> = indices
        .iter()
        .flat_map(|&index| {
            crate::scene::noise_vector(gallery.scenes()[index].layout, width as usize)
        })
        .collect();
    Tensor::from_slice(&flat)
        .view([indices.len() as i64, width])
        .to_kind(Kind::Float)
        .to_device(device)
}
