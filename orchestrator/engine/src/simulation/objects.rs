//! The store of a schedule: objects in memory, reached through the world's network.
//! Each process has its own way to it, so that it is known who asks.

use super::play;
use super::points::{Actor, Effect};
use super::world::{Asked, Fault, Object, Pid, Shared, Verb, World, request};
use async_trait::async_trait;
use auria_store::{Store, StorePath as Path};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The store as process `pid` has it.
pub(super) fn store(world: &Shared, pid: Pid) -> Store {
    Store::over(Arc::new(Objects {
        world: world.clone(),
        pid,
    }))
}

struct Objects {
    world: Shared,
    pid: Pid,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Objects({})", self.pid)
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

fn not_found(path: &str) -> Error {
    Error::NotFound {
        path: path.to_owned(),
        source: "nothing is there".into(),
    }
}

fn exists(path: &str) -> Error {
    Error::AlreadyExists {
        path: path.to_owned(),
        source: "it is there".into(),
    }
}

fn answer(fault: Fault, path: &str) -> Error {
    let generic = |source: Box<dyn std::error::Error + Send + Sync>| Error::Generic {
        store: "simulated",
        source,
    };
    match fault {
        Fault::Fails | Fault::AppliedThenFails => generic("500 Internal Server Error".into()),
        Fault::AppliedThenSilent => generic("operation timed out".into()),
        Fault::AppliedThenExists | Fault::Busy => exists(path),
        Fault::Full => generic(Box::new(std::io::Error::from(
            std::io::ErrorKind::StorageFull,
        ))),
    }
}

/// `written` is a time of the store's clock, in milliseconds since 1970.
fn meta(path: &str, size: usize, written: u64) -> ObjectMeta {
    ObjectMeta {
        location: Path::parse(path).unwrap_or_default(),
        last_modified: (UNIX_EPOCH + Duration::from_millis(written)).into(),
        size: size as u64,
        e_tag: None,
        version: None,
    }
}

fn unsupported(what: &str) -> Error {
    Error::NotSupported {
        source: format!("the simulation's store does not {what}").into(),
    }
}

impl Objects {
    async fn ask<T: Send + 'static>(
        &self,
        effect: Effect,
        verb: Verb,
        path: &Path,
        what: impl FnOnce() -> String,
        apply: impl FnOnce(&mut World) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let asked = Asked {
            pid: self.pid,
            effect,
            verb,
            what: what(),
        };
        match request(&self.world, asked, apply).await {
            Ok(answer) => answer,
            Err(fault) => Err(answer(fault, path.as_ref())),
        }
    }

    fn is_traced(&self) -> bool {
        self.world.lock().trace.is_some()
    }
}

impl World {
    /// When the object at `path` was written, by the store's clock.
    fn stored_at(&self, path: &str) -> u64 {
        let at = play::BEGIN.plus_millis(self.written_ms(path)).0;
        u64::try_from(at + self.clock_skew_ms).unwrap_or(0)
    }

    fn put(
        &mut self,
        pid: Pid,
        path: &str,
        bytes: Bytes,
        object: &Object,
        create: bool,
    ) -> Result<()> {
        let same = match self.objects.get(path) {
            Some(_) if create => return Err(exists(path)),
            there => there.map(|there| *there == bytes),
        };
        self.wrote(path);
        if let Some(same) = same {
            if same {
                return Ok(());
            }
            if object.is_once() {
                self.violated(format!("{path} is overwritten"));
            }
        }
        if matches!(object, Object::Tombstone) {
            self.marks(&bytes);
        }
        self.objects.insert(path.to_owned(), bytes);
        self.stands(pid, path, object);
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for Objects {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let create = matches!(options.mode, PutMode::Create);
        let bytes = Bytes::from(payload);
        let object = Object::of(path.as_ref(), &bytes);
        let effect = Effect::of(&object);
        let verb = if create { Verb::Create } else { Verb::Write };
        let what = || {
            if self.is_traced() {
                format!("{}: {path}{}", effect.name(), object.detail())
            } else {
                String::new()
            }
        };
        let what = what();
        let (pid, at) = (self.pid, path.to_string());
        if object.is_decided() {
            let mut world = self.world.lock();
            let now = world.elapsed_ms();
            world.sent.entry((pid, at.clone())).or_insert(now);
        }
        self.ask(
            effect,
            verb,
            path,
            || what,
            move |world| world.put(pid, &at, bytes, &object, create),
        )
        .await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Default::default(),
        })
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(unsupported("upload in parts"))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let at = path.to_string();
        let (bytes, written) = self
            .ask(Effect::Read, Verb::Read, path, String::new, move |world| {
                let bytes = world.objects.get(&at).cloned();
                let bytes = bytes.ok_or_else(|| not_found(&at))?;
                Ok((bytes, world.stored_at(&at)))
            })
            .await?;
        let meta = meta(path.as_ref(), bytes.len(), written);
        let range = match options.range {
            Some(range) => range
                .as_range(bytes.len() as u64)
                .map_err(|source| Error::Generic {
                    store: "simulated",
                    source: Box::new(source),
                })?,
            None => 0..bytes.len() as u64,
        };
        let part = bytes.slice(range.start as usize..range.end as usize);
        let part = if options.head { Bytes::new() } else { part };
        Ok(GetResult {
            payload: GetResultPayload::Stream(
                futures::stream::once(std::future::ready(Ok(part))).boxed(),
            ),
            meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    async fn get_ranges(&self, path: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        let whole = self
            .get_opts(path, GetOptions::default())
            .await?
            .bytes()
            .await?;
        Ok(ranges
            .iter()
            .map(|range| whole.slice(range.start as usize..range.end as usize))
            .collect())
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (world, pid) = (self.world.clone(), self.pid);
        locations
            .then(move |path| {
                let world = world.clone();
                async move {
                    let path = path?;
                    let objects = Objects { world, pid };
                    let is_checkpoint = path.as_ref().contains("/checkpoints/");
                    let launcher = objects.world.lock().processes[pid].actor == Actor::Launcher;
                    let effect = if is_checkpoint && launcher {
                        Effect::RemoveCheckpoint
                    } else {
                        Effect::Remove
                    };
                    let at = path.to_string();
                    objects
                        .ask(
                            effect,
                            Verb::Write,
                            &path,
                            || format!("remove: {path}"),
                            move |world| {
                                world.removes(pid, &at);
                                world.objects.remove(&at);
                                Ok(())
                            },
                        )
                        .await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned().unwrap_or_default();
        let objects = Objects {
            world: self.world.clone(),
            pid: self.pid,
        };
        async move {
            let below = format!("{prefix}/");
            let found = objects
                .ask(
                    Effect::List,
                    Verb::Read,
                    &prefix,
                    String::new,
                    move |world| {
                        let found = world
                            .objects
                            .range(below.clone()..)
                            .take_while(|(path, _)| path.starts_with(&below));
                        Ok(found
                            .map(|(path, bytes)| Ok(meta(path, bytes.len(), world.stored_at(path))))
                            .collect::<Vec<_>>())
                    },
                )
                .await;
            match found {
                Ok(found) => futures::stream::iter(found).boxed(),
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            }
        }
        .flatten_stream()
        .boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        self.list(prefix)
            .filter(move |found| {
                let later = found.as_ref().is_ok_and(|meta| meta.location > offset);
                std::future::ready(later || found.is_err())
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let mut found = self.list(Some(&prefix));
        let mut objects = Vec::new();
        let mut common = BTreeSet::new();
        while let Some(meta) = found.next().await {
            let meta = meta?;
            let mut rest = meta.location.as_ref()[prefix.as_ref().len() + 1..].split('/');
            match (rest.next(), rest.next()) {
                (Some(folder), Some(_)) => drop(common.insert(prefix.clone().join(folder))),
                _ => objects.push(meta),
            }
        }
        Ok(ListResult {
            common_prefixes: common.into_iter().collect(),
            objects,
            extensions: Default::default(),
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, _: CopyOptions) -> Result<()> {
        let bytes = self
            .get_opts(from, GetOptions::default())
            .await?
            .bytes()
            .await?;
        self.put_opts(to, bytes.into(), PutOptions::default())
            .await?;
        Ok(())
    }
}

impl Object {
    /// What a trace says besides the path.
    fn detail(&self) -> String {
        match self {
            Self::Log {
                record: Some(record),
                ..
            } => format!("  epoch {} {:?}", record.epoch, record.decision),
            Self::Claim { claim: Some(claim) } => format!("  nonce {}", claim.nonce),
            Self::End { end: Some(end) } => format!(
                "  {:?} {}{}",
                end.cause,
                end.message,
                if end.published.is_some() {
                    " (published)"
                } else {
                    ""
                }
            ),
            Self::Outcome {
                outcome: Some(outcome),
                ..
            } => format!(
                "  {:?} attempt {:?} {}",
                outcome.status,
                outcome.attempt,
                outcome.message.as_deref().unwrap_or("")
            ),
            Self::RunEnd { end: Some(end), .. } => format!("  {:?} {:?}", end.status, end.counts),
            _ => String::new(),
        }
    }
}
