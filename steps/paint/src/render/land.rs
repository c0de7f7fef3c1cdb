//! The land and the water that fill the lower part of a picture.
//!
//! Paints over what the sky left there; nothing that stands on the land.

use super::canvas::{Canvas, Rgb, mix, scaled, smoothstep};
use super::palette::Palette;
use super::sky;
use crate::noise::{fractal, value};
use crate::scene::{Attributes, Land, Layout, Light, Season, Time, Weather};

/// Paints far land, water and near land.
pub(super) fn paint(
    canvas: &mut Canvas,
    attributes: &Attributes,
    layout: &Layout,
    palette: &Palette,
) {
    match attributes.land {
        Land::Mountains => {
            peaks(canvas, attributes, layout, palette, 0.30, 0.55);
            peaks(canvas, attributes, layout, palette, 0.20, 0.15);
            meadow(canvas, layout, palette, layout.horizon() + 0.16, 0.05);
        }
        Land::Hills => {
            hills(canvas, layout, palette, 0.10, 0.62, 0);
            hills(canvas, layout, palette, -0.02, 0.32, 1);
            meadow(canvas, layout, palette, layout.horizon() + 0.13, 0.09);
        }
        Land::Sea => {
            water(canvas, attributes, layout, palette, layout.horizon(), 1.0);
            beach(canvas, layout, palette);
        }
        Land::Lake => {
            peaks(canvas, attributes, layout, palette, 0.17, 0.62);
            hills(canvas, layout, palette, 0.03, 0.35, 1);
            water(
                canvas,
                attributes,
                layout,
                palette,
                layout.horizon() + 0.06,
                0.35,
            );
            meadow(canvas, layout, palette, 0.93, 0.08);
        }
        Land::Fields => {
            hills(canvas, layout, palette, 0.06, 0.60, 0);
            fields(canvas, attributes, layout, palette);
        }
        Land::Forest => {
            forest(canvas, layout, palette, 0.20, 0.60, 34.0);
            forest(canvas, layout, palette, 0.10, 0.28, 20.0);
            meadow(canvas, layout, palette, layout.horizon() + 0.20, 0.04);
        }
    }
}

/// Height of a mountain ridge above the horizon at `x`, in `[0, 1]`.
fn ridge(x: f32, phase: f32, seed: u32) -> f32 {
    // Two tents of different width carry the shape, noise roughens it.
    let tent = |centre: f32, width: f32| (1.0 - ((x - centre) / width).abs()).max(0.0);
    let main = tent(0.18 + 0.64 * phase, 0.48);
    let side = 0.62 * tent(0.95 - 0.9 * phase, 0.40);
    main.max(side) * 0.85 + 0.18 * (fractal(5.0 * (x + phase), 0.5, 4, seed) - 0.35)
}

fn peaks(
    canvas: &mut Canvas,
    attributes: &Attributes,
    layout: &Layout,
    palette: &Palette,
    height: f32,
    distance: f32,
) {
    let (far, near, tall) = layout.ridges();
    let is_far = distance > 0.4;
    let phase = if is_far { far } else { 1.0 - near };
    let seed = if is_far { 41 } else { 42 };
    let base = layout.horizon() + if is_far { 0.03 } else { 0.09 };
    let height = height * (0.75 + 0.5 * tall);
    let snow_line = match attributes.season {
        Season::Winter => 0.15,
        Season::Spring => 0.55,
        _ => 0.72,
    };
    let snow = palette.lit([0.98, 0.98, 1.0]);
    canvas.map(|x, y, under| {
        let top = base - height * ridge(x, phase, seed);
        let inside = smoothstep(top - 0.002, top + 0.003, y);
        if inside == 0.0 || y > base + 0.4 {
            return under;
        }
        // Light falls from the left: the noise that tilts with x shades the slopes.
        let grain = fractal(9.0 * x - 6.0 * (y - top), 9.0 * y, 4, seed + 5);
        let slope = ridge(x + 0.03, phase, seed) - ridge(x - 0.03, phase, seed);
        let shade = 0.86 + 0.5 * (grain - 0.5) + (1.6 * slope).clamp(-0.22, 0.22);
        let mut colour = scaled(palette.rock, shade);
        let altitude = (base - y) / height;
        let capped = smoothstep(
            snow_line - 0.04,
            snow_line + 0.06,
            altitude + 0.25 * (grain - 0.5),
        );
        colour = mix(colour, scaled(snow, 0.78 + 0.28 * shade), capped * 0.9);
        let low = smoothstep(0.25, -0.1, altitude);
        colour = mix(
            colour,
            scaled(palette.grass, 0.75 + 0.4 * grain),
            0.5 * low * (1.0 - distance),
        );
        mix(
            under,
            mix(colour, palette.haze, distance * (0.8 + 0.4 * low)),
            inside,
        )
    });
}

fn hills(
    canvas: &mut Canvas,
    layout: &Layout,
    palette: &Palette,
    lift: f32,
    distance: f32,
    which: u32,
) {
    let (far, near, tall) = layout.ridges();
    let phase = if which == 0 { far } else { near };
    let base = layout.horizon() - lift + 0.06;
    let sway = 0.030 + 0.045 * tall;
    canvas.map(|x, y, under| {
        let wave = (std::f32::consts::TAU * (0.9 * x + phase)).sin();
        let ripple = (std::f32::consts::TAU * (1.9 * x - 1.3 * phase)).sin();
        let top =
            base - sway * wave - 0.4 * sway * ripple - 0.02 * fractal(14.0 * x, 0.3, 3, 51 + which);
        let inside = smoothstep(top - 0.002, top + 0.003, y);
        if inside == 0.0 {
            return under;
        }
        let grain = fractal(
            16.0 * x + 5.0 * y,
            34.0 * (y - 0.6 * (top - base)),
            3,
            53 + which,
        );
        let edge = smoothstep(0.09, 0.0, y - top);
        let colour = scaled(palette.grass, 0.70 + 0.36 * grain + 0.18 * edge);
        mix(under, mix(colour, palette.haze, distance), inside)
    });
}

/// The ground in front: grass, or snow in winter, with the strokes of a brush.
fn meadow(canvas: &mut Canvas, layout: &Layout, palette: &Palette, base: f32, sway: f32) {
    let bank = layout.bank();
    canvas.map(|x, y, under| {
        let top = base
            - sway * (std::f32::consts::TAU * (0.55 * x + bank)).sin() * 0.6
            - 0.012 * value(40.0 * x, 1.0, 61);
        let inside = smoothstep(top - 0.003, top + 0.004, y);
        if inside == 0.0 {
            return under;
        }
        let blade = fractal(55.0 * x, 20.0 * y, 3, 62);
        let patch = fractal(4.0 * x + 3.0 * bank, 9.0 * y, 3, 63);
        let near = smoothstep(base, 1.0, y);
        let colour = scaled(
            palette.grass,
            0.62 + 0.30 * blade + 0.38 * patch - 0.18 * near,
        );
        mix(under, mix(colour, palette.leaf, 0.22 * patch), inside)
    });
}

fn fields(canvas: &mut Canvas, attributes: &Attributes, layout: &Layout, palette: &Palette) {
    let horizon = layout.horizon() + 0.05;
    let vanish = 0.25 + 0.5 * layout.bank();
    let crop: Rgb = match attributes.season {
        Season::Spring => palette.lit([0.70, 0.80, 0.34]),
        Season::Summer => palette.lit([0.93, 0.78, 0.30]),
        Season::Autumn => palette.lit([0.72, 0.50, 0.24]),
        Season::Winter => palette.lit([0.93, 0.95, 0.98]),
    };
    let furrow = match attributes.season {
        Season::Winter => palette.lit([0.62, 0.64, 0.70]),
        _ => mix(palette.grass, palette.lit([0.40, 0.30, 0.18]), 0.5),
    };
    canvas.map(|x, y, under| {
        let inside = smoothstep(horizon - 0.003, horizon + 0.004, y);
        if inside == 0.0 {
            return under;
        }
        // Furrows run to one point on the horizon.
        let depth = (y - horizon).max(0.004);
        let across = (x - vanish) / (depth + 0.05);
        let rows = 0.5 + 0.5 * (across * 7.0 + 0.8 * fractal(6.0 * x, 10.0 * y, 2, 66)).sin();
        let grain = fractal(40.0 * x, 26.0 * y, 3, 67);
        let colour = mix(furrow, crop, 0.25 + 0.75 * smoothstep(0.15, 0.65, rows));
        let colour = scaled(colour, 0.78 + 0.34 * grain);
        mix(
            under,
            mix(colour, palette.haze, 0.45 * smoothstep(0.15, 0.0, depth)),
            inside,
        )
    });
}

fn forest(
    canvas: &mut Canvas,
    layout: &Layout,
    palette: &Palette,
    height: f32,
    distance: f32,
    density: f32,
) {
    let (far, near, tall) = layout.ridges();
    let phase = if distance > 0.4 { far } else { near };
    let base = layout.horizon() + 0.10 - 0.05 * (distance - 0.3);
    let height = height * (0.8 + 0.5 * tall);
    canvas.map(|x, y, under| {
        // One crown to a cell, each with a height of its own.
        let u = density * x + 7.0 * phase;
        let cell = u.floor();
        let crown = 0.6 + 0.4 * value(cell, 0.0, 91);
        let within = (u - cell - 0.5).abs() * 2.0;
        let top = base
            - height * crown * (1.0 - 0.55 * within.powf(1.3))
            - 0.03 * (fractal(50.0 * x, 50.0 * y, 2, 92) - 0.5);
        let inside = smoothstep(top - 0.003, top + 0.004, y);
        if inside == 0.0 {
            return under;
        }
        let tuft = fractal(30.0 * x, 30.0 * y, 3, 93);
        let tone = value(cell, 5.0, 94);
        let deep = smoothstep(0.0, height, y - top);
        let leaf = mix(palette.leaf, palette.grass, 0.6 * tone);
        let colour = scaled(leaf, (0.62 + 0.6 * tuft) * (1.0 - 0.55 * deep));
        mix(under, mix(colour, palette.haze, distance), inside)
    });
}

fn beach(canvas: &mut Canvas, layout: &Layout, palette: &Palette) {
    let bank = layout.bank();
    let sand = palette.lit([0.88, 0.78, 0.60]);
    canvas.map(|x, y, under| {
        let shore = 0.90 - 0.07 * (std::f32::consts::TAU * (0.4 * x + bank)).sin();
        let foam = smoothstep(0.02, 0.0, (y - shore).abs());
        let inside = smoothstep(shore - 0.002, shore + 0.006, y);
        let grain = 0.86 + 0.24 * fractal(30.0 * x, 44.0 * y, 3, 97);
        mix(
            mix(under, scaled(sand, grain), inside),
            palette.lit([0.97, 0.98, 1.0]),
            0.75 * foam,
        )
    });
}

/// Water from `line` down: it mirrors what stands above it; `open` water has waves.
fn water(
    canvas: &mut Canvas,
    attributes: &Attributes,
    layout: &Layout,
    palette: &Palette,
    line: f32,
    open: f32,
) {
    let above = canvas.clone();
    let light = sky::place(attributes, layout);
    let glitter: Option<Rgb> = match (attributes.light, attributes.time) {
        (Light::Moon, _) => Some([0.90, 0.91, 0.84]),
        (Light::Sun, Time::Dusk) => Some([1.0, 0.66, 0.36]),
        (Light::Sun, _) => Some([1.0, 0.95, 0.80]),
        (Light::None, _) => None,
    };
    let still = if matches!(attributes.weather, Weather::Rain) {
        0.5
    } else {
        1.0
    };
    canvas.map(|x, y, under| {
        let inside = smoothstep(line - 0.002, line + 0.002, y);
        if inside == 0.0 {
            return under;
        }
        let depth = (y - line).max(0.0);
        let swell = fractal(7.0 * x + 2.0 * layout.bank(), 60.0 * depth.sqrt(), 3, 101);
        let mirrored = above.at(
            x + 0.06 * (swell - 0.5),
            (line - 0.8 * depth - 0.02 * (swell - 0.5)).max(0.0),
        );
        let near = smoothstep(0.0, 0.45, depth);
        let deep = mix(palette.water, scaled(palette.water, 0.72), near);
        let mut colour = mix(
            mirrored,
            deep,
            (0.30 + 0.45 * open + 0.15 * near) * (2.0 - still) * 0.75,
        );
        let crest = smoothstep(0.60, 0.74, swell) * (0.18 + 0.42 * open * near);
        colour = mix(
            colour,
            mix(palette.horizon, palette.lit([1.0; 3]), 0.5),
            crest,
        );
        if let Some(glint) = glitter {
            let spread = 0.035 + 0.16 * depth;
            let column = (-((x - light.0) / spread).powi(2)).exp();
            colour = mix(
                colour,
                glint,
                column * (0.25 + 0.75 * smoothstep(0.45, 0.62, swell)) * 0.8,
            );
        }
        mix(under, colour, inside)
    });
}
