//! Pictures of works, no larger than they are shown. Few are scaled at once, and what was scaled
//! is kept in memory for a while.

use super::work::{Part, Size};
use crate::api::Api;
use crate::caller::Bounded;
use crate::pages::files;
use auria_core::Digest;
use auria_core::outcome::Artifact;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{ImageReader, Limits};
use std::io::Cursor;
use tokio::sync::Semaphore;

/// The largest file that is read.
const LARGEST: u64 = 32 * 1024 * 1024;
/// The most pixels on a side, and bytes of them.
const LONGEST_SIDE: u32 = 8192;
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// Scaled pictures that are kept: some ten MiB.
const KEPT: usize = 128;
/// Pictures that are scaled at once.
const AT_ONCE: usize = 2;
/// Of a JPEG.
const QUALITY: u8 = 88;

/// The pictures of a server.
pub(super) struct Pictures {
    api: Api,
    kept: Bounded<(Digest, &'static str, Size), Bytes>,
    turns: Semaphore,
}

impl Pictures {
    pub(super) fn new(api: Api) -> Self {
        Self {
            api,
            kept: Bounded::new(KEPT),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// A picture as an answer.
    pub(super) async fn answer(&self, made: &Artifact, part: Part, size: Size) -> Response {
        match self.bytes(made, part, size).await {
            Some(bytes) => answer(bytes, size),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }

    async fn bytes(&self, made: &Artifact, part: Part, size: Size) -> Option<Bytes> {
        let key = (made.digest, part.file(), size);
        if let Some(kept) = self.kept.get(&key) {
            return Some(kept);
        }
        let files = files::list(&self.api, made).await.ok()?;
        let file = files.iter().find(|file| file.path == part.file())?;
        if file.size > LARGEST {
            return None;
        }
        let side = match size {
            Size::Whole => return files::beginning(&self.api, file, LARGEST).await.ok(),
            Size::Small => 480,
            Size::Shown => 1080,
        };
        let _turn = self.turns.acquire().await.ok()?;
        if let Some(kept) = self.kept.get(&key) {
            return Some(kept);
        }
        let bytes = files::beginning(&self.api, file, LARGEST).await.ok()?;
        let scaled = tokio::task::spawn_blocking(move || scaled(&bytes, side));
        let scaled = scaled.await.ok()??;
        self.kept.put(key, scaled.clone());
        Some(scaled)
    }
}

/// A JPEG whose sides are at most `side`.
fn scaled(bytes: &[u8], side: u32) -> Option<Bytes> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let picture = reader.decode().ok()?;
    let picture = if picture.width().max(picture.height()) > side {
        picture.resize(side, side, FilterType::CatmullRom)
    } else {
        picture
    };
    let mut scaled = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut scaled, QUALITY);
    picture.into_rgb8().write_with_encoder(encoder).ok()?;
    Some(scaled.into())
}

fn answer(bytes: Bytes, size: Size) -> Response {
    let mut response = Body::from(bytes).into_response();
    let headers = response.headers_mut();
    crate::api::logs::inert(headers);
    let kind = match size {
        Size::Whole => "image/png",
        Size::Small | Size::Shown => "image/jpeg",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // A work is never changed.
    let keep = HeaderValue::from_static("public, max-age=86400, immutable");
    headers.insert(header::CACHE_CONTROL, keep);
    response
}
