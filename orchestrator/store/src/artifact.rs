//! Artifacts: files in the store with the manifest that names them. Publishing
//! writes the manifest last, so that what was cut short is no artifact; fetching
//! verifies every byte and never writes outside the folder it was given. Whether
//! an artifact is a step's output is decided elsewhere, by the commit record.

use crate::store::encode;
use crate::transfer::{Passed, blocking};
use crate::tree::{self, LocalKind, MODE_BITS, Which};
use crate::{Store, StoreError, StorePath, layout};
use auria_core::Digest;
use auria_core::outcome::{Artifact, EntryKind, Manifest, ManifestEntry};
use auria_core::plan::DataType;
use futures::{StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Files of one artifact that are under way at once: on a folder the disk is the
/// limit, elsewhere the way there and back. Memory is bounded apart from this.
fn files_at_once(store: &Store) -> usize {
    if store.root().is_some() { 16 } else { 64 }
}

/// How closely [`verify`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The manifest is right, every file is there with its size: one listing.
    Sizes,
    /// Every byte is read.
    Digests,
}

/// An artifact on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The file, where the artifact is a single one, else the folder.
    pub path: PathBuf,
    /// Number of files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Publishes the file or folder at `local` below `prefix`, then its manifest.
///
/// On a folder store everything is on the disk when this returns.
///
/// # Errors
/// Where `local` is not what `data_type` says, holds what a manifest cannot name
/// (names that are not UTF-8, links that lead outside, devices), or cannot be read;
/// where the store cannot be written.
pub async fn publish(
    store: &Store,
    local: &Path,
    data_type: DataType,
    prefix: &StorePath,
    manifest_path: &StorePath,
) -> Result<Artifact, StoreError> {
    let (root, is_file) = (local.to_owned(), is_single(local, data_type)?);
    let entries = if is_file {
        blocking(move || tree::single(&root, root.clone())).await?
    } else {
        blocking(move || tree::walk(&root, &Which::All)).await?
    };
    let manifest = put_files(store, entries, prefix, |_| None).await?;
    store
        .write(manifest_path, encode(manifest_path, &manifest)?)
        .await?;
    Ok(describe(
        &manifest,
        is_file,
        data_type,
        prefix,
        manifest_path,
    ))
}

/// Whether the output at `local` is a file; an error where it is not what its type says.
fn is_single(local: &Path, data_type: DataType) -> Result<bool, StoreError> {
    let meta = std::fs::symlink_metadata(local).map_err(StoreError::local("read", local))?;
    let unsuitable = |why: &str| StoreError::Unsuitable {
        path: local.to_owned(),
        why: format!("{why}, and its type is {}", data_type.as_str()),
    };
    match data_type {
        _ if meta.is_symlink() => Err(unsuitable("it is a symbolic link")),
        DataType::UriFile if !meta.is_file() => Err(unsuitable("it is not a file")),
        DataType::UriFolder | DataType::Mltable if !meta.is_dir() => {
            Err(unsuitable("it is not a folder"))
        }
        _ if meta.is_file() => Ok(true),
        _ if meta.is_dir() => Ok(false),
        _ => Err(unsuitable("it is neither file nor folder")),
    }
}

/// Uploads the files of `entries` below `prefix`; durable when it returns. Files
/// for which `expected` knows a digest must have it.
pub(crate) async fn put_files(
    store: &Store,
    entries: Vec<tree::LocalEntry>,
    prefix: &StorePath,
    expected: impl Fn(&str) -> Option<Digest>,
) -> Result<Manifest, StoreError> {
    let tasks: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let digest = expected(&entry.path);
            (entry, digest)
        })
        .collect();
    let uploaded: Vec<(ManifestEntry, Option<StorePath>)> = futures::stream::iter(tasks)
        .map(|(entry, digest)| put_entry(store, entry, prefix, digest))
        .buffer_unordered(files_at_once(store))
        .try_collect()
        .await?;
    let (mut entries, paths): (Vec<_>, Vec<_>) = uploaded.into_iter().unzip();
    store.sync(paths.into_iter().flatten().collect()).await?;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Manifest { entries })
}

async fn put_entry(
    store: &Store,
    entry: tree::LocalEntry,
    prefix: &StorePath,
    expected: Option<Digest>,
) -> Result<(ManifestEntry, Option<StorePath>), StoreError> {
    let path = entry.path;
    match entry.kind {
        LocalKind::File { mode } => {
            let stored_as = layout::stored_name(&path);
            let to = below(prefix, stored_as.as_deref().unwrap_or(&path))?;
            let Passed { size, digest } = store.upload(&entry.local, &to, expected).await?;
            Ok((
                ManifestEntry {
                    path,
                    kind: EntryKind::File {
                        mode,
                        size,
                        digest,
                        stored_as,
                    },
                },
                Some(to),
            ))
        }
        LocalKind::Symlink { target } => Ok((
            ManifestEntry {
                path,
                kind: EntryKind::Symlink { target },
            },
            None,
        )),
        LocalKind::Folder { mode } => Ok((
            ManifestEntry {
                path,
                kind: EntryKind::Folder { mode },
            },
            None,
        )),
    }
}

/// `name` below `prefix`, exactly as it is.
fn below(prefix: &StorePath, name: &str) -> Result<StorePath, StoreError> {
    StorePath::parse(format!("{prefix}/{name}"))
        .map_err(|error| StoreError::corrupt(format!("the name `{name}`"), "a path", error))
}

/// The artifact that `manifest` describes.
pub(crate) fn describe(
    manifest: &Manifest,
    is_file: bool,
    data_type: DataType,
    prefix: &StorePath,
    manifest_path: &StorePath,
) -> Artifact {
    let sizes = files(manifest).map(|(_, _, passed)| passed.size);
    let single = files(manifest).next().filter(|_| is_file);
    Artifact {
        prefix: prefix.to_string(),
        manifest: manifest_path.to_string(),
        data_type,
        files: sizes.clone().count() as u64,
        bytes: sizes.sum(),
        digest: single.map_or_else(|| manifest.digest(), |(_, _, passed)| passed.digest),
    }
}

/// The files of a manifest: its path, the name under the prefix, size and digest.
fn files(manifest: &Manifest) -> impl Iterator<Item = (&str, &str, Passed)> + Clone {
    manifest
        .entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            EntryKind::File {
                size,
                digest,
                stored_as,
                mode: _,
            } => {
                let stored = stored_as.as_deref().unwrap_or(&entry.path);
                Some((
                    entry.path.as_str(),
                    stored,
                    Passed {
                        size: *size,
                        digest: *digest,
                    },
                ))
            }
            EntryKind::Symlink { .. } | EntryKind::Folder { .. } => None,
        })
}

/// The file, where the artifact is a single one: then its digest is the file's.
fn single_file<'a>(artifact: &Artifact, manifest: &'a Manifest) -> Option<&'a str> {
    match manifest.entries.as_slice() {
        [only] => match &only.kind {
            EntryKind::File { digest, .. } if *digest == artifact.digest => Some(&only.path),
            _ => None,
        },
        _ => None,
    }
}

/// The manifest of `artifact`, checked against the artifact's digest, with paths
/// and links that stay inside.
///
/// # Errors
/// Where it is gone, damaged, or names what no artifact may hold.
pub async fn read_manifest(store: &Store, artifact: &Artifact) -> Result<Manifest, StoreError> {
    let path = stored_path(&artifact.manifest)?;
    let manifest: Manifest = store
        .read_json(&path)
        .await?
        .ok_or_else(|| StoreError::NotFound {
            what: path.to_string(),
        })?;
    if single_file(artifact, &manifest).is_none() && manifest.digest() != artifact.digest {
        return Err(StoreError::corrupt(
            &path,
            artifact.digest,
            manifest.digest(),
        ));
    }
    check_confined(&path, &manifest)?;
    Ok(manifest)
}

/// Refuses what could lead outside the folder that a manifest is fetched into.
pub(crate) fn check_confined(what: &StorePath, manifest: &Manifest) -> Result<(), StoreError> {
    for entry in &manifest.entries {
        if !tree::is_confined(&entry.path) {
            return Err(StoreError::corrupt(
                what,
                "paths that stay inside",
                format!("`{}`", entry.path),
            ));
        }
        match &entry.kind {
            EntryKind::Symlink { target } if !tree::is_confined_link(&entry.path, target) => {
                let found = format!("`{}` -> `{target}`", entry.path);
                return Err(StoreError::corrupt(what, "links that stay inside", found));
            }
            EntryKind::File {
                stored_as: Some(name),
                ..
            } if !tree::is_confined(name) => {
                return Err(StoreError::corrupt(
                    what,
                    "names that stay inside",
                    format!("`{name}`"),
                ));
            }
            _ => {}
        }
    }
    match tree::clash(manifest.entries.iter().map(|entry| entry.path.as_str())) {
        None => Ok(()),
        Some(path) => Err(StoreError::corrupt(
            what,
            "each path once, and none below a file",
            format!("`{path}`"),
        )),
    }
}

fn stored_path(text: &str) -> Result<StorePath, StoreError> {
    StorePath::parse(text)
        .map_err(|error| StoreError::corrupt(format!("the path `{text}`"), "a path", error))
}

/// Fetches `artifact` into the folder `to`, which is created where it is missing.
/// Every size and digest is verified; what is there under the same names is replaced.
///
/// # Errors
/// Where the store cannot be read, something is missing or damaged, or `to`
/// cannot be written.
pub async fn fetch(store: &Store, artifact: &Artifact, to: &Path) -> Result<Fetched, StoreError> {
    let manifest = read_manifest(store, artifact).await?;
    fetch_files(store, &manifest, &stored_path(&artifact.prefix)?, to).await?;
    let path = single_file(artifact, &manifest).map_or_else(|| to.to_owned(), |name| to.join(name));
    Ok(Fetched {
        path,
        files: artifact.files,
        bytes: artifact.bytes,
    })
}

pub(crate) async fn fetch_files(
    store: &Store,
    manifest: &Manifest,
    prefix: &StorePath,
    to: &Path,
) -> Result<(), StoreError> {
    let folders = folders(manifest, to);
    blocking(move || folders.iter().try_for_each(|folder| make_folder(folder))).await?;
    let files = manifest
        .entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            EntryKind::File {
                mode,
                size,
                digest,
                stored_as,
            } => {
                let stored = stored_as.as_deref().unwrap_or(&entry.path);
                // Owned: a future over borrowed pairs could not be sent to another thread.
                Some((
                    entry.path.clone(),
                    stored.to_owned(),
                    Passed {
                        size: *size,
                        digest: *digest,
                    },
                    *mode,
                ))
            }
            _ => None,
        });
    let files: Vec<_> = files.collect();
    futures::stream::iter(files)
        .map(|(path, stored, expected, mode)| async move {
            store
                .download(&below(prefix, &stored)?, expected, &to.join(path), mode)
                .await
        })
        .buffer_unordered(files_at_once(store))
        .try_collect::<()>()
        .await?;
    // Links and the modes of folders come last: nothing is written through either.
    let (last, to) = (manifest.clone(), to.to_owned());
    blocking(move || {
        last.entries
            .iter()
            .try_for_each(|entry| finish_entry(entry, &to))
    })
    .await
}

fn finish_entry(entry: &ManifestEntry, to: &Path) -> Result<(), StoreError> {
    let path = to.join(&entry.path);
    match &entry.kind {
        EntryKind::File { .. } => Ok(()),
        EntryKind::Symlink { target } => {
            std::fs::remove_file(&path).ok();
            std::os::unix::fs::symlink(target, &path).map_err(StoreError::local("link", path))
        }
        EntryKind::Folder { mode } => {
            let permissions = std::fs::Permissions::from_mode(mode & MODE_BITS);
            std::fs::set_permissions(&path, permissions)
                .map_err(StoreError::local("set the mode of", path))
        }
    }
}

/// Every folder that a manifest needs, parents first.
fn folders(manifest: &Manifest, to: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::from([to.to_owned()]);
    for entry in &manifest.entries {
        for (end, _) in entry.path.match_indices('/') {
            folders.insert(to.join(&entry.path[..end]));
        }
        if matches!(entry.kind, EntryKind::Folder { .. }) {
            folders.insert(to.join(&entry.path));
        }
    }
    folders
}

fn make_folder(folder: &Path) -> Result<(), StoreError> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder);
    made.map_err(StoreError::local("create the folder", folder))
}

/// Whether `artifact` is there.
///
/// # Errors
/// [`StoreError::NotFound`] or [`StoreError::Corrupt`] with the first file that
/// is gone or damaged; and where the store cannot be read.
pub async fn verify(store: &Store, artifact: &Artifact, depth: Depth) -> Result<(), StoreError> {
    let manifest = read_manifest(store, artifact).await?;
    let prefix = stored_path(&artifact.prefix)?;
    if depth == Depth::Digests {
        let checks: Vec<(StorePath, Passed)> = files(&manifest)
            .map(|(_, stored, expected)| Ok((below(&prefix, stored)?, expected)))
            .collect::<Result<_, StoreError>>()?;
        return futures::stream::iter(checks)
            .map(|(path, expected)| async move { store.check_digest(&path, expected).await })
            .buffer_unordered(files_at_once(store))
            .try_collect()
            .await;
    }
    let found = store.list(&prefix).await?;
    let sizes: BTreeMap<_, _> = found
        .into_iter()
        .map(|meta| (meta.location, meta.size))
        .collect();
    for (_, stored, expected) in files(&manifest) {
        let path = below(&prefix, stored)?;
        match sizes.get(&path) {
            None => {
                return Err(StoreError::NotFound {
                    what: path.to_string(),
                });
            }
            Some(size) if *size != expected.size => {
                return Err(StoreError::corrupt(
                    &path,
                    format!("{} bytes", expected.size),
                    format!("{size} bytes"),
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
