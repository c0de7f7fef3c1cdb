//! What a user may do with the store: look at everything (it holds no secrets: tickets name
//! them), and submit a run with its snapshots. Nothing that happened is changed, and nothing
//! is deleted; a run's log is its driver's, and who would cancel it has a call of the API's.

use super::{Action, Api};
use crate::objects::{Rights, Verb};
use crate::problem::Refusal;
use async_trait::async_trait;
use auria_core::outcome::Manifest;
use auria_core::{Digest, Nonce, RunId};
use auria_store::runs::{RecentRun, RunJson, RunState};
use auria_store::{Store, StorePath, housekeeping, layout};
use bytes::Bytes;
use std::sync::Arc;

/// What users may read and list: names as they are written, since some file systems take
/// `ACCESS` for `access`.
const READABLE: [&str; 7] = [
    "assets",
    "layout.json",
    "recent",
    "reuse",
    "runs",
    "snapshots",
    "verdicts",
];

/// The rights of whoever shows a token that was vouched for.
pub(super) struct UserRights {
    api: Api,
    token: Arc<str>,
}

impl UserRights {
    pub(super) fn new(api: Api, token: Arc<str>) -> Self {
        Self { api, token }
    }

    /// Whether a run's `run.json` may be written over: by who submitted it, who alone knows
    /// what stands there but for its state.
    async fn may_mark(&self, path: &StorePath, bytes: &Bytes) -> Result<bool, Refusal> {
        let Ok(mut new) = serde_json::from_slice::<RunJson>(bytes) else {
            return Ok(false);
        };
        let found = self.api.0.served.store().read_json::<RunJson>(path).await;
        let Some(found) = found.map_err(|error| Refusal::of(&error))? else {
            return Ok(false);
        };
        let forward = found.state == RunState::Preparing || new.state == RunState::Ready;
        new.state = found.state;
        Ok(forward && new == found)
    }
}

/// Whether what `path` marks for deletion is kept: then the mark means nothing any more.
async fn is_kept(store: &Store, path: &StorePath) -> Result<bool, Refusal> {
    let kept = housekeeping::is_kept(store, path).await;
    kept.map_err(|error| Refusal::of(&error))
}

/// Whether a snapshot may still be written to: it is whole once its manifest stands.
async fn is_open(store: &Store, digest: &Digest) -> Result<bool, Refusal> {
    let whole = store.exists(&layout::snapshot_manifest(digest)).await;
    Ok(!whole.map_err(|error| Refusal::of(&error))?)
}

/// Whether a line in the list of runs says what its run does.
async fn is_listed(store: &Store, recent: &RecentRun) -> Result<bool, Refusal> {
    let path = layout::run_json(&recent.run);
    let found = store.read_json::<RunJson>(&path).await;
    let found = found.map_err(|error| Refusal::of(&error))?;
    Ok(found.is_some_and(|run| RecentRun::of(&run) == *recent))
}

/// What a user's write is part of.
enum Part {
    /// A snapshot's file.
    Snapshot(Digest),
    /// A snapshot's manifest.
    Manifest(Digest),
    /// A run.
    Run(RunId),
    /// That one run uses another.
    Reference,
    /// The list of runs.
    Recent,
    /// That a snapshot is to be deleted.
    Tombstone,
    /// What becomes of a tombstone.
    Verdict,
}

fn part(path: &StorePath) -> Option<Part> {
    let parts: Vec<_> = path.parts().map(|part| part.as_ref().to_owned()).collect();
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    // As paths have it, and in no other spelling.
    let digest = |text: &str| {
        let digest: Digest = text.parse().ok()?;
        (digest.hex() == text).then_some(digest)
    };
    match parts.as_slice() {
        ["snapshots", name, "files", _, ..] => Some(Part::Snapshot(digest(name)?)),
        ["snapshots", name, "manifest.json"] => Some(Part::Manifest(digest(name)?)),
        ["snapshots", name, "tombstone"] => digest(name).map(|_| Part::Tombstone),
        ["runs", run, "run.json"] => Some(Part::Run(run.parse().ok()?)),
        ["runs", run, "refs", taker] => {
            let _: (RunId, RunId) = (run.parse().ok()?, taker.parse().ok()?);
            Some(Part::Reference)
        }
        ["recent", _] => Some(Part::Recent),
        ["verdicts", nonce] => {
            let _: Nonce = nonce.parse().ok()?;
            Some(Part::Verdict)
        }
        _ => None,
    }
}

/// What a write needs; none where nobody may.
fn needed(verb: Verb, path: &StorePath, bytes: Option<&Bytes>) -> Option<Action> {
    match (part(path)?, verb, bytes) {
        // Files have their names from the whole that they are a part of: who takes them
        // compares them with it.
        (Part::Snapshot(_), Verb::Write | Verb::Lend | Verb::Create, _) => Some(Action::Create),
        (Part::Manifest(digest), Verb::Create, Some(bytes)) => {
            let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
            (manifest.digest() == digest).then_some(Action::Create)
        }
        (Part::Run(run), Verb::Write | Verb::Create, Some(bytes)) => {
            let record: RunJson = serde_json::from_slice(bytes).ok()?;
            (record.run == run).then_some(Action::Create)
        }
        (Part::Reference, Verb::Write | Verb::Create, Some(_)) => Some(Action::Create),
        (Part::Recent, Verb::Create, Some(bytes)) => {
            let record: RecentRun = serde_json::from_slice(bytes).ok()?;
            (layout::recent(&record.run, record.created) == *path).then_some(Action::Create)
        }
        (Part::Tombstone, Verb::Delete, _) => Some(Action::Create),
        // Who needs a snapshot may keep it.
        (Part::Verdict, Verb::Create, Some(bytes)) => {
            let record: serde_json::Value = serde_json::from_slice(bytes).ok()?;
            (record.get("verdict")? == "keep").then_some(Action::Create)
        }
        _ => None,
    }
}

#[async_trait]
impl Rights for UserRights {
    async fn may(
        &self,
        verb: Verb,
        path: &StorePath,
        bytes: Option<&Bytes>,
    ) -> Result<(), Refusal> {
        if matches!(verb, Verb::Read | Verb::List) {
            // That was asked before anything else. What is not named here (who may do what, what
            // a later release keeps) is nobody's to read, nor is the root above it.
            let first = path.parts().next();
            let may = first.is_some_and(|part| READABLE.contains(&part.as_ref()));
            return if may {
                Ok(())
            } else {
                Err(Refusal::forbidden())
            };
        }
        let action = needed(verb, path, bytes).ok_or_else(Refusal::forbidden)?;
        self.api.0.vouched.vouch(&self.token, action).await?;
        let store = self.api.0.served.store();
        let allowed = match (part(path), verb, bytes) {
            (Some(Part::Run(_)), Verb::Write, Some(bytes)) => self.may_mark(path, bytes).await?,
            (Some(Part::Tombstone), ..) => is_kept(store, path).await?,
            (Some(Part::Snapshot(digest)), ..) => is_open(store, &digest).await?,
            (Some(Part::Recent), _, Some(bytes)) => match serde_json::from_slice(bytes) {
                Ok(recent) => is_listed(store, &recent).await?,
                Err(_) => false,
            },
            _ => true,
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::forbidden())
        }
    }

    async fn amended(&self, _: &StorePath, bytes: Bytes) -> Bytes {
        bytes
    }

    // Nobody waits for what users write: a run is taken up once it is asked for.
    async fn stands(&self, _: &StorePath, _: &Bytes) {}
}
