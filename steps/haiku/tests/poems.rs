//! The weights that ship write haiku, whatever seed, mood and topic.

// A test that cannot go on should stop.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::PathBuf;

use auria_haiku::lexicon::Lexicon;
use auria_haiku::text;
use auria_haiku::writer::{Poem, Writer};
use auria_haiku::written::is_in_form;
use auria_steps_common::card::Card;
use auria_steps_common::mood::Mood;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn writer() -> Writer {
    Writer::read(&folder("weights")).unwrap()
}

fn words(poem: &Poem) -> Vec<Vec<String>> {
    let words = |l: &String| {
        text::tokens(l)
            .into_iter()
            .filter(|t| !t.is_mark())
            .map(|t| t.text)
    };
    poem.lines.iter().map(|l| words(l).collect()).collect()
}

#[test]
fn every_poem_is_in_form_and_ends_its_lines_well() {
    let writer = writer();
    let lexicon = Lexicon::get();
    let mut all = HashSet::new();
    for (seed, &mood) in (0..24).zip(Mood::ALL.iter().cycle()) {
        let poem = writer.write(seed, mood, None).unwrap();
        let lines = words(&poem);
        assert!(is_in_form(&lines), "{poem:?}");
        assert_eq!(poem.syllables, [5, 7, 5]);
        for line in &lines {
            assert!(
                !lexicon.hanging.contains(line.last().unwrap().as_str()),
                "{poem:?}"
            );
            assert!(!line.iter().any(|w| lexicon.refuses(w)), "{poem:?}");
        }
        let last = poem.lines[2].chars().last().unwrap();
        assert!(
            last.is_alphabetic() || last == '!' || last == '?',
            "{poem:?}"
        );
        all.insert(poem.text());
    }
    assert_eq!(all.len(), 24, "each seed has a poem of its own");
}

#[test]
fn one_seed_is_one_poem_and_mood_and_topic_change_it() {
    let writer = writer();
    let plain = writer.write(7, Mood::Neutral, None).unwrap();
    let again = Writer::read(&folder("weights"))
        .unwrap()
        .write(7, Mood::Neutral, None)
        .unwrap();
    assert_eq!(plain, again);
    assert_ne!(
        plain.lines,
        writer.write(7, Mood::Fear, None).unwrap().lines
    );
    assert_eq!(plain, writer.write(7, Mood::Neutral, Some("  ")).unwrap());
}

#[test]
fn a_topic_is_said_and_an_unknown_one_is_not_claimed() {
    let writer = writer();
    for topic in ["winter moon", "rivers", "the sea", "birds", "rain"] {
        for seed in 0..2 {
            let poem = writer.write(seed, Mood::Neutral, Some(topic)).unwrap();
            assert!(poem.topic_said, "{topic}: {poem:?}");
        }
    }
    let poem = writer.write(1, Mood::Neutral, Some("xylophagous")).unwrap();
    assert!(!poem.topic_said);
}

#[test]
fn a_mood_is_heard() {
    let writer = writer();
    let poems = |mood: Mood| -> Vec<String> {
        let poems = (0..6).map(|seed| words(&writer.write(seed, mood, None).unwrap()).concat());
        poems.flatten().collect()
    };
    let said = |poems: &[String], mood: Mood| {
        let carry = &Lexicon::get().mood(mood).carry;
        poems.iter().filter(|w| carry.contains(&w.as_str())).count()
    };
    for (one, other) in [(Mood::Sadness, Mood::Happiness), (Mood::Fear, Mood::Love)] {
        let (of_one, of_other) = (poems(one), poems(other));
        assert!(
            said(&of_one, one) > said(&of_other, one),
            "{one} sounds like {other}"
        );
        assert!(
            said(&of_other, other) > said(&of_one, other),
            "{other} sounds like {one}"
        );
    }
}

#[test]
fn the_card_has_measured_figures_that_beat_the_baseline() {
    let card = Card::read(&folder("weights")).unwrap();
    let value = |name: &str| card.measure(name).unwrap_or_else(|| panic!("{name}")).value;
    assert!(value("held-out loss") < value("baseline loss"));
    assert_eq!(value("share in 5-7-5"), 1.0);
    let bytes = std::fs::metadata(folder("weights/model.safetensors"))
        .unwrap()
        .len();
    assert_eq!(card.size.bytes, bytes);
    let all: u64 = std::fs::read_dir(folder("weights"))
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(all < 9_000_000, "{all}");
}
