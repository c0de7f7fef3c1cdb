//! What a broker needs of the store that it stands before, beyond the plain verbs:
//! URLs that are signed for a while, and uploads in parts that others send. It decides
//! nothing about who may have them.

use crate::backend::Bucket;
use crate::{Store, StorePath};
use auria_core::protocol::SignFor;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::Method;
use object_store::multipart::{MultipartStore, PartId};
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{Error, ObjectStoreExt, PutPayload, PutResult, Result};
use std::time::Duration;

/// What is gathered of a stream before it is sent on.
const GATHERED: usize = 8 * 1024 * 1024;

impl Store {
    /// Whether this store can sign URLs: a bucket can, a folder cannot.
    #[must_use]
    pub fn can_sign(&self) -> bool {
        self.bucket().is_some()
    }

    /// A URL that is good for `to` alone, for so long; none where this store signs none.
    ///
    /// # Errors
    /// Where the credentials cannot be had.
    pub async fn sign(
        &self,
        path: &StorePath,
        to: &SignFor,
        life: Duration,
    ) -> Result<Option<String>> {
        let Some(bucket) = self.bucket() else {
            return Ok(None);
        };
        let (method, options) = match to {
            SignFor::Get => (Method::GET, SignedUrlOptions::default()),
            SignFor::Put => (Method::PUT, SignedUrlOptions::default()),
            SignFor::Part { upload, part } => {
                let number = (u64::from(*part) + 1).to_string();
                let query = [("partNumber", number.as_str()), ("uploadId", upload)];
                (Method::PUT, SignedUrlOptions::default().with_query(query))
            }
        };
        let url = bucket
            .s3
            .signed_url_opts(method, &bucket.path(path), life, &options)
            .await?;
        Ok(Some(url.into()))
    }

    /// Begins an upload in parts; none where this store takes streams alone.
    ///
    /// # Errors
    /// The store's.
    pub async fn begin_parts(&self, path: &StorePath) -> Result<Option<String>> {
        match self.bucket() {
            Some(bucket) => bucket
                .lent
                .create_multipart(&bucket.path(path))
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    /// Sends one part, and says what the store calls it.
    ///
    /// # Errors
    /// The store's.
    pub async fn put_part(
        &self,
        path: &StorePath,
        upload: &str,
        part: u32,
        bytes: Bytes,
    ) -> Result<String> {
        let bucket = self.bucket().ok_or_else(no_parts)?;
        let part = usize::try_from(part).unwrap_or(usize::MAX);
        let upload = upload.to_owned();
        let place = bucket.path(path);
        let sent = bucket.lent.put_part(&place, &upload, part, bytes.into());
        Ok(sent.await?.content_id)
    }

    /// Makes the parts an object.
    ///
    /// # Errors
    /// The store's.
    pub async fn complete_parts(
        &self,
        path: &StorePath,
        upload: &str,
        parts: Vec<String>,
    ) -> Result<PutResult> {
        let bucket = self.bucket().ok_or_else(no_parts)?;
        let parts = parts.into_iter().map(|content_id| PartId { content_id });
        bucket
            .lent
            .complete_multipart(&bucket.path(path), &upload.to_owned(), parts.collect())
            .await
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// The store's.
    pub async fn abort_parts(&self, path: &StorePath, upload: &str) -> Result<()> {
        let bucket = self.bucket().ok_or_else(no_parts)?;
        bucket
            .lent
            .abort_multipart(&bucket.path(path), &upload.to_owned())
            .await
    }

    /// Writes what `stream` gives to `path`, of which nothing is seen before its end. At
    /// most two pieces of 8 MiB are held.
    ///
    /// # Errors
    /// The store's, and those of `stream`.
    pub async fn put_stream(
        &self,
        path: &StorePath,
        stream: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<PutResult> {
        let mut upload = self.objects().put_multipart(path).await?;
        let sent = async {
            let mut stream = std::pin::pin!(stream);
            let mut gathered = Vec::with_capacity(GATHERED);
            while let Some(bytes) = stream.next().await {
                let mut bytes = bytes?;
                while gathered.len() + bytes.len() >= GATHERED {
                    gathered.extend_from_slice(&bytes.split_to(GATHERED - gathered.len()));
                    let whole = std::mem::replace(&mut gathered, Vec::with_capacity(GATHERED));
                    upload.put_part(PutPayload::from(whole)).await?;
                }
                gathered.extend_from_slice(&bytes);
            }
            if !gathered.is_empty() {
                upload.put_part(PutPayload::from(gathered)).await?;
            }
            upload.complete().await
        };
        let sent = sent.await;
        if sent.is_err() {
            // The error at hand says more than one about the clearing up.
            upload.abort().await.ok();
        }
        sent
    }
}

impl Bucket {
    /// A path of the store in the bucket.
    fn path(&self, path: &StorePath) -> StorePath {
        let prefix = StorePath::parse(&self.prefix).unwrap_or_default();
        StorePath::from_iter(prefix.parts().chain(path.parts()))
    }
}

fn no_parts() -> Error {
    Error::NotSupported {
        source: "this store takes no uploads in parts".into(),
    }
}
