//! A driver's hands: effects go in, events come out, each effect a task of its own
//! that the driver owns. Appends go one after the other; everything else may
//! overlap, up to a bound.

use super::log::{self, Appended, LogTail, Look};
use super::{DriveError, Driver, is_source};
use crate::executor::{Executor, StartError, is_last};
use auria_core::mutant;
use auria_core::outcome::{Decision, EndRecord, LogRecord, Outcome, RunEnd};
use auria_core::plan::Plan;
use auria_core::run::{AttemptNews, Effect, Event, RunState};
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, Nonce, RunId, Timestamp};
use auria_store::{
    Commit, ErrorKind, Journal, Store, StoreError, checkpoint, export, registry, reuse,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Effects carried out at once: enough to hide a store's latency, few enough for its
/// connections.
const AT_ONCE: usize = 64;

/// How long the store may keep an attempt waiting before the driver leaves the run to
/// `resume`: longer than a launcher's longest pause between two tries.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

/// Before an executor is asked again that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What was told of a launcher that is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The nonce of its claim, where it had one.
    pub(super) nonce: Option<Nonce>,
    /// Why it is gone, where the executor knows.
    pub(super) end: Option<EndRecord>,
}

/// What a task came back with.
enum Done {
    Events(Vec<Event>),
    /// The append that was under way.
    Appended(Appended),
    /// A look at the log, and what stood there.
    Looked(Vec<LogRecord>),
    /// A look at the log of a run that is not there any more.
    Deleted,
    /// What attempts left that did not live when so many starts had been begun.
    Left(u64, Vec<Event>),
    /// What the log held that was not taken in when this was to be decided.
    Behind(Vec<LogRecord>, Box<Effect>),
}

/// A start that may be under way.
struct Starting {
    /// Its place among all starts.
    place: u64,
    /// Closed when it is done.
    done: Arc<Semaphore>,
}

pub(super) struct Hands {
    run: RunId,
    plan: Arc<Plan>,
    store: Store,
    journal: Arc<Journal>,
    executor: Arc<dyn Executor>,
    now: fn() -> Timestamp,
    epoch: u64,
    tail: LogTail,
    decisions: VecDeque<Decision>,
    appending: bool,
    looking: bool,
    look_again: bool,
    /// Decisions that wait until what stood in the log before them is taken in.
    behind: Vec<Effect>,
    /// The run's end as it was last asked for.
    end: Option<RunEnd>,
    /// Starts that may be under way.
    starting: HashMap<AttemptId, Starting>,
    /// How many starts were begun.
    starts: u64,
    /// Attempts that the store keeps waiting: since when, and what they say.
    troubled: HashMap<AttemptId, (Instant, String)>,
    /// Which runs this one takes from, as the store knows.
    references: Arc<reuse::References>,
    room: Arc<Semaphore>,
    tasks: JoinSet<Result<Done, DriveError>>,
}

impl Hands {
    pub(super) fn new<E: Executor + 'static>(
        driver: &Driver<E>,
        journal: Journal,
        epoch: u64,
        tail: LogTail,
    ) -> Self {
        Self {
            run: driver.run.clone(),
            plan: driver.plan.clone(),
            store: driver.store.clone(),
            journal: Arc::new(journal),
            executor: driver.executor.clone(),
            now: driver.now,
            epoch,
            tail,
            decisions: VecDeque::new(),
            appending: false,
            looking: false,
            look_again: false,
            behind: Vec::new(),
            end: None,
            starting: HashMap::new(),
            starts: 0,
            troubled: HashMap::new(),
            references: Arc::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: JoinSet::new(),
        }
    }

    /// The events of the next task that is done; pending while there is none.
    pub(super) async fn next(&mut self) -> Result<Vec<Event>, DriveError> {
        let done = match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(Ok(done)) => done?,
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
        };
        Ok(match done {
            Done::Events(events) => events,
            Done::Appended(appended) => {
                self.appending = false;
                self.stand(appended.records)
            }
            Done::Looked(records) => {
                self.looking = false;
                self.stand(records)
            }
            Done::Behind(records, effect) => {
                self.behind.push(*effect);
                self.stand(records)
            }
            Done::Deleted => {
                return Err(DriveError::Deleted {
                    run: self.run.clone(),
                });
            }
            Done::Left(starts, mut events) => {
                events.retain(|event| !self.is_outdated(event, starts));
                events
            }
        })
    }

    /// Whether an event would free the number of an attempt that was started again since.
    fn is_outdated(&self, event: &Event, starts: u64) -> bool {
        let Event::Attempt {
            id,
            news:
                AttemptNews::Gone {
                    claim: None,
                    end: None,
                    ..
                },
        } = event
        else {
            return false;
        };
        self.starting
            .get(id)
            .is_some_and(|starting| starting.place > starts)
    }

    fn stand(&mut self, records: Vec<LogRecord>) -> Vec<Event> {
        let fresh: Vec<LogRecord> = records
            .into_iter()
            .filter(|record| record.seq >= self.tail.next())
            .collect();
        for record in &fresh {
            self.tail.saw(record);
        }
        self.append_next();
        if std::mem::take(&mut self.look_again) {
            self.look();
        }
        fresh.into_iter().map(Event::Appended).collect()
    }

    /// Notes that the store keeps an attempt waiting, or does not any more.
    pub(super) fn store_trouble(&mut self, id: AttemptId, trouble: Option<String>) {
        match trouble {
            Some(message) => {
                self.troubled
                    .entry(id)
                    .or_insert_with(|| (Instant::now(), String::new()))
                    .1 = message
            }
            None => drop(self.troubled.remove(&id)),
        }
    }

    /// The first attempt that the store has kept waiting for too long; pending while
    /// there is none.
    pub(super) fn out_of_patience(&self) -> impl Future<Output = (AttemptId, String)> + use<> {
        let first = self.troubled.iter().min_by_key(|(_, (since, _))| *since);
        let first = first.map(|(id, (since, message))| (*since, id.clone(), message.clone()));
        async move {
            let Some((since, id, message)) = first else {
                return std::future::pending().await;
            };
            tokio::time::sleep_until(since + STORE_PATIENCE).await;
            (id, message)
        }
    }

    /// Waits for what is still under way.
    pub(super) async fn finish(mut self) -> Result<(), DriveError> {
        while let Some(done) = self.tasks.join_next().await {
            match done {
                Ok(done) => {
                    done?;
                }
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        Ok(())
    }

    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append(decision) => {
                    self.decisions.push_back(decision);
                    self.append_next();
                }
                Effect::LookUpReuse {
                    step,
                    key,
                    parts,
                    max_age_ms,
                } => {
                    let (store, run, plan, references, now) = (
                        self.store.clone(),
                        self.run.clone(),
                        self.plan.clone(),
                        self.references.clone(),
                        self.now,
                    );
                    self.spawn("looking for something to reuse", async move {
                        let query = reuse::Query {
                            run: &run,
                            pipeline: &plan.pipeline,
                            step: &step,
                            key: &key,
                            parts: &parts,
                            max_age_ms,
                        };
                        let answer = reuse::look_up(&store, &query, &references, now()).await?;
                        let note = reuse::Note { key, parts, answer };
                        reuse::write_note(&store, &run, &step, &note).await?;
                        Ok(vec![Event::Reuse {
                            step,
                            answer: note.answer,
                        }])
                    });
                }
                Effect::Start(ticket) => self.start(*ticket),
                Effect::Stop { attempt, grace_ms } => self.stop(attempt, grace_ms),
                Effect::Inspect(attempt) => self.inspect(attempt),
                Effect::WriteEnd(end) => {
                    let journal = self.journal.clone();
                    self.spawn("writing an attempt's end", async move {
                        let end = journal.write_end(&end).await?;
                        Ok(vec![Event::Attempt {
                            id: end.attempt.clone(),
                            news: AttemptNews::Ended { end },
                        }])
                    });
                }
                Effect::Commit(outcome) => self.commit(outcome),
                Effect::Register {
                    step,
                    output,
                    asset,
                    artifact,
                } => {
                    let (store, run) = (self.store.clone(), self.run.clone());
                    self.spawn("registering an asset", async move {
                        let origin = registry::Origin {
                            run,
                            step: step.clone(),
                            output: output.clone(),
                        };
                        let asset = registry::NewAsset {
                            kind: asset.kind,
                            name: asset.name,
                            version: asset.version,
                            artifact,
                            origin: Some(origin),
                            description: String::new(),
                            tags: BTreeMap::new(),
                        };
                        let result = match registry::register(&store, asset).await {
                            Ok(record) => Ok(record.version),
                            Err(error) if is_answer(&error) => Err(error.to_string()),
                            Err(error) => return Err(error),
                        };
                        Ok(vec![Event::Registered {
                            step,
                            output,
                            result,
                        }])
                    });
                }
                Effect::Export {
                    step,
                    output,
                    uri,
                    artifact,
                } => {
                    let (store, run) = (self.store.clone(), self.run.clone());
                    self.spawn("copying an output", async move {
                        let result =
                            export::deliver(&store, &run, &step, &output, &artifact, &uri).await?;
                        Ok(vec![Event::Exported {
                            step,
                            output,
                            result,
                        }])
                    });
                }
                Effect::EndRun(end) => self.end_run(end),
            }
        }
    }

    /// Decides what had to wait for the log, which the run state has taken in by now;
    /// `ending`: it still wants the end that it asked for last.
    pub(super) fn decide_what_waited(&mut self, ending: bool) {
        for effect in std::mem::take(&mut self.behind) {
            // Another end was asked for since, or will be.
            let outdated = matches!(&effect, Effect::EndRun(end)
                if !ending || self.end.as_ref() != Some(end));
            if !outdated {
                self.carry_out(vec![effect]);
            }
        }
    }

    fn commit(&mut self, outcome: Arc<Outcome>) {
        let (journal, next) = (self.journal.clone(), self.tail.next());
        self.spawn_done("committing a step", async move {
            // A success is what happened, whoever drives; the rest is decided.
            if !outcome.status.is_success() {
                match log::look(&journal, next).await? {
                    Look::Unread(unread) if !mutant!(VerdictUnread) => {
                        return Ok(Done::Behind(unread, Box::new(Effect::Commit(outcome))));
                    }
                    Look::Deleted => return Ok(Done::Deleted),
                    Look::Nothing | Look::Unread(_) => {}
                }
            }
            let stands = match journal.commit(&outcome).await? {
                Commit::Won => outcome,
                Commit::Lost(stands) => Arc::new(*stands),
            };
            Ok(Done::Events(vec![Event::Committed(stands)]))
        });
    }

    fn end_run(&mut self, end: RunEnd) {
        self.end = Some(end.clone());
        let (journal, next) = (self.journal.clone(), self.tail.next());
        self.spawn_done("writing the run's end", async move {
            match log::look(&journal, next).await? {
                Look::Unread(unread) if !mutant!(EndUnread) => {
                    return Ok(Done::Behind(unread, Box::new(Effect::EndRun(end))));
                }
                Look::Deleted => return Ok(Done::Deleted),
                Look::Nothing | Look::Unread(_) => {}
            }
            Ok(Done::Events(vec![Event::Ended(
                journal.end_run(&end).await?,
            )]))
        });
    }

    fn start(&mut self, ticket: Ticket) {
        let (journal, executor) = (self.journal.clone(), self.executor.clone());
        let started = Arc::new(Semaphore::new(0));
        self.starts += 1;
        let starting = Starting {
            place: self.starts,
            done: started.clone(),
        };
        self.starting.insert(ticket.attempt.clone(), starting);
        self.spawn("starting an attempt", async move {
            let id = ticket.attempt.clone();
            if let Err(error) = journal.write_ticket(&ticket).await {
                started.close();
                return Err(error);
            }
            // Recovery reads no tickets: the launcher need not wait for the disk.
            let (answer, synced) =
                futures::join!(executor.start(&ticket), journal.sync_ticket(&id));
            started.close();
            synced?;
            let news = match answer {
                Ok(()) => return Ok(vec![]),
                Err(StartError::Refused { message }) => AttemptNews::Refused { message },
                Err(StartError::Unavailable { message }) => AttemptNews::Unavailable { message },
            };
            Ok(vec![Event::Attempt { id, news }])
        });
    }

    /// Stops an attempt, after the start of it that may be under way.
    fn stop(&mut self, id: AttemptId, grace_ms: u64) {
        let (journal, store, executor) = (
            self.journal.clone(),
            self.store.clone(),
            self.executor.clone(),
        );
        let started = self.start_of(&id);
        self.spawn_left("stopping an attempt", async move {
            if let Some(started) = started {
                let _ = started.acquire().await;
            }
            // The run state repeats a stop whose end it does not see.
            if let Err(error) = executor.stop(&id, Duration::from_millis(grace_ms)).await {
                tracing::warn!(attempt = %id, %error, "stopping");
                return Ok(vec![]);
            }
            match executor.list(&id.run).await {
                Ok(live) if !live.contains(&id) => {
                    let left = left(&journal, &store, &*executor, id, Known::default());
                    Ok(Vec::from_iter(left.await?))
                }
                _ => Ok(vec![]),
            }
        });
    }

    fn append_next(&mut self) {
        if self.appending {
            return;
        }
        let Some(decision) = self.decisions.pop_front() else {
            return;
        };
        self.appending = true;
        let (journal, next, epoch, now) =
            (self.journal.clone(), self.tail.next(), self.epoch, self.now);
        self.spawn_done("appending to the log", async move {
            if log::is_deleted(&journal).await? {
                return Ok(Done::Deleted);
            }
            log::append(&journal, next, epoch, decision, now)
                .await
                .map(Done::Appended)
        });
    }

    /// Looks whether another process appended to the log.
    pub(super) fn look(&mut self) {
        if self.looking || self.appending {
            self.look_again = true;
            return;
        }
        self.looking = true;
        let (journal, next) = (self.journal.clone(), self.tail.next());
        self.spawn_done("reading the log", async move {
            Ok(match log::look(&journal, next).await? {
                Look::Nothing => Done::Looked(Vec::new()),
                Look::Unread(records) => Done::Looked(records),
                Look::Deleted => Done::Deleted,
            })
        });
    }

    /// Forgets the start of an attempt that is over.
    pub(super) fn note(&mut self, event: &Event) {
        if let Event::Attempt { id, news } = event
            && is_last(news)
        {
            self.starting.remove(id);
            self.troubled.remove(id);
        }
    }

    /// Puts finished steps into the reuse index. Only drivers write it.
    pub(super) fn index(&mut self, state: &RunState, outcomes: &[Arc<Outcome>]) {
        for outcome in outcomes {
            let (Some(key), true) = (outcome.key, is_source(outcome)) else {
                continue;
            };
            let Some(parts) = state.key_parts(&outcome.step) else {
                continue;
            };
            let entry = reuse::ReuseEntry {
                key,
                parts,
                pipeline: self.plan.pipeline.clone(),
                run: self.run.clone(),
                step: outcome.step.clone(),
                ended: outcome.ended,
                outputs: outcome.outputs.clone(),
            };
            let store = self.store.clone();
            self.spawn("writing the reuse index", async move {
                reuse::record(&store, &entry).await?;
                Ok(vec![])
            });
        }
    }

    /// Finds out what holds the claim of `id`: one that lives tells its own news.
    fn inspect(&mut self, id: AttemptId) {
        let (journal, store, executor) = (
            self.journal.clone(),
            self.store.clone(),
            self.executor.clone(),
        );
        self.spawn_left("looking for who holds a claim", async move {
            if !ask(&*executor, &id.run).await.contains(&id) {
                let known = Known::default();
                let left = left_at_last(&journal, &store, &*executor, id, &known);
                return Ok(vec![left.await?]);
            }
            Ok(match journal.read_claim(&id).await? {
                Some(claim) => vec![Event::Attempt {
                    id,
                    news: AttemptNews::Claimed {
                        nonce: claim.nonce,
                        node: claim.host,
                    },
                }],
                None => vec![],
            })
        });
    }

    /// Finds out what a launcher that is gone left in the store.
    pub(super) fn look_up_gone(&mut self, id: AttemptId, known: Known) {
        let (journal, store, executor) = (
            self.journal.clone(),
            self.store.clone(),
            self.executor.clone(),
        );
        let started = self.start_of(&id);
        self.spawn_left("looking for what a launcher left", async move {
            if let Some(started) = started {
                // It may be about the start before.
                let _ = started.acquire().await;
            }
            if known.nonce.is_none() && ask(&*executor, &id.run).await.contains(&id) {
                // One that lives tells its own news.
                return Ok(vec![]);
            }
            let left = left_at_last(&journal, &store, &*executor, id, &known);
            Ok(vec![left.await?])
        });
    }

    /// Finds out what became of those of `open` that do not live any more: their last
    /// news may have been told while nobody heard.
    pub(super) fn look_for_lost(&mut self, open: Vec<AttemptId>) {
        let (journal, store, executor, run) = (
            self.journal.clone(),
            self.store.clone(),
            self.executor.clone(),
            self.run.clone(),
        );
        // One that is being started does not live yet.
        let starting: Vec<_> = open.iter().filter_map(|id| self.start_of(id)).collect();
        self.spawn_left("looking for attempts that went unheard", async move {
            for started in starting {
                let _ = started.acquire().await;
            }
            let live = ask(&*executor, &run).await;
            let mut events = Vec::new();
            let known = Known::default();
            for id in open.into_iter().filter(|id| !live.contains(id)) {
                events.push(left_at_last(&journal, &store, &*executor, id, &known).await?);
            }
            Ok(events)
        });
    }

    /// The start of an attempt that may be under way: it has no permits, and is closed
    /// when it is done.
    fn start_of(&self, id: &AttemptId) -> Option<Arc<Semaphore>> {
        self.starting.get(id).map(|starting| starting.done.clone())
    }

    fn spawn_left<F>(&mut self, doing: &'static str, task: F)
    where
        F: Future<Output = Result<Vec<Event>, StoreError>> + Send + 'static,
    {
        let starts = self.starts;
        self.spawn_done(doing, async move {
            task.await.map(|events| Done::Left(starts, events))
        });
    }

    fn spawn<F>(&mut self, doing: &'static str, task: F)
    where
        F: Future<Output = Result<Vec<Event>, StoreError>> + Send + 'static,
    {
        self.spawn_done(doing, async move { task.await.map(Done::Events) });
    }

    fn spawn_done<F>(&mut self, doing: &'static str, task: F)
    where
        F: Future<Output = Result<Done, StoreError>> + Send + 'static,
    {
        let (room, run) = (self.room.clone(), self.run.clone());
        self.tasks.spawn(async move {
            // The semaphore is never closed.
            let _permit = room.acquire().await;
            task.await
                .map_err(|source| DriveError::Store { run, doing, source })
        });
    }
}

/// Whether the user must know, and the run goes on: the registry refuses a name.
fn is_answer(error: &StoreError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Usage
            | ErrorKind::Conflict
            | ErrorKind::Denied
            | ErrorKind::NotFound
            | ErrorKind::Local
    )
}

/// What an attempt left in the store that did not live when it was last looked for.
/// `known` is what was told of its launcher. Nothing where the executor cannot be asked.
///
/// A claim that nobody told of may be that of a launcher which began since: who holds it is
/// asked for after it stands, and what it left is read after that.
async fn left(
    journal: &Journal,
    store: &Store,
    executor: &dyn Executor,
    id: AttemptId,
    known: Known,
) -> Result<Option<Event>, StoreError> {
    let Known { nonce, end } = known;
    let mut claim = None;
    let mut told = told(journal, &id).await?;
    if told.is_none() {
        claim = journal.read_claim(&id).await?;
        if let Some(claim) = claim
            .as_ref()
            .filter(|claim| nonce.as_ref() != Some(&claim.nonce))
        {
            match executor.list(&id.run).await {
                Ok(live) if live.contains(&id) => {
                    told = Some(AttemptNews::Claimed {
                        nonce: claim.nonce.clone(),
                        node: claim.host.clone(),
                    });
                }
                Ok(_) => told = self::told(journal, &id).await?,
                Err(error) => {
                    tracing::warn!(attempt = %id, %error, "looking for who holds a claim");
                    return Ok(None);
                }
            }
        }
    }
    let news = match told {
        Some(news) => news,
        None => {
            let checkpoint = match &claim {
                Some(claim) => checkpoint::latest(store, &id, &claim.nonce).await?,
                None => None,
            };
            AttemptNews::Gone {
                claim,
                end,
                checkpoint,
            }
        }
    };
    Ok(Some(Event::Attempt { id, news }))
}

/// [`left`], from an executor that is asked until it answers: nobody tells of it again.
async fn left_at_last(
    journal: &Journal,
    store: &Store,
    executor: &dyn Executor,
    id: AttemptId,
    known: &Known,
) -> Result<Event, StoreError> {
    loop {
        let left = left(journal, store, executor, id.clone(), known.clone());
        if let Some(event) = left.await? {
            return Ok(event);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// What lives, from an executor that is asked until it answers.
async fn ask(executor: &dyn Executor, run: &RunId) -> Vec<AttemptId> {
    loop {
        match executor.list(run).await {
            Ok(live) => return live,
            Err(error) => {
                tracing::warn!(%run, %error, "asking what lives");
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

/// How an attempt ended, where the store says so.
async fn told(journal: &Journal, id: &AttemptId) -> Result<Option<AttemptNews>, StoreError> {
    if let Some(outcome) = journal.read_outcome(&id.step).await? {
        // Whoever committed it: this attempt is over, and what stands is told with that.
        return Ok(Some(AttemptNews::Committed {
            outcome: Arc::new(outcome),
        }));
    }
    Ok(journal
        .read_end(id)
        .await?
        .map(|end| AttemptNews::Ended { end }))
}
