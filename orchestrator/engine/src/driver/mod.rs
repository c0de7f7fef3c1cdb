//! The driver: joins the run state, the store and an executor. It carries out the
//! effects that the run state asks for and tells it what came of them. It decides
//! nothing: kill it at any moment, and the next driver goes on from the store.

mod hands;
mod log;

pub use log::nonce;

use crate::executor::{AttemptEvent, Executor, Happened};
use crate::lease::Lease;
use auria_core::mutant;
use auria_core::outcome::{Decision, LogRecord, Outcome, RunEnd, Status};
use auria_core::plan::Plan;
use auria_core::run::{AttemptNews, Event, Limits, Recovered, RunState};
use auria_core::{AttemptId, RunId, Timestamp};
use auria_store::{Journal, Store, StoreError, housekeeping};
use futures::StreamExt;
use hands::{Hands, Known};
use log::LogTail;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often the log is looked at though nobody knocked: a request to cancel from
/// another machine arrives by it.
const LOG_LOOK: Duration = Duration::from_secs(5);

/// Before a broken watch is opened again.
const WATCH_AGAIN: Duration = Duration::from_millis(500);

/// What the owner of a driver may ask of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Cancel the run.
    Cancel {
        /// Who asks, for people.
        by: String,
    },
    /// Cancel the run and wait no longer: its steps are killed at once.
    Kill {
        /// Who asks, for people.
        by: String,
    },
    /// Leave the run; its steps go on.
    Detach,
}

/// How a driver ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Driven {
    /// The run ended.
    Ended(RunEnd),
    /// A newer driver took over.
    SteppedDown,
    /// The owner asked to leave the run.
    Detached,
}

/// A driver could not go on. The run can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The store failed.
    #[error("run {run}: {doing}: {source}")]
    Store {
        /// The run.
        run: RunId,
        /// What was being done.
        doing: &'static str,
        /// What the store said.
        source: StoreError,
    },
    /// The run is being deleted, or was.
    #[error("run {run} is being deleted")]
    Deleted {
        /// The run.
        run: RunId,
    },
    /// A launcher cannot get at the store. It goes on trying.
    #[error("attempt {attempt}: {message}")]
    Launcher {
        /// Whose.
        attempt: AttemptId,
        /// What it cannot do, and why.
        message: String,
    },
    /// The executor failed.
    #[error("run {run}: {doing}: {message}")]
    Executor {
        /// The run.
        run: RunId,
        /// What was being done.
        doing: &'static str,
        /// What the executor said.
        message: String,
    },
}

/// Who watches a driver: the terminal, a server.
pub trait Observer: Send {
    /// The state may have changed: [`RunState::changed`] says at which steps.
    fn changed(&mut self, state: &RunState, now: Timestamp);
    /// An attempt's command said something.
    fn line(&mut self, attempt: &AttemptId, line: &str);
}

/// Drives one run.
pub struct Driver<E> {
    /// The run.
    pub run: RunId,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// Where it is kept.
    pub store: Store,
    /// What runs its steps.
    pub executor: Arc<E>,
    /// How much it may ask of the executor at once.
    pub limits: Limits,
    /// Who drives, for people: process and host.
    pub name: String,
    /// The clock.
    pub now: fn() -> Timestamp,
}

impl<E: Executor + 'static> Driver<E> {
    /// Takes the run over and drives it to its end, or until `control` says otherwise.
    ///
    /// # Errors
    /// Where the store or the executor cannot be reached; steps that run go on.
    pub async fn drive(
        &self,
        lease: Option<&Lease>,
        mut control: mpsc::Receiver<Control>,
        observer: &mut dyn Observer,
    ) -> Result<Driven, DriveError> {
        let journal = Journal::new(self.store.clone(), self.run.clone());
        let store = |doing| {
            let run = self.run.clone();
            move |source| DriveError::Store { run, doing, source }
        };
        let log = journal
            .whole_log()
            .await
            .map_err(store("reading the log"))?;
        let mut tail = LogTail::after(&log);
        let epoch = log::take_over(&journal, &mut tail, &self.name, self.now)
            .await
            .map_err(store("taking over"))?;

        // After the takeover stands: a deletion sees it, or we see the deletion.
        if !housekeeping::rescue(&self.store, &self.run)
            .await
            .map_err(store("looking whether it is being deleted"))?
        {
            return Err(DriveError::Deleted {
                run: self.run.clone(),
            });
        }

        // Watch before listing, so that nothing ends unseen between the two; read the
        // store last: what was not live then has written all that it ever will.
        let mut watch = self.executor.watch(&self.run);
        let live = self.list().await?;
        let mut found = journal
            .recover()
            .await
            .map_err(store("reading what happened"))?;
        if let Some(end) = found.ended.take() {
            return Ok(Driven::Ended(end));
        }
        found.live = if mutant!(ListAfterRead) {
            self.list().await?
        } else {
            live
        };
        self.look_again(&journal, &mut found).await?;
        for record in &found.log {
            tail.saw(record);
        }

        let mut hands = Hands::new(self, journal, epoch, tail);
        let outcomes: Vec<Arc<Outcome>> = found.outcomes.values().cloned().collect();
        let (mut state, effects) = RunState::recover(
            self.plan.clone(),
            self.run.clone(),
            epoch,
            found,
            self.limits.clone(),
            (self.now)(),
        );
        hands.index(&state, &outcomes);
        observer.changed(&state, (self.now)());
        hands.carry_out(effects);

        let mut look = tokio::time::interval(LOG_LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut controlled = true;
        loop {
            if let Some(end) = state.view().end.cloned() {
                hands.finish().await?;
                return Ok(Driven::Ended(end));
            }
            if state.is_superseded() {
                return Ok(Driven::SteppedDown);
            }
            let deadline = state
                .next_deadline()
                .map(|at| Duration::from_millis(at.millis_since((self.now)())));
            let out_of_patience = hands.out_of_patience();
            let events = tokio::select! {
                biased;
                asked = control.recv(), if controlled => match asked {
                    Some(Control::Cancel { by }) => vec![Event::CancelAsked { by }],
                    Some(Control::Kill { by }) => vec![Event::KillAsked { by }],
                    Some(Control::Detach) => return Ok(Driven::Detached),
                    None => { controlled = false; vec![] }
                },
                done = hands.next() => done?,
                seen = watch.next() => match seen {
                    Some(Ok(event)) => self.seen(event, &mut hands, observer),
                    Some(Err(error)) => {
                        tracing::warn!(run = %self.run, %error, "watching what runs");
                        tokio::time::sleep(WATCH_AGAIN).await;
                        watch = self.executor.watch(&self.run);
                        hands.look_for_lost(state.open_attempts().collect());
                        vec![]
                    }
                    None => {
                        tokio::time::sleep(WATCH_AGAIN).await;
                        watch = self.executor.watch(&self.run);
                        hands.look_for_lost(state.open_attempts().collect());
                        vec![]
                    }
                },
                (attempt, message) = out_of_patience => {
                    return Err(DriveError::Launcher { attempt, message });
                }
                () = knocked(lease) => { hands.look(); vec![] }
                _ = look.tick() => { hands.look(); vec![] }
                () = sleep(deadline) => vec![Event::Tick],
            };
            for event in events {
                let now = (self.now)();
                let committed = committed(&event);
                hands.note(&event);
                let effects = state.apply(event, now);
                if let Some(outcome) = committed {
                    hands.index(&state, &[outcome]);
                }
                observer.changed(&state, now);
                hands.carry_out(effects);
            }
            // Whoever lost the run decides nothing more of it.
            if !state.is_superseded() {
                hands.decide_what_waited(state.is_ending());
            }
        }
    }

    async fn list(&self) -> Result<Vec<AttemptId>, DriveError> {
        let listed = self.executor.list(&self.run).await;
        listed.map_err(|error| DriveError::Executor {
            run: self.run.clone(),
            doing: "listing what runs",
            message: error.to_string(),
        })
    }

    /// An attempt that was not live and whose claim stands may have begun between the two
    /// looks, by an older driver's last start. It is given up only where it does not live
    /// after its claim was seen, and has left nothing since.
    async fn look_again(&self, journal: &Journal, found: &mut Recovered) -> Result<(), DriveError> {
        // Not where another attempt or a verdict decided its step: it may still run.
        let told = |found: &Recovered, id: &AttemptId| {
            let outcome = found.outcomes.get(&id.step);
            outcome.is_some_and(|outcome| outcome.attempt == Some(id.number))
                || found.live.contains(id)
                || found.ends.iter().any(|end| end.attempt == *id)
                || found.log.iter().any(|record| judges(record, id))
        };
        let claims = found.claims.iter().map(|claim| &claim.attempt);
        let gone: Vec<AttemptId> = claims.filter(|id| !told(found, id)).cloned().collect();
        if gone.is_empty() || mutant!(ListAfterRead) {
            return Ok(());
        }
        let live = self.list().await?;
        for id in gone {
            if live.contains(&id) {
                found.live.push(id);
                continue;
            }
            let read = async {
                let outcome = journal.read_outcome(&id.step).await?;
                Ok((outcome, journal.read_end(&id).await?))
            };
            let (outcome, end) = read.await.map_err(|source| DriveError::Store {
                run: self.run.clone(),
                doing: "reading what happened",
                source,
            })?;
            found
                .outcomes
                .extend(outcome.map(|outcome| (id.step.clone(), Arc::new(outcome))));
            found.ends.extend(end);
        }
        Ok(())
    }

    /// What an executor's event means: most are news as they are; an attempt whose
    /// launcher is gone is looked up in the store first.
    fn seen(
        &self,
        event: AttemptEvent,
        hands: &mut Hands,
        observer: &mut dyn Observer,
    ) -> Vec<Event> {
        let AttemptEvent { attempt, happened } = event;
        match happened {
            Happened::Log(lines) => {
                if let Some(last) = lines.iter().rev().find(|line| !line.trim().is_empty()) {
                    observer.line(&attempt, last);
                }
                vec![]
            }
            Happened::News(AttemptNews::Store { trouble }) => {
                if let Some(trouble) = &trouble {
                    observer.line(&attempt, trouble);
                }
                hands.store_trouble(attempt, trouble);
                vec![]
            }
            Happened::News(AttemptNews::Gone { claim, end, .. }) => {
                let nonce = claim.map(|claim| claim.nonce);
                let nonce = nonce.or_else(|| end.as_ref()?.nonce.clone());
                hands.look_up_gone(attempt, Known { nonce, end });
                vec![]
            }
            Happened::News(news) => vec![Event::Attempt { id: attempt, news }],
        }
    }
}

async fn knocked(lease: Option<&Lease>) {
    match lease {
        Some(lease) => {
            lease.knocked().await;
        }
        None => std::future::pending().await,
    }
}

async fn sleep(deadline: Option<Duration>) {
    match deadline {
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
}

/// Whether `record` says that `id` is lost.
fn judges(record: &LogRecord, id: &AttemptId) -> bool {
    matches!(&record.decision, Decision::JudgedLost { step, attempt, .. }
        if *step == id.step && *attempt == id.number)
}

/// Whether `outcome` may stand for another step's later.
fn is_source(outcome: &Outcome) -> bool {
    outcome.status == Status::Completed && outcome.key.is_some()
}

/// The outcome that an event tells of.
fn committed(event: &Event) -> Option<Arc<Outcome>> {
    match event {
        Event::Committed(outcome)
        | Event::Attempt {
            news: AttemptNews::Committed { outcome },
            ..
        } => Some(outcome.clone()),
        _ => None,
    }
}

/// Whether `record` asks to cancel.
#[must_use]
pub fn asks_to_cancel(record: &LogRecord) -> bool {
    matches!(record.decision, Decision::CancelRequested { .. })
}

/// Appends a request to cancel `run` to its log and wakes its driver, where one lives
/// on this machine. Idempotent: a request that stands already is enough.
///
/// # Errors
/// Where the store cannot be reached or refuses.
pub async fn request_cancel(
    store: &Store,
    run: &RunId,
    by: &str,
    now: fn() -> Timestamp,
) -> Result<(), StoreError> {
    let journal = Journal::new(store.clone(), run.clone());
    let records = journal.whole_log().await?;
    if records.iter().any(asks_to_cancel) {
        return Ok(());
    }
    let tail = LogTail::after(&records);
    let decision = Decision::CancelRequested { by: by.to_owned() };
    // Its epoch is the last that this process read; a newer takeover is no hindrance.
    let (mut next, mut epoch) = (tail.next(), tail.newest_epoch());
    loop {
        let appended = log::append(&journal, next, epoch, decision.clone(), now).await?;
        if !appended.superseded {
            return Ok(());
        }
        for record in &appended.records {
            next = next.max(record.seq.saturating_add(1));
            epoch = epoch.max(record.epoch);
        }
    }
}
