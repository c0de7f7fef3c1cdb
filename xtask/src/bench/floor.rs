//! What this machine itself takes for the smallest parts of a step: a process, a shell, a record
//! that is on the disk. Nothing of the project runs here.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use super::figures::{Figures, Sample, Unit};
use crate::shell::timed;

/// How often each is measured.
const TIMES: usize = 100;

pub(crate) const MACHINE: &str = "this machine";

/// Adds what `folder`'s file system and this machine take.
pub(crate) fn measure(figures: &mut Figures, folder: &Path) -> anyhow::Result<()> {
    let shell = |words: &[&str]| -> anyhow::Result<Sample> {
        let mut sample = Sample::default();
        for _ in 0..TIMES {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).stdin(Stdio::null());
            let (done, took) = timed(|| command.status());
            done.with_context(|| format!("cannot start {}", words[0]))?;
            sample.push(took.as_secs_f64() * 1e3);
        }
        Ok(sample)
    };
    let unit = Unit::Milliseconds;
    figures.add(
        "fork, exec and wait of `true`",
        MACHINE,
        unit,
        shell(&["true"])?,
    );
    figures.add(
        "the same through `bash -c`",
        MACHINE,
        unit,
        shell(&["bash", "-c", "true"])?,
    );
    let mut sample = Sample::default();
    for number in 0..TIMES {
        let (done, took) = timed(|| record(folder, number));
        done.with_context(|| format!("cannot write to {}", folder.display()))?;
        sample.push(took.as_secs_f64() * 1e3);
    }
    figures.add("a record: fsync of file and folder", MACHINE, unit, sample);
    Ok(())
}

/// A small file that appears whole, and is on the disk with its name.
fn record(folder: &Path, number: usize) -> std::io::Result<()> {
    let (partial, whole) = (
        folder.join(format!("{number}.partial")),
        folder.join(format!("{number}.json")),
    );
    let mut file = File::create_new(&partial)?;
    file.write_all(&[b'x'; 700])?;
    file.sync_all()?;
    fs::hard_link(&partial, &whole)?;
    File::open(folder)?.sync_all()?;
    fs::remove_file(&partial)
}
