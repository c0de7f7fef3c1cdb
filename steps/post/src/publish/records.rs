//! Where records of posts and their pictures lie: below `posts/` of the gallery, in a folder or
//! under a prefix of an object store. Who may write a record is decided in [`super::claim`].

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    Attribute, Attributes, Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    UpdateVersion,
};

use super::record::{Kind, Record, VERSION};

/// For as long a signed address counts: as long as Instagram keeps a container.
const SIGNED_FOR: Duration = Duration::from_secs(24 * 3600);
/// Records that are listed: ten years of two networks.
const MOST_LISTED: usize = 8000;

/// Bytes of a record or a picture that are read; a picture has 5 MB at most.
const MOST_BYTES: u64 = 8 << 20;

/// What can go wrong with records.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The address names no place.
    #[error("cannot open {place} for records: {source}")]
    Open {
        /// The address as given.
        place: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of a folder failed.
    #[error("cannot {what}: {source}")]
    File {
        /// What was attempted.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// An object of a store failed.
    #[error("cannot {what}: {source}")]
    Object {
        /// What was attempted.
        what: String,
        /// What the store says.
        source: StoreError,
    },
    /// A record cannot be understood.
    #[error("{path} is no record of a post: {source}")]
    Unreadable {
        /// The record.
        path: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// It is none of ours.
    #[error("{path} is longer than {MOST_BYTES} bytes: it is neither a record nor a picture")]
    TooLong {
        /// The file or object.
        path: String,
    },
    /// A record of a program that is newer than this one.
    #[error(
        "{path} is a record of version {version}, and this program knows {VERSION}: use the one that wrote it"
    )]
    Newer {
        /// The record.
        path: String,
        /// Its version.
        version: u32,
    },
    /// Another process is at it.
    #[error(
        "another process is at the post of {day} on {network}, and was still after {seconds} s: run this again later"
    )]
    Busy {
        /// The day.
        day: String,
        /// The network.
        network: Kind,
        /// How long this one waited.
        seconds: u64,
    },
    /// Another process took it over.
    #[error(
        "another process took the post of {day} on {network} over: this one stopped before it called for anything more"
    )]
    Lost {
        /// The day.
        day: String,
        /// The network.
        network: Kind,
    },
}

/// The place of records.
#[derive(Clone, Debug)]
pub enum Records {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A prefix of a bucket.
    Bucket {
        /// The bucket.
        store: Arc<AmazonS3>,
        /// The prefix.
        prefix: Path,
    },
}

impl Records {
    /// Opens a folder, or `s3://bucket/prefix` with `options` named as in the environment.
    ///
    /// # Errors
    /// When the address or the settings make no place.
    pub fn open(
        place: &str,
        options: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, RecordsError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| RecordsError::Open {
            place: place.to_owned(),
            source,
        };
        let url = match url::Url::parse(place) {
            Err(_) => return Ok(Self::Folder(PathBuf::from(place))),
            Ok(url) if url.scheme() == "file" => {
                let path = url.to_file_path();
                return path
                    .map(Self::Folder)
                    .map_err(|()| failed("a file: address must name an absolute path".into()));
            }
            Ok(url) if url.scheme() == "s3" => url,
            Ok(_) => {
                return Err(failed(
                    "it is neither a folder nor s3://BUCKET/PREFIX".into(),
                ));
            }
        };
        let mut builder = AmazonS3Builder::new().with_url(place);
        for (name, value) in options {
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        let prefix = Path::from_url_path(url.path()).map_err(|error| failed(error.into()))?;
        let store = builder.build().map_err(|error| failed(error.into()))?;
        Ok(Self::Bucket {
            store: Arc::new(store),
            prefix,
        })
    }

    /// Writes an object that is not there yet; one that is stays as it is.
    ///
    /// # Errors
    /// When the place fails.
    pub async fn keep(&self, path: &str, bytes: &[u8]) -> Result<(), RecordsError> {
        match self {
            Self::Folder(root) => {
                let file = root.join(path);
                if file.exists() {
                    return Ok(());
                }
                write_file(&file, bytes, 0o644).map_err(|source| of_file("write", path, source))
            }
            Self::Bucket { store, prefix } => {
                let options = PutOptions {
                    mode: PutMode::Create,
                    attributes: Attributes::from_iter([(Attribute::ContentType, "image/jpeg")]),
                    ..PutOptions::default()
                };
                let at = below(prefix, path);
                match store.put_opts(&at, bytes.to_vec().into(), options).await {
                    Ok(_) | Err(StoreError::AlreadyExists { .. }) => Ok(()),
                    Err(source) => Err(of_object("write", path, source)),
                }
            }
        }
    }

    /// Reads an object; none where there is none.
    ///
    /// # Errors
    /// When the place fails.
    pub async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, RecordsError> {
        Ok(self.read_version(path).await?.map(|(bytes, _)| bytes))
    }

    /// Whether this place can sign addresses.
    #[must_use]
    pub fn signs(&self) -> bool {
        matches!(self, Self::Bucket { .. })
    }

    /// An address by which everyone can read an object for a day; none of a folder.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub async fn signed(&self, path: &str) -> Result<Option<url::Url>, RecordsError> {
        let Self::Bucket { store, prefix } = self else {
            return Ok(None);
        };
        store
            .signed_url(http::Method::GET, &below(prefix, path), SIGNED_FOR)
            .await
            .map(Some)
            .map_err(|source| of_object("sign an address for", path, source))
    }

    /// Every record, newest day first.
    ///
    /// # Errors
    /// When the place fails, or a record cannot be understood.
    pub async fn list(&self) -> Result<Vec<Record>, RecordsError> {
        let mut paths = Vec::new();
        match self {
            Self::Folder(root) => {
                let entries = |path: PathBuf| -> Vec<String> {
                    let read = std::fs::read_dir(path).into_iter().flatten().flatten();
                    read.filter_map(|entry| entry.file_name().into_string().ok())
                        .collect()
                };
                for day in entries(root.join("posts")) {
                    for file in entries(root.join("posts").join(&day)) {
                        paths.push(format!("posts/{day}/{file}"));
                    }
                }
            }
            Self::Bucket { store, prefix } => {
                let all = below(prefix, "posts");
                let listed: Vec<_> = store
                    .list(Some(&all))
                    .try_collect()
                    .await
                    .map_err(|source| of_object("list", "posts", source))?;
                for meta in listed {
                    if let Some(parts) = meta.location.prefix_match(prefix) {
                        let parts: Vec<String> =
                            parts.map(|part| part.as_ref().to_owned()).collect();
                        paths.push(parts.join("/"));
                    }
                }
            }
        }
        paths.retain(|path| path.ends_with(".json"));
        paths.sort_by(|one, other| other.cmp(one));
        paths.truncate(MOST_LISTED);
        let mut records = Vec::new();
        for path in paths {
            if let Some((bytes, _)) = self.read_version(&path).await? {
                records.push(understood(&path, &bytes)?);
            }
        }
        records.sort_by(|one, other| (&other.day, one.network).cmp(&(&one.day, other.network)));
        Ok(records)
    }

    /// The record of a day on a network, as it stands.
    ///
    /// # Errors
    /// When the place fails, or the record cannot be understood.
    pub async fn show(&self, day: &str, network: Kind) -> Result<Option<Record>, RecordsError> {
        let path = record_path(day, network);
        match self.read_version(&path).await? {
            Some((bytes, _)) => understood(&path, &bytes).map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn read_version(
        &self,
        path: &str,
    ) -> Result<Option<(Vec<u8>, UpdateVersion)>, RecordsError> {
        match self {
            Self::Folder(root) => match read_file(&root.join(path)) {
                Ok(bytes) if bytes.len() as u64 > MOST_BYTES => Err(too_long(path)),
                Ok(bytes) => {
                    let version = UpdateVersion {
                        e_tag: None,
                        version: None,
                    };
                    Ok(Some((bytes, version)))
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(of_file("read", path, source)),
            },
            Self::Bucket { store, prefix } => {
                let failed = |source| of_object("read", path, source);
                match store.get(&below(prefix, path)).await {
                    Ok(found) if found.meta.size > MOST_BYTES => Err(too_long(path)),
                    Ok(found) => {
                        let version = UpdateVersion {
                            e_tag: found.meta.e_tag.clone(),
                            version: found.meta.version.clone(),
                        };
                        let bytes = found.bytes().await.map_err(failed)?;
                        Ok(Some((bytes.to_vec(), version)))
                    }
                    Err(StoreError::NotFound { .. }) => Ok(None),
                    Err(source) => Err(failed(source)),
                }
            }
        }
    }
}

pub(super) fn record_path(day: &str, network: Kind) -> String {
    format!("posts/{day}/{network}.json")
}

pub(super) fn understood(path: &str, bytes: &[u8]) -> Result<Record, RecordsError> {
    let record: Record =
        serde_json::from_slice(bytes).map_err(|source| RecordsError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
    if record.version > VERSION {
        return Err(RecordsError::Newer {
            path: path.to_owned(),
            version: record.version,
        });
    }
    Ok(record)
}

fn too_long(path: &str) -> RecordsError {
    RecordsError::TooLong {
        path: path.to_owned(),
    }
}

/// A file, or a little more of it than may be.
fn read_file(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn below(prefix: &Path, path: &str) -> Path {
    path.split('/')
        .fold(prefix.clone(), |path, part| path.join(part))
}

/// Writes a whole file under a temporary name, and returns when it and its name are on the disk.
pub(super) fn write_file(path: &std::path::Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = path.parent().unwrap_or(std::path::Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

pub(super) fn of_file(what: &str, path: &str, source: std::io::Error) -> RecordsError {
    RecordsError::File {
        what: format!("{what} {path}"),
        source,
    }
}

pub(super) fn of_object(what: &str, path: &str, source: StoreError) -> RecordsError {
    RecordsError::Object {
        what: format!("{what} {path}"),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_record_of_ours_is_not_read_whole_or_written_over() {
        let root = tempfile::tempdir().unwrap();
        let records = Records::Folder(root.path().to_owned());
        let path = root.path().join(record_path("2026-11-30", Kind::X));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let shown = records.show("2026-11-30", Kind::X).await;
        assert!(matches!(shown, Err(RecordsError::TooLong { .. })));
        let newer = serde_json::json!({
            "version": 2, "network": "x", "day": "2026-11-30", "state": "posted", "work": "",
            "marker": "", "caption": "", "alt": "", "picture": "",
            "since": "2026-11-30T06:00:00Z", "changed": "2026-11-30T06:00:00Z",
        });
        std::fs::write(&path, newer.to_string()).unwrap();
        let shown = records.show("2026-11-30", Kind::X).await;
        assert!(matches!(shown, Err(RecordsError::Newer { version: 2, .. })));
    }
}
