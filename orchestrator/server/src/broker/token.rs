//! The tokens of attempts: what they say, and that a broker wrote them. A bootstrap token
//! opens an attempt's ticket and claim, a session token everything else of the one claim
//! that was granted. Each broker that has the key reads those of every other. Nothing is
//! kept: a token stands for itself until it expires.

use auria_core::run::AttemptNews;
use auria_core::{AttemptId, Nonce, Timestamp, last_word};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// The version of the tokens' text.
const VERSION: &str = "1";
/// A shorter key is refused: as long as what it makes.
const LEAST_KEY: usize = 32;

/// What tokens are signed with; every replica of a broker has the same.
#[derive(Clone)]
pub struct TokenKey(Hmac<Sha256>);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

/// A key that is too short to sign tokens with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key for tokens has {0} bytes, and must have 32 or more; make one of random bytes")]
pub struct ShortKey(usize);

/// What a token of an attempt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// For ticket and claim.
    Bootstrap {
        attempt: AttemptId,
        expires: Timestamp,
    },
    /// For the claim that `nonce` names.
    Session {
        attempt: AttemptId,
        nonce: Nonce,
        expires: Timestamp,
    },
    /// For another instance of the distributed step that this claim is of.
    Member {
        attempt: AttemptId,
        nonce: Nonce,
        instance: u32,
        expires: Timestamp,
    },
}

impl TokenKey {
    /// The key that these bytes are.
    ///
    /// # Errors
    /// Where there are fewer than 32.
    pub fn new(bytes: &[u8]) -> Result<Self, ShortKey> {
        if bytes.len() < LEAST_KEY {
            return Err(ShortKey(bytes.len()));
        }
        // HMAC takes keys of any length.
        Hmac::new_from_slice(bytes)
            .map(Self)
            .map_err(|_| ShortKey(bytes.len()))
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        mac
    }

    /// The token's text. Its parts hold no `/`, so that they cannot run into each other.
    pub(crate) fn write(&self, token: &Token) -> String {
        let text = match token {
            Token::Bootstrap { attempt, expires } => {
                let AttemptId { run, step, number } = attempt;
                format!("{VERSION}/bootstrap/{run}/{step}/{number}/{}", expires.0)
            }
            Token::Session {
                attempt,
                nonce,
                expires,
            } => {
                let AttemptId { run, step, number } = attempt;
                format!(
                    "{VERSION}/session/{run}/{step}/{number}/{nonce}/{}",
                    expires.0
                )
            }
            Token::Member {
                attempt,
                nonce,
                instance,
                expires,
            } => {
                let AttemptId { run, step, number } = attempt;
                format!(
                    "{VERSION}/member/{run}/{step}/{number}/{nonce}/{instance}/{}",
                    expires.0
                )
            }
        };
        self.whole(&text)
    }

    /// The token of which `said` is all but the signature.
    fn whole(&self, said: &str) -> String {
        let mac = self.mac(said).finalize().into_bytes();
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{said}/{hex}")
    }

    /// The news of a launcher's last word, and the claim that it was granted: none where
    /// `word` is not sealed under a session token of this key's. One that has expired by
    /// now will do: the word was said before.
    pub(crate) fn last_word(&self, word: &str) -> Option<(AttemptId, Nonce, AttemptNews)> {
        let (said, news) = last_word::open(word, |said| Some(self.whole(said)))?;
        match parse(&said)? {
            Token::Session { attempt, nonce, .. } => Some((attempt, nonce, news)),
            Token::Bootstrap { .. } | Token::Member { .. } => None,
        }
    }

    /// What `text` says, where this key signed it and it has not expired.
    pub(crate) fn read(&self, text: &str, now: Timestamp) -> Option<Token> {
        let (said, mac) = text.rsplit_once('/')?;
        let mac = unhex(mac)?;
        // In constant time.
        self.mac(said).verify_slice(&mac).ok()?;
        let token = parse(said)?;
        let (Token::Bootstrap { expires, .. }
        | Token::Session { expires, .. }
        | Token::Member { expires, .. }) = &token;
        (now < *expires).then_some(token)
    }
}

/// What stands before a token's signature.
fn parse(said: &str) -> Option<Token> {
    let mut parts = said.split('/');
    let (version, kind) = (parts.next()?, parts.next()?);
    let attempt = AttemptId {
        run: parts.next()?.parse().ok()?,
        step: parts.next()?.parse().ok()?,
        number: parts.next()?.parse().ok()?,
    };
    let nonce = match kind {
        "bootstrap" => None,
        "session" | "member" => Some(parts.next()?.parse().ok()?),
        _ => return None,
    };
    let instance = match kind {
        "member" => Some(parts.next()?.parse().ok()?),
        _ => None,
    };
    let expires = Timestamp(parts.next()?.parse().ok()?);
    if version != VERSION || parts.next().is_some() {
        return None;
    }
    Some(match (nonce, instance) {
        (None, _) => Token::Bootstrap { attempt, expires },
        (Some(nonce), None) => Token::Session {
            attempt,
            nonce,
            expires,
        },
        (Some(nonce), Some(instance)) => Token::Member {
            attempt,
            nonce,
            instance,
            expires,
        },
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Token, TokenKey};
    use auria_core::{AttemptId, Timestamp};

    fn attempt(step: &str) -> AttemptId {
        AttemptId {
            run: "r-1".parse().unwrap(),
            step: step.parse().unwrap(),
            number: 1,
        }
    }

    #[test]
    fn a_token_is_read_until_it_expires_and_by_its_key_alone() {
        let key = TokenKey::new(&[7; 32]).unwrap();
        let other = TokenKey::new(&[8; 32]).unwrap();
        let session = Token::Session {
            attempt: attempt("a.b"),
            nonce: "00000000000000aa".parse().unwrap(),
            expires: Timestamp(1_000),
        };
        let bootstrap = Token::Bootstrap {
            attempt: attempt("a"),
            expires: Timestamp(1_000),
        };
        let member = Token::Member {
            attempt: attempt("a.b"),
            nonce: "00000000000000aa".parse().unwrap(),
            instance: 3,
            expires: Timestamp(1_000),
        };
        for token in [session, bootstrap, member] {
            let text = key.write(&token);
            assert_eq!(key.read(&text, Timestamp(999)), Some(token));
            assert_eq!(key.read(&text, Timestamp(1_000)), None, "it has expired");
            assert_eq!(other.read(&text, Timestamp(0)), None, "another's key");
            for at in 0..text.len() {
                let mut changed = text.clone().into_bytes();
                changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(key.read(&changed, Timestamp(0)), None, "{changed}");
            }
            for text in [
                "",
                "/",
                "1/session",
                &text[..text.len() - 1],
                &format!("{text}0"),
            ] {
                assert_eq!(key.read(text, Timestamp(0)), None, "{text}");
            }
        }
        assert!(TokenKey::new(&[7; 31]).is_err());
    }
}
