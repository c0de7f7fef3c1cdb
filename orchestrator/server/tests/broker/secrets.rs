//! What a step can find: it looks through every process, variable, argument, descriptor and
//! file within its reach for what its launcher was told and granted.

use crate::world::{Behind, World, text, ticket};
use auria_engine::relay::TicketIssuer;
use auria_store::layout;
use auria_store::logs::LogReader;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;

/// Nobody's number, as Pods have it by default.
const NOBODY: u32 = 65532;

/// The search looks for the beginnings of tokens, written so that it does not find itself.
/// What it must find, so that it is known to look, is put there by the step first.
const SEARCH: &str = r#"
cd /
printf '1/%s/decoy' session > "$TMPDIR/decoy"
DECOY="$(cat "$TMPDIR/decoy")" sleep 60 &
decoy=$!
exec 9< "$TMPDIR/decoy"
found() { grep -aqE '1/(sessio[n]|bootstra[p])/' "$1" 2>/dev/null && echo "FOUND $2"; }
name() { case "$1" in $$) echo self;; $PPID) echo launcher;; $decoy) echo decoy;; *) echo other;; esac; }
for process in /proc/[0-9]*; do
  pid=${process#/proc/}
  for file in environ cmdline auxv comm; do found $process/$file "$(name $pid) $file"; done
  for fd in $process/fd/*; do test -f $fd && found $fd "$(name $pid) descriptor"; done
done
for folder in "$TMPDIR/../.." /dev/shm "$HOME"; do
  find "$folder" -type f -readable 2>/dev/null | while read -r file; do found "$file" "file $(basename "$file")"; done
done
cat /proc/$PPID/environ > /dev/null 2>&1 && echo "READ environ of the launcher"
cat /proc/$PPID/maps > /dev/null 2>&1 && echo "READ maps of the launcher"
head -c 1 /proc/$PPID/mem > /dev/null 2>&1 && echo "READ memory of the launcher"
ls /proc/$PPID/fd > /dev/null 2>&1 && echo "READ descriptors of the launcher"
env | grep AURIA_BROKER && echo "READ variables"
ls /proc/self/fd | tr '\n' ' '; echo
grep NoNewPrivs /proc/self/status
id -u
kill $decoy
"#;

pub(crate) async fn a_step_finds_no_token() {
    let world = World::new(Behind::Folder).await;
    let step = ticket("search", &[text(SEARCH)]);
    world.journal(&step).write_ticket(&step).await.unwrap();
    // The launcher's program where nobody may run it from, and a folder of its own.
    let (program, work) = (world.dir.path().join("launcher"), world.work());
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::create_dir(&work).unwrap();
    let root = nix::unistd::getuid().is_root();
    if root {
        std::fs::set_permissions(world.dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
        chown(&work, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let access = world.broker.issue(&step.attempt);
    let mut pod = world.pod(&access);
    let mut command = std::process::Command::new(&program);
    command.args(pod.get_args()).env_clear();
    command.envs(
        pod.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    command.env("HOME", &work);
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    pod = command;
    let ended = tokio::task::spawn_blocking(move || pod.status().unwrap());
    assert!(ended.await.unwrap().success());
    let nonce = world.outcome(&step).await.unwrap().nonce.unwrap();
    let log = LogReader::new(world.store.clone(), layout::logs(&step.attempt, &nonce))
        .read_rest()
        .await
        .unwrap();
    let log = String::from_utf8(log).unwrap();
    let mut lines: Vec<_> = log.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    let found: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("FOUND"))
        .collect();
    // The descriptor of the decoy is open in the step alone, and in what it starts after.
    let expected = [
        "FOUND decoy environ",
        "FOUND file decoy",
        "FOUND self descriptor",
    ];
    assert!(
        expected.iter().all(|line| found.contains(&line)),
        "it did not look: {log}"
    );
    let harmless = |line: &&str| expected.contains(line) || line.ends_with("other descriptor");
    assert!(found.iter().all(|line| harmless(line)), "{log}");
    assert!(!log.contains("READ"), "{log}");
    assert!(log.contains("NoNewPrivs:\t1"), "{log}");
    if root {
        assert!(log.contains(&format!("\n{NOBODY}\n")), "{log}");
    }
    // Standard streams, the decoy, the folder that `ls` lists, and what whoever started
    // this test left open for all.
    let mut expected = vec![0, 1, 2, 3, 9];
    expected.extend(left_open());
    let open = log.lines().find_map(|line| {
        line.split_whitespace()
            .map(|word| word.parse::<i32>().ok())
            .collect::<Option<Vec<_>>>()
            .filter(|numbers| numbers.len() > 3)
    });
    let open = open.unwrap();
    assert!(open.iter().all(|number| expected.contains(number)), "{log}");
    assert!(!log.contains(&access.token), "{log}");
}

/// Descriptors of this process that those it starts inherit.
fn left_open() -> Vec<i32> {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let is_left = |number: &i32| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
        let flags = info.ok().and_then(|info| {
            let text = info
                .lines()
                .find_map(|line| line.strip_prefix("flags:"))?
                .trim()
                .to_owned();
            u32::from_str_radix(&text, 8).ok()
        });
        flags.is_some_and(|flags| flags & CLOSE_ON_EXEC == 0)
    };
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(is_left)
        .collect()
}
