//! Paints a scene as a picture: what the painting model learns from.
//!
//! Painted from back to front, like a landscape in oil: sky, far land, water,
//! near land, what stands on it, then the weather. A pure function of the scene.

pub mod canvas;
mod land;
mod objects;
mod palette;
mod sky;

use crate::noise::{fractal, lattice};
use crate::scene::{Attributes, LAYOUT, Layout, Scene, Weather, noise_vector};
use canvas::{Canvas, mix};
use palette::Palette;

/// Pixels on a side of the canvas that scenes are painted on before reduction.
const SIDE: usize = 256;

/// Paints `scene` at `side` × `side` pixels (a divisor of 256), as RGB bytes.
pub fn paint(scene: &Scene, side: usize) -> Vec<u8> {
    let layout = Layout::from_noise(&noise_vector(scene.layout, LAYOUT));
    canvas(&scene.attributes, &layout).reduced(side)
}

/// The painted canvas of a scene.
pub fn canvas(attributes: &Attributes, layout: &Layout) -> Canvas {
    let palette = Palette::of(attributes, layout.warmth());
    let mut canvas = Canvas::new(SIDE);
    sky::paint(&mut canvas, attributes, layout, &palette);
    land::paint(&mut canvas, attributes, layout, &palette);
    objects::paint(&mut canvas, attributes, layout, &palette);
    air(&mut canvas, attributes, &palette);
    brushed(&canvas)
}

/// What hangs or falls between the painter and the land.
fn air(canvas: &mut Canvas, attributes: &Attributes, palette: &Palette) {
    match attributes.weather {
        Weather::Rain => {
            for i in 0..150 {
                let (x, y) = (1.3 * lattice(i, 0, 71) - 0.1, 1.1 * lattice(i, 1, 71) - 0.1);
                let length = 0.05 + 0.05 * lattice(i, 2, 71);
                let bright = mix(palette.haze, [0.92, 0.95, 1.0], 0.55);
                canvas.line(
                    (x, y),
                    (x - 0.3 * length, y + length),
                    (0.003, 0.004),
                    bright,
                    0.42,
                );
            }
        }
        Weather::Snow => {
            for i in 0..170 {
                let (x, y) = (lattice(i, 0, 72), lattice(i, 1, 72));
                let size = 0.004 + 0.006 * lattice(i, 2, 72);
                canvas.dab(
                    (x, y),
                    (size, size),
                    0.0,
                    mix(palette.haze, [1.0; 3], 0.75),
                    0.85,
                );
            }
        }
        Weather::Mist => canvas.map(|x, y, colour| {
            let band = fractal(2.0 * x, 7.0 * y, 3, 73);
            let height = 1.0 - ((y - 0.58) / 0.3).abs();
            mix(
                colour,
                palette.haze,
                (0.75 * height + 0.5 * (band - 0.5)).clamp(0.12, 0.8),
            )
        }),
        Weather::Clear | Weather::Cloudy => {}
    }
}

/// The picture as if laid down in dabs: each place takes its colour from a little
/// beside it, by a noise that is constant along short level strokes.
fn brushed(canvas: &Canvas) -> Canvas {
    let mut out = canvas.clone();
    out.map(|x, y, _| {
        let dx = fractal(38.0 * x, 90.0 * y, 2, 81) - 0.5;
        let dy = fractal(60.0 * x, 80.0 * y, 2, 82) - 0.5;
        let colour = canvas.at(x + 0.022 * dx, y + 0.014 * dy);
        let weave = 1.0 + 0.07 * (fractal(30.0 * x, 100.0 * y, 2, 83) - 0.5);
        colour.map(|v| v * weave)
    });
    out
}
