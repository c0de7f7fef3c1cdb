//! A store that fails as real ones do: it applies a write and answers 500, 409,
//! "exists" or nothing; it does not apply it; it dies in the middle. What happens
//! to which operation is a function of the test's.

use crate::Store;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
    UploadPart,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What is asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A plain write.
    Put,
    /// A write if absent.
    Create,
    /// The begin of a multipart upload.
    Begin,
    /// One part of it.
    Part,
    /// Its completion.
    Complete,
    /// Its abort.
    Abort,
    /// A read.
    Get,
    /// A list.
    List,
    /// A copy or rename.
    Copy,
}

/// One thing asked of the store.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What.
    pub verb: Verb,
    /// Of which object or prefix.
    pub path: String,
}

/// What the store does instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing, and answers 500.
    Fails,
    /// What was asked, and answers 500.
    AppliedThenFails,
    /// What was asked, and never answers; the client gives up.
    AppliedThenSilent,
    /// What was asked, and answers "exists", as to its own retried write.
    AppliedThenExists,
    /// Nothing, and answers 409, as while others write.
    Busy,
    /// Nothing: the disk is full.
    Full,
    /// Nothing: this file system has no hard links.
    NoHardLinks,
    /// Nothing: there is no such bucket.
    NoBucket,
    /// Overwrites where it was to create, as some clones of S3 do.
    IgnoresCondition,
}

type Script = Arc<dyn Fn(&Operation) -> Option<Fault> + Send + Sync>;

/// `store`, with the faults that `script` names for each operation.
#[must_use]
pub fn faulty(
    store: &Store,
    script: impl Fn(&Operation) -> Option<Fault> + Send + Sync + 'static,
) -> Store {
    let script: Script = Arc::new(script);
    store.wrapped(|inner| {
        Arc::new(Faulty {
            inner,
            script: Arc::clone(&script),
        })
    })
}

struct Faulty {
    inner: Arc<dyn ObjectStore>,
    script: Script,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?})", self.inner)
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

impl Faulty {
    fn fault(&self, verb: Verb, path: &Path) -> Option<Fault> {
        (self.script)(&Operation {
            verb,
            path: path.to_string(),
        })
    }
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic {
        store: "faulty",
        source: source.into(),
    }
}

fn exists(path: &Path) -> object_store::Error {
    object_store::Error::AlreadyExists {
        path: path.to_string(),
        source: "injected".into(),
    }
}

impl Fault {
    /// Whether the store does what was asked before it answers.
    fn applies(self) -> bool {
        matches!(
            self,
            Self::AppliedThenFails | Self::AppliedThenSilent | Self::AppliedThenExists
        )
    }

    fn answer(self, path: &Path) -> object_store::Error {
        match self {
            Self::Fails | Self::AppliedThenFails | Self::IgnoresCondition => {
                generic("500 Internal Server Error")
            }
            Self::AppliedThenSilent => generic("operation timed out"),
            Self::AppliedThenExists | Self::Busy => exists(path),
            Self::Full => generic(std::io::Error::from(std::io::ErrorKind::StorageFull)),
            Self::NoBucket => object_store::Error::NotFound {
                path: path.to_string(),
                source: "NoSuchBucket".into(),
            },
            Self::NoHardLinks => generic(std::io::Error::from_raw_os_error(nix::libc::EPERM)),
        }
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let verb = if matches!(options.mode, PutMode::Create) {
            Verb::Create
        } else {
            Verb::Put
        };
        match self.fault(verb, path) {
            None => self.inner.put_opts(path, payload, options).await,
            Some(Fault::IgnoresCondition) => {
                options.mode = PutMode::Overwrite;
                self.inner.put_opts(path, payload, options).await
            }
            Some(fault) => {
                if fault.applies() {
                    self.inner.put_opts(path, payload, options).await?;
                }
                Err(fault.answer(path))
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if let Some(fault) = self.fault(Verb::Begin, path) {
            return Err(fault.answer(path));
        }
        let inner = self.inner.put_multipart_opts(path, options).await?;
        Ok(Box::new(FaultyUpload {
            inner,
            path: path.clone(),
            script: Arc::clone(&self.script),
        }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fault(Verb::Get, path) {
            Some(fault) => Err(fault.answer(path)),
            None => self.inner.get_opts(path, options).await,
        }
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match self.fault(Verb::Get, path) {
            Some(fault) => Err(fault.answer(path)),
            None => self.inner.get_ranges(path, ranges).await,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let path = prefix.cloned().unwrap_or_default();
        match self.fault(Verb::List, &path) {
            Some(fault) => futures::stream::once(async move { Err(fault.answer(&path)) }).boxed(),
            None => self.inner.list(prefix),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        match self.fault(Verb::List, &path) {
            Some(fault) => Err(fault.answer(&path)),
            None => self.inner.list_with_delimiter(prefix).await,
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match self.fault(Verb::Copy, to) {
            Some(fault) => Err(fault.answer(to)),
            None => self.inner.copy_opts(from, to, options).await,
        }
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        match self.fault(Verb::Copy, to) {
            Some(fault) => Err(fault.answer(to)),
            None => self.inner.rename_opts(from, to, options).await,
        }
    }
}

struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    path: Path,
    script: Script,
}

impl fmt::Debug for FaultyUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyUpload({:?})", self.inner)
    }
}

impl FaultyUpload {
    fn fault(&self, verb: Verb) -> Option<Fault> {
        (self.script)(&Operation {
            verb,
            path: self.path.to_string(),
        })
    }
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.fault(Verb::Part) {
            Some(fault) => {
                let error = fault.answer(&self.path);
                async move { Err(error) }.boxed()
            }
            None => self.inner.put_part(data),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        match self.fault(Verb::Complete) {
            Some(fault) => {
                if fault.applies() {
                    self.inner.complete().await?;
                }
                Err(fault.answer(&self.path))
            }
            None => self.inner.complete().await,
        }
    }

    async fn abort(&mut self) -> Result<()> {
        match self.fault(Verb::Abort) {
            Some(fault) => Err(fault.answer(&self.path)),
            None => self.inner.abort().await,
        }
    }
}
