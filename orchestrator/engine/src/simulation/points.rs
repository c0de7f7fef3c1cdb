//! Where a process can be killed: before and after each of its effects, by kind. The
//! schedules choose among them, and the coverage counts them.

use super::world::Object;
use auria_core::outcome::{Decision, Status};

/// A kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Actor {
    Driver,
    Launcher,
    /// Asks to cancel, from outside.
    Canceler,
    /// Deletes runs, or collects what nobody needs.
    Keeper,
    /// Submits a run; never killed.
    Submitter,
    /// Sets the scene and looks at the end; never disturbed.
    Stage,
}

/// On which side of its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum When {
    Before,
    After,
}

macro_rules! effects {
    ($($name:ident = $text:literal,)*) => {
        /// What a process does to the store or the executor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Effect {
            $($name,)*
        }

        impl Effect {
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

effects! {
    TakeOver = "take over",
    AskToCancel = "ask to cancel",
    Grant = "grant",
    JudgeLost = "judge lost",
    WriteTicket = "write the ticket",
    Claim = "claim",
    WriteEnd = "write the attempt's end",
    CommitCompleted = "commit Completed",
    CommitReused = "commit Reused",
    CommitFailed = "commit Failed",
    CommitCanceled = "commit Canceled",
    CommitSkipped = "commit Skipped",
    EndRun = "end the run",
    NoteReuse = "note the answer to reuse",
    IndexEntry = "write the reuse index",
    IndexLast = "write the last of a name",
    Reference = "write a reference",
    Propose = "propose a version",
    Register = "register",
    WriteOutput = "write an output",
    WriteManifest = "write a manifest",
    WriteCheckpoint = "write a checkpoint",
    CompleteCheckpoint = "complete a checkpoint",
    RemoveCheckpoint = "remove a checkpoint",
    WriteExport = "write an export",
    Tombstone = "write a tombstone",
    Decide = "decide on a tombstone",
    Remove = "remove",
    Start = "start",
    Stop = "stop",
    ListLive = "list what is live",
    Command = "run the command",
    Read = "read",
    List = "list",
    Other = "write something else",
}

/// The kill points: who does what.
pub(super) const DONE: &[(Actor, &[Effect])] = &[
    (
        Actor::Driver,
        &[
            Effect::TakeOver,
            Effect::AskToCancel,
            Effect::Grant,
            Effect::JudgeLost,
            Effect::WriteTicket,
            Effect::WriteEnd,
            Effect::CommitCompleted,
            Effect::CommitReused,
            Effect::CommitFailed,
            Effect::CommitCanceled,
            Effect::CommitSkipped,
            Effect::EndRun,
            Effect::NoteReuse,
            Effect::IndexEntry,
            Effect::IndexLast,
            Effect::Reference,
            Effect::Propose,
            Effect::Register,
            Effect::WriteExport,
            Effect::Start,
            Effect::Stop,
            Effect::ListLive,
            Effect::Read,
            Effect::List,
        ],
    ),
    (
        Actor::Launcher,
        &[
            Effect::Claim,
            Effect::Command,
            Effect::WriteCheckpoint,
            Effect::CompleteCheckpoint,
            Effect::RemoveCheckpoint,
            Effect::WriteOutput,
            Effect::WriteManifest,
            Effect::CommitCompleted,
            Effect::WriteEnd,
            Effect::Read,
            Effect::List,
        ],
    ),
    (
        Actor::Canceler,
        &[Effect::AskToCancel, Effect::Read, Effect::List],
    ),
    (
        Actor::Keeper,
        &[
            Effect::Tombstone,
            Effect::Decide,
            Effect::Remove,
            Effect::Read,
            Effect::List,
            Effect::Other,
        ],
    ),
];

/// How often each process was killed at each point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kills(std::collections::BTreeMap<(Actor, Effect, When), u64>);

impl Kills {
    pub(super) fn count(&mut self, actor: Actor, effect: Effect, when: When) {
        *self.0.entry((actor, effect, when)).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (point, more) in &other.0 {
            *self.0.entry(*point).or_default() += more;
        }
    }

    pub(super) fn of(&self, actor: Actor, effect: Effect, when: When) -> u64 {
        self.0.get(&(actor, effect, when)).copied().unwrap_or(0)
    }
}

impl Effect {
    /// What writing `object` is.
    pub(super) fn of(object: &Object) -> Self {
        match object {
            Object::Log { record, .. } => match record.as_deref().map(|record| &record.decision) {
                Some(Decision::TookOver { .. }) => Self::TakeOver,
                Some(Decision::CancelRequested { .. }) => Self::AskToCancel,
                Some(Decision::Granted { .. }) => Self::Grant,
                Some(Decision::JudgedLost { .. }) => Self::JudgeLost,
                None => Self::Other,
            },
            Object::Ticket { .. } => Self::WriteTicket,
            Object::Claim { .. } => Self::Claim,
            Object::End { .. } => Self::WriteEnd,
            Object::Outcome { outcome, .. } => match outcome.as_deref().map(|found| found.status) {
                Some(Status::Completed) => Self::CommitCompleted,
                Some(Status::Reused) => Self::CommitReused,
                Some(Status::Canceled) => Self::CommitCanceled,
                Some(Status::Skipped) => Self::CommitSkipped,
                Some(_) => Self::CommitFailed,
                None => Self::Other,
            },
            Object::RunEnd { .. } => Self::EndRun,
            Object::ReuseNote => Self::NoteReuse,
            Object::ReuseEntry => Self::IndexEntry,
            Object::ReuseLast => Self::IndexLast,
            Object::Reference => Self::Reference,
            Object::Registration => Self::Propose,
            Object::Asset => Self::Register,
            Object::Output => Self::WriteOutput,
            Object::Manifest => Self::WriteManifest,
            Object::Checkpoint => Self::WriteCheckpoint,
            Object::CheckpointManifest => Self::CompleteCheckpoint,
            Object::Export => Self::WriteExport,
            Object::Tombstone => Self::Tombstone,
            Object::Verdict => Self::Decide,
            Object::RunJson { .. } | Object::Other => Self::Other,
        }
    }
}
