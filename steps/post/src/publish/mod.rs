//! Posts a work to social networks: once a day on each, whatever dies on the way.
//!
//! [`plan`] says what would be posted and what is missing, and calls for nothing; [`publish`]
//! posts it. Which work a day's post is, is decided by whoever writes its record first: another
//! work of the same day changes nothing. Nothing here reads the environment, prints, or deletes.

pub mod caption;
pub mod claim;
pub mod drive;
pub mod http;
pub mod instagram;
pub mod oauth;
pub mod picture;
pub mod record;
pub mod records;
pub mod secrets;
pub mod settings;
pub mod x;

use std::path::Path;

use rand::Rng as _;
use serde::Serialize;
use time::OffsetDateTime;
use url::Url;

use crate::entry::{COLOURED_FILE, ENTRY_FILE, Entry};
use crate::work::WorkError;
use drive::{Account, Pace};
use record::{Kind, Record, State};
use records::{Records, RecordsError};
use settings::Settings;

/// Why nothing could be posted.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The entry cannot be read.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The records failed.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// What was asked for is none.
    #[error("{0}")]
    Wrong(String),
}

/// A work that is to be posted.
#[derive(Clone, Debug)]
pub struct Post {
    /// The work.
    pub entry: Entry,
    /// The day that it is the post of.
    pub day: String,
    /// The JPEG.
    pub jpeg: Vec<u8>,
}

impl Post {
    /// Reads the entry that `auria-post post` left in a folder. Without a day, it is that on
    /// which the work was first posted into its gallery: the same however often this is run.
    ///
    /// # Errors
    /// When a file is missing or broken, or the day is none.
    pub fn read(folder: &Path, day: Option<&str>) -> Result<Self, PublishError> {
        let path = folder.join(ENTRY_FILE);
        let text = std::fs::read(&path).map_err(|source| WorkError::Read {
            path: path.clone(),
            source,
        })?;
        let entry: Entry =
            serde_json::from_slice(&text).map_err(|source| WorkError::Json { path, source })?;
        let day = record::day(day.unwrap_or(&entry.created)).map_err(PublishError::Wrong)?;
        let jpeg = picture::jpeg(&folder.join(COLOURED_FILE))?;
        Ok(Self { entry, day, jpeg })
    }
}

/// What would be posted on a network, and what is missing.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The network.
    pub network: Kind,
    /// The day.
    pub day: String,
    /// How far it has come; none where it was not begun.
    pub state: Option<State>,
    /// The hashtag that it is found by.
    pub marker: String,
    /// What is said.
    pub caption: String,
    /// What is said to those who do not see the picture.
    pub alt: String,
    /// The picture, below the place of the records.
    pub picture: String,
    /// The picture's address without its signature, where the network fetches it.
    pub picture_url: Option<String>,
    /// Width and height of the picture in pixels.
    pub side: u32,
    /// Bytes of the picture.
    pub bytes: usize,
    /// What must be set before it can be posted.
    pub missing: Vec<String>,
}

/// Says what would be posted, and writes and calls for nothing.
///
/// # Errors
/// When the records cannot be read.
pub async fn plan(
    post: &Post,
    network: Kind,
    records: &Records,
    settings: &Settings,
) -> Result<Plan, PublishError> {
    let begun = records.show(&post.day, network).await?;
    let state = begun.as_ref().map(|record| record.state);
    let record = begun
        .unwrap_or_else(|| Record::new(network, &post.day, &post.entry, OffsetDateTime::now_utc()));
    let mut missing = settings.missing(network);
    let picture_url = match network {
        Kind::X => None,
        Kind::Instagram => match address(settings, records, &record.picture).await? {
            Ok(url) => Some(redacted(url)),
            Err(why) => {
                missing.push(why);
                None
            }
        },
    };
    Ok(Plan {
        network,
        day: record.day,
        state,
        marker: record.marker,
        caption: record.caption,
        alt: record.alt,
        picture: record.picture,
        picture_url,
        side: picture::SIDE,
        bytes: post.jpeg.len(),
        missing,
    })
}

/// How a post stands after this process.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Whether it was this process that brought it there.
    pub new: bool,
    /// The record.
    #[serde(flatten)]
    pub record: Record,
}

/// Posts what is not posted yet. What is missing is to be asked of [`plan`] before.
///
/// # Errors
/// When the records fail, or another process is at the post.
pub async fn publish(
    post: &Post,
    account: &Account,
    records: &Records,
    settings: &Settings,
    pace: &Pace,
) -> Result<Outcome, PublishError> {
    let network = match account {
        Account::Instagram(_) => Kind::Instagram,
        Account::X(_) => Kind::X,
    };
    let first = Record::new(network, &post.day, &post.entry, OffsetDateTime::now_utc());
    records.keep(&first.picture, &post.jpeg).await?;
    let owner = format!("{:016x}", rand::rng().random::<u64>());
    let mut claim = records
        .claim(first, &owner, pace.takeover(), pace.patience)
        .await?;
    if claim.record().state == State::Posted {
        return Ok(Outcome {
            new: false,
            record: claim.record().clone(),
        });
    }
    let picture = match network {
        Kind::Instagram => address(settings, records, &claim.record().picture)
            .await?
            .ok(),
        Kind::X => None,
    };
    let record = drive::drive(account, &mut claim, picture.as_ref(), pace).await?;
    Ok(Outcome { new: true, record })
}

/// Where Instagram fetches a picture; or what to do so that it can.
async fn address(
    settings: &Settings,
    records: &Records,
    path: &str,
) -> Result<Result<Url, String>, RecordsError> {
    const WAY_OUT: &str = "set AURIA_POST_PUBLIC_URL (or --public-url) to the https:// address under which the gallery is public, or keep the gallery in s3:// of an endpoint that is public: its addresses are signed";
    let (what, url) = match &settings.public_url {
        Some(base) => match Url::parse(&base.at(path)) {
            Ok(url) => ("what is at", url),
            Err(error) => return Ok(Err(format!("{error}: {WAY_OUT}"))),
        },
        None => match records.signed(path).await? {
            Some(url) => ("the store at", url),
            None => {
                return Ok(Err(format!(
                    "Instagram fetches the picture itself, and nobody outside reads this folder: {WAY_OUT}"
                )));
            }
        },
    };
    // A test's Instagram is on this machine and reaches what is on it.
    if settings.instagram_is_local() || is_public(&url) {
        return Ok(Ok(url));
    }
    let host = url.host_str().unwrap_or_default();
    Ok(Err(format!(
        "Instagram fetches the picture itself, by https, and does not reach {what} {}://{host}: {WAY_OUT}",
        url.scheme()
    )))
}

/// Whether an address can be one that everyone reaches: by HTTPS, and none of a machine, a
/// private network or a cluster.
fn is_public(url: &Url) -> bool {
    const PRIVATE: [&str; 6] = ["local", "localhost", "internal", "svc", "lan", "home.arpa"];
    if url.scheme() != "https" {
        return false;
    }
    let is_public_v4 = |at: std::net::Ipv4Addr| {
        !(at.is_private() || at.is_loopback() || at.is_link_local() || at.is_unspecified())
    };
    match url.host() {
        Some(url::Host::Ipv4(at)) => is_public_v4(at),
        Some(url::Host::Ipv6(at)) => match at.to_ipv4_mapped() {
            Some(at) => is_public_v4(at),
            None => {
                !(at.is_loopback()
                    || at.is_unique_local()
                    || at.is_unicast_link_local()
                    || at.is_unspecified())
            }
        },
        Some(url::Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            let is_below = |zone: &str| {
                let above = name.strip_suffix(zone);
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            };
            name.contains('.') && !PRIVATE.into_iter().any(is_below)
        }
        None => false,
    }
}

/// An address as it may be printed: without its signature.
fn redacted(mut url: Url) -> String {
    let is_signed = url.query().is_some();
    url.set_query(None);
    if is_signed {
        format!("{url}?(signed)")
    } else {
        url.to_string()
    }
}

/// A person says how a post is that could not be looked up.
///
/// # Errors
/// When there is no such record, it needs nobody to say, or another process is at it.
pub async fn resolve(
    records: &Records,
    day: &str,
    network: Kind,
    is_posted: bool,
    id: Option<String>,
    pace: &Pace,
) -> Result<Record, PublishError> {
    let day = record::day(day).map_err(PublishError::Wrong)?;
    let record = records.show(&day, network).await?.ok_or_else(|| {
        PublishError::Wrong(format!(
            "there is no post of {day} on {network}: `auria-post posts` lists them"
        ))
    })?;
    let owner = format!("{:016x}", rand::rng().random::<u64>());
    let mut claim = records
        .claim(record, &owner, pace.takeover(), pace.patience)
        .await?;
    if claim.record().state == State::Posted {
        return Err(PublishError::Wrong(format!(
            "the post of {day} on {network} is posted: nothing is to be said about it"
        )));
    }
    claim
        .write(|record| {
            record.owner = None;
            record.retry_after = None;
            record.why = Some("a person said so".to_owned());
            if is_posted {
                record.state = State::Posted;
                record.permalink = match network {
                    Kind::X => id.as_deref().map(x::X::permalink),
                    Kind::Instagram => None,
                };
                record.id = id;
            } else {
                record.state = State::Intended;
                record.container = None;
            }
        })
        .await?;
    Ok(claim.record().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_only_we_reach_is_not_public() {
        let is_public = |text: &str| is_public(&Url::parse(text).unwrap());
        for good in [
            "https://gallery.example/a.jpg",
            "https://bucket.s3.eu-central-1.amazonaws.com/a.jpg?b=c",
            "https://1.1.1.1/a",
            "https://[2606:4700::1111]/a",
            "https://notlocal.example/a",
        ] {
            assert!(is_public(good), "{good}");
        }
        for bad in [
            "http://gallery.example/a.jpg",
            "https://minio/a",
            "https://minio.auria.svc/a",
            "https://minio.auria.svc.cluster.local/a",
            "https://minio.auria.svc.cluster.local./a",
            "https://store.europe.internal/a",
            "https://localhost/a",
            "https://127.0.0.1/a",
            "https://192.168.1.2/a",
            "https://0.0.0.0/a",
            "https://[::1]/a",
            "https://[fd00::1]/a",
            "https://[fe80::1]/a",
            "https://[::ffff:10.0.0.1]/a",
        ] {
            assert!(!is_public(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_public_url_that_instagram_does_not_reach_is_named() {
        let settings = |url| Settings::read(|_| None, Some(url)).unwrap();
        let records = Records::Folder(std::path::PathBuf::from("."));
        let good = settings("https://gallery.example/g");
        let at = address(&good, &records, "posts/a.jpg").await;
        assert_eq!(
            at.unwrap().unwrap().as_str(),
            "https://gallery.example/g/posts/a.jpg"
        );
        for bad in ["https://192.168.1.2", "http://127.0.0.1:8000"] {
            let why = address(&settings(bad), &records, "posts/a.jpg").await;
            let why = why.unwrap().unwrap_err();
            assert!(why.contains("does not reach what is at"), "{why}");
            assert!(why.contains("AURIA_POST_PUBLIC_URL"), "{why}");
        }
    }
}
