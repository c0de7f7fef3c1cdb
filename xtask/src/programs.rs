//! Builds the whole workspace once and runs its test programs part by part.
//!
//! Used by `test`. Cargo chooses the features of dependencies by the packages of a call, so that
//! calls for single packages would each build tokio and its like again. Here one call builds all
//! programs and tests, and its report says where they are.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::report::Outcome;
use crate::shell::{cargo, root, say, show};

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The file.
    path: PathBuf,
    /// The package's folder, where its tests expect to run.
    package: PathBuf,
    /// Its name for people: the package's folder and the target.
    name: String,
}

/// Builds every program and every test of the workspace, and returns the test programs.
pub(crate) fn build_all() -> anyhow::Result<Vec<Program>> {
    let mut build = cargo();
    build.args([
        "build",
        "--locked",
        "--workspace",
        "--all-targets",
        "--message-format=json-render-diagnostics",
    ]);
    let shown = show(&build);
    say(&shown);
    let output = build
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout).context("cargo's report is no UTF-8")?;
    let programs: Vec<Program> = text.lines().filter_map(program).collect();
    if programs.is_empty() {
        bail!("`{shown}` names no test program");
    }
    Ok(programs)
}

/// The test program that a line of cargo's report names, if it does.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let package = Path::new(message["manifest_path"].as_str()?)
        .parent()?
        .to_owned();
    let short = package.strip_prefix(root()).unwrap_or(&package).display();
    let target = message["target"]["name"].as_str()?;
    let name = format!("{short}: {target}");
    Some(Program {
        path,
        package,
        name,
    })
}

impl Program {
    /// Its name for people.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its package lies below a folder of the project.
    pub(crate) fn is_below(&self, folder: &str) -> bool {
        self.package.starts_with(root().join(folder))
    }

    /// Whether it starts container engines.
    pub(crate) fn needs_engines(&self) -> bool {
        self.name.ends_with(": containers") || self.name.ends_with(": docker")
    }

    /// Whether it tries `serve`.
    pub(crate) fn is_server(&self) -> bool {
        self.name.ends_with(": server") || self.name.contains(": server_")
    }

    /// Whether it runs on the test cluster.
    pub(crate) fn needs_cluster(&self) -> bool {
        const BESIDES: [&str; 3] = [
            "orchestrator/kubernetes: access",
            "orchestrator/kubernetes: controller",
            "orchestrator/kubernetes: executor",
        ];
        self.name.contains(": cluster_") || BESIDES.contains(&self.name.as_str())
    }

    /// Runs it; its output is shown as it comes, and its counts are returned.
    pub(crate) fn run(&self, variables: &[(&str, String)]) -> anyhow::Result<Outcome> {
        say(&self.name);
        let mut command = Command::new(&self.path);
        command
            .current_dir(&self.package)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("CARGO_MANIFEST_DIR", &self.package);
        let mut outcome = count_tests(&mut command)?;
        for note in &mut outcome.notes {
            *note = format!("{}: {note}", self.name);
        }
        Ok(outcome)
    }
}

/// Runs a command that runs test programs, and sums what they print.
pub(crate) fn count_tests(command: &mut Command) -> anyhow::Result<Outcome> {
    let shown = show(command);
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
    if !status.success() {
        if outcome.failed == 0 {
            // It died before its result.
            outcome.failed = 1;
        }
        outcome.notes.push(format!("ended with {status}"));
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{count_tests, program};

    #[test]
    fn only_test_programs_are_taken_from_the_report() {
        let line = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/p/core/Cargo.toml",
                "target":{{"name":"auria_core"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let found = program(&line(true, "\"/t/auria_core-1\"")).unwrap();
        assert_eq!(found.path.to_str(), Some("/t/auria_core-1"));
        assert_eq!(found.package.to_str(), Some("/p/core"));
        assert_eq!(program(&line(false, "\"/t/auria\"")), None);
        assert_eq!(program(&line(true, "null")), None);
        assert_eq!(program("{\"reason\":\"build-finished\"}"), None);
    }

    #[test]
    fn a_test_program_that_dies_is_a_failure() {
        let mut dies = Command::new("sh");
        dies.args(["-c", "echo 'running 3 tests'; kill -9 $$"]);
        let outcome = count_tests(&mut dies).unwrap();
        assert_eq!((outcome.passed, outcome.failed), (0, 1));
        let mut fine = Command::new("sh");
        fine.args([
            "-c",
            "echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured'",
        ]);
        let outcome = count_tests(&mut fine).unwrap();
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (2, 0, 1));
    }
}
