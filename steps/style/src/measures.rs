//! What is measured of a transfer: whether the structure stayed (edges), and
//! whether the colours came (Gram matrices, distributions of colour). Pure
//! functions of pictures `[3, height, width]` with values from 0 to 1.

use tch::{Device, Kind, Tensor};

use crate::model::Point;
use crate::transfer::StyleMoments;

/// Luma (ITU-R BT.601) as `[1, 1, height, width]`.
fn luma(picture: &Tensor) -> Tensor {
    let weights = Tensor::from_slice(&[0.299f32, 0.587, 0.114]).view([3, 1, 1]);
    (picture.to_device(Device::Cpu) * weights)
        .sum_dim_intlist(0, true, Kind::Float)
        .unsqueeze(0)
}

/// Edge map `[1, 1, height, width]`: the magnitude of Sobel's gradient, with the
/// largest value 1 (all near 0 for a flat picture).
pub fn edges(picture: &Tensor) -> Tensor {
    let sobel = Tensor::from_slice(&[-1f32, 0., 1., -2., 0., 2., -1., 0., 1.]).view([1, 1, 3, 3]);
    let kernels = Tensor::cat(&[&sobel, &sobel.transpose(2, 3)], 0);
    let gradient = luma(picture).replication_pad2d([1, 1, 1, 1]).conv2d(
        &kernels,
        None::<Tensor>,
        [1, 1],
        [0, 0],
        [1, 1],
        1,
    );
    let magnitude = gradient
        .square()
        .sum_dim_intlist(1, true, Kind::Float)
        .sqrt();
    // What rounding leaves of a flat picture is no edge.
    let largest = magnitude.max().double_value(&[]).max(1e-3);
    magnitude / largest
}

/// Structural similarity (Wang et al., 2004) of two maps `[1, 1, height,
/// width]`, with the paper's Gaussian window of 11 pixels and constants for
/// values from 0 to 1.
#[must_use]
pub fn ssim(a: &Tensor, b: &Tensor) -> f64 {
    let line: Vec<f32> = (-5..=5)
        .map(|i: i32| (-((i * i) as f32) / (2.0 * 1.5 * 1.5)).exp())
        .collect();
    let line = Tensor::from_slice(&line);
    let window = line.outer(&line);
    let window = (&window / window.sum(Kind::Float)).view([1, 1, 11, 11]);
    let blur = |x: Tensor| {
        x.replication_pad2d([5, 5, 5, 5])
            .conv2d(&window, None::<Tensor>, [1, 1], [0, 0], [1, 1], 1)
    };
    let (mean_a, mean_b) = (blur(a.shallow_clone()), blur(b.shallow_clone()));
    let var_a = blur(a.square()) - mean_a.square();
    let var_b = blur(b.square()) - mean_b.square();
    let covariance = blur(a * b) - &mean_a * &mean_b;
    let (c1, c2) = (0.01f64.powi(2), 0.03f64.powi(2));
    let above = (&mean_a * &mean_b * 2.0 + c1) * (covariance * 2.0 + c2);
    let below = (mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2);
    (above / below).mean(Kind::Double).double_value(&[])
}

/// SSIM of the edge maps of two pictures of one size.
#[must_use]
pub fn edge_similarity(content: &Tensor, result: &Tensor) -> f64 {
    ssim(&edges(content), &edges(result))
}

/// Distance of two pictures' Gram matrices, relative to the style's, averaged
/// over the levels of the encoder: 0 for the same statistics.
#[must_use]
pub fn gram_distance(picture: &StyleMoments, style: &StyleMoments) -> f64 {
    let mut sum = 0.0;
    let mut levels = 0;
    for (point, of_style) in style {
        if let (Point::Encoder(_), Some(of_picture)) = (point, picture.get(point)) {
            let goal = of_style.gram();
            let size = goal.norm().double_value(&[]).max(1e-12);
            sum += (of_picture.gram() - goal).norm().double_value(&[]) / size;
            levels += 1;
        }
    }
    sum / f64::from(levels.max(1))
}

/// Distance of two pictures' colours, without any network: the mean over fixed
/// directions of the colour cube of the first Wasserstein distance between the
/// projections, in units of the cube's side.
#[must_use]
pub fn colour_distance(a: &Tensor, b: &Tensor) -> f64 {
    const QUANTILES: i64 = 256;
    // The axes and the diagonals of the cube.
    let directions = Tensor::from_slice(&[
        1f32, 0., 0., 0., 1., 0., 0., 0., 1., 1., 1., 1., 1., 1., -1., 1., -1., 1., -1., 1., 1.,
    ])
    .view([7, 3]);
    let norms = directions
        .square()
        .sum_dim_intlist(1, true, Kind::Float)
        .sqrt();
    let directions = directions / norms;
    let quantiles = |picture: &Tensor| {
        let pixels = picture.to_device(Device::Cpu).flatten(1, 2);
        let (sorted, _) = directions.matmul(&pixels).sort(1, false);
        let count = sorted.size()[1];
        let at: Vec<i64> = (0..QUANTILES)
            .map(|q| (2 * q + 1) * count / (2 * QUANTILES))
            .collect();
        sorted.index_select(1, &Tensor::from_slice(&at))
    };
    (quantiles(a) - quantiles(b))
        .abs()
        .mean(Kind::Double)
        .double_value(&[])
}

/// Mean squared error of two tensors of values from 0 to 1, in steps of a byte
/// (as if they went from 0 to 255).
#[must_use]
pub fn squared_error(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).square().mean(Kind::Double).double_value(&[]) * 255.0 * 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: i64) -> Tensor {
        tch::manual_seed(seed);
        Tensor::rand([3, 32, 40], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn a_picture_is_like_itself_and_unlike_another() {
        let (a, b) = (noise(1), noise(2));
        assert!((edge_similarity(&a, &a) - 1.0).abs() < 1e-5);
        assert!(edge_similarity(&a, &b) < 0.6);
        assert_eq!(colour_distance(&a, &a), 0.0);
    }

    #[test]
    fn edges_do_not_see_a_change_of_brightness() {
        let a = noise(1) * 0.5;
        assert!(edge_similarity(&a, &(&a + 0.3)) > 0.999);
        let flat = Tensor::full([3, 8, 8], 0.4, (Kind::Float, Device::Cpu));
        assert!(edges(&flat).max().double_value(&[]) < 1e-2);
    }

    #[test]
    fn colour_distance_measures_a_shift_in_units_of_the_cube() {
        let a = noise(1) * 0.5;
        let b = &a + 0.2;
        // Along the axes the shift is 0.2, along the grey diagonal 0.2 √3, along
        // the others 0.2 / √3.
        let expected = 0.2 * (3.0 + 3f64.sqrt() + 3.0 / 3f64.sqrt()) / 7.0;
        assert!((colour_distance(&a, &b) - expected).abs() < 1e-3);
    }
}
