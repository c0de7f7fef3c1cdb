//! What a launcher and those who listen to it say to each other over its socket:
//! one JSON value on each line. Whoever connects first hears the current state.

use auria_core::AttemptId;
use auria_core::run::AttemptNews;
use serde::{Deserialize, Serialize};

/// The version of these lines; a listener of another version hangs up.
pub const WIRE_VERSION: u32 = 1;

/// What a launcher says.
#[expect(
    clippy::large_enum_variant,
    reason = "a line is read or written at once, and never kept in numbers"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// The first line.
    Hello {
        /// [`WIRE_VERSION`].
        version: u32,
        /// Whose launcher this is.
        attempt: AttemptId,
        /// The launcher's process.
        pid: u32,
    },
    /// Something happened.
    News {
        /// What.
        news: AttemptNews,
    },
    /// The command said something. A listener that is behind misses some: the log
    /// in the store is whole.
    Log {
        /// Lines without their ends.
        lines: Vec<String>,
    },
}

/// What a listener may ask of a launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// End the attempt.
    Stop {
        /// Time between SIGTERM and SIGKILL; 0 also cuts publishing short.
        grace_ms: u64,
    },
}
