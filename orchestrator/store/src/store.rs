//! An open store: the handle that everything else in this crate takes. It holds
//! the connection, the bounds on memory in flight, and the plain verbs (read,
//! write, list, delete) with errors sorted. What the bytes mean is not its concern.

use crate::backend::Bucket;
use crate::error::{sort_error, sort_plain};
use crate::housekeeping::Freed;
use crate::transfer::{Memory, again};
use crate::{StoreError, StorePath, StoreUrl, backend, probe};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing is created, not even the folder.
    Read,
    /// The store is probed once, and refused where it cannot keep what the
    /// protocol needs.
    Write,
}

/// An open store. Clones share one connection.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.inner.url)
    }
}

struct Inner {
    url: StoreUrl,
    /// Records: on a folder, each write is on the disk when it returns.
    records: Arc<dyn ObjectStore>,
    /// Data: on a folder, writes are on the disk after [`Store::sync`].
    data: Arc<dyn ObjectStore>,
    place: Place,
    /// What may be in flight between disk and network.
    memory: Arc<Memory>,
    /// Whether ETags that look like the MD5 of an object are none, as where a bucket
    /// encrypts with keys of its own.
    other_tags: AtomicBool,
    moved: AtomicU64,
}

/// Readings of one record, until it is one that its ETag stands for.
const TRIES: u32 = 3;

/// No record is larger: the manifest of a million files has a quarter of that.
const LARGEST_RECORD: u64 = 1024 * 1024 * 1024;

/// What a store is made of.
#[derive(Clone, Debug)]
enum Place {
    /// A folder, absolute.
    Folder(PathBuf),
    Bucket(Bucket),
    /// Objects that are no store of runs, or that a test made.
    Objects,
    /// What a broker stands before.
    #[cfg(feature = "brokered")]
    Behind {
        /// What tells it from every other store.
        identity: String,
    },
}

/// Requests for small objects that are under way at once.
pub(crate) const REQUESTS: usize = 32;

impl Store {
    /// Opens the store at `url`.
    ///
    /// # Errors
    /// Where it cannot be reached; for reading a folder, where it is not there;
    /// for writing, where it fails the capability probe.
    pub async fn open(url: &StoreUrl, access: Access) -> Result<Self, StoreError> {
        Self::open_with(url, access, &[]).await
    }

    /// As [`Self::open`], with settings that win over the environment: names and
    /// values of `AWS_…` variables, such as `("AWS_ENDPOINT_URL", "http://127.0.0.1:8333")`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(
        url: &StoreUrl,
        access: Access,
        settings: &[(&str, &str)],
    ) -> Result<Self, StoreError> {
        let store = match url {
            StoreUrl::Folder(folder) => Self::folder(folder, access).await?,
            StoreUrl::S3 { bucket, prefix } => {
                let (objects, bucket) = backend::s3(url, bucket, prefix, settings)?;
                let place = Place::Bucket(bucket);
                Self::new(url.clone(), Arc::clone(&objects), objects, place)
            }
        };
        match access {
            Access::Read => probe::check_version(&store).await?,
            Access::Write => probe::ensure(&store).await?,
        }
        Ok(store)
    }

    async fn folder(folder: &Path, access: Access) -> Result<Self, StoreError> {
        if access == Access::Write {
            tokio::fs::create_dir_all(folder)
                .await
                .map_err(|source| backend::folder_error(folder, source))?;
        }
        let root = tokio::fs::canonicalize(folder)
            .await
            .map_err(|source| backend::folder_error(folder, source))?;
        if !root.is_dir() {
            return Err(StoreError::InvalidUrl {
                text: folder.display().to_string(),
                why: "it is a file and not a folder".into(),
            });
        }
        let files = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| sort_error("open", &StorePath::ROOT, error))?;
        let data: Arc<dyn ObjectStore> = Arc::new(files.clone());
        let records: Arc<dyn ObjectStore> = Arc::new(files.with_fsync(true));
        Ok(Self::new(
            StoreUrl::Folder(root.clone()),
            records,
            data,
            Place::Folder(root),
        ))
    }

    fn new(
        url: StoreUrl,
        records: Arc<dyn ObjectStore>,
        data: Arc<dyn ObjectStore>,
        place: Place,
    ) -> Self {
        let memory = Memory::new();
        Self {
            inner: Arc::new(Inner {
                url,
                records,
                data,
                place,
                memory,
                other_tags: AtomicBool::new(false),
                moved: AtomicU64::new(0),
            }),
        }
    }

    /// A store of objects that keep what the protocol needs: for tests and simulations.
    /// The capability probe is not made.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn over(objects: Arc<dyn ObjectStore>) -> Self {
        let url = StoreUrl::S3 {
            bucket: "simulated".to_owned(),
            prefix: String::new(),
        };
        Self::of_objects(url, objects)
    }

    /// Objects of a bucket that need not hold runs: nothing is looked at.
    pub(crate) fn of_objects(url: StoreUrl, objects: Arc<dyn ObjectStore>) -> Self {
        Self::new(url, Arc::clone(&objects), objects, Place::Objects)
    }

    /// What a broker stands before; it is the broker's part to look whether the store
    /// keeps what the protocol needs.
    #[cfg(feature = "brokered")]
    pub(crate) fn behind(
        url: StoreUrl,
        identity: String,
        records: Arc<dyn ObjectStore>,
        data: Arc<dyn ObjectStore>,
    ) -> Self {
        Self::new(url, records, data, Place::Behind { identity })
    }

    /// The same store with `wrap` around what it is made of: for tests and
    /// simulations that inject faults. The capability probe is not repeated.
    #[must_use]
    pub fn wrapped(&self, wrap: impl Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        let Inner {
            url,
            records,
            data,
            place,
            memory: _,
            other_tags: _,
            moved: _,
        } = &*self.inner;
        Self::new(
            url.clone(),
            wrap(Arc::clone(records)),
            wrap(Arc::clone(data)),
            place.clone(),
        )
    }

    /// Where it is; a folder is absolute.
    #[must_use]
    pub fn url(&self) -> &StoreUrl {
        &self.inner.url
    }

    /// The folder, where the store is one.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        match &self.inner.place {
            Place::Folder(root) => Some(root),
            _ => None,
        }
    }

    /// The bucket, where the store is in one.
    pub(crate) fn bucket(&self) -> Option<&Bucket> {
        match &self.inner.place {
            Place::Bucket(bucket) => Some(bucket),
            _ => None,
        }
    }

    /// What tells this store from every other on this machine: its URL, and on S3 the
    /// server, since two of them may have buckets of one name. Locks are named by it.
    #[must_use]
    pub fn identity(&self) -> String {
        #[cfg(feature = "brokered")]
        if let Place::Behind { identity } = &self.inner.place {
            return identity.clone();
        }
        match self.bucket().and_then(|bucket| bucket.endpoint.as_deref()) {
            Some(endpoint) => format!("{} at {endpoint}", self.inner.url),
            None => self.inner.url.to_string(),
        }
    }

    /// The URI of `path` as people and other programs know it: `s3://…`, or the
    /// absolute path of the file.
    #[must_use]
    pub fn uri(&self, path: &str) -> String {
        match self.inner.url.folder() {
            Some(root) => root.join(path).display().to_string(),
            None => format!("{}/{path}", self.inner.url),
        }
    }

    /// The objects beneath, where writes are durable when they return.
    #[must_use]
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.records
    }

    /// The objects beneath, where on a folder a write is durable only after [`Self::sync`].
    pub(crate) fn data(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.data
    }

    /// Bytes of files that went into the store or came out of it through this handle
    /// and its clones; those that had to be moved again count again.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.inner.moved.load(Ordering::Relaxed)
    }

    pub(crate) fn has_moved(&self, bytes: u64) {
        self.inner.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.inner.memory
    }

    /// The bytes at `path`, `None` where nothing is.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn read(&self, path: &StorePath) -> Result<Option<Bytes>, StoreError> {
        let mut before: Option<Bytes> = None;
        for tries in 1..=TRIES {
            let Some((bytes, tag)) = again(|| self.read_once(path)).await? else {
                return Ok(None);
            };
            let Some(tag) = tag.filter(|_| !self.inner.other_tags.load(Ordering::Relaxed)) else {
                return Ok(Some(bytes));
            };
            if md5(&bytes) == tag {
                return Ok(Some(bytes));
            }
            let same = before.is_none_or(|before| before == bytes);
            if tries == TRIES && same {
                // No way changes the same bits each time: tags are something else here.
                self.inner.other_tags.store(true, Ordering::Relaxed);
                return Ok(Some(bytes));
            }
            tracing::warn!("{path} came otherwise than its ETag says; reading it again");
            before = Some(bytes);
        }
        let expected = "bytes that its ETag stands for";
        Err(StoreError::corrupt(
            path,
            expected,
            "others at each reading",
        ))
    }

    /// The bytes at `path`, and their MD5 where the ETag looks like one.
    async fn read_once(
        &self,
        path: &StorePath,
    ) -> Result<Option<(Bytes, Option<[u8; 16]>)>, StoreError> {
        let found = match self.inner.records.get(path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(sort_plain("read", path, error)),
        };
        let size = found.meta.size;
        if size > LARGEST_RECORD {
            let expected = format!("at most {LARGEST_RECORD} bytes");
            return Err(StoreError::corrupt(path, expected, format!("{size} bytes")));
        }
        let tag = found.meta.e_tag.as_deref().and_then(as_md5);
        match found.bytes().await {
            Ok(bytes) => Ok(Some((bytes, tag))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(sort_plain("read", path, error)),
        }
    }

    /// The record at `path`, `None` where nothing is.
    ///
    /// # Errors
    /// Where the store cannot be read, or what is there is no `T`.
    pub async fn read_json<T: DeserializeOwned>(
        &self,
        path: &StorePath,
    ) -> Result<Option<T>, StoreError> {
        self.read(path)
            .await?
            .map(|bytes| decode(path, &bytes))
            .transpose()
    }

    /// Writes `bytes` to `path`, whatever is there.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn write(&self, path: &StorePath, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        let bytes: Bytes = bytes.into();
        again(|| async {
            let put = self.inner.records.put(path, bytes.clone().into()).await;
            put.map(drop)
                .map_err(|error| sort_plain("write", path, error))
        })
        .await
    }

    /// As [`Self::write`], for what nothing rests on: on a folder, a power cut may take
    /// it away again.
    pub(crate) async fn write_unsynced(
        &self,
        path: &StorePath,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let put = self.inner.data.put(path, bytes.into()).await;
        put.map(drop)
            .map_err(|error| sort_error("write", path, error))
    }

    /// Writes a record to `path`, whatever is there.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn write_json(
        &self,
        path: &StorePath,
        record: &impl Serialize,
    ) -> Result<(), StoreError> {
        self.write(path, encode(path, record)?).await
    }

    /// Whether something is at `path`.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn exists(&self, path: &StorePath) -> Result<bool, StoreError> {
        Ok(self.head(path).await?.is_some())
    }

    pub(crate) async fn head(&self, path: &StorePath) -> Result<Option<ObjectMeta>, StoreError> {
        again(|| async {
            match self.inner.records.head(path).await {
                Ok(meta) => Ok(Some(meta)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(sort_plain("ask for", path, error)),
            }
        })
        .await
    }

    /// Everything below `prefix`, in no order.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub async fn list(&self, prefix: &StorePath) -> Result<Vec<ObjectMeta>, StoreError> {
        again(|| async {
            let found = self.inner.records.list(Some(prefix)).try_collect().await;
            found.map_err(|error| sort_plain("list", prefix, error))
        })
        .await
    }

    /// The first `most` objects right below `prefix` in the order of their names, after the
    /// one that is named `after`. On a bucket nothing beyond them is listed; of a folder
    /// names alone are read.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub async fn first_names(
        &self,
        prefix: &StorePath,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<String>, StoreError> {
        if let Some(root) = self.root() {
            let folder = root.join(prefix.as_ref());
            let names = tokio::task::spawn_blocking(move || file_names(&folder)).await;
            let names = names.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let names = names.map_err(|source| {
                let error = object_store::Error::Generic {
                    store: "LocalFileSystem",
                    source: Box::new(source),
                };
                sort_plain("list", prefix, error)
            })?;
            return Ok(firsts(names, after, most));
        }
        if self.bucket().is_none() {
            let found = self.list(prefix).await?;
            let names = found.iter().filter_map(|meta| meta.location.filename());
            return Ok(firsts(names.map(str::to_owned).collect(), after, most));
        }
        again(|| async {
            let found = match after {
                Some(after) => {
                    let offset = prefix.clone().join(after);
                    self.inner.records.list_with_offset(Some(prefix), &offset)
                }
                None => self.inner.records.list(Some(prefix)),
            };
            let found: Vec<ObjectMeta> = found
                .take(most)
                .try_collect()
                .await
                .map_err(|error| sort_plain("list", prefix, error))?;
            let names = found.iter().filter_map(|meta| meta.location.filename());
            Ok(names.map(str::to_owned).collect())
        })
        .await
    }

    /// The names right below `prefix` that have more below them.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub async fn list_folders(&self, prefix: &StorePath) -> Result<Vec<String>, StoreError> {
        again(|| async {
            match self.inner.records.list_with_delimiter(Some(prefix)).await {
                Ok(found) => Ok(found
                    .common_prefixes
                    .iter()
                    .filter_map(|path| path.filename().map(str::to_owned))
                    .collect()),
                Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
                Err(error) => Err(sort_plain("list", prefix, error)),
            }
        })
        .await
    }

    /// Removes what is at `path`; nothing there is no error.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn delete(&self, path: &StorePath) -> Result<(), StoreError> {
        match self.inner.records.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(sort_error("delete", path, error)),
        }
    }

    /// Removes everything below `prefix`, and says what that freed.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn delete_prefix(&self, prefix: &StorePath) -> Result<Freed, StoreError> {
        let freed = self.delete_where(prefix, false, |_| true).await?;
        if let Some(root) = self.root() {
            // Only empty folders are left, and what writes that were cut short staged.
            tokio::fs::remove_dir_all(root.join(prefix.as_ref()))
                .await
                .ok();
        }
        Ok(freed)
    }

    /// Removes what is below `prefix` and `chosen`, as it is listed: the memory that
    /// this takes does not grow with what is there. A dry run only counts it.
    pub(crate) async fn delete_where(
        &self,
        prefix: &StorePath,
        dry_run: bool,
        chosen: impl Fn(&StorePath) -> bool + Send + Sync,
    ) -> Result<Freed, StoreError> {
        let mut freed = Freed::default();
        let mut listed = self
            .inner
            .records
            .list(Some(prefix))
            .chunks(DELETED_AT_ONCE);
        while let Some(chunk) = listed.next().await {
            let mut paths = Vec::with_capacity(chunk.len());
            for meta in chunk {
                match meta {
                    Ok(meta) if chosen(&meta.location) => {
                        freed.count(&meta);
                        paths.push(Ok(meta.location));
                    }
                    // On a folder, what another removes while it is listed.
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(sort_error("list", prefix, error)),
                }
            }
            if dry_run {
                continue;
            }
            let paths = futures::stream::iter(paths).boxed();
            let mut deleted = self.inner.records.delete_stream(paths);
            while let Some(result) = deleted.next().await {
                match result {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(sort_error("delete", prefix, error)),
                }
            }
        }
        Ok(freed)
    }

    /// On a folder: removes the empty folders below `prefix`, and its own. That one
    /// stays is no harm: nothing reads them.
    pub(crate) async fn remove_empty_folders(&self, prefix: &StorePath) {
        if let Some(root) = self.root() {
            let folder = root.join(prefix.as_ref());
            let _ = tokio::task::spawn_blocking(move || remove_empty(&folder)).await;
        }
    }

    /// On a folder: `files` and the folders they are in, up to the root, are on
    /// the disk when it returns. Elsewhere a write that has returned is durable.
    pub(crate) async fn sync(&self, files: Vec<StorePath>) -> Result<(), StoreError> {
        self.sync_within(&StorePath::ROOT, files).await
    }

    /// As [`Self::sync`], where the folders above `top` are on the disk already.
    pub(crate) async fn sync_within(
        &self,
        top: &StorePath,
        files: Vec<StorePath>,
    ) -> Result<(), StoreError> {
        let Some(root) = self.root().map(Path::to_owned) else {
            return Ok(());
        };
        let top = root.join(top.as_ref());
        let done = tokio::task::spawn_blocking(move || sync_files(&root, &top, &files)).await;
        done.unwrap_or_else(|_| {
            Err(StoreError::local("sync", "files of the store")(
                std::io::ErrorKind::Other.into(),
            ))
        })
    }
}

/// Objects that one request deletes, where the store can do many at once.
const DELETED_AT_ONCE: usize = 1000;

fn remove_empty(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    // It says no where something is there, which is all that is asked of it.
    let _ = std::fs::remove_dir(folder);
}

/// More files than this are flushed with their whole file system, which is one
/// journal commit, and not one by one, which is one for each.
const SYNC_EACH: usize = 32;

fn sync_files(root: &Path, top: &Path, files: &[StorePath]) -> Result<(), StoreError> {
    let sync = |path: &Path| {
        std::fs::File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(StoreError::local("sync", path))
    };
    if files.len() > SYNC_EACH {
        let folder = std::fs::File::open(root).map_err(StoreError::local("open", root))?;
        return nix::unistd::syncfs(folder)
            .map_err(|error| StoreError::local("sync", root)(error.into()));
    }
    let mut folders = std::collections::BTreeSet::new();
    for file in files {
        let path = root.join(file.as_ref());
        sync(&path)?;
        folders.extend(
            path.ancestors()
                .skip(1)
                .take_while(|folder| folder.starts_with(top))
                .map(Path::to_owned),
        );
    }
    folders.iter().try_for_each(|folder| sync(folder))
}

/// The MD5 that an ETag is for a plain object; of one in parts it has a dash.
fn as_md5(tag: &str) -> Option<[u8; 16]> {
    let text = tag.trim_matches('"');
    let number = u128::from_str_radix(text, 16).ok()?;
    (text.len() == 32).then(|| number.to_be_bytes())
}

fn md5(bytes: &[u8]) -> [u8; 16] {
    use md5::Digest;
    md5::Md5::digest(bytes).into()
}

/// A record as it stands in the store: JSON that people can read.
pub(crate) fn encode(path: &StorePath, record: &impl Serialize) -> Result<Bytes, StoreError> {
    let mut bytes = serde_json::to_vec_pretty(record).map_err(|source| StoreError::Unwritable {
        what: path.to_string(),
        source,
    })?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

pub(crate) fn decode<T: DeserializeOwned>(path: &StorePath, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::corrupt(path, std::any::type_name::<T>(), error))
}

/// The names of a folder's files, in no order; none where there is no such folder.
fn file_names(folder: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            // What is still being written has another name.
            && !name.contains('#')
            && entry.file_type()?.is_file()
        {
            names.push(name);
        }
    }
    Ok(names)
}

fn firsts(mut names: Vec<String>, after: Option<&str>, most: usize) -> Vec<String> {
    if let Some(after) = after {
        names.retain(|name| name.as_str() > after);
    }
    if names.len() > most {
        names.select_nth_unstable(most);
        names.truncate(most);
    }
    names.sort_unstable();
    names
}
