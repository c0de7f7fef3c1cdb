//! The painter of the gallery: makes pictures that look painted, from nothing
//! but a seed. [`scene`] says what stands where and in which colour, [`brush`]
//! lays it down in strokes, [`works`] lists the works that ship and the moods
//! that each was painted for.
//!
//! It never reads a picture: all that it shows it draws itself, so what it
//! makes may be given away.

pub mod brush;
pub mod figure;
pub mod palette;
pub mod scene;
pub mod works;

use image::RgbImage;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use figure::Figure;
use palette::Palette;
use scene::{Composition, Scene};

/// Red, green and blue from 0 to 1, as stored (sRGB).
pub type Rgb = [f32; 3];

/// `a` at `t` = 0, `b` at `t` = 1; `t` is held between.
#[must_use]
pub fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    let t = t.clamp(0.0, 1.0);
    [0, 1, 2].map(|i| a[i] + (b[i] - a[i]) * t)
}

/// 0 below `from`, 1 above `to`, smooth between.
#[must_use]
pub fn smooth(from: f32, to: f32, x: f32) -> f32 {
    let t = ((x - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Smooth noise over the plane, the same for the same seed.
#[derive(Debug, Clone, Copy)]
pub struct Noise(pub u32);

impl Noise {
    /// A value from 0 to 1 for a point of the integer lattice.
    #[must_use]
    pub fn lattice(self, x: i32, y: i32) -> f32 {
        let mut h =
            self.0 ^ (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77);
        for _ in 0..2 {
            h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
            h = (h ^ (h >> 13)).wrapping_mul(0x297A_2D39);
        }
        ((h ^ (h >> 16)) >> 8) as f32 / (1 << 24) as f32
    }

    /// Smooth between the lattice's values.
    #[must_use]
    pub fn at(self, x: f32, y: f32) -> f32 {
        let (fx, fy) = (x.floor(), y.floor());
        let (ix, iy) = (fx as i32, fy as i32);
        let (u, v) = (smooth(0.0, 1.0, x - fx), smooth(0.0, 1.0, y - fy));
        let row = |j: i32| {
            let (a, b) = (self.lattice(ix, j), self.lattice(ix.wrapping_add(1), j));
            a + (b - a) * u
        };
        let (top, bottom) = (row(iy), row(iy.wrapping_add(1)));
        top + (bottom - top) * v
    }

    /// Four octaves of it, from 0 to 1.
    #[must_use]
    pub fn fractal(self, x: f32, y: f32) -> f32 {
        let mut sum = 0.0;
        let mut weight = 0.5;
        let mut scale = 1.0;
        for octave in 0..4 {
            sum += weight * Noise(self.0.wrapping_add(octave * 101)).at(x * scale, y * scale);
            weight *= 0.5;
            scale *= 2.03;
        }
        sum / 0.9375
    }
}

/// A picture for training, made up from the seed: any composition in any
/// palette. A third of them are painted, a third are left as sharp as the
/// scene is, a third carry grain, so that the network learns edges and texture
/// as well as strokes.
#[must_use]
pub fn study(seed: u64, size: u32) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let composition = *Composition::ALL
        .choose(&mut rng)
        .unwrap_or(&Composition::Sea);
    let palette = Palette::random(&mut rng);
    let figure = *[
        Figure::None,
        Figure::None,
        Figure::Boat,
        Figure::House,
        Figure::Tree,
        Figure::Birds,
    ]
    .choose(&mut rng)
    .unwrap_or(&Figure::None);
    let scene = Scene::new(composition, palette, figure, rng.random());
    match seed % 3 {
        0 => brush::paint(&scene, size, size, &brush::Manner::random(&mut rng)),
        1 => brush::expose(&scene, size, size, 0.0, seed),
        _ => brush::expose(&scene, size, size, rng.random_range(0.01..0.06), seed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_picture_and_another_seed_another() {
        assert_eq!(study(3, 48), study(3, 48));
        assert_ne!(study(3, 48), study(6, 48));
    }

    #[test]
    fn studies_are_not_flat() {
        for seed in 0..12 {
            let picture = study(seed, 48);
            let values = picture.as_raw();
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
            let spread = values
                .iter()
                .map(|&v| (f64::from(v) - mean).powi(2))
                .sum::<f64>()
                / values.len() as f64;
            assert!(spread > 50.0, "seed {seed}: variance {spread}");
        }
    }
}
