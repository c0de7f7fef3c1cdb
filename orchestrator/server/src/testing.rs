//! A server that lets every caller do everything, for suites that try a store behind HTTP.
//! Only with the feature `testing`.

use crate::objects::{Rights, Served, Verb, routes};
use crate::problem::Refusal;
use async_trait::async_trait;
use auria_core::protocol::API;
use auria_store::{Store, StorePath};
use axum::{Extension, Router};
use bytes::Bytes;
use std::sync::Arc;

struct Everything;

#[async_trait]
impl Rights for Everything {
    async fn may(&self, _: Verb, _: &StorePath, _: Option<&Bytes>) -> Result<(), Refusal> {
        Ok(())
    }

    async fn amended(&self, _: &StorePath, bytes: Bytes) -> Bytes {
        bytes
    }

    async fn stands(&self, _: &StorePath, _: &Bytes) {}
}

/// Serves `store` to everyone, with signed URLs where it can and `sign` says so.
pub fn everything(store: Store, sign: bool) -> Router {
    let rights: Arc<dyn Rights> = Arc::new(Everything);
    let routes = routes(Served::new(store, sign, None))
        .into_router()
        .layer(Extension(rights));
    Router::new().nest(API, routes)
}
