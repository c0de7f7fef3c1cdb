//! The words for what a scene can show, and the words that poems use instead.
//!
//! One table serves both ways: captions are worded from it, and a poem's words are
//! read by it. It holds meanings only; which words a trained encoder knows is its
//! vocabulary's matter.

mod table;

pub use table::ENTRIES;

use crate::scene::{Attributes, Land, Light, Season, Time, Tree, Weather};

/// One thing that a word can mean in a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are the attributes of a scene")]
pub enum Concept {
    Season(Season),
    Time(Time),
    Weather(Weather),
    Land(Land),
    Light(Light),
    Tree(Tree),
    Stars,
    Birds,
    Boat,
    House,
    Flowers,
}

/// How one concept is worded.
pub struct Entry {
    /// What the words mean.
    pub concept: Concept,
    /// How captions say it; every word of these is learned.
    pub phrases: &'static [&'static str],
    /// Single words that name it wherever they stand, of the phrases and beyond them.
    pub words: &'static [&'static str],
}

/// The concepts of a scene, named or left out as captions do: `plain` ones (a clear
/// summer's day) need not be said.
pub fn concepts(attributes: &Attributes) -> Vec<(Concept, bool)> {
    let a = attributes;
    let mut all = vec![
        (Concept::Land(a.land), true),
        (Concept::Season(a.season), a.season != Season::Summer),
        (Concept::Time(a.time), a.time != Time::Day),
        (Concept::Weather(a.weather), a.weather != Weather::Clear),
    ];
    if a.light != Light::None {
        all.push((Concept::Light(a.light), true));
    }
    if a.tree != Tree::None {
        all.push((Concept::Tree(a.tree), true));
    }
    let present = [
        (a.stars, Concept::Stars),
        (a.birds, Concept::Birds),
        (a.boat, Concept::Boat),
        (a.house, Concept::House),
        (a.flowers, Concept::Flowers),
    ];
    all.extend(
        present
            .into_iter()
            .filter(|(there, _)| *there)
            .map(|(_, concept)| (concept, true)),
    );
    all
}

/// The entry of a concept, where it has words (the absence of a thing has none).
pub fn of(concept: Concept) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.concept == concept)
}

/// What a word means, tried as it is and without its endings.
pub fn meaning(word: &str) -> Option<&'static Entry> {
    stems(word).iter().find_map(|stem| {
        ENTRIES
            .iter()
            .find(|entry| entry.words.contains(&stem.as_str()))
    })
}

/// A word and what is left of it without English endings, longest first.
pub fn stems(word: &str) -> Vec<String> {
    let mut stems = vec![word.to_owned()];
    let mut add = |stem: String| {
        if stem.len() >= 3 && !stems.contains(&stem) {
            stems.push(stem);
        }
    };
    for ending in [
        "'s", "s", "es", "ed", "d", "ing", "y", "ly", "en", "less", "er", "est", "ward", "ful",
    ] {
        if let Some(stem) = word.strip_suffix(ending) {
            add(stem.to_owned());
            add(format!("{stem}e"));
            if let Some(single) = doubled(stem) {
                add(single.to_owned());
            }
        }
    }
    if let Some(stem) = word.strip_suffix("ies") {
        add(format!("{stem}y"));
    }
    if let Some(stem) = word.strip_suffix("ves") {
        add(format!("{stem}f"));
    }
    stems
}

/// `runn` of `running` is `run`.
fn doubled(stem: &str) -> Option<&str> {
    let mut ends = stem.chars().rev();
    (ends.next()? == ends.next()?)
        .then(|| &stem[..stem.len() - 1])
        .filter(|s| s.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_word_means_one_thing() {
        let mut seen = HashMap::new();
        for entry in ENTRIES {
            for word in entry.words {
                let before = seen.insert(*word, entry.concept);
                assert!(
                    before.is_none(),
                    "{word} means {before:?} and {:?}",
                    entry.concept
                );
            }
        }
    }

    #[test]
    fn every_phrase_names_its_concept_and_no_other() {
        for entry in ENTRIES {
            for phrase in entry.phrases {
                let named = phrase
                    .split(' ')
                    .any(|w| meaning(w).is_some_and(|e| e.concept == entry.concept));
                assert!(named, "`{phrase}` does not name {:?}", entry.concept);
                for other in phrase.split(' ').filter_map(meaning).map(|e| e.concept) {
                    // "A pine tree" and "a cherry tree" say tree as well.
                    let tree = other == Concept::Tree(Tree::Leafy)
                        && matches!(entry.concept, Concept::Tree(_));
                    assert!(
                        other == entry.concept || tree,
                        "`{phrase}` names {other:?} too"
                    );
                }
            }
        }
    }

    #[test]
    fn endings_are_taken_off() {
        for (word, concept) in [
            ("moon's", Concept::Light(Light::Moon)),
            ("rivers", Concept::Land(Land::Lake)),
            ("butterflies", Concept::Flowers),
            ("blooming", Concept::Tree(Tree::Blossom)),
            ("wolves", Concept::Land(Land::Forest)),
            ("shining", Concept::Light(Light::Sun)),
        ] {
            assert_eq!(meaning(word).map(|e| e.concept), Some(concept), "{word}");
        }
        assert!(meaning("algebra").is_none());
    }
}
