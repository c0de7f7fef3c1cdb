//! One stroke of a brush with bristles, and the canvas that it is laid on.

use image::Rgb;

use super::Picture;
use crate::noise::value;

/// A curved stroke of one colour.
pub(super) struct Stroke {
    /// Points of its middle, at least one, in pixels.
    pub(super) path: Vec<(f32, f32)>,
    /// Half its width in pixels.
    pub(super) radius: f32,
    /// Its colour, in about 0..1.
    pub(super) colour: [f32; 3],
    /// How much it covers.
    pub(super) opacity: f32,
    /// Seed of its bristles.
    pub(super) seed: u32,
}

/// Colours, and how high the paint stands.
pub(super) struct Canvas {
    colours: Picture,
    heights: Vec<f32>,
}

impl Canvas {
    /// A canvas with a ground.
    pub(super) fn new(ground: Picture) -> Self {
        let heights = vec![0.0; (ground.width() * ground.height()) as usize];
        Self {
            colours: ground,
            heights,
        }
    }

    pub(super) fn colour(&self, x: u32, y: u32) -> [f32; 3] {
        self.colours.get_pixel(x, y).0
    }

    pub(super) fn height(&self, x: u32, y: u32) -> f32 {
        self.heights[(y * self.colours.width() + x) as usize]
    }

    /// Lays a stroke: covers its colour over what is there, bristle by bristle.
    pub(super) fn lay(&mut self, stroke: &Stroke) {
        let side = self.colours.width();
        let Some(area) = Area::of(&stroke.path, stroke.radius, side) else {
            return;
        };
        let near = nearest(stroke, &area, side);
        let total = stroke.radius * (stroke.path.len() - 1) as f32;
        let width = (area.right - area.left) as usize;
        for (index, place) in near.iter().enumerate() {
            if let Some(place) = place {
                let (x, y) = (
                    area.left + (index % width) as u32,
                    area.top + (index / width) as u32,
                );
                self.touch(stroke, x, y, place.across, place.along, total);
            }
        }
    }

    /// Paint at one pixel: `across` in radii from the middle, -1..1; `along` in pixels
    /// from the start, less than 0 or more than `total` where the bristles run out.
    fn touch(&mut self, stroke: &Stroke, x: u32, y: u32, across: f32, along: f32, total: f32) {
        let bristle = value(6.0 * across, 0.16 * along / stroke.radius, stroke.seed);
        let edge = ((1.0 - across.abs()) * stroke.radius * 0.7).clamp(0.0, 1.0);
        // A brush runs dry towards its end, first between the bristles.
        let dry = ((along / (total + stroke.radius) - 0.65) * 2.2).clamp(0.0, 1.0);
        let cover = (1.0 - dry * (1.2 - bristle)).clamp(0.0, 1.0);
        // Each bristle touches down and lifts off at a place of its own.
        let reach = |end: f32| stroke.radius * (1.0 - 1.3 * value(7.0 * across, end, stroke.seed));
        let ends = (along + reach(11.0)).min(total + reach(23.0) - along);
        let ragged = if total > 0.0 {
            (ends / (0.3 * stroke.radius)).clamp(0.0, 1.0)
        } else {
            1.0
        };
        let alpha = stroke.opacity * edge * cover * ragged;
        if alpha <= 0.0 {
            return;
        }
        let shade = 1.0 + 0.10 * (bristle - 0.5);
        let Rgb(under) = self.colours.get_pixel_mut(x, y);
        for (value, colour) in under.iter_mut().zip(stroke.colour) {
            *value += alpha * (colour * shade - *value);
        }
        let height = &mut self.heights[(y * self.colours.width() + x) as usize];
        // Paint is pushed to the sides of a stroke and lies in the bristles' furrows.
        let profile = 0.55 * bristle + 0.45 * across * across;
        *height += alpha * (profile - *height);
    }
}

/// A rectangle of pixels; right and bottom are beyond it.
struct Area {
    left: u32,
    top: u32,
    right: u32,
    bottom: u32,
}

impl Area {
    /// The pixels within `radius` of some points, on a canvas of `side`; none where all
    /// are outside.
    fn of(points: &[(f32, f32)], radius: f32, side: u32) -> Option<Self> {
        let bound = |pick: fn(&(f32, f32)) -> f32| {
            points
                .iter()
                .map(pick)
                .fold((f32::MAX, f32::MIN), |(low, high), v| {
                    (low.min(v), high.max(v))
                })
        };
        let ((left, right), (top, bottom)) = (bound(|p| p.0), bound(|p| p.1));
        let pixel = |v: f32| v.clamp(0.0, side as f32) as u32;
        let area = Self {
            left: pixel(left - radius - 1.0),
            top: pixel(top - radius - 1.0),
            right: pixel(right + radius + 2.0),
            bottom: pixel(bottom + radius + 2.0),
        };
        (area.left < area.right && area.top < area.bottom).then_some(area)
    }
}

/// Where a pixel lies on a stroke.
#[derive(Clone, Copy)]
struct Place {
    distance: f32,
    /// In radii from the middle, -1..1.
    across: f32,
    /// In pixels from the start.
    along: f32,
}

/// For each pixel of `area` its place on the nearest part of the stroke. Works a part
/// at a time, so that a long stroke costs what it covers and not its bounding box.
fn nearest(stroke: &Stroke, area: &Area, side: u32) -> Vec<Option<Place>> {
    let r = stroke.radius;
    let width = (area.right - area.left) as usize;
    let mut places = vec![None; width * (area.bottom - area.top) as usize];
    let points = stroke.path.as_slice();
    // A single point is a part without length.
    let parts = (points.len() - 1).max(1);
    for i in 0..parts {
        let (a, b) = (points[i], points[(i + 1).min(points.len() - 1)]);
        let Some(part) = Area::of(&[a, b], r, side) else {
            continue;
        };
        let (ex, ey) = (b.0 - a.0, b.1 - a.1);
        let square = (ex * ex + ey * ey).max(1e-9);
        // The first and the last part go on straight for a radius, where bristles end.
        let first = if i == 0 { -1.0 } else { 0.0 };
        let last = if i + 1 == parts { 2.0 } else { 1.0 };
        for y in part.top.max(area.top)..part.bottom.min(area.bottom) {
            for x in part.left.max(area.left)..part.right.min(area.right) {
                let (px, py) = (x as f32 + 0.5 - a.0, y as f32 + 0.5 - a.1);
                let t = ((px * ex + py * ey) / square).clamp(first, last);
                let (dx, dy) = (px - t * ex, py - t * ey);
                let distance = (dx * dx + dy * dy).sqrt();
                let place: &mut Option<Place> =
                    &mut places[(y - area.top) as usize * width + (x - area.left) as usize];
                if distance < r && place.is_none_or(|before| distance < before.distance) {
                    let across = distance.copysign(ex * dy - ey * dx) / r;
                    *place = Some(Place {
                        distance,
                        across,
                        along: (i as f32 + t) * r,
                    });
                }
            }
        }
    }
    places
}
