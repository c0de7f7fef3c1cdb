use super::{LauncherDelivery, LauncherSource, pod};
use crate::compute::Compute;
use auria_core::distribution::Distribution;
use auria_core::plan::{
    CudaPin, DataType, Environment, Network, ProcessEnvironment, Template, TemplatePart,
};
use auria_core::resources::{GpuRequest, Resources};
use auria_core::ticket::{TICKET_VERSION, Ticket};
use auria_engine::relay::BrokerAccess;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::BTreeMap;

fn ticket() -> Ticket {
    Ticket {
        version: TICKET_VERSION,
        attempt: auria_core::AttemptId {
            run: "auria-kathi-20260102t030405678abcd".parse().unwrap(),
            step: "outer.paint".parse().unwrap(),
            number: 1,
        },
        claims_before: 0,
        pipeline: "auria-kathi".to_owned(),
        experiment: "daily work".to_owned(),
        command: Template(vec![TemplatePart::Text("auria-paint".to_owned())]),
        code: None,
        environment: Environment::Image {
            image: "registry.example/paint@sha256:0123".to_owned(),
            cuda: None,
        },
        variables: BTreeMap::new(),
        inputs: BTreeMap::new(),
        outputs: BTreeMap::from([("painting".to_owned(), DataType::UriFolder)]),
        resources: Resources {
            instances: 1,
            ..Resources::default()
        },
        compute: None,
        network: Network::Default,
        distribution: None,
        keep_warm: None,
        timeout_ms: None,
        grace_ms: 10_500,
        publish_grace_ms: 30_000,
        restore: None,
        key: None,
    }
}

fn broker() -> BrokerAccess {
    BrokerAccess {
        url: "https://auria-pipeline.auria.svc:8443".to_owned(),
        token: "a-token".to_owned(),
        authority: "-----BEGIN CERTIFICATE-----".to_owned(),
    }
}

fn compute(text: &str) -> Compute {
    serde_saphyr::from_str(text).unwrap()
}

fn init() -> LauncherDelivery {
    LauncherDelivery::InitContainer {
        image: "registry.example/launcher:1".to_owned(),
    }
}

fn yaml(ticket: &Ticket, compute: &Compute, launcher: &LauncherDelivery) -> String {
    let owner = OwnerReference {
        api_version: "pipelines.auria.dev/v1alpha1".to_owned(),
        kind: "PipelineRun".to_owned(),
        name: "auria-kathi-20260102t030405678abcd".to_owned(),
        uid: "7d2c".to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let pod = pod(ticket, 0, compute, &broker(), launcher, Some(&owner)).unwrap();
    // By way of JSON, whose keys are in the order that people know from manifests.
    serde_saphyr::to_string(&serde_json::to_value(&pod).unwrap()).unwrap()
}

#[test]
fn a_step_that_asks_for_nothing() {
    insta::assert_snapshot!(yaml(
        &ticket(),
        &Compute::default(),
        &LauncherDelivery::InImage
    ));
}

#[test]
fn a_step_that_asks_for_everything() {
    let mut ticket = ticket();
    ticket.environment = Environment::Image {
        image: "registry.example/paint@sha256:0123".to_owned(),
        cuda: Some(CudaPin {
            major: 12,
            minor: 6,
            minor_compatible: false,
        }),
    };
    ticket.resources = Resources {
        cpu_millis: Some(1500),
        memory_bytes: Some(8 << 30),
        ephemeral_storage_bytes: Some(20 << 30),
        shm_bytes: Some(2 << 30),
        gpus: 1,
        gpu: Some(GpuRequest {
            model: Some("NVIDIA-A100-SXM4-80GB".to_owned()),
            memory_bytes: Some(40 << 30),
            mig: None,
        }),
        instances: 1,
        instance_type: Some("big".to_owned()),
    };
    ticket.network = Network::None;
    let compute = compute(
        "
node_selector: {pool: gpu}
tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
instance_types: {big: {node_selector: {size: big}}}
queue: artists
service_account: steps
priority_class: batch
gpu_runtime_class: nvidia
image_pull_secrets: [registry]
image_pull_policy: IfNotPresent
host_aliases: [{ip: 10.88.0.1, hostnames: [weed.example]}]
secrets: {TOKEN: {secret: gallery, key: token}}
user: {uid: 1000, gid: 1001}
node_patience: 5s
",
    );
    insta::assert_snapshot!(yaml(&ticket, &compute, &init()));
}

fn two_instances() -> Ticket {
    let mut ticket = ticket();
    ticket.resources.instances = 2;
    ticket.distribution = Some(Distribution::Pytorch {
        process_count_per_instance: 4,
    });
    ticket
}

#[test]
fn an_instance_of_a_distributed_step_in_a_queue() {
    let compute = compute("queue: artists");
    let launcher = LauncherDelivery::InImage;
    let pod = pod(&two_instances(), 1, &compute, &broker(), &launcher, None).unwrap();
    insta::assert_snapshot!(serde_saphyr::to_string(&serde_json::to_value(&pod).unwrap()).unwrap());
}

#[test]
fn a_group_that_cannot_be_is_refused_by_name() {
    let refused = |ticket: &Ticket, config: &str| {
        let compute = compute(config);
        let made = pod(ticket, 0, &compute, &broker(), &init(), None);
        made.map(|_| ()).map_err(|refused| refused[0].field)
    };
    let mut ticket = two_instances();
    assert_eq!(refused(&ticket, "max_instances: 2"), Ok(()));
    let few = refused(&ticket, "max_instances: 1");
    assert_eq!(few, Err("resources.instance_count"));
    ticket.network = Network::None;
    assert_eq!(refused(&ticket, "{}"), Err("network"));
}

#[test]
fn mig_devices_and_claims() {
    let mut ticket = ticket();
    ticket.resources.gpu = Some(GpuRequest {
        mig: Some("1g.10gb".to_owned()),
        ..GpuRequest::default()
    });
    let limits = |ticket: &Ticket, config: &str| {
        let pod = pod(ticket, 0, &compute(config), &broker(), &init(), None).unwrap();
        let spec = pod.spec.unwrap();
        let resources = spec.containers[0].resources.clone().unwrap();
        (
            serde_json::to_string(&resources).unwrap(),
            serde_json::to_string(&spec.resource_claims).unwrap(),
        )
    };
    let (mixed, _) = limits(&ticket, "{}");
    assert_eq!(
        mixed,
        r#"{"limits":{"nvidia.com/mig-1g.10gb":"1"},"requests":{"nvidia.com/mig-1g.10gb":"1"}}"#
    );
    let (single, _) = limits(&ticket, "gpus: {mig: single}");
    assert_eq!(
        single,
        r#"{"limits":{"nvidia.com/gpu":"1"},"requests":{"nvidia.com/gpu":"1"}}"#
    );
    ticket.resources.gpu = None;
    ticket.resources.gpus = 2;
    let (claimed, claims) = limits(&ticket, "gpus: {claim_template: one-gpu}");
    assert_eq!(claimed, r#"{"claims":[{"name":"gpu-0"},{"name":"gpu-1"}]}"#);
    assert!(
        claims.contains(r#"{"name":"gpu-1","resourceClaimTemplateName":"one-gpu"}"#),
        "{claims}"
    );
}

#[test]
fn the_image_may_say_who_runs_and_a_volume_may_bring_the_launcher() {
    let volume = LauncherDelivery::ImageVolume {
        image: "registry.example/launcher:1".to_owned(),
    };
    let compute = compute("user: image\nwritable_root: true");
    let pod = pod(&ticket(), 0, &compute, &broker(), &volume, None).unwrap();
    let spec = pod.spec.unwrap();
    let security = spec.security_context.unwrap();
    assert_eq!(
        (security.run_as_user, security.run_as_non_root),
        (None, None)
    );
    let container = &spec.containers[0];
    let own = container.security_context.as_ref().unwrap();
    assert_eq!(own.read_only_root_filesystem, Some(false));
    assert_eq!(
        container.command.as_ref().unwrap(),
        &["/auria/image/auria/bin/auria-launcher", "pod"]
    );
    let volumes = spec.volumes.unwrap();
    let image = volumes.iter().find_map(|volume| volume.image.as_ref());
    assert_eq!(
        image.unwrap().reference.as_deref(),
        Some("registry.example/launcher:1")
    );
}

#[test]
fn an_image_that_can_be_written_to_and_carries_the_launcher_needs_no_volume() {
    let compute = compute("writable_root: true");
    let carried = LauncherDelivery::InImage;
    let spec = |ticket: &Ticket, launcher: &LauncherDelivery| {
        let made = pod(ticket, 0, &compute, &broker(), launcher, None).unwrap();
        made.spec.unwrap()
    };
    let spec_of = spec(&ticket(), &carried);
    assert_eq!(spec_of.volumes, None);
    let container = &spec_of.containers[0];
    assert_eq!(container.volume_mounts, None);
    let variable = |name: &str| {
        let variables = container.env.as_deref().unwrap_or_default();
        let found = variables.iter().find(|variable| variable.name == name);
        found.and_then(|variable| variable.value.clone())
    };
    assert_eq!(variable("AURIA_WORK").as_deref(), Some("/tmp/auria"));
    assert_eq!(variable("HOME").as_deref(), Some("/tmp"));
    // What needs one has all of them.
    let mut wide = ticket();
    wide.resources.shm_bytes = Some(1 << 20);
    for (ticket, launcher) in [(&wide, &carried), (&ticket(), &init())] {
        let volumes = spec(ticket, launcher).volumes.unwrap_or_default();
        assert_eq!(volumes.len(), 4, "{volumes:?}");
    }
}

#[test]
fn the_way_of_the_launcher_is_chosen_by_image() {
    let mut source = LauncherSource {
        image: Some("l:1".to_owned()),
        carried_by: vec!["ours/".to_owned()],
        image_volumes: false,
    };
    let image = "l:1".to_owned();
    assert_eq!(
        source.delivery("ours/paint:1"),
        Ok(LauncherDelivery::InImage)
    );
    assert_eq!(
        source.delivery("python:3"),
        Ok(LauncherDelivery::InitContainer {
            image: image.clone()
        })
    );
    source.image_volumes = true;
    assert_eq!(
        source.delivery("python:3"),
        Ok(LauncherDelivery::ImageVolume { image })
    );
    source.image = None;
    assert!(source.delivery("python:3").is_err());
}

#[test]
fn every_field_that_cannot_reach_a_pod_is_refused_by_name() {
    let mut ticket = ticket();
    ticket.environment = Environment::Process(ProcessEnvironment {
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        host: "h".to_owned(),
        executable: None,
        image: None,
    });
    ticket.resources.instances = 2;
    ticket.distribution = Some(Distribution::Mpi {
        process_count_per_instance: 1,
    });
    ticket.resources.gpu = Some(GpuRequest {
        mig: Some("1g.10gb".to_owned()),
        ..GpuRequest::default()
    });
    let reserved = "gpus: {claim_template: one}\nsecrets: {AURIA_BROKER_TOKEN: {secret: s, key: k}, FINE: {secret: s, key: k}}";
    let refused = pod(&ticket, 0, &compute(reserved), &broker(), &init(), None).unwrap_err();
    let fields: Vec<_> = refused.iter().map(|refused| refused.field).collect();
    assert_eq!(
        fields,
        [
            "environment",
            "distribution",
            "resources.gpu.mig",
            "computes.….secrets"
        ]
    );
    ticket.resources.instance_type = Some("huge".to_owned());
    let refused = pod(&ticket, 0, &compute(reserved), &broker(), &init(), None).unwrap_err();
    assert!(
        refused[1]
            .to_string()
            .starts_with("`resources.instance_type`: ")
    );
}
