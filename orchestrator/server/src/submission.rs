//! What is submitted over HTTP, and who makes a run of it. It plans nothing itself: that
//! needs this machine's programs and images, and is the [`Planner`]'s.

use crate::problem::Refusal;
use async_trait::async_trait;
use auria_core::plan::Executable;
use auria_core::{Digest, Nonce, RunId, Timestamp};
use auria_store::runs::RunJson;
use auria_store::{Store, snapshot};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Where a pipeline's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// One document, which names no other file.
    Text(String),
    /// A folder that was brought to the store as a snapshot.
    Snapshot {
        /// Which.
        digest: Digest,
        /// The pipeline file in it.
        file: String,
    },
}

/// A pipeline that is to become a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The run's name.
    pub run: RunId,
    /// The nonce of the run that this becomes: it was decided with the name. A run that has
    /// the name and another nonce is somebody else's.
    pub nonce: Nonce,
    /// What it is read from.
    pub files: Files,
    /// Which pipeline of the file; the first where none is said.
    pub pipeline: Option<String>,
    /// The experiment, where it is not the file's.
    pub experiment: Option<String>,
    /// Changes, as `--set` takes them.
    pub set: Vec<String>,
    /// Reuse nothing.
    pub force_rerun: bool,
    /// Who submits it.
    pub by: String,
    /// Whether what is read from elsewhere may lie at an address that the public does not
    /// reach: not where the caller may do no more than invoke an endpoint.
    pub internal: bool,
}

/// The largest document that is published.
const LARGEST_DOCUMENT: usize = 1024 * 1024;

/// Whether what is to be published names its files as it must: by a document, or by a snapshot
/// that is there.
pub(crate) async fn has_files(
    store: &Store,
    document: Option<&str>,
    snapshot: Option<&Digest>,
) -> Result<(), Refusal> {
    let wrong = |why: &str| Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    match (document, snapshot) {
        (Some(text), None) if text.len() > LARGEST_DOCUMENT => {
            wrong("a document has at most 1 MiB")
        }
        (Some(_), None) => Ok(()),
        (None, Some(digest)) => match snapshot::exists(store, digest).await {
            Ok(true) => Ok(()),
            Ok(false) => wrong("the snapshot is not in the store: bring it there first"),
            Err(error) => Err(Refusal::of(&error)),
        },
        _ => wrong("say either `document` or `snapshot`"),
    }
}

/// A submission that became no run.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotSubmitted {
    /// It is wrong.
    #[error("{message}")]
    Invalid {
        /// For people.
        message: String,
        /// What is wrong, each with its place, as `validate --output json` says it.
        diagnostics: serde_json::Value,
    },
    /// The run's name is taken.
    #[error("{message}")]
    Taken {
        /// By whom.
        message: String,
    },
    /// Not at this moment.
    #[error("{message}")]
    Unavailable {
        /// Why.
        message: String,
    },
}

/// Where steps run here, for who plans elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct TargetFacts {
    /// `process`.
    pub target: String,
    /// Operating system.
    pub os: String,
    /// Architecture.
    pub arch: String,
    /// A fingerprint of the host.
    pub host: String,
    /// Programs by the word that a command begins with.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub executables: BTreeMap<String, Executable>,
}

/// What an input of a pipeline takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A file or a folder.
    Data,
}

/// An input of a pipeline, for who is to fill it in.
#[derive(Clone, Debug, PartialEq)]
pub struct InputFacts {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub kind: InputKind,
    /// It may be left out.
    pub optional: bool,
    /// Its value where none is given; of data, where that is.
    pub default: Option<String>,
    /// Least value.
    pub min: Option<f64>,
    /// Greatest value.
    pub max: Option<f64>,
    /// The only values.
    pub choices: Vec<String>,
}

/// Makes runs of submissions, on this machine.
#[async_trait]
pub trait Planner: Send + Sync {
    /// Plans it and records the run, with all that it needs, ready to be started. Again, with
    /// the name and the nonce of a run that it made: that run.
    async fn submit(&self, submission: Submission) -> Result<RunJson, NotSubmitted>;
    /// What a pipeline of these files takes, after the changes of `set`.
    async fn inputs(
        &self,
        files: &Files,
        pipeline: Option<&str>,
        set: &[String],
    ) -> Result<Vec<InputFacts>, NotSubmitted>;
    /// Where steps run here, and what `words` begin.
    async fn target(&self, words: BTreeSet<String>) -> Result<TargetFacts, String>;
}

/// `<pipeline>-<sortable time><random>`, at most 50 characters.
#[must_use]
pub fn new_run(pipeline: &str, now: Timestamp) -> RunId {
    let plain = |c: char| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '-'
        }
    };
    let slug: String = pipeline
        .to_lowercase()
        .chars()
        .map(plain)
        .take(24)
        .collect();
    let slug = match slug.trim_matches('-') {
        "" => "run",
        slug => slug,
    };
    let time = now.to_string().to_lowercase();
    let time: String = time.chars().filter(char::is_ascii_alphanumeric).collect();
    let time = time.trim_end_matches('z');
    // Letters, digits and dashes within the length: always a name.
    loop {
        if let Ok(run) = format!("{slug}-{time}{:04x}", rand::random::<u16>()).parse() {
            return run;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::new_run;
    use auria_core::Timestamp;

    #[test]
    fn names_of_runs_sort_by_time_and_fit() {
        let name = "Auria Kathi: a very long name of a pipeline, indeed";
        let first = new_run(name, Timestamp(1_767_323_045_678));
        assert!(
            first
                .as_str()
                .starts_with("auria-kathi--a-very-long-20260102t"),
            "{first}"
        );
        assert!(first.as_str().len() <= 50);
        let later = new_run(name, Timestamp(1_767_323_046_000));
        assert!(first < later);
        assert!(new_run("", Timestamp(0)).as_str().starts_with("run-"));
    }
}
