//! Who looks at pages: a cookie that names a session. Sessions are kept in memory alone, end
//! with the server, and are bounded in number and in time.

use crate::caller::Bounded;
use auria_core::Digest;
use http::{HeaderMap, header};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The cookie.
const COOKIE: &str = "auria-session";
/// Sessions that are remembered.
const SESSIONS: usize = 10_000;
/// How long one lives.
const LIFE: Duration = Duration::from_secs(12 * 3600);

/// The sessions of a server.
pub(super) struct Sessions(Bounded<Digest, (Arc<str>, Instant)>);

impl Default for Sessions {
    fn default() -> Self {
        Self(Bounded::new(SESSIONS))
    }
}

impl Sessions {
    /// Begins a session of whoever shows `token`: the cookie.
    pub(super) fn begin(&self, token: &str) -> String {
        let name = crate::access::secret();
        self.0
            .put(Digest::of(name.as_bytes()), (token.into(), Instant::now()));
        format!(
            "{COOKIE}={name}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
            LIFE.as_secs()
        )
    }

    /// Ends a request's session.
    pub(super) fn end(&self, headers: &HeaderMap) {
        if let Some(name) = named(headers) {
            self.0.remove(&Digest::of(name.as_bytes()));
        }
    }

    /// The token of a request's session.
    pub(super) fn token(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        let (token, begun) = self.0.get(&Digest::of(named(headers)?.as_bytes()))?;
        (begun.elapsed() < LIFE).then_some(token)
    }
}

/// The session that a request names.
fn named(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    cookies.split(';').find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

/// Whether a form was sent by a page of another site.
pub(crate) fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &http::HeaderValue| value.to_str().ok())
    };
    // Browsers say so themselves, also where they do not name the page.
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site")) {
        return site != "same-origin" && site != "none";
    }
    match (text(header::ORIGIN), text(header::HOST)) {
        (Some(origin), Some(host)) => origin
            .split_once("://")
            .is_none_or(|(_, named)| named != host),
        _ => false,
    }
}
