//! Cases of what steps are held to and what they see: memory, CPUs, the network, the
//! store's secrets, whose files they make.

use super::Bench;
use super::cases::{output, text};
use super::world::{SECRET, World, with_output};
use crate::executor::StartError;
use auria_core::outcome::Cause;
use auria_core::plan::{DataType, Network, Template};

pub(super) async fn memory_that_runs_out_is_told<B: Bench>(mut world: World<B>) {
    let mut ticket = world.ticket(
        "step",
        "set -o pipefail; head -c 200000000 /dev/zero | tail -c 200000000 | wc -c",
    );
    ticket.resources.memory_bytes = Some(64 << 20);
    if world.bench.limits_memory() {
        let end = world.fails(&ticket, Cause::OutOfMemory).await;
        assert!(end.message.starts_with("memory ran out"), "{}", end.message);
    } else {
        // Nothing can keep the limit here.
        assert_eq!(world.completes(&ticket).await.last_lines, ["200000000"]);
    }
    world.over().await;
}

pub(super) async fn cpus_are_held<B: Bench>(mut world: World<B>) {
    // Two busy loops for two seconds on half a core; their CPU time against the clock's.
    let command = "begin=$EPOCHREALTIME; busy() { local end=$((SECONDS + 2)); \
                   while [ $SECONDS -lt $end ]; do :; done; }; busy & busy; wait; \
                   echo clock $begin $EPOCHREALTIME; times";
    let mut ticket = world.ticket("step", command);
    ticket.resources.cpu_millis = Some(500);
    let outcome = world.completes(&ticket).await;
    if world.bench.isolates() {
        let lines = &outcome.last_lines;
        let clock: Vec<f64> = lines[0]
            .split(' ')
            .skip(1)
            .map(|text| text.replace(',', ".").parse().unwrap())
            .collect();
        let times = lines[1..].iter().flat_map(|line| line.split(' '));
        let used: f64 = times
            .map(|text| {
                let (minutes, seconds) = text.trim_end_matches('s').split_once('m').unwrap();
                minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
            })
            .sum();
        let share = used / (clock[1] - clock[0]);
        assert!(share < 0.7, "{share} of a core: {lines:?}");
    }
    world.over().await;
}

pub(super) async fn no_network_is_kept_or_refused<B: Bench>(mut world: World<B>) {
    let mut ticket = world.ticket("step", "cd /sys/class/net && echo *");
    ticket.network = Network::None;
    if world.bench.isolates() {
        assert_eq!(world.completes(&ticket).await.last_lines, ["lo"]);
    } else {
        let refused = world.executor.start(&ticket).await;
        assert!(
            matches!(&refused, Err(StartError::Refused { message }) if message.contains("`network: none`")),
            "{refused:?}"
        );
    }
    world.over().await;
}

pub(super) async fn what_a_step_makes_belongs_to_the_user<B: Bench>(mut world: World<B>) {
    use std::os::unix::fs::MetadataExt;
    let outside = world.outside("made");
    let command = vec![
        text("umask 077; echo x > "),
        output("made"),
        text(&format!("/file; echo y > {}", outside.display())),
    ];
    let ticket = world.ticket_of("step", command);
    let ticket = with_output(ticket, "made", DataType::UriFolder);
    let outcome = world.completes(&ticket).await;
    let root = world.bench.store().root().unwrap().to_owned();
    let user = nix::unistd::getuid().as_raw();
    for path in [
        root.join(&outcome.outputs["made"].prefix).join("file"),
        outside,
    ] {
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!(found.uid(), user, "{}", path.display());
    }
    world.over().await;
}

pub(super) async fn variables_are_kept<B: Bench>(mut world: World<B>) {
    let value = "größe 1 'a' \"b\" $HOME `c` 俳句\nzwei=2";
    let mut ticket = world.ticket(
        "step",
        "printf '%s\\n' \"$GIVEN\"; echo $AURIA_STEP $AURIA_ATTEMPT; pwd; cd $TMPDIR",
    );
    ticket
        .variables
        .insert("GIVEN".to_owned(), Template(vec![text(value)]));
    let lines = world.completes(&ticket).await.last_lines.clone();
    let mut expected: Vec<&str> = value.lines().collect();
    expected.push("step 1");
    assert_eq!(lines[..3], expected);
    assert!(lines[3].ends_with("/code"), "{lines:?}");
    world.over().await;
}

pub(super) async fn a_shell_pipe_ends_by_itself<B: Bench>(mut world: World<B>) {
    // What is behind `>(…)` outlives the command for an instant, and is not cut short.
    let ticket = world.ticket("step", "exec > >(cat; echo end); echo said");
    let outcome = world.completes(&ticket).await;
    assert_eq!(outcome.last_lines, ["said", "end"]);
    world.over().await;
}

pub(super) async fn nothing_of_the_store_is_seen<B: Bench>(mut world: World<B>) {
    if world.bench.isolates() {
        let (name, secret) = SECRET;
        let root = world.bench.store().root().unwrap().to_owned();
        // The secret is written so that the command does not find itself.
        let command = format!(
            "s={}''{}; env | grep -c -e $s -e ^{name} -e ^AURIA_STORE; \
             cat /proc/[0-9]*/environ | grep -a -c -e $s -e {name}=; ls {} 2>/dev/null | wc -l; \
             grep -r -a -l $s $PWD/.. / --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev 2>/dev/null | wc -l",
            &secret[..5],
            &secret[5..],
            root.display()
        );
        let ticket = world.ticket("step", command);
        let outcome = world.completes(&ticket).await;
        assert_eq!(outcome.last_lines, ["0", "0", "0", "0"]);
    }
    world.over().await;
}
