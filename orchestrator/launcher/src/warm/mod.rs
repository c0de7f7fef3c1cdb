//! Warm processes: a program that stays between attempts with what it has loaded, and
//! carries out one after the other. An executor keeps such programs ([`Program`]) and
//! lends them over a socket; a launcher borrows one in place of a process of its own
//! ([`borrow`]). Never shares a program between two attempts at once.
//!
//! What a program has to do stands in `docs/serve.md`: it is started with the step's
//! environment, says `{"ready":true}` on standard output, and for each line with a
//! [`Job`] on standard input it answers a line with a [`Done`]. Standard error is the
//! step's log.

mod borrow;
mod program;
mod words;

pub(crate) use borrow::{Borrowed, Wanted};
pub use program::Program;
pub(crate) use words::plain_words;

use auria_core::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The version of what is said over the socket; another one is refused.
pub const WARM_VERSION: u32 = 1;
/// Bytes of the longest line of a program or over the socket.
pub const LONGEST_LINE: usize = 256 * 1024;

/// What makes two programs one and the same: only equal askers are lent one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// [`WARM_VERSION`].
    pub version: u32,
    /// The command that starts it, for a shell.
    pub start: String,
    /// The content of the executable that the step's command begins with.
    pub executable: Option<Digest>,
    /// The step's code, a copy of which it starts in.
    pub code: Option<Digest>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// The most memory of it and what it starts.
    pub memory_bytes: Option<u64>,
}

/// What a launcher asks an executor for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Which program.
    pub kind: Kind,
    /// The asker's copy of the code.
    pub folder: PathBuf,
}

/// What an executor answers. Pipes to the program's input, from its output and from its
/// errors come with [`Answer::Lent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The program is the asker's until the connection ends.
    Lent {
        /// Its process, which leads a group.
        process: i32,
    },
    /// There is none; the step starts a process of its own.
    Refused {
        /// Why.
        why: String,
    },
    /// The lent program has ended.
    Ended {
        /// Its exit status; 128 + n for a signal.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// The kernel ended it for want of memory.
        out_of_memory: bool,
    },
}

/// The line with which a launcher gives a program back that is as good as new. Without
/// it the program is ended.
pub const BACK: &str = "back\n";

/// One attempt's work, a line on the program's standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which; the answer names it.
    pub id: u64,
    /// What follows the program's name in the step's command.
    pub arguments: Vec<String>,
    /// The folder that the command would start in.
    pub folder: String,
    /// What its environment would hold beside that of the program.
    pub environment: BTreeMap<String, String>,
    /// Inputs that are files, by name.
    pub inputs: BTreeMap<String, JobInput>,
}

/// An input of a [`Job`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInput {
    /// Where it lies, for this attempt.
    pub path: String,
    /// What it holds: what was loaded from an equal one may be used again.
    pub content: String,
}

/// What a program says when a [`Job`] is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    pub id: u64,
    /// As the command would have ended. After another one than 0 the program is ended.
    pub exit_code: i32,
}

/// The first line of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Always true.
    pub ready: bool,
}
