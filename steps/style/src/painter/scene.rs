//! What a picture shows: for each place its colour and the direction in which a
//! brush would move there. It never paints.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::figure::Figure;
use super::palette::Palette;
use super::{Noise, Rgb, mix, smooth};

/// How the picture is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Composition {
    /// Water under a sky with a sun or a moon.
    Sea,
    /// Ridges, one behind the other.
    Hills,
    /// Flowers before a far horizon.
    Meadow,
    /// Trunks against a light.
    Forest,
    /// Soft rectangles of colour.
    Fields,
    /// Streams of colour that turn about each other.
    Swirl,
    /// Lamps and their reflections in the dark.
    Lights,
    /// A branch that flowers.
    Blossom,
    /// Clouds, lightning, rough water.
    Storm,
    /// Shards of flat colour.
    Shards,
}

impl Composition {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Sea,
        Self::Hills,
        Self::Meadow,
        Self::Forest,
        Self::Fields,
        Self::Swirl,
        Self::Lights,
        Self::Blossom,
        Self::Storm,
        Self::Shards,
    ];
}

/// What is seen at a place.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Its colour.
    pub colour: Rgb,
    /// Direction of a stroke there, in radians; 0 is level.
    pub angle: f32,
}

/// A picture that can be asked for any place in it.
#[derive(Debug, Clone)]
pub struct Scene {
    pub(super) composition: Composition,
    pub(super) palette: Palette,
    pub(super) figure: Figure,
    pub(super) noise: Noise,
    pub(super) horizon: f32,
    pub(super) sun: (f32, f32, f32),
    pub(super) place: f32,
    pub(super) bolt: Vec<(f32, f32)>,
    pub(super) discs: Vec<(f32, f32, f32, f32)>,
}

impl Scene {
    /// A scene whose details (where the sun stands, how the hills run) follow
    /// from the seed.
    #[must_use]
    pub fn new(composition: Composition, palette: Palette, figure: Figure, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let horizon = match composition {
            Composition::Meadow => rng.random_range(0.35..0.5),
            Composition::Storm => rng.random_range(0.65..0.8),
            Composition::Hills => rng.random_range(0.3..0.45),
            _ => rng.random_range(0.45..0.66),
        };
        let sun = (
            rng.random_range(0.2..0.8),
            horizon * rng.random_range(0.3..0.9),
            rng.random_range(0.03..0.085),
        );
        let mut bolt = vec![(rng.random_range(0.3..0.7), 0.0)];
        while let Some(&(x, y)) = bolt.last() {
            if y > horizon {
                break;
            }
            bolt.push((
                x + rng.random_range(-0.09..0.09),
                y + rng.random_range(0.05..0.12),
            ));
        }
        let discs = (0..40)
            .map(|_| {
                (
                    rng.random_range(0.0..1.0),
                    rng.random_range(0.0..1.0),
                    rng.random_range(0.012..0.06),
                    rng.random_range(0.0..1.0),
                )
            })
            .collect();
        let place = if rng.random_bool(0.5) {
            rng.random_range(0.18..0.38)
        } else {
            rng.random_range(0.62..0.82)
        };
        Self {
            composition,
            palette,
            figure,
            noise: Noise(rng.random()),
            horizon,
            sun,
            place,
            bolt,
            discs,
        }
    }

    /// What is seen at `x`, `y`, both from 0 (left, top) to 1.
    #[must_use]
    pub fn look(&self, x: f32, y: f32) -> Look {
        let look = match self.composition {
            Composition::Sea => self.sea(x, y, 0.004),
            Composition::Hills => self.hills(x, y),
            Composition::Meadow => self.meadow(x, y),
            Composition::Forest => self.forest(x, y),
            Composition::Fields => self.fields(x, y),
            Composition::Swirl => self.swirl(x, y),
            Composition::Lights => self.lights(x, y),
            Composition::Blossom => self.blossom(x, y),
            Composition::Storm => self.storm(x, y),
            Composition::Shards => self.shards(x, y),
        };
        self.with_figure(x, y, look)
    }

    fn sky(&self, x: f32, y: f32) -> Look {
        let p = &self.palette;
        let mut colour = mix(p.high, p.middle, (y / self.horizon).powf(1.3));
        let cloud = self.noise.fractal(x * 2.5, y * 7.0);
        colour = mix(
            colour,
            mix(p.middle, p.light, 0.5),
            smooth(0.5, 0.75, cloud) * 0.7,
        );
        let (sx, sy, radius) = self.sun;
        let distance = (x - sx).hypot(y - sy);
        colour = mix(
            colour,
            p.light,
            0.75 * (-(distance / (radius * 3.2)).powi(2)).exp(),
        );
        colour = mix(
            colour,
            mix(p.light, [1.0; 3], 0.35),
            smooth(radius * 1.1, radius * 0.9, distance),
        );
        let around = (y - sy).atan2(x - sx) + std::f32::consts::FRAC_PI_2;
        let level = (cloud - 0.5) * 1.2;
        let pull = (-(distance / 0.22).powi(2)).exp();
        Look {
            colour,
            angle: level * (1.0 - pull) + around * pull,
        }
    }

    fn sea(&self, x: f32, y: f32, roughness: f32) -> Look {
        let edge = self.horizon + roughness * (self.noise.at(x * 9.0, 3.0) - 0.5) * 4.0;
        if y < edge {
            return self.sky(x, y);
        }
        let p = &self.palette;
        let depth = ((y - self.horizon) / (1.0 - self.horizon)).clamp(0.0, 1.0);
        let scale = 1.0 / (0.12 + depth);
        let swell = self
            .noise
            .fractal(x * 3.0 * scale + 7.0, depth.sqrt() * 22.0);
        let mut colour = mix(p.low, p.ground, depth * 0.9);
        colour = mix(colour, p.dark, smooth(0.5, 0.25, swell) * 0.55);
        colour = mix(colour, p.middle, smooth(0.55, 0.8, swell) * 0.6);
        let path = (x - self.sun.0).abs() / (self.sun.2 + 0.16 * depth);
        let glitter = self.noise.at(x * 14.0 * scale, depth.sqrt() * 60.0);
        colour = mix(
            colour,
            p.light,
            (-path * path).exp() * smooth(0.35, 0.6, glitter),
        );
        Look {
            colour,
            angle: (swell - 0.5) * (0.8 + roughness * 20.0),
        }
    }

    fn hills(&self, x: f32, y: f32) -> Look {
        let p = &self.palette;
        let mut look = self.sky(x, y);
        for ridge in 0..5 {
            let near = ridge as f32 / 4.0;
            let frequency = 2.2 + 1.3 * near;
            let line = |x: f32| {
                self.horizon + 0.14 * ridge as f32
                    - 0.05
                    - (0.26 - 0.15 * near)
                        * (self.noise.fractal(x * frequency + 17.0 * ridge as f32, 0.5) - 0.4)
            };
            let top = line(x);
            if y < top {
                continue;
            }
            let base = mix(
                mix(p.middle, p.low, 0.35 + near),
                mix(p.ground, p.dark, near * 0.6),
                near,
            );
            let grain = self.noise.fractal(x * 11.0, y * 16.0 + ridge as f32);
            let mut colour = mix(base, p.dark, smooth(0.55, 0.3, grain) * 0.35);
            colour = mix(colour, p.light, smooth(0.6, 0.8, grain) * 0.25);
            if ridge < 2 {
                colour = mix(
                    colour,
                    p.light,
                    smooth(0.07, 0.0, y - top + 0.05 * (grain - 0.5)) * 0.7,
                );
            } else {
                colour = mix(
                    colour,
                    p.accent,
                    smooth(0.62, 0.72, self.noise.at(x * 40.0, y * 40.0)) * 0.35 * near,
                );
            }
            look = Look {
                colour,
                angle: ((line(x + 0.02) - line(x - 0.02)) / 0.04).atan(),
            };
        }
        look
    }

    fn meadow(&self, x: f32, y: f32) -> Look {
        if y < self.horizon {
            return self.sky(x, y);
        }
        let p = &self.palette;
        let depth = (y - self.horizon) / (1.0 - self.horizon);
        let scale = 34.0 - 24.0 * depth;
        let wind = self.noise.fractal(x * 4.0, y * 6.0);
        let mut colour = mix(p.low, p.ground, depth);
        colour = mix(
            colour,
            p.dark,
            smooth(0.55, 0.3, wind) * 0.4 * (0.3 + depth),
        );
        colour = mix(
            colour,
            mix(p.light, p.low, 0.5),
            smooth(0.55, 0.8, wind) * 0.5,
        );
        let (cx, cy) = ((x * scale).floor(), (y * scale * 1.5).floor());
        let chance = self.noise.lattice(cx as i32, cy as i32);
        let centre = (
            (cx + 0.3 + 0.4 * self.noise.lattice(cx as i32 + 900, cy as i32)) / scale,
            (cy + 0.3 + 0.4 * self.noise.lattice(cx as i32, cy as i32 + 900)) / (scale * 1.5),
        );
        let distance = (x - centre.0).hypot((y - centre.1) * 1.4) * scale;
        if chance > 0.45 {
            let flower = if chance > 0.82 {
                p.light
            } else {
                mix(p.accent, p.middle, (chance - 0.45) * 0.9)
            };
            colour = mix(colour, flower, smooth(0.42, 0.3, distance));
            colour = mix(colour, p.dark, smooth(0.13, 0.06, distance) * 0.5);
        }
        Look {
            colour,
            angle: 1.3 + (wind - 0.5) * 1.6,
        }
    }

    fn forest(&self, x: f32, y: f32) -> Look {
        let p = &self.palette;
        let (sx, sy, _) = self.sun;
        let distance = (x - sx).hypot((y - sy) * 0.8);
        let leaves = self.noise.fractal(x * 7.0, y * 7.0);
        let mut colour = mix(p.light, p.middle, smooth(0.0, 0.3, distance));
        colour = mix(colour, p.high, smooth(0.25, 0.75, distance));
        colour = mix(
            colour,
            mix(p.low, p.accent, smooth(0.5, 0.7, leaves)),
            smooth(0.46, 0.62, leaves) * (1.0 - y * 0.6),
        );
        let mut angle = (leaves - 0.5) * 4.0;
        let floor = 0.8 + 0.06 * (self.noise.fractal(x * 4.0, 8.0) - 0.5);
        if y > floor - 0.1 {
            let cover = smooth(floor - 0.1, floor, y);
            colour = mix(
                colour,
                mix(p.ground, p.accent, smooth(0.5, 0.75, leaves) * 0.5),
                cover,
            );
            angle *= 1.0 - cover;
        }
        for layer in 0..3 {
            let near = layer as f32 / 2.0;
            let count = 16.0 - 5.0 * layer as f32;
            let bend = 0.02 * (self.noise.at(y * 2.0, 3.0 * layer as f32) - 0.5);
            let position = (x + bend) * count;
            let cell = position.floor();
            let at = 0.25 + 0.5 * self.noise.lattice(cell as i32, 40 + layer);
            let width =
                (0.08 + 0.1 * self.noise.lattice(cell as i32, 80 + layer)) * (0.7 + 0.5 * y);
            let across = (position - cell - at) / width;
            if across.abs() < 1.0 && y < floor - 0.06 + 0.1 * near {
                let bark = mix(mix(p.middle, p.low, 0.6), p.dark, 0.35 + 0.6 * near);
                let lit = smooth(0.2, 1.0, across * (sx - x).signum());
                colour = mix(bark, p.light, lit * 0.35);
                angle = std::f32::consts::FRAC_PI_2;
            }
        }
        Look { colour, angle }
    }

    fn fields(&self, x: f32, y: f32) -> Look {
        let p = &self.palette;
        let cloud = self.noise.fractal(x * 3.0, y * 5.0);
        let mut colour = mix(p.dark, p.ground, 0.35 + 0.4 * cloud);
        let split = self.horizon;
        let bands = [
            (0.06, split - 0.03, p.high),
            (split + 0.02, split + 0.2, p.accent),
            (split + 0.23, 0.95, p.low),
        ];
        for (top, bottom, tone) in bands {
            let wobble = 0.025 * (self.noise.fractal(x * 6.0 + top * 30.0, y * 6.0) - 0.5);
            let cover = smooth(0.05, 0.09, x + wobble)
                * smooth(0.95, 0.91, x + wobble)
                * smooth(top - 0.015, top + 0.02, y + wobble)
                * smooth(bottom + 0.015, bottom - 0.02, y + wobble);
            let tone = mix(tone, p.light, smooth(0.5, 0.9, cloud) * 0.35);
            colour = mix(
                colour,
                mix(tone, p.middle, smooth(0.5, 0.2, cloud) * 0.35),
                cover * 0.95,
            );
        }
        Look {
            colour,
            angle: (cloud - 0.5) * 1.5,
        }
    }

    fn swirl(&self, x: f32, y: f32) -> Look {
        let p = &self.palette;
        let warp = |x: f32, y: f32| {
            let a = self.noise.fractal(x * 2.2, y * 2.2);
            let b = self.noise.fractal(x * 2.2 + 31.0, y * 2.2 + 5.0);
            self.noise.fractal(x * 2.0 + 3.0 * a, y * 2.0 + 3.0 * b)
        };
        let value = warp(x, y);
        let ramp = [p.dark, p.low, p.high, p.accent, p.middle, p.light];
        let position = smooth(0.22, 0.78, value) * (ramp.len() - 1) as f32;
        let index = (position as usize).min(ramp.len() - 2);
        let colour = mix(
            ramp[index],
            ramp[index + 1],
            smooth(0.25, 0.75, position - index as f32),
        );
        let (dx, dy) = (warp(x + 0.01, y) - value, warp(x, y + 0.01) - value);
        // Along the lines of equal value, so that the strokes flow with them.
        Look {
            colour,
            angle: (-dx).atan2(dy),
        }
    }

    fn lights(&self, x: f32, y: f32) -> Look {
        let p = &self.palette;
        let shore = self.horizon;
        let mut colour = mix(p.high, p.middle, (y / shore).powi(3) * 0.6);
        let skyline = shore - 0.05 - 0.16 * self.noise.lattice((x * 13.0).floor() as i32, 5);
        if y > skyline {
            colour = mix(
                p.dark,
                p.ground,
                0.4 * self.noise.lattice((x * 13.0).floor() as i32, 6),
            );
        }
        let ripple = self.noise.fractal(x * 5.0, y * 40.0);
        if y > shore {
            let depth = (y - shore) / (1.0 - shore);
            colour = mix(mix(p.low, p.dark, 0.5), p.dark, depth);
            colour = mix(colour, p.low, smooth(0.5, 0.75, ripple) * 0.4);
        }
        for &(cx, cy, radius, tone) in &self.discs[..18] {
            let lamp = mix(p.light, p.accent, smooth(0.3, 0.7, tone));
            let (ly, radius) = (shore - 0.015 - 0.17 * cy, radius * 0.55);
            let distance = (x - cx).hypot(y - ly);
            colour = mix(colour, lamp, smooth(radius, radius * 0.5, distance) * 0.9);
            colour = mix(
                colour,
                lamp,
                0.4 * (-(distance / (radius * 3.0)).powi(2)).exp(),
            );
            if y > shore {
                let across = (x - cx + 0.03 * (ripple - 0.5)) / (radius * 1.1);
                let fade = 1.0 - (y - shore) / (0.12 + 0.5 * cy);
                colour = mix(
                    colour,
                    lamp,
                    (-across * across).exp() * smooth(0.3, 0.6, ripple) * fade.max(0.0),
                );
            }
        }
        let angle = if y > shore {
            0.15 * (ripple - 0.5)
        } else {
            (ripple - 0.5) * 1.2
        };
        Look { colour, angle }
    }

    fn blossom(&self, x: f32, y: f32) -> Look {
        let p = &self.palette;
        let cloud = self.noise.fractal(x * 3.0, y * 3.0);
        let mut colour = mix(
            mix(p.high, p.middle, y),
            p.light,
            smooth(0.5, 0.85, cloud) * 0.4,
        );
        let mut angle = (cloud - 0.5) * 3.0;
        let branch = |start: f32, slope: f32, wave: f32, at: f32| {
            start + slope * at + wave * (self.noise.fractal(at * 3.0, start * 9.0) - 0.5)
        };
        let branches = [
            (0.75, -0.45, 0.3, 0.022),
            (0.3, 0.25, 0.25, 0.014),
            (0.95, -0.2, 0.3, 0.013),
        ];
        for (start, slope, wave, width) in branches {
            let line = branch(start, slope, wave, x);
            if (y - line).abs() < width * (1.15 - 0.8 * x) {
                colour = mix(p.dark, p.ground, smooth(0.0, -0.01, y - line) * 0.7);
                angle = (branch(start, slope, wave, x + 0.02) - line).atan2(0.02);
            }
        }
        for (index, &(cx, jitter, radius, tone)) in self.discs.iter().enumerate() {
            let (start, slope, wave, _) = branches[index % 3];
            let cy = branch(start, slope, wave, cx) + 0.14 * (jitter - 0.5);
            let (dx, dy) = (x - cx, y - cy);
            let distance = dx.hypot(dy);
            let petals = 0.75 + 0.25 * (2.5 * dy.atan2(dx) + 6.0 * tone).cos().abs();
            let radius = (0.02 + 0.5 * radius) * petals;
            if distance < radius {
                colour = mix(
                    mix(p.light, p.accent, 0.35 + 0.5 * tone),
                    p.accent,
                    smooth(radius, 0.0, distance) * 0.6,
                );
                colour = mix(
                    colour,
                    p.low,
                    smooth(radius * 0.25, radius * 0.15, distance),
                );
                angle = dy.atan2(dx);
            }
        }
        Look { colour, angle }
    }

    fn storm(&self, x: f32, y: f32) -> Look {
        let p = &self.palette;
        if y > self.horizon {
            return self.sea(x, y, 0.03);
        }
        let roll = self.noise.fractal(
            x * 2.0 + 1.5 * self.noise.fractal(x * 3.0, y * 3.0),
            y * 4.0,
        );
        let mut colour = mix(p.dark, p.high, smooth(0.25, 0.6, roll));
        colour = mix(colour, p.middle, smooth(0.55, 0.8, roll) * 0.8);
        colour = mix(
            colour,
            p.accent,
            smooth(self.horizon - 0.25, self.horizon, y) * 0.45,
        );
        for pair in self.bolt.windows(2) {
            let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
            let (dx, dy) = (bx - ax, by - ay);
            let along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
            let distance = (x - ax - along * dx).hypot(y - ay - along * dy);
            colour = mix(colour, p.light, 0.5 * (-(distance / 0.035).powi(2)).exp());
            colour = mix(
                colour,
                mix(p.light, [1.0; 3], 0.5),
                smooth(0.008, 0.004, distance),
            );
        }
        Look {
            colour,
            angle: 0.5 + (roll - 0.5) * 3.0,
        }
    }

    fn shards(&self, x: f32, y: f32) -> Look {
        let p = &self.palette;
        let mut best = (f32::MAX, 0.0, 0.0);
        let mut second = f32::MAX;
        for &(cx, cy, _, tone) in &self.discs[..22] {
            let distance = (x - cx).abs() * 0.8 + (y - cy).abs() + 0.3 * (x - cx).hypot(y - cy);
            if distance < best.0 {
                second = best.0;
                best = (distance, tone, cx + cy);
            } else if distance < second {
                second = distance;
            }
        }
        let tones = [
            p.high, p.middle, p.low, p.ground, p.accent, p.light, p.accent, p.dark,
        ];
        let tone = tones[((best.1 * tones.len() as f32) as usize).min(tones.len() - 1)];
        let grain = self.noise.fractal(x * 6.0, y * 6.0);
        let mut colour = mix(tone, p.light, smooth(0.5, 0.9, grain) * 0.3);
        colour = mix(colour, p.dark, smooth(0.012, 0.004, second - best.0) * 0.8);
        Look {
            colour,
            angle: best.2 * 7.0,
        }
    }
}
