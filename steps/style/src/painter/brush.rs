//! Lays a scene down in strokes, from a broad brush to a fine one, the way
//! Hertzmann describes (SIGGRAPH 1998): each finer layer only goes where the
//! coarser one is still far from the scene. It never decides what is shown.

use image::{Rgb as Pixel, RgbImage};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::scene::Scene;
use super::{Noise, Rgb};

/// How a picture is painted.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Radius of the broadest brush, in parts of the picture's width.
    pub radius: f32,
    /// Length of a stroke in radii.
    pub length: f32,
    /// How much the colour of a stroke strays.
    pub stray: f32,
    /// How much the bristles show, 0 to 1.
    pub bristle: f32,
    /// Where a finer brush is taken up: difference of colour, 0 to 1.
    pub tolerance: f32,
    /// Seed of the hand.
    pub seed: u64,
}

impl Manner {
    /// Any hand.
    pub fn random(rng: &mut ChaCha8Rng) -> Self {
        Self {
            radius: rng.random_range(0.012..0.035),
            length: rng.random_range(3.0..9.0),
            stray: rng.random_range(0.01..0.08),
            bristle: rng.random_range(0.1..0.6),
            tolerance: rng.random_range(0.03..0.12),
            seed: rng.random(),
        }
    }
}

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Rgb>,
}

fn distance(a: Rgb, b: Rgb) -> f32 {
    ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2) + (a[2] - b[2]).powi(2)).sqrt()
}

/// The scene itself, without a brush, with `grain` (standard deviation, of 1).
#[must_use]
pub fn expose(scene: &Scene, width: u32, height: u32, grain: f32, seed: u64) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6772_6169);
    RgbImage::from_fn(width, height, |x, y| {
        let place = (
            (x as f32 + 0.5) / width as f32,
            (y as f32 + 0.5) / height as f32,
        );
        let colour = scene.look(place.0, place.1).colour;
        // The sum of three uniform numbers is near enough to a normal one.
        let noise: f32 = (0..3).map(|_| rng.random_range(-1.0..1.0f32)).sum();
        to_pixel(colour.map(|v| v + noise * grain))
    })
}

/// Paints the scene.
#[must_use]
pub fn paint(scene: &Scene, width: u32, height: u32, manner: &Manner) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(manner.seed);
    let (w, h) = (width as usize, height as usize);
    let (fw, fh) = (width as f32, height as f32);
    let target: Vec<_> = (0..w * h)
        .map(|i| scene.look(((i % w) as f32 + 0.5) / fw, ((i / w) as f32 + 0.5) / fh))
        .collect();
    // The ground of the canvas is the mean colour, as a toned canvas would be.
    let count = target.len().max(1) as f32;
    let tone = [0, 1, 2].map(|c| target.iter().map(|look| look.colour[c]).sum::<f32>() / count);
    let mut canvas = Canvas {
        width: w,
        height: h,
        pixels: vec![tone; w * h],
    };
    for (layer, part) in [1.0f32, 0.5, 0.25].into_iter().enumerate() {
        let radius = (manner.radius * fw * part).max(0.8);
        let step = radius.max(1.0);
        let mut places: Vec<(f32, f32)> = Vec::new();
        let mut y = 0.0;
        while y < fh {
            let mut x = 0.0;
            while x < fw {
                places.push((
                    x + rng.random_range(0.0..step),
                    y + rng.random_range(0.0..step),
                ));
                x += step;
            }
            y += step;
        }
        places.shuffle(&mut rng);
        for (x, y) in places {
            let Some(index) = canvas.index(x, y) else {
                continue;
            };
            let look = target[index];
            let near = distance(canvas.pixels[index], look.colour);
            if layer > 0 && near < manner.tolerance {
                continue;
            }
            let tint: f32 = rng.random_range(-1.0..1.0) * manner.stray;
            let colour = look
                .colour
                .map(|v| (v + tint + rng.random_range(-0.5..0.5) * manner.stray).clamp(0.0, 1.0));
            let length = manner.length * radius * rng.random_range(0.6..1.3);
            let path = follow(&target, &canvas, (x, y), length, colour);
            canvas.stroke(&path, radius, colour, manner.bristle, Noise(rng.random()));
        }
    }
    let weave = Noise(manner.seed as u32);
    RgbImage::from_fn(width, height, |x, y| {
        let thread = weave.lattice(x as i32, y as i32 / 2)
            + weave.lattice(x as i32 / 2, y as i32 + 7000)
            - 1.0;
        to_pixel(canvas.pixels[y as usize * w + x as usize].map(|v| v + 0.018 * thread))
    })
}

fn to_pixel(colour: Rgb) -> Pixel<u8> {
    Pixel(colour.map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8))
}

/// The way of a stroke: along the scene's directions, as long as the colour
/// stays near its own.
fn follow(
    target: &[super::scene::Look],
    canvas: &Canvas,
    start: (f32, f32),
    length: f32,
    colour: Rgb,
) -> Vec<(f32, f32)> {
    let mut path = vec![start];
    let (mut x, mut y) = start;
    let mut heading: Option<f32> = None;
    let step = 1.5;
    for _ in 0..(length / step) as usize {
        let Some(index) = canvas.index(x, y) else {
            break;
        };
        let look = target[index];
        if distance(look.colour, colour) > 0.3 {
            break;
        }
        let mut angle = look.angle;
        if let Some(before) = heading
            && (angle - before).cos() < 0.0
        {
            angle += std::f32::consts::PI;
        }
        heading = Some(angle);
        x += step * angle.cos();
        y += step * angle.sin();
        path.push((x, y));
    }
    path
}

impl Canvas {
    fn index(&self, x: f32, y: f32) -> Option<usize> {
        let inside =
            x >= 0.0 && y >= 0.0 && (x as usize) < self.width && (y as usize) < self.height;
        inside.then(|| y as usize * self.width + x as usize)
    }

    fn stroke(&mut self, path: &[(f32, f32)], radius: f32, colour: Rgb, bristle: f32, hair: Noise) {
        let bounds = path
            .iter()
            .fold((f32::MAX, f32::MAX, f32::MIN, f32::MIN), |b, &(x, y)| {
                (b.0.min(x), b.1.min(y), b.2.max(x), b.3.max(y))
            });
        let reach = radius + 1.0;
        let clip = |v: f32, end: usize| (v.max(0.0) as usize).min(end);
        let (left, right) = (
            clip(bounds.0 - reach, self.width),
            clip(bounds.2 + reach + 1.0, self.width),
        );
        let (top, bottom) = (
            clip(bounds.1 - reach, self.height),
            clip(bounds.3 + reach + 1.0, self.height),
        );
        for py in top..bottom {
            for px in left..right {
                let (x, y) = (px as f32 + 0.5, py as f32 + 0.5);
                let mut nearest = (f32::MAX, 0.0, 0.0);
                for (i, &(ax, ay)) in path.iter().enumerate() {
                    let squared = (x - ax).powi(2) + (y - ay).powi(2);
                    if squared < nearest.0 {
                        let (bx, by) = path.get(i + 1).copied().unwrap_or((ax, ay));
                        let side = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)).signum();
                        nearest = (squared, i as f32, side);
                    }
                }
                let away = nearest.0.sqrt();
                let cover = (radius + 0.5 - away).clamp(0.0, 1.0);
                if cover > 0.0 {
                    // Each hair draws its own line, thinner toward the end.
                    let across = nearest.2 * away / radius;
                    let line = hair.at(across * 4.0 + 10.0, nearest.1 * 0.12) - 0.5;
                    let spent = nearest.1 / path.len() as f32;
                    let opacity = cover * (1.0 - bristle * 0.6 * spent).clamp(0.0, 1.0);
                    let pixel = &mut self.pixels[py * self.width + px];
                    for c in 0..3 {
                        let paint = colour[c] + line * bristle * 0.16;
                        pixel[c] += (paint - pixel[c]) * opacity;
                    }
                }
            }
        }
    }
}
