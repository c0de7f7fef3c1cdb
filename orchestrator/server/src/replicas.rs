//! What replicas of a controller say to each other: one that does not drive passes on what
//! launchers told it, so that the one that drives need not wait until the cluster shows the
//! same. On the broker's port, with a token that only they know. It decides nothing.

use crate::caller::{bearer, checked_version};
use crate::problem::Refusal;
use auria_core::Digest;
use auria_core::protocol::{Heard, LARGEST_BODY, REPLICAS, Said, TOLD};
use auria_engine::executor::{AttemptEvent, Happened};
use auria_engine::relay::Wake;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt::Write as _;
use std::sync::Arc;

/// The token of all replicas that share `key`: it is not the key of any attempt's.
///
/// # Errors
/// Where the key is of no use.
pub fn token(key: &[u8]) -> Result<String, String> {
    let mac = Hmac::<Sha256>::new_from_slice(key).map_err(|error| error.to_string())?;
    let mac = mac.chain_update(b"auria replicas 1").finalize();
    let mut text = String::new();
    for byte in mac.into_bytes() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[derive(Clone)]
struct Listens {
    /// Compared instead of the token, so that nothing is learned from how long it takes.
    token: Digest,
    wake: Arc<dyn Wake>,
}

/// What a replica answers the others: `wake` is told what they heard.
pub fn router(token: &str, wake: Arc<dyn Wake>) -> Router {
    let listens = Listens {
        token: Digest::of(token.as_bytes()),
        wake,
    };
    Router::new().nest(
        REPLICAS,
        Router::new()
            .route(TOLD, post(told))
            .layer(DefaultBodyLimit::max(LARGEST_BODY))
            .layer(axum::middleware::from_fn_with_state(listens.clone(), known))
            .with_state(listens),
    )
}

async fn known(
    State(listens): State<Listens>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let shown = bearer(request.headers()).ok_or_else(Refusal::unknown)?;
    if Digest::of(shown.as_bytes()) != listens.token {
        return Err(Refusal::unknown());
    }
    checked_version(request.headers())?;
    Ok(next.run(request).await)
}

async fn told(State(listens): State<Listens>, Json(heard): Json<Vec<Heard>>) -> Json<()> {
    for Heard { attempt, said } in heard {
        let happened = match said {
            Said::News { news } => Happened::News(news),
            Said::Log { lines } => Happened::Log(lines),
        };
        listens.wake.tell(AttemptEvent { attempt, happened });
    }
    Json(())
}
