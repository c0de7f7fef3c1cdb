//! The certificates of a broker and an API: an authority of our own, made once and kept by
//! the caller, and what a server shows, signed by it and made anew at each start. Nothing
//! is written anywhere here.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// How long an authority lives.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a server's certificate lives; a server makes its own anew when it starts.
const SERVER_LIFE: Duration = Duration::from_secs(398 * 24 * 3600);
/// Clocks differ.
const SLACK: Duration = Duration::from_secs(24 * 3600);

/// A certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It could not be made, or what was kept is no authority.
    #[error("could not {doing}: {source}")]
    Certificate {
        /// What was attempted.
        doing: &'static str,
        /// Why.
        source: rcgen::Error,
    },
    /// What was kept is no certificate.
    #[error("the authority's certificate cannot be read: {0}")]
    NoPem(rustls::pki_types::pem::Error),
    /// A server cannot show it, or it is another key's.
    #[error("could not serve with the certificate: {0}")]
    Serve(#[from] rustls::Error),
}

fn failed(doing: &'static str) -> impl FnOnce(rcgen::Error) -> TlsError {
    move |source| TlsError::Certificate { doing, source }
}

/// An authority of our own, which launchers and command lines trust alone.
pub struct Authority {
    certificate: String,
    key: KeyPair,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.write_str("Authority")
    }
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// Where this machine has no randomness.
    pub fn make() -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(failed("make the authority's key"))?;
        let certificate = authority_params()
            .self_signed(&key)
            .map_err(failed("make the authority"))?;
        Ok(Self {
            certificate: certificate.pem(),
            key,
        })
    }

    /// The one that was kept as [`Self::certificate`] and [`Self::key`].
    ///
    /// # Errors
    /// Where the texts are not these.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(key).map_err(failed("read the authority's key"))?;
        let der =
            CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(TlsError::NoPem)?;
        // Says so where the key is another's.
        CertifiedKey::from_der(vec![der], private(&key), &provider())?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key,
        })
    }

    /// Its certificate (PEM), for everyone.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key (PEM), for those alone that serve with it.
    #[must_use]
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// What a server shows that is reached by these names and addresses.
    ///
    /// # Errors
    /// Where one of them cannot be a name.
    pub fn server(&self, names: &[String]) -> Result<Arc<ServerConfig>, TlsError> {
        let key = KeyPair::generate().map_err(failed("make the server's key"))?;
        let mut params =
            CertificateParams::new(names).map_err(failed("name the server in its certificate"))?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
            .distinguished_name
            .push(DnType::CommonName, "auria-pipeline server");
        lives(&mut params, SERVER_LIFE);
        // Ours all have the same name; what tells one from another is its key.
        let authority = authority_params();
        let issuer = Issuer::from_params(&authority, &self.key);
        let certificate = params
            .signed_by(&key, &issuer)
            .map_err(failed("sign the server's certificate"))?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, private(&key))?;
        // What `Listening` speaks.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "auria-pipeline");
    lives(&mut params, AUTHORITY_LIFE);
    params
}

fn lives(params: &mut CertificateParams, life: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - SLACK;
    params.not_after = now + life;
}
