//! The wavelet autoencoder of WCT² (Yoo et al., ICCV 2019): an encoder that
//! pools with Haar wavelets and a decoder that undoes it with the same ones.
//!
//! It knows layers and shapes only: what is done to the features on the way
//! (nothing, whitening and colouring, counting) is a hook of the caller's. It
//! never reads a file and never computes a statistic.

use auria_steps_common::weights::Tensors;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::wavelet::{haar, unhaar};

/// How the decoder joins the four bands of a wavelet pooling again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unpool {
    /// The exact inverse of the pooling: the bands are added.
    Sum,
    /// The bands and the feature before the pooling stand side by side, and
    /// the next convolution reads all five (`cat5` in the paper's code).
    Cat5,
}

/// Every width of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Channels of each level, finest first.
    pub widths: Vec<i64>,
    /// Convolutions of each level, at least one; the first of a level is the
    /// one whose output is whitened and coloured.
    pub convolutions: Vec<i64>,
    /// How the decoder joins the wavelet bands.
    pub unpool: Unpool,
}

/// A configuration that describes no network.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The two lists differ in length, or are empty.
    #[error(
        "the network needs as many widths as convolution counts, at least one: {widths} and {convolutions} were given"
    )]
    Levels {
        /// Number of widths.
        widths: usize,
        /// Number of convolution counts.
        convolutions: usize,
    },
    /// A width or a count below one.
    #[error("a width and a number of convolutions are at least 1 at every level")]
    Size,
    /// A parameter is missing or has another shape.
    #[error(
        "the weights do not fit the configuration: `{name}` should be {expected:?} and is {found}"
    )]
    Weights {
        /// Name of the parameter.
        name: String,
        /// Shape by the configuration.
        expected: Vec<i64>,
        /// Shape in the file, or that it is absent.
        found: String,
    },
}

impl Config {
    /// VGG-19 up to `conv4_1`, as published.
    #[must_use]
    pub fn published() -> Self {
        Self {
            widths: vec![64, 128, 256, 512],
            convolutions: vec![2, 2, 4, 1],
            unpool: Unpool::Cat5,
        }
    }

    /// The size of the weights that ship.
    #[must_use]
    pub fn small() -> Self {
        Self {
            widths: vec![16, 32, 64, 128],
            convolutions: vec![2, 2, 2, 1],
            unpool: Unpool::Sum,
        }
    }

    /// The smallest size that still has every kind of layer, for tests.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            widths: vec![8, 12],
            convolutions: vec![2, 1],
            unpool: Unpool::Sum,
        }
    }

    /// Says whether the lists describe a network.
    ///
    /// # Errors
    /// [`ConfigError`] with what does not fit.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.widths.is_empty() || self.widths.len() != self.convolutions.len() {
            return Err(ConfigError::Levels {
                widths: self.widths.len(),
                convolutions: self.convolutions.len(),
            });
        }
        if self.widths.iter().chain(&self.convolutions).any(|&n| n < 1) {
            return Err(ConfigError::Size);
        }
        Ok(())
    }

    /// Number of levels; there is one pooling fewer.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.widths.len()
    }

    /// Sides of an input must be multiples of this many pixels.
    #[must_use]
    pub fn alignment(&self) -> i64 {
        1 << (self.levels() - 1)
    }

    /// How far, in pixels, an input pixel can reach into the output when the
    /// statistics are fixed, rounded up to the alignment.
    #[must_use]
    pub fn reach(&self) -> i64 {
        let convolutions: i64 = self
            .convolutions
            .iter()
            .enumerate()
            .map(|(level, &n)| (2 * n) << level)
            .sum();
        // A pooled pixel covers its whole block: one block more at each side.
        let alignment = self.alignment();
        (convolutions + 2 * alignment).div_euclid(alignment) * alignment + alignment
    }

    /// Names and shapes of all layers, in the order of the forward pass.
    fn layers(&self) -> Vec<(String, i64, i64)> {
        let last = self.levels() - 1;
        let mut layers = Vec::new();
        for level in 0..=last {
            let width = self.widths[level];
            let before = if level == 0 {
                3
            } else {
                self.widths[level - 1]
            };
            layers.push((layer("encoder", level, 1), before, width));
            // The deepest level ends with its first convolution.
            if level < last {
                for n in 2..=self.convolutions[level] {
                    layers.push((layer("encoder", level, n), width, width));
                }
            }
        }
        for level in (0..=last).rev() {
            let width = self.widths[level];
            let after = if level == 0 {
                3
            } else {
                self.widths[level - 1]
            };
            if level < last {
                for n in (2..=self.convolutions[level]).rev() {
                    let joins = n == self.convolutions[level] && self.unpool == Unpool::Cat5;
                    let before = if joins { 5 * width } else { width };
                    layers.push((layer("decoder", level, n), before, width));
                }
            }
            let joins =
                level < last && self.convolutions[level] == 1 && self.unpool == Unpool::Cat5;
            let before = if joins { 5 * width } else { width };
            layers.push((layer("decoder", level, 1), before, after));
        }
        layers
    }
}

fn layer(half: &str, level: usize, n: i64) -> String {
    format!("{half}.conv{}_{n}", level + 1)
}

/// First values of a 3×3 convolution, `[output, input, 3, 3]`.
fn first_weight(input: i64, output: i64, rng: &mut ChaCha8Rng) -> Vec<f32> {
    // Uniform with the variance 2 / fan-in, reduced to a tenth.
    let bound = 0.1 * (6.0 / (input * 9) as f32).sqrt();
    let mut values = Vec::with_capacity((output * input * 9) as usize);
    for to in 0..output {
        for from in 0..input {
            // Rectified features cannot be negative, so three channels hold the
            // colours and three more their opposites.
            let hand_on = match (input, output) {
                (3, _) if to < 6 && to % 3 == from => {
                    if to < 3 {
                        1.0
                    } else {
                        -1.0
                    }
                }
                (_, 3) if from < 6 && from % 3 == to => {
                    if from < 3 {
                        1.0
                    } else {
                        -1.0
                    }
                }
                (3, _) | (_, 3) => 0.0,
                _ => {
                    if to == from {
                        1.0
                    } else {
                        0.0
                    }
                }
            };
            for tap in 0..9 {
                let noise = rng.random_range(-bound..bound);
                values.push(if tap == 4 { noise + hand_on } else { noise });
            }
        }
    }
    values
}

/// A place where features may be changed on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// After the first convolution of a level of the encoder.
    Encoder(usize),
    /// Where the decoder comes back to the features of that level.
    Decoder(usize),
}

/// What is done to features on their way through the network. All are `[batch,
/// channels, height, width]`.
pub trait Hook {
    /// Changes the features at a point, or leaves them.
    fn features(&mut self, point: Point, features: Tensor) -> Tensor;

    /// Changes the high bands LH, HL and HH of a level's pooling, or leaves them.
    /// `low` is the low band as the encoder pooled it, `decoded` what the decoder
    /// puts in its place.
    fn bands(
        &mut self,
        level: usize,
        low: &Tensor,
        decoded: &Tensor,
        bands: [Tensor; 3],
    ) -> [Tensor; 3];
}

/// Leaves everything as it is.
#[derive(Debug)]
struct Nothing;

impl Hook for Nothing {
    fn features(&mut self, _: Point, features: Tensor) -> Tensor {
        features
    }

    fn bands(&mut self, _: usize, _: &Tensor, _: &Tensor, bands: [Tensor; 3]) -> [Tensor; 3] {
        bands
    }
}

/// Encoder and decoder with their parameters.
#[derive(Debug)]
pub struct Network {
    config: Config,
    parameters: Tensors,
}

/// What a pooling keeps for the decoder.
struct Skip {
    low: Tensor,
    bands: [Tensor; 3],
    before: Option<Tensor>,
}

impl Network {
    /// A network with random parameters, the same on every machine for one seed:
    /// a tenth of He et al. (2015), and ones that hand each channel on, so that a
    /// training from nothing need not first find out how to keep a picture.
    ///
    /// # Errors
    /// [`ConfigError`] where `config` describes no network.
    pub fn random(config: Config, seed: u64, device: Device) -> Result<Self, ConfigError> {
        config.check()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = Tensors::new();
        for (name, input, output) in config.layers() {
            let values = first_weight(input, output, &mut rng);
            let weight = Tensor::from_slice(&values)
                .view([output, input, 3, 3])
                .to(device);
            parameters.insert(format!("{name}.weight"), weight);
            parameters.insert(
                format!("{name}.bias"),
                Tensor::zeros([output], (Kind::Float, device)),
            );
        }
        Ok(Self { config, parameters })
    }

    /// A network with the parameters given, in single precision on `device`.
    ///
    /// # Errors
    /// [`ConfigError`] where a parameter is missing or has another shape.
    pub fn from_parameters(
        config: Config,
        mut given: Tensors,
        device: Device,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let mut parameters = Tensors::new();
        for (name, input, output) in config.layers() {
            for (part, shape) in [
                ("weight", vec![output, input, 3, 3]),
                ("bias", vec![output]),
            ] {
                let name = format!("{name}.{part}");
                match given.remove(&name) {
                    Some(tensor) if tensor.size() == shape => {
                        parameters.insert(
                            name,
                            tensor.to_device(device).to_kind(Kind::Float).contiguous(),
                        );
                    }
                    other => {
                        return Err(ConfigError::Weights {
                            name,
                            expected: shape,
                            found: other.map_or("absent".into(), |t| format!("{:?}", t.size())),
                        });
                    }
                }
            }
        }
        Ok(Self { config, parameters })
    }

    /// The same network, with its parameters as leaves that gather gradients.
    #[must_use]
    pub fn trainable(mut self) -> Self {
        self.parameters = std::mem::take(&mut self.parameters)
            .into_iter()
            .map(|(name, tensor)| (name, tensor.detach().set_requires_grad(true)))
            .collect();
        self
    }

    /// The sizes of this network.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Parameters by name.
    #[must_use]
    pub fn parameters(&self) -> &Tensors {
        &self.parameters
    }

    /// Where the parameters are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.parameters
            .values()
            .next()
            .map_or(Device::Cpu, Tensor::device)
    }

    /// Runs an image `[batch, 3, height, width]` (values 0 to 1, sides multiples
    /// of [`Config::alignment`] and at least twice that) through encoder and
    /// decoder, and gives every feature at a [`Point`] to `hook`. The result
    /// has the shape of the image and is not clamped.
    pub fn forward(&self, image: &Tensor, hook: &mut dyn Hook) -> Tensor {
        let last = self.config.levels() - 1;
        let mut skips: Vec<Skip> = Vec::with_capacity(last);
        let mut x = image * 2.0 - 1.0;
        for level in 0..=last {
            x = hook.features(
                Point::Encoder(level),
                self.convolve("encoder", level, 1, &x).relu(),
            );
            if level < last {
                for n in 2..=self.config.convolutions[level] {
                    x = self.convolve("encoder", level, n, &x).relu();
                }
                let (low, bands) = haar(&x);
                let before = (self.config.unpool == Unpool::Cat5).then_some(x);
                x = low.shallow_clone();
                skips.push(Skip { low, bands, before });
            }
        }
        for level in (0..last).rev() {
            x = self.convolve("decoder", level + 1, 1, &x).relu();
            if let Some(Skip { low, bands, before }) = skips.pop() {
                let bands = hook.bands(level, &low, &x, bands);
                x = unpool(&x, &bands, before);
            }
            for n in (2..=self.config.convolutions[level]).rev() {
                x = self.convolve("decoder", level, n, &x).relu();
            }
            // With one convolution at a level and five parts side by side
            // there is no feature of the level's own shape to hand out.
            if x.size()[1] == self.config.widths[level] {
                x = hook.features(Point::Decoder(level), x);
            }
        }
        (self.convolve("decoder", 0, 1, &x) + 1.0) * 0.5
    }

    /// The image as the autoencoder gives it back.
    pub fn reconstruct(&self, image: &Tensor) -> Tensor {
        self.forward(image, &mut Nothing)
    }

    fn convolve(&self, half: &str, level: usize, n: i64, x: &Tensor) -> Tensor {
        let name = layer(half, level, n);
        let weight = &self.parameters[&format!("{name}.weight")];
        let bias = &self.parameters[&format!("{name}.bias")];
        // Reflection keeps flat borders flat, which zeros would not.
        x.reflection_pad2d([1, 1, 1, 1])
            .conv2d(weight, Some(bias), [1, 1], [0, 0], [1, 1], 1)
    }
}

/// Undoes a pooling: the sum of the bands, or, with the feature `before` the
/// pooling, all five side by side.
fn unpool(low: &Tensor, [lh, hl, hh]: &[Tensor; 3], before: Option<Tensor>) -> Tensor {
    let Some(before) = before else {
        return unhaar(low, lh, hl, hh);
    };
    let zero = low.zeros_like();
    let parts = [
        unhaar(low, &zero, &zero, &zero),
        unhaar(&zero, lh, &zero, &zero),
        unhaar(&zero, &zero, hl, &zero),
        unhaar(&zero, &zero, &zero, hh),
        before,
    ];
    Tensor::cat(&parts, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(shape: &[i64]) -> Tensor {
        tch::manual_seed(1);
        Tensor::rand(shape, (Kind::Float, Device::Cpu))
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn every_configuration_gives_back_the_shape_of_the_image() {
        let mut cat5 = Config::small();
        cat5.unpool = Unpool::Cat5;
        let mut narrow = cat5.clone();
        narrow.convolutions = vec![1, 1, 1, 1];
        for config in [Config::small(), cat5, narrow, Config::tiny()] {
            let network = Network::random(config, 3, Device::Cpu).unwrap();
            let x = noise(&[2, 3, 16, 24]);
            assert_eq!(network.reconstruct(&x).size(), x.size());
        }
    }

    #[test]
    fn the_published_size_has_the_layers_of_vgg_19() {
        let layers = Config::published().layers();
        let encoder: Vec<_> = layers
            .iter()
            .filter(|l| l.0.starts_with("encoder"))
            .collect();
        assert_eq!(encoder.len(), 9);
        assert_eq!(encoder[8], &("encoder.conv4_1".to_owned(), 256, 512));
        assert!(layers.contains(&("decoder.conv3_4".to_owned(), 1280, 256)));
        assert!(layers.contains(&("decoder.conv4_1".to_owned(), 512, 256)));
    }

    #[test]
    fn the_hook_sees_every_point_and_every_pooling_once() {
        struct Seen(Vec<Point>, Vec<usize>);
        impl Hook for Seen {
            fn features(&mut self, point: Point, features: Tensor) -> Tensor {
                self.0.push(point);
                features
            }
            fn bands(
                &mut self,
                level: usize,
                low: &Tensor,
                decoded: &Tensor,
                bands: [Tensor; 3],
            ) -> [Tensor; 3] {
                assert_eq!(
                    (low.size(), decoded.size()),
                    (bands[0].size(), bands[2].size())
                );
                self.1.push(level);
                bands
            }
        }
        let network = Network::random(Config::small(), 3, Device::Cpu).unwrap();
        let mut seen = Seen(Vec::new(), Vec::new());
        let _ = network.forward(&noise(&[1, 3, 16, 16]), &mut seen);
        let encoder = (0..4).map(Point::Encoder);
        let decoder = (0..3).rev().map(Point::Decoder);
        assert_eq!(seen.0, encoder.chain(decoder).collect::<Vec<_>>());
        assert_eq!(seen.1, [2, 1, 0]);
    }

    #[test]
    fn reach_covers_what_one_pixel_changes() {
        let network = Network::random(Config::small(), 3, Device::Cpu).unwrap();
        let reach = network.config().reach();
        let side = 2 * reach + 32;
        let plain = noise(&[1, 3, 8, side]);
        let plain = plain.repeat([1, 1, 2, 1]);
        let changed = plain.copy();
        let _ = changed.narrow(3, reach, 8).fill_(3.0);
        let difference = (network.reconstruct(&plain) - network.reconstruct(&changed))
            .abs()
            .amax([0, 1, 2], false);
        assert!(difference.narrow(0, reach, 8).max().double_value(&[]) > 1e-4);
        assert_eq!(
            difference
                .narrow(0, 2 * reach + 8, side - 2 * reach - 8)
                .max()
                .double_value(&[]),
            0.0
        );
    }

    #[test]
    fn a_seed_makes_one_network_and_wrong_weights_are_named() {
        let config = Config::tiny();
        let one = Network::random(config.clone(), 5, Device::Cpu).unwrap();
        let two = Network::random(config.clone(), 5, Device::Cpu).unwrap();
        let x = noise(&[1, 3, 8, 8]);
        assert_eq!(
            largest_difference(&one.reconstruct(&x), &two.reconstruct(&x)),
            0.0
        );
        let error = Network::from_parameters(config, Tensors::new(), Device::Cpu).unwrap_err();
        assert!(
            error.to_string().contains("encoder.conv1_1.weight"),
            "{error}"
        );
    }
}
