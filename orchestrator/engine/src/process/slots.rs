//! Divides this machine among all attempts of all orchestrators of this user. Each
//! piece of it (a tenth of a core, 64 MiB of memory, a GPU) is a byte of one file;
//! who holds the lock on the byte has the piece. A launcher inherits the locks of
//! its attempt, and the kernel frees them at its death. Never decides who is next.

use crate::machine::{DEFAULT_CPU_MILLIS, Machine, cores, gib};
use auria_core::Digest;
use auria_core::resources::Resources;
use auria_launcher::inotify::Watcher;
use auria_launcher::ofd;
use nix::sys::inotify::AddWatchFlags;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// A byte for each 100 thousandths of a core.
const CPU_UNIT: u64 = 100;
/// A byte for each 64 MiB.
const MEMORY_UNIT: u64 = 64 << 20;
const CPUS_AT: u64 = 0;
const MEMORY_AT: u64 = 1 << 32;
/// A GPU's byte is where a digest of its id says, the same for every orchestrator,
/// also where they see different GPUs.
const GPUS_AT: u64 = 1 << 40;

/// What one attempt takes of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    cpus: u64,
    memory: u64,
    resources: NeedGpus,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct NeedGpus {
    count: usize,
    request: Option<auria_core::resources::GpuRequest>,
}

impl Need {
    pub(crate) fn of(resources: &Resources, machine: &Machine) -> Self {
        // All instances of a distributed step are here at once.
        let instances = u64::from(resources.instances.max(1));
        // On half a core, a step that asks for nothing takes the half; and what is many
        // processes and asks for nothing runs on what there is.
        let millis = match resources.cpu_millis {
            Some(millis) => millis.saturating_mul(instances),
            None => (DEFAULT_CPU_MILLIS * instances).min(machine.cpu_millis),
        };
        let memory = resources.memory_bytes.unwrap_or(0);
        Self {
            cpus: millis.div_ceil(CPU_UNIT),
            memory: memory.saturating_mul(instances).div_ceil(MEMORY_UNIT),
            resources: NeedGpus {
                count: resources.gpus.saturating_mul(resources.instances.max(1)) as usize,
                request: resources.gpu.clone(),
            },
        }
    }

    /// Whether where `other` finds no room, this finds none either.
    pub(crate) fn is_at_least(&self, other: &Self) -> bool {
        self.cpus >= other.cpus
            && self.memory >= other.memory
            && (other.resources.count == 0
                || (self.resources.count >= other.resources.count
                    && self.resources.request == other.resources.request))
    }
}

/// A part of the machine, held until the last copy of `file` is closed.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) file: File,
    pub(crate) gpus: Vec<String>,
}

/// Room, or what is short, for people.
#[derive(Debug)]
pub(crate) enum Room {
    Found(Share),
    Short(String),
}

/// The machine's pieces.
#[derive(Debug)]
pub(crate) struct Slots {
    machine: Machine,
    path: PathBuf,
    gate: PathBuf,
    /// Stays open, so that looking does not wake those who wait for a close.
    looking: File,
    /// Made when someone has to wait: a watch takes the kernel 15 ms to close.
    watcher: OnceLock<Watcher>,
}

impl Slots {
    /// The pieces of `machine`, kept in `folder`.
    pub(crate) fn open(machine: Machine, folder: &Path) -> io::Result<Self> {
        let (path, gate) = (folder.join("slots"), folder.join("slots.gate"));
        let looking = ofd::open(&path)?;
        Ok(Self {
            machine,
            path,
            gate,
            looking,
            watcher: OnceLock::new(),
        })
    }

    /// Takes all that `need` says, or nothing.
    pub(crate) fn take(&self, need: &Need) -> io::Result<Room> {
        let gate = ofd::open(&self.gate)?;
        // Held for some system calls. An orchestrator that is stopped in the middle
        // of them must not stop all others.
        let mut tries = 0;
        while !ofd::try_lock(&gate, 0..1)? {
            tries += 1;
            if tries > 100 {
                return Ok(Room::Short(
                    "another orchestrator holds the gate".to_owned(),
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let (cpus, memory) = (
            self.machine.cpu_millis.div_ceil(CPU_UNIT),
            self.machine.memory_bytes / MEMORY_UNIT,
        );
        let free_cpus = self.free(CPUS_AT..CPUS_AT + cpus)?;
        let Some(cpu_bytes) = first(&free_cpus, need.cpus) else {
            let free = cores(count(&free_cpus) * CPU_UNIT);
            let asked = cores(need.cpus * CPU_UNIT);
            return Ok(Room::Short(format!(
                "waits for {asked} CPUs: {free} of {} are free",
                cores(self.machine.cpu_millis)
            )));
        };
        let free_memory = self.free(MEMORY_AT..MEMORY_AT + memory)?;
        // What asks for all of the memory takes all of it, also where that is no
        // whole number of units.
        let Some(memory_bytes) = first(&free_memory, need.memory.min(memory)) else {
            let free = gib(count(&free_memory) * MEMORY_UNIT);
            let asked = gib(need.memory * MEMORY_UNIT);
            return Ok(Room::Short(format!(
                "waits for {asked} of memory: {free} of {} are free",
                gib(self.machine.memory_bytes)
            )));
        };
        let NeedGpus {
            count: gpus,
            request,
        } = &need.resources;
        let mut ids = Vec::new();
        let mut gpu_bytes = Vec::new();
        for gpu in self.machine.fitting(request.as_ref()) {
            let byte = gpu_byte(&gpu.id);
            if ids.len() < *gpus && !self.free(byte..byte + 1)?.is_empty() {
                ids.push(gpu.id.clone());
                gpu_bytes.push(byte..byte + 1);
            }
        }
        if ids.len() < *gpus {
            return Ok(Room::Short(format!(
                "waits for {gpus} GPUs: {} are free",
                ids.len()
            )));
        }
        let file = ofd::open(&self.path)?;
        for range in cpu_bytes.into_iter().chain(memory_bytes).chain(gpu_bytes) {
            // Under the gate, and pieces that were free: only a stranger to this
            // protocol could hold one.
            if !ofd::try_lock(&file, range)? {
                return Ok(Room::Short(
                    "something else locks parts of the machine".to_owned(),
                ));
            }
        }
        Ok(Room::Found(Share { file, gpus: ids }))
    }

    /// Waits until some piece may have been freed. The first call begins to watch and
    /// returns: what was freed before was not seen. Needs a tokio runtime.
    pub(crate) async fn freed(&self) {
        let backup = Duration::from_secs(5);
        let changes = async {
            match self.watcher.get() {
                Some(watcher) => watcher.changes().await.map(drop),
                None => self.watch(),
            }
        };
        if let Ok(Err(error)) = tokio::time::timeout(backup, changes).await {
            tracing::warn!("the machine's slots are not watched: {error}");
            tokio::time::sleep(backup).await;
        }
    }

    fn watch(&self) -> io::Result<()> {
        let watcher = Watcher::new()?;
        watcher.add(&self.path, AddWatchFlags::IN_CLOSE_WRITE)?;
        // Where another was quicker, its watch is as good.
        let _ = self.watcher.set(watcher);
        Ok(())
    }

    fn free(&self, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
        let mut free = Vec::new();
        let mut unknown = vec![range];
        while let Some(range) = unknown.pop() {
            if range.is_empty() {
                continue;
            }
            match ofd::held(&self.looking, range.clone())? {
                None => free.push(range),
                Some(held) => {
                    unknown.push(held.end.max(range.start)..range.end);
                    unknown.push(range.start..held.start.min(range.end));
                }
            }
        }
        Ok(free)
    }
}

fn gpu_byte(id: &str) -> u64 {
    let digest = Digest::of(id.as_bytes()).hex();
    GPUS_AT + u64::from_str_radix(&digest[..8], 16).unwrap_or(0)
}

fn count(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// The first `units` bytes of `ranges`; none where there are fewer.
fn first(ranges: &[Range<u64>], units: u64) -> Option<Vec<Range<u64>>> {
    let mut left = units;
    let mut taken = Vec::new();
    for range in ranges {
        if left == 0 {
            break;
        }
        let length = left.min(range.end - range.start);
        taken.push(range.start..range.start + length);
        left -= length;
    }
    (left == 0).then_some(taken)
}

#[cfg(test)]
mod tests {
    use super::{Need, Room, Share, Slots};
    use crate::machine::{Gpu, Machine};
    use auria_core::resources::Resources;
    use std::time::Duration;

    fn machine() -> Machine {
        let gpu = |id: &str| Gpu {
            id: id.to_owned(),
            model: None,
            memory_bytes: None,
        };
        Machine {
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
            gpus: vec![gpu("0"), gpu("1")],
        }
    }

    fn need(cpu_millis: Option<u64>, memory: u64, gpus: u32) -> Need {
        let memory_bytes = (memory > 0).then_some(memory);
        Need::of(
            &Resources {
                cpu_millis,
                memory_bytes,
                gpus,
                instances: 1,
                ..Resources::default()
            },
            &machine(),
        )
    }

    fn found(room: Room) -> Share {
        match room {
            Room::Found(share) => share,
            Room::Short(why) => panic!("{why}"),
        }
    }

    fn short(room: Room) -> String {
        match room {
            Room::Found(share) => panic!("{share:?}"),
            Room::Short(why) => why,
        }
    }

    #[tokio::test]
    async fn two_orchestrators_share_one_machine() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (
            Slots::open(machine(), dir.path()).unwrap(),
            Slots::open(machine(), dir.path()).unwrap(),
        );
        let one = found(a.take(&need(Some(1500), 512 << 20, 1)).unwrap());
        assert_eq!(one.gpus, ["0"]);
        assert_eq!(
            short(b.take(&need(None, 0, 0)).unwrap()),
            "waits for 1 CPUs: 0.5 of 2 are free"
        );
        let two = found(b.take(&need(Some(500), 512 << 20, 1)).unwrap());
        assert_eq!(two.gpus, ["1"], "each has its own GPU");
        assert!(short(a.take(&need(Some(100), 0, 0)).unwrap()).contains("0 of 2"));
        drop(one);
        // Pieces on both sides of what `two` holds.
        let three = found(a.take(&need(Some(1000), 0, 0)).unwrap());
        drop(two);
        let four = found(b.take(&need(Some(1000), 1 << 30, 2)).unwrap());
        assert_eq!(four.gpus, ["0", "1"]);
        assert!(short(a.take(&need(Some(0), 1, 0)).unwrap()).contains("memory"));
        drop((three, four));
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_a_death_and_not_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (
            Slots::open(machine(), dir.path()).unwrap(),
            Slots::open(machine(), dir.path()).unwrap(),
        );
        let held = found(a.take(&need(Some(2000), 0, 0)).unwrap());
        b.freed().await;
        for _ in 0..3 {
            short(b.take(&need(None, 0, 0)).unwrap());
        }
        let woken = tokio::time::timeout(Duration::from_millis(200), b.freed()).await;
        assert!(woken.is_err(), "looking woke it");
        let began = std::time::Instant::now();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(held);
        });
        b.freed().await;
        assert!(began.elapsed() < Duration::from_secs(2));
        found(b.take(&need(Some(2000), 0, 0)).unwrap());
    }

    #[test]
    fn what_needs_more_finds_no_room_where_less_finds_none() {
        assert!(need(Some(2000), 0, 0).is_at_least(&need(None, 0, 0)));
        assert!(!need(Some(500), 0, 0).is_at_least(&need(None, 0, 0)));
        assert!(!need(None, 0, 0).is_at_least(&need(None, 0, 1)));
        assert!(need(None, 1, 2).is_at_least(&need(None, 0, 1)));
    }
}
