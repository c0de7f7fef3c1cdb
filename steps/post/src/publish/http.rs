//! Calls to a network: JSON in, JSON out, with a bound on everything.
//!
//! Nothing is repeated here, no redirect is followed (it would take the credentials along), and
//! no connection is used twice: whether a call may be repeated is decided by what it does, in
//! [`super::drive`].

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use url::{Host, Url};

use super::secrets::Secrets;

/// Bytes of an answer that are read. A hundred posts with their texts are a tenth of that.
const MOST_BYTES: usize = 1 << 20;
/// For a connection to come to be.
const CONNECT: Duration = Duration::from_secs(10);

/// Why a call came to nothing, by what that means for the post.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The network refused: the call had no effect, and the same call again will have none.
    #[error("{0}")]
    Refused(String),
    /// The network's limit is used up: the call had no effect, and may have one later.
    #[error("{what}")]
    Quota {
        /// What the network says.
        what: String,
        /// When to try again.
        until: OffsetDateTime,
    },
    /// No answer, or one that says nothing: the call may have had its effect.
    #[error("{0}")]
    Unclear(String),
}

/// Where a network's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base(String);

impl Base {
    /// Reads an address: `https://…`, or `http://` of this machine alone, for tests.
    ///
    /// # Errors
    /// With what is wrong about it.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{name} is no address: {error}"))?;
        if !is_safe(&url) {
            return Err(format!(
                "{name} must be https://…: credentials go there (http:// is for this machine, 127.0.0.1)"
            ));
        }
        if url.query().is_some() || url.fragment().is_some() || has_user(&url) {
            return Err(format!(
                "{name} must be a plain address, without user, query or fragment"
            ));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }

    /// The address of a path.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.0)
    }

    /// Whether it is this machine: a server of a test, which reaches what we reach.
    #[must_use]
    pub fn is_local(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|url| is_loopback(&url))
    }
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// HTTPS, or this machine.
#[must_use]
pub fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(url),
        _ => false,
    }
}

/// Whether an address is of this machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// For people: what it does.
    pub what: &'a str,
    /// The whole address.
    pub url: &'a str,
    /// The header `Authorization`.
    pub authorization: &'a str,
    /// What is posted; none is a GET.
    pub body: Option<&'a Value>,
}

/// What a network answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null where it is no JSON.
    pub body: Value,
    /// When the network's limits begin anew, where it says so.
    pub again: Option<OffsetDateTime>,
}

/// Calls networks.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    secrets: Secrets,
}

impl Client {
    /// A client that waits for an answer for as long as `timeout`.
    ///
    /// # Errors
    /// Where this machine has no certificates of authorities.
    pub fn new(timeout: Duration, base: &Base, secrets: Secrets) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("auria-post/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .connect_timeout(CONNECT)
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0);
        if base.is_local() {
            builder = builder.no_proxy().tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| {
            format!(
                "cannot speak HTTPS: {} (Debian: apt-get install ca-certificates)",
                chain(&error)
            )
        })?;
        Ok(Self { http, secrets })
    }

    /// Takes secrets out of what others say.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        self.secrets.scrub(text)
    }

    /// A client to which this is a secret as well.
    #[must_use]
    pub fn with_secrets(&self, secrets: Secrets) -> Self {
        Self {
            http: self.http.clone(),
            secrets,
        }
    }

    /// Calls, and reads the whole answer.
    ///
    /// # Errors
    /// [`Trouble::Unclear`] where there is none: it is not known whether the call arrived.
    pub async fn call(&self, call: &Call<'_>) -> Result<Answer, Trouble> {
        let unclear = |why: String| {
            Trouble::Unclear(self.scrub(&format!("no answer when asked to {}: {why}", call.what)))
        };
        let mut request = match call.body {
            Some(body) => self
                .http
                .post(call.url)
                .header("Content-Type", "application/json")
                .body(body.to_string()),
            None => self.http.get(call.url),
        };
        request = request
            .header("Authorization", call.authorization)
            .header("Accept", "application/json");
        let mut response = request
            .send()
            .await
            .map_err(|error| unclear(chain(&error.without_url())))?;
        let status = response.status().as_u16();
        let again = again(response.headers(), OffsetDateTime::now_utc());
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| unclear(chain(&error.without_url())))?
        {
            if bytes.len() + chunk.len() > MOST_BYTES {
                return Err(unclear(format!("it is longer than {MOST_BYTES} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            again,
        })
    }
}

/// The longest that a limit is believed to last: X's are of a day at most, and a post that were
/// held for longer by a wrong header would be forgotten.
const LONGEST_LIMIT: time::Duration = time::Duration::days(7);

/// The headers by which networks say when to come again. A moment that has passed, or is farther
/// away than any limit lasts, says nothing.
fn again(headers: &reqwest::header::HeaderMap, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    let moment = |name: &str| {
        let moment = OffsetDateTime::from_unix_timestamp(number(name)?).ok()?;
        (moment > now && moment - now <= LONGEST_LIMIT).then_some(moment)
    };
    let is_used_up = |name: &str| number(name) == Some(0);
    let moments = [
        ("x-rate-limit-remaining", "x-rate-limit-reset"),
        ("x-user-limit-24hour-remaining", "x-user-limit-24hour-reset"),
        ("x-app-limit-24hour-remaining", "x-app-limit-24hour-reset"),
    ];
    let used_up = moments
        .iter()
        .filter(|(remaining, _)| is_used_up(remaining))
        .filter_map(|(_, reset)| moment(reset))
        .max();
    used_up
        .or_else(|| moment("x-rate-limit-reset"))
        .or_else(|| {
            let wait = time::Duration::seconds(number("retry-after")?);
            (!wait.is_negative() && wait <= LONGEST_LIMIT).then(|| now + wait)
        })
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// An identifier of a network: digits alone, so that it can stand in a path.
#[must_use]
pub fn identifier(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let is_one = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_one.then_some(text)
}

/// A text for a query, by RFC 3986 as OAuth 1.0a wants it.
#[must_use]
pub fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_https_or_to_this_machine_alone() {
        for good in [
            "https://graph.instagram.com/v24.0",
            "http://127.0.0.1:8080",
            "http://[::1]:1/x/",
        ] {
            assert!(Base::parse("URL", good).is_ok(), "{good}");
        }
        for bad in [
            "http://graph.instagram.com",
            "http://10.0.0.1",
            "ftp://localhost",
            "https://user@host",
            "https://:password@host",
            "https://host/?a=b",
            "nothing",
        ] {
            assert!(Base::parse("URL", bad).is_err(), "{bad}");
        }
        assert_eq!(
            Base::parse("URL", "https://a/b/").unwrap().at("c"),
            "https://a/b/c"
        );
    }

    #[test]
    fn a_limit_ends_when_the_network_says_so_and_within_a_week() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let said = |pairs: &[(&'static str, &str)]| {
            let mut headers = reqwest::header::HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            again(&headers, now).map(|until| (until - now).whole_seconds())
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[("x-rate-limit-reset", "1800000900")]), Some(900));
        let day = [
            ("x-rate-limit-reset", "1800000900"),
            ("x-user-limit-24hour-remaining", "0"),
            ("x-user-limit-24hour-reset", "1800080000"),
        ];
        assert_eq!(said(&day), Some(80_000));
        assert_eq!(said(&[("retry-after", "60")]), Some(60));
        // Milliseconds, seconds from now, and a moment that has passed.
        for wrong in ["1800000900000", "253402300799", "900", "1799999999", "-1"] {
            assert_eq!(said(&[("x-rate-limit-reset", wrong)]), None, "{wrong}");
            let both = [("x-rate-limit-reset", wrong), ("retry-after", "60")];
            assert_eq!(said(&both), Some(60), "{wrong}");
        }
        for wrong in ["604801", "-1", "9223372036854775807", "soon"] {
            assert_eq!(said(&[("retry-after", wrong)]), None, "{wrong}");
        }
    }

    #[test]
    fn an_identifier_cannot_leave_its_path() {
        assert_eq!(identifier(&"123".into()).as_deref(), Some("123"));
        assert_eq!(identifier(&serde_json::json!(17)).as_deref(), Some("17"));
        for bad in ["", "1/2", "../1", "a"] {
            assert_eq!(identifier(&bad.into()), None);
        }
    }
}
