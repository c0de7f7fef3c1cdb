//! A driver's hands: effects go in, events come out, each effect a task of its own
//! that the driver owns. Appends go one after the other; everything else may
//! overlap, up to a bound.

use super::log::{self, Appended, LogTail};
use super::{DriveError, Driver, is_source};
use crate::executor::{Executor, StartError, is_last};
use auria_core::outcome::{Decision, EndRecord, LogRecord, Outcome};
use auria_core::plan::Plan;
use auria_core::run::{AttemptNews, Effect, Event, RunState};
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, RunId, Timestamp};
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

/// What a task came back with.
enum Done {
    Events(Vec<Event>),
    /// The append that was under way.
    Appended(Appended),
    /// A look at the log, and what stood there.
    Looked(Vec<LogRecord>),
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
    /// Starts that may be under way: closed when done.
    starting: HashMap<AttemptId, Arc<Semaphore>>,
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
            starting: HashMap::new(),
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
        })
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
                Effect::Commit(outcome) => {
                    let journal = self.journal.clone();
                    self.spawn("committing a step", async move {
                        let stands = match journal.commit(&outcome).await? {
                            Commit::Won => outcome,
                            Commit::Lost(stands) => Arc::new(*stands),
                        };
                        Ok(vec![Event::Committed(stands)])
                    });
                }
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
                Effect::EndRun(end) => {
                    let journal = self.journal.clone();
                    self.spawn("writing the run's end", async move {
                        Ok(vec![Event::Ended(journal.end_run(&end).await?)])
                    });
                }
            }
        }
    }

    fn start(&mut self, ticket: Ticket) {
        let (journal, executor) = (self.journal.clone(), self.executor.clone());
        let started = Arc::new(Semaphore::new(0));
        self.starting
            .insert(ticket.attempt.clone(), started.clone());
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
        let started = self.starting.get(&id).cloned();
        self.spawn("stopping an attempt", async move {
            if let Some(started) = started {
                // It has no permits: this ends when the start closes it.
                let _ = started.acquire().await;
            }
            // The run state repeats a stop whose end it does not see.
            if let Err(error) = executor.stop(&id, Duration::from_millis(grace_ms)).await {
                tracing::warn!(attempt = %id, %error, "stopping");
                return Ok(vec![]);
            }
            match executor.list(&id.run).await {
                Ok(live) if !live.contains(&id) => {
                    Ok(vec![left(&journal, &store, id, None).await?])
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
        let (journal, mut next) = (self.journal.clone(), self.tail.next());
        self.spawn_done("reading the log", async move {
            let mut records = Vec::new();
            while let Some(record) = journal.read_log(next).await? {
                records.push(record);
                next += 1;
            }
            Ok(Done::Looked(records))
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
        self.spawn("looking for who holds a claim", async move {
            match executor.list(&id.run).await {
                Ok(live) if !live.contains(&id) => {
                    Ok(vec![left(&journal, &store, id, None).await?])
                }
                Ok(_) => Ok(match journal.read_claim(&id).await? {
                    Some(claim) => vec![Event::Attempt {
                        id,
                        news: AttemptNews::Claimed {
                            nonce: claim.nonce,
                            node: claim.host,
                        },
                    }],
                    None => vec![],
                }),
                Err(error) => {
                    tracing::warn!(attempt = %id, %error, "looking for who holds a claim");
                    Ok(vec![])
                }
            }
        });
    }

    /// Finds out what a launcher that is gone left in the store.
    pub(super) fn look_up_gone(&mut self, id: AttemptId, known: Option<EndRecord>) {
        let (journal, store) = (self.journal.clone(), self.store.clone());
        self.spawn("looking for what a launcher left", async move {
            Ok(vec![left(&journal, &store, id, known).await?])
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

/// What an attempt that does not live left in the store.
async fn left(
    journal: &Journal,
    store: &Store,
    id: AttemptId,
    known: Option<EndRecord>,
) -> Result<Event, StoreError> {
    let news = if let Some(outcome) = journal.read_outcome(&id.step).await? {
        // Whoever committed it: this attempt is over, and what stands is told with that.
        AttemptNews::Committed {
            outcome: Arc::new(outcome),
        }
    } else if let Some(end) = journal.read_end(&id).await? {
        AttemptNews::Ended { end }
    } else {
        let claim = journal.read_claim(&id).await?;
        let checkpoint = match &claim {
            Some(claim) => checkpoint::latest(store, &id, &claim.nonce).await?,
            None => None,
        };
        AttemptNews::Gone {
            claim,
            end: known,
            checkpoint,
        }
    };
    Ok(Event::Attempt { id, news })
}
