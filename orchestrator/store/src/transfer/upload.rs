//! A local file into the store. Small ones go whole; of others each part is read,
//! hashed and sent on its own, as many at once as there is memory for, and a part
//! that fails is sent again alone.

use super::digest::{self, PartHasher};
use super::local::{changed, open_file};
use super::{MIB, PART, Passed, TRIES, again, blocking, pause};
use crate::error::{sort_error, sort_plain};
use crate::transfer::memory::Buffer;
use crate::{ErrorKind, Store, StoreError, StorePath};
use async_trait::async_trait;
use auria_core::Digest;
use blake3::hazmat::ChainingValue;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::client::HttpErrorKind;
use object_store::retry::{RetryContext, RetryFailure, RetryPolicy};
use object_store::{MultipartUpload, ObjectStoreExt, PutMultipartOptions, PutPayload};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Smaller files are read at once with the look at their size.
const SMALL: u64 = MIB;
/// S3 takes 10,000 parts.
const MOST_PARTS: u64 = 10_000;
/// Parts that are read and hashed ahead of those that are sent.
const AHEAD: usize = 3;

/// What the look at a file found.
enum Source {
    /// All of it.
    Small(Bytes),
    /// The file, and its size.
    Large(File, u64),
}

/// The size of the parts of a file: a power of two.
fn part_size(size: u64) -> u64 {
    PART.max(size.div_ceil(MOST_PARTS).next_power_of_two())
}

impl Store {
    /// Writes the file at `local` to `to`. With `expected`, nothing appears at
    /// `to` unless the file has that digest. Durable after [`Store::sync`].
    pub(crate) async fn upload(
        &self,
        local: &Path,
        to: &StorePath,
        expected: Option<Digest>,
    ) -> Result<Passed, StoreError> {
        let path = local.to_owned();
        let room = self.memory().room(SMALL).await;
        let found = blocking(move || {
            let (file, size) = open_file(&path)?;
            if size > SMALL {
                return Ok((Source::Large(file, size), None));
            }
            let bytes = read_all(&file, size, &path)?;
            let digest = Digest::of(&bytes);
            Ok((Source::Small(bytes.into()), Some(digest)))
        })
        .await?;
        match found {
            (Source::Small(bytes), Some(digest)) => {
                self.put_whole(local, to, bytes, digest, expected).await
            }
            (Source::Large(file, size), _) if size <= PART => {
                // Its own size says how much room it takes.
                drop(room);
                let _room = self.memory().room(size).await;
                let path = local.to_owned();
                let (bytes, digest) = blocking(move || {
                    let bytes = read_all(&file, size, &path)?;
                    let digest = Digest::of(&bytes);
                    Ok((Bytes::from(bytes), digest))
                })
                .await?;
                self.put_whole(local, to, bytes, digest, expected).await
            }
            (Source::Large(file, size), _) => {
                drop(room);
                self.put_parts(local, to, file, size, expected).await
            }
            (Source::Small(_), None) => Err(changed(local)),
        }
    }

    async fn put_whole(
        &self,
        local: &Path,
        to: &StorePath,
        bytes: Bytes,
        digest: Digest,
        expected: Option<Digest>,
    ) -> Result<Passed, StoreError> {
        if expected.is_some_and(|expected| expected != digest) {
            return Err(changed(local));
        }
        let size = bytes.len() as u64;
        again(|| async {
            let put = self.data().put(to, bytes.clone().into()).await;
            put.map_err(|error| sort_plain("write", to, error))
        })
        .await?;
        self.has_moved(size);
        Ok(Passed { size, digest })
    }

    async fn put_parts(
        &self,
        local: &Path,
        to: &StorePath,
        file: File,
        size: u64,
        expected: Option<Digest>,
    ) -> Result<Passed, StoreError> {
        let mut upload = again(|| async {
            let options = PutMultipartOptions::default().with_retry_policy(Arc::new(PartAgain));
            let begun = self.data().put_multipart_opts(to, options).await;
            begun.map_err(|error| sort_plain("begin to write", to, error))
        })
        .await?;
        let source = PartSource {
            path: local.to_owned(),
            file: Arc::new(file),
            size,
            part: part_size(size),
        };
        let sent = self.send_parts(upload.as_mut(), to, source).await;
        let sent = sent.and_then(|digest| match expected {
            Some(expected) if expected != digest => Err(changed(local)),
            _ => Ok(Passed { size, digest }),
        });
        let finished = match sent {
            Ok(passed) => self.complete(upload.as_mut(), to, passed).await,
            Err(error) => Err(error),
        };
        if finished.is_err() {
            // The error at hand says more than one about the clearing up.
            upload.abort().await.ok();
        }
        finished
    }

    /// Sends all parts, and says what the digest of the file is.
    async fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        to: &StorePath,
        source: PartSource,
    ) -> Result<Digest, StoreError> {
        let (size, part) = (source.size, source.part);
        let count = size.div_ceil(part);
        let mut hashes = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let mut sending = JoinSet::new();
        let read = futures::stream::iter(0..count)
            .map(|number| {
                let source = source.clone();
                async move {
                    // Asked for in the order of the parts, and granted in it.
                    let buffer = self.memory().buffer(part).await;
                    source.read(number, buffer).await
                }
            })
            .buffered(AHEAD);
        let mut read = std::pin::pin!(read);
        while let Some((bytes, hash)) = read.try_next().await? {
            hashes.push(hash);
            // Its number is its turn: the trait counts the calls.
            let count = bytes.len() as u64;
            let part = upload.put_part(PutPayload::from(bytes));
            sending.spawn(async move { part.await.map(|()| count) });
            while let Some(sent) = sending.try_join_next() {
                self.has_moved(joined(sent, to)?);
            }
        }
        while let Some(sent) = sending.join_next().await {
            self.has_moved(joined(sent, to)?);
        }
        Ok(digest::join(&hashes, part, size))
    }

    /// Makes the parts an object. A store may do that and answer an error, or
    /// nothing: then what is there is read.
    async fn complete(
        &self,
        upload: &mut dyn MultipartUpload,
        to: &StorePath,
        passed: Passed,
    ) -> Result<Passed, StoreError> {
        let Err(error) = upload.complete().await else {
            return Ok(passed);
        };
        let error = sort_error("finish", to, error);
        let unsure = matches!(
            error.kind(),
            ErrorKind::Unreachable | ErrorKind::NotFound | ErrorKind::Conflict
        );
        if unsure && self.check_digest(to, passed).await.is_ok() {
            return Ok(passed);
        }
        Err(match error {
            // No such upload, and no such object: the store lost it, and may take it again.
            StoreError::NotFound { .. } | StoreError::Conflict { .. } => StoreError::Unreachable {
                doing: format!("finish {to}"),
                source: "the store knows nothing of the parts that it took".into(),
            },
            error => error,
        })
    }
}

fn joined(
    sent: Result<object_store::Result<u64>, tokio::task::JoinError>,
    to: &StorePath,
) -> Result<u64, StoreError> {
    let sent = sent.map_err(|source| object_store::Error::JoinError { source });
    sent.and_then(|result| result)
        .map_err(|error| sort_plain("write", to, error))
}

/// Reads all of a file that had `size` bytes, and what it has grown by, up to a part.
fn read_all(file: &File, size: u64, path: &Path) -> Result<Vec<u8>, StoreError> {
    use std::io::Read;
    // One byte more than is expected, so that the end is seen without growing.
    let mut bytes = Vec::with_capacity(usize::try_from(size + 1).unwrap_or(0));
    file.take(PART)
        .read_to_end(&mut bytes)
        .map_err(StoreError::local("read", path))?;
    Ok(bytes)
}

/// A local file, part by part.
#[derive(Clone)]
struct PartSource {
    path: PathBuf,
    file: Arc<File>,
    size: u64,
    part: u64,
}

impl PartSource {
    async fn read(
        self,
        number: u64,
        mut buffer: Buffer,
    ) -> Result<(Bytes, ChainingValue), StoreError> {
        blocking(move || {
            let offset = number * self.part;
            let space = buffer.fill(self.part.min(self.size - offset));
            self.file.read_exact_at(space, offset).map_err(|error| {
                if error.kind() == std::io::ErrorKind::UnexpectedEof {
                    changed(&self.path)
                } else {
                    StoreError::local("read", &self.path)(error)
                }
            })?;
            let mut hasher = PartHasher::at(offset);
            hasher.update(space);
            let hash = hasher.finish();
            Ok((buffer.into_bytes(), hash))
        })
        .await
    }
}

/// Sends a part again, alone, after the store's client gave up on it: the client
/// does not repeat what was answered with a refusal, and a refusal may mean no more
/// than that bytes were changed on the way.
#[derive(Debug)]
struct PartAgain;

#[async_trait]
impl RetryPolicy for PartAgain {
    async fn retry(&self, context: RetryContext) -> bool {
        let again = match context.failure {
            RetryFailure::Status(status) => !matches!(status.as_u16(), 401 | 403 | 404 | 507),
            RetryFailure::Transport(kind) => kind != HttpErrorKind::Decode,
            _ => false,
        };
        let tries = u32::try_from(context.attempt).unwrap_or(u32::MAX);
        if again && tries < TRIES {
            pause(tries).await;
            return true;
        }
        false
    }
}
