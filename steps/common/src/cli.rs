//! What the model programs' command lines have in common: exit codes and output forms.
//!
//! Exit codes: 0 done, 1 failed, 2 used wrongly. Results go to stdout, progress to stderr.

use std::process::ExitCode;

/// How a program prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document on stdout.
    Json,
}

/// An argument that clap could not refuse by itself: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Turns the result of a program into its exit code, and prints what went wrong with
/// all its causes.
pub fn finish(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because {cause}");
    }
    let misused = error.downcast_ref::<Usage>().is_some()
        || matches!(error.downcast_ref(), Some(crate::Error::Mood { .. }));
    ExitCode::from(if misused { 2 } else { 1 })
}

/// Prints a result: `text` for people, or `value` as JSON.
pub fn print<T: serde::Serialize>(output: Output, value: &T, text: impl FnOnce() -> String) {
    use std::io::Write;
    let mut shown = match output {
        Output::Text => text(),
        Output::Json => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    if !shown.ends_with('\n') {
        shown.push('\n');
    }
    // A closed pipe (`| head`) is the reader's choice and no failure.
    let _ = std::io::stdout().write_all(shown.as_bytes());
}
