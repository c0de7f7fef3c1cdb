//! What pages load beside themselves: a style, a script, a sign. They are a part of this
//! program, and the same for everyone.

use super::{Pages, shell};
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, header};

const ICON: &str = include_str!("assets/icon.svg");

pub(super) fn routes() -> Router<Pages> {
    Router::new()
        .route(
            "/style.css",
            get(async || asset(shell::STYLE, "text/css; charset=utf-8")),
        )
        .route(
            "/page.js",
            get(async || asset(shell::SCRIPT, "text/javascript; charset=utf-8")),
        )
        .route("/icon.svg", get(async || asset(ICON, "image/svg+xml")))
}

/// A file of this program.
pub(crate) fn asset(text: &'static str, kind: &'static str) -> Response {
    let mut response = text.into_response();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        // Another release has another.
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
