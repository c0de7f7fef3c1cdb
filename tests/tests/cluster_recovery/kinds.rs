//! The kinds of faults, each with what it does and how it is expected to end. Whoever makes one
//! leaves the cluster whole.

use super::stage::Attempt;
use super::work::{end_of, submit};
use super::world::{Victim, World, until};
use auria_core::outcome::{Cause, Decision, Status};
use auria_core::run::Recovered;
use rand::Rng;
use rand::seq::IndexedRandom;
use std::process::Command;
use std::time::Duration;

/// What is done to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The Pod of a step is deleted: evicted, and tried again.
    PodDeleted,
    /// It is evicted through the API: likewise.
    PodEvicted,
    /// A step takes more memory than it may: that cause, out of its own budget.
    OutOfMemory,
    /// An image that nobody has: its run fails by `image`, and no other.
    ImageAbsent,
    /// A node with kubelet, containerd and shims: all on it are lost, and run elsewhere.
    NodeKilled,
    /// A node that is cut off, given up, and back with its Pod: one of two attempts counts.
    NodeReturns,
    /// A node is drained: all on it are evicted.
    NodeDrained,
    /// The replica that drives is killed: no step notices.
    ControllerKilled,
    /// Both replicas are killed: no step notices.
    BothControllersKilled,
    /// The replica that drives cannot reach the API server: the other takes over, no step notices.
    LeaderPartitioned,
    /// The API server is away for seconds: no step notices.
    ApiServerRestarted,
    /// etcd is away for seconds: no step notices.
    EtcdRestarted,
    /// The object store is away for seconds: no step notices.
    StoreRestarted,
    /// The object store answers in fits and starts: no step notices.
    StoreSlow,
}

/// All of them; those after which the cluster is whole soonest first.
pub(crate) const KINDS: [Kind; 14] = [
    Kind::PodDeleted,
    Kind::PodEvicted,
    Kind::OutOfMemory,
    Kind::ImageAbsent,
    Kind::StoreSlow,
    Kind::StoreRestarted,
    Kind::ControllerKilled,
    Kind::ApiServerRestarted,
    Kind::EtcdRestarted,
    Kind::BothControllersKilled,
    Kind::LeaderPartitioned,
    Kind::NodeDrained,
    Kind::NodeKilled,
    Kind::NodeReturns,
];

/// How long one thing may take that takes seconds.
const LONG: Duration = Duration::from_secs(120);

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PodDeleted => "pod-deleted",
            Self::PodEvicted => "pod-evicted",
            Self::OutOfMemory => "out-of-memory",
            Self::ImageAbsent => "image-absent",
            Self::NodeKilled => "node-killed",
            Self::NodeReturns => "node-returns",
            Self::NodeDrained => "node-drained",
            Self::ControllerKilled => "controller-killed",
            Self::BothControllersKilled => "both-controllers-killed",
            Self::LeaderPartitioned => "leader-partitioned",
            Self::ApiServerRestarted => "api-server-restarted",
            Self::EtcdRestarted => "etcd-restarted",
            Self::StoreRestarted => "store-restarted",
            Self::StoreSlow => "store-slow",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.name() == name)
    }

    /// Makes one, mends it, and waits for its expected end; how it ended.
    pub(crate) fn make(self, world: &mut World) -> Result<String, String> {
        match self {
            Self::PodDeleted | Self::PodEvicted => pod_taken(self, world),
            Self::OutOfMemory => out_of_memory(world),
            Self::ImageAbsent => image_absent(world),
            Self::NodeKilled | Self::NodeReturns => node_lost(self, world),
            Self::NodeDrained => node_drained(world),
            Self::ControllerKilled | Self::BothControllersKilled => controllers_killed(self, world),
            Self::LeaderPartitioned => leader_partitioned(world),
            Self::ApiServerRestarted => away(self, world, "apiserver"),
            Self::EtcdRestarted => away(self, world, "etcd"),
            Self::StoreRestarted => away(self, world, "store"),
            Self::StoreSlow => store_slow(world),
        }
    }
}

/// The decision that let an attempt of a step start, if there is one.
pub(crate) fn granted(found: &Recovered, step: &str, number: u32) -> Option<Decision> {
    let decisions = found.log.iter().map(|record| &record.decision);
    let mut own = decisions.filter(|decision| {
        matches!(decision, Decision::Granted { step: of, attempt, .. }
            if of.as_str() == step && *attempt == number)
    });
    own.next().cloned()
}

/// The next attempt is granted, by this cause.
fn expect_grant(world: &World, victim: &Attempt, cause: Cause) -> Result<String, String> {
    let (granted, said) = until("a further attempt", LONG, || {
        let found = world.vault.look(&victim.run)?;
        if let Some(Decision::Granted { cause, .. }) =
            granted(&found, &victim.step, victim.number + 1)
        {
            return Ok(Some((Some(cause), end_of(&found, victim))));
        }
        let mut outcomes = found.outcomes.values();
        let outcome = outcomes.find(|o| o.step.as_str() == victim.step);
        Ok(outcome.map(|o| {
            (
                None,
                format!("{:?} {:?} {:?}", o.status, o.cause, o.message),
            )
        }))
    })?;
    if granted == Some(cause) {
        return Ok(format!("{cause:?}, tried again"));
    }
    Err(format!(
        "{victim} ended by {granted:?} instead of {cause:?}: {said}"
    ))
}

/// The attempt itself finishes its step.
fn expect_same(world: &World, victim: &Attempt) -> Result<String, String> {
    let outcome = until("the step's end", LONG, || {
        let found = world.vault.look(&victim.run)?;
        let outcome = found
            .outcomes
            .values()
            .find(|o| o.step.as_str() == victim.step);
        Ok(outcome.cloned())
    })?;
    if outcome.status == Status::Completed && outcome.attempt == Some(victim.number) {
        return Ok("no step noticed".to_owned());
    }
    Err(format!(
        "{victim} was to go on; its step is {:?} by attempt {:?}: {:?}",
        outcome.status, outcome.attempt, outcome.message
    ))
}

fn pod_taken(kind: Kind, world: &mut World) -> Result<String, String> {
    let Victim { attempt, pod, .. } = world.victim()?;
    world.made(kind, None, Some(&attempt));
    if kind == Kind::PodEvicted {
        let done = world.cluster.evict("auria", &pod);
        if done.code != 0 {
            return Err(format!("evicting {pod}: {}", done.stderr));
        }
    } else {
        world.kubectl(&["delete", "pod", &pod, "--wait=false"]);
    }
    world.mended();
    expect_grant(world, &attempt, Cause::Evicted)
}

fn out_of_memory(world: &mut World) -> Result<String, String> {
    let Victim { attempt, .. } = world.victim()?;
    world.made(Kind::OutOfMemory, None, Some(&attempt));
    world.stage.release(&attempt, "hog");
    world.mended();
    expect_grant(world, &attempt, Cause::OutOfMemory)
}

/// Nothing listens there, so that a pull fails at once.
const ABSENT: &str = "
type: pipeline
name: absent
jobs:
  step:
    command: 'true'
    environment: {image: '10.213.0.1:1/absent:1'}
    retry: {image: 1, backoff: 1s}
";

fn image_absent(world: &mut World) -> Result<String, String> {
    world.made(Kind::ImageAbsent, None, None);
    world.someone.write("absent.yml", ABSENT);
    let run = submit(&world.someone, &["absent.yml"])?;
    world.mended();
    let found = until("the run's end", LONG, || {
        let found = world.vault.look(&run)?;
        Ok(found.ended.is_some().then_some(found))
    })?;
    let outcome = found.outcomes.values().next();
    let cause = outcome.and_then(|outcome| outcome.cause);
    let grants: Vec<Cause> = found
        .log
        .iter()
        .filter_map(|record| match &record.decision {
            Decision::Granted { cause, .. } => Some(*cause),
            _ => None,
        })
        .collect();
    if cause == Some(Cause::Image) && grants == [Cause::Image] {
        return Ok("Image, twice, and its run failed".to_owned());
    }
    Err(format!("{run} ended with {outcome:?} after {grants:?}"))
}

fn node_lost(kind: Kind, world: &mut World) -> Result<String, String> {
    let Victim { attempt, node, .. } = world.victim()?;
    world.made(kind, Some(&node), Some(&attempt));
    let word = if kind == Kind::NodeKilled {
        "kill-node"
    } else {
        "cut-node"
    };
    let broken = world.cluster.fault(&[word, &node]);
    let ended = expect_grant(world, &attempt, Cause::NodeLost)?;
    // What is left of it over there is told to finish its work, as soon as it can hear that.
    world.stage.release(&attempt, "go");
    broken.mend();
    world.mended();
    Ok(ended)
}

fn node_drained(world: &mut World) -> Result<String, String> {
    let Victim { attempt, node, .. } = world.victim()?;
    world.made(Kind::NodeDrained, Some(&node), Some(&attempt));
    let cluster = world.cluster.clone();
    let drained = std::panic::catch_unwind(|| cluster.drain(&node));
    world.cluster.uncordon(&node);
    world.mended();
    if drained.is_err() {
        return Err(format!("{node} could not be drained"));
    }
    expect_grant(world, &attempt, Cause::Evicted)
}

fn controllers_killed(kind: Kind, world: &mut World) -> Result<String, String> {
    let Victim { attempt, .. } = world.victim()?;
    let leader = world.leader()?;
    world.made(kind, None, None);
    let pods = if kind == Kind::BothControllersKilled {
        world.controllers()
    } else {
        vec![leader]
    };
    // Before, at, or after the moment at which a step has something to say.
    let first = world.rng.random_bool(0.5);
    if first {
        world.stage.release(&attempt, "go");
        std::thread::sleep(Duration::from_millis(world.rng.random_range(0..600)));
    }
    for pod in &pods {
        kill_container(pod)?;
    }
    world.stage.release(&attempt, "go");
    world.mended();
    let ended = expect_same(world, &attempt)?;
    world.renew(&pods);
    Ok(ended)
}

fn leader_partitioned(world: &mut World) -> Result<String, String> {
    let Victim { attempt, .. } = world.victim()?;
    let leader = world.leader()?;
    let address = world.kubectl(&[
        "get",
        "service",
        "kubernetes",
        "--namespace=default",
        "--output=jsonpath={.spec.clusterIP}",
    ]);
    world.made(Kind::LeaderPartitioned, None, None);
    {
        let _cut = Cut::new(&leader, address.trim())?;
        until("the other replica to lead", LONG, || {
            Ok((world.leader()? != leader).then_some(()))
        })?;
        world.stage.release(&attempt, "go");
        std::thread::sleep(Duration::from_millis(world.rng.random_range(0..3_000)));
    }
    world.mended();
    let ended = expect_same(world, &attempt)?;
    Ok(format!("{ended}, another led"))
}

/// A Pod that cannot reach an address, until this is dropped.
struct Cut {
    pid: String,
    address: String,
}

impl Cut {
    fn new(pod: &str, address: &str) -> Result<Self, String> {
        let pids = pids_of(pod);
        let pid = pids.first().ok_or_else(|| format!("{pod} runs nowhere"))?;
        let cut = Self {
            pid: pid.to_string(),
            address: format!("{address}/32"),
        };
        cut.route("add")?;
        Ok(cut)
    }

    fn route(&self, what: &str) -> Result<(), String> {
        let done = Command::new("nsenter")
            .args(["--target", &self.pid, "--net"])
            .args(["ip", "route", what, "blackhole", &self.address])
            .output()
            .map_err(|error| error.to_string())?;
        if done.status.success() {
            return Ok(());
        }
        Err(format!(
            "ip route {what}: {}",
            String::from_utf8_lossy(&done.stderr)
        ))
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if let Err(error) = self.route("del") {
            eprintln!("{error}");
        }
    }
}

/// The processes of a controller's Pod, as this machine numbers them.
fn pids_of(pod: &str) -> Vec<i32> {
    auria_tests::cluster::processes_with(&format!("POD_NAME={pod}"))
}

/// SIGKILL for what runs in a controller's Pod.
fn kill_container(pod: &str) -> Result<(), String> {
    let pids = pids_of(pod);
    if pids.is_empty() {
        return Err(format!("no process of {pod} is there"));
    }
    for pid in pids {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    Ok(())
}

/// A part of the machinery is killed, and started again seconds later; the victim finishes its
/// work meanwhile.
fn away(kind: Kind, world: &mut World, part: &str) -> Result<String, String> {
    let Victim { attempt, .. } = world.victim()?;
    world.made(kind, None, None);
    let broken = world.cluster.fault(&["kill", part]);
    std::thread::sleep(Duration::from_millis(world.rng.random_range(0..1_500)));
    world.stage.release(&attempt, "go");
    std::thread::sleep(Duration::from_millis(world.rng.random_range(500..4_000)));
    broken.mend();
    world.mended();
    expect_same(world, &attempt)
}

fn store_slow(world: &mut World) -> Result<String, String> {
    let Victim { attempt, .. } = world.victim()?;
    world.made(Kind::StoreSlow, None, None);
    let mut released = false;
    for _ in 0..world.rng.random_range(5..10) {
        let frozen = world.cluster.fault(&["freeze", "store"]);
        if !released {
            world.stage.release(&attempt, "go");
            released = true;
        }
        let pauses = [200, 500, 1_500];
        let pause = pauses.choose(&mut world.rng).copied().unwrap_or(200);
        std::thread::sleep(Duration::from_millis(pause));
        frozen.mend();
        std::thread::sleep(Duration::from_millis(50));
    }
    world.mended();
    expect_same(world, &attempt)
}
