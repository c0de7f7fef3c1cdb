//! Measures weights on held-out poems, beside the baseline, and on poems that they write.
//! Never looks at the card: what it reports it has measured.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use auria_steps_common::card::Measure;
use auria_steps_common::gate::Better;
use auria_steps_common::mood::Mood;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::artifact::Artifact;
use crate::data::{Data, Kind};
use crate::loss::{self, Loss};
use crate::ngram::{self, Ngram};
use crate::prepare::FORM;
use crate::syllables::Dictionary;
use crate::text;
use crate::train;
use crate::vocab::{Encoded, Vocab};
use crate::writer::{Poem, WriteError, Writer};

/// What held-out poems cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Nats per token; an unknown word is spelled, letter by letter.
    pub loss: f64,
    /// Bits per printed character.
    pub bits_per_character: f64,
    /// The perplexity of a token, spelling included.
    pub perplexity: f64,
}

impl From<Loss> for Cost {
    fn from(loss: Loss) -> Self {
        Self {
            loss: loss.per_token(),
            bits_per_character: loss.bits_per_character(),
            perplexity: loss.perplexity(),
        }
    }
}

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
    /// The longest run of words that one shares with a text that was trained on.
    pub longest_copied_run: u64,
    /// Seconds for a poem, on one thread.
    pub seconds_per_poem: f64,
}

/// All that is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// The corpus that was measured on.
    pub corpus_digest: String,
    /// The weights that were measured.
    pub weights_digest: String,
    /// Held-out poems.
    pub held_out_poems: u64,
    /// The model on all of them.
    pub model: Cost,
    /// The model on those that are whole poems of nature, where there are any.
    pub model_on_whole_poems: Option<Cost>,
    /// The share of held-out words that the vocabulary lacks.
    pub unknown_words: f64,
    /// What the baseline is.
    pub baseline_name: String,
    /// The baseline on all held-out poems.
    pub baseline: Cost,
    /// Poems that the weights wrote.
    pub written: Written,
}

/// Measures the weights of a folder on prepared data, and lets them write `poems` poems.
pub fn evaluate(
    weights: &Path,
    data: &Data,
    poems: u64,
    device: Device,
) -> Result<Measures, WriteError> {
    let artifact = Artifact::read(weights, device)?;
    let vocab = &artifact.vocab;
    let held_out = train::encode(&data.held_out, vocab);
    let (trained, verse) = train::encode_training(data, vocab);
    let whole = held_out.iter().filter(|r| r.kind == Kind::Poem);
    let on_whole = loss::of_model(whole, &artifact.model);
    // The baseline is the better of two: taught by all that the model was, or by poems alone.
    let with_verse = Ngram::train(trained.iter().chain(&verse), vocab);
    let poems_alone = Ngram::train(trained.iter(), vocab);
    let of = |ngram: &Ngram| loss::of_each(held_out.iter(), |r| ngram.nats(r));
    let baselines = [
        (of(&with_verse), "poems and verse"),
        (of(&poems_alone), "poems"),
    ];
    let (baseline, taught_by) = if baselines[1].0.nats < baselines[0].0.nats {
        baselines[1]
    } else {
        baselines[0]
    };
    let words: Vec<i64> = held_out
        .iter()
        .flat_map(|r| &r.numbers)
        .copied()
        .filter(|&t| t == 0 || Vocab::is_word(t))
        .collect();
    let unknown = words.iter().filter(|&&t| t == 0).count();
    Ok(Measures {
        corpus_digest: data.report.corpus_digest.clone(),
        weights_digest: Artifact::digest(weights)?,
        held_out_poems: held_out.len() as u64,
        model: loss::of_model(held_out.iter(), &artifact.model).into(),
        model_on_whole_poems: (on_whole.tokens > 0).then(|| on_whole.into()),
        unknown_words: unknown as f64 / words.len().max(1) as f64,
        baseline_name: format!("{}, trained on {taught_by}", ngram::NAME),
        baseline: baseline.into(),
        written: written(weights, vocab, trained.iter().chain(&verse), poems)?,
    })
}

/// Lets the weights write, and looks at what they wrote as a reader would: from its text.
fn written<'a>(
    weights: &Path,
    vocab: &Vocab,
    trained: impl Iterator<Item = &'a Encoded>,
    poems: u64,
) -> Result<Written, WriteError> {
    let writer = Writer::read(weights)?;
    let started = Instant::now();
    let mut all: Vec<Poem> = Vec::new();
    for (seed, &mood) in (1..=poems).zip(Mood::ALL.iter().cycle()) {
        all.push(writer.write(seed, mood, None)?);
    }
    let seconds = started.elapsed().as_secs_f64();
    let words: Vec<Vec<Vec<String>>> = all.iter().map(words_of).collect();
    let in_form = words.iter().filter(|p| is_in_form(p)).count();
    let flat: Vec<Vec<&str>> = words
        .iter()
        .map(|p| p.iter().flatten().map(String::as_str).collect())
        .collect();
    let trained: Vec<Vec<i64>> = trained.map(|r| only_words(&r.numbers)).collect();
    let longest = flat.iter().map(|poem| {
        let numbers: Vec<i64> = poem.iter().map(|w| vocab.number(w).unwrap_or(-1)).collect();
        trained
            .iter()
            .map(|t| longest_run(&numbers, t))
            .max()
            .unwrap_or(0)
    });
    let longest = longest.max().unwrap_or(0) as u64;
    let singles: Vec<&str> = flat.iter().flatten().copied().collect();
    let pairs: Vec<(&str, &str)> = flat
        .iter()
        .flat_map(|p| p.windows(2).map(|w| (w[0], w[1])))
        .collect();
    let count = poems.max(1) as f64;
    Ok(Written {
        poems,
        in_form: in_form as f64 / count,
        distinct_1: share_distinct(&singles),
        distinct_2: share_distinct(&pairs),
        longest_copied_run: longest,
        seconds_per_poem: seconds / count,
    })
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

fn only_words(numbers: &[i64]) -> Vec<i64> {
    numbers
        .iter()
        .copied()
        .filter(|&t| Vocab::is_word(t))
        .collect()
}

fn longest_run(a: &[i64], b: &[i64]) -> usize {
    let mut best = 0;
    for i in 0..a.len() {
        for j in 0..b.len() {
            if a[i] == b[j] {
                let run = a[i..]
                    .iter()
                    .zip(&b[j..])
                    .take_while(|(x, y)| x == y)
                    .count();
                best = best.max(run);
            }
        }
    }
    best
}

fn share_distinct<T: std::hash::Hash + Eq>(all: &[T]) -> f64 {
    let distinct: HashSet<&T> = all.iter().collect();
    distinct.len() as f64 / all.len().max(1) as f64
}

impl Measures {
    /// The figures for a card.
    pub fn card(&self) -> Vec<Measure> {
        let n = self.held_out_poems;
        let held = format!("{n} held-out poems; unknown words are spelled at ln 28 a letter");
        let base = format!("{}, {n} held-out poems", self.baseline_name);
        let own = format!(
            "{} poems, seeds 1 to {}, the moods in turn",
            self.written.poems, self.written.poems
        );
        let low = Some(Better::Lower);
        let high = Some(Better::Higher);
        let w = &self.written;
        let mut all = vec![
            Measure::new(
                "held-out loss",
                self.model.loss,
                "nats per token",
                low,
                &held,
            ),
            Measure::new(
                "held-out bits per character",
                self.model.bits_per_character,
                "",
                low,
                &held,
            ),
            Measure::new("held-out perplexity", self.model.perplexity, "", low, &held),
            Measure::new(
                "baseline loss",
                self.baseline.loss,
                "nats per token",
                low,
                &base,
            ),
            Measure::new(
                "baseline bits per character",
                self.baseline.bits_per_character,
                "",
                low,
                &base,
            ),
            Measure::new(
                "baseline perplexity",
                self.baseline.perplexity,
                "",
                low,
                &base,
            ),
            Measure::new(
                "share in 5-7-5",
                w.in_form,
                "",
                high,
                &format!("{own}, by the CMU dictionary"),
            ),
            Measure::new("distinct-1", w.distinct_1, "", high, &own),
            Measure::new("distinct-2", w.distinct_2, "", high, &own),
            Measure::new(
                "longest copied run",
                w.longest_copied_run as f64,
                "words",
                low,
                &format!("{own}, against all texts trained on"),
            ),
        ];
        if let Some(whole) = &self.model_on_whole_poems {
            let how = "the held-out poems that are whole thoughts about nature";
            all.insert(
                3,
                Measure::new("perplexity on whole poems", whole.perplexity, "", low, how),
            );
        }
        all
    }

    /// The figures for people.
    pub fn text(&self) -> String {
        let rows = self.card().into_iter();
        rows.map(|m| format!("{:<28} {:>10.4} {}\n", m.name, m.value, m.unit))
            .collect()
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
        assert_eq!(longest_run(&[1, 2, 3, 9], &[7, 2, 3, 9, 2]), 3);
        assert_eq!(longest_run(&[1], &[]), 0);
        assert_eq!(share_distinct(&["a", "b", "a", "a"]), 0.5);
    }
}
