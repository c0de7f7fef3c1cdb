//! What stands, floats and flies in a scene: trees, flowers, a house, a boat, birds.
//!
//! Each has one shape; the layout says where and how large.

use super::canvas::{Canvas, Rgb, mix, scaled};
use super::palette::Palette;
use crate::noise::{lattice, value};
use crate::scene::{Attributes, Land, Layout, Season, Time, Tree};

/// Paints everything that the attributes name, far things first.
pub(super) fn paint(
    canvas: &mut Canvas,
    attributes: &Attributes,
    layout: &Layout,
    palette: &Palette,
) {
    if attributes.birds {
        birds(canvas, layout, palette);
    }
    if attributes.house {
        house(canvas, attributes, layout, palette);
    }
    if attributes.boat {
        boat(canvas, layout, palette);
    }
    if attributes.flowers {
        flowers(canvas, layout, palette);
    }
    match attributes.tree {
        Tree::None => {}
        Tree::Pine => pine(canvas, attributes, layout, palette),
        Tree::Leafy | Tree::Blossom => crown(canvas, attributes, layout, palette),
    }
}

fn birds(canvas: &mut Canvas, layout: &Layout, palette: &Palette) {
    let (cx, cy) = layout.birds();
    let ink = mix(palette.lit([0.16, 0.15, 0.18]), palette.zenith, 0.15);
    for (dx, dy, span) in [
        (0.0, 0.0, 0.052),
        (0.11, 0.035, 0.044),
        (-0.10, 0.045, 0.046),
        (0.05, -0.06, 0.036),
        (0.19, -0.01, 0.034),
    ] {
        let (x, y) = (cx + dx, cy + dy);
        for side in [-1.0, 1.0] {
            let elbow = (x + side * 0.45 * span, y - 0.42 * span);
            canvas.line((x, y), elbow, (0.011, 0.009), ink, 0.95);
            canvas.line(
                elbow,
                (x + side * span, y - 0.12 * span),
                (0.009, 0.004),
                ink,
                0.95,
            );
        }
    }
}

fn house(canvas: &mut Canvas, attributes: &Attributes, layout: &Layout, palette: &Palette) {
    let x = layout.house();
    let ground = match attributes.land {
        Land::Lake => layout.horizon() + 0.075,
        Land::Fields => layout.horizon() + 0.12,
        Land::Hills => layout.horizon() + 0.17,
        _ => layout.horizon() + 0.19,
    };
    let wall = palette.lit([0.86, 0.78, 0.66]);
    let roof = if attributes.season == Season::Winter {
        palette.lit([0.95, 0.96, 1.0])
    } else {
        palette.lit([0.52, 0.26, 0.20])
    };
    let (w, h) = (0.075, 0.075);
    let (left, right) = (x - w, x + w);
    canvas.polygon(
        &[
            (left, ground),
            (right, ground),
            (right, ground - h),
            (left, ground - h),
        ],
        wall,
        1.0,
    );
    canvas.polygon(
        &[
            (x + 0.3 * w, ground),
            (right, ground),
            (right, ground - h),
            (x + 0.3 * w, ground - h),
        ],
        scaled(wall, 0.8),
        0.8,
    );
    let eave = ground - h;
    canvas.polygon(
        &[
            (left - 0.025, eave + 0.008),
            (right + 0.025, eave + 0.008),
            (x + 0.6 * w, eave - 0.075),
            (x - 0.6 * w, eave - 0.075),
        ],
        roof,
        1.0,
    );
    let dark = matches!(attributes.time, Time::Night | Time::Dusk);
    let window: Rgb = if dark {
        [1.0, 0.82, 0.42]
    } else {
        scaled(wall, 0.42)
    };
    for dx in [-0.5, 0.05] {
        let (l, t) = (x + dx * w, ground - 0.72 * h);
        canvas.polygon(
            &[(l, t), (l + 0.026, t), (l + 0.026, t + 0.03), (l, t + 0.03)],
            window,
            1.0,
        );
        if dark {
            canvas.dab(
                (l + 0.013, t + 0.015),
                (0.04, 0.04),
                0.0,
                [1.0, 0.72, 0.35],
                0.22,
            );
        }
    }
}

fn boat(canvas: &mut Canvas, layout: &Layout, palette: &Palette) {
    let (x, near) = layout.boat();
    let y = layout.horizon() + 0.12 + 0.09 * near;
    let s = 0.8 + 0.5 * near;
    let hull = palette.lit([0.42, 0.22, 0.15]);
    let sail = palette.lit([0.97, 0.94, 0.86]);
    canvas.dab(
        (x, y + 0.035 * s),
        (0.11 * s, 0.012 * s),
        0.0,
        scaled(palette.water, 0.5),
        0.6,
    );
    canvas.polygon(
        &[
            (x - 0.10 * s, y),
            (x + 0.11 * s, y),
            (x + 0.075 * s, y + 0.032 * s),
            (x - 0.065 * s, y + 0.032 * s),
        ],
        hull,
        1.0,
    );
    canvas.line(
        (x, y),
        (x, y - 0.17 * s),
        (0.009, 0.006),
        scaled(hull, 0.7),
        1.0,
    );
    canvas.polygon(
        &[
            (x + 0.008, y - 0.165 * s),
            (x + 0.085 * s, y - 0.015 * s),
            (x + 0.008, y - 0.015 * s),
        ],
        sail,
        1.0,
    );
    canvas.polygon(
        &[
            (x - 0.008, y - 0.14 * s),
            (x - 0.06 * s, y - 0.015 * s),
            (x - 0.008, y - 0.015 * s),
        ],
        scaled(sail, 0.86),
        1.0,
    );
}

fn flowers(canvas: &mut Canvas, layout: &Layout, palette: &Palette) {
    let colours: [Rgb; 4] = [
        [0.92, 0.26, 0.30],
        [0.98, 0.84, 0.28],
        [0.95, 0.95, 0.95],
        [0.70, 0.42, 0.82],
    ];
    for i in 0..110 {
        let depth = lattice(i, 1, 111).sqrt();
        let (x, y) = (lattice(i, 0, 111), 0.84 + 0.16 * depth);
        // They grow in drifts that the bank's phase moves.
        if value(3.0 * x + 4.0 * layout.bank(), 2.0 * y, 112) < 0.35 {
            continue;
        }
        let size = 0.008 + 0.009 * depth;
        let kind = (lattice(i, 2, 111) * 4.0) as usize % 4;
        canvas.line(
            (x, y),
            (x + 0.004, y + 2.2 * size),
            (0.004, 0.003),
            scaled(palette.leaf, 0.7),
            0.7,
        );
        canvas.dab(
            (x, y),
            (size, 0.8 * size),
            0.0,
            palette.lit(colours[kind]),
            0.95,
        );
    }
}

/// Foot and height of the foreground tree.
fn standing(attributes: &Attributes, layout: &Layout) -> (f32, f32, f32) {
    let (x, scale) = layout.tree();
    let foot = if attributes.land == Land::Sea {
        0.97
    } else {
        0.95
    };
    (x, foot, scale)
}

fn pine(canvas: &mut Canvas, attributes: &Attributes, layout: &Layout, palette: &Palette) {
    let (x, foot, scale) = standing(attributes, layout);
    let height = 0.62 * scale;
    let needle = palette.lit([0.13, 0.33, 0.22]);
    let snowy = attributes.season == Season::Winter;
    canvas.line(
        (x, foot),
        (x, foot - height),
        (0.030 * scale, 0.008),
        palette.lit([0.30, 0.20, 0.14]),
        1.0,
    );
    for tier in 0..9 {
        let up = tier as f32 / 9.0;
        let y = foot - height * (0.16 + 0.84 * up);
        let reach = 0.17 * scale * (1.0 - 0.88 * up);
        for i in 0..12 {
            let t = i as f32 / 11.0 * 2.0 - 1.0;
            let droop = 0.035 * scale * t * t;
            let tone = 0.7 + 0.55 * lattice(i, tier, 121);
            let at = (
                x + reach * t,
                y + droop + 0.012 * (lattice(i, tier, 122) - 0.5),
            );
            canvas.dab(
                at,
                (0.042 * scale, 0.021 * scale),
                0.5 * t,
                scaled(needle, tone),
                0.95,
            );
            if snowy {
                canvas.dab(
                    (at.0, at.1 - 0.012),
                    (0.026 * scale, 0.009 * scale),
                    0.4 * t,
                    palette.lit([0.95, 0.97, 1.0]),
                    0.85,
                );
            }
        }
    }
}

/// A broad tree: trunk, branches that fork, and a crown of dabs where they end.
fn crown(canvas: &mut Canvas, attributes: &Attributes, layout: &Layout, palette: &Palette) {
    let (x, foot, scale) = standing(attributes, layout);
    let bark = palette.lit([0.27, 0.19, 0.15]);
    let lean = if x < 0.5 { 0.16 } else { -0.16 };
    let mut tips = Vec::new();
    let mut limbs = vec![(
        (x, foot),
        -std::f32::consts::FRAC_PI_2 + lean,
        0.24 * scale,
        0.050 * scale,
        0,
    )];
    let mut index = 0;
    while let Some((from, heading, length, width, depth)) = limbs.pop() {
        let to = (
            from.0 + length * heading.cos(),
            from.1 + length * heading.sin(),
        );
        canvas.line(from, to, (width, 0.62 * width), bark, 1.0);
        if depth >= 2 {
            tips.push(to);
        }
        if depth < 4 {
            let forks = if depth < 2 { 3 } else { 2 };
            for fork in 0..forks {
                index += 1;
                let spread = (fork as f32 / (forks - 1) as f32 - 0.5) * 1.5
                    + 0.35 * (lattice(index, 0, 131) - 0.5);
                let shorter = 0.66 + 0.14 * lattice(index, 1, 131);
                limbs.push((
                    to,
                    heading + spread,
                    length * shorter,
                    0.6 * width,
                    depth + 1,
                ));
            }
        }
    }
    let bare = attributes.season == Season::Winter && attributes.tree == Tree::Leafy;
    if bare {
        return;
    }
    let leaf = match attributes.tree {
        Tree::Blossom => palette.lit([1.0, 0.72, 0.80]),
        _ => palette.leaf,
    };
    let glow = match attributes.tree {
        Tree::Blossom => palette.lit([1.0, 0.90, 0.93]),
        _ => mix(palette.leaf, palette.lit([0.98, 0.86, 0.36]), 0.30),
    };
    tips.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (i, tip) in tips.iter().enumerate() {
        let i = i as i32;
        for j in 0..5 {
            let at = (
                tip.0 + 0.10 * scale * (lattice(i, j, 132) - 0.5),
                tip.1 + 0.085 * scale * (lattice(i, j, 133) - 0.5),
            );
            let tone = lattice(i, j, 134);
            let shade = scaled(mix(leaf, glow, 0.8 * tone), 0.74 + 0.32 * tone);
            let size = (0.022 + 0.016 * lattice(i, j, 135)) * scale;
            canvas.dab(at, (size, 0.8 * size), 3.0 * tone, shade, 0.92);
        }
    }
}
