//! The executor `docker` keeps what every executor must keep, with real engines: Docker's
//! and Podman's. And what it promises beyond: images that are wrong, engines that go
//! away, containers whose launchers are gone. Real launchers: this very program, called
//! with `launch FOLDER`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use auria_core::AttemptId;
use auria_core::outcome::Cause;
use auria_core::plan::Environment;
use auria_core::run::{AttemptNews, Phase};
use auria_engine::conformance::{Bench, SECRET, World, cases};
use auria_engine::docker::{Client, DockerExecutor};
use auria_engine::executor::Executor;
use auria_engine::machine::{Machine, MachineConfig};
use auria_engine::process::{LauncherCommand, ProcessOptions};
use auria_launcher::runtime::{AttemptFolder, RuntimeRoot};
use auria_launcher::wire;
use auria_store::{Access, Store};
use auria_tests::engine::{self, Engine, Kind};
use futures::future::{FutureExt, LocalBoxFuture};
use libtest_mimic::{Arguments, Failed, Trial};
use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const IMAGE: &str = "test.local/bookworm:1";
const DOCKER: Kind = Kind::Docker {
    live_restore: false,
};

/// The cases that Podman passes as well: those that are about the engine.
const ON_PODMAN: &[&str] = &[
    "an_outcome_tells_what_happened",
    "starting_twice_is_one_claim",
    "stopping_twice_is_one_end",
    "exit_codes_and_signals_are_told",
    "what_takes_too_long_is_ended",
    "what_daemonises_is_ended",
    "names_of_files_are_kept",
    "stop_while_running",
    "a_killed_launcher_is_gone_with_its_step",
    "memory_that_runs_out_is_told",
    "cpus_are_held",
    "no_network_is_kept_or_refused",
    "what_a_step_makes_belongs_to_the_user",
    "nothing_of_the_store_is_seen",
];

/// The engines of this program, one for all cases of a kind.
static ENGINES: [Mutex<Option<Engine>>; 2] = [Mutex::new(None), Mutex::new(None)];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let [_, what, folder] = arguments.as_slice()
        && what == "launch"
    {
        return auria_engine::docker::launch(folder.into());
    }
    if std::env::var_os(SECRET.0).is_none() {
        // For launchers, which inherit it; set before this program has threads.
        let error = Command::new(std::env::current_exe().unwrap())
            .args(&arguments[1..])
            .env(SECRET.0, SECRET.1)
            .exec();
        panic!("this program cannot be started again: {error}");
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(3));
    let mut trials = Vec::new();
    let why_not = engine::missing(DOCKER);
    for (name, case) in cases::<Machines<0>>() {
        trials.push(trial(format!("docker::{name}"), &why_not, move || {
            Box::pin(async move { case(Machines::new().await).await })
        }));
    }
    macro_rules! own {
        ($($name:ident),* $(,)?) => {
            $(trials.push(trial(format!("docker::{}", stringify!($name)), &why_not, || {
                async { $name(World::on(Machines::new().await)).await }.boxed_local()
            }));)*
        };
    }
    own![
        an_image_that_is_not_there_is_named,
        an_image_without_a_shell_is_named,
        shared_memory_is_as_large_as_asked_for,
        a_container_without_a_trace_is_swept,
        another_machines_engine_is_refused,
    ];
    for (name, live_restore) in [
        ("an_engine_that_is_killed_is_told", false),
        ("an_engine_that_keeps_containers_costs_nothing", true),
    ] {
        trials.push(trial(format!("docker::{name}"), &why_not, move || {
            restarted(live_restore).boxed_local()
        }));
    }
    let why_not = engine::missing(Kind::Podman);
    for (name, case) in cases::<Machines<1>>() {
        if ON_PODMAN.contains(&name) {
            trials.push(trial(format!("podman::{name}"), &why_not, move || {
                Box::pin(async move { case(Machines::new().await).await })
            }));
        }
    }
    let code = libtest_mimic::run(&arguments, trials).exit_code();
    for engine in &ENGINES {
        drop(engine.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
    code
}

fn trial(
    name: String,
    why_not: &Option<String>,
    run: impl FnOnce() -> LocalBoxFuture<'static, ()> + Send + 'static,
) -> Trial {
    let ignored = why_not.is_some();
    if let Some(why) = why_not {
        eprintln!("skipped: {name}: {why}");
    }
    let test = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(run());
        Ok::<(), Failed>(())
    };
    Trial::test(name, test).with_ignored_flag(ignored)
}

/// A machine with a store, a runtime folder and a work folder of its own, beside the
/// engine that all cases of a kind share: Docker's (0) or Podman's (1).
struct Machines<const KIND: usize> {
    dir: tempfile::TempDir,
    store: Store,
    runtime: RuntimeRoot,
    client: Client,
    image: String,
}

impl<const KIND: usize> Machines<KIND> {
    fn address() -> String {
        let mut engine = ENGINES[KIND].lock().unwrap_or_else(PoisonError::into_inner);
        let engine = engine.get_or_insert_with(|| {
            let engine = Engine::start([DOCKER, Kind::Podman][KIND]);
            engine.import(&engine::root("bookworm"), IMAGE);
            engine.import_without_shell("test.local/without-shell:1");
            engine
        });
        engine.address()
    }

    async fn beside(address: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = dir.path().join("store").to_str().unwrap().parse().unwrap();
        let store = Store::open(&url, Access::Write).await.unwrap();
        let runtime = RuntimeRoot::at(dir.path().join("r")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        Self {
            dir,
            store,
            runtime,
            client: Client::new(&address),
            image: IMAGE.to_owned(),
        }
    }

    fn folder(&self, attempt: &AttemptId) -> AttemptFolder {
        self.runtime.attempt(&self.store.url().to_string(), attempt)
    }

    fn launcher(&self, attempt: &AttemptId) -> i32 {
        let stream =
            std::os::unix::net::UnixStream::connect(self.folder(attempt).socket()).unwrap();
        let mut line = String::new();
        std::io::BufReader::new(stream)
            .read_line(&mut line)
            .unwrap();
        match serde_json::from_str(&line).unwrap() {
            wire::Line::Hello { pid, .. } => i32::try_from(pid).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn label(&self) -> String {
        format!("auria-pipeline.runtime={}", self.runtime.path().display())
    }

    async fn containers(&self) -> Vec<String> {
        let found = self.client.containers_with(&self.label()).await.unwrap();
        found.into_iter().map(|(name, _)| name).collect()
    }
}

#[async_trait::async_trait]
impl<const KIND: usize> Bench for Machines<KIND> {
    async fn new() -> Self {
        let address = tokio::task::spawn_blocking(Self::address).await.unwrap();
        Self::beside(address).await
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn environment(&self) -> Environment {
        Environment::Image {
            image: self.image.clone(),
            cuda: None,
        }
    }

    fn executor(&self) -> Box<dyn Executor> {
        let options = ProcessOptions {
            store: self.store.clone(),
            runtime: self.runtime.clone(),
            launcher: LauncherCommand::of_this_program(&["launch"]).unwrap(),
            machine: Machine::detect(&MachineConfig {
                cpu_millis: Some(2000),
                memory_bytes: Some(1 << 30),
                gpus: Some(Vec::new()),
            }),
            work_root: self.dir.path().join("work"),
            path: Vec::new(),
            store_patience: Duration::from_secs(2),
        };
        let mounts: Vec<PathBuf> = vec![self.dir.path().join("outside")];
        let made = DockerExecutor::new(options, self.client.clone(), mounts);
        let made = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(made));
        Box::new(made.unwrap())
    }

    fn isolates(&self) -> bool {
        true
    }

    fn limits_memory(&self) -> bool {
        true
    }

    fn kill_launcher(&self, attempt: &AttemptId) {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.launcher(attempt)),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
    }

    async fn nothing_left(&self) {
        let count = |path| std::fs::read_dir(path).map_or(0, std::iter::Iterator::count);
        for _ in 0..250 {
            if count(self.dir.path().join("work")) == 0
                && count(self.runtime.path().join("attempts")) == 0
                && self.containers().await.is_empty()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left = Command::new("find")
            .arg(self.dir.path().join("work"))
            .arg(self.runtime.path())
            .output();
        panic!(
            "left: {} and the containers {:?}",
            String::from_utf8_lossy(&left.unwrap().stdout),
            self.containers().await
        );
    }
}

type OnDocker = World<Machines<0>>;

async fn an_image_that_is_not_there_is_named(mut world: OnDocker) {
    world.bench.image = "localhost/no-such-image:1".to_owned();
    let ticket = world.ticket("step", "true");
    let end = world.fails(&ticket, Cause::Image).await;
    assert!(
        end.message.contains("`localhost/no-such-image:1`"),
        "{}",
        end.message
    );
    assert_eq!(end.exit_code, None);
    world.over().await;
}

async fn an_image_without_a_shell_is_named(mut world: OnDocker) {
    world.bench.image = "test.local/without-shell:1".to_owned();
    let ticket = world.ticket("step", "true");
    let end = world.fails(&ticket, Cause::Image).await;
    assert!(
        end.message.contains("neither `bash` nor `sh`"),
        "{}",
        end.message
    );
    world.over().await;
}

async fn shared_memory_is_as_large_as_asked_for(mut world: OnDocker) {
    let mut ticket = world.ticket("step", "df --output=size -k /dev/shm | tail -1");
    ticket.resources.shm_bytes = Some(12 << 20);
    let outcome = world.completes(&ticket).await;
    assert_eq!(outcome.last_lines[0].trim(), (12 << 10).to_string());
    world.over().await;
}

/// The runtime folder may vanish at any time; then only its label tells of a container.
async fn a_container_without_a_trace_is_swept(mut world: OnDocker) {
    let ticket = world.ticket("step", "echo up; sleep 300");
    world.start(&ticket).await;
    world.said(&ticket.attempt, "up").await;
    let launcher = world.bench.launcher(&ticket.attempt);
    world.executor = world.bench.executor();
    let folder = world.bench.folder(&ticket.attempt);
    // Its launcher and its executor still write into it.
    while folder.path().exists() {
        let _ = std::fs::remove_dir_all(folder.path());
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(launcher),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    while std::fs::read_to_string(format!("/proc/{launcher}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z"))
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let next = world.bench.executor();
    for _ in 0..500 {
        if world.bench.containers().await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(world.bench.containers().await.is_empty());
    assert_eq!(world.processes(), 0);
    drop(next);
    // Its work folder is found by nobody: that is what a vanished runtime folder costs.
    std::fs::remove_dir_all(world.bench.dir.path().join("work")).unwrap();
    world.over().await;
}

async fn another_machines_engine_is_refused(world: OnDocker) {
    let facts = world.bench.client.facts().await.unwrap();
    assert!(!facts.version.is_empty() && facts.to_string().starts_with("Docker "));
    let nowhere = Client::new("unix:///nowhere/docker.sock");
    let error = nowhere.facts().await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/docker.sock"), "{error}");
    world.over().await;
}

/// An engine that is killed while a step runs, and started again.
async fn restarted(live_restore: bool) {
    let mut engine = tokio::task::spawn_blocking(move || {
        let engine = Engine::start(Kind::Docker { live_restore });
        engine.import(&engine::root("bookworm"), IMAGE);
        engine
    })
    .await
    .unwrap();
    let machines = Machines::<0>::beside(engine.address()).await;
    let mut world = World::on(machines);
    let go = world.outside("go");
    let command = format!(
        "echo up; until [ -e {} ]; do sleep 0.05; echo tick; done; echo over",
        go.display()
    );
    let ticket = world.ticket("step", command);
    world.start(&ticket).await;
    world.said(&ticket.attempt, "up").await;
    world.phase(&ticket.attempt, Phase::Running).await;
    // The engine has answered the start by then, and knows the container as running.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let engine = tokio::task::spawn_blocking(move || {
        engine.crash();
        std::thread::sleep(Duration::from_secs(1));
        engine.begin();
        engine
    })
    .await
    .unwrap();
    if live_restore {
        std::fs::write(&go, "").unwrap();
        let last = world.last(&ticket.attempt).await;
        assert!(
            matches!(&last, AttemptNews::Committed { outcome } if outcome.last_lines.last().is_some_and(|line| line == "over")),
            "{last:?}"
        );
    } else {
        let end = world.ended(&ticket.attempt, Cause::NodeLost).await;
        assert!(end.message.contains("engine went away"), "{}", end.message);
        // The next attempt of the step finds the engine again.
        std::fs::write(&go, "").unwrap();
        let mut again = ticket.clone();
        again.attempt.number = 2;
        again.claims_before = 1;
        let outcome = world.completes(&again).await;
        assert_eq!(outcome.attempts, 2);
    }
    world.over().await;
    tokio::task::spawn_blocking(move || drop(engine))
        .await
        .unwrap();
}
