//! The reuse index: which finished step stands for another with the same key, and
//! why none does. Only drivers write it, after a success. Taking an entry writes
//! the reference first and then looks, so that deleting the source either sees the
//! reference or is seen.

use crate::artifact::{self, Depth};
use crate::store::encode;
use crate::{ErrorKind, Store, StoreError, StorePath, housekeeping, layout};
use auria_core::mutant;
use auria_core::outcome::{Artifact, ReuseSource};
use auria_core::run::{ReuseAnswer, ReuseMiss};
use auria_core::{Digest, RunId, StepPath, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// A step that ended well and may be reused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReuseEntry {
    /// Its key.
    pub key: Digest,
    /// What the key was computed from.
    pub parts: Value,
    /// The pipeline.
    pub pipeline: String,
    /// The run that ran it.
    pub run: RunId,
    /// The step.
    pub step: StepPath,
    /// When it ended.
    pub ended: Timestamp,
    /// Its outputs.
    pub outputs: BTreeMap<String, Artifact>,
}

/// What a step asks.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// The run that asks.
    pub run: &'a RunId,
    /// Its pipeline.
    pub pipeline: &'a str,
    /// The step that asks.
    pub step: &'a StepPath,
    /// Its key.
    pub key: &'a Digest,
    /// What the key was computed from.
    pub parts: &'a Value,
    /// Older entries are a miss.
    pub max_age_ms: Option<u64>,
}

/// What the index said to a step, kept for `explain`. Nothing rests on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The step's key.
    pub key: Digest,
    /// What the key was computed from.
    pub parts: Value,
    /// Hit or miss.
    pub answer: ReuseAnswer,
}

/// The references that a driver has written: one for each run that it takes from, which
/// stands for all that it takes of it.
#[derive(Debug, Default)]
pub struct References {
    /// By source. Bounded by the runs of the store.
    written: Mutex<HashMap<RunId, Arc<OnceCell<()>>>>,
}

impl References {
    /// Writes that `taker` reuses outputs of `source`, unless this was done. Those who
    /// ask at the same time wait until it stands.
    async fn write(
        &self,
        store: &Store,
        source: &RunId,
        query: &Query<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let written = {
            let mut all = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(source.clone()).or_default().clone()
        };
        let write = || async {
            let reference = serde_json::json!({"run": query.run, "step": query.step, "at": now});
            store
                .write_json(&layout::reference(source, query.run), &reference)
                .await
        };
        written.get_or_try_init(write).await.copied()
    }
}

/// Keeps what the index said to a step of `run`. On a folder it is not synced: nothing
/// rests on it, and a step waits for it.
///
/// # Errors
/// Where the store cannot be written.
pub async fn write_note(
    store: &Store,
    run: &RunId,
    step: &StepPath,
    note: &Note,
) -> Result<(), StoreError> {
    let path = layout::reuse_note(run, step);
    store.write_unsynced(&path, encode(&path, note)?).await
}

/// What the index said to a step of `run`, where it was asked.
///
/// # Errors
/// Where the store cannot be read.
pub async fn read_note(
    store: &Store,
    run: &RunId,
    step: &StepPath,
) -> Result<Option<Note>, StoreError> {
    read_note_at(store, &layout::reuse_note(run, step)).await
}

/// What nothing rests on: a power cut may have left half of it.
async fn read_note_at<T: DeserializeOwned>(
    store: &Store,
    path: &StorePath,
) -> Result<Option<T>, StoreError> {
    match store.read_json(path).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        read => read,
    }
}

/// Enters a step that ended well (and ran: one that was reused is there already).
///
/// # Errors
/// Where the store cannot be written.
pub async fn record(store: &Store, entry: &ReuseEntry) -> Result<(), StoreError> {
    store.write_json(&layout::reuse(&entry.key), entry).await?;
    // It only explains misses: not synced, as a note.
    let path = layout::reuse_last(&entry.pipeline, &entry.step);
    store.write_unsynced(&path, encode(&path, entry)?).await
}

/// Looks for a finished step with this key. On a hit the reference is written, where it
/// is not one of `references`, the outputs are verified (there, with their sizes), and
/// the source is not being deleted: the caller may commit.
///
/// # Errors
/// Where the store cannot be read or written.
pub async fn look_up(
    store: &Store,
    query: &Query<'_>,
    references: &References,
    now: Timestamp,
) -> Result<ReuseAnswer, StoreError> {
    let found: Option<ReuseEntry> = store.read_json(&layout::reuse(query.key)).await?;
    let miss = match found {
        None => why_none(store, query).await?,
        Some(entry) => match take(store, query, &entry, references, now).await? {
            None => {
                let source = ReuseSource {
                    run: entry.run,
                    step: entry.step,
                };
                return Ok(ReuseAnswer::Hit {
                    source,
                    outputs: entry.outputs,
                });
            }
            Some(miss) => miss,
        },
    };
    Ok(ReuseAnswer::Miss { miss })
}

/// Takes `entry` for the run that asks; `None` where that went well.
async fn take(
    store: &Store,
    query: &Query<'_>,
    entry: &ReuseEntry,
    references: &References,
    now: Timestamp,
) -> Result<Option<ReuseMiss>, StoreError> {
    let source = ReuseSource {
        run: entry.run.clone(),
        step: entry.step.clone(),
    };
    if query
        .max_age_ms
        .is_some_and(|age| now.millis_since(entry.ended) > age)
    {
        return Ok(Some(ReuseMiss::TooOld { source }));
    }
    if entry.run != *query.run && !mutant!(ReuseUnreferenced) {
        references.write(store, &entry.run, query, now).await?;
    }
    for output in entry.outputs.values().filter(|_| !mutant!(ReuseUnverified)) {
        match artifact::verify(store, output, Depth::Sizes).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                return Ok(Some(ReuseMiss::OutputsGone {
                    source,
                    detail: error.to_string(),
                }));
            }
            Err(error) => return Err(error),
        }
    }
    if mutant!(ReuseTombstoned) {
        return Ok(None);
    }
    let there = housekeeping::still_there(store, &entry.run).await?;
    Ok((!there).then_some(ReuseMiss::BeingDeleted { source }))
}

/// Why the index has nothing under this key.
async fn why_none(store: &Store, query: &Query<'_>) -> Result<ReuseMiss, StoreError> {
    let last: Option<ReuseEntry> =
        read_note_at(store, &layout::reuse_last(query.pipeline, query.step)).await?;
    Ok(match last {
        None => ReuseMiss::FirstTime,
        // The entry itself is gone: someone cleared the index, or the write of the
        // entry was the last thing that its driver did not do.
        Some(last) if last.key == *query.key => ReuseMiss::OutputsGone {
            source: ReuseSource {
                run: last.run,
                step: last.step,
            },
            detail: format!("{} is gone", layout::reuse(query.key)),
        },
        Some(last) => {
            let mut parts = BTreeMap::new();
            differences("", &last.parts, query.parts, &mut parts);
            ReuseMiss::Changed {
                run: last.run.to_string(),
                parts,
            }
        }
    })
}

/// Where two values differ, by dotted path below `path`; what one lacks is `null`.
pub fn differences(
    path: &str,
    was: &Value,
    is: &Value,
    found: &mut BTreeMap<String, (Value, Value)>,
) {
    if was == is {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (was, is) else {
        found.insert(path.to_owned(), (was.clone(), is.clone()));
        return;
    };
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        let inner = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        differences(
            &inner,
            old.get(name).unwrap_or(&Value::Null),
            new.get(name).unwrap_or(&Value::Null),
            found,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::differences;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn differences_name_the_part() {
        let mut found = BTreeMap::new();
        let was = json!({"code": "a", "inputs": {"weights": "1", "seed": 7}, "same": [1]});
        let is = json!({"code": "a", "inputs": {"weights": "2", "topic": "x"}, "same": [1]});
        differences("", &was, &is, &mut found);
        let expected = BTreeMap::from([
            ("inputs.seed".to_owned(), (json!(7), json!(null))),
            ("inputs.topic".to_owned(), (json!(null), json!("x"))),
            ("inputs.weights".to_owned(), (json!("1"), json!("2"))),
        ]);
        assert_eq!(found, expected);
    }
}
