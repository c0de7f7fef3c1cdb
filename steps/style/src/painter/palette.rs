//! The seven colours that a picture is made of.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::Rgb;

/// The colours of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Palette {
    /// The top of the sky.
    pub high: Rgb,
    /// The sky at the horizon.
    pub middle: Rgb,
    /// Water, or land that is far.
    pub low: Rgb,
    /// What is near.
    pub ground: Rgb,
    /// Trunks, hulls, shadows.
    pub dark: Rgb,
    /// Sun, moon, lamps, crests.
    pub light: Rgb,
    /// Flowers, sails, roofs.
    pub accent: Rgb,
}

impl Palette {
    /// Seven colours written as `0xRRGGBB`, in the order of the fields.
    #[must_use]
    pub fn of(colours: [u32; 7]) -> Self {
        let [high, middle, low, ground, dark, light, accent] =
            colours.map(|c| [16, 8, 0].map(|shift| ((c >> shift) & 255) as f32 / 255.0));
        Self {
            high,
            middle,
            low,
            ground,
            dark,
            light,
            accent,
        }
    }

    /// Any colours, with a dark and a light one among them.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        let hue = rng.random_range(0.0..6.0);
        let spread = rng.random_range(0.2..3.0);
        let strength = rng.random_range(0.1..1.0f32);
        let mut colour = |from: f32, to: f32| {
            let hue = hue + rng.random_range(-spread..spread);
            let value = rng.random_range(from..to);
            let saturation = strength * rng.random_range(0.3..1.0f32);
            [0.0, 2.0, 4.0].map(|shift: f32| {
                let wave = ((hue + shift).rem_euclid(6.0) - 3.0).abs() - 1.0;
                value * (1.0 - saturation * (1.0 - wave.clamp(0.0, 1.0)))
            })
        };
        Self {
            high: colour(0.2, 0.9),
            middle: colour(0.4, 1.0),
            low: colour(0.2, 0.8),
            ground: colour(0.15, 0.7),
            dark: colour(0.0, 0.25),
            light: colour(0.85, 1.0),
            accent: colour(0.4, 1.0),
        }
    }
}
