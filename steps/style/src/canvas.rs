//! Pictures of any size through the network in bounded memory: padding to what
//! the poolings need, resizing, and tiles. The statistics are taken once, of the
//! whole picture, so tiles differ in nothing and their joints cannot be seen.
//!
//! It never reads or writes a file.

use auria_steps_common::picture::Picture;
use tch::{Kind, Tensor};

use crate::model::{Config, Network};
use crate::transfer::{Settings, StyleMoments, Transfer, TransferError, moments};

/// How much goes through the network at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Pictures of at most so many pixels are not cut into tiles; the
    /// statistics of larger ones are taken of a copy reduced to this size.
    pub whole_pixels: i64,
    /// Side of a tile in pixels, without what it overlaps.
    pub tile: i64,
    /// Styles of more pixels are reduced to so many: only their statistics
    /// matter.
    pub style_pixels: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            whole_pixels: 2 << 20,
            tile: 512,
            style_pixels: 1 << 19,
        }
    }
}

/// Resizes `[channels, height, width]`, smoothing where it gets smaller; values
/// stay within 0 and 1.
pub fn resize(planes: &Tensor, height: i64, width: i64) -> Tensor {
    if planes.size()[1..] == [height, width] {
        return planes.shallow_clone();
    }
    let batch = planes.unsqueeze(0);
    let resized = batch.internal_upsample_bicubic2d_aa([height, width], false, None, None);
    resized.squeeze_dim(0).clamp(0.0, 1.0)
}

/// Height and width with the longest side `longest`, in the same proportion.
#[must_use]
pub fn with_longest_side((height, width): (i64, i64), longest: i64) -> (i64, i64) {
    let scale = longest as f64 / height.max(width).max(1) as f64;
    let side = |n: i64| ((n as f64 * scale).round() as i64).max(1);
    (side(height), side(width))
}

/// Reduces `[channels, height, width]` to at most `pixels`, if it has more.
fn reduced(planes: &Tensor, pixels: i64) -> Tensor {
    let (height, width) = (planes.size()[1], planes.size()[2]);
    if height * width <= pixels {
        return planes.shallow_clone();
    }
    let scale = (pixels as f64 / (height * width) as f64).sqrt();
    let side = |n: i64| ((n as f64 * scale) as i64).max(1);
    resize(planes, side(height), side(width))
}

/// Adds rows below and columns at the right, repeating the last ones, until the
/// network can take the picture; gives `[1, channels, height, width]`.
fn padded(planes: &Tensor, config: &Config) -> Tensor {
    let step = config.alignment();
    let side = |n: i64| ((n + step - 1) / step * step).max(2 * step);
    let (height, width) = (planes.size()[1], planes.size()[2]);
    planes
        .unsqueeze(0)
        .replication_pad2d([0, side(width) - width, 0, side(height) - height])
}

/// The picture's colours over white where it is clear.
pub fn composited(picture: &Picture) -> Tensor {
    let rgb = picture.rgb.nan_to_num(0.0, 1.0, 0.0).clamp(0.0, 1.0);
    match &picture.alpha {
        None => rgb,
        Some(alpha) => {
            let alpha = alpha.nan_to_num(1.0, 1.0, 0.0).clamp(0.0, 1.0);
            &rgb * &alpha + (1.0 - alpha)
        }
    }
}

/// What the network sees in a style picture `[3, height, width]`.
#[must_use]
pub fn style_of(network: &Network, style: &Tensor, limits: &Limits) -> StyleMoments {
    let style = reduced(style, limits.style_pixels).to_device(network.device());
    tch::no_grad(|| moments(network, &padded(&style, network.config())).0)
}

/// Colours `[3, height, width]`: any size of at least a pixel, values from 0 to
/// 1 in and out.
///
/// # Errors
/// [`TransferError`] where the features admit no map.
pub fn colour(
    network: &Network,
    content: &Tensor,
    style: &StyleMoments,
    settings: &Settings,
    limits: &Limits,
) -> Result<Tensor, TransferError> {
    tch::no_grad(|| {
        let (height, width) = (content.size()[1], content.size()[2]);
        let config = network.config();
        let coloured = if height * width <= limits.whole_pixels {
            let whole = padded(&content.to_device(network.device()), config);
            Transfer::fit(network, &whole, style, settings)?
                .1
                .squeeze_dim(0)
        } else {
            let small = reduced(content, limits.whole_pixels).to_device(network.device());
            let (transfer, _) = Transfer::fit(network, &padded(&small, config), style, settings)?;
            let whole = padded(content, config).squeeze_dim(0);
            in_tiles(network, &whole, &transfer, limits.tile)
        };
        let cut = coloured.narrow(1, 0, height).narrow(2, 0, width);
        Ok(cut.to_device(content.device()).clamp(0.0, 1.0).contiguous())
    })
}

/// Applies fixed maps tile by tile to an aligned picture `[3, height, width]`.
/// Each tile is read with a margin that no pixel beyond it can reach across.
fn in_tiles(network: &Network, whole: &Tensor, transfer: &Transfer, tile: i64) -> Tensor {
    let config = network.config();
    let (step, margin) = (config.alignment(), config.reach());
    let tile = (tile / step).max(1) * step;
    let (height, width) = (whole.size()[1], whole.size()[2]);
    let output = Tensor::zeros([3, height, width], (Kind::Float, whole.device()));
    for top in (0..height).step_by(tile as usize) {
        for left in (0..width).step_by(tile as usize) {
            let (bottom, right) = ((top + tile).min(height), (left + tile).min(width));
            let (y, x) = ((top - margin).max(0), (left - margin).max(0));
            let (y_end, x_end) = ((bottom + margin).min(height), (right + margin).min(width));
            let part = whole.narrow(1, y, y_end - y).narrow(2, x, x_end - x);
            let part = part.unsqueeze(0).to_device(network.device());
            let done = transfer.apply(network, &part).squeeze_dim(0);
            let core = done
                .narrow(1, top - y, bottom - top)
                .narrow(2, left - x, right - left);
            output
                .narrow(1, top, bottom - top)
                .narrow(2, left, right - left)
                .copy_(&core.to_device(whole.device()));
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn network() -> Network {
        Network::random(Config::small(), 11, Device::Cpu).unwrap()
    }

    fn noise(seed: i64, height: i64, width: i64) -> Tensor {
        tch::manual_seed(seed);
        Tensor::rand([3, height, width], (Kind::Float, Device::Cpu))
    }

    fn flat(values: [f32; 3], height: i64, width: i64) -> Tensor {
        Tensor::from_slice(&values)
            .view([3, 1, 1])
            .expand([3, height, width], false)
            .contiguous()
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn tiles_equal_the_whole_picture() {
        let network = network();
        let content = noise(1, 200, 312);
        let style = style_of(&network, &noise(2, 40, 40), &Limits::default());
        let settings = Settings::default();
        let whole = tch::no_grad(|| {
            let image = content.unsqueeze(0);
            let (transfer, fitted) = Transfer::fit(&network, &image, &style, &settings).unwrap();
            let tiled = in_tiles(&network, &content, &transfer, 64);
            assert!(largest_difference(&tiled, &fitted.squeeze_dim(0)) < 2e-4);
            fitted
        });
        assert!(whole.std(false).double_value(&[]) > 1e-3);
    }

    #[test]
    fn pictures_of_every_kind_give_finite_colours_of_their_size() {
        let network = network();
        let limits = Limits {
            whole_pixels: 4000,
            tile: 32,
            style_pixels: 2000,
        };
        let grey = noise(5, 33, 47)
            .narrow(0, 0, 1)
            .expand([3, 33, 47], false)
            .contiguous();
        let contents = [
            noise(3, 1, 1),
            noise(3, 1, 300),
            noise(4, 9, 7),
            flat([0.0; 3], 20, 20),
            flat([1.0; 3], 64, 80),
            flat([0.2, 0.7, 0.4], 5, 5),
            grey,
            noise(6, 90, 110),
        ];
        for style in &contents {
            let style = style_of(&network, style, &limits);
            for content in &contents {
                for strength in [0.0, 0.5, 1.0] {
                    let settings = Settings {
                        strength,
                        ..Settings::default()
                    };
                    let result = colour(&network, content, &style, &settings, &limits).unwrap();
                    assert_eq!(result.size(), content.size());
                    assert!(result.isfinite().all().int64_value(&[]) == 1);
                    assert!(
                        result.min().double_value(&[]) >= 0.0
                            && result.max().double_value(&[]) <= 1.0
                    );
                }
            }
        }
    }

    #[test]
    fn values_that_are_no_numbers_do_not_spread() {
        let broken = noise(1, 8, 8);
        let _ = broken.narrow(2, 0, 1).fill_(f64::NAN);
        let picture = Picture {
            rgb: broken,
            alpha: Some(flat([0.5; 3], 8, 8).narrow(0, 0, 1)),
        };
        assert_eq!(composited(&picture).isfinite().all().int64_value(&[]), 1);
        let clear = Picture {
            rgb: noise(1, 2, 2),
            alpha: Some(flat([0.0; 3], 2, 2).narrow(0, 0, 1)),
        };
        assert_eq!(composited(&clear).min().double_value(&[]), 1.0);
    }

    #[test]
    fn resizing_keeps_the_proportion_and_the_mean() {
        assert_eq!(with_longest_side((100, 200), 1000), (500, 1000));
        assert_eq!(with_longest_side((1, 4000), 16), (1, 16));
        let x = noise(9, 60, 40);
        let small = resize(&x, 15, 10);
        assert_eq!(small.size(), [3, 15, 10]);
        assert!(
            (small.mean(Kind::Float) - x.mean(Kind::Float))
                .abs()
                .double_value(&[])
                < 0.02
        );
    }
}
