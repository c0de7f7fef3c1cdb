//! The baseline: an interpolated Kneser-Ney trigram model (Kneser and Ney 1995; Chen and
//! Goodman 1999, interpolated form, one discount an order) over the same tokens.

use std::collections::HashMap;

use crate::vocab::{Encoded, Vocab};

/// What the baseline is, for reports.
pub const NAME: &str = "interpolated Kneser-Ney trigram over the same tokens";

/// How often things were seen after a context.
#[derive(Debug, Default, Clone, Copy)]
struct After {
    total: u32,
    kinds: u32,
}

/// The model.
#[derive(Debug)]
pub struct Ngram {
    trigrams: HashMap<u64, u32>,
    after_two: HashMap<u64, After>,
    /// In how many contexts a bigram was seen.
    bigrams: HashMap<u64, u32>,
    after_one: HashMap<u64, After>,
    /// In how many contexts a token was seen.
    unigrams: HashMap<u64, u32>,
    after_none: After,
    discounts: [f64; 3],
    choices: f64,
}

fn key(tokens: &[i64]) -> u64 {
    tokens.iter().fold(0, |key, &t| key << 21 | t as u64)
}

impl Ngram {
    /// Counts the records.
    pub fn train<'a>(records: impl Iterator<Item = &'a Encoded>, vocab: &Vocab) -> Self {
        let mut trigrams: HashMap<u64, u32> = HashMap::new();
        for record in records {
            for window in padded(record).windows(3) {
                *trigrams.entry(key(window)).or_default() += 1;
            }
        }
        let mut bigrams: HashMap<u64, u32> = HashMap::new();
        let mut after_two: HashMap<u64, After> = HashMap::new();
        for (trigram, count) in &trigrams {
            *bigrams.entry(trigram & LAST_TWO).or_default() += 1;
            let after = after_two.entry(trigram >> 21).or_default();
            after.total += count;
            after.kinds += 1;
        }
        let mut unigrams: HashMap<u64, u32> = HashMap::new();
        let mut after_one: HashMap<u64, After> = HashMap::new();
        for (bigram, count) in &bigrams {
            *unigrams.entry(bigram & LAST_ONE).or_default() += 1;
            let after = after_one.entry(bigram >> 21).or_default();
            after.total += count;
            after.kinds += 1;
        }
        let after_none = After {
            total: unigrams.values().sum(),
            kinds: unigrams.len() as u32,
        };
        let discounts = [discount(&unigrams), discount(&bigrams), discount(&trigrams)];
        // The beginnings of records are never predicted.
        let choices = vocab.len() as f64 - 3.0;
        Self {
            trigrams,
            after_two,
            bigrams,
            after_one,
            unigrams,
            after_none,
            discounts,
            choices,
        }
    }

    /// The probability of `w` after `u v`.
    pub fn probability(&self, u: i64, v: i64, w: i64) -> f64 {
        let [d1, d2, d3] = self.discounts;
        let uniform = 1.0 / self.choices;
        let one = level(
            count(&self.unigrams, key(&[w])),
            Some(&self.after_none),
            d1,
            uniform,
        );
        let two = level(
            count(&self.bigrams, key(&[v, w])),
            self.after_one.get(&key(&[v])),
            d2,
            one,
        );
        level(
            count(&self.trigrams, key(&[u, v, w])),
            self.after_two.get(&key(&[u, v])),
            d3,
            two,
        )
    }

    /// The loss of a record in nats, without the spelling of unknown words.
    pub fn nats(&self, record: &Encoded) -> f64 {
        padded(record)
            .windows(3)
            .map(|w| -self.probability(w[0], w[1], w[2]).ln())
            .sum()
    }
}

const LAST_ONE: u64 = (1 << 21) - 1;
const LAST_TWO: u64 = (1 << 42) - 1;

/// The beginning stands twice, so that the first word has two tokens before it.
fn padded(record: &Encoded) -> Vec<i64> {
    let mut all = vec![record.numbers[0]];
    all.extend(&record.numbers);
    all
}

fn count(counts: &HashMap<u64, u32>, key: u64) -> f64 {
    f64::from(counts.get(&key).copied().unwrap_or(0))
}

fn level(count: f64, after: Option<&After>, discount: f64, lower: f64) -> f64 {
    match after {
        Some(after) if after.total > 0 => {
            let (total, kinds) = (f64::from(after.total), f64::from(after.kinds));
            ((count - discount).max(0.0) + discount * kinds * lower) / total
        }
        _ => lower,
    }
}

/// n1 / (n1 + 2 n2), where n1 and n2 count what was seen once and twice.
fn discount(counts: &HashMap<u64, u32>) -> f64 {
    let seen = |n: u32| counts.values().filter(|&&c| c == n).count() as f64;
    let (n1, n2) = (seen(1), seen(2));
    if n1 > 0.0 { n1 / (n1 + 2.0 * n2) } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Record;

    #[test]
    fn probabilities_add_up_to_one_and_seen_things_are_likelier() {
        let records: Vec<Record> = ["the moon / the pond / rests", "the moon / a pond / sleeps"]
            .iter()
            .map(|l| Record::parse(&format!("poem\t{l}")).unwrap())
            .collect();
        let vocab = Vocab::build(records.iter(), &[], 100, 1);
        let encoded: Vec<_> = records.iter().map(|r| vocab.encode(r)).collect();
        let ngram = Ngram::train(encoded.iter(), &vocab);
        let predicted = || (0..vocab.len() as i64).filter(|t| !(3..6).contains(t));
        for (u, v) in [(3, 3), (3, 13), (13, 14), (19, 19)] {
            let sum: f64 = predicted().map(|w| ngram.probability(u, v, w)).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{u} {v}: {sum}");
        }
        let of = |w: &str| vocab.number(w).unwrap();
        let after_the = |w| ngram.probability(3, of("the"), of(w));
        assert!(after_the("moon") > after_the("pond") && after_the("pond") > after_the("sleeps"));
        assert!(ngram.nats(&encoded[0]) < 7.0 * (vocab.len() as f64).ln());
    }
}
