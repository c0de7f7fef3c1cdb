//! Secrets: what may never be printed, recorded or passed on, and what is taken out of texts of
//! others before they are.

use std::fmt;

/// Characters of a text of others that are kept.
const MOST_CHARACTERS: usize = 400;

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
    use super::Secrets;

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
