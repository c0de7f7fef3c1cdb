//! The objects behind a broker as an [`ObjectStore`]: what the rest of this crate asks of
//! a store, in requests. Small records go through the broker; data goes by signed URLs
//! where there are such, and through the broker where the object store cannot be reached.

use super::Remote;
use super::call::{Answer, Request, of_problem};
use super::lines::lines;
use super::upload::RemoteUpload;
use crate::StorePath;
use crate::transfer::pause;
use async_trait::async_trait;
use auria_core::protocol::{
    self, BeginParts, Begun, Deleted, ListLine, Listed, MOST_DELETED, ObjectLine, Paths, SignFor,
    Written,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use md5::Digest as _;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A line of a list is shorter.
const LONGEST_LINE: usize = 64 * 1024;
/// Something that broke off, or whose URL had grown old, is asked for so often.
pub(super) const TRIES: u32 = 3;

/// How data goes.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// Through the broker.
    Through,
    /// Straight, by signed URLs, as long as the object store can be reached.
    Straight(Arc<Mutex<Reach>>),
}

/// Whether the object store can be reached from here.
#[derive(Debug, Default)]
pub(super) struct Reach {
    closed: Option<Closed>,
}

/// It could not be reached.
#[derive(Debug)]
struct Closed {
    /// Until when it is not tried again.
    until: Instant,
    /// How long that is.
    pause: Duration,
    /// One tries it again: of many that fail together, the way is closed by the first.
    tried: bool,
}

/// After a connection that could not be made, data goes through the broker for so long.
const CLOSED: Duration = Duration::from_secs(15);
/// Each time it cannot be made again, for twice as long, up to this.
const LONGEST_CLOSED: Duration = Duration::from_secs(10 * 60);

impl Way {
    pub(super) fn straight() -> Self {
        Self::Straight(Arc::default())
    }

    /// Whether to try the straight way. Where it was closed for a while, one tries it again,
    /// and the others wait for what it finds.
    fn is_straight(&self, now: Instant) -> bool {
        let Self::Straight(reach) = self else {
            return false;
        };
        let mut reach = reach.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(closed) = &mut reach.closed else {
            return true;
        };
        if now < closed.until {
            return false;
        }
        (closed.until, closed.tried) = (now + closed.pause, true);
        true
    }

    /// The object store is out of reach from here, at this moment.
    fn close(&self, now: Instant) {
        let Self::Straight(reach) = self else { return };
        let mut reach = reach.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = match &reach.closed {
            None => {
                tracing::warn!(
                    "the object store cannot be reached from here; data goes through the broker"
                );
                CLOSED
            }
            Some(closed) if closed.tried => (closed.pause * 2).min(LONGEST_CLOSED),
            Some(_) => return,
        };
        reach.closed = Some(Closed {
            until: now + pause,
            pause,
            tried: false,
        });
    }

    /// The object store answered.
    fn open(&self) {
        let Self::Straight(reach) = self else { return };
        let mut reach = reach.lock().unwrap_or_else(PoisonError::into_inner);
        if reach.closed.take().is_some() {
            tracing::info!("the object store can be reached again");
        }
    }
}

/// The objects behind a broker.
#[derive(Clone)]
pub(super) struct RemoteObjects {
    pub(super) remote: Remote,
    way: Way,
}

impl RemoteObjects {
    pub(super) fn new(remote: Remote, way: Way) -> Self {
        Self { remote, way }
    }
}

impl fmt::Debug for RemoteObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteObjects({:?}, {:?})", self.remote, self.way)
    }
}

impl fmt::Display for RemoteObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store behind {}", self.remote.0.line)
    }
}

/// What went straight to the object store.
pub(super) enum Straight<T> {
    Done(T),
    /// It goes through the broker instead.
    Through,
}

impl RemoteObjects {
    /// Sends `body` or nothing straight to the object store, by a URL for `to`; asks for
    /// a new one where it was refused.
    pub(super) async fn straight(
        &self,
        path: &StorePath,
        to: SignFor,
        method: Method,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Straight<Answer>> {
        if !self.way.is_straight(Instant::now()) {
            return Ok(Straight::Through);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let signed = self.remote.signed(path, to.clone()).await;
            let Some(url) = signed.map_err(|failed| failed.as_error(path))? else {
                return Ok(Straight::Through);
            };
            let line = self.remote.data().map_err(|failed| failed.as_error(path))?;
            let payload = PutPayload::from(body.clone().unwrap_or_default());
            let sent = line.send_to(method.clone(), &url, headers.clone(), payload.into());
            let failed = match sent.await {
                Ok(answer) => {
                    self.way.open();
                    return Ok(Straight::Done(answer));
                }
                Err(failed) => failed,
            };
            if failed.is_unconnected() {
                self.way.close(Instant::now());
                return Ok(Straight::Through);
            }
            let again = failed.is_transient() || failed.status() == Some(StatusCode::FORBIDDEN);
            if !again || tries == TRIES {
                return Err(failed.as_error(path));
            }
            pause(tries).await;
        }
    }

    /// Sends an object's bytes, small ones.
    async fn put_whole(&self, path: &StorePath, bytes: Bytes) -> Result<PutResult> {
        let headers = checked(&bytes);
        let straight = self.straight(
            path,
            SignFor::Put,
            Method::PUT,
            headers.clone(),
            Some(bytes.clone()),
        );
        match straight.await? {
            Straight::Done(answer) => {
                let e_tag = answer.text(header::ETAG);
                arrived(path, &bytes, e_tag.as_deref())?;
                Ok(PutResult {
                    e_tag,
                    version: answer.text("x-amz-version-id"),
                    extensions: Default::default(),
                })
            }
            Straight::Through => self.put_through(path, "overwrite", headers, bytes).await,
        }
    }

    async fn put_through(
        &self,
        path: &StorePath,
        mode: &str,
        headers: HeaderMap,
        bytes: Bytes,
    ) -> Result<PutResult> {
        let request = Request::new(Method::PUT, protocol::OBJECT)
            .with("path", path)
            .with("mode", mode)
            .headers(headers)
            .body(PutPayload::from(bytes));
        let answer = self.send(path, request).await?;
        let written: Written = self.json(path, answer).await?;
        Ok(written_result(written))
    }

    pub(super) async fn send(&self, path: &StorePath, request: Request) -> Result<Answer> {
        let sent = self.remote.send(request).await;
        sent.map_err(|failed| failed.as_error(path))
    }

    pub(super) async fn json<T: serde::de::DeserializeOwned>(
        &self,
        path: &StorePath,
        answer: Answer,
    ) -> Result<T> {
        answer.json().await.map_err(|failed| failed.as_error(path))
    }

    /// Posts a small body and reads a small answer.
    pub(super) async fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &StorePath,
        to: &'static str,
        body: &impl serde::Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|error| generic(Box::new(error)))?;
        let request = Request::new(Method::POST, to).json(body.into());
        let answer = self.send(path, request).await?;
        self.json(path, answer).await
    }
}

pub(super) fn written_result(written: Written) -> PutResult {
    PutResult {
        e_tag: written.e_tag,
        version: written.version,
        extensions: Default::default(),
    }
}

/// What lets the receiver compare: a sum that S3 and the broker know.
pub(super) fn checked(bytes: &[u8]) -> HeaderMap {
    let sum = crate::content_md5(bytes);
    let mut headers = HeaderMap::new();
    if let Ok(sum) = HeaderValue::from_str(&sum) {
        headers.insert(HeaderName::from_static("content-md5"), sum);
    }
    headers
}

/// Whether the ETag of what was just written is that of `bytes`, where it looks like one.
pub(super) fn arrived(path: &StorePath, bytes: &[u8], e_tag: Option<&str>) -> Result<()> {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let tag = e_tag.map(|tag| tag.trim_matches('"'));
    let is_sum = |tag: &&str| tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    match tag.filter(is_sum) {
        Some(tag) if !tag.eq_ignore_ascii_case(&hex(&md5::Md5::digest(bytes))) => Err(generic(
            format!("{path} came otherwise than it was sent").into(),
        )),
        _ => Ok(()),
    }
}

pub(super) fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic {
        store: "broker",
        source,
    }
}

/// The headers of a read.
fn read_headers(options: &GetOptions) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let range = options.range.as_ref().map(|range| match range {
        GetRange::Bounded(range) => {
            format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
        }
        GetRange::Offset(offset) => format!("bytes={offset}-"),
        GetRange::Suffix(count) => format!("bytes=-{count}"),
    });
    let values = [
        (header::RANGE, range.as_ref()),
        (header::IF_MATCH, options.if_match.as_ref()),
        (header::IF_NONE_MATCH, options.if_none_match.as_ref()),
    ];
    for (name, value) in values {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

/// What an answer holds of an object.
fn found(path: &StorePath, answer: Answer) -> Result<GetResult> {
    let lacks = |what: &str| generic(format!("the answer does not tell {what} of {path}").into());
    let length: Option<u64> = answer.number(header::CONTENT_LENGTH);
    // `bytes 0-9/100`
    let part = answer.text(header::CONTENT_RANGE).and_then(|text| {
        let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (from, to) = range.split_once('-')?;
        let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
        Some((from..to + 1, size.parse::<u64>().ok()?))
    });
    let (range, size) = match part {
        Some(part) => part,
        None => {
            let size = answer.number(protocol::SIZE_HEADER).or(length);
            let size = size.ok_or_else(|| lacks("the size"))?;
            (0..size, size)
        }
    };
    let modified = answer
        .number::<i64>(protocol::MODIFIED_HEADER)
        .and_then(DateTime::from_timestamp_millis)
        .or_else(|| {
            let text = answer.text(header::LAST_MODIFIED)?;
            Some(DateTime::parse_from_rfc2822(&text).ok()?.to_utc())
        });
    let meta = ObjectMeta {
        location: path.clone(),
        last_modified: modified.unwrap_or(DateTime::<Utc>::UNIX_EPOCH),
        size,
        e_tag: answer.text(header::ETAG),
        version: answer
            .text(protocol::OBJECT_VERSION_HEADER)
            .or_else(|| answer.text("x-amz-version-id")),
    };
    let stream = answer
        .stream()
        .map_err(|error| generic(Box::new(error)))
        .boxed();
    Ok(GetResult {
        payload: GetResultPayload::Stream(stream),
        meta,
        range,
        attributes: Default::default(),
        extensions: Default::default(),
    })
}

fn meta(line: ObjectLine) -> Result<ObjectMeta> {
    let location = StorePath::parse(&line.path)?;
    Ok(ObjectMeta {
        location,
        last_modified: DateTime::from_timestamp_millis(line.modified_ms)
            .unwrap_or(DateTime::<Utc>::UNIX_EPOCH),
        size: line.size,
        e_tag: line.e_tag,
        version: line.version,
    })
}

/// The lines of a list, as they come.
fn listed(answer: Answer) -> BoxStream<'static, Result<ObjectMeta>> {
    let broken = |why: &str| generic(format!("the list broke off: {why}").into());
    let lines = lines(answer.stream(), LONGEST_LINE);
    futures::stream::try_unfold(Some(lines), move |lines| async move {
        let Some(mut lines) = lines else {
            return Ok(None);
        };
        let line = match lines.next().await {
            Some(Ok(line)) => line,
            Some(Err(error)) => return Err(broken(&error.to_string())),
            None => return Err(broken("it has no end")),
        };
        match serde_json::from_slice::<ListLine>(&line) {
            Ok(ListLine::Object(line)) => Ok(Some((Some(meta(line)?), Some(lines)))),
            Ok(ListLine::End) => Ok(Some((None, None))),
            Ok(ListLine::Failed(problem)) => {
                Err(broken(problem.detail.as_deref().unwrap_or(&problem.title)))
            }
            Err(error) => Err(broken(&error.to_string())),
        }
    })
    .try_filter_map(|found| async move { Ok(found) })
    .boxed()
}

#[async_trait]
impl ObjectStore for RemoteObjects {
    async fn put_opts(
        &self,
        path: &StorePath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = Bytes::from(payload);
        match options.mode {
            PutMode::Overwrite => self.put_whole(path, bytes).await,
            PutMode::Create => {
                let headers = checked(&bytes);
                self.put_through(path, "create", headers, bytes).await
            }
            PutMode::Update(_) => Err(Error::NotImplemented {
                operation: "a write that replaces one version".into(),
                implementer: self.to_string(),
            }),
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &StorePath,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begin = BeginParts {
            path: path.to_string(),
            upload: None,
        };
        let begun: Begun = self.post(path, protocol::BEGIN, &begin).await?;
        Ok(match begun {
            Begun::Parts { upload } => {
                Box::new(RemoteUpload::parts(self.clone(), path.clone(), upload))
            }
            Begun::Stream => Box::new(RemoteUpload::stream(self.clone(), path.clone())),
        })
    }

    async fn get_opts(&self, path: &StorePath, options: GetOptions) -> Result<GetResult> {
        let headers = read_headers(&options);
        if options.head {
            let request = Request::new(Method::HEAD, protocol::OBJECT)
                .with("path", path)
                .headers(headers);
            return found(path, self.send(path, request).await?);
        }
        let straight = self.straight(path, SignFor::Get, Method::GET, headers.clone(), None);
        if let Straight::Done(answer) = straight.await? {
            return found(path, answer);
        }
        let request = Request::new(Method::GET, protocol::OBJECT)
            .with("path", path)
            .headers(headers);
        found(path, self.send(path, request).await?)
    }

    async fn get_ranges(&self, path: &StorePath, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut all = Vec::with_capacity(ranges.len());
        for range in ranges {
            let options = GetOptions::new().with_range(Some(range.clone()));
            all.push(self.get_opts(path, options).await?.bytes().await?);
        }
        Ok(all)
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<StorePath>>,
    ) -> BoxStream<'static, Result<StorePath>> {
        let objects = self.clone();
        paths
            .try_chunks(MOST_DELETED)
            .map_err(|error| error.1)
            .and_then(move |paths| {
                let objects = objects.clone();
                async move {
                    let body = Paths {
                        paths: paths.iter().map(ToString::to_string).collect(),
                    };
                    let first = paths.first().cloned().unwrap_or_default();
                    let deleted: Deleted = objects.post(&first, protocol::DELETE, &body).await?;
                    let results: Vec<_> = paths
                        .into_iter()
                        .map(|path| match deleted.failed.get(path.as_ref()) {
                            None => Ok(path),
                            Some(problem) => Err(of_problem(problem).as_error(&path)),
                        })
                        .collect();
                    Ok(futures::stream::iter(results))
                }
            })
            .try_flatten()
            .boxed()
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix.cloned().unwrap_or_default(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&StorePath>,
        offset: &StorePath,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix.cloned().unwrap_or_default(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let request = Request::new(Method::GET, protocol::FOLDERS).with("prefix", &prefix);
        let answer = self.send(&prefix, request).await?;
        let listed: Listed = self.json(&prefix, answer).await?;
        let folders = listed.folders.iter().map(StorePath::parse);
        Ok(ListResult {
            common_prefixes: folders.collect::<std::result::Result<_, _>>()?,
            objects: listed
                .objects
                .into_iter()
                .map(meta)
                .collect::<Result<_>>()?,
            extensions: Default::default(),
        })
    }

    async fn copy_opts(&self, _: &StorePath, to: &StorePath, _: CopyOptions) -> Result<()> {
        Err(no_copies(self, to))
    }

    async fn rename_opts(&self, _: &StorePath, to: &StorePath, _: RenameOptions) -> Result<()> {
        Err(no_copies(self, to))
    }
}

impl RemoteObjects {
    fn list_from(
        &self,
        prefix: StorePath,
        after: Option<StorePath>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let objects = self.clone();
        futures::stream::once(async move {
            let mut request = Request::new(Method::GET, protocol::LIST).with("prefix", &prefix);
            if let Some(after) = after {
                request = request.with("after", after);
            }
            Ok::<_, Error>(listed(objects.send(&prefix, request).await?))
        })
        .try_flatten()
        .boxed()
    }
}

fn no_copies(objects: &RemoteObjects, to: &StorePath) -> Error {
    Error::NotImplemented {
        operation: format!("a copy to {to}"),
        implementer: objects.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{CLOSED, LONGEST_CLOSED, Way};
    use std::time::{Duration, Instant};

    #[test]
    fn a_way_that_was_closed_is_tried_again_by_one() {
        let way = Way::straight();
        let mut now = Instant::now();
        assert!(way.is_straight(now));
        let mut pause = CLOSED;
        for _ in 0..10 {
            // Many fail together.
            way.close(now);
            way.close(now);
            assert!(!way.is_straight(now));
            assert!(!way.is_straight(now + pause - Duration::from_secs(1)));
            now += pause;
            let tries = [way.is_straight(now), way.is_straight(now)];
            assert_eq!(tries, [true, false]);
            pause = (pause * 2).min(LONGEST_CLOSED);
        }
        way.open();
        assert!(way.is_straight(now) && way.is_straight(now));
        way.close(now);
        assert!(way.is_straight(now + CLOSED), "it begins anew");
        assert!(!Way::Through.is_straight(now));
    }
}
