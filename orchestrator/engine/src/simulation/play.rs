//! Plays a schedule: a runtime whose time is paused and runs on by itself, drivers
//! that are started again as a user would, and what is looked at in the end.

use super::keeper;
use super::machine::Handle;
use super::objects;
use super::points::{Actor, Kills};
use super::schedule::{Part, Schedule, Trouble};
use super::truth::Truth;
use super::world::{Pid, Shared, World};
use crate::driver::{self, Control, DriveError, Driven, Driver, Observer};
use auria_core::outcome::{Outcome, RunEnd, Status};
use auria_core::run::coverage::{self, Counts};
use auria_core::run::{Limits, RunState};
use auria_core::{AttemptId, Digest, RunId, StepPath, Timestamp, mutant};
use auria_store::registry::AssetRecord;
use auria_store::runs::{self, RUN_VERSION, RunJson, Submitter};
use auria_store::{Journal, Store, StoreError, layout, outside, snapshot};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The virtual time at which every schedule begins.
pub(super) const BEGIN: Timestamp = Timestamp(1_767_225_600_000);
/// A run that has not ended so long after the last disturbance never will.
const PATIENCE_MS: u64 = 900_000;
/// What a process that was cut off may still do after the end.
const DRAIN_MS: u64 = 300_000;
/// A submission that fails is made again so often: a deletion that was cut short may stand in
/// its way for ten minutes.
const MOST_SUBMISSIONS: u32 = 20;
/// A run that needs more drivers than this goes round in circles.
const MOST_DRIVERS: u32 = 60;

/// What came of a schedule.
#[derive(Debug)]
pub struct Played {
    /// Its seed.
    pub seed: u64,
    /// What must not be, where something was.
    pub wrong: Option<String>,
    /// What happened, where that was asked for.
    pub trace: Vec<String>,
    /// Requests to the store and the executor.
    pub requests: u64,
    /// Processes that were killed.
    pub deaths: u32,
    /// Which state met which event.
    pub(super) met: Counts,
    /// Where processes were killed.
    pub(super) kills: Kills,
}

/// Plays the schedule of `seed`, with `mutant` alive where one is given.
#[must_use]
pub fn play(seed: u64, mutant: Option<mutant::Mutant>, traced: bool) -> Played {
    mutant::set(mutant);
    let _ = coverage::take();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let world = runtime.block_on(stage(seed, traced));
    drop(runtime);
    outside::simulated::leave();
    mutant::set(None);
    let mut world = world.lock();
    Played {
        seed,
        wrong: world.wrong.take(),
        trace: world.trace.take().unwrap_or_default(),
        requests: world.requests,
        deaths: world.deaths,
        met: coverage::take(),
        kills: std::mem::take(&mut world.kills),
    }
}

async fn stage(seed: u64, traced: bool) -> Shared {
    let Schedule {
        mut dice,
        runs,
        weather,
        launcher_deaths,
        forgets,
        patience_ms,
        calm_ms,
        keepers,
        has_orphan,
        clock_skew_ms,
        damage_ms,
    } = Schedule::of(seed);
    outside::simulated::enter(BEGIN, dice.next());
    let mut world = World::new(dice, weather, traced);
    world.clock_skew_ms = clock_skew_ms;
    world.longest_grace_ms = keepers.iter().map(|keeper| keeper.grace_ms).max();
    world.machine.forgets = forgets;
    world.machine.patience = Duration::from_millis(patience_ms);
    world.machine.deaths = launcher_deaths;
    for part in &runs {
        let truth = Truth::new(part.run.clone(), &part.pipeline);
        world.truths.insert(part.run.clone(), truth);
        let scripts = part.pipeline.scripts.clone();
        world.machine.scripts.insert(part.run.clone(), scripts);
    }
    let world = Shared::new(world);
    let stage = world.lock().begin(Actor::Stage, "stage".into(), None);
    let mut tasks = JoinSet::new();
    let shared = world.clone();
    tasks.spawn(async move {
        tokio::time::sleep(Duration::from_millis(calm_ms)).await;
        let mut world = shared.lock();
        world.say(None, || "calm from here on".into());
        world.calm = true;
    });
    for part in runs {
        let conductor = Conductor::new(world.clone(), part);
        tasks.spawn(conductor.conduct());
    }
    if has_orphan
        && upload(&objects::store(&world, stage), &code())
            .await
            .is_err()
    {
        world.lock().violated("the stage cannot be set");
    }
    let keep = |keeper| keeper::keep(world.clone(), keeper);
    let mut keepers: FuturesUnordered<_> = keepers.into_iter().map(keep).collect();
    if let Some(at) = damage_ms {
        tasks.spawn(damage(world.clone(), at));
    }
    let limit = tokio::time::sleep(Duration::from_millis(calm_ms + PATIENCE_MS));
    tokio::pin!(limit);
    let news = world.lock().news.clone();
    loop {
        if world.lock().wrong.is_some() {
            return world;
        }
        tokio::select! {
            biased;
            () = news.notified() => {}
            ended = tasks.join_next() => match ended {
                None if keepers.is_empty() => break,
                None => drop(keepers.next().await),
                Some(Ok(())) => {}
                Some(Err(error)) => world.lock().violated(format!("the stage failed: {error}")),
            },
            Some(()) = keepers.next() => {}
            () = &mut limit => {
                let mut world = world.lock();
                let left: Vec<_> = world
                    .truths
                    .values()
                    .filter(|truth| truth.end.is_none() && !truth.deleted)
                    .map(|truth| truth.run.to_string())
                    .collect();
                world.violated(format!("runs do not end: {}", left.join(", ")));
            }
        }
    }
    drain(&world).await;
    if world.lock().wrong.is_none() {
        finish(&world, stage).await;
    }
    world
}

/// Waits for what may still run, which ends by itself.
async fn drain(world: &Shared) {
    let until = Instant::now() + Duration::from_millis(DRAIN_MS);
    loop {
        {
            let mut held = world.lock();
            while let Some(ended) = held.tasks.try_join_next() {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    held.violated(format!("a launcher panicked: {error}"));
                }
            }
            if held.tasks.is_empty() || held.wrong.is_some() {
                return;
            }
            if Instant::now() > until {
                // One that nobody with the run asked for may hang for ever.
                let ghost = |pid: &Pid| {
                    held.machine
                        .launchers
                        .get(pid)
                        .is_some_and(|launcher| launcher.ghost)
                };
                let left: Vec<_> = held
                    .processes
                    .iter()
                    .enumerate()
                    .filter(|(pid, process)| {
                        process.alive && process.actor != Actor::Stage && !ghost(pid)
                    })
                    .map(|(_, process)| process.name.clone())
                    .collect();
                if !left.is_empty() {
                    held.violated(format!("left running: {}", left.join(", ")));
                }
                return;
            }
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// What must hold of each run once all is quiet.
async fn finish(world: &Shared, stage: Pid) {
    let store = objects::store(world, stage);
    keeper::tidy_up(world, &store).await;
    let runs: Vec<RunId> = world.lock().truths.keys().cloned().collect();
    for run in runs {
        if world.lock().truths[&run].deleted {
            continue;
        }
        let journal = Journal::new(store.clone(), run.clone());
        let found = match journal.recover().await {
            Ok(found) => found,
            Err(error) => {
                world
                    .lock()
                    .violated(format!("{run} cannot be read: {error}"));
                return;
            }
        };
        let mut held = world.lock();
        let Some(truth) = held.truths.get(&run) else {
            continue;
        };
        let epoch = found
            .log
            .iter()
            .map(|record| record.epoch)
            .max()
            .unwrap_or(0);
        let (state, _) = RunState::recover(
            truth.plan.clone(),
            run.clone(),
            epoch,
            found,
            Limits::default(),
            outside::now(),
        );
        let recovered = Final::of(&state);
        let mut wrong = Vec::new();
        match (&held.finals.get(&run), &recovered) {
            (_, None) => wrong.push(format!("{run} has no end")),
            (Some(told), Some(found)) if *told != found => wrong.push(format!(
                "what {run}'s driver saw is not what the store holds: {told:?}, {found:?}"
            )),
            _ => {}
        }
        wrong.extend(wrong_deliveries(&held, truth));
        let named = format!("{:?}", code().to_string());
        let code = layout::snapshot_manifest(&code()).to_string();
        let run_json = held.objects.get(&format!("runs/{run}/run.json"));
        if run_json.is_some_and(|bytes| String::from_utf8_lossy(bytes).contains(&named))
            && !held.objects.contains_key(&code)
        {
            wrong.push(format!("{run} stays, and {code} is gone"));
        }
        for what in wrong {
            held.violated(what);
        }
    }
}

/// Registered and exported is what was to be, once.
fn wrong_deliveries(world: &World, truth: &Truth) -> Vec<String> {
    let mut wrong = Vec::new();
    let assets: Vec<AssetRecord> = world
        .objects
        .range("assets/".to_owned()..)
        .take_while(|(path, _)| path.starts_with("assets/"))
        .filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok())
        .collect();
    let problems = truth.end.as_ref().map_or(0, |end| end.problems.len());
    for (i, step) in truth.plan.steps.iter().enumerate() {
        let Some(outcome) = truth.outcomes.get(&step.path) else {
            wrong.push(format!("{} has no outcome", step.path));
            continue;
        };
        let success = outcome.status.is_success();
        let registered = assets
            .iter()
            .filter(|asset| {
                asset
                    .origin
                    .as_ref()
                    .is_some_and(|origin| origin.run == truth.run && origin.step == step.path)
            })
            .count();
        let output = step.outputs.get("out");
        let wanted = usize::from(success && output.is_some_and(|out| out.register.is_some()));
        if registered > wanted || (registered < wanted && problems == 0) {
            wrong.push(format!(
                "{} of {} is registered {registered} times, not {wanted}",
                step.path, truth.run
            ));
        }
        if success && output.is_some_and(|out| out.export.is_some()) {
            let path = format!("exports/{i}/manifest.json");
            if !world.objects.contains_key(&path) && problems == 0 {
                wrong.push(format!("{} of {} is not exported", step.path, truth.run));
            }
        }
        if success && !truth.damaged {
            for artifact in outcome.outputs.values() {
                if !world.objects.contains_key(&artifact.manifest) {
                    wrong.push(format!(
                        "{} of {} ended well, and {} is gone",
                        step.path, truth.run, artifact.prefix
                    ));
                }
            }
        }
    }
    wrong
}

/// How a run ended, as one reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Final {
    end: RunEnd,
    steps: BTreeMap<StepPath, (Status, Option<Arc<Outcome>>)>,
}

impl Final {
    fn of(state: &RunState) -> Option<Self> {
        let end = state.view().end.cloned()?;
        let steps = state
            .steps()
            .map(|step| (step.step.path.clone(), (step.status, step.outcome.cloned())));
        Some(Self {
            end,
            steps: steps.collect(),
        })
    }
}

/// Keeps what a driver saw last; in a trace, also how it got there.
struct Seen {
    last: Option<Final>,
    traced: Option<(Shared, Pid)>,
}

impl Observer for Seen {
    fn changed(&mut self, state: &RunState, _: Timestamp) {
        if state.is_over() {
            self.last = Final::of(state);
        }
        if let Some((world, pid)) = &self.traced {
            let mut text = format!("sees {:?}", state.status());
            for step in state.changed() {
                text.push_str(&format!(", {} {:?}", step.step.path, step.status));
            }
            let open: Vec<_> = state.open_attempts().map(|id| id.to_string()).collect();
            if !open.is_empty() {
                text.push_str(&format!("; may run: {}", open.join(" ")));
            }
            world.lock().say(Some(*pid), || text);
        }
    }

    fn line(&mut self, _: &AttemptId, _: &str) {}
}

type Ended = (Pid, Result<Driven, DriveError>, Option<Final>);

/// Starts the drivers of a run, as people and machines would.
struct Conductor {
    world: Shared,
    part: Part,
    drivers: JoinSet<Ended>,
    controls: Vec<(Pid, mpsc::Sender<Control>)>,
    started: u32,
    /// The run was deleted before it had ended.
    gone: bool,
    cancelers: JoinSet<()>,
}

impl Conductor {
    fn new(world: Shared, part: Part) -> Self {
        Self {
            world,
            part,
            drivers: JoinSet::new(),
            controls: Vec::new(),
            started: 0,
            gone: false,
            cancelers: JoinSet::new(),
        }
    }

    async fn conduct(mut self) {
        if self.part.after_first {
            keeper::first_ended(&self.world).await;
        }
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(self.part.begins_ms)).await;
        if let Err(error) = self.submit().await
            && !self.is_deleted()
        {
            let what = format!("{} cannot be submitted: {error}", self.part.run);
            self.world.lock().violated(what);
            return;
        }
        self.start();
        let mut troubles = std::mem::take(&mut self.part.troubles)
            .into_iter()
            .peekable();
        let mut again: Option<Instant> = None;
        loop {
            let over = {
                let world = self.world.lock();
                let truth = world.truths.get(&self.part.run);
                let ended = truth.is_some_and(|truth| truth.end.is_some());
                world.wrong.is_some() || ended || self.gone
            };
            if self.drivers.is_empty() && over {
                break;
            }
            if self.drivers.is_empty() && again.is_none() {
                let wait = self.world.lock().dice.within(0..=2_000);
                again = Some(Instant::now() + Duration::from_millis(wait));
            }
            let begins = self.part.begins_ms;
            let next = troubles
                .peek()
                .map(|(at, _)| began + Duration::from_millis(begins + at));
            tokio::select! {
                biased;
                ended = self.drivers.join_next(), if !self.drivers.is_empty() => {
                    if let Some(ended) = ended {
                        self.ended(ended);
                    }
                }
                () = until(next) => {
                    if let Some((_, trouble)) = troubles.next() {
                        self.trouble(trouble);
                    }
                }
                () = until(again) => {
                    again = None;
                    self.start();
                }
            }
        }
        while self.cancelers.join_next().await.is_some() {}
    }

    /// Submits the run as the command does, and again where the store fails.
    async fn submit(&self) -> Result<(), StoreError> {
        let name = format!("submit {}", self.part.run);
        let pid = self.world.lock().begin(Actor::Submitter, name, None);
        let store = objects::store(&self.world, pid);
        let mut record = RunJson {
            version: RUN_VERSION,
            run: self.part.run.clone(),
            nonce: driver::nonce(),
            state: runs::RunState::Preparing,
            created: outside::now(),
            by: Submitter::default(),
            target: "simulated".into(),
            parameters: BTreeMap::new(),
            snapshots: self.part.has_code.then(code).into_iter().collect(),
            sources: BTreeMap::new(),
            retry_of: None,
            plan: self.part.pipeline.plan.clone(),
        };
        let mut tries = 0;
        loop {
            let submitted = async {
                runs::create(&store, &record).await?;
                for digest in &record.snapshots.clone() {
                    upload(&store, digest).await?;
                }
                runs::mark_ready(&store, &mut record).await
            };
            match submitted.await {
                // It is deleted by one who does not wait until it begins.
                Err(_) if self.is_deleted() => break,
                Err(_) if tries < MOST_SUBMISSIONS => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
                submitted => {
                    submitted?;
                    break;
                }
            }
        }
        self.world.lock().end(pid);
        Ok(())
    }

    fn is_deleted(&self) -> bool {
        let world = self.world.lock();
        let truth = world.truths.get(&self.part.run);
        truth.is_some_and(|truth| truth.deleted)
    }

    fn start(&mut self) {
        self.started += 1;
        let mut world = self.world.lock();
        if self.started > MOST_DRIVERS {
            world.violated(format!(
                "{MOST_DRIVERS} drivers did not bring the run to its end"
            ));
            return;
        }
        let death = if world.calm {
            None
        } else {
            self.part.driver_deaths.pop()
        };
        let name = format!("driver {}.{}", self.part.run, self.started);
        let pid = world.begin(Actor::Driver, name.clone(), death);
        let pause = self.part.pause.filter(|(which, ..)| *which == self.started);
        world.processes[pid].pause = pause.map(|(_, nth, ms)| (nth, ms));
        world.say(Some(pid), || format!("begins, to die {death:?}"));
        let driver = Driver {
            run: self.part.run.clone(),
            plan: self.part.pipeline.plan.clone(),
            store: objects::store(&self.world, pid),
            executor: Arc::new(Handle {
                world: self.world.clone(),
                pid,
            }),
            limits: self.part.limits.clone(),
            name,
            now: outside::now,
        };
        // A person presses Ctrl-C a few times.
        let (control, controlled) = mpsc::channel(8);
        self.controls.push((pid, control));
        let shared = self.world.clone();
        let task = self.drivers.spawn(async move {
            let traced = shared.lock().trace.is_some();
            let mut seen = Seen {
                last: None,
                traced: traced.then(|| (shared.clone(), pid)),
            };
            let driven = driver.drive(None, controlled, &mut seen).await;
            shared.lock().end(pid);
            (pid, driven, seen.last)
        });
        world.embody(pid, task);
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let mut world = self.world.lock();
        match ended {
            Ok((pid, driven, seen)) => {
                self.controls.retain(|(of, _)| *of != pid);
                world.say(Some(pid), || match &driven {
                    Ok(Driven::Ended(end)) => format!("ended: {:?}", end.status),
                    other => format!("left: {other:?}"),
                });
                let truth = world.truths.get(&self.part.run);
                self.gone |= truth.is_some_and(|truth| truth.deleted)
                    || matches!(driven, Err(DriveError::Deleted { .. }));
                if let Ok(Driven::Ended(end)) = &driven {
                    let stands = world
                        .truths
                        .get(&self.part.run)
                        .and_then(|truth| truth.end.as_ref());
                    // One that learns late ends a run that was deleted, or is being deleted;
                    // nobody reads that.
                    let going = self.gone || world.is_going(&self.part.run);
                    if stands != Some(end) && !going {
                        let what = format!("a driver saw the end {end:?}, and {stands:?} stands");
                        world.violated(what);
                    }
                }
                if let Some(seen) = seen {
                    world.finals.insert(self.part.run.clone(), seen);
                }
            }
            // It was killed.
            Err(error) if error.is_cancelled() => {}
            Err(error) => world.violated(format!("a driver panicked: {error}")),
        }
    }

    fn trouble(&mut self, trouble: Trouble) {
        let by = || "someone".to_owned();
        let newest = self.controls.last().map(|(_, control)| control);
        match trouble {
            Trouble::Rival => self.start(),
            Trouble::CancelOutside => {
                let mut world = self.world.lock();
                let death = self.part.canceler_death.take().filter(|_| !world.calm);
                let pid = world.begin(Actor::Canceler, "canceler".into(), death);
                let (shared, run) = (self.world.clone(), self.part.run.clone());
                let task = self.cancelers.spawn(async move {
                    let store = objects::store(&shared, pid);
                    for _ in 0..20 {
                        if driver::request_cancel(&store, &run, "someone", outside::now)
                            .await
                            .is_ok()
                        {
                            break;
                        }
                        tokio::time::sleep(Duration::from_secs(3)).await;
                    }
                    shared.lock().end(pid);
                });
                world.embody(pid, task);
            }
            Trouble::Cancel => {
                if newest.is_none_or(|to| to.try_send(Control::Cancel { by: by() }).is_err()) {
                    self.trouble(Trouble::CancelOutside);
                }
            }
            Trouble::Kill => {
                if let Some(to) = newest {
                    let _ = to.try_send(Control::Kill { by: by() });
                }
            }
            Trouble::Detach => {
                if let Some(to) = newest {
                    let _ = to.try_send(Control::Detach);
                }
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Removes an output's file of the first run by hand, where nobody uses it yet.
async fn damage(world: Shared, at_ms: u64) {
    tokio::time::sleep(Duration::from_millis(at_ms)).await;
    let mut world = world.lock();
    let alone = world.truths.values().all(|truth| {
        truth.end.is_some() == (truth.run.as_str() == "a")
            && (truth.end.is_some() || truth.log.is_empty())
    });
    let file = world
        .objects
        .keys()
        .find(|path| path.starts_with("runs/a/data/") && path.contains("/outputs/"))
        .cloned();
    if let Some(path) = file.filter(|_| alone) {
        world.say(None, || format!("someone removes {path}"));
        world.objects.remove(&path);
        for truth in world.truths.values_mut() {
            truth.damaged |= truth.run.as_str() == "a";
        }
    }
}

/// What all runs that need a snapshot need.
fn code() -> Digest {
    Digest::of(b"code")
}

/// Uploads a snapshot of one file, unless the store has it.
async fn upload(store: &Store, digest: &Digest) -> Result<(), StoreError> {
    if snapshot::exists(store, digest).await? {
        return Ok(());
    }
    let file = layout::snapshot_files(digest).join("file");
    store.write(&file, "code").await?;
    store.write(&layout::snapshot_manifest(digest), "[]").await
}
