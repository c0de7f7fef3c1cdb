//! Who may use a server that knows its users itself: tokens, what each may do, how long, and
//! who did what. A token is shown once, when it is made; at rest there is only its digest. Where
//! somebody else knows the users ([`Callers`]), who may use endpoints and schedules is theirs to
//! say, and there are no tokens here.

pub mod audit;
mod callers;
pub mod limit;
mod routes;
mod token;

pub use callers::{Ask, Callers, Deed, Kind};
pub(crate) use routes::described;
pub use token::{
    ListedToken, NewToken, Scope, ScopeError, TokenRecord, create, is_token_name, list, revoke,
    secret,
};

use crate::api::{Action, Denied, User, Vouch};
use async_trait::async_trait;
use auria_core::{Digest, Timestamp};
use auria_store::Store;
use callers::Remembered;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Whoever showed a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token's id, or the name of a user whom somebody else vouches for; none of the
    /// server's own.
    pub id: Option<String>,
    /// For people.
    pub name: String,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
}

impl Principal {
    /// Somebody of whom it is known that they may do so much, and no more was asked.
    fn vouched(user: User, may: Option<Scope>) -> Self {
        Self {
            id: Some(user.id),
            name: user.name,
            scopes: may.into_iter().collect(),
        }
    }

    /// As the API knows it.
    #[must_use]
    pub fn user(&self) -> User {
        User {
            id: match &self.id {
                Some(id) => format!("token/{id}"),
                None => format!("own/{}", self.name),
            },
            name: self.name.clone(),
        }
    }

    /// Whether it may do `action` with runs.
    #[must_use]
    pub fn may(&self, action: Action) -> bool {
        self.scopes.iter().any(|scope| match scope {
            Scope::Admin => true,
            // What others made is not theirs to delete.
            Scope::Submit => action != Action::Delete,
            Scope::Read => action == Action::Read,
            Scope::Invoke(_) => false,
        })
    }

    /// Whether it may invoke `endpoint`.
    #[must_use]
    pub fn may_invoke(&self, endpoint: &str) -> bool {
        self.scopes.iter().any(|scope| match scope {
            Scope::Admin | Scope::Submit => true,
            Scope::Read => false,
            Scope::Invoke(one) => one == endpoint,
        })
    }

    /// Whether it may change who may do what.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }
}

/// Who may use a server.
pub struct Access {
    store: Store,
    source: Source,
    now: fn() -> Timestamp,
}

/// Who knows the users.
enum Source {
    /// The tokens of the store, and the server's own.
    Tokens {
        /// The digest of the token that this server leaves for its own user on this machine.
        own: Digest,
        /// That user's name.
        user: String,
    },
    /// Somebody else.
    Callers(Remembered),
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access({:?})", self.store)
    }
}

impl Access {
    /// The tokens of `store`; `own` is one more, of `user`, who may do everything.
    #[must_use]
    pub fn new(store: Store, own: &str, user: String, now: fn() -> Timestamp) -> Self {
        Self {
            store,
            source: Source::Tokens {
                own: Digest::of(own.as_bytes()),
                user,
            },
            now,
        }
    }

    /// Those whom `callers` knows; what they do is noted in `store`.
    #[must_use]
    pub fn vouched(store: Store, callers: Arc<dyn Callers>, now: fn() -> Timestamp) -> Self {
        Self {
            store,
            source: Source::Callers(Remembered::new(callers)),
            now,
        }
    }

    /// Who shows `token`.
    ///
    /// # Errors
    /// Where it counts for nobody, or the store does not answer.
    pub async fn principal(&self, token: &str) -> Result<Principal, Denied> {
        let (own, user) = match &self.source {
            Source::Tokens { own, user } => (own, user),
            Source::Callers(callers) => {
                let user = callers.may(token, &Ask::Known).await?;
                return Ok(Principal::vouched(user, None));
            }
        };
        if Digest::of(token.as_bytes()) == *own {
            return Ok(Principal {
                id: None,
                name: user.clone(),
                scopes: BTreeSet::from([Scope::Admin]),
            });
        }
        let found = token::find(&self.store, token, (self.now)()).await;
        let record = found.map_err(|error| Denied::Unavailable {
            message: format!("the tokens cannot be read: {error}"),
        })?;
        let record = record.ok_or(Denied::Unknown)?;
        Ok(Principal {
            id: Some(record.id),
            name: record.name,
            scopes: record.scopes,
        })
    }
}

#[async_trait]
impl Vouch for Access {
    async fn vouch(&self, token: &str, action: Action) -> Result<User, Denied> {
        let principal = self.principal(token).await?;
        if principal.may(action) {
            Ok(principal.user())
        } else {
            Err(Denied::Forbidden {
                user: principal.name,
            })
        }
    }

    fn needs(&self, action: Action) -> String {
        let scope = match action {
            Action::Read => "read",
            Action::Create | Action::Update => "submit",
            Action::Delete => "admin",
        };
        format!("the scope {scope}")
    }
}
