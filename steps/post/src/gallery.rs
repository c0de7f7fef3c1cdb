//! A gallery: entries under `entries/KEY/` and the page `index.html`, in a folder or under a
//! prefix of an object store.
//!
//! Called by `main.rs`. Two rules keep posts that run at once from losing each other. An entry is
//! created, never replaced: its pictures first and `entry.json` last, so an entry that is listed
//! is whole, and the same work posted twice is one entry. The page is replaced only if it is still
//! the one that was read *before* the entries were listed; otherwise it is rendered again. So the
//! last page written was rendered after every earlier page, and holds every entry that had made
//! one. This module never deletes.

use std::fs::File;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    Attribute, Attributes, Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    UpdateVersion,
};
use rand::Rng;

use crate::entry::{COLOURED_FILE, ENTRY_FILE, Entry, PAINTING_FILE};
use crate::page;
use crate::work::{Work, record};

/// The page's name.
pub const PAGE_FILE: &str = "index.html";
/// The file whose lock orders the writers of a folder's page; the kernel frees it at their death.
pub const LOCK_FILE: &str = ".gallery.lock";

/// Entries read at the same time: enough to hide a store's latency, few enough for one connection
/// pool.
const PARALLEL_READS: usize = 16;
/// Renders of the page before giving up. Each lost race is another post's success, so this many
/// posts would have to finish in one second or two.
const MOST_RENDERS: u32 = 200;
/// Longest pause between two renders.
const LONGEST_PAUSE: Duration = Duration::from_millis(1000);

/// What can go wrong with a gallery.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    /// The address names no store that this program knows.
    #[error("cannot open the gallery {gallery}: {source}")]
    Open {
        /// The address as given.
        gallery: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A read, list or write failed.
    #[error("cannot {what}: {source}")]
    Store {
        /// What was attempted.
        what: String,
        /// What the store says.
        source: StoreError,
    },
    /// An entry cannot be understood.
    #[error("the gallery holds an entry that is not one, {path}: {source}")]
    Entry {
        /// The object.
        path: Path,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The lock of a folder's page cannot be taken.
    #[error("cannot lock {path}: {source}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others kept replacing the page.
    #[error(
        "the entry is posted, but the page was replaced by others {MOST_RENDERS} times while it \
         was rendered; `auria-post page` renders it again"
    )]
    PageBusy,
}

/// What posting a work came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    /// The entry as the gallery holds it: of the same work posted before, the first one.
    pub entry: Entry,
    /// False when the work was there already.
    pub new: bool,
    /// How many entries the page shows.
    pub shown: usize,
}

/// How a page is kept from losing an entry.
#[derive(Clone, Debug)]
enum Order {
    /// A folder: one writer at a time holds the lock.
    Lock(PathBuf),
    /// An object store: conditional puts.
    Version,
}

/// An open gallery.
#[derive(Clone, Debug)]
pub struct Gallery {
    store: Arc<dyn ObjectStore>,
    order: Order,
}

impl Gallery {
    /// Opens a folder (made if absent), or `s3://bucket/prefix`. `options` are the settings of the
    /// store, named as in the environment (`AWS_ENDPOINT`, `AWS_ACCESS_KEY_ID`, …).
    ///
    /// # Errors
    /// When the address or the settings make no store.
    pub fn open(
        gallery: &str,
        options: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, GalleryError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| GalleryError::Open {
            gallery: gallery.to_owned(),
            source,
        };
        let folder = match url::Url::parse(gallery) {
            Ok(url) if url.scheme() == "file" => url
                .to_file_path()
                .map_err(|()| failed("a file: address must name an absolute path".into()))?,
            Ok(url) => {
                let (store, prefix) = object_store::parse_url_opts(&url, options)
                    .map_err(|error| failed(error.into()))?;
                return Ok(Self::over(Arc::new(PrefixStore::new(
                    Arc::<dyn ObjectStore>::from(store),
                    prefix,
                ))));
            }
            Err(_) => PathBuf::from(gallery),
        };
        std::fs::create_dir_all(&folder).map_err(|error| failed(error.into()))?;
        let store =
            LocalFileSystem::new_with_prefix(&folder).map_err(|error| failed(error.into()))?;
        Ok(Self {
            store: Arc::new(store),
            order: Order::Lock(folder.join(LOCK_FILE)),
        })
    }

    /// A gallery in a store with conditional puts.
    #[must_use]
    pub fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            order: Order::Version,
        }
    }

    /// Posts a work: its pictures, its entry, then the page.
    ///
    /// # Errors
    /// When the store fails, or others keep replacing the page.
    pub async fn post(&self, work: &Work) -> Result<Posted, GalleryError> {
        let folder = Path::from("entries").join(work.entry.key.as_str());
        for (name, bytes) in [
            (PAINTING_FILE, &work.painting),
            (COLOURED_FILE, &work.coloured),
        ] {
            self.create(&folder.clone().join(name), bytes.clone(), "image/png")
                .await?;
        }
        let path = folder.join(ENTRY_FILE);
        let new = self
            .create(&path, Bytes::from(record(&work.entry)), "application/json")
            .await?;
        let entry = if new {
            work.entry.clone()
        } else {
            self.read(path).await?.unwrap_or_else(|| work.entry.clone())
        };
        let shown = self.render().await?;
        Ok(Posted { entry, new, shown })
    }

    /// Renders the page from the entries and says how many it shows.
    ///
    /// # Errors
    /// When the store fails, or others keep replacing the page.
    pub async fn render(&self) -> Result<usize, GalleryError> {
        match &self.order {
            Order::Lock(path) => {
                let _held = lock(path.clone()).await?;
                let entries = self.entries().await?;
                self.put_page(page::render(&entries), PutMode::Overwrite)
                    .await?;
                Ok(entries.len())
            }
            Order::Version => self.render_by_version().await,
        }
    }

    /// Every entry, newest first.
    ///
    /// # Errors
    /// When the store fails, or an `entry.json` cannot be understood.
    pub async fn entries(&self) -> Result<Vec<Entry>, GalleryError> {
        let listed = self
            .store
            .list_with_delimiter(Some(&Path::from("entries")))
            .await
            .map_err(|source| GalleryError::Store {
                what: "list the gallery's entries".to_owned(),
                source,
            })?;
        let mut entries: Vec<Entry> = futures::stream::iter(listed.common_prefixes)
            .map(|folder| self.read(folder.join(ENTRY_FILE)))
            .buffer_unordered(PARALLEL_READS)
            .try_filter_map(|entry| async move { Ok(entry) })
            .try_collect()
            .await?;
        entries.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.key.cmp(&b.key)));
        Ok(entries)
    }

    async fn render_by_version(&self) -> Result<usize, GalleryError> {
        for round in 1..=MOST_RENDERS {
            // The page's version is read before the entries are listed: see the module's head.
            let current = self.current_page().await?;
            let entries = self.entries().await?;
            let rendered = page::render(&entries);
            let mode = match current {
                Some((_, text)) if text == rendered.as_bytes() => return Ok(entries.len()),
                Some((version, _)) => PutMode::Update(version),
                None => PutMode::Create,
            };
            match self.put_page(rendered, mode).await {
                Ok(()) => return Ok(entries.len()),
                Err(GalleryError::Store {
                    source: StoreError::Precondition { .. } | StoreError::AlreadyExists { .. },
                    ..
                }) => tokio::time::sleep(pause(round)).await,
                Err(error) => return Err(error),
            }
        }
        Err(GalleryError::PageBusy)
    }

    async fn current_page(&self) -> Result<Option<(UpdateVersion, Bytes)>, GalleryError> {
        let failed = |source| GalleryError::Store {
            what: format!("read the gallery's {PAGE_FILE}"),
            source,
        };
        match self.store.get(&Path::from(PAGE_FILE)).await {
            Ok(found) => {
                let version = UpdateVersion {
                    e_tag: found.meta.e_tag.clone(),
                    version: found.meta.version.clone(),
                };
                let text = found.bytes().await.map_err(failed)?;
                Ok(Some((version, text)))
            }
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed(source)),
        }
    }

    async fn put_page(&self, text: String, mode: PutMode) -> Result<(), GalleryError> {
        let options = self.options("text/html; charset=utf-8", mode);
        self.store
            .put_opts(&Path::from(PAGE_FILE), Bytes::from(text).into(), options)
            .await
            .map(drop)
            .map_err(|source| GalleryError::Store {
                what: format!("write the gallery's {PAGE_FILE}"),
                source,
            })
    }

    /// True when the object is new, false when it was there.
    async fn create(
        &self,
        path: &Path,
        bytes: Bytes,
        content_type: &'static str,
    ) -> Result<bool, GalleryError> {
        let options = self.options(content_type, PutMode::Create);
        match self.store.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(StoreError::AlreadyExists { .. }) => Ok(false),
            Err(source) => Err(GalleryError::Store {
                what: format!("write {path} into the gallery"),
                source,
            }),
        }
    }

    /// `None` for a folder whose entry is not there yet.
    async fn read(&self, path: Path) -> Result<Option<Entry>, GalleryError> {
        let failed = |source| GalleryError::Store {
            what: format!("read {path} from the gallery"),
            source,
        };
        let text = match self.store.get(&path).await {
            Ok(found) => found.bytes().await.map_err(failed)?,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| GalleryError::Entry { path, source })
    }

    fn options(&self, content_type: &'static str, mode: PutMode) -> PutOptions {
        // A folder keeps no content types, and object_store refuses them there.
        let attributes = match self.order {
            Order::Lock(_) => Attributes::new(),
            Order::Version => Attributes::from_iter([(Attribute::ContentType, content_type)]),
        };
        PutOptions {
            mode,
            attributes,
            ..PutOptions::default()
        }
    }
}

/// Waits for the lock in a thread of its own, as the wait can be as long as others' renders.
async fn lock(path: PathBuf) -> Result<File, GalleryError> {
    let opened = path.clone();
    let taken = tokio::task::spawn_blocking(move || lock_file(&opened))
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    taken.map_err(|source| GalleryError::Lock { path, source })
}

fn lock_file(path: &FsPath) -> std::io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    file.lock()?;
    Ok(file)
}

/// Grows with the rounds, and differs between those who lost the same race.
fn pause(round: u32) -> Duration {
    let longest = Duration::from_millis(10)
        .saturating_mul(1 << round.min(7))
        .min(LONGEST_PAUSE);
    longest.mul_f64(rand::rng().random_range(0.1..1.0))
}
