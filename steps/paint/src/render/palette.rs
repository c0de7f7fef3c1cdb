//! The colours of a scene: what season, time of day and weather make of them.
//!
//! Decides colours only; places and shapes are the painters' matter.

use super::canvas::{Rgb, lit, mix, scaled};
use crate::scene::{Attributes, Season, Time, Weather};

/// The colours that every part of a picture is mixed from.
#[derive(Clone, Debug)]
pub(super) struct Palette {
    /// Sky overhead.
    pub zenith: Rgb,
    /// Sky above the horizon.
    pub horizon: Rgb,
    /// What distance fades into.
    pub haze: Rgb,
    /// The light on things: multiplies their own colours.
    pub light: Rgb,
    /// Clouds, where they are lit.
    pub cloud: Rgb,
    /// Grass and low growth, lit.
    pub grass: Rgb,
    /// Leaves, lit.
    pub leaf: Rgb,
    /// Bare rock, lit.
    pub rock: Rgb,
    /// Deep water.
    pub water: Rgb,
}

impl Palette {
    /// Mixes the palette of a scene; `warmth` in `[0, 1]` leans it from cool to warm.
    pub(super) fn of(attributes: &Attributes, warmth: f32) -> Self {
        let (mut zenith, mut horizon, mut light): (Rgb, Rgb, Rgb) = match attributes.time {
            Time::Dawn => ([0.50, 0.60, 0.80], [0.99, 0.76, 0.66], [1.0, 0.87, 0.84]),
            Time::Day => ([0.25, 0.52, 0.84], [0.77, 0.88, 0.93], [1.0, 1.0, 0.97]),
            Time::Dusk => ([0.30, 0.22, 0.46], [0.98, 0.52, 0.24], [0.80, 0.56, 0.52]),
            Time::Night => ([0.03, 0.05, 0.17], [0.12, 0.19, 0.38], [0.30, 0.39, 0.60]),
        };
        let grey = |c: Rgb| [0.3 * c[0] + 0.55 * c[1] + 0.15 * c[2]; 3];
        let (dull, dark) = match attributes.weather {
            Weather::Clear => (0.0, 1.0),
            Weather::Cloudy => (0.30, 0.95),
            Weather::Rain => (0.72, 0.72),
            Weather::Snow => (0.60, 0.98),
            Weather::Mist => (0.45, 1.0),
        };
        for colour in [&mut zenith, &mut horizon] {
            *colour = scaled(
                mix(*colour, mix(grey(*colour), [0.6, 0.66, 0.72], 0.15), dull),
                dark,
            );
        }
        light = scaled(mix(light, grey(light), 0.6 * dull), dark);
        let lean: Rgb = [0.97 + 0.06 * warmth, 1.0, 1.04 - 0.08 * warmth];
        let night = attributes.time == Time::Night;
        let (grass, leaf): (Rgb, Rgb) = match attributes.season {
            Season::Spring => ([0.58, 0.76, 0.36], [0.50, 0.74, 0.32]),
            Season::Summer => ([0.32, 0.58, 0.22], [0.16, 0.46, 0.18]),
            Season::Autumn => ([0.74, 0.58, 0.28], [0.86, 0.38, 0.12]),
            Season::Winter => ([0.90, 0.93, 0.97], [0.55, 0.52, 0.50]),
        };
        let rock = match attributes.season {
            Season::Winter => [0.58, 0.62, 0.70],
            Season::Autumn => [0.50, 0.43, 0.44],
            _ => [0.40, 0.46, 0.52],
        };
        let haze = if night {
            mix(horizon, zenith, 0.25)
        } else {
            mix(horizon, [0.86, 0.88, 0.90], 0.35)
        };
        let cloud = match attributes.time {
            Time::Dawn => [1.0, 0.90, 0.86],
            Time::Day => [0.98, 0.98, 0.98],
            Time::Dusk => [0.96, 0.60, 0.46],
            Time::Night => [0.24, 0.30, 0.44],
        };
        let cloud = match attributes.weather {
            Weather::Rain => mix(
                scaled(horizon, 0.85),
                [0.45, 0.48, 0.54],
                if night { 0.1 } else { 0.5 },
            ),
            _ => cloud,
        };
        Self {
            zenith: lit(zenith, lean),
            horizon: lit(horizon, lean),
            haze: lit(haze, lean),
            light: lit(light, lean),
            cloud,
            grass: lit(grass, light),
            leaf: lit(leaf, light),
            rock: lit(rock, light),
            water: lit(
                mix([0.10, 0.30, 0.42], zenith, 0.35),
                mix(light, [1.0; 3], 0.25),
            ),
        }
    }

    /// A colour of its own under this scene's light.
    pub(super) fn lit(&self, colour: Rgb) -> Rgb {
        lit(colour, self.light)
    }
}
