//! `watch`: follows a run that another process drives. It only reads.

use crate::args::{Global, RunArg};
use crate::drive;
use crate::edge;
use crate::failure::Failure;
use crate::open;
use crate::progress::Progress;
use auria_engine::lease::Lease;
use auria_store::{Access, Journal};
use std::time::Duration;

/// Between two looks at the store.
const LOOK: Duration = Duration::from_millis(500);

/// Follows a run to its end.
///
/// # Errors
/// Where the store cannot be read, there is no such run, or nobody drives it.
pub async fn watch(global: &Global, args: &RunArg) -> Result<u8, Failure> {
    let store = open::existing(global, Access::Read).await?;
    let run = open::run(&store, &args.run).await?;
    let folder = drive::runtime()?;
    let journal = Journal::new(store.clone(), run.run.clone());
    let (progress, frames) = Progress::begin(&run.run, &run.plan, edge::now());
    let mut alone = 0;
    let status = loop {
        let end = journal.read_run_end().await?;
        let state = drive::look(&store, &run).await?;
        progress.update(&state, edge::now());
        if let Some(end) = end {
            break end.status;
        }
        // A driver that was killed a moment ago may be followed by another.
        alone = if Lease::holder(folder.path(), &store.identity(), &run.run).is_some() {
            0
        } else {
            alone + 1
        };
        if alone > 10 {
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
