//! Which way strokes run: along the contours of the picture, smoothed; level, with a
//! slow sway, where there are none.

use image::imageops;
use image::{ImageBuffer, Luma, Rgb};

use super::Picture;
use crate::noise::fractal;

/// A direction for each place, on a grid coarser than the picture.
pub(super) struct Flow {
    side: usize,
    cell: f32,
    directions: Vec<(f32, f32)>,
}

impl Flow {
    /// The flow of a picture for strokes of a radius.
    pub(super) fn of(picture: &Picture, radius: f32) -> Self {
        let full = picture.width();
        let grey = ImageBuffer::<Luma<f32>, Vec<f32>>::from_fn(full, full, |x, y| {
            let Rgb([r, g, b]) = *picture.get_pixel(x, y);
            Luma([0.3 * r + 0.55 * g + 0.15 * b])
        });
        let near = |v: u32, by: i64| (i64::from(v) + by).clamp(0, i64::from(full) - 1) as u32;
        // The structure tensor: gx², gx gy, gy² in three channels.
        let tensor = Picture::from_fn(full, full, |x, y| {
            let gx = grey.get_pixel(near(x, 1), y).0[0] - grey.get_pixel(near(x, -1), y).0[0];
            let gy = grey.get_pixel(x, near(y, 1)).0[0] - grey.get_pixel(x, near(y, -1)).0[0];
            Rgb([gx * gx, gx * gy, gy * gy].map(|v| v * 1e3))
        });
        let smooth = imageops::fast_blur(&tensor, 1.5 * radius);
        let cell = (0.5 * radius).max(1.0);
        let side = (full as f32 / cell).ceil() as usize;
        let mut directions = Vec::with_capacity(side * side);
        for row in 0..side {
            for column in 0..side {
                let (x, y) = (column as f32 * cell, row as f32 * cell);
                let index = |v: f32| (v as u32).min(full - 1);
                let [xx, xy, yy] = smooth.get_pixel(index(x), index(y)).0;
                directions.push(direction(xx, xy, yy, x / full as f32, y / full as f32));
            }
        }
        Self {
            side,
            cell,
            directions,
        }
    }

    /// The unit direction at a place; places outside are clamped.
    pub(super) fn at(&self, x: f32, y: f32) -> (f32, f32) {
        let index = |v: f32| ((v / self.cell).max(0.0) as usize).min(self.side - 1);
        self.directions[index(y) * self.side + index(x)]
    }
}

/// The direction of least change of a structure tensor, mixed with a level sway by how
/// much the tensor has to say.
fn direction(xx: f32, xy: f32, yy: f32, x: f32, y: f32) -> (f32, f32) {
    let sway = 0.9 * (fractal(3.0 * x, 4.0 * y, 2, 17) - 0.5);
    let difference = xx - yy;
    let strength = (difference * difference + 4.0 * xy * xy).sqrt();
    // The angle of greatest change is half of atan2(2 xy, xx - yy); strokes cross it.
    let along = 0.5 * (2.0 * xy).atan2(difference) + std::f32::consts::FRAC_PI_2;
    let weight = strength / (strength + 0.004);
    // Directions are mixed as doubled angles, which have no head and tail.
    let (s1, c1) = (2.0 * along).sin_cos();
    let (s2, c2) = (2.0 * sway).sin_cos();
    let angle = 0.5 * (weight * s1 + (1.0 - weight) * s2).atan2(weight * c1 + (1.0 - weight) * c2);
    (angle.cos(), angle.sin())
}
