//! A ticket as a Pod: a pure function, so that a reviewer can read its snapshots. Every
//! field of a ticket and of a compute reaches the Pod or is refused by name; both are
//! taken apart whole, so that a new field breaks the build here. It never talks to a
//! cluster.

mod delivery;
pub(crate) mod placement;
mod variables;

pub use delivery::{LauncherDelivery, LauncherSource};

use crate::compute::{Compute, GpuAsking, ImagePullPolicy, MigStrategy, User};
use crate::names;
use auria_core::distribution::Distribution;
use auria_core::plan::{Environment, Network};
use auria_core::resources::{GpuRequest, Resources};
use auria_core::ticket::Ticket;
use auria_engine::relay::BrokerAccess;
use k8s_openapi::api::core::v1::{
    self as core, Capabilities, Container, EmptyDirVolumeSource, LocalObjectReference, Pod,
    PodResourceClaim, PodSecurityContext, PodSpec, ResourceClaim, ResourceRequirements,
    SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;
use variables::{is_reserved, member_variables, variables};

/// The container whose process 1 is the launcher.
pub const CONTAINER: &str = "step";
/// The folder that the launcher works in.
const WORK: &str = "/auria/work";
/// HOME of commands.
const HOME: &str = "/auria/home";
/// Whoever a container runs as may write there.
const TMP: &str = "/tmp";
/// Where the launcher works in an image's own writable layer.
const WORK_IN_TMP: &str = "/tmp/auria";
/// Kueue's queue of a Pod.
const QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Kueue's name of Pods that are admitted together, how many they are, and whether others may
/// take the place of those that fail.
const POD_GROUP: &str = "kueue.x-k8s.io/pod-group-name";
const POD_GROUP_COUNT: &str = "kueue.x-k8s.io/pod-group-total-count";
const POD_GROUP_RETRIABLE: &str = "kueue.x-k8s.io/retriable-in-group";

/// A field that cannot reach the Pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {message}")]
pub struct Refused {
    /// As a pipeline or a config file writes it.
    pub field: &'static str,
    /// Why, and the way out.
    pub message: String,
}

/// How many Pods an attempt is: one, but for a distributed step.
#[must_use]
pub fn instances(ticket: &Ticket) -> u32 {
    ticket.distribution.map_or(1, |distribution| {
        distribution.shape(ticket.resources.instances).instances
    })
}

/// The Pod of one instance of an attempt; of a step that is not distributed, 0.
///
/// # Errors
/// Every field of ticket or compute that cannot reach it.
pub fn pod(
    ticket: &Ticket,
    instance: u32,
    compute: &Compute,
    broker: &BrokerAccess,
    launcher: &LauncherDelivery,
    owner: Option<&OwnerReference>,
) -> Result<Pod, Vec<Refused>> {
    let mut refused = Vec::new();
    let mut refuse = |field, message: String| refused.push(Refused { field, message });

    let Ticket {
        attempt,
        pipeline,
        experiment,
        environment,
        resources,
        network,
        distribution,
        grace_ms,
        publish_grace_ms,
        // The launcher is given the whole ticket by the broker, and carries these out.
        version: _,
        claims_before: _,
        command: _,
        code: _,
        variables: _,
        inputs: _,
        outputs: _,
        timeout_ms: _,
        restore: _,
        key: _,
        // A Pod ends with its attempt.
        keep_warm: _,
        // The name that `compute` was found by.
        compute: _,
    } = ticket;
    let Compute {
        node_selector,
        queue,
        service_account,
        priority_class,
        gpu_runtime_class,
        runtime_class,
        image_pull_secrets,
        image_pull_policy,
        host_aliases,
        secrets,
        user,
        writable_root,
        gpus: gpu_asking,
        pending_timeout,
        start_timeout,
        image_patience,
        // `placement::tolerations`.
        tolerations: _,
        node_patience: _,
        // `Compute::resolve`.
        default_resources: _,
        instance_types: _,
        // `executor::room`: how many Pods it has at once.
        max_instances: _,
        // `fit`.
        offers: _,
        autoscaled: _,
        // That which brought us here.
        target: _,
    } = compute;

    let (image, cuda) = match environment {
        Environment::Image { image, cuda } => (image.clone(), cuda.as_ref()),
        Environment::Process(_) => {
            refuse(
                "environment",
                "a cluster runs containers, and the step has no image: give it `environment: {image: …}`".to_owned(),
            );
            (String::new(), None)
        }
    };
    let (resources, typed_selector) = compute.resolve(resources).unwrap_or_else(|message| {
        refuse("resources.instance_type", message);
        Default::default()
    });
    let instances = instances(ticket);
    if let (Some(Distribution::Mpi { .. }), true) = (distribution, resources.instances > 1) {
        refuse(
            "distribution",
            "`mpi` runs on one instance of a cluster: `mpirun` has no way into the other Pods. Write `instance_count: 1` with more processes, or use `pytorch`".to_owned(),
        );
    }
    if instances > 1 && *network == Network::None {
        refuse(
            "network",
            "the instances of a distributed step reach each other over the network, and `network: none` leaves the broker alone".to_owned(),
        );
    }
    if let Some(most) = compute.max_instances.filter(|most| instances > *most) {
        refuse(
            "resources.instance_count",
            format!(
                "the step asks for {instances} instances, and its compute has {most} at most (max_instances)"
            ),
        );
    }
    let asked = asked(&resources, gpu_asking, &mut refuse);
    for (what, name) in secrets
        .keys()
        .filter(|name| is_reserved(name))
        .map(|name| ("computes.….secrets", name))
    {
        refuse(
            what,
            format!("`{name}` is the launcher's own; choose another name"),
        );
    }
    if !refused.is_empty() {
        return Err(refused);
    }

    let added = launcher.add();
    let wants_gpu = resources.gpus > 0 || cuda.is_some();
    // A kubelet finds a Pod's volumes missing at its first look, and looks again a while later:
    // a Pod that has none starts a quarter of a second sooner (docs/performance.md).
    let own_layer = *writable_root && added.volume.is_none() && resources.shm_bytes.is_none();
    let mounts: &[_] = if own_layer {
        &[]
    } else {
        &[("work", WORK), ("home", HOME), ("tmp", TMP)]
    };
    let mut volumes: Vec<Volume> = mounts
        .iter()
        .map(|(name, _)| empty_dir(name, EmptyDirVolumeSource::default()))
        .collect();
    let mut volume_mounts: Vec<VolumeMount> = mounts
        .iter()
        .map(|(name, path)| mount(name, path))
        .collect();
    if let Some(bytes) = resources.shm_bytes {
        volumes.push(empty_dir(
            "shm",
            EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(quantity(bytes)),
            },
        ));
        volume_mounts.push(mount("shm", "/dev/shm"));
    }
    volumes.extend(added.volume);
    volume_mounts.extend(added.mount);

    let security = SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        read_only_root_filesystem: Some(!writable_root),
        ..SecurityContext::default()
    };
    let init = added.init.map(|init| Container {
        image_pull_policy: image_pull_policy.map(pull_policy),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(true),
            ..security.clone()
        }),
        // A namespace's quota asks each container what it needs.
        resources: asked.resources.as_ref().map(|asked| ResourceRequirements {
            claims: None,
            limits: without_devices(asked.limits.as_ref()),
            requests: without_devices(asked.requests.as_ref()),
        }),
        ..init
    });
    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some(image),
        image_pull_policy: image_pull_policy.map(pull_policy),
        command: Some(vec![added.program, "pod".to_owned()]),
        env: Some(
            variables(broker, own_layer, cuda, &resources, gpu_asking, secrets)
                .into_iter()
                .chain(member_variables(compute, instance, instances))
                .collect(),
        ),
        resources: asked.resources,
        security_context: Some(security),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: (!volume_mounts.is_empty()).then_some(volume_mounts),
        ..Container::default()
    };
    let mut selector = node_selector.clone();
    selector.extend(typed_selector);
    let spec = PodSpec {
        affinity: placement::affinity(cuda, resources.gpu.as_ref()),
        automount_service_account_token: Some(false),
        containers: vec![container],
        enable_service_links: Some(false),
        host_aliases: (!host_aliases.is_empty()).then(|| {
            host_aliases
                .iter()
                .map(|alias| core::HostAlias {
                    ip: alias.ip.clone(),
                    hostnames: Some(alias.hostnames.clone()),
                })
                .collect()
        }),
        image_pull_secrets: (!image_pull_secrets.is_empty()).then(|| {
            image_pull_secrets
                .iter()
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect()
        }),
        init_containers: init.map(|init| vec![init]),
        node_selector: (!selector.is_empty()).then_some(selector),
        priority_class_name: priority_class.clone(),
        resource_claims: asked.claims,
        restart_policy: Some("Never".to_owned()),
        runtime_class_name: if wants_gpu {
            gpu_runtime_class.clone().or_else(|| runtime_class.clone())
        } else {
            runtime_class.clone()
        },
        security_context: Some(pod_security(*user)),
        service_account_name: service_account.clone(),
        termination_grace_period_seconds: Some(grace_seconds(*grace_ms, *publish_grace_ms)),
        tolerations: Some(placement::tolerations(compute)),
        volumes: (!volumes.is_empty()).then_some(volumes),
        ..PodSpec::default()
    };

    let (run, step) = (attempt.run.as_str(), attempt.step.as_str());
    let number = attempt.number.to_string();
    let mut labels: BTreeMap<String, String> = [
        ("app.kubernetes.io/name", names::APP.to_owned()),
        ("app.kubernetes.io/managed-by", names::MANAGER.to_owned()),
        ("app.kubernetes.io/component", "step".to_owned()),
        ("app.kubernetes.io/part-of", names::label_value(pipeline)),
        (names::RUN, names::label_value(run)),
        (names::STEP, names::label_value(step)),
        (names::ATTEMPT, number.clone()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if *network == Network::None {
        labels.insert(names::NETWORK.to_owned(), "none".to_owned());
    }
    if let Some(queue) = queue {
        labels.insert(QUEUE.to_owned(), queue.clone());
    }
    let mut of_group: Vec<(&str, String)> = Vec::new();
    if instances > 1 {
        labels.insert(names::INSTANCE.to_owned(), instance.to_string());
        of_group.push((names::INSTANCE, instance.to_string()));
        of_group.push((names::INSTANCES, instances.to_string()));
        if queue.is_some() {
            // Kueue admits all of them or none, and does not wait for others in their place:
            // an attempt that lost one is over.
            labels.insert(POD_GROUP.to_owned(), names::pod_name(attempt));
            of_group.push((POD_GROUP_COUNT, instances.to_string()));
            of_group.push((POD_GROUP_RETRIABLE, "false".to_owned()));
        }
    }
    let annotations = [
        (names::RUN, run.to_owned()),
        (names::STEP, step.to_owned()),
        (names::ATTEMPT, number),
        (names::PIPELINE, pipeline.clone()),
        (names::EXPERIMENT, experiment.clone()),
        (names::PUBLISH_GRACE, publish_grace_ms.to_string()),
        (names::PENDING_TIMEOUT, pending_timeout.0.0.to_string()),
        (names::START_TIMEOUT, start_timeout.0.0.to_string()),
        (names::IMAGE_PATIENCE, image_patience.0.0.to_string()),
    ]
    .into_iter()
    .chain(of_group)
    .map(|(key, value)| (key.to_owned(), value));
    Ok(Pod {
        metadata: ObjectMeta {
            name: Some(names::instance_pod_name(attempt, instance)),
            labels: Some(labels),
            annotations: Some(annotations.collect()),
            owner_references: owner.map(|owner| vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    })
}

/// What a container asks for.
#[derive(Default)]
struct Asked {
    resources: Option<ResourceRequirements>,
    claims: Option<Vec<PodResourceClaim>>,
}

fn asked(
    resources: &Resources,
    asking: &GpuAsking,
    refuse: &mut impl FnMut(&'static str, String),
) -> Asked {
    let Resources {
        cpu_millis,
        memory_bytes,
        ephemeral_storage_bytes,
        gpus,
        gpu,
        // A volume.
        shm_bytes: _,
        // A Pod each.
        instances: _,
        // Resolved above.
        instance_type: _,
    } = resources;
    let GpuAsking {
        resource,
        mig: strategy,
        claim_template,
    } = asking;
    let mut amounts: BTreeMap<String, Quantity> = BTreeMap::new();
    if let Some(millis) = cpu_millis {
        amounts.insert("cpu".to_owned(), Quantity(format!("{millis}m")));
    }
    if let Some(bytes) = memory_bytes {
        amounts.insert("memory".to_owned(), quantity(*bytes));
    }
    if let Some(bytes) = ephemeral_storage_bytes {
        amounts.insert("ephemeral-storage".to_owned(), quantity(*bytes));
    }
    let profile = gpu.as_ref().and_then(|GpuRequest { mig, .. }| mig.as_ref());
    let mut claims = Vec::new();
    let count = if profile.is_some() {
        (*gpus).max(1)
    } else {
        *gpus
    };
    match claim_template {
        Some(_) if profile.is_some() => refuse(
            "resources.gpu.mig",
            "the compute asks for GPUs with claims (`gpus.claim_template`): name a template of that profile there instead".to_owned(),
        ),
        Some(template) => claims.extend((0..count).map(|number| PodResourceClaim {
            name: format!("gpu-{number}"),
            resource_claim_template_name: Some(template.clone()),
            resource_claim_name: None,
        })),
        None if count > 0 => {
            let name = match (profile, strategy) {
                (Some(profile), MigStrategy::Mixed) => format!("nvidia.com/mig-{profile}"),
                _ => resource.clone(),
            };
            amounts.insert(name, Quantity(count.to_string()));
        }
        None => {}
    }
    let in_container: Vec<ResourceClaim> = claims
        .iter()
        .map(|claim| ResourceClaim {
            name: claim.name.clone(),
            request: None,
        })
        .collect();
    let requirements = ResourceRequirements {
        claims: (!in_container.is_empty()).then_some(in_container),
        limits: (!amounts.is_empty()).then(|| amounts.clone()),
        requests: (!amounts.is_empty()).then_some(amounts),
    };
    Asked {
        resources: (requirements != ResourceRequirements::default()).then_some(requirements),
        claims: (!claims.is_empty()).then_some(claims),
    }
}

fn pod_security(user: User) -> PodSecurityContext {
    let seccomp = SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        localhost_profile: None,
    };
    let context = PodSecurityContext {
        seccomp_profile: Some(seccomp),
        ..PodSecurityContext::default()
    };
    match user {
        User::Image => context,
        User::Numbers { uid, gid } => PodSecurityContext {
            run_as_user: Some(uid.into()),
            run_as_group: Some(gid.into()),
            run_as_non_root: (uid > 0).then_some(true),
            fs_group: Some(gid.into()),
            ..context
        },
    }
}

/// Whole seconds for both graces: a Pod has no shorter ones.
pub(crate) fn grace_seconds(grace_ms: u64, publish_grace_ms: u64) -> i64 {
    let both = grace_ms.saturating_add(publish_grace_ms).div_ceil(1000);
    i64::try_from(both).unwrap_or(i64::MAX)
}

/// GPUs and claims are the step's alone.
fn without_devices(
    amounts: Option<&BTreeMap<String, Quantity>>,
) -> Option<BTreeMap<String, Quantity>> {
    let own: BTreeMap<_, _> = amounts?
        .iter()
        .filter(|(name, _)| !name.contains('/'))
        .map(|(name, amount)| (name.clone(), amount.clone()))
        .collect();
    (!own.is_empty()).then_some(own)
}

fn pull_policy(policy: ImagePullPolicy) -> String {
    match policy {
        ImagePullPolicy::Always => "Always",
        ImagePullPolicy::IfNotPresent => "IfNotPresent",
        ImagePullPolicy::Never => "Never",
    }
    .to_owned()
}

fn quantity(bytes: u64) -> Quantity {
    Quantity(bytes.to_string())
}

fn empty_dir(name: &str, source: EmptyDirVolumeSource) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(source),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests;
