//! Lays a small picture down as brush strokes on a large canvas.
//!
//! After Hertzmann, "Painterly Rendering with Curved Brush Strokes of Multiple Sizes"
//! (SIGGRAPH 1998): brushes from broad to fine, each painting only where the canvas
//! still differs from the picture; strokes follow the picture's contours and take their
//! colour from it. It adds strokes, grain and light, and nothing that is not in the
//! picture. One picture and one seed give the same bytes.

mod flow;
mod stroke;

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Rgb, RgbImage};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::noise::fractal;
use flow::Flow;
use stroke::{Canvas, Stroke};

/// A picture of single floats in 0..1.
pub(crate) type Picture = ImageBuffer<Rgb<f32>, Vec<f32>>;

/// A brush: its radius as a share of the canvas, and what it is good for.
struct Brush {
    radius: f32,
    /// The difference in colour from which a stroke is worth it.
    threshold: f32,
    /// Longest stroke in radii.
    longest: f32,
    opacity: f32,
}

/// From broad to fine.
const BRUSHES: [Brush; 4] = [
    Brush {
        radius: 0.030,
        threshold: 0.0,
        longest: 9.0,
        opacity: 0.95,
    },
    Brush {
        radius: 0.015,
        threshold: 0.035,
        longest: 9.0,
        opacity: 0.88,
    },
    Brush {
        radius: 0.0080,
        threshold: 0.045,
        longest: 10.0,
        opacity: 0.85,
    },
    Brush {
        radius: 0.0042,
        threshold: 0.055,
        longest: 10.0,
        opacity: 0.85,
    },
];

/// Paints `picture` at `side` × `side` pixels.
pub fn paint(picture: &RgbImage, side: u32, seed: u64) -> RgbImage {
    let small = Picture::from_fn(picture.width(), picture.height(), |x, y| {
        Rgb(picture.get_pixel(x, y).0.map(|v| f32::from(v) / 255.0))
    });
    let model = imageops::resize(&small, side, side, FilterType::Lanczos3);
    let mut rng = StdRng::seed_from_u64(seed);
    let ground = imageops::fast_blur(&model, 0.04 * side as f32);
    let mut canvas = Canvas::new(ground);
    for brush in &BRUSHES {
        let radius = (brush.radius * side as f32).max(1.5);
        let wanted = imageops::fast_blur(&model, 0.45 * radius);
        let flow = Flow::of(&wanted, radius);
        let mut strokes = plan(&canvas, &wanted, &flow, brush, radius, &mut rng);
        strokes.shuffle(&mut rng);
        for stroke in &strokes {
            canvas.lay(stroke);
        }
    }
    finish(&canvas, side)
}

/// The strokes of one brush: one for each cell of a grid where the canvas is not yet
/// like the picture, starting where the difference is greatest.
fn plan(
    canvas: &Canvas,
    wanted: &Picture,
    flow: &Flow,
    brush: &Brush,
    radius: f32,
    rng: &mut StdRng,
) -> Vec<Stroke> {
    let side = wanted.width();
    let cell = (0.9 * radius).max(2.0) as u32;
    let mut strokes = Vec::new();
    for top in (0..side).step_by(cell as usize) {
        for left in (0..side).step_by(cell as usize) {
            let (mut sum, mut count, mut worst) = (0.0, 0.0, (-1.0, left, top));
            for y in (top..(top + cell).min(side)).step_by(2) {
                for x in (left..(left + cell).min(side)).step_by(2) {
                    let error = difference(canvas.colour(x, y), wanted.get_pixel(x, y).0);
                    sum += error;
                    count += 1.0;
                    if error > worst.0 {
                        worst = (error, x, y);
                    }
                }
            }
            if sum / count < brush.threshold {
                continue;
            }
            let start = (
                worst.1 as f32 + rng.random::<f32>(),
                worst.2 as f32 + rng.random::<f32>(),
            );
            let path = follow(start, wanted, canvas, flow, radius, brush.longest);
            let base = wanted.get_pixel(worst.1, worst.2).0;
            let (value, hue) = (
                0.05 * (rng.random::<f32>() - 0.5),
                0.03 * (rng.random::<f32>() - 0.5),
            );
            let colour = [
                base[0] + value + hue,
                base[1] + value,
                base[2] + value - hue,
            ];
            strokes.push(Stroke {
                path,
                radius,
                colour,
                opacity: brush.opacity,
                seed: rng.random(),
            });
        }
    }
    strokes
}

fn difference(a: [f32; 3], b: [f32; 3]) -> f32 {
    let d: [f32; 3] = std::array::from_fn(|c| a[c] - b[c]);
    (0.35 * d[0] * d[0] + 0.45 * d[1] * d[1] + 0.2 * d[2] * d[2]).sqrt()
}

/// A path along the flow, until the picture's colour is better served by the canvas.
fn follow(
    start: (f32, f32),
    wanted: &Picture,
    canvas: &Canvas,
    flow: &Flow,
    radius: f32,
    longest: f32,
) -> Vec<(f32, f32)> {
    let limit = wanted.width() as f32 - 1.0;
    let at = |p: (f32, f32)| (p.0.clamp(0.0, limit) as u32, p.1.clamp(0.0, limit) as u32);
    let (x, y) = at(start);
    let colour = wanted.get_pixel(x, y).0;
    let grow = |sign: f32| {
        let mut points = Vec::new();
        let (mut p, mut heading) = (start, flow.at(start.0, start.1));
        heading = (heading.0 * sign, heading.1 * sign);
        for step in 0..(longest / 2.0) as usize {
            let next = (p.0 + radius * heading.0, p.1 + radius * heading.1);
            let outside = next.0 < -radius
                || next.1 < -radius
                || next.0 > limit + radius
                || next.1 > limit + radius;
            let (x, y) = at(next);
            let here = wanted.get_pixel(x, y).0;
            let served = difference(here, canvas.colour(x, y)) < difference(here, colour);
            if outside || (step > 0 && served && difference(here, colour) > 0.03) {
                break;
            }
            points.push(next);
            let mut turn = flow.at(next.0, next.1);
            if turn.0 * heading.0 + turn.1 * heading.1 < 0.0 {
                turn = (-turn.0, -turn.1);
            }
            heading = (
                0.5 * heading.0 + 0.5 * turn.0,
                0.5 * heading.1 + 0.5 * turn.1,
            );
            let length = (heading.0 * heading.0 + heading.1 * heading.1)
                .sqrt()
                .max(1e-6);
            heading = (heading.0 / length, heading.1 / length);
            p = next;
        }
        points
    };
    let mut path = grow(-1.0);
    path.reverse();
    path.push(start);
    path.extend(grow(1.0));
    path
}

/// Light on the ridges of the paint, the weave of the cloth, a touch of varnish.
fn finish(canvas: &Canvas, side: u32) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        let (left, right) = (
            canvas.height(x.saturating_sub(1), y),
            canvas.height((x + 1).min(side - 1), y),
        );
        let (above, below) = (
            canvas.height(x, y.saturating_sub(1)),
            canvas.height(x, (y + 1).min(side - 1)),
        );
        // The lamp stands above and to the left.
        let relief = ((right - left) * 0.7 + (below - above)).clamp(-0.5, 0.5);
        let scale = 1024.0 / side as f32;
        let weave = fractal(0.33 * scale * x as f32, 0.33 * scale * y as f32, 2, 7) - 0.5;
        let light = 1.0 + 0.13 * relief + 0.025 * weave;
        let colour = canvas.colour(x, y);
        let grey = 0.3 * colour[0] + 0.55 * colour[1] + 0.15 * colour[2];
        Rgb(colour.map(|v| {
            let richer = grey + 1.08 * (v - grey);
            ((richer * light).clamp(0.0, 1.0) * 255.0 + 0.5) as u8
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> RgbImage {
        RgbImage::from_fn(32, 32, |x, y| {
            Rgb(if y < 16 {
                [40, 80, 200]
            } else {
                [30 + 4 * x as u8, 150, 40]
            })
        })
    }

    #[test]
    fn one_seed_is_one_painting_and_another_seed_another() {
        let once = paint(&picture(), 128, 5);
        assert_eq!(once, paint(&picture(), 128, 5));
        assert_ne!(once, paint(&picture(), 128, 6));
    }

    #[test]
    fn the_painting_keeps_what_was_painted() {
        let (small, large) = (picture(), paint(&picture(), 256, 1));
        let back = imageops::resize(&large, 32, 32, FilterType::Triangle);
        let sum: u32 = small
            .as_raw()
            .iter()
            .zip(back.as_raw())
            .map(|(a, b)| u32::from(a.abs_diff(*b)))
            .sum();
        let mean = f64::from(sum) / small.as_raw().len() as f64;
        assert!(mean < 12.0, "mean difference {mean}");
    }
}
