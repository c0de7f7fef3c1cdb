//! What a launcher (or a command line) and a broker say to each other over HTTP: paths,
//! headers and bodies, versioned. The broker in `server` answers, `store`'s remote store
//! asks. Nothing here sends, signs or decides anything.
//!
//! Every request carries `Authorization: Bearer TOKEN` and [`VERSION_HEADER`]. Objects are
//! named in the query (`path=…`), never in the path of the URL, which ways between may
//! rewrite. Errors are problem documents ([`Problem`], RFC 9457).

use crate::AttemptId;
use crate::ids::Nonce;
use crate::outcome::{Claim, InstanceEnd};
use crate::run::AttemptNews;
use crate::ticket::Ticket;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of this page; a request of another is refused.
pub const PROTOCOL_VERSION: u32 = 1;
/// The header that says [`PROTOCOL_VERSION`].
pub const VERSION_HEADER: &str = "auria-protocol";
/// Below which the broker answers to attempts.
pub const BROKER: &str = "/broker/v1";
/// Below which the API answers to users.
pub const API: &str = "/api/v1";

/// `GET`, bootstrap token: [`TicketGrant`].
pub const TICKET: &str = "/ticket";
/// `POST` [`AskedClaim`], bootstrap token: [`ClaimGrant`], or 409 with the [`Claim`] that
/// stands. The same again is answered as the first.
pub const CLAIM: &str = "/claim";
/// `POST` [`News`], session token: [`NewsTaken`].
pub const NEWS: &str = "/news";
/// `POST` [`AskedJoin`], bootstrap token: [`Group`]. Asked again and again by each launcher
/// of a distributed step until its group is there.
pub const JOIN: &str = "/group/join";
/// `GET`, session token: [`GroupEnds`].
pub const GROUP_ENDS: &str = "/group/ends";

/// `GET`: [`StoreGrant`].
pub const STORE: &str = "/store";
/// `HEAD`, `GET` (with `Range`, `If-Match`), `PUT` (with `mode`): one object.
pub const OBJECT: &str = "/store/object";
/// `GET` (`prefix`, `after`): [`ListLine`]s, one on each line, the last of them `end`.
pub const LIST: &str = "/store/list";
/// `GET` (`prefix`): [`Listed`].
pub const FOLDERS: &str = "/store/folders";
/// `POST` [`Paths`]: [`Deleted`].
pub const DELETE: &str = "/store/delete";
/// `POST` [`Sign`]: [`Signed`].
pub const SIGN: &str = "/store/sign";
/// `POST` [`BeginParts`]: [`Begun`].
pub const BEGIN: &str = "/store/parts/begin";
/// `PUT` (`path`, `upload`, `part`): [`PartTaken`].
pub const PART: &str = "/store/parts/part";
/// `POST` [`CompleteParts`]: [`Written`].
pub const COMPLETE: &str = "/store/parts/complete";
/// `POST` [`BeginParts`] with its upload: nothing.
pub const ABORT: &str = "/store/parts/abort";

/// `GET`: [`ServerFacts`].
pub const FACTS: &str = "/facts";
/// `POST` a plan: [`Checked`].
pub const CHECK: &str = "/plans/check";
/// Below which runs are; `POST …/RUN` hands one over whose record stands in the store.
pub const RUNS: &str = "/runs";
/// `GET /runs/RUN/events`: server-sent events, each a [`RunChange`](crate::run::RunChange).
/// 404 where the run is not driven from there.
pub const EVENTS: &str = "events";
/// `POST /runs/RUN/cancel`: asks for the run to be canceled, in the caller's name. 404 where
/// there is no such run; asked again, or of one that has ended, nothing happens.
pub const CANCEL: &str = "cancel";

/// Below which replicas of a controller answer each other, on the broker's port.
pub const REPLICAS: &str = "/replicas/v1";
/// `POST` a list of [`Heard`], the replicas' own token: nothing.
pub const TOLD: &str = "/told";

/// The size of an object of which an answer holds a part.
pub const SIZE_HEADER: &str = "auria-size";
/// When an object was last written, in milliseconds since the epoch.
pub const MODIFIED_HEADER: &str = "auria-modified";
/// The version of an object, where the store keeps such.
pub const OBJECT_VERSION_HEADER: &str = "auria-object-version";

/// At most so many URLs are signed by one request.
pub const MOST_SIGNED: usize = 256;
/// At most so many objects are deleted by one request.
pub const MOST_DELETED: usize = 1000;
/// The largest body of a request that is not a part or a file.
pub const LARGEST_BODY: usize = 8 * 1024 * 1024;
/// The largest part of a file that goes through the broker.
pub const LARGEST_PART: usize = 64 * 1024 * 1024;
/// At most so many parts make an object, as S3 has it.
pub const MOST_PARTS: usize = 10_000;
/// A part of a larger file is this large (a power of two).
pub const PART_SIZE: u64 = 8 * 1024 * 1024;

/// What a launcher is to do, and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TicketGrant {
    /// [`PROTOCOL_VERSION`] of the broker.
    pub version: u32,
    /// The ticket.
    pub ticket: Ticket,
    /// Where it is kept.
    pub store: StoreGrant,
    /// How long a broker that does not answer is asked again.
    pub broker_grace_ms: u64,
}

/// What stands behind a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoreGrant {
    /// Its address as people know it (`s3://…`, a folder); not to be opened.
    pub url: String,
    /// What tells it from every other store.
    pub identity: String,
    /// Whether data goes straight there, by signed URLs.
    pub signs: bool,
    /// Certificates (PEM) that the store's own may be signed by, beside those that the
    /// machine trusts; for signed URLs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
}

/// What a server says of itself to a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServerFacts {
    /// The program's version.
    pub version: String,
    /// [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// What stands behind it.
    pub store: StoreGrant,
    /// The computes that it knows.
    pub computes: Vec<String>,
    /// Who the caller is.
    pub user: String,
    /// How launchers get into the containers of steps there; none where they stand beside
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launcher: Option<LauncherFacts>,
}

/// How launchers get into the containers of steps on a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LauncherFacts {
    /// The launcher's image.
    pub image: Option<String>,
    /// Beginnings of the names of images that carry it.
    pub carried_by: Vec<String>,
    /// Whether it comes by image volumes.
    pub image_volumes: bool,
}

/// Whether a plan can run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Checked {
    /// What never can, in words; none where all can.
    pub refusals: Vec<String>,
}

/// A claim, by the launcher that drew its nonce.
#[derive(Clone, Serialize, Deserialize)]
pub struct AskedClaim {
    /// The claim.
    pub claim: Claim,
    /// What its nonce was made of (see [`nonce_of`]), kept in the launcher's memory: the
    /// claim stands in the store for everyone to read, and a session is for its maker alone.
    pub secret: String,
}

impl std::fmt::Debug for AskedClaim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AskedClaim({:?})", self.claim)
    }
}

/// The nonce that a launcher's secret makes.
#[must_use]
pub fn nonce_of(secret: &str) -> Option<Nonce> {
    let made = blake3::derive_key("auria-pipeline 2026 a claim's nonce", secret.as_bytes());
    let digits: String = made
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    digits.parse().ok()
}

/// The claim is held.
#[derive(Clone, Serialize, Deserialize)]
pub struct ClaimGrant {
    /// The session token: for everything but ticket and claim.
    pub session: String,
}

impl std::fmt::Debug for ClaimGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClaimGrant")
    }
}

/// A launcher of a distributed step is there, and asks whether the others are.
#[derive(Clone, Serialize, Deserialize)]
pub struct AskedJoin {
    /// The instance that it starts.
    pub instance: u32,
    /// The address at which its processes can be reached.
    pub address: String,
    /// The Pod's UID.
    pub process: String,
    /// The node.
    pub node: Option<String>,
    /// What its nonce is made of (see [`nonce_of`]); of the first instance's the nonce that
    /// it will claim with.
    pub secret: String,
}

impl std::fmt::Debug for AskedJoin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AskedJoin({} at {})", self.instance, self.address)
    }
}

/// How far a group has come.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Group {
    /// The addresses of its instances, of those that are there. To the first instance's
    /// launcher and, once that has claimed, to all.
    pub addresses: Vec<Option<String>>,
    /// Once the attempt is claimed: the claim's nonce, and the asking member's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Begin>,
}

/// A member may begin.
#[derive(Clone, Serialize, Deserialize)]
pub struct Begin {
    /// The claim's.
    pub nonce: Nonce,
    /// Opens what a member may do: less than the claim's own session.
    pub session: String,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let begun = self.begun.is_some();
        write!(f, "Group({:?}, begun: {begun})", self.addresses)
    }
}

/// Which instances of a group have ended, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEnds {
    /// Of each that has.
    pub ends: Vec<InstanceEnd>,
    /// The attempt is over, whatever they do.
    pub over: bool,
}

/// Another launcher has the attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimStands {
    /// Its claim.
    pub claim: Claim,
}

/// What a launcher says.
#[expect(
    clippy::large_enum_variant,
    reason = "it is sent or read at once, and never kept in numbers"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// Something happened.
    News {
        /// What.
        news: AttemptNews,
    },
    /// The command said something; some may be missing.
    Log {
        /// Lines without their ends.
        lines: Vec<String>,
    },
}

/// What a launcher says, in order. An empty one says that it lives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// In the order in which it happened.
    pub said: Vec<Said>,
}

/// What a launcher said to a replica that does not drive, for the one that does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// Its attempt.
    pub attempt: AttemptId,
    /// What.
    pub said: Said,
}

/// News were heard.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct NewsTaken {
    /// A session token that lives longer, where the one at hand comes to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

impl std::fmt::Debug for NewsTaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewsTaken(renewed: {})", self.session.is_some())
    }
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ObjectLine {
    /// Its path in the store.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// When it was last written, in milliseconds since the epoch.
    pub modified_ms: i64,
    /// Its ETag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum ListLine {
    /// An object.
    Object(ObjectLine),
    /// There are no more.
    End,
    /// The store gave up.
    Failed(Problem),
}

/// What is right below a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Listed {
    /// Prefixes that have more below them.
    pub folders: Vec<String>,
    /// Objects.
    pub objects: Vec<ObjectLine>,
}

/// Several objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Paths {
    /// Their paths.
    pub paths: Vec<String>,
}

/// What became of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Deleted {
    /// Why some were not deleted, by path. One that was not there counts as deleted.
    pub failed: BTreeMap<String, Problem>,
}

/// What a signed URL is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum SignFor {
    /// Reading an object.
    Get,
    /// Writing an object.
    Put,
    /// Writing a part of one.
    Part {
        /// The upload.
        upload: String,
        /// The part, from 0.
        part: u32,
    },
}

/// One URL that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignRequest {
    /// The object.
    pub path: String,
    /// What for.
    #[serde(flatten)]
    pub to: SignFor,
}

/// URLs that are asked for, at most [`MOST_SIGNED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sign {
    /// Which.
    pub requests: Vec<SignRequest>,
}

/// Signed URLs, in the order in which they were asked for.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Signed {
    /// One for each request; none where it goes through the broker, or is refused.
    pub urls: Vec<Option<String>>,
    /// Why some are refused, by their place among the requests, from 0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<usize, Problem>,
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signed({})", self.urls.len())
    }
}

/// A large object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BeginParts {
    /// Its path.
    pub path: String,
    /// The upload, where it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
}

/// How a large object goes into the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum Begun {
    /// In parts of an upload, in any order.
    Parts {
        /// The upload.
        upload: String,
    },
    /// In one stream, by `PUT` of the object.
    Stream,
}

/// A part is in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PartTaken {
    /// What the store calls it.
    pub id: String,
}

/// Makes parts an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CompleteParts {
    /// Its path.
    pub path: String,
    /// The upload.
    pub upload: String,
    /// What the store calls the parts, in order.
    pub parts: Vec<String>,
}

/// An object is in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Written {
    /// Its ETag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_tag: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Why a request was refused (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// `about:blank`, or `auria:CODE`: a short stable name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status's name.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What was attempted and why not, for people. Nothing of what a caller may not see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The media type of [`Problem`]s.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// A [`Problem`]'s type: another launcher holds the claim. [`ClaimStands`] is beside it.
pub const CLAIM_TAKEN: &str = "auria:claim-taken";
/// A [`Problem`]'s type: the attempt has lost, so that nothing of it counts any more.
pub const ATTEMPT_LOST: &str = "auria:attempt-lost";
