//! The store over HTTP: what a broker and the API answer to `auria_store`'s remote store.
//! Who may do what is the [`Rights`]' to say, for every single path; what goes through is
//! bounded in memory and in number. It decides nothing about what is written.

mod delete;
mod lend;

use crate::api::extract::Asked;
use crate::body::{self, Room, length, turn};
use crate::openapi::{About, Routes};
use crate::problem::Refusal;
use async_trait::async_trait;
use auria_core::protocol::{
    self, LARGEST_BODY, ListLine, Listed, ObjectLine, PROTOCOL_VERSION, StoreGrant, VERSION_HEADER,
    Written,
};
use auria_store::{Store, StorePath};
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Objects that go through in a stream at once.
const STREAMS: usize = 32;
/// Lines of a list that are sent together.
const LINES: usize = 500;

/// What a caller asks of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// To read it, or to know whether it is there.
    Read,
    /// To list what is below it.
    List,
    /// To write these bytes to it, whatever is there.
    Write,
    /// To write it, whatever is there, with bytes that are not seen here: by a signed URL,
    /// in parts, in a stream.
    Lend,
    /// To create it with these bytes.
    Create,
    /// To delete it.
    Delete,
}

/// What one caller may do. Every path has been parsed: no `.`, no `..`, nothing empty.
#[async_trait]
pub(crate) trait Rights: Send + Sync {
    /// Whether it may; the refusal is what it hears.
    async fn may(&self, verb: Verb, path: &StorePath, bytes: Option<&Bytes>)
    -> Result<(), Refusal>;
    /// What is written instead of a record that the caller may create: where the server knows
    /// better what happened than the caller can.
    async fn amended(&self, path: &StorePath, bytes: Bytes) -> Bytes;
    /// Told when a record stands that this caller created or found.
    async fn stands(&self, path: &StorePath, bytes: &Bytes);
}

/// The caller of a request.
pub(crate) type Caller = Extension<Arc<dyn Rights>>;

/// The store that is served.
#[derive(Clone)]
pub(crate) struct Served {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    grant: StoreGrant,
    room: Room,
    streams: Arc<Semaphore>,
    passed: AtomicU64,
}

impl Served {
    /// Serves `store`; URLs are signed where it can and `sign` says so.
    pub(crate) fn new(store: Store, sign: bool, authorities: Option<String>) -> Self {
        let grant = StoreGrant {
            url: store.url().to_string(),
            identity: store.identity(),
            signs: sign && store.can_sign(),
            authorities,
        };
        Self {
            inner: Arc::new(Inner {
                store,
                grant,
                room: Room::new(),
                streams: Arc::new(Semaphore::new(STREAMS)),
                passed: AtomicU64::new(0),
            }),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn grant(&self) -> &StoreGrant {
        &self.inner.grant
    }

    /// Bytes of files that went through here, and not by signed URLs.
    pub(crate) fn through(&self) -> u64 {
        self.inner.passed.load(Ordering::Relaxed)
    }

    fn passed(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.inner.passed.fetch_add(bytes, Ordering::Relaxed);
    }

    fn objects(&self) -> &Arc<dyn ObjectStore> {
        self.inner.store.objects()
    }

    /// Room for the bodies of requests.
    pub(crate) fn room(&self) -> &Room {
        &self.inner.room
    }

    async fn stream(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        turn(Arc::clone(&self.inner.streams), 1).await
    }
}

/// The routes, below a base of their own; the caller is an extension of each request.
pub(crate) fn routes(served: Served) -> Routes {
    described().with_state(served)
}

/// What is said of a call of this protocol.
fn about(id: &'static str, summary: &'static str) -> About {
    let version = serde_json::json!({
        "type": "string", "const": PROTOCOL_VERSION.to_string(),
        "description": "The version of this protocol, which programs of one release speak.",
    });
    About::new(id, summary).header(VERSION_HEADER, version)
}

/// What it does.
pub(crate) fn described() -> Routes<Served> {
    let read_about = about("readObject", "An object")
        .streams(200, BYTES, "The object.")
        .streams(206, BYTES, "A part of it.")
        .empty(304, "It is what the caller has.");
    // Axum answers HEAD with GET's, which would read all of it.
    let head_about = about("lookAtObject", "What is known of an object")
        .empty(200, "It is there.")
        .empty(206, "It is there, and has this part.")
        .empty(304, "It is what the caller has.");
    Routes::new()
        .get(
            protocol::STORE,
            grant,
            about("showStore", "What stands behind this server"),
        )
        .get(protocol::OBJECT, read, read_about)
        .head(protocol::OBJECT, head, head_about)
        .put(
            protocol::OBJECT,
            write,
            about("writeObject", "Writes an object"),
        )
        .get(
            protocol::LIST,
            list,
            about("listObjects", "What is below a prefix").streams(
                200,
                LINES_OF_JSON,
                "A line of JSON for each object, and one for the end.",
            ),
        )
        .get(
            protocol::FOLDERS,
            folders,
            about("listFolders", "What is right below a prefix"),
        )
        .post(
            protocol::DELETE,
            delete::delete,
            about("deleteObjects", "Deletes objects"),
        )
        .post(
            protocol::SIGN,
            lend::sign,
            about("signUrls", "URLs for objects, where they are signed"),
        )
        .post(
            protocol::BEGIN,
            lend::begin,
            about("beginParts", "Begins an object of parts"),
        )
        .put(
            protocol::PART,
            lend::part,
            about("writePart", "Writes a part"),
        )
        .post(
            protocol::COMPLETE,
            lend::complete,
            about("completeParts", "Makes parts an object"),
        )
        .post(
            protocol::ABORT,
            lend::abort,
            about("abortParts", "Gives an object of parts up").status(204),
        )
}

/// The media type of objects.
const BYTES: &str = "application/octet-stream";
/// That of lines that each are JSON.
const LINES_OF_JSON: &str = "application/x-ndjson";

#[derive(JsonSchema, Deserialize)]
struct ObjectQuery {
    path: String,
    #[serde(default)]
    mode: Option<String>,
}

#[derive(JsonSchema, Deserialize)]
struct ListQuery {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    after: Option<String>,
}

/// A path as it was sent, and as nothing else: what a store would read otherwise is refused.
fn parse(text: &str) -> Result<StorePath, Refusal> {
    match StorePath::parse(text) {
        Ok(path) if path.as_ref() == text => Ok(path),
        _ => Err(Refusal::forbidden()),
    }
}

fn object(text: &str) -> Result<StorePath, Refusal> {
    let path = parse(text)?;
    if path.is_root() {
        return Err(Refusal::forbidden());
    }
    Ok(path)
}

async fn grant(State(served): State<Served>) -> Json<StoreGrant> {
    Json(served.grant().clone())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// `bytes=0-9`, `bytes=10-`, `bytes=-5`: one range alone.
fn range(headers: &HeaderMap) -> Result<Option<GetRange>, Refusal> {
    let Some(text) = text(headers, header::RANGE) else {
        return Ok(None);
    };
    let parsed = || {
        let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
        Some(match (from, to) {
            ("", count) => GetRange::Suffix(count.parse().ok()?),
            (from, "") => GetRange::Offset(from.parse().ok()?),
            (from, to) => {
                let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
                (from <= to).then_some(GetRange::Bounded(from..to.checked_add(1)?))?
            }
        })
    };
    let parsed = parsed();
    let unknown = || Refusal::new(StatusCode::BAD_REQUEST, format!("`{text}` is no range"));
    parsed.map(Some).ok_or_else(unknown)
}

fn options(headers: &HeaderMap) -> Result<GetOptions, Refusal> {
    Ok(GetOptions {
        range: range(headers)?,
        if_match: text(headers, header::IF_MATCH),
        if_none_match: text(headers, header::IF_NONE_MATCH),
        ..GetOptions::default()
    })
}

fn describe(headers: &mut HeaderMap, meta: &ObjectMeta) {
    headers.insert(protocol::SIZE_HEADER, HeaderValue::from(meta.size));
    let modified = HeaderValue::from(meta.last_modified.timestamp_millis());
    headers.insert(protocol::MODIFIED_HEADER, modified);
    let texts = [
        (header::ETAG, &meta.e_tag),
        (
            HeaderName::from_static(protocol::OBJECT_VERSION_HEADER),
            &meta.version,
        ),
    ];
    for (name, value) in texts {
        let value = value
            .as_deref()
            .and_then(|text| HeaderValue::from_str(text).ok());
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

async fn head(
    State(served): State<Served>,
    Extension(caller): Caller,
    Asked(query): Asked<ObjectQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let path = object(&query.path)?;
    caller.may(Verb::Read, &path, None).await?;
    let options = options(&headers)?.with_head(true);
    let found = served.objects().get_opts(&path, options).await;
    let found = found.map_err(|error| Refusal::of_store(&error))?;
    let mut response = StatusCode::OK.into_response();
    describe(response.headers_mut(), &found.meta);
    Ok(response)
}

async fn read(
    State(served): State<Served>,
    Extension(caller): Caller,
    Asked(query): Asked<ObjectQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let path = object(&query.path)?;
    caller.may(Verb::Read, &path, None).await?;
    let turn = served.stream().await?;
    let options = options(&headers)?;
    let part = options.range.is_some();
    let found = served.objects().get_opts(&path, options).await;
    let found = found.map_err(|error| Refusal::of_store(&error))?;
    let (meta, range) = (found.meta.clone(), found.range.clone());
    // The turn goes back when the last byte has gone.
    let stream = found.into_stream().inspect_ok(move |bytes| {
        let _turn = &turn;
        served.passed(bytes.len());
    });
    let mut response = Body::from_stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(BYTES));
    describe(headers, &meta);
    let length = HeaderValue::from(range.end - range.start);
    headers.insert(header::CONTENT_LENGTH, length);
    if part {
        let last = range.end.saturating_sub(1);
        let text = format!("bytes {}-{last}/{}", range.start, meta.size);
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Compares what came with the sum that was sent.
fn arrived(headers: &HeaderMap, bytes: &[u8]) -> Result<(), Refusal> {
    match text(headers, HeaderName::from_static("content-md5")) {
        Some(sum) if sum != auria_store::content_md5(bytes) => Err(Refusal::new(
            // As a store says it: the same bytes again.
            StatusCode::SERVICE_UNAVAILABLE,
            "the bytes came otherwise than they were sent",
        )),
        _ => Ok(()),
    }
}

async fn write(
    State(served): State<Served>,
    Extension(caller): Caller,
    Asked(query): Asked<ObjectQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Written>, Refusal> {
    let path = object(&query.path)?;
    match query.mode.as_deref() {
        Some("create") => {
            let (bytes, _room) = served.room().take(&headers, body, LARGEST_BODY).await?;
            arrived(&headers, &bytes)?;
            caller.may(Verb::Create, &path, Some(&bytes)).await?;
            let bytes = caller.amended(&path, bytes).await;
            create(&served, &*caller, &path, bytes).await
        }
        Some("overwrite") => {
            let put = match length(&headers) {
                Some(length) if length <= LARGEST_BODY => {
                    let (bytes, _room) = served.room().take(&headers, body, length).await?;
                    arrived(&headers, &bytes)?;
                    caller.may(Verb::Write, &path, Some(&bytes)).await?;
                    served.passed(bytes.len());
                    served.objects().put(&path, bytes.into()).await
                }
                _ => {
                    caller.may(Verb::Lend, &path, None).await?;
                    let _turn = served.stream().await?;
                    stream_in(&served, &path, body).await?
                }
            };
            written(put)
        }
        _ => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "`mode` is `create` or `overwrite`",
        )),
    }
}

/// A record that is created once; whoever finds its own bytes there has created it.
async fn create(
    served: &Served,
    caller: &dyn Rights,
    path: &StorePath,
    bytes: Bytes,
) -> Result<Json<Written>, Refusal> {
    let options = PutOptions {
        mode: PutMode::Create,
        ..PutOptions::default()
    };
    let put = served
        .objects()
        .put_opts(path, bytes.clone().into(), options);
    match put.await {
        Ok(put) => {
            caller.stands(path, &bytes).await;
            written(Ok(put))
        }
        Err(error) => {
            // Another's stands, or our own: a store may say either of its own write. Who
            // asked reads it, and knows; those who wait for it are told at once.
            if let Some((found, _room)) = standing(served, path).await {
                caller.stands(path, &found).await;
            }
            Err(Refusal::of_store(&error))
        }
    }
}

/// The record that stands at `path`, where it is no larger than one, and there is room for
/// it at this moment: it is read for those who would like to know, and not for the caller.
async fn standing(served: &Served, path: &StorePath) -> Option<(Bytes, OwnedSemaphorePermit)> {
    let found = served.objects().get(path).await.ok()?;
    let size = usize::try_from(found.meta.size).ok()?;
    if size > LARGEST_BODY {
        return None;
    }
    let room = served.room().now(size)?;
    Some((found.bytes().await.ok()?, room))
}

/// Writes what comes of `body`, as long as it moves.
async fn stream_in(
    served: &Served,
    path: &StorePath,
    body: Body,
) -> Result<object_store::Result<PutResult>, Refusal> {
    let mut broken = None;
    let stream = body::moving(body).map_err(|error| {
        let said = error.to_string();
        broken = Some(Refusal::from(error));
        object_store::Error::Generic {
            store: "caller",
            source: said.into(),
        }
    });
    let put = served.store().put_stream(path, stream).await;
    match broken {
        // The caller's fault, and not the store's.
        Some(refusal) => Err(refusal),
        None => Ok(put),
    }
}

fn written(put: object_store::Result<PutResult>) -> Result<Json<Written>, Refusal> {
    let PutResult { e_tag, version, .. } = put.map_err(|error| Refusal::of_store(&error))?;
    Ok(Json(Written { e_tag, version }))
}

fn line(meta: ObjectMeta) -> ObjectLine {
    ObjectLine {
        path: meta.location.to_string(),
        size: meta.size,
        modified_ms: meta.last_modified.timestamp_millis(),
        e_tag: meta.e_tag,
        version: meta.version,
    }
}

async fn list(
    State(served): State<Served>,
    Extension(caller): Caller,
    Asked(query): Asked<ListQuery>,
) -> Result<Response, Refusal> {
    let prefix = parse(&query.prefix)?;
    caller.may(Verb::List, &prefix, None).await?;
    let turn = served.stream().await?;
    let found = match &query.after {
        Some(after) => served
            .objects()
            .list_with_offset(Some(&prefix), &parse(after)?),
        None => served.objects().list(Some(&prefix)),
    };
    let lines = found.map(|meta| match meta {
        Ok(meta) => ListLine::Object(line(meta)),
        Err(error) => ListLine::Failed(Refusal::of_store(&error).document()),
    });
    let end = futures::stream::once(async { ListLine::End });
    let bytes = lines.chain(end).ready_chunks(LINES).map(move |lines| {
        let _turn = &turn;
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, &line)?;
            bytes.push(b'\n');
        }
        Ok::<_, serde_json::Error>(Bytes::from(bytes))
    });
    let mut response = Body::from_stream(bytes).into_response();
    let kind = HeaderValue::from_static(LINES_OF_JSON);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn folders(
    State(served): State<Served>,
    Extension(caller): Caller,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Listed>, Refusal> {
    let prefix = parse(&query.prefix)?;
    caller.may(Verb::List, &prefix, None).await?;
    let _turn = served.stream().await?;
    let found = served.objects().list_with_delimiter(Some(&prefix)).await;
    let found = found.map_err(|error| Refusal::of_store(&error))?;
    Ok(Json(Listed {
        folders: found
            .common_prefixes
            .iter()
            .map(ToString::to_string)
            .collect(),
        objects: found.objects.into_iter().map(line).collect(),
    }))
}

fn few(count: usize, most: usize) -> Result<(), Refusal> {
    if count <= most {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("at most {most} at once"),
    ))
}
