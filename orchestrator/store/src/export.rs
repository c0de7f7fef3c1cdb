//! Copies of outputs at places that the user named: a folder or file of this
//! machine, or a prefix of a bucket. The outputs of the run stay what they are.

use crate::artifact;
use crate::{Access, Store, StoreError, StorePath, StoreUrl};
use auria_core::outcome::Artifact;
use auria_core::plan::DataType;
use std::path::{Path, PathBuf};

/// Name of the manifest beside an exported prefix; written last.
pub const MANIFEST: &str = "manifest.json";

/// Copies `artifact` to `uri`. Files that are there under the same names are
/// replaced, others stay; doing it twice gives the same.
///
/// # Errors
/// Where `uri` is no folder, file or bucket, or either side cannot be reached.
pub async fn export(store: &Store, artifact: &Artifact, uri: &str) -> Result<(), StoreError> {
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
