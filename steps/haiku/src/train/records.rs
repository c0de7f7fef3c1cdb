//! What of the data is trained on, as numbers. Never trains.

use std::collections::HashMap;

use crate::config::Config;
use crate::data::{Data, Record};
use crate::spelling::Spelling;
use crate::vocab::{Encoded, UNKNOWN_WORD, Vocab};

/// The vocabulary and the settings that data and budget give.
pub fn vocabulary(data: &Data, config: &Config) -> (Vocab, Config) {
    let records = data.train.iter().chain(&data.verse);
    let vocab = Vocab::build(
        records,
        &data.names,
        config.model.vocab as usize,
        config.training.at_least,
    );
    let mut config = config.clone();
    config.model.vocab = vocab.len() as i64;
    (vocab, config)
}

/// Numbers of all records of a part of the data, with what spelling unknown words costs.
pub fn encode(records: &[Record], vocab: &Vocab, spelling: &Spelling) -> Vec<Encoded> {
    let records = records.iter();
    records.map(|r| spelling.encode(r, vocab)).collect()
}

/// Numbers of the poems and the verse to train on. Of the words that were seen once, every
/// second is written as unknown: else a model of a small corpus would never meet one, and
/// would be lost at the first held-out word that is new.
pub fn encode_training(data: &Data, vocab: &Vocab) -> (Vec<Encoded>, Vec<Encoded>) {
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for word in data.train.iter().chain(&data.verse).flat_map(|r| r.words()) {
        *counts.entry(word).or_default() += 1;
    }
    let mut rare = 0u64;
    let mut encode = |record: &Record| {
        let mut record = record.clone();
        for token in record.lines.iter_mut().flatten() {
            if counts.get(token.as_str()) == Some(&1) {
                rare += 1;
                if rare.is_multiple_of(2) {
                    *token = UNKNOWN_WORD.to_owned();
                }
            }
        }
        vocab.encode(&record)
    };
    let poems = data.train.iter().map(&mut encode).collect();
    (poems, data.verse.iter().map(&mut encode).collect())
}

/// The logarithm of each token's share, smoothed by one.
pub(super) fn frequencies<'r>(records: impl Iterator<Item = &'r Encoded>, vocab: i64) -> Vec<f32> {
    let mut counts = vec![1f32; vocab as usize];
    for &token in records.flat_map(|r| &r.numbers[1..]) {
        counts[token as usize] += 1.0;
    }
    let total: f32 = counts.iter().sum();
    counts.iter().map(|count| (count / total).ln()).collect()
}
