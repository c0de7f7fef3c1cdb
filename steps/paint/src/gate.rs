//! Which weights go on after a training: measured on the same held-out scenes, decided
//! by the rule that all models of the project share.

use std::path::Path;

use anyhow::bail;
use auria_steps_common::card::Card;
use auria_steps_common::files;
use auria_steps_common::gate::{
    self, Baseline, Better, Choice, Current, Learning, Question, Record,
};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::artist::Artist;
use crate::data::{Data, Gallery};
use crate::evaluate::{self, Measured, Quick};

/// By how much training must better the matching loss, in nats.
const MATCHING_MARGIN: f64 = 0.5;
/// By how much training must better the picture error.
const ERROR_MARGIN: f64 = 0.005;

/// What `gate.json` holds: the decision by picture error, and that on matching.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The decision, and the question about the generator.
    #[serde(flatten)]
    pub picture: Record,
    /// The question about text and image encoder: they too must have learned.
    pub matching: Record,
}

/// Measures candidate and current, decides, and writes `gate.json` and, where weights
/// go on, their files into `out`.
pub fn run(
    candidate: &Path,
    current: Option<&Path>,
    data: &Data,
    out: &Path,
    device: Device,
) -> anyhow::Result<Verdict> {
    let corpus_digest = data.summary.digest.clone();
    let artist = Artist::read(candidate, device)?;
    let trained_on = Card::read(candidate)?.data.corpus_digest;
    if trained_on != corpus_digest {
        bail!(
            "the candidate's card names other data ({trained_on}) than this ({corpus_digest}); evaluate it on its own"
        );
    }
    let mut gallery = Gallery::new(&data.held_out, artist.config.last_side());
    let new = Measured::quick_in(&artist, &mut gallery);
    let untrained = Measured::quick_in(&evaluate::untrained(&artist), &mut gallery);
    let standing = match current {
        Some(dir) => Some(measure_current(dir, data, device)?),
        None => None,
    };
    let question = |measure: &str, pick: fn(&Quick) -> f64, margin: f64| Question {
        measure: measure.to_owned(),
        better: Better::Lower,
        corpus_digest: corpus_digest.clone(),
        candidate: pick(&new),
        learning: Some(Learning {
            untrained: pick(&untrained),
            margin,
        }),
        current: standing.as_ref().map(|(digest, value)| Current {
            corpus_digest: digest.clone(),
            value: value.as_ref().map(pick),
        }),
        baseline: Baseline {
            name: "the same network before training".to_owned(),
            value: pick(&untrained),
        },
        tolerance: 0.0,
    };
    let record = |question: Question| Record {
        decision: gate::decide(&question),
        question,
    };
    let mut picture = record(question(
        "held-out picture error",
        |q| q.picture_error,
        ERROR_MARGIN,
    ));
    let matching = record(question(
        "held-out matching loss",
        |q| q.matching_loss,
        MATCHING_MARGIN,
    ));
    if !matching.decision.passed {
        // A generator is no better than the words that it understands.
        picture.decision = matching.decision.clone();
    }
    let chosen = match picture.decision.choice {
        Choice::Candidate => Some(candidate),
        Choice::Current => current,
        Choice::Neither => None,
    };
    if let Some(from) = chosen {
        files::copy_dir(from, out)?;
    }
    let verdict = Verdict { picture, matching };
    files::write_json(&out.join("gate.json"), &verdict)?;
    Ok(verdict)
}

/// The digest on the current weights' card, and their losses where that is this data.
fn measure_current(
    dir: &Path,
    data: &Data,
    device: Device,
) -> anyhow::Result<(String, Option<Quick>)> {
    let digest = Card::read(dir)?.data.corpus_digest;
    if digest != data.summary.digest {
        return Ok((digest, None));
    }
    let artist = Artist::read(dir, device)?;
    Ok((digest, Some(Measured::quick(&artist, data))))
}
