//! Whitening and colouring (Li et al., 2017) at every level of the network: the
//! features of a content are given the mean and the covariance that the features
//! of a style have.
//!
//! The paper whitens and colours the high bands of the wavelets too. Then low
//! and high bands of one place are changed by unlike amounts, and where a flat
//! sky is stretched the blocks of the wavelet show. Here the high bands follow:
//! they go through the linear map that comes nearest to what became of the low
//! band beside them.
//!
//! The statistics are taken once, of whole pictures; the result is a set of
//! fixed maps, which can then be applied to any part of the picture. It never
//! touches parameters and never reads a file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::model::{Hook, Network, Point};

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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strength: 1.0,
            rule: Rule::Transport,
            gain: 1.5,
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
    /// amplifies nothing by more than the settings' gain.
    ///
    /// # Errors
    /// [`TransferError::Eigen`] where an eigendecomposition fails.
    pub fn between(
        content: &Moments,
        style: &Moments,
        settings: &Settings,
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
                recompose(&gains.clamp_max(settings.gain), &axes)
            }
            Rule::Symmetric => {
                let (values, axes) = eigen(&style.covariance)?;
                let map = recompose(&values.sqrt(), &axes).matmul(&inverse);
                // Bounding the singular values: map = (map mapᵀ)^1/2 · rotation.
                let (squares, axes) = eigen(&map.matmul(&map.tr()))?;
                let gains = squares.sqrt();
                let bound = gains.clamp_max(settings.gain) / gains.clamp_min(1e-12);
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

    /// The linear map that comes nearest to turning features `before` into
    /// `after` (least squares about their means), the identity where `before`
    /// hardly varies.
    #[must_use]
    pub fn nearest(before: &Tensor, after: &Tensor) -> Self {
        let joint = Moments::of(&Tensor::cat(&[before, after], 1)).covariance;
        let channels = before.size()[1];
        let own = joint.narrow(0, 0, channels).narrow(1, 0, channels);
        let across = joint.narrow(0, channels, channels).narrow(1, 0, channels);
        let identity = Tensor::eye(channels, (Kind::Double, Device::Cpu));
        let ridge = (own.trace().double_value(&[]) / channels as f64 * 1e-3).max(1e-9);
        let (values, vectors) = match eigen(&own) {
            Ok(found) => found,
            // Only a matrix that is not finite fails, and `Moments` gives none.
            Err(_) => {
                return Self {
                    matrix: identity.to_kind(Kind::Float),
                    offset: zeros(channels),
                };
            }
        };
        let inverse = recompose(&(values + ridge).reciprocal(), &vectors);
        let matrix = (across + identity * ridge).matmul(&inverse);
        Self {
            matrix: matrix.to_kind(Kind::Float),
            offset: zeros(channels),
        }
    }

    /// The features `[batch, channels, height, width]`, mapped.
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

fn zeros(channels: i64) -> Tensor {
    Tensor::zeros([channels], (Kind::Float, Device::Cpu))
}

/// What a network sees in a style: moments at every point.
pub type StyleMoments = BTreeMap<Point, Moments>;

struct Seeing(StyleMoments);

impl Hook for Seeing {
    fn features(&mut self, point: Point, features: Tensor) -> Tensor {
        self.0.insert(point, Moments::of(&features));
        features
    }

    fn bands(&mut self, _: usize, _: &Tensor, _: &Tensor, bands: [Tensor; 3]) -> [Tensor; 3] {
        bands
    }
}

/// Takes the moments of a style picture `[batch, 3, height, width]`; also gives
/// the picture as the network reconstructs it.
pub fn moments(network: &Network, style: &Tensor) -> (StyleMoments, Tensor) {
    let mut seeing = Seeing(StyleMoments::new());
    let again = network.forward(style, &mut seeing);
    (seeing.0, again)
}

/// The maps of one transfer: fixed, and good for any part of the picture that
/// they were made for.
#[derive(Debug, Default)]
pub struct Transfer {
    points: BTreeMap<Point, Affine>,
    bands: BTreeMap<usize, Affine>,
}

struct Fitting<'a> {
    style: &'a StyleMoments,
    settings: &'a Settings,
    transfer: Transfer,
    failure: Option<TransferError>,
}

impl Hook for Fitting<'_> {
    fn features(&mut self, point: Point, features: Tensor) -> Tensor {
        if self.failure.is_some() {
            return features;
        }
        let style = self.style.get(&point).ok_or(TransferError::Missing(point));
        match style.and_then(|s| Affine::between(&Moments::of(&features), s, self.settings)) {
            Ok(map) => {
                let changed = map.apply(&features);
                self.transfer.points.insert(point, map);
                changed
            }
            Err(error) => {
                self.failure = Some(error);
                features
            }
        }
    }

    fn bands(
        &mut self,
        level: usize,
        low: &Tensor,
        decoded: &Tensor,
        bands: [Tensor; 3],
    ) -> [Tensor; 3] {
        let map = Affine::nearest(low, decoded);
        let changed = bands.map(|band| map.apply(&band));
        self.transfer.bands.insert(level, map);
        changed
    }
}

struct Applying<'a>(&'a Transfer);

impl Hook for Applying<'_> {
    fn features(&mut self, point: Point, features: Tensor) -> Tensor {
        match self.0.points.get(&point) {
            Some(map) => map.apply(&features),
            None => features,
        }
    }

    fn bands(&mut self, level: usize, _: &Tensor, _: &Tensor, bands: [Tensor; 3]) -> [Tensor; 3] {
        match self.0.bands.get(&level) {
            Some(map) => bands.map(|band| map.apply(&band)),
            None => bands,
        }
    }
}

impl Transfer {
    /// Makes the maps from a whole content `[batch, 3, height, width]`, each from
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
        let mut fitting = Fitting {
            style,
            settings,
            transfer: Self::default(),
            failure: None,
        };
        let output = network.forward(content, &mut fitting);
        fitting.failure.map_or(Ok((fitting.transfer, output)), Err)
    }

    /// Colours a picture, or a part of one, `[batch, 3, height, width]` by the
    /// maps.
    pub fn apply(&self, network: &Network, image: &Tensor) -> Tensor {
        network.forward(image, &mut Applying(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(seed: i64, channels: i64) -> Tensor {
        tch::manual_seed(seed);
        let options = (Kind::Float, Device::Cpu);
        let mix = Tensor::randn([channels, channels, 1, 1], options);
        let noise = Tensor::randn([1, channels, 20, 30], options);
        let bias = Tensor::randn([channels], options);
        noise.conv2d(&mix, Some(&bias), [1, 1], [0, 0], [1, 1], 1)
    }

    fn near(a: &Tensor, b: &Tensor, tolerance: f64) -> bool {
        (a - b).abs().max().double_value(&[])
            <= tolerance * b.abs().max().double_value(&[]).max(1e-6)
    }

    #[test]
    fn both_rules_give_the_moments_of_the_style() {
        let (content, style) = (features(1, 5), features(2, 5));
        let goal = Moments::of(&style);
        for rule in [Rule::Symmetric, Rule::Transport] {
            let settings = Settings {
                rule,
                gain: 1e3,
                strength: 1.0,
            };
            let map = Affine::between(&Moments::of(&content), &goal, &settings).unwrap();
            let result = Moments::of(&map.apply(&content));
            assert!(near(&result.mean, &goal.mean, 1e-4), "{rule:?}");
            assert!(near(&result.covariance, &goal.covariance, 1e-3), "{rule:?}");
        }
    }

    #[test]
    fn strength_0_leaves_the_features_and_the_same_moments_do_too() {
        let content = features(1, 5);
        let own = Moments::of(&content);
        let none = Settings {
            strength: 0.0,
            ..Settings::default()
        };
        let map = Affine::between(&own, &Moments::of(&features(2, 5)), &none).unwrap();
        assert!(near(&map.apply(&content), &content, 1e-5));
        let map = Affine::between(&own, &own, &Settings::default()).unwrap();
        assert!(near(&map.apply(&content), &content, 1e-3));
    }

    #[test]
    fn nothing_is_amplified_beyond_the_gain_however_degenerate_the_content() {
        let style = Moments::of(&(features(2, 4) * 50.0));
        let one = features(3, 1);
        let equal_channels = one.expand([1, 4, 20, 30], false).contiguous();
        for content in [
            features(1, 4) * 1e-4,
            equal_channels,
            features(1, 4).zeros_like(),
        ] {
            for rule in [Rule::Symmetric, Rule::Transport] {
                let settings = Settings {
                    rule,
                    gain: 3.0,
                    strength: 1.0,
                };
                let map = Affine::between(&Moments::of(&content), &style, &settings).unwrap();
                let result = map.apply(&content);
                assert_eq!(result.isfinite().all().int64_value(&[]), 1);
                let spread = |t: &Tensor| Moments::of(t).covariance.trace().double_value(&[]);
                assert!(spread(&result) <= 9.1 * spread(&content) + 1e-9, "{rule:?}");
                let mean = |t: &Tensor| t.mean_dim([2i64, 3].as_slice(), false, Kind::Double);
                assert!(
                    near(&mean(&result), &style.mean.unsqueeze(0), 1e-3),
                    "{rule:?}"
                );
            }
        }
    }

    #[test]
    fn the_nearest_map_finds_a_linear_one_and_is_the_identity_on_flat_features() {
        let before = features(1, 4);
        let matrix = Tensor::from_slice(&[
            2f32, 0., 0., 0., 0., 1., 0.5, 0., 0., 0., 1., 0., 0., 0., 0., 0.2,
        ]);
        let kernel = matrix.view([4, 4, 1, 1]);
        let after = before.conv2d(&kernel, None::<Tensor>, [1, 1], [0, 0], [1, 1], 1) + 3.0;
        assert!(near(
            &Affine::nearest(&before, &after).matrix,
            &matrix.view([4, 4]),
            0.02
        ));
        let flat = before.zeros_like();
        assert!(near(
            &Affine::nearest(&flat, &flat).matrix,
            &Tensor::eye(4, (Kind::Float, Device::Cpu)),
            1e-6
        ));
    }
}
