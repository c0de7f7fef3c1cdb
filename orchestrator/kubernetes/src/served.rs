//! The custom resources `Schedule` and `Endpoint`: what a server's store holds of them, for
//! kubectl. They mirror it and are nothing more: what is written into them by hand is written
//! over, and one that stands for nothing is taken away. Their plurals begin with `pipeline`,
//! since `endpoints` are Kubernetes' own.

use crate::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pipeline that is run by the clock.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "pipelines.auria.dev",
    version = "v1alpha1",
    kind = "Schedule",
    plural = "pipelineschedules",
    singular = "pipelineschedule",
    namespaced,
    status = "ScheduleStatus",
    derive = "PartialEq",
    category = "auria",
    doc = "A schedule, as it stands in the object store. `auria-pipeline schedule` makes and changes it; what is written here by hand is written over.",
    printcolumn(name = "Trigger", type_ = "string", json_path = ".spec.trigger"),
    printcolumn = r#"{"name": "Zone", "type": "string", "jsonPath": ".spec.timeZone"}"#,
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".spec.enabled"),
    printcolumn = r#"{"name": "Next", "type": "string", "jsonPath": ".status.next"}"#,
    printcolumn(name = "Last", type_ = "date", json_path = ".status.last"),
    printcolumn = r#"{"name": "Run", "type": "string", "jsonPath": ".status.lastRun"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleSpec {
    /// Its name in the store.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// When it fires: a cron expression, or a recurrence in words.
    pub trigger: String,
    /// The zone that its times are of.
    pub time_zone: String,
    /// Whether it fires.
    pub enabled: bool,
    /// Who made it: its runs are theirs.
    pub by: String,
}

/// How a schedule stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// The next tick, of one that fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// When the last tick was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// The run that it came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// Why it came to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_skipped: Option<String>,
}

/// A published pipeline.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "pipelines.auria.dev",
    version = "v1alpha1",
    kind = "Endpoint",
    plural = "pipelineendpoints",
    singular = "pipelineendpoint",
    namespaced,
    status = "EndpointStatus",
    derive = "PartialEq",
    category = "auria",
    doc = "An endpoint, as it stands in the object store. `auria-pipeline endpoint` and `deployment` make and change it; what is written here by hand is written over.",
    printcolumn(name = "Default", type_ = "string", json_path = ".spec.default"),
    printcolumn = r#"{"name": "Deployments", "type": "string", "jsonPath": ".status.deployments"}"#,
    printcolumn(name = "Age", type_ = "date", json_path = ".spec.created")
)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSpec {
    /// Its name in the store.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The deployment that serves who names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// When it was made.
    pub created: String,
}

/// What stands behind an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// Its deployments and the version of each: `blue:3, green:1`.
    #[serde(default)]
    pub deployments: String,
}

/// A resource that stands for a thing of the store.
pub trait Stands {
    /// The name in the store.
    fn stands_for(&self) -> &str;
    /// Itself as it is written, under the name that a cluster takes.
    #[must_use]
    fn written(self) -> Self;
    /// What of it is written apart from the rest.
    fn status(&self) -> serde_json::Value;
    /// Whether both say the same.
    fn says_as(&self, other: &Self) -> bool;
}

macro_rules! stands {
    ($kind:ident) => {
        impl Stands for $kind {
            fn stands_for(&self) -> &str {
                &self.spec.name
            }

            fn written(mut self) -> Self {
                self.metadata = ObjectMeta {
                    name: Some(names::served_name(&self.spec.name)),
                    ..ObjectMeta::default()
                };
                self
            }

            fn status(&self) -> serde_json::Value {
                serde_json::to_value(&self.status).unwrap_or_default()
            }

            fn says_as(&self, other: &Self) -> bool {
                self.spec == other.spec && self.status == other.status
            }
        }
    };
}

stands!(Schedule);
stands!(Endpoint);
