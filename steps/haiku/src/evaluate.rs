//! Measures weights on held-out poems, beside the baseline, and on poems that they write.
//! Never looks at the card: what it reports it has measured.

use std::path::Path;

use auria_steps_common::card::Measure;
use auria_steps_common::gate::Better;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::artifact::Artifact;
use crate::data::{Data, Kind};
use crate::loss::{self, Loss};
use crate::ngram::{self, Ngram};
use crate::spelling::{self, Spelling};
use crate::train;
use crate::vocab::{self, Vocab};
use crate::writer::WriteError;
use crate::written::{self, Written};

/// What held-out poems cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Nats per token; an unknown word is spelled, so that every character has a probability.
    pub loss: f64,
    /// Bits per printed character.
    pub bits_per_character: f64,
    /// The perplexity of a token, spelling included.
    pub perplexity: f64,
    /// 2 to the power of all bits divided by the number of words.
    pub perplexity_of_word: f64,
}

impl From<Loss> for Cost {
    fn from(loss: Loss) -> Self {
        Self {
            loss: loss.per_token(),
            bits_per_character: loss.bits_per_character(),
            perplexity: loss.perplexity(),
            perplexity_of_word: loss.perplexity_of_word(),
        }
    }
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
    let spelling = Spelling::learn(data, vocab);
    let held_out = train::encode(&data.held_out, vocab, &spelling);
    let whole = held_out.iter().filter(|r| r.kind == Kind::Poem);
    let on_whole = loss::of_model(whole, &artifact.model);
    let (baseline_name, baseline) = baseline(data, vocab);
    let words: u64 = held_out.iter().map(|r| r.words).sum();
    let unknown = held_out.iter().flat_map(|r| &r.numbers);
    let unknown = unknown.filter(|&&t| t == vocab::UNKNOWN).count();
    Ok(Measures {
        corpus_digest: data.report.corpus_digest.clone(),
        weights_digest: Artifact::digest(weights)?,
        held_out_poems: held_out.len() as u64,
        model: loss::of_model(held_out.iter(), &artifact.model).into(),
        model_on_whole_poems: (on_whole.tokens > 0).then(|| on_whole.into()),
        unknown_words: unknown as f64 / words.max(1) as f64,
        baseline_name,
        baseline,
        written: written::measure(weights, data, poems)?,
    })
}

/// The baseline: the best of four, so that no choice of words or of text is what beats it.
/// It has the network's vocabulary or all words of the training text, and was taught by
/// all that the network was or by poems alone. What a vocabulary lacks is spelled.
fn baseline(data: &Data, vocab: &Vocab) -> (String, Cost) {
    let training = data.train.iter().chain(&data.verse);
    let all_words = Vocab::build(training, &data.names, usize::MAX, 1);
    let mut found: Vec<(String, Loss)> = Vec::new();
    for (words, vocab) in [("the network's words", vocab), ("all words", &all_words)] {
        let spelling = Spelling::learn(data, vocab);
        let held_out = train::encode(&data.held_out, vocab, &spelling);
        let (poems, verse) = train::encode_training(data, vocab);
        let with_verse = Ngram::train(poems.iter().chain(&verse), vocab);
        let poems_alone = Ngram::train(poems.iter(), vocab);
        for (text, ngram) in [("poems and verse", with_verse), ("poems", poems_alone)] {
            let name = format!("{}, of {words}, trained on {text}", ngram::NAME);
            found.push((name, loss::of_each(held_out.iter(), |r| ngram.nats(r))));
        }
    }
    let best = found
        .into_iter()
        .min_by(|a, b| a.1.nats.total_cmp(&b.1.nats));
    let (name, loss) = best.unwrap_or_default();
    (name, loss.into())
}

impl Measures {
    /// The share of bits that the network needs less than the baseline.
    pub fn fewer_bits(&self) -> f64 {
        1.0 - self.model.bits_per_character / self.baseline.bits_per_character
    }

    /// The figures for a card.
    pub fn card(&self) -> Vec<Measure> {
        let n = self.held_out_poems;
        let held = format!("{n} held-out poems; {}", spelling::NAME);
        let base = format!("{}; {n} held-out poems", self.baseline_name);
        let low = Some(Better::Lower);
        let cost = |of: &str, cost: &Cost, how: &str| {
            let measure = |name: &str, value, unit| {
                Measure::new(&format!("{of} {name}"), value, unit, low, how)
            };
            [
                measure("loss", cost.loss, "nats per token"),
                measure("bits per character", cost.bits_per_character, ""),
                measure("perplexity", cost.perplexity, ""),
                measure("2^(bits/words)", cost.perplexity_of_word, ""),
            ]
        };
        let mut all = Vec::from(cost("held-out", &self.model, &held));
        if let Some(whole) = &self.model_on_whole_poems {
            let how = "the held-out poems that are whole thoughts about nature";
            let value = whole.perplexity;
            all.push(Measure::new(
                "perplexity on whole poems",
                value,
                "",
                low,
                how,
            ));
        }
        all.extend(cost("baseline", &self.baseline, &base));
        all.push(Measure::new(
            "fewer bits than the baseline",
            self.fewer_bits(),
            "",
            Some(Better::Higher),
            "1 − held-out bits / baseline bits",
        ));
        all.extend(self.written.card());
        all
    }

    /// The figures for people.
    pub fn text(&self) -> String {
        let rows = self.card().into_iter();
        rows.map(|m| format!("{:<38} {:>10.4} {}\n", m.name, m.value, m.unit))
            .collect()
    }
}
