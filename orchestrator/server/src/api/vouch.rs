//! Who shows a token, and what they may do: asked of a [`Vouch`], and remembered briefly.
//! No token is kept, only its digest.

use crate::caller::Bounded;
use crate::problem::Refusal;
use async_trait::async_trait;
use auria_core::Digest;
use http::StatusCode;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// What a user asks to do with runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Look at runs and at what they left.
    Read,
    /// Submit one.
    Create,
    /// Cancel one.
    Update,
    /// Delete some, and what nobody needs any more.
    Delete,
}

impl Action {
    /// As Kubernetes names it.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Read => "get",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Who shows a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What stays theirs, whatever they are called: a token's id, or the name where whoever
    /// vouches gives it to one alone.
    pub id: String,
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

    /// What somebody would need who may not, for people.
    fn needs(&self, action: Action) -> String {
        format!("the right to {} pipelineruns", action.verb())
    }
}

/// How long it is remembered that somebody may do something.
const MAY: Duration = Duration::from_secs(15);
/// How long it is remembered that somebody may not.
const MAY_NOT: Duration = Duration::from_secs(3);
/// Answers that are remembered.
const ANSWERS: usize = 4096;
/// Questions that are under way at once: whoever sends tokens that count for nothing costs
/// no more than this.
const AT_ONCE: usize = 16;
/// How long one waits for its turn to be asked about.
const TURN: Duration = Duration::from_secs(5);
/// No token is longer; Kubernetes' have one to two thousand bytes.
const LONGEST_TOKEN: usize = 16 * 1024;

type Answer = (Result<User, Denied>, Instant);

/// Answers about tokens that are remembered, each of a question.
pub(crate) struct Memory<K> {
    answers: Bounded<(Digest, K), Answer>,
    turns: Semaphore,
    turn: Duration,
}

impl<K: Clone + Eq + Hash> Memory<K> {
    pub(crate) fn new() -> Self {
        Self::with(TURN)
    }

    fn with(turn: Duration) -> Self {
        Self {
            turn,
            answers: Bounded::new(ANSWERS),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    fn remembered(&self, key: &(Digest, K)) -> Option<Result<User, Denied>> {
        let (answer, at) = self.answers.get(key)?;
        let life = if answer.is_ok() { MAY } else { MAY_NOT };
        (at.elapsed() < life).then_some(answer)
    }

    /// What is known of `token`, or what `ask` says: a few ask at once; of many that want to
    /// know the same, one.
    pub(crate) async fn answer(
        &self,
        token: &str,
        question: K,
        ask: impl Future<Output = Result<User, Denied>>,
    ) -> Result<User, Denied> {
        if token.len() > LONGEST_TOKEN {
            return Err(Denied::Unknown);
        }
        let key = (Digest::of(token.as_bytes()), question);
        if let Some(answer) = self.remembered(&key) {
            return answer;
        }
        let Ok(Ok(_turn)) = tokio::time::timeout(self.turn, self.turns.acquire()).await else {
            return Err(Denied::Unavailable {
                message: "too many tokens are asked about at this moment".to_owned(),
            });
        };
        if let Some(answer) = self.remembered(&key) {
            return answer;
        }
        let answer = ask.await;
        if !matches!(answer, Err(Denied::Unavailable { .. })) {
            self.answers.put(key, (answer.clone(), Instant::now()));
        }
        answer
    }
}

/// A [`Vouch`] whose answers are remembered.
pub(super) struct Vouched {
    vouch: Arc<dyn Vouch>,
    memory: Memory<Action>,
}

impl Vouched {
    pub(super) fn new(vouch: Arc<dyn Vouch>) -> Self {
        Self {
            vouch,
            memory: Memory::new(),
        }
    }

    #[cfg(test)]
    fn with(vouch: Arc<dyn Vouch>, turn: Duration) -> Self {
        Self {
            vouch,
            memory: Memory::with(turn),
        }
    }

    /// The user, where they may.
    pub(super) async fn vouch(&self, token: &str, action: Action) -> Result<User, Refusal> {
        let asked = self.vouch.vouch(token, action);
        let answer = self.memory.answer(token, action, asked).await;
        answer.map_err(|denied| {
            let needs = self.vouch.needs(action);
            refusal(denied, action.verb(), "pipelineruns", &needs)
        })
    }
}

/// What a caller is told who may not do `verb` to `what`, which needs `needs`.
pub(crate) fn refusal(denied: Denied, verb: &str, what: &str, needs: &str) -> Refusal {
    match denied {
        Denied::Unknown => Refusal::unknown(),
        Denied::Forbidden { user } => Refusal::new(
            StatusCode::FORBIDDEN,
            format!("{user} may not {verb} {what} here: that needs {needs}"),
        ),
        Denied::Unavailable { message } => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message),
    }
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE, Action, Denied, User, Vouch, Vouched};
    use async_trait::async_trait;
    use futures::future::join_all;
    use http::StatusCode;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Takes a while for each question.
    #[derive(Default)]
    struct Slow {
        under_way: AtomicUsize,
        most: AtomicUsize,
        asked: AtomicUsize,
    }

    const TAKES: Duration = Duration::from_millis(100);

    #[async_trait]
    impl Vouch for Slow {
        async fn vouch(&self, token: &str, _: Action) -> Result<User, Denied> {
            let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(under_way, Ordering::Relaxed);
            self.asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(TAKES).await;
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            match token {
                "good" => Ok(User {
                    id: token.to_owned(),
                    name: "gwen".to_owned(),
                }),
                _ => Err(Denied::Unknown),
            }
        }
    }

    /// Each question takes a tenth of a second, and nobody waits longer than three of them.
    fn slow() -> (Arc<Slow>, Vouched) {
        let slow = Arc::<Slow>::default();
        let vouched = Vouched::with(Arc::<Slow>::clone(&slow), TAKES * 3);
        (slow, vouched)
    }

    #[tokio::test]
    async fn a_flood_of_tokens_asks_a_few_at_once() {
        let (slow, vouched) = slow();
        let tokens: Vec<_> = (0..200).map(|number| format!("bad {number}")).collect();
        let answers = join_all(
            tokens
                .iter()
                .map(|token| vouched.vouch(token, Action::Read)),
        )
        .await;
        assert_eq!(slow.most.load(Ordering::Relaxed), AT_ONCE);
        let of = |status| {
            let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
            refused.filter(|refusal| refusal.status() == status).count()
        };
        let unknown = of(StatusCode::UNAUTHORIZED);
        assert!((AT_ONCE..=4 * AT_ONCE).contains(&unknown), "{unknown}");
        assert_eq!(of(StatusCode::SERVICE_UNAVAILABLE), 200 - unknown);
        let long = "x".repeat(20_000);
        assert!(vouched.vouch(&long, Action::Read).await.is_err());
        assert_eq!(slow.asked.load(Ordering::Relaxed), unknown);
    }

    #[tokio::test]
    async fn an_answer_is_for_all_who_want_to_know_it() {
        let (slow, vouched) = slow();
        let answers = join_all((0..100).map(|_| vouched.vouch("good", Action::Read))).await;
        assert!(answers.iter().all(Result::is_ok));
        let asked = slow.asked.load(Ordering::Relaxed);
        assert!(asked <= AT_ONCE, "{asked}");
        vouched.vouch("good", Action::Read).await.unwrap();
        assert_eq!(slow.asked.load(Ordering::Relaxed), asked);
        vouched.vouch("good", Action::Create).await.unwrap();
        assert_eq!(slow.asked.load(Ordering::Relaxed), asked + 1);
    }
}
