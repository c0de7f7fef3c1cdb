//! `submit` and `retry`: a plan becomes a run.

use crate::args::{Global, OutputFormat, Retry, Submit};
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
use auria_core::StepPath;
use auria_core::outcome::{Outcome, ReuseSource, Status, Timings};
use auria_core::plan::{Plan, PlannedInput};
use auria_engine::lease::Lease;
use auria_store::artifact::{self, Depth};
use auria_store::runs::{self, RUN_VERSION, RunJson, RunState, Submitter};
use auria_store::{Access, Journal, Store, housekeeping, layout, snapshot};
use std::collections::BTreeSet;
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
    let run = create(&opened.store, planned).await?;
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
        controller.submit(run).await?;
        if background {
            return controller.left(run, output);
        }
        eprintln!("run {} of {}", run.run, controller.name);
        return controller.follow(run, output).await;
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
async fn create(store: &Store, planned: Planned) -> Result<RunJson, Failure> {
    let snapshots = planned.plan.snapshots();
    let mut run = RunJson {
        version: RUN_VERSION,
        run: planned.run.clone(),
        nonce: auria_engine::driver::nonce(),
        // What needs nothing from this machine is ready as it is submitted.
        state: if snapshots.is_empty() {
            RunState::Ready
        } else {
            RunState::Preparing
        },
        created: edge::now(),
        by: Submitter {
            user: edge::user(),
            host: edge::host(),
        },
        target: planned.target.to_owned(),
        parameters: planned.plan.inputs.clone(),
        snapshots,
        sources: planned.sources.clone(),
        retry_of: None,
        plan: Arc::new(planned.plan.clone()),
    };
    taken(runs::create(store, &run).await)?;
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
pub async fn retry(global: &Global, args: &Retry) -> Result<u8, Failure> {
    let opened = open::existing(global, Access::Write).await?;
    let store = opened.store.clone();
    let old = open::run(&store, &args.run).await?;
    let journal = Journal::new(store.clone(), old.run.clone());
    if journal.read_run_end().await?.is_none() {
        return Err(
            Failure::usage(format!("run {} has not ended", old.run)).help(format!(
                "`auria-pipeline resume {}` takes it up, `cancel` ends it",
                old.run
            )),
        );
    }
    let again = args
        .from
        .iter()
        .map(|name| find_step(&old, name))
        .collect::<Result<Vec<_>, _>>()?;
    let again = with_dependents(&old.plan, again);

    let mut run = old.clone();
    run.run = planning::new_run(&old.plan.pipeline)?;
    run.nonce = auria_engine::driver::nonce();
    run.state = RunState::Preparing;
    run.created = edge::now();
    run.retry_of = Some(old.run.clone());
    taken(runs::create(&store, &run).await)?;
    for digest in &run.snapshots {
        if !snapshot::exists(&store, digest).await? {
            return Err(Failure::usage(format!(
                "the code or an input of run {} is not in the store any more ({digest})",
                old.run
            ))
            .help("submit the pipeline again"));
        }
    }
    let mut kept = 0;
    for outcome in journal.read_outcomes().await?.values() {
        if outcome.status.is_success()
            && !again.contains(&outcome.step)
            && keep(&store, &old, &run, outcome).await?
        {
            kept += 1;
        }
    }
    runs::mark_ready(&store, &mut run).await?;
    eprintln!(
        "keeps {} of run {}",
        load::count(kept, "finished step"),
        old.run
    );
    go(&opened, &run, args.detach, global.output).await
}

/// Lets a finished step of `old` stand in `run`; says whether its outputs are there.
/// The reference comes first, then the look, then the commit.
async fn keep(
    store: &Store,
    old: &RunJson,
    run: &RunJson,
    outcome: &Outcome,
) -> Result<bool, Failure> {
    let source = outcome.reused_from.clone().unwrap_or_else(|| ReuseSource {
        run: old.run.clone(),
        step: outcome.step.clone(),
    });
    let reference = serde_json::json!({"run": run.run, "step": outcome.step, "at": edge::now()});
    store
        .write_json(&layout::reference(&source.run, &run.run), &reference)
        .await?;
    for made in outcome.outputs.values() {
        match artifact::verify(store, made, Depth::Sizes).await {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    auria_store::ErrorKind::NotFound | auria_store::ErrorKind::Corrupt
                ) =>
            {
                eprintln!("note: {} runs again: {error}", outcome.step.display());
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !housekeeping::still_there(store, &source.run).await? {
        return Ok(false);
    }
    let kept = Outcome {
        run: run.run.clone(),
        status: Status::Reused,
        attempt: None,
        nonce: None,
        attempts: 0,
        reused_from: Some(source),
        timings: Timings::default(),
        started: None,
        ended: edge::now(),
        ..outcome.clone()
    };
    Journal::new(store.clone(), run.run.clone())
        .commit(&kept)
        .await?;
    Ok(true)
}

/// `steps` and every step that needs one of them.
fn with_dependents(plan: &Plan, steps: Vec<StepPath>) -> BTreeSet<StepPath> {
    let mut again: BTreeSet<StepPath> = steps.into_iter().collect();
    // Dependencies stand before dependents in a plan.
    for step in &plan.steps {
        let needs = step
            .inputs
            .values()
            .any(|input| matches!(input, PlannedInput::Step { step, .. } if again.contains(step)));
        if needs || step.after.iter().any(|after| again.contains(after)) {
            again.insert(step.path.clone());
        }
    }
    again
}
