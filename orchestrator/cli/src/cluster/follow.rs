//! Follows a run on a cluster to its end, whatever happens to the controller and the way
//! there meanwhile. Ctrl-C only stops watching: the run is the cluster's.

use super::Controller;
use crate::args::OutputFormat;
use crate::drive;
use crate::edge;
use crate::failure::{Failure, exit};
use crate::progress::Progress;
use auria_core::outcome::Status;
use auria_core::run::RunChange;
use auria_store::Journal;
use auria_store::runs::{RunJson, RunState};
use futures::StreamExt;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Before a run is asked for again that nobody drives, times the number of tries.
const AGAIN: Duration = Duration::from_millis(200);
/// After so many tries in a row that lead nowhere it is said, and the way begins anew.
const SILENT: u32 = 5;
/// After so many it is given up, where nobody answers.
pub const MOST: u32 = 300;
/// A run that so many looks in a row find undriven is handed over again.
const UNDRIVEN: u32 = 4;

/// Ctrl-C, from the moment at which it must not end this program by itself.
pub struct Interrupt(Signal);

impl Interrupt {
    /// Begins to listen.
    ///
    /// # Errors
    /// Where that is refused.
    pub fn listen() -> Result<Self, Failure> {
        signal(SignalKind::interrupt())
            .map(Self)
            .map_err(|error| Failure::unreachable(format!("listening for signals: {error}")))
    }

    /// What `work` comes to; none where Ctrl-C came first.
    async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = self.0.recv() => None,
            done = work => Some(done),
        }
    }
}

/// What is said to who stops watching.
fn goes_on(run: &RunJson, flag: &str) -> u8 {
    let run = &run.run;
    eprintln!(
        "run {run} goes on: `auria-pipeline cancel {run} {flag}` ends it, `auria-pipeline watch {run} {flag}` follows it"
    );
    exit::INTERRUPTED
}

impl Controller {
    /// Hands a run over and shows how it goes, to its end.
    ///
    /// # Errors
    /// As [`Controller::submit`] and [`Controller::follow`].
    pub async fn submit_and_follow(
        &self,
        run: &RunJson,
        output: OutputFormat,
    ) -> Result<u8, Failure> {
        let mut interrupt = Interrupt::listen()?;
        match interrupt.or(self.submit(run)).await {
            Some(submitted) => submitted?,
            // It may have been handed over, or not: who watches it sees to that.
            None => return Ok(goes_on(run, &self.flag)),
        }
        self.follow(run, output, interrupt).await
    }

    /// Shows how a run goes, to its end. Ctrl-C only stops watching, at any moment.
    ///
    /// # Errors
    /// Where the controller cannot be reached any more.
    pub async fn follow(
        &self,
        run: &RunJson,
        output: OutputFormat,
        mut interrupt: Interrupt,
    ) -> Result<u8, Failure> {
        let (progress, frames) = Progress::begin(&run.run, &run.plan, edge::now());
        let seen = interrupt.or(self.see(run, &progress)).await;
        frames.finish(matches!(seen, Some(Ok(_)))).await;
        let Some(seen) = seen else {
            return Ok(goes_on(run, &self.flag));
        };
        let status = seen?;
        let report = drive::print_report(&self.store, run, output, None);
        match interrupt.or(report).await {
            Some(printed) => printed?,
            // It has ended: there is nothing to go on.
            None => return Ok(exit::INTERRUPTED),
        }
        Ok(drive::exit_code(status))
    }

    async fn see(&self, run: &RunJson, progress: &Progress) -> Result<Status, Failure> {
        let mut tries = 0_u32;
        let mut undriven = 0_u32;
        loop {
            match self.see_from_here(run, progress, &mut tries).await {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {
                    undriven += 1;
                    if undriven.is_multiple_of(UNDRIVEN) {
                        self.hand_over_again(run, progress, undriven == UNDRIVEN)
                            .await;
                    }
                }
                // Whoever may not look any more is told so.
                Err(failure) if tries >= MOST => return Err(failure),
                Err(_) => {
                    undriven = 0;
                    if tries == SILENT {
                        progress.note(
                            "the controller cannot be reached; the run goes on, and so does this",
                        );
                    }
                }
            }
            tries += 1;
            self.pause(tries).await;
        }
    }

    /// Waits before the next try, where `tries` in a row led nowhere: a run is taken up
    /// within moments, or the controller is on its way back.
    pub async fn pause(&self, tries: u32) {
        if let Some(way) = &self.way
            && tries.is_multiple_of(SILENT)
        {
            // The one that leads may be another by now.
            way.renew().await;
        }
        tokio::time::sleep(AGAIN * tries.min(10)).await;
    }

    /// A run whose submission was cut short, or whose resource is gone: nobody would ever
    /// take it up. One that only waits for its turn is left as it is.
    async fn hand_over_again(&self, run: &RunJson, progress: &Progress, is_first: bool) {
        let ready = auria_store::runs::read(&self.store, &run.run).await;
        if !ready.is_ok_and(|run| run.state == RunState::Ready) {
            return;
        }
        // Who may only look cannot: somebody else will.
        if self.submit(run).await.is_ok() && is_first {
            progress.note("nobody drives it yet: it stands in the controller's queue");
        }
    }

    /// As far as this way leads: none where the run is not driven there at this moment.
    async fn see_from_here(
        &self,
        run: &RunJson,
        progress: &Progress,
        tries: &mut u32,
    ) -> Result<Option<Status>, Failure> {
        if let Some(mut changes) = self.remote.follow(&run.run).await? {
            while let Some(change) = changes.next().await {
                *tries = 0;
                let end = match &change {
                    RunChange::End { end } => Some(end.status),
                    _ => None,
                };
                progress.take(change, edge::now());
                if end.is_some() {
                    return Ok(end);
                }
            }
        }
        let journal = Journal::new(self.store.clone(), run.run.clone());
        Ok(journal.read_run_end().await?.map(|end| end.status))
    }
}
