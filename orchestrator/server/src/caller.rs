//! What every request shares: its token, the version that it speaks, and bounds on how many
//! are answered at once and on what is remembered of callers. It knows no tokens.

use crate::problem::Refusal;
use auria_core::protocol::{PROTOCOL_VERSION, VERSION_HEADER};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Requests that are answered at once; more are told to come again.
const REQUESTS: usize = 1024;

/// The token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// Refuses what speaks another version of the protocol.
pub(crate) fn checked_version(headers: &HeaderMap) -> Result<(), Refusal> {
    let said = headers
        .get(VERSION_HEADER)
        .and_then(|value| value.to_str().ok());
    if said == Some(PROTOCOL_VERSION.to_string().as_str()) {
        return Ok(());
    }
    let said = said.unwrap_or("none");
    Err(Refusal::new(
        StatusCode::BAD_REQUEST,
        format!(
            "this server speaks version {PROTOCOL_VERSION} of the protocol, and the caller {said}; \
             use programs of one release"
        ),
    )
    .of_kind("auria:protocol-version"))
}

/// `router` with a bound on the requests that it answers at once.
pub(crate) fn bounded(router: Router) -> Router {
    let turns = Arc::new(Semaphore::new(REQUESTS));
    router.layer(axum::middleware::from_fn_with_state(turns, in_turn))
}

async fn in_turn(
    State(turns): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let Ok(_turn) = turns.try_acquire() else {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many requests at this moment",
        ));
    };
    Ok(next.run(request).await)
}

/// A map that forgets what was put in first, once it is full.
pub(crate) struct Bounded<K, V> {
    most: usize,
    state: Mutex<Remembered<K, V>>,
}

struct Remembered<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V: Clone> Bounded<K, V> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            state: Mutex::new(Remembered {
                values: HashMap::new(),
                order: VecDeque::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, Remembered<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.state().values.get(key).cloned()
    }

    pub(crate) fn remove(&self, key: &K) {
        let mut state = self.state();
        if state.values.remove(key).is_some() {
            state.order.retain(|one| one != key);
        }
    }

    pub(crate) fn put(&self, key: K, value: V) {
        let mut state = self.state();
        if state.values.insert(key.clone(), value).is_none() {
            state.order.push_back(key);
        }
        while state.order.len() > self.most
            && let Some(oldest) = state.order.pop_front()
        {
            state.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounded, bearer};
    use http::{HeaderMap, HeaderValue, header};

    #[test]
    fn a_map_forgets_the_oldest() {
        let map = Bounded::new(2);
        for key in [1, 2, 1, 3] {
            map.put(key, key * 10);
        }
        assert_eq!(
            (map.get(&1), map.get(&2), map.get(&3)),
            (None, Some(20), Some(30))
        );
    }

    #[test]
    fn a_token_follows_its_scheme() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(text).unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer a/b").as_deref(), Some("a/b"));
        assert_eq!(of("Basic a"), None);
        assert_eq!(of("Bearer"), None);
    }
}
