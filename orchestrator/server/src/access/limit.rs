//! How often one caller may ask, and how often an address may show a token that counts for
//! nobody. Every token is looked at before anything is refused on its account, so that who has
//! one that counts is never held up by what others at the same address tried.

use super::Access;
use crate::api::Denied;
use crate::caller::{Bounded, bearer};
use crate::problem::Refusal;
use auria_core::Digest;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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
/// How long it is remembered that a token counts: as long as what it may do is.
const GOOD: Duration = Duration::from_secs(15);
/// Where a page takes a token in a form.
const LOGIN: &str = "/login";

/// What is left of an allowance, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
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
    access: Arc<Access>,
    /// By tokens that count: nobody else's request makes one of them be forgotten.
    by_token: Bounded<Digest, Bucket>,
    by_place: Bounded<IpAddr, Bucket>,
    wrong: Bounded<IpAddr, Bucket>,
    good: Bounded<Digest, Instant>,
    told: Bounded<IpAddr, Instant>,
}

/// Between two notes that one address shows wrong tokens.
const TOLD: Duration = Duration::from_secs(60);

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limits")
    }
}

impl Limits {
    /// Nobody has asked yet. `access` says which tokens count, and that an address shows wrong
    /// ones is noted in the audit log of its store.
    #[must_use]
    pub fn new(access: Arc<Access>) -> Self {
        Self(Arc::new(Inner {
            access,
            by_token: Bounded::new(CALLERS),
            by_place: Bounded::new(CALLERS),
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

impl Inner {
    /// Whether `token` counts.
    async fn counts(&self, token: &str) -> Result<bool, Refusal> {
        let digest = Digest::of(token.as_bytes());
        let found = self.good.get(&digest);
        if found.is_some_and(|at| at.elapsed() < GOOD) {
            return Ok(true);
        }
        match self.access.principal(token).await {
            Ok(_) => {
                self.good.put(digest, Instant::now());
                Ok(true)
            }
            Err(Denied::Unavailable { message }) => {
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message))
            }
            Err(Denied::Unknown | Denied::Forbidden { .. }) => Ok(false),
        }
    }

    /// Counts a wrong token; what its place is told.
    async fn refused(&self, place: IpAddr) -> Response {
        let told = self.told.get(&place);
        if told.is_none_or(|at| at.elapsed() > TOLD) {
            self.told.put(place, Instant::now());
            let (store, now) = (self.access.store(), self.access.now());
            super::audit::note(store, now, "nobody", "denied", &place.to_string()).await;
        }
        if take(&self.wrong, &place, WRONG, WRONG_EACH_SECOND) {
            Refusal::unknown().into_response()
        } else {
            let why = "too many tokens that are not known came from this address";
            too_many(why, "5")
        }
    }
}

/// Where a caller is: a host has one address of version 4, and 2^64 of version 6.
pub(crate) fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

/// Takes one from what `key` has left; false where there is none.
pub(crate) fn take<K: Clone + Eq + std::hash::Hash>(
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
    let place = place(peer.ip());
    let shown = bearer(request.headers()).filter(|token| !token.is_empty());
    let enough = match shown {
        Some(token) => match limits.counts(token).await {
            Ok(true) => {
                let token = Digest::of(token.as_bytes());
                take(&limits.by_token, &token, BURST, EACH_SECOND)
            }
            Ok(false) => return limits.refused(place).await,
            Err(refusal) => return refusal.into_response(),
        },
        None => take(&limits.by_place, &place, BURST, EACH_SECOND),
    };
    if !enough {
        return too_many("too many requests; ask more slowly", "1");
    }
    let enters = request.method() == Method::POST && request.uri().path() == LOGIN;
    let response = next.run(request).await;
    if enters && response.status() == StatusCode::UNAUTHORIZED {
        let counted = limits.refused(place).await;
        if counted.status() == StatusCode::TOO_MANY_REQUESTS {
            return counted;
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::{Bucket, WRONG, WRONG_EACH_SECOND, place, take};
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

    #[test]
    fn a_network_of_version_6_is_one_place() {
        let of = |text: &str| place(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
