//! The way to the controller, which people need nothing for but a kubeconfig with the Role
//! `auria-user`, or `auria-admin` to delete: a port-forward to the one that leads, and a token that is good for the
//! controller alone. The kubeconfig's own credential never leaves this machine but to the
//! cluster that it is for.

use super::Controller;
use super::forward::{Forward, Trouble};
use super::leader::{Leader, PATIENCE, asked};
use crate::failure::Failure;
use auria_core::protocol::API;
use auria_kubernetes::access::AUDIENCE;
use auria_store::ErrorKind;
use auria_store::remote::{Remote, RemoteOptions, TokenSlot};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// The port of the API.
const PORT: u16 = 8444;
/// In whose name people ask, which is the name of the Role that lets them, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Submits and looks.
    User,
    /// Deletes, too: what others made as well.
    Admin,
}

impl Standing {
    /// Its service account and its Role.
    fn name(self) -> &'static str {
        match self {
            Self::User => "auria-user",
            Self::Admin => "auria-admin",
        }
    }
}

/// Holds the certificate that the API's own is signed by, as `ca.crt`.
pub const AUTHORITY: &str = "auria-controller-ca";
/// How long a controller that is on its way is waited for: an image is pulled, or the Lease
/// of one that was killed runs out.
const ARRIVES: Duration = Duration::from_secs(60);
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(500);
/// How long a token is good for; it is renewed in time.
const LIFE: Duration = Duration::from_secs(3600);
/// Before a token is asked for again that was not given.
const AGAIN: Duration = Duration::from_secs(30);

/// What keeps the way open. It is closed with the last that uses it.
pub struct Way {
    forward: Forward,
    account: Account,
    slot: TokenSlot,
    /// Renews the token.
    tasks: Mutex<JoinSet<()>>,
}

impl Way {
    /// Begins anew, with a fresh token and at whoever leads by now.
    pub async fn renew(&self) {
        if let Ok(token) = self.account.token().await {
            let _ = self.slot.renew(&token.text);
        }
        self.forward.reset();
    }
}

/// Finds the controller, and waits for one that is on its way, which is said through `tell`.
///
/// # Errors
/// Exit 4 where the cluster or the controller cannot be reached, or refuses.
pub async fn open(
    client: &Client,
    namespace: &str,
    standing: Standing,
    tell: impl Fn(&str),
) -> Result<Controller, Failure> {
    let account = Account {
        standing,
        accounts: Api::namespaced(client.clone(), namespace),
        namespace: namespace.to_owned(),
    };
    let leader = Leader::new(client.clone(), namespace);
    let token = account.first_token().await?;
    let forward = Forward::open(leader.clone(), PORT).await.map_err(|error| {
        Failure::unreachable(format!("opening a port of this machine: {error}"))
    })?;
    let begun = tokio::time::Instant::now();
    let mut said = None;
    loop {
        let trouble = match reach(client, &leader, &forward, &account, &token).await {
            Ok((remote, facts, pod)) => {
                let slot = remote.slot();
                let way = Arc::new(Way {
                    forward,
                    account: account.clone(),
                    slot: slot.clone(),
                    tasks: Mutex::default(),
                });
                let renewal = keep_token(account, slot, token.life);
                let tasks = way.tasks.lock();
                tasks.unwrap_or_else(PoisonError::into_inner).spawn(renewal);
                remote.hold(way.clone());
                let store = remote.store(&facts.store)?;
                return Ok(Controller {
                    remote,
                    store,
                    name: format!("the controller {namespace}/{pod}"),
                    facts,
                    flag: "--on kubernetes".to_owned(),
                    way: Some(way),
                });
            }
            Err(trouble) => trouble,
        };
        if trouble.is_refusal() {
            return Err(Failure::unreachable(trouble.text).help(role(namespace, standing)));
        }
        if begun.elapsed() > ARRIVES {
            return Err(Failure::unreachable(format!(
                "no controller answers in {namespace}: {}",
                trouble.text
            ))
            .help(format!(
                "`kubectl --namespace {namespace} describe deployment,pods` says why, to whoever may look"
            )));
        }
        if said.as_ref() != Some(&trouble.text) {
            tell(&format!(
                "waiting for the controller in {namespace}: {}",
                trouble.text
            ));
            said = Some(trouble.text);
        }
        tokio::time::sleep(LOOK).await;
    }
}

type Reached = (Remote, auria_core::protocol::ServerFacts, String);

/// One try.
async fn reach(
    client: &Client,
    leader: &Leader,
    forward: &Forward,
    account: &Account,
    token: &Token,
) -> Result<Reached, Trouble> {
    let namespace = &account.namespace;
    let Some(pod) = leader.holder().await? else {
        return Err(Trouble::passing("none leads yet"));
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let doing = format!("reading the ConfigMap {namespace}/{AUTHORITY}");
    let found = asked(&doing, maps.get_opt(AUTHORITY)).await?;
    let authority = found
        .and_then(|found| found.data)
        .and_then(|mut data| data.remove("ca.crt"))
        .ok_or_else(|| Trouble::passing(format!("{namespace}/{AUTHORITY} is not there yet")))?;
    let remote = Remote::new(&RemoteOptions {
        // The certificate is for this address too.
        url: format!("https://{}", forward.address()),
        base: API,
        token: token.text.clone(),
        authority: Some(authority),
    })
    .map_err(|error| Trouble::passing(error.to_string()))?;
    match tokio::time::timeout(PATIENCE, remote.facts()).await {
        Ok(Ok(facts)) => Ok((remote, facts, pod)),
        Ok(Err(error)) if error.kind() == ErrorKind::Denied => Err(Trouble {
            status: Some(403),
            text: format!("asking the controller {namespace}/{pod}: {error}"),
        }),
        // Why the way is closed says more than that it is.
        Ok(Err(error)) => Err(forward
            .trouble()
            .unwrap_or_else(|| Trouble::passing(format!("{pod} does not answer: {error}")))),
        Err(_elapsed) => Err(Trouble::passing(format!("{pod} does not answer"))),
    }
}

/// What lets somebody in who is refused.
fn role(namespace: &str, standing: Standing) -> String {
    let role = standing.name();
    let what = match standing {
        Standing::User => "use it",
        Standing::Admin => "delete there",
    };
    format!(
        "whoever has the Role {role} of {namespace} may {what}: `kubectl --namespace {namespace} create rolebinding NAME --role {role} --user YOU`, by whoever may"
    )
}

/// The service account that people speak for.
#[derive(Clone)]
struct Account {
    accounts: Api<ServiceAccount>,
    namespace: String,
    standing: Standing,
}

struct Token {
    text: String,
    life: Duration,
}

impl Account {
    /// A token, or why this person gets none.
    async fn first_token(&self) -> Result<Token, Failure> {
        let namespace = &self.namespace;
        match self.token().await {
            Ok(token) => Ok(token),
            Err(Trouble { status: Some(404), .. }) => Err(Failure::unreachable(format!(
                "no controller is installed in the namespace {namespace}"
            ))
            .help("`kubectl apply -k manifests/` installs it (docs/install.md); `--namespace` names another place")),
            Err(trouble) if trouble.is_refusal() => {
                Err(Failure::unreachable(trouble.text).help(role(namespace, self.standing)))
            }
            Err(trouble) => Err(Failure::unreachable(trouble.text).help(
                "`kubectl cluster-info` says whether the cluster answers; `--context` and `--namespace` pick another",
            )),
        }
    }

    async fn token(&self) -> Result<Token, Trouble> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                // Good for nothing else: not for the cluster's own API.
                audiences: vec![AUDIENCE.to_owned()],
                expiration_seconds: i64::try_from(LIFE.as_secs()).ok(),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let name = self.standing.name();
        let doing = format!("asking for a token of {}/{name}", self.namespace);
        let params = PostParams::default();
        let made = self.accounts.create_token_request(name, &params, &request);
        let made = asked(&doing, made).await?;
        // The cluster may give it a shorter life.
        let life = made.spec.expiration_seconds;
        let life = life.and_then(|seconds| u64::try_from(seconds).ok());
        let text = made.status.map(|status| status.token).unwrap_or_default();
        if text.is_empty() {
            return Err(Trouble::passing(format!("{doing}: it was given none")));
        }
        Ok(Token {
            text,
            life: life.map_or(LIFE, Duration::from_secs),
        })
    }
}

/// Renews the token for as long as somebody uses it.
async fn keep_token(account: Account, slot: TokenSlot, life: Duration) {
    let mut pause = life / 4 * 3;
    loop {
        tokio::time::sleep(pause).await;
        pause = match account.token().await {
            Ok(token) => {
                if !slot.renew(&token.text) {
                    return;
                }
                token.life / 4 * 3
            }
            Err(_) => AGAIN,
        };
    }
}
