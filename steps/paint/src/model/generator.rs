//! The generator: conditioning augmentation, F0, and attention stages (section 3.1).

use tch::nn::{self, Path};
use tch::{Kind, Tensor};

use super::Config;
use super::layers::{Norm, Residual, Up, conv1x1, conv3x3, glu, leaky, linear};
use super::text_encoder::Encoded;

/// What the generator makes of captions and noise.
#[derive(Debug)]
pub struct Painted {
    /// A picture of each stage, `[batch, 3, side, side]` in -1..1, smallest first.
    pub pictures: Vec<Tensor>,
    /// Where each attention stage looked: `[batch, words, side, side]`.
    pub attention: Vec<Tensor>,
    /// Mean of the conditioning distribution, `[batch, condition]`.
    pub mean: Tensor,
    /// Logarithm of its variance.
    pub log_variance: Tensor,
}

impl Painted {
    /// KL divergence of the conditioning distribution from N(0, 1), averaged.
    pub fn divergence(&self) -> Tensor {
        let terms = &self.log_variance + 1.0 - self.mean.square() - self.log_variance.exp();
        terms.mean(Kind::Float) * -0.5
    }
}

/// F^ca: a sentence becomes a distribution, of which c is drawn.
#[derive(Debug)]
struct Augmentation {
    fc: nn::Linear,
}

impl Augmentation {
    /// Starts sharp and loud: small variances, and means of the size of the noise, so
    /// that captions are heard from the first step on.
    fn new(p: Path<'_>, config: &Config) -> Self {
        let mut fc = linear(p / "fc", config.shared, 4 * config.condition, true);
        tch::no_grad(|| {
            fc.ws *= 6.0;
            if let Some(bias) = &mut fc.bs {
                // Halved by the gate, this is a log variance of -3.
                let _ = bias
                    .narrow(0, config.condition, config.condition)
                    .fill_(-6.0);
            }
        });
        Self { fc }
    }

    /// ē `[batch, D]` to mean and log variance, `[batch, condition]` each.
    fn forward(&self, sentence: &Tensor) -> (Tensor, Tensor) {
        let halves = glu(&sentence.apply(&self.fc)).chunk(2, 1);
        (halves[0].shallow_clone(), halves[1].shallow_clone())
    }
}

/// Noise and condition as one code of where things are, for the planes of all
/// up-samplings.
#[derive(Debug)]
struct Placement {
    layers: [nn::Linear; 2],
}

impl Placement {
    fn new(p: Path<'_>, config: &Config) -> Self {
        let (from, width) = (config.noise + config.condition, config.placement);
        Self {
            layers: [
                linear(&p / "0", from, width, true),
                linear(&p / "1", width, width, true),
            ],
        }
    }

    /// To `[batch, placement]`.
    fn forward(&self, c: &Tensor, z: &Tensor) -> Tensor {
        let inputs = Tensor::cat(&[c, z], 1);
        self.layers
            .iter()
            .fold(inputs, |x, layer| leaky(&x.apply(layer)))
    }
}

/// F0: from z and c to features of 64 × 64.
#[derive(Debug)]
struct First {
    fc: nn::Linear,
    norm: Norm,
    ups: Vec<Up>,
    width: i64,
}

impl First {
    fn new(p: Path<'_>, config: &Config) -> Self {
        let width = 16 * config.generator;
        let out = width * 4 * 4 * 2;
        let ups = (0..4)
            .map(|i| {
                Up::new(
                    &p / format!("upsample{}", i + 1),
                    width >> i,
                    width >> (i + 1),
                    config,
                )
            })
            .collect();
        Self {
            fc: linear(&p / "fc" / "0", config.noise + config.condition, out, false),
            norm: Norm::vectors(&p / "fc" / "1", out, config.normalisation),
            ups,
            width,
        }
    }

    /// `[batch, condition + noise]` to `[batch, Ng, 64, 64]`.
    fn forward(&self, c: &Tensor, z: &Tensor, code: Option<&Tensor>, train: bool) -> Tensor {
        let mixed = Tensor::cat(&[c, z], 1).apply(&self.fc);
        let flat = self.norm.forward(&mixed, train);
        let mut h = glu(&flat).view([-1, self.width, 4, 4]);
        for up in &self.ups {
            h = up.forward(&h, code, train);
        }
        h
    }
}

/// F_i: attention over words, residual blocks, up-sampling.
#[derive(Debug)]
struct Next {
    to_hidden: nn::Conv2D,
    residuals: Vec<Residual>,
    up: Up,
}

impl Next {
    fn new(p: Path<'_>, config: &Config) -> Self {
        let ng = config.generator;
        Self {
            to_hidden: conv1x1(&p / "att" / "conv_context", config.shared, ng),
            residuals: (0..config.residuals)
                .map(|i| Residual::new(&p / "residual" / i, 2 * ng, config.normalisation))
                .collect(),
            up: Up::new(&p / "upsample", 2 * ng, ng, config),
        }
    }

    /// h `[batch, Ng, side, side]` to `[batch, Ng, 2 side, 2 side]`, and the attention.
    fn forward(
        &self,
        h: &Tensor,
        text: &Encoded,
        code: Option<&Tensor>,
        train: bool,
    ) -> (Tensor, Tensor) {
        let size = h.size();
        let (batch, ng, side) = (size[0], size[1], size[2]);
        // e' = U e: [batch, Ng, T]
        let e = text
            .words
            .unsqueeze(3)
            .apply(&self.to_hidden)
            .squeeze_dim(3);
        // s = hᵀ e': [batch, N, T]; β over words, ended ones left out
        let s = h.view([batch, ng, side * side]).transpose(1, 2).matmul(&e);
        let beta = s
            .masked_fill(&text.padding.unsqueeze(1), f64::NEG_INFINITY)
            .softmax(2, Kind::Float);
        // c_j = Σ β e': [batch, Ng, N]
        let context = e
            .matmul(&beta.transpose(1, 2))
            .view([batch, ng, side, side]);
        let mut x = Tensor::cat(&[h, &context], 1);
        for residual in &self.residuals {
            x = residual.forward(&x, train);
        }
        let attention = beta.transpose(1, 2).reshape([batch, -1, side, side]);
        (self.up.forward(&x, code, train), attention)
    }
}

/// The whole generator.
#[derive(Debug)]
pub struct Generator {
    augmentation: Augmentation,
    placement: Option<Placement>,
    first: First,
    next: Vec<Next>,
    pictures: Vec<nn::Conv2D>,
    condition: i64,
}

impl Generator {
    /// A new generator under `p`.
    pub fn new(p: &Path<'_>, config: &Config) -> Self {
        let ng = config.generator;
        Self {
            augmentation: Augmentation::new(p / "ca_net", config),
            placement: (config.placement > 0).then(|| Placement::new(p / "placement", config)),
            first: First::new(p / "h_net1", config),
            next: (1..config.stages)
                .map(|i| Next::new(p / format!("h_net{}", i + 1), config))
                .collect(),
            pictures: (0..config.stages)
                .map(|i| conv3x3(p / format!("img_net{}", i + 1) / "img" / "0", ng, 3))
                .collect(),
            condition: config.condition,
        }
    }

    /// Paints the first `stages` pictures. `z`: `[batch, noise]`. `eps`:
    /// `[batch, condition]` of N(0, 1), or none to take the conditioning's mean.
    pub fn forward(
        &self,
        text: &Encoded,
        z: &Tensor,
        eps: Option<&Tensor>,
        stages: usize,
        train: bool,
    ) -> Painted {
        let (mean, log_variance) = self.augmentation.forward(&text.sentence);
        debug_assert_eq!(mean.size()[1], self.condition);
        let c = match eps {
            Some(eps) => &mean + (&log_variance * 0.5).exp() * eps,
            None => mean.shallow_clone(),
        };
        let code = self
            .placement
            .as_ref()
            .map(|placement| placement.forward(&c, z));
        let mut h = self.first.forward(&c, z, code.as_ref(), train);
        let mut painted = Painted {
            pictures: vec![h.apply(&self.pictures[0]).tanh()],
            attention: Vec::new(),
            mean,
            log_variance,
        };
        for (next, picture) in self
            .next
            .iter()
            .zip(&self.pictures[1..])
            .take(stages.saturating_sub(1))
        {
            let (features, attention) = next.forward(&h, text, code.as_ref(), train);
            h = features;
            painted.pictures.push(h.apply(picture).tanh());
            painted.attention.push(attention);
        }
        painted
    }
}
