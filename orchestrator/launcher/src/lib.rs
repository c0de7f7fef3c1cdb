//! Process 1 of every step: claims its attempt, fetches what it needs, runs the
//! command, publishes what it made and commits the outcome. It needs no
//! orchestrator: whoever wants to know how the attempt goes connects to its socket.
//! It decides nothing about the run: no retries, no verdicts.
//!
//! An executor writes [`LaunchOptions`] into the attempt's [runtime
//! folder](runtime::AttemptFolder) and starts a program that calls [`launch`].

mod attempt;
mod birth;
mod checkpoints;
mod command;
pub mod container;
mod depot;
mod failure;
mod group;
pub mod inotify;
#[cfg(feature = "brokered")]
pub mod install;
mod metrics;
pub mod nursery;
pub mod ofd;
mod options;
mod output;
#[cfg(feature = "brokered")]
pub mod pod;
pub mod runtime;
pub mod sequence;
mod serve;
mod stop;
#[cfg(feature = "brokered")]
mod teller;
mod template;
pub mod tree;
pub mod warm;
pub mod wire;
mod work;

pub use options::{EngineOptions, LaunchOptions, monotonic};
pub use work::remove as remove_work;

use attempt::Around;
use auria_core::outcome::Cause;
use auria_core::run::AttemptNews;
use auria_store::StoreUrl;
use container::Connect;
use depot::Depot;
use runtime::{AttemptFolder, LAST_WORD, LAUNCH, RuntimeError};
use serve::{Hub, Server};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use work::Work;

/// How a launcher ends, for whoever started it. What happened to the attempt stands
/// in the store, not here.
mod exit {
    /// The outcome stands.
    pub(crate) const COMMITTED: u8 = 0;
    /// It was called in a way that it does not understand.
    pub(crate) const USAGE: u8 = 2;
    /// The store could not be reached; see the runtime folder.
    pub(crate) const STORE: u8 = 4;
    /// The attempt's end stands.
    pub(crate) const ENDED: u8 = 10;
    /// Another launcher has the attempt.
    pub(crate) const NOT_OURS: u8 = 11;

    /// How a launcher ends whose last news these are.
    pub(crate) fn of(news: &super::AttemptNews) -> u8 {
        use super::AttemptNews as N;
        match news {
            N::Committed { .. } => COMMITTED,
            // The driver commits it.
            N::Ended { end } if end.published.is_some() => COMMITTED,
            N::ClaimLost => NOT_OURS,
            N::Gone { .. } | N::Unavailable { .. } => STORE,
            _ => ENDED,
        }
    }
}

/// A launcher could not begin.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    /// The runtime folder cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// There is nothing to launch.
    #[error("{0} holds no launch.json")]
    NoOptions(PathBuf),
    /// The environment does not say what a launcher on a cluster needs.
    #[cfg(feature = "brokered")]
    #[error("this launcher was not told {0}; the executor that starts it sets these variables")]
    NotTold(String),
    /// The system refused something that a launcher cannot do without.
    #[error("could not {doing}: {source}")]
    System {
        /// What.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// [`launch`], with what goes wrong written to standard error; a [`nursery`] where that
/// is asked for.
#[must_use]
pub fn main(mut folder: PathBuf, engines: Option<Connect>) -> ExitCode {
    if folder == Path::new(nursery::NURSERY) {
        match nursery::wait() {
            Some(born) => folder = born,
            None => return ExitCode::SUCCESS,
        }
    }
    warnings();
    launch(folder, engines)
}

/// Writes what goes wrong to standard error.
fn warnings() {
    let warnings = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .finish();
    // Another subscriber is as good.
    let _ = tracing::subscriber::set_global_default(warnings);
}

/// Carries out the attempt whose runtime folder is `folder`, and blocks until its
/// end. To be called by a process of its own, before it has threads: it takes over
/// signals and children. `engines` reaches the engine of an attempt that has one.
#[must_use]
pub fn launch(folder: PathBuf, engines: Option<Connect>) -> ExitCode {
    match run(AttemptFolder::at(folder), engines) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(exit::USAGE)
        }
    }
}

fn run(folder: AttemptFolder, engines: Option<Connect>) -> Result<u8, LaunchError> {
    let options: LaunchOptions = folder
        .read(LAUNCH)?
        .ok_or_else(|| LaunchError::NoOptions(folder.path().to_owned()))?;
    let failed = |doing| move |source| LaunchError::System { doing, source };
    // Held until this process ends, whatever ends it.
    let _holds: Vec<File> = options
        .holds
        .iter()
        .map(|number| inherited(*number))
        .collect::<Result<_, _>>()
        .map_err(failed("keep its share of the machine"))?;
    let lock = match options.lock {
        Some(number) => Some(inherited(number).map_err(failed("keep the attempt's lock"))?),
        None => folder.try_lock()?,
    };
    let Some(lock) = lock else {
        return Ok(exit::NOT_OURS);
    };
    let listener = match options.listener {
        Some(number) => Some(inherited(number).map_err(failed("keep its socket"))?),
        None => None,
    };
    // Beside a folder there is nothing to compute: one thread, which no other has to wake.
    // Transfers to a bucket are worth two.
    let beside_a_folder = options
        .store
        .parse::<StoreUrl>()
        .is_ok_and(|url| url.folder().is_some());
    let mut builder = if beside_a_folder {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = builder
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(failed("start its runtime"))?;
    let code = runtime.block_on(attend(options, folder, listener, engines))?;
    // A thread that hangs on a dead file system must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(lock);
    Ok(code)
}

async fn attend(
    options: LaunchOptions,
    folder: AttemptFolder,
    listener: Option<File>,
    engines: Option<Connect>,
) -> Result<u8, LaunchError> {
    let failed = |doing| move |source| LaunchError::System { doing, source };
    // No core file or debugger of the step's user may show what this process knows.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!("this process stays readable for others: {error}");
    }
    let (stopper, stopped) = stop::channel();
    let mut terms = signal(SignalKind::terminate()).map_err(failed("take SIGTERM"))?;
    // Caught and left alone: unlike ignored signals, the command does not inherit that.
    let _hangup = signal(SignalKind::hangup()).map_err(failed("take SIGHUP"))?;
    let _interrupt = signal(SignalKind::interrupt()).map_err(failed("take SIGINT"))?;
    let grace = Duration::from_millis(options.ticket.grace_ms);
    let asked = stopper.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while terms.recv().await.is_some() {
            asked.ask(Cause::Evicted, grace);
        }
    });

    let hub = Hub::new(options.ticket.attempt.clone());
    let listener = match listener {
        Some(listener) => Ok(OwnedFd::from(listener).into()),
        None => serve::listen(&folder.socket()),
    };
    let server = listener
        .and_then(|listener| Server::start(listener, hub.clone(), stopper))
        .map_err(failed("listen on its socket"))?;
    let work = Work::at(options.work_folder(&folder));
    let patience = Duration::from_millis(options.store_patience_ms);
    let opened = Depot::open(&options.store, &options.ticket.attempt, patience, &hub).await;
    let news = match opened {
        Ok(depot) => {
            let around = Around {
                key: folder.key(),
                folder: Some(&folder),
                in_image: false,
                node: None,
                process: None,
                nonce: None,
                group: None,
                peers: None,
            };
            attempt::carry_out(depot, &options, around, &work, &hub, stopped, engines).await
        }
        Err(error) => AttemptNews::Unavailable {
            message: failure::chain(&error),
        },
    };
    // First where it outlasts this process, then to those who listen.
    if let Err(error) = folder.write(LAST_WORD, &news) {
        tracing::error!("the last word could not be left: {error}");
    }
    hub.news(news.clone());
    server.finish().await;
    if let Err(error) = remove_work(work.root()) {
        tracing::warn!("the work folder {} is left: {error}", work.root().display());
    }
    tasks.shutdown().await;
    let code = exit::of(&news);
    if matches!(
        news,
        AttemptNews::Committed { .. } | AttemptNews::Ended { .. }
    ) {
        // The store holds all of it.
        if let Err(error) = folder.remove() {
            tracing::warn!("{error}");
        }
    }
    Ok(code)
}

/// A descriptor that this process inherited, kept from the command's processes.
#[expect(
    unsafe_code,
    reason = "an executor hands over locks by the numbers of their descriptors"
)]
fn inherited(number: i32) -> std::io::Result<File> {
    use std::os::fd::{BorrowedFd, FromRawFd};
    if number <= 2 {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: at this point nothing but main has run in this process, so that the
    // number is either what the executor left open for it, or closed; the latter is
    // found by the system call before the number is taken for a file.
    unsafe {
        ofd::set_inherited(BorrowedFd::borrow_raw(number), false)?;
        Ok(File::from_raw_fd(number))
    }
}
