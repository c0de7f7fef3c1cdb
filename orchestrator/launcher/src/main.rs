//! The launcher as a program of its own: `auria-launcher FOLDER`, where FOLDER is
//! the attempt's runtime folder.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(folder), None) => auria_launcher::main(folder.into(), None),
        _ => {
            eprintln!(
                "usage: auria-launcher FOLDER (an attempt's runtime folder, written by an executor)"
            );
            ExitCode::from(2)
        }
    }
}
