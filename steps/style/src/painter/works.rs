//! The works of the small gallery: what is painted, in which colours, and for
//! which moods. The fractions are the painter's own intent for each work: no
//! annotator was asked, and the README of the gallery says so.

use auria_steps_common::mood::Mood;
use image::RgbImage;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::brush::{self, Manner};
use super::figure::Figure;
use super::palette::Palette;
use super::scene::{Composition, Scene};

/// One work.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Its name in the folder, without an ending: the table's `ID`.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    composition: Composition,
    figure: Figure,
    /// Sky above, sky below, far, near, dark, light, accent.
    colours: [u32; 7],
    /// Length of strokes and straying of their colours.
    hand: (f32, f32),
    /// Moods and how strongly the work was made for them, 0 to 1.
    pub moods: &'static [(Mood, f64)],
}

impl Work {
    /// Paints it, `width` by `height` pixels; another seed lays the same subject
    /// out anew.
    #[must_use]
    pub fn paint(&self, seed: u64, width: u32, height: u32) -> RgbImage {
        let own = blake3::hash(format!("{seed} {}", self.id).as_bytes());
        let mut rng = ChaCha8Rng::from_seed(*own.as_bytes());
        let scene = Scene::new(
            self.composition,
            Palette::of(self.colours),
            self.figure,
            rng.random(),
        );
        let manner = Manner {
            radius: 0.02,
            length: self.hand.0,
            stray: self.hand.1,
            bristle: 0.35,
            tolerance: 0.05,
            seed: rng.random(),
        };
        brush::paint(&scene, width, height, &manner)
    }
}

macro_rules! works {
    ($($id:literal $title:literal $composition:ident $figure:ident
       [$($colour:literal)*] $hand:expr, [$($mood:ident $fraction:literal)*];)*) => {
        /// All works that ship.
        pub const WORKS: &[Work] = &[$(Work {
            id: $id,
            title: $title,
            composition: Composition::$composition,
            figure: Figure::$figure,
            colours: [$($colour),*],
            hand: $hand,
            moods: &[$((Mood::$mood, $fraction)),*],
        },)*];
    };
}

works! {
    "golden-meadow" "Meadow at noon, all of it awake" Meadow Tree
        [0x4aa3df 0xbfe6f5 0x9ccb3b 0x5fa02c 0x2c5a1e 0xfff3b0 0xff8a1f] (4.0, 0.05),
        [Happiness 0.9 Optimism 0.6 Gratitude 0.3];
    "morning-boats" "The boats go out singing" Sea Boat
        [0x5bc0eb 0xfde8a0 0x3aa6b9 0x1f7a8c 0x14505c 0xfff6c8 0xff5a36] (6.0, 0.05),
        [Happiness 0.7 Anticipation 0.6 Optimism 0.5];
    "orchard" "An orchard for everyone" Blossom None
        [0x8fd3f4 0xd9f3ff 0xf7d354 0x7a5230 0x4a2f1b 0xffffff 0xff9ec4] (4.0, 0.04),
        [Happiness 0.6 Love 0.5 Agreeableness 0.6];
    "rose-dusk" "Two lamps and the rose of dusk" Hills House
        [0x8e3b75 0xf7a5a5 0xc85a7c 0x8a2f52 0x3d1230 0xffd9b8 0xe8315b] (6.0, 0.04),
        [Love 0.9 Trust 0.3 Happiness 0.3];
    "red-room" "A red that keeps you" Fields None
        [0xd7263d 0xf28482 0x9d0b28 0xb23a48 0x3d0814 0xffd6c0 0xf25c54] (7.0, 0.03),
        [Love 0.6 Anticipation 0.3 Arrogance 0.3];
    "rain-harbour" "Rain over the harbour, nobody waits" Sea Boat
        [0x4a5a6e 0x8797a8 0x465a70 0x2b3a4e 0x182231 0xc3ced8 0x5f7186] (8.0, 0.03),
        [Sadness 0.9 Regret 0.6 Pessimism 0.4];
    "blue-wood" "The wood after she left" Forest None
        [0x1f3a5f 0x4f7cac 0x2a4d72 0x1b2f4a 0x0d1828 0xb8d0e8 0x36648b] (6.0, 0.03),
        [Sadness 0.8 Regret 0.5 Humility 0.3];
    "empty-house" "What I should have said" Meadow House
        [0x6a6f8a 0xb9a9b0 0x7d7a78 0x58544f 0x2b2730 0xe0d4c8 0x85607a] (5.0, 0.03),
        [Regret 0.9 Sadness 0.6 Shame 0.4];
    "night-storm" "The storm has found the bay" Storm None
        [0x1f2b3a 0x4b6172 0x12283a 0x0b1a26 0x05080e 0xdff6ff 0x2e5a57] (7.0, 0.05),
        [Fear 0.9 Surprise 0.4 Pessimism 0.3];
    "black-trunks" "Something between the trunks" Forest None
        [0x14211b 0x3c5a4a 0x1d3329 0x101a15 0x030504 0xa6c9a4 0x2f4a2a] (5.0, 0.04),
        [Fear 0.8 Disagreeableness 0.4 Anticipation 0.3];
    "red-swirl" "Don't tell me to be calm" Swirl None
        [0xb3001b 0xff5714 0x5c0011 0x7d0a12 0x120003 0xffd166 0xff2e00] (8.0, 0.07),
        [Anger 0.95 Disagreeableness 0.6 Arrogance 0.3];
    "burning-hills" "The hills are burning" Hills None
        [0x2b0a0a 0xd1350f 0x8c1c07 0x4a0d06 0x150303 0xffb627 0xf05a00] (5.0, 0.06),
        [Anger 0.8 Fear 0.3 Pessimism 0.3];
    "green-rot" "Left too long in the bowl" Shards None
        [0x7a7a1e 0xa8a23a 0x55601a 0x5b4a1c 0x221f0a 0xd9d38a 0x6d3b4f] (4.0, 0.06),
        [Disgust 0.9 Disagreeableness 0.7 Shame 0.3];
    "bile" "The taste of it" Swirl None
        [0x5f6b1a 0xb5b84a 0x3d4712 0x6b5a20 0x191c08 0xe3e29b 0x7b4b5e] (6.0, 0.05),
        [Disgust 0.8 Anger 0.4];
    "lanterns" "Every lantern at once" Lights None
        [0x1b1464 0x5f27cd 0x2e1f7a 0x1a1046 0x0b0626 0xfff07c 0xff4fa3] (4.0, 0.05),
        [Surprise 0.9 Happiness 0.3 Anticipation 0.5];
    "lightning" "So that was behind the clouds" Storm Birds
        [0x3b1d6e 0xa06cd5 0x2d2a7a 0x1c1a4e 0x120b2e 0xffffff 0xff9f1c] (7.0, 0.06),
        [Surprise 0.8 Fear 0.3 Anticipation 0.3];
    "first-light" "First light, and a boat on it" Sea Boat
        [0x6fb1d6 0xffd59e 0x7fb7be 0x4f8a96 0x274c56 0xfff4d6 0xf4845f] (7.0, 0.03),
        [Optimism 0.9 Anticipation 0.7 Trust 0.4];
    "green-spring" "The field had only slept" Meadow Birds
        [0x9bd8f0 0xe9f7df 0xa7d676 0x6dbb4a 0x2f6b32 0xfffde0 0xf9c74f] (4.0, 0.04),
        [Optimism 0.8 Gratitude 0.7 Happiness 0.4];
    "far-ridge" "Beyond the seventh ridge" Hills Birds
        [0x3a6ea5 0xf3c98b 0x8a9ab0 0x53687e 0x223044 0xfff0d0 0xd98e4a] (7.0, 0.03),
        [Anticipation 0.9 Surprise 0.3 Optimism 0.3];
    "still-water" "Water that has nothing to hide" Sea None
        [0xa9c9d8 0xe6eef0 0x9dbfc9 0x6f9aa8 0x45656f 0xfbfbf2 0xb8c9a3] (9.0, 0.02),
        [Trust 0.9 Agreeableness 0.6 Neutral 0.3];
    "lit-window" "They left the light on for you" Hills House
        [0x23395b 0x8ea8c3 0x4d6d8f 0x3b5740 0x1a2733 0xffe29a 0xc9763f] (6.0, 0.03),
        [Trust 0.7 Gratitude 0.7 Love 0.4];
    "harvest" "Bread, and those who made it" Meadow House
        [0xd9a441 0xf7e3af 0xd9b44a 0xb5852b 0x5a3d14 0xfff6da 0xa8501f] (5.0, 0.04),
        [Gratitude 0.9 Humility 0.5 Happiness 0.4];
    "grey-stones" "Small under the hills" Hills None
        [0xb9b4a7 0xdcd6c8 0xa39d8e 0x7c7565 0x4b463c 0xf2eee2 0x8f8a6f] (6.0, 0.02),
        [Humility 0.9 Neutral 0.4 Trust 0.3];
    "gold-court" "All of it is mine" Fields None
        [0xd4af37 0xf5d76e 0x5b1a7a 0x8a6d1b 0x1f0a2e 0xfff5cc 0x6a1b9a] (5.0, 0.04),
        [Arrogance 0.9 Disagreeableness 0.3];
    "purple-shards" "The mirror in the great hall" Shards None
        [0x4b1a7a 0x9b59d0 0xc9a227 0x2e0f4f 0x10051c 0xf7e7a1 0xb8860b] (4.0, 0.04),
        [Arrogance 0.7 Surprise 0.3];
    "ash" "It will not be better tomorrow" Storm None
        [0x3b3a38 0x6b6761 0x35322e 0x24211e 0x100e0d 0xa39c90 0x4f4238] (8.0, 0.03),
        [Pessimism 0.9 Sadness 0.5 Fear 0.3];
    "thorns" "Every word of it a thorn" Shards None
        [0x5a6b5d 0x8a9a7a 0x6b2737 0x3e4a3f 0x14100f 0xc9c8a8 0x9a3b2e] (4.0, 0.06),
        [Disagreeableness 0.9 Anger 0.5];
    "turned-face" "A face turned to the wall" Fields None
        [0x9c6b6b 0xc9a5a0 0x7a4a4e 0x6e5250 0x33211f 0xe8cfc6 0xb26a6a] (7.0, 0.03),
        [Shame 0.9 Sadness 0.4 Regret 0.5];
    "pale-branch" "It flowers where no one looks" Blossom None
        [0xd7dde8 0xeef0f5 0xe3cfd8 0x8d8592 0x5f5866 0xffffff 0xe6b8cc] (4.0, 0.02),
        [Shyness 0.9 Humility 0.4 Love 0.3];
    "plain" "A plain, and weather" Meadow None
        [0xb5bdc2 0xd5d6d2 0xa9a89a 0x8c8a7a 0x4f4e46 0xe8e6de 0xb3a98a] (6.0, 0.02),
        [Neutral 0.9 Trust 0.3];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mood_has_a_work_that_was_made_for_it() {
        for &mood in Mood::ALL {
            let best = WORKS
                .iter()
                .flat_map(|work| work.moods)
                .filter(|m| m.0 == mood)
                .map(|m| m.1);
            assert!(best.fold(0.0, f64::max) >= 0.6, "{mood}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut ids: Vec<_> = WORKS.iter().map(|work| work.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), WORKS.len());
    }

    #[test]
    fn a_seed_is_one_work() {
        assert_eq!(WORKS[0].paint(1, 40, 30), WORKS[0].paint(1, 40, 30));
        assert_ne!(WORKS[0].paint(1, 40, 30), WORKS[0].paint(2, 40, 30));
    }
}
