//! Which controller leads, as its Lease alone says, and the way to its Pod. Whoever may
//! submit runs may read that Lease, and no Pods.

use super::forward::Trouble;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Portforwarder;
use kube::client::UpgradeConnectionError;
use kube::{Api, Client};
use std::time::Duration;

/// The Lease that the one which drives holds: its holder is the Pod's name.
pub const LEASE: &str = "auria-controller";
/// No call of the API may take longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Finds the one that leads in a namespace.
#[derive(Clone)]
pub struct Leader {
    leases: Api<Lease>,
    pods: Api<Pod>,
    namespace: String,
}

impl std::fmt::Debug for Leader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leader({})", self.namespace)
    }
}

impl Leader {
    /// In `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
        }
    }

    /// The Pod that leads; none while none does.
    ///
    /// # Errors
    /// Where the cluster does not say.
    pub async fn holder(&self) -> Result<Option<String>, Trouble> {
        let doing = format!("reading the Lease {}/{LEASE}", self.namespace);
        let lease = asked(&doing, self.leases.get_opt(LEASE)).await?;
        let spec = lease.and_then(|lease| lease.spec);
        let holder = spec.and_then(|spec| spec.holder_identity);
        Ok(holder.filter(|holder| !holder.is_empty()))
    }

    /// A way to a port of a Pod.
    ///
    /// # Errors
    /// Where the cluster opens none.
    pub async fn forward(&self, pod: &str, port: u16) -> Result<Open, Trouble> {
        let doing = format!("opening a way to the Pod {}/{pod}", self.namespace);
        let forward = asked(&doing, self.pods.portforward(pod, &[port])).await;
        forward.map(Open)
    }
}

/// A way that is closed when it is dropped.
pub struct Open(pub Portforwarder);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the cluster's API answers, within bounds.
///
/// # Errors
/// Where it refuses, or does not answer.
pub async fn asked<T>(
    doing: &str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Trouble {
            status: status(&error),
            text: format!("{doing}: {}", said(&error)),
        }),
        Err(_elapsed) => Err(Trouble::passing(format!(
            "{doing}: the cluster does not answer within {PATIENCE:?}"
        ))),
    }
}

/// The status of a refusal.
fn status(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            Some(status.as_u16())
        }
        _ => None,
    }
}

/// An error for people.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            match status.as_u16() {
                403 => "forbidden".to_owned(),
                404 => "there is no such Pod".to_owned(),
                _ => status.to_string(),
            }
        }
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(inner) = cause {
                let more = inner.to_string();
                if !text.contains(&more) {
                    text.push_str(": ");
                    text.push_str(&more);
                }
                cause = inner.source();
            }
            text
        }
    }
}
