//! Multipart uploads of a bucket that nobody completed, through the bucket's own list of
//! them.

use super::Freed;
use super::grave::Clock;
use crate::backend::Bucket;
use crate::{StoreError, StorePath};
use object_store::multipart::MultipartStore;
use object_store::signer::{SignedUrlOptions, Signer};
use serde::Deserialize;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A request for a page of uploads may take so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pages of a thousand; more are left to the next time.
const MOST_PAGES: u32 = 1000;

/// One page of `ListMultipartUploads`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Page {
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
    #[serde(rename = "Upload")]
    uploads: Vec<Upload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
    initiated: String,
}

/// What an upload's parts hold is not told by a list: bytes stay 0.
pub(super) async fn sweep(
    bucket: &Bucket,
    clock: Clock,
    age: Duration,
    dry_run: bool,
) -> Result<Freed, StoreError> {
    let build = |system_authorities: bool| {
        let builder = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none());
        if system_authorities {
            builder.build()
        } else {
            builder.tls_certs_only(Vec::new()).build()
        }
    };
    // An image without any certificates reaches a store without TLS all the same.
    let client = build(true).or_else(|_| build(false)).map_err(unreachable)?;
    let mut freed = Freed::default();
    let (mut key, mut id) = (String::new(), String::new());
    for _ in 0..MOST_PAGES {
        let page = page(&client, bucket, &key, &id).await?;
        for upload in &page.uploads {
            let begun = OffsetDateTime::parse(&upload.initiated, &Rfc3339)
                .map_or(i64::MAX, |time| time.unix_timestamp().saturating_mul(1000));
            if clock.age_of(begun) < age || !is_below(&upload.key, &bucket.prefix) {
                continue;
            }
            freed.objects += 1;
            if !dry_run {
                let Ok(path) = StorePath::parse(&upload.key) else {
                    continue;
                };
                match bucket.s3.abort_multipart(&path, &upload.upload_id).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(crate::error::sort_error("abort", &path, error)),
                }
            }
        }
        if !page.is_truncated {
            break;
        }
        (key, id) = (page.next_key_marker, page.next_upload_id_marker);
    }
    Ok(freed)
}

fn is_below(key: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || key
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('/'))
}

async fn page(
    client: &reqwest::Client,
    bucket: &Bucket,
    key: &str,
    id: &str,
) -> Result<Page, StoreError> {
    let mut query = vec![
        ("uploads".to_owned(), String::new()),
        ("max-uploads".to_owned(), "1000".to_owned()),
    ];
    if !bucket.prefix.is_empty() {
        query.push(("prefix".to_owned(), format!("{}/", bucket.prefix)));
    }
    if !key.is_empty() {
        query.push(("key-marker".to_owned(), key.to_owned()));
        query.push(("upload-id-marker".to_owned(), id.to_owned()));
    }
    let options = SignedUrlOptions::default().with_query(query);
    let url = bucket
        .s3
        .signed_url_opts(
            reqwest::Method::GET,
            &StorePath::default(),
            PATIENCE,
            &options,
        )
        .await
        .map_err(|error| crate::error::sort_error("list uploads of", &StorePath::ROOT, error))?;
    let answer = client.get(url).send().await.map_err(unreachable)?;
    let status = answer.status();
    let body = answer.text().await.map_err(unreachable)?;
    if !status.is_success() {
        return Err(StoreError::Unreachable {
            doing: "list the uploads of the bucket".into(),
            source: format!("the answer is {status}").into(),
        });
    }
    quick_xml::de::from_str(&body).map_err(|error| StoreError::Unreachable {
        doing: "list the uploads of the bucket".into(),
        source: Box::new(error),
    })
}

/// The URL carries a signature: it is left out of what is said.
fn unreachable(error: reqwest::Error) -> StoreError {
    StoreError::Unreachable {
        doing: "list the uploads of the bucket".into(),
        source: Box::new(error.without_url()),
    }
}
