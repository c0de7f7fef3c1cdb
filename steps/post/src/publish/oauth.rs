//! OAuth 1.0a (RFC 5849) as X takes it: HMAC-SHA1 over method, address and parameters.
//!
//! The body of a JSON request is no part of the signature, as the RFC has it for bodies that are
//! no forms.

use std::fmt;

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::http::percent;

/// The four parts of a user's context.
#[derive(Clone)]
pub struct Keys {
    /// The app's key.
    pub api_key: String,
    /// The app's secret.
    pub api_secret: String,
    /// The user's token, for this app.
    pub access_token: String,
    /// The secret of that token.
    pub access_secret: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// When and under which number a request is signed.
#[derive(Clone, Debug)]
pub struct Once {
    /// Never used twice.
    pub nonce: String,
    /// Seconds since 1970.
    pub timestamp: i64,
}

impl Keys {
    /// All four: none is ever shown.
    #[must_use]
    pub fn secrets(&self) -> [String; 4] {
        [
            self.api_key.clone(),
            self.api_secret.clone(),
            self.access_token.clone(),
            self.access_secret.clone(),
        ]
    }

    /// The header `Authorization` of a request; `url` is without its query.
    #[must_use]
    pub fn header(&self, method: &str, url: &str, query: &[(&str, String)], once: &Once) -> String {
        let timestamp = once.timestamp.to_string();
        let own = [
            ("oauth_consumer_key", self.api_key.as_str()),
            ("oauth_nonce", once.nonce.as_str()),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", timestamp.as_str()),
            ("oauth_token", self.access_token.as_str()),
            ("oauth_version", "1.0"),
        ];
        let all = own
            .iter()
            .copied()
            .chain(query.iter().map(|(name, value)| (*name, value.as_str())));
        let signature = self.signature(method, url, all);
        let mut parts: Vec<String> = own
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", percent(value)))
            .collect();
        parts.push(format!("oauth_signature=\"{}\"", percent(&signature)));
        format!("OAuth {}", parts.join(", "))
    }

    /// The signature over all parameters, those of OAuth and those of the query.
    fn signature<'a>(
        &self,
        method: &str,
        url: &str,
        parameters: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> String {
        let mut encoded: Vec<(String, String)> = parameters
            .map(|(name, value)| (percent(name), percent(value)))
            .collect();
        encoded.sort();
        let joined: Vec<String> = encoded
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let base = format!("{method}&{}&{}", percent(url), percent(&joined.join("&")));
        let key = format!(
            "{}&{}",
            percent(&self.api_secret),
            percent(&self.access_secret)
        );
        match Hmac::<Sha1>::new_from_slice(key.as_bytes()) {
            Ok(mut mac) => {
                mac.update(base.as_bytes());
                base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
            }
            // HMAC takes keys of every length.
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of X's own page "Creating a signature".
    #[test]
    fn the_published_example_is_signed_as_published() {
        let keys = Keys {
            api_key: "xvz1evFS4wEEPTGEFPHBog".to_owned(),
            api_secret: "kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw".to_owned(),
            access_token: "370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb".to_owned(),
            access_secret: "LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE".to_owned(),
        };
        let once = Once {
            nonce: "kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg".to_owned(),
            timestamp: 1_318_622_958,
        };
        let query = [
            (
                "status",
                "Hello Ladies + Gentlemen, a signed OAuth request!".to_owned(),
            ),
            ("include_entities", "true".to_owned()),
        ];
        let url = "https://api.twitter.com/1.1/statuses/update.json";
        let header = keys.header("POST", url, &query, &once);
        assert!(
            header.contains("oauth_signature=\"hCtSmYh%2BiHYCEqBWrE7C7hYmtUk%3D\""),
            "{header}"
        );
        assert_eq!(format!("{keys:?}"), "Keys");
    }
}
