//! A compute as `auria.yaml` declares it: which nodes its Pods may use, and what they
//! are given there. Read by the command line and by the controller; `pod` carries it
//! out, `fit` checks pipelines against it. It decides nothing.

mod amount;

pub use amount::{Bytes, Cpus, Span};

use auria_core::resources::{GpuRequest, Resources};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A compute: what a name such as `gpu-cluster` in a pipeline means here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compute {
    /// What runs its steps: `process`, `docker` or `kubernetes`.
    pub target: String,
    /// Labels that a node must carry.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that its Pods tolerate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// What a step asks for that says nothing itself.
    pub default_resources: Amounts,
    /// Resource requests, by the name that `resources.instance_type` uses.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub instance_types: BTreeMap<String, InstanceType>,
    /// The queue (of Kueue, its LocalQueue).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Most Pods at once, over all runs; further attempts wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_instances: Option<u32>,
    /// The service account of its Pods; they are given no token of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// The priority class of its Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// The runtime class, such as `nvidia`, of Pods that ask for a GPU or are pinned to a
    /// CUDA version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_runtime_class: Option<String>,
    /// The runtime class of all its other Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<String>,
    /// Secrets of the namespace with which images are pulled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// When images are pulled; where it is not said, the cluster decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Names of hosts that the cluster's DNS does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_aliases: Vec<HostAlias>,
    /// Variables from secrets of the namespace: commands see them, nothing else holds them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretKey>,
    /// Who commands run as.
    pub user: User,
    /// Whether the image's own files can be written to. Work, tmp and HOME always can: they are
    /// volumes where this is false, or the launcher is brought into the image, or the step asks
    /// for `shm_size`; else they are in the image's `/tmp`, and Pods start a quarter of a second sooner.
    pub writable_root: bool,
    /// How GPUs are asked for.
    pub gpus: GpuAsking,
    /// What its nodes offer; checked instead of the cluster's nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
    /// Its pool may stand at zero: nodes that are missing now are no reason to refuse.
    pub autoscaled: bool,
    /// How long a Pod may stay unschedulable until its step is refused.
    pub pending_timeout: PendingTimeout,
    /// How long a node may take to start a Pod, images and volumes included, until it is tried
    /// elsewhere.
    pub start_timeout: StartTimeout,
    /// How long an image may be trouble until the attempt ends: registries have bad moments.
    pub image_patience: ImagePatience,
    /// How long a node may be silent until its Pods are given up.
    pub node_patience: NodePatience,
}

macro_rules! patience {
    ($($(#[$doc:meta])* $name:ident = $seconds:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Span);

        impl Default for $name {
            fn default() -> Self {
                Self(Span::seconds($seconds))
            }
        }
    )*};
}

patience! {
    /// 10 minutes, where it is not said.
    PendingTimeout = 600;
    /// 30 minutes, where it is not said.
    StartTimeout = 1800;
    /// 2 minutes, where it is not said.
    ImagePatience = 120;
    /// 30 seconds, where it is not said.
    NodePatience = 30;
}

/// Amounts that a step may ask for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Amounts {
    /// CPU cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Scratch space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<Bytes>,
    /// Shared memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<Bytes>,
    /// Whole GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
}

/// What `resources.instance_type` names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceType {
    /// Labels that a node must carry, beside those of the compute.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// What a step asks for that says nothing itself.
    pub resources: Amounts,
    /// The GPU's product name, as NVIDIA's feature discovery writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_model: Option<String>,
    /// A MIG profile, such as `1g.10gb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mig: Option<String>,
}

/// A taint that Pods tolerate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Toleration {
    /// The taint's key; none means every taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Equal` (the default) or `Exists`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// The taint's value, with `Equal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Which effect; none means every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// How a toleration matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// Key and value are equal.
    Equal,
    /// The key is there.
    Exists,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// Nothing new is scheduled.
    NoSchedule,
    /// Rather not.
    PreferNoSchedule,
    /// What runs is evicted too.
    NoExecute,
}

/// When images are pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// For every Pod.
    Always,
    /// Where the node has none.
    IfNotPresent,
    /// Never.
    Never,
}

/// Names of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostAlias {
    /// Its address.
    pub ip: String,
    /// Its names.
    pub hostnames: Vec<String>,
}

/// One key of a secret of the namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretKey {
    /// The secret.
    pub secret: String,
    /// Its key.
    pub key: String,
}

/// Who commands run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum User {
    /// The image's own user, which may be root.
    Image,
    /// These numbers.
    #[serde(untagged)]
    Numbers {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

impl Default for User {
    fn default() -> Self {
        Self::Numbers {
            uid: 65532,
            gid: 65532,
        }
    }
}

/// How GPUs are asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GpuAsking {
    /// The resource that the device plugin offers.
    pub resource: String,
    /// How the device plugin shows MIG devices.
    pub mig: MigStrategy,
    /// A ResourceClaimTemplate of the namespace, of one GPU: then GPUs are claims (DRA).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_template: Option<String>,
}

impl Default for GpuAsking {
    fn default() -> Self {
        Self {
            resource: "nvidia.com/gpu".to_owned(),
            mig: MigStrategy::Mixed,
            claim_template: None,
        }
    }
}

/// How the device plugin shows MIG devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MigStrategy {
    /// A resource for each profile: `nvidia.com/mig-1g.10gb`.
    #[default]
    Mixed,
    /// All are `nvidia.com/gpu`, and the node's product says which profile.
    Single,
}

/// Nodes of one kind, as their owner declares them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Offer {
    /// What people call them.
    pub name: String,
    /// Labels that they carry.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What one of them has.
    pub resources: Amounts,
    /// The GPUs' product name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_model: Option<String>,
    /// Memory of each GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_memory: Option<Bytes>,
    /// Compute capability of the GPUs: `9.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// CUDA version of the driver: `12.6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuda: Option<String>,
    /// MIG devices, by profile.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mig: BTreeMap<String, u32>,
}

impl Compute {
    /// What a step is given here: what it asks for, else what its instance type says, else
    /// the compute's default; and the labels that its instance type asks of a node.
    ///
    /// # Errors
    /// Where there is no such instance type: with those that there are.
    pub fn resolve(
        &self,
        asked: &Resources,
    ) -> Result<(Resources, BTreeMap<String, String>), String> {
        let none = InstanceType::default();
        let kind = match &asked.instance_type {
            None => &none,
            Some(name) => self.instance_types.get(name).ok_or_else(|| {
                let known: Vec<_> = self.instance_types.keys().map(String::as_str).collect();
                match known.as_slice() {
                    [] => format!(
                        "the compute has no instance type `{name}`, and none at all: `instance_types` in auria.yaml declares them"
                    ),
                    known => format!(
                        "the compute has no instance type `{name}`; it has {}",
                        known.join(", ")
                    ),
                }
            })?,
        };
        let (typed, default) = (&kind.resources, &self.default_resources);
        let gpu = GpuRequest {
            model: kind.gpu_model.clone(),
            memory_bytes: None,
            mig: kind.mig.clone(),
        };
        let resources = Resources {
            cpu_millis: asked
                .cpu_millis
                .or(typed.cpus.or(default.cpus).map(|Cpus(millis)| millis)),
            memory_bytes: asked
                .memory_bytes
                .or(typed.memory.or(default.memory).map(|Bytes(bytes)| bytes)),
            ephemeral_storage_bytes: asked.ephemeral_storage_bytes.or(typed
                .ephemeral_storage
                .or(default.ephemeral_storage)
                .map(|Bytes(bytes)| bytes)),
            shm_bytes: asked.shm_bytes.or(typed
                .shm_size
                .or(default.shm_size)
                .map(|Bytes(bytes)| bytes)),
            gpus: if asked.gpus > 0 {
                asked.gpus
            } else {
                typed.gpus.or(default.gpus).unwrap_or(0)
            },
            gpu: asked
                .gpu
                .clone()
                .or((gpu != GpuRequest::default()).then_some(gpu)),
            instances: asked.instances,
            instance_type: asked.instance_type.clone(),
        };
        Ok((resources, kind.node_selector.clone()))
    }
}

/// The schema of a compute, for that of `auria.yaml`.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings
        .into_generator()
        .into_root_schema_for::<Compute>()
        .to_value()
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Compute, Cpus, User};
    use auria_core::resources::Resources;

    #[test]
    fn a_compute_is_read_with_its_units() {
        let text = "
target: kubernetes
node_selector: {pool: gpu}
tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
default_resources: {cpus: 0.5, memory: 2Gi}
instance_types:
  big: {node_selector: {size: big}, resources: {cpus: 8, memory: 64Gi, gpus: 1}}
user: image
pending_timeout: 90s
";
        let compute: Compute = serde_saphyr::from_str(text).unwrap();
        assert_eq!(compute.user, User::Image);
        assert_eq!(compute.default_resources.cpus, Some(Cpus(500)));
        assert_eq!(compute.default_resources.memory, Some(Bytes(2 << 30)));
        assert_eq!(compute.pending_timeout.0.0, 90_000);
        assert_eq!(compute.node_patience.0.0, 30_000);
        let asked = Resources {
            cpu_millis: Some(1000),
            instances: 1,
            instance_type: Some("big".to_owned()),
            ..Resources::default()
        };
        let (given, selector) = compute.resolve(&asked).unwrap();
        assert_eq!(
            (given.cpu_millis, given.memory_bytes, given.gpus),
            (Some(1000), Some(64 << 30), 1)
        );
        assert_eq!(selector["size"], "big");
        let asked = Resources {
            instance_type: Some("huge".to_owned()),
            ..asked
        };
        let refused = compute.resolve(&asked).unwrap_err();
        assert!(refused.contains("`huge`; it has big"), "{refused}");

        let numbers: Compute = serde_saphyr::from_str("user: {uid: 7, gid: 8}").unwrap();
        assert_eq!(numbers.user, User::Numbers { uid: 7, gid: 8 });
        for wrong in ["nodeselector: {}", "pending_timeout: soon", "user: root"] {
            assert!(serde_saphyr::from_str::<Compute>(wrong).is_err(), "{wrong}");
        }
        // What is written is read again.
        let again = serde_json::to_value(&compute).unwrap();
        assert_eq!(serde_json::from_value::<Compute>(again).unwrap(), compute);
    }
}
