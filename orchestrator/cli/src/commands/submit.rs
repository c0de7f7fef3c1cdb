//! `submit` and `retry`: a plan becomes a run.

use crate::args::{Global, OutputFormat, Retry, Submit};
use crate::cluster;
use crate::commands::logs::find_step;
use crate::commands::resume::detach;
use crate::drive::{self, Takeover};
use crate::edge;
use crate::failure::{Failure, exit};
use crate::graph;
use crate::load;
use crate::open::{self, Opened};
use crate::planning::{self, Planned};
use crate::print;
use auria_core::Nonce;
use auria_engine::lease::Lease;
use auria_server::retry::{self, NotRetried};
use auria_server::submission::new_run;
use auria_store::runs::{self, RUN_VERSION, RunJson, RunState, Submitter};
use auria_store::{Access, Journal, Store, snapshot};
use std::sync::Arc;

/// Runs looked at for one that nobody drives.
const LOOKED_AT: usize = 10;

/// Checks, plans and runs a pipeline.
///
/// # Errors
/// Exit 2 where the pipeline is wrong, 4 where the store fails.
pub async fn submit(global: &Global, args: &Submit) -> Result<u8, Failure> {
    let mut planned =
        planning::plan(global, &args.file, args.name.as_deref(), args.force_rerun).await?;
    if let Some(experiment) = &args.experiment {
        planned.plan.experiment.clone_from(experiment);
    }
    if args.dry_run {
        print::result(global.output, &planned.plan, || graph::text(&planned.plan))?;
        return Ok(exit::DONE);
    }
    let opened = planned.place.open(Access::Write).await?;
    if opened.controller.is_none() {
        say_unfinished(&opened.store).await?;
    }
    let by = Submitter {
        user: edge::user(),
        host: edge::host(),
    };
    let nonce = auria_engine::driver::nonce();
    let run = create(&opened.store, planned, by, nonce).await?;
    go(&opened, &run, args.detach, global.output).await
}

async fn go(
    opened: &Opened,
    run: &RunJson,
    background: bool,
    output: OutputFormat,
) -> Result<u8, Failure> {
    let store = &opened.store;
    if let Some(controller) = &opened.controller {
        if background {
            controller.submit(run).await?;
            return controller.left(run, output);
        }
        eprintln!("run {} of {}", run.run, controller.name);
        return controller.submit_and_follow(run, output).await;
    }
    if background {
        return detach(store, run, output);
    }
    eprintln!("run {} in {}", run.run, store.url());
    drive::drive(store, run, Takeover::No, output).await
}

/// Says which runs did not end and have no driver.
async fn say_unfinished(store: &Store) -> Result<(), Failure> {
    let folder = drive::runtime()?;
    for recent in runs::list_recent(store, LOOKED_AT).await? {
        let ended = Journal::new(store.clone(), recent.run.clone())
            .read_run_end()
            .await?
            .is_some();
        if !ended && Lease::holder(folder.path(), &store.identity(), &recent.run).is_none() {
            eprintln!(
                "note: run {} did not end and nobody on this machine drives it: `auria-pipeline resume {}` takes it up",
                recent.run, recent.run
            );
        }
    }
    Ok(())
}

/// Records the run and brings its snapshots to the store.
///
/// # Errors
/// Where the name is taken, or the store fails.
pub async fn create(
    store: &Store,
    planned: Planned,
    by: Submitter,
    nonce: Nonce,
) -> Result<RunJson, Failure> {
    let snapshots = planned.plan.snapshots();
    let run = RunJson {
        version: RUN_VERSION,
        run: planned.run.clone(),
        nonce,
        // What needs nothing from this machine is ready as it is submitted.
        state: if snapshots.is_empty() {
            RunState::Ready
        } else {
            RunState::Preparing
        },
        created: edge::now(),
        by,
        target: planned.target.to_owned(),
        parameters: planned.plan.inputs.clone(),
        snapshots,
        sources: planned.sources.clone(),
        retry_of: None,
        plan: Arc::new(planned.plan.clone()),
    };
    taken(runs::create(store, &run).await)?;
    finish(store, &planned, run).await
}

/// Brings to the store what `run` needs of its plan, which is that of `planned`.
///
/// # Errors
/// Where the store fails.
pub async fn finish(
    store: &Store,
    planned: &Planned,
    mut run: RunJson,
) -> Result<RunJson, Failure> {
    if run.state == RunState::Ready {
        return Ok(run);
    }
    for scanned in planned
        .snapshots
        .iter()
        .filter(|scanned| run.snapshots.contains(&scanned.digest))
    {
        if snapshot::exists(store, &scanned.digest).await? {
            continue;
        }
        let source = run
            .sources
            .get(&scanned.digest)
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        eprintln!(
            "uploading {source}: {}, {} KiB",
            load::count(
                usize::try_from(scanned.files()).unwrap_or(usize::MAX),
                "file"
            ),
            scanned.bytes().div_ceil(1024)
        );
        snapshot::upload(store, scanned).await?;
    }
    // The record may be of an earlier plan, which needed what this one does not bring.
    for digest in &run.snapshots {
        if !snapshot::exists(store, digest).await? {
            return Err(Failure::usage(format!(
                "run {} needs {digest}, which was not brought to the store and is no part of what was planned now",
                run.run
            ))
            .help("its files changed since it was submitted first: submit it under another name"));
        }
    }
    runs::mark_ready(store, &mut run).await?;
    Ok(run)
}

fn taken(created: Result<(), auria_store::StoreError>) -> Result<(), Failure> {
    created.map_err(|error| match error.kind() {
        auria_store::ErrorKind::Conflict => Failure::usage(error.to_string())
            .help("give another `--name`, or none: then the run is named by its time"),
        _ => error.into(),
    })
}

/// A new run of an old one's plan, which keeps what finished.
///
/// # Errors
/// Where there is no such run or step, it still runs, or the store fails.
pub async fn again(global: &Global, args: &Retry) -> Result<u8, Failure> {
    let opened = open::existing(global, Access::Write).await?;
    let store = opened.store.clone();
    let old = open::run(&store, &args.run).await?;
    let from = args
        .from
        .iter()
        .map(|name| find_step(&old, name))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(controller) = &opened.controller {
        // It knows best what it keeps, and nobody else writes outcomes there.
        let path = format!("runs/{}/retry", old.run);
        let body = serde_json::json!({"from": args.from});
        // However often it is sent, it is one run.
        let key = format!("retry-{}", auria_engine::driver::nonce());
        let taken: serde_json::Value = controller
            .remote
            .post_with(&path, &body, &[("idempotency-key", key)])
            .await?;
        let name = taken["run"].as_str().unwrap_or_default();
        let run = open::run(&store, name).await?;
        if args.detach {
            return controller.left(&run, global.output);
        }
        eprintln!("run {} of {}", run.run, controller.name);
        let interrupt = cluster::Interrupt::listen()?;
        return controller.follow(&run, global.output, interrupt).await;
    }
    let name = new_run(&old.plan.pipeline, edge::now());
    let retried = match retry::retry(
        &store,
        &old,
        from,
        name,
        auria_engine::driver::nonce(),
        edge::now(),
    )
    .await
    {
        Ok(retried) => retried,
        Err(NotRetried::Store(error)) => return Err(error.into()),
        Err(error @ NotRetried::Running { .. }) => {
            return Err(Failure::usage(error.to_string()).help(format!(
                "`auria-pipeline resume {}` takes it up, `cancel` ends it",
                old.run
            )));
        }
        Err(error @ NotRetried::Gone { .. }) => {
            return Err(Failure::usage(error.to_string()).help("submit the pipeline again"));
        }
    };
    for note in &retried.notes {
        eprintln!("note: {note}");
    }
    eprintln!(
        "keeps {} of run {}",
        load::count(retried.kept, "finished step"),
        old.run
    );
    go(&opened, &retried.run, args.detach, global.output).await
}
