//! What the model programs' command lines have in common: exit codes and output forms.
//!
//! Exit codes: 0 done, 1 failed, 2 used wrongly. Results go to stdout, progress to stderr.

use std::process::ExitCode;

use crate::warm;

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

/// The main function of a program: does what its arguments say, once; or stays and does
/// one job after the other ([`warm`]).
pub fn main<C: clap::Parser>(run: impl Fn(C) -> anyhow::Result<()>) -> ExitCode {
    if !warm::is_asked() {
        return ExitCode::from(finish(run(C::parse())));
    }
    warm::serve(|arguments| {
        let name = C::command().get_name().to_owned();
        let arguments = std::iter::once(&name).chain(arguments);
        match C::try_parse_from(arguments) {
            Ok(arguments) => finish(run(arguments)),
            Err(error) => {
                eprint!("{}", error.render());
                u8::try_from(error.exit_code()).unwrap_or(2)
            }
        }
    })
}

/// Turns the result of a program into its exit code, and prints what went wrong with
/// all its causes.
fn finish(result: anyhow::Result<()>) -> u8 {
    let Err(error) = result else {
        return 0;
    };
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because {cause}");
    }
    let misused = error.downcast_ref::<Usage>().is_some()
        || matches!(error.downcast_ref(), Some(crate::Error::Mood { .. }));
    if misused { 2 } else { 1 }
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
    let _ = if warm::is_serving() {
        std::io::stderr().write_all(shown.as_bytes())
    } else {
        std::io::stdout().write_all(shown.as_bytes())
    };
}
