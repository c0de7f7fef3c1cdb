//! How a command that did not do its work ends: a message for a person, a way
//! out, and the exit code of the contract.

use std::fmt;

/// Exit codes that scripts rely on.
pub mod exit {
    /// Done; of a run: Completed.
    pub const DONE: u8 = 0;
    /// The run Failed.
    pub const FAILED: u8 = 1;
    /// Usage, an invalid document, an unknown run: nothing was started.
    pub const USAGE: u8 = 2;
    /// The run was Canceled.
    pub const CANCELED: u8 = 3;
    /// The store, the cluster or the engine cannot be reached, or refuses.
    pub const UNREACHABLE: u8 = 4;
    /// Interrupted by Ctrl-C.
    pub const INTERRUPTED: u8 = 130;
}

/// A command that did not do its work.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    message: String,
    help: Option<String>,
}

impl Failure {
    /// Exit 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            code: exit::USAGE,
            message: message.into(),
            help: None,
        }
    }

    /// Exit 4.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self {
            code: exit::UNREACHABLE,
            message: message.into(),
            help: None,
        }
    }

    /// Exit 130.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self {
            code: exit::INTERRUPTED,
            message: message.into(),
            help: None,
        }
    }

    /// Ends with `code`; whatever there is to say has been printed.
    pub fn silent(code: u8) -> Self {
        Self {
            code,
            message: String::new(),
            help: None,
        }
    }

    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says first what it is about.
    #[must_use]
    pub fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do.
    pub fn way_out(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Whether there is anything to print.
    pub fn is_silent(&self) -> bool {
        self.message.is_empty()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}
