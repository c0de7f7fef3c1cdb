//! Judges whether a poem says what it was asked to say. Of moods: a naive Bayes classifier
//! that was trained on the words of poems (Manning, Raghavan and Schuetze 2008, chapter 13);
//! of topics: whether a word of it, or one that stands where it does, is said.

use std::collections::{HashMap, HashSet};

use auria_steps_common::card::Measure;
use auria_steps_common::gate::Better;
use auria_steps_common::mood::Mood;
use serde::{Deserialize, Serialize};

use crate::data::Data;
use crate::lexicon::Lexicon;
use crate::writer::{WriteError, Writer};

/// What is added to each count of a word in a mood.
const SMOOTHING: f64 = 0.5;

/// The classifier. Nobody labelled the poems by their mood: a poem that says words which
/// carry one is an example of it, and the words around those are learned as well.
#[derive(Debug)]
pub struct Moods {
    moods: Vec<Mood>,
    /// The logarithm of each word's probability, by mood.
    words: HashMap<String, Vec<f64>>,
}

/// How the classifier reads poems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoodFigures {
    /// How many moods it tells apart.
    pub moods: u64,
    /// How many poems were read that were asked to have one.
    pub poems: u64,
    /// The share for which the mood asked for is the likeliest.
    pub first: f64,
    /// The share for which it is one of the three likeliest.
    pub among_three: f64,
    /// The same by the words alone that carry no mood by the lists: what the lists cannot
    /// have put there.
    pub among_three_by_other_words: f64,
    /// How well it does on held-out poems that say words of one mood, by their other words
    /// alone: the share for which that mood is one of the three likeliest.
    pub own_among_three: Option<f64>,
}

impl Moods {
    /// Learns from the poems that are trained on.
    pub fn learn(data: &Data) -> Self {
        let named = |mood: &Mood| *mood != Mood::Neutral;
        let moods: Vec<Mood> = Mood::ALL.iter().copied().filter(named).collect();
        let mut counts: HashMap<&str, Vec<f64>> = HashMap::new();
        let mut totals = vec![0.0; moods.len()];
        for record in &data.train {
            let words: HashSet<&str> = record.words().collect();
            let shares = shares(&moods, &words);
            for word in words {
                let counts = counts.entry(word).or_insert_with(|| vec![0.0; moods.len()]);
                for ((count, total), share) in counts.iter_mut().zip(&mut totals).zip(&shares) {
                    *count += share;
                    *total += share;
                }
            }
        }
        let kinds = counts.len() as f64;
        let words = counts.into_iter().map(|(word, counts)| {
            let of = |(count, total): (f64, &f64)| {
                ((count + SMOOTHING) / (total + SMOOTHING * kinds)).ln()
            };
            let logs = counts.into_iter().zip(&totals).map(of).collect();
            (word.to_owned(), logs)
        });
        Self {
            words: words.collect(),
            moods,
        }
    }

    /// At which place a mood comes among all, by some words; 0 is the first. Nothing, where
    /// the words are all new.
    fn place<'a>(&self, mood: Mood, words: impl Iterator<Item = &'a str>) -> Option<usize> {
        let mut sums = vec![0.0; self.moods.len()];
        let mut known = false;
        for logs in words.filter_map(|word| self.words.get(word)) {
            known = true;
            sums.iter_mut().zip(logs).for_each(|(sum, log)| *sum += log);
        }
        let own = sums[self.moods.iter().position(|m| *m == mood)?];
        known.then(|| sums.iter().filter(|sum| **sum > own).count())
    }

    /// How it reads poems, given as the mood that was asked for and the words.
    pub fn figures<'a>(
        &self,
        data: &Data,
        poems: impl Iterator<Item = (Mood, Vec<&'a str>)>,
    ) -> Option<MoodFigures> {
        let carried = carried();
        let others = |words: &[&'a str]| -> Vec<&'a str> {
            let others = words.iter().copied().filter(|w| !carried.contains(*w));
            others.collect()
        };
        let asked = poems.filter(|(mood, _)| *mood != Mood::Neutral);
        let (mut places, mut by_others) = (Vec::new(), Vec::new());
        for (mood, words) in asked {
            places.push(self.place(mood, words.iter().copied()));
            by_others.push(self.place(mood, others(&words).into_iter()));
        }
        let own = data.held_out.iter().filter_map(|record| {
            let words: HashSet<&str> = record.words().collect();
            let shares = shares(&self.moods, &words);
            let only = shares.iter().position(|share| *share == 1.0)?;
            let others = words.into_iter().filter(|w| !carried.contains(*w));
            Some(self.place(self.moods[only], others))
        });
        let own: Vec<Option<usize>> = own.collect();
        (!places.is_empty()).then(|| MoodFigures {
            moods: self.moods.len() as u64,
            poems: places.len() as u64,
            first: share_within(&places, 1),
            among_three: share_within(&places, 3),
            among_three_by_other_words: share_within(&by_others, 3),
            own_among_three: (!own.is_empty()).then(|| share_within(&own, 3)),
        })
    }
}

fn share_within(places: &[Option<usize>], most: usize) -> f64 {
    let within = places.iter().flatten().filter(|place| **place < most);
    within.count() as f64 / places.len().max(1) as f64
}

/// All words that carry a mood by the lists.
fn carried() -> HashSet<&'static str> {
    let lexicon = Lexicon::get();
    let lists = Mood::ALL.iter().map(|&mood| &lexicon.mood(mood).carry);
    lists.flatten().copied().collect()
}

/// How much a poem is an example of each mood: by how many words that carry it are said.
fn shares(moods: &[Mood], words: &HashSet<&str>) -> Vec<f64> {
    let lexicon = Lexicon::get();
    let hits = moods.iter().map(|&mood| {
        let carry = &lexicon.mood(mood).carry;
        carry.iter().filter(|word| words.contains(*word)).count() as f64
    });
    let hits: Vec<f64> = hits.collect();
    let all: f64 = hits.iter().sum();
    hits.iter().map(|hit| hit / all.max(1.0)).collect()
}

/// How topics are heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopicFigures {
    /// How many poems were written, each with a topic of its own as far as there are words.
    pub poems: u64,
    /// The share that says a word of the topic.
    pub said: f64,
    /// The share that says one, or a near neighbour of one.
    pub said_or_near: f64,
    /// The same of the poems of the same seeds without a topic.
    pub said_or_near_without: f64,
}

/// Lets a writer write `count` poems about words of nature that it knows.
pub fn topics(writer: &Writer, count: u64) -> Result<Option<TopicFigures>, WriteError> {
    let known = Lexicon::get().nature.iter().copied();
    let mut topics: Vec<&str> = known.filter(|word| writer.can_say(word)).collect();
    topics.sort_unstable();
    if topics.is_empty() || count == 0 {
        return Ok(None);
    }
    // Spread over the alphabet, not the first of it.
    let step = (topics.len() / count as usize).max(1);
    let chosen = topics.iter().step_by(step).cycle();
    let (mut said, mut near, mut without) = (0, 0, 0);
    for (seed, &topic) in (1..=count).zip(chosen) {
        let poem = writer.write(seed, Mood::Neutral, Some(topic))?;
        let plain = writer.write(seed, Mood::Neutral, None)?;
        said += u64::from(poem.topic_said);
        near += u64::from(writer.is_about(&poem, topic));
        without += u64::from(writer.is_about(&plain, topic));
    }
    let share = |n: u64| n as f64 / count as f64;
    Ok(Some(TopicFigures {
        poems: count,
        said: share(said),
        said_or_near: share(near),
        said_or_near_without: share(without),
    }))
}

impl MoodFigures {
    /// The figures for a card.
    pub fn card(&self, how: &str) -> Vec<Measure> {
        let high = Some(Better::Higher);
        let chance = 3.0 / self.moods as f64;
        let judge = format!(
            "naive Bayes over {} moods, trained on the words of the poems trained on; {} of {how}",
            self.moods, self.poems
        );
        let first = format!("{judge}; chance is {:.3}", 1.0 / self.moods as f64);
        let three = format!("{judge}; chance is {chance:.3}");
        let others = format!("{three}; only words that the lists of moods lack");
        let named = |name: &str, value, how: &str| Measure::new(name, value, "", high, how);
        let mut all = vec![
            named("mood is the judge's first", self.first, &first),
            named("mood among the judge's three", self.among_three, &three),
            named(
                "mood among three by other words",
                self.among_three_by_other_words,
                &others,
            ),
        ];
        if let Some(own) = self.own_among_three {
            let how = format!(
                "held-out poems with words of one mood, those words covered; chance is {chance:.3}"
            );
            all.push(named("the judge's own, other words", own, &how));
        }
        all
    }
}

impl TopicFigures {
    /// The figures for a card.
    pub fn card(&self) -> Vec<Measure> {
        let n = self.poems;
        let how = format!("{n} poems about words of nature, seeds 1 to {n}");
        let near = format!(
            "{how}; near: of the 40 nearest embeddings. Without a topic: {:.2}",
            self.said_or_near_without
        );
        let high = Some(Better::Higher);
        vec![
            Measure::new("topic said", self.said, "", high, &how),
            Measure::new(
                "topic or a neighbour said",
                self.said_or_near,
                "",
                high,
                &near,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Record;

    fn data(train: &[&str], held_out: &[&str]) -> Data {
        let records = |lines: &[&str]| -> Vec<Record> {
            let lines = lines.iter();
            lines.map(|l| Record::parse(l).unwrap()).collect()
        };
        let report = serde_json::json!({
            "corpus_digest": "", "description": "", "licence": "", "poems_read": 0,
            "verse_read": 0, "dropped": {}, "train": 0, "valid": 0, "held_out": 0, "verse": 0,
            "whole_poems": 0,
        });
        Data {
            train: records(train),
            valid: Vec::new(),
            held_out: records(held_out),
            verse: Vec::new(),
            names: Vec::new(),
            report: serde_json::from_value(report).unwrap(),
        }
    }

    #[test]
    fn a_mood_is_told_by_the_words_that_stand_with_its_own() {
        let data = data(
            &[
                "poem\twolf howls on the ridge",
                "poem\tlovers kiss on the bench",
            ],
            &["poem\tkiss on a bench"],
        );
        let judge = Moods::learn(&data);
        let place = |mood, words: &str| judge.place(mood, words.split(' '));
        assert_eq!(place(Mood::Fear, "ridge"), Some(0));
        assert_eq!(place(Mood::Love, "bench"), Some(0));
        assert!(place(Mood::Love, "ridge") > Some(0));
        assert_eq!(place(Mood::Love, "unheard"), None);
        let poems = [
            (Mood::Fear, vec!["wolf", "ridge"]),
            (Mood::Love, vec!["howls"]),
            (Mood::Neutral, vec!["ridge"]),
        ];
        let figures = judge.figures(&data, poems.into_iter()).unwrap();
        assert_eq!((figures.poems, figures.first), (2, 0.5));
        assert!(judge.figures(&data, std::iter::empty()).is_none());
    }
}
