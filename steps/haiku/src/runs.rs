//! What the training texts say, as hashes of their runs of words, and nothing that could
//! be read: runs of five show that a new poem copies none, and pairs show which words
//! were ever neighbours.

use std::collections::HashSet;
use std::path::Path;

use auria_steps_common::{Error, files};

use crate::data::Record;

/// Which runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Five words: in common with a training poem, a copy.
    Copies,
    /// Two neighbours.
    Pairs,
}

impl Which {
    fn length(self) -> usize {
        match self {
            Which::Copies => 5,
            Which::Pairs => 2,
        }
    }

    fn file(self) -> &'static str {
        match self {
            Which::Copies => "runs.bin",
            Which::Pairs => "pairs.bin",
        }
    }
}

/// The runs of some records.
#[derive(Debug)]
pub struct Runs {
    which: Which,
    hashes: HashSet<u32>,
}

impl Runs {
    /// The runs of some records whose words are all `known`.
    pub fn of<'a>(
        which: Which,
        records: impl Iterator<Item = &'a Record>,
        known: impl Fn(&str) -> bool,
    ) -> Self {
        let mut hashes = HashSet::new();
        for record in records {
            let words: Vec<&str> = record.words().collect();
            let runs = words
                .windows(which.length())
                .filter(|run| run.iter().all(|w| known(w)));
            hashes.extend(runs.map(hash));
        }
        Self { which, hashes }
    }

    /// How many runs of `words` are among them, and how many are not.
    pub fn count(&self, words: &[&str]) -> (usize, usize) {
        let all = words.windows(self.which.length());
        let found = all
            .clone()
            .filter(|run| self.hashes.contains(&hash(run)))
            .count();
        (found, all.count() - found)
    }

    /// Reads them from a folder of weights.
    pub fn read(which: Which, folder: &Path) -> Result<Self, Error> {
        let bytes = files::read(&folder.join(which.file()))?;
        let chunks = bytes.as_chunks::<4>().0;
        Ok(Self {
            which,
            hashes: chunks.iter().map(|c| u32::from_le_bytes(*c)).collect(),
        })
    }

    /// Writes them into a folder of weights.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let mut sorted: Vec<u32> = self.hashes.iter().copied().collect();
        sorted.sort_unstable();
        let bytes: Vec<u8> = sorted.iter().flat_map(|h| h.to_le_bytes()).collect();
        files::write_atomic(&folder.join(self.which.file()), &bytes)
    }
}

/// FNV-1a of the words, folded to 32 bits: the same on every machine.
fn hash<W: AsRef<str>>(run: &[W]) -> u32 {
    let bytes = run.iter().flat_map(|w| w.as_ref().bytes().chain([b' ']));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_five_is_a_copy_and_a_run_of_four_is_none() {
        let record = Record::parse("poem\tone two three , / four five six / seven").unwrap();
        let runs = Runs::of(Which::Copies, [&record].into_iter(), |_| true);
        let dir = tempfile::tempdir().unwrap();
        runs.write(dir.path()).unwrap();
        let runs = Runs::read(Which::Copies, dir.path()).unwrap();
        let copied = |t: &str| runs.count(&t.split(' ').collect::<Vec<_>>()).0 > 0;
        assert!(copied("x two three four five six y"));
        assert!(!copied("x two three four five y six"));
    }

    #[test]
    fn pairs_of_unknown_words_are_left_out() {
        let record = Record::parse("poem\tone two / three").unwrap();
        let pairs = Runs::of(Which::Pairs, [&record].into_iter(), |w| w != "three");
        assert_eq!(pairs.count(&["one", "two", "three"]), (1, 1));
    }
}
