//! `token`: who may use a server. Works on the store that the server has, or by the server.

use crate::args::{Global, Token, TokenCreate, duration};
use crate::edge;
use crate::failure::{Failure, exit};
use crate::open::{self, Opened};
use crate::print;
use auria_core::Timestamp;
use auria_server::access::{self, ListedToken, Scope, audit};
use auria_store::Access;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Makes, lists and revokes tokens.
///
/// # Errors
/// Where the store or the server cannot be reached, or a scope is none.
pub async fn token(global: &Global, args: &Token) -> Result<u8, Failure> {
    match args {
        Token::Create(args) => create(global, args).await,
        Token::List => list(global).await,
        Token::Revoke { id } => revoke(global, id).await,
    }
}

async fn create(global: &Global, args: &TokenCreate) -> Result<u8, Failure> {
    if !access::is_token_name(&args.name) {
        return Err(Failure::usage(
            "a token's name has 1 to 100 letters, and no control characters",
        ));
    }
    let scopes = args.scope.iter().map(|text| {
        let scope = text.parse::<Scope>();
        scope.map_err(|error| Failure::usage(format!("--scope: {error}")))
    });
    let scopes = scopes.collect::<Result<BTreeSet<Scope>, Failure>>()?;
    let lives_ms = match args.expires.as_str() {
        "never" => None,
        text => {
            let lives = duration(text);
            let lives = lives.map_err(|why| Failure::usage(format!("--expires {text}: {why}")))?;
            Some(u64::try_from(lives.as_millis()).unwrap_or(u64::MAX))
        }
    };
    let Opened { store, controller } = open::new_or_existing(global, Access::Write).await?;
    let (record, token) = match controller {
        Some(server) => {
            let body = json!({"name": args.name, "scopes": scopes, "lives_ms": lives_ms});
            let made: serde_json::Value = server.remote.post("tokens", &body).await?;
            let token = made["token"].as_str().unwrap_or_default().to_owned();
            (made["record"].clone(), token)
        }
        None => {
            let now = edge::now();
            let expires = lives_ms.map(|millis| now.plus_millis(millis));
            let by = edge::user();
            let made = access::create(&store, &args.name, scopes, expires, &by, now).await?;
            audit::note(&store, now, &by, "token.create", &made.record.id).await;
            (json!(made.record), made.token)
        }
    };
    let value = json!({"token": token, "record": record});
    print::result(global.output, &value, || format!("{token}\n"))?;
    eprintln!("note: it is shown this once; the store holds its digest alone");
    Ok(exit::DONE)
}

async fn list(global: &Global) -> Result<u8, Failure> {
    let Opened { store, controller } = open::new_or_existing(global, Access::Read).await?;
    let found: Vec<ListedToken> = match controller {
        Some(server) => server.remote.get("tokens").await?,
        None => access::list(&store).await?,
    };
    let value: Vec<_> = found
        .iter()
        .map(|ListedToken { record, revoked }| {
            json!({"id": record.id, "name": record.name, "scopes": record.scopes,
                "created": record.created, "expires": record.expires, "revoked": revoked,
                "by": record.by})
        })
        .collect();
    print::result(global.output, &value, || table(&found, edge::now()))?;
    Ok(exit::DONE)
}

fn table(found: &[ListedToken], now: Timestamp) -> String {
    let mut text = String::new();
    for ListedToken { record, revoked } in found {
        let scopes: Vec<String> = record.scopes.iter().map(ToString::to_string).collect();
        let until = match (revoked, record.expires) {
            (true, _) => "revoked".to_owned(),
            (false, Some(expires)) if expires <= now => "expired".to_owned(),
            (false, Some(expires)) => format!("until {expires}"),
            (false, None) => "until it is revoked".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}  {}  {}  {until}",
            record.id,
            record.name,
            scopes.join(",")
        );
    }
    if found.is_empty() {
        text.push_str("no tokens\n");
    }
    text
}

async fn revoke(global: &Global, id: &str) -> Result<u8, Failure> {
    let Opened { store, controller } = open::new_or_existing(global, Access::Write).await?;
    match controller {
        Some(server) => {
            let _: serde_json::Value = server.remote.remove(&format!("tokens/{id}")).await?;
        }
        None => {
            let (by, now) = (edge::user(), edge::now());
            access::revoke(&store, id, &by, now).await?;
            audit::note(&store, now, &by, "token.revoke", id).await;
        }
    }
    let value = json!({"id": id, "revoked": true});
    print::result(global.output, &value, || format!("revoked {id}\n"))?;
    Ok(exit::DONE)
}
