//! GPUs that nodes advertise without having them: labels as NVIDIA's GPU feature discovery sets
//! them, capacity as its device plugin reports it.
//!
//! Used by `up` and `cargo xtask cluster gpus`. Nothing here makes a device: a Pod gets a place,
//! and no GPU. The labels follow k8s-device-plugin's `internal/lm` (versions, resources, MIG):
//! both the older names of versions and those that replace them are set, as it does.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::kubectl;
use super::layout::{Node, run};

/// What a node advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gpus {
    /// One Tesla V100 under a driver of CUDA 12.6
    V100,
    /// Two B200 under a driver of CUDA 13.0
    B200,
    /// Two H100 under a driver of CUDA 12.8
    H100,
    /// One A100 cut into seven MIG devices 1g.5gb, under a driver of CUDA 12.4
    A100Mig,
    /// None
    None,
}

/// A GPU model with its driver.
struct Model {
    product: &'static str,
    family: &'static str,
    compute: (u8, u8),
    memory_mib: u32,
    count: u32,
    /// Driver versions have two or three parts.
    driver: &'static str,
    cuda: &'static str,
    machine: &'static str,
    is_mig_capable: bool,
    /// Devices that it is cut into: profile, count, memory, and their share.
    mig: Option<Mig>,
}

struct Mig {
    profile: &'static str,
    count: u32,
    memory_mib: u32,
    multiprocessors: u32,
}

impl Gpus {
    /// The name that the command line uses.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// What a node has where nobody said otherwise: an old GPU, a new one, and none.
    fn of(node: Node) -> Self {
        match node.0 {
            1 => Self::V100,
            2 => Self::B200,
            _ => Self::None,
        }
    }

    fn model(self) -> Option<Model> {
        match self {
            Self::V100 => Some(Model {
                product: "Tesla-V100-SXM2-16GB",
                family: "volta",
                compute: (7, 0),
                memory_mib: 16384,
                count: 1,
                driver: "560.35.05",
                cuda: "12.6",
                machine: "PowerEdge-C4140",
                is_mig_capable: false,
                mig: None,
            }),
            Self::B200 => Some(Model {
                product: "NVIDIA-B200",
                family: "blackwell",
                compute: (10, 0),
                memory_mib: 183_359,
                count: 2,
                driver: "580.82.07",
                cuda: "13.0",
                machine: "DGXB200",
                is_mig_capable: true,
                mig: None,
            }),
            Self::H100 => Some(Model {
                product: "NVIDIA-H100-80GB-HBM3",
                family: "hopper",
                compute: (9, 0),
                memory_mib: 81559,
                count: 2,
                driver: "570.124.06",
                cuda: "12.8",
                machine: "DGXH100",
                is_mig_capable: true,
                mig: None,
            }),
            Self::A100Mig => Some(Model {
                product: "NVIDIA-A100-SXM4-40GB",
                family: "ampere",
                compute: (8, 0),
                memory_mib: 40960,
                count: 1,
                driver: "550.90.07",
                cuda: "12.4",
                machine: "DGXA100-920-23687-2530-000",
                is_mig_capable: true,
                mig: Some(Mig {
                    profile: "mig-1g.5gb",
                    count: 7,
                    memory_mib: 4864,
                    multiprocessors: 14,
                }),
            }),
            Self::None => None,
        }
    }

    /// The labels that feature discovery would set.
    pub(crate) fn labels(self) -> BTreeMap<String, String> {
        let Some(model) = self.model() else {
            return BTreeMap::new();
        };
        let mut labels = BTreeMap::new();
        let mut put = |name: &str, value: &dyn std::fmt::Display| {
            labels.insert(format!("nvidia.com/{name}"), value.to_string());
        };
        let part = |text: &'static str, index| text.split('.').nth(index).unwrap_or_default();
        let (driver, cuda) = (model.driver, model.cuda);
        put("cuda.driver.major", &part(driver, 0));
        put("cuda.driver.minor", &part(driver, 1));
        put("cuda.driver.rev", &part(driver, 2));
        put("cuda.runtime.major", &part(cuda, 0));
        put("cuda.runtime.minor", &part(cuda, 1));
        put("cuda.driver-version.full", &driver);
        put("cuda.driver-version.major", &part(driver, 0));
        put("cuda.driver-version.minor", &part(driver, 1));
        put("cuda.driver-version.revision", &part(driver, 2));
        put("cuda.runtime-version.full", &cuda);
        put("cuda.runtime-version.major", &part(cuda, 0));
        put("cuda.runtime-version.minor", &part(cuda, 1));
        put("gfd.timestamp", &1_764_000_000);
        put("gpu.machine", &model.machine);
        put("gpu.mode", &"compute");
        put("mig.capable", &model.is_mig_capable);
        put("mps.capable", &false);
        put("gpu.product", &model.product);
        put("gpu.count", &model.count);
        put("gpu.memory", &model.memory_mib);
        put("gpu.sharing-strategy", &"none");
        // A GPU that is cut up is shared by no other means.
        put("gpu.replicas", &u8::from(model.mig.is_none()));
        put("gpu.family", &model.family);
        put("gpu.compute.major", &model.compute.0);
        put("gpu.compute.minor", &model.compute.1);
        if let Some(mig) = &model.mig {
            put("mig.strategy", &"mixed");
            let mut device = |name: &str, value: &dyn std::fmt::Display| {
                put(&format!("{}.{name}", mig.profile), value);
            };
            let profile = mig.profile.trim_start_matches("mig-");
            device("product", &format!("{}-MIG-{profile}", model.product));
            device("count", &mig.count);
            device("replicas", &1);
            device("sharing-strategy", &"none");
            device("memory", &mig.memory_mib);
            device("multiprocessors", &mig.multiprocessors);
            device("slices.gi", &1);
            device("slices.ci", &1);
            device("engines.copy", &1);
            device("engines.decoder", &0);
            device("engines.encoder", &0);
            device("engines.jpeg", &0);
            device("engines.ofa", &0);
        }
        labels
    }

    /// The resources that the device plugin would report.
    pub(crate) fn capacity(self) -> BTreeMap<String, String> {
        let Some(model) = self.model() else {
            return BTreeMap::new();
        };
        let (name, count) = match &model.mig {
            Some(mig) => (mig.profile, mig.count),
            None => ("gpu", model.count),
        };
        BTreeMap::from([(format!("nvidia.com/{name}"), count.to_string())])
    }
}

fn saved() -> PathBuf {
    run().join("gpus.json")
}

/// What each of these nodes advertises.
pub(crate) fn of(nodes: &[Node]) -> Vec<(Node, Gpus)> {
    let chosen: Map<String, Value> = fs::read_to_string(saved())
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    nodes
        .iter()
        .map(|&node| {
            let chosen = chosen
                .get(&node.name())
                .and_then(Value::as_str)
                .and_then(|name| Gpus::from_str(name, false).ok());
            (node, chosen.unwrap_or_else(|| Gpus::of(node)))
        })
        .collect()
}

/// Lets these nodes advertise something else from now on.
pub(crate) fn choose(choices: &[(Node, Gpus)]) -> anyhow::Result<()> {
    let mut all: Map<String, Value> = of(&Node::all())
        .into_iter()
        .map(|(node, gpus)| (node.name(), Value::String(gpus.name())))
        .collect();
    for (node, gpus) in choices {
        all.insert(node.name(), Value::String(gpus.name()));
    }
    fs::write(saved(), Value::Object(all).to_string())
        .with_context(|| format!("cannot write {}", saved().display()))?;
    advertise(&choices.iter().map(|(node, _)| *node).collect::<Vec<_>>())
}

/// Sets labels and capacity of these nodes; what they had of NVIDIA's and should not have goes.
pub(crate) fn advertise(nodes: &[Node]) -> anyhow::Result<()> {
    for (node, gpus) in of(nodes) {
        let name = node.name();
        let now = kubectl::get(&["get", "node", &name, "--output=json"])?;
        let labels = patch(&now["metadata"]["labels"], gpus.labels());
        if !labels.is_empty() {
            let text = json!({"metadata": {"labels": labels}}).to_string();
            kubectl::call(&["patch", "node", &name, "--type=merge", "-p", &text], None)?;
        }
        let capacity = patch(&now["status"]["capacity"], gpus.capacity());
        if !capacity.is_empty() {
            let text =
                json!({"status": {"capacity": capacity, "allocatable": capacity}}).to_string();
            let words = ["patch", "node", &name, "--subresource=status"];
            let words: Vec<&str> = words
                .into_iter()
                .chain(["--type=merge", "-p", &text])
                .collect();
            kubectl::call(&words, None)?;
        }
    }
    Ok(())
}

/// What to change so that NVIDIA's names in `now` become those of `wanted`.
fn patch(now: &Value, wanted: BTreeMap<String, String>) -> Map<String, Value> {
    let mut changes = Map::new();
    let now = now.as_object().cloned().unwrap_or_default();
    for name in now.keys().filter(|name| name.starts_with("nvidia.com/")) {
        if !wanted.contains_key(name) {
            changes.insert(name.clone(), Value::Null);
        }
    }
    for (name, value) in wanted {
        if now.get(&name).and_then(Value::as_str) != Some(&value) {
            changes.insert(name, Value::String(value));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::{Gpus, patch};
    use serde_json::json;

    #[test]
    fn labels_hold_only_what_kubernetes_takes() {
        for gpus in [Gpus::V100, Gpus::B200, Gpus::H100, Gpus::A100Mig] {
            for (name, value) in gpus.labels() {
                let name = name.strip_prefix("nvidia.com/").unwrap();
                for text in [name, &value] {
                    assert!(text.len() < 64, "{text}");
                    assert!(
                        text.chars()
                            .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter)),
                        "{text}"
                    );
                }
            }
        }
        let labels = Gpus::V100.labels();
        assert_eq!(labels["nvidia.com/cuda.driver-version.revision"], "05");
        assert_eq!(labels["nvidia.com/cuda.runtime-version.full"], "12.6");
        assert_eq!(Gpus::A100Mig.capacity()["nvidia.com/mig-1g.5gb"], "7");
    }

    #[test]
    fn what_another_gpu_had_goes() {
        let now = json!({"nvidia.com/gpu": "1", "nvidia.com/x": "1", "cpu": "2"});
        let changes = patch(&now, Gpus::H100.capacity());
        assert_eq!(
            serde_json::Value::Object(changes),
            json!({"nvidia.com/x": null, "nvidia.com/gpu": "2"})
        );
    }
}
