//! `watch`: follows a run that another process drives, which tells what changes. It only
//! reads.

use crate::args::{Global, RunArg};
use crate::cluster;
use crate::drive;
use crate::edge;
use crate::failure::Failure;
use crate::open;
use crate::progress::Progress;
use auria_core::run::RunChange;
use auria_engine::lease::Lease;
use auria_store::{Access, Journal};
use std::time::Duration;

/// Between two looks for a driver.
const LOOK: Duration = Duration::from_millis(500);

/// So often is looked for one: a driver that was killed a moment ago may be followed by another.
const LOOKS: u32 = 10;

/// Follows a run to its end.
///
/// # Errors
/// Where the store cannot be read, there is no such run, or nobody drives it.
pub async fn watch(global: &Global, args: &RunArg) -> Result<u8, Failure> {
    let opened = open::existing(global, Access::Read).await?;
    let store = opened.store.clone();
    let run = open::run(&store, &args.run).await?;
    if let Some(controller) = &opened.controller {
        let interrupt = cluster::Interrupt::listen()?;
        return controller.follow(&run, global.output, interrupt).await;
    }
    let folder = drive::runtime()?;
    let identity = store.identity();
    let journal = Journal::new(store.clone(), run.run.clone());
    let (progress, frames) = Progress::begin(&run.run, &run.plan, edge::now());
    let (mut alone, mut looks) = (0, 0);
    let status = loop {
        if let Some(mut driver) = Lease::follow(folder.path(), &identity, &run.run).await {
            (alone, looks) = (0, 0);
            let mut end = None;
            while let Some(change) = driver.next().await {
                if let RunChange::End { end: told } = &change {
                    end = Some(told.status);
                }
                progress.take(change, edge::now());
            }
            if let Some(status) = end {
                break status;
            }
        }
        if let Some(end) = journal.read_run_end().await? {
            break end.status;
        }
        if looks % LOOKS == 0 {
            progress.update(&drive::look(&store, &run).await?, edge::now());
        }
        looks += 1;
        // One that holds the run and is too busy to tell of it is a driver all the same.
        alone = match Lease::holder(folder.path(), &identity, &run.run) {
            Some(_) => 0,
            None => alone + 1,
        };
        if alone > LOOKS {
            frames.finish(false).await;
            return Err(Failure::unreachable(format!(
                "nobody on this machine drives run {}",
                run.run
            ))
            .help(format!("`auria-pipeline resume {}` takes it up", run.run)));
        }
        tokio::time::sleep(LOOK).await;
    };
    frames.finish(true).await;
    drive::print_report(&store, &run, global.output, None).await?;
    Ok(drive::exit_code(status))
}
