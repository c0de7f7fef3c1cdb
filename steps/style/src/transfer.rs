//! Whitening and colouring (Li et al., 2017) at every point of the network:
//! the features of a content are given the mean and the covariance that the
//! features of a style have.
//!
//! The statistics are taken once, of whole pictures; the result is a set of
//! fixed affine maps, which can then be applied to any part of the picture.
//! It never touches parameters and never reads a file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::model::{Network, Point};

/// Which of the maps that carry one covariance into another is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Whitening by the symmetric root, then colouring by the symmetric root:
    /// `S^1/2 C^-1/2`, the published one.
    Symmetric,
    /// The same two covariances joined by the map that moves the features
    /// least (Monge's, for Gaussians): `C^-1/2 (C^1/2 S C^1/2)^1/2 C^-1/2`.
    Transport,
}

/// How a transfer is done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// 0 leaves the content, 1 takes the statistics of the style entirely.
    pub strength: f64,
    /// Which map joins the covariances.
    pub rule: Rule,
    /// No direction of the features is amplified more than this, so that the
    /// noise of a flat picture stays noise.
    pub gain: f64,
    /// The same bound for the high bands of the wavelets, where texture lives.
    pub detail_gain: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strength: 1.0,
            rule: Rule::Transport,
            gain: 4.0,
            detail_gain: 1.5,
        }
    }
}

/// Numerics that no map can be made of.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The eigendecomposition failed although its matrix is finite.
    #[error("decomposing a {size}×{size} covariance into eigenvectors")]
    Eigen {
        /// Side of the matrix.
        size: i64,
        /// What libtorch said.
        #[source]
        source: tch::TchError,
    },
    /// Features of two networks were mixed.
    #[error("the style has no statistics for {0:?}")]
    Missing(Point),
}

/// Mean `[channels]` and covariance `[channels, channels]` of features, in
/// double precision on the CPU.
#[derive(Debug)]
pub struct Moments {
    mean: Tensor,
    covariance: Tensor,
}

impl Moments {
    /// The moments of features `[batch, channels, height, width]`, over the whole
    /// batch. Values that are not finite count as 0.
    #[must_use]
    pub fn of(features: &Tensor) -> Self {
        // Enough columns for fast products, few enough to stay small in double
        // precision.
        const COLUMNS: i64 = 1 << 15;
        let flat = features
            .detach()
            .nan_to_num(0.0, 0.0, 0.0)
            .transpose(0, 1)
            .flatten(1, 3);
        let (channels, columns) = (flat.size()[0], flat.size()[1]);
        let options = (Kind::Double, Device::Cpu);
        let chunks = || {
            (0..columns).step_by(COLUMNS as usize).map(|start| {
                let part = flat.narrow(1, start, COLUMNS.min(columns - start));
                part.to_device(Device::Cpu).to_kind(Kind::Double)
            })
        };
        let mut mean = Tensor::zeros([channels], options);
        for part in chunks() {
            mean += part.sum_dim_intlist(1, false, Kind::Double);
        }
        let mean = mean / columns as f64;
        let mut covariance = Tensor::zeros([channels, channels], options);
        for part in chunks() {
            let centred = part - mean.unsqueeze(1);
            covariance += centred.matmul(&centred.tr());
        }
        Self {
            mean,
            covariance: covariance / columns as f64,
        }
    }

    /// The Gram matrix `[channels, channels]`: the second moments about zero.
    #[must_use]
    pub fn gram(&self) -> Tensor {
        &self.covariance + self.mean.outer(&self.mean)
    }
}

/// Eigenvalues (negative ones, which are rounding, as 0) and eigenvectors of a
/// symmetric matrix.
fn eigen(matrix: &Tensor) -> Result<(Tensor, Tensor), TransferError> {
    let symmetric = (matrix + matrix.tr()) * 0.5;
    let (values, vectors) =
        symmetric
            .f_linalg_eigh("L")
            .map_err(|source| TransferError::Eigen {
                size: matrix.size()[0],
                source,
            })?;
    Ok((values.clamp_min(0.0), vectors))
}

fn recompose(values: &Tensor, vectors: &Tensor) -> Tensor {
    (vectors * values.unsqueeze(0)).matmul(&vectors.tr())
}

/// A map `x -> matrix · x + offset` of features.
#[derive(Debug)]
pub struct Affine {
    matrix: Tensor,
    offset: Tensor,
}

impl Affine {
    /// The map that gives features with the moments `content` those of `style`.
    ///
    /// Directions in which the content hardly varies are not inverted: their
    /// eigenvalues are lifted to a small part of the largest, and the result
    /// amplifies nothing by more than `gain`.
    ///
    /// # Errors
    /// [`TransferError::Eigen`] where an eigendecomposition fails.
    pub fn between(
        content: &Moments,
        style: &Moments,
        settings: &Settings,
        gain: f64,
    ) -> Result<Self, TransferError> {
        let (values, vectors) = eigen(&content.covariance)?;
        let floor = (values.max().double_value(&[]) * 1e-5).max(1e-9);
        let values = values.clamp_min(floor);
        let root = recompose(&values.sqrt(), &vectors);
        let inverse = recompose(&values.rsqrt(), &vectors);
        let matrix = match settings.rule {
            Rule::Transport => {
                let (middle, axes) = eigen(&root.matmul(&style.covariance).matmul(&root))?;
                let map = inverse
                    .matmul(&recompose(&middle.sqrt(), &axes))
                    .matmul(&inverse);
                let (gains, axes) = eigen(&map)?;
                recompose(&gains.clamp_max(gain), &axes)
            }
            Rule::Symmetric => {
                let (values, axes) = eigen(&style.covariance)?;
                let map = recompose(&values.sqrt(), &axes).matmul(&inverse);
                // Bounding the singular values: map = (map mapᵀ)^1/2 · rotation.
                let (squares, axes) = eigen(&map.matmul(&map.tr()))?;
                let gains = squares.sqrt();
                let bound = gains.clamp_max(gain) / gains.clamp_min(1e-12);
                recompose(&bound, &axes).matmul(&map)
            }
        };
        let offset = &style.mean - matrix.mv(&content.mean);
        let identity = Tensor::eye(matrix.size()[0], (Kind::Double, Device::Cpu));
        let matrix = matrix * settings.strength + identity * (1.0 - settings.strength);
        Ok(Self {
            matrix: matrix.to_kind(Kind::Float),
            offset: (offset * settings.strength).to_kind(Kind::Float),
        })
    }

    /// The features `[batch, channels, height, width]`, mapped.
    #[must_use]
    pub fn apply(&self, features: &Tensor) -> Tensor {
        let device = features.device();
        let channels = self.offset.size()[0];
        let kernel = self
            .matrix
            .to_device(device)
            .view([channels, channels, 1, 1]);
        let offset = self.offset.to_device(device);
        features.conv2d(&kernel, Some(&offset), [1, 1], [0, 0], [1, 1], 1)
    }
}

/// What a network sees in a style: moments at every point.
pub type StyleMoments = BTreeMap<Point, Moments>;

/// Takes the moments of a style picture `[1, 3, height, width]`.
#[must_use]
pub fn moments(network: &Network, style: &Tensor) -> StyleMoments {
    let mut found = StyleMoments::new();
    let _ = network.forward(style, &mut |point, features| {
        found.insert(point, Moments::of(&features));
        features
    });
    found
}

/// The maps of one transfer, by point: fixed, and good for any part of the
/// picture that they were made for.
#[derive(Debug)]
pub struct Transfer {
    maps: BTreeMap<Point, Affine>,
}

impl Transfer {
    /// Makes the maps from a whole content `[1, 3, height, width]`, each from
    /// features that all earlier maps have changed already, in one pass; also
    /// gives the coloured picture.
    ///
    /// # Errors
    /// [`TransferError`] where no map can be made.
    pub fn fit(
        network: &Network,
        content: &Tensor,
        style: &StyleMoments,
        settings: &Settings,
    ) -> Result<(Self, Tensor), TransferError> {
        let mut maps = BTreeMap::new();
        let mut failure = None;
        let output = network.forward(content, &mut |point, features| {
            if failure.is_some() {
                return features;
            }
            let gain = match point {
                Point::Skip(..) => settings.detail_gain,
                Point::Encoder(_) | Point::Decoder(_) => settings.gain,
            };
            let map = style
                .get(&point)
                .ok_or(TransferError::Missing(point))
                .and_then(|style| Affine::between(&Moments::of(&features), style, settings, gain));
            match map {
                Ok(map) => {
                    let changed = map.apply(&features);
                    maps.insert(point, map);
                    changed
                }
                Err(error) => {
                    failure = Some(error);
                    features
                }
            }
        });
        failure.map_or(Ok((Self { maps }, output)), Err)
    }

    /// Colours a picture, or a part of one, `[1, 3, height, width]` by the maps.
    #[must_use]
    pub fn apply(&self, network: &Network, image: &Tensor) -> Tensor {
        network.forward(image, &mut |point, features| match self.maps.get(&point) {
            Some(map) => map.apply(&features),
            None => features,
        })
    }
}
