//! Writes one poem: draws drafts, leaves out what copies, and takes the best. One seed,
//! mood and topic give one poem with one set of weights.

use std::collections::HashSet;
use std::path::Path;

use auria_steps_common::Error;
use auria_steps_common::mood::Mood;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::artifact::Artifact;
use crate::lexicon::Lexicon;
use crate::prepare::FORM;
use crate::rules::Table;
use crate::runs::{Runs, Which};
use crate::sampler::{self, Drawn, Settings, Tilt};
use crate::text;
use crate::vocab::Vocab;

/// A poem as `poem.json` holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Poem {
    /// Its three lines.
    pub lines: Vec<String>,
    /// The syllables of each line, by the CMU Pronouncing Dictionary.
    pub syllables: Vec<u8>,
    /// The mood that it was asked to have.
    pub mood: Mood,
    /// What it was asked to be about.
    pub topic: Option<String>,
    /// Whether it says a word of the topic.
    pub topic_said: bool,
    /// The seed.
    pub seed: u64,
    /// The model's mean log-probability of its tokens.
    pub log_probability: f64,
    /// The digest of the weights that wrote it.
    pub weights: String,
}

impl Poem {
    /// The poem as `poem.txt` holds it: three lines.
    pub fn text(&self) -> String {
        self.lines.iter().map(|l| format!("{l}\n")).collect()
    }
}

/// What can go wrong in writing.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The weights cannot be read.
    #[error("cannot use the weights")]
    Weights(#[from] Error),
    /// No draft was whole and new.
    #[error(
        "none of {drafts} drafts with seed {seed} was whole and no copy; take another seed, or \
         weights that were trained longer"
    )]
    NoDraft {
        /// How many were drawn.
        drafts: usize,
        /// The seed.
        seed: u64,
    },
}

/// A model that is ready to write.
#[derive(Debug)]
pub struct Writer {
    artifact: Artifact,
    copies: Runs,
    pairs: Runs,
    table: Table,
    digest: String,
    settings: Settings,
}

/// So many words are near neighbours of a topic.
const NEIGHBOURS: usize = 40;

/// How strongly words are pulled, in nats.
mod pull {
    /// Words of nature, always: a painting follows.
    pub(super) const NATURE: f32 = 0.3;
    /// Words that tell where a haiku shows.
    pub(super) const TELLING: f32 = -1.5;
    /// Words of meaning, for each e-fold by which they are rarer: else every poem is of
    /// the sun and the moon.
    pub(super) const RARER: f32 = 0.2;
    /// Words that carry the mood.
    pub(super) const CARRY: f32 = 1.8;
    /// Words that are near to one that carries it.
    pub(super) const NEAR: f32 = 0.5;
    /// Words that break the mood.
    pub(super) const BREAK: f32 = -3.0;
    /// Words of the topic, until one is said.
    pub(super) const TOPIC: f32 = 4.0;
    /// Words that are near to the topic.
    pub(super) const NEAR_TOPIC: f32 = 1.0;
}

impl Writer {
    /// Reads weights; writing is done on one CPU thread, so that bytes are equal.
    pub fn read(weights: &Path) -> Result<Self, WriteError> {
        auria_steps_common::device::deterministic();
        let artifact = Artifact::read(weights, Device::Cpu)?;
        let table = Table::new(&artifact.vocab);
        let copies = Runs::read(Which::Copies, weights)?;
        let pairs = Runs::read(Which::Pairs, weights)?;
        let digest = Artifact::digest(weights)?;
        Ok(Self {
            artifact,
            copies,
            pairs,
            table,
            digest,
            settings: Settings::default(),
        })
    }

    /// Writes a poem.
    pub fn write(&self, seed: u64, mood: Mood, topic: Option<&str>) -> Result<Poem, WriteError> {
        let topic = topic.map(str::trim).filter(|t| !t.is_empty());
        let about = self.topic_words(topic.unwrap_or_default());
        let tilt = self.tilt(mood, &about);
        let mut drawn = 0;
        // A round in which every draft copies or breaks off is followed by another.
        for round in 0..4u64 {
            let seed_of_round = seed.wrapping_add(round << 48);
            let drafts = sampler::draw(
                &self.artifact.model,
                &self.table,
                &tilt,
                &self.settings,
                seed_of_round,
            );
            drawn += self.settings.drafts;
            let best = drafts
                .iter()
                .filter(|d| self.is_new(d))
                .map(|d| (self.score(d, mood, &about), d))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((_, best)) = best {
                return Ok(self.poem(best, seed, mood, topic, &about));
            }
        }
        Err(WriteError::NoDraft {
            drafts: drawn,
            seed,
        })
    }

    fn poem(
        &self,
        drawn: &Drawn,
        seed: u64,
        mood: Mood,
        topic: Option<&str>,
        about: &[i64],
    ) -> Poem {
        let lines = drawn.draft.lines.iter();
        let count = |l: &Vec<i64>| l.iter().map(|&t| self.table.syllables(t)).sum();
        Poem {
            lines: lines
                .clone()
                .map(|l| text::line(l.iter().map(|&t| self.token(t))))
                .collect(),
            syllables: lines.map(count).collect(),
            mood,
            topic: topic.map(str::to_owned),
            topic_said: drawn.draft.tokens().any(|t| about.contains(&t)),
            seed,
            log_probability: drawn.log_probability,
            weights: self.digest.clone(),
        }
    }

    fn token(&self, number: i64) -> &str {
        self.artifact.vocab.token(number)
    }

    /// Whether a draft is in the form and copies no training poem.
    fn is_new(&self, drawn: &Drawn) -> bool {
        let whole = drawn.draft.lines.iter().zip(FORM).all(|(line, count)| {
            line.iter().map(|&t| self.table.syllables(t)).sum::<u8>() == count
        });
        let words = drawn.draft.tokens().filter(|&t| Vocab::is_word(t));
        let words: Vec<&str> = words.map(|t| self.token(t)).collect();
        whole && self.copies.count(&words).0 == 0
    }

    /// How good a draft is: likely as a whole, with words that are not everybody's, about
    /// nature, in the mood, on the topic.
    fn score(&self, drawn: &Drawn, mood: Mood, about: &[i64]) -> f64 {
        let lexicon = Lexicon::get();
        let words: Vec<i64> = drawn
            .draft
            .tokens()
            .filter(|&t| Vocab::is_word(t))
            .collect();
        let tokens: HashSet<&str> = words.iter().map(|&t| self.token(t)).collect();
        let hits = |list: &[&str]| list.iter().filter(|w| tokens.contains(*w)).count() as f64;
        let nature = tokens
            .iter()
            .filter(|w| lexicon.nature.contains(*w))
            .count() as f64;
        let rare = words.iter().map(|&t| rank(t)).sum::<f64>() / words.len().max(1) as f64;
        let mood = lexicon.mood(mood);
        // Neighbours that no text ever put side by side are mostly slips of grammar.
        let in_order: Vec<&str> = words.iter().map(|&t| self.token(t)).collect();
        let strange = self.pairs.count(&in_order).1 as f64;
        // One `and` joins; the next only strings along.
        let joined = in_order
            .iter()
            .filter(|w| **w == "and")
            .count()
            .saturating_sub(1) as f64;
        let on_topic = words.iter().any(|t| about.contains(t));
        let marks = drawn.draft.tokens().filter(|&t| Vocab::is_mark(t)).count() as f64;
        drawn.log_probability + 0.35 * rare + 0.12 * nature.min(3.0)
            - if nature == 0.0 { 1.0 } else { 0.0 }
            + 0.25 * hits(&mood.carry).min(2.0)
            - 0.4 * hits(&mood.break_it)
            - 0.35 * strange
            - 0.15 * joined
            - 0.1 * (marks - 2.0).max(0.0)
            + if on_topic { 1.5 } else { 0.0 }
    }

    /// The numbers of the topic's words that can be said, with their other forms.
    fn topic_words(&self, topic: &str) -> Vec<i64> {
        let small = &Lexicon::get().hanging;
        let mut found = Vec::new();
        for token in text::tokens(topic).iter().filter(|t| !t.is_mark()) {
            let word = token.text.as_str();
            if small.contains(word) {
                continue;
            }
            let stem = word
                .strip_suffix("es")
                .or(word.strip_suffix('s'))
                .unwrap_or(word);
            let forms = [
                word.to_owned(),
                format!("{word}s"),
                format!("{word}es"),
                stem.to_owned(),
                format!("{stem}e"),
            ];
            for form in forms {
                match self.artifact.vocab.number(&form) {
                    Some(number)
                        if self.table.syllables(number) > 0 && !found.contains(&number) =>
                    {
                        found.push(number);
                    }
                    _ => {}
                }
            }
        }
        found
    }

    /// Whether these weights can say a word.
    pub fn can_say(&self, word: &str) -> bool {
        let number = self.artifact.vocab.number(word);
        number.is_some_and(|number| self.table.syllables(number) > 0)
    }

    /// Whether a poem says a word of a topic, or a near neighbour of one.
    pub fn is_about(&self, poem: &Poem, topic: &str) -> bool {
        let about = self.topic_words(topic);
        let near = self.near(&about, NEIGHBOURS);
        let tokens = poem.lines.iter().flat_map(|line| text::tokens(line));
        let mut numbers = tokens.filter_map(|t| self.artifact.vocab.number(&t.text));
        numbers.any(|number| about.contains(&number) || near.contains(&number))
    }

    fn tilt(&self, mood: Mood, about: &[i64]) -> Tilt {
        let vocab = &self.artifact.vocab;
        let lexicon = Lexicon::get();
        let number = |w: &&str| vocab.number(w);
        let mut tokens = vec![0f32; vocab.len()];
        for number in lexicon.nature.iter().filter_map(number) {
            tokens[number as usize] += pull::NATURE;
        }
        for number in lexicon.telling.iter().filter_map(number) {
            tokens[number as usize] += pull::TELLING;
        }
        for number in (0..vocab.len() as i64).filter(|&t| self.table.is_content(t)) {
            tokens[number as usize] += pull::RARER * (rank(number) - 7.0) as f32;
        }
        let words = lexicon.mood(mood);
        let carry: Vec<i64> = words.carry.iter().filter_map(number).collect();
        for near in self.near(&carry, 60) {
            tokens[near as usize] += pull::NEAR;
        }
        for near in self.near(about, NEIGHBOURS) {
            tokens[near as usize] += pull::NEAR_TOPIC;
        }
        for number in carry {
            tokens[number as usize] += pull::CARRY;
        }
        for number in words.break_it.iter().filter_map(number) {
            tokens[number as usize] += pull::BREAK;
        }
        Tilt {
            tokens,
            topic: about.iter().map(|&t| (t, pull::TOPIC)).collect(),
        }
    }

    /// The words whose embeddings point most nearly where those of `to` do.
    fn near(&self, to: &[i64], count: usize) -> Vec<i64> {
        if to.is_empty() {
            return Vec::new();
        }
        tch::no_grad(|| {
            let embedding = self.artifact.model.embedding();
            let length = embedding
                .square()
                .sum_dim_intlist(1, true, Kind::Float)
                .sqrt();
            let unit = embedding / (length + 1e-6);
            let mean =
                unit.index_select(0, &Tensor::from_slice(to))
                    .mean_dim(0, false, Kind::Float);
            let (_, order) = unit.matmul(&mean).sort(-1, true);
            let order = Vec::<i64>::try_from(order).unwrap_or_default();
            let words = order
                .into_iter()
                .filter(|t| self.table.is_content(*t) && !to.contains(t));
            words.take(count).collect()
        })
    }
}

/// Numbers are given by frequency, so the logarithm of a word's rank is about its surprise
/// without context (Zipf).
fn rank(number: i64) -> f64 {
    ((number - 10).max(1) as f64).ln()
}
