//! How often one caller may ask, and how often an address may show a token that counts for
//! nobody. A token that counted is never held up by what others at its address tried.

use crate::caller::{Bounded, bearer};
use crate::problem::Refusal;
use auria_core::{Digest, Timestamp};
use auria_store::Store;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests that one caller may make in a moment.
const BURST: f64 = 2000.0;
/// And for each second after that.
const EACH_SECOND: f64 = 500.0;
/// Refused tokens that an address may show in a moment.
const WRONG: f64 = 20.0;
/// And for each second after that.
const WRONG_EACH_SECOND: f64 = 0.2;
/// Callers that are remembered.
const CALLERS: usize = 16 * 1024;

/// What is left of an allowance, and since when.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(most: f64, now: Instant) -> Self {
        Self {
            left: most,
            at: now,
        }
    }

    fn filled(self, most: f64, each_second: f64, now: Instant) -> Self {
        let more = now.duration_since(self.at).as_secs_f64() * each_second;
        Self {
            left: (self.left + more).min(most),
            at: now,
        }
    }
}

/// The limits of one port.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    store: Store,
    now: fn() -> Timestamp,
    asked: Bounded<Caller, Bucket>,
    wrong: Bounded<IpAddr, Bucket>,
    good: Bounded<Digest, ()>,
    told: Bounded<IpAddr, Instant>,
}

/// Between two notes that one address shows wrong tokens.
const TOLD: Duration = Duration::from_secs(60);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Caller {
    Token(Digest),
    Address(IpAddr),
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limits")
    }
}

impl Limits {
    /// Nobody has asked yet. That an address is held up is noted in the audit log of `store`.
    #[must_use]
    pub fn new(store: Store, now: fn() -> Timestamp) -> Self {
        Self(Arc::new(Inner {
            store,
            now,
            asked: Bounded::new(CALLERS),
            wrong: Bounded::new(CALLERS),
            good: Bounded::new(CALLERS),
            told: Bounded::new(CALLERS),
        }))
    }

    /// `router` within these limits. It must be served with the addresses of its callers.
    pub fn around(&self, router: axum::Router) -> axum::Router {
        router.layer(axum::middleware::from_fn_with_state(self.clone(), within))
    }
}

/// Takes one from what `key` has left; false where there is none.
fn take<K: Clone + Eq + std::hash::Hash>(
    buckets: &Bounded<K, Bucket>,
    key: &K,
    most: f64,
    each_second: f64,
) -> bool {
    let now = Instant::now();
    let found = buckets.get(key).unwrap_or_else(|| Bucket::full(most, now));
    let mut bucket = found.filled(most, each_second, now);
    let enough = bucket.left >= 1.0;
    if enough {
        bucket.left -= 1.0;
    }
    buckets.put(key.clone(), bucket);
    enough
}

fn too_many(why: &str, after: &'static str) -> Response {
    let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, why).of_kind("auria:too-many");
    let mut response = refusal.into_response();
    let after = HeaderValue::from_static(after);
    response.headers_mut().insert(header::RETRY_AFTER, after);
    response
}

async fn within(
    State(limits): State<Limits>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let limits = &limits.0;
    let address = peer.ip();
    let shown = bearer(request.headers()).map(|token| Digest::of(token.as_bytes()));
    let enters = request.method() == http::Method::POST && request.uri().path() == "/login";
    let tries = enters || shown.is_some();
    let known = shown.is_some_and(|token| limits.good.get(&token).is_some());
    let caller = match shown {
        Some(token) if known => Caller::Token(token),
        _ => Caller::Address(address),
    };
    if !take(&limits.asked, &caller, BURST, EACH_SECOND) {
        return too_many("too many requests; ask more slowly", "1");
    }
    if !known && tries {
        let now = Instant::now();
        let left = limits.wrong.get(&address);
        let left = left.map(|left| left.filled(WRONG, WRONG_EACH_SECOND, now));
        if left.is_some_and(|left| left.left < 1.0) {
            let why = "too many tokens that are not known came from this address";
            return too_many(why, "5");
        }
    }
    let response = next.run(request).await;
    if tries {
        if response.status() == StatusCode::UNAUTHORIZED {
            take(&limits.wrong, &address, WRONG, WRONG_EACH_SECOND);
            let told = limits.told.get(&address);
            if told.is_none_or(|at| at.elapsed() > TOLD) {
                limits.told.put(address, Instant::now());
                let (at, to) = ((limits.now)(), address.to_string());
                super::audit::note(&limits.store, at, "nobody", "denied", &to).await;
            }
        } else if let (Some(token), false) = (shown, known) {
            limits.good.put(token, ());
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::{Bucket, WRONG, WRONG_EACH_SECOND, take};
    use crate::caller::Bounded;
    use std::time::{Duration, Instant};

    #[test]
    fn an_allowance_ends_and_fills_again() {
        let buckets = Bounded::new(10);
        let taken = (0..30).filter(|_| take(&buckets, &1, WRONG, WRONG_EACH_SECOND));
        assert_eq!(taken.count(), 20);
        assert!(take(&buckets, &2, WRONG, WRONG_EACH_SECOND));
        let begun = Instant::now();
        let empty = Bucket {
            left: 0.0,
            at: begun,
        };
        let later = empty.filled(WRONG, WRONG_EACH_SECOND, begun + Duration::from_secs(5));
        assert!((later.left - 1.0).abs() < 1e-9);
    }
}
