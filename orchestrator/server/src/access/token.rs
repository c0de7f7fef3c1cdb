//! Tokens at rest: each a record that is created once and names what it may do, and another
//! that says that it is revoked. The secret is 256 random bits, so that a plain digest of it
//! tells nobody anything.

use auria_core::{Digest, Timestamp};
use auria_store::{Created, Store, StoreError, served};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// What every token begins with, so that scanners of leaked secrets find it.
const PREFIX: &str = "auria_";
/// Letters of an id.
const ID: usize = 12;
/// Letters of a secret.
const SECRET: usize = 64;
/// The longest name of a token.
const LONGEST_NAME: usize = 100;

/// What a token may do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Scope {
    /// Look at runs.
    Read,
    /// Submit, cancel and retry runs, and invoke every endpoint.
    Submit,
    /// Everything.
    Admin,
    /// Invoke one endpoint, and see what came of its own requests.
    Invoke(String),
}

/// A text that is no scope.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{0}` is no scope: use read, submit, admin, or invoke:ENDPOINT")]
pub struct ScopeError(String);

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("read"),
            Self::Submit => f.write_str("submit"),
            Self::Admin => f.write_str("admin"),
            Self::Invoke(endpoint) => write!(f, "invoke:{endpoint}"),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        match text {
            "read" => Ok(Self::Read),
            "submit" => Ok(Self::Submit),
            "admin" => Ok(Self::Admin),
            text => match text.strip_prefix("invoke:") {
                Some(endpoint) if crate::names::is_name(endpoint) => {
                    Ok(Self::Invoke(endpoint.to_owned()))
                }
                _ => Err(ScopeError(text.to_owned())),
            },
        }
    }
}

impl JsonSchema for Scope {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scope".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(read|submit|admin|invoke:[A-Za-z0-9][A-Za-z0-9_-]{0,62})$",
            "description": "What a token may do.",
        })
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

/// A token as it stands in the store: all but its secret.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Names it; a part of the token itself.
    pub id: String,
    /// For people.
    pub name: String,
    /// Of the whole token.
    pub digest: Digest,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// When it was made.
    pub created: Timestamp,
    /// By whom.
    pub by: String,
    /// From when on it counts for nothing; none lives until it is revoked.
    pub expires: Option<Timestamp>,
}

/// A token in a list.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ListedToken {
    /// All but its secret.
    #[serde(flatten)]
    pub record: TokenRecord,
    /// Whether it counts for nothing any more.
    pub revoked: bool,
}

/// A token that was just made.
pub struct NewToken {
    /// What stands in the store.
    pub record: TokenRecord,
    /// The token: told once.
    pub token: String,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the token.
        write!(f, "NewToken({})", self.record.id)
    }
}

/// A fresh secret.
#[must_use]
pub fn secret() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `text` may name a token: it is shown in terminals and in logs.
#[must_use]
pub fn is_token_name(text: &str) -> bool {
    let plain = |letter: char| {
        !letter.is_control() && !matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    !text.trim().is_empty() && text.chars().count() <= LONGEST_NAME && text.chars().all(plain)
}

/// Makes a token.
///
/// # Errors
/// Where the store cannot be written.
pub async fn create(
    store: &Store,
    name: &str,
    scopes: BTreeSet<Scope>,
    expires: Option<Timestamp>,
    by: &str,
    now: Timestamp,
) -> Result<NewToken, StoreError> {
    let id: String = secret().chars().take(ID).collect();
    let token = format!("{PREFIX}{id}_{}", secret());
    let record = TokenRecord {
        name: name.to_owned(),
        digest: Digest::of(token.as_bytes()),
        scopes,
        created: now,
        by: by.to_owned(),
        expires,
        id,
    };
    let path = served::token(&record.id);
    let bytes = crate::names::json(&record);
    let same = |found: &[u8]| found == bytes;
    match store.create_once(&path, bytes.clone().into(), same).await? {
        Created::Won => Ok(NewToken { record, token }),
        // 48 random bits met others: the caller asks again.
        Created::Lost(_) => Err(StoreError::Conflict {
            what: format!("the token {}", record.id),
            by: String::new(),
        }),
    }
}

/// All tokens, and whether each is revoked.
///
/// # Errors
/// Where the store cannot be read.
pub async fn list(store: &Store) -> Result<Vec<ListedToken>, StoreError> {
    let mut found = Vec::new();
    for meta in store.list(&served::tokens()).await? {
        let record: Option<TokenRecord> = store.read_json(&meta.location).await?;
        if let Some(record) = record {
            let revoked = store.exists(&served::revoked(&record.id)).await?;
            found.push(ListedToken { record, revoked });
        }
    }
    found.sort_by_key(|one| one.record.created);
    Ok(found)
}

/// Lets the token of `id` count for nothing any more. Again: nothing happens.
///
/// # Errors
/// [`StoreError::NotFound`] where there is none.
pub async fn revoke(store: &Store, id: &str, by: &str, now: Timestamp) -> Result<(), StoreError> {
    if !is_id(id) || !store.exists(&served::token(id)).await? {
        return Err(StoreError::NotFound {
            what: format!("the token {id}"),
        });
    }
    let bytes = crate::names::json(&serde_json::json!({"at": now, "by": by}));
    store
        .create_once(&served::revoked(id), bytes.into(), |_| true)
        .await
        .map(drop)
}

fn is_id(text: &str) -> bool {
    text.len() == ID && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The record of `token`, where it counts.
pub(super) async fn find(
    store: &Store,
    token: &str,
    now: Timestamp,
) -> Result<Option<TokenRecord>, StoreError> {
    // Nothing is asked of the store for what cannot be one.
    let parts = token
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('_'));
    let Some((id, secret)) = parts else {
        return Ok(None);
    };
    if !is_id(id) || secret.len() != SECRET || !is_hex(secret) {
        return Ok(None);
    }
    let record: Option<TokenRecord> = store.read_json(&served::token(id)).await?;
    let Some(record) = record else {
        return Ok(None);
    };
    let expired = record.expires.is_some_and(|expires| expires <= now);
    // Digests are compared, not secrets: how long it takes tells nothing of use.
    if record.digest != Digest::of(token.as_bytes()) || expired {
        return Ok(None);
    }
    let revoked = store.exists(&served::revoked(id)).await?;
    Ok((!revoked).then_some(record))
}

#[cfg(test)]
mod tests {
    use super::{ListedToken, Scope, create, find, list, revoke};
    use auria_core::Timestamp;
    use auria_store::{Access, Store, StoreUrl};
    use std::collections::BTreeSet;

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let url = StoreUrl::Folder(folder.path().join("store"));
        let store = Store::open(&url, Access::Write).await.unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn a_token_counts_until_it_expires_or_is_revoked_and_is_never_kept() {
        let (folder, store) = store().await;
        let scopes = BTreeSet::from([Scope::Read, Scope::Invoke("kathi".to_owned())]);
        let until = Some(Timestamp(2_000));
        let made = create(&store, "page", scopes, until, "me", Timestamp(1_000))
            .await
            .unwrap();
        let at = |millis| find(&store, &made.token, Timestamp(millis));
        assert_eq!(at(1_999).await.unwrap().as_ref(), Some(&made.record));
        assert_eq!(at(2_000).await.unwrap(), None);

        // One letter of the secret is another.
        let mut wrong = made.token.clone();
        let last = wrong.pop().unwrap();
        wrong.push(if last == '0' { '1' } else { '0' });
        assert_eq!(find(&store, &wrong, Timestamp(1_500)).await.unwrap(), None);
        assert_eq!(find(&store, "", Timestamp(1_500)).await.unwrap(), None);
        assert_eq!(
            find(&store, "nothing", Timestamp(1_500)).await.unwrap(),
            None
        );

        let path = folder.path().join("store/access/tokens");
        let text = std::fs::read_to_string(path.join(format!("{}.json", made.record.id))).unwrap();
        assert!(!text.contains(&made.token[20..]), "{text}");

        revoke(&store, &made.record.id, "me", Timestamp(1_600))
            .await
            .unwrap();
        revoke(&store, &made.record.id, "me", Timestamp(1_700))
            .await
            .unwrap();
        assert_eq!(at(1_500).await.unwrap(), None);
        let listed = ListedToken {
            record: made.record,
            revoked: true,
        };
        assert_eq!(list(&store).await.unwrap(), [listed]);
        revoke(&store, "../../x", "me", Timestamp(1))
            .await
            .unwrap_err();
    }

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for text in ["read", "submit", "admin", "invoke:kathi-1"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in ["", "Read", "invoke:", "invoke:a/b", "write"] {
            text.parse::<Scope>().unwrap_err();
        }
    }
}
