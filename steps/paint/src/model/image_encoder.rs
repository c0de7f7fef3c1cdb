//! The image encoder of the DAMSM: local features of regions, and one global vector.
//!
//! The paper takes both from Inception-v3; here a convolutional network of settable
//! widths gives them, trained together with the text encoder.

use tch::Tensor;
use tch::nn::{self, Path};

use super::Config;
use super::layers::{Down, conv1x1, linear};

/// What the encoder sees in pictures.
#[derive(Debug)]
pub struct Seen {
    /// v: `[batch, D, rows, columns]`, a column for each region.
    pub regions: Tensor,
    /// v̄: `[batch, D]`, one vector for the whole picture.
    pub whole: Tensor,
}

/// Halvings to the local features, further halvings to the global vector.
#[derive(Debug)]
pub struct ImageEncoder {
    local: Vec<Down>,
    global: Vec<Down>,
    to_regions: nn::Conv2D,
    to_whole: nn::Linear,
    side: i64,
}

impl ImageEncoder {
    /// A new encoder under `p`.
    pub fn new(p: &Path<'_>, config: &Config) -> Self {
        let mut width = 3;
        let mut chain = |name: &str, widths: &[i64], refine: bool| {
            let mut layers = Vec::new();
            for (i, &next) in widths.iter().enumerate() {
                layers.push(Down::halving(p / name / i, width, next));
                width = next;
            }
            if refine {
                layers.push(Down::keeping(p / name / widths.len(), width, width));
            }
            (layers, width)
        };
        let (local, local_width) = chain("local", &config.local_widths, true);
        let (global, global_width) = chain("global", &config.global_widths, false);
        Self {
            local,
            global,
            to_regions: conv1x1(p / "emb_features", local_width, config.shared),
            to_whole: linear(p / "emb_cnn_code", global_width, config.shared, true),
            side: config.encoder_side,
        }
    }

    /// `[batch, 3, height, width]` in -1..1 to regions and whole.
    pub fn forward(&self, pictures: &Tensor, train: bool) -> Seen {
        let size = pictures.size();
        let mut x = if size[2] == self.side && size[3] == self.side {
            pictures.shallow_clone()
        } else {
            pictures.upsample_bilinear2d([self.side, self.side], false, None, None)
        };
        for layer in &self.local {
            x = layer.forward(&x, train);
        }
        let regions = x.apply(&self.to_regions);
        for layer in &self.global {
            x = layer.forward(&x, train);
        }
        let whole = x
            .mean_dim([2i64, 3].as_slice(), false, None)
            .apply(&self.to_whole);
        Seen { regions, whole }
    }
}
