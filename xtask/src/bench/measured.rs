//! Numbers that a program of `tests/tests` measures and writes, as figures.

use anyhow::Context;
use serde_json::Value;

use super::figures::{Figures, Sample, Unit};
use crate::programs::Program;

/// Runs a program that measures.
pub(super) fn by(
    program: &Program,
    mut variables: Vec<(&'static str, String)>,
) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir().context("cannot make a folder for the numbers")?;
    let file = folder.path().join("numbers.json");
    variables.push(("AURIA_MEASURES", file.display().to_string()));
    program.run(&variables)?;
    let text = std::fs::read_to_string(&file).context("nothing was measured")?;
    let numbers: Value = serde_json::from_str(&text).context("the numbers are no JSON")?;
    Ok(read(&numbers))
}

/// What was measured; values of the same work and program are one sample.
pub(super) fn read(numbers: &Value) -> Figures {
    let mut figures = Figures::default();
    for line in numbers.as_array().into_iter().flatten() {
        let text = |name: &str| line[name].as_str().unwrap_or_default();
        let unit = match text("unit") {
            "s" => Unit::Seconds,
            "ms" => Unit::Milliseconds,
            "MiB" => Unit::Mebibytes,
            _ => Unit::Times,
        };
        let values = line["values"].as_array().into_iter().flatten();
        let sample: Sample = values.filter_map(Value::as_f64).collect();
        let (work, program) = (text("work"), text("program"));
        let known = figures
            .lines
            .iter_mut()
            .find(|line| line.work == work && line.program == program);
        match known {
            Some(known) => known.sample.extend(&sample),
            None => figures.add(work, program, unit, sample),
        }
    }
    // Programs of one work stand together.
    let mut order: Vec<String> = Vec::new();
    for line in &figures.lines {
        if !order.contains(&line.work) {
            order.push(line.work.clone());
        }
    }
    let place = |work: &str| order.iter().position(|one| one == work);
    figures.lines.sort_by_key(|line| place(&line.work));
    figures
}
