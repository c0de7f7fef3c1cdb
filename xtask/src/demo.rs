//! `cargo xtask demo`: from a clone to a poem and its pictures.
//!
//! It installs libtorch, builds the programs, submits the artist's pipeline as a user would, and
//! shows what came out. It makes nothing itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use crate::shell::{binary, cargo, human, installs, root, run, say, show, timed};
use crate::{libtorch, showing};

#[derive(Args)]
pub(crate) struct Demo {
    /// What the work is made from: one seed, one work
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// The mood of the poem and of the colours
    #[arg(long, default_value = "happiness")]
    mood: String,
    /// What the poem is about
    #[arg(long, default_value = "")]
    topic: String,
    /// Serve Auria's page instead, with three works in it, until Ctrl-C
    #[arg(long)]
    serve: bool,
    /// Where it is served
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8460",
        requires = "serve"
    )]
    listen: String,
}

impl Demo {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let (done, installed) = timed(|| libtorch::install(None));
        done?;
        say("building auria-pipeline and the steps (the first time takes minutes)");
        let (done, built) = timed(build_programs);
        done?;
        if self.serve {
            return showing::serve(&self.listen);
        }
        let (report, ran) = timed(|| self.submit());
        let report = report?;
        let shown = show_work(&report)?;
        say(format!(
            "libtorch {}, build {}, run {}, {} in all",
            human(installed),
            human(built),
            human(ran),
            human(begun.elapsed())
        ));
        if shown == 0 {
            bail!("the run left no picture");
        }
        Ok(())
    }

    /// Runs the pipeline and returns the run's report.
    fn submit(&self) -> anyhow::Result<Value> {
        let mut submit = pipeline();
        submit
            .args([
                "submit",
                "pipelines.yaml",
                "--pipeline",
                "auria-kathi",
                "--on",
                "process",
            ])
            .args(["--set", &format!("inputs.seed={}", self.seed)])
            .args(["--set", &format!("inputs.mood={}", self.mood)])
            .args(["--set", &format!("inputs.topic={}", self.topic)])
            .args(["--output", "json"]);
        say(show(&submit));
        let output = submit
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start auria-pipeline")?;
        if !output.status.success() {
            bail!(
                "the run ended with {}; what it says is above",
                output.status
            );
        }
        serde_json::from_slice(&output.stdout).context("submit printed no JSON report")
    }
}

/// Builds the binary and the steps; not the whole workspace, which would take longer.
fn build_programs() -> anyhow::Result<()> {
    run(cargo().args([
        "build",
        "--locked",
        "--bins",
        "--package",
        "auria-pipeline",
        "--package",
        "auria-haiku",
        "--package",
        "auria-paint",
        "--package",
        "auria-style",
        "--package",
        "auria-post",
    ]))
}

/// Prints the poem, the pictures' paths and what was reused; returns the number of pictures.
fn show_work(report: &Value) -> anyhow::Result<usize> {
    let name = report["run"].as_str().context("the report names no run")?;
    let folder = installs().join("demo").join(name);
    if !folder.exists() {
        let mut download = pipeline();
        download.args(["download", name, "--to"]).arg(&folder);
        run(download.stdout(Stdio::null()))?;
    }
    let files = files_below(&folder)?;
    println!();
    // The same file may be the output of a step and of the pipeline: shown once.
    if let Some(poem) = files.iter().find(|path| path.ends_with("poem.txt")) {
        let text =
            fs::read_to_string(poem).with_context(|| format!("cannot read {}", poem.display()))?;
        for line in text.trim_end().lines() {
            println!("    {line}");
        }
        println!();
    }
    let mut pictures = 0;
    for wanted in ["painting.png", "coloured.png"] {
        if let Some(picture) = files.iter().find(|path| path.ends_with(wanted)) {
            println!("{}", picture.display());
            pictures += 1;
        }
    }
    let page = root().join("gallery/index.html");
    if page.exists() {
        println!("{}", page.display());
    }
    println!();
    println!("run {name}: {}", reuse(report));
    Ok(pictures)
}

/// Which steps ran and which were reused, in words.
fn reuse(report: &Value) -> String {
    let (mut ran, mut reused) = (Vec::new(), Vec::new());
    for (step, state) in report["steps"].as_object().into_iter().flatten() {
        match state["reused_from"]["run"].as_str() {
            Some(run) => reused.push(format!("{step} from {run}")),
            None => ran.push(step.as_str()),
        }
    }
    let ran = if ran.is_empty() {
        "nothing".to_owned()
    } else {
        ran.join(", ")
    };
    if reused.is_empty() {
        format!("ran {ran}; reused nothing")
    } else {
        format!("ran {ran}; reused {}", reused.join(", "))
    }
}

fn pipeline() -> Command {
    let mut command = Command::new(binary("auria-pipeline"));
    command.current_dir(root());
    command
}

fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_reused_is_named_with_its_run() {
        let report = serde_json::json!({"steps": {
            "write": {"reused_from": {"run": "auria-kathi-1", "step": "write"}},
            "post": {"reused_from": null},
        }});
        assert_eq!(
            super::reuse(&report),
            "ran post; reused write from auria-kathi-1"
        );
        let report = serde_json::json!({"steps": {"write": {"reused_from": null}}});
        assert_eq!(super::reuse(&report), "ran write; reused nothing");
    }
}
