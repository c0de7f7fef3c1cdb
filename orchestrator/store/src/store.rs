//! An open store: the handle that everything else in this crate takes. It holds
//! the connection, the bounds on memory in flight, and the plain verbs (read,
//! write, list, delete) with errors sorted. What the bytes mean is not its concern.

use crate::error::sort_error;
use crate::{StoreError, StorePath, StoreUrl, backend, probe};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

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
    /// The folder, absolute, where the store is one.
    root: Option<PathBuf>,
    /// One permit for each MiB that is in flight between disk and network.
    in_flight: Arc<Semaphore>,
}

/// MiB that transfers of one store may hold in memory, all of them together.
pub(crate) const IN_FLIGHT_MIB: u32 = 128;

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
                let objects = backend::s3(url, bucket, prefix, settings)?;
                Self::new(url.clone(), Arc::clone(&objects), objects, None)
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
            Some(root),
        ))
    }

    fn new(
        url: StoreUrl,
        records: Arc<dyn ObjectStore>,
        data: Arc<dyn ObjectStore>,
        root: Option<PathBuf>,
    ) -> Self {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MIB as usize));
        Self {
            inner: Arc::new(Inner {
                url,
                records,
                data,
                root,
                in_flight,
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
        Self::new(url, Arc::clone(&objects), objects, None)
    }

    /// The same store with `wrap` around what it is made of: for tests and
    /// simulations that inject faults. The capability probe is not repeated.
    #[must_use]
    pub fn wrapped(&self, wrap: impl Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        let Inner {
            url,
            records,
            data,
            root,
            in_flight: _,
        } = &*self.inner;
        Self::new(
            url.clone(),
            wrap(Arc::clone(records)),
            wrap(Arc::clone(data)),
            root.clone(),
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
        self.inner.root.as_deref()
    }

    /// The URI of `path` as people and other programs know it: `s3://…`, or the
    /// absolute path of the file.
    #[must_use]
    pub fn uri(&self, path: &str) -> String {
        match &self.inner.root {
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

    pub(crate) fn in_flight(&self) -> &Arc<Semaphore> {
        &self.inner.in_flight
    }

    /// The bytes at `path`, `None` where nothing is.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn read(&self, path: &StorePath) -> Result<Option<Bytes>, StoreError> {
        let read = async { self.inner.records.get(path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(sort_error("read", path, error)),
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
        let payload = bytes.into().into();
        self.inner
            .records
            .put(path, payload)
            .await
            .map_err(|error| sort_error("write", path, error))?;
        Ok(())
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
        match self.inner.records.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(sort_error("ask for", path, error)),
        }
    }

    /// Everything below `prefix`, in no order.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub async fn list(&self, prefix: &StorePath) -> Result<Vec<ObjectMeta>, StoreError> {
        self.inner
            .records
            .list(Some(prefix))
            .try_collect()
            .await
            .map_err(|error| sort_error("list", prefix, error))
    }

    /// The names right below `prefix` that have more below them.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub async fn list_folders(&self, prefix: &StorePath) -> Result<Vec<String>, StoreError> {
        match self.inner.records.list_with_delimiter(Some(prefix)).await {
            Ok(found) => Ok(found
                .common_prefixes
                .iter()
                .filter_map(|path| path.filename().map(str::to_owned))
                .collect()),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(sort_error("list", prefix, error)),
        }
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

    /// Removes everything below `prefix`, and says how many objects that were.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn delete_prefix(&self, prefix: &StorePath) -> Result<u64, StoreError> {
        let paths: Vec<_> = self
            .list(prefix)
            .await?
            .into_iter()
            .map(|meta| Ok(meta.location))
            .collect();
        let count = paths.len() as u64;
        let mut deleted = self
            .inner
            .records
            .delete_stream(futures::stream::iter(paths).boxed());
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(sort_error("delete", prefix, error)),
            }
        }
        if let Some(root) = &self.inner.root {
            // Only empty folders are left. That one stays is no harm: nothing reads them.
            tokio::fs::remove_dir_all(root.join(prefix.as_ref()))
                .await
                .ok();
        }
        Ok(count)
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
        let Some(root) = self.inner.root.clone() else {
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
