//! One file into the store and out of it: in parts, in bounded memory, with its
//! digest taken while the bytes pass. It knows nothing of manifests.

use crate::error::sort_error;
use crate::store::IN_FLIGHT_MIB;
use crate::tree::MODE_BITS;
use crate::{Store, StoreError, StorePath};
use auria_core::Digest;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{GetResultPayload, MultipartUpload, ObjectStoreExt, PutPayload};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

const MIB: u64 = 1024 * 1024;
/// Larger files go in parts of this size, and come in ranges of it.
const PART: u64 = 8 * MIB;
/// S3 takes 10,000 parts; some are kept back for a file that grows.
const MOST_PARTS: u64 = 9_000;
/// Parts or ranges of one file that are under way at once.
const PARTS_AT_ONCE: usize = 4;
/// A read that the store broke off is begun anew this often.
const TRIES: u32 = 3;

/// What passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StoreError::Unreachable {
            doing: "work on files".into(),
            source: Box::new(error),
        }),
    }
}

impl Store {
    /// Memory for `bytes` more in flight; waits until there is room.
    async fn room(&self, bytes: u64) -> OwnedSemaphorePermit {
        let mib = u32::try_from(bytes.div_ceil(MIB))
            .unwrap_or(u32::MAX)
            .clamp(1, IN_FLIGHT_MIB);
        match std::sync::Arc::clone(self.in_flight())
            .acquire_many_owned(mib)
            .await
        {
            Ok(permit) => permit,
            // Nobody closes this semaphore, and a future that never ends is no answer.
            Err(error) => unreachable!("{error}"),
        }
    }

    /// Writes the file at `local` to `to`. With `expected`, nothing appears at
    /// `to` unless the file has that digest. Durable after [`Store::sync`].
    pub(crate) async fn upload(
        &self,
        local: &Path,
        to: &StorePath,
        expected: Option<Digest>,
    ) -> Result<Passed, StoreError> {
        let path = local.to_owned();
        let (file, size) = blocking(move || open_file(&path)).await?;
        let part_size = PART.max(size.div_ceil(MOST_PARTS));
        let permit = self.room(size.min(part_size)).await;
        let reader = Reader {
            path: local.to_owned(),
            file,
            hasher: blake3::Hasher::new(),
            size: 0,
            expected: size,
        };
        let (reader, first) = reader.next(part_size).await?;
        if (first.len() as u64) < part_size {
            let passed = reader.finish(expected)?;
            let put = self.data().put(to, first.into()).await;
            put.map_err(|error| sort_error("write", to, error))?;
            return Ok(passed);
        }
        let upload = self.data().put_multipart(to).await;
        let mut upload = upload.map_err(|error| sort_error("begin to write", to, error))?;
        let sent = self
            .upload_parts(
                upload.as_mut(),
                to,
                reader,
                first,
                permit,
                part_size,
                expected,
            )
            .await;
        if sent.is_err() {
            // The error at hand says more than one about the clearing up.
            upload.abort().await.ok();
        }
        sent
    }

    #[expect(clippy::too_many_arguments, reason = "one half of `upload`")]
    async fn upload_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        to: &StorePath,
        mut reader: Reader,
        first: Bytes,
        permit: OwnedSemaphorePermit,
        part_size: u64,
        expected: Option<Digest>,
    ) -> Result<Passed, StoreError> {
        let failed = |error| sort_error("write", to, error);
        let mut parts = JoinSet::new();
        let mut next = (first, permit);
        loop {
            let (bytes, permit) = next;
            let part = upload.put_part(PutPayload::from(bytes));
            parts.spawn(async move {
                let result = part.await;
                drop(permit);
                result
            });
            while parts.len() >= PARTS_AT_ONCE {
                joined(parts.join_next().await).map_err(failed)?;
            }
            let permit = self.room(part_size).await;
            let (after, bytes) = reader.next(part_size).await?;
            reader = after;
            if bytes.is_empty() {
                break;
            }
            next = (bytes, permit);
        }
        while !parts.is_empty() {
            joined(parts.join_next().await).map_err(failed)?;
        }
        let passed = reader.finish(expected)?;
        upload
            .complete()
            .await
            .map_err(|error| sort_error("finish", to, error))?;
        Ok(passed)
    }

    /// Reads `from`, which is to be `expected`, into the file `to` with these
    /// permission bits. Nothing is at `to` until all of it is there and right.
    pub(crate) async fn download(
        &self,
        from: &StorePath,
        expected: Passed,
        to: &Path,
        mode: u32,
    ) -> Result<(), StoreError> {
        let mut tries = 0;
        let staged = staged(to);
        loop {
            tries += 1;
            let result = self.download_once(from, expected, &staged, to, mode).await;
            if result.is_err() {
                tokio::fs::remove_file(&staged).await.ok();
            }
            match result {
                Err(error) if error.is_transient() && tries < TRIES => {
                    let jitter = rand::Rng::random_range(&mut rand::rng(), 0.5..1.5);
                    tokio::time::sleep(
                        Duration::from_millis(200 * u64::from(tries)).mul_f64(jitter),
                    )
                    .await;
                }
                result => return result,
            }
        }
    }

    async fn download_once(
        &self,
        from: &StorePath,
        expected: Passed,
        staged: &Path,
        to: &Path,
        mode: u32,
    ) -> Result<(), StoreError> {
        let writer = Writer::create(staged).await?;
        let writer = if expected.size <= PART || self.root().is_some() {
            self.read_whole(from, expected.size, writer).await?
        } else {
            self.read_ranges(from, expected.size, writer).await?
        };
        let (from, staged, to) = (from.clone(), staged.to_owned(), to.to_owned());
        blocking(move || {
            let Writer {
                path,
                file,
                hasher,
                size,
            } = writer;
            let found = Passed {
                size,
                digest: hasher.finalize().into(),
            };
            check(&from, expected, found)?;
            let permissions = std::fs::Permissions::from_mode(mode & MODE_BITS);
            file.set_permissions(permissions)
                .map_err(StoreError::local("set the mode of", path))?;
            std::fs::rename(&staged, &to).map_err(StoreError::local("write", to))
        })
        .await
    }

    async fn read_whole(
        &self,
        from: &StorePath,
        size: u64,
        writer: Writer,
    ) -> Result<Writer, StoreError> {
        let _permit = self.room(size.min(PART)).await;
        let found = self
            .data()
            .get(from)
            .await
            .map_err(|error| sort_error("read", from, error))?;
        if found.meta.size != size {
            let sizes = (
                format!("{size} bytes"),
                format!("{} bytes", found.meta.size),
            );
            return Err(StoreError::corrupt(from, sizes.0, sizes.1));
        }
        match found.payload {
            GetResultPayload::File(file, path) => writer.copy(file, path).await,
            GetResultPayload::Stream(stream) => {
                let chunks: Vec<Bytes> = stream
                    .try_collect()
                    .await
                    .map_err(|error| sort_error("read", from, error))?;
                writer.write(chunks).await
            }
        }
    }

    async fn read_ranges(
        &self,
        from: &StorePath,
        size: u64,
        mut writer: Writer,
    ) -> Result<Writer, StoreError> {
        let ranges =
            (0..size.div_ceil(PART)).map(|number| number * PART..((number + 1) * PART).min(size));
        let mut pieces = futures::stream::iter(ranges)
            .map(|range| async move {
                // Permits are granted in the order asked for, so that of each file
                // the range that is to be written next has one before the later.
                let permit = self.room(range.end - range.start).await;
                let piece = self.data().get_range(from, range.clone()).await;
                let piece = piece.map_err(|error| sort_error("read", from, error))?;
                if piece.len() as u64 == range.end - range.start {
                    Ok((piece, permit))
                } else {
                    Err(StoreError::corrupt(from, format!("{size} bytes"), "fewer"))
                }
            })
            .buffered(PARTS_AT_ONCE);
        while let Some((piece, permit)) = pieces.try_next().await? {
            writer = writer.write(vec![piece]).await?;
            drop(permit);
        }
        Ok(writer)
    }

    /// The digest of what is at `from`, in bounded memory.
    pub(crate) async fn check_digest(
        &self,
        from: &StorePath,
        expected: Passed,
    ) -> Result<(), StoreError> {
        let _permit = self.room(PART.min(expected.size)).await;
        let failed = |error| sort_error("read", from, error);
        let mut stream = self.data().get(from).await.map_err(failed)?.into_stream();
        let mut hasher = blake3::Hasher::new();
        let mut size = 0;
        while let Some(bytes) = stream.try_next().await.map_err(failed)? {
            size += bytes.len() as u64;
            hasher.update(&bytes);
        }
        check(
            from,
            expected,
            Passed {
                size,
                digest: hasher.finalize().into(),
            },
        )
    }
}

fn check(what: &StorePath, expected: Passed, found: Passed) -> Result<(), StoreError> {
    if found == expected {
        return Ok(());
    }
    let text = |passed: Passed| format!("{} bytes, {}", passed.size, passed.digest);
    Err(StoreError::corrupt(what, text(expected), text(found)))
}

fn joined(
    result: Option<Result<object_store::Result<()>, tokio::task::JoinError>>,
) -> object_store::Result<()> {
    match result {
        None => Ok(()),
        Some(Ok(result)) => result,
        Some(Err(source)) => Err(object_store::Error::JoinError { source }),
    }
}

/// Opens a regular file; a link is not followed, since what is walked and what
/// is read must be the same.
fn open_file(path: &Path) -> Result<(File, u64), StoreError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path);
    let file = opened.map_err(StoreError::local("read", path))?;
    let meta = file.metadata().map_err(StoreError::local("read", path))?;
    if meta.is_file() {
        return Ok((file, meta.len()));
    }
    Err(StoreError::Unsuitable {
        path: path.to_owned(),
        why: "it is no longer a file".into(),
    })
}

/// The size and digest of a local file. Blocks.
pub(crate) fn hash_file(path: &Path) -> Result<Passed, StoreError> {
    let (mut file, _) = open_file(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; MIB as usize];
    let mut size = 0;
    loop {
        let count = read_some(&mut file, &mut buffer).map_err(StoreError::local("read", path))?;
        if count == 0 {
            return Ok(Passed {
                size,
                digest: hasher.finalize().into(),
            });
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The name under which a download grows, beside where it will be. It cannot be
/// longer than a file system allows, whatever the file is called.
fn staged(to: &Path) -> PathBuf {
    let name = to
        .file_name()
        .map_or(&[][..], |name| name.as_encoded_bytes());
    to.with_file_name(format!(".auria-{}.part", &Digest::of(name).hex()[..16]))
}

/// Reads a local file part by part.
struct Reader {
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    size: u64,
    /// What the file's metadata said.
    expected: u64,
}

impl Reader {
    /// The next `part` bytes; fewer only at the end.
    async fn next(mut self, part: u64) -> Result<(Self, Bytes), StoreError> {
        blocking(move || {
            // One byte more than is expected, so that the end is seen without growing.
            let left = self.expected.saturating_sub(self.size).saturating_add(1);
            let mut bytes = Vec::with_capacity(usize::try_from(left.min(part)).unwrap_or(0));
            (&mut self.file)
                .take(part)
                .read_to_end(&mut bytes)
                .map_err(StoreError::local("read", &self.path))?;
            self.hasher.update(&bytes);
            self.size += bytes.len() as u64;
            Ok((self, Bytes::from(bytes)))
        })
        .await
    }

    fn finish(self, expected: Option<Digest>) -> Result<Passed, StoreError> {
        let digest = Digest::from(self.hasher.finalize());
        if expected.is_none_or(|expected| expected == digest) {
            return Ok(Passed {
                size: self.size,
                digest,
            });
        }
        Err(StoreError::Unsuitable {
            path: self.path,
            why: "it changed while it was being read; submit again".into(),
        })
    }
}

/// Writes a local file.
struct Writer {
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    size: u64,
}

impl Writer {
    async fn create(path: &Path) -> Result<Self, StoreError> {
        let path = path.to_owned();
        blocking(move || {
            // What an interrupted fetch left is not trusted, and a link never followed.
            std::fs::remove_file(&path).ok();
            let created = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            let file = created.map_err(StoreError::local("write", &path))?;
            Ok(Self {
                path,
                file,
                hasher: blake3::Hasher::new(),
                size: 0,
            })
        })
        .await
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .map_err(StoreError::local("write", &self.path))
    }

    async fn write(mut self, chunks: Vec<Bytes>) -> Result<Self, StoreError> {
        blocking(move || {
            chunks.iter().try_for_each(|bytes| self.put(bytes))?;
            Ok(self)
        })
        .await
    }

    async fn copy(mut self, mut from: File, path: PathBuf) -> Result<Self, StoreError> {
        blocking(move || {
            let mut buffer = vec![0; MIB as usize];
            loop {
                let count =
                    read_some(&mut from, &mut buffer).map_err(StoreError::local("read", &path))?;
                if count == 0 {
                    return Ok(self);
                }
                self.put(&buffer[..count])?;
            }
        })
        .await
    }
}
