//! `runs` and `show`.

use crate::args::{Global, RunArg, Runs};
use crate::cluster::Controller;
use crate::drive;
use crate::edge::{self, Terminal};
use crate::failure::{Failure, exit};
use crate::open::{self, Opened};
use crate::print;
use crate::terminal::{Paint, duration, status_symbol};
use auria_core::outcome::Status;
use auria_core::{RunId, Timestamp};
use auria_engine::lease::Lease;
use auria_launcher::runtime::RuntimeRoot;
use auria_store::runs::{self, RecentRun};
use auria_store::{Access, Journal, Store, layout};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use std::fmt::Write as _;

/// Runs looked at together: enough to hide a store's latency.
const AT_ONCE: usize = 16;

#[derive(Debug, Serialize)]
struct Line {
    run: RunId,
    pipeline: String,
    experiment: String,
    status: Status,
    created: Timestamp,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    driver: Option<String>,
    /// Whether it goes with the next `gc` after its grace.
    deleting: bool,
}

/// Lists runs.
///
/// # Errors
/// Where the store cannot be read, or the status is none.
pub async fn list(global: &Global, args: &Runs) -> Result<u8, Failure> {
    let wanted: Option<Status> = match &args.status {
        None => None,
        Some(text) => Some(serde_json::from_value(serde_json::Value::String(text.clone())).map_err(|_| {
            Failure::usage(format!("--status {text}: there is no such status")).help(
                "one of NotStarted, Running, CancelRequested, Completed, Failed, Canceled, NotResponding",
            )
        })?),
    };
    let Opened { store, controller } = open::existing(global, Access::Read).await?;
    let drivers = Drivers::known(controller)?;
    // Filters look further back than the number of lines asked for.
    let filtered = wanted.is_some() || args.experiment.is_some();
    let limit = if filtered { usize::MAX } else { args.last };
    let recent = runs::list_recent(&store, limit).await?;
    let recent = recent.into_iter().filter(|run| {
        args.experiment
            .as_ref()
            .is_none_or(|name| run.experiment == *name)
    });
    let lines: Vec<Line> = futures::stream::iter(recent)
        .map(|run| line(&store, &drivers, run))
        .buffered(AT_ONCE)
        .try_filter(|line| {
            futures::future::ready(wanted.is_none_or(|status| line.status == status))
        })
        .take(args.last)
        .try_collect()
        .await?;
    print::result(global.output, &lines, || table(&lines))?;
    Ok(exit::DONE)
}

/// Who may drive runs, as far as this program sees.
enum Drivers {
    /// Processes of this machine, which leave a lock in this folder.
    Here(RuntimeRoot),
    /// The controller of a cluster, which drives whatever has not ended.
    Cluster(String),
}

impl Drivers {
    fn known(controller: Option<Controller>) -> Result<Self, Failure> {
        Ok(match controller {
            Some(controller) => Self::Cluster(controller.name),
            None => Self::Here(drive::runtime()?),
        })
    }

    /// Who drives `run`, which has not ended.
    fn of(&self, store: &Store, run: &RunId) -> Option<String> {
        match self {
            Self::Here(folder) => Lease::holder(folder.path(), &store.identity(), run),
            Self::Cluster(name) => Some(name.clone()),
        }
    }
}

async fn line(store: &Store, drivers: &Drivers, run: RecentRun) -> Result<Line, Failure> {
    let end = Journal::new(store.clone(), run.run.clone())
        .read_run_end()
        .await?;
    let driver = match &end {
        Some(_) => None,
        None => drivers.of(store, &run.run),
    };
    let status = match (&end, &driver) {
        (Some(end), _) => end.status,
        (None, Some(_)) => Status::Running,
        (None, None) => Status::NotResponding,
    };
    let deleting = store.exists(&layout::tombstone(&run.run)).await?;
    Ok(Line {
        status,
        deleting,
        started: end.as_ref().and_then(|end| end.started),
        ended: end.as_ref().map(|end| end.ended),
        run: run.run,
        pipeline: run.pipeline,
        experiment: run.experiment,
        created: run.created,
        driver,
    })
}

fn table(lines: &[Line]) -> String {
    let paint = Paint::new(Terminal::of_stdout().colour);
    let mut text = String::new();
    if lines.is_empty() {
        text.push_str("no runs\n");
    }
    let now = edge::now();
    let width = lines
        .iter()
        .map(|line| line.run.as_str().len())
        .max()
        .unwrap_or(0);
    for line in lines {
        let took = match (line.started, line.ended) {
            (Some(started), Some(ended)) => duration(ended.millis_since(started)),
            _ => String::new(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} {:width$}  {}  {took:>12}  {} ago",
            paint.status(line.status, status_symbol(line.status)),
            line.run,
            paint.status(
                line.status,
                &format!("{:<13}", format!("{:?}", line.status))
            ),
            duration(now.millis_since(line.created) / 1000 * 1000),
        );
        if line.deleting {
            let _ = writeln!(text, "  {}", paint.dim("deleted: `gc` removes it"));
        }
        if line.status == Status::NotResponding {
            let _ = writeln!(
                text,
                "  {}",
                paint.dim(&format!(
                    "nobody drives it: auria-pipeline resume {}",
                    line.run
                ))
            );
        }
    }
    text
}

/// Shows a run.
///
/// # Errors
/// Where the store cannot be read, or there is no such run.
pub async fn show(global: &Global, args: &RunArg) -> Result<u8, Failure> {
    let Opened { store, controller } = open::existing(global, Access::Read).await?;
    let run = open::run(&store, &args.run).await?;
    let journal = Journal::new(store.clone(), run.run.clone());
    let driver = match journal.read_run_end().await? {
        Some(_) => None,
        None => Drivers::known(controller)?.of(&store, &run.run),
    };
    if store.exists(&layout::tombstone(&run.run)).await? {
        eprintln!(
            "note: run {} is deleted: `auria-pipeline gc` removes it",
            run.run
        );
    }
    drive::print_report(&store, &run, global.output, driver).await?;
    Ok(exit::DONE)
}
