//! Finding what a part left running.
//!
//! Used by `test`. The task makes itself the reaper of its descendants, so that a process that
//! daemonises stays below it in the tree and is found. It ends only processes that it started.

use std::collections::HashMap;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long a process may take to end by itself after the part that started it.
const GRACE: Duration = Duration::from_secs(5);

/// Makes orphaned descendants children of this process.
pub(crate) fn adopt_orphans() -> anyhow::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("cannot become the reaper of orphans")
}

/// Descendants that still run after a grace time, as lines for people; they are ended.
pub(crate) fn end_leftovers() -> Vec<String> {
    let begun = Instant::now();
    loop {
        reap();
        let left = descendants();
        if left.is_empty() {
            return Vec::new();
        }
        if begun.elapsed() >= GRACE {
            let lines = left.iter().map(|&id| describe(id)).collect();
            for id in left {
                // It may have ended since; nothing else can have its number while we do not reap.
                let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
            }
            sleep(Duration::from_millis(100));
            reap();
            return lines;
        }
        sleep(Duration::from_millis(50));
    }
}

/// Collects ended children. Called only between parts, when no child of our own is waited for.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// All living descendants of this process.
fn descendants() -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    for entry in entries.flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some((state, parent)) = state_and_parent(&stat)
            && state != 'Z'
        {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![Pid::this().as_raw()];
    while let Some(id) = next.pop() {
        let below = children.remove(&id).unwrap_or_default();
        found.extend(&below);
        next.extend(below);
    }
    found
}

/// The state and the parent in a line of /proc/PID/stat, whose second field may hold anything.
fn state_and_parent(stat: &str) -> Option<(char, i32)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?.chars().next()?;
    Some((state, words.next()?.parse().ok()?))
}

fn describe(id: i32) -> String {
    let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    format!("left running: {id} {}", command.trim())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    #[test]
    fn a_process_name_may_hold_parentheses() {
        assert_eq!(
            super::state_and_parent("12 (a) b) (c) S 7 12 12 0"),
            Some(('S', 7))
        );
    }

    #[test]
    fn a_daemon_is_found_and_ended() {
        // In a process of its own: it would take the other tests' children for leftovers.
        if std::env::var_os("XTASK_TEST_ALONE").is_none() {
            // Its output is kept from ours, where `test` would count it.
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "processes::tests::a_daemon_is_found_and_ended"])
                .env("XTASK_TEST_ALONE", "1")
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            return;
        }
        super::adopt_orphans().unwrap();
        // The shell ends at once; what it started in a session of its own goes on.
        let status = Command::new("sh")
            .args(["-c", "setsid sleep 987 >/dev/null 2>&1 &"])
            .status()
            .unwrap();
        assert!(status.success());
        let left = super::end_leftovers();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].ends_with("sleep 987"), "{left:?}");
        assert!(super::end_leftovers().is_empty());
    }
}
