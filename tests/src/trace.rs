//! What really ran: wrappers that stand before the steps' programs and append a
//! line to a file outside every store when a program starts and when it ends.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A line of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `start` or `end`.
    pub what: String,
    /// The step (`AURIA_STEP`).
    pub step: String,
    /// The attempt (`AURIA_ATTEMPT`).
    pub attempt: u32,
    /// Nanoseconds since the epoch, by the machine's clock.
    pub at: u128,
}

/// Puts `auria-pipeline` and a wrapper for each of `programs` into `folder`; the
/// wrappers write to `trace`. Returns the binary to use.
///
/// # Panics
/// Where the folder cannot be written.
#[must_use]
pub fn install(folder: &Path, trace: &Path, programs: &[&str]) -> PathBuf {
    std::fs::create_dir_all(folder).expect("the folder");
    let binary = folder.join("auria-pipeline");
    std::fs::copy(super::program("auria-pipeline"), &binary).expect("the binary");
    for name in programs {
        let real = super::program(name);
        let wrapper = folder.join(name);
        // One short line written with O_APPEND is whole, whoever else writes.
        let text = format!(
            "#!/bin/bash\n\
             echo \"start $AURIA_STEP $AURIA_ATTEMPT $(date +%s%N)\" >> '{trace}'\n\
             '{real}' \"$@\"\n\
             code=$?\n\
             echo \"end $AURIA_STEP $AURIA_ATTEMPT $(date +%s%N)\" >> '{trace}'\n\
             exit $code\n",
            trace = trace.display(),
            real = real.display(),
        );
        std::fs::write(&wrapper, text).expect("the wrapper");
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))
            .expect("its mode");
    }
    binary
}

/// The lines so far.
///
/// # Panics
/// Where a line is none of the wrappers'.
#[must_use]
pub fn read(trace: &Path) -> Vec<Line> {
    let mut text = String::new();
    if let Ok(mut file) = std::fs::File::open(trace) {
        file.read_to_string(&mut text).expect("the trace");
    }
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, step, attempt, at] = words[..] else {
                panic!("a strange line: {line}")
            };
            Line {
                what: what.to_owned(),
                step: step.to_owned(),
                attempt: attempt.parse().expect("an attempt's number"),
                at: at.parse().expect("a time"),
            }
        })
        .collect()
}
