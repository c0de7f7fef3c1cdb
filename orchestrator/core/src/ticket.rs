//! All that an attempt needs. An executor starts it; a launcher carries it out.

use crate::digest::Digest;
use crate::distribution::Distribution;
use crate::ids::AttemptId;
use crate::outcome::{Artifact, Checkpoint};
use crate::plan::{DataType, Environment, InputMode, KeepWarm, Network, Template};
use crate::resources::Resources;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of [`Ticket`] that this code writes and reads.
pub const TICKET_VERSION: u32 = 1;

/// All that an attempt needs, whatever runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// [`TICKET_VERSION`] of the writer.
    pub version: u32,
    /// The attempt.
    pub attempt: AttemptId,
    /// Attempts of this step that claimed before it: an outcome counts them.
    #[serde(default)]
    pub claims_before: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// The experiment.
    pub experiment: String,
    /// The command.
    pub command: Template,
    /// Snapshot of the code folder.
    pub code: Option<Digest>,
    /// Where the command runs.
    pub environment: Environment,
    /// Variables for the command.
    pub variables: BTreeMap<String, Template>,
    /// Inputs, by name.
    pub inputs: BTreeMap<String, TicketInput>,
    /// Outputs, by name.
    pub outputs: BTreeMap<String, DataType>,
    /// What it asks for; of a distributed step, each instance.
    pub resources: Resources,
    /// How it is several processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// The compute, where config names it.
    pub compute: Option<String>,
    /// What the step may reach.
    pub network: Network,
    /// `limits.timeout`, of the command alone.
    pub timeout_ms: Option<u64>,
    /// Time between SIGTERM and SIGKILL.
    pub grace_ms: u64,
    /// Time for publishing after a stop.
    pub publish_grace_ms: u64,
    /// What the command finds in `AURIA_CHECKPOINTS`.
    pub restore: Option<Checkpoint>,
    /// The step's key, recorded in the outcome.
    pub key: Option<Digest>,
    /// The program that may stay between attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_warm: Option<KeepWarm>,
}

/// The value of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TicketInput {
    /// The text that the command sees.
    Literal {
        /// The text.
        value: String,
    },
    /// Files in the run's store.
    Artifact {
        /// Which; snapshots are artifacts too.
        artifact: Artifact,
        /// How it reaches the step.
        mode: InputMode,
    },
    /// A snapshot, by digest.
    Snapshot {
        /// Which.
        digest: Digest,
        /// What it holds.
        data_type: DataType,
        /// How it reaches the step.
        mode: InputMode,
    },
    /// Objects outside the run, as they were pinned.
    External {
        /// Where.
        uri: String,
        /// What it was at planning.
        pin: String,
        /// What it holds.
        data_type: DataType,
        /// How it reaches the step.
        mode: InputMode,
    },
    /// An optional input without a value.
    Absent,
}
