//! Where a Pod may run: node affinity for CUDA pins and GPU models, tolerations. Pure.

use crate::compute::{Compute, TaintEffect, Toleration, TolerationOperator};
use crate::cuda;
use auria_core::plan::CudaPin;
use auria_core::resources::GpuRequest;
use k8s_openapi::api::core::v1::{
    self as core, Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
};

/// Label of the CUDA version of a node's driver, and the older name of the same.
pub(crate) const CUDA_LABELS: [&str; 2] =
    ["nvidia.com/cuda.runtime-version", "nvidia.com/cuda.runtime"];
/// Label of the compute capability of a node's GPUs.
pub(crate) const COMPUTE_LABEL: &str = "nvidia.com/gpu.compute";
/// Label of their product.
pub(crate) const PRODUCT_LABEL: &str = "nvidia.com/gpu.product";
/// Label of the memory of each, in MiB.
pub(crate) const MEMORY_LABEL: &str = "nvidia.com/gpu.memory";
/// What feature discovery puts behind the product of GPUs that several Pods share.
pub(crate) const SHARED: &str = "-SHARED";

const MIB: u64 = 1 << 20;

/// All of the requirements of one of the terms hold.
type Terms = Vec<Vec<NodeSelectorRequirement>>;

/// What a node must have for a pin and a GPU; none where neither asks for anything.
pub(crate) fn affinity(pin: Option<&CudaPin>, gpu: Option<&GpuRequest>) -> Option<Affinity> {
    let mut terms: Terms = vec![vec![]];
    if let Some(pin) = pin {
        terms = and(&terms, &driver(pin));
        if let Some(known) = cuda::toolkit(pin) {
            terms = and(&terms, &between(known.oldest, known.newest));
        }
    }
    if let Some(GpuRequest {
        model,
        memory_bytes,
        // A MIG profile is a resource of its own.
        mig: _,
    }) = gpu
    {
        if let Some(model) = model {
            let shared = format!("{model}{SHARED}");
            let product = one_of(PRODUCT_LABEL, &[model.clone(), shared]);
            terms = and(&terms, &vec![vec![product]]);
        }
        if let Some(bytes) = memory_bytes {
            let least = above(MEMORY_LABEL, bytes.div_ceil(MIB));
            terms = and(&terms, &vec![vec![least]]);
        }
    }
    if terms.iter().all(Vec::is_empty) {
        return None;
    }
    let terms = terms.into_iter().map(|requirements| NodeSelectorTerm {
        match_expressions: Some(requirements),
        match_fields: None,
    });
    Some(Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: terms.collect(),
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    })
}

/// Major greater, or major equal and minor at least. One `Gt` cannot say that: labels are
/// single numbers.
fn driver(pin: &CudaPin) -> Terms {
    let mut terms = Terms::new();
    for label in CUDA_LABELS {
        let (major, minor) = (format!("{label}.major"), format!("{label}.minor"));
        if pin.minor == 0 || pin.minor_compatible {
            terms.push(vec![above(&major, pin.major.into())]);
        } else {
            terms.push(vec![above(&major, u64::from(pin.major) + 1)]);
            terms.push(vec![
                one_of(&major, &[pin.major.to_string()]),
                above(&minor, pin.minor.into()),
            ]);
        }
    }
    terms
}

/// A compute capability from `oldest` to `newest`.
fn between(oldest: cuda::Capability, newest: cuda::Capability) -> Terms {
    let (major, minor) = (
        format!("{COMPUTE_LABEL}.major"),
        format!("{COMPUTE_LABEL}.minor"),
    );
    let is = |value: u32| one_of(&major, &[value.to_string()]);
    if oldest.major == newest.major {
        return vec![vec![
            is(oldest.major),
            above(&minor, oldest.minor.into()),
            below(&minor, newest.minor),
        ]];
    }
    let mut terms = Terms::new();
    let mut whole = oldest.major;
    if oldest.minor > 0 {
        terms.push(vec![is(oldest.major), above(&minor, oldest.minor.into())]);
        whole += 1;
    }
    if whole < newest.major {
        let majors: Vec<String> = (whole..newest.major).map(|m| m.to_string()).collect();
        terms.push(vec![one_of(&major, &majors)]);
    }
    terms.push(vec![is(newest.major), below(&minor, newest.minor)]);
    terms
}

/// Both hold.
fn and(left: &Terms, right: &Terms) -> Terms {
    let pairs = left.iter().flat_map(|l| right.iter().map(move |r| (l, r)));
    pairs.map(|(l, r)| [l.as_slice(), r].concat()).collect()
}

fn requirement(key: &str, operator: &str, values: &[String]) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(values.to_vec()),
    }
}

fn one_of(key: &str, values: &[String]) -> NodeSelectorRequirement {
    requirement(key, "In", values)
}

/// At least `least`: `Gt` is strict.
fn above(key: &str, least: u64) -> NodeSelectorRequirement {
    let strict = i128::from(least) - 1;
    requirement(key, "Gt", &[strict.to_string()])
}

/// At most `most`.
fn below(key: &str, most: u32) -> NodeSelectorRequirement {
    requirement(key, "Lt", &[(u64::from(most) + 1).to_string()])
}

/// The compute's tolerations, and how long Pods stay on a node that is silent.
pub(super) fn tolerations(compute: &Compute) -> Vec<core::Toleration> {
    let seconds = i64::try_from(compute.node_patience.0.0.div_ceil(1000)).unwrap_or(i64::MAX);
    let silent = [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ];
    let patient = silent.map(|key| core::Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(seconds),
        value: None,
    });
    compute
        .tolerations
        .iter()
        .map(toleration)
        .chain(patient)
        .collect()
}

fn toleration(declared: &Toleration) -> core::Toleration {
    let Toleration {
        key,
        operator,
        value,
        effect,
    } = declared;
    let operator = operator.map(|operator| match operator {
        TolerationOperator::Equal => "Equal",
        TolerationOperator::Exists => "Exists",
    });
    let effect = effect.map(|effect| match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    });
    core::Toleration {
        key: key.clone(),
        operator: operator.map(str::to_owned),
        value: value.clone(),
        effect: effect.map(str::to_owned),
        toleration_seconds: None,
    }
}
