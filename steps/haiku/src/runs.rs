//! What the training poems say, as hashes of all their runs of five words: enough to see
//! that a new poem copies none, and nothing that could be read.

use std::collections::HashSet;
use std::path::Path;

use auria_steps_common::{Error, files};

use crate::data::Record;

/// A run of so many words in common with a training poem is a copy.
pub const COPY: usize = 5;
const FILE: &str = "runs.bin";

/// The runs of the training poems.
#[derive(Debug, Default)]
pub struct Runs(HashSet<u32>);

impl Runs {
    /// The runs of some records.
    pub fn of<'a>(records: impl Iterator<Item = &'a Record>) -> Self {
        let words = |r: &'a Record| r.words().collect::<Vec<&str>>();
        Self(records.flat_map(|r| hashes(&words(r))).collect())
    }

    /// Whether words share a run with them.
    pub fn copied(&self, words: &[&str]) -> bool {
        hashes(words).iter().any(|h| self.0.contains(h))
    }

    /// Reads them from a folder of weights.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let bytes = files::read(&folder.join(FILE))?;
        let chunks = bytes.as_chunks::<4>().0;
        Ok(Self(chunks.iter().map(|c| u32::from_le_bytes(*c)).collect()))
    }

    /// Writes them into a folder of weights.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let mut sorted: Vec<u32> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let bytes: Vec<u8> = sorted.iter().flat_map(|h| h.to_le_bytes()).collect();
        files::write_atomic(&folder.join(FILE), &bytes)
    }
}

fn hashes(words: &[&str]) -> Vec<u32> {
    words.windows(COPY).map(|run| fnv(&run.join(" "))).collect()
}

/// FNV-1a, folded to 32 bits: the same on every machine.
fn fnv(text: &str) -> u32 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as u32
}

/// The longest run of words that `words` shares with any of `records`.
pub fn longest<'a>(words: &[&str], records: impl Iterator<Item = &'a Record>) -> usize {
    let mut best = 0;
    for record in records {
        let other: Vec<&str> = record.words().collect();
        for i in 0..words.len() {
            for j in 0..other.len() {
                let pairs = words[i..].iter().zip(&other[j..]);
                best = best.max(pairs.take_while(|(a, b)| a == b).count());
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_five_is_a_copy_and_a_run_of_four_is_none() {
        let record = Record::parse("poem\tone two three , / four five six / seven").unwrap();
        let runs = Runs::of([&record].into_iter());
        let dir = tempfile::tempdir().unwrap();
        runs.write(dir.path()).unwrap();
        let runs = Runs::read(dir.path()).unwrap();
        let words = |t: &'static str| t.split(' ').collect::<Vec<_>>();
        assert!(runs.copied(&words("x two three four five six y")));
        assert!(!runs.copied(&words("x two three four five y six")));
        assert_eq!(longest(&words("x two three four five y six"), [&record].into_iter()), 4);
    }
}
