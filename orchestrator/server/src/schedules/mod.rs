//! Schedules: a trigger, a pipeline, and what is done about ticks that were missed or that
//! come while an earlier run goes on. A tick is one record in the store, created once by
//! whoever fires it, so that of two servers one does, and one that was down knows what it
//! missed. Nothing here runs anything but through the API.

mod cron;
mod fire;
mod routes;
mod trigger;
mod windows;

pub use routes::Schedules;
pub(crate) use routes::{Shown, described};
pub use trigger::{Frequency, Ticks, Times, Trigger};

use crate::decisions;
use auria_core::{Digest, RunId, Timestamp};
use auria_store::{Store, StoreError, served};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What is done about ticks that came while no server was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// Each is fired.
    All,
    /// The last is.
    #[default]
    Last,
    /// None is.
    None,
}

/// What is done where the run of an earlier tick goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concurrency {
    /// Both run.
    #[default]
    Allow,
    /// The new tick is skipped.
    Forbid,
    /// The earlier run is canceled.
    Replace,
}

/// What a schedule is: never changed.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Definition {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// When.
    pub trigger: Trigger,
    /// The pipeline document, where it names no other file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The folder that holds the pipeline file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Digest>,
    /// The pipeline file in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Which pipeline of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Changes, as `--set` takes them.
    #[serde(default)]
    pub set: Vec<String>,
    /// The experiment of its runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    /// What is done about missed ticks.
    #[serde(default)]
    pub missed: Missed,
    /// What is done where an earlier run goes on.
    #[serde(default)]
    pub concurrency: Concurrency,
}

/// Something was decided about a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decided", rename_all = "snake_case")]
pub enum Decision {
    /// It exists from here on.
    Created {
        /// What it is.
        definition: Box<Definition>,
        /// When.
        at: Timestamp,
        /// By whom.
        by: String,
        /// What `gc` must leave.
        #[serde(default)]
        snapshots: BTreeSet<Digest>,
    },
    /// It fires from here on.
    Enabled {
        /// Since when: no tick before it is missed.
        at: Timestamp,
    },
    /// It fires no more.
    Disabled,
    /// It exists no more.
    Deleted,
}

/// A schedule as it stands.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// What it is.
    pub definition: Definition,
    /// When it was made.
    pub created: Timestamp,
    /// By whom: its runs are this user's.
    pub by: String,
    /// Since when it fires; none where it does not.
    pub enabled: Option<Timestamp>,
}

/// A tick: what came of it.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Tick {
    /// When it was due.
    pub due: Timestamp,
    /// When it was decided.
    pub at: Timestamp,
    /// The run that it is to come to; none where it is skipped.
    pub run: Option<RunId>,
    /// Why it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// A schedule at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// As it stands.
    pub schedule: Schedule,
    /// The next tick, of one that fires.
    pub next: Option<Timestamp>,
    /// The last.
    pub last: Option<Tick>,
}

/// Values of a schedule's pipeline at the moment when a tick is due: Azure ML's
/// `${{creation_context.trigger_time}}`, and `${{creation_context.trigger_day}}`, the day in UTC
/// as a number such as 20261130, which a seed can be. The same for whoever fires the tick.
#[must_use]
pub fn at_moment(set: &[String], due: Timestamp) -> Vec<String> {
    let time = due.to_string();
    let day: String = time
        .chars()
        .take_while(|letter| *letter != 'T')
        .filter(char::is_ascii_digit)
        .collect();
    set.iter()
        .map(|value| {
            value
                .replace("${{creation_context.trigger_time}}", &time)
                .replace("${{creation_context.trigger_day}}", &day)
        })
        .collect()
}

/// A schedule could not be changed, or is not there.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// There is none of this name.
    #[error("there is no schedule {0}")]
    Unknown(String),
    /// There is one already.
    #[error("the schedule {0} exists already")]
    Exists(String),
    /// Something about it is wrong.
    #[error("{0}")]
    Wrong(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What `decisions` come to.
fn fold(name: &str, decisions: &[Decision]) -> Option<Schedule> {
    let mut found: Option<Schedule> = None;
    for decision in decisions {
        match (decision, &mut found) {
            (
                Decision::Created {
                    definition, at, by, ..
                },
                none @ None,
            ) => {
                *none = Some(Schedule {
                    name: name.to_owned(),
                    definition: (**definition).clone(),
                    created: *at,
                    by: by.clone(),
                    enabled: None,
                });
            }
            (Decision::Enabled { at }, Some(schedule)) => {
                schedule.enabled.get_or_insert(*at);
            }
            (Decision::Disabled, Some(schedule)) => schedule.enabled = None,
            (Decision::Deleted, found) => *found = None,
            _ => {}
        }
    }
    found
}

async fn decide(
    store: &Store,
    name: &str,
    mut decide: impl FnMut(Option<Schedule>) -> Result<Option<Decision>, ScheduleError>,
) -> Result<(), ScheduleError> {
    if !crate::names::is_name(name) {
        let why = format!(
            "`{name}` is no name: use 1 to 63 letters, digits, - and _, a letter or digit first"
        );
        return Err(ScheduleError::Wrong(why));
    }
    let at = |seq| served::schedule_log(name, seq);
    decisions::append(store, at, |before: &[Decision]| decide(fold(name, before))).await
}

/// Makes a schedule; it does not fire before it is enabled.
///
/// # Errors
/// Where there is one, or something about it is wrong.
pub async fn create(
    store: &Store,
    name: &str,
    definition: Definition,
    by: &str,
    now: Timestamp,
) -> Result<(), ScheduleError> {
    definition
        .trigger
        .ticks(now)
        .map_err(ScheduleError::Wrong)?;
    decide(store, name, |found| match found {
        Some(_) => Err(ScheduleError::Exists(name.to_owned())),
        None => Ok(Some(Decision::Created {
            snapshots: definition.snapshot.into_iter().collect(),
            definition: Box::new(definition.clone()),
            at: now,
            by: by.to_owned(),
        })),
    })
    .await
}

/// Lets a schedule fire, or not. Again: nothing happens.
///
/// # Errors
/// Where there is none.
pub async fn enable(
    store: &Store,
    name: &str,
    on: bool,
    now: Timestamp,
) -> Result<(), ScheduleError> {
    decide(store, name, |found| {
        let found = found.ok_or_else(|| ScheduleError::Unknown(name.to_owned()))?;
        Ok(match (found.enabled.is_some(), on) {
            (false, true) => Some(Decision::Enabled { at: now }),
            (true, false) => Some(Decision::Disabled),
            _ => None,
        })
    })
    .await
}

/// Ends a schedule; its runs stay.
///
/// # Errors
/// Where there is none.
pub async fn delete(store: &Store, name: &str) -> Result<(), ScheduleError> {
    decide(store, name, |found| {
        let unknown = || ScheduleError::Unknown(name.to_owned());
        found.map(|_| Some(Decision::Deleted)).ok_or_else(unknown)
    })
    .await
}

/// A schedule as it stands.
///
/// # Errors
/// Where there is none.
pub async fn show(store: &Store, name: &str) -> Result<Schedule, ScheduleError> {
    let unknown = || ScheduleError::Unknown(name.to_owned());
    if !crate::names::is_name(name) {
        return Err(unknown());
    }
    let log: Vec<Decision> = decisions::read(store, |seq| served::schedule_log(name, seq)).await?;
    fold(name, &log).ok_or_else(unknown)
}

/// All schedules, by name.
///
/// # Errors
/// Where the store cannot be read.
pub async fn list(store: &Store) -> Result<Vec<Schedule>, ScheduleError> {
    let mut names = store.list_folders(&served::schedules()).await?;
    names.sort();
    let mut found = Vec::new();
    for name in names {
        match show(store, &name).await {
            Ok(schedule) => found.push(schedule),
            Err(ScheduleError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_name_the_moment_of_their_tick() {
        let set = [
            "inputs.seed=${{creation_context.trigger_day}}".to_owned(),
            "inputs.at=${{creation_context.trigger_time}}".to_owned(),
            "inputs.mood=joy".to_owned(),
        ];
        assert_eq!(
            at_moment(&set, Timestamp(1_796_080_666_000)),
            [
                "inputs.seed=20261130",
                "inputs.at=2026-11-30T23:17:46.000Z",
                "inputs.mood=joy"
            ]
        );
    }
}
