//! The words that a trained text encoder knows, and captions as numbers.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use auria_steps_common::{Error, files};
use tch::{Device, Tensor};

use crate::model::text_encoder::Captions;

/// The file beside the weights.
pub const FILE: &str = "vocab.json";

/// Words by number; number 0 is padding.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    words: Vec<String>,
    numbers: HashMap<String, i64>,
}

impl Vocabulary {
    /// All words of some captions, in alphabetical order.
    pub fn of<'a>(captions: impl Iterator<Item = &'a str>) -> Self {
        let words: BTreeSet<&str> = captions.flat_map(|c| c.split_whitespace()).collect();
        Self::from_words(words.into_iter().map(str::to_owned).collect())
    }

    fn from_words(words: Vec<String>) -> Self {
        let numbers = words
            .iter()
            .zip(1..)
            .map(|(word, number)| (word.clone(), number))
            .collect();
        Self { words, numbers }
    }

    /// Reads `vocab.json` of a folder of weights.
    pub fn read(weights: &Path) -> Result<Self, Error> {
        files::read_json(&weights.join(FILE)).map(Self::from_words)
    }

    /// Writes `vocab.json` into a folder of weights.
    pub fn write(&self, weights: &Path) -> Result<(), Error> {
        files::write_json(&weights.join(FILE), &self.words)
    }

    /// How many numbers there are, padding included.
    pub fn size(&self) -> i64 {
        self.words.len() as i64 + 1
    }

    /// Whether a word is known.
    pub fn knows(&self, word: &str) -> bool {
        self.numbers.contains_key(word)
    }

    /// Captions as numbers. Unknown words are left out; a caption of which nothing is
    /// left is one padding word; what passes `longest` is cut off.
    pub fn encode(&self, captions: &[&str], longest: i64, device: Device) -> Captions {
        let longest = longest.max(1) as usize;
        let rows: Vec<Vec<i64>> = captions
            .iter()
            .map(|caption| {
                let known = caption
                    .split_whitespace()
                    .filter_map(|word| self.numbers.get(word).copied());
                let row: Vec<i64> = known.take(longest).collect();
                if row.is_empty() { vec![0] } else { row }
            })
            .collect();
        let length = rows.iter().map(Vec::len).max().unwrap_or(1);
        let lengths: Vec<i64> = rows.iter().map(|row| row.len() as i64).collect();
        let mut flat = Vec::with_capacity(rows.len() * length);
        for row in &rows {
            flat.extend(row.iter().copied().chain(std::iter::repeat(0)).take(length));
        }
        let words = Tensor::from_slice(&flat).view([rows.len() as i64, length as i64]);
        Captions {
            words: words.to_device(device),
            lengths: Tensor::from_slice(&lengths),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_become_padded_numbers_without_unknown_words() {
        let vocabulary = Vocabulary::of(["the moon", "a sea"].into_iter());
        let captions = vocabulary.encode(&["moon zzz", "the a the", "zzz", "sea"], 2, Device::Cpu);
        assert_eq!(
            Vec::<i64>::try_from(captions.words.view([-1])).unwrap(),
            [2, 0, 4, 1, 0, 0, 3, 0]
        );
        assert_eq!(
            Vec::<i64>::try_from(captions.lengths).unwrap(),
            [1, 2, 1, 1]
        );
    }

    #[test]
    fn a_vocabulary_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let vocabulary = Vocabulary::of(["rain on the lake"].into_iter());
        vocabulary.write(dir.path()).unwrap();
        assert_eq!(Vocabulary::read(dir.path()).unwrap(), vocabulary);
    }
}
