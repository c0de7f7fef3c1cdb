//! Words a scene in several ways: sentences, haiku-like fragments, bare words.
//!
//! Every caption names all that is special about its scene, so that what it says
//! decides what is painted.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::lexicon::{self, Concept};
use crate::scene::Attributes;

/// Captions of each scene.
pub const PER_SCENE: usize = 5;

/// Several wordings of what a scene shows.
pub fn write(attributes: &Attributes, rng: &mut StdRng) -> Vec<String> {
    (0..PER_SCENE)
        .map(|wording| match wording {
            0 => words(attributes, rng),
            1 | 2 => haiku(attributes, rng),
            _ => sentence(attributes, rng),
        })
        .collect()
}

/// A phrase for each concept that is said this time.
fn phrases(attributes: &Attributes, rng: &mut StdRng) -> Vec<(Concept, &'static str)> {
    let mut said = Vec::new();
    for (concept, special) in lexicon::concepts(attributes) {
        if (special || rng.random_bool(0.6))
            && let Some(phrase) = lexicon::of(concept).and_then(|entry| entry.phrases.choose(rng))
        {
            said.push((concept, *phrase));
        }
    }
    said
}

/// Bare words in any order, as what is left of a poem after unknown words are gone.
fn words(attributes: &Attributes, rng: &mut StdRng) -> String {
    let mut said = phrases(attributes, rng);
    said.shuffle(rng);
    let content = |phrase: &str| {
        let named: Vec<&str> = phrase
            .split(' ')
            .filter(|w| lexicon::meaning(w).is_some())
            .collect();
        named.join(" ")
    };
    let words: Vec<String> = said.iter().map(|(_, phrase)| content(phrase)).collect();
    words.join(" ")
}

/// Fragments set side by side, as in a haiku.
fn haiku(attributes: &Attributes, rng: &mut StdRng) -> String {
    let mut said = phrases(attributes, rng);
    said.shuffle(rng);
    let mut out = String::new();
    for (i, (_, phrase)) in said.iter().enumerate() {
        if i > 0 {
            out.push_str(
                ["", "", "and ", "with ", "over "]
                    .choose(rng)
                    .unwrap_or(&""),
            );
        }
        out.push_str(phrase);
        out.push(' ');
    }
    out.trim_end().to_owned()
}

/// Things first, then where and when.
fn sentence(attributes: &Attributes, rng: &mut StdRng) -> String {
    let said = phrases(attributes, rng);
    let (setting, things): (Vec<_>, Vec<_>) = said.into_iter().partition(|(concept, _)| {
        matches!(
            concept,
            Concept::Season(_) | Concept::Time(_) | Concept::Weather(_) | Concept::Land(_)
        )
    });
    let join = |parts: &[(Concept, &str)], by: &str| {
        parts
            .iter()
            .map(|(_, phrase)| *phrase)
            .collect::<Vec<_>>()
            .join(by)
    };
    let setting = join(&setting, " ");
    match (things.is_empty(), rng.random_bool(0.5)) {
        (true, true) => format!("a picture of {setting}"),
        (true, false) => setting,
        (false, true) => format!("{} over {setting}", join(&things, " and ")),
        (false, false) => format!("{setting} with {}", join(&things, " and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Tree;
    use rand::SeedableRng;

    #[test]
    fn captions_name_what_is_special() {
        let mut rng = StdRng::seed_from_u64(4);
        for _ in 0..300 {
            let attributes = Attributes::draw(&mut rng);
            for caption in write(&attributes, &mut rng) {
                let meant: Vec<Concept> = caption
                    .split(' ')
                    .filter_map(lexicon::meaning)
                    .map(|e| e.concept)
                    .collect();
                for (concept, special) in lexicon::concepts(&attributes) {
                    assert!(
                        !special || meant.contains(&concept),
                        "`{caption}` lacks {concept:?}"
                    );
                }
                let shown: Vec<Concept> = lexicon::concepts(&attributes)
                    .into_iter()
                    .map(|(concept, _)| concept)
                    .collect();
                for concept in meant {
                    // "A pine tree" and "a cherry tree" say tree as well.
                    let tree =
                        concept == Concept::Tree(Tree::Leafy) && attributes.tree != Tree::None;
                    assert!(
                        tree || shown.contains(&concept),
                        "`{caption}` has {concept:?}"
                    );
                }
            }
        }
    }
}
