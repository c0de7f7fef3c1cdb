//! Who is at a record: one process at a time.
//!
//! In a folder it holds a lock, which the kernel frees at its death. In a store every write
//! carries the version that was read, so that of two one is refused, and a record that names an
//! owner is taken over once it has stood unchanged for longer than any of its calls can take. No
//! clock of another machine counts.

use std::fs::File;
use std::time::{Duration, Instant};

use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error as StoreError, ObjectStore, PutMode, PutOptions, UpdateVersion,
};
use time::OffsetDateTime;

use super::record::{Record, State};
use super::records::{
    Records, RecordsError, below, of_file, of_object, record_path, understood, write_file,
};

/// Between two looks at a record that another process is at.
const LOOK: Duration = Duration::from_millis(200);

impl Records {
    /// Makes the record or takes it, once no other process is at it. A post that is there needs
    /// nobody and is given as it stands.
    ///
    /// # Errors
    /// When another process is at it for longer than `patience`, or the place fails.
    pub async fn claim(
        &self,
        first: Record,
        owner: &str,
        takeover: Duration,
        patience: Duration,
    ) -> Result<Claim<'_>, RecordsError> {
        let path = record_path(&first.day, first.network);
        let begun = Instant::now();
        let lock = match self {
            Self::Folder(root) => Some(self.lock(root, &first, patience).await?),
            Self::Bucket { .. } => None,
        };
        let mut seen: Option<(UpdateVersion, Instant)> = None;
        loop {
            let found = self.read_version(&path).await?;
            let (record, version) = match found {
                None => (first.clone(), None),
                Some((bytes, version)) => (understood(&path, &bytes)?, Some(version)),
            };
            let mut claim = Claim {
                records: self,
                record,
                version,
                path: path.clone(),
                lock: None,
            };
            if claim.record.state == State::Posted {
                return Ok(claim);
            }
            let is_anothers = lock.is_none() && claim.record.owner.is_some();
            if is_anothers && let Some(version) = &claim.version {
                let since = match &seen {
                    Some((before, since)) if before == version => *since,
                    _ => Instant::now(),
                };
                seen = Some((version.clone(), since));
                if since.elapsed() < takeover {
                    if begun.elapsed() > patience {
                        return Err(busy(&first, patience));
                    }
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            }
            let taken = claim.write(|record| record.owner = Some(owner.to_owned()));
            match taken.await {
                Ok(()) => {
                    claim.lock = lock;
                    return Ok(claim);
                }
                Err(RecordsError::Lost { .. }) => tokio::time::sleep(LOOK).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn lock(
        &self,
        root: &std::path::Path,
        record: &Record,
        patience: Duration,
    ) -> Result<File, RecordsError> {
        let folder = root.join("posts").join(&record.day);
        let path = folder.join(format!(".{}.lock", record.network));
        let failed = |source| of_file("lock", &path.display().to_string(), source);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::WouldBlock) if begun.elapsed() <= patience => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(std::fs::TryLockError::WouldBlock) => return Err(busy(record, patience)),
                Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }
}

/// A record that this process alone is at.
#[derive(Debug)]
pub struct Claim<'a> {
    records: &'a Records,
    record: Record,
    version: Option<UpdateVersion>,
    path: String,
    /// Held until this is dropped.
    lock: Option<File>,
}

impl Claim<'_> {
    /// As it was last written.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The place of the record.
    #[must_use]
    pub fn records(&self) -> &Records {
        self.records
    }

    /// Changes the record: when this returns, it is written so that no crash takes it back.
    ///
    /// # Errors
    /// When another process has it, or the place fails.
    pub async fn write(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), RecordsError> {
        let mut record = self.record.clone();
        change(&mut record);
        record.changed = OffsetDateTime::now_utc();
        // A record holds texts, numbers and times only, so it always has a JSON form.
        let mut bytes = serde_json::to_vec_pretty(&record).unwrap_or_default();
        bytes.push(b'\n');
        match self.records {
            Records::Folder(root) => {
                write_file(&root.join(&self.path), &bytes, 0o644)
                    .map_err(|source| of_file("write", &self.path, source))?;
            }
            Records::Bucket { store, prefix } => {
                self.version = Some(self.put(store, prefix, bytes, &record).await?);
            }
        }
        self.record = record;
        Ok(())
    }

    async fn put(
        &self,
        store: &AmazonS3,
        prefix: &Path,
        bytes: Vec<u8>,
        record: &Record,
    ) -> Result<UpdateVersion, RecordsError> {
        let options = PutOptions {
            mode: match &self.version {
                Some(version) => PutMode::Update(version.clone()),
                None => PutMode::Create,
            },
            attributes: Attributes::from_iter([(Attribute::ContentType, "application/json")]),
            ..PutOptions::default()
        };
        let at = below(prefix, &self.path);
        match store.put_opts(&at, bytes.clone().into(), options).await {
            Ok(put) => Ok(put.into()),
            Err(StoreError::Precondition { .. } | StoreError::AlreadyExists { .. }) => {
                // A write whose answer was lost, and which the client repeated, is refused
                // because of itself.
                match self.records.read_version(&self.path).await? {
                    Some((found, version)) if found == bytes => Ok(version),
                    _ => Err(RecordsError::Lost {
                        day: record.day.clone(),
                        network: record.network,
                    }),
                }
            }
            Err(source) => Err(of_object("write", &self.path, source)),
        }
    }
}

fn busy(record: &Record, patience: Duration) -> RecordsError {
    RecordsError::Busy {
        day: record.day.clone(),
        network: record.network,
        seconds: patience.as_secs(),
    }
}
