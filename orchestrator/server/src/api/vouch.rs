//! Who shows a token, and what they may do: asked of a [`Vouch`], and remembered briefly.
//! No token is kept, only its digest.

use crate::caller::Bounded;
use crate::problem::Refusal;
use async_trait::async_trait;
use auria_core::Digest;
use http::StatusCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a user asks to do with runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Look at runs and at what they left.
    Read,
    /// Submit one.
    Create,
    /// Cancel one.
    Update,
}

impl Action {
    /// As Kubernetes names it.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Read => "get",
            Self::Create => "create",
            Self::Update => "update",
        }
    }
}

/// Who shows a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Their name, as whoever vouches for them knows it.
    pub name: String,
}

/// Nobody vouches for that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The token counts for nobody.
    #[error("the token is not known")]
    Unknown,
    /// This user may not do that.
    #[error("{user} may not do that")]
    Forbidden {
        /// Who.
        user: String,
    },
    /// Whoever vouches does not answer; ask again.
    #[error("{message}")]
    Unavailable {
        /// Why, for people.
        message: String,
    },
}

/// Says who shows a token, and whether they may do something with runs.
#[async_trait]
pub trait Vouch: Send + Sync {
    /// The user, where they may.
    async fn vouch(&self, token: &str, action: Action) -> Result<User, Denied>;
}

/// How long it is remembered that somebody may do something.
const MAY: Duration = Duration::from_secs(15);
/// How long it is remembered that somebody may not.
const MAY_NOT: Duration = Duration::from_secs(3);
/// Answers that are remembered.
const ANSWERS: usize = 4096;

type Answer = (Result<User, Denied>, Instant);

/// A [`Vouch`] whose answers are remembered.
pub(super) struct Vouched {
    vouch: Arc<dyn Vouch>,
    answers: Bounded<(Digest, Action), Answer>,
}

impl Vouched {
    pub(super) fn new(vouch: Arc<dyn Vouch>) -> Self {
        Self {
            vouch,
            answers: Bounded::new(ANSWERS),
        }
    }

    /// The user, where they may.
    pub(super) async fn vouch(&self, token: &str, action: Action) -> Result<User, Refusal> {
        let key = (Digest::of(token.as_bytes()), action);
        let remembered = self.answers.get(&key).filter(|(answer, at)| {
            let life = if answer.is_ok() { MAY } else { MAY_NOT };
            at.elapsed() < life
        });
        let answer = match remembered {
            Some((answer, _)) => answer,
            None => {
                let answer = self.vouch.vouch(token, action).await;
                if !matches!(answer, Err(Denied::Unavailable { .. })) {
                    self.answers.put(key, (answer.clone(), Instant::now()));
                }
                answer
            }
        };
        answer.map_err(|denied| match &denied {
            Denied::Unknown => Refusal::unknown(),
            Denied::Forbidden { user } => Refusal::new(
                StatusCode::FORBIDDEN,
                format!("{user} may not {} pipelineruns here", action.verb()),
            ),
            Denied::Unavailable { message } => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message.clone())
            }
        })
    }
}
