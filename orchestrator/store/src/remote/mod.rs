//! A store behind HTTP: what a program that holds no credentials of the store asks of a
//! broker, and a [`Store`] over it in which everything else of this crate works. Data goes
//! straight to the object store where the broker signs URLs, else through the broker. The
//! other side is `server`; what both say is `auria_core::protocol`. It decides nothing
//! about what it may do: the broker does.

mod call;
mod lines;
mod objects;
mod served;
mod sign;
mod upload;
mod users;

use crate::error::sort_error;
use crate::{Claimed, Store, StoreError, StorePath, StoreUrl};
use auria_core::Nonce;
use auria_core::outcome::Claim;
use auria_core::protocol::{
    self, AskedClaim, AskedJoin, ClaimGrant, ClaimStands, Group, GroupEnds, News, NewsTaken,
    StoreGrant, TicketGrant,
};
use auria_core::run::AttemptNews;
use bytes::Bytes;
use call::{Failed, Line, Request};
use http::{Method, StatusCode};
use object_store::ObjectStore;
use objects::{RemoteObjects, Way};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sign::Signatures;
use std::any::Any;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

/// Where a broker is, and what opens it.
#[derive(Clone)]
pub struct RemoteOptions {
    /// `https://HOST:PORT`.
    pub url: String,
    /// [`protocol::BROKER`] or [`protocol::API`].
    pub base: &'static str,
    /// The token.
    pub token: String,
    /// The certificates (PEM) that the broker's own may be signed by; without any, those
    /// that this machine trusts.
    pub authority: Option<String>,
}

impl std::fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the token.
        write!(f, "RemoteOptions({}{})", self.url, self.base)
    }
}

/// A launcher of a distributed step, as it joins the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// The instance that it starts.
    pub instance: u32,
    /// The address at which its processes can be reached.
    pub address: String,
    /// The Pod's UID.
    pub process: String,
    /// The node.
    pub node: Option<String>,
}

/// The way to a broker. Clones share it, and the token.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    line: Line,
    token: RwLock<Arc<str>>,
    /// What a claim's nonce is made of; nobody else ever sees it but the broker.
    secret: String,
    /// The way to the object store itself, made with the first signed URL.
    data: OnceLock<Line>,
    authorities: OnceLock<Option<String>>,
    signatures: Signatures,
    /// What the way rests on.
    held: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// Gives a way new tokens, and keeps none open.
#[derive(Clone, Debug)]
pub struct TokenSlot(Weak<Inner>);

impl TokenSlot {
    /// Whoever uses the way shows `token` from now on; whether anybody does.
    #[must_use = "who is told that nobody uses the way need not come again"]
    pub fn renew(&self, token: &str) -> bool {
        match self.0.upgrade() {
            Some(inner) => {
                Remote(inner).renew(token);
                true
            }
            None => false,
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inner({})", self.line)
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({})", self.0.line)
    }
}

impl Remote {
    /// The way to a broker; nothing is asked yet.
    ///
    /// # Errors
    /// Where the address or the certificate cannot be read.
    pub fn new(options: &RemoteOptions) -> Result<Self, StoreError> {
        let line = Line::to_broker(&options.url, options.base, options.authority.as_deref())?;
        Ok(Self(Arc::new(Inner {
            line,
            token: RwLock::new(options.token.as_str().into()),
            secret: (0..4)
                .map(|_| format!("{:016x}", crate::outside::random()))
                .collect(),
            data: OnceLock::new(),
            authorities: OnceLock::new(),
            signatures: Signatures::default(),
            held: OnceLock::new(),
        })))
    }

    /// Keeps `guard` for as long as anything uses this way: a port-forward that it goes
    /// through. The first counts.
    pub fn hold(&self, guard: Arc<dyn Any + Send + Sync>) {
        let _ = self.0.held.set(guard);
    }

    /// What renews the token of this way.
    #[must_use]
    pub fn slot(&self) -> TokenSlot {
        TokenSlot(Arc::downgrade(&self.0))
    }

    /// What this launcher is to do.
    ///
    /// # Errors
    /// Where the broker cannot be reached, or refuses.
    pub async fn ticket(&self) -> Result<TicketGrant, StoreError> {
        let grant: TicketGrant = self
            .ask("ask for", "the ticket", Method::GET, protocol::TICKET, &())
            .await?;
        if grant.version != protocol::PROTOCOL_VERSION {
            return Err(StoreError::Refused {
                store: self.0.line.to_string(),
                why: format!(
                    "its broker speaks version {} of the protocol, and this program {}",
                    grant.version,
                    protocol::PROTOCOL_VERSION
                ),
                help: "use a launcher and a controller of one release".into(),
            });
        }
        Ok(grant)
    }

    /// The nonce of the claims that [`Self::claim`] can make.
    #[must_use]
    pub fn nonce(&self) -> Option<Nonce> {
        protocol::nonce_of(&self.0.secret)
    }

    /// Claims the attempt, with [`Self::nonce`]; with the claim won, this way speaks for it
    /// from then on.
    ///
    /// # Errors
    /// Where the broker cannot be reached, or refuses.
    pub async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let path = crate::layout::claim(&claim.attempt);
        let body = encode(&AskedClaim {
            claim: claim.clone(),
            secret: self.0.secret.clone(),
        })?;
        let request = Request::new(Method::POST, protocol::CLAIM).json(body);
        match self.send(request).await {
            Ok(answer) => {
                let grant: ClaimGrant = self.read(answer, &path).await?;
                self.renew(&grant.session);
                Ok(Claimed::Won)
            }
            Err(Failed::Refused(refusal)) if refusal.status == StatusCode::CONFLICT => {
                let stands = serde_json::from_slice::<ClaimStands>(&refusal.body);
                match stands {
                    Ok(ClaimStands { claim }) => Ok(Claimed::Lost(claim)),
                    Err(_) => Err(sort_error("claim", &path, refusal.as_error(&path))),
                }
            }
            Err(failed) => Err(sort_error("claim", &path, failed.as_error(&path))),
        }
    }

    /// Says that this launcher of a distributed step is there, and asks how far its group
    /// has come. Once the attempt is claimed, a member's way speaks for it from then on.
    ///
    /// # Errors
    /// Where the broker cannot be reached, or refuses: another has its place.
    pub async fn join(&self, member: &Joining) -> Result<Group, StoreError> {
        let Joining {
            instance,
            address,
            process,
            node,
        } = member.clone();
        let asked = AskedJoin {
            instance,
            address,
            process,
            node,
            secret: self.0.secret.clone(),
        };
        let group: Group = self
            .ask("join", "the group", Method::POST, protocol::JOIN, &asked)
            .await?;
        if let Some(begin) = &group.begun {
            self.renew(&begin.session);
        }
        Ok(group)
    }

    /// Which instances of a distributed step have ended, and how.
    ///
    /// # Errors
    /// Where the broker cannot be reached, or refuses.
    pub async fn group_ends(&self) -> Result<GroupEnds, StoreError> {
        self.ask("ask", "the group", Method::GET, protocol::GROUP_ENDS, &())
            .await
    }

    /// Says what happened.
    ///
    /// # Errors
    /// Where the broker cannot be reached, or refuses.
    pub async fn tell(&self, news: &News) -> Result<(), StoreError> {
        let taken: NewsTaken = self
            .ask("tell", "news", Method::POST, protocol::NEWS, news)
            .await?;
        if let Some(session) = taken.session {
            self.renew(&session);
        }
        Ok(())
    }

    /// `news` for hands that the step shares, sealed under the session that this way has
    /// (see [`auria_core::last_word`]); none before the claim.
    #[must_use]
    pub fn seal(&self, news: &AttemptNews) -> Option<String> {
        auria_core::last_word::seal(&self.token(), news)
    }

    /// What stands behind the broker.
    ///
    /// # Errors
    /// Where the broker cannot be reached, or refuses.
    pub async fn grant(&self) -> Result<StoreGrant, StoreError> {
        self.ask("open", "the store", Method::GET, protocol::STORE, &())
            .await
    }

    /// The store behind the broker, of which the broker said `grant`.
    ///
    /// # Errors
    /// Where the grant names no store.
    pub fn store(&self, grant: &StoreGrant) -> Result<Store, StoreError> {
        let url: StoreUrl = grant.url.parse()?;
        let _ = self.0.authorities.set(grant.authorities.clone());
        let records: Arc<dyn ObjectStore> =
            Arc::new(RemoteObjects::new(self.clone(), Way::Through));
        let way = if grant.signs {
            Way::straight()
        } else {
            Way::Through
        };
        let data: Arc<dyn ObjectStore> = Arc::new(RemoteObjects::new(self.clone(), way));
        Ok(Store::behind(url, grant.identity.clone(), records, data))
    }

    fn renew(&self, token: &str) {
        *self.0.token.write().unwrap_or_else(PoisonError::into_inner) = token.into();
    }

    fn token(&self) -> Arc<str> {
        let token = self.0.token.read();
        Arc::clone(&token.unwrap_or_else(PoisonError::into_inner))
    }

    async fn send(&self, request: Request) -> Result<call::Answer, Failed> {
        self.0.line.send(request, Some(&self.token())).await
    }

    /// The way to the object store itself.
    fn data(&self) -> Result<&Line, Failed> {
        if let Some(line) = self.0.data.get() {
            return Ok(line);
        }
        let authorities = self.0.authorities.get().cloned().flatten();
        let line = Line::to_data(authorities.as_deref()).map_err(Failed::Line)?;
        Ok(self.0.data.get_or_init(|| line))
    }

    /// Sends a small body and reads a small answer.
    async fn ask<T: DeserializeOwned>(
        &self,
        verb: &str,
        what: &str,
        method: Method,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<T, StoreError> {
        let mut request = Request::new(method.clone(), path);
        if method != Method::GET {
            request = request.json(encode(body)?);
        }
        let place = StorePath::from(what);
        let answer = self.send(request).await;
        let answer = answer.map_err(|failed| sort_error(verb, &place, failed.as_error(&place)))?;
        self.read(answer, &place).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        answer: call::Answer,
        what: &StorePath,
    ) -> Result<T, StoreError> {
        let read = answer.json().await;
        read.map_err(|failed| sort_error("read", what, failed.as_error(what)))
    }
}

fn encode(body: &impl Serialize) -> Result<Bytes, StoreError> {
    let bytes = serde_json::to_vec(body).map_err(|source| StoreError::Unwritable {
        what: "a request".into(),
        source,
    })?;
    Ok(bytes.into())
}
