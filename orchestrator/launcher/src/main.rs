//! The launcher as a program of its own: `auria-launcher FOLDER`, where FOLDER is
//! the attempt's runtime folder, or `auria-launcher pod` as process 1 of a container, where
//! `auria-launcher install FOLDER` may have put it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (first, second) = (arguments.next(), arguments.next());
    match (first, second, arguments.next()) {
        #[cfg(feature = "brokered")]
        (Some(first), handed, None) if first == "pod" => auria_launcher::pod::main(handed),
        #[cfg(feature = "brokered")]
        (Some(first), Some(folder), None) if first == "install" => {
            auria_launcher::install::main(&folder)
        }
        #[cfg(feature = "direct")]
        (Some(folder), None, None) => auria_launcher::main(folder.into(), None),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

#[cfg(feature = "direct")]
const USAGE: &str = "usage: auria-launcher FOLDER (an attempt's runtime folder, written by an executor)
       auria-launcher pod (on a cluster: AURIA_BROKER, AURIA_BROKER_TOKEN and AURIA_BROKER_CA say what to do)
       auria-launcher install FOLDER (puts this program there)";
#[cfg(not(feature = "direct"))]
const USAGE: &str = "usage: auria-launcher pod (AURIA_BROKER, AURIA_BROKER_TOKEN and AURIA_BROKER_CA say what to do)
       auria-launcher install FOLDER (puts this program there)";
