//! The gate of a retraining: measures candidate and current weights on the same held-out
//! data, asks `auria_steps_common::gate` which go on, and writes those.

use std::path::Path;

use auria_steps_common::card::Card;
use auria_steps_common::files;
use auria_steps_common::gate::{
    self, Baseline, Better, Choice, Current, Learning, Question, Record,
};
use tch::Device;

use crate::artifact::Artifact;
use crate::data::Data;
use crate::evaluate::{self, Measures};
use crate::loss;
use crate::spelling::Spelling;
use crate::train;
use crate::writer::WriteError;

/// The least that training must better the held-out loss, in nats per token, over the
/// same network before its first step, which knows the frequencies of words and nothing
/// else.
pub const MARGIN: f64 = 0.3;
/// What is compared.
pub const MEASURE: &str = "held-out loss (nats per token)";

/// Decides which weights go on and writes them with `gate.json` into `out`. Where none do,
/// only `gate.json` is written.
pub fn gate(
    candidate: &Path,
    current: Option<&Path>,
    data: &Data,
    poems: u64,
    out: &Path,
    device: Device,
) -> Result<Record, WriteError> {
    let measures = evaluate::evaluate(candidate, data, poems, device)?;
    let card = Card::read(candidate)?;
    let question = Question {
        measure: MEASURE.to_owned(),
        better: Better::Lower,
        corpus_digest: data.report.corpus_digest.clone(),
        candidate: measures.model.loss,
        learning: Some(Learning {
            untrained: untrained(candidate, card.training.seed, data, device)?,
            margin: MARGIN,
        }),
        current: current
            .map(|folder| standing(folder, data, device))
            .transpose()?,
        baseline: Baseline {
            name: measures.baseline_name.clone(),
            value: measures.baseline.loss,
        },
        tolerance: 0.0,
    };
    let decision = gate::decide(&question);
    match (decision.choice, current) {
        (Choice::Candidate, _) => {
            files::copy_dir(candidate, out)?;
            with_measures(card, &measures).write(out)?;
        }
        (Choice::Current, Some(current)) => files::copy_dir(current, out)?,
        _ => {}
    }
    let record = Record { decision, question };
    files::write_json(&out.join("gate.json"), &record)?;
    Ok(record)
}

/// The loss of the candidate's network as it was before its first step.
fn untrained(candidate: &Path, seed: u64, data: &Data, device: Device) -> Result<f64, WriteError> {
    let Artifact { config, vocab, .. } = Artifact::read(candidate, device)?;
    let (poems, verse) = train::encode_training(data, &vocab);
    let model = train::untrained(&config, poems.iter().chain(&verse), seed, device);
    let spelling = Spelling::learn(data, &vocab);
    let held_out = train::encode(&data.held_out, &vocab, &spelling);
    Ok(loss::of_model(held_out.iter(), &model).per_token())
}

/// The weights that stand: measured here where their card is about this corpus.
fn standing(folder: &Path, data: &Data, device: Device) -> Result<Current, WriteError> {
    let corpus_digest = Card::read(folder)?.data.corpus_digest;
    let value = if corpus_digest == data.report.corpus_digest {
        let artifact = Artifact::read(folder, device)?;
        let spelling = Spelling::learn(data, &artifact.vocab);
        let held_out = train::encode(&data.held_out, &artifact.vocab, &spelling);
        Some(loss::of_model(held_out.iter(), &artifact.model).per_token())
    } else {
        None
    };
    Ok(Current {
        corpus_digest,
        value,
    })
}

/// The card with what was measured here; figures of the same name give way.
fn with_measures(mut card: Card, measures: &Measures) -> Card {
    let new = measures.card();
    card.measures
        .retain(|old| !new.iter().any(|m| m.name == old.name));
    card.measures.splice(0..0, new);
    card.works.clone_from(&measures.written.printed);
    card
}
