//! Tokens and the audit log over HTTP, for those who may do everything.

use super::{
    Access, Ask, Deed, Kind, ListedToken, Principal, Scope, Source, TokenRecord, audit, create,
    is_token_name, list, revoke,
};
use crate::api::extract::{Asked, Said};
use crate::api::{Action, Denied, User};
use crate::caller::bearer;
use crate::openapi::{About, Routes};
use crate::problem::Refusal;
use auria_core::Timestamp;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Deeds of one answer, where nothing is said.
const DEEDS: usize = 100;
/// The most of one answer.
const MOST_DEEDS: usize = 1000;

impl Access {
    /// Who asks.
    ///
    /// # Errors
    /// Where the token counts for nobody.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        let found = self.principal(shown(headers)?).await;
        found.map_err(|denied| match denied {
            Denied::Unavailable { message } => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
            }
            Denied::Unknown | Denied::Forbidden { .. } => Refusal::unknown(),
        })
    }

    /// Who asks, where that may do `deed` to what is of `kind`.
    ///
    /// # Errors
    /// Where the token counts for nobody, or for somebody who may not.
    pub async fn allowed(
        &self,
        headers: &HeaderMap,
        deed: Deed,
        kind: Kind,
    ) -> Result<Principal, Refusal> {
        let looks = matches!(deed, Deed::Look | Deed::List);
        if let Source::Callers(callers) = &self.source {
            let ask = Ask::May(deed, kind);
            let user = callers.may(shown(headers)?, &ask).await;
            let user = user.map_err(|denied| callers.refusal(denied, &ask))?;
            let scope = if looks { Scope::Read } else { Scope::Submit };
            return Ok(Principal::vouched(user, Some(scope)));
        }
        let principal = self.caller(headers).await?;
        // Who submits makes, changes and ends them too.
        let needed = if looks { Action::Read } else { Action::Create };
        if principal.may(needed) {
            return Ok(principal);
        }
        let (name, what) = (&principal.name, kind.plural());
        let why = if looks {
            format!("{name} may not look at {what}")
        } else {
            format!("{name} may not change {what}: that needs the scope submit")
        };
        Err(Refusal::new(StatusCode::FORBIDDEN, why))
    }

    /// Who asks, where that may invoke `endpoint`: with the scope `submit` where it may submit
    /// anything else as well.
    ///
    /// # Errors
    /// Where the token counts for nobody, or for somebody who may not.
    pub async fn invoker(&self, headers: &HeaderMap, endpoint: &str) -> Result<Principal, Refusal> {
        if let Source::Callers(callers) = &self.source {
            let token = shown(headers)?;
            // What is asked is remembered: nothing else than a name is.
            if !crate::names::is_name(endpoint) {
                let why = format!("there is no endpoint {endpoint}");
                return Err(Refusal::new(StatusCode::NOT_FOUND, why));
            }
            let ask = Ask::Invoke(endpoint.to_owned());
            let user = callers.may(token, &ask).await;
            let user = user.map_err(|denied| callers.refusal(denied, &ask))?;
            let submits = callers.may(token, &Ask::May(Deed::Make, Kind::Runs)).await;
            let scope = match submits {
                Ok(_) => Scope::Submit,
                Err(_) => Scope::Invoke(endpoint.to_owned()),
            };
            return Ok(Principal::vouched(user, Some(scope)));
        }
        let principal = self.caller(headers).await?;
        if principal.may_invoke(endpoint) {
            return Ok(principal);
        }
        let why = format!("{} may not invoke the endpoint {endpoint}", principal.name);
        Err(Refusal::new(StatusCode::FORBIDDEN, why))
    }

    /// Who asks, where that may see jobs of `endpoint`: with the scope `read` all of them, else
    /// its own.
    ///
    /// # Errors
    /// Where the token counts for nobody, or for somebody who may not.
    pub async fn viewer(&self, headers: &HeaderMap, endpoint: &str) -> Result<Principal, Refusal> {
        if let Source::Callers(callers) = &self.source {
            let reads = Ask::May(Deed::Look, Kind::Runs);
            if let Ok(user) = callers.may(shown(headers)?, &reads).await {
                return Ok(Principal::vouched(user, Some(Scope::Read)));
            }
            return self.invoker(headers, endpoint).await;
        }
        let principal = self.caller(headers).await?;
        if principal.may(Action::Read) || principal.may_invoke(endpoint) {
            return Ok(principal);
        }
        let why = format!(
            "{} may not see the jobs of the endpoint {endpoint}",
            principal.name
        );
        Err(Refusal::new(StatusCode::FORBIDDEN, why))
    }

    /// Notes what `who` did.
    pub async fn note(&self, who: &Principal, what: &str, to: &str) {
        audit::note(&self.store, self.now(), &who.name, what, to).await;
    }

    /// The time of its clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// The store that it keeps tokens in.
    #[must_use]
    pub fn store(&self) -> &auria_store::Store {
        &self.store
    }

    /// What it answers, below the API's base.
    pub fn routes(self: &Arc<Self>) -> Routes {
        let admin = axum::middleware::from_fn_with_state(self.clone(), admin);
        described()
            .with_state(self.clone())
            .map(|routes| routes.layer(admin))
    }
}

impl Access {
    /// `routes` for those alone who show a token that counts: before anything else is looked
    /// at. What they may do is for each of the routes to say.
    pub(crate) fn known(self: &Arc<Self>, routes: Routes) -> Routes {
        let known = axum::middleware::from_fn_with_state(self.clone(), known);
        routes.map(|routes| routes.layer(known))
    }
}

/// The token of a request.
fn shown(headers: &HeaderMap) -> Result<&str, Refusal> {
    let token = bearer(headers).filter(|token| !token.is_empty());
    token.ok_or_else(Refusal::unknown)
}

async fn known(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    access.caller(request.headers()).await?;
    Ok(next.run(request).await)
}

/// What it does.
pub(crate) fn described() -> Routes<Arc<Access>> {
    Routes::new()
        .get(
            "/tokens",
            listed,
            About::new("listTokens", "All tokens, without their secrets"),
        )
        .post(
            "/tokens",
            made,
            About::new("createToken", "Makes a token, which is told this once").status(201),
        )
        .delete(
            "/tokens/{id}",
            revoked,
            About::new("revokeToken", "Lets a token count for nothing any more"),
        )
        .get(
            "/audit",
            deeds,
            About::new("readAudit", "Who did what, newest first"),
        )
}

async fn admin(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let principal = access.caller(request.headers()).await?;
    if !principal.is_admin() {
        let why = format!(
            "{} may not change who may do what: that needs the scope admin",
            principal.name
        );
        return Err(Refusal::new(StatusCode::FORBIDDEN, why));
    }
    request.extensions_mut().insert(principal.user());
    Ok(next.run(request).await)
}

#[derive(JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBody {
    #[schemars(length(min = 1, max = 100))]
    name: String,
    #[schemars(with = "Vec<Scope>", length(min = 1))]
    scopes: BTreeSet<Scope>,
    /// How long it counts, in milliseconds; none: until it is revoked.
    #[serde(default)]
    lives_ms: Option<u64>,
}

#[derive(JsonSchema, Serialize)]
struct Made {
    /// Told this once.
    token: String,
    record: TokenRecord,
}

async fn made(
    State(access): State<Arc<Access>>,
    Extension(user): Extension<User>,
    Said(body): Said<NewBody>,
) -> Result<(StatusCode, Json<Made>), Refusal> {
    if body.scopes.is_empty() || !is_token_name(&body.name) {
        let why = "a token has at least one scope, and a name of 1 to 100 letters without control characters";
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    let now = access.now();
    let expires = body.lives_ms.map(|millis| now.plus_millis(millis));
    let made = create(
        &access.store,
        &body.name,
        body.scopes,
        expires,
        &user.name,
        now,
    )
    .await;
    let made = made.map_err(|error| Refusal::of(&error))?;
    audit::note(
        &access.store,
        now,
        &user.name,
        "token.create",
        &made.record.id,
    )
    .await;
    let answer = Made {
        token: made.token,
        record: made.record,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

async fn listed(State(access): State<Arc<Access>>) -> Result<Json<Vec<ListedToken>>, Refusal> {
    let found = list(&access.store).await;
    found.map(Json).map_err(|error| Refusal::of(&error))
}

/// That a token counts no more.
#[derive(JsonSchema, Serialize)]
struct Revoked {
    id: String,
    revoked: bool,
}

async fn revoked(
    State(access): State<Arc<Access>>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<Revoked>, Refusal> {
    let now = access.now();
    let done = revoke(&access.store, &id, &user.name, now).await;
    done.map_err(|error| Refusal::of(&error))?;
    audit::note(&access.store, now, &user.name, "token.revoke", &id).await;
    Ok(Json(Revoked { id, revoked: true }))
}

#[derive(JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeedsQuery {
    limit: Option<usize>,
}

async fn deeds(
    State(access): State<Arc<Access>>,
    Asked(query): Asked<DeedsQuery>,
) -> Result<Json<Vec<audit::Deed>>, Refusal> {
    let limit = query.limit.unwrap_or(DEEDS).min(MOST_DEEDS);
    let found = audit::last(&access.store, limit).await;
    found.map(Json).map_err(|error| Refusal::of(&error))
}
