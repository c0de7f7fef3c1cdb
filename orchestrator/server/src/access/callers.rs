//! Callers of endpoints and schedules whom somebody else vouches for: on a cluster Kubernetes
//! knows them, and its roles say what each may do. Answers are remembered as those about runs.

use crate::api::{Denied, Memory, User, refusal};
use crate::problem::Refusal;
use async_trait::async_trait;
use std::sync::Arc;

/// What a caller wants to do to endpoints or schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// Look at one.
    Look,
    /// Look at all.
    List,
    /// Make one.
    Make,
    /// Change one, or what is part of it.
    Change,
    /// End one.
    End,
}

/// What they want to do it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Endpoints and their deployments.
    Endpoints,
    /// Schedules.
    Schedules,
    /// Runs.
    Runs,
}

impl Kind {
    /// For people.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Schedules => "schedules",
            Self::Runs => "runs",
        }
    }
}

/// A question about the holder of a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Whether the token is somebody's at all.
    Known,
    /// Whether they may do this.
    May(Deed, Kind),
    /// Whether they may invoke the endpoint of this name.
    Invoke(String),
}

/// Says who shows a token, and what they may.
#[async_trait]
pub trait Callers: Send + Sync {
    /// The user, where the answer is yes.
    async fn may(&self, token: &str, ask: &Ask) -> Result<User, Denied>;
    /// How what is refused is called: the verb and the resource (`update`,
    /// `pipelineschedules`).
    fn names(&self, ask: &Ask) -> (&'static str, &'static str);
}

/// [`Callers`] whose answers are remembered.
pub(super) struct Remembered {
    callers: Arc<dyn Callers>,
    memory: Memory<Ask>,
}

impl Remembered {
    pub(super) fn new(callers: Arc<dyn Callers>) -> Self {
        Self {
            callers,
            memory: Memory::new(),
        }
    }

    pub(super) async fn may(&self, token: &str, ask: &Ask) -> Result<User, Denied> {
        let asked = self.callers.may(token, ask);
        self.memory.answer(token, ask.clone(), asked).await
    }

    /// What a caller is told of whom the answer is not yes.
    pub(super) fn refusal(&self, denied: Denied, ask: &Ask) -> Refusal {
        let (verb, what) = self.callers.names(ask);
        refusal(denied, verb, what, &format!("the right to {verb} {what}"))
    }
}
