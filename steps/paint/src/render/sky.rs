//! Sky, sun, moon, stars and clouds.
//!
//! Paints to a little below the horizon, which land and water cover later.

use super::canvas::{Canvas, Rgb, mix, smoothstep};
use super::palette::Palette;
use crate::noise::{fractal, lattice};
use crate::scene::{Attributes, Layout, Light, Time, Weather};

/// How far below the horizon the sky is painted; land or water covers what is lower.
const HIDDEN: f32 = 0.22;

/// Paints the sky down to where the land is sure to cover it.
pub(super) fn paint(
    canvas: &mut Canvas,
    attributes: &Attributes,
    layout: &Layout,
    palette: &Palette,
) {
    let horizon = layout.horizon();
    canvas.map(|x, y, under| {
        if y > horizon + HIDDEN {
            return under;
        }
        let height = (y / horizon).min(1.0);
        let sweep = 0.10 * (fractal(2.0 * x + 3.0, 6.0 * y, 3, 11) - 0.5);
        mix(
            palette.zenith,
            palette.horizon,
            (height + sweep).clamp(0.0, 1.0).powf(1.3),
        )
    });
    if attributes.stars {
        stars(canvas, horizon);
    }
    match attributes.light {
        Light::Sun => sun(canvas, attributes.time, place(attributes, layout)),
        Light::Moon => moon(canvas, attributes.time, place(attributes, layout)),
        Light::None => {}
    }
    clouds(canvas, attributes, layout, palette);
}

/// Where the sun or moon stands: low at dawn and dusk.
pub(super) fn place(attributes: &Attributes, layout: &Layout) -> (f32, f32) {
    let (x, y) = layout.light();
    match (attributes.light, attributes.time) {
        (Light::Sun, Time::Dawn | Time::Dusk) => (x, layout.horizon() - 0.20 + 0.5 * (y - 0.1)),
        _ => (x, y),
    }
}

fn stars(canvas: &mut Canvas, horizon: f32) {
    for i in 0..90 {
        let (x, y) = (lattice(i, 0, 21), lattice(i, 1, 21) * horizon);
        let size = 0.003 + 0.005 * lattice(i, 2, 21).powi(3);
        canvas.dab((x, y), (size, size), 0.0, [0.95, 0.95, 0.82], 0.95);
    }
}

fn glow(canvas: &mut Canvas, (cx, cy): (f32, f32), colour: Rgb, reach: f32, strength: f32) {
    canvas.map(|x, y, under| {
        let d = ((x - cx).powi(2) + (y - cy).powi(2)).sqrt();
        mix(under, colour, strength * (-d / reach).exp())
    });
}

fn sun(canvas: &mut Canvas, time: Time, centre: (f32, f32)) {
    let (body, halo): (Rgb, Rgb) = match time {
        Time::Dusk => ([1.0, 0.62, 0.30], [1.0, 0.50, 0.22]),
        Time::Dawn => ([1.0, 0.88, 0.66], [1.0, 0.80, 0.60]),
        _ => ([1.0, 0.97, 0.78], [1.0, 0.95, 0.75]),
    };
    glow(canvas, centre, halo, 0.20, 0.75);
    let radius = if time == Time::Day { 0.055 } else { 0.075 };
    canvas.dab(centre, (radius, radius), 0.0, body, 1.0);
}

fn moon(canvas: &mut Canvas, time: Time, centre: (f32, f32)) {
    let strength = if time == Time::Night { 0.42 } else { 0.25 };
    glow(canvas, centre, [0.78, 0.82, 0.86], 0.13, strength);
    canvas.dab(centre, (0.078, 0.078), 0.0, [0.97, 0.95, 0.82], 1.0);
    for (dx, dy, r) in [
        (-0.02, -0.015, 0.018),
        (0.022, 0.006, 0.013),
        (-0.004, 0.028, 0.014),
    ] {
        canvas.dab(
            (centre.0 + dx, centre.1 + dy),
            (r, r),
            0.0,
            [0.84, 0.83, 0.74],
            0.55,
        );
    }
}

fn clouds(canvas: &mut Canvas, attributes: &Attributes, layout: &Layout, palette: &Palette) {
    let (cover, strength) = match attributes.weather {
        Weather::Clear => return,
        Weather::Mist | Weather::Snow => (0.50, 0.25),
        Weather::Cloudy => (0.47, 0.92),
        Weather::Rain => (0.36, 0.85),
    };
    let (drift, horizon) = (layout.clouds(), layout.horizon());
    let shade = mix(palette.cloud, palette.zenith, 0.45);
    canvas.map(|x, y, under| {
        if y > horizon + HIDDEN {
            return under;
        }
        // Clouds flatten towards the horizon, as seen from the ground.
        let depth = 1.0 / (1.15 - (y / horizon).min(1.0));
        let (u, v) = (1.7 * x + 1.6 * drift, 1.5 * depth.ln() * 1.6 + 2.2 * y);
        let density = fractal(u * 1.6, v * 2.2, 4, 31);
        let below = fractal(u * 1.6, (v - 0.10) * 2.2, 4, 31);
        let body = smoothstep(cover, cover + 0.20, density);
        let fade = 1.0 - 0.6 * smoothstep(0.7, 1.0, y / horizon);
        let side = smoothstep(-0.06, 0.12, below - density + 0.05);
        mix(
            under,
            mix(palette.cloud, shade, side),
            body * strength * fade,
        )
    });
}
