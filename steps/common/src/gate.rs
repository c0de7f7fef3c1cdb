//! The gate of a retraining: which weights go on. It compares numbers that were
//! measured on the same held-out data, and never measures anything itself.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Which way a measure gets better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// A loss, a distance.
    Lower,
    /// An accuracy, a precision.
    Higher,
}

impl Better {
    /// By how much `a` is better than `b`; negative where it is worse.
    pub fn gain(self, a: f64, b: f64) -> f64 {
        match self {
            Better::Lower => b - a,
            Better::Higher => a - b,
        }
    }
}

/// Weights that stand already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Current {
    /// The digest of the corpus that their card says they were measured on.
    pub corpus_digest: String,
    /// Their value on the data of this gate; none where they were not measured on it.
    pub value: Option<f64>,
}

/// What the candidate must have learned, at least.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Learning {
    /// The value of the same network before training.
    pub untrained: f64,
    /// The least gain over it.
    pub margin: f64,
}

/// The question that a gate answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// What was measured, such as `held-out loss (nats per token)`.
    pub measure: String,
    /// Which way it gets better.
    pub better: Better,
    /// The digest of the corpus that the gate measured on.
    pub corpus_digest: String,
    /// The candidate's value.
    pub candidate: f64,
    /// What it must have learned; none where the candidate was not compared with an
    /// untrained network.
    pub learning: Option<Learning>,
    /// The weights that stand already, if any.
    pub current: Option<Current>,
    /// What stands in where there are none: its description and value.
    pub baseline: Baseline,
    /// A difference that counts as none.
    #[serde(default)]
    pub tolerance: f64,
}

/// A simple way to the same end, which weights must not be worse than.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// What it is, such as `interpolated Kneser-Ney trigram`.
    pub name: String,
    /// Its value on the same data.
    pub value: f64,
}

/// Which weights go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The new ones.
    Candidate,
    /// Those that stand already.
    Current,
    /// None: the step fails.
    Neither,
}

/// The answer, with its reason in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Which weights go on.
    pub choice: Choice,
    /// Whether the step succeeds.
    pub passed: bool,
    /// Why, in one sentence.
    pub reason: String,
}

/// Question and answer, as `gate.json` holds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The answer.
    #[serde(flatten)]
    pub decision: Decision,
    /// What was compared.
    pub question: Question,
}

/// Decides. A candidate that did not learn, or has no finite value, fails the gate,
/// whatever stands beside it. Current weights that were measured on another corpus are
/// kept. Else the candidate goes on where it is not worse than the current weights, or
/// than the baseline where there are none.
pub fn decide(q: &Question) -> Decision {
    let no = |choice, reason| Decision {
        choice,
        passed: false,
        reason,
    };
    let yes = |choice, reason| Decision {
        choice,
        passed: true,
        reason,
    };
    let not_worse = |than: f64| q.better.gain(q.candidate, than) >= -q.tolerance;
    let measure = &q.measure;
    if !q.candidate.is_finite() {
        return no(
            Choice::Neither,
            format!("the candidate's {measure} is not a number"),
        );
    }
    if let Some(learning) = &q.learning {
        let gain = q.better.gain(q.candidate, learning.untrained);
        if gain.is_nan() || gain < learning.margin {
            return no(
                Choice::Neither,
                format!(
                    "training bettered the {measure} by {gain:.4} ({:.4} untrained, {:.4} trained); \
                     at least {} was asked for",
                    learning.untrained, q.candidate, learning.margin
                ),
            );
        }
    }
    match &q.current {
        Some(current) if current.corpus_digest != q.corpus_digest => yes(
            Choice::Current,
            format!(
                "the current weights were measured on another corpus ({}) than this one ({}): kept",
                short(&current.corpus_digest),
                short(&q.corpus_digest)
            ),
        ),
        Some(Current {
            value: Some(value), ..
        }) if value.is_finite() => {
            if not_worse(*value) {
                yes(
                    Choice::Candidate,
                    format!(
                        "the candidate's {measure} of {:.4} is not worse than the current {value:.4}",
                        q.candidate
                    ),
                )
            } else {
                yes(
                    Choice::Current,
                    format!(
                        "the candidate's {measure} of {:.4} is worse than the current {value:.4}: \
                         the current weights are kept",
                        q.candidate
                    ),
                )
            }
        }
        Some(_) => yes(
            Choice::Candidate,
            format!("the current weights have no finite {measure} on this data"),
        ),
        None => {
            let Baseline { name, value } = &q.baseline;
            if not_worse(*value) {
                yes(
                    Choice::Candidate,
                    format!(
                        "there are no current weights, and the candidate's {measure} of {:.4} is \
                         not worse than the baseline's {value:.4} ({name})",
                        q.candidate
                    ),
                )
            } else {
                no(
                    Choice::Neither,
                    format!(
                        "there are no current weights, and the candidate's {measure} of {:.4} is \
                         worse than the baseline's {value:.4} ({name})",
                        q.candidate
                    ),
                )
            }
        }
    }
}

/// The folder of weights that stand; none where it is empty, which is how a pipeline,
/// whose inputs always have a path, says that there are none.
pub fn standing(current: Option<&Path>) -> Option<&Path> {
    current.filter(|folder| {
        // A folder that cannot be read is an error of those who read it.
        !std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
    })
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question {
            measure: "loss".to_owned(),
            better: Better::Lower,
            corpus_digest: "c1".to_owned(),
            candidate: 4.0,
            learning: None,
            current: None,
            baseline: Baseline {
                name: "n-gram".to_owned(),
                value: 4.5,
            },
            tolerance: 0.0,
        }
    }

    fn current(digest: &str, value: f64) -> Option<Current> {
        Some(Current {
            corpus_digest: digest.to_owned(),
            value: Some(value),
        })
    }

    fn answer(q: &Question) -> (Choice, bool) {
        let decision = decide(q);
        (decision.choice, decision.passed)
    }

    #[test]
    fn an_empty_folder_holds_no_weights() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(standing(Some(path)), None);
        assert_eq!(standing(None), None);
        let missing = path.join("missing");
        assert_eq!(standing(Some(&missing)), Some(missing.as_path()));
        std::fs::write(path.join("card.json"), "{}").unwrap();
        assert_eq!(standing(Some(path)), Some(path));
    }

    #[test]
    fn without_current_weights_the_baseline_decides() {
        let mut q = question();
        assert_eq!(answer(&q), (Choice::Candidate, true));
        q.candidate = 4.6;
        assert_eq!(answer(&q), (Choice::Neither, false));
        q.better = Better::Higher;
        assert_eq!(answer(&q), (Choice::Candidate, true));
    }

    #[test]
    fn the_better_of_candidate_and_current_goes_on_and_a_tie_is_the_candidates() {
        let mut q = question();
        for (value, choice) in [
            (3.9, Choice::Current),
            (4.0, Choice::Candidate),
            (4.1, Choice::Candidate),
        ] {
            q.current = current("c1", value);
            assert_eq!(answer(&q), (choice, true), "{value}");
        }
        q.current = current("c1", 3.9);
        q.tolerance = 0.2;
        assert_eq!(answer(&q), (Choice::Candidate, true));
        q.tolerance = 0.0;
        q.better = Better::Higher;
        assert_eq!(answer(&q), (Choice::Candidate, true));
    }

    #[test]
    fn weights_measured_on_another_corpus_are_kept_and_that_is_said() {
        let mut q = question();
        q.current = current("c2", 9.0);
        assert_eq!(answer(&q), (Choice::Current, true));
        assert!(
            decide(&q).reason.contains("another corpus"),
            "{}",
            decide(&q).reason
        );
    }

    #[test]
    fn a_candidate_that_did_not_learn_fails_whatever_else_is_true() {
        let mut q = question();
        q.current = current("c2", 9.0);
        q.learning = Some(Learning {
            untrained: 4.5,
            margin: 1.0,
        });
        assert_eq!(answer(&q), (Choice::Neither, false));
        q.learning = Some(Learning {
            untrained: 5.0,
            margin: 1.0,
        });
        assert_eq!(answer(&q), (Choice::Current, true));
        q.learning = Some(Learning {
            untrained: f64::NAN,
            margin: 1.0,
        });
        assert_eq!(answer(&q), (Choice::Neither, false));
        q.candidate = f64::NAN;
        assert_eq!(answer(&q), (Choice::Neither, false));
    }

    #[test]
    fn current_weights_without_a_value_give_way() {
        let mut q = question();
        q.current = current("c1", f64::NAN);
        assert_eq!(answer(&q), (Choice::Candidate, true));
    }

    #[test]
    fn a_record_reads_flat() {
        let q = question();
        let json = serde_json::to_value(Record {
            decision: decide(&q),
            question: q,
        })
        .unwrap();
        assert_eq!(json["choice"], "candidate");
        assert_eq!(json["question"]["baseline"]["value"], 4.5);
    }
}
