//! The baseline: an interpolated modified Kneser-Ney 5-gram (Chen and Goodman 1999, equation
//! 21: three discounts an order) over the same tokens, counted as KenLM counts (Heafield et
//! al. 2013): what begins with a record's beginning keeps its own count at every order.

use std::collections::HashMap;

use crate::vocab::{Encoded, Vocab};

/// What the baseline is, for reports.
pub const NAME: &str = "interpolated modified Kneser-Ney 5-gram over the same tokens";

/// Tokens of the longest n-gram.
const ORDER: usize = 5;
/// Bits of a token in a key: five fit.
const BITS: usize = 21;
/// A beginning or the end of a record, which is never predicted or never a context alone.
const NEVER_PREDICTED: f64 = 3.0;

/// What was seen after a context.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct After {
    /// All of it.
    total: u64,
    /// Kinds of tokens that were seen once, twice, and more often.
    kinds: [u32; 3],
}

/// The n-grams of one length.
#[derive(Debug, Default)]
struct Order {
    /// How often each was seen; below the longest, after how many tokens.
    counts: HashMap<u128, u32>,
    /// By all tokens but the last.
    after: HashMap<u128, After>,
    /// Of what was seen once, twice, and more often.
    discounts: [f64; 3],
}

/// The model.
#[derive(Debug)]
pub struct Ngram {
    /// From one token to five.
    orders: [Order; ORDER],
    /// Tokens that may follow.
    choices: f64,
}

fn key(tokens: &[i64]) -> u128 {
    let bits = |&token: &i64| u128::try_from(token).unwrap_or(0);
    tokens
        .iter()
        .fold(0, |key, token| key << BITS | bits(token))
}

impl Ngram {
    /// Counts the records.
    pub fn train<'a>(records: impl Iterator<Item = &'a Encoded>, vocab: &Vocab) -> Self {
        let choices = vocab.len() as f64 - NEVER_PREDICTED;
        Self::of(records.map(|record| record.numbers.as_slice()), choices)
    }

    /// Counts sequences, each with a beginning that is never predicted; one of `choices`
    /// tokens may follow.
    pub fn of<'a>(sequences: impl Iterator<Item = &'a [i64]>, choices: f64) -> Self {
        let mut seen: [HashMap<u128, u32>; ORDER] = Default::default();
        for numbers in sequences {
            for end in 1..numbers.len() {
                let longest = ORDER.min(end + 1);
                // What reaches back to the beginning is whole there: it counts as often as it
                // is said, whatever its length.
                let window = &numbers[end + 1 - longest..=end];
                *seen[longest - 1].entry(key(window)).or_default() += 1;
            }
        }
        let mut orders: [Order; ORDER] = Default::default();
        let mut longer: Option<HashMap<u128, u32>> = None;
        for (place, own) in seen.into_iter().enumerate().rev() {
            let mut counts = own;
            let mask = (1_u128 << (BITS * (place + 1))) - 1;
            for ngram in longer.iter().flat_map(HashMap::keys) {
                *counts.entry(ngram & mask).or_default() += 1;
            }
            orders[place] = Order::of(counts);
            longer = Some(orders[place].counts.clone());
        }
        Self { orders, choices }
    }

    /// The probability of `next` after the last tokens of a record.
    pub fn probability(&self, context: &[i64], next: i64) -> f64 {
        let mut probability = 1.0 / self.choices;
        let longest = (ORDER - 1).min(context.len());
        for (length, order) in (0..=longest).zip(&self.orders) {
            let context = &context[context.len() - length..];
            let Some(after) = order.after.get(&key(context)) else {
                // Nor was any longer one.
                break;
            };
            let ngram = key(context) << BITS | key(&[next]);
            probability = order.level(ngram, after, probability);
        }
        probability
    }

    /// The loss of a record in nats, without the spelling of unknown words.
    pub fn nats(&self, record: &Encoded) -> f64 {
        let numbers = &record.numbers;
        (1..numbers.len())
            .map(|end| -self.probability(&numbers[..end], numbers[end]).ln())
            .sum()
    }
}

/// Which discount a count takes.
fn class(count: u32) -> usize {
    count.clamp(1, 3) as usize - 1
}

impl Order {
    fn of(counts: HashMap<u128, u32>) -> Self {
        let mut after: HashMap<u128, After> = HashMap::new();
        let mut seen = [0.0; 4];
        for (ngram, &count) in &counts {
            let after = after.entry(ngram >> BITS).or_default();
            after.total += u64::from(count);
            after.kinds[class(count)] += 1;
            if let Some(seen) = seen.get_mut(count as usize - 1) {
                *seen += 1.0;
            }
        }
        Self {
            counts,
            after,
            discounts: discounts(seen),
        }
    }

    fn level(&self, ngram: u128, after: &After, lower: f64) -> f64 {
        let count = self.counts.get(&ngram).copied().unwrap_or(0);
        let left = match count {
            0 => 0.0,
            count => f64::from(count) - self.discounts[class(count)],
        };
        let kinds = after.kinds.iter().zip(self.discounts);
        let freed: f64 = kinds.map(|(&kinds, d)| f64::from(kinds) * d).sum();
        (left + freed * lower) / after.total as f64
    }
}

/// Chen and Goodman's estimate, from how many n-grams were seen once, twice, three and four
/// times. Where too few were, KenLM's stand-ins.
fn discounts(seen: [f64; 4]) -> [f64; 3] {
    let [one, two, three, four] = seen;
    let y = one / (one + 2.0 * two);
    let found = [
        1.0 - 2.0 * y * two / one,
        2.0 - 3.0 * y * three / two,
        3.0 - 4.0 * y * four / three,
    ];
    let most = [1.0, 2.0, 3.0];
    let fits = |(d, most): (&f64, f64)| (0.0..=most).contains(d);
    if found.iter().zip(most).all(fits) {
        found
    } else {
        [0.5, 1.0, 1.5]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Record;

    fn encoded(lines: &[&str]) -> (Vocab, Vec<Encoded>) {
        let records: Vec<Record> = lines
            .iter()
            .map(|l| Record::parse(&format!("poem\t{l}")).unwrap())
            .collect();
        let vocab = Vocab::build(records.iter(), &[], 100, 1);
        let encoded = records.iter().map(|r| vocab.encode(r)).collect();
        (vocab, encoded)
    }

    #[test]
    fn probabilities_add_up_to_one_and_seen_things_are_likelier() {
        let (vocab, encoded) = encoded(&[
            "the moon / the pond / rests",
            "the moon / a pond / sleeps",
            "the moon / the pond / sleeps again",
        ]);
        let ngram = Ngram::train(encoded.iter(), &vocab);
        let predicted = || (0..vocab.len() as i64).filter(|t| !(3..6).contains(t));
        let of = |w: &str| vocab.number(w).unwrap();
        let contexts: [&[i64]; 6] = [
            &[3],
            &[3, of("the")],
            &[3, of("the"), of("moon"), 1],
            &[3, of("the"), of("moon"), 1, of("the")],
            &[of("again"), of("again"), of("again"), of("moon")],
            &[],
        ];
        for context in contexts {
            let sum: f64 = predicted().map(|w| ngram.probability(context, w)).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{context:?}: {sum}");
        }
        let after_the = |w| ngram.probability(&[3, of("the")], of(w));
        assert!(after_the("moon") > after_the("pond") && after_the("pond") > after_the("sleeps"));
        assert!(ngram.nats(&encoded[0]) < 7.0 * (vocab.len() as f64).ln());
    }

    #[test]
    fn counts_below_the_longest_are_of_what_stands_before() {
        let (vocab, encoded) = encoded(&["a moon / a moon / a moon", "one moon / two / one pond"]);
        let ngram = Ngram::train(encoded.iter(), &vocab);
        let of = |w: &str| vocab.number(w).unwrap();
        let count = |tokens: &[i64]| ngram.orders[tokens.len() - 1].counts.get(&key(tokens));
        // Said four times: after `a`, after `one`.
        assert_eq!(count(&[of("moon")]), Some(&2));
        // Said three times: after a beginning, after a line's end.
        assert_eq!(count(&[of("a"), of("moon")]), Some(&2));
        // What begins a record counts as often as it is said.
        assert_eq!(count(&[3, of("a")]), Some(&1));
        assert_eq!(count(&[3, of("a"), of("moon"), 1]), Some(&1));
        // The longest, too.
        assert_eq!(
            count(&[of("a"), of("moon"), 1, of("a"), of("moon")]),
            Some(&2)
        );
    }

    /// KenLM 0.3.0 on the same text: `lmplz -o 5 --discount_fallback` of the first 200 poems
    /// of the project's own corpus, a poem a line, then `query -v summary` of the other 64.
    #[test]
    fn the_figures_are_those_of_kenlm() {
        const TOKENS: usize = 1149;
        const PERPLEXITY: f64 = 122.972081528727;
        const WITHOUT_UNKNOWN: f64 = 66.7316848096911;
        let poems = include_str!("../corpus/haiku.txt").lines();
        let poems: Vec<&str> = poems.filter(|l| !l.starts_with('#')).collect();
        let (train, held_out) = poems.split_at(200);
        let (unknown, end, begin) = (0, 1, 2);
        let mut numbers: HashMap<&str, i64> = HashMap::new();
        for word in train.iter().flat_map(|poem| poem.split(' ')) {
            let next = numbers.len() as i64 + 3;
            numbers.entry(word).or_insert(next);
        }
        let encode = |poems: &[&str]| -> Vec<Vec<i64>> {
            let number = |word: &str| numbers.get(word).copied().unwrap_or(unknown);
            let poem = |poem: &&str| {
                let words = poem.split(' ').map(number);
                [begin].into_iter().chain(words).chain([end]).collect()
            };
            poems.iter().map(poem).collect()
        };
        let train = encode(train);
        let choices = numbers.len() as f64 + 2.0;
        let ngram = Ngram::of(train.iter().map(Vec::as_slice), choices);
        let (mut all, mut known) = (Vec::new(), Vec::new());
        for poem in encode(held_out) {
            for at in 1..poem.len() {
                let nats = -ngram.probability(&poem[..at], poem[at]).ln();
                all.push(nats);
                if poem[at] != unknown {
                    known.push(nats);
                }
            }
        }
        let perplexity = |nats: &[f64]| (nats.iter().sum::<f64>() / nats.len() as f64).exp();
        assert_eq!(all.len(), TOKENS);
        let off = |found: f64, theirs: f64| (found / theirs - 1.0).abs();
        assert!(
            off(perplexity(&all), PERPLEXITY) < 1e-5,
            "{}",
            perplexity(&all)
        );
        let known = perplexity(&known);
        assert!(off(known, WITHOUT_UNKNOWN) < 1e-5, "{known}");
    }

    #[test]
    fn discounts_are_chen_and_goodmans() {
        // n1 .. n4 = 100, 40, 20, 12: Y = 100 / 180.
        let [one, two, more] = discounts([100.0, 40.0, 20.0, 12.0]);
        assert!((one - 5.0 / 9.0).abs() < 1e-12, "{one}");
        assert!((two - (2.0 - 5.0 / 6.0)).abs() < 1e-12, "{two}");
        assert!((more - (3.0 - 4.0 / 3.0)).abs() < 1e-12, "{more}");
        assert_eq!(discounts([1.0, 0.0, 0.0, 0.0]), [0.5, 1.0, 1.5]);
    }
}
