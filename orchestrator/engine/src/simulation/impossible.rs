//! What need not happen, each with its reason. What is not listed and does not happen
//! fails the simulation. [`Why::Never`] is what the engine's construction rules out: it
//! fails the simulation where it happens. [`Why::Seldom`] needs several coincidences,
//! which so many schedules may or may not hold.

use super::points::{Actor, Effect};
use super::report::{Pair, Point};
use auria_core::run::coverage::Table;

/// Why a pair need not happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// It cannot.
    Never(&'static str),
    /// It can, and may not have.
    Seldom(&'static str),
}

use Why::{Never, Seldom};

/// States and events; an empty list of either means all of them. The first that fits
/// counts.
pub(super) const EVENTS: &[Pair] = &[
    (
        Table::Step,
        &[
            "waiting",
            "look-up-queued",
            "looking-up",
            "start-queued",
            "backoff",
            "active",
            "granting",
            "committing",
        ],
        &["run-ended", "registered", "exported"],
        Never("the run's end and deliveries are asked for when the step's outcome stands"),
    ),
    (
        Table::Run,
        &["open", "halted", "canceling"],
        &["run-ended"],
        Never("the run's end is answered after it was asked for"),
    ),
    (
        Table::Run,
        &["ending"],
        &["registered", "exported"],
        Never("the run's end waits for them, and each is answered once"),
    ),
    (
        Table::Step,
        &["waiting", "look-up-queued"],
        &["reuse-hit", "reuse-miss"],
        Never("the answer comes after the question, and a step does not go back"),
    ),
    (
        Table::Step,
        &[
            "waiting",
            "look-up-queued",
            "looking-up",
            "start-queued",
            "backoff",
            "active",
        ],
        &["granted"],
        Never("a driver's grant is appended while the step waits for it, or was closed since"),
    ),
    (
        Table::Step,
        &[
            "waiting",
            "look-up-queued",
            "looking-up",
            "start-queued",
            "backoff",
        ],
        &["judged-lost"],
        Never("judging makes the step wait for its attempt"),
    ),
    (
        Table::Step,
        &[
            "waiting",
            "look-up-queued",
            "looking-up",
            "start-queued",
            "backoff",
            "active",
            "granting",
        ],
        &["committed"],
        Never("a driver's commit is answered while the step waits for it, or after"),
    ),
    (
        Table::Step,
        &["waiting", "look-up-queued", "looking-up"],
        &["refused"],
        Never("only a driver's own start is refused, and a step that started does not go back"),
    ),
    (
        Table::Attempt,
        &["unknown"],
        &["refused"],
        Never("only a driver's own start is refused"),
    ),
    (
        Table::Step,
        &["granting", "committing", "done", "active"],
        &["judged-lost", "reuse-hit", "reuse-miss"],
        Seldom("an older driver's attempt shows itself between the question and the answer"),
    ),
    (
        Table::Step,
        &["start-queued", "backoff"],
        &["reuse-hit", "reuse-miss"],
        Seldom("an older driver's attempt came and went between the question and the answer"),
    ),
    (
        Table::Step,
        &["waiting", "look-up-queued", "looking-up", "start-queued"],
        &[],
        Seldom(
            "an older driver's attempt, or an older request to cancel, in the moments before this one starts any",
        ),
    ),
    (
        Table::Step,
        &["backoff", "granting", "committing"],
        &[],
        Seldom("news that overtakes the end of its attempt, or of a second launcher of the number"),
    ),
    (
        Table::Step,
        &["done"],
        &["refused", "unavailable", "gone-known", "granted"],
        Seldom("an answer that comes after a cut-off launcher has committed"),
    ),
    (
        Table::Attempt,
        &["unknown", "idle", "ending", "judging", "over", "lost"],
        &[],
        Seldom("news that overtakes the end of its attempt, or of a second launcher of the number"),
    ),
    (
        Table::Attempt,
        &["live", "stopping"],
        &["refused", "unavailable", "gone-unclaimed"],
        Seldom("a start whose answer comes after the news of another launcher of the number"),
    ),
    (
        Table::Run,
        &["ending", "canceling", "halted"],
        &[
            "refused",
            "unavailable",
            "granted",
            "tick",
            "gone-known",
            "gone-unclaimed",
            "judged-lost",
        ],
        Seldom("what was under way when the run was closed"),
    ),
];

/// Processes that need not be killed at an effect.
pub(super) const KILLS: &[Point] = &[(
    Actor::Canceler,
    Effect::Read,
    Seldom("a log that grows between its listing and its reading"),
)];
