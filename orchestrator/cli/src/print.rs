//! Results on standard output: JSON for programs, text for people. A reader that
//! went away (`| head`) is no error.

use crate::args::OutputFormat;
use crate::failure::Failure;
use serde::Serialize;
use std::io::{self, Write};

/// Prints `value` as JSON, or what `text` says.
///
/// # Errors
/// Where the format is none of this command's, or standard output cannot be written.
pub fn result<T: Serialize>(
    output: OutputFormat,
    value: &T,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let mut printed = match output {
        OutputFormat::Text => text(),
        OutputFormat::Json => serde_json::to_string_pretty(value)
            .map_err(|error| Failure::unreachable(format!("writing JSON: {error}")))?,
        OutputFormat::Mermaid | OutputFormat::Dot | OutputFormat::Svg => {
            return Err(
                Failure::usage("--output mermaid, dot and svg belong to `plan`")
                    .help("use text or json"),
            );
        }
    };
    if !printed.is_empty() && !printed.ends_with('\n') {
        printed.push('\n');
    }
    raw(printed.as_bytes())
}

/// Prints bytes as they are.
///
/// # Errors
/// Where standard output cannot be written.
pub fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::unreachable(
            format!("writing to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
