//! A square canvas of colours and the few strokes that scenes are painted with.
//!
//! Knows nothing of scenes. Places and sizes are shares of the canvas's side.

/// A colour: red, green and blue in `[0, 1]`.
pub type Rgb = [f32; 3];

/// `a` at 0, `b` at 1.
pub fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    let t = t.clamp(0.0, 1.0);
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * t)
}

/// A colour under a coloured light.
pub fn lit(colour: Rgb, light: Rgb) -> Rgb {
    std::array::from_fn(|c| colour[c] * light[c])
}

/// A colour made brighter or darker by a factor.
pub fn scaled(colour: Rgb, by: f32) -> Rgb {
    colour.map(|v| v * by)
}

/// 0 below `from`, 1 above `to`, smooth between.
pub fn smoothstep(from: f32, to: f32, x: f32) -> f32 {
    let t = ((x - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A square picture that is being painted.
#[derive(Clone, Debug)]
pub struct Canvas {
    side: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// A black canvas of `side` × `side` pixels.
    pub fn new(side: usize) -> Self {
        Self {
            side,
            pixels: vec![[0.0; 3]; side * side],
        }
    }

    /// Replaces each pixel by a function of its place and present colour.
    pub fn map(&mut self, mut colour: impl FnMut(f32, f32, Rgb) -> Rgb) {
        let scale = 1.0 / self.side as f32;
        for row in 0..self.side {
            let y = (row as f32 + 0.5) * scale;
            for (column, pixel) in self.pixels[row * self.side..][..self.side]
                .iter_mut()
                .enumerate()
            {
                *pixel = colour((column as f32 + 0.5) * scale, y, *pixel);
            }
        }
    }

    /// The colour at a place, from the nearest pixel; places outside are clamped.
    pub fn at(&self, x: f32, y: f32) -> Rgb {
        let index =
            |v: f32| ((v * self.side as f32) as i32).clamp(0, self.side as i32 - 1) as usize;
        self.pixels[index(y) * self.side + index(x)]
    }

    /// An elliptical dab with a soft edge. `tilt` in radians.
    pub fn dab(
        &mut self,
        (x, y): (f32, f32),
        (rx, ry): (f32, f32),
        tilt: f32,
        colour: Rgb,
        alpha: f32,
    ) {
        let reach = rx.max(ry) * 1.1;
        let (sin, cos) = tilt.sin_cos();
        self.region(x - reach, y - reach, x + reach, y + reach, |px, py| {
            let (dx, dy) = (px - x, py - y);
            let (u, v) = ((dx * cos + dy * sin) / rx, (dy * cos - dx * sin) / ry);
            let d = (u * u + v * v).sqrt();
            (colour, alpha * (1.0 - smoothstep(0.75, 1.1, d)))
        });
    }

    /// A line that tapers from one width to another.
    pub fn line(
        &mut self,
        from: (f32, f32),
        to: (f32, f32),
        widths: (f32, f32),
        colour: Rgb,
        alpha: f32,
    ) {
        let pixel = 1.0 / self.side as f32;
        let pad = widths.0.max(widths.1) + pixel;
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = (dx * dx + dy * dy).max(1e-9);
        self.region(
            from.0.min(to.0) - pad,
            from.1.min(to.1) - pad,
            from.0.max(to.0) + pad,
            from.1.max(to.1) + pad,
            |px, py| {
                let t = (((px - from.0) * dx + (py - from.1) * dy) / length).clamp(0.0, 1.0);
                let (ex, ey) = (px - from.0 - t * dx, py - from.1 - t * dy);
                let half = 0.5 * (widths.0 + (widths.1 - widths.0) * t);
                let d = (ex * ex + ey * ey).sqrt() - half;
                (
                    colour,
                    alpha * (1.0 - smoothstep(-0.5 * pixel, 0.8 * pixel, d)),
                )
            },
        );
    }

    /// A filled convex polygon, corners in order.
    pub fn polygon(&mut self, corners: &[(f32, f32)], colour: Rgb, alpha: f32) {
        let pixel = 1.0 / self.side as f32;
        let bound = |pick: fn(&(f32, f32)) -> f32, fold: fn(f32, f32) -> f32| {
            corners.iter().map(pick).reduce(fold).unwrap_or(0.0)
        };
        let (left, right) = (bound(|c| c.0, f32::min), bound(|c| c.0, f32::max));
        let (top, bottom) = (bound(|c| c.1, f32::min), bound(|c| c.1, f32::max));
        self.region(
            left - pixel,
            top - pixel,
            right + pixel,
            bottom + pixel,
            |px, py| {
                let edges = corners.iter().zip(corners.iter().cycle().skip(1));
                let (mut least, mut most) = (f32::MAX, f32::MIN);
                for (a, b) in edges {
                    let (ex, ey) = (b.0 - a.0, b.1 - a.1);
                    let side =
                        ((px - a.0) * ey - (py - a.1) * ex) / (ex * ex + ey * ey).sqrt().max(1e-9);
                    least = least.min(side);
                    most = most.max(side);
                }
                // Inside, all edges have the point on the same side, whatever the winding.
                let depth = least.max(-most);
                (colour, alpha * smoothstep(-0.7 * pixel, 0.7 * pixel, depth))
            },
        );
    }

    fn region(
        &mut self,
        left: f32,
        top: f32,
        right: f32,
        bottom: f32,
        ink: impl Fn(f32, f32) -> (Rgb, f32),
    ) {
        let side = self.side as f32;
        let low = |v: f32| (v * side).floor().clamp(0.0, side) as usize;
        let high = |v: f32| (v * side).ceil().clamp(0.0, side) as usize;
        for row in low(top)..high(bottom) {
            for column in low(left)..high(right) {
                let (colour, alpha) = ink((column as f32 + 0.5) / side, (row as f32 + 0.5) / side);
                if alpha > 0.0 {
                    let pixel = &mut self.pixels[row * self.side + column];
                    *pixel = mix(*pixel, colour, alpha);
                }
            }
        }
    }

    /// The picture at `side` pixels by averaging whole blocks, as RGB bytes.
    ///
    /// # Panics
    /// Where the canvas's side is no multiple of `side`.
    pub fn reduced(&self, side: usize) -> Vec<u8> {
        assert!(
            side > 0 && self.side.is_multiple_of(side),
            "{} is no multiple of {side}",
            self.side
        );
        let block = self.side / side;
        let weight = 255.0 / (block * block) as f32;
        let mut bytes = Vec::with_capacity(side * side * 3);
        for row in 0..side {
            for column in 0..side {
                let mut sum = [0.0f32; 3];
                for y in 0..block {
                    let start = (row * block + y) * self.side + column * block;
                    for pixel in &self.pixels[start..start + block] {
                        for (s, v) in sum.iter_mut().zip(pixel) {
                            *s += v.clamp(0.0, 1.0);
                        }
                    }
                }
                bytes.extend(sum.map(|s| (s * weight + 0.5) as u8));
            }
        }
        bytes
    }
}
