//! Mistakes that the simulation must find: each place where one could be made asks
//! [`mutant!`](crate::mutant!) whether to make it. Without the feature `simulation`
//! the answer is the literal `false`, so that no other build holds any of them.
//!
//! One build tries all mutants: which one is alive is a thread's own choice.

#[cfg(feature = "simulation")]
use std::cell::Cell;

/// Whether the mistake of this name is to be made here: `false` in every build but
/// the simulation's.
#[cfg(feature = "simulation")]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::is($crate::mutant::Mutant::$name)
    };
}

/// Whether the mistake of this name is to be made here: `false` in every build but
/// the simulation's.
#[cfg(not(feature = "simulation"))]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

#[cfg(feature = "simulation")]
macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// A mistake that the simulation must find.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Mutant {
            /// Every mutant.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What it does wrong, for people.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc,)+).trim_ascii(),)*
                }
            }
        }
    };
}

#[cfg(feature = "simulation")]
mutants! {
    /// A commit record is written whatever is there.
    CommitUnconditional = "commit-unconditional",
    /// A launcher that lost the claim runs the command all the same.
    ClaimShared = "claim-shared",
    /// "Already exists" counts as lost, though it may be the answer to one's own write.
    LostByStatus = "lost-by-status",
    /// A log record is appended after a newer driver's takeover.
    AppendAfterTakeover = "append-after-takeover",
    /// A takeover takes the epoch of the driver before it.
    EpochNotNewer = "epoch-not-newer",
    /// What is live is listed after the store was read.
    ListAfterRead = "list-after-read",
    /// An outcome is committed before its outputs are there.
    OutcomeBeforeOutputs = "outcome-before-outputs",
    /// A command that was stopped and exits with 0 counts as a success.
    SuccessDespiteStop = "success-despite-stop",
    /// Recovery takes no notice of what is live.
    LiveIgnored = "live-ignored",
    /// A request to cancel is forgotten by the driver that takes over.
    CancelForgotten = "cancel-forgotten",
    /// A success that comes after the verdict of a cancellation replaces it.
    LateSuccess = "late-success",
    /// A retry draws twice on its budget.
    BudgetSpentTwice = "budget-spent-twice",
    /// Recovery forgets what retries drew on their budgets.
    BudgetForgotten = "budget-forgotten",
    /// The deadline of a retry's wait is not set.
    DeadlineLost = "deadline-lost",
    /// A stop whose end is not seen is not repeated.
    StopOnce = "stop-once",
    /// The next attempt is granted before the log says that the last was lost.
    LostNotLogged = "lost-not-logged",
    /// An attempt starts before its grant stands in the log.
    StartBeforeGrant = "start-before-grant",
    /// The run's end is written while attempts may run.
    EndBeforeAttempts = "end-before-attempts",
    /// A verdict is written without a look at the log right before.
    VerdictUnread = "verdict-unread",
    /// The run's end is written without a look at the log right before.
    EndUnread = "end-unread",
    /// A request to cancel does not change the end that was about to be written.
    EndUnchanged = "end-unchanged",
    /// The run's end does not wait for registrations and exports.
    EndBeforeDeliveries = "end-before-deliveries",
    /// An optional input is not waited for.
    OptionalNotAwaited = "optional-not-awaited",
    /// Outputs are reused that nobody looked at.
    ReuseUnverified = "reuse-unverified",
    /// Outputs of another run are reused without a reference.
    ReuseUnreferenced = "reuse-unreferenced",
    /// Outputs of a run that is being deleted are reused.
    ReuseTombstoned = "reuse-tombstoned",
    /// A run is deleted though it is used since its tombstone stands.
    UsersReadOnce = "users-read-once",
    /// A tombstone's grace is not waited for.
    GraceIgnored = "grace-ignored",
    /// A grace is told by the machine's clock, and not by the store's.
    GraceByOwnClock = "grace-by-own-clock",
    /// A driver does not see that its run was deleted.
    DeletedUnseen = "deleted-unseen",
    /// What becomes of a tombstone is decided by each who looks, and not once.
    VerdictPrivate = "verdict-private",
    /// A run's tombstone goes before the run does.
    TombstoneFirst = "tombstone-first",
    /// A retry does not restore what its grant pinned.
    RestoreUnpinned = "restore-unpinned",
}

#[cfg(feature = "simulation")]
thread_local! {
    static ALIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Whether `mutant` is alive in this thread.
#[cfg(feature = "simulation")]
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    ALIVE.get() == Some(mutant)
}

/// Brings a mutant to life in this thread, or with `None` puts the last one away.
#[cfg(feature = "simulation")]
pub fn set(mutant: Option<Mutant>) {
    ALIVE.set(mutant);
}
