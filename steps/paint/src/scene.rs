//! A scene: what a landscape shows, and how it is laid out.
//!
//! Attributes are what captions can name; the layout is what they leave open and
//! is read from the first components of the generator's noise vector. Nothing is
//! drawn here (see `render`) and nothing is worded here (see `caption`).

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

macro_rules! attribute {
    ($(#[$doc:meta])* $name:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[allow(missing_docs, reason = "the variants are plain words")]
        pub enum $name { $($variant),+ }
        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }
    };
}

attribute!(
    /// Season of the year.
    Season { Spring, Summer, Autumn, Winter }
);
attribute!(
    /// Time of day.
    Time { Dawn, Day, Dusk, Night }
);
attribute!(
    /// What the air is like.
    Weather { Clear, Cloudy, Rain, Snow, Mist }
);
attribute!(
    /// The land, or the water, that fills the lower part.
    Land { Mountains, Hills, Sea, Lake, Fields, Forest }
);
attribute!(
    /// The body in the sky, where one is seen.
    Light { None, Sun, Moon }
);
attribute!(
    /// The tree in the foreground, where there is one.
    Tree { None, Leafy, Pine, Blossom }
);

/// What a landscape shows: everything that a caption may name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attributes {
    /// Season of the year.
    pub season: Season,
    /// Time of day.
    pub time: Time,
    /// What the air is like.
    pub weather: Weather,
    /// Land or water.
    pub land: Land,
    /// Sun or moon.
    pub light: Light,
    /// A tree in the foreground.
    pub tree: Tree,
    /// Stars, at night.
    pub stars: bool,
    /// Birds in the sky.
    pub birds: bool,
    /// A boat on the water.
    pub boat: bool,
    /// A house with a window.
    pub house: bool,
    /// Flowers in the foreground.
    pub flowers: bool,
}

/// One training or held-out example, before it is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    /// What is seen.
    pub attributes: Attributes,
    /// Seed of the layout vector.
    pub layout: u64,
    /// Several wordings of the attributes.
    pub captions: Vec<String>,
}

impl Attributes {
    /// Draws a scene that could exist: a moon shines in the dark, boats float,
    /// snow falls in winter.
    pub fn draw(rng: &mut StdRng) -> Self {
        let season = pick(rng, Season::ALL);
        let time = pick(rng, Time::ALL);
        let land = pick(rng, Land::ALL);
        let weather = match (season, rng.random_range(0..10)) {
            (_, 0..=3) => Weather::Clear,
            (_, 4..=5) => Weather::Cloudy,
            (_, 6) => Weather::Mist,
            (Season::Winter, _) => Weather::Snow,
            (_, 7..=8) => Weather::Rain,
            (_, _) => Weather::Mist,
        };
        let open = matches!(weather, Weather::Clear | Weather::Cloudy | Weather::Mist);
        let light = match time {
            Time::Night if weather != Weather::Rain && rng.random_bool(0.7) => Light::Moon,
            Time::Dusk if open && rng.random_bool(0.25) => Light::Moon,
            Time::Dawn | Time::Day | Time::Dusk if open && rng.random_bool(0.55) => Light::Sun,
            _ => Light::None,
        };
        let stars = time == Time::Night && weather == Weather::Clear && rng.random_bool(0.7);
        let tree = if land != Land::Forest && rng.random_bool(0.55) {
            match season {
                Season::Spring if rng.random_bool(0.65) => Tree::Blossom,
                _ if rng.random_bool(0.35) => Tree::Pine,
                _ => Tree::Leafy,
            }
        } else {
            Tree::None
        };
        let water = matches!(land, Land::Sea | Land::Lake);
        let boat = water && rng.random_bool(0.5);
        let house = !matches!(land, Land::Sea | Land::Forest) && !boat && rng.random_bool(0.3);
        let flowers = matches!(season, Season::Spring | Season::Summer)
            && matches!(land, Land::Hills | Land::Fields | Land::Lake)
            && rng.random_bool(0.4);
        let birds = time != Time::Night && open && rng.random_bool(0.35);
        Self {
            season,
            time,
            weather,
            land,
            light,
            tree,
            stars,
            birds,
            boat,
            house,
            flowers,
        }
    }

    /// Whether this combination is kept out of training: about one in eight of
    /// (season, time, weather, land), chosen by a fixed hash, so that every data
    /// set holds out the same ones.
    pub fn held_out(&self) -> bool {
        let key = [
            self.season as u8,
            self.time as u8,
            self.weather as u8,
            self.land as u8,
        ];
        blake3::hash(&key).as_bytes()[0] < 32
    }
}

fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

/// How many components of the noise vector lay a picture out.
pub const LAYOUT: usize = 16;

/// The places and shapes that a caption leaves open, each in `(0, 1)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout(pub [f32; LAYOUT]);

impl Layout {
    /// Reads a layout from standard normal numbers, through their distribution
    /// function: any `z ~ N(0, 1)` is a layout that training has covered.
    pub fn from_noise(z: &[f32]) -> Self {
        let mut unit = [0.5; LAYOUT];
        for (u, &z) in unit.iter_mut().zip(z) {
            // The logistic function is within 0.01 of the normal distribution here.
            *u = 1.0 / (1.0 + (-1.702 * z).exp());
        }
        Self(unit)
    }
    /// Height of the horizon from the top, as a share of the picture.
    pub fn horizon(&self) -> f32 {
        0.46 + 0.16 * self.0[0]
    }
    /// Centre of the sun or moon.
    pub fn light(&self) -> (f32, f32) {
        (0.15 + 0.7 * self.0[1], 0.1 + 0.2 * self.0[2])
    }
    /// Phase of the far ridge, phase of the near ridge, and height of both.
    pub fn ridges(&self) -> (f32, f32, f32) {
        (self.0[3], self.0[4], self.0[5])
    }
    /// Where the tree stands and how large it is.
    pub fn tree(&self) -> (f32, f32) {
        let x = self.0[6];
        // Painters keep the middle free: the tree stands to the left or right.
        (
            if x < 0.5 {
                0.08 + 0.4 * x
            } else {
                0.52 + 0.4 * x
            },
            0.8 + 0.35 * self.0[7],
        )
    }
    /// Where the boat floats: across, and how near.
    pub fn boat(&self) -> (f32, f32) {
        (0.2 + 0.6 * self.0[8], self.0[9])
    }
    /// Where the house stands.
    pub fn house(&self) -> f32 {
        0.2 + 0.6 * self.0[10]
    }
    /// Centre of the flock.
    pub fn birds(&self) -> (f32, f32) {
        (0.2 + 0.6 * self.0[11], 0.14 + 0.2 * self.0[12])
    }
    /// Drift of the clouds.
    pub fn clouds(&self) -> f32 {
        self.0[13]
    }
    /// Phase of the foreground's bank.
    pub fn bank(&self) -> f32 {
        self.0[14]
    }
    /// Warmth of the whole, from cool (0) to warm (1).
    pub fn warmth(&self) -> f32 {
        self.0[15]
    }
}

/// A standard normal vector of `len` components that belongs to `seed`: the noise
/// with which the generator paints the scene whose layout has this seed.
pub fn noise_vector(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..len)
        .map(|_| {
            // Box and Muller: two uniform numbers give a normal one.
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_scenes_could_exist() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut held_out = 0;
        for _ in 0..4000 {
            let a = Attributes::draw(&mut rng);
            assert!(a.weather != Weather::Snow || a.season == Season::Winter);
            assert!(!a.boat || matches!(a.land, Land::Sea | Land::Lake));
            assert!(a.light != Light::Sun || a.time != Time::Night);
            assert!(!a.stars || a.time == Time::Night);
            held_out += usize::from(a.held_out());
        }
        assert!(
            (200..1200).contains(&held_out),
            "{held_out} of 4000 are held out"
        );
    }

    #[test]
    fn layouts_spread_over_their_range() {
        let horizons: Vec<f32> = (0..500)
            .map(|s| Layout::from_noise(&noise_vector(s, LAYOUT)).horizon())
            .collect();
        let low = horizons.iter().copied().fold(1.0, f32::min);
        let high = horizons.iter().copied().fold(0.0, f32::max);
        assert!(low < 0.48 && high > 0.6, "{low} to {high}");
    }
}
