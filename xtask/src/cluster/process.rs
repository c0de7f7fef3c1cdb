//! Programs that outlive the command that started them: each in a session of its own, its output
//! in a file, found again by its number and the moment at which it began.
//!
//! Used by all of `cluster`. A number alone is given to another process one day; it never signals
//! one whose beginning is not the one that was noted.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout;
use crate::shell::show;

/// Where programs of a test cluster are looked for: containerd and kubelet call many.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs its arguments without the files that it inherited; a shell knows these numbers.
const CLOSE_AND_RUN: &str = "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec \"$@\"";

/// This very program in a place of its own: a build may take away the file of one that runs, and
/// what starts nodes and breaks them is called for as long as the cluster is there.
pub(crate) fn this_program() -> anyhow::Result<PathBuf> {
    let kept = layout::bin("xtask");
    let me = std::env::current_exe().context("cannot find this program")?;
    if me == kept {
        return Ok(kept);
    }
    let folder = kept.parent().context("no folder for programs")?;
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder `{}`", folder.display()))?;
    // Renamed into place: the old one may be running, as a node's first process.
    let new = folder.join(format!(".xtask-{}", std::process::id()));
    fs::copy("/proc/self/exe", &new)
        .and_then(|_| fs::rename(&new, &kept))
        .with_context(|| format!("cannot copy this program to `{}`", kept.display()))?;
    Ok(kept)
}

/// A process of this machine, told from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) id: i32,
    /// When it began, in the kernel's ticks.
    began: u64,
}

impl Process {
    /// The process of this number, if it lives.
    pub(crate) fn of(id: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (state, began) = state_and_beginning(&stat)?;
        // A zombie holds nothing, and who started it may never ask for it. But a thread may
        // still be ending, with all files open, when the first is one already.
        let threads = || fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count);
        (!matches!(state, 'Z' | 'X') || threads() > 1).then_some(Self { id, began })
    }

    /// The process that was noted under `name`, if it lives.
    pub(crate) fn noted(name: &str) -> Option<Self> {
        let text = fs::read_to_string(note(name)).ok()?;
        let (id, began) = text.trim().split_once(' ')?;
        let noted = Self {
            id: id.parse().ok()?,
            began: began.parse().ok()?,
        };
        noted.lives().then_some(noted)
    }

    /// Whether it lives.
    pub(crate) fn lives(self) -> bool {
        Self::of(self.id) == Some(self)
    }

    /// Signals it, if it lives.
    pub(crate) fn signal(self, signal: Signal) {
        if self.lives() {
            // It may end in between; then there is nothing to signal.
            let _ = kill(Pid::from_raw(self.id), signal);
        }
    }

    /// Waits until it has ended.
    pub(crate) fn wait_for_end(self, patience: Duration) -> bool {
        let begun = Instant::now();
        while self.lives() {
            if begun.elapsed() > patience {
                return false;
            }
            sleep(Duration::from_millis(10));
        }
        true
    }
}

fn note(name: &str) -> PathBuf {
    layout::run().join("pids").join(name)
}

/// Forgets what was noted under `name`.
pub(crate) fn forget(name: &str) {
    let _ = fs::remove_file(note(name));
}

/// Starts `command` as `name`, in a session of its own.
pub(crate) fn start(name: &str, command: &Command) -> anyhow::Result<Process> {
    if let Some(process) = Process::noted(name) {
        bail!("{name} runs already, as process {}", process.id);
    }
    let mut detached = Command::new("setsid");
    detached
        // A lock that our caller holds by an open file would be held as long as the cluster runs.
        .args(["sh", "-c", CLOSE_AND_RUN, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .env("PATH", PATH)
        .current_dir(layout::run());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => detached.env(key, value),
            None => detached.env_remove(key),
        };
    }
    let (stdout, stderr) = outputs(&layout::log(name))?;
    let child = detached
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .with_context(|| format!("cannot start `{}`", show(&detached)))?;
    let id = i32::try_from(child.id())?;
    let process = Process::of(id).with_context(|| format!("{name} ended at once"))?;
    let note = note(name);
    if let Some(folder) = note.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&note, format!("{} {}\n", process.id, process.began))
        .with_context(|| format!("cannot write {}", note.display()))?;
    Ok(process)
}

/// A file for what a program prints, twice.
pub(crate) fn outputs(path: &Path) -> anyhow::Result<(fs::File, fs::File)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = fs::File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    Ok((file.try_clone()?, file))
}

/// The last lines that `name` printed, for an error.
pub(crate) fn last_words(name: &str) -> String {
    let path = layout::log(name);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(8)..];
    format!("{} ends with:\n  {}", path.display(), last.join("\n  "))
}

/// Waits until `holds`; says what was waited for where it does not come to pass, and at once
/// where one of `needed` has ended.
pub(crate) fn wait(
    what: &str,
    patience: Duration,
    needed: &[&str],
    mut holds: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        if holds() {
            return Ok(());
        }
        for name in needed {
            if Process::noted(name).is_none() {
                bail!(
                    "{name} ended while waiting for {what}; {}",
                    last_words(name)
                );
            }
        }
        if begun.elapsed() > patience {
            let said: Vec<String> = needed.iter().map(|name| last_words(name)).collect();
            bail!(
                "waited {} s for {what}\n{}",
                patience.as_secs(),
                said.join("\n")
            );
        }
        sleep(Duration::from_millis(100));
    }
}

/// State and beginning in a line of /proc/PID/stat, whose second field may hold anything.
fn state_and_beginning(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?.chars().next()?;
    // The 22nd field of all, and the state is the third.
    Some((state, words.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Process, state_and_beginning};

    #[test]
    fn a_process_is_its_number_and_its_beginning() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 2 3 0 0 20 0 1 0 4711 0 0";
        assert_eq!(state_and_beginning(stat), Some(('S', 4711)));
        let me = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.lives());
        let other = Process {
            began: me.began + 1,
            ..me
        };
        assert!(!other.lives(), "same number, another beginning");
    }
}
