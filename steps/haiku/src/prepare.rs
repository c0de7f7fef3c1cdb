//! The data step: cleans poems, drops what cannot be used and says so, and splits them
//! the same way each time. A source book lies on one side of the split, and nothing that
//! is trained on shares a run of words with a held-out poem.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use auria_steps_common::{Error, digest, files};

use crate::corpus::{self, Raw};
use crate::data::{self, Kind, Record, Report};
use crate::lexicon::Lexicon;
use crate::syllables::Dictionary;
use crate::text::{self, Token};

/// The form.
pub const FORM: [u8; 3] = [5, 7, 5];
/// A run of so many words in common with a held-out poem is a leak.
const LEAK: usize = 5;
/// A piece of verse is at most so long, in tokens.
const LONGEST: usize = 120;

/// Reads the corpora, cleans, splits and writes a prepared folder.
pub fn prepare(corpora: &[PathBuf], verse: &[PathBuf], out: &Path) -> Result<Report, Error> {
    let mut poems = Vec::new();
    let mut pieces = Vec::new();
    let (mut descriptions, mut licences) = (Vec::new(), Vec::new());
    for path in corpora {
        let found = corpus::read(path)?;
        poems.extend(found.poems);
        pieces.extend(found.verse);
        descriptions.push(found.about.description);
        licences.push(found.about.licence);
    }
    for path in verse {
        pieces.extend(corpus::read_verse(path)?);
    }
    let mut prepared = Prepared::new(&poems, &pieces);
    prepared.report.description =
        joined(&descriptions, " ", "A corpus that does not say what it is.");
    prepared.report.licence = joined(&licences, "; ", "not stated");
    if prepared.held_out.is_empty() || prepared.train.is_empty() {
        return Err(Error::content(
            &corpora[0],
            format!(
                "has too few poems in 5-7-5 to split: {} to train on, {} held out ({:?} dropped)",
                prepared.train.len(),
                prepared.held_out.len(),
                prepared.report.dropped
            ),
        ));
    }
    prepared.write(out)?;
    Ok(prepared.report)
}

fn joined(parts: &[String], separator: &str, none: &str) -> String {
    let mut seen = HashSet::new();
    let parts: Vec<&str> = parts
        .iter()
        .map(|p| p.trim())
        .filter(|p| !p.is_empty() && seen.insert(*p))
        .collect();
    if parts.is_empty() {
        none.to_owned()
    } else {
        parts.join(separator)
    }
}

struct Prepared {
    train: Vec<Record>,
    valid: Vec<Record>,
    held_out: Vec<Record>,
    verse: Vec<Record>,
    names: Vec<String>,
    report: Report,
}

impl Prepared {
    fn new(poems: &[Raw], pieces: &[Raw]) -> Self {
        let mut dropped = BTreeMap::<String, u64>::new();
        let mut drop = |why: &str| *dropped.entry(why.to_owned()).or_default() += 1;
        let names = names(poems.iter().chain(pieces));
        let is_name: HashSet<&str> = names.iter().map(String::as_str).collect();

        let mut seen = HashSet::new();
        let mut clean = Vec::new();
        for raw in poems {
            match clean_poem(raw, &is_name) {
                Err(why) => drop(why),
                Ok(record) => {
                    let key: Vec<&str> = record.words().collect();
                    let key = key.join(" ");
                    if seen.insert(key.clone()) {
                        clean.push((raw.source.clone().unwrap_or(key), record));
                    } else {
                        drop("poem: a double");
                    }
                }
            }
        }
        let share = if clean.len() < 1000 { 100 } else { 50 };
        let (mut train, mut valid, mut held_out) = (Vec::new(), Vec::new(), Vec::new());
        for (group, record) in clean {
            match thousandth(&group) {
                n if n < share => held_out.push(record),
                n if n < 2 * share => valid.push(record),
                _ => train.push(record),
            }
        }
        let runs: HashSet<String> = held_out.iter().flat_map(runs).collect();
        let mut keep = |records: &mut Vec<Record>, why: &str| {
            records.retain(|record| {
                let leaks = self::runs(record).any(|run| runs.contains(&run));
                if leaks {
                    drop(why);
                }
                !leaks
            });
        };
        keep(
            &mut train,
            "poem: shares a run of words with a held-out one",
        );
        keep(
            &mut valid,
            "poem: shares a run of words with a held-out one",
        );
        let mut verse = Vec::new();
        let mut too_long = 0;
        for piece in pieces {
            let lines = plain_lines(&piece.lines);
            let length: usize = lines.iter().map(Vec::len).sum();
            if length == 0 || length > LONGEST {
                too_long += 1;
            } else {
                verse.push(Record {
                    kind: Kind::Verse,
                    lines,
                });
            }
        }
        keep(
            &mut verse,
            "verse: shares a run of words with a held-out poem",
        );
        if too_long > 0 {
            dropped.insert("verse: empty or too long".into(), too_long);
        }
        let poems_kept = train.iter().chain(&valid).chain(&held_out);
        let whole_poems = poems_kept.filter(|r| r.kind == Kind::Poem).count() as u64;
        let report = Report {
            corpus_digest: String::new(),
            description: String::new(),
            licence: String::new(),
            poems_read: poems.len() as u64,
            verse_read: pieces.len() as u64,
            dropped,
            train: train.len() as u64,
            valid: valid.len() as u64,
            held_out: held_out.len() as u64,
            verse: verse.len() as u64,
            whole_poems,
        };
        Self {
            train,
            valid,
            held_out,
            verse,
            names,
            report,
        }
    }

    fn write(&mut self, out: &Path) -> Result<(), Error> {
        let [train, valid, held_out, verse, names] = data::FILES;
        let groups = [
            (train, &self.train),
            (valid, &self.valid),
            (held_out, &self.held_out),
            (verse, &self.verse),
        ];
        for (name, records) in groups {
            let text: String = records.iter().map(|r| r.write() + "\n").collect();
            files::write_atomic(&out.join(name), text.as_bytes())?;
        }
        let text: String = self.names.iter().map(|n| format!("{n}\n")).collect();
        files::write_atomic(&out.join(names), text.as_bytes())?;
        self.report.corpus_digest = data::digest_of(out)?;
        files::write_json(&out.join("report.json"), &self.report)
    }
}

/// 0 to 999 by the digest of a poem's source: the same on every machine.
fn thousandth(group: &str) -> u64 {
    let hex = digest::bytes(group.as_bytes());
    u64::from_str_radix(&hex[..15], 16).unwrap_or(0) % 1000
}

/// All runs of `LEAK` words of a record.
fn runs(record: &Record) -> impl Iterator<Item = String> + use<> {
    let words: Vec<String> = record.words().map(str::to_owned).collect();
    let count = words.len().saturating_sub(LEAK - 1);
    (0..count).map(move |i| words[i..i + LEAK].join(" "))
}

/// Words that are written with a capital inside of lines more often than not.
fn names<'a>(all: impl Iterator<Item = &'a Raw>) -> Vec<String> {
    let mut counts: HashMap<String, (u32, u32)> = HashMap::new();
    for raw in all {
        for line in &raw.lines {
            // The first word of a line or of a sentence says nothing.
            let mut inside = false;
            for token in text::tokens(line) {
                let ends = matches!(token.text.as_str(), "." | "!" | "?");
                if inside && !token.is_mark() {
                    let count = counts.entry(token.text).or_default();
                    count.0 += u32::from(token.capital);
                    count.1 += 1;
                }
                inside = !ends;
            }
        }
    }
    let pronoun = |w: &str| w == "i" || w.starts_with("i'");
    let mut names: Vec<String> = counts
        .into_iter()
        .filter(|(word, (capital, all))| *capital >= 2 && capital * 2 > *all && !pronoun(word))
        .map(|(word, _)| word)
        .collect();
    names.sort();
    names
}

fn plain_lines(lines: &[String]) -> Vec<Vec<String>> {
    let lines = lines
        .iter()
        .map(|l| text::tokens(l).into_iter().map(|t| t.text).collect());
    lines.filter(|l: &Vec<String>| !l.is_empty()).collect()
}

/// A poem as a record, or why it cannot be one.
fn clean_poem(raw: &Raw, names: &HashSet<&str>) -> Result<Record, &'static str> {
    let lexicon = Lexicon::get();
    let lines: Vec<Vec<Token>> = raw.lines.iter().map(|l| text::tokens(l)).collect();
    let lines: Vec<Vec<Token>> = lines.into_iter().filter(|l| !l.is_empty()).collect();
    if lines.len() != 3 {
        return Err("poem: not three lines");
    }
    for (line, count) in lines.iter().zip(FORM) {
        let words = line
            .iter()
            .filter(|t| !t.is_mark())
            .map(|t| t.text.as_str());
        if !Dictionary::get().can_scan(words, count) {
            return Err("poem: not 5-7-5");
        }
    }
    let words = || {
        lines
            .iter()
            .flatten()
            .filter(|t| !t.is_mark())
            .map(|t| t.text.as_str())
    };
    if words().any(|w| lexicon.refuses(w)) {
        return Err("poem: a refused word");
    }
    let capital = lines[0][0].capital;
    let mut lines: Vec<Vec<String>> = lines
        .iter()
        .map(|l| l.iter().map(|t| t.text.clone()).collect())
        .collect();
    // The last full stop goes: the end of the record says as much. Other marks that
    // promise more make it a part.
    let mut open = false;
    let mut stopped = false;
    while let Some(mark) = lines[2].last().filter(|t| text::is_mark(t)).cloned() {
        match mark.as_str() {
            "!" | "?" => break,
            "." => stopped = true,
            _ => open = true,
        }
        lines[2].pop();
    }
    let record = Record {
        kind: Kind::Part,
        lines,
    };
    let whole = !open && !begins_inside(&record, capital, stopped);
    let nature = record.words().any(|w| lexicon.nature.contains(w));
    let persons = record
        .words()
        .any(|w| lexicon.persons.contains(w) || names.contains(w));
    let kind = if whole && nature && !persons {
        Kind::Poem
    } else {
        Kind::Part
    };
    Ok(Record { kind, ..record })
}

/// Whether a poem begins in the middle of a sentence: a small letter although it ends
/// with a full stop, or a word that joins it to something before.
fn begins_inside(record: &Record, capital: bool, stopped: bool) -> bool {
    let joins = [
        "and", "but", "or", "nor", "which", "who", "whom", "whose", "that", "than", "of", "for",
        "to",
    ];
    let first = record.lines[0][0].as_str();
    (stopped && !capital) || joins.contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(poem: &str) -> Raw {
        Raw {
            lines: poem.split(" / ").map(str::to_owned).collect(),
            source: None,
        }
    }

    fn clean(poem: &str) -> Result<Record, &'static str> {
        clean_poem(&raw(poem), &HashSet::from(["john"]))
    }

    #[test]
    fn poems_are_told_from_parts() {
        let kind = |poem: &str| clean(poem).map(|r| r.kind);
        assert_eq!(
            kind("an old silent pond / a frog leaps into water / sound of the morning bell"),
            Err("poem: not 5-7-5")
        );
        let pond = "the old silent pond / a frog leaps in the water / sound of the new moon";
        assert_eq!(kind(pond), Ok(Kind::Poem));
        for part in [
            "the old silent pond / a frog leaps in the water / sound of the new moon,",
            "the old silent pond / a frog leaps in the water / sound of the new moon.",
            "and old silent pond / a frog leaps in the water / sound of the new moon",
            "the old silent pond / he leaps into the water / sound of the new moon",
            "the old silent pond / and John in the cold water / sound of the new moon",
        ] {
            assert_eq!(kind(part), Ok(Kind::Part), "{part}");
        }
        assert_eq!(kind(&format!("The{}.", &pond[3..])), Ok(Kind::Poem));
        assert_eq!(
            kind("damn the silent pond / a frog leaps in the water / sound of the new moon"),
            Err("poem: a refused word")
        );
        assert_eq!(kind("one / two"), Err("poem: not three lines"));
    }

    #[test]
    fn nothing_that_is_trained_on_shares_a_run_with_a_held_out_poem() {
        let nouns = [
            "moon", "pond", "hill", "rain", "snow", "wind", "leaf", "bird", "star", "stone",
        ];
        let mut poems = Vec::new();
        for a in nouns {
            for b in nouns {
                for c in ["dark", "bright", "cold"] {
                    poems.push(raw(&format!(
                        "the {c} {a} at dawn / {b} after {b} in the {a} / now the {c} {b} sleeps"
                    )));
                }
            }
        }
        poems.push(poems[0].clone());
        let verse: Vec<Raw> = poems
            .iter()
            .map(|p| raw(&format!("o {} / and more", p.lines.join(" "))))
            .collect();
        let prepared = Prepared::new(&poems, &verse);
        assert!(!prepared.held_out.is_empty());
        let held: HashSet<String> = prepared.held_out.iter().flat_map(runs).collect();
        for record in prepared
            .train
            .iter()
            .chain(&prepared.valid)
            .chain(&prepared.verse)
        {
            assert!(
                !runs(record).any(|r| held.contains(&r)),
                "{}",
                record.write()
            );
        }
        assert_eq!(prepared.report.dropped["poem: a double"], 1);
        let kept = prepared.train.len() + prepared.valid.len() + prepared.held_out.len();
        let dropped: u64 = prepared
            .report
            .dropped
            .iter()
            .filter(|(k, _)| k.starts_with("poem"))
            .map(|(_, n)| n)
            .sum();
        assert_eq!(kept as u64 + dropped, poems.len() as u64);
    }

    #[test]
    fn names_are_words_that_are_capitals_inside_of_lines() {
        let all = [
            raw("Then John went home / and John slept / May rain. Rain on the may tree"),
            raw("So may it be"),
        ];
        assert_eq!(names(all.iter()), ["john"]);
    }
}
