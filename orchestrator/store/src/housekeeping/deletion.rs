//! Deleting one run. The order counts: first the tombstone, last the references and
//! the tombstone; `run.json` goes just before them. So whoever finds no tombstone
//! and then a `run.json` knows that nothing of it is gone.

use super::grave::{Clock, Grave, Tombstone, Verdict};
use super::users::users;
use super::{Assets, Freed, User};
use crate::reuse::ReuseEntry;
use crate::runs::RunJson;
use crate::store::REQUESTS;
use crate::{Journal, Store, StoreError, layout, runs};
use auria_core::{RunId, mutant};
use futures::{StreamExt, TryStreamExt};
use std::time::Duration;

/// What came of a request to delete a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marked {
    /// Its tombstone stands.
    Yes,
    /// Others use its outputs.
    InUse(Vec<User>),
    /// It has not ended: its steps may be running.
    NotEnded,
}

/// What came of a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// There is none.
    NotMarked,
    /// It must stand a little longer.
    Waits(Duration),
    /// The run is taken by these by now, or goes on: the tombstone is gone.
    Kept(Vec<User>),
    /// It is deleted.
    Deleted(Freed),
}

/// Whether the outputs of `source` may be taken by one that has written a reference
/// and then seen that they are there.
///
/// # Errors
/// Where the store cannot be asked.
pub async fn still_there(store: &Store, source: &RunId) -> Result<bool, StoreError> {
    // In this order: a tombstone goes after the `run.json`.
    Ok(!store.exists(&layout::tombstone(source)).await?
        && store.exists(&layout::run_json(source)).await?)
}

/// Asks to delete `run`; [`finish`] does it after `grace`.
///
/// # Errors
/// Where the store cannot be read or written.
pub async fn mark(
    store: &Store,
    run: &RunJson,
    assets: &Assets,
    by: &str,
    grace: Duration,
) -> Result<Marked, StoreError> {
    if Stage::of(store, &run.run).await? == Stage::Driven {
        return Ok(Marked::NotEnded);
    }
    let users = users(store, &run.run, assets).await?;
    if !users.is_empty() {
        return Ok(Marked::InUse(users));
    }
    let grave = Grave::of_run(&run.run);
    let of = Some(run.nonce.clone());
    let stands = grave.mark(store, of, by, grace).await?;
    if u128::from(stands.grace_ms) > grace.as_millis() {
        // Asked again with less patience. Nobody's right rests on a run's grace.
        let shorter = Tombstone {
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
            ..stands
        };
        store.write_json(grave.path(), &shorter).await?;
    }
    Ok(Marked::Yes)
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody drove it yet.
    Undriven,
    /// It may be running.
    Driven,
    /// It has ended.
    Ended,
}

impl Stage {
    pub(super) async fn of(store: &Store, run: &RunId) -> Result<Self, StoreError> {
        let journal = Journal::new(store.clone(), run.clone());
        if journal.read_run_end().await?.is_some() {
            return Ok(Self::Ended);
        }
        Ok(match journal.read_log(1).await? {
            Some(_) => Self::Driven,
            None => Self::Undriven,
        })
    }
}

/// Keeps a run that is driven though it is marked; whether it may go on.
///
/// # Errors
/// Where the store cannot be read or written.
pub async fn rescue(store: &Store, run: &RunId) -> Result<bool, StoreError> {
    let grave = Grave::of_run(run);
    match store.read_json::<Tombstone>(grave.path()).await? {
        None => Ok(true),
        Some(tombstone) => Ok(grave.keep(store, &tombstone).await? == Verdict::Keep),
    }
}

/// Whether the run is gone, or is going: that was decided, and nobody undoes it.
///
/// # Errors
/// Where the store cannot be read.
pub async fn is_going(store: &Store, run: &RunId) -> Result<bool, StoreError> {
    let grave = Grave::of_run(run);
    // In this order: a tombstone goes after the `run.json`.
    let Some(tombstone) = store.read_json::<Tombstone>(grave.path()).await? else {
        return Ok(!store.exists(&layout::run_json(run)).await?);
    };
    match runs::read(store, run).await {
        Ok(record) => Ok(tombstone.of.as_ref().is_none_or(|of| *of == record.nonce)
            && grave.decided(store, &tombstone).await? == Some(Verdict::Delete)),
        Err(StoreError::NotFound { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Deletes a run whose tombstone has stood long enough, where nobody has taken it
/// since. Again after a crash: it goes on.
///
/// # Errors
/// Where the store cannot be read or written.
pub async fn finish(store: &Store, run: &RunId) -> Result<Finished, StoreError> {
    let clock = Clock::read(store).await?;
    if Grave::of_run(run).read(store, clock).await?.is_none() {
        return Ok(Finished::NotMarked);
    }
    let before = Stage::of(store, run).await?;
    let assets = Assets::read(store).await?;
    finish_at(store, run, before, &assets, clock).await
}

/// [`finish`], by a clock that was read before. The `assets` were read after the run was at
/// the stage `before`: one that has ended registers none any more. One that is marked may be
/// driven all the same: who marked it may have been held up since it looked.
pub(super) async fn finish_at(
    store: &Store,
    run: &RunId,
    before: Stage,
    assets: &Assets,
    clock: Clock,
) -> Result<Finished, StoreError> {
    let grave = Grave::of_run(run);
    let Some((tombstone, age)) = grave.read(store, clock).await? else {
        return Ok(Finished::NotMarked);
    };
    let record: Option<RunJson> = match runs::read(store, run).await {
        Ok(record) => Some(record),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    if let (Some(record), Some(of)) = (&record, &tombstone.of)
        && record.nonce != *of
    {
        // A deletion that was cut short, and a new run of that name since.
        store.delete(grave.path()).await?;
        return Ok(Finished::Kept(Vec::new()));
    }
    let grace = Duration::from_millis(tombstone.grace_ms);
    if age < grace && !mutant!(GraceIgnored) {
        return Ok(Finished::Waits(grace.saturating_sub(age)));
    }
    if record.is_some() {
        let users = match mutant!(UsersReadOnce) {
            true => Vec::new(),
            false => users(store, run, assets).await?,
        };
        let stays = match before {
            Stage::Ended => false,
            Stage::Undriven => Stage::of(store, run).await? != Stage::Undriven,
            Stage::Driven => true,
        };
        let keep = !users.is_empty() || stays;
        let verdict = if keep { Verdict::Keep } else { Verdict::Delete };
        if grave.decide(store, &tombstone, verdict).await? == Verdict::Keep {
            grave.remove(store, &tombstone).await?;
            return Ok(Finished::Kept(users));
        }
    }
    delete(store, run, record.as_ref(), &grave)
        .await
        .map(Finished::Deleted)
}

async fn delete(
    store: &Store,
    run: &RunId,
    record: Option<&RunJson>,
    grave: &Grave,
) -> Result<Freed, StoreError> {
    if mutant!(TombstoneFirst) {
        store.delete(grave.path()).await?;
    }
    forget(store, run).await?;
    let run_json = layout::run_json(run);
    let references = layout::refs(run);
    let mut freed = store
        .delete_where(&layout::run(run), false, |path| {
            path != &run_json && path != grave.path() && !path.prefix_matches(&references)
        })
        .await?;
    if let Some(record) = record {
        store.delete(&layout::recent(run, record.created)).await?;
        store.delete(&run_json).await?;
        freed.objects += 1;
    }
    // Not the folder with what is staged in it: one who comes late may be writing there.
    store.delete_where(&references, false, |_| true).await?;
    store.delete(grave.path()).await?;
    store.remove_empty_folders(&layout::run(run)).await;
    Ok(freed)
}

/// Takes the run's steps out of the reuse index. An entry that another run wrote in
/// the same moment may go with it: that costs one hit.
async fn forget(store: &Store, run: &RunId) -> Result<(), StoreError> {
    let outcomes = Journal::new(store.clone(), run.clone())
        .outcomes_left()
        .await?;
    let keys = outcomes.values().filter_map(|outcome| outcome.key);
    futures::stream::iter(keys)
        .map(|key| async move {
            let path = layout::reuse(&key);
            match store.read_json::<ReuseEntry>(&path).await? {
                Some(entry) if entry.run == *run => store.delete(&path).await,
                _ => Ok(()),
            }
        })
        .buffer_unordered(REQUESTS)
        .try_collect()
        .await
}
