//! The records that say what happened: claim, end, outcome, the log of
//! decisions, the run's end. `protocol` says who writes which, and when.

use crate::digest::Digest;
use crate::ids::{AttemptId, Nonce, RunId, StepPath};
use crate::plan::DataType;
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Status of a run or a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Status {
    /// Waits for other steps.
    NotStarted,
    /// May run, waits for room.
    Queued,
    /// Its launcher fetches inputs.
    Preparing,
    /// Its command runs.
    Running,
    /// Its outputs are published.
    Finalizing,
    /// It is being stopped.
    CancelRequested,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Stopped on request.
    Canceled,
    /// Nothing is heard of it.
    NotResponding,
    /// A step: another's outputs stand for it.
    Reused,
    /// A step: it was not needed, or what it needs failed.
    Skipped,
}

impl Status {
    /// Whether nothing changes any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Canceled | Self::Reused | Self::Skipped
        )
    }
    /// Whether a step's outputs are there.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, Self::Completed | Self::Reused)
    }
}

/// Why a step or an attempt did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The command failed, or an output is missing.
    Exit,
    /// Memory ran out.
    OutOfMemory,
    /// `limits.timeout` passed.
    Timeout,
    /// The image or the program could not be had.
    Image,
    /// The scheduler took the node.
    Preempted,
    /// The node was short of something, or publishing was cut short.
    Evicted,
    /// The node or the launcher was lost.
    NodeLost,
    /// A step that it needs did not end well.
    UpstreamFailed,
    /// Stopped on request.
    Canceled,
    /// No machine or node may or can run it.
    Refused,
}

/// Files in the store: a prefix of plain files, and the manifest that names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Path of the files in the store, relative to its root.
    pub prefix: String,
    /// Path of the manifest (a [`Manifest`] as JSON) in the store.
    pub manifest: String,
    /// What it holds.
    pub data_type: DataType,
    /// Number of files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Of a folder: [`Manifest::digest`]; of a file: the file's content.
    pub digest: Digest,
}

/// What an artifact holds, sorted by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Manifest {
    /// Every file, symlink and empty folder.
    pub entries: Vec<ManifestEntry>,
}

/// One entry of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ManifestEntry {
    /// Original path, relative, `/` between its parts, UTF-8.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
}

/// What a [`ManifestEntry`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EntryKind {
    /// A file.
    File {
        /// Permission bits.
        mode: u32,
        /// Bytes.
        size: u64,
        /// Content.
        digest: Digest,
        /// The name under the artifact's prefix, where it differs from `path`
        /// (names that the store cannot hold as they are).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stored_as: Option<String>,
    },
    /// A symbolic link that stays inside the artifact.
    Symlink {
        /// Where it points, relative.
        target: String,
    },
    /// An empty folder.
    Folder {
        /// Permission bits.
        mode: u32,
    },
}

impl Manifest {
    /// Digest over sorted (path, mode bits, size, file digest), and links and
    /// empty folders likewise.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        for entry in entries {
            field(entry.path.as_bytes());
            match &entry.kind {
                EntryKind::File {
                    mode,
                    size,
                    digest,
                    stored_as: _,
                } => {
                    field(b"file");
                    field(&mode.to_le_bytes());
                    field(&size.to_le_bytes());
                    field(digest.hex().as_bytes());
                }
                EntryKind::Symlink { target } => {
                    field(b"symlink");
                    field(target.as_bytes());
                }
                EntryKind::Folder { mode } => {
                    field(b"folder");
                    field(&mode.to_le_bytes());
                }
            }
        }
        hasher.finalize().into()
    }
}

/// A launcher's first act: this attempt is mine. `attempts/<step>/<n>/claim.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The attempt.
    pub attempt: AttemptId,
    /// Tells this launcher from any other of the same attempt.
    pub nonce: Nonce,
    /// Host name.
    pub host: String,
    /// Boot id of the host.
    pub boot_id: String,
    /// Process id, or the Pod's UID.
    pub process: String,
    /// When.
    pub claimed: Timestamp,
}

/// How long each part of an attempt took, in milliseconds. `None`: not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Timings {
    /// From ready to asked of the executor, and there to room for it.
    pub queued_ms: Option<u64>,
    /// From room to the launcher's start.
    pub scheduled_ms: Option<u64>,
    /// Pulling the image.
    pub pulled_ms: Option<u64>,
    /// Fetching inputs.
    pub fetched_ms: Option<u64>,
    /// The command.
    pub ran_ms: Option<u64>,
    /// Publishing outputs.
    pub published_ms: Option<u64>,
}

/// How an attempt ended that did not commit: `attempts/<step>/<n>/end.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// The attempt.
    pub attempt: AttemptId,
    /// Of the claim; none where the attempt never claimed.
    pub nonce: Option<Nonce>,
    /// Why.
    pub cause: Cause,
    /// Exit status of the command; 128 + n for a signal.
    pub exit_code: Option<i32>,
    /// What happened, for a person.
    pub message: String,
    /// Last lines of the log.
    pub last_lines: Vec<String>,
    /// How long each part took.
    pub timings: Timings,
    /// The newest checkpoint that it published.
    pub checkpoint: Option<Checkpoint>,
    /// The outcome of an attempt that published everything and could not commit:
    /// the driver commits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Box<Outcome>>,
    /// Where it ran.
    pub node: Option<String>,
    /// When it claimed.
    pub started: Option<Timestamp>,
    /// When.
    pub ended: Timestamp,
}

/// How one process of a distributed step ended: `…/members/<rank>/end.json`, beside the
/// attempt's own, which says what became of them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEnd {
    /// Which, counted over all instances.
    pub rank: u32,
    /// The instance that it ran on.
    pub instance: u32,
    /// Why it did not end well.
    pub cause: Option<Cause>,
    /// It was made to end because another had not ended well.
    #[serde(default)]
    pub drawn_along: bool,
    /// Its exit status; 128 + n for a signal.
    pub exit_code: Option<i32>,
    /// What happened, for a person.
    pub message: Option<String>,
    /// Its last lines.
    #[serde(default)]
    pub last_lines: Vec<String>,
    /// Where it ran.
    pub node: Option<String>,
    /// When.
    pub ended: Timestamp,
}

/// How one instance of a distributed step ended, where each has a launcher of its own:
/// `…/members/<its first rank>/instance.json`. The launcher that holds the claim makes the
/// attempt's end of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceEnd {
    /// Which.
    pub instance: u32,
    /// How the first of its processes ended that did not end well; none where all did.
    pub fell: Option<MemberEnd>,
    /// What it wrote, kept apart until all have ended well.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Artifact>,
}

/// One launcher of a distributed step says that it is there, before the claim:
/// `attempts/<step>/<n>/members/<instance>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The instance that it starts.
    pub instance: u32,
    /// The nonce that the first instance's launcher will claim with: by it the others know
    /// the group that they are in.
    pub group: Nonce,
    /// Its own nonce, made as that of a claim is.
    pub nonce: Nonce,
    /// The address at which its processes can be reached.
    pub address: String,
    /// The Pod's UID.
    pub process: String,
    /// The node.
    pub node: Option<String>,
}

/// One generation of a step's checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The attempt that wrote it.
    pub attempt: u32,
    /// Its nonce.
    pub nonce: Nonce,
    /// Its generation, from 1.
    pub generation: u32,
}

/// The version of [`Outcome`] that this code writes.
pub const OUTCOME_VERSION: u32 = 1;

/// The commit record of a step, created once: `outcomes/<step>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// [`OUTCOME_VERSION`] of the writer.
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepPath,
    /// `Completed`, `Reused`, `Failed`, `Canceled` or `Skipped`.
    pub status: Status,
    /// The attempt whose outputs are the step's, or that was its last.
    pub attempt: Option<u32>,
    /// Its nonce.
    pub nonce: Option<Nonce>,
    /// Attempts that claimed.
    pub attempts: u32,
    /// Why it did not end well.
    pub cause: Option<Cause>,
    /// Exit status of the command; 128 + n for a signal.
    pub exit_code: Option<i32>,
    /// What happened, for a person.
    pub message: Option<String>,
    /// Outputs, by name.
    pub outputs: BTreeMap<String, Artifact>,
    /// Whose outputs these are, where reused.
    pub reused_from: Option<ReuseSource>,
    /// The step's key, where it has one.
    pub key: Option<Digest>,
    /// How long each part took.
    pub timings: Timings,
    /// Last lines of the log.
    pub last_lines: Vec<String>,
    /// Where it ran.
    pub node: Option<String>,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Timestamp,
}

/// A finished step whose outputs stand for another's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReuseSource {
    /// The run that made the outputs.
    pub run: RunId,
    /// The step that made them.
    pub step: StepPath,
}

/// One decision of a driver, or a request to cancel: `log/<seq>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Dense, from 1.
    pub seq: u64,
    /// The epoch of the driver that wrote it; of a request to cancel, the last
    /// that the asking process read.
    pub epoch: u64,
    /// Drawn by the writer, so that it knows its own record again.
    pub nonce: Nonce,
    /// When.
    pub at: Timestamp,
    /// What.
    pub decision: Decision,
}

/// What plan and outcomes do not imply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// A driver begins; the record's epoch is its own.
    TookOver {
        /// Who, for people: host and process id.
        driver: String,
    },
    /// Someone asked to cancel the run.
    CancelRequested {
        /// Who, for people.
        by: String,
    },
    /// An attempt after the first may start.
    Granted {
        /// The step.
        step: StepPath,
        /// The new attempt's number.
        attempt: u32,
        /// Why the one before ended.
        cause: Cause,
        /// What is left of that cause's budget after this grant.
        budget_left: u32,
        /// Not before.
        not_before: Timestamp,
        /// What it restores.
        restore: Option<Checkpoint>,
    },
    /// An attempt that claimed and does not run is given up.
    JudgedLost {
        /// The step.
        step: StepPath,
        /// The attempt's number.
        attempt: u32,
        /// What was seen, for a person.
        reason: String,
    },
}

/// How a run ended: `end.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// `Completed`, `Failed` or `Canceled`.
    pub status: Status,
    /// When the first step was asked for.
    pub started: Option<Timestamp>,
    /// When.
    pub ended: Timestamp,
    /// Steps by status.
    pub counts: BTreeMap<Status, u64>,
    /// What went wrong outside of any step: an output that could not be
    /// registered or exported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}
