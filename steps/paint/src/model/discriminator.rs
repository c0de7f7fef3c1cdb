//! The discriminators, one for each stage, each with two questions: is this a real
//! picture, and does it fit this sentence (section 3.1)?

use tch::nn::{self, Path};
use tch::{Kind, Tensor};

use super::Config;
use super::layers::{Down, conv_halving, cross_entropy, leaky, logit};

/// The discriminator of one stage.
#[derive(Debug)]
pub struct Discriminator {
    first: nn::Conv2D,
    downs: Vec<Down>,
    joint: Down,
    conditional: nn::Conv2D,
    unconditional: nn::Conv2D,
}

impl Discriminator {
    /// A discriminator of pictures of `64 << stage` pixels.
    pub fn new(p: &Path<'_>, config: &Config, stage: i64) -> Self {
        let nd = config.discriminator;
        let code = p / "img_code_s16";
        let mut downs = Vec::new();
        // 64 px and more to a sixteenth: Nd, 2 Nd, 4 Nd, 8 Nd
        for (i, name) in ["2", "5", "8"].iter().enumerate() {
            // The authors' sequence numbers convolution and normalisation in one row.
            downs.push(Down::halving(&code / *name, nd << i, nd << (i + 1)));
        }
        // Each further stage halves once more, then narrows back to 8 Nd.
        for i in 0..stage {
            downs.push(Down::halving(
                p / format!("img_code_s{}", 32 << i),
                nd << (3 + i),
                nd << (4 + i),
            ));
        }
        for i in (0..stage).rev() {
            downs.push(Down::keeping(
                p / format!("img_code_s{}_1", 32 << i),
                nd << (4 + i),
                nd << (3 + i),
            ));
        }
        Self {
            first: conv_halving(&code / "0", 3, nd),
            downs,
            joint: Down::keeping(
                p / "COND_DNET" / "jointConv",
                8 * nd + config.shared,
                8 * nd,
            ),
            conditional: logit(p / "COND_DNET" / "outlogits" / "0", 8 * nd),
            unconditional: logit(p / "UNCOND_DNET" / "outlogits" / "0", 8 * nd),
        }
    }

    /// Pictures `[batch, 3, side, side]` to features `[batch, 8 Nd, 4, 4]`.
    pub fn features(&self, pictures: &Tensor) -> Tensor {
        let mut x = leaky(&pictures.apply(&self.first));
        for down in &self.downs {
            x = down.forward(&x, true);
        }
        x
    }

    /// Logits of "real", `[batch]`.
    pub fn real(&self, features: &Tensor) -> Tensor {
        features.apply(&self.unconditional).view([-1])
    }

    /// Logits of "fits the sentence" (`[batch, D]`), `[batch]`.
    pub fn fits(&self, features: &Tensor, sentence: &Tensor) -> Tensor {
        let (batch, width) = sentence.size2().unwrap_or((0, 0));
        let spread = sentence
            .view([batch, width, 1, 1])
            .expand([batch, width, 4, 4], true);
        self.joint
            .forward(&Tensor::cat(&[features, &spread], 1), true)
            .apply(&self.conditional)
            .view([-1])
    }

    /// The discriminator's loss: real pictures are real and fit, painted ones are not
    /// and do not, real pictures do not fit another scene's sentence.
    pub fn loss(&self, real: &Tensor, painted: &Tensor, sentence: &Tensor) -> Tensor {
        let batch = real.size()[0];
        let real = self.features(real);
        let painted = self.features(&painted.detach());
        let mut loss = (cross_entropy(&self.real(&real), true)
            + cross_entropy(&self.fits(&real, sentence), true))
            * 0.5;
        let mut false_terms = cross_entropy(&self.real(&painted), false)
            + cross_entropy(&self.fits(&painted, sentence), false);
        if batch > 1 {
            let wrong = self.fits(
                &real.narrow(0, 0, batch - 1),
                &sentence.narrow(0, 1, batch - 1),
            );
            false_terms += cross_entropy(&wrong, false);
        }
        loss += false_terms / 3.0;
        loss.mean(Kind::Float)
    }

    /// The generator's adversarial loss against this discriminator.
    pub fn deceived(&self, painted: &Tensor, sentence: &Tensor) -> Tensor {
        let features = self.features(painted);
        cross_entropy(&self.real(&features), true)
            + cross_entropy(&self.fits(&features, sentence), true)
    }
}
