//! The cases, each named after what it tries.

use super::held::{
    a_shell_pipe_ends_by_itself, cpus_are_held, memory_that_runs_out_is_told,
    no_network_is_kept_or_refused, nothing_of_the_store_is_seen, variables_are_kept,
    what_a_step_makes_belongs_to_the_user,
};
use super::world::{World, with_output};
use super::{Bench, Case};
use auria_core::outcome::{Cause, Status};
use auria_core::plan::{DataType, InputMode, TemplatePart};
use auria_core::run::{AttemptNews, Phase};
use auria_core::ticket::TicketInput;
use auria_store::{artifact, layout};
use futures::future::FutureExt;
use std::time::{Duration, Instant};

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every case.
        #[must_use]
        pub fn cases<B: Bench>() -> Vec<Case<B>> {
            vec![$((stringify!($name), |bench| $name(World::on(bench)).boxed_local())),*]
        }
    };
}

cases!(
    an_outcome_tells_what_happened,
    starting_twice_is_one_claim,
    stopping_twice_is_one_end,
    exit_codes_and_signals_are_told,
    what_takes_too_long_is_ended,
    long_logs_are_whole,
    what_daemonises_is_ended,
    names_of_files_are_kept,
    a_missing_output_is_named,
    an_optional_part_goes_with_its_input,
    stop_while_fetching,
    stop_while_running,
    stop_lets_publishing_go_on,
    a_checkpoint_on_sigterm_is_kept,
    a_killed_launcher_is_gone_with_its_step,
    another_executor_sees_the_end,
    another_executor_can_stop_it,
    stopping_what_never_was,
    memory_that_runs_out_is_told,
    cpus_are_held,
    no_network_is_kept_or_refused,
    what_a_step_makes_belongs_to_the_user,
    variables_are_kept,
    a_shell_pipe_ends_by_itself,
    nothing_of_the_store_is_seen,
);

pub(super) fn text(text: &str) -> TemplatePart {
    TemplatePart::Text(text.to_owned())
}

pub(super) fn output(name: &str) -> TemplatePart {
    TemplatePart::Output(name.to_owned())
}

fn input(name: &str) -> TemplatePart {
    TemplatePart::Input(name.to_owned())
}

async fn an_outcome_tells_what_happened<B: Bench>(mut world: World<B>) {
    let ticket = world.ticket("step", "echo one; echo two >&2; sleep 0.1");
    let outcome = world.completes(&ticket).await;
    let attempt = &ticket.attempt;
    assert_eq!(
        (outcome.status, outcome.attempt, outcome.attempts),
        (Status::Completed, Some(1), 1)
    );
    assert_eq!(outcome.exit_code, Some(0));
    assert_eq!(outcome.last_lines, ["one", "two"]);
    assert_eq!(
        world.log(attempt, outcome.nonce.as_ref()).await,
        b"one\ntwo\n"
    );
    let ran = outcome.timings.ran_ms.expect("it ran");
    assert!((100..5_000).contains(&ran), "{ran} ms");
    assert!(outcome.timings.queued_ms.is_some() && outcome.timings.fetched_ms.is_some());
    assert_eq!(
        world
            .journal()
            .read_outcome(&attempt.step)
            .await
            .unwrap()
            .as_ref(),
        Some(&*outcome)
    );
    let claim = world
        .journal()
        .read_claim(attempt)
        .await
        .unwrap()
        .expect("it claimed");
    assert_eq!(Some(&claim.nonce), outcome.nonce.as_ref());
    let phases: Vec<_> = world.news[attempt]
        .iter()
        .filter_map(|news| match news {
            AttemptNews::Phase { phase } => Some(*phase),
            _ => None,
        })
        .collect();
    assert_eq!(phases.last(), Some(&Phase::Publishing), "{phases:?}");
    world.over().await;
}

async fn starting_twice_is_one_claim<B: Bench>(mut world: World<B>) {
    let file = world.outside("started");
    let ticket = world.ticket("step", format!("echo x >> {}; sleep 0.5", file.display()));
    world.start(&ticket).await;
    world.start(&ticket).await;
    let other = world.bench.executor();
    world.phase(&ticket.attempt, Phase::Running).await;
    other.start(&ticket).await.expect("it is started already");
    assert_eq!(
        other.list(&world.run).await.unwrap(),
        std::slice::from_ref(&ticket.attempt)
    );
    assert!(matches!(
        world.last(&ticket.attempt).await,
        AttemptNews::Committed { .. }
    ));
    drop(other);
    // A claimed number is never run again, by whomever and how late it is asked for.
    world.news.clear();
    let again = world.run(&ticket).await;
    assert!(
        matches!(
            again,
            AttemptNews::ClaimLost | AttemptNews::Committed { .. }
        ),
        "{again:?}"
    );
    assert_eq!(world.read_outside("started"), "x\n");
    world.over().await;
}

async fn stopping_twice_is_one_end<B: Bench>(mut world: World<B>) {
    let ticket = world.ticket("step", "echo up; sleep 300");
    world.start(&ticket).await;
    world.said(&ticket.attempt, "up").await;
    for _ in 0..2 {
        world
            .executor
            .stop(&ticket.attempt, Duration::from_secs(5))
            .await
            .unwrap();
    }
    let end = world.ended(&ticket.attempt, Cause::Canceled).await;
    assert_eq!(end.exit_code, Some(143), "{}", end.message);
    let _ = world
        .executor
        .stop(&ticket.attempt, Duration::from_secs(5))
        .await;
    world.over().await;
}

async fn exit_codes_and_signals_are_told<B: Bench>(mut world: World<B>) {
    let cases = [
        ("exit 3", 3),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("no-such-program-anywhere", 127),
        ("false", 1),
    ];
    for (number, (command, code)) in cases.into_iter().enumerate() {
        let ticket = world.ticket(&format!("step{number}"), command);
        let end = world.fails(&ticket, Cause::Exit).await;
        assert_eq!(end.exit_code, Some(code), "{command}: {}", end.message);
    }
    world.over().await;
}

async fn what_takes_too_long_is_ended<B: Bench>(mut world: World<B>) {
    let mut ticket = world.ticket(
        "step",
        "trap '' TERM; echo deaf; while true; do sleep 0.05; done",
    );
    ticket.timeout_ms = Some(500);
    ticket.grace_ms = 300;
    let end = world.fails(&ticket, Cause::Timeout).await;
    assert_eq!(end.exit_code, Some(137), "{}", end.message);
    let ran = end.timings.ran_ms.expect("it ran");
    assert!((800..10_000).contains(&ran), "{ran} ms");
    world.over().await;
}

async fn long_logs_are_whole<B: Bench>(mut world: World<B>) {
    let bytes: usize = 100_000_000;
    let ticket = world.ticket("step", format!("yes 0123456789abcde | head -c {bytes}"));
    let outcome = world.completes(&ticket).await;
    let log = world.log(&ticket.attempt, outcome.nonce.as_ref()).await;
    assert_eq!(log.len(), bytes);
    assert!(log.chunks(16).all(|line| line == b"0123456789abcde\n"));
    assert_eq!(outcome.last_lines.len(), 20);
    world.over().await;
}

async fn what_daemonises_is_ended<B: Bench>(mut world: World<B>) {
    let command = "setsid sleep 300 & (setsid sleep 301 &) & nohup sleep 302 >/dev/null 2>&1 & \
                   (trap '' TERM HUP; exec sleep 303) & sleep 0.3; echo made > ";
    let ticket = world.ticket_of("step", vec![text(command), output("made"), text("/file")]);
    let ticket = with_output(ticket, "made", DataType::UriFolder);
    let began = Instant::now();
    let outcome = world.completes(&ticket).await;
    assert_eq!(outcome.outputs["made"].files, 1);
    assert!(began.elapsed() < Duration::from_secs(30));
    world.over().await;
}

async fn names_of_files_are_kept<B: Bench>(mut world: World<B>) {
    let make = "set -e; cd ";
    let made = "; mkdir 'ein Ordner' leer; echo a > 'ein Ordner/größe 1.txt'; echo b > \"it's #1\"; echo c > 俳句; \
                ln -s 俳句 link; echo d > prog; chmod 755 prog";
    let maker = world.ticket_of("make", vec![text(make), output("made"), text(made)]);
    let maker = with_output(maker, "made", DataType::UriFolder);
    let outcome = world.completes(&maker).await;
    let artifact = outcome.outputs["made"].clone();
    let command = vec![
        text("set -e; cd "),
        input("data"),
        text(
            "; cat 'ein Ordner/größe 1.txt' \"it's #1\" 俳句 link; test -d leer; test -x prog; cp -a . ",
        ),
        output("copy"),
    ];
    let mut taker = with_output(
        world.ticket_of("take", command),
        "copy",
        DataType::UriFolder,
    );
    taker.inputs.insert(
        "data".to_owned(),
        TicketInput::Artifact {
            artifact: artifact.clone(),
            mode: InputMode::Download,
        },
    );
    let taken = world.completes(&taker).await;
    assert_eq!(taken.last_lines, ["a", "b", "c", "c"]);
    assert_eq!(
        taken.outputs["copy"].digest, artifact.digest,
        "a copy is the same data"
    );
    let manifest = artifact::read_manifest(world.bench.store(), &artifact)
        .await
        .unwrap();
    assert_eq!(manifest.entries.len(), 6, "{manifest:?}");
    world.over().await;
}

async fn a_missing_output_is_named<B: Bench>(mut world: World<B>) {
    let ticket = with_output(world.ticket("step", "true"), "picture", DataType::UriFile);
    let end = world.fails(&ticket, Cause::Exit).await;
    assert!(end.message.contains("`picture`"), "{}", end.message);
    assert_eq!(end.exit_code, Some(0));
    assert!(
        world
            .journal()
            .read_outcome(&ticket.attempt.step)
            .await
            .unwrap()
            .is_none()
    );
    world.over().await;
}

async fn an_optional_part_goes_with_its_input<B: Bench>(mut world: World<B>) {
    let command = || {
        vec![
            text("echo begin"),
            TemplatePart::Optional(vec![text(" --mood "), input("mood")]),
            text(" [[ end ]]"),
        ]
    };
    let mut without = world.ticket_of("without", command());
    without
        .inputs
        .insert("mood".to_owned(), TicketInput::Absent);
    assert_eq!(
        world.completes(&without).await.last_lines,
        ["begin [[ end ]]"]
    );
    let mut with = world.ticket_of("with", command());
    with.inputs.insert(
        "mood".to_owned(),
        TicketInput::Literal {
            value: "joy".to_owned(),
        },
    );
    assert_eq!(
        world.completes(&with).await.last_lines,
        ["begin --mood joy [[ end ]]"]
    );
    world.over().await;
}

async fn stop_while_fetching<B: Bench>(mut world: World<B>) {
    let maker = with_output(
        world.ticket_of(
            "make",
            vec![text("echo data > "), output("made"), text("/file")],
        ),
        "made",
        DataType::UriFolder,
    );
    let artifact = world.completes(&maker).await.outputs["made"].clone();
    // A pipe that nobody writes: reading it is like a network file system that hangs.
    let place = world
        .bench
        .store()
        .root()
        .unwrap()
        .join(&artifact.prefix)
        .join("file");
    std::fs::remove_file(&place).unwrap();
    nix::unistd::mkfifo(&place, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let ran = world.outside("ran");
    let mut taker = world.ticket("take", format!("touch {}", ran.display()));
    taker.inputs.insert(
        "data".to_owned(),
        TicketInput::Artifact {
            artifact,
            mode: InputMode::Download,
        },
    );
    world.start(&taker).await;
    world.phase(&taker.attempt, Phase::Fetching).await;
    world
        .executor
        .stop(&taker.attempt, Duration::from_secs(5))
        .await
        .unwrap();
    let end = world.ended(&taker.attempt, Cause::Canceled).await;
    assert_eq!(end.exit_code, None);
    assert!(!ran.exists());
    world.over().await;
}

async fn stop_while_running<B: Bench>(mut world: World<B>) {
    // The first takes SIGTERM well, with a child that needs a moment longer; the
    // second is deaf and is killed after its grace.
    let kind = world.ticket("kind", "(trap 'sleep 0.3; echo saved; exit 0' TERM; echo up; while true; do sleep 0.05; done); true");
    world.start(&kind).await;
    world.said(&kind.attempt, "up").await;
    world
        .executor
        .stop(&kind.attempt, Duration::from_secs(20))
        .await
        .unwrap();
    let end = world.ended(&kind.attempt, Cause::Canceled).await;
    assert!(end.last_lines.contains(&"saved".to_owned()), "{end:?}");

    let deaf = world.ticket(
        "deaf",
        "trap '' TERM; echo up; while true; do sleep 0.05; done",
    );
    world.start(&deaf).await;
    world.said(&deaf.attempt, "up").await;
    let began = Instant::now();
    world
        .executor
        .stop(&deaf.attempt, Duration::from_millis(500))
        .await
        .unwrap();
    let end = world.ended(&deaf.attempt, Cause::Canceled).await;
    assert_eq!(end.exit_code, Some(137));
    assert!(
        began.elapsed() >= Duration::from_millis(450) && began.elapsed() < Duration::from_secs(20)
    );
    world.over().await;
}

async fn stop_lets_publishing_go_on<B: Bench>(mut world: World<B>) {
    let command = vec![
        text("head -c 100000000 /dev/zero > "),
        output("made"),
        text("/file"),
    ];
    let ticket = with_output(
        world.ticket_of("step", command),
        "made",
        DataType::UriFolder,
    );
    world.start(&ticket).await;
    world.phase(&ticket.attempt, Phase::Publishing).await;
    world
        .executor
        .stop(&ticket.attempt, Duration::from_secs(5))
        .await
        .unwrap();
    let last = world.last(&ticket.attempt).await;
    assert!(
        matches!(&last, AttemptNews::Committed { outcome } if outcome.outputs["made"].bytes == 100_000_000),
        "{last:?}"
    );
    world.over().await;
}

async fn a_checkpoint_on_sigterm_is_kept<B: Bench>(mut world: World<B>) {
    let command = "cat $AURIA_CHECKPOINTS/state 2>/dev/null && exit 0; \
                   trap 'mkdir $AURIA_CHECKPOINTS/.new; echo half > $AURIA_CHECKPOINTS/.new/state; \
                   mv $AURIA_CHECKPOINTS/.new $AURIA_CHECKPOINTS/one; exit 1' TERM; \
                   echo up; while true; do sleep 0.05; done";
    let mut ticket = world.ticket("step", command);
    world.start(&ticket).await;
    world.said(&ticket.attempt, "up").await;
    world
        .executor
        .stop(&ticket.attempt, Duration::from_secs(20))
        .await
        .unwrap();
    let end = world.ended(&ticket.attempt, Cause::Canceled).await;
    ticket.restore = Some(end.checkpoint.expect("it is kept"));
    ticket.attempt.number = 2;
    ticket.claims_before = 1;
    let outcome = world.completes(&ticket).await;
    assert_eq!(outcome.last_lines, ["half"]);
    assert_eq!(outcome.attempts, 2);
    world.over().await;
}

async fn a_killed_launcher_is_gone_with_its_step<B: Bench>(mut world: World<B>) {
    let command = "setsid sleep 300 & (sleep 301 &) ; echo said; sleep 300";
    let ticket = world.ticket("step", command);
    world.start(&ticket).await;
    world.said(&ticket.attempt, "said").await;
    // The log reaches the store within a second, and is not lost.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(world.processes() >= 3);
    world.bench.kill_launcher(&ticket.attempt);
    let last = world.last(&ticket.attempt).await;
    let AttemptNews::Gone {
        claim: Some(claim),
        end: Some(end),
        checkpoint: None,
    } = last
    else {
        panic!("{last:?}");
    };
    assert_eq!(
        world.processes(),
        0,
        "what it left was ended before it was told"
    );
    assert_eq!(
        (claim.attempt, Some(&claim.nonce)),
        (ticket.attempt.clone(), end.nonce.as_ref())
    );
    assert_eq!(end.cause, Cause::NodeLost, "{}", end.message);
    assert_eq!(
        world.log(&ticket.attempt, Some(&claim.nonce)).await,
        b"said\n"
    );
    assert!(
        world
            .journal()
            .read_end(&ticket.attempt)
            .await
            .unwrap()
            .is_none(),
        "the driver writes that"
    );
    let data = layout::output(&ticket.attempt, &claim.nonce, "none");
    assert!(world.bench.store().list(&data).await.unwrap().is_empty());
    world.over().await;
}

async fn another_executor_sees_the_end<B: Bench>(mut world: World<B>) {
    let go = world.outside("go");
    let command = format!(
        "echo up; until [ -e {} ]; do sleep 0.05; done; echo over",
        go.display()
    );
    let ticket = world.ticket("step", command);
    world.start(&ticket).await;
    world.said(&ticket.attempt, "up").await;
    world.replace_executor();
    assert_eq!(
        world.executor.list(&world.run).await.unwrap(),
        std::slice::from_ref(&ticket.attempt)
    );
    // It is told where the attempt is, though it was not there.
    world.phase(&ticket.attempt, Phase::Running).await;
    assert!(
        world.news[&ticket.attempt]
            .iter()
            .any(|news| matches!(news, AttemptNews::Claimed { .. }))
    );
    std::fs::write(go, "").unwrap();
    let last = world.last(&ticket.attempt).await;
    assert!(
        matches!(&last, AttemptNews::Committed { outcome } if outcome.last_lines == ["up", "over"]),
        "{last:?}"
    );
    world.over().await;
}

async fn another_executor_can_stop_it<B: Bench>(mut world: World<B>) {
    let ticket = world.ticket("step", "echo up; sleep 300");
    world.start(&ticket).await;
    world.said(&ticket.attempt, "up").await;
    world
        .bench
        .executor()
        .stop(&ticket.attempt, Duration::from_secs(5))
        .await
        .unwrap();
    world.replace_executor();
    world
        .executor
        .stop(&ticket.attempt, Duration::from_secs(5))
        .await
        .unwrap();
    world.ended(&ticket.attempt, Cause::Canceled).await;
    world.over().await;
}

async fn stopping_what_never_was<B: Bench>(mut world: World<B>) {
    let ticket = world.ticket("step", "true");
    world
        .executor
        .stop(&ticket.attempt, Duration::from_secs(5))
        .await
        .unwrap();
    let last = world.last(&ticket.attempt).await;
    assert_eq!(
        last,
        AttemptNews::Gone {
            claim: None,
            end: None,
            checkpoint: None
        }
    );
    world.over().await;
}
