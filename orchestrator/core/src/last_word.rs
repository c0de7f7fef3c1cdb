//! The last word of a launcher whose broker did not hear it, as it goes through hands that
//! the step shares: on a cluster its container's termination message, which any process of
//! the container may write. It is sealed under the launcher's session token, which nobody
//! in the container has but the launcher's memory. The broker, which made the token, opens
//! it. Nothing here says what a word means.

use crate::run::AttemptNews;

/// Before every word; another version is not read.
const LABEL: &str = "auria-last-word/1";
/// What the key is for, so that the token is used for nothing else under the same key.
const CONTEXT: &str = "auria-pipeline 2026 a launcher's last word";

/// `news` as text that only who knows `session` could have written: a line that names the
/// session without what makes it valid, and the news as JSON. None where `session` is no
/// session token.
#[must_use]
pub fn seal(session: &str, news: &AttemptNews) -> Option<String> {
    let (said, _) = session.rsplit_once('/')?;
    let news = serde_json::to_string(news).ok()?;
    let mac = mac(session, &news).to_hex();
    Some(format!("{LABEL} {said} {mac}\n{news}"))
}

/// The news of `word`, and what the token said that it is sealed under. `token` makes the
/// whole token of that, or none where it never made one.
#[must_use]
pub fn open(
    word: &str,
    token: impl FnOnce(&str) -> Option<String>,
) -> Option<(String, AttemptNews)> {
    let (head, news) = word.trim_end().split_once('\n')?;
    let mut head = head.split(' ');
    let (label, said, sealed) = (head.next()?, head.next()?, head.next()?);
    if label != LABEL || head.next().is_some() {
        return None;
    }
    let sealed = blake3::Hash::from_hex(sealed).ok()?;
    // In constant time.
    if mac(&token(said)?, news) != sealed {
        return None;
    }
    Some((said.to_owned(), serde_json::from_str(news).ok()?))
}

fn mac(session: &str, news: &str) -> blake3::Hash {
    let key = blake3::derive_key(CONTEXT, session.as_bytes());
    blake3::keyed_hash(&key, news.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{open, seal};
    use crate::run::AttemptNews;

    #[test]
    fn a_word_is_opened_by_its_token_alone() {
        let news = AttemptNews::Gone {
            claim: None,
            end: None,
            checkpoint: None,
        };
        let word = seal("1/session/r/s/1/aa/9/mac", &news).unwrap();
        assert!(!word.contains("/mac"), "the token is not told: {word}");
        let whole = |said: &str| Some(format!("{said}/mac"));
        let said = "1/session/r/s/1/aa/9".to_owned();
        assert_eq!(open(&word, whole), Some((said, news.clone())));
        // As `echo` leaves it.
        assert!(open(&format!("{word}\n"), whole).is_some());
        assert_eq!(open(&word, |said| Some(format!("{said}/other"))), None);
        assert_eq!(open(&word, |_| None), None);
        let unsealed = serde_json::to_string(&news).unwrap();
        let other = word.replace("\"claim\":null", "\"claim\": null");
        let taken = word.replace("/s/1/", "/t/1/");
        for forged in [unsealed.as_str(), &other, &taken, "", "\n", "a b c\nd"] {
            assert_eq!(open(forged, whole), None, "{forged}");
        }
        assert_eq!(seal("no token", &news), None);
    }
}
