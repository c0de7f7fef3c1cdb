//! Files that an HTTP server gives: pinned by ETag, or by date and length where it
//! gives none, and fetched as they come, again from where they broke off.

use super::{MODE, changed, unsuitable};
use crate::artifact::Fetched;
use crate::transfer::{Passage, again, pause};
use crate::{StoreError, http, tree};
use auria_core::plan::DataType;
use futures::TryStreamExt;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_MATCH,
    LAST_MODIFIED, RANGE,
};
use reqwest::{Client, Response, StatusCode, Url};
use std::path::Path;
use std::time::Duration;

/// Redirections that are followed.
const REDIRECTS: usize = 5;
/// A larger file is refused.
const LARGEST: u64 = 1024 * 1024 * 1024 * 1024;
/// A file that gives nothing new is asked for so often.
const TRIES: u32 = 5;

pub(super) fn is_web(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://")
}

/// What a server says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    tag: Option<String>,
    modified: Option<String>,
    length: Option<u64>,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        Self {
            tag: text(ETAG),
            modified: text(LAST_MODIFIED),
            length: text(CONTENT_LENGTH).and_then(|text| text.parse().ok()),
        }
    }

    fn pin(&self, uri: &str) -> Result<String, StoreError> {
        match (&self.tag, &self.modified, self.length) {
            (Some(tag), _, _) => Ok(format!("ETag {tag}")),
            (None, Some(modified), Some(length)) => {
                Ok(format!("{length} bytes, modified {modified}"))
            }
            _ => Err(unsuitable(uri, super::NO_VERSION)),
        }
    }

    /// What a server compares exactly.
    fn strong(&self) -> Option<&str> {
        self.tag.as_deref().filter(|tag| !tag.starts_with("W/"))
    }
}

fn client(uri: &str) -> Result<(Client, Url), StoreError> {
    let url = Url::parse(uri).map_err(|error| unsuitable(uri, &error.to_string()))?;
    let redirects = reqwest::redirect::Policy::custom(|attempt| {
        let was_safe = attempt.previous().iter().any(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS {
            attempt.error("it redirects again and again")
        } else if was_safe && attempt.url().scheme() != "https" {
            attempt.error("it redirects from https to http")
        } else {
            attempt.follow()
        }
    });
    let client = Client::builder()
        .user_agent(concat!("auria-pipeline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(http::STALL)
        .redirect(redirects)
        .build()
        .map_err(|error| failed(uri, error))?;
    Ok((client, url))
}

fn failed(uri: &str, error: reqwest::Error) -> StoreError {
    StoreError::Unreachable {
        doing: format!("read {uri}"),
        source: Box::new(error.without_url()),
    }
}

/// The answer, where it is one.
fn accepted(uri: &str, answer: Response) -> Result<Response, StoreError> {
    let status = answer.status();
    let said = || format!("the server answered {status}");
    match status {
        _ if status.is_success() => Ok(answer),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(StoreError::NotFound {
            what: uri.to_owned(),
        }),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(StoreError::Denied {
            doing: format!("read {uri}"),
            source: said().into(),
        }),
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(StoreError::Unreachable {
                doing: format!("read {uri}"),
                source: said().into(),
            })
        }
        _ => Err(unsuitable(uri, &said())),
    }
}

pub(super) async fn pin(uri: &str) -> Result<String, StoreError> {
    let (client, url) = client(uri)?;
    let seen = again(|| async {
        let head = client
            .head(url.clone())
            .header(ACCEPT_ENCODING, "identity")
            .send()
            .await;
        let head = head.map_err(|error| failed(uri, error))?;
        if head.status().is_success() {
            return Ok(Seen::of(head.headers()));
        }
        // Some servers know GET alone; what follows the head of the answer is not read.
        let get = client
            .get(url.clone())
            .header(ACCEPT_ENCODING, "identity")
            .send()
            .await;
        let get = accepted(uri, get.map_err(|error| failed(uri, error))?)?;
        Ok(Seen::of(get.headers()))
    })
    .await?;
    seen.pin(uri)
}

pub(super) async fn fetch(
    uri: &str,
    pin: &str,
    data_type: DataType,
    to: &Path,
) -> Result<Fetched, StoreError> {
    let (client, url) = client(uri)?;
    let place = to.join(name(&url));
    let mut passage = Passage::begin(&place).await?;
    let mut seen: Option<Seen> = None;
    let mut tries = 0;
    loop {
        tries += 1;
        let before = passage.at();
        let result = go_on(&client, &url, uri, pin, &mut seen, &mut passage).await;
        match result {
            Ok(()) => break,
            Err(error) if error.is_transient() && tries < TRIES => {
                if passage.at() > before {
                    tries = 1;
                }
                pause(tries).await;
            }
            Err(error) => return Err(error),
        }
    }
    let bytes = passage.at();
    passage.finish(MODE).await?;
    let path = match data_type {
        DataType::UriFile => place,
        _ => to.to_owned(),
    };
    Ok(Fetched {
        path,
        files: 1,
        bytes,
    })
}

/// Reads on from where `passage` is, or from the start where the server cannot do that.
async fn go_on(
    client: &Client,
    url: &Url,
    uri: &str,
    pin: &str,
    seen: &mut Option<Seen>,
    passage: &mut Passage,
) -> Result<(), StoreError> {
    // Bytes as they are, so that their number is the one that is said.
    let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
    let strong = seen.as_ref().and_then(Seen::strong).map(str::to_owned);
    let on = passage.at() > 0 && strong.is_some();
    if let (true, Some(tag)) = (on, &strong) {
        request = request
            .header(IF_MATCH, tag)
            .header(RANGE, format!("bytes={}-", passage.at()));
    }
    let answer = request.send().await.map_err(|error| failed(uri, error))?;
    if answer.status() == StatusCode::PRECONDITION_FAILED {
        return Err(changed(uri, pin, "another"));
    }
    let answer = accepted(uri, answer)?;
    let mut now = Seen::of(answer.headers());
    if answer.status() == StatusCode::PARTIAL_CONTENT {
        let begins = format!("bytes {}-", passage.at());
        let range = answer.headers().get(CONTENT_RANGE);
        let fits = range.is_some_and(|range| range.as_bytes().starts_with(begins.as_bytes()));
        if !fits {
            return Err(unsuitable(uri, "the server answered with another range"));
        }
        // It is the length of the rest.
        now.length = now.length.map(|rest| rest + passage.at());
    } else {
        passage.again().await?;
    }
    let found = now.pin(uri)?;
    if found != pin {
        return Err(changed(uri, pin, &found));
    }
    let length = now.length;
    if length.is_some_and(|length| length > LARGEST) {
        return Err(too_large(uri));
    }
    *seen = Some(now);
    let mut stream = answer.bytes_stream();
    while let Some(bytes) = stream
        .try_next()
        .await
        .map_err(|error| failed(uri, error))?
    {
        passage.put(bytes).await?;
        if passage.at() > length.unwrap_or(LARGEST) {
            return Err(too_large(uri));
        }
    }
    passage.flush().await?;
    match length {
        Some(length) if length != passage.at() => Err(StoreError::Unreachable {
            doing: format!("read {uri}"),
            source: format!("{} of {length} bytes came", passage.at()).into(),
        }),
        _ => Ok(()),
    }
}

fn too_large(uri: &str) -> StoreError {
    unsuitable(uri, "it is larger than 1 TiB, or than the server said")
}

/// What a file from `url` is called: the end of its path, where that can be a name.
fn name(url: &Url) -> String {
    let last = url.path_segments().and_then(|mut parts| parts.next_back());
    last.map(str::to_owned)
        .filter(|name| tree::is_confined(name) && !name.contains('/') && name.len() <= 255)
        .unwrap_or_else(|| "file".to_owned())
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_file_is_called_as_in_its_address() {
        for (url, expected) in [
            ("https://example.org/a/poem.txt?x=1", "poem.txt"),
            ("https://example.org", "file"),
            ("https://example.org/a/", "file"),
            ("https://example.org/a/..", "file"),
        ] {
            assert_eq!(name(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
