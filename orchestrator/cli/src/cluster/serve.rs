//! What the controller's API asks of Kubernetes: who a user is and what it may, and to make
//! a run visible or end it. It joins `kubernetes` and `server`, which know nothing of each
//! other.

use crate::edge;
use async_trait::async_trait;
use auria_core::RunId;
use auria_core::outcome::Status;
use auria_core::plan::Plan;
use auria_core::protocol::LauncherFacts;
use auria_engine::feed::Feed;
use auria_kubernetes::access::{self, Verb, Vouched, Wanted};
use auria_kubernetes::compute::Compute;
use auria_kubernetes::controller::{self, Feeds, Standing};
use auria_kubernetes::fit::{self, NodeOffer};
use auria_kubernetes::pod::LauncherSource;
use auria_kubernetes::resource;
use auria_server::access::{Ask, Callers, Deed, Kind, audit};
use auria_server::api::{Action, Denied, NotStarted, Queue, Reserved, Runs, User, Vouch};
use auria_store::Store;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::task::JoinSet;

/// Kubernetes knows users by their tokens.
pub struct Tokens(pub access::Access);

#[async_trait]
impl Vouch for Tokens {
    async fn vouch(&self, token: &str, action: Action) -> Result<User, Denied> {
        let verb = match action {
            Action::Read => Verb::Get,
            Action::Create => Verb::Create,
            Action::Update => Verb::Update,
            Action::Delete => Verb::Delete,
        };
        user(self.0.vouch(token, verb).await)
    }
}

fn user(vouched: Result<Vouched, String>) -> Result<User, Denied> {
    match vouched {
        Ok(Vouched::Allowed { user }) => Ok(User {
            id: user.clone(),
            name: user,
        }),
        Ok(Vouched::Forbidden { user }) => Err(Denied::Forbidden { user }),
        Ok(Vouched::Nobody) => Err(Denied::Unknown),
        Err(message) => Err(Denied::Unavailable { message }),
    }
}

#[async_trait]
impl Callers for Tokens {
    async fn may(&self, token: &str, ask: &Ask) -> Result<User, Denied> {
        user(match wanted(ask) {
            Some((verb, wanted)) => self.0.vouch_for(token, verb, wanted).await,
            None => self.0.knows(token).await,
        })
    }

    fn names(&self, ask: &Ask) -> (&'static str, &'static str) {
        match (ask, wanted(ask)) {
            (Ask::Invoke(_), _) => ("create", "pipelineendpoints/invoke"),
            (_, Some((verb, wanted))) => (verb.word(), wanted.resource),
            (_, None) => ("use", "this"),
        }
    }
}

/// A question as roles answer it; none where any user will do.
fn wanted(ask: &Ask) -> Option<(Verb, Wanted<'_>)> {
    let wanted = |resource, subresource, name| Wanted {
        resource,
        subresource,
        name,
    };
    match ask {
        Ask::Known => None,
        Ask::Invoke(name) => Some((
            Verb::Create,
            wanted(resource::ENDPOINTS, Some("invoke"), Some(name.as_str())),
        )),
        Ask::May(deed, kind) => {
            let verb = match deed {
                Deed::Look => Verb::Get,
                Deed::List => Verb::List,
                Deed::Make => Verb::Create,
                Deed::Change => Verb::Update,
                Deed::End => Verb::Delete,
            };
            let resource = match kind {
                Kind::Endpoints => resource::ENDPOINTS,
                Kind::Schedules => resource::SCHEDULES,
                Kind::Runs => Wanted::RUNS.resource,
            };
            Some((verb, wanted(resource, None, None)))
        }
    }
}

/// Requests to cancel that are under way.
const CANCELING: usize = 64;

/// The runs of a namespace.
pub struct Namespace {
    /// The cluster.
    pub client: Client,
    /// Which.
    pub name: String,
    /// The store that holds the runs.
    pub store: Store,
    /// The runs that are driven by this replica.
    pub feeds: Feeds,
    /// How all of them stand, as their resources say.
    pub standing: Standing,
    /// Computes, by name.
    pub computes: BTreeMap<String, Compute>,
    /// That of steps that name none.
    pub fallback: Compute,
    /// How launchers get into Pods.
    pub launcher: LauncherSource,
    /// Requests to cancel that are under way.
    pub canceling: Mutex<JoinSet<()>>,
}

#[async_trait]
impl Runs for Namespace {
    async fn start(&self, run: &RunId, _by: &User, _place: Reserved) -> Result<(), NotStarted> {
        // A resource without a record would never end.
        let found = auria_store::runs::read(&self.store, run).await;
        found.map_err(|error| match error.kind() {
            auria_store::ErrorKind::NotFound => NotStarted::Refused {
                message: error.to_string(),
            },
            _ => NotStarted::Unavailable {
                message: error.to_string(),
            },
        })?;
        let announced = controller::announce(self.client.clone(), &self.name, run).await;
        announced.map_err(|message| NotStarted::Unavailable { message })?;
        self.standing.announced(run);
        Ok(())
    }

    fn nudge(&self, run: &RunId) {
        let canceling = self.canceling.lock();
        let mut canceling = canceling.unwrap_or_else(PoisonError::into_inner);
        while canceling.try_join_next().is_some() {}
        if canceling.len() >= CANCELING {
            // The driver looks at the log every few seconds by itself.
            return;
        }
        let (client, name, run) = (self.client.clone(), self.name.clone(), run.clone());
        canceling.spawn(async move {
            if let Err(error) = controller::cancel(client, &name, &run).await {
                tracing::warn!(%run, "{error}");
            }
        });
    }

    async fn note(&self, by: &User, what: &str, run: &RunId) {
        audit::note(&self.store, edge::now(), &by.name, what, run.as_str()).await;
    }

    async fn forget(&self, run: &RunId) {
        // Its resource says nothing any more; it would go by itself, days later.
        let forgotten = controller::forget(self.client.clone(), &self.name, &self.store, run).await;
        if let Err(error) = forgotten {
            tracing::warn!(%run, "{error}");
        }
    }

    fn feed(&self, run: &RunId) -> Option<Feed> {
        self.feeds.get(run)
    }

    async fn check(&self, plan: &Plan) -> Result<Vec<String>, String> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nodes = match nodes.list(&ListParams::default()).await {
            Ok(found) => Some(found.items.iter().map(NodeOffer::of).collect::<Vec<_>>()),
            // Nodes may be out of sight: what computes declare is checked alone.
            Err(kube::Error::Api(status)) if status.code == 403 => None,
            Err(error) => return Err(format!("the nodes cannot be listed: {error}")),
        };
        let compute = |name: Option<&str>| {
            name.and_then(|name| self.computes.get(name))
                .unwrap_or(&self.fallback)
        };
        let misfits = fit::check(plan, nodes.as_deref(), compute);
        Ok(misfits.iter().map(ToString::to_string).collect())
    }

    fn computes(&self) -> Vec<String> {
        self.computes.keys().cloned().collect()
    }

    async fn ended(&self, run: &RunId) {
        self.standing.ended(run).await;
    }

    fn launcher(&self) -> Option<LauncherFacts> {
        let LauncherSource {
            image,
            carried_by,
            image_volumes,
        } = &self.launcher;
        Some(LauncherFacts {
            image: image.clone(),
            carried_by: carried_by.clone(),
            image_volumes: *image_volumes,
        })
    }
}

impl Queue for Namespace {
    fn status(&self, run: &RunId) -> Option<Status> {
        let said = self.standing.status(run)?;
        // The resource is a moment behind its driver.
        let driven = said == Status::Queued && self.feeds.get(run).is_some();
        Some(if driven { Status::Running } else { said })
    }

    fn place(&self, _run: &RunId) -> Option<(usize, usize)> {
        // That is known to the replica that drives alone.
        None
    }
}
