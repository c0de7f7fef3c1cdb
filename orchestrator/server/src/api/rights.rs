//! What a user may do with the store: look at everything (it holds no secrets: tickets name
//! them), submit a run with its snapshots, and ask to cancel one. Nothing that happened is
//! changed, and nothing is deleted.

use super::{Action, Api};
use crate::objects::{Rights, Verb};
use crate::problem::Refusal;
use async_trait::async_trait;
use auria_core::outcome::{Decision, LogRecord};
use auria_core::{Nonce, RunId};
use auria_store::runs::{RecentRun, RunJson, RunState};
use auria_store::served::ACCESS;
use auria_store::{StorePath, layout};
use bytes::Bytes;
use std::sync::Arc;

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
async fn is_kept(store: &auria_store::Store, path: &StorePath) -> Result<bool, Refusal> {
    let read = async |path: &StorePath| {
        let found = store.read_json::<serde_json::Value>(path).await;
        found.map_err(|error| Refusal::of(&error))
    };
    let Some(tombstone) = read(path).await? else {
        return Ok(true);
    };
    let nonce = tombstone.get("nonce").and_then(|nonce| nonce.as_str());
    let Some(Ok(nonce)) = nonce.map(str::parse::<Nonce>) else {
        return Ok(false);
    };
    let verdict = read(&layout::verdict(&nonce)).await?;
    Ok(verdict.is_some_and(|verdict| verdict.get("verdict").is_some_and(|v| v == "keep")))
}

/// What a user's write is part of.
enum Part {
    /// A snapshot's file or manifest.
    Snapshot,
    /// A run.
    Run(RunId),
    /// A record of a run's log.
    Log(RunId),
    /// That one run uses another.
    Reference,
    /// The list of runs.
    Recent(StorePath),
    /// That a snapshot is to be deleted.
    Tombstone,
    /// What becomes of a tombstone.
    Verdict,
}

fn part(path: &StorePath) -> Option<Part> {
    let parts: Vec<_> = path.parts().map(|part| part.as_ref().to_owned()).collect();
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match parts.as_slice() {
        ["snapshots", digest, "files", ..] if parts.len() > 3 && is_digest(digest) => {
            Some(Part::Snapshot)
        }
        ["snapshots", digest, "manifest.json"] if is_digest(digest) => Some(Part::Snapshot),
        ["snapshots", digest, "tombstone"] if is_digest(digest) => Some(Part::Tombstone),
        ["runs", run, "run.json"] => Some(Part::Run(run.parse().ok()?)),
        ["runs", run, "log", _] => Some(Part::Log(run.parse().ok()?)),
        ["runs", run, "refs", taker] => {
            let _: (RunId, RunId) = (run.parse().ok()?, taker.parse().ok()?);
            Some(Part::Reference)
        }
        ["recent", _] => Some(Part::Recent(path.clone())),
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
        // Snapshots are named by what they hold, and verified by who takes them.
        (Part::Snapshot, Verb::Write | Verb::Lend | Verb::Create, _) => Some(Action::Create),
        (Part::Run(run), Verb::Write | Verb::Create, Some(bytes)) => {
            let record: RunJson = serde_json::from_slice(bytes).ok()?;
            (record.run == run).then_some(Action::Create)
        }
        // Decisions are the driver's; a request to cancel is anyone's who may.
        (Part::Log(_), Verb::Create, Some(bytes)) => {
            let record: LogRecord = serde_json::from_slice(bytes).ok()?;
            matches!(record.decision, Decision::CancelRequested { .. }).then_some(Action::Update)
        }
        (Part::Reference, Verb::Write | Verb::Create, Some(_)) => Some(Action::Create),
        (Part::Recent(key), Verb::Write, Some(bytes)) => {
            let record: RecentRun = serde_json::from_slice(bytes).ok()?;
            (layout::recent(&record.run, record.created) == key).then_some(Action::Create)
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
            // That was asked before anything else. Who may do what is nobody's to read.
            let hidden = path
                .parts()
                .next()
                .is_some_and(|part| part.as_ref() == ACCESS);
            return if hidden {
                Err(Refusal::forbidden())
            } else {
                Ok(())
            };
        }
        let action = needed(verb, path, bytes).ok_or_else(Refusal::forbidden)?;
        self.api.0.vouched.vouch(&self.token, action).await?;
        let allowed = match (part(path), verb, bytes) {
            (Some(Part::Run(_)), Verb::Write, Some(bytes)) => self.may_mark(path, bytes).await?,
            (Some(Part::Tombstone), ..) => is_kept(self.api.0.served.store(), path).await?,
            _ => true,
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::forbidden())
        }
    }

    async fn stands(&self, path: &StorePath, _bytes: &Bytes) {
        if let Some(Part::Log(run)) = part(path) {
            self.api.0.runs.nudge(&run);
        }
    }
}
