//! What this machine has for steps: CPUs, memory, GPUs. Says whether a step can
//! ever fit. Dividing it among those that run is [`crate::process::slots`]'s.

use auria_core::resources::{GpuRequest, Resources};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a step that asks for no CPU counts as: one core, so that a thousand steps
/// that ask for nothing are not a thousand processes at once.
pub const DEFAULT_CPU_MILLIS: u64 = 1000;

/// What config says of this machine instead of what is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineConfig {
    /// CPU time, in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Ids of GPUs, as `CUDA_VISIBLE_DEVICES` takes them (`AURIA_GPUS`: `0,1`, or
    /// nothing for none).
    pub gpus: Option<Vec<String>>,
}

/// What this machine has for steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPU time, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// GPUs.
    pub gpus: Vec<Gpu>,
}

/// A GPU of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// As `CUDA_VISIBLE_DEVICES` takes it.
    pub id: String,
    /// Product name, as NVIDIA's feature discovery writes it, where known.
    pub model: Option<String>,
    /// Its memory, in bytes, where known.
    pub memory_bytes: Option<u64>,
}

/// A step that this machine can never run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Machine {
    /// What this machine has, cgroup limits and the affinity of this process
    /// included; `config` wins. Blocks while NVIDIA's driver answers.
    #[must_use]
    pub fn detect(config: &MachineConfig) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
        let gpus = match &config.gpus {
            Some(ids) => ids
                .iter()
                .map(|id| Gpu {
                    id: id.clone(),
                    model: None,
                    memory_bytes: None,
                })
                .collect(),
            None => nvidia_gpus(),
        };
        Self {
            cpu_millis: config.cpu_millis.unwrap_or(cores * 1000),
            memory_bytes: config.memory_bytes.unwrap_or_else(memory),
            gpus,
        }
    }

    /// Whether a step that asks for `resources` can ever run here.
    ///
    /// # Errors
    /// Where it cannot: what it asks for, and what is there.
    pub fn check(&self, resources: &Resources) -> Result<(), Refusal> {
        let Resources {
            cpu_millis,
            memory_bytes,
            gpus,
            gpu,
            instances,
            // Not divided on one machine: the disk and /dev/shm belong to all.
            ephemeral_storage_bytes: _,
            shm_bytes: _,
            // A name of a compute's config, resolved before.
            instance_type: _,
        } = resources;
        let refuse = |text: String| Err(Refusal(text));
        // All instances are here at once.
        let instances = u64::from((*instances).max(1));
        let each = |shown: String| match instances {
            1 => shown,
            _ => format!("{instances} times {shown}"),
        };
        let asked = cpu_millis.unwrap_or_default();
        if asked.saturating_mul(instances) > self.cpu_millis {
            return refuse(format!(
                "it asks for {} CPUs, and this machine has {}",
                each(cores(asked)),
                cores(self.cpu_millis)
            ));
        }
        let asked = memory_bytes.unwrap_or_default();
        if asked.saturating_mul(instances) > self.memory_bytes {
            return refuse(format!(
                "it asks for {} of memory, and this machine has {}",
                each(gib(asked)),
                gib(self.memory_bytes)
            ));
        }
        let fitting = self.fitting(gpu.as_ref()).count();
        if u64::from(*gpus).saturating_mul(instances) > fitting as u64 {
            let gpus = each(gpus.to_string());
            let which = if gpu.is_some() && !self.gpus.is_empty() {
                " that fit"
            } else {
                ""
            };
            return refuse(format!(
                "it asks for {gpus} GPUs{which}, and this machine has {fitting}{}",
                self.names()
            ));
        }
        Ok(())
    }

    /// The GPUs that fit `request`.
    pub(crate) fn fitting<'a>(
        &'a self,
        request: Option<&'a GpuRequest>,
    ) -> impl Iterator<Item = &'a Gpu> {
        self.gpus
            .iter()
            .filter(move |gpu| request.is_none_or(|request| gpu.fits(request)))
    }

    fn names(&self) -> String {
        let names: Vec<_> = self
            .gpus
            .iter()
            .filter_map(|gpu| gpu.model.clone())
            .collect();
        if names.is_empty() {
            String::new()
        } else {
            format!(" ({} in all: {})", names.len(), names.join(", "))
        }
    }
}

impl Gpu {
    fn fits(&self, request: &GpuRequest) -> bool {
        let GpuRequest {
            model,
            memory_bytes,
            mig,
        } = request;
        // What is not known of a GPU that config names is taken to fit.
        let model_fits = match (model, &self.model) {
            (Some(asked), Some(has)) => product(asked) == product(has),
            _ => true,
        };
        let memory_fits = match (memory_bytes, self.memory_bytes) {
            (Some(asked), Some(has)) => *asked <= has,
            _ => true,
        };
        model_fits && memory_fits && mig.is_none()
    }
}

/// A product name in one form: `NVIDIA H100 PCIe` and `nvidia-h100-pcie` are the same.
fn product(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase().replace(' ', "-");
    name.strip_prefix("nvidia-")
        .map(str::to_owned)
        .unwrap_or(name)
}

/// Thousandths of a core, as people write them.
pub(crate) fn cores(millis: u64) -> String {
    if millis.is_multiple_of(1000) {
        (millis / 1000).to_string()
    } else {
        format!(
            "{}.{}",
            millis / 1000,
            format!("{:03}", millis % 1000).trim_end_matches('0')
        )
    }
}

/// Bytes, as people write them.
pub(crate) fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

fn memory() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| {
        let kib: u64 = line
            .strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse()
            .ok()?;
        Some(kib * 1024)
    });
    let limits = auria_launcher::tree::memory_limits();
    limits.into_iter().chain(total).min().unwrap_or(0)
}

fn nvidia_gpus() -> Vec<Gpu> {
    if !fs::exists("/proc/driver/nvidia").unwrap_or(false) {
        return Vec::new();
    }
    let mut command = Command::new("nvidia-smi");
    command.args([
        "--query-gpu=uuid,name,memory.total",
        "--format=csv,noheader,nounits",
    ]);
    let Some(answer) = answer_of(command, Duration::from_secs(15)) else {
        return Vec::new();
    };
    answer
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(", ");
            let (id, model, mib) = (fields.next()?, fields.next()?, fields.next());
            Some(Gpu {
                id: id.trim().to_owned(),
                model: Some(model.trim().replace(' ', "-")),
                memory_bytes: mib
                    .and_then(|mib| mib.trim().parse::<u64>().ok())
                    .map(|mib| mib << 20),
            })
        })
        .collect()
}

/// What `command` prints, where it ends well within `limit`: a broken driver can
/// make `nvidia-smi` hang for ever.
fn answer_of(mut command: Command, limit: Duration) -> Option<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break,
            Ok(None) if began.elapsed() < limit => std::thread::sleep(Duration::from_millis(20)),
            Ok(Some(_)) | Err(_) => return None,
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take()?, &mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{Gpu, Machine, MachineConfig, cores};
    use auria_core::resources::{GpuRequest, Resources};

    fn machine() -> Machine {
        let gpu = |id: &str, model: &str| Gpu {
            id: id.to_owned(),
            model: Some(model.to_owned()),
            memory_bytes: Some(80 << 30),
        };
        Machine {
            cpu_millis: 2000,
            memory_bytes: 4 << 30,
            gpus: vec![
                gpu("GPU-a", "NVIDIA-H100-PCIe"),
                gpu("GPU-b", "NVIDIA-A100"),
            ],
        }
    }

    #[test]
    fn what_can_never_fit_is_refused() {
        let ask = |change: fn(&mut Resources)| {
            let mut resources = Resources {
                instances: 1,
                ..Resources::default()
            };
            change(&mut resources);
            machine().check(&resources).map_err(|refusal| refusal.0)
        };
        assert_eq!(ask(|_| {}), Ok(()));
        assert_eq!(ask(|r| r.cpu_millis = Some(2000)), Ok(()));
        assert_eq!(
            ask(|r| r.cpu_millis = Some(2500)),
            Err("it asks for 2.5 CPUs, and this machine has 2".to_owned())
        );
        assert_eq!(
            ask(|r| r.memory_bytes = Some(5 << 30)),
            Err("it asks for 5.0 GiB of memory, and this machine has 4.0 GiB".to_owned())
        );
        let h100 = |r: &mut Resources| {
            r.gpu = Some(GpuRequest {
                model: Some("nvidia h100 pcie".to_owned()),
                ..GpuRequest::default()
            });
        };
        assert_eq!(
            ask(|r| {
                r.gpus = 1;
                r.gpu = Some(GpuRequest {
                    model: Some("nvidia h100 pcie".to_owned()),
                    ..GpuRequest::default()
                });
            }),
            Ok(())
        );
        let mut two = Resources {
            instances: 1,
            gpus: 2,
            ..Resources::default()
        };
        machine().check(&two).unwrap();
        h100(&mut two);
        assert!(
            machine()
                .check(&two)
                .unwrap_err()
                .0
                .contains("2 GPUs that fit, and this machine has 1")
        );
    }

    #[test]
    fn this_machine_has_something() {
        let found = Machine::detect(&MachineConfig::default());
        assert!(
            found.cpu_millis >= 1000 && found.memory_bytes > 1 << 20,
            "{found:?}"
        );
        let config = MachineConfig {
            gpus: Some(vec!["0".into()]),
            memory_bytes: Some(7),
            cpu_millis: Some(300),
        };
        let set = Machine::detect(&config);
        assert_eq!(
            (set.cpu_millis, set.memory_bytes, set.gpus.len()),
            (300, 7, 1)
        );
        assert_eq!(cores(2050), "2.05");
    }
}
