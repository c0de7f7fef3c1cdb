//! The custom resource `PipelineRun`: what makes a run visible to kubectl, owns its Pods
//! and wakes the controller. Small on purpose: what a run is stands in the store. The
//! resource's definition is made of these types and checked in under `manifests/`.

use crate::names;
use crate::served::{Endpoint, Schedule};
use auria_core::{RunId, Timestamp};
use auria_store::layout;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a resource stays after its run has ended, where it does not say; the store
/// keeps the run.
pub const DEFAULT_TTL_SECONDS: u32 = 7 * 24 * 3600;

/// The resources of schedules, as roles name them.
pub const SCHEDULES: &str = "pipelineschedules";

/// The resources of endpoints: `endpoints` are Kubernetes' own.
pub const ENDPOINTS: &str = "pipelineendpoints";

/// Keeps the resource until its run has ended.
pub const FINALIZER: &str = "pipelines.auria.dev/run-end";

/// The reason of the condition of a resource that is never driven.
pub const REFUSED: &str = "Refused";

/// A run of a pipeline.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "pipelines.auria.dev",
    version = "v1alpha1",
    kind = "PipelineRun",
    namespaced,
    status = "PipelineRunStatus",
    derive = "PartialEq",
    category = "auria",
    doc = "A run of a pipeline. What it is stands in the object store; deleting it cancels the run.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Done", type_ = "integer", json_path = ".status.done"),
    printcolumn = r#"{"name": "Total", "type": "integer", "jsonPath": ".status.total"}"#,
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRunSpec {
    /// The run's name in the store.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "a PipelineRun stays that of its run"}]))]
    pub run: String,
    /// Where its plan stands in the store.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "the plan of a run never changes"}]))]
    pub plan: String,
    /// Whether it is to be canceled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// Seconds that this resource stays after the run's end: 7 days where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
}

/// How a run stands, as its driver sees it; at most a second old.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRunStatus {
    /// The generation of the resource that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Pending` until someone drives it, then the run's status.
    #[serde(default)]
    pub phase: String,
    /// Steps with an outcome.
    #[serde(default)]
    pub done: u64,
    /// All steps.
    #[serde(default)]
    pub total: u64,
    /// Steps that run.
    #[serde(default)]
    pub running: u64,
    /// Steps that failed.
    #[serde(default)]
    pub failed: u64,
    /// When the first step was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// `Succeeded`: unknown while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl PipelineRun {
    /// The resource of a run whose record stands in the store. From its beginning it is held
    /// until the run has ended: one that is deleted before anybody drives it is canceled too.
    #[must_use]
    pub fn of(run: &RunId) -> Self {
        let spec = PipelineRunSpec {
            run: run.to_string(),
            plan: layout::run_json(run).to_string(),
            cancel: false,
            ttl_seconds: None,
        };
        Self {
            metadata: ObjectMeta {
                name: Some(names::resource_name(run)),
                finalizers: Some(vec![FINALIZER.to_owned()]),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        }
    }

    /// Whether its run has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.status
            .as_ref()
            .is_some_and(|status| status.ended.is_some())
    }

    /// Whether it was refused as a second one of its run.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        let conditions = self.status.iter().flat_map(|status| &status.conditions);
        conditions
            .into_iter()
            .any(|condition| condition.reason == REFUSED)
    }

    /// When it may go, where its run has ended.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        let ended = self.status.as_ref()?.ended.as_ref()?;
        let ended: Timestamp = serde_json::from_value(ended.clone().into()).ok()?;
        let seconds = self.spec.ttl_seconds.unwrap_or(DEFAULT_TTL_SECONDS);
        Some(ended.plus_millis(u64::from(seconds) * 1000))
    }
}

/// The definitions of the custom resources, for `manifests/base/crd.yaml`.
#[must_use]
pub fn definitions() -> String {
    let all = [PipelineRun::crd(), Schedule::crd(), Endpoint::crd()];
    let all = all.map(|definition| {
        let definition = serde_json::to_value(definition).unwrap_or_default();
        serde_saphyr::to_string(&definition).unwrap_or_default()
    });
    let yaml = all.join("---\n");
    format!("# Written by `cargo xtask schema` from the types of orchestrator/kubernetes.\n{yaml}")
}

#[cfg(test)]
mod tests {
    use super::{PipelineRun, PipelineRunStatus, definitions};

    #[test]
    fn the_definitions_are_those_that_are_applied() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/base/crd.yaml");
        let applied = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(applied, definitions(), "run `cargo xtask schema`");
    }

    #[test]
    fn a_resource_goes_when_its_time_has_come() {
        let mut run = PipelineRun::of(&"hello_1".parse().unwrap());
        assert_eq!(run.spec.plan, "runs/hello_1/run.json");
        assert!(run.metadata.name.as_ref().unwrap().starts_with("hello-1-"));
        assert_eq!(run.expires(), None);
        run.status = Some(PipelineRunStatus {
            ended: Some("1970-01-01T00:00:01.000Z".to_owned()),
            ..PipelineRunStatus::default()
        });
        run.spec.ttl_seconds = Some(60);
        assert!(run.has_ended());
        assert_eq!(run.expires().unwrap().0, 61_000);
    }
}
