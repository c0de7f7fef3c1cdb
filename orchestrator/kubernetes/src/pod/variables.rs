//! The variables of a step's container: what its launcher is told, what NVIDIA's runtime reads,
//! and the compute's secrets.

use super::{HOME, TMP, WORK, WORK_IN_TMP};
use crate::compute::{Compute, GpuAsking, SecretKey};
use auria_core::plan::CudaPin;
use auria_core::resources::{GpuRequest, Resources};
use auria_engine::relay::BrokerAccess;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, SecretKeySelector};
use std::collections::BTreeMap;

/// What the launcher of a distributed step's instance is told beside.
pub(super) fn member_variables(compute: &Compute, instance: u32, instances: u32) -> Vec<EnvVar> {
    if instances < 2 {
        return Vec::new();
    }
    let plain = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    };
    // Each may wait for a node, and then for its image; and the executor says it first.
    let patience = compute
        .pending_timeout
        .0
        .0
        .saturating_add(compute.start_timeout.0.0)
        .saturating_add(60_000);
    vec![
        plain("AURIA_INSTANCE", instance.to_string()),
        EnvVar {
            name: "AURIA_POD_IP".to_owned(),
            value: None,
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "status.podIP".to_owned(),
                    api_version: None,
                }),
                ..EnvVarSource::default()
            }),
        },
        plain("AURIA_GROUP_PATIENCE_MS", patience.to_string()),
    ]
}

/// The launcher's variables, those of NVIDIA's runtime, and the compute's secrets.
pub(super) fn variables(
    broker: &BrokerAccess,
    own_layer: bool,
    cuda: Option<&CudaPin>,
    resources: &Resources,
    asking: &GpuAsking,
    secrets: &BTreeMap<String, SecretKey>,
) -> Vec<EnvVar> {
    let BrokerAccess {
        url,
        token,
        authority,
    } = broker;
    let (work, home) = if own_layer {
        (WORK_IN_TMP, TMP)
    } else {
        (WORK, HOME)
    };
    let plain = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    };
    let of_pod = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                api_version: None,
            }),
            ..EnvVarSource::default()
        }),
    };
    let mut variables = vec![
        plain("AURIA_BROKER", url),
        plain("AURIA_BROKER_TOKEN", token),
        plain("AURIA_BROKER_CA", authority),
        plain("AURIA_WORK", work),
        of_pod("AURIA_NODE", "spec.nodeName"),
        of_pod("AURIA_POD_UID", "metadata.uid"),
        plain("HOME", home),
    ];
    let has_gpu = resources.gpus > 0
        || resources
            .gpu
            .as_ref()
            .is_some_and(|GpuRequest { mig, .. }| mig.is_some());
    if !has_gpu && asking.claim_template.is_none() {
        // NVIDIA's runtime gives all GPUs to an image that names none.
        variables.push(plain("NVIDIA_VISIBLE_DEVICES", "void"));
    }
    if let Some(CudaPin {
        major,
        minor,
        minor_compatible,
    }) = cuda
    {
        let minor = if *minor_compatible { 0 } else { *minor };
        variables.push(plain(
            "NVIDIA_REQUIRE_CUDA",
            &format!("cuda>={major}.{minor}"),
        ));
    }
    variables.extend(secrets.iter().map(|(name, from)| {
        let SecretKey { secret, key } = from;
        EnvVar {
            name: name.clone(),
            value: None,
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: secret.clone(),
                    key: key.clone(),
                    optional: None,
                }),
                ..EnvVarSource::default()
            }),
        }
    }));
    variables
}

pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with("AURIA_") || name == "HOME"
}
