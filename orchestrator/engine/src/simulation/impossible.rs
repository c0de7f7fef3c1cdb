//! What need not happen, each with its reason. What is not listed and does not happen
//! fails the simulation. [`Why::Never`] is what the engine's construction, or the
//! simulation's, rules out: it fails the simulation where it happens. [`Why::Seldom`]
//! needs several coincidences, and has a measured rate to hold it to.

use super::points::{Actor, Effect};
use super::report::{Pair, Point, Rare};
use auria_core::run::coverage::Table;

/// Why a pair need not happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// It cannot.
    Never(&'static str),
    /// It can, and so many schedules of a million hold it.
    Seldom {
        in_a_million: u64,
        reason: &'static str,
    },
}

use Why::{Never, Seldom};

/// States and events that never meet; an empty list of either means all of them. The
/// first that fits counts.
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
];

/// What happens less than a thousand times in a million schedules: how often it was seen
/// in 100 thousand of them, for a million. A run fails in which one that is to be expected
/// twenty times does not happen, and names the others.
pub(super) const SELDOM: &[Rare] = &[
    (
        Table::Step,
        "an older driver's attempt, or an older request to cancel, shows itself in the moments before this driver starts any",
        &[
            (
                "waiting",
                &[
                    ("committed-news", 140),
                    ("ended", 60),
                    ("claim-lost", 60),
                    ("gone-unclaimed", 400),
                    ("gone-claimed", 10),
                    ("gone-known", 0),
                ],
            ),
            (
                "look-up-queued",
                &[
                    ("claimed", 900),
                    ("committed-news", 0),
                    ("ended", 0),
                    ("claim-lost", 0),
                    ("gone-unclaimed", 20),
                    ("gone-claimed", 0),
                    ("gone-known", 0),
                    ("kill-asked", 710),
                ],
            ),
            (
                "looking-up",
                &[
                    ("committed-news", 450),
                    ("ended", 190),
                    ("claim-lost", 160),
                    ("gone-claimed", 70),
                    ("gone-known", 0),
                ],
            ),
            ("start-queued", &[("claim-lost", 250), ("gone-known", 160)]),
            ("granting", &[("cancel-asked", 570), ("kill-asked", 360)]),
        ],
    ),
    (
        Table::Step,
        "an answer or a record passes news of another driver's launcher of the number",
        &[
            ("waiting", &[("unavailable", 0)]),
            ("look-up-queued", &[("unavailable", 0)]),
            ("looking-up", &[("unavailable", 50)]),
            (
                "start-queued",
                &[
                    ("refused", 0),
                    ("unavailable", 0),
                    ("reuse-hit", 10),
                    ("reuse-miss", 10),
                ],
            ),
            (
                "backoff",
                &[
                    ("refused", 10),
                    ("unavailable", 0),
                    ("reuse-hit", 0),
                    ("reuse-miss", 140),
                ],
            ),
            ("active", &[("reuse-hit", 280)]),
            (
                "granting",
                &[
                    ("refused", 10),
                    ("unavailable", 50),
                    ("judged-lost", 0),
                    ("reuse-hit", 40),
                    ("reuse-miss", 590),
                ],
            ),
            (
                "committing",
                &[
                    ("refused", 10),
                    ("unavailable", 50),
                    ("judged-lost", 10),
                    ("reuse-hit", 780),
                ],
            ),
            ("done", &[("refused", 340), ("unavailable", 700)]),
        ],
    ),
    (
        Table::Step,
        "news that overtakes the end of its attempt, or is of a second launcher of the number",
        &[
            ("backoff", &[("gone-known", 940)]),
            ("granting", &[("gone-unclaimed", 40)]),
            ("committing", &[("gone-known", 490)]),
            ("done", &[("gone-known", 450)]),
        ],
    ),
    (
        Table::Attempt,
        "news that overtakes the end of its attempt, or is of a second launcher of the number",
        &[
            (
                "unknown",
                &[
                    ("claim-lost", 280),
                    ("gone-claimed", 730),
                    ("gone-known", 170),
                ],
            ),
            (
                "idle",
                &[
                    ("committed-news", 860),
                    ("ended", 30),
                    ("claim-lost", 110),
                    ("gone-claimed", 50),
                    ("gone-known", 0),
                ],
            ),
            ("live", &[("gone-unclaimed", 380)]),
            (
                "ending",
                &[
                    ("waiting", 130),
                    ("claimed", 70),
                    ("phase", 100),
                    ("committed-news", 100),
                    ("claim-lost", 120),
                    ("gone-unclaimed", 280),
                    ("gone-claimed", 180),
                    ("gone-known", 40),
                ],
            ),
            ("judging", &[("ended", 10), ("gone-unclaimed", 50)]),
            ("over", &[("gone-claimed", 710), ("gone-known", 90)]),
            ("lost", &[("gone-unclaimed", 240)]),
        ],
    ),
    (
        Table::Attempt,
        "an answer or a record passes news of another driver's launcher of the number",
        &[
            ("unknown", &[("unavailable", 70)]),
            ("idle", &[("refused", 0), ("unavailable", 0)]),
            ("live", &[("refused", 320), ("unavailable", 690)]),
            ("stopping", &[("refused", 750)]),
            ("ending", &[("refused", 0), ("unavailable", 0)]),
            ("judging", &[("refused", 0), ("unavailable", 0)]),
            ("over", &[("refused", 350), ("unavailable", 760)]),
            ("lost", &[("refused", 20), ("unavailable", 10)]),
        ],
    ),
    (
        Table::Run,
        "what was under way when the run was closed, ended or was taken over",
        &[
            ("halted", &[("kill-asked", 680)]),
            ("canceling", &[("refused", 550)]),
            (
                "ending",
                &[
                    ("gone-unclaimed", 380),
                    ("gone-claimed", 610),
                    ("gone-known", 70),
                    ("refused", 10),
                    ("unavailable", 90),
                    ("granted", 680),
                    ("judged-lost", 470),
                    ("committed", 520),
                    ("cancel-asked", 790),
                    ("tick", 190),
                ],
            ),
        ],
    ),
];

/// Processes that are seldom killed at an effect.
pub(super) const KILLS: &[Point] = &[
    (
        Actor::Driver,
        Effect::AskToCancel,
        Seldom {
            in_a_million: 920,
            reason: "it takes a schedule of its kind, and this death out of many",
        },
    ),
    (
        Actor::Driver,
        Effect::WriteEnd,
        Seldom {
            in_a_million: 790,
            reason: "it takes a schedule of its kind, and this death out of many",
        },
    ),
    (
        Actor::Driver,
        Effect::CommitCompleted,
        Seldom {
            in_a_million: 500,
            reason: "it takes a schedule of its kind, and this death out of many",
        },
    ),
];
