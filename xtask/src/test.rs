//! `cargo xtask test`: everything that must hold, part by part.
//!
//! The parts are a table. Each runs whatever the ones before came to, so that one call names all
//! that is wrong. The last line printed is the counts alone, and the exit status follows them.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::report::{Line, Outcome, table};
use crate::shell::{cargo, human, read, root, run, say, show, timed};
use crate::{libtorch, processes, purity, schema, tools};

/// The help's list of parts.
pub(crate) const PARTS_HELP: &str = "\
Examples:
  cargo xtask test                         all parts, in order
  cargo xtask test format lints purity     only these
  cargo xtask test unit

A part that is no test (format, lints, …) counts only when it fails. The last line is
`N passed, N failed, N skipped`; the exit status is 0 if nothing failed.";

#[derive(Args)]
pub(crate) struct Test {
    /// Only these parts
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
}

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Install libtorch and SeaweedFS under target/ if they are absent
    Setup,
    /// cargo fmt --check
    Format,
    /// Core has no I/O and no async
    Purity,
    /// Licences, sources and banned crates of all dependencies
    Deny,
    /// Clippy over the whole workspace, warnings are errors
    Lints,
    /// Clippy over each crate of the orchestrator alone, with only its own features
    Alone,
    /// Tests of the orchestrator's crates and of xtask
    Unit,
    /// Tests of the artist's steps
    Models,
    /// Generated files are those of the binary
    Generated,
    /// Tests through the binary, as a user would run it
    EndToEnd,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Format => "format",
            Self::Purity => "purity",
            Self::Deny => "deny",
            Self::Lints => "lints",
            Self::Alone => "alone",
            Self::Unit => "unit",
            Self::Models => "models",
            Self::Generated => "generated",
            Self::EndToEnd => "end-to-end",
        }
    }

    fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Setup => setup(),
            Self::Format => check(cargo().args(["fmt", "--all", "--check"])),
            Self::Purity => purity::check(),
            Self::Deny => deny(),
            Self::Lints => check(cargo().args([
                "clippy",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ])),
            Self::Alone => alone(),
            Self::Unit => unit(),
            Self::Models => tests(
                cargo().args(["test", "--locked", "--no-fail-fast"]).args(
                    packages("steps")?
                        .iter()
                        .flat_map(|name| ["--package", name]),
                ),
            ),
            Self::Generated => generated(),
            Self::EndToEnd => end_to_end(),
        }
    }
}

impl Test {
    pub(crate) fn run(&self) -> ExitCode {
        let parts = if self.parts.is_empty() {
            Part::value_variants()
        } else {
            &self.parts
        };
        if let Err(error) = processes::adopt_orphans() {
            eprintln!("xtask: {error:#}");
            return ExitCode::FAILURE;
        }
        let mut lines = Vec::new();
        for &part in parts {
            say(format!("test: {}", part.name()));
            let (done, took) = timed(|| part.run());
            let mut outcome = done.unwrap_or_else(|error| {
                let mut outcome = Outcome::default();
                outcome.fail(format!("{error:#}"));
                outcome
            });
            for line in processes::end_leftovers() {
                outcome.fail(line);
            }
            let result = if outcome.failed == 0 { "ok" } else { "FAILED" };
            say(format!("test: {}: {result} ({})", part.name(), human(took)));
            lines.push(Line {
                name: part.name(),
                outcome,
                took,
            });
        }
        print!("\n{}", table(&lines));
        if lines.iter().all(|line| line.outcome.failed == 0) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn setup() -> anyhow::Result<Outcome> {
    libtorch::install(None)?;
    tools::seaweedfs(None)?;
    Ok(Outcome::default())
}

fn deny() -> anyhow::Result<Outcome> {
    let program = tools::cargo_deny()?;
    let deny = || {
        let mut command = Command::new(&program);
        // Without these, git would wait for a person where the database cannot be reached.
        command
            .current_dir(root())
            .arg("--locked")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_HTTP_LOW_SPEED_LIMIT", "1000")
            .env("GIT_HTTP_LOW_SPEED_TIME", "20");
        command
    };
    let mut outcome = check(deny().args(["check", "bans", "licenses", "sources"]))?;
    let fetched = deny()
        .args(["fetch", "db"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot start cargo-deny")?;
    if fetched.success() {
        outcome.add(&check(deny().args([
            "check",
            "--disable-fetch",
            "advisories",
        ]))?);
    } else {
        outcome
            .notes
            .push("advisories left out: their database cannot be reached from here".to_owned());
    }
    Ok(outcome)
}

fn alone() -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    for name in packages("orchestrator")? {
        let mut clippy = cargo();
        clippy.args([
            "clippy",
            "--locked",
            "--package",
            &name,
            "--",
            "-D",
            "warnings",
        ]);
        outcome.add(&check(&mut clippy)?);
    }
    Ok(outcome)
}

fn unit() -> anyhow::Result<Outcome> {
    let mut names = packages("orchestrator")?;
    names.push("xtask".to_owned());
    let names = names.iter().flat_map(|name| ["--package", name]);
    tests(
        cargo()
            .args(["test", "--locked", "--no-fail-fast"])
            .args(names),
    )
}

fn generated() -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    if let Err(error) = schema::run(true) {
        outcome.fail(format!("{error:#}"));
    }
    Ok(outcome)
}

fn end_to_end() -> anyhow::Result<Outcome> {
    build_programs()?;
    tests(cargo().args([
        "test",
        "--locked",
        "--no-fail-fast",
        "--package",
        "auria-tests",
    ]))
}

/// Builds the binary and the steps that the tests and the demo start.
pub(crate) fn build_programs() -> anyhow::Result<()> {
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

/// The packages whose manifest lies below a folder of the project.
fn packages(folder: &str) -> anyhow::Result<Vec<String>> {
    let text = read(cargo().args(["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).context("cannot understand cargo's metadata")?;
    let below = root().join(folder);
    let names: Vec<String> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|package| {
            package["manifest_path"]
                .as_str()
                .is_some_and(|path| std::path::Path::new(path).starts_with(&below))
        })
        .filter_map(|package| package["name"].as_str().map(str::to_owned))
        .collect();
    anyhow::ensure!(!names.is_empty(), "no package below {}", below.display());
    Ok(names)
}

/// A command that is a check: it holds or it does not.
fn check(command: &mut Command) -> anyhow::Result<Outcome> {
    say(show(command));
    let mut outcome = Outcome::default();
    if let Err(error) = run(command) {
        outcome.fail(format!("{error:#}"));
    }
    Ok(outcome)
}

/// A command that runs test programs: its output is shown as it comes, and their counts are summed.
fn tests(command: &mut Command) -> anyhow::Result<Outcome> {
    let shown = show(command);
    say(&shown);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // One thread a test: the test programs already use every core.
        .env("OMP_NUM_THREADS", "1")
        // A changed snapshot is a failure, never a new file.
        .env("INSTA_UPDATE", "no")
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut outcome = Outcome::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.with_context(|| format!("cannot read what `{shown}` prints"))?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            outcome.read_line(&line);
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{shown}`"))?;
    if !status.success() && outcome.failed == 0 {
        // It did not compile, or a test program died before its result.
        outcome.fail(format!("`{shown}` ended with {status}"));
    } else if !status.success() {
        outcome.notes.push(format!("`{shown}` ended with {status}"));
    }
    Ok(outcome)
}
