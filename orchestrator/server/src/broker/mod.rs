//! The broker: what launchers on a cluster reach their store through. It gives each the
//! ticket of its attempt, claims for it, lets it read its inputs and write its own prefix,
//! commits its outcome, and tells a [`Wake`] what happens. Any replica with the same key
//! and store answers; nothing is kept but caches. It decides nothing about a run.

mod group;
mod own;
mod rights;
mod standing;
pub mod token;

use crate::body::Taken;
use crate::caller::{Bounded, bearer, checked_version};
use crate::objects::{self, Rights, Served};
use crate::problem::Refusal;
use auria_core::protocol::{
    self, AskedClaim, BROKER, CLAIM_TAKEN, ClaimGrant, ClaimStands, News, NewsTaken,
    PROTOCOL_VERSION, Said, TicketGrant,
};
use auria_core::run::AttemptNews;
use auria_core::{AttemptId, Nonce, Timestamp};
use auria_engine::executor::{AttemptEvent, Happened};
use auria_engine::relay::{BrokerAccess, TicketIssuer, Wake};
use auria_store::{Claimed, Journal, Store, now};
use axum::extract::{Extension, FromRef, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{StatusCode, header};
use own::Own;
use rights::AttemptRights;
use standing::Standing;
use std::sync::Arc;
use std::time::Duration;
use token::{Token, TokenKey};

/// How long an attempt may wait for a node before its bootstrap token is of no use.
pub const BOOTSTRAP_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a session token lives at most; launchers get another before its half has
/// passed, as long as their attempt is not over.
pub const SESSION_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long a launcher asks a broker again that does not answer, and so how long the tokens
/// of an attempt that is over still let it hear how it ended.
pub const BROKER_GRACE: Duration = Duration::from_secs(15 * 60);
/// Sessions whose rights are remembered; those of others are read again.
const SESSIONS: usize = 10_000;

/// What a broker is made of.
pub struct BrokerOptions {
    /// The store, opened for writing.
    pub store: Store,
    /// Signs tokens; the same for every replica, and for those before a restart.
    pub key: TokenKey,
    /// Where launchers reach it: `https://HOST:PORT`.
    pub url: String,
    /// The certificate (PEM) that its own is signed by.
    pub authority: String,
    /// Is told what launchers say.
    pub wake: Arc<dyn Wake>,
    /// Whether data goes straight to the store by signed URLs, where the store signs.
    pub sign: bool,
    /// Certificates (PEM) that the store's own may be signed by, for launchers.
    pub store_authorities: Option<String>,
    /// [`BROKER_GRACE`], or what the config says.
    pub grace: Duration,
    /// [`BOOTSTRAP_LIFE`], or what the config says.
    pub bootstrap_life: Duration,
    /// [`SESSION_LIFE`], or what the config says.
    pub session_life: Duration,
}

impl std::fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BrokerOptions({} of {:?})", self.url, self.store)
    }
}

impl BrokerOptions {
    /// A broker at `url` before `store`, with the lives that are usual.
    #[must_use]
    pub fn new(
        store: Store,
        key: TokenKey,
        url: String,
        authority: String,
        wake: Arc<dyn Wake>,
    ) -> Self {
        Self {
            store,
            key,
            url,
            authority,
            wake,
            sign: true,
            store_authorities: None,
            grace: BROKER_GRACE,
            bootstrap_life: BOOTSTRAP_LIFE,
            session_life: SESSION_LIFE,
        }
    }
}

/// The broker. Clones are the same one.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    options: BrokerOptions,
    served: Served,
    sessions: Bounded<(AttemptId, Nonce, Option<u32>), Arc<AttemptRights>>,
    groups: group::Groups,
    standing: Arc<Standing>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broker({:?})", self.0.options)
    }
}

impl TicketIssuer for Broker {
    fn issue(&self, attempt: &AttemptId) -> BrokerAccess {
        let options = &self.0.options;
        let token = Token::Bootstrap {
            attempt: attempt.clone(),
            expires: after(options.bootstrap_life),
        };
        BrokerAccess {
            url: options.url.clone(),
            token: options.key.write(&token),
            authority: options.authority.clone(),
        }
    }

    fn last_word(&self, attempt: &AttemptId, word: &str) -> Option<AttemptNews> {
        let (said, nonce, news) = self.0.options.key.last_word(word)?;
        // A launcher that holds one attempt's token speaks for no other.
        let own = (said == *attempt).then(|| Own::without_ticket(said, nonce))?;
        own.is_word(&news).then_some(news)
    }
}

impl FromRef<Broker> for Served {
    fn from_ref(broker: &Broker) -> Self {
        broker.0.served.clone()
    }
}

fn after(life: Duration) -> Timestamp {
    now().plus_millis(u64::try_from(life.as_millis()).unwrap_or(u64::MAX))
}

/// Who has shown which token.
#[derive(Clone)]
struct Known {
    attempt: AttemptId,
    /// None: a bootstrap token.
    nonce: Option<Nonce>,
    /// Of a distributed step's claim, another instance than the first.
    member: Option<u32>,
    expires: Timestamp,
}

impl Broker {
    /// The broker of these options.
    #[must_use]
    pub fn new(options: BrokerOptions) -> Self {
        let served = Served::new(
            options.store.clone(),
            options.sign,
            options.store_authorities.clone(),
        );
        let standing = Arc::new(Standing::new(options.store.clone()));
        Self(Arc::new(Inner {
            options,
            served,
            sessions: Bounded::new(SESSIONS),
            groups: group::Groups::new(),
            standing,
        }))
    }

    /// Bytes of files that went through this broker, and not by signed URLs.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.0.served.through()
    }

    /// What it answers, on a port of its own.
    pub fn router(&self) -> Router {
        let begin = Router::new()
            .route(protocol::TICKET, get(ticket))
            .route(protocol::CLAIM, post(claim))
            .route(protocol::JOIN, post(group::join))
            .with_state(self.clone())
            .route_layer(axum::middleware::from_fn_with_state(
                self.clone(),
                bootstrap_alone,
            ));
        let session = Router::new()
            .route(protocol::NEWS, post(news))
            .route(protocol::GROUP_ENDS, get(group::ends))
            .with_state(self.clone())
            .merge(objects::routes(self.0.served.clone()).into_router())
            .route_layer(axum::middleware::from_fn_with_state(
                self.clone(),
                session_alone,
            ));
        let all = begin
            .merge(session)
            .layer(axum::middleware::from_fn_with_state(self.clone(), known));
        crate::caller::bounded(Router::new().nest(BROKER, all).fallback(nothing))
    }

    fn tell(&self, attempt: &AttemptId, happened: Happened) {
        self.0.options.wake.tell(AttemptEvent {
            attempt: attempt.clone(),
            happened,
        });
    }

    async fn rights(
        &self,
        attempt: &AttemptId,
        nonce: &Nonce,
        member: Option<u32>,
    ) -> Result<Arc<AttemptRights>, Refusal> {
        let key = (attempt.clone(), nonce.clone(), member);
        if let Some(rights) = self.0.sessions.get(&key) {
            return Ok(rights);
        }
        let options = &self.0.options;
        let journal = Journal::new(options.store.clone(), attempt.run.clone());
        let ticket = journal.read_ticket(attempt).await;
        let ticket = ticket.map_err(|error| Refusal::of(&error))?;
        let ticket = ticket.ok_or_else(Refusal::forbidden)?;
        let rights = Arc::new(AttemptRights::new(
            &ticket,
            nonce,
            member,
            Arc::clone(&self.0.standing),
            Arc::clone(&options.wake),
        ));
        self.0.sessions.put(key, Arc::clone(&rights));
        Ok(rights)
    }

    /// Lets pass as long as the attempt lives, and those who are to hear how it ended.
    fn lives(&self, over: Result<Option<Duration>, Refusal>) -> Result<(), Refusal> {
        match over {
            Ok(Some(over)) if over > self.0.options.grace => Err(Refusal::unknown()),
            // A store that does not answer keeps no news from being heard; what is written
            // is looked at again.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn session(&self, attempt: &AttemptId, nonce: &Nonce, member: Option<u32>) -> String {
        let options = &self.0.options;
        let (attempt, nonce) = (attempt.clone(), nonce.clone());
        let expires = after(options.session_life);
        options.key.write(&match member {
            None => Token::Session {
                attempt,
                nonce,
                expires,
            },
            Some(instance) => Token::Member {
                attempt,
                nonce,
                instance,
                expires,
            },
        })
    }
}

/// A path that is not the broker's; also to those without a token.
async fn nothing() -> Refusal {
    Refusal::unknown()
}

/// Lets those pass that show a token of this broker's.
async fn known(
    State(broker): State<Broker>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let token = bearer(request.headers()).ok_or_else(Refusal::unknown)?;
    let token = broker.0.options.key.read(token, now());
    let known = match token.ok_or_else(Refusal::unknown)? {
        Token::Bootstrap { attempt, expires } => Known {
            attempt,
            nonce: None,
            member: None,
            expires,
        },
        Token::Session {
            attempt,
            nonce,
            expires,
        } => Known {
            attempt,
            nonce: Some(nonce),
            member: None,
            expires,
        },
        Token::Member {
            attempt,
            nonce,
            instance,
            expires,
        } => Known {
            attempt,
            nonce: Some(nonce),
            member: Some(instance),
            expires,
        },
    };
    checked_version(request.headers())?;
    request.extensions_mut().insert(known);
    Ok(next.run(request).await)
}

async fn bootstrap_alone(
    State(broker): State<Broker>,
    Extension(known): Extension<Known>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if known.nonce.is_some() {
        return Err(Refusal::forbidden());
    }
    broker.lives(broker.0.standing.over_now(&known.attempt).await)?;
    Ok(next.run(request).await)
}

async fn session_alone(
    State(broker): State<Broker>,
    Extension(known): Extension<Known>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let nonce = known.nonce.ok_or_else(Refusal::forbidden)?;
    broker.lives(broker.0.standing.over_for(&known.attempt).await)?;
    let rights: Arc<dyn Rights> = broker.rights(&known.attempt, &nonce, known.member).await?;
    request.extensions_mut().insert(rights);
    Ok(next.run(request).await)
}

async fn ticket(
    State(broker): State<Broker>,
    Extension(known): Extension<Known>,
) -> Result<Json<TicketGrant>, Refusal> {
    let options = &broker.0.options;
    let journal = Journal::new(options.store.clone(), known.attempt.run.clone());
    let ticket = journal.read_ticket(&known.attempt).await;
    let ticket = ticket.map_err(|error| Refusal::of(&error))?;
    let ticket = ticket.ok_or_else(|| no_ticket(&known.attempt))?;
    Ok(Json(TicketGrant {
        version: PROTOCOL_VERSION,
        ticket,
        store: broker.0.served.grant().clone(),
        broker_grace_ms: u64::try_from(options.grace.as_millis()).unwrap_or(u64::MAX),
    }))
}

fn no_ticket(attempt: &AttemptId) -> Refusal {
    let what = format!("the attempt {attempt} has no ticket");
    Refusal::new(StatusCode::NOT_FOUND, what)
}

async fn claim(
    State(broker): State<Broker>,
    Extension(known): Extension<Known>,
    asked: Taken<AskedClaim>,
) -> Result<Response, Refusal> {
    let AskedClaim { claim, secret } = asked.value;
    // The nonce stands in the store for everyone to read: the claim's session is for who
    // drew it.
    let drew_it = protocol::nonce_of(&secret).is_some_and(|nonce| nonce == claim.nonce);
    if claim.attempt != known.attempt || !drew_it {
        return Err(Refusal::forbidden());
    }
    let options = &broker.0.options;
    let journal = Journal::new(options.store.clone(), known.attempt.run.clone());
    // Of a run that was deleted nothing is left to claim, whatever its tokens say.
    let ticket = journal.read_ticket(&known.attempt).await;
    if ticket.map_err(|error| Refusal::of(&error))?.is_none() {
        return Err(no_ticket(&known.attempt));
    }
    let claimed = journal.claim(&claim).await;
    match claimed.map_err(|error| Refusal::of(&error))? {
        Claimed::Won => {
            let news = AttemptNews::Claimed {
                nonce: claim.nonce.clone(),
                node: claim.host.clone(),
            };
            broker.tell(&claim.attempt, Happened::News(news));
            let session = broker.session(&claim.attempt, &claim.nonce, None);
            Ok(Json(ClaimGrant { session }).into_response())
        }
        Claimed::Lost(stands) => {
            let mut taken = Refusal::new(StatusCode::CONFLICT, "another launcher has the attempt")
                .of_kind(CLAIM_TAKEN)
                .into_response();
            // A problem document with a member of its own.
            let document = serde_json::json!({
                "type": CLAIM_TAKEN,
                "title": "Conflict",
                "status": 409,
                "detail": "another launcher has the attempt",
                "claim": ClaimStands { claim: stands }.claim,
            });
            *taken.body_mut() = document.to_string().into();
            taken.headers_mut().remove(header::CONTENT_LENGTH);
            Ok(taken)
        }
    }
}

async fn news(
    State(broker): State<Broker>,
    Extension(known): Extension<Known>,
    news: Taken<News>,
) -> Result<Json<NewsTaken>, Refusal> {
    for said in news.value.said {
        let happened = match said {
            Said::Log { lines } => Happened::Log(lines),
            // What stands in the store is told when it is written there, by whoever saw
            // it; a launcher's word does not stand for it.
            // Of a distributed step the launcher that holds the claim says how it goes.
            Said::News { .. } if known.member.is_some() => continue,
            Said::News { news } => match news {
                AttemptNews::Phase { .. } | AttemptNews::Store { .. } => Happened::News(news),
                _ => continue,
            },
        };
        broker.tell(&known.attempt, happened);
    }
    let life = broker.0.options.session_life.as_millis();
    let left = u128::from(known.expires.millis_since(now()));
    let session = match &known.nonce {
        // An attempt that is over needs no longer life; where that cannot be told at this
        // moment, the next news are soon enough.
        Some(nonce)
            if left * 2 < life
                && matches!(broker.0.standing.is_over(&known.attempt).await, Ok(false)) =>
        {
            Some(broker.session(&known.attempt, nonce, known.member))
        }
        _ => None,
    };
    Ok(Json(NewsTaken { session }))
}
