//! What the controller's resources of schedules and endpoints say, read from the store: it
//! joins `server`, which knows what stands there, and `kubernetes`, which writes them.

use async_trait::async_trait;
use auria_kubernetes::controller::{Mirror, Served};
use auria_kubernetes::served as resource;
use auria_server::Changes;
use auria_server::endpoints::{self, EndpointError};
use auria_server::schedules::{self, Glance, Schedules};
use auria_store::{Store, served};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Tells a mirror of changes, once there is one.
#[derive(Clone, Debug, Default)]
pub struct Tells(Arc<OnceLock<Mirror>>);

impl Tells {
    /// Tells `mirror` from here on.
    pub fn mirror(&self, mirror: Mirror) {
        // There is one.
        let _ = self.0.set(mirror);
    }
}

impl Changes for Tells {
    fn schedule(&self, name: &str) {
        if let Some(mirror) = self.0.get() {
            mirror.schedule(name);
        }
    }

    fn endpoint(&self, name: &str) {
        if let Some(mirror) = self.0.get() {
            mirror.endpoint(name);
        }
    }
}

/// What the store holds.
pub struct Shown {
    /// The store.
    pub store: Store,
    /// Its schedules.
    pub schedules: Schedules,
}

#[async_trait]
impl Served for Shown {
    async fn schedules(&self) -> Result<Vec<String>, String> {
        let found = self.store.list_folders(&served::schedules()).await;
        found.map_err(|error| error.to_string())
    }

    async fn schedule(&self, name: &str) -> Result<Option<resource::Schedule>, String> {
        let found = self.schedules.glance(name).await;
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.map(schedule))
    }

    async fn endpoints(&self) -> Result<Vec<String>, String> {
        let found = self.store.list_folders(&served::endpoints()).await;
        found.map_err(|error| error.to_string())
    }

    async fn endpoint(&self, name: &str) -> Result<Option<resource::Endpoint>, String> {
        match endpoints::show(&self.store, name).await {
            Ok(found) => Ok(Some(endpoint(found))),
            Err(EndpointError::Store(error)) => Err(error.to_string()),
            Err(_) => Ok(None),
        }
    }
}

fn schedule(glance: Glance) -> resource::Schedule {
    let Glance {
        schedule,
        next,
        last,
    } = glance;
    let schedules::Schedule {
        name,
        definition,
        created: _,
        by,
        enabled,
    } = schedule;
    resource::Schedule {
        metadata: Default::default(),
        spec: resource::ScheduleSpec {
            name,
            trigger: definition.trigger.told(),
            time_zone: definition.trigger.zone_name().to_owned(),
            description: definition.description,
            enabled: enabled.is_some(),
            by,
        },
        status: Some(resource::ScheduleStatus {
            next: next.map(|next| next.to_string()),
            last: last.as_ref().map(|last| last.due.to_string()),
            last_run: last
                .as_ref()
                .and_then(|last| last.run.as_ref().map(ToString::to_string)),
            last_skipped: last.and_then(|last| last.skipped),
        }),
    }
}

fn endpoint(found: endpoints::Endpoint) -> resource::Endpoint {
    let endpoints::Endpoint {
        name,
        description,
        created,
        deployments,
        default,
    } = found;
    resource::Endpoint {
        metadata: Default::default(),
        spec: resource::EndpointSpec {
            name,
            description,
            default,
            created: created.to_string(),
        },
        status: Some(resource::EndpointStatus {
            deployments: listed(&deployments),
        }),
    }
}

/// `blue:3, green:1`.
fn listed(deployments: &BTreeMap<String, u64>) -> String {
    let all = deployments.iter();
    let all: Vec<String> = all
        .map(|(name, version)| format!("{name}:{version}"))
        .collect();
    all.join(", ")
}
