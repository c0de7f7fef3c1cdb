//! Who uses what a run made: runs that reuse its outputs, and registered assets.

use crate::registry::AssetRecord;
use crate::store::REQUESTS;
use crate::{Journal, Store, StoreError, StorePath, layout};
use auria_core::RunId;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What uses a run's outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// What it is.
    pub kind: UserKind,
    /// Its name: a run's, or an asset's with kind and version.
    pub name: String,
}

/// What a [`User`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserKind {
    /// A run that took some of its outputs, or that may be taking them now.
    Run,
    /// A registered asset.
    Asset,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            UserKind::Run => write!(f, "the run {}", self.name),
            UserKind::Asset => self.name.fmt(f),
        }
    }
}

/// Registered assets by the run whose outputs they are.
#[derive(Debug, Default)]
pub struct Assets(BTreeMap<String, Vec<String>>);

impl Assets {
    /// Reads the registry.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn read(store: &Store) -> Result<Self, StoreError> {
        let found = store.list(&StorePath::from("assets")).await?;
        let paths = found
            .into_iter()
            .map(|meta| meta.location)
            .filter(|path| path.extension() == Some("json"));
        let records: Vec<Option<AssetRecord>> = futures::stream::iter(paths)
            .map(|path| async move { store.read_json(&path).await })
            .buffered(REQUESTS)
            .try_collect()
            .await?;
        let mut by_run: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in records.into_iter().flatten() {
            let AssetRecord {
                kind,
                name,
                version,
                artifact,
                ..
            } = record;
            let run = artifact
                .prefix
                .strip_prefix("runs/")
                .and_then(|rest| rest.split('/').next());
            if let Some(run) = run {
                let name = format!("the {kind} {name}:{version}");
                by_run.entry(run.to_owned()).or_default().push(name);
            }
        }
        Ok(Self(by_run))
    }

    fn of(&self, run: &RunId) -> impl Iterator<Item = User> {
        let names = self.0.get(run.as_str()).into_iter().flatten();
        names.map(|name| User {
            kind: UserKind::Asset,
            name: name.clone(),
        })
    }
}

/// Who uses the outputs of `run`. A run that has not ended and wrote a reference
/// counts, whether it took something or not.
pub(super) async fn users(
    store: &Store,
    run: &RunId,
    assets: &Assets,
) -> Result<Vec<User>, StoreError> {
    let references = store.list(&layout::refs(run)).await?;
    let takers = references
        .iter()
        .filter_map(|meta| meta.location.filename()?.parse::<RunId>().ok());
    let runs: Vec<Option<RunId>> = futures::stream::iter(takers)
        .map(|taker| async move { Ok(uses(store, &taker, run).await?.then_some(taker)) })
        .buffered(REQUESTS)
        .try_collect()
        .await?;
    let runs = runs.into_iter().flatten().map(|taker| User {
        kind: UserKind::Run,
        name: taker.to_string(),
    });
    Ok(assets.of(run).chain(runs).collect())
}

async fn uses(store: &Store, taker: &RunId, source: &RunId) -> Result<bool, StoreError> {
    if !store.exists(&layout::run_json(taker)).await? {
        return Ok(false);
    }
    let journal = Journal::new(store.clone(), taker.clone());
    if journal.read_run_end().await?.is_none() {
        return Ok(true);
    }
    let outcomes = journal.outcomes_left().await?;
    Ok(outcomes.values().any(|outcome| {
        let from = outcome.reused_from.as_ref();
        from.is_some_and(|from| from.run == *source)
    }))
}
