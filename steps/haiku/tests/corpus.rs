//! The project's own poems keep what their README promises.

// A test that cannot go on should stop.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::Path;

use auria_haiku::lexicon::Lexicon;
use auria_haiku::prepare::FORM;
use auria_haiku::syllables::Dictionary;
use auria_haiku::text;

#[test]
fn every_own_poem_is_a_haiku_and_none_is_there_twice() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let corpus = auria_haiku::corpus::read(&folder).unwrap();
    assert_eq!(corpus.poems.len(), 264);
    assert_eq!(corpus.about.licence, "CC0-1.0");
    let lexicon = Lexicon::get();
    let mut seen = HashSet::new();
    for poem in &corpus.poems {
        assert_eq!(poem.lines.len(), 3, "{poem:?}");
        for (line, count) in poem.lines.iter().zip(FORM) {
            let tokens = text::tokens(line);
            let words: Vec<&str> = tokens
                .iter()
                .filter(|t| !t.is_mark())
                .map(|t| t.text.as_str())
                .collect();
            assert!(
                Dictionary::get().can_scan(words.iter().copied(), count),
                "{count}: {line}"
            );
            assert!(!words.iter().any(|w| lexicon.refuses(w)), "{line}");
            let articles = [
                "a", "an", "the", "of", "and", "but", "or", "my", "his", "her", "its",
            ];
            assert!(!articles.contains(&words[words.len() - 1]), "{line}");
        }
        assert!(seen.insert(poem.lines.join("/")), "{poem:?} is there twice");
    }
}
