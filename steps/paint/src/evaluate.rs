//! What weights reach on held-out scenes. Measures only; decides nothing.

use auria_steps_common::card::Measure;
use auria_steps_common::device;
use auria_steps_common::gate::Better;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::artist::Artist;
use crate::data::{Data, Gallery};
use crate::lexicon;
use crate::model::damsm;
use crate::model::text_encoder::Encoded;
use crate::scene::{Attributes, Light, Scene, Season, Time, Tree, Weather};
use crate::train::{same_scene, scene_noise};

/// How the matching loss is measured.
pub const MATCHING: &str = "DAMSM loss, words and sentences in both directions, batches of 32 held-out scenes; 13.86 is chance";
/// How the picture error is measured.
pub const ERROR: &str = "mean absolute difference (0 to 1) between held-out pictures and those painted from their captions and layout noise";

const BATCH: usize = 32;
/// Captions among which R-precision looks for the right one.
const CANDIDATES: usize = 100;

/// The two held-out losses that a gate asks for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quick {
    /// DAMSM loss on held-out pairs.
    pub matching_loss: f64,
    /// Mean absolute difference to held-out pictures.
    pub picture_error: f64,
}

impl Quick {
    /// As a card shows them.
    pub fn measures(&self) -> Vec<Measure> {
        vec![
            Measure::new(
                "held-out matching loss",
                self.matching_loss,
                "nats",
                Some(Better::Lower),
                MATCHING,
            ),
            Measure::new(
                "held-out picture error",
                self.picture_error,
                "",
                Some(Better::Lower),
                ERROR,
            ),
        ]
    }
}

/// Everything that is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Digest of the data that it was measured on.
    pub data_digest: String,
    /// How many held-out scenes there were.
    pub held_out_scenes: usize,
    /// The losses of these weights.
    #[serde(flatten)]
    pub losses: Quick,
    /// The losses of the same network before training.
    pub untrained: Quick,
    /// The picture error of the mean training picture, the same for every caption.
    pub mean_picture_error: f64,
    /// R-precision of painted pictures among 100 captions.
    pub r_precision: f64,
    /// R-precision of the held-out pictures themselves: what the evaluator can tell.
    pub r_precision_real: f64,
    /// The evaluator: these weights' own DAMSM.
    pub evaluator: String,
    /// Fréchet distance of painted to held-out pictures in the image encoder's vectors.
    pub frechet: f64,
    /// The same between two halves of the held-out pictures: what a perfect painter would reach.
    pub frechet_scale: f64,
    /// Share of swaps (same noise, one thing changed) after which the painted picture
    /// fits the new caption better than the old one.
    pub swap_agreement: f64,
    /// How many swaps were tried.
    pub swaps: usize,
}

/// Held-out scenes with what the artist makes of them.
struct Exhibition {
    real: Tensor,
    painted: Tensor,
    text: Encoded,
}

/// The wording of a scene that is measured with: each scene has one of its own.
fn wording(index: usize, scene: &Scene) -> &str {
    scene
        .captions
        .get(index % scene.captions.len().max(1))
        .map_or("", String::as_str)
}

/// Encodes captions without gradients.
fn encode(artist: &Artist, captions: &[&str], device: Device) -> Encoded {
    let captions = artist
        .vocabulary
        .encode(captions, artist.config.caption_length, device);
    tch::no_grad(|| artist.text.forward(&captions, false))
}

impl Exhibition {
    fn of(artist: &Artist, gallery: &mut Gallery<'_>) -> Self {
        let device = artist.store.device();
        let scenes = gallery.scenes();
        let captions: Vec<&str> = scenes
            .iter()
            .enumerate()
            .map(|(i, scene)| wording(i, scene))
            .collect();
        let text = encode(artist, &captions, device);
        let all: Vec<usize> = (0..scenes.len()).collect();
        let (mut real, mut painted) = (Vec::new(), Vec::new());
        for chunk in all.chunks(BATCH) {
            let rows = Tensor::from_slice(&chunk.iter().map(|&i| i as i64).collect::<Vec<_>>())
                .to_device(device);
            let z = scene_noise(gallery, chunk, artist.config.noise, device);
            painted.push(paint(artist, &text.select(&rows), &z));
            real.push(gallery.pictures(chunk, device));
        }
        Self {
            real: Tensor::cat(&real, 0),
            painted: Tensor::cat(&painted, 0),
            text,
        }
    }

    fn picture_error(&self) -> f64 {
        ((&self.real - &self.painted).abs().mean(Kind::Float) * 0.5).double_value(&[])
    }
}

/// The largest pictures of captions and noise, `[batch, 3, side, side]`.
fn paint(artist: &Artist, text: &Encoded, z: &Tensor) -> Tensor {
    let stages = artist.config.stages as usize;
    tch::no_grad(|| {
        artist
            .generator
            .forward(text, z, None, stages, false)
            .pictures
            .remove(stages - 1)
    })
}

fn matching_loss(artist: &Artist, gallery: &Gallery<'_>, shown: &Exhibition) -> f64 {
    let device = artist.store.device();
    let count = gallery.scenes().len();
    let all: Vec<usize> = (0..count).collect();
    // A last, smaller batch would be easier and is left out, unless it is the only one.
    let batches: Vec<&[usize]> = if count < BATCH {
        vec![&all]
    } else {
        all.chunks_exact(BATCH).collect()
    };
    let losses: Vec<f64> = batches
        .iter()
        .map(|indices| {
            let rows = Tensor::from_slice(&indices.iter().map(|&i| i as i64).collect::<Vec<_>>())
                .to_device(device);
            let same = same_scene(gallery, indices, device);
            tch::no_grad(|| {
                let seen = artist
                    .image
                    .forward(&shown.real.index_select(0, &rows), false);
                damsm::loss(&artist.config, &seen, &shown.text.select(&rows), &same)
                    .total()
                    .double_value(&[])
            })
        })
        .collect();
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// Share of pictures whose own caption scores highest among it and 99 of other scenes.
fn r_precision(artist: &Artist, scenes: &[Scene], pictures: &Tensor, text: &Encoded) -> f64 {
    let device = artist.store.device();
    // Every wording of every scene may be one of the 99.
    let (owners, wordings): (Vec<usize>, Vec<&str>) = scenes
        .iter()
        .enumerate()
        .flat_map(|(i, scene)| scene.captions.iter().map(move |c| (i, c.as_str())))
        .unzip();
    let others = encode(artist, &wordings, device);
    let (mut own, mut foreign) = (Vec::new(), Vec::new());
    for start in (0..scenes.len()).step_by(BATCH) {
        let length = BATCH.min(scenes.len() - start) as i64;
        let batch = pictures.narrow(0, start as i64, length);
        // The authors judge by whole and sentence: the cosine of global vectors.
        let seen = tch::no_grad(|| artist.image.forward(&batch, false));
        let rows = Tensor::arange_start(start as i64, start as i64 + length, (Kind::Int64, device));
        own.push(tch::no_grad(|| {
            damsm::sentence_scores(&seen, &text.select(&rows))
                .diagonal(0, 0, 1)
                .copy()
        }));
        foreign.push(tch::no_grad(|| damsm::sentence_scores(&seen, &others)));
    }
    let own = Vec::<f32>::try_from(Tensor::cat(&own, 0).to_device(Device::Cpu)).unwrap_or_default();
    let foreign = Tensor::cat(&foreign, 0).to_device(Device::Cpu);
    let mut right = 0;
    for (i, scene) in scenes.iter().enumerate() {
        let row = Vec::<f32>::try_from(foreign.get(i as i64)).unwrap_or_default();
        // A stride that shares no factor with the number of captions mixes the scenes.
        let order = (0..row.len()).map(|step| (i + step * 7919) % row.len());
        let mut rivals = order
            .filter(|&j| scenes[owners[j]].attributes != scene.attributes)
            .take(CANDIDATES - 1);
        right += usize::from(rivals.all(|j| row[j] < own[i]));
    }
    right as f64 / scenes.len() as f64
}

/// Global vectors of pictures, `[count, D]`.
fn vectors(artist: &Artist, pictures: &Tensor) -> Tensor {
    let count = pictures.size()[0];
    let parts: Vec<Tensor> = (0..count)
        .step_by(BATCH)
        .map(|start| {
            let batch = pictures.narrow(0, start, (BATCH as i64).min(count - start));
            tch::no_grad(|| artist.image.forward(&batch, false).whole)
        })
        .collect();
    Tensor::cat(&parts, 0)
        .to_device(Device::Cpu)
        .to_kind(Kind::Double)
}

/// Fréchet distance between two sets of vectors taken as normal distributions:
/// |μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½).
fn frechet(a: &Tensor, b: &Tensor) -> f64 {
    let moments = |x: &Tensor| {
        (
            x.mean_dim([0i64].as_slice(), false, None),
            x.tr().cov(1, None::<Tensor>, None::<Tensor>),
        )
    };
    let ((mean_a, cov_a), (mean_b, cov_b)) = (moments(a), moments(b));
    // (Σ1 Σ2)^½ has the trace of (Σ1^½ Σ2 Σ1^½)^½, which is symmetric.
    let (values, directions) = cov_a.linalg_eigh("L");
    let root = (&directions * values.clamp_min(0.0).sqrt().unsqueeze(0)).matmul(&directions.tr());
    let product = root
        .matmul(&cov_b)
        .matmul(&root)
        .linalg_eigvalsh("L")
        .clamp_min(0.0)
        .sqrt();
    let distance = (mean_a - mean_b).square().sum(Kind::Double) + cov_a.trace() + cov_b.trace()
        - product.sum(Kind::Double) * 2.0;
    distance.double_value(&[])
}

/// The same scene with one thing changed: day becomes night, spring becomes autumn…
fn swapped(scene: &Attributes, which: usize) -> Option<Attributes> {
    let mut new = scene.clone();
    match which % 4 {
        0 if scene.time != Time::Night => {
            (new.time, new.stars, new.birds) = (Time::Night, false, false);
            new.light = if scene.light == Light::None {
                Light::None
            } else {
                Light::Moon
            };
        }
        1 if scene.season != Season::Autumn
            && scene.weather != Weather::Snow
            && scene.tree != Tree::Blossom =>
        {
            (new.season, new.flowers) = (Season::Autumn, false);
        }
        2 if matches!(scene.weather, Weather::Clear | Weather::Cloudy) => {
            (new.weather, new.light, new.stars, new.birds) =
                (Weather::Rain, Light::None, false, false);
        }
        3 if scene.tree == Tree::None => new.tree = Tree::Pine,
        _ => return None,
    }
    Some(new)
}

/// A plain wording of attributes: the first phrase of each concept.
fn plainly(attributes: &Attributes) -> String {
    let words = lexicon::concepts(attributes)
        .into_iter()
        .filter_map(|(concept, _)| {
            lexicon::of(concept).and_then(|entry| entry.phrases.first().copied())
        });
    words.collect::<Vec<_>>().join(" ")
}

/// Share of swaps that the painting follows, and their number.
fn swaps(artist: &Artist, gallery: &Gallery<'_>) -> (f64, usize) {
    let device = artist.store.device();
    let pairs: Vec<(usize, String, String)> = gallery
        .scenes()
        .iter()
        .enumerate()
        .filter_map(|(i, scene)| {
            Some((
                i,
                plainly(&scene.attributes),
                plainly(&swapped(&scene.attributes, i)?),
            ))
        })
        .take(64)
        .collect();
    if pairs.is_empty() {
        return (0.0, 0);
    }
    let old: Vec<&str> = pairs.iter().map(|(_, old, _)| old.as_str()).collect();
    let new: Vec<&str> = pairs.iter().map(|(_, _, new)| new.as_str()).collect();
    let indices: Vec<usize> = pairs.iter().map(|(i, ..)| *i).collect();
    let (old, new) = (encode(artist, &old, device), encode(artist, &new, device));
    let z = scene_noise(gallery, &indices, artist.config.noise, device);
    let pictures = paint(artist, &new, &z);
    let seen = tch::no_grad(|| artist.image.forward(&pictures, false));
    let own = |text: &Encoded| damsm::sentence_scores(&seen, text).diagonal(0, 0, 1);
    let better = tch::no_grad(|| {
        own(&new)
            .gt_tensor(&own(&old))
            .sum(Kind::Int64)
            .int64_value(&[])
    });
    (better as f64 / pairs.len() as f64, pairs.len())
}

impl Measured {
    /// As a card shows them.
    pub fn measures(&self) -> Vec<Measure> {
        let evaluator = format!(
            "on {} held-out captions among 100; evaluator: {}",
            self.held_out_scenes, self.evaluator
        );
        let mut all = self.losses.measures();
        all.extend([
            Measure::new("matching loss before training", self.untrained.matching_loss, "nats", None, MATCHING),
            Measure::new("picture error before training", self.untrained.picture_error, "", None, ERROR),
            Measure::new("picture error of the mean picture", self.mean_picture_error, "", None, "the mean training picture for every caption"),
            Measure::new("R-precision", self.r_precision, "", Some(Better::Higher), &format!("painted pictures {evaluator}; 0.01 is chance")),
            Measure::new("R-precision of real pictures", self.r_precision_real, "", None, &format!("pictures of the data {evaluator}")),
            Measure::new("Fréchet distance", self.frechet, "", Some(Better::Lower), "painted to held-out pictures in the vectors of these weights' image encoder"),
            Measure::new("Fréchet distance between halves", self.frechet_scale, "", None, "two halves of the held-out pictures: what a perfect painter would reach"),
            Measure::new("swap agreement", self.swap_agreement, "", Some(Better::Higher), &format!("share of {} swaps (same noise, one thing changed) after which the picture fits the new caption better than the old; 0.5 is chance", self.swaps)),
        ]);
        all
    }

    /// The two losses alone.
    pub fn quick(artist: &Artist, data: &Data) -> Quick {
        let mut gallery = Gallery::new(&data.held_out, artist.config.last_side());
        Self::quick_in(artist, &mut gallery)
    }

    /// The two losses alone, on a gallery whose pictures may be painted already.
    pub fn quick_in(artist: &Artist, gallery: &mut Gallery<'_>) -> Quick {
        let shown = Exhibition::of(artist, gallery);
        Quick {
            matching_loss: matching_loss(artist, gallery, &shown),
            picture_error: shown.picture_error(),
        }
    }

    /// Everything, with pictures for a contact sheet: held-out ones, each followed by
    /// the one painted from its caption (`[3, side, side]`, 0 to 1).
    pub fn all(artist: &Artist, data: &Data) -> (Self, Vec<Tensor>) {
        let device = artist.store.device();
        let mut gallery = Gallery::new(&data.held_out, artist.config.last_side());
        let shown = Exhibition::of(artist, &mut gallery);
        let scenes = &data.held_out;
        let losses = Quick {
            matching_loss: matching_loss(artist, &gallery, &shown),
            picture_error: shown.picture_error(),
        };
        let mut training = Gallery::new(&data.train, artist.config.last_side());
        let sample: Vec<usize> = (0..data.train.len().min(200)).collect();
        let mean = training
            .pictures(&sample, device)
            .mean_dim([0i64].as_slice(), true, None);
        let mean_picture_error =
            ((&shown.real - mean).abs().mean(Kind::Float) * 0.5).double_value(&[]);
        let (real, painted) = (
            vectors(artist, &shown.real),
            vectors(artist, &shown.painted),
        );
        let half = real.size()[0] / 2;
        let (swap_agreement, swaps) = swaps(artist, &gallery);
        let untrained = Self::quick_in(&untrained(artist), &mut gallery);
        let measured = Self {
            data_digest: data.summary.digest.clone(),
            held_out_scenes: scenes.len(),
            losses,
            untrained,
            mean_picture_error,
            r_precision: r_precision(artist, scenes, &shown.painted, &shown.text),
            r_precision_real: r_precision(artist, scenes, &shown.real, &shown.text),
            evaluator: "the DAMSM of these weights, which the generator was trained with".into(),
            frechet: frechet(&real, &painted),
            frechet_scale: frechet(&real.narrow(0, 0, half), &real.narrow(0, half, half)),
            swap_agreement,
            swaps,
        };
        let tile = |pictures: &Tensor, i: i64| ((pictures.get(i) + 1.0) * 0.5).clamp(0.0, 1.0);
        let tiles = (0..24.min(scenes.len() as i64))
            .flat_map(|i| [tile(&shown.real, i), tile(&shown.painted, i)])
            .collect();
        (measured, tiles)
    }
}

/// The same network before any training.
pub fn untrained(artist: &Artist) -> Artist {
    device::reseed(0, 0);
    Artist::new(
        artist.config.clone(),
        artist.vocabulary.clone(),
        artist.store.device(),
    )
}
