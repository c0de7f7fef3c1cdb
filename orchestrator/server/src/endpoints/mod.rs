//! Published pipelines: an endpoint is a name that callers use, behind it are deployments,
//! each of them a pipeline with its files. A version of a deployment is never changed; what
//! an endpoint is, is what its log of decisions comes to. Nothing here runs anything.

mod jobs;
mod routes;
mod shapes;

pub(crate) use jobs::refusal;
pub use routes::Endpoints;
pub(crate) use routes::{described, published};

use crate::decisions;
use auria_core::{Digest, Timestamp};
use auria_store::{Created, Store, StoreError, served};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Something was decided about an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decided", rename_all = "snake_case")]
pub enum Decision {
    /// It exists from here on.
    Created {
        /// For people.
        description: String,
        /// When.
        at: Timestamp,
        /// By whom.
        by: String,
    },
    /// A version of a deployment stands behind it.
    Deployed {
        /// The deployment.
        deployment: String,
        /// Its version, from 1.
        version: u64,
    },
    /// A deployment is taken away; runs of it go on.
    Withdrawn {
        /// The deployment.
        deployment: String,
    },
    /// Who names no deployment is served by this one.
    Default {
        /// The deployment.
        deployment: String,
    },
    /// It exists no more.
    Deleted,
}

/// A version of a deployment: never changed.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// From 1.
    pub version: u64,
    /// The pipeline document, where it names no other file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The folder that holds the pipeline file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Digest>,
    /// The pipeline file in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Which pipeline of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Changes before those of a request, as `--set` takes them.
    #[serde(default)]
    pub set: Vec<String>,
    /// Reuse nothing: each request is a work of its own.
    #[serde(default)]
    pub force_rerun: bool,
    /// When.
    pub created: Timestamp,
    /// By whom.
    pub by: String,
    /// What `gc` must leave.
    #[serde(default)]
    pub snapshots: BTreeSet<Digest>,
}

/// An endpoint as it stands.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
    /// The newest version of each deployment.
    pub deployments: BTreeMap<String, u64>,
    /// Who names no deployment is served by this one.
    pub default: Option<String>,
}

/// An endpoint could not be changed, or is not there.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// There is none of this name.
    #[error("there is no {0}")]
    Unknown(String),
    /// There is one already.
    #[error("the endpoint {0} exists already")]
    Exists(String),
    /// A name that cannot be one.
    #[error("`{0}` is no name: use 1 to 63 letters, digits, - and _, a letter or digit first")]
    Name(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What `decisions` come to; none where it does not exist.
fn fold(name: &str, decisions: &[Decision]) -> Option<Endpoint> {
    let mut found: Option<Endpoint> = None;
    for decision in decisions {
        match (decision, &mut found) {
            (
                Decision::Created {
                    description,
                    at,
                    by: _,
                },
                none @ None,
            ) => {
                *none = Some(Endpoint {
                    name: name.to_owned(),
                    description: description.clone(),
                    created: *at,
                    deployments: BTreeMap::new(),
                    default: None,
                });
            }
            (
                Decision::Deployed {
                    deployment,
                    version,
                },
                Some(endpoint),
            ) => {
                endpoint.deployments.insert(deployment.clone(), *version);
                // The first stands for all, until something else is said.
                endpoint.default.get_or_insert_with(|| deployment.clone());
            }
            (Decision::Withdrawn { deployment }, Some(endpoint)) => {
                endpoint.deployments.remove(deployment);
                if endpoint.default.as_ref() == Some(deployment) {
                    endpoint.default = None;
                }
            }
            (Decision::Default { deployment }, Some(endpoint)) => {
                endpoint.default = Some(deployment.clone());
            }
            (Decision::Deleted, found) => *found = None,
            _ => {}
        }
    }
    found
}

fn checked(name: &str) -> Result<(), EndpointError> {
    if crate::names::is_name(name) {
        Ok(())
    } else {
        Err(EndpointError::Name(name.to_owned()))
    }
}

/// Decides about `name`: `decide` sees it as it stands.
async fn decide(
    store: &Store,
    name: &str,
    mut decide: impl FnMut(Option<Endpoint>) -> Result<Option<Decision>, EndpointError>,
) -> Result<(), EndpointError> {
    checked(name)?;
    let at = |seq| served::endpoint_log(name, seq);
    decisions::append(store, at, |before: &[Decision]| decide(fold(name, before))).await
}

fn unknown(name: &str) -> EndpointError {
    EndpointError::Unknown(format!("endpoint {name}"))
}

/// Makes an endpoint.
///
/// # Errors
/// [`EndpointError::Exists`] where there is one.
pub async fn create(
    store: &Store,
    name: &str,
    description: &str,
    by: &str,
    now: Timestamp,
) -> Result<(), EndpointError> {
    decide(store, name, |found| match found {
        Some(_) => Err(EndpointError::Exists(name.to_owned())),
        None => Ok(Some(Decision::Created {
            description: description.to_owned(),
            at: now,
            by: by.to_owned(),
        })),
    })
    .await
}

/// An endpoint as it stands.
///
/// # Errors
/// Where there is none.
pub async fn show(store: &Store, name: &str) -> Result<Endpoint, EndpointError> {
    checked(name).map_err(|_| unknown(name))?;
    let log: Vec<Decision> = decisions::read(store, |seq| served::endpoint_log(name, seq)).await?;
    fold(name, &log).ok_or_else(|| unknown(name))
}

/// All endpoints, by name.
///
/// # Errors
/// Where the store cannot be read.
pub async fn list(store: &Store) -> Result<Vec<Endpoint>, EndpointError> {
    let mut names = store.list_folders(&served::endpoints()).await?;
    names.sort();
    let mut found = Vec::new();
    for name in names {
        match show(store, &name).await {
            Ok(endpoint) => found.push(endpoint),
            Err(EndpointError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Puts a new version of `deployment` behind `endpoint`; says which.
///
/// # Errors
/// Where there is no such endpoint.
pub async fn deploy(
    store: &Store,
    endpoint: &str,
    mut deployment: Deployment,
) -> Result<u64, EndpointError> {
    checked(&deployment.name)?;
    let found = show(store, endpoint).await?;
    // Versions of one that was withdrawn are not used again.
    let mut version = found
        .deployments
        .get(&deployment.name)
        .copied()
        .unwrap_or(0);
    loop {
        version += 1;
        deployment.version = version;
        let path = served::deployment(endpoint, &deployment.name, version);
        let bytes = crate::names::json(&deployment);
        let same = |found: &[u8]| found == bytes;
        match store.create_once(&path, bytes.clone().into(), same).await? {
            Created::Won => break,
            Created::Lost(_) => {}
        }
    }
    decide(store, endpoint, |found| {
        let found = found.ok_or_else(|| unknown(endpoint))?;
        let newest = found
            .deployments
            .get(&deployment.name)
            .copied()
            .unwrap_or(0);
        Ok((newest < version).then(|| Decision::Deployed {
            deployment: deployment.name.clone(),
            version,
        }))
    })
    .await?;
    Ok(version)
}

/// A version of a deployment, the newest where none is said.
///
/// # Errors
/// Where there is none.
pub async fn deployment(
    store: &Store,
    endpoint: &Endpoint,
    name: Option<&str>,
) -> Result<Deployment, EndpointError> {
    let name = name.or(endpoint.default.as_deref()).ok_or_else(|| {
        EndpointError::Unknown(format!(
            "default deployment of the endpoint {}",
            endpoint.name
        ))
    })?;
    let unknown = || {
        EndpointError::Unknown(format!(
            "deployment {name} of the endpoint {}",
            endpoint.name
        ))
    };
    let version = endpoint.deployments.get(name).ok_or_else(unknown)?;
    let path = served::deployment(&endpoint.name, name, *version);
    store.read_json(&path).await?.ok_or_else(unknown)
}

/// Lets `deployment` serve those who name none.
///
/// # Errors
/// Where there is none.
pub async fn set_default(
    store: &Store,
    endpoint: &str,
    deployment: &str,
) -> Result<(), EndpointError> {
    decide(store, endpoint, |found| {
        let found = found.ok_or_else(|| unknown(endpoint))?;
        if !found.deployments.contains_key(deployment) {
            let what = format!("deployment {deployment} of the endpoint {endpoint}");
            return Err(EndpointError::Unknown(what));
        }
        let changes = found.default.as_deref() != Some(deployment);
        Ok(changes.then(|| Decision::Default {
            deployment: deployment.to_owned(),
        }))
    })
    .await
}

/// Takes a deployment away.
///
/// # Errors
/// Where there is none.
pub async fn withdraw(
    store: &Store,
    endpoint: &str,
    deployment: &str,
) -> Result<(), EndpointError> {
    decide(store, endpoint, |found| {
        let found = found.ok_or_else(|| unknown(endpoint))?;
        if !found.deployments.contains_key(deployment) {
            let what = format!("deployment {deployment} of the endpoint {endpoint}");
            return Err(EndpointError::Unknown(what));
        }
        Ok(Some(Decision::Withdrawn {
            deployment: deployment.to_owned(),
        }))
    })
    .await
}

/// Ends an endpoint; its runs stay.
///
/// # Errors
/// Where there is none.
pub async fn delete(store: &Store, endpoint: &str) -> Result<(), EndpointError> {
    decide(store, endpoint, |found| {
        found
            .map(|_| Some(Decision::Deleted))
            .ok_or_else(|| unknown(endpoint))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::{
        Deployment, EndpointError, create, delete, deploy, deployment, set_default, show, withdraw,
    };
    use auria_core::Timestamp;
    use auria_store::{Access, Store, StoreUrl};
    use std::collections::BTreeSet;

    fn made(name: &str, document: &str) -> Deployment {
        Deployment {
            name: name.to_owned(),
            version: 0,
            document: Some(document.to_owned()),
            snapshot: None,
            file: None,
            pipeline: None,
            set: Vec::new(),
            force_rerun: false,
            created: Timestamp(1),
            by: "me".to_owned(),
            snapshots: BTreeSet::new(),
        }
    }

    #[tokio::test]
    async fn versions_are_never_changed_and_the_first_deployment_is_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let url = StoreUrl::Folder(folder.path().join("store"));
        let store = Store::open(&url, Access::Write).await.unwrap();
        let at = Timestamp(1);
        assert!(matches!(
            show(&store, "e").await,
            Err(EndpointError::Unknown(_))
        ));
        create(&store, "e", "", "me", at).await.unwrap();
        assert!(matches!(
            create(&store, "e", "", "me", at).await,
            Err(EndpointError::Exists(_))
        ));
        assert!(matches!(
            create(&store, "a/b", "", "me", at).await,
            Err(EndpointError::Name(_))
        ));
        assert_eq!(deploy(&store, "e", made("blue", "one")).await.unwrap(), 1);
        assert_eq!(deploy(&store, "e", made("green", "two")).await.unwrap(), 1);
        // Two at a time: both stand, the later is the newest.
        let (first, second) = tokio::join!(
            deploy(&store, "e", made("blue", "three")),
            deploy(&store, "e", made("blue", "four"))
        );
        let mut versions = [first.unwrap(), second.unwrap()];
        versions.sort_unstable();
        assert_eq!(versions, [2, 3]);
        let endpoint = show(&store, "e").await.unwrap();
        assert_eq!(endpoint.default.as_deref(), Some("blue"));
        assert_eq!(endpoint.deployments["blue"], 3);
        set_default(&store, "e", "green").await.unwrap();
        let endpoint = show(&store, "e").await.unwrap();
        let found = deployment(&store, &endpoint, None).await.unwrap();
        assert_eq!(found.document.as_deref(), Some("two"));
        deployment(&store, &endpoint, Some("red"))
            .await
            .unwrap_err();
        set_default(&store, "e", "red").await.unwrap_err();
        withdraw(&store, "e", "green").await.unwrap();
        let endpoint = show(&store, "e").await.unwrap();
        assert_eq!(endpoint.default, None);
        delete(&store, "e").await.unwrap();
        assert!(matches!(
            show(&store, "e").await,
            Err(EndpointError::Unknown(_))
        ));
        // One of the same name is another; no version of the old one is used again.
        create(&store, "e", "", "me", at).await.unwrap();
        assert_eq!(deploy(&store, "e", made("blue", "five")).await.unwrap(), 4);
    }
}
