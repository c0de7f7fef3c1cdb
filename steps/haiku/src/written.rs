//! Looks at poems that weights write as a reader would: from their text. Form, variety,
//! what they copy, and whether mood and topic are heard.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use auria_steps_common::card::Measure;
use auria_steps_common::gate::Better;
use auria_steps_common::mood::Mood;
use serde::{Deserialize, Serialize};

use crate::data::{Data, Record};
use crate::judge::{self, Moods};
use crate::prepare::FORM;
use crate::syllables::Dictionary;
use crate::text;
use crate::writer::{Poem, WriteError, Writer};

/// So many poems are printed.
const PRINTED: usize = 40;
/// One poem with a topic is written for so many without.
const FOR_A_TOPIC: u64 = 10;

/// What the written poems are like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// How many were written, with the seeds 1 to n and the moods in turn.
    pub poems: u64,
    /// The share in 5-7-5.
    pub in_form: f64,
    /// Different words among all.
    pub distinct_1: f64,
    /// Different pairs of neighbouring words among all.
    pub distinct_2: f64,
    /// The longest run of words that one shares with a poem that was trained on.
    pub longest_copied_run: u64,
    /// The longest run of words that one shares with verse that was trained on.
    pub longest_run_of_verse: u64,
    /// Seconds for a poem, on one thread.
    pub seconds_per_poem: f64,
    /// How a judge of moods reads them.
    pub moods: Option<judge::MoodFigures>,
    /// How topics are heard.
    pub topics: Option<judge::TopicFigures>,
    /// The first of them, with the mood asked for: unpicked.
    pub printed: Vec<String>,
}

/// Lets the weights write, and looks at what they wrote.
pub fn measure(weights: &Path, data: &Data, poems: u64) -> Result<Written, WriteError> {
    let writer = Writer::read(weights)?;
    let started = Instant::now();
    let mut all: Vec<Poem> = Vec::new();
    for (seed, &mood) in (1..=poems).zip(Mood::ALL.iter().cycle()) {
        all.push(writer.write(seed, mood, None)?);
    }
    let seconds = started.elapsed().as_secs_f64();
    let lines: Vec<Vec<Vec<String>>> = all.iter().map(words_of).collect();
    let in_form = lines.iter().filter(|p| is_in_form(p)).count();
    let words: Vec<Vec<&str>> = lines
        .iter()
        .map(|p| p.iter().flatten().map(String::as_str).collect())
        .collect();
    let singles: Vec<&str> = words.iter().flatten().copied().collect();
    let pairs: Vec<&[&str]> = words.iter().flat_map(|p| p.windows(2)).collect();
    let count = poems.max(1) as f64;
    let asked = all.iter().map(|p| p.mood).zip(words.iter().cloned());
    let trained = data.train.iter().chain(&data.valid);
    Ok(Written {
        poems,
        in_form: in_form as f64 / count,
        distinct_1: share_distinct(&singles),
        distinct_2: share_distinct(&pairs),
        longest_copied_run: longest_run(&words, trained) as u64,
        longest_run_of_verse: longest_run(&words, data.verse.iter()) as u64,
        seconds_per_poem: seconds / count,
        moods: Moods::learn(data).figures(data, asked),
        topics: judge::topics(&writer, poems / FOR_A_TOPIC)?,
        printed: all.iter().take(PRINTED).map(printed).collect(),
    })
}

fn printed(poem: &Poem) -> String {
    format!("{} — {}, {}", poem.lines.join(" / "), poem.seed, poem.mood)
}

/// The words of a poem's lines, read from its text.
fn words_of(poem: &Poem) -> Vec<Vec<String>> {
    let words = |l: &String| {
        text::tokens(l)
            .into_iter()
            .filter(|t| !t.is_mark())
            .map(|t| t.text)
    };
    poem.lines.iter().map(|l| words(l).collect()).collect()
}

/// Whether lines of words are a haiku by the dictionary.
pub fn is_in_form(lines: &[Vec<String>]) -> bool {
    let dictionary = Dictionary::get();
    lines.len() == FORM.len()
        && lines.iter().zip(FORM).all(|(line, count)| {
            line.iter()
                .map(|w| dictionary.certain(w))
                .sum::<Option<u8>>()
                == Some(count)
        })
}

/// The longest run of words that a poem has in common with a text.
fn longest_run<'a>(poems: &[Vec<&str>], texts: impl Iterator<Item = &'a Record>) -> usize {
    let texts: Vec<Vec<&str>> = texts.map(|r| r.words().collect()).collect();
    let longest = poems.iter().map(Vec::len).max().unwrap_or(0);
    // A run of n words holds one of n - 1: the first length that none shares ends it.
    let shared = |length: &usize| {
        let runs: HashSet<&[&str]> = poems.iter().flat_map(|p| p.windows(*length)).collect();
        let mut said = texts.iter().flat_map(|t| t.windows(*length));
        said.any(|run| runs.contains(run))
    };
    (1..=longest).take_while(shared).last().unwrap_or(0)
}

fn share_distinct<T: std::hash::Hash + Eq>(all: &[T]) -> f64 {
    let distinct: HashSet<&T> = all.iter().collect();
    distinct.len() as f64 / all.len().max(1) as f64
}

impl Written {
    /// The figures for a card.
    pub fn card(&self) -> Vec<Measure> {
        let own = format!("{0} poems, seeds 1 to {0}, the moods in turn", self.poems);
        let (low, high) = (Some(Better::Lower), Some(Better::Higher));
        let form = format!("{own}, by the CMU dictionary");
        let of_poems = format!("{own}, against all poems trained on");
        let of_verse = format!("{own}, against all verse and prose trained on");
        let run = self.longest_copied_run as f64;
        let verse = self.longest_run_of_verse as f64;
        let mut all = vec![
            Measure::new("share in 5-7-5", self.in_form, "", high, &form),
            Measure::new("distinct-1", self.distinct_1, "", high, &own),
            Measure::new("distinct-2", self.distinct_2, "", high, &own),
            Measure::new("longest copied run", run, "words", low, &of_poems),
            Measure::new(
                "longest run shared with verse",
                verse,
                "words",
                low,
                &of_verse,
            ),
        ];
        all.extend(self.moods.iter().flat_map(|m| m.card(&own)));
        all.extend(self.topics.iter().flat_map(|t| t.card()));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_read_from_the_words() {
        let lines = |poem: &str| -> Vec<Vec<String>> {
            poem.split(" / ")
                .map(|l| l.split(' ').map(str::to_owned).collect())
                .collect()
        };
        assert!(is_in_form(&lines(
            "old pond at daybreak / a heron lifts one thin leg / and the moon moves on"
        )));
        assert!(!is_in_form(&lines(
            "old pond at daybreak / a heron lifts one leg / and the moon moves on"
        )));
        assert!(!is_in_form(&lines(
            "old pond at the fire / a heron lifts one thin leg / and the moon moves on"
        )));
        assert!(!is_in_form(&lines(
            "old pond at daybreak / a heron lifts one thin leg"
        )));
    }

    #[test]
    fn runs_and_shares_are_counted() {
        let text = Record::parse("poem\tseven two , three / nine two").unwrap();
        let poems = [vec!["one"], vec!["two", "three", "nine", "four"]];
        assert_eq!(longest_run(&poems, [&text].into_iter()), 3);
        assert_eq!(longest_run(&poems, std::iter::empty()), 0);
        assert_eq!(longest_run(&[], [&text].into_iter()), 0);
        assert_eq!(share_distinct(&["a", "b", "a", "a"]), 0.5);
    }
}
