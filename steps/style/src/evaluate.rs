//! Measures a network on pictures that it was not trained on. It never trains
//! and never writes.

use std::time::Instant;

use anyhow::Result;
use auria_steps_common::card::Measure;
use auria_steps_common::gate::Better;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::canvas::{self, Limits, resize};
use crate::data::as_float;
use crate::measures::{colour_distance, edge_similarity, gram_distance, squared_error};
use crate::model::Network;
use crate::train;
use crate::transfer::Settings;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Digest of the data.
    pub corpus_digest: String,
    /// Held-out pictures.
    pub held_out: u64,
    /// Mean squared error of reconstruction, values from 0 to 255.
    pub reconstruction_error: f64,
    /// The same error of pictures reduced eightfold and enlarged again.
    pub baseline_error: f64,
    /// Mean squared error of a transfer against a picture whose colours are
    /// known to be right: the same one, recoloured.
    pub recolour_error: f64,
    /// Pairs of held-out pictures that the transfers below were made between.
    pub pairs: u64,
    /// SSIM of the edge maps of content and result, 1 for the same edges.
    pub edge_ssim: f64,
    /// Relative distance of Gram matrices to the style, of the content.
    pub gram_before: f64,
    /// The same of the result.
    pub gram_after: f64,
    /// Distance of the distributions of colour to the style, of the content.
    pub colour_before: f64,
    /// The same of the result.
    pub colour_after: f64,
    /// Seconds for a transfer of a million pixels.
    pub seconds_per_megapixel: f64,
    /// Where the seconds were taken, such as `cpu, 1 thread`.
    pub timed_on: String,
}

/// Held-out reconstruction error: the mean over pictures.
#[must_use]
pub fn reconstruction_error(network: &Network, held_out: &[Tensor]) -> f64 {
    mean(held_out.iter().map(|bytes| {
        let picture = square(bytes).to_device(network.device()).unsqueeze(0);
        tch::no_grad(|| squared_error(&network.reconstruct(&picture).clamp(0.0, 1.0), &picture))
    }))
}

/// The error of a picture that is reduced eightfold and enlarged again: what
/// the colours of the deepest level alone could give.
#[must_use]
pub fn baseline_error(held_out: &[Tensor]) -> f64 {
    mean(held_out.iter().map(|bytes| {
        let picture = square(bytes);
        let side = picture.size()[1];
        squared_error(
            &resize(&resize(&picture, side / 8, side / 8), side, side),
            &picture,
        )
    }))
}

/// Measures everything.
///
/// # Errors
/// Where a transfer fails.
pub fn evaluate(
    network: &Network,
    held_out: &[Tensor],
    pairs: usize,
    corpus_digest: &str,
) -> Result<Evaluation> {
    let limits = Limits::default();
    let settings = Settings::default();
    let pairs = pairs.min(held_out.len());
    let mut sums = [0f64; 6];
    for i in 0..pairs {
        // Half a round further, so that a content never meets itself.
        let content = square(&held_out[i]);
        let style = square(&held_out[(i + held_out.len().div_ceil(2)) % held_out.len()]);
        let of_style = canvas::style_of(network, &style, &limits);
        let result = canvas::colour(network, &content, &of_style, &settings, &limits)?;
        let gram = |picture: &Tensor| {
            gram_distance(&canvas::style_of(network, picture, &limits), &of_style)
        };
        let on_device = |t: &Tensor| t.unsqueeze(0).to_device(network.device());
        let recolour = tch::no_grad(|| {
            train::recolour_error(network, &on_device(&content), &on_device(&style))
        })?;
        let values = [
            edge_similarity(&content, &result),
            gram(&content),
            gram(&result),
            colour_distance(&content, &style),
            colour_distance(&result, &style),
            recolour,
        ];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value / pairs as f64;
        }
    }
    let [
        edge_ssim,
        gram_before,
        gram_after,
        colour_before,
        colour_after,
        recolour_error,
    ] = sums;
    Ok(Evaluation {
        corpus_digest: corpus_digest.to_owned(),
        held_out: held_out.len() as u64,
        reconstruction_error: reconstruction_error(network, held_out),
        baseline_error: baseline_error(held_out),
        recolour_error,
        pairs: pairs as u64,
        edge_ssim,
        gram_before,
        gram_after,
        colour_before,
        colour_after,
        seconds_per_megapixel: seconds(network, &square(&held_out[0]), &limits)?,
        timed_on: device_name(network.device()),
    })
}

/// Times the transfer of a picture of 1000 × 1000 pixels, statistics and all: the
/// fastest of three, as other programs of the machine only add to it.
fn seconds(network: &Network, picture: &Tensor, limits: &Limits) -> Result<f64> {
    let content = resize(picture, 1000, 1000);
    let style = canvas::style_of(network, picture, limits);
    let mut fastest = f64::INFINITY;
    for _ in 0..3 {
        let begun = Instant::now();
        let result = canvas::colour(network, &content, &style, &Settings::default(), limits)?;
        // Reading a value waits for a GPU to finish.
        let _ = result.mean(Kind::Float).double_value(&[]);
        fastest = fastest.min(begun.elapsed().as_secs_f64());
    }
    Ok(fastest)
}

/// The largest square in the middle whose side every network can take.
fn square(bytes: &Tensor) -> Tensor {
    let (height, width) = (bytes.size()[1], bytes.size()[2]);
    let side = height.min(width) / 16 * 16;
    let part = bytes
        .narrow(1, (height - side) / 2, side)
        .narrow(2, (width - side) / 2, side);
    as_float(&part)
}

/// The device in words.
#[must_use]
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => match tch::get_num_threads() {
            1 => "cpu, 1 thread".to_owned(),
            n => format!("cpu, {n} threads"),
        },
        other => format!("{other:?}").to_lowercase(),
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

impl Evaluation {
    /// The measures for a card.
    #[must_use]
    pub fn measures(&self, untrained: f64) -> Vec<Measure> {
        let held_out = format!("{} held-out pictures", self.held_out);
        let pairs = format!(
            "transfers between {} pairs of held-out pictures",
            self.pairs
        );
        let lower = Some(Better::Lower);
        let row = |name: &str, value: f64, unit: &str, better, how: &str| {
            Measure::new(name, value, unit, better, how)
        };
        vec![
            row(
                RECONSTRUCTION,
                self.reconstruction_error,
                "",
                lower,
                &format!("mean squared, values 0 to 255, {held_out}"),
            ),
            row(
                UNTRAINED,
                untrained,
                "",
                None,
                "the same network before its first step",
            ),
            row(
                "baseline reconstruction error",
                self.baseline_error,
                "",
                None,
                BASELINE,
            ),
            row(
                "recolouring error",
                self.recolour_error,
                "",
                lower,
                "mean squared; a picture coloured by the statistics of its own recoloured copy, against that copy",
            ),
            row(
                "edge SSIM",
                self.edge_ssim,
                "",
                Some(Better::Higher),
                &format!("Sobel edge maps of content and result, {pairs}"),
            ),
            row(
                "Gram distance to the style, before",
                self.gram_before,
                "",
                None,
                &format!("relative, mean over the encoder's levels, {pairs}"),
            ),
            row(
                "Gram distance to the style, after",
                self.gram_after,
                "",
                lower,
                "the same, of the results",
            ),
            row(
                "colour distance to the style, before",
                self.colour_before,
                "",
                None,
                "Wasserstein distance over 7 directions of the colour cube, the same pairs",
            ),
            row(
                "colour distance to the style, after",
                self.colour_after,
                "",
                lower,
                "the same, of the results",
            ),
            row(
                "time for a megapixel",
                self.seconds_per_megapixel,
                "s",
                lower,
                &format!("a 1000 × 1000 picture, fastest of three, {}", self.timed_on),
            ),
        ]
    }

    /// The measures in lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "reconstruction error  {:.3} (reduced eightfold: {:.3}), {} held-out pictures\n\
             recolouring error     {:.3}\n\
             edge SSIM             {:.3}, {} pairs\n\
             Gram distance         {:.3} -> {:.3}\n\
             colour distance       {:.4} -> {:.4}\n\
             time                  {:.2} s for a megapixel ({})",
            self.reconstruction_error,
            self.baseline_error,
            self.held_out,
            self.recolour_error,
            self.edge_ssim,
            self.pairs,
            self.gram_before,
            self.gram_after,
            self.colour_before,
            self.colour_after,
            self.seconds_per_megapixel,
            self.timed_on
        )
    }
}

/// Name of the measure that the gate compares.
pub const RECONSTRUCTION: &str = "reconstruction error";
/// Name of the same measure before training.
pub const UNTRAINED: &str = "untrained reconstruction error";
/// What stands in for current weights where there are none.
pub const BASELINE: &str = "pictures reduced eightfold and enlarged again";
