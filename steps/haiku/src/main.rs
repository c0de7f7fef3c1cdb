//! The program `auria-haiku`. All it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    auria_haiku::cli::main()
}
