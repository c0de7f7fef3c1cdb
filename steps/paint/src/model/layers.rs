//! The few layers that AttnGAN is built of.

use tch::nn::{self, Init, ModuleT, Path};
use tch::{Kind, Tensor};

use super::config::{Config, Normalisation};

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

/// The normalisation of the generator: over the batch as in the paper, or over groups of
/// channels, for batches that are too small to speak for all pictures.
#[derive(Debug)]
pub enum Norm {
    /// Batch normalisation of maps or vectors.
    Batch(nn::BatchNorm),
    /// Group normalisation.
    Group(nn::GroupNorm),
}

impl Norm {
    /// Of maps with `width` channels.
    pub fn maps(p: Path<'_>, width: i64, kind: Normalisation) -> Self {
        match kind {
            Normalisation::Batch => Self::Batch(batch_norm(p, width)),
            Normalisation::Group => Self::Group(nn::group_norm(
                p,
                (width / 8).max(1),
                width,
                nn::GroupNormConfig::default(),
            )),
        }
    }

    /// Of vectors of `width`; as a group, all of it is one.
    pub fn vectors(p: Path<'_>, width: i64, kind: Normalisation) -> Self {
        match kind {
            Normalisation::Batch => Self::Batch(nn::batch_norm1d(p, width, batch_norm_config())),
            Normalisation::Group => {
                Self::Group(nn::group_norm(p, 1, width, nn::GroupNormConfig::default()))
            }
        }
    }

    /// Normalises; `train` is of matter to batches alone.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        match self {
            Self::Batch(norm) => norm.forward_t(x, train),
            Self::Group(norm) => x.apply(norm),
        }
    }
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

/// Planes over the picture whose slopes a code decides, added to the features of an
/// up-sampling: in the gate of a GLU such a plane is a horizon or a disc where the code
/// wants it. Convolutions alone learn to turn numbers into places very slowly (Liu et
/// al., "An intriguing failing of convolutional neural networks and the CoordConv
/// solution", 2018). Not in the paper.
#[derive(Debug)]
struct Planes {
    slopes: nn::Linear,
}

impl Planes {
    /// 1, x, y, x², xy, y², with x and y from -1 to 1: `[6, side²]`.
    fn basis(side: i64, like: &Tensor) -> Tensor {
        let line = Tensor::linspace(-1.0, 1.0, side, (like.kind(), like.device()));
        let x = line.unsqueeze(0).expand([side, side], true).reshape([-1]);
        let y = line.unsqueeze(1).expand([side, side], true).reshape([-1]);
        Tensor::stack(
            &[x.ones_like(), x.copy(), y.copy(), &x * &x, &x * &y, &y * &y],
            0,
        )
    }

    /// Code `[batch, width]` to `[batch, channels, side, side]`.
    fn forward(&self, code: &Tensor, side: i64) -> Tensor {
        let batch = code.size()[0];
        let slopes = code.apply(&self.slopes).view([batch, -1, 6]);
        slopes
            .matmul(&Self::basis(side, code))
            .view([batch, -1, side, side])
    }
}

/// Nearest up-sampling, convolution, normalisation, GLU: doubles the size.
#[derive(Debug)]
pub struct Up {
    conv: nn::Conv2D,
    norm: Norm,
    planes: Option<Planes>,
}

impl Up {
    /// From `from` to `to` channels, with planes where the configuration has a code.
    pub fn new(p: Path<'_>, from: i64, to: i64, config: &Config) -> Self {
        Self {
            conv: conv3x3(&p / "1", from, 2 * to),
            norm: Norm::maps(&p / "2", 2 * to, config.normalisation),
            planes: (config.placement > 0).then(|| Planes {
                slopes: linear(&p / "planes", config.placement, 12 * to, true),
            }),
        }
    }

    /// `[batch, from, side, side]` and a code `[batch, placement]` to
    /// `[batch, to, 2 side, 2 side]`.
    pub fn forward(&self, x: &Tensor, code: Option<&Tensor>, train: bool) -> Tensor {
        let size = x.size();
        let doubled = x.upsample_nearest2d([2 * size[2], 2 * size[3]], None, None);
        let features = self.norm.forward(&doubled.apply(&self.conv), train);
        match (&self.planes, code) {
            (Some(planes), Some(code)) => glu(&(features + planes.forward(code, 2 * size[2]))),
            _ => glu(&features),
        }
    }
}

/// A residual block of the attention stages.
#[derive(Debug)]
pub struct Residual {
    wide: nn::Conv2D,
    norm_wide: Norm,
    narrow: nn::Conv2D,
    norm_narrow: Norm,
}

impl Residual {
    /// A block that keeps `width` channels.
    pub fn new(p: Path<'_>, width: i64, norm: Normalisation) -> Self {
        let p = p / "block";
        Self {
            wide: conv3x3(&p / "0", width, 2 * width),
            norm_wide: Norm::maps(&p / "1", 2 * width, norm),
            narrow: conv3x3(&p / "3", width, width),
            norm_narrow: Norm::maps(&p / "4", width, norm),
        }
    }

    /// `[batch, width, side, side]` to the same.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let inner = glu(&self.norm_wide.forward(&x.apply(&self.wide), train));
        x + self.norm_narrow.forward(&inner.apply(&self.narrow), train)
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
