//! `cargo xtask test fuzz`: libFuzzer over the reading of documents, for some seconds.
//!
//! The fuzzer is `fuzz/`, a workspace of its own. It is built here with the flags that `cargo fuzz`
//! gives, but without a sanitizer, which core without `unsafe` does not need: so a stable compiler
//! is enough, and cargo-fuzz need not be installed. What it finds is kept under `target/fuzz`.

use std::fs;

use anyhow::Context;

use crate::report::Outcome;
use crate::shell::{cargo, installs, read, root, run, say, show};

/// Seconds of one run.
const SECONDS: u32 = 20;

/// Inputs to begin with.
const SEEDS: [&str; 3] = [
    "orchestrator/core/tests/wrong",
    "orchestrator/core/tests/right",
    "orchestrator/core/tests/fuzzed",
];

/// What makes code tell libFuzzer which way it went.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
                     -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Builds the fuzzer and runs it; left out where its crates cannot be fetched.
pub(crate) fn check() -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let manifest = root().join("fuzz/Cargo.toml");
    let folder = installs().join("fuzz");
    let mut fetch = cargo();
    fetch
        .args(["fetch", "--quiet", "--locked", "--manifest-path"])
        .arg(&manifest);
    if run(&mut fetch).is_err() {
        outcome.skipped += 1;
        outcome
            .notes
            .push("fuzz left out: its crates cannot be fetched from here".to_owned());
        return Ok(outcome);
    }
    let host = read(std::process::Command::new("rustc").arg("-vV"))?;
    let host = host
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc does not say its host")?
        .to_owned();
    let mut build = cargo();
    build
        .args([
            "build",
            "--quiet",
            "--locked",
            "--target",
            &host,
            "--manifest-path",
        ])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&folder)
        // With `--target` these do not reach build scripts.
        .env("RUSTFLAGS", FLAGS);
    say(show(&build));
    run(&mut build).context("cannot build the fuzzer")?;
    let (corpus, artifacts) = (folder.join("corpus"), folder.join("artifacts"));
    for needed in [&corpus, &artifacts] {
        fs::create_dir_all(needed).with_context(|| format!("cannot make {}", needed.display()))?;
    }
    let mut fuzzer = std::process::Command::new(folder.join(host).join("debug/document"));
    fuzzer
        .current_dir(root())
        .arg(format!("-max_total_time={SECONDS}"))
        .args([
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-max_len=32768",
            "-verbosity=0",
        ])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(&corpus)
        .args(SEEDS.iter().filter(|seed| root().join(seed).is_dir()));
    say(show(&fuzzer));
    match run(&mut fuzzer) {
        Ok(()) => outcome.passed += 1,
        Err(error) => outcome.fail(format!(
            "{error:#}; the input is in {}: put it into orchestrator/core/tests/fuzzed",
            artifacts.display()
        )),
    }
    Ok(outcome)
}
