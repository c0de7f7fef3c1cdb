//! The prepared data: what `prepare` writes and training, evaluation and gate read.
//! Records are text, one a line, so that a person can look at them.

use std::path::Path;

use auria_steps_common::{Error, digest, files};
use serde::{Deserialize, Serialize};

/// The files that a prepared folder holds, in the order of the digest.
pub const FILES: [&str; 5] = [
    "train.txt",
    "valid.txt",
    "held_out.txt",
    "verse.txt",
    "names.txt",
];

/// What a record is; each kind begins with a token of its own, so that a model can learn
/// from fragments and still be asked for whole poems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A whole thought in three lines about nature, without persons.
    Poem,
    /// Three lines that scan, cut out of a longer text or about something else.
    Part,
    /// A stanza or sentence of any length.
    Verse,
}

impl Kind {
    /// Its name in the files.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Poem => "poem",
            Kind::Part => "part",
            Kind::Verse => "verse",
        }
    }
}

/// One record: lines of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// Its lines; tokens as in `text`.
    pub lines: Vec<Vec<String>>,
}

impl Record {
    /// The words of all lines, without marks.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.lines
            .iter()
            .flatten()
            .map(String::as_str)
            .filter(|t| !crate::text::is_mark(t))
    }

    /// As a line of a file.
    pub fn write(&self) -> String {
        let lines: Vec<String> = self.lines.iter().map(|l| l.join(" ")).collect();
        format!("{}\t{}", self.kind.name(), lines.join(" / "))
    }

    /// From a line of a file.
    pub fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once('\t')?;
        let kind = [Kind::Poem, Kind::Part, Kind::Verse]
            .into_iter()
            .find(|k| k.name() == kind)?;
        let lines = rest
            .split(" / ")
            .map(|l| l.split(' ').map(str::to_owned).collect())
            .collect();
        Some(Self { kind, lines })
    }
}

/// A prepared folder, read.
#[derive(Debug)]
pub struct Data {
    /// What to train on.
    pub train: Vec<Record>,
    /// What training looks at to see whether it still gets better.
    pub valid: Vec<Record>,
    /// What training never sees.
    pub held_out: Vec<Record>,
    /// Verse to train on before.
    pub verse: Vec<Record>,
    /// Words that are mostly names, and are not said.
    pub names: Vec<String>,
    /// What `prepare` reported.
    pub report: Report,
}

/// What `prepare` found, dropped and wrote.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The digest of the prepared files.
    pub corpus_digest: String,
    /// What the corpus is.
    pub description: String,
    /// Its licence.
    pub licence: String,
    /// Poems read.
    pub poems_read: u64,
    /// Pieces of verse read.
    pub verse_read: u64,
    /// How many were dropped, by reason.
    pub dropped: std::collections::BTreeMap<String, u64>,
    /// How many poems are trained on.
    pub train: u64,
    /// How many poems are looked at in training.
    pub valid: u64,
    /// How many poems are held out.
    pub held_out: u64,
    /// How many pieces of verse are trained on.
    pub verse: u64,
    /// Of the poems, how many are whole thoughts about nature.
    pub whole_poems: u64,
}

impl Report {
    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} poems read: {} to train on, {} to validate, {} held out; {} are whole poems of \
             nature\n{} pieces of verse read, {} kept\n",
            self.poems_read,
            self.train,
            self.valid,
            self.held_out,
            self.whole_poems,
            self.verse_read,
            self.verse
        );
        for (why, count) in &self.dropped {
            text.push_str(&format!("dropped {count:>6}  {why}\n"));
        }
        text.push_str(&format!("corpus {}\n", self.corpus_digest));
        text
    }
}

impl Data {
    /// Reads a prepared folder, and checks its digest: a file that was edited by hand is
    /// another corpus, and would make measures incomparable in silence.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let report: Report = files::read_json(&folder.join("report.json"))?;
        let found = digest_of(folder)?;
        if found != report.corpus_digest {
            return Err(Error::content(
                folder,
                "was changed after `prepare`: its digest is not the report's; prepare it again",
            ));
        }
        let [train, valid, held_out, verse, _] = FILES;
        let names = files::read_text(&folder.join("names.txt"))?;
        Ok(Self {
            train: records(&folder.join(train))?,
            valid: records(&folder.join(valid))?,
            held_out: records(&folder.join(held_out))?,
            verse: records(&folder.join(verse))?,
            names: names.lines().map(str::to_owned).collect(),
            report,
        })
    }
}

/// The digest of the prepared files of a folder.
pub fn digest_of(folder: &Path) -> Result<String, Error> {
    digest::of_files(folder, &FILES.map(std::path::PathBuf::from))
}

fn records(path: &Path) -> Result<Vec<Record>, Error> {
    let text = files::read_text(path)?;
    let lines = text.lines().enumerate();
    lines
        .map(|(i, line)| {
            Record::parse(line)
                .ok_or_else(|| Error::content(path, format!("line {} is no record", i + 1)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back() {
        let line = "poem\tthe pond , / a frog — / plop !";
        let record = Record::parse(line).unwrap();
        assert_eq!(record.kind, Kind::Poem);
        assert_eq!(record.write(), line);
        assert_eq!(
            record.words().collect::<Vec<_>>(),
            ["the", "pond", "a", "frog", "plop"]
        );
        assert!(Record::parse("song\ta").is_none() && Record::parse("a").is_none());
    }
}
