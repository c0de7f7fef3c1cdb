//! The registry of assets: named, numbered versions of data and models, each
//! created once. Registering the same output of the same step again is the same
//! version, so a driver may do it twice. It keeps names of artifacts, and never
//! their files.

use crate::create::Created;
use crate::store::{REQUESTS, decode, encode};
use crate::{Store, StoreError, StorePath, layout, now};
use auria_core::outcome::Artifact;
use auria_core::{RunId, StepPath, Timestamp};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where an asset came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The run that made it.
    pub run: RunId,
    /// The step.
    pub step: StepPath,
    /// The step's output.
    pub output: String,
}

/// `assets/<kind>/<name>/<version>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetRecord {
    /// `model` or `data`.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
    /// Its files.
    pub artifact: Artifact,
    /// The step that made it; none where a person registered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// When.
    pub created: Timestamp,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// For people and filters.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// An asset to be.
#[derive(Clone, Debug)]
pub struct NewAsset {
    /// `model` or `data`.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The version; none means the next free number.
    pub version: Option<String>,
    /// Its files.
    pub artifact: Artifact,
    /// The step that made it; none where a person registers it.
    pub origin: Option<Origin>,
    /// For people.
    pub description: String,
    /// For people and filters.
    pub tags: BTreeMap<String, String>,
}

/// An asset in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The name.
    pub name: String,
    /// Its versions, oldest first.
    pub versions: Vec<String>,
}

/// Registers an asset, or gives the version that this origin has already.
///
/// # Errors
/// [`StoreError::Conflict`] where the version asked for is another's,
/// [`StoreError::InvalidName`], and where the store cannot be written.
pub async fn register(store: &Store, asset: NewAsset) -> Result<AssetRecord, StoreError> {
    check_name("name", &asset.name)?;
    check_name("kind", &asset.kind)?;
    if let Some(version) = &asset.version {
        check_name("version", version)?;
        return match create(store, &asset, version.clone()).await? {
            Ok(record) => Ok(record),
            Err(other) => Err(StoreError::Conflict {
                what: format!("{} {} version {version}", asset.kind, asset.name),
                by: format!("registered {}", other.created),
            }),
        };
    }
    let Some(origin) = &asset.origin else {
        return next_free(store, &asset).await;
    };
    // Two drivers may be at it, and versions that were asked for by name leave holes: a number
    // is agreed on before it is taken.
    for proposal in 1..=PROPOSALS {
        let path = layout::registration(&origin.run, &origin.step, &origin.output, proposal);
        let version = match store.read_json::<Proposal>(&path).await? {
            Some(agreed) => agreed.version,
            None => {
                let known = versions(store, &asset.kind, &asset.name).await?;
                if let Some(record) = known.iter().find(|known| known.origin == asset.origin) {
                    return Ok(record.clone());
                }
                propose(store, &path, following(&known)).await?
            }
        };
        // Taken by another, who keeps it: nobody takes this proposal any more.
        if let Ok(record) = create(store, &asset, version.to_string()).await? {
            return Ok(record);
        }
    }
    Err(StoreError::Conflict {
        what: format!("a version of {} {}", asset.kind, asset.name),
        by: format!("registered by others {PROPOSALS} times in a row"),
    })
}

/// Registers what no step made.
async fn next_free(store: &Store, asset: &NewAsset) -> Result<AssetRecord, StoreError> {
    let known = versions(store, &asset.kind, &asset.name).await?;
    let mut next = following(&known);
    loop {
        match create(store, asset, next.to_string()).await? {
            Ok(record) => return Ok(record),
            Err(_) => next += 1,
        }
    }
}

/// The number after the largest.
fn following(known: &[AssetRecord]) -> u64 {
    let numbers = known.iter().filter_map(|known| known.version.parse().ok());
    numbers.max().unwrap_or(0_u64).saturating_add(1)
}

/// How often another may take the number that was agreed on.
const PROPOSALS: u32 = 100;

/// The version that an output is to be registered as.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Proposal {
    version: u64,
}

/// Agrees on `version`, or on what another proposed before.
async fn propose(store: &Store, path: &StorePath, version: u64) -> Result<u64, StoreError> {
    let bytes = encode(path, &Proposal { version })?;
    match store.create_once(path, bytes, |_| false).await? {
        Created::Won => Ok(version),
        Created::Lost(bytes) => Ok(decode::<Proposal>(path, &bytes)?.version),
    }
}

/// Creates one version; `Err` with what is there where it is another's.
async fn create(
    store: &Store,
    asset: &NewAsset,
    version: String,
) -> Result<Result<AssetRecord, AssetRecord>, StoreError> {
    let NewAsset {
        kind,
        name,
        version: _,
        artifact,
        origin,
        description,
        tags,
    } = asset.clone();
    let record = AssetRecord {
        kind,
        name,
        version,
        artifact,
        origin,
        created: now(),
        description,
        tags,
    };
    let path = layout::asset(&record.kind, &record.name, &record.version);
    let same =
        |bytes: &[u8]| decode::<AssetRecord>(&path, bytes).is_ok_and(|found| found == record);
    match store
        .create_once(&path, encode(&path, &record)?, same)
        .await?
    {
        Created::Won => Ok(Ok(record)),
        Created::Lost(bytes) => {
            let found: AssetRecord = decode(&path, &bytes)?;
            let ours = found.origin.is_some() && found.origin == record.origin;
            Ok(if ours { Ok(found) } else { Err(found) })
        }
    }
}

fn check_name(what: &str, text: &str) -> Result<(), StoreError> {
    let good = (1..=100).contains(&text.len())
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if good && text != "latest" {
        return Ok(());
    }
    Err(StoreError::InvalidName {
        what: format!("{what} of an asset"),
        text: text.to_owned(),
        why: "it must have 1 to 100 letters, digits, `.`, `-` and `_`, not begin with `.`, and not be `latest`".into(),
    })
}

/// Every version of an asset, archived or not, oldest first.
///
/// # Errors
/// Where the store cannot be read.
pub async fn versions(
    store: &Store,
    kind: &str,
    name: &str,
) -> Result<Vec<AssetRecord>, StoreError> {
    let found = store.list(&layout::asset_versions(kind, name)).await?;
    let paths = found
        .into_iter()
        .map(|meta| meta.location)
        .filter(|path| path.extension() == Some("json"));
    let mut records: Vec<AssetRecord> = futures::stream::iter(paths)
        .map(|path| async move { store.read_json(&path).await })
        .buffered(REQUESTS)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await?;
    records.sort_by_key(|record| {
        (
            record.version.parse::<u64>().unwrap_or(u64::MAX),
            record.created,
            record.version.clone(),
        )
    });
    Ok(records)
}

/// The version that `version` means: one of them, or `latest`, which is the newest
/// that is not archived.
///
/// # Errors
/// [`StoreError::NotFound`] where there is none.
pub async fn show(
    store: &Store,
    kind: &str,
    name: &str,
    version: &str,
) -> Result<AssetRecord, StoreError> {
    let missing = || StoreError::NotFound {
        what: format!("{kind} {name}, version {version}"),
    };
    check_name("name", name)?;
    if version != "latest" {
        check_name("version", version)?;
        return store
            .read_json(&layout::asset(kind, name, version))
            .await?
            .ok_or_else(missing);
    }
    let found = store.list(&layout::asset_versions(kind, name)).await?;
    let archived: Vec<_> = found
        .iter()
        .filter(|meta| meta.location.extension() == Some("archived"))
        .collect();
    let all = versions(store, kind, name).await?;
    let open = all.into_iter().filter(|record| {
        let marker = layout::asset_archived(kind, name, &record.version);
        !archived.iter().any(|meta| meta.location == marker)
    });
    open.max_by_key(|record| (record.created, record.version.parse::<u64>().unwrap_or(0)))
        .ok_or_else(missing)
}

/// The assets of a kind by name, those with archived versions alone left out.
///
/// # Errors
/// Where the store cannot be read.
pub async fn list(store: &Store, kind: &str) -> Result<Vec<Listed>, StoreError> {
    let prefix = crate::StorePath::from("assets").join(kind);
    let found = store.list(&prefix).await?;
    let mut names: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for meta in &found {
        let parts: Vec<_> = meta
            .location
            .parts()
            .skip(2)
            .map(|part| part.as_ref().to_owned())
            .collect();
        let [name, file] = parts.as_slice() else {
            continue;
        };
        let entry = names.entry(name.clone()).or_default();
        if let Some(version) = file.strip_suffix(".json") {
            entry.0.push(version.to_owned());
        } else if let Some(version) = file.strip_suffix(".archived") {
            entry.1.push(version.to_owned());
        }
    }
    let listed = names.into_iter().map(|(name, (mut versions, archived))| {
        versions.retain(|version| !archived.contains(version));
        versions
            .sort_by_key(|version| (version.parse::<u64>().unwrap_or(u64::MAX), version.clone()));
        Listed { name, versions }
    });
    Ok(listed
        .filter(|listed| !listed.versions.is_empty())
        .collect())
}

/// Takes a version out of `latest` and of lists, or puts it back. Runs that name
/// it by its version still find it.
///
/// # Errors
/// [`StoreError::NotFound`] where there is no such version.
pub async fn archive(
    store: &Store,
    kind: &str,
    name: &str,
    version: &str,
    archived: bool,
) -> Result<(), StoreError> {
    show(store, kind, name, version).await?;
    let marker = layout::asset_archived(kind, name, version);
    if archived {
        store
            .write_json(&marker, &serde_json::json!({"at": now()}))
            .await
    } else {
        store.delete(&marker).await
    }
}
