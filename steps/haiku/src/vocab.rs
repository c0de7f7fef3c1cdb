//! The vocabulary: tokens as numbers. The first numbers are the marks of structure, then
//! punctuation, then words by how often poems say them.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use auria_steps_common::{Error, files};

use crate::data::{Kind, Record};
use crate::text;

/// A word outside of the vocabulary.
pub const UNKNOWN: i64 = 0;
/// How it is written.
pub const UNKNOWN_WORD: &str = "<unk>";
/// The end of a line.
pub const NEWLINE: i64 = 1;
/// The end of a record.
pub const END: i64 = 2;
/// The beginnings of records, by kind.
const KINDS: [(Kind, i64, &str); 3] = [
    (Kind::Poem, 3, "<poem>"),
    (Kind::Part, 4, "<part>"),
    (Kind::Verse, 5, "<verse>"),
];
/// The first number of a mark.
const MARKS: i64 = 6;
const STRUCTURE: [&str; 3] = [UNKNOWN_WORD, "<nl>", "<end>"];

/// Tokens and their numbers.
#[derive(Debug, Clone)]
pub struct Vocab {
    tokens: Vec<String>,
    numbers: HashMap<String, i64>,
    /// Names, and words that no poem or part says.
    unsaid: Vec<bool>,
}

/// A record as numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// What it is.
    pub kind: Kind,
    /// The beginning, tokens with the ends of lines between, the end.
    pub numbers: Vec<i64>,
    /// What spelling its unknown words costs, in nats: with it, losses under different
    /// vocabularies can be compared. Nothing, until [`crate::spelling`] counts it.
    pub spelling: f64,
    /// Its words, known or not.
    pub words: u64,
    /// The characters of the record as it is printed, with the ends of lines.
    pub characters: u64,
}

impl Vocab {
    /// The `most` tokens that matter most in some records: a word of a whole poem counts
    /// ten times, of a part twice.
    pub fn build<'a>(
        records: impl Iterator<Item = &'a Record>,
        names: &[String],
        most: usize,
        at_least: u64,
    ) -> Self {
        let mut counts: HashMap<&str, u64> = HashMap::new();
        let mut said: HashSet<&str> = HashSet::new();
        for record in records {
            let weight = match record.kind {
                Kind::Poem => 10,
                Kind::Part => 2,
                Kind::Verse => 1,
            };
            for word in record.words() {
                *counts.entry(word).or_default() += weight;
                if record.kind != Kind::Verse {
                    said.insert(word);
                }
            }
        }
        let mut words: Vec<(&str, u64)> = counts.into_iter().collect();
        words.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let words = words
            .into_iter()
            .filter(|(_, n)| *n >= at_least)
            .map(|(w, _)| w);
        let marks = KINDS.iter().map(|k| k.2).chain(text::MARKS.iter().copied());
        let tokens: Vec<String> = STRUCTURE
            .into_iter()
            .chain(marks)
            .chain(words)
            .take(most)
            .map(str::to_owned)
            .collect();
        let unsaid = |t: &String| !said.contains(t.as_str()) || names.binary_search(t).is_ok();
        let unsaid = tokens.iter().map(unsaid).collect();
        Self::of(tokens, unsaid)
    }

    fn of(tokens: Vec<String>, unsaid: Vec<bool>) -> Self {
        let numbers = tokens
            .iter()
            .enumerate()
            .map(|(i, t)| (t.clone(), i as i64))
            .collect();
        Self {
            tokens,
            numbers,
            unsaid,
        }
    }

    /// How many tokens there are.
    #[allow(clippy::len_without_is_empty)] // The marks of structure are always there.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The token of a number.
    pub fn token(&self, number: i64) -> &str {
        self.tokens
            .get(number as usize)
            .map_or(UNKNOWN_WORD, String::as_str)
    }

    /// The number of a token, where it has one.
    pub fn number(&self, token: &str) -> Option<i64> {
        self.numbers.get(token).copied()
    }

    /// The number with which records of a kind begin.
    pub fn begin(kind: Kind) -> i64 {
        KINDS.iter().find(|k| k.0 == kind).map_or(UNKNOWN, |k| k.1)
    }

    /// Whether a number is a mark of punctuation.
    pub fn is_mark(number: i64) -> bool {
        (MARKS..MARKS + text::MARKS.len() as i64).contains(&number)
    }

    /// Whether a number is a word.
    pub fn is_word(number: i64) -> bool {
        number >= MARKS + text::MARKS.len() as i64
    }

    /// Whether a number is a word that a poem may say: no name, and none that was seen in
    /// verse alone, where the old spellings and the heroes are.
    pub fn is_said(&self, number: i64) -> bool {
        Self::is_word(number) && !self.unsaid.get(number as usize).copied().unwrap_or(true)
    }

    /// A record as numbers.
    pub fn encode(&self, record: &Record) -> Encoded {
        let mut numbers = vec![Self::begin(record.kind)];
        let mut characters = 0;
        for (i, line) in record.lines.iter().enumerate() {
            if i > 0 {
                numbers.push(NEWLINE);
            }
            for token in line {
                numbers.push(self.number(token).unwrap_or(UNKNOWN));
            }
            let printed = text::line(line.iter().map(String::as_str));
            characters += printed.chars().count() as u64 + 1;
        }
        numbers.push(END);
        Encoded {
            kind: record.kind,
            numbers,
            spelling: 0.0,
            words: record.words().count() as u64,
            characters,
        }
    }

    /// Writes the vocabulary: a token a line, those that are not said followed by a tab
    /// and `unsaid`.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut text = String::new();
        for (token, unsaid) in self.tokens.iter().zip(&self.unsaid) {
            text.push_str(token);
            text.push_str(if *unsaid { "\tunsaid\n" } else { "\n" });
        }
        files::write_atomic(path, text.as_bytes())
    }

    /// Reads what [`Vocab::write`] wrote.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = files::read_text(path)?;
        let rows = text
            .lines()
            .map(|l| l.split_once('\t').map_or((l, false), |(t, _)| (t, true)));
        let (tokens, unsaid): (Vec<String>, Vec<bool>) =
            rows.map(|(t, n)| (t.to_owned(), n)).unzip();
        let marks = MARKS as usize + text::MARKS.len();
        let heads = STRUCTURE
            .iter()
            .chain(KINDS.iter().map(|k| &k.2))
            .chain(text::MARKS);
        if tokens.len() <= marks || heads.zip(&tokens).any(|(a, b)| a != b) {
            return Err(Error::content(
                path,
                "is not the vocabulary of a haiku model",
            ));
        }
        Ok(Self::of(tokens, unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        [
            "poem\tthe moon , / the moon / rests",
            "verse\tthe john sleeps / here",
        ]
        .map(|l| Record::parse(l).unwrap())
        .to_vec()
    }

    #[test]
    fn a_vocabulary_comes_back_and_counts_poems_most() {
        let vocab = Vocab::build(records().iter(), &["john".into()], 16, 1);
        assert_eq!(vocab.len(), 16);
        assert_eq!(vocab.number("the"), Some(13));
        assert_eq!(vocab.number("moon"), Some(14));
        assert_eq!(vocab.number("john"), None, "the cap cuts rare words off");
        let all = Vocab::build(records().iter(), &["john".into()], 99, 1);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vocab.txt");
        all.write(&path).unwrap();
        let back = Vocab::read(&path).unwrap();
        assert_eq!((&back.tokens, &back.unsaid), (&all.tokens, &all.unsaid));
        let said = |word| back.is_said(back.number(word).unwrap());
        assert!(
            said("moon") && !said("john") && !said("sleeps"),
            "verse alone says sleeps"
        );
        files::write_atomic(&path, b"a\nb\n").unwrap();
        assert!(Vocab::read(&path).is_err());
    }

    #[test]
    fn a_record_is_encoded_and_an_unknown_word_is_one() {
        let vocab = Vocab::build(records().iter(), &[], 15, 1);
        let encoded = vocab.encode(&records()[0]);
        let comma = vocab.number(",").unwrap();
        assert_eq!(encoded.numbers, [3, 13, 14, comma, 1, 13, 14, 1, 0, 2]);
        assert_eq!((encoded.spelling, encoded.words), (0.0, 5));
        assert_eq!(
            encoded.characters,
            "the moon,\nthe moon\nrests\n".len() as u64
        );
    }
}
