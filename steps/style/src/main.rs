//! `auria-style`: colours a picture in a mood with wavelet style transfer.

use std::process::ExitCode;

use auria_style::commands::Cli;
fn main() -> ExitCode {
    auria_steps_common::cli::main(Cli::run)
}
