//! Secrets: what may never be printed, recorded or passed on, and what is taken out of texts of
//! others before they are.

use std::fmt;

/// Characters of a text of others that are kept.
const MOST_CHARACTERS: usize = 400;

/// A part of a query that is as long as this may be a signature or a key.
const SHORTEST_PART: usize = 20;

/// What is secret of a signed address: the address, its query, and each long part of that, for
/// others may repeat it in a spelling of their own.
#[must_use]
pub fn of_address(url: &url::Url) -> Vec<String> {
    let Some(query) = url.query() else {
        return Vec::new();
    };
    let plain = query
        .split('&')
        .filter_map(|part| part.split_once('='))
        .map(|(_, value)| value.to_owned());
    let decoded = url.query_pairs().map(|(_, value)| value.into_owned());
    let parts = plain
        .chain(decoded)
        .filter(|value| value.len() >= SHORTEST_PART);
    [url.to_string(), query.to_owned()]
        .into_iter()
        .chain(parts)
        .collect()
}

/// Texts that are taken out of whatever is said.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Keeps these secret from here on.
    #[must_use]
    pub fn of(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = secrets
            .into_iter()
            .filter(|secret| !secret.is_empty())
            .collect();
        // A secret that holds another is taken out whole.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// One line of what somebody said, without secrets and of a length that can be read.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret.as_str(), "[secret]");
        }
        let line: String = text
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .take(MOST_CHARACTERS)
            .collect();
        line.trim().to_owned()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_taken_out_however_its_address_is_spelled() {
        let signature = "5f1e".repeat(16);
        let address = format!(
            "https://store.example/posts/a.jpg?X-Amz-Credential=AKIAEXAMPLE%2F20261130%2Feu%2Fs3%2Faws4_request&X-Amz-Expires=86400&X-Amz-Signature={signature}"
        );
        let secrets = Secrets::of(of_address(&url::Url::parse(&address).unwrap()));
        for spelled in [
            address.clone(),
            address.replace('&', "&amp;"),
            address.replace("%2F", "/"),
            format!("the part X-Amz-Signature={signature} of it"),
        ] {
            let said = secrets.scrub(&format!("cannot fetch {spelled}"));
            assert!(said.starts_with("cannot fetch"), "{said}");
            assert!(!said.contains(&signature[..20]), "{said}");
            assert!(!said.contains("AKIAEXAMPLE"), "{said}");
        }
        let plain = url::Url::parse("https://store.example/posts/a.jpg").unwrap();
        assert!(of_address(&plain).is_empty());
    }

    #[test]
    fn a_secret_is_taken_out_and_never_shown() {
        let secrets = Secrets::of(["abc".to_owned(), "abcdef".to_owned(), String::new()]);
        assert_eq!(
            secrets.scrub("the token abcdef\nis bad: abc"),
            "the token [secret] is bad: [secret]"
        );
        assert_eq!(format!("{secrets:?}"), "Secrets(2)");
        assert_eq!(secrets.scrub(&"x".repeat(9000)).len(), 400);
    }
}
