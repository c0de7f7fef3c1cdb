//! The connection beneath a store on S3, and what it means when a folder cannot be
//! opened. Nothing here knows what a store holds.

use crate::{StoreError, StoreUrl};
#[cfg(feature = "direct")]
use crate::{StorePath, connector, http};
use object_store::ObjectStore;
#[cfg(feature = "direct")]
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};
#[cfg(feature = "direct")]
use object_store::prefix::PrefixStore;
#[cfg(feature = "direct")]
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, RetryConfig};
use std::path::Path;
use std::sync::Arc;
#[cfg(feature = "direct")]
use std::time::Duration;

/// A bucket beneath a store, for what `ObjectStore` has no verb for.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    #[cfg(feature = "direct")]
    pub(crate) s3: Arc<AmazonS3>,
    /// The same without checksums of the client's own: parts that others send by signed
    /// URLs have none, and a store that was told to expect them would refuse these.
    #[cfg(feature = "direct")]
    pub(crate) lent: Arc<AmazonS3>,
    /// The store's prefix in it, without `/` at its ends.
    #[cfg(feature = "direct")]
    pub(crate) prefix: String,
    /// Where the bucket is, unless it is AWS itself.
    pub(crate) endpoint: Option<String>,
}

/// A program that reaches its store through a broker opens no bucket.
#[cfg(not(feature = "direct"))]
pub(crate) fn s3(
    url: &StoreUrl,
    _bucket: &str,
    _prefix: &str,
    _settings: &[(&str, &str)],
) -> Result<(Arc<dyn ObjectStore>, Bucket), StoreError> {
    Err(StoreError::Refused {
        store: url.to_string(),
        why: "this program opens no buckets: it reaches its store through a broker".into(),
        help: "use a program that was built with the feature `direct`".into(),
    })
}

/// The credentials, the region and the address come from `AWS_…` variables.
#[cfg(feature = "direct")]
pub(crate) fn s3(
    url: &StoreUrl,
    bucket: &str,
    prefix: &str,
    settings: &[(&str, &str)],
) -> Result<(Arc<dyn ObjectStore>, Bucket), StoreError> {
    let mut from_env = AmazonS3Builder::from_env();
    for (name, value) in settings {
        let key: AmazonS3ConfigKey = name.to_lowercase().parse().map_err(|_| {
            let why = format!("{name} is not a setting of S3");
            StoreError::InvalidUrl {
                text: url.to_string(),
                why,
            }
        })?;
        from_env = from_env.with_config(key, *value);
    }
    let set = |key: AmazonS3ConfigKey| {
        from_env
            .get_config_value(&key)
            .filter(|value| !value.is_empty())
    };
    // Plain HTTP is for this machine alone, unless AWS_ALLOW_HTTP says otherwise.
    let endpoint = set(AmazonS3ConfigKey::S3Endpoint).or_else(|| set(AmazonS3ConfigKey::Endpoint));
    let allow_http = endpoint.as_deref().is_some_and(is_loopback)
        || set(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp))
            .is_some_and(|value| value == "true");
    let has_checksum = set(AmazonS3ConfigKey::Checksum).is_some();
    let client = |key| set(AmazonS3ConfigKey::Client(key));
    let stall = match client(ClientConfigKey::ReadTimeout) {
        Some(text) => connector::stall(&text)?,
        None => http::STALL,
    };
    let mut options = ClientOptions::new().with_allow_http(allow_http);
    for key in [
        ClientConfigKey::AllowInvalidCertificates,
        ClientConfigKey::ProxyCaCertificate,
        ClientConfigKey::ProxyExcludes,
        ClientConfigKey::ProxyUrl,
    ] {
        if let Some(value) = client(key) {
            options = options.with_config(key, value);
        }
    }
    // The signature covers what is sent, and not every server compares that; what
    // is named a checksum they do. This one costs both sides next to nothing.
    from_env = from_env.with_client_options(options);
    let lent = from_env.clone();
    if !has_checksum {
        from_env = from_env.with_checksum_algorithm(Checksum::CRC64NVME);
    }
    let finish = |builder: AmazonS3Builder| {
        let built = finished(builder, bucket, stall).build();
        let built = built.map_err(|source| StoreError::Unreachable {
            doing: format!("open {url}"),
            source: Box::new(source),
        })?;
        Ok::<_, StoreError>(Arc::new(built))
    };
    let s3 = finish(from_env)?;
    let bucket = Bucket {
        s3: Arc::clone(&s3),
        lent: finish(lent)?,
        prefix: prefix.to_owned(),
        endpoint,
    };
    let objects: Arc<dyn ObjectStore> = if prefix.is_empty() {
        s3
    } else {
        Arc::new(PrefixStore::new(
            s3,
            StorePath::parse(prefix).unwrap_or_default(),
        ))
    };
    Ok((objects, bucket))
}

/// What every client of a bucket shares.
#[cfg(feature = "direct")]
fn finished(builder: AmazonS3Builder, bucket: &str, stall: Duration) -> AmazonS3Builder {
    builder
        .with_http_connector(connector::Connector { stall })
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: 6,
            retry_timeout: stall * 2,
        })
}

/// Why a folder cannot be opened.
pub(crate) fn folder_error(folder: &Path, source: std::io::Error) -> StoreError {
    use std::io::ErrorKind as K;
    let doing = format!("open the folder {}", folder.display());
    match source.kind() {
        K::NotFound => StoreError::NotFound {
            what: format!("the folder {}", folder.display()),
        },
        K::PermissionDenied | K::ReadOnlyFilesystem => StoreError::Denied {
            doing,
            source: Box::new(source),
        },
        K::StorageFull | K::QuotaExceeded => StoreError::Full {
            doing,
            source: Box::new(source),
        },
        K::NotADirectory | K::AlreadyExists => StoreError::InvalidUrl {
            text: folder.display().to_string(),
            why: "it is a file and not a folder".into(),
        },
        _ => StoreError::Unreachable {
            doing,
            source: Box::new(source),
        },
    }
}

/// Whether an endpoint is on this machine.
#[cfg(feature = "direct")]
fn is_loopback(endpoint: &str) -> bool {
    url::Url::parse(endpoint).is_ok_and(|url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}

#[cfg(all(test, feature = "direct"))]
mod tests {
    use super::is_loopback;

    #[test]
    fn plain_http_is_for_this_machine() {
        for yes in [
            "http://127.0.0.1:8333",
            "http://localhost:9000",
            "http://[::1]:1",
        ] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "http://example.org",
            "http://10.0.0.1",
            "http://localhost.example.org",
            "x",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
