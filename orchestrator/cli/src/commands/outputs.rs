//! `outputs`, `download` and `metrics`.

use crate::args::{Download, Global, RunArg};
use crate::drive;
use crate::failure::{Failure, exit};
use crate::open;
use crate::print;
use crate::report::{OutputReport, plain};
use crate::transfer;
use auria_core::AttemptId;
use auria_core::outcome::Artifact;
use auria_core::run::RunState;
use auria_store::{Access, Store, artifact, logs};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

struct Made {
    step: String,
    output: String,
    artifact: Artifact,
}

fn made(state: &RunState) -> Vec<Made> {
    let outcomes = state
        .steps()
        .filter_map(|view| Some((view.step.path.display(), view.outcome?.clone())));
    outcomes
        .flat_map(|(step, outcome)| {
            let outputs: Vec<(String, Artifact)> = outcome
                .outputs
                .iter()
                .map(|(name, artifact)| (name.clone(), artifact.clone()))
                .collect();
            outputs.into_iter().map(move |(output, artifact)| Made {
                step: step.clone(),
                output,
                artifact,
            })
        })
        .collect()
}

/// Lists outputs.
///
/// # Errors
/// Where the store cannot be read, or there is no such run.
pub async fn list(global: &Global, args: &RunArg) -> Result<u8, Failure> {
    let store = open::existing(global, Access::Read).await?.store;
    let run = open::run(&store, &args.run).await?;
    let state = drive::look(&store, &run).await?;
    let made = made(&state);
    let mut steps: BTreeMap<&str, BTreeMap<&str, OutputReport>> = BTreeMap::new();
    for one in &made {
        steps
            .entry(&one.step)
            .or_default()
            .insert(&one.output, OutputReport::new(&store, &one.artifact));
    }
    print::result(global.output, &steps, || {
        let mut text = String::new();
        for one in &made {
            let report = OutputReport::new(&store, &one.artifact);
            let count = if report.files == 1 {
                "1 file".to_owned()
            } else {
                format!("{} files", report.files)
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{}.{}  {count}, {} bytes\n  {}",
                one.step,
                one.output,
                report.bytes,
                plain(&report.uri)
            );
        }
        if made.is_empty() {
            let _ = writeln!(text, "run {} has no outputs yet", run.run);
        }
        text
    })?;
    Ok(exit::DONE)
}

#[derive(Debug, Serialize)]
struct Downloaded {
    step: String,
    output: String,
    path: PathBuf,
    files: u64,
    bytes: u64,
}

/// Copies outputs into a folder.
///
/// # Errors
/// Where the store cannot be read, nothing matches, or the folder cannot be written.
pub async fn download(global: &Global, args: &Download) -> Result<u8, Failure> {
    let store = open::existing(global, Access::Read).await?.store;
    let run = open::run(&store, &args.run).await?;
    let state = drive::look(&store, &run).await?;
    let made = made(&state);
    let known = made
        .iter()
        .map(|one| format!("{}.{}", one.step, one.output))
        .collect::<Vec<_>>()
        .join(", ");
    let to = args
        .to
        .clone()
        .unwrap_or_else(|| PathBuf::from(run.run.as_str()));
    let mut downloaded = Vec::new();
    for one in made {
        let wanted = args.step.as_ref().is_none_or(|step| *step == one.step)
            && args
                .output_name
                .as_ref()
                .is_none_or(|name| *name == one.output);
        if !wanted {
            continue;
        }
        let folder = to.join(&one.step).join(&one.output);
        let what = format!("{}.{}", one.step, one.output);
        let fetch = artifact::fetch(&store, &one.artifact, &folder);
        let fetched = transfer::shown(&store, &what, one.artifact.bytes, fetch)
            .await
            .map_err(|failure| {
                if failure.code == exit::INTERRUPTED {
                    failure.help(
                        "files that are there are whole; the same command goes on with the rest",
                    )
                } else {
                    failure
                }
            })?;
        downloaded.push(Downloaded {
            step: one.step,
            output: one.output,
            path: std::path::absolute(&fetched.path).unwrap_or(fetched.path),
            files: fetched.files,
            bytes: fetched.bytes,
        });
    }
    if downloaded.is_empty() {
        let failure = Failure::usage(format!("run {} has no such output", run.run));
        return Err(if known.is_empty() {
            failure.help("it has none yet")
        } else {
            failure.help(format!("it has {known}"))
        });
    }
    print::result(global.output, &downloaded, || {
        downloaded
            .iter()
            .map(|one| format!("{}\n", one.path.display()))
            .collect()
    })?;
    Ok(exit::DONE)
}

/// Prints metrics: one line a value, or JSON by step.
///
/// # Errors
/// Where the store cannot be read, or there is no such run.
pub async fn metrics(global: &Global, args: &RunArg) -> Result<u8, Failure> {
    let store = open::existing(global, Access::Read).await?.store;
    let run = open::run(&store, &args.run).await?;
    let state = drive::look(&store, &run).await?;
    let mut all: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for view in state.steps() {
        let values = of_step(&store, &state, view.step.path.clone()).await?;
        if !values.is_empty() {
            all.insert(view.step.path.display(), values);
        }
    }
    print::result(global.output, &all, || {
        let mut text = String::new();
        for (step, values) in &all {
            for value in values {
                let _ = writeln!(text, "{step}  {value}");
            }
        }
        if all.is_empty() {
            let _ = writeln!(
                text,
                "run {} has no metrics; a step appends JSON lines to $AURIA_METRICS",
                run.run
            );
        }
        text
    })?;
    Ok(exit::DONE)
}

async fn of_step(
    store: &Store,
    state: &RunState,
    step: auria_core::StepPath,
) -> Result<Vec<serde_json::Value>, Failure> {
    let Some((number, nonce)) = state.last_claim(&step) else {
        return Ok(Vec::new());
    };
    let id = AttemptId {
        run: state.run().clone(),
        step,
        number,
    };
    Ok(logs::read_metrics(store, &id, nonce).await?)
}
