//! The executor `process` keeps what every executor must keep, and what it promises
//! beyond: a machine that is shared, GPUs of one's own, memory that runs out.
//! Real launchers: this very program, called with `launch FOLDER`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod warm;

use auria_core::outcome::Cause;
use auria_core::plan::{DataType, Environment, ProcessEnvironment, TemplatePart};
use auria_core::run::{AttemptNews, Phase};
use auria_core::{AttemptId, RunId};
use auria_engine::conformance::{Bench, Case, World, cases};
use auria_engine::executor::{Executor, StartError};
use auria_engine::machine::{Machine, MachineConfig};
use auria_engine::process::{LauncherCommand, ProcessExecutor, ProcessOptions};
use auria_launcher::runtime::{AttemptFolder, LAUNCH, RuntimeRoot};
use auria_launcher::tree::Tree;
use auria_launcher::{LaunchOptions, wire};
use auria_store::{Access, Store};
use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::StreamExt;
use libtest_mimic::{Arguments, Trial};
use std::io::BufRead;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let [_, what, folder] = arguments.as_slice()
        && what == "launch"
    {
        return auria_engine::docker::launch(folder.into());
    }
    let mut arguments = Arguments::from_args();
    // Each case starts processes; more at once only wait for each other.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let on_process = cases::<Machines>().into_iter().chain(own_cases());
    let trials = trials(on_process).chain(trials(warm::warm_cases()));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn trials<B: Bench + 'static>(
    cases: impl IntoIterator<Item = Case<B>>,
) -> impl Iterator<Item = Trial> {
    cases.into_iter().map(|(name, case)| {
        Trial::test(name, move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(async { case(B::new().await).await });
            Ok(())
        })
    })
}

/// A runtime folder, a store and a work folder of their own.
struct Machines {
    dir: tempfile::TempDir,
    store: Store,
    runtime: RuntimeRoot,
    machine: Machine,
}

impl Machines {
    fn options(&self) -> ProcessOptions {
        ProcessOptions {
            store: self.store.clone(),
            runtime: self.runtime.clone(),
            launcher: LauncherCommand::of_this_program(&["launch"]).unwrap(),
            machine: self.machine.clone(),
            work_root: self.dir.path().join("work"),
            path: Vec::new(),
            store_patience: Duration::from_secs(2),
        }
    }

    fn folder(&self, attempt: &AttemptId) -> AttemptFolder {
        self.runtime.attempt(&self.store.url().to_string(), attempt)
    }

    /// What the launcher of an attempt says of its own process.
    fn launcher(&self, attempt: &AttemptId) -> i32 {
        let stream =
            std::os::unix::net::UnixStream::connect(self.folder(attempt).socket()).unwrap();
        let mut line = String::new();
        std::io::BufReader::new(stream)
            .read_line(&mut line)
            .unwrap();
        match serde_json::from_str(&line).unwrap() {
            wire::Line::Hello {
                pid,
                attempt: found,
                ..
            } if found == *attempt => i32::try_from(pid).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn signal(&self, attempt: &AttemptId, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.launcher(attempt)), signal).unwrap();
    }
}

#[async_trait::async_trait]
impl Bench for Machines {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = dir.path().join("store").to_str().unwrap().parse().unwrap();
        let store = Store::open(&url, Access::Write).await.unwrap();
        let runtime = RuntimeRoot::at(dir.path().join("r")).unwrap();
        let gpus = Some(vec!["GPU-a".to_owned(), "GPU-b".to_owned()]);
        let machine = Machine::detect(&MachineConfig {
            cpu_millis: Some(2000),
            memory_bytes: Some(1 << 30),
            gpus,
        });
        Self {
            dir,
            store,
            runtime,
            machine,
        }
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn environment(&self) -> Environment {
        Environment::Process(ProcessEnvironment {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            host: "any".to_owned(),
            executable: None,
            image: None,
        })
    }

    fn executor(&self) -> Box<dyn Executor> {
        Box::new(ProcessExecutor::new(self.options()).unwrap())
    }

    fn isolates(&self) -> bool {
        false
    }

    fn limits_memory(&self) -> bool {
        let probe = Tree::create(&format!("probe-{}", rand::random::<u64>()), Some(64 << 20));
        let counts = probe.memory_kills().is_some();
        probe.end_leftovers().unwrap();
        counts
    }

    fn kill_launcher(&self, attempt: &AttemptId) {
        self.signal(attempt, nix::sys::signal::Signal::SIGKILL);
    }

    async fn nothing_left(&self) {
        let count = |path| std::fs::read_dir(path).map_or(0, std::iter::Iterator::count);
        for _ in 0..250 {
            if count(self.dir.path().join("work")) == 0
                && count(self.runtime.path().join("attempts")) == 0
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left = std::process::Command::new("find")
            .arg(self.dir.path().join("work"))
            .arg(self.runtime.path())
            .output();
        panic!("left: {}", String::from_utf8_lossy(&left.unwrap().stdout));
    }
}

fn own_cases() -> Vec<Case<Machines>> {
    macro_rules! own {
        ($($name:ident),* $(,)?) => { vec![$((stringify!($name), |bench| -> LocalBoxFuture<'static, ()> {
            $name(World::on(bench)).boxed_local()
        })),*] };
    }
    own![
        a_wide_run_shares_the_machine_with_another,
        each_has_gpus_of_its_own,
        what_waits_can_be_stopped,
        what_never_fits_is_refused,
        sigterm_to_a_launcher_is_an_eviction,
        a_store_that_is_lost_is_told_and_nothing_half_is_seen,
        a_launcher_that_died_alone_is_cleaned_up_by_the_next_orchestrator,
        a_replaced_executor_knows_what_ended_meanwhile,
        a_launcher_is_born_as_a_child_with_a_session_of_its_own,
        without_a_nursery_launchers_are_started_one_by_one,
    ]
}

type OnProcess = World<Machines>;

async fn a_wide_run_shares_the_machine_with_another(mut world: OnProcess) {
    // Two executors and ten steps of one core each, on two cores.
    let other = world.bench.executor();
    let file = world.outside("running");
    let mut tickets = Vec::new();
    for number in 0..10 {
        let command = format!("echo + >> {0}; sleep 0.2; echo - >> {0}", file.display());
        let ticket = world.ticket(&format!("step{number}"), command);
        if number % 2 == 0 {
            world.start(&ticket).await;
        } else {
            world.journal().write_ticket(&ticket).await.unwrap();
            other.start(&ticket).await.unwrap();
        }
        tickets.push(ticket);
    }
    for ticket in tickets.iter().step_by(2) {
        assert!(matches!(
            world.last(&ticket.attempt).await,
            AttemptNews::Committed { .. }
        ));
    }
    let ours = &world.news;
    assert!(
        ours.values()
            .flatten()
            .any(|news| matches!(news, AttemptNews::Waiting { .. })),
        "{ours:?}"
    );
    for _ in 0..500 {
        if world.journal().read_outcomes().await.unwrap().len() == 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut running, mut most, mut begun) = (0, 0, 0);
    for line in world.read_outside("running").lines() {
        running += if line == "+" { 1 } else { -1 };
        begun += i32::from(line == "+");
        most = most.max(running);
    }
    assert_eq!((running, begun), (0, 10));
    assert_eq!(most, 2, "as many as there are cores, and no more");
    drop(other);
    world.over().await;
}

async fn each_has_gpus_of_its_own(mut world: OnProcess) {
    let command = "echo gpus:$CUDA_VISIBLE_DEVICES; sleep 1";
    let mut tickets = vec![
        world.ticket("none", command),
        world.ticket("one", command),
        world.ticket("two", command),
    ];
    for ticket in &mut tickets {
        ticket.resources.cpu_millis = Some(100);
    }
    tickets[1].resources.gpus = 1;
    tickets[2].resources.gpus = 1;
    for ticket in &tickets {
        world.start(ticket).await;
    }
    let mut seen = Vec::new();
    for ticket in &tickets {
        match world.last(&ticket.attempt).await {
            AttemptNews::Committed { outcome } => seen.push(outcome.last_lines[0].clone()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen[0], "gpus:");
    seen.sort();
    assert_eq!(seen, ["gpus:", "gpus:GPU-a", "gpus:GPU-b"]);
    world.over().await;
}

async fn what_waits_can_be_stopped(mut world: OnProcess) {
    let mut first = world.ticket("first", "echo up; sleep 300");
    first.resources.cpu_millis = Some(2000);
    let second = world.ticket("second", "true");
    world.start(&first).await;
    world.said(&first.attempt, "up").await;
    world.start(&second).await;
    let waits = world
        .until(&second.attempt, |news| {
            matches!(news, AttemptNews::Waiting { .. })
        })
        .await;
    assert_eq!(
        waits,
        AttemptNews::Waiting {
            why: "waits for 1 CPUs: 0 of 2 are free".to_owned()
        }
    );
    let live = world.executor.list(&world.run).await.unwrap();
    assert_eq!(live, [first.attempt.clone(), second.attempt.clone()]);
    world
        .executor
        .stop(&second.attempt, Duration::from_secs(5))
        .await
        .unwrap();
    let last = world.last(&second.attempt).await;
    assert_eq!(
        last,
        AttemptNews::Gone {
            claim: None,
            end: None,
            checkpoint: None
        }
    );
    assert!(
        world
            .journal()
            .read_claim(&second.attempt)
            .await
            .unwrap()
            .is_none()
    );
    world
        .executor
        .stop(&first.attempt, Duration::from_secs(5))
        .await
        .unwrap();
    world.ended(&first.attempt, Cause::Canceled).await;
    world.over().await;
}

async fn what_never_fits_is_refused(world: OnProcess) {
    let mut ticket = world.ticket("step", "true");
    ticket.resources.gpus = 3;
    let refused = world.executor.start(&ticket).await;
    assert!(
        matches!(&refused, Err(StartError::Refused { message }) if message.contains("3 GPUs")),
        "{refused:?}"
    );
    world.over().await;
}

async fn sigterm_to_a_launcher_is_an_eviction(mut world: OnProcess) {
    let ticket = world.ticket("step", "echo up; sleep 300");
    world.start(&ticket).await;
    world.said(&ticket.attempt, "up").await;
    for ignored in [
        nix::sys::signal::Signal::SIGINT,
        nix::sys::signal::Signal::SIGHUP,
    ] {
        world.bench.signal(&ticket.attempt, ignored);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(world.processes() > 0, "a terminal's signals do not end it");
    world
        .bench
        .signal(&ticket.attempt, nix::sys::signal::Signal::SIGTERM);
    let end = world.ended(&ticket.attempt, Cause::Evicted).await;
    assert_eq!(end.exit_code, Some(143));
    world.over().await;
}

async fn a_launcher_is_born_as_a_child_with_a_session_of_its_own(mut world: OnProcess) {
    let ticket = world.ticket("step", "echo up; sleep 300");
    world.start(&ticket).await;
    world.said(&ticket.attempt, "up").await;
    let launcher = world.bench.launcher(&ticket.attempt);
    let stat = std::fs::read_to_string(format!("/proc/{launcher}/stat")).unwrap();
    let (name, rest) = stat.rsplit_once(") ").unwrap();
    // Only what a nursery bore is called so.
    assert!(name.ends_with("(auria-launcher"), "{stat}");
    let fields: Vec<_> = rest.split(' ').skip(1).take(3).collect();
    let own = std::process::id().to_string();
    let launcher = launcher.to_string();
    assert_eq!(
        fields,
        [own.as_str(), &launcher, &launcher],
        "parent, group, session"
    );
    world.bench.kill_launcher(&ticket.attempt);
    let last = world.last(&ticket.attempt).await;
    let AttemptNews::Gone { end: Some(end), .. } = last else {
        panic!("{last:?}");
    };
    assert!(end.message.contains("signal 9"), "{end:?}");
    world.over().await;
}

async fn without_a_nursery_launchers_are_started_one_by_one(world: OnProcess) {
    // A program that becomes a launcher, and no nursery.
    let script = "test \"$1\" != nursery && exec \"$0\" launch \"$1\"";
    let mut launcher = LauncherCommand::of_this_program(&["-c", script]).unwrap();
    launcher.arguments.push(launcher.program.clone().into());
    launcher.program = "/bin/sh".into();
    let executor = ProcessExecutor::new(ProcessOptions {
        launcher,
        ..world.bench.options()
    });
    let executor = executor.unwrap();
    for step in ["one", "two"] {
        let ticket = world.ticket(step, "true");
        world.journal().write_ticket(&ticket).await.unwrap();
        executor.start(&ticket).await.unwrap();
    }
    for _ in 0..500 {
        if world.journal().read_outcomes().await.unwrap().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.journal().read_outcomes().await.unwrap().len(), 2);
    world.over().await;
}

async fn a_store_that_is_lost_is_told_and_nothing_half_is_seen(mut world: OnProcess) {
    let root = world.bench.store().root().unwrap().to_owned();
    let aside = world.outside("store-aside");
    let command = vec![
        TemplatePart::Text(format!(
            "echo up; sleep 1.5; mv {0} {1}; touch {0}; echo x > ",
            root.display(),
            aside.display()
        )),
        TemplatePart::Output("made".to_owned()),
        TemplatePart::Text("/file".to_owned()),
    ];
    let mut ticket = world.ticket_of("step", command);
    ticket
        .outputs
        .insert("made".to_owned(), DataType::UriFolder);
    world.start(&ticket).await;
    let last = world.last(&ticket.attempt).await;
    std::fs::remove_file(&root).unwrap();
    std::fs::rename(&aside, &root).unwrap();
    let AttemptNews::Gone {
        claim: Some(claim),
        end: Some(end),
        ..
    } = last
    else {
        panic!("{last:?}")
    };
    assert_eq!(Some(claim.nonce), end.nonce);
    assert_eq!(end.exit_code, Some(0), "{}", end.message);
    assert!(
        matches!(end.cause, Cause::NodeLost | Cause::Evicted),
        "{end:?}"
    );
    let journal = world.journal();
    assert!(
        journal
            .read_outcome(&ticket.attempt.step)
            .await
            .unwrap()
            .is_none()
    );
    assert!(journal.read_end(&ticket.attempt).await.unwrap().is_none());
    world.over().await;
}

async fn a_launcher_that_died_alone_is_cleaned_up_by_the_next_orchestrator(mut world: OnProcess) {
    let ticket = world.ticket("step", "setsid sleep 300 & echo up; sleep 300");
    world.start(&ticket).await;
    world.said(&ticket.attempt, "up").await;
    // The orchestrator dies, then the launcher; nobody watches this run any more.
    world.executor = Box::new(Nobody);
    world.bench.kill_launcher(&ticket.attempt);
    released(&world, &ticket.attempt).await;
    let next = world.bench.executor();
    for _ in 0..500 {
        if world.processes() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.processes(), 0);
    drop(next);
    // And whoever takes up the run is told.
    world.replace_executor();
    let last = world.last(&ticket.attempt).await;
    assert!(
        matches!(
            last,
            AttemptNews::Gone {
                claim: Some(_),
                end: Some(_),
                ..
            }
        ),
        "{last:?}"
    );
    world.over().await;
}

async fn a_replaced_executor_knows_what_ended_meanwhile(mut world: OnProcess) {
    let ticket = world.ticket("step", "sleep 0.5; exit 3");
    world.start(&ticket).await;
    world.phase(&ticket.attempt, Phase::Running).await;
    world.executor = Box::new(Nobody);
    released(&world, &ticket.attempt).await;
    let folder = world.bench.folder(&ticket.attempt);
    // It left its end in the store, and nothing here.
    assert!(folder.read::<LaunchOptions>(LAUNCH).unwrap().is_none());
    world.replace_executor();
    assert_eq!(world.executor.list(&world.run).await.unwrap(), []);
    world
        .executor
        .stop(&ticket.attempt, Duration::from_secs(1))
        .await
        .unwrap();
    world.ended(&ticket.attempt, Cause::Exit).await;
    world.over().await;
}

/// Waits until no launcher has the attempt.
async fn released(world: &OnProcess, attempt: &AttemptId) {
    let folder = world.bench.folder(attempt);
    let wait = async {
        while folder.is_held().unwrap() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap();
}

/// No executor at all.
struct Nobody;

#[async_trait::async_trait]
impl Executor for Nobody {
    async fn start(&self, _: &auria_core::ticket::Ticket) -> Result<(), StartError> {
        Err(StartError::Unavailable {
            message: "nobody is here".to_owned(),
        })
    }
    async fn stop(
        &self,
        attempt: &AttemptId,
        _: Duration,
    ) -> Result<(), auria_engine::executor::StopError> {
        Err(auria_engine::executor::StopError {
            attempt: attempt.clone(),
            message: "nobody is here".to_owned(),
        })
    }
    async fn list(&self, _: &RunId) -> Result<Vec<AttemptId>, auria_engine::executor::ListError> {
        Ok(Vec::new())
    }
    fn watch(
        &self,
        _: &RunId,
    ) -> futures::stream::BoxStream<
        'static,
        Result<auria_engine::executor::AttemptEvent, auria_engine::executor::WatchError>,
    > {
        futures::stream::empty().boxed()
    }
}
