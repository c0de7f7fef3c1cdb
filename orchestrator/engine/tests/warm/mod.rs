//! Programs that an executor keeps between attempts, as `docs/serve.md` says: each is one
//! step's at a time, and no other's ever.

use super::{Machines, World};
use auria_core::AttemptId;
use auria_core::RunId;
use auria_core::outcome::{Cause, Outcome};
use auria_core::plan::{DataType, Environment, KeepWarm, TemplatePart};
use auria_core::ticket::Ticket;
use auria_engine::conformance::{Bench, Case};
use auria_engine::executor::Executor;
use auria_engine::process::{ProcessExecutor, WarmOptions};
use auria_launcher::tree::Tree;
use auria_store::Store;
use futures::future::{FutureExt, LocalBoxFuture};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A program that stays: says who it is, and does what its arguments say.
const PROGRAM: &str = r#"
import json, os, subprocess, sys, time
if "--mute" in sys.argv:
    print("hello", flush=True)
    time.sleep(60)
print(json.dumps({"ready": True}), flush=True)
jobs = 0
kept = bytearray()
for line in sys.stdin:
    job = json.loads(line)
    jobs += 1
    what, out = job["arguments"][0], job["arguments"][1]
    code = 0
    print("job", jobs, "of", os.getpid(), file=sys.stderr, flush=True)
    with open(out, "w") as file:
        json.dump({"pid": os.getpid(), "jobs": jobs, "folder": job["folder"],
                   "step": job["environment"]["AURIA_STEP"], "arguments": job["arguments"],
                   "inputs": job["inputs"], "mine": os.environ.get("MINE")}, file)
    if what == "die":
        os._exit(3)
    if what == "fail":
        code = 7
    if what == "sleep":
        time.sleep(60)
    if what == "leave":
        subprocess.Popen(["sleep", "61"], start_new_session=True)
    if what == "grow":
        kept = bytearray(os.urandom(200 << 20))
    if what == "burst":
        kept += bytearray(os.urandom(900 << 20))
    if what == "chatter":
        print("x" * 100000, file=sys.stderr, flush=True)
    print(json.dumps({"id": job["id"], "exit_code": code}), flush=True)
    if what == "mutter":
        print("of the last step", file=sys.stderr, flush=True)
"#;

/// As [`Machines`], with programs kept.
pub(super) struct Warmed(Machines);

#[async_trait::async_trait]
impl Bench for Warmed {
    async fn new() -> Self {
        let machines = Machines::new().await;
        std::fs::write(machines.dir.path().join("program.py"), PROGRAM).unwrap();
        Self(machines)
    }

    fn store(&self) -> &Store {
        self.0.store()
    }

    fn environment(&self) -> Environment {
        self.0.environment()
    }

    fn executor(&self) -> Box<dyn Executor> {
        Box::new(keeping(&self.0, Duration::from_secs(600), 2))
    }

    fn isolates(&self) -> bool {
        false
    }

    fn limits_memory(&self) -> bool {
        self.0.limits_memory()
    }

    fn kill_launcher(&self, attempt: &AttemptId) {
        self.0.kill_launcher(attempt);
    }

    async fn nothing_left(&self) {
        self.0.nothing_left().await;
    }
}

fn keeping(machines: &Machines, idle: Duration, most: usize) -> ProcessExecutor {
    let warm = WarmOptions {
        memory_bytes: 150 << 20,
        idle,
        most,
    };
    ProcessExecutor::keeping_warm(machines.options(), warm).unwrap()
}

pub(super) fn warm_cases() -> Vec<Case<Warmed>> {
    macro_rules! own {
        ($($name:ident),* $(,)?) => { vec![$((stringify!($name), |bench| -> LocalBoxFuture<'static, ()> {
            $name(World::on(bench)).boxed_local()
        })),*] };
    }
    own![
        a_program_stays_and_each_log_is_its_steps,
        another_kind_has_another_program,
        after_any_doubt_there_is_a_new_one,
        what_takes_too_long_or_is_stopped_ends_it,
        what_a_step_started_ends_with_the_step,
        no_program_and_a_command_for_a_shell_are_processes,
        memory_and_time_end_it,
        they_end_with_their_executor,
        what_a_killed_server_left_is_ended_by_the_next,
    ]
}

type OnWarm = World<Warmed>;

fn ticket(world: &OnWarm, step: &str, what: &str) -> Ticket {
    let program = world.bench.0.dir.path().join("program.py");
    let out = world.outside(step);
    let mut ticket = world.ticket(step, format!("program {what} {}", out.display()));
    ticket.keep_warm = Some(KeepWarm {
        start: Some(format!("python3 {}", program.display())),
    });
    ticket
}

/// What the program left for a step.
fn left(world: &OnWarm, step: &str) -> serde_json::Value {
    serde_json::from_str(&world.read_outside(step)).unwrap()
}

fn runs(process: &serde_json::Value) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

async fn gone(process: &serde_json::Value) {
    for _ in 0..500 {
        if !runs(process) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{process} runs");
}

/// Runs the ticket to its end, and lets its program come back: that is after the end was told,
/// and who asks in that moment has another one.
async fn completed(world: &mut OnWarm, ticket: &Ticket) -> Arc<Outcome> {
    let outcome = world.completes(ticket).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    outcome
}

/// Ends a case: with the executor, its programs end.
async fn over(world: OnWarm) {
    let World {
        executor, bench, ..
    } = world;
    drop(executor);
    bench.nothing_left().await;
}

async fn a_program_stays_and_each_log_is_its_steps(mut world: OnWarm) {
    let mut first = ticket(&world, "one", "mutter");
    first.inputs.insert(
        "word".to_owned(),
        auria_core::ticket::TicketInput::Literal {
            value: "literal".to_owned(),
        },
    );
    first.outputs.insert("made".to_owned(), DataType::UriFile);
    first.command.0 = vec![
        TemplatePart::Text("program mutter ".to_owned()),
        TemplatePart::Output("made".to_owned()),
        TemplatePart::Text(" '".to_owned()),
        TemplatePart::Input("word".to_owned()),
        TemplatePart::Text("'".to_owned()),
    ];
    let outcome = completed(&mut world, &first).await;
    assert_eq!(outcome.outputs["made"].files, 1);
    let mut processes = std::collections::BTreeSet::new();
    for number in 2..5 {
        let step = format!("step{number}");
        let ticket = ticket(&world, &step, "go");
        let outcome = completed(&mut world, &ticket).await;
        let left = left(&world, &step);
        processes.insert(left["pid"].as_i64());
        assert_eq!(left["jobs"], number);
        assert_eq!(left["step"], step.as_str());
        let log = world.log(&ticket.attempt, outcome.nonce.as_ref()).await;
        let log = String::from_utf8(log).unwrap();
        assert_eq!(log, format!("job {number} of {}\n", left["pid"]));
    }
    assert_eq!(processes.len(), 1);
    let long = ticket(&world, "long", "chatter");
    let outcome = completed(&mut world, &long).await;
    let log = world.log(&long.attempt, outcome.nonce.as_ref()).await;
    assert!(log.len() > 100_000, "{}", log.len());
    over(world).await;
}

async fn another_kind_has_another_program(mut world: OnWarm) {
    let plain = ticket(&world, "plain", "go");
    let mut other = ticket(&world, "other", "go");
    let text = vec![TemplatePart::Text("its own".to_owned())];
    other
        .variables
        .insert("MINE".to_owned(), auria_core::plan::Template(text));
    completed(&mut world, &plain).await;
    completed(&mut world, &other).await;
    assert_ne!(left(&world, "plain")["pid"], left(&world, "other")["pid"]);
    assert_eq!(left(&world, "other")["mine"], "its own");
    // Two at once are two programs, and no more are kept than two.
    let again = ticket(&world, "again", "go");
    completed(&mut world, &again).await;
    assert_eq!(left(&world, "plain")["pid"], left(&world, "again")["pid"]);
    over(world).await;
}

async fn after_any_doubt_there_is_a_new_one(mut world: OnWarm) {
    let first = ticket(&world, "first", "go");
    completed(&mut world, &first).await;
    let before = left(&world, "first")["pid"].clone();
    let dies = ticket(&world, "dies", "die");
    let end = world.fails(&dies, Cause::Exit).await;
    assert_eq!(end.exit_code, Some(3), "{end:?}");
    assert_eq!(left(&world, "dies")["pid"], before);
    let fails = ticket(&world, "fails", "fail");
    let end = world.fails(&fails, Cause::Exit).await;
    assert_eq!(end.exit_code, Some(7), "{end:?}");
    let failed = left(&world, "fails")["pid"].clone();
    assert_ne!(failed, before);
    let last = ticket(&world, "last", "go");
    completed(&mut world, &last).await;
    assert_ne!(left(&world, "last")["pid"], failed);
    gone(&failed).await;
    if world.bench.limits_memory() {
        let mut bursts = ticket(&world, "bursts", "burst");
        bursts.resources.memory_bytes = Some(100 << 20);
        world.fails(&bursts, Cause::OutOfMemory).await;
    }
    over(world).await;
}

async fn what_takes_too_long_or_is_stopped_ends_it(mut world: OnWarm) {
    let mut slow = ticket(&world, "slow", "sleep");
    slow.timeout_ms = Some(300);
    slow.grace_ms = 200;
    world.fails(&slow, Cause::Timeout).await;
    gone(&left(&world, "slow")["pid"]).await;
    let stopped = ticket(&world, "stopped", "sleep");
    world.start(&stopped).await;
    let line =
        |world: &OnWarm| std::fs::metadata(world.outside("stopped")).is_ok_and(|m| m.len() > 0);
    while !line(&world) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world
        .executor
        .stop(&stopped.attempt, Duration::from_millis(200))
        .await
        .unwrap();
    world.ended(&stopped.attempt, Cause::Canceled).await;
    gone(&left(&world, "stopped")["pid"]).await;
    // A launcher that is killed takes the program along.
    let killed = ticket(&world, "killed", "sleep");
    world.start(&killed).await;
    while !std::fs::metadata(world.outside("killed")).is_ok_and(|m| m.len() > 0) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.bench.kill_launcher(&killed.attempt);
    gone(&left(&world, "killed")["pid"]).await;
    world.last(&killed.attempt).await;
    over(world).await;
}

async fn what_a_step_started_ends_with_the_step(mut world: OnWarm) {
    let leaves = ticket(&world, "leaves", "leave");
    completed(&mut world, &leaves).await;
    let program = left(&world, "leaves")["pid"].clone();
    for _ in 0..500 {
        if world.processes() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.processes(), 1, "the program alone is left");
    assert!(runs(&program));
    // It goes on to be kept, whichever does the next work.
    let next = ticket(&world, "next", "go");
    completed(&mut world, &next).await;
    assert!(runs(&program));
    over(world).await;
}

async fn no_program_and_a_command_for_a_shell_are_processes(mut world: OnWarm) {
    let out = world.outside("cold");
    for (step, start) in [
        ("mute", Some("python3 PROGRAM --mute")),
        ("absent", Some("/no/such/program")),
        ("first_word", None),
    ] {
        // Nothing but words, so that a warm program is asked for.
        let command = format!("sh -c 'echo {step} >> {}'", out.display());
        let mut cold = world.ticket(step, command);
        let program = world.bench.0.dir.path().join("program.py");
        let start = start.map(|text| text.replace("PROGRAM", program.to_str().unwrap()));
        cold.keep_warm = Some(KeepWarm { start });
        // It is not waited for a second time.
        completed(&mut world, &cold).await;
        cold.attempt.step = format!("{step}_again").parse().unwrap();
        completed(&mut world, &cold).await;
    }
    let mut shell = ticket(&world, "shell", "go");
    let text = format!("echo shell >> {}; true", out.display());
    shell.command.0 = vec![TemplatePart::Text(text)];
    completed(&mut world, &shell).await;
    let said = world.read_outside("cold");
    let expected = "mute\nmute\nabsent\nabsent\nfirst_word\nfirst_word\nshell\n";
    assert_eq!(said, expected);
    over(world).await;
}

async fn memory_and_time_end_it(mut world: OnWarm) {
    let grows = ticket(&world, "grows", "grow");
    completed(&mut world, &grows).await;
    gone(&left(&world, "grows")["pid"]).await;
    // One that nobody wants.
    world.executor = Box::new(keeping(&world.bench.0, Duration::from_millis(300), 2));
    let run: RunId = world.run.clone();
    let mut events = world.executor.watch(&run);
    let idle = ticket(&world, "idle", "go");
    world.journal().write_ticket(&idle).await.unwrap();
    world.executor.start(&idle).await.unwrap();
    use futures::StreamExt;
    while world.journal().read_outcomes().await.unwrap().len() < 2 {
        events.next().await.unwrap().unwrap();
    }
    gone(&left(&world, "idle")["pid"]).await;
    over(world).await;
}

async fn they_end_with_their_executor(mut world: OnWarm) {
    let one = ticket(&world, "one", "go");
    completed(&mut world, &one).await;
    let program = left(&world, "one")["pid"].clone();
    assert!(runs(&program));
    let folder = world.bench.0.runtime.path().join("warm");
    over(world).await;
    gone(&program).await;
    assert!(entries(&folder).is_empty());
    // Other cases' programs may be ending just now.
    for _ in 0..100 {
        if empty_cgroups().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("left: {:?}", empty_cgroups());
}

async fn what_a_killed_server_left_is_ended_by_the_next(world: OnWarm) {
    let World {
        executor, bench, ..
    } = world;
    drop(executor);
    // As a server leaves it: a process that a program had started, and its cgroup.
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    let name = format!("{}-0", dead.id());
    dead.wait().unwrap();
    let key = format!("warm-{name}-3");
    let mut left = std::process::Command::new("sleep")
        .arg("62")
        .env(auria_launcher::tree::MARK, &key)
        .spawn()
        .unwrap();
    drop(Tree::create(&key, None));
    let folder = bench.0.runtime.path().join("warm").join(&name);
    std::fs::create_dir_all(folder.join("3")).unwrap();
    drop(bench.executor());
    let ended = left.try_wait().unwrap();
    let _ = left.kill();
    assert!(ended.is_some(), "it runs");
    assert!(!folder.exists());
    let cgroups = entries(Path::new("/sys/fs/cgroup")).into_iter();
    let mut all = cgroups
        .clone()
        .chain(cgroups.flat_map(|below| entries(&below)));
    assert_eq!(
        all.find(|path| path.to_string_lossy().ends_with(&key)),
        None
    );
}

/// Cgroups of programs of this process in which nothing runs.
fn empty_cgroups() -> Vec<std::path::PathBuf> {
    let cgroups = entries(Path::new("/sys/fs/cgroup")).into_iter();
    let all = cgroups
        .clone()
        .chain(cgroups.flat_map(|below| entries(&below)));
    let own = format!("auria-warm-{}-", std::process::id());
    all.filter(|path| path.to_string_lossy().contains(&own))
        .filter(|path| {
            let processes = std::fs::read_to_string(path.join("cgroup.procs"));
            processes.is_ok_and(|list| list.is_empty())
        })
        .collect()
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}
