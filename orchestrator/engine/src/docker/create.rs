//! The body of the request that makes a container: each field of the specification in
//! the engine's words. Sends nothing.

use super::client::{Facts, Kind};
use auria_core::plan::Network;
use auria_launcher::container::ContainerSpec;
use bollard::models::{
    ContainerCreateBody, DeviceRequest, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountType, ResourcesUlimits,
};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use std::path::Path;

pub(super) fn body(spec: &ContainerSpec, shell: &str, facts: &Facts) -> ContainerCreateBody {
    let ContainerSpec {
        name: _,
        image,
        arguments,
        variables,
        labels,
        folder,
        mounts,
        cpu_millis,
        memory_bytes,
        shm_bytes,
        gpus,
        network,
    } = spec;
    let bytes = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    let memory = memory_bytes.map(bytes);
    let host = HostConfig {
        mounts: Some(mounts.iter().map(|path| bind(path)).collect()),
        nano_cpus: cpu_millis.map(|millis| bytes(millis.saturating_mul(1_000_000))),
        memory,
        // As much as memory: no swap beside it.
        memory_swap: memory,
        shm_size: shm_bytes.map(bytes),
        device_requests: (!gpus.is_empty()).then(|| vec![devices(gpus)]),
        network_mode: (*network == Network::None).then(|| "none".to_owned()),
        // What the command says goes through the launcher's pipe.
        log_config: Some(HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        }),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        userns_mode: facts.maps_users.then(|| "host".to_owned()),
        ulimits: (facts.kind == Kind::Podman).then(ulimits),
        ..HostConfig::default()
    };
    let mut environment: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if gpus.is_empty() {
        // NVIDIA's runtime gives all of them to an image that names none.
        environment.push("NVIDIA_VISIBLE_DEVICES=void".to_owned());
    }
    ContainerCreateBody {
        image: Some(image.clone()),
        user: Some(user(facts)),
        entrypoint: Some(vec![shell.to_owned()]),
        cmd: Some(arguments.clone()),
        env: Some(environment),
        labels: Some(labels.clone().into_iter().collect()),
        working_dir: Some(text(folder)),
        // Podman runs an image's checks by systemd alone, and asks it even for none.
        healthcheck: (facts.kind == Kind::Docker).then(|| HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

/// Who the command is: the user of this process, so that what it writes is theirs. Root
/// of a rootless engine's containers is that user.
fn user(facts: &Facts) -> String {
    if facts.rootless {
        return "0:0".to_owned();
    }
    format!("{}:{}", nix::unistd::getuid(), nix::unistd::getgid())
}

fn bind(path: &Path) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(text(path)),
        target: Some(text(path)),
        read_only: Some(false),
        ..Mount::default()
    }
}

fn devices(gpus: &[String]) -> DeviceRequest {
    DeviceRequest {
        device_ids: Some(gpus.to_vec()),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    }
}

/// This process's own limits: Podman asks for more, which a user without the right to
/// raise them is refused. Its service holds itself to as many processes as the kernel
/// has numbers for.
fn ulimits() -> Vec<ResourcesUlimits> {
    let numbers = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    let numbers: i64 = numbers.trim().parse().unwrap_or(i64::MAX);
    [
        ("nofile", Resource::RLIMIT_NOFILE),
        ("nproc", Resource::RLIMIT_NPROC),
    ]
    .into_iter()
    .filter_map(|(name, resource)| {
        let (soft, hard) = getrlimit(resource).ok()?;
        let number = |limit| {
            let own = if limit == RLIM_INFINITY {
                i64::MAX
            } else {
                i64::try_from(limit).unwrap_or(i64::MAX)
            };
            match own.min(if name == "nproc" { numbers } else { i64::MAX }) {
                i64::MAX => -1,
                own => own,
            }
        };
        Some(ResourcesUlimits {
            name: Some(name.to_owned()),
            soft: Some(number(soft)),
            hard: Some(number(hard)),
        })
    })
    .collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
