//! Snapshots: content-addressed copies of code folders and local inputs, shared
//! by all runs of a store. Scanning reads and hashes; uploading happens only where
//! the store has no such snapshot. A snapshot's name is the digest of its manifest,
//! of a single file too, so that a file's name is a part of what it is.

use crate::artifact::{self, Fetched};
use crate::create::Created;
use crate::store::{decode, encode};
use crate::transfer::{blocking, hash_file};
use crate::tree::{self, LocalKind, Which};
use crate::{Store, StoreError, housekeeping, layout};
use auria_core::Digest;
use auria_core::outcome::{Artifact, EntryKind, Manifest, ManifestEntry};
use auria_core::plan::DataType;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file or folder of this machine, hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedSnapshot {
    /// Its name in every store.
    pub digest: Digest,
    /// What it holds.
    pub manifest: Manifest,
    /// Where it is, as it was given.
    pub local: PathBuf,
    /// Whether it is a single file.
    pub is_file: bool,
    /// The paths that were left out besides what the folder's own rules leave out.
    exclude: Vec<PathBuf>,
}

impl ScannedSnapshot {
    /// Number of files.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.as_artifact(DataType::default()).files
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.as_artifact(DataType::default()).bytes
    }

    /// As an artifact of a store that holds it.
    #[must_use]
    pub fn as_artifact(&self, data_type: DataType) -> Artifact {
        describe(&self.digest, &self.manifest, self.is_file, data_type)
    }
}

fn describe(digest: &Digest, manifest: &Manifest, is_file: bool, data_type: DataType) -> Artifact {
    let (files, path) = (
        layout::snapshot_files(digest),
        layout::snapshot_manifest(digest),
    );
    artifact::describe(manifest, is_file, data_type, &files, &path)
}

/// Reads and hashes the file or folder at `local`.
///
/// Of a folder, `.git`, `.auria`, `exclude` and what its `.amlignore` names are
/// left out; where it has no `.amlignore`, what its `.gitignore` names.
///
/// # Errors
/// Where something cannot be read, or a manifest cannot name it.
pub async fn scan(local: &Path, exclude: &[PathBuf]) -> Result<ScannedSnapshot, StoreError> {
    let exclude: Vec<_> = exclude
        .iter()
        .filter_map(|path| std::fs::canonicalize(path).ok())
        .collect();
    let (given, left_out) = (local.to_owned(), exclude.clone());
    let (entries, is_file) = blocking(move || entries(&given, &left_out)).await?;
    let hashed = hash_all(entries).await?;
    let manifest = Manifest { entries: hashed };
    Ok(ScannedSnapshot {
        digest: manifest.digest(),
        manifest,
        local: local.to_owned(),
        is_file,
        exclude,
    })
}

/// The entries of what is at `given`, and whether it is a single file, which
/// keeps the name that was given, also where that is a link.
fn entries(given: &Path, exclude: &[PathBuf]) -> Result<(Vec<tree::LocalEntry>, bool), StoreError> {
    let local = std::fs::canonicalize(given).map_err(StoreError::local("read", given))?;
    let meta = std::fs::metadata(&local).map_err(StoreError::local("read", given))?;
    if meta.is_file() {
        return Ok((tree::single(given, local)?, true));
    }
    Ok((
        tree::walk(
            &local,
            &Which::Source {
                exclude: exclude.to_vec(),
            },
        )?,
        false,
    ))
}

/// Hashes on as many threads as there are cores, within reason.
async fn hash_all(entries: Vec<tree::LocalEntry>) -> Result<Vec<ManifestEntry>, StoreError> {
    use futures::{StreamExt, TryStreamExt};
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(8));
    let batch = entries.len().div_ceil(threads * 4).max(1);
    let mut batches = Vec::new();
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        batches.push(entries.by_ref().take(batch).collect::<Vec<_>>());
    }
    let hashed: Vec<Vec<ManifestEntry>> = futures::stream::iter(batches)
        .map(|batch| blocking(move || batch.into_iter().map(hash_entry).collect()))
        .buffered(threads)
        .try_collect()
        .await?;
    Ok(hashed.into_iter().flatten().collect())
}

fn hash_entry(entry: tree::LocalEntry) -> Result<ManifestEntry, StoreError> {
    let path = entry.path;
    let kind = match entry.kind {
        LocalKind::File { mode } => {
            let passed = hash_file(&entry.local)?;
            let stored_as = layout::stored_name(&path);
            EntryKind::File {
                mode,
                size: passed.size,
                digest: passed.digest,
                stored_as,
            }
        }
        LocalKind::Symlink { target } => EntryKind::Symlink { target },
        LocalKind::Folder { mode } => EntryKind::Folder { mode },
    };
    Ok(ManifestEntry { path, kind })
}

/// Whether the store holds the snapshot, for a run whose `run.json` names it already:
/// from then on `gc` keeps it.
///
/// # Errors
/// Where the store cannot be asked.
pub async fn exists(store: &Store, digest: &Digest) -> Result<bool, StoreError> {
    housekeeping::settle(store, digest).await?;
    store.exists(&layout::snapshot_manifest(digest)).await
}

/// Uploads the snapshot unless the store has it; says whether it did. A run's
/// `run.json` must name the snapshot before.
///
/// # Errors
/// Where files changed since they were scanned, or the store cannot be written.
pub async fn upload(store: &Store, snapshot: &ScannedSnapshot) -> Result<bool, StoreError> {
    let manifest_path = layout::snapshot_manifest(&snapshot.digest);
    if exists(store, &snapshot.digest).await? {
        return Ok(false);
    }
    let changed = || StoreError::Unsuitable {
        path: snapshot.local.clone(),
        why: "it changed while it was being read; submit again".into(),
    };
    let (given, exclude) = (snapshot.local.clone(), snapshot.exclude.clone());
    let (entries, _) = blocking(move || entries(&given, &exclude)).await?;
    let digests: BTreeMap<_, _> = snapshot
        .manifest
        .entries
        .iter()
        .filter_map(file_digest)
        .collect();
    if entries.iter().any(|entry| {
        matches!(entry.kind, LocalKind::File { .. }) && !digests.contains_key(entry.path.as_str())
    }) {
        return Err(changed());
    }
    let files = layout::snapshot_files(&snapshot.digest);
    let found =
        artifact::put_files(store, entries, &files, |path| digests.get(path).copied()).await?;
    if found != snapshot.manifest {
        return Err(changed());
    }
    // Another may have uploaded the same meanwhile.
    let same = |bytes: &[u8]| {
        decode::<Manifest>(&manifest_path, bytes)
            .is_ok_and(|stands| stands.digest() == snapshot.digest)
    };
    let bytes = encode(&manifest_path, &found)?;
    match store.create_once(&manifest_path, bytes, same).await? {
        Created::Won => Ok(true),
        Created::Lost(_) => {
            let digest = snapshot.digest;
            Err(StoreError::corrupt(
                &manifest_path,
                digest,
                "another manifest",
            ))
        }
    }
}

fn file_digest(entry: &ManifestEntry) -> Option<(&str, Digest)> {
    match &entry.kind {
        EntryKind::File { digest, .. } => Some((entry.path.as_str(), *digest)),
        _ => None,
    }
}

/// The snapshot as an artifact. `data_type` says what it is taken for; a single
/// file is one where it is taken for `uri_file`.
///
/// # Errors
/// Where it is not there or damaged.
pub async fn artifact(
    store: &Store,
    digest: &Digest,
    data_type: DataType,
) -> Result<Artifact, StoreError> {
    let manifest = read(store, digest).await?;
    Ok(describe(
        digest,
        &manifest,
        data_type == DataType::UriFile,
        data_type,
    ))
}

async fn read(store: &Store, digest: &Digest) -> Result<Manifest, StoreError> {
    let path = layout::snapshot_manifest(digest);
    let found: Option<Manifest> = store.read_json(&path).await?;
    let manifest = found.ok_or_else(|| StoreError::NotFound {
        what: format!("the snapshot {digest}"),
    })?;
    if manifest.digest() != *digest {
        return Err(StoreError::corrupt(&path, digest, manifest.digest()));
    }
    artifact::check_confined(&path, &manifest)?;
    Ok(manifest)
}

/// Fetches the snapshot into the folder `to`, verified. Taken for `uri_file`, the
/// path given back is the file.
///
/// # Errors
/// As [`artifact::fetch`].
pub async fn fetch(
    store: &Store,
    digest: &Digest,
    data_type: DataType,
    to: &Path,
) -> Result<Fetched, StoreError> {
    let artifact = artifact(store, digest, data_type).await?;
    artifact::fetch(store, &artifact, to).await
}
