//! Makes the HTTP clients beneath a store on S3 from its settings.

use crate::StoreError;
use crate::http::watched;
use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientConfigKey, ClientOptions};
use std::time::Duration;

/// For the way to the store: a handshake needs no longer.
const CONNECT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(20);

/// Makes clients that watch their requests.
#[derive(Debug)]
pub(crate) struct Connector {
    /// How long nothing may move.
    pub(crate) stall: Duration,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let set = |key| {
            options
                .get_config_value(&key)
                .filter(|value| !value.is_empty())
        };
        let is_set = |key| set(key).is_some_and(|value| value == "true");
        let failed = |source: reqwest::Error| object_store::Error::Generic {
            store: "HTTP client",
            source: Box::new(source),
        };
        let build = |system_authorities: bool| {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("auria-pipeline/", env!("CARGO_PKG_VERSION")))
                .http1_only()
                .connect_timeout(CONNECT)
                .pool_idle_timeout(IDLE)
                .https_only(!is_set(ClientConfigKey::AllowHttp));
            if let Some(proxy) = set(ClientConfigKey::ProxyUrl) {
                let mut proxy = reqwest::Proxy::all(proxy)?;
                if let Some(excludes) = set(ClientConfigKey::ProxyExcludes) {
                    proxy = proxy.no_proxy(reqwest::NoProxy::from_string(&excludes));
                }
                builder = builder.proxy(proxy);
            }
            let mut own = Vec::new();
            if let Some(pem) = set(ClientConfigKey::ProxyCaCertificate) {
                own.push(reqwest::Certificate::from_pem(pem.as_bytes())?);
            }
            builder = if system_authorities {
                builder.tls_certs_merge(own)
            } else {
                builder.tls_certs_only(own)
            };
            if is_set(ClientConfigKey::AllowInvalidCertificates) {
                builder = builder.danger_accept_invalid_certs(true);
            }
            builder.build()
        };
        // An image without any certificates reaches a store without TLS all the same.
        let client = match build(true) {
            Err(_) if is_set(ClientConfigKey::AllowHttp) => build(false),
            built => built,
        };
        let client = client.map_err(failed)?;
        Ok(watched(client, self.stall))
    }
}

/// How long nothing may move, as the setting `AWS_READ_TIMEOUT` says it: `30s`, `500ms`.
pub(crate) fn stall(text: &str) -> Result<Duration, StoreError> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let read = match text.strip_suffix("ms") {
        Some(text) => number(text).map(Duration::from_millis),
        None => number(text.strip_suffix('s').unwrap_or(text)).map(Duration::from_secs),
    };
    read.filter(|stall| !stall.is_zero())
        .ok_or_else(|| StoreError::InvalidName {
            what: "AWS_READ_TIMEOUT".into(),
            text: text.to_owned(),
            why: "it is a number of seconds, such as `30s`".into(),
        })
}
