//! Attempts that reach their store through the broker alone.

use crate::world::{Behind, World, files, text, ticket, with_output};
use auria_core::outcome::{Cause, Status};
use auria_core::plan::{DataType, InputMode, TemplatePart};
use auria_core::run::{AttemptNews, Phase};
use auria_core::ticket::TicketInput;
use auria_engine::executor::Happened;
use auria_engine::relay::TicketIssuer;
use auria_store::logs::LogReader;
use auria_store::testing::Weed;
use auria_store::{artifact, layout, snapshot};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

pub(crate) async fn steps_hand_on_files_through_a_folder() {
    steps_hand_on_files(World::new(Behind::Folder).await).await;
}

pub(crate) async fn steps_hand_on_files_through_a_bucket() {
    let Some(weed) = Weed::start().await else {
        return;
    };
    steps_hand_on_files(World::new(Behind::Weed(weed)).await).await;
}

/// One step makes files, large and small; the next one, with code of its own, reads them.
async fn steps_hand_on_files(world: World) {
    let make = "set -e; echo said; echo '{\"loss\": 1}' >> $AURIA_METRICS; mkdir -p OUT/deep; \
                echo small > OUT/deep/small; head -c 20000000 /dev/zero > OUT/large; \
                : > OUT/empty; mkdir $AURIA_CHECKPOINTS/.new; \
                echo state > $AURIA_CHECKPOINTS/.new/state; \
                mv $AURIA_CHECKPOINTS/.new $AURIA_CHECKPOINTS/one; sleep 0.5";
    let parts: Vec<TemplatePart> = make
        .split("OUT")
        .enumerate()
        .flat_map(|(i, part)| {
            let made = (i > 0).then(|| TemplatePart::Output("made".to_owned()));
            made.into_iter().chain([text(part)])
        })
        .collect();
    let first = with_output(ticket("make", &parts), "made", DataType::UriFolder);
    let ended = world.launch(&first).await;
    assert!(ended.success(), "{ended}");
    let outcome = world.outcome(&first).await.unwrap();
    assert_eq!(outcome.status, Status::Completed);
    let made = &outcome.outputs["made"];
    assert_eq!((made.files, made.bytes), (3, 20_000_006));
    let nonce = outcome.nonce.clone().unwrap();
    let log = LogReader::new(world.store.clone(), layout::logs(&first.attempt, &nonce));
    assert_eq!(log.clone().read_rest().await.unwrap(), b"said\n");
    assert!(
        world
            .store
            .exists(&layout::metrics(&first.attempt, &nonce))
            .await
            .unwrap()
    );

    let code = world.dir.path().join("code");
    std::fs::create_dir(&code).unwrap();
    std::fs::write(code.join("run.sh"), "cp $1/deep/small $2; wc -c < $1/large").unwrap();
    let scanned = snapshot::scan(&code, &[]).await.unwrap();
    snapshot::upload(&world.store, &scanned).await.unwrap();
    let mut second = ticket(
        "take",
        &[
            text("sh run.sh "),
            TemplatePart::Input("made".to_owned()),
            text(" "),
            TemplatePart::Output("copy".to_owned()),
        ],
    );
    second.code = Some(scanned.digest);
    second.inputs.insert(
        "made".to_owned(),
        TicketInput::Artifact {
            artifact: made.clone(),
            mode: InputMode::Download,
        },
    );
    let second = with_output(second, "copy", DataType::UriFile);
    assert!(world.launch(&second).await.success());
    let outcome = world.outcome(&second).await.unwrap();
    assert_eq!(outcome.last_lines, ["20000000"]);
    let to = world.dir.path().join("fetched");
    artifact::fetch(&world.store, &outcome.outputs["copy"], &to)
        .await
        .unwrap();
    let fetched = files(&to);
    assert_eq!(fetched.values().collect::<Vec<_>>(), [b"small\n"]);

    // A third that fails leaves its end, and a second launcher of the first runs nothing.
    let third = ticket("fail", &[text("exit 3")]);
    assert_eq!(world.launch(&third).await.code(), Some(10));
    let end = world.journal(&third).read_end(&third.attempt).await;
    let end = end.unwrap().unwrap();
    assert_eq!((end.cause, end.exit_code), (Cause::Exit, Some(3)));
    assert_eq!(world.launch(&first).await.code(), Some(11));
    assert_eq!(
        std::fs::read_dir(world.work()).unwrap().count(),
        0,
        "nothing is left on this machine"
    );

    heard_in_order(&world);
}

/// The broker told of the first step what happened, when it happened.
fn heard_in_order(world: &World) {
    let mut told = Vec::new();
    for event in world.heard.all() {
        if event.attempt.step.as_str() != "make" {
            continue;
        }
        told.push(match event.happened {
            Happened::Log(lines) => lines.join("|"),
            Happened::News(AttemptNews::Claimed { .. }) => "claimed".to_owned(),
            Happened::News(AttemptNews::Phase { phase }) => format!("{phase:?}"),
            Happened::News(AttemptNews::Committed { outcome }) => {
                assert_eq!(outcome.attempt, Some(1));
                "committed".to_owned()
            }
            Happened::News(other) => panic!("{other:?}"),
        });
    }
    let phases = [Phase::Fetching, Phase::Running, Phase::Publishing].map(|p| format!("{p:?}"));
    let place = |what: &str| told.iter().position(|told| told == what);
    for what in phases
        .iter()
        .map(String::as_str)
        .chain(["said", "committed"])
    {
        assert!(place(what).is_some(), "{what} in {told:?}");
    }
    assert_eq!(told[0], "claimed");
    assert!(place(&phases[0]) < place(&phases[1]) && place(&phases[1]) < place(&phases[2]));
}

/// The broker goes away while the command runs, and another, which remembers nothing, is
/// there when the step has outputs to publish and an outcome to commit.
pub(crate) async fn a_broker_that_is_started_anew_goes_on() {
    let mut world = World::new(Behind::Folder).await;
    let gate = world.dir.path().join("gate");
    let step = ticket(
        "wait",
        &[
            text(&format!(
                "while ! test -e {}; do sleep 0.05; done; ",
                gate.display()
            )),
            text("echo done > "),
            TemplatePart::Output("made".to_owned()),
        ],
    );
    let step = with_output(step, "made", DataType::UriFile);
    world.journal(&step).write_ticket(&step).await.unwrap();
    let mut command = world.pod(&world.broker.issue(&step.attempt));
    let mut launcher = command.spawn().unwrap();
    let runs = |world: &World| {
        let is_running = |happened: &Happened| {
            matches!(
                happened,
                Happened::News(AttemptNews::Phase {
                    phase: Phase::Running
                })
            )
        };
        world
            .heard
            .all()
            .iter()
            .any(|event| is_running(&event.happened))
    };
    while !runs(&world) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.end_broker().await;
    std::fs::write(&gate, "").unwrap();
    // Long enough that the launcher finds nobody there at least once.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        launcher.try_wait().unwrap().is_none(),
        "it waits for a broker"
    );
    world.start_broker();
    let ended = tokio::task::spawn_blocking(move || launcher.wait().unwrap());
    assert!(ended.await.unwrap().success());
    let outcome = world.outcome(&step).await.unwrap();
    assert_eq!(outcome.outputs["made"].bytes, 5);
}

/// A Pod may be asked to end before its launcher has a handler for that: what came meanwhile
/// is heard then, and the new start on the way does not lose it.
pub(crate) async fn a_stop_that_comes_early_is_heard() {
    let mut world = World::new(Behind::Folder).await;
    let step = ticket("never", &[text("exit 0")]);
    // Nobody answers, so that nothing else ends it for a quarter of an hour.
    world.end_broker().await;
    let mut command = world.pod(&world.broker.issue(&step.attempt));
    let ended = tokio::task::spawn_blocking(move || {
        // As process 1 has it, whom no signal reaches that it has no handler for: it comes
        // before the launcher's first instruction, and waits.
        let term = SigSet::from(Signal::SIGTERM);
        term.thread_block().unwrap();
        let mut launcher = command.spawn().unwrap();
        term.thread_unblock().unwrap();
        let pid = Pid::from_raw(launcher.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let begun = Instant::now();
        loop {
            if let Some(ended) = launcher.try_wait().unwrap() {
                return Some(ended);
            }
            if begun.elapsed() > Duration::from_secs(30) {
                launcher.kill().unwrap();
                launcher.wait().unwrap();
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let ended = ended.await.unwrap().expect("it never heard of it");
    assert_eq!(ended.code(), Some(10), "{ended}");
    // Nor does the command hold such signals back.
    world.start_broker();
    let step = ticket(
        "masks",
        &[text("grep -E '^Sig(Blk|Ign)' /proc/self/status")],
    );
    assert!(world.launch(&step).await.success());
    let outcome = world.outcome(&step).await.unwrap();
    let term = 1 << (Signal::SIGTERM as u64 - 1);
    for line in &outcome.last_lines {
        let mask = line.split_whitespace().last().unwrap();
        let mask = u64::from_str_radix(mask, 16).unwrap();
        assert_eq!(mask & term, 0, "{line}");
    }
    assert_eq!(outcome.last_lines.len(), 2);
}
