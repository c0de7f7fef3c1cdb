//! What stands in a scene: a boat, a house, a tree, birds.

use super::scene::{Composition, Look, Scene};
use super::{mix, smooth};

/// What stands in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Nothing.
    None,
    /// A sailing boat on the horizon.
    Boat,
    /// A house with a lit window.
    House,
    /// One tree.
    Tree,
    /// Some birds in the sky.
    Birds,
}

impl Scene {
    /// `under`, or the figure where it covers `x`, `y`.
    pub(super) fn with_figure(&self, x: f32, y: f32, under: Look) -> Look {
        let p = &self.palette;
        let base = match self.composition {
            Composition::Hills => self.horizon + 0.42,
            Composition::Meadow => self.horizon + 0.12,
            _ => self.horizon + 0.02,
        };
        // Place relative to the foot of the figure, y upward.
        let (dx, dy) = (x - self.place, base - y);
        let level = |colour| Look { colour, angle: 0.0 };
        match self.figure {
            Figure::None => under,
            Figure::Boat => {
                let hull = dy > -0.025 && dy < 0.005 && dx.abs() < 0.07 + 0.8 * dy;
                let sail = dy > 0.012 && dy < 0.2 && dx > -0.055 + 0.27 * dy && dx < 0.005;
                let jib = dy > 0.012 && dy < 0.16 && dx > 0.012 && dx < 0.055 - 0.26 * dy;
                match (hull, sail || jib) {
                    (true, _) => level(p.dark),
                    (_, true) => Look {
                        colour: mix(p.light, p.accent, if sail { 0.55 } else { 0.2 }),
                        angle: 1.4,
                    },
                    _ => under,
                }
            }
            Figure::House => {
                let wall = dy > 0.0 && dy < 0.08 && dx.abs() < 0.07;
                let roof = (0.08..0.145).contains(&dy) && dx.abs() < 0.085 - 1.1 * (dy - 0.08);
                let window = (dy - 0.045).abs() < 0.016
                    && ((dx - 0.03).abs() < 0.013 || (dx + 0.03).abs() < 0.013);
                match (window, wall, roof) {
                    (true, ..) => level(p.light),
                    (_, true, _) => {
                        level(mix(p.dark, p.middle, 0.3 + 0.5 * smooth(-0.07, 0.07, dx)))
                    }
                    (.., true) => level(mix(p.accent, p.dark, 0.3)),
                    _ => under,
                }
            }
            Figure::Tree => {
                let trunk = dy > -0.02
                    && dy < 0.2
                    && (dx - 0.03 * (dy * 12.0).sin() * dy).abs() < 0.016 - 0.03 * dy;
                let crown = (dx * 1.1).hypot(dy - 0.25)
                    + 0.1 * (self.noise.fractal(x * 12.0, y * 12.0) - 0.5);
                if crown < 0.13 {
                    let leaf = self.noise.fractal(x * 16.0, y * 16.0);
                    let colour = mix(
                        mix(p.accent, p.dark, smooth(0.1, -0.12, dy - 0.25 + dx)),
                        p.light,
                        smooth(0.5, 0.8, leaf) * 0.4,
                    );
                    return Look {
                        colour,
                        angle: leaf * 6.0,
                    };
                }
                if trunk {
                    Look {
                        colour: p.dark,
                        angle: 1.57,
                    }
                } else {
                    under
                }
            }
            Figure::Birds => {
                for &(bx, by, size, _) in &self.discs[..7] {
                    let (wx, wy) = (
                        (x - bx) / (size * 0.9),
                        (y - by * self.horizon * 0.8 - 0.03) / (size * 0.9),
                    );
                    if wx.abs() < 1.0
                        && (wy + 0.5 * (1.0 - (2.0 * wx.abs() - 1.0).powi(2))).abs()
                            < 0.16 * (1.2 - wx.abs())
                    {
                        return level(p.dark);
                    }
                }
                under
            }
        }
    }
}
