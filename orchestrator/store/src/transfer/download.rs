//! A file out of the store. Large ones come in ranges, many at once, each written
//! and hashed where it belongs; a range that breaks off goes on where it was. All
//! ranges are of one version of the object, and what comes is taken only when the
//! digest of all of it is the one that is expected.

use super::digest::{self, PartHasher};
use super::local::{Staged, finish, is_there};
use super::{MIB, PART, Passed, TRIES, again, blocking, check, pause};
use crate::error::sort_plain;
use crate::{ErrorKind, Store, StoreError, StorePath};
use auria_core::Digest;
use blake3::hazmat::ChainingValue;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Ranges of one file that are under way at once.
const RANGES_AT_ONCE: usize = 12;
/// Bytes of a range that are gathered before they are written.
const GATHERED: u64 = MIB;
/// What a range holds in memory: what is gathered, and what the connection has read.
const RANGE_ROOM: u64 = 2 * MIB;

/// Where a file comes from: an object in ranges, of one version, or a local file.
#[derive(Clone, Debug)]
struct Origin {
    from: StorePath,
    size: u64,
    version: Option<String>,
    /// The object itself, where the store is a folder.
    file: Option<Arc<File>>,
}

impl Store {
    /// Reads `from`, which is to be `expected`, into the file `to` with these
    /// permission bits. Nothing is at `to` until all of it is there and right.
    pub(crate) async fn download(
        &self,
        from: &StorePath,
        expected: Passed,
        to: &Path,
        mode: u32,
    ) -> Result<(), StoreError> {
        let place = to.to_owned();
        if blocking(move || Ok(is_there(&place, expected, mode))).await? {
            // As an earlier fetch left it that was cut short.
            self.has_moved(expected.size);
            return Ok(());
        }
        let once = || async {
            if expected.size <= PART {
                again(|| self.download_whole(from, expected, to, mode)).await
            } else {
                self.download_ranges(from, expected, to, mode).await
            }
        };
        match once().await {
            // Bytes that were changed on the way are right the next time; what is
            // damaged in the store stays so.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!("{error}; reading it once more");
                pause(1).await;
                once().await
            }
            result => result,
        }
    }

    async fn download_whole(
        &self,
        from: &StorePath,
        expected: Passed,
        to: &Path,
        mode: u32,
    ) -> Result<(), StoreError> {
        let _room = self.memory().room(expected.size).await;
        let found = self.get(from, GetOptions::default()).await?;
        check_size(from, expected.size, found.meta.size)?;
        let chunks = match found.payload {
            GetResultPayload::Stream(stream) => gather(from, stream, expected.size).await?,
            GetResultPayload::File(file, path) => {
                blocking(move || {
                    use std::io::Read;
                    let mut bytes = Vec::with_capacity(usize::try_from(expected.size).unwrap_or(0));
                    file.take(expected.size)
                        .read_to_end(&mut bytes)
                        .map_err(StoreError::local("read", path))?;
                    Ok(vec![Bytes::from(bytes)])
                })
                .await?
            }
        };
        let (from, to) = (from.clone(), to.to_owned());
        blocking(move || {
            let mut hasher = blake3::Hasher::new();
            let mut size = 0;
            for bytes in &chunks {
                hasher.update(bytes);
                size += bytes.len() as u64;
            }
            let digest = hasher.finalize().into();
            check(&from, expected, Passed { size, digest })?;
            let staged = Staged::create(&to)?;
            let mut offset = 0;
            for bytes in &chunks {
                staged.write_at(bytes, offset)?;
                offset += bytes.len() as u64;
            }
            staged.finish(mode)
        })
        .await?;
        self.has_moved(expected.size);
        Ok(())
    }

    async fn download_ranges(
        &self,
        from: &StorePath,
        expected: Passed,
        to: &Path,
        mode: u32,
    ) -> Result<(), StoreError> {
        let place = to.to_owned();
        let staged = Arc::new(blocking(move || Staged::create(&place)).await?);
        let digest = self.read_ranges(from, expected.size, Some(&staged)).await?;
        let size = expected.size;
        check(from, expected, Passed { size, digest })?;
        // Every range is done: nobody else holds it.
        finish(staged, mode).await
    }

    /// Reads one version of an object of `size` bytes, whose digest nobody knows, into
    /// the file `to`.
    pub(crate) async fn download_version(
        &self,
        from: &StorePath,
        size: u64,
        version: Option<String>,
        to: &Path,
        mode: u32,
    ) -> Result<(), StoreError> {
        let place = to.to_owned();
        let staged = Arc::new(blocking(move || Staged::create(&place)).await?);
        let origin = Origin {
            from: from.clone(),
            size,
            version,
            file: None,
        };
        self.read_parts(&origin, Some(&staged)).await?;
        finish(staged, mode).await
    }

    /// Whether what is at `from` is `expected`: all of it is read, and kept nowhere.
    pub(crate) async fn check_digest(
        &self,
        from: &StorePath,
        expected: Passed,
    ) -> Result<(), StoreError> {
        let digest = if expected.size <= PART {
            let _room = self.memory().room(expected.size).await;
            again(|| async {
                let found = self.get(from, GetOptions::default()).await?;
                check_size(from, expected.size, found.meta.size)?;
                let bytes = found.bytes().await;
                bytes
                    .map(|bytes| Digest::of(&bytes))
                    .map_err(|error| sort_plain("read", from, error))
            })
            .await?
        } else {
            again(|| self.read_ranges(from, expected.size, None)).await?
        };
        let size = expected.size;
        check(from, expected, Passed { size, digest })
    }

    /// Reads an object of `size` bytes, more than a part, and says what its digest is.
    async fn read_ranges(
        &self,
        from: &StorePath,
        size: u64,
        to: Option<&Arc<Staged>>,
    ) -> Result<Digest, StoreError> {
        let meta = again(|| async {
            let options = GetOptions::default().with_head(true);
            Ok(self.get(from, options).await?.meta)
        })
        .await?;
        check_size(from, size, meta.size)?;
        let file = match self.root() {
            None => None,
            Some(_) => match self.get(from, GetOptions::default()).await?.payload {
                GetResultPayload::File(file, _) => Some(Arc::new(file)),
                GetResultPayload::Stream(_) => None,
            },
        };
        let origin = Origin {
            from: from.clone(),
            size,
            version: meta.e_tag,
            file,
        };
        let parts = self.read_parts(&origin, to).await?;
        Ok(digest::join(&parts, PART, size))
    }

    /// All parts of a file, and what each adds to its digest.
    async fn read_parts(
        &self,
        origin: &Origin,
        to: Option<&Arc<Staged>>,
    ) -> Result<Vec<ChainingValue>, StoreError> {
        let parts: BTreeMap<u64, ChainingValue> =
            futures::stream::iter(0..origin.size.div_ceil(PART))
                .map(|number| {
                    let (origin, to) = (origin.clone(), to.cloned());
                    async move { Ok((number, self.read_range(origin, number * PART, to).await?)) }
                })
                .buffer_unordered(RANGES_AT_ONCE)
                .try_collect()
                .await?;
        Ok(parts.into_values().collect())
    }

    /// The part of a file that begins at `start`.
    async fn read_range(
        &self,
        origin: Origin,
        start: u64,
        to: Option<Arc<Staged>>,
    ) -> Result<ChainingValue, StoreError> {
        let _room = self.memory().room(RANGE_ROOM).await;
        let mut range = Range {
            hasher: PartHasher::at(start),
            at: start,
            end: (start + PART).min(origin.size),
            to,
            gathered: Vec::new(),
        };
        if let Some(file) = origin.file {
            let count = range.end - start;
            let hash = blocking(move || range.copy(&file, &origin.from)).await?;
            self.has_moved(count);
            return Ok(hash);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let before = range.at;
            let (after, result) = self.go_on(&origin, range).await;
            range = after?;
            self.has_moved(range.at - before);
            match result {
                Ok(()) => return Ok(range.hasher.finish()),
                Err(error) if error.is_transient() && tries < TRIES => {
                    if range.at > before {
                        // It goes on from here; a store that gives nothing ends it.
                        tries = 1;
                    }
                    pause(tries).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads on from where `range` is. What came before the store broke it off is kept.
    async fn go_on(
        &self,
        origin: &Origin,
        mut range: Range,
    ) -> (Result<Range, StoreError>, Result<(), StoreError>) {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.at..range.end)),
            if_match: origin.version.clone(),
            ..GetOptions::default()
        };
        let found = match self.get(&origin.from, options).await {
            Ok(found) => found,
            Err(error) => return (Ok(range), Err(error)),
        };
        if let Err(error) = origin.check(&found) {
            return (Ok(range), Err(error));
        }
        let mut stream = found.into_stream();
        let result = loop {
            match stream.try_next().await {
                // Copied, so that the connection has its own buffer back.
                Ok(Some(bytes)) => range.gathered.extend_from_slice(&bytes),
                Ok(None) if range.next() == range.end => break Ok(()),
                Ok(None) => break Err(cut_short(&origin.from, range.next(), range.end)),
                Err(error) => break Err(sort_plain("read", &origin.from, error)),
            }
            if range.next() > range.end {
                let expected = format!("{} bytes", range.end - range.at);
                return (
                    Ok(range),
                    Err(StoreError::corrupt(&origin.from, expected, "more")),
                );
            }
            if range.gathered.len() as u64 >= GATHERED {
                range = match range.put().await {
                    Ok(range) => range,
                    // The disk: nothing to go on with.
                    error => return (error, Ok(())),
                };
            }
        };
        (range.put().await, result)
    }

    async fn get(&self, from: &StorePath, options: GetOptions) -> Result<GetResult, StoreError> {
        let found = self.data().get_opts(from, options).await;
        found.map_err(|error| match error {
            object_store::Error::Precondition { .. } => {
                StoreError::corrupt(from, "the same object to its end", "another version of it")
            }
            error => sort_plain("read", from, error),
        })
    }
}

impl Origin {
    /// Whether an answer is of the same object as the first.
    fn check(&self, found: &GetResult) -> Result<(), StoreError> {
        check_size(&self.from, self.size, found.meta.size)?;
        match (&self.version, &found.meta.e_tag) {
            (Some(first), Some(now)) if first != now => Err(StoreError::corrupt(
                &self.from,
                format!("version {first} to its end"),
                format!("version {now}"),
            )),
            _ => Ok(()),
        }
    }
}

/// One part of a file on its way.
struct Range {
    hasher: PartHasher,
    /// The next byte.
    at: u64,
    end: u64,
    to: Option<Arc<Staged>>,
    /// What came and is not written yet.
    gathered: Vec<u8>,
}

impl Range {
    /// The next byte to come.
    fn next(&self) -> u64 {
        self.at + self.gathered.len() as u64
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        if let Some(to) = &self.to {
            to.write_at(bytes, self.at)?;
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    async fn put(mut self) -> Result<Self, StoreError> {
        if self.gathered.is_empty() {
            return Ok(self);
        }
        blocking(move || {
            let mut gathered = std::mem::take(&mut self.gathered);
            self.take(&gathered)?;
            gathered.clear();
            self.gathered = gathered;
            Ok(self)
        })
        .await
    }

    /// All of it from a local file. Blocks.
    fn copy(&mut self, file: &File, from: &StorePath) -> Result<ChainingValue, StoreError> {
        let mut buffer = vec![0; MIB as usize];
        while self.at < self.end {
            let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
            let space = &mut buffer[..left.min(MIB as usize)];
            let count = match file.read_at(space, self.at) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.map_err(StoreError::local("read", from.as_ref()))?,
            };
            if count == 0 {
                return Err(cut_short(from, self.at, self.end));
            }
            self.take(&buffer[..count])?;
        }
        Ok(self.hasher.finish())
    }
}

fn cut_short(from: &StorePath, at: u64, end: u64) -> StoreError {
    StoreError::Unreachable {
        doing: format!("read {from}"),
        source: format!("it ended at byte {at}, and was to go on to byte {end}").into(),
    }
}

fn check_size(from: &StorePath, expected: u64, found: u64) -> Result<(), StoreError> {
    if expected == found {
        return Ok(());
    }
    let sizes = (format!("{expected} bytes"), format!("{found} bytes"));
    Err(StoreError::corrupt(from, sizes.0, sizes.1))
}

/// All that `stream` gives, and no more than `size` bytes of it.
async fn gather(
    from: &StorePath,
    mut stream: futures::stream::BoxStream<'static, object_store::Result<Bytes>>,
    size: u64,
) -> Result<Vec<Bytes>, StoreError> {
    let mut chunks = Vec::new();
    let mut count = 0;
    while let Some(bytes) = stream
        .try_next()
        .await
        .map_err(|error| sort_plain("read", from, error))?
    {
        count += bytes.len() as u64;
        if count > size {
            return Err(StoreError::corrupt(from, format!("{size} bytes"), "more"));
        }
        chunks.push(bytes);
    }
    if count < size {
        return Err(cut_short(from, count, size));
    }
    Ok(chunks)
}
