//! What a run costs as it grows: how soon its first step starts, a large run's memory and pace, a
//! run in which nothing changed, and the driver alone on a simulated executor.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::Profile;
use super::figures::{Figures, Sample, Unit};
use super::local::place;
use super::peers::{OURS, once};
use super::work::{Shape, pipeline};
use crate::shell::{cargo, read, say};

const FIRST: &str = "from submit to the first step's start";
const PEAK: &str = "large run: memory of its driver, at most";
const EARLY: &str = "large run: a step of the first tenth";
const LATE: &str = "large run: a step of the last tenth";
const EARLY_MEMORY: &str = "large run: memory after a tenth";
const LATE_MEMORY: &str = "large run: memory at its end";
const REUSED: &str = "1000 steps in which nothing changed";
/// Steps of the driver's runs on a simulated executor.
const SIMULATED: [u64; 4] = [100, 1_000, 10_000, 100_000];

/// Between two looks at a process's memory.
const LOOK: Duration = Duration::from_millis(50);

/// What the larger measurements need.
pub(crate) struct Large<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) folder: &'a Path,
    /// The runtime folder.
    pub(crate) runtime: &'a Path,
    pub(crate) rounds: usize,
    pub(crate) steps: usize,
    pub(crate) profile: Profile,
}

impl Large<'_> {
    pub(crate) fn measure(&self, figures: &mut Figures) -> anyhow::Result<()> {
        self.reuse(figures)?;
        self.large_run(figures)?;
        simulated(figures, self.profile)
    }

    fn submit(&self, folder: &Path, more: &[&str]) -> Command {
        let mut submit = Command::new(self.binary);
        submit
            .args(["submit", "pipelines.yaml", "--on", "process"])
            .args(more)
            .args(["--output", "json", "--store"])
            .arg(folder.join("store"))
            .current_dir(folder)
            .env("XDG_RUNTIME_DIR", self.runtime)
            .stdin(Stdio::null());
        submit
    }

    /// The step itself says when it started, by the clock of this machine.
    pub(crate) fn first_step(&self, figures: &mut Figures) -> anyhow::Result<()> {
        say(format!("measuring: {FIRST}"));
        let mut sample = Sample::default();
        for round in 0..self.rounds.max(10) {
            let folder = place(self.folder, &format!("first-{round}"))?;
            let started = folder.join("started");
            let text = format!(
                "type: pipeline\nname: bench\njobs:\n  one:\n    command: echo \"$EPOCHREALTIME\" > {}\n",
                started.display()
            );
            fs::write(folder.join("pipelines.yaml"), text).context("cannot write a pipeline")?;
            let asked = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
            once(&mut self.submit(&folder, &[]))?;
            let started = fs::read_to_string(&started).context("the step left no time")?;
            let started: f64 = started
                .trim()
                .replace(',', ".")
                .parse()
                .with_context(|| format!("bash says that the time is `{}`", started.trim()))?;
            sample.push((started - asked) * 1e3);
        }
        figures.add(FIRST, OURS, Unit::Milliseconds, sample);
        Ok(())
    }

    fn reuse(&self, figures: &mut Figures) -> anyhow::Result<()> {
        say(format!("measuring: {REUSED}"));
        let folder = place(self.folder, "reuse")?;
        let text = pipeline(Shape::Wide(1000), true);
        fs::write(folder.join("pipelines.yaml"), text).context("cannot write a pipeline")?;
        once(&mut self.submit(&folder, &[]))?;
        let mut sample = Sample::default();
        for _ in 0..self.rounds {
            sample.push(once(&mut self.submit(&folder, &[]))?);
        }
        // A run that did not reuse would be a measurement of something else.
        let mut show = Command::new(self.binary);
        show.args(["show", "latest", "--output", "json", "--store"])
            .arg(folder.join("store"));
        let report: Value = serde_json::from_str(&read(&mut show)?)?;
        let steps = report["steps"].as_object().context("a report has steps")?;
        let reused = steps.values().filter(|step| step["status"] == "Reused");
        ensure!(reused.count() == 1000, "not every step was reused");
        figures.add(REUSED, OURS, Unit::Seconds, sample);
        Ok(())
    }

    fn large_run(&self, figures: &mut Figures) -> anyhow::Result<()> {
        say(format!("measuring: a run of {} steps", self.steps));
        let folder = place(self.folder, "large")?;
        let text = pipeline(Shape::Wide(self.steps), false);
        fs::write(folder.join("pipelines.yaml"), text).context("cannot write a pipeline")?;
        let mut child = self
            .submit(&folder, &["--force-rerun", "--name", "large"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start auria-pipeline")?;
        let mut memory: Vec<(SystemTime, f64)> = Vec::new();
        let mut peak = f64::NAN;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if let Some((resident, highest)) = resident(child.id()) {
                memory.push((SystemTime::now(), resident));
                peak = highest;
            }
            std::thread::sleep(LOOK);
        };
        ensure!(status.success(), "the large run ended with {status}");
        let mut ends = ends(&folder.join("store/runs/large/outcomes"))?;
        ends.sort_unstable();
        ensure!(ends.len() == self.steps, "{} outcomes", ends.len());
        let tenth = self.steps / 10;
        let pace = |from: usize, to: usize| {
            let took = ends[to].duration_since(ends[from]).unwrap_or_default();
            took.as_secs_f64() * 1e3 / (to - from) as f64
        };
        let resident_at = |at: SystemTime| {
            let found = memory.iter().rev().find(|(when, _)| *when <= at);
            found.map_or(f64::NAN, |(_, resident)| *resident)
        };
        let last = self.steps - 1;
        for (work, unit, value) in [
            (EARLY, Unit::Milliseconds, pace(0, tenth)),
            (LATE, Unit::Milliseconds, pace(last - tenth, last)),
            (EARLY_MEMORY, Unit::Mebibytes, resident_at(ends[tenth])),
            (LATE_MEMORY, Unit::Mebibytes, resident_at(ends[last])),
            (PEAK, Unit::Mebibytes, peak),
        ] {
            figures.add(work, OURS, unit, [value].into_iter().collect());
        }
        Ok(())
    }
}

/// Resident memory of a process now and at most, in MiB.
fn resident(process: u32) -> Option<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let of = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib / 1024.0)
    };
    Some((of("VmRSS:")?, of("VmHWM:")?))
}

/// When each outcome in `folder` was written.
fn ends(folder: &Path) -> anyhow::Result<Vec<SystemTime>> {
    let unreadable = || format!("cannot read {}", folder.display());
    fs::read_dir(folder)
        .with_context(unreadable)?
        .map(|entry| Ok(entry?.metadata()?.modified()?))
        .collect::<anyhow::Result<_>>()
        .with_context(unreadable)
}

fn per_event(steps: u64) -> String {
    format!("the driver alone, {steps} steps: an event")
}

fn per_step(steps: u64) -> String {
    format!("the driver alone, {steps} steps: store calls for a step")
}

/// The driver, the run state and the journal on an executor and a store in memory.
fn simulated(figures: &mut Figures, profile: Profile) -> anyhow::Result<()> {
    say("measuring: the driver on a simulated executor");
    let mut bench = cargo();
    bench.args(["bench", "--quiet", "--locked", "--package", "auria-engine"]);
    bench.args(["--profile", profile.name(), "--bench", "events"]);
    bench.args(["--", "--steps"]);
    bench.arg(SIMULATED.map(|steps| steps.to_string()).join(","));
    let text = read(&mut bench)?;
    for steps in SIMULATED {
        let found = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|value| value["steps"] == steps);
        let Some(found) = found else {
            bail!("the bench of the driver says nothing of {steps} steps: {text}");
        };
        let number = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
        for (work, unit, value) in [
            (per_event(steps), Unit::Microseconds, number("us_per_event")),
            (per_step(steps), Unit::Times, number("store_calls_per_step")),
        ] {
            figures.add(&work, OURS, unit, [value].into_iter().collect());
        }
    }
    Ok(())
}

/// What the project wants of all this.
pub(crate) fn goals(figures: &mut Figures) {
    for (work, limit, unit) in [
        (FIRST, 50.0, "ms"),
        (REUSED, 1.0, "s"),
        (PEAK, 100.0, "MiB"),
    ] {
        let found = figures.median(work, OURS);
        let what = format!("{work}: under {limit} {unit}");
        figures.goal(&what, format!("{found:.2} {unit}"), found < limit);
    }
    let of = |steps| figures.median(&per_event(steps), OURS);
    let (least, most) = SIMULATED
        .map(of)
        .into_iter()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        });
    // The caches of a processor alone make a large run slower for each event; work that grew with
    // the run would show as a hundredfold.
    let found = format!("{least:.1} to {most:.1} us");
    figures.goal(
        "the driver alone: the same time for an event at 100 and 100,000 steps (within 2 times)",
        found,
        most <= 2.0 * least,
    );
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_has_memory() {
        let (now, most) = super::resident(std::process::id()).unwrap();
        assert!(now > 1.0 && most >= now, "{now} {most}");
    }
}
