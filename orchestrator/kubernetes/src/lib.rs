//! Attempts on a Kubernetes cluster: tickets as Pods, the executor that starts and
//! watches them, whether a step fits the nodes, and the custom resources whose
//! controller drives runs. Nothing here decides about retries or commits a step: the
//! run state and launchers do.
//!
//! Reading order: `compute` (what `auria.yaml` declares), `cuda` (the table of pins),
//! `pod`, `fit`, `executor`, `resource`, `served`, `controller`.

pub mod access;
pub mod compute;
pub mod controller;
pub mod cuda;
pub mod executor;
pub mod fit;
pub mod levels;
pub mod names;
pub mod pod;
pub mod resource;
pub mod served;

pub use executor::{Kubernetes, KubernetesOptions, Relay};
pub use names::{instance_pod_name, pod_name};

/// An error with all that caused it: those of clients say little at their surface.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}
