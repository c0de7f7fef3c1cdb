//! `cargo xtask test`: everything that must hold, part by part.
//!
//! The parts are a table. Each runs whatever the ones before came to, so that one call names all
//! that is wrong. The last line printed is the counts alone, and the exit status follows them.

use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::programs::{self, Program};
use crate::report::{Line, Outcome, table};
use crate::shell::{cargo, human, read, root, run, say, show, timed};
use crate::{
    cluster, engines, fuzz, launcher, libtorch, processes, purity, schema, simulate, tools,
};

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
    /// Install what is absent: libtorch and SeaweedFS under target/, on Debian container engines
    Setup,
    /// cargo fmt --check
    Format,
    /// Core has no I/O and no async
    Purity,
    /// Licences, sources and banned crates of all dependencies
    Deny,
    /// Clippy over the whole workspace, hadolint over the Dockerfiles; warnings are errors
    Lints,
    /// Clippy over each crate of the orchestrator alone, with only its own features
    Alone,
    /// Build all programs and tests
    Build,
    /// Tests of the orchestrator's crates and of xtask
    Unit,
    /// libFuzzer over the reading of documents, for 20 seconds
    Fuzz,
    /// 20,000 schedules of the simulation, and its mutants
    Simulation,
    /// Tests of the artist's steps
    Models,
    /// Generated files are those of the binary
    Generated,
    /// Tests through the binary, as a user would run it
    EndToEnd,
    /// `serve` and the command line over it, through the binary
    Server,
    /// Steps in containers of real engines, Docker's and Podman's
    Containers,
    /// A real Kubernetes of three nodes, started for it
    Cluster,
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
            Self::Build => "build",
            Self::Unit => "unit",
            Self::Fuzz => "fuzz",
            Self::Simulation => "simulation",
            Self::Models => "models",
            Self::Generated => "generated",
            Self::EndToEnd => "end-to-end",
            Self::Server => "server",
            Self::Containers => "containers",
            Self::Cluster => "cluster",
        }
    }

    /// Whether it builds the steps, or starts SeaweedFS.
    fn needs_setup(self) -> bool {
        match self {
            Self::Setup
            | Self::Format
            | Self::Purity
            | Self::Deny
            | Self::Alone
            | Self::Fuzz
            | Self::Simulation => false,
            Self::Lints
            | Self::Build
            | Self::Unit
            | Self::Models
            | Self::Generated
            | Self::EndToEnd
            | Self::Server
            | Self::Containers
            | Self::Cluster => true,
        }
    }

    fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Setup => setup(),
            Self::Format => check(cargo().args(["fmt", "--all", "--check", "--", "-l"])),
            Self::Purity => purity::check(),
            Self::Deny => deny(),
            Self::Lints => lints(),
            Self::Alone => alone(),
            Self::Build => programs::build_all().map(|_| Outcome::default()),
            Self::Unit => unit(),
            Self::Fuzz => fuzz::check(),
            Self::Simulation => simulate::test(),
            Self::Models => run_programs(|program| program.is_below("steps"), &[]),
            Self::Generated => generated(),
            Self::EndToEnd => run_programs(
                |program| {
                    program.is_below("tests")
                        && !program.is_server()
                        && !program.needs_engines()
                        && !program.needs_cluster()
                },
                &[],
            ),
            Self::Server => server(),
            Self::Containers => containers(),
            Self::Cluster => on_cluster(),
        }
    }
}

impl Test {
    pub(crate) fn run(&self) -> ExitCode {
        let mut parts = self.parts.clone();
        if parts.is_empty() {
            parts = Part::value_variants().to_vec();
        } else if parts.iter().any(|part| part.needs_setup()) {
            // Looks only, where everything is installed.
            parts.insert(0, Part::Setup);
        }
        if let Err(error) = processes::adopt_orphans() {
            eprintln!("xtask: {error:#}");
            return ExitCode::FAILURE;
        }
        let mut lines = Vec::new();
        for part in parts {
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
    let mut outcome = Outcome::default();
    if let Some(why) = engines::install()? {
        outcome.notes.push(format!("no container engines: {why}"));
    }
    if cluster::why_not().is_none() {
        cluster::prepare()?;
    }
    Ok(outcome)
}

/// Where a browser cannot be had, the tests of pages are skipped.
fn server() -> anyhow::Result<Outcome> {
    let mut left_out = Outcome::default();
    let mut variables = vec![("AURIA_TEST_SCHEMATHESIS", tools::schemathesis()?)];
    match engines::chromium()? {
        Ok(chromium) => {
            variables.push(("AURIA_TEST_CHROMIUM", chromium));
            variables.push(("AURIA_TEST_PLAYWRIGHT", tools::playwright()?));
        }
        Err(why) => left_out.notes.push(format!("no browser: {why}")),
    }
    left_out.add(&run_programs(
        |program| program.is_below("tests") && program.is_server(),
        &variables,
    )?);
    Ok(left_out)
}

/// Where engines cannot be had, each of these tests says so and is skipped.
fn containers() -> anyhow::Result<Outcome> {
    run_programs(Program::needs_engines, &[])
}

/// Where no cluster can be had, each of these tests says so and is skipped. One that a developer
/// started is used, and left running.
fn on_cluster() -> anyhow::Result<Outcome> {
    let mut left_out = Outcome::default();
    let why_not = match cluster::why_not() {
        // Packages stay: what they bring is there before anything is compared.
        None if !cluster::is_up() => cluster::prepare()?,
        why_not => why_not,
    };
    if let Some(why) = why_not {
        left_out.notes.push(format!("no cluster: {why}"));
        left_out.add(&run_programs(Program::needs_cluster, &[])?);
        return Ok(left_out);
    }
    // Before anything is started: it takes minutes where nothing is built.
    programs::build_all()?;
    let launcher = launcher::build()?.display().to_string();
    let run = || {
        let mut variables = cluster::variables()?;
        variables.push(("AURIA_TEST_LAUNCHER", launcher.clone()));
        run_programs(Program::needs_cluster, &variables)
    };
    if cluster::is_up() {
        let mut outcome = run()?;
        outcome
            .notes
            .push("ran on the cluster that was up; what `down` leaves was not looked at".into());
        return Ok(outcome);
    }
    let before = cluster::traces();
    cluster::start()?;
    let done = run();
    // Whatever came of the tests.
    let stopped = cluster::stop();
    let mut outcome = done?;
    if let Err(error) = stopped {
        outcome.fail(format!("`cargo xtask cluster down`: {error:#}"));
    }
    for trace in cluster::traces().difference(&before) {
        outcome.fail(format!("`cargo xtask cluster down` left: {trace}"));
    }
    Ok(outcome)
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

fn lints() -> anyhow::Result<Outcome> {
    let mut outcome = check(cargo().args([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    outcome.add(&check(&mut simulate::clippy())?);
    let mut hadolint = Command::new(tools::hadolint()?);
    hadolint.args(dockerfiles()?).current_dir(root());
    outcome.add(&check(&mut hadolint)?);
    Ok(outcome)
}

/// The Dockerfiles of the project's images.
fn dockerfiles() -> anyhow::Result<Vec<std::path::PathBuf>> {
    let folder = root().join("dockerfiles");
    let entries = std::fs::read_dir(&folder).context("cannot read dockerfiles/")?;
    let mut found = Vec::new();
    for entry in entries {
        found.push(entry.context("cannot read dockerfiles/")?.path());
    }
    anyhow::ensure!(!found.is_empty(), "there are no Dockerfiles");
    found.sort();
    Ok(found)
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
    let mut outcome = run_programs(
        |program| {
            (program.is_below("orchestrator") || program.is_below("xtask"))
                && !program.needs_cluster()
        },
        &[],
    )?;
    let mut examples = cargo();
    examples.args(["test", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
    say(show(&examples));
    outcome.add(&programs::count_tests(&mut examples)?);
    Ok(outcome)
}

/// Runs the test programs that `wanted` takes, with these variables. Their build is quick where
/// all is built already.
fn run_programs(
    wanted: impl Fn(&Program) -> bool,
    variables: &[(&str, String)],
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut programs = programs::build_all()?;
    // Cargo names them as they were built: now one, now another first.
    programs.sort_by(|one, other| one.name().cmp(other.name()));
    for program in programs.iter().filter(|program| wanted(program)) {
        outcome.add(&program.run(variables)?);
    }
    Ok(outcome)
}

fn generated() -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    programs::build_all()?;
    if let Err(error) = schema::compare() {
        outcome.fail(format!("{error:#}"));
    }
    Ok(outcome)
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
