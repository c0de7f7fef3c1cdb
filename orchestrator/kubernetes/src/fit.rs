//! Whether the nodes of a cluster, or what a compute says that they offer, can run the
//! steps of a plan: asked at submission, so that a pin that no node serves is refused
//! before anything runs, with what there is. It looks at what nodes have, never at what
//! is free on them. Pure; `nodes` of a cluster are read by who calls it.

use crate::compute::{
    Amounts, Bytes, Compute, Cpus, MigStrategy, Offer, TaintEffect, TolerationOperator,
};
use crate::cuda::{self, Capability};
use crate::pod::placement::{COMPUTE_LABEL, CUDA_LABELS, MEMORY_LABEL, PRODUCT_LABEL, SHARED};
use auria_core::StepPath;
use auria_core::check;
use auria_core::plan::{CudaPin, Environment, Plan};
use auria_core::resources::Resources;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::fmt;

const GIB: f64 = 1_073_741_824.0;
const MIB: u64 = 1 << 20;

/// What one step needs of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Needs {
    /// The step.
    pub step: StepPath,
    /// What it is given, with the compute's defaults.
    pub resources: Resources,
    /// Labels of the node.
    pub selector: BTreeMap<String, String>,
    /// The CUDA version that its image is pinned to.
    pub cuda: Option<CudaPin>,
}

/// A node, or nodes of one kind, and what they have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeOffer {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it has for Pods, as Kubernetes writes it.
    pub allocatable: BTreeMap<String, Quantity>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Why nothing starts there at this moment.
    pub away: Option<&'static str>,
}

/// No node can run a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Misfit {
    /// Which.
    pub step: StepPath,
    /// Why.
    pub why: Why,
}

/// Why no node can run a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// What it asks for is not known to its compute: in words.
    Unknown(String),
    /// No node has what it needs.
    Lacking {
        /// What it needs.
        needs: String,
        /// What each node offers, and why that is not enough: one line for each.
        nodes: Vec<String>,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, why } = self;
        let step = step.display();
        let (needs, nodes) = match why {
            Why::Unknown(message) => return write!(f, "no node can run `{step}`: {message}"),
            Why::Lacking { needs, nodes } => (needs, nodes),
        };
        write!(f, "no node can run `{step}`, which needs {needs}")?;
        if nodes.is_empty() {
            return write!(f, "; there are no nodes");
        }
        for node in nodes {
            write!(f, "\n  {node}")?;
        }
        Ok(())
    }
}

/// Every step of `plan` that no node can run. `nodes` are those of the cluster, where
/// they may be seen; `compute` finds what a step's compute declares.
///
/// A compute that says what it `offers` is held to that; one that is `autoscaled` and
/// says nothing is not checked, since its nodes may not be there yet.
#[must_use]
pub fn check<'a>(
    plan: &Plan,
    nodes: Option<&[NodeOffer]>,
    compute: impl Fn(Option<&str>) -> &'a Compute,
) -> Vec<Misfit> {
    let misfit = |step: &auria_core::plan::PlannedStep| {
        let compute = compute(step.compute.as_deref());
        let (resources, typed) = match compute.resolve(&step.resources) {
            Ok(resolved) => resolved,
            Err(message) => {
                return Some(Misfit {
                    step: step.path.clone(),
                    why: Why::Unknown(message),
                });
            }
        };
        let mut selector = compute.node_selector.clone();
        selector.extend(typed);
        let cuda = match &step.environment {
            Environment::Image { cuda, .. } => cuda.clone(),
            Environment::Process(_) => None,
        };
        let needs = Needs {
            step: step.path.clone(),
            resources,
            selector,
            cuda,
        };
        let declared: Vec<NodeOffer>;
        let offers = if !compute.offers.is_empty() {
            declared = compute
                .offers
                .iter()
                .map(|offer| NodeOffer::declared(offer, compute))
                .collect();
            declared.as_slice()
        } else if compute.autoscaled {
            return None;
        } else {
            nodes?
        };
        fit(&needs, compute, offers).err()
    };
    plan.steps.iter().filter_map(misfit).collect()
}

/// The nodes that can run a step.
///
/// # Errors
/// Where none can: with each node and why not.
pub fn fit<'n>(
    needs: &Needs,
    compute: &Compute,
    nodes: &'n [NodeOffer],
) -> Result<Vec<&'n NodeOffer>, Misfit> {
    let mut fitting = Vec::new();
    let mut lines = Vec::new();
    for node in nodes {
        let missing = node.lacks(needs, compute);
        if missing.is_empty() {
            fitting.push(node);
        } else {
            lines.push(format!("{node}: {}", missing.join(", ")));
        }
    }
    if fitting.is_empty() {
        return Err(Misfit {
            step: needs.step.clone(),
            why: Why::Lacking {
                needs: needs.to_string(),
                nodes: lines,
            },
        });
    }
    Ok(fitting)
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step: _,
            resources,
            selector,
            cuda,
        } = self;
        let mut parts = Vec::new();
        if let Some(pin) = cuda {
            let any = if pin.minor_compatible {
                "any driver of CUDA "
            } else {
                "CUDA "
            };
            let range = cuda::toolkit(pin).map_or_else(String::new, |known| {
                format!(
                    " (driver {} or newer, GPUs of compute capability {} to {})",
                    known.driver, known.oldest, known.newest
                )
            });
            parts.push(format!("{any}{}.{}{range}", pin.major, pin.minor));
        }
        if resources.gpus > 0 {
            parts.push(format!("{} GPU(s)", resources.gpus));
        }
        if let Some(gpu) = &resources.gpu {
            parts.extend(gpu.model.as_ref().map(|model| format!("GPU model {model}")));
            parts.extend(gpu.mig.as_ref().map(|mig| format!("MIG profile {mig}")));
            parts.extend(
                gpu.memory_bytes
                    .map(|b| format!("{} of GPU memory", gib(b))),
            );
        }
        parts.extend(resources.cpu_millis.map(|m| format!("{} CPUs", cpus(m))));
        parts.extend(
            resources
                .memory_bytes
                .map(|b| format!("{} of memory", gib(b))),
        );
        parts.extend(
            resources
                .ephemeral_storage_bytes
                .map(|b| format!("{} of scratch space", gib(b))),
        );
        parts.extend(selector.iter().map(|(key, value)| format!("{key}={value}")));
        if parts.is_empty() {
            parts.push("a node that takes its Pods".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}

/// What a person wants to know of a node.
impl fmt::Display for NodeOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        for (name, amount) in &self.allocatable {
            if name.starts_with("nvidia.com/") && amount.0 != "0" {
                parts.push(format!("{} {name}", amount.0));
            }
        }
        parts.extend(self.label(PRODUCT_LABEL).map(str::to_owned));
        parts.extend(self.driver_cuda().map(|(a, b)| format!("CUDA {a}.{b}")));
        parts.extend(
            self.capability()
                .map(|capability| format!("compute capability {capability}")),
        );
        parts.extend(self.gpu_memory().map(|b| format!("{} each", gib(b))));
        parts.extend(self.amount("cpu").map(|m| format!("{} CPUs", cpus(m))));
        parts.extend(self.amount("memory").map(gib));
        write!(f, "{} [{}]", self.name, parts.join(", "))
    }
}

impl NodeOffer {
    /// What a node of a cluster has.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let status = node.status.as_ref();
        let spec = node.spec.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let ready = conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let cordoned = spec.and_then(|spec| spec.unschedulable) == Some(true);
        let away = match (ready, cordoned) {
            (false, _) => Some("is not ready at this moment"),
            (true, true) => Some("is cordoned at this moment"),
            (true, false) => None,
        };
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            allocatable: status
                .and_then(|status| status.allocatable.clone())
                .unwrap_or_default(),
            // What the cluster sets by itself passes.
            taints: spec
                .and_then(|spec| spec.taints.clone())
                .unwrap_or_default()
                .into_iter()
                .filter(|taint| !taint.key.starts_with("node.kubernetes.io/"))
                .collect(),
            away,
        }
    }

    /// What a compute says that its nodes have.
    #[must_use]
    pub fn declared(offer: &Offer, compute: &Compute) -> Self {
        let Offer {
            name,
            labels,
            resources,
            gpu_model,
            gpu_memory,
            compute_capability,
            cuda,
            mig,
        } = offer;
        let Amounts {
            cpus,
            memory,
            ephemeral_storage,
            gpus,
            // Made of memory.
            shm_size: _,
        } = resources;
        let mut labels = labels.clone();
        // They are the compute's nodes, and carry what it asks for.
        labels.extend(compute.node_selector.clone());
        labels.extend(
            gpu_model
                .clone()
                .map(|model| (PRODUCT_LABEL.to_owned(), model)),
        );
        if let Some(Bytes(bytes)) = gpu_memory {
            labels.insert(MEMORY_LABEL.to_owned(), (bytes / MIB).to_string());
        }
        for (label, version) in [(CUDA_LABELS[0], cuda), (COMPUTE_LABEL, compute_capability)] {
            if let Some((major, minor)) = version.as_deref().and_then(|v| v.split_once('.')) {
                labels.insert(format!("{label}.major"), major.to_owned());
                labels.insert(format!("{label}.minor"), minor.to_owned());
            }
        }
        let mut allocatable = BTreeMap::new();
        let mut has = |name: &str, amount: Option<String>| {
            allocatable.extend(amount.map(|amount| (name.to_owned(), Quantity(amount))));
        };
        has("cpu", cpus.map(|Cpus(millis)| format!("{millis}m")));
        has("memory", memory.map(|Bytes(bytes)| bytes.to_string()));
        has(
            "ephemeral-storage",
            ephemeral_storage.map(|Bytes(bytes)| bytes.to_string()),
        );
        has(&compute.gpus.resource, gpus.map(|gpus| gpus.to_string()));
        for (profile, count) in mig {
            has(
                &format!("nvidia.com/mig-{profile}"),
                Some(count.to_string()),
            );
        }
        Self {
            name: name.clone(),
            labels,
            allocatable,
            taints: Vec::new(),
            away: None,
        }
    }

    /// What is missing here for a step; nothing where it fits.
    fn lacks(&self, needs: &Needs, compute: &Compute) -> Vec<String> {
        let Needs {
            step: _,
            resources,
            selector,
            cuda,
        } = needs;
        let mut missing = Vec::new();
        missing.extend(self.away.map(str::to_owned));
        for (key, value) in selector {
            match self.label(key) {
                Some(found) if found == value => {}
                Some(found) => missing.push(format!("has {key}={found}, not {value}")),
                None => missing.push(format!("has no label {key}={value}")),
            }
        }
        for taint in &self.taints {
            if taint.effect != "PreferNoSchedule" && !is_tolerated(taint, compute) {
                missing.push(format!("its taint {} is not tolerated", taint.key));
            }
        }
        if let Some(pin) = cuda {
            missing.extend(self.lacks_cuda(pin));
        }
        let mut counted = (compute.gpus.resource.clone(), u64::from(resources.gpus));
        if let Some(gpu) = &resources.gpu {
            if let Some(model) = &gpu.model {
                let product = self.label(PRODUCT_LABEL).unwrap_or("none");
                if product.trim_end_matches(SHARED) != model {
                    missing.push(format!("its GPU is {product}, not {model}"));
                }
            }
            if let Some(least) = gpu.memory_bytes {
                let has = self.gpu_memory().unwrap_or(0);
                if has / MIB < least.div_ceil(MIB) {
                    missing.push(format!("its GPU has {}", gib(has)));
                }
            }
            if let Some(profile) = &gpu.mig {
                counted.1 = counted.1.max(1);
                if compute.gpus.mig == MigStrategy::Mixed {
                    counted.0 = format!("nvidia.com/mig-{profile}");
                }
            }
        }
        let (name, count) = counted;
        // A driver for claims (DRA) does not count GPUs on the node.
        if count > 0 && compute.gpus.claim_template.is_none() {
            let has = self
                .allocatable
                .get(&name)
                .and_then(|amount| amount.0.parse::<u64>().ok())
                .unwrap_or(0);
            if has < count {
                missing.push(format!("has {has} of {name}"));
            }
        }
        let mut least = |name: &str, asked: Option<u64>, shown: fn(u64) -> String| {
            if let (Some(asked), Some(has)) = (asked, self.amount(name))
                && has < asked
            {
                missing.push(format!("has {} of {name}", shown(has)));
            }
        };
        least("cpu", resources.cpu_millis, cpus);
        least("memory", resources.memory_bytes, gib);
        least("ephemeral-storage", resources.ephemeral_storage_bytes, gib);
        missing
    }

    fn lacks_cuda(&self, pin: &CudaPin) -> Option<String> {
        match self.driver_cuda() {
            None => return Some("has no label of a CUDA driver".to_owned()),
            Some(driver) if !cuda::driver_serves(pin, driver) => {
                return Some(format!("its driver has CUDA {}.{}", driver.0, driver.1));
            }
            Some(_) => {}
        }
        let known = cuda::toolkit(pin)?;
        match self.capability() {
            None => Some("has no label of its GPU's compute capability".to_owned()),
            Some(gpu) if !cuda::compiles_for(pin, gpu) => Some(format!(
                "CUDA {}.{} makes no code for compute capability {gpu}",
                known.major, known.minor
            )),
            Some(_) => None,
        }
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    fn numbers(&self, label: &str) -> Option<(u32, u32)> {
        let number = |part: &str| self.label(&format!("{label}.{part}"))?.parse().ok();
        Some((number("major")?, number("minor")?))
    }

    /// CUDA version of the driver.
    fn driver_cuda(&self) -> Option<(u32, u32)> {
        CUDA_LABELS.iter().find_map(|label| self.numbers(label))
    }

    fn capability(&self) -> Option<Capability> {
        let (major, minor) = self.numbers(COMPUTE_LABEL)?;
        Some(Capability { major, minor })
    }

    fn gpu_memory(&self) -> Option<u64> {
        let mib: u64 = self.label(MEMORY_LABEL)?.parse().ok()?;
        Some(mib * MIB)
    }

    /// Bytes; of `cpu`, thousandths of a core.
    fn amount(&self, name: &str) -> Option<u64> {
        let written = &self.allocatable.get(name)?.0;
        if name == "cpu" {
            check::cpu_millis(written)
        } else {
            check::bytes(written)
        }
    }
}

fn is_tolerated(taint: &Taint, compute: &Compute) -> bool {
    compute.tolerations.iter().any(|toleration| {
        let effect = toleration.effect.is_none_or(|effect| {
            let effect = match effect {
                TaintEffect::NoSchedule => "NoSchedule",
                TaintEffect::PreferNoSchedule => "PreferNoSchedule",
                TaintEffect::NoExecute => "NoExecute",
            };
            effect == taint.effect
        });
        let value = match toleration.operator {
            Some(TolerationOperator::Exists) => true,
            None | Some(TolerationOperator::Equal) => {
                toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or("")
            }
        };
        let key = toleration.key.as_ref().is_none_or(|key| *key == taint.key);
        effect && value && key
    })
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB)
}

fn cpus(millis: u64) -> String {
    format!("{}", millis as f64 / 1000.0)
}

#[cfg(test)]
mod tests;
