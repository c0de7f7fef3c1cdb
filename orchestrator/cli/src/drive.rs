//! Drives a run from this process: signals become requests, progress is shown,
//! and the run's end becomes the exit code.

use crate::args::OutputFormat;
use crate::edge::{self, Terminal};
use crate::failure::{Failure, exit};
use crate::machine;
use crate::progress::Progress;
use crate::report::{self, RunReport};
use crate::terminal::Paint;
use auria_core::outcome::Status;
use auria_core::run::{Limits, RunState};
use auria_engine::driver::{Control, DriveError, Driven, Driver};
use auria_engine::feed::{Both, Feed};
use auria_engine::lease::{Lease, LeaseError};
use auria_launcher::runtime::RuntimeRoot;
use auria_store::runs::RunJson;
use auria_store::{Journal, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Requests that may wait: a person presses Ctrl-C a few times.
const REQUESTS: usize = 8;

/// How long an older driver is given to step down.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Whether an older driver on this machine may be asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// It may not.
    No,
    /// It may.
    Yes,
}

/// The runtime folder of this user on this machine.
///
/// # Errors
/// Where it cannot be made.
pub fn runtime() -> Result<RuntimeRoot, Failure> {
    let folder = edge::variable("XDG_RUNTIME_DIR").map(std::ffi::OsString::from);
    RuntimeRoot::of_user(folder.as_deref()).map_err(|error| {
        Failure::unreachable(error.to_string())
            .help("set XDG_RUNTIME_DIR to a folder of yours that only you can read")
    })
}

/// Drives `run` to its end, shows it, and prints the report.
///
/// # Errors
/// Where someone else drives it, or the store fails.
pub async fn drive(
    store: &Store,
    run: &RunJson,
    takeover: Takeover,
    output: OutputFormat,
) -> Result<u8, Failure> {
    let runtime = runtime()?;
    let executor = machine::executor(store, runtime.clone(), &run.plan).await?;
    let identity = store.identity();
    let lease = match (Lease::take(runtime.path(), &identity, &run.run), takeover) {
        (Ok(lease), _) => Some(lease),
        (Err(LeaseError::Held { .. }), Takeover::Yes) => None,
        (Err(LeaseError::Held { run, holder }), Takeover::No) => {
            return Err(Failure::usage(format!("run {run} is driven by {holder}")).help(format!(
                "`auria-pipeline watch {run}` follows it; `auria-pipeline resume {run} --takeover` takes it"
            )));
        }
        (Err(error @ LeaseError::Io { .. }), _) => {
            eprintln!("note: {error}; others on this machine cannot see who drives the run");
            None
        }
    };

    let driver = Driver {
        run: run.run.clone(),
        plan: run.plan.clone(),
        store: store.clone(),
        executor: Arc::new(executor),
        limits: Limits::default(),
        name: format!("process {} on {}", std::process::id(), edge::host()),
        now: edge::now,
    };
    let (progress, frames) = Progress::begin(&run.run, &run.plan, edge::now());
    let (requests, control) = mpsc::channel(REQUESTS);
    let signals = Signals::listen(requests, progress.clone())?;
    let feed = Feed::new(run.run.clone());
    let lease = lease.map(|lease| lease.telling(feed.clone()));
    let mut observer = Both(progress.clone(), feed);
    let knock = takeover == Takeover::Yes && lease.is_none();
    let driven = if knock {
        // The older driver steps down when it reads our takeover: wake it once that stands.
        let drive = driver.drive(None, control, &mut observer);
        tokio::pin!(drive);
        tokio::select! {
            driven = &mut drive => driven,
            () = hand_over(&runtime, &identity, run) => drive.await,
        }
    } else {
        driver.drive(lease.as_ref(), control, &mut observer).await
    };
    // Those who follow end with this, not with a broken pipe.
    drop(observer);
    if let Some(lease) = &lease {
        lease.told().await;
    }
    let interrupted = signals.stop().await;
    let terminal = Terminal::of_stderr();
    frames
        .finish(terminal.live && matches!(driven, Ok(Driven::Ended(_))))
        .await;

    match driven {
        Ok(Driven::Ended(end)) => {
            // The driver knows all of it: nothing is read again.
            match progress.last() {
                Some(state) => report(store, run, &state, output, None)?,
                None => print_report(store, run, output, None).await?,
            }
            Ok(match (interrupted, end.status) {
                (true, _) => exit::INTERRUPTED,
                (false, status) => exit_code(status),
            })
        }
        Ok(Driven::SteppedDown) => Err(Failure::unreachable(format!(
            "another process took run {} over",
            run.run
        ))
        .help(format!("`auria-pipeline watch {}` follows it", run.run))),
        Ok(Driven::Detached) => {
            eprintln!(
                "left run {}: its running steps go on; `auria-pipeline resume {}` takes it up",
                run.run, run.run
            );
            Ok(exit::DONE)
        }
        Err(error) => Err(unreachable_run(run, &error)),
    }
}

fn unreachable_run(run: &RunJson, error: &DriveError) -> Failure {
    let failure = Failure::unreachable(error.to_string());
    let resume = format!(
        "its running steps go on; `auria-pipeline resume {}` takes the run up",
        run.run
    );
    match error {
        DriveError::Store { source, .. } => match source.help() {
            Some(help) => failure.help(format!("{help}; {resume}")),
            None => failure.help(resume),
        },
        DriveError::Launcher { .. } => {
            failure.help(format!("make room, or bring the store back; {resume}"))
        }
        DriveError::Executor { .. } => failure.help(resume),
        DriveError::Deleted { .. } => failure.help("submit the pipeline again"),
    }
}

async fn hand_over(runtime: &RuntimeRoot, identity: &str, run: &RunJson) {
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < HAND_OVER && Lease::holder(runtime.path(), identity, &run.run).is_some()
    {
        Lease::knock(runtime.path(), identity, &run.run).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The exit code of a run that ended so.
pub fn exit_code(status: Status) -> u8 {
    match status {
        Status::Completed => exit::DONE,
        Status::Canceled => exit::CANCELED,
        _ => exit::FAILED,
    }
}

/// The state of `run` as the store and this machine hold it, without driving it.
///
/// # Errors
/// Where the store cannot be read.
pub async fn look(store: &Store, run: &RunJson) -> Result<RunState, Failure> {
    let journal = Journal::new(store.clone(), run.run.clone());
    // Of a run that has ended nothing lives.
    let live = if journal.read_run_end().await?.is_some() {
        Vec::new()
    } else {
        match machine::processes(store, runtime()?) {
            Ok(executor) => auria_engine::executor::Executor::list(&executor, &run.run)
                .await
                .unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    };
    let mut found = journal.recover().await?;
    found.live = live;
    let epoch = found
        .log
        .iter()
        .map(|record| record.epoch)
        .max()
        .unwrap_or(0);
    // The effects are a driver's to carry out; this only looks.
    let (state, _) = RunState::recover(
        run.plan.clone(),
        run.run.clone(),
        epoch,
        found,
        Limits::default(),
        edge::now(),
    );
    Ok(state)
}

/// Prints the report of `run`.
///
/// # Errors
/// Where the store cannot be read.
pub async fn print_report(
    store: &Store,
    run: &RunJson,
    output: OutputFormat,
    driver: Option<String>,
) -> Result<(), Failure> {
    let state = look(store, run).await?;
    report(store, run, &state, output, driver)
}

fn report(
    store: &Store,
    run: &RunJson,
    state: &RunState,
    output: OutputFormat,
    driver: Option<String>,
) -> Result<(), Failure> {
    let shown = RunReport::new(store, run, state, driver);
    crate::print::result(output, &shown, || {
        report::text(&shown, Paint::new(Terminal::of_stdout().colour))
    })
}

struct Signals {
    task: JoinHandle<()>,
    interrupted: Arc<std::sync::atomic::AtomicBool>,
}

impl Signals {
    fn listen(requests: mpsc::Sender<Control>, progress: Progress) -> Result<Self, Failure> {
        let open = |kind: SignalKind| -> Result<Signal, Failure> {
            signal(kind)
                .map_err(|error| Failure::unreachable(format!("listening for signals: {error}")))
        };
        let mut interrupt = open(SignalKind::interrupt())?;
        let mut terminate = open(SignalKind::terminate())?;
        let mut hang_up = open(SignalKind::hangup())?;
        let interrupted = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = interrupted.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "Signals owns the task, ends it and awaits it"
        )]
        let task = tokio::spawn(async move {
            let by = format!(
                "Ctrl-C of process {} on {}",
                std::process::id(),
                edge::host()
            );
            let mut times = 0_u32;
            loop {
                let request = tokio::select! {
                    _ = interrupt.recv() => {
                        seen.store(true, std::sync::atomic::Ordering::Relaxed);
                        times += 1;
                        if times == 1 {
                            progress.note("canceling: steps have 10 s to end; Ctrl-C again kills them at once");
                            Control::Cancel { by: by.clone() }
                        } else {
                            progress.note("killing");
                            Control::Kill { by: by.clone() }
                        }
                    }
                    _ = terminate.recv() => Control::Detach,
                    _ = hang_up.recv() => Control::Detach,
                };
                if requests.send(request).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { task, interrupted })
    }

    /// Stops listening; says whether Ctrl-C was pressed.
    async fn stop(self) -> bool {
        self.task.abort();
        let _ = self.task.await;
        self.interrupted.load(std::sync::atomic::Ordering::Relaxed)
    }
}
