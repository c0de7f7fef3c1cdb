//! `cancel`: a request in the run's log, and the wait for what comes of it.

use crate::args::{Global, RunArg};
use crate::drive;
use crate::edge;
use crate::failure::{Failure, exit};
use crate::open;
use crate::print;
use auria_core::outcome::Status;
use auria_engine::driver;
use auria_engine::lease::Lease;
use auria_store::{Access, Journal};
use serde_json::json;

/// Cancels a run. Where nobody drives it, this process does, to its end.
///
/// # Errors
/// Where the store cannot be reached, or there is no such run.
pub async fn cancel(global: &Global, args: &RunArg) -> Result<u8, Failure> {
    let opened = open::existing(global, Access::Write).await?;
    let store = opened.store.clone();
    let run = open::run(&store, &args.run).await?;
    let journal = Journal::new(store.clone(), run.run.clone());
    if let Some(end) = journal.read_run_end().await? {
        let value = json!({"run": run.run, "status": end.status});
        let text = || format!("run {} ended already: {:?}", run.run, end.status);
        print::result(global.output, &value, text)?;
        return Ok(exit::DONE);
    }
    if let Some(controller) = &opened.controller {
        // In the name that the cluster knows: nobody writes into a log in another's.
        controller.remote.cancel(&run.run).await?;
        let value = json!({"run": run.run, "status": Status::CancelRequested});
        let text = || {
            format!(
                "asked {} to cancel run {}\n`auria-pipeline watch {}` follows it",
                controller.name, run.run, run.run
            )
        };
        print::result(global.output, &value, text)?;
        return Ok(exit::DONE);
    }
    let by = format!("{} on {}", edge::user(), edge::host());
    driver::request_cancel(&store, &run.run, &by, edge::now).await?;
    let folder = drive::runtime()?;
    let identity = store.identity();
    Lease::knock(folder.path(), &identity, &run.run).await;
    if let Some(holder) = Lease::holder(folder.path(), &identity, &run.run) {
        let value = json!({"run": run.run, "status": Status::CancelRequested});
        let text = || {
            format!(
                "asked {holder} to cancel run {}\n`auria-pipeline watch {}` follows it",
                run.run, run.run
            )
        };
        print::result(global.output, &value, text)?;
        return Ok(exit::DONE);
    }
    eprintln!(
        "nobody on this machine drives run {}: stopping its steps from here",
        run.run
    );
    drive::drive(&store, &run, drive::Takeover::No, global.output).await?;
    Ok(exit::DONE)
}
