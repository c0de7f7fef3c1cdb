//! Copies of outputs at places that the user named: a folder or file of this
//! machine, or a prefix of a bucket. The outputs of the run stay what they are.

use crate::artifact;
use crate::create::Created;
use crate::store::{decode, encode};
use crate::{Access, Store, StoreError, StorePath, StoreUrl};
use crate::{ErrorKind, layout, now};
use auria_core::outcome::Artifact;
use auria_core::plan::DataType;
use auria_core::{Digest, RunId, StepPath, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Name of the manifest beside an exported prefix; written last.
pub const MANIFEST: &str = "manifest.json";

/// How a copy went: created once, so that it is made once, whatever driver is killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRecord {
    /// Where to.
    pub uri: String,
    /// What.
    pub digest: Digest,
    /// When it was done.
    pub at: Timestamp,
    /// Why it could not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Copies an output of `run` to `uri`, once: where its record stands, nothing is
/// copied. The answer is what stands.
///
/// # Errors
/// Where the store, or what `uri` names, cannot be reached now; it is to be tried again.
pub async fn deliver(
    store: &Store,
    run: &RunId,
    step: &StepPath,
    output: &str,
    artifact: &Artifact,
    uri: &str,
) -> Result<Result<(), String>, StoreError> {
    let path = layout::export(run, step, output);
    let stands: Option<ExportRecord> = store.read_json(&path).await?;
    let stands = match stands {
        Some(stands) => stands,
        None => {
            let refused = match export(store, artifact, uri).await {
                Ok(()) => None,
                Err(error) if is_answer(&error) => Some(error.to_string()),
                Err(error) => return Err(error),
            };
            let record = ExportRecord {
                uri: uri.to_owned(),
                digest: artifact.digest,
                at: now(),
                refused,
            };
            let same = |bytes: &[u8]| {
                decode::<ExportRecord>(&path, bytes).is_ok_and(|found| found == record)
            };
            match store
                .create_once(&path, encode(&path, &record)?, same)
                .await?
            {
                Created::Won => record,
                Created::Lost(bytes) => decode(&path, &bytes)?,
            }
        }
    };
    Ok(stands.refused.map_or(Ok(()), Err))
}

/// Whether the user must know, and the run goes on: the place that was named cannot
/// be written.
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

/// Copies `artifact` to `uri`. Files that are there under the same names are
/// replaced, others stay; doing it twice gives the same.
///
/// # Errors
/// Where `uri` is no folder, file or bucket, or either side cannot be reached.
pub async fn export(store: &Store, artifact: &Artifact, uri: &str) -> Result<(), StoreError> {
    #[cfg(feature = "simulation")]
    if let Some(folder) = uri.strip_prefix("simulated:") {
        return within(store, artifact, folder).await;
    }
    match uri.parse::<StoreUrl>()? {
        StoreUrl::Folder(path) if artifact.data_type == DataType::UriFile => {
            to_file(store, artifact, &path).await
        }
        StoreUrl::Folder(path) => artifact::fetch(store, artifact, &path).await.map(|_| ()),
        url @ StoreUrl::S3 { .. } => {
            let target = Store::open(&url, Access::Read).await?;
            let staged = tempfile::tempdir().map_err(StoreError::local(
                "create a folder in",
                std::env::temp_dir(),
            ))?;
            let fetched = artifact::fetch(store, artifact, staged.path()).await?;
            let (prefix, manifest) = (StorePath::from("files"), StorePath::from(MANIFEST));
            artifact::publish(
                &target,
                &fetched.path,
                artifact.data_type,
                &prefix,
                &manifest,
            )
            .await
            .map(|_| ())
        }
    }
}

/// Copies `artifact` to `folder` of its own store: the simulation has no other place.
#[cfg(feature = "simulation")]
async fn within(store: &Store, artifact: &Artifact, folder: &str) -> Result<(), StoreError> {
    use auria_core::outcome::EntryKind;
    let (from, to) = (
        StorePath::from(artifact.prefix.as_str()),
        StorePath::from(folder),
    );
    let manifest = artifact::read_manifest(store, artifact).await?;
    for entry in &manifest.entries {
        if !matches!(entry.kind, EntryKind::File { .. }) {
            continue;
        }
        let path = from.clone().join(entry.path.as_str());
        let bytes = store.read(&path).await?;
        let bytes = bytes.ok_or_else(|| StoreError::NotFound {
            what: path.to_string(),
        })?;
        store
            .write(&to.clone().join(entry.path.as_str()), bytes)
            .await?;
    }
    store.write_json(&to.join(MANIFEST), &manifest).await
}

/// One file: fetched beside its place, then renamed into it.
async fn to_file(store: &Store, artifact: &Artifact, path: &Path) -> Result<(), StoreError> {
    let parent: PathBuf = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
        .into();
    let made = tokio::fs::create_dir_all(&parent).await;
    made.map_err(StoreError::local("create the folder", &parent))?;
    let staged = tempfile::Builder::new()
        .prefix(".auria-")
        .tempdir_in(&parent);
    let staged = staged.map_err(StoreError::local("create a folder in", &parent))?;
    let fetched = artifact::fetch(store, artifact, staged.path()).await?;
    tokio::fs::rename(&fetched.path, path)
        .await
        .map_err(StoreError::local("rename into", path))
}
