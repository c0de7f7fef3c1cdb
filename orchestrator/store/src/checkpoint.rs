//! Checkpoints: immutable generations below `checkpoints/<step>/<n>-<nonce>/`, the
//! manifest of each written last, the last two kept. Which one an attempt restores
//! is pinned by its grant in the log, and never looked up here.

use crate::artifact::{self, Fetched};
use crate::{ErrorKind, Store, StoreError, StorePath, layout};
use auria_core::outcome::{Artifact, Checkpoint, Manifest};
use auria_core::plan::DataType;
use auria_core::{AttemptId, Nonce, RunId, StepPath};
use std::path::Path;

/// Generations of one claim that are kept.
const KEPT: u32 = 2;

/// Where the files and the manifest of a generation are.
fn places(run: &RunId, step: &StepPath, checkpoint: &Checkpoint) -> (StorePath, StorePath) {
    let generation = layout::checkpoint(run, step, checkpoint);
    (
        generation.clone().join("files"),
        generation.join("manifest.json"),
    )
}

/// Publishes the folder `local` as generation `generation` (from 1) of this claim,
/// then removes those before the last two.
///
/// # Errors
/// As [`artifact::publish`].
pub async fn publish(
    store: &Store,
    id: &AttemptId,
    nonce: &Nonce,
    generation: u32,
    local: &Path,
) -> Result<Checkpoint, StoreError> {
    let checkpoint = Checkpoint {
        attempt: id.number,
        nonce: nonce.clone(),
        generation,
    };
    let (files, manifest) = places(&id.run, &id.step, &checkpoint);
    artifact::publish(store, local, DataType::UriFolder, &files, &manifest).await?;
    keep_last(store, id, nonce, generation).await?;
    Ok(checkpoint)
}

/// Removes the generations before the last two, of which `generation` is the newest.
///
/// # Errors
/// Where the store cannot be listed or written.
pub async fn keep_last(
    store: &Store,
    id: &AttemptId,
    nonce: &Nonce,
    generation: u32,
) -> Result<(), StoreError> {
    for old in generations(store, id, nonce).await? {
        if old.saturating_add(KEPT) <= generation {
            remove(store, id, nonce, old).await?;
        }
    }
    Ok(())
}

/// The manifest first, so that no generation is ever seen without its files.
async fn remove(
    store: &Store,
    id: &AttemptId,
    nonce: &Nonce,
    generation: u32,
) -> Result<(), StoreError> {
    let checkpoint = Checkpoint {
        attempt: id.number,
        nonce: nonce.clone(),
        generation,
    };
    store
        .delete(&places(&id.run, &id.step, &checkpoint).1)
        .await?;
    store
        .delete_prefix(&layout::checkpoint(&id.run, &id.step, &checkpoint))
        .await?;
    Ok(())
}

/// Generations that were begun, in order.
async fn generations(store: &Store, id: &AttemptId, nonce: &Nonce) -> Result<Vec<u32>, StoreError> {
    let names = store.list_folders(&layout::checkpoints(id, nonce)).await?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The newest complete generation of this claim.
///
/// # Errors
/// Where the store cannot be read.
pub async fn latest(
    store: &Store,
    id: &AttemptId,
    nonce: &Nonce,
) -> Result<Option<Checkpoint>, StoreError> {
    for generation in generations(store, id, nonce).await?.into_iter().rev() {
        let checkpoint = Checkpoint {
            attempt: id.number,
            nonce: nonce.clone(),
            generation,
        };
        if store
            .exists(&places(&id.run, &id.step, &checkpoint).1)
            .await?
        {
            return Ok(Some(checkpoint));
        }
    }
    Ok(None)
}

/// How often another generation is tried where one is gone.
const TRIES: u32 = 4;

/// Reads what an attempt restores that is to restore `pinned`. An attempt that was given
/// up and runs all the same may have removed that generation for newer ones of its own:
/// then the newest of these, which it may remove, too.
///
/// # Errors
/// Those of `read`; where none is left, that of the last.
pub async fn restore<T, F>(
    store: &Store,
    run: &RunId,
    step: &StepPath,
    pinned: &Checkpoint,
    read: impl Fn(Checkpoint) -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let id = AttemptId {
        run: run.clone(),
        step: step.clone(),
        number: pinned.attempt,
    };
    let mut checkpoint = pinned.clone();
    let mut tries = 1;
    loop {
        let error = match read(checkpoint.clone()).await {
            Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => error,
            answer => return answer,
        };
        match latest(store, &id, &pinned.nonce).await? {
            Some(newest) if newest.generation > checkpoint.generation => checkpoint = newest,
            _ => return Err(error),
        }
        tries += 1;
    }
}

/// A generation as an artifact.
///
/// # Errors
/// Where it is not there.
pub async fn artifact(
    store: &Store,
    run: &RunId,
    step: &StepPath,
    checkpoint: &Checkpoint,
) -> Result<Artifact, StoreError> {
    let (files, path) = places(run, step, checkpoint);
    let found: Option<Manifest> = store.read_json(&path).await?;
    let manifest = found.ok_or_else(|| StoreError::NotFound {
        what: path.to_string(),
    })?;
    Ok(artifact::describe(
        &manifest,
        false,
        DataType::UriFolder,
        &files,
        &path,
    ))
}

/// Fetches a generation, or what [`restore`] finds for it, into the folder `to`, verified.
///
/// # Errors
/// As [`artifact::fetch`].
pub async fn fetch(
    store: &Store,
    run: &RunId,
    step: &StepPath,
    checkpoint: &Checkpoint,
    to: &Path,
) -> Result<Fetched, StoreError> {
    restore(store, run, step, checkpoint, |found| async move {
        let artifact = artifact(store, run, step, &found).await?;
        artifact::fetch(store, &artifact, to).await
    })
    .await
}
