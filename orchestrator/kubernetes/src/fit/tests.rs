use super::{Misfit, Needs, NodeOffer, Why, check, fit};
use crate::compute::Compute;
use crate::pod::placement;
use auria_core::plan::CudaPin;
use auria_core::resources::{GpuRequest, Resources};
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

fn node(name: &str, cuda: &str, compute: &str, product: &str) -> NodeOffer {
    let mut labels = BTreeMap::from([
        ("nvidia.com/gpu.product".to_owned(), product.to_owned()),
        ("nvidia.com/gpu.memory".to_owned(), "40960".to_owned()),
    ]);
    for (label, version) in [("cuda.runtime-version", cuda), ("gpu.compute", compute)] {
        let (major, minor) = version.split_once('.').unwrap();
        labels.insert(format!("nvidia.com/{label}.major"), major.to_owned());
        labels.insert(format!("nvidia.com/{label}.minor"), minor.to_owned());
    }
    NodeOffer {
        name: name.to_owned(),
        labels,
        allocatable: [
            ("nvidia.com/gpu", "1"),
            ("cpu", "7910m"),
            ("memory", "32880000Ki"),
        ]
        .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
        .into(),
        taints: Vec::new(),
        away: None,
    }
}

fn needs(cuda: Option<(u32, u32)>) -> Needs {
    Needs {
        step: "paint".parse().unwrap(),
        resources: Resources {
            gpus: 1,
            instances: 1,
            ..Resources::default()
        },
        selector: BTreeMap::new(),
        cuda: cuda.map(|(major, minor)| CudaPin {
            major,
            minor,
            minor_compatible: false,
        }),
    }
}

fn lacking(misfit: &Misfit) -> &[String] {
    match &misfit.why {
        Why::Lacking { nodes, .. } => nodes,
        Why::Unknown(message) => panic!("{message}"),
    }
}

fn names(needs: &Needs, nodes: &[NodeOffer]) -> Vec<String> {
    let fitting = fit(needs, &Compute::default(), nodes).unwrap_or_default();
    fitting.iter().map(|node| node.name.clone()).collect()
}

#[test]
fn two_pins_that_clash_each_have_their_node() {
    let nodes = [
        node("old", "11.4", "3.7", "Tesla-K80"),
        node("new", "12.8", "10.0", "NVIDIA-B200"),
        NodeOffer {
            name: "plain".to_owned(),
            ..NodeOffer::default()
        },
    ];
    assert_eq!(names(&needs(Some((11, 2))), &nodes), ["old"]);
    assert_eq!(names(&needs(Some((12, 8))), &nodes), ["new"]);
    // Every driver serves 11.8, but it makes no code for the new GPU, nor the driver for the old.
    let misfit = fit(&needs(Some((11, 8))), &Compute::default(), &nodes).unwrap_err();
    insta::assert_snapshot!(misfit, @r"
    no node can run `paint`, which needs CUDA 11.8 (driver 520.61.05 or newer, GPUs of compute capability 3.5 to 9.0), 1 GPU(s)
      old [1 nvidia.com/gpu, Tesla-K80, CUDA 11.4, compute capability 3.7, 40.0 GiB each, 7.91 CPUs, 31.4 GiB]: its driver has CUDA 11.4
      new [1 nvidia.com/gpu, NVIDIA-B200, CUDA 12.8, compute capability 10.0, 40.0 GiB each, 7.91 CPUs, 31.4 GiB]: CUDA 11.8 makes no code for compute capability 10.0
      plain []: has no label of a CUDA driver, has 0 of nvidia.com/gpu
    ");
}

#[test]
fn everything_that_is_missing_is_said() {
    let mut wants = needs(None);
    wants.resources = Resources {
        cpu_millis: Some(16_000),
        memory_bytes: Some(64 << 30),
        gpus: 2,
        gpu: Some(GpuRequest {
            model: Some("NVIDIA-A100-SXM4-80GB".to_owned()),
            memory_bytes: Some(80 << 30),
            mig: None,
        }),
        instances: 1,
        ..Resources::default()
    };
    wants.selector = BTreeMap::from([("pool".to_owned(), "gpu".to_owned())]);
    let mut tainted = node("n1", "12.4", "8.0", "NVIDIA-A100-SXM4-40GB");
    tainted.taints.push(Taint {
        key: "dedicated".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    });
    let misfit = fit(&wants, &Compute::default(), &[tainted.clone()]).unwrap_err();
    insta::assert_snapshot!(lacking(&misfit)[0], @"n1 [1 nvidia.com/gpu, NVIDIA-A100-SXM4-40GB, CUDA 12.4, compute capability 8.0, 40.0 GiB each, 7.91 CPUs, 31.4 GiB]: has no label pool=gpu, its taint dedicated is not tolerated, its GPU is NVIDIA-A100-SXM4-40GB, not NVIDIA-A100-SXM4-80GB, its GPU has 40.0 GiB, has 1 of nvidia.com/gpu, has 7.91 of cpu, has 31.4 GiB of memory");

    let compute: Compute =
        serde_saphyr::from_str("tolerations: [{key: dedicated, operator: Exists}]").unwrap();
    assert_eq!(fit(&needs(None), &compute, &[tainted]).unwrap().len(), 1);
}

#[test]
fn what_a_compute_declares_is_checked_like_a_node() {
    let compute: Compute = serde_saphyr::from_str(
        "
node_selector: {pool: big}
autoscaled: true
offers:
- {name: h100, resources: {cpus: 16, memory: 128Gi, gpus: 8}, gpu_model: NVIDIA-H100, gpu_memory: 80Gi, compute_capability: '9.0', cuda: '12.6'}
",
    )
    .unwrap();
    let offers: Vec<_> = compute
        .offers
        .iter()
        .map(|offer| NodeOffer::declared(offer, &compute))
        .collect();
    let mut wants = needs(Some((12, 6)));
    wants.selector = compute.node_selector.clone();
    assert_eq!(fit(&wants, &compute, &offers).unwrap().len(), 1);
    wants.cuda = needs(Some((12, 8))).cuda;
    let misfit = fit(&wants, &compute, &offers).unwrap_err();
    assert!(
        lacking(&misfit)[0].ends_with("its driver has CUDA 12.6"),
        "{misfit}"
    );
}

#[test]
fn an_instance_type_that_the_compute_does_not_know_is_refused_with_those_that_it_does() {
    let compute: Compute = serde_saphyr::from_str(
        "{autoscaled: true, instance_types: {small: {resources: {cpus: 1}}}}",
    )
    .unwrap();
    let step = auria_core::plan::PlannedStep {
        path: "paint".parse().unwrap(),
        display_name: None,
        command: auria_core::plan::Template(Vec::new()),
        code: None,
        environment: auria_core::plan::Environment::Image {
            image: "i".to_owned(),
            cuda: None,
        },
        variables: BTreeMap::new(),
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        after: std::collections::BTreeSet::new(),
        resources: Resources {
            instances: 1,
            instance_type: Some("huge".to_owned()),
            ..Resources::default()
        },
        distribution: None,
        timeout_ms: None,
        grace_ms: 0,
        retry: auria_core::plan::RetryPolicy::default(),
        reuse: auria_core::plan::Reuse::NotDeterministic,
        compute: None,
        network: auria_core::plan::Network::Default,
        keep_warm: None,
    };
    let plan = auria_core::plan::Plan {
        version: auria_core::plan::PLAN_VERSION,
        pipeline: "p".to_owned(),
        display_name: None,
        experiment: "e".to_owned(),
        settings: auria_core::plan::PlanSettings::default(),
        inputs: BTreeMap::new(),
        steps: vec![step],
        outputs: BTreeMap::new(),
    };
    // Also where nodes are out of sight.
    let misfits = check(&plan, None, |_| &compute);
    assert_eq!(misfits.len(), 1);
    insta::assert_snapshot!(misfits[0], @"no node can run `paint`: the compute has no instance type `huge`; it has small");
}

/// How the scheduler reads a requirement.
fn holds(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let Some(found) = labels.get(&requirement.key) else {
        return false;
    };
    let values = requirement.values.as_ref().unwrap();
    let number = |text: &String| text.parse::<i64>().unwrap();
    match requirement.operator.as_str() {
        "In" => values.contains(found),
        "Gt" => number(found) > number(&values[0]),
        "Lt" => number(found) < number(&values[0]),
        other => panic!("{other}"),
    }
}

#[test]
fn the_scheduler_and_the_check_agree_on_every_node() {
    let versions: Vec<String> = (10..=14)
        .flat_map(|major| (0..=9).map(move |minor| format!("{major}.{minor}")))
        .collect();
    let gpus = [
        "3.0", "3.5", "3.7", "5.0", "6.1", "7.0", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0",
        "10.3", "12.0", "12.1", "13.0",
    ];
    let (mut fits, mut tried) = (0, 0);
    for pinned in &versions {
        let (major, minor) = pinned.split_once('.').unwrap();
        for minor_compatible in [false, true] {
            let pin = CudaPin {
                major: major.parse().unwrap(),
                minor: minor.parse().unwrap(),
                minor_compatible,
            };
            let wants = Needs {
                cuda: Some(pin.clone()),
                ..needs(None)
            };
            let terms = placement::affinity(Some(&pin), None)
                .and_then(|affinity| affinity.node_affinity)
                .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution)
                .unwrap()
                .node_selector_terms;
            for driver in &versions {
                for gpu in gpus {
                    let mut node = node("n", driver, gpu, "any");
                    if tried % 2 == 0 {
                        // An older feature discovery.
                        for part in ["major", "minor"] {
                            let value = node
                                .labels
                                .remove(&format!("nvidia.com/cuda.runtime-version.{part}"))
                                .unwrap();
                            let older = format!("nvidia.com/cuda.runtime.{part}");
                            node.labels.insert(older, value);
                        }
                    }
                    let scheduled = terms.iter().any(|term| {
                        let all = term.match_expressions.as_ref().unwrap();
                        all.iter().all(|one| holds(one, &node.labels))
                    });
                    let checked = !names(&wants, &[node]).is_empty();
                    assert_eq!(scheduled, checked, "{pin:?} on CUDA {driver}, GPU {gpu}");
                    tried += 1;
                    fits += usize::from(checked);
                }
            }
        }
    }
    assert!(fits > tried / 10 && fits < tried, "{fits} of {tried}");
}
