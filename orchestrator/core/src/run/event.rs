//! What a driver tells the run state, and what the run state asks of it.
//!
//! The contract, in short. Every effect is safe to do twice. Effects may be
//! carried out at the same time, except that a [`Effect::Start`] and the
//! [`Effect::Stop`]s of one attempt keep their order; all else is chained by
//! answers:
//!
//! | effect | answered by |
//! |---|---|
//! | `Append` | [`Event::Appended`] with our record, after those that came before it |
//! | `LookUpReuse` | [`Event::Reuse`] |
//! | `Start` | news of the attempt, at last one of `Committed`, `Ended`, `ClaimLost`, `Gone`, `Refused`, `Unavailable` |
//! | `Stop` | the same; `Gone` where the executor knows no such attempt |
//! | `Inspect` | `Committed` where an outcome stands, and one of `Claimed`, `Ended`, `Gone` |
//! | `WriteEnd` | `Ended`, with the record that stands |
//! | `Commit` | [`Event::Committed`], with the outcome that stands |
//! | `Register`, `Export` | [`Event::Registered`], [`Event::Exported`] |
//! | `EndRun` | [`Event::Ended`], with the end that stands |
//!
//! Events may come late, twice and out of order, also after the end. One thing
//! is asked: news that frees a number which nobody claimed (`Gone` without a
//! claim, `Refused`, `Unavailable`) is about the last start of that attempt, and
//! is not repeated after a later one. An effect that cannot be done because a
//! store is out of reach is the driver's to repeat, or to end with; it is never
//! an event.

use crate::digest::Digest;
use crate::ids::{AttemptId, Nonce, StepPath};
use crate::outcome::{
    Artifact, Checkpoint, Claim, Decision, EndRecord, LogRecord, Outcome, ReuseSource, RunEnd,
};
use crate::plan::AssetName;
use crate::ticket::Ticket;
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What happened.
#[expect(
    clippy::large_enum_variant,
    reason = "few events are held at a time; plain records read better"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A record stands in the log: ours, or another process's (a request to
    /// cancel, a takeover with a newer epoch).
    Appended(LogRecord),
    /// An executor's news of an attempt.
    Attempt {
        /// Which.
        id: AttemptId,
        /// What.
        news: AttemptNews,
    },
    /// A step's commit record exists, whoever created it.
    Committed(Arc<Outcome>),
    /// The answer to [`Effect::LookUpReuse`].
    Reuse {
        /// Which step asked.
        step: StepPath,
        /// Hit or miss.
        answer: ReuseAnswer,
    },
    /// Someone on this side asks to cancel (Ctrl-C).
    CancelAsked {
        /// Who, for people.
        by: String,
    },
    /// Someone on this side will not wait any longer (a second Ctrl-C): every
    /// attempt is stopped without a grace. It cancels too, where nobody has.
    KillAsked {
        /// Who, for people.
        by: String,
    },
    /// The answer to [`Effect::Register`].
    Registered {
        /// The step.
        step: StepPath,
        /// Its output.
        output: String,
        /// The version that stands, or why the registry refuses.
        result: Result<String, String>,
    },
    /// The answer to [`Effect::Export`].
    Exported {
        /// The step.
        step: StepPath,
        /// Its output.
        output: String,
        /// Why it cannot be copied there.
        result: Result<(), String>,
    },
    /// The run's end stands in the store.
    Ended(RunEnd),
    /// A deadline that [`super::RunState::next_deadline`] named has come.
    Tick,
}

/// An executor's or a launcher's news of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub enum AttemptNews {
    /// It waits for room.
    Waiting {
        /// For what, for people.
        why: String,
    },
    /// Its launcher holds the claim.
    Claimed {
        /// The claim's nonce.
        nonce: Nonce,
        /// Where.
        node: String,
    },
    /// It came into another phase.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// The store keeps its launcher waiting, or does not any more. For the driver and
    /// for people: the launcher asks again by itself.
    Store {
        /// What cannot be done and why; none where the store answers again.
        trouble: Option<String>,
    },
    /// It is over, and the step's outcome stands: its launcher committed it, or read
    /// that another's stands.
    Committed {
        /// What stands.
        outcome: Arc<Outcome>,
    },
    /// It ended and left its end record in the store.
    Ended {
        /// The record.
        end: EndRecord,
    },
    /// Its launcher found the claim taken and ended without running anything.
    ClaimLost,
    /// Its launcher is gone and left neither outcome nor end.
    Gone {
        /// Whether it had claimed.
        claim: Option<Claim>,
        /// What the executor knows: memory ran out, a signal.
        end: Option<EndRecord>,
        /// The newest checkpoint in the store.
        checkpoint: Option<Checkpoint>,
    },
    /// The executor will never start it: no such program or image, too large.
    Refused {
        /// Why, for people.
        message: String,
    },
    /// The executor cannot start it at this moment.
    Unavailable {
        /// Why, for people.
        message: String,
    },
}

/// Where an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Inputs are fetched.
    Fetching,
    /// The command runs.
    Running,
    /// Outputs are published.
    Publishing,
}

/// Whether a finished step stands for another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ReuseAnswer {
    /// Its outputs are there and verified; the reference is written.
    Hit {
        /// Whose.
        source: ReuseSource,
        /// Its outputs.
        outputs: BTreeMap<String, Artifact>,
    },
    /// Nothing to take, and why.
    Miss {
        /// Why.
        miss: ReuseMiss,
    },
}

/// Why a step ran though it may be reused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum ReuseMiss {
    /// `force_rerun`.
    Forced,
    /// `is_deterministic: false`.
    NotDeterministic,
    /// No step of this name finished before in this store.
    FirstTime,
    /// The key differs from that of the last finished one; these parts of it do.
    Changed {
        /// The run compared with.
        run: String,
        /// Parts of the key, by name: what was and what is.
        parts: BTreeMap<String, (serde_json::Value, serde_json::Value)>,
    },
    /// The outputs of the step found are gone or damaged.
    OutputsGone {
        /// Whose.
        source: ReuseSource,
        /// What was seen.
        detail: String,
    },
    /// The run of the step found is being deleted.
    BeingDeleted {
        /// Whose.
        source: ReuseSource,
    },
    /// Older than `cache.max_age`.
    TooOld {
        /// Whose.
        source: ReuseSource,
    },
}

/// What the driver is to do. Each is safe to do twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append to the log. The driver answers with [`Event::Appended`] for what
    /// stands at that number, and appends again at the next where another's does.
    Append(Decision),
    /// Ask the reuse index; where it hits, write the reference and verify first.
    LookUpReuse {
        /// For this step.
        step: StepPath,
        /// Its key.
        key: Digest,
        /// The parts that the key was computed from, to explain a miss.
        parts: serde_json::Value,
        /// Older outcomes are a miss.
        max_age_ms: Option<u64>,
    },
    /// Write the ticket and start it.
    Start(Box<Ticket>),
    /// Stop an attempt; repeated until its end is seen.
    Stop {
        /// Which.
        attempt: AttemptId,
        /// Time between SIGTERM and SIGKILL.
        grace_ms: u64,
    },
    /// Read what the store and the executor hold of an attempt whose claim
    /// someone else holds, and tell it as news of that attempt; repeated until
    /// something is told.
    Inspect(AttemptId),
    /// Create the end of an attempt whose launcher could not; answered with
    /// [`AttemptNews::Ended`] and the record that stands.
    WriteEnd(Box<EndRecord>),
    /// Create the commit record; answered with [`Event::Committed`] for what stands.
    Commit(Arc<Outcome>),
    /// Register an output as an asset, once for this run, step and output.
    Register {
        /// The step.
        step: StepPath,
        /// Its output.
        output: String,
        /// As what.
        asset: AssetName,
        /// What.
        artifact: Artifact,
    },
    /// Copy an output to the place that the user named, once for this run, step
    /// and output.
    Export {
        /// The step.
        step: StepPath,
        /// Its output.
        output: String,
        /// Where to.
        uri: String,
        /// What.
        artifact: Artifact,
    },
    /// Create the run's end; answered with [`Event::Ended`].
    EndRun(RunEnd),
}

/// What the store and the executor hold of a run, for recovery. The driver
/// appends its takeover first, then opens the executor's watch, then lists what
/// is live, and reads the store last: what was not live has written all that it
/// ever will.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// The log, in order.
    pub log: Vec<LogRecord>,
    /// Commit records, by step.
    pub outcomes: BTreeMap<StepPath, Arc<Outcome>>,
    /// Ends of attempts.
    pub ends: Vec<EndRecord>,
    /// Claims of attempts.
    pub claims: Vec<Claim>,
    /// Attempts that the executor says are live.
    pub live: Vec<AttemptId>,
    /// Newest checkpoint of each attempt that claimed and left no end.
    pub checkpoints: BTreeMap<(StepPath, u32), Checkpoint>,
    /// The run's end.
    pub ended: Option<RunEnd>,
    /// When the run was created.
    pub created: Timestamp,
}
