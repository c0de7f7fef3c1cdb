//! One step of the generator and its discriminators (section 3.1 of the paper).

use auria_steps_common::device;
use tch::{Kind, Tensor};

use super::{Losses, Training, captions, same_scene, scene_noise};
use crate::data;
use crate::model::damsm;

const STREAM: u64 = 2 << 40;
const SETTLE: u64 = 3 << 40;

impl Training<'_> {
    pub(super) fn gan_step(&mut self) -> Losses {
        let (request, step) = (self.request, self.progress.gan);
        let plan = &request.plan;
        let share = self.painted_share().clamp(0.0, 1.0);
        device::reseed(request.seed, STREAM + step);
        let indices = data::batch(
            request.seed ^ STREAM,
            step,
            plan.gan_batch,
            request.data.train.len(),
        );
        let last = self.gallery.pictures(&indices, request.device);
        let same = same_scene(&self.gallery, &indices, request.device);
        let wordings = captions(&self.gallery, &indices, step);
        let artist = &self.artist;
        let config = &artist.config;
        let stages = if share < plan.first_stage_share {
            1
        } else {
            config.stages
        };
        let real: Vec<Tensor> = (0..stages)
            .map(|stage| reduced(&last, config.side(stage)))
            .collect();
        let encoded = artist
            .vocabulary
            .encode(&wordings, config.caption_length, request.device);
        let text = tch::no_grad(|| artist.text.forward(&encoded, false));
        let z = scene_noise(&self.gallery, &indices, config.noise, request.device);
        let eps = Tensor::randn(
            [indices.len() as i64, config.condition],
            (Kind::Float, request.device),
        );
        let painted = artist
            .generator
            .forward(&text, &z, Some(&eps), stages as usize, true);

        // The discriminators first, on pictures cut off from the generator.
        let contested = share >= plan.adversarial_from;
        let zero = || Tensor::from(0f32).to_device(request.device);
        let (mut judged, mut deceived, mut apart) = (zero(), zero(), zero());
        let pairs = || real.iter().zip(&painted.pictures);
        if contested {
            self.judge.zero_grad();
            for (critic, (real, picture)) in self.discriminators.iter().zip(pairs()) {
                judged += critic.loss(real, picture, &text.sentence);
            }
            judged.backward();
            self.judge.step();
            for (critic, (_, picture)) in self.discriminators.iter().zip(pairs()) {
                deceived += critic.deceived(picture, &text.sentence);
            }
        }
        for (real, picture) in pairs() {
            apart += distance(picture, real);
        }
        let matching = if share >= plan.matching_from {
            let finest = &painted.pictures[painted.pictures.len() - 1];
            damsm::loss(config, &artist.image.forward(finest, false), &text, &same).total()
        } else {
            zero()
        };
        let divergence = painted.divergence();
        let loss = &deceived * plan.adversarial
            + &matching * plan.lambda
            + &apart * plan.reconstruction
            + &divergence * plan.divergence;
        self.painter.lr = plan.last_generator_rate
            + 0.5
                * (plan.generator_rate - plan.last_generator_rate)
                * (1.0 + (std::f64::consts::PI * share).cos());
        self.painter.zero_grad();
        loss.backward();
        self.painter.step();
        self.average(step);
        [
            ("judge", judged),
            ("deceive", deceived),
            ("damsm", matching),
            ("kl", divergence),
            ("apart", apart),
        ]
        .map(|(name, value)| (name, value.double_value(&[])))
        .into()
    }

    /// Measures the normalisations' statistics anew for the averaged generator: those of
    /// the average of many generators are not the average of their statistics.
    pub(super) fn settle(&mut self) {
        let (request, plan) = (self.request, &self.request.plan);
        for step in 0..plan.settle_steps {
            device::reseed(request.seed, SETTLE + step);
            let indices = data::batch(
                request.seed ^ SETTLE,
                step,
                plan.gan_batch,
                request.data.train.len(),
            );
            let wordings = captions(&self.gallery, &indices, step);
            let artist = &self.artist;
            let config = &artist.config;
            let encoded =
                artist
                    .vocabulary
                    .encode(&wordings, config.caption_length, request.device);
            let z = scene_noise(&self.gallery, &indices, config.noise, request.device);
            tch::no_grad(|| {
                let text = artist.text.forward(&encoded, false);
                let _ = artist
                    .generator
                    .forward(&text, &z, None, config.stages as usize, true);
            });
        }
    }

    /// Moves the running averages towards the generator's present variables.
    fn average(&mut self, step: u64) {
        // The first steps count for less: an average over little is no better than they.
        let decay = self
            .request
            .plan
            .average
            .min((1.0 + step as f64) / (10.0 + step as f64));
        let now = self.artist.part("generator");
        tch::no_grad(|| {
            for (name, average) in &mut self.averages {
                if let Some(value) = now.get(name) {
                    let _ = average.lerp_(value, 1.0 - decay);
                }
            }
        });
    }
}

/// A picture at a smaller size, by averaging blocks.
fn reduced(pictures: &Tensor, side: i64) -> Tensor {
    let block = pictures.size()[2] / side;
    if block <= 1 {
        return pictures.shallow_clone();
    }
    pictures.avg_pool2d([block, block], [block, block], [0, 0], false, true, None)
}

/// How far a painted picture is from the one that its noise and caption belong to: mean
/// absolute difference of pixels, and of neighbouring pixels' steps, which keeps edges;
/// and mean squared difference, which sees small bright things such as a moon.
fn distance(painted: &Tensor, real: &Tensor) -> Tensor {
    let difference = painted - real;
    let side = difference.size()[2];
    let step = |dim: i64| {
        let (next, here) = (
            difference.narrow(dim, 1, side - 1),
            difference.narrow(dim, 0, side - 1),
        );
        (next - here).abs().mean(Kind::Float)
    };
    difference.abs().mean(Kind::Float)
        + (step(2) + step(3)) * 0.5
        + difference.square().mean(Kind::Float) * 2.0
}
