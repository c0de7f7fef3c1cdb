//! What all processes of a schedule share: the objects of the store, the processes
//! themselves, the network between them, and what goes wrong. Every request passes
//! through [`request`], which may delay it, answer it wrongly, or kill whoever asked.

use super::dice::Dice;
use super::machine::Machine;
use super::play::Final;
use super::points::{Actor, Effect, Kills, When};
use super::truth::Truth;
use auria_core::RunId;
use auria_core::outcome::{Claim, EndRecord, LogRecord, Outcome, RunEnd};
use auria_core::ticket::Ticket;
use auria_store::runs::RunJson;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// The number of a process.
pub(super) type Pid = usize;

/// The world, as its processes hold it.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(super) fn new(world: World) -> Self {
        Self(Arc::new_cyclic(|myself| {
            Mutex::new(World {
                myself: myself.clone(),
                ..world
            })
        }))
    }

    /// Never held across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How bad the weather is.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    /// Faults in a thousand conditional writes.
    pub(super) create_faults: u64,
    /// Faults in a thousand other requests: the client has tried them again by itself.
    pub(super) other_faults: u64,
    /// Delays in a thousand requests.
    pub(super) delays: u64,
    /// The longest of them.
    pub(super) longest_ms: u64,
    /// In a hundred of a driver's starts, of its records, and of what it and those who delete
    /// read: it takes so long that others go on meanwhile.
    pub(super) slow_starts: u64,
    pub(super) slow_records: u64,
    pub(super) slow_looks: u64,
    /// In a hundred news of an executor: lost where it is no last one, told twice.
    pub(super) lost_news: u64,
    pub(super) double_news: u64,
    /// In a hundred stops: nothing comes of it.
    pub(super) deaf: u64,
    /// In a thousand news told: the watch breaks.
    pub(super) broken_watches: u64,
    /// While a store is out of reach, for whom.
    pub(super) outages: Vec<Outage>,
}

#[derive(Clone, Debug)]
pub(super) struct Outage {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    pub(super) actor: Actor,
    /// Only for this; then also when all else is calm.
    pub(super) effect: Option<Effect>,
}

/// When a process dies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death {
    pub(super) at: At,
    pub(super) when: When,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    /// At its n-th request, from 1.
    Nth(u32),
    /// At its n-th effect of a kind, from 1.
    Effect(Effect, u32),
}

pub(super) struct Process {
    pub(super) actor: Actor,
    pub(super) name: String,
    pub(super) alive: bool,
    /// Of a driver: the epoch of its takeover, once that stands.
    pub(super) epoch: u64,
    /// Of a driver: it took over a run that had been deleted.
    pub(super) late: bool,
    requests: u32,
    /// From its n-th request on it is held up for so many milliseconds: what it asks for then
    /// is asked for when it goes on.
    pub(super) pause: Option<(u32, u64)>,
    paused_until: Option<Instant>,
    death: Option<Death>,
    abort: Option<AbortHandle>,
}

pub(super) struct World {
    myself: Weak<Mutex<World>>,
    pub(super) dice: Dice,
    pub(super) began: Instant,
    pub(super) weather: Weather,
    /// From now on nothing is disturbed.
    pub(super) calm: bool,
    pub(super) objects: BTreeMap<String, Bytes>,
    /// When each of them was written last.
    written: BTreeMap<String, u64>,
    /// When each tombstone came to stand, by its nonce.
    pub(super) marked: BTreeMap<String, u64>,
    /// Runs of which a tombstone was taken away once they were to be kept.
    pub(super) kept: BTreeSet<RunId>,
    /// How far the store's clock is ahead of everyone's, in milliseconds.
    pub(super) clock_skew_ms: i64,
    /// The longest grace of those who delete; none: nobody does.
    pub(super) longest_grace_ms: Option<u64>,
    /// When a process first sent what it decided, by its path.
    pub(super) sent: BTreeMap<(Pid, String), u64>,
    pub(super) processes: Vec<Process>,
    /// What is under way of itself: requests, launchers, notices.
    pub(super) tasks: JoinSet<()>,
    pub(super) machine: Machine,
    pub(super) truths: BTreeMap<RunId, Truth>,
    pub(super) kills: Kills,
    pub(super) deaths: u32,
    /// What each run's driver saw last.
    pub(super) finals: BTreeMap<RunId, Final>,
    /// The first thing that must not be.
    pub(super) wrong: Option<String>,
    /// Something ended, or went wrong.
    pub(super) news: Arc<Notify>,
    pub(super) trace: Option<Vec<String>>,
    pub(super) requests: u64,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, Default)]
struct Planned {
    before: Duration,
    after: Duration,
    fault: Option<Fault>,
    dies: Option<When>,
    /// It is lost with whoever sent it.
    fragile: bool,
}

/// What a store does instead of what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing, and answers 500.
    Fails,
    /// What was asked, and answers 500.
    AppliedThenFails,
    /// What was asked, and never answers.
    AppliedThenSilent,
    /// What was asked, and answers "exists", as to its own retried write.
    AppliedThenExists,
    /// Nothing, and answers 409.
    Busy,
    /// Nothing: there is no room.
    Full,
}

impl Fault {
    fn applies(self) -> bool {
        matches!(
            self,
            Self::AppliedThenFails | Self::AppliedThenSilent | Self::AppliedThenExists
        )
    }
}

impl World {
    pub(super) fn new(dice: Dice, weather: Weather, traced: bool) -> Self {
        Self {
            myself: Weak::new(),
            dice,
            began: Instant::now(),
            weather,
            calm: false,
            objects: BTreeMap::new(),
            written: BTreeMap::new(),
            marked: BTreeMap::new(),
            kept: BTreeSet::new(),
            clock_skew_ms: 0,
            longest_grace_ms: None,
            sent: BTreeMap::new(),
            processes: Vec::new(),
            tasks: JoinSet::new(),
            machine: Machine::default(),
            truths: BTreeMap::new(),
            kills: Kills::default(),
            deaths: 0,
            finals: BTreeMap::new(),
            wrong: None,
            news: Arc::new(Notify::new()),
            trace: traced.then(Vec::new),
            requests: 0,
        }
    }

    /// The world as its processes hold it; none while it is taken apart.
    pub(super) fn shared(&self) -> Option<Shared> {
        self.myself.upgrade().map(Shared)
    }

    /// Notes that the object at `path` was written.
    pub(super) fn wrote(&mut self, path: &str) {
        let now = self.elapsed_ms();
        self.written.insert(path.to_owned(), now);
    }

    /// When the object at `path` was written, by everyone's clock.
    pub(super) fn written_ms(&self, path: &str) -> u64 {
        self.written.get(path).copied().unwrap_or(0)
    }

    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes something for the trace.
    pub(super) fn say(&mut self, who: Option<Pid>, what: impl FnOnce() -> String) {
        if self.trace.is_none() {
            return;
        }
        let at = self.elapsed_ms() as f64 / 1000.0;
        let who = who.map_or("world", |pid| self.processes[pid].name.as_str());
        let line = format!("{at:>9.3}  {who:<14} {}", what());
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    /// Something is that must not be.
    pub(super) fn violated(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.say(None, || format!("VIOLATED: {what}"));
        self.wrong.get_or_insert(what);
        self.news.notify_one();
    }

    pub(super) fn begin(&mut self, actor: Actor, name: String, death: Option<Death>) -> Pid {
        self.processes.push(Process {
            actor,
            name,
            alive: true,
            epoch: 0,
            late: false,
            requests: 0,
            pause: None,
            paused_until: None,
            death,
            abort: None,
        });
        self.processes.len() - 1
    }

    /// Names the task that is the process.
    pub(super) fn embody(&mut self, pid: Pid, task: AbortHandle) {
        if self.processes[pid].alive {
            self.processes[pid].abort = Some(task);
        } else {
            task.abort();
        }
    }

    pub(super) fn is_alive(&self, pid: Pid) -> bool {
        self.processes[pid].alive
    }

    /// The process is over, whatever its tasks do.
    pub(super) fn kill(&mut self, pid: Pid, why: &str) {
        if !self.processes[pid].alive {
            return;
        }
        self.say(Some(pid), || format!("is killed {why}"));
        self.deaths += 1;
        self.processes[pid].alive = false;
        if let Some(task) = self.processes[pid].abort.take() {
            task.abort();
        }
        if self.processes[pid].actor == Actor::Launcher {
            self.launcher_died(pid, None);
        }
        self.news.notify_one();
    }

    /// The process has ended by itself.
    pub(super) fn end(&mut self, pid: Pid) {
        self.processes[pid].alive = false;
        self.news.notify_one();
    }

    /// Until when what process `pid` asks for now has to wait.
    fn pauses(&mut self, pid: Pid) -> Option<Instant> {
        let (calm, now) = (self.calm, Instant::now());
        let process = &mut self.processes[pid];
        let due = |(nth, _): &mut (u32, u64)| !calm && process.requests + 1 >= *nth;
        if let Some((_, ms)) = process.pause.take_if(due) {
            process.paused_until = Some(now + Duration::from_millis(ms));
            self.say(Some(pid), || format!("is held up for {ms} ms"));
        }
        self.processes[pid]
            .paused_until
            .filter(|until| *until > now)
    }

    /// The point at which the process dies, where `effect` is it.
    fn dies_at(&mut self, pid: Pid, effect: Effect) -> Option<When> {
        let calm = self.calm;
        let process = &mut self.processes[pid];
        process.requests += 1;
        let death = process.death.as_mut()?;
        let hit = match &mut death.at {
            At::Nth(nth) => process.requests == *nth,
            At::Effect(kind, left) if *kind == effect => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            At::Effect(..) => false,
        };
        (hit && !calm).then_some(death.when)
    }

    /// Draws what happens to a request. None where whoever asks is dead.
    fn plan(&mut self, pid: Pid, effect: Effect, verb: Verb) -> Option<Planned> {
        if !self.is_alive(pid) {
            return None;
        }
        self.requests += 1;
        let actor = self.processes[pid].actor;
        if actor == Actor::Stage {
            return Some(Planned::default());
        }
        let dies = self.dies_at(pid, effect);
        if let Some(when) = dies {
            self.kills.count(actor, effect, when);
        }
        let mut planned = Planned {
            dies,
            ..Planned::default()
        };
        let at = self.elapsed_ms();
        let out = self.weather.outages.iter().any(|outage| {
            outage.actor == actor
                && outage.effect.map_or(!self.calm, |of| of == effect)
                && (outage.from_ms..outage.to_ms).contains(&at)
        });
        if out && verb != Verb::Executor {
            planned.fault = Some(Fault::Fails);
            planned.after += Duration::from_millis(20);
            return Some(planned);
        }
        if self.calm {
            return Some(planned);
        }
        if self.dice.permille(self.weather.delays) {
            let longest = self.weather.longest_ms;
            let long = self.dice.percent(10);
            let mut some = || {
                self.dice
                    .within(1..=if long { longest } else { 1 + longest / 20 })
            };
            match some() % 3 {
                0 => planned.before = Duration::from_millis(some()),
                1 => planned.after = Duration::from_millis(some()),
                _ => {
                    planned.before = Duration::from_millis(some());
                    planned.after = Duration::from_millis(some());
                }
            }
            planned.fragile = self.dice.percent(50);
        }
        // What a driver knows hangs on how long its looks take: see `World::known_before`.
        let longest_ms = self.weather.longest_ms;
        let (slow, most_ms) = match (actor, effect) {
            (Actor::Driver | Actor::Keeper, Effect::Read | Effect::List | Effect::ListLive) => {
                (self.weather.slow_looks, longest_ms)
            }
            (Actor::Keeper, Effect::Tombstone) => (self.weather.slow_looks, longest_ms),
            (Actor::Driver, Effect::Start) => (self.weather.slow_starts, 8_000),
            (Actor::Driver, _) => (self.weather.slow_records, 5_000),
            _ => (0, 0),
        };
        if self.dice.percent(slow) {
            let some = Duration::from_millis(self.dice.within(0..=most_ms));
            if self.dice.percent(50) {
                planned.before = some;
            } else {
                planned.after = some;
            }
        }
        if verb == Verb::Executor {
            return Some(planned);
        }
        let faults = match verb {
            Verb::Create => self.weather.create_faults,
            _ => self.weather.other_faults,
        };
        if self.dice.permille(faults) {
            let fault = match verb {
                Verb::Create => *self.dice.pick(&[
                    Fault::Fails,
                    Fault::AppliedThenFails,
                    Fault::AppliedThenFails,
                    Fault::AppliedThenSilent,
                    Fault::AppliedThenExists,
                    Fault::AppliedThenExists,
                    Fault::Busy,
                ]),
                Verb::Write => *self.dice.pick(&[
                    Fault::Fails,
                    Fault::AppliedThenFails,
                    Fault::AppliedThenSilent,
                    Fault::Full,
                ]),
                Verb::Read | Verb::Executor => Fault::Fails,
            };
            planned.fault = Some(fault);
            if fault == Fault::AppliedThenSilent {
                planned.after += Duration::from_secs(3);
            }
        }
        Some(planned)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Write,
    Read,
    /// Something of the executor, which has faults of its own.
    Executor,
}

/// One request.
pub(super) struct Asked {
    pub(super) pid: Pid,
    pub(super) effect: Effect,
    pub(super) verb: Verb,
    pub(super) what: String,
}

/// Carries a request to the world and its answer back: late, wrong, or to nobody.
/// `Err` is the fault that the store answers with.
pub(super) async fn request<T: Send + 'static>(
    world: &Shared,
    asked: Asked,
    apply: impl FnOnce(&mut World) -> T + Send + 'static,
) -> Result<T, Fault> {
    let Asked {
        pid,
        effect,
        verb,
        what,
    } = asked;
    let paused = world.lock().pauses(pid);
    if let Some(until) = paused {
        tokio::time::sleep_until(until).await;
    }
    let planned = {
        let mut held = world.lock();
        let planned = held.plan(pid, effect, verb);
        if let Some(Planned {
            dies: Some(When::Before),
            ..
        }) = planned
        {
            held.kill(pid, &format!("before it would {}: {what}", effect.name()));
            None
        } else {
            planned
        }
    };
    let Some(planned) = planned else {
        return std::future::pending().await;
    };
    let act = move |held: &mut World| {
        let fault = planned.fault;
        if verb != Verb::Read {
            held.say(Some(pid), || match fault {
                None => what.clone(),
                Some(fault) => format!("{what}  [{fault:?}]"),
            });
        }
        let applies = fault.is_none_or(Fault::applies);
        let answer = applies.then(|| apply(held));
        if planned.dies == Some(When::After) {
            held.kill(pid, &format!("after it did {}", effect.name()));
        }
        match fault {
            Some(fault) => Err(fault),
            // Without a fault it was applied.
            None => answer.ok_or(Fault::Fails),
        }
    };
    let answer = if planned.before.is_zero() {
        act(&mut world.lock())
    } else {
        // It is under way, whatever becomes of whoever asked.
        let (tell, told) = oneshot::channel();
        let shared = world.clone();
        world.lock().tasks.spawn(async move {
            tokio::time::sleep(planned.before).await;
            let mut held = shared.lock();
            if planned.fragile && !held.is_alive(pid) {
                return;
            }
            let answer = act(&mut held);
            drop(held);
            let _ = tell.send(answer);
        });
        match told.await {
            Ok(answer) => answer,
            Err(_) => return std::future::pending().await,
        }
    };
    if !planned.after.is_zero() {
        tokio::time::sleep(planned.after).await;
    }
    if !world.lock().is_alive(pid) {
        return std::future::pending().await;
    }
    answer
}

/// What stands at a path, or is to.
pub(super) enum Object {
    Log {
        run: RunId,
        seq: u64,
        record: Option<Box<LogRecord>>,
    },
    Ticket {
        ticket: Option<Box<Ticket>>,
    },
    Claim {
        claim: Option<Box<Claim>>,
    },
    End {
        end: Option<Box<EndRecord>>,
    },
    Outcome {
        run: RunId,
        outcome: Option<Box<Outcome>>,
    },
    RunEnd {
        run: RunId,
        end: Option<Box<RunEnd>>,
    },
    Reference,
    Tombstone,
    Verdict,
    RunJson {
        record: Option<Box<RunJson>>,
    },
    ReuseNote,
    ReuseEntry,
    ReuseLast,
    Registration,
    Asset,
    Output,
    Manifest,
    Checkpoint,
    CheckpointManifest,
    Export,
    Other,
}

impl Object {
    pub(super) fn of(path: &str, bytes: &[u8]) -> Self {
        fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<Box<T>> {
            serde_json::from_slice(bytes).ok()
        }
        let parts: Vec<&str> = path.split('/').collect();
        let run = || parts.get(1).and_then(|run| run.parse().ok());
        match (parts.as_slice(), run()) {
            (["runs", _, "log", seq], Some(run)) => Self::Log {
                run,
                seq: seq.trim_end_matches(".json").parse().unwrap_or(0),
                record: read(bytes),
            },
            (["runs", _, "attempts", _, _, "ticket.json"], _) => Self::Ticket {
                ticket: read(bytes),
            },
            (["runs", _, "attempts", _, _, "claim.json"], _) => Self::Claim { claim: read(bytes) },
            (["runs", _, "attempts", _, _, "end.json"], _) => Self::End { end: read(bytes) },
            (["runs", _, "outcomes", _], Some(run)) => Self::Outcome {
                run,
                outcome: read(bytes),
            },
            (["runs", _, "end.json"], Some(run)) => Self::RunEnd {
                run,
                end: read(bytes),
            },
            (["runs", _, "refs", _], _) => Self::Reference,
            (["runs" | "snapshots", _, "tombstone"], _) => Self::Tombstone,
            (["verdicts", _], _) => Self::Verdict,
            (["runs", _, "run.json"], _) => Self::RunJson {
                record: read(bytes),
            },
            (["runs", _, "reuse", _], _) => Self::ReuseNote,
            (["runs", _, "data", _, _, "outputs", ..], _) => Self::Output,
            (["runs", _, "data", _, _, "manifests", _], _) => Self::Manifest,
            (["runs", _, "checkpoints", _, _, _, "manifest.json"], _) => Self::CheckpointManifest,
            (["runs", _, "checkpoints", ..], _) => Self::Checkpoint,
            (["reuse", "last", ..], _) => Self::ReuseLast,
            (["reuse", _], _) => Self::ReuseEntry,
            (["runs", _, "registrations", ..], _) => Self::Registration,
            (["assets", ..], _) => Self::Asset,
            (["exports", ..], _) => Self::Export,
            _ => Self::Other,
        }
    }

    /// Whether a driver decides it, on what the log says.
    pub(super) fn is_decided(&self) -> bool {
        match self {
            Self::Outcome { outcome, .. } => {
                let success = |outcome: &Outcome| outcome.status.is_success();
                !outcome.as_deref().is_some_and(success)
            }
            Self::RunEnd { .. } => true,
            _ => false,
        }
    }

    /// Whether it is created once, and never written again.
    pub(super) fn is_once(&self) -> bool {
        matches!(
            self,
            Self::Log { .. }
                | Self::Claim { .. }
                | Self::End { .. }
                | Self::Outcome { .. }
                | Self::RunEnd { .. }
                | Self::Registration
                | Self::Asset
        )
    }
}
