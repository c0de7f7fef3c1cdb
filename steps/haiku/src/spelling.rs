//! How words outside of a vocabulary are spelled: with it every character of a text has a
//! probability, under the network and under the baseline alike. A word that the training
//! text says is likely by its count; a new one by its letters, under a Kneser-Ney 5-gram
//! over the letters of such words.

use std::collections::HashMap;

use crate::data::{Data, Record};
use crate::ngram::Ngram;
use crate::text;
use crate::vocab::{Encoded, Vocab};

/// What it is, for reports.
pub const NAME: &str = "words outside of the vocabulary are spelled by a model of letters that \
                        was trained on the same text";

/// A character that is no letter of the English alphabet.
const OTHER: i64 = 0;
const END: i64 = 1;
const BEGIN: i64 = 2;
const APOSTROPHE: i64 = 3;
const LETTERS: i64 = 4;
/// Letters, the apostrophe, the end, another character.
const CHOICES: f64 = 29.0;
/// Another character is any code point.
const CODE_POINTS: f64 = 1_114_112.0;

/// The model.
#[derive(Debug)]
pub struct Spelling {
    /// How often the training text says each word.
    counts: HashMap<String, u32>,
    all: f64,
    /// What each count gives to new words (absolute discounting).
    discount: f64,
    letters: Ngram,
}

impl Spelling {
    /// Learns from the words of the training text that a vocabulary lacks, and from those
    /// that are said once, which are what new words are like.
    pub fn learn(data: &Data, vocab: &Vocab) -> Self {
        let mut counts: HashMap<&str, u32> = HashMap::new();
        let records = data.train.iter().chain(&data.verse);
        for word in records.flat_map(Record::words) {
            *counts.entry(word).or_default() += 1;
        }
        counts.retain(|word, count| *count == 1 || vocab.number(word).is_none());
        Self::of(counts)
    }

    fn of(counts: HashMap<&str, u32>) -> Self {
        let spelled: Vec<Vec<i64>> = counts.keys().map(|word| numbers(word)).collect();
        let with = |n: u32| counts.values().filter(|&&count| count == n).count() as f64;
        let (one, two) = (with(1), with(2));
        Self {
            all: counts.values().map(|&count| f64::from(count)).sum(),
            discount: if one > 0.0 {
                one / (one + 2.0 * two)
            } else {
                0.5
            },
            letters: Ngram::of(spelled.iter().map(Vec::as_slice), CHOICES),
            counts: counts.into_iter().map(|(w, n)| (w.to_owned(), n)).collect(),
        }
    }

    /// The probability of a word among all strings of characters.
    pub fn probability(&self, word: &str) -> f64 {
        let numbers = numbers(word);
        let by_letters: f64 = (1..numbers.len())
            .map(|end| match numbers[end] {
                OTHER => self.letters.probability(&numbers[..end], OTHER) / CODE_POINTS,
                letter => self.letters.probability(&numbers[..end], letter),
            })
            .product();
        if self.counts.is_empty() {
            return by_letters;
        }
        let count = self.counts.get(word).copied().unwrap_or(0);
        let seen = (f64::from(count) - self.discount).max(0.0);
        (seen + self.discount * self.counts.len() as f64 * by_letters) / self.all
    }

    /// A record as numbers, with what spelling its unknown words costs.
    pub fn encode(&self, record: &Record, vocab: &Vocab) -> Encoded {
        let tokens = record.lines.iter().flatten();
        let unknown = tokens.filter(|t| !text::is_mark(t) && vocab.number(t).is_none());
        Encoded {
            spelling: unknown.map(|word| -self.probability(word).ln()).sum(),
            ..vocab.encode(record)
        }
    }
}

fn numbers(word: &str) -> Vec<i64> {
    let letters = word.chars().map(|c| match c {
        'a'..='z' => LETTERS + i64::from(u32::from(c) - u32::from('a')),
        '\'' => APOSTROPHE,
        _ => OTHER,
    });
    [BEGIN].into_iter().chain(letters).chain([END]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelling() -> Spelling {
        let words = [
            ("heron", 3),
            ("herons", 1),
            ("heather", 1),
            ("hearth", 2),
            ("o'er", 1),
        ];
        Spelling::of(words.into_iter().collect())
    }

    #[test]
    fn the_probabilities_of_letters_add_up_to_one() {
        let spelling = spelling();
        for before in [vec![BEGIN], numbers("her"), numbers("x"), numbers("hea")] {
            let before = &before[..before.len().max(2) - 1];
            let next = (0..LETTERS + 26).filter(|&letter| letter != BEGIN);
            let sum: f64 = next.map(|l| spelling.letters.probability(before, l)).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{before:?}: {sum}");
        }
    }

    #[test]
    fn the_probabilities_of_words_add_up_to_no_more_than_one() {
        let spelling = spelling();
        let letters: Vec<String> = ('a'..='z').map(String::from).collect();
        let mut words: Vec<String> = spelling.counts.keys().cloned().collect();
        words.extend(letters.iter().cloned());
        for a in &letters {
            words.extend(letters.iter().map(|b| format!("{a}{b}")));
        }
        let sum: f64 = words.iter().map(|word| spelling.probability(word)).sum();
        let said: f64 = spelling
            .counts
            .keys()
            .map(|w| spelling.probability(w))
            .sum();
        assert!(sum < 1.0 && said > 0.4, "{sum} {said}");
    }

    #[test]
    fn what_was_said_and_what_looks_like_it_is_likelier() {
        let spelling = spelling();
        let p = |word| spelling.probability(word);
        assert!(p("heron") > p("herons") && p("herons") > p("heros") && p("heros") > p("qzxvw"));
        assert!(p("løv") < p("lav") / 1e5 && p("løv") > 0.0);
        let nothing = Spelling::of(HashMap::new());
        assert!((nothing.probability("abc") - CHOICES.powi(-4)).abs() < 1e-12);
    }
}
