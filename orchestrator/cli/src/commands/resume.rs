//! `resume`, and what `--detach` leaves in the background.

use crate::args::{Global, OutputFormat, Resume};
use crate::drive::{self, Takeover};
use crate::edge;
use crate::failure::{Failure, exit};
use crate::open;
use crate::print;
use auria_core::outcome::Status;
use auria_store::runs::{self, RunJson, RunState};
use auria_store::{Access, Journal, Store, snapshot};
use serde_json::json;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Takes up a run.
///
/// # Errors
/// Where the store cannot be reached, there is no such run, or another drives it.
pub async fn resume(global: &Global, args: &Resume) -> Result<u8, Failure> {
    let opened = open::existing(global, Access::Write).await?;
    let store = opened.store.clone();
    let mut run = open::run(&store, &args.run).await?;
    let end = Journal::new(store.clone(), run.run.clone())
        .read_run_end()
        .await?;
    if let Some(end) = end {
        eprintln!("run {} ended already", run.run);
        drive::print_report(&store, &run, global.output, None).await?;
        return Ok(drive::exit_code(end.status));
    }
    prepare(&store, &mut run).await?;
    if let Some(controller) = &opened.controller {
        if args.detach {
            controller.submit(&run).await?;
            return controller.left(&run, global.output);
        }
        return controller.submit_and_follow(&run, global.output).await;
    }
    if args.detach {
        return detach(&store, &run, global.output);
    }
    let takeover = if args.takeover {
        Takeover::Yes
    } else {
        Takeover::No
    };
    drive::drive(&store, &run, takeover, global.output).await
}

/// Brings to the store what a submission that was cut short did not.
///
/// # Errors
/// Where a snapshot is neither there nor where it came from.
pub async fn prepare(store: &Store, run: &mut RunJson) -> Result<(), Failure> {
    if run.state == RunState::Ready {
        return Ok(());
    }
    for digest in run.snapshots.clone() {
        if snapshot::exists(store, &digest).await? {
            continue;
        }
        let lost = |why: String| {
            Failure::usage(format!(
                "run {} was cut short while it was being submitted: {why}",
                run.run
            ))
            .help("submit it again")
        };
        let Some(source) = run.sources.get(&digest) else {
            return Err(lost(format!("the snapshot {digest} is not in the store")));
        };
        let scanned = snapshot::scan(source, &[])
            .await
            .map_err(|error| lost(error.to_string()))?;
        if scanned.digest != digest {
            return Err(lost(format!("{} has changed since", source.display())));
        }
        snapshot::upload(store, &scanned).await?;
    }
    runs::mark_ready(store, run).await?;
    Ok(())
}

/// Leaves `run` to a process in the background.
///
/// # Errors
/// Where it cannot be started.
pub fn detach(store: &Store, run: &RunJson, output: OutputFormat) -> Result<u8, Failure> {
    let runtime = drive::runtime()?;
    let failed = |error: std::io::Error| {
        Failure::unreachable(format!("starting a driver in the background: {error}"))
    };
    let log = runtime.path().join(format!("driver-{}.log", run.run));
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(failed)?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args([
            "drive",
            run.run.as_str(),
            "--store",
            &store.url().to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        // Its own group: Ctrl-C of this terminal is not for it. It ignores SIGHUP by handling it.
        .process_group(0);
    let child = command.spawn().map_err(failed)?;
    let value = json!({"run": run.run, "status": Status::Queued, "driver": child.id(), "log": log});
    print::result(output, &value, || {
        format!(
            "{}  Queued\n  driven by process {} on {}; `auria-pipeline watch {}` follows it\n",
            run.run,
            child.id(),
            edge::host(),
            run.run
        )
    })?;
    Ok(exit::DONE)
}

/// Drives a run in the background.
///
/// # Errors
/// As `resume`.
pub async fn background(global: &Global, run: &str) -> Result<u8, Failure> {
    // A session of its own, so that no terminal's end reaches it.
    if let Err(error) = nix::unistd::setsid() {
        tracing::warn!("no session of its own: {error}");
    }
    let opened = open::existing(global, Access::Write).await?;
    let store = opened.store.clone();
    let run = open::run(&store, run).await?;
    drive::drive(&store, &run, Takeover::No, global.output).await
}
