//! What the command line takes from the process's surroundings: variables,
//! the terminal, the clock, the host. Every other module gets these as values.

use auria_core::Timestamp;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// A variable of the environment; unset and empty are the same.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The user's config folder.
pub fn config_folder() -> Option<PathBuf> {
    variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")))
        .map(|folder| folder.join("auria-pipeline"))
}

/// Now.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// What standard error can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Lines may be rewritten.
    pub live: bool,
    /// Colours may be used.
    pub colour: bool,
    /// Columns.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

impl Terminal {
    /// Looks at standard error, `NO_COLOR` and `TERM`.
    pub fn of_stderr() -> Self {
        let stderr = std::io::stderr();
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        let live = stderr.is_terminal() && !dumb;
        let size = terminal_size::terminal_size_of(&stderr);
        Self {
            live,
            colour: live && variable("NO_COLOR").is_none(),
            width: size.map_or(80, |(width, _)| usize::from(width.0).max(20)),
            height: size.map_or(24, |(_, height)| usize::from(height.0).max(4)),
        }
    }

    /// Looks at standard output, for results printed there.
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let size = terminal_size::terminal_size_of(&stdout);
        Self {
            live: false,
            colour: stdout.is_terminal() && variable("NO_COLOR").is_none(),
            width: size.map_or(if stdout.is_terminal() { 80 } else { 200 }, |(width, _)| {
                usize::from(width.0).max(20)
            }),
            height: 24,
        }
    }
}

/// The name of this host.
pub fn host() -> String {
    nix::unistd::gethostname().map_or_else(
        |_| "unknown".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The user's name, or number.
pub fn user() -> String {
    let known = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten();
    known.map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name)
}
