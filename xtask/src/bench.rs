//! `cargo xtask bench`: what a step costs, beside GNU make.
//!
//! Both run the same commands on the same machine in the same call, in turns. Make keeps nothing:
//! no outcomes, no logs, no recovery. The ratio says what those cost; it is never asserted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::shell::{cargo, root, run, say, target, timed};

#[derive(Args)]
pub(crate) struct Bench {
    /// Steps of the larger pipelines
    #[arg(long, default_value_t = 100)]
    steps: usize,
    /// Runs of each; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// How the steps of a pipeline hang together.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// None waits for another.
    Wide,
    /// Each waits for the one before.
    Chain,
}

impl Bench {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if self.rounds == 0 || self.steps < 2 {
            bail!("at least one round and two steps are needed");
        }
        say("building auria-pipeline in the release profile");
        run(cargo().args([
            "build",
            "--release",
            "--locked",
            "--package",
            "auria-pipeline",
        ]))?;
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        println!("{} CPUs, median of {} rounds, seconds\n", jobs, self.rounds);
        println!(
            "{:<22} {:>14} {:>14} {:>8}",
            "pipeline",
            "auria-pipeline",
            &format!("make -j{jobs}"),
            "ratio"
        );
        let one = self.row("1 step", 1, Shape::Wide, jobs)?;
        for (name, shape) in [("independent", Shape::Wide), ("one chain", Shape::Chain)] {
            let many = self.row(
                &format!("{} steps, {name}", self.steps),
                self.steps,
                shape,
                jobs,
            )?;
            let more = (self.steps - 1) as f64;
            let step = |many: f64, one: f64| ((many - one) / more * 1e3).max(0.0);
            println!(
                "{:<22} {:>11.2} ms {:>11.2} ms",
                "  each further step",
                step(many.0, one.0),
                step(many.1, one.1)
            );
        }
        Ok(())
    }

    /// Medians of both programs, in seconds.
    fn row(
        &self,
        name: &str,
        steps: usize,
        shape: Shape,
        jobs: usize,
    ) -> anyhow::Result<(f64, f64)> {
        let (mut ours, mut makes) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            // A fresh folder, and so a fresh store, for each round.
            let folder = tempfile::tempdir().context("cannot make a folder to measure in")?;
            ours.push(ours_once(folder.path(), steps, shape)?);
            makes.push(make_once(folder.path(), steps, shape, jobs)?);
        }
        let (ours, make) = (median(ours), median(makes));
        println!("{name:<22} {ours:>14.3} {make:>14.3} {:>7.1}x", ours / make);
        Ok((ours, make))
    }
}

fn ours_once(folder: &Path, steps: usize, shape: Shape) -> anyhow::Result<f64> {
    let file = folder.join("pipelines.yaml");
    fs::write(&file, pipeline_text(steps, shape))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let mut submit = Command::new(release_binary());
    // The steps have one key: without this, all but the first would be reused.
    submit
        .current_dir(folder)
        .args([
            "submit",
            "pipelines.yaml",
            "--on",
            "process",
            "--force-rerun",
        ])
        .args(["--output", "json", "--store"])
        .arg(folder.join("store"));
    once(&mut submit)
}

fn make_once(folder: &Path, steps: usize, shape: Shape, jobs: usize) -> anyhow::Result<f64> {
    let file = folder.join("Makefile");
    fs::write(&file, makefile_text(steps, shape))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let mut make = Command::new("make");
    make.current_dir(folder)
        .arg(format!("-j{jobs}"))
        // As xtask may itself run below a make.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    once(&mut make)
}

fn once(command: &mut Command) -> anyhow::Result<f64> {
    let (output, took) = timed(|| command.stdin(Stdio::null()).output());
    let program = command.get_program().to_string_lossy().into_owned();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(Duration::as_secs_f64(&took))
}

fn pipeline_text(steps: usize, shape: Shape) -> String {
    let mut text = "type: pipeline\nname: bench\njobs:\n".to_owned();
    for step in 0..steps {
        text += &format!("  s{step}:\n    command: \"true\"\n");
        if let (Shape::Chain, Some(before)) = (shape, step.checked_sub(1)) {
            text += &format!("    depends_on: [s{before}]\n");
        }
    }
    text
}

/// The recipes go through bash, as the pipeline's commands do.
fn makefile_text(steps: usize, shape: Shape) -> String {
    let names: Vec<String> = (0..steps).map(|step| format!("s{step}")).collect();
    let names = names.join(" ");
    let mut text = format!("SHELL := /bin/bash\n.PHONY: all {names}\nall: {names}\n");
    for step in 0..steps {
        let before = match (shape, step.checked_sub(1)) {
            (Shape::Chain, Some(before)) => format!(" s{before}"),
            _ => String::new(),
        };
        // Make starts a lone word without any shell; the semicolon makes it use one.
        text += &format!("s{step}:{before}\n\t@true;\n");
    }
    text
}

fn release_binary() -> PathBuf {
    root().join(target()).join("release/auria-pipeline")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Shape, make_once, makefile_text, median, pipeline_text};

    #[test]
    fn both_files_say_the_same_order() {
        assert!(pipeline_text(2, Shape::Chain).ends_with("depends_on: [s0]\n"));
        assert!(!pipeline_text(2, Shape::Wide).contains("depends_on"));
        assert!(makefile_text(2, Shape::Chain).contains("s1: s0\n"));
        let folder = tempfile::tempdir().unwrap();
        assert!(make_once(folder.path(), 3, Shape::Chain, 2).unwrap() > 0.0);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
    }
}
