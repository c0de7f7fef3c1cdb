//! The clock of a server: fires what is due, catches up with what was missed, and ends what an
//! earlier server began and did not end.

use super::{Concurrency, Glance, Missed, Schedule, Schedules, Tick, Ticks, list, show};
use crate::api::User;
use crate::api::resources::NotTaken;
use crate::submission::{Files, Submission, new_run};
use auria_core::{Digest, Nonce, RunId, Timestamp};
use auria_engine::driver;
use auria_store::{Created, ErrorKind, Journal, StoreError, StorePath, runs, served};
use futures::TryStreamExt;
use http::HeaderMap;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

/// Schedules are read anew so often: another server, or a command, may have changed them. A
/// store tells nobody of changes.
const READ_AGAIN: Duration = Duration::from_secs(30);
/// How far back ticks are looked for that were missed, or were not brought to their end.
const BACK_MS: u64 = 32 * 24 * 3600 * 1000;
/// Missed ticks of one schedule that are fired; older ones are skipped.
const MOST_MISSED: usize = 1000;
/// The last ticks that a new server looks at: an older one's run stands, or never will.
const LOOKED_AT: usize = 200;
/// After a tick that could not be fired.
const AGAIN: Duration = Duration::from_secs(5);

/// A schedule that fires.
struct Runs {
    schedule: Schedule,
    ticks: Ticks,
    /// What is before it is decided.
    done: Timestamp,
}

impl Schedules {
    /// Fires until `ends` says so.
    pub async fn run(&self, mut ends: watch::Receiver<bool>) {
        let mut fires: BTreeMap<String, Runs> = BTreeMap::new();
        while !*ends.borrow_and_update() {
            let wait = match self.round(&mut fires).await {
                Ok(next) => {
                    let now = self.access.now();
                    let due = next.map(|next| Duration::from_millis(next.millis_since(now)));
                    due.unwrap_or(READ_AGAIN).min(READ_AGAIN)
                }
                Err(error) => {
                    tracing::warn!(%error, "schedules");
                    AGAIN
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.changed.notified() => {}
                _ = ends.changed() => {}
            }
        }
    }

    /// Fires what is due; when the next is.
    async fn round(
        &self,
        fires: &mut BTreeMap<String, Runs>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let store = self.api.store();
        let all = match list(store).await {
            Ok(all) => all,
            Err(super::ScheduleError::Store(error)) => return Err(error),
            Err(_) => Vec::new(),
        };
        let mut before = std::mem::take(fires);
        for schedule in all {
            let Some(enabled) = schedule.enabled else {
                continue;
            };
            let kept = before.remove(&schedule.name);
            let kept = kept.filter(|kept| kept.schedule == schedule);
            let runs = match kept {
                Some(kept) => kept,
                None => {
                    let Ok(ticks) = schedule.definition.trigger.ticks(schedule.created) else {
                        tracing::error!(schedule = schedule.name, "its trigger cannot be read");
                        continue;
                    };
                    let done = self.taken_up(&schedule, enabled).await?;
                    Runs {
                        schedule,
                        ticks,
                        done,
                    }
                }
            };
            fires.insert(runs.schedule.name.clone(), runs);
        }
        let mut next: Option<Timestamp> = None;
        for runs in fires.values_mut() {
            self.due(runs).await?;
            if let Some(at) = runs.ticks.after(runs.done) {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        Ok(next)
    }

    /// Fires the ticks of one schedule that are due.
    async fn due(&self, runs: &mut Runs) -> Result<(), StoreError> {
        let now = self.access.now();
        let mut due = Vec::new();
        let mut last = runs.done;
        while let Some(at) = runs.ticks.after(last).filter(|at| *at <= now) {
            last = at;
            due.push(at);
            if due.len() > MOST_MISSED {
                due.remove(0);
            }
        }
        let count = due.len();
        for (place, at) in due.into_iter().enumerate() {
            // The last is on time, or as good as that.
            let missed = place + 1 < count;
            let late = now.millis_since(at) > 60_000;
            let skip = match runs.schedule.definition.missed {
                Missed::All => None,
                Missed::Last if missed => Some("a later tick was due as well"),
                Missed::None if missed || late => Some("no server was there"),
                Missed::Last | Missed::None => None,
            };
            self.fire(&runs.schedule, at, skip).await?;
            runs.done = at;
        }
        Ok(())
    }

    /// Decides a tick, once, and brings it to its end.
    async fn fire(
        &self,
        schedule: &Schedule,
        due: Timestamp,
        skip: Option<&str>,
    ) -> Result<(), StoreError> {
        let store = self.api.store();
        let now = self.access.now();
        let mut skipped = skip.map(str::to_owned);
        let earlier = self.last_run(schedule, due).await?;
        if let (None, Some(earlier), Concurrency::Forbid) =
            (&skipped, &earlier, schedule.definition.concurrency)
        {
            skipped = Some(format!("run {earlier} of an earlier tick goes on"));
        }
        let tick = Tick {
            due,
            at: now,
            run: skipped.is_none().then(|| new_run(&schedule.name, now)),
            skipped,
        };
        let bytes = crate::names::json(&tick);
        let same = |found: &[u8]| found == bytes;
        let path = served::tick(&schedule.name, due);
        match store.create_once(&path, bytes.clone().into(), same).await? {
            // Another server has it.
            Created::Lost(_) => return Ok(()),
            Created::Won => {}
        }
        self.changes.schedule(&schedule.name);
        if let (Some(earlier), Concurrency::Replace, Some(_)) =
            (&earlier, schedule.definition.concurrency, &tick.run)
        {
            let by = format!("the schedule {}", schedule.name);
            driver::request_cancel(store, earlier, &by, auria_store::now).await?;
            self.api.nudge(earlier);
        }
        match &tick.run {
            Some(run) => self.submit(schedule, run, due).await,
            None => Ok(()),
        }
    }

    /// Makes the run of a tick. What is wrong with the pipeline is told and not tried again.
    async fn submit(
        &self,
        schedule: &Schedule,
        run: &RunId,
        due: Timestamp,
    ) -> Result<(), StoreError> {
        match self.start(schedule, run, due).await {
            Ok(_) => Ok(()),
            Err(NotTaken::Invalid { message, .. }) => {
                tracing::error!(schedule = schedule.name, %run, message, "a tick came to no run");
                Ok(())
            }
            Err(NotTaken::Refused(refusal)) => Err(StoreError::Unreachable {
                doing: format!("start the run {run} of the schedule {}", schedule.name),
                source: refusal.document().detail.unwrap_or_default().into(),
            }),
        }
    }

    /// Makes a run of the schedule's pipeline, for a tick that is due at this moment.
    pub(super) async fn start(
        &self,
        schedule: &Schedule,
        run: &RunId,
        due: Timestamp,
    ) -> Result<RunId, NotTaken> {
        let definition = &schedule.definition;
        let files = match (&definition.document, &definition.snapshot) {
            (Some(text), _) => Files::Text(text.clone()),
            (None, Some(digest)) => Files::Snapshot {
                digest: *digest,
                file: definition
                    .file
                    .clone()
                    .unwrap_or_else(|| "pipelines.yaml".to_owned()),
            },
            (None, None) => {
                return Err(NotTaken::Invalid {
                    message: "the schedule holds no pipeline".to_owned(),
                    diagnostics: serde_json::Value::Null,
                });
            }
        };
        let submission = Submission {
            run: run.clone(),
            nonce: nonce_of(&schedule.name, run),
            files,
            pipeline: definition.pipeline.clone(),
            experiment: definition.experiment.clone(),
            set: super::at_moment(&definition.set, due),
            force_rerun: false,
            by: schedule.by.clone(),
            internal: true,
        };
        let name = format!("schedule {}", schedule.name);
        let user = User {
            id: name.clone(),
            name,
        };
        let none = HeaderMap::new();
        self.api
            .submit(&user, "schedule", &none, &[], submission)
            .await
    }

    /// The run of an earlier tick that goes on.
    async fn last_run(
        &self,
        schedule: &Schedule,
        due: Timestamp,
    ) -> Result<Option<RunId>, StoreError> {
        if schedule.definition.concurrency == Concurrency::Allow {
            return Ok(None);
        }
        let ticks = self.ticks(&schedule.name, due).await?;
        for tick in ticks.iter().rev().filter(|tick| tick.due < due) {
            if let Some(run) = &tick.run {
                let journal = Journal::new(self.api.store().clone(), run.clone());
                let ended = journal.read_run_end().await?.is_some();
                return Ok((!ended).then(|| run.clone()));
            }
        }
        Ok(None)
    }

    /// The ticks of the last weeks before `now`, in order.
    pub(super) async fn ticks(&self, name: &str, now: Timestamp) -> Result<Vec<Tick>, StoreError> {
        let mut found = Vec::new();
        for path in self.ticks_since(name, now).await? {
            found.extend(self.api.store().read_json::<Tick>(&path).await?);
        }
        Ok(found)
    }

    /// Where they stand.
    async fn ticks_since(&self, name: &str, now: Timestamp) -> Result<Vec<StorePath>, StoreError> {
        let store = self.api.store();
        let from = Timestamp(now.0.saturating_sub_unsigned(BACK_MS).max(0));
        let folder = served::schedule(name).join("ticks");
        let listed = store
            .objects()
            .list_with_offset(Some(&folder), &served::tick(name, from));
        let listed: Result<Vec<_>, object_store::Error> = listed.try_collect().await;
        let mut listed = match listed {
            Ok(listed) => listed,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(error) => {
                return Err(StoreError::Unreachable {
                    doing: format!("list the ticks of {name}"),
                    source: Box::new(error),
                });
            }
        };
        listed.sort_by(|one, other| one.location.cmp(&other.location));
        Ok(listed.into_iter().map(|meta| meta.location).collect())
    }

    /// The last tick of the last weeks.
    async fn last_tick(&self, name: &str) -> Result<Option<Tick>, StoreError> {
        let listed = self.ticks_since(name, self.access.now()).await?;
        match listed.last() {
            Some(path) => self.api.store().read_json(path).await,
            None => Ok(None),
        }
    }

    /// A schedule as it stands, with the tick before and the one to come; none where there is
    /// none.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn glance(&self, name: &str) -> Result<Option<Glance>, StoreError> {
        let schedule = match show(self.api.store(), name).await {
            Ok(schedule) => schedule,
            Err(super::ScheduleError::Store(error)) => return Err(error),
            Err(_) => return Ok(None),
        };
        let ticks = schedule.definition.trigger.ticks(schedule.created).ok();
        let next = ticks.filter(|_| schedule.enabled.is_some());
        Ok(Some(Glance {
            next: next.and_then(|ticks| ticks.after(self.access.now())),
            last: self.last_tick(name).await?,
            schedule,
        }))
    }

    /// Brings to their end the ticks that an earlier server decided; up to when all is decided.
    async fn taken_up(
        &self,
        schedule: &Schedule,
        enabled: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let store = self.api.store();
        let now = self.access.now();
        let mut done = Timestamp(enabled.0.max(now.0.saturating_sub_unsigned(BACK_MS)));
        let ticks = self.ticks(&schedule.name, now).await?;
        if let Some(last) = ticks.last() {
            done = done.max(last.due);
        }
        for tick in ticks.iter().rev().take(LOOKED_AT) {
            let Some(run) = &tick.run else {
                continue;
            };
            // One whose record stands was handed over, or is by its mark in the queue.
            match runs::read(store, run).await {
                Ok(record) if record.state == runs::RunState::Ready => {
                    let journal = Journal::new(store.clone(), run.clone());
                    if journal.read_run_end().await?.is_none() {
                        self.submit(schedule, run, tick.due).await?;
                    }
                }
                Ok(_) => self.submit(schedule, run, tick.due).await?,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.submit(schedule, run, tick.due).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// The next ticks of a schedule.
    pub(super) async fn next(
        &self,
        name: &str,
        count: usize,
    ) -> Result<Vec<Timestamp>, super::ScheduleError> {
        let schedule = show(self.api.store(), name).await?;
        let ticks = schedule.definition.trigger.ticks(schedule.created);
        let ticks = ticks.map_err(super::ScheduleError::Wrong)?;
        let mut at = self.access.now();
        let mut found = Vec::new();
        while found.len() < count
            && let Some(next) = ticks.after(at)
        {
            at = next;
            found.push(next);
        }
        Ok(found)
    }
}

/// The nonce of a tick's run: the same for whoever brings the tick to its end.
fn nonce_of(schedule: &str, run: &RunId) -> Nonce {
    let digest = Digest::of(format!("tick\n{schedule}\n{run}").as_bytes());
    // 16 letters of a digest are always one.
    digest.hex()[..16]
        .parse()
        .unwrap_or_else(|_| driver::nonce())
}
