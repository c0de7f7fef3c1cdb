//! The few layers that AttnGAN is built of.

use tch::nn::{self, Init, ModuleT, Path};
use tch::{Kind, Tensor};

/// Gives weights orthogonal rows, as the authors do for convolutions and linear maps.
/// (tch's own initialiser forgets the shape of more than two dimensions.)
fn orthogonal(weights: &mut Tensor) {
    let flat = nn::init(
        Init::Orthogonal { gain: 1.0 },
        &weights.size(),
        weights.device(),
    );
    tch::no_grad(|| weights.copy_(&flat.view_as(weights)));
}

/// Zeros, before the orthogonal weights are there.
const EMPTY: Init = Init::Const(0.0);

fn conv(p: Path<'_>, from: i64, to: i64, kernel: i64, config: nn::ConvConfig) -> nn::Conv2D {
    let mut conv = nn::conv2d(
        p,
        from,
        to,
        kernel,
        nn::ConvConfig {
            ws_init: EMPTY,
            ..config
        },
    );
    orthogonal(&mut conv.ws);
    conv
}

/// A 3 × 3 convolution that keeps the size, without bias.
pub fn conv3x3(p: Path<'_>, from: i64, to: i64) -> nn::Conv2D {
    conv(
        p,
        from,
        to,
        3,
        nn::ConvConfig {
            padding: 1,
            bias: false,
            ..Default::default()
        },
    )
}

/// A 1 × 1 convolution.
pub fn conv1x1(p: Path<'_>, from: i64, to: i64) -> nn::Conv2D {
    conv(
        p,
        from,
        to,
        1,
        nn::ConvConfig {
            bias: false,
            ..Default::default()
        },
    )
}

/// A 4 × 4 convolution that halves the size, without bias.
pub fn conv_halving(p: Path<'_>, from: i64, to: i64) -> nn::Conv2D {
    conv(
        p,
        from,
        to,
        4,
        nn::ConvConfig {
            stride: 2,
            padding: 1,
            bias: false,
            ..Default::default()
        },
    )
}

/// A 4 × 4 convolution of maps of 4 × 4 to one logit.
pub fn logit(p: Path<'_>, from: i64) -> nn::Conv2D {
    conv(
        p,
        from,
        1,
        4,
        nn::ConvConfig {
            stride: 4,
            ..Default::default()
        },
    )
}

/// A linear map.
pub fn linear(p: Path<'_>, from: i64, to: i64, bias: bool) -> nn::Linear {
    let config = nn::LinearConfig {
        ws_init: EMPTY,
        bs_init: Some(Init::Const(0.0)),
        bias,
    };
    let mut linear = nn::linear(p, from, to, config);
    orthogonal(&mut linear.ws);
    linear
}

fn batch_norm_config() -> nn::BatchNormConfig {
    nn::BatchNormConfig {
        ws_init: Init::Randn {
            mean: 1.0,
            stdev: 0.02,
        },
        ..Default::default()
    }
}

/// Batch normalisation of maps.
pub fn batch_norm(p: Path<'_>, width: i64) -> nn::BatchNorm {
    nn::batch_norm2d(p, width, batch_norm_config())
}

/// Batch normalisation of vectors.
pub fn batch_norm1d(p: Path<'_>, width: i64) -> nn::BatchNorm {
    nn::batch_norm1d(p, width, batch_norm_config())
}

/// Gated linear unit over channels: the first half, gated by the second.
pub fn glu(x: &Tensor) -> Tensor {
    x.glu(1)
}

/// LeakyReLU with the slope of the authors' discriminators.
pub fn leaky(x: &Tensor) -> Tensor {
    // max(x, 0.2 x), as tch's own has the slope fixed at 0.01.
    x.maximum(&(x * 0.2))
}

/// Nearest up-sampling, convolution, normalisation, GLU: doubles the size.
#[derive(Debug)]
pub struct Up {
    conv: nn::Conv2D,
    norm: nn::BatchNorm,
}

impl Up {
    /// From `from` to `to` channels.
    pub fn new(p: Path<'_>, from: i64, to: i64) -> Self {
        Self {
            conv: conv3x3(&p / "1", from, 2 * to),
            norm: batch_norm(&p / "2", 2 * to),
        }
    }

    /// `[batch, from, side, side]` to `[batch, to, 2 side, 2 side]`.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let size = x.size();
        let doubled = x.upsample_nearest2d([2 * size[2], 2 * size[3]], None, None);
        glu(&doubled.apply(&self.conv).apply_t(&self.norm, train))
    }
}

/// A residual block of the attention stages.
#[derive(Debug)]
pub struct Residual {
    wide: nn::Conv2D,
    norm_wide: nn::BatchNorm,
    narrow: nn::Conv2D,
    norm_narrow: nn::BatchNorm,
}

impl Residual {
    /// A block that keeps `width` channels.
    pub fn new(p: Path<'_>, width: i64) -> Self {
        let p = p / "block";
        Self {
            wide: conv3x3(&p / "0", width, 2 * width),
            norm_wide: batch_norm(&p / "1", 2 * width),
            narrow: conv3x3(&p / "3", width, width),
            norm_narrow: batch_norm(&p / "4", width),
        }
    }

    /// `[batch, width, side, side]` to the same.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let inner = glu(&x.apply(&self.wide).apply_t(&self.norm_wide, train));
        x + inner.apply(&self.narrow).apply_t(&self.norm_narrow, train)
    }
}

/// Convolution, normalisation, LeakyReLU: the step of encoders and discriminators.
#[derive(Debug)]
pub struct Down {
    conv: nn::Conv2D,
    norm: nn::BatchNorm,
}

impl Down {
    /// Halves the size: 4 × 4 convolution of stride 2.
    pub fn halving(p: Path<'_>, from: i64, to: i64) -> Self {
        Self {
            conv: conv_halving(&p / "0", from, to),
            norm: batch_norm(&p / "1", to),
        }
    }

    /// Keeps the size: 3 × 3 convolution.
    pub fn keeping(p: Path<'_>, from: i64, to: i64) -> Self {
        Self {
            conv: conv3x3(&p / "0", from, to),
            norm: batch_norm(&p / "1", to),
        }
    }

    /// `[batch, from, side, side]` to `[batch, to, side or side / 2, …]`.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        leaky(&self.norm.forward_t(&x.apply(&self.conv), train))
    }
}

/// Binary cross-entropy of probabilities' logits against one answer for all, averaged.
pub fn cross_entropy(logits: &Tensor, real: bool) -> Tensor {
    // -log σ(x) = softplus(-x), and -log(1 - σ(x)) = softplus(x).
    let signed = if real {
        -logits
    } else {
        logits.shallow_clone()
    };
    signed.softplus().mean(Kind::Float)
}
