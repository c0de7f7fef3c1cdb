//! The processes of a step: known as a whole, so that all of them end. In a cgroup
//! of their own where one may be made; always also as descendants of the launcher,
//! which adopts orphans, and by a variable that each of them inherits, so that what
//! a killed launcher left behind is found too. Never touches another's processes.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The variable that marks every process of an attempt; its value is the
/// [`AttemptFolder::key`](crate::runtime::AttemptFolder::key).
pub const MARK: &str = "AURIA_ATTEMPT_KEY";

/// Where an attempt's processes are; kept in its runtime folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tree {
    /// Value of [`MARK`].
    key: String,
    /// A cgroup of version 2.
    unified: Option<PathBuf>,
    /// A memory cgroup of version 1.
    memory: Option<PathBuf>,
}

impl Tree {
    /// Makes the cgroups that this machine lets us make, with a limit on memory
    /// where one is asked for and the kernel can keep it.
    #[must_use]
    pub fn create(key: &str, memory_bytes: Option<u64>) -> Self {
        let name = format!("auria-{key}");
        let own = OwnCgroups::read();
        let unified = own.unified().and_then(|parent| make(&parent.join(&name)));
        let memory = own.memory().and_then(|parent| make(&parent.join(&name)));
        if let Some(bytes) = memory_bytes {
            let limits = [
                (&unified, "memory.max", bytes.to_string()),
                (&unified, "memory.swap.max", "0".to_owned()),
                (&memory, "memory.limit_in_bytes", bytes.to_string()),
                (&memory, "memory.memsw.limit_in_bytes", bytes.to_string()),
            ];
            for (cgroup, file, value) in limits {
                if let Some(path) = cgroup
                    .as_ref()
                    .map(|c| c.join(file))
                    .filter(|path| path.exists())
                    && let Err(error) = fs::write(&path, value)
                {
                    tracing::warn!("no limit on memory in {}: {error}", path.display());
                }
            }
        }
        Self {
            key: key.to_owned(),
            unified,
            memory,
        }
    }

    /// The cgroup of version 2, in which a process can be born.
    pub(crate) fn unified_folder(&self) -> Option<fs::File> {
        fs::File::open(self.unified.as_ref()?).ok()
    }

    /// The files into which a new process with one thread writes `0` to join the cgroup of
    /// version 1, and that of version 2 where it was not born in it.
    pub(crate) fn doors(&self, unified: bool) -> Vec<fs::File> {
        let unified = self
            .unified
            .iter()
            .filter(|_| unified)
            .map(|cgroup| cgroup.join("cgroup.procs"));
        let memory = self.memory.iter().map(|cgroup| cgroup.join("tasks"));
        unified
            .chain(memory)
            .filter_map(|door| fs::File::options().write(true).open(door).ok())
            .collect()
    }

    /// How often the kernel has killed a process of this tree for want of memory,
    /// where a cgroup counts it.
    #[must_use]
    pub fn memory_kills(&self) -> Option<u64> {
        let unified = self.unified.as_ref().map(|c| c.join("memory.events"));
        let memory = self.memory.as_ref().map(|c| c.join("memory.oom_control"));
        unified
            .iter()
            .chain(&memory)
            .find_map(|path| counter(path, "oom_kill"))
    }

    /// The processes of the tree that are not zombies, but for this one.
    #[must_use]
    pub fn members(&self) -> BTreeSet<i32> {
        let processes = processes();
        let own = nix::unistd::getpid().as_raw();
        let mut members = BTreeSet::new();
        for cgroup in self.unified.iter().chain(&self.memory) {
            let list = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            members.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        // A parent can be younger than its child in the list, so that going through
        // it once is not enough.
        let descends = |mut pid: i32| {
            for _ in 0..processes.len() {
                match processes.get(&pid) {
                    Some(process) if process.parent == own => return true,
                    Some(process) if process.parent > 1 => pid = process.parent,
                    _ => return false,
                }
            }
            false
        };
        members.extend(processes.keys().copied().filter(|pid| descends(*pid)));
        members
            .retain(|pid| *pid != own && processes.get(pid).is_some_and(|process| !process.zombie));
        members
    }

    /// Whether no process is in the tree's cgroups, or it has none.
    pub(crate) fn cgroups_are_empty(&self) -> bool {
        self.unified.iter().chain(&self.memory).all(|cgroup| {
            fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|list| list.is_empty())
        })
    }

    /// Sends `signal` to the process groups `groups` and to the members outside of them.
    pub(crate) fn signal(&self, groups: &[i32], signal: Signal) {
        let processes = processes();
        for group in groups {
            let _ = nix::sys::signal::killpg(Pid::from_raw(*group), signal);
        }
        for pid in self.members() {
            if processes
                .get(&pid)
                .is_some_and(|process| !groups.contains(&process.group))
            {
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }

    /// Kills every member once, the cgroup's at one stroke.
    pub(crate) fn kill(&self) {
        if let Some(cgroup) = &self.unified {
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        }
        kill_all(&self.members());
    }

    /// Ends what a dead launcher left of the tree, and the tree's cgroups. Blocks for
    /// at most a few seconds.
    ///
    /// # Errors
    /// The processes that did not end.
    pub fn end_leftovers(&self) -> Result<(), BTreeSet<i32>> {
        self.end_all_but(None)?;
        self.remove();
        Ok(())
    }

    /// Ends every process of the tree but one, whatever started them. Blocks for at most
    /// a few seconds.
    ///
    /// # Errors
    /// The processes that did not end.
    pub(crate) fn end_all_but(&self, kept: Option<i32>) -> Result<(), BTreeSet<i32>> {
        let mut left = BTreeSet::new();
        for _ in 0..200 {
            if let Some(cgroup) = self.unified.as_ref().filter(|_| kept.is_none()) {
                let _ = fs::write(cgroup.join("cgroup.kill"), "1");
            }
            left = marked(&self.key);
            for cgroup in self.unified.iter().chain(&self.memory) {
                let list = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
                left.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
            }
            let processes = processes();
            left.retain(|pid| {
                Some(*pid) != kept && processes.get(pid).is_some_and(|process| !process.zombie)
            });
            if left.is_empty() {
                return Ok(());
            }
            kill_all(&left);
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(left)
    }

    /// The tree of an attempt whose launcher left no record of it.
    #[must_use]
    pub fn of_key(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            unified: None,
            memory: None,
        }
    }

    /// Removes the cgroups, which are empty.
    pub(crate) fn remove(&self) {
        for cgroup in self.unified.iter().chain(&self.memory) {
            // A zombie that its parent has not reaped keeps a cgroup for an instant.
            for _ in 0..50 {
                match fs::remove_dir(cgroup) {
                    Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// The limits on memory that this process's own cgroups set, in bytes.
#[must_use]
pub fn memory_limits() -> Vec<u64> {
    let own = OwnCgroups::read();
    let unified = own.unified().map(|folder| (folder, "memory.max"));
    let memory = own.memory().map(|folder| (folder, "memory.limit_in_bytes"));
    let mut limits = Vec::new();
    for (folder, file) in unified.into_iter().chain(memory) {
        // A limit of a folder above holds, too; above the mount there is no such file.
        for folder in folder.ancestors() {
            let Ok(text) = fs::read_to_string(folder.join(file)) else {
                break;
            };
            limits.extend(text.trim().parse::<u64>());
        }
    }
    limits
}

/// Whether the kernel's log says that it killed `process` for want of memory. `None`
/// where the log cannot be read: it is for root alone, mostly.
#[must_use]
pub fn killed_for_memory(process: u32) -> Option<bool> {
    let mut log = fs::File::options()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open("/dev/kmsg")
        .ok()?;
    // One record a read; the kernel's ring is far smaller than this many.
    let mut record = [0_u8; 8192];
    for _ in 0..1_000_000 {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                if names_killed(&String::from_utf8_lossy(&record[..length]), process) {
                    return Some(true);
                }
            }
            // A record was overwritten before it was read: the next one follows.
            Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(_) => return None,
        }
    }
    Some(false)
}

/// Whether a record of the kernel's log says that `process` was killed for memory, its
/// own group's or the machine's.
fn names_killed(record: &str, process: u32) -> bool {
    record
        .to_ascii_lowercase()
        .split_once("out of memory: killed process ")
        .and_then(|(_, rest)| {
            rest.split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse()
                .ok()
        })
        == Some(process)
}

/// What tells the process `pid` from a later one of the same number; none where it is
/// gone.
#[must_use]
pub fn identity(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may hold spaces and brackets. State first, start time 20th.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let begun = fields.nth(18)?;
    (!matches!(state, "Z" | "X")).then(|| format!("{pid}-{begun}"))
}

/// How often the kernel has killed a process of this machine for want of memory.
#[must_use]
pub fn machine_memory_kills() -> Option<u64> {
    counter(Path::new("/proc/vmstat"), "oom_kill")
}

fn counter(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

/// Stopped first, so that none of them has a child while the others die.
fn kill_all(pids: &BTreeSet<i32>) {
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for pid in pids {
            let _ = kill(Pid::from_raw(*pid), signal);
        }
    }
}

fn make(path: &Path) -> Option<PathBuf> {
    match fs::create_dir(path) {
        Ok(()) => Some(path.to_owned()),
        // Left by a launcher of the same attempt that died before it claimed.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Some(path.to_owned()),
        Err(_) => None,
    }
}

fn has_memory(controllers: &str) -> bool {
    controllers
        .split(',')
        .any(|controller| controller == "memory")
}

/// What the kernel says of this process's cgroups, and of where they are mounted.
struct OwnCgroups {
    own: String,
    mounts: String,
}

impl OwnCgroups {
    fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            own: text("/proc/self/cgroup"),
            mounts: text("/proc/self/mountinfo"),
        }
    }

    /// The folder of the cgroup of version 2.
    fn unified(&self) -> Option<PathBuf> {
        self.folder(str::is_empty, "cgroup2", None)
    }

    /// The folder of the memory cgroup of version 1.
    fn memory(&self) -> Option<PathBuf> {
        self.folder(has_memory, "cgroup", Some("memory"))
    }

    /// The folder in the hierarchy that `is_it` names.
    fn folder(
        &self,
        is_it: impl Fn(&str) -> bool,
        file_system: &str,
        option: Option<&str>,
    ) -> Option<PathBuf> {
        let path = self.own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            is_it(controllers).then_some(path)
        })?;
        self.mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mut kind = kind.split(' ');
            let (name, _, options) = (kind.next()?, kind.next()?, kind.next()?);
            if name != file_system
                || option.is_some_and(|option| !options.split(',').any(|o| o == option))
            {
                return None;
            }
            let mut place = place.split(' ').skip(3);
            let (root, mount) = (place.next()?, place.next()?);
            let inside = if root == "/" {
                path
            } else {
                path.strip_prefix(root)?
            };
            let folder = Path::new(mount).join(inside.trim_start_matches('/'));
            folder.is_dir().then_some(folder)
        })
    }
}

struct Process {
    parent: i32,
    group: i32,
    zombie: bool,
}

fn processes() -> HashMap<i32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The program's name may hold spaces and brackets.
            let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            Some((
                pid,
                Process {
                    parent,
                    group,
                    zombie: matches!(state, "Z" | "X"),
                },
            ))
        })
        .collect()
}

/// The processes of this user that carry the mark `key`, but for this one.
fn marked(key: &str) -> BTreeSet<i32> {
    let mark = format!("{MARK}={key}");
    let own = nix::unistd::getpid().as_raw();
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let found = environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes());
            (found && pid != own).then_some(pid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{MARK, Tree, marked, names_killed};
    use std::process::{Command, Stdio};

    #[test]
    fn the_kernels_log_names_whom_it_killed() {
        let machine = "4,812,992,-;Out of memory: Killed process 4711 (python) total-vm:9kB";
        let group =
            "3,813,993,-;Memory cgroup out of memory: Killed process 4712 (sh) total-vm:9kB";
        assert!(names_killed(machine, 4711) && names_killed(group, 4712));
        assert!(!names_killed(machine, 471) && !names_killed(machine, 4712));
        assert!(!names_killed("6,1,1,-;process 4711 started", 4711));
    }

    #[test]
    fn what_a_dead_launcher_left_is_found_by_its_mark() {
        let key = format!("test-{}", std::process::id());
        let mut child = Command::new("sh")
            .args(["-c", "setsid sleep 300 & setsid sleep 300 & wait"])
            .env(MARK, &key)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while marked(&key).len() < 3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Tree::of_key(&key).end_leftovers().unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(marked(&key).is_empty());
    }
}
