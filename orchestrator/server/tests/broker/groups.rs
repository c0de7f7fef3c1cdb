//! Distributed steps whose instances have a launcher each, as in Pods: they meet before any
//! begins, what they write is one, and the first that falls is named.

use crate::asker::{Asker, encode, post, put, read};
use crate::world::{Behind, World, text, ticket, with_output};
use auria_core::distribution::Distribution;
use auria_core::outcome::{Cause, EndRecord, Outcome};
use auria_core::plan::{DataType, TemplatePart};
use auria_core::protocol::{Group, nonce_of};
use auria_core::ticket::Ticket;
use auria_engine::relay::TicketIssuer;
use auria_store::{artifact, layout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::process::Child;
use std::time::{Duration, Instant};

/// A step of two instances that runs this script; `made` is its output.
fn pair(step: &str, script: &[TemplatePart]) -> Ticket {
    let mut ticket = with_output(ticket(step, script), "made", DataType::UriFolder);
    ticket.resources.instances = 2;
    ticket.distribution = Some(Distribution::Pytorch {
        process_count_per_instance: 1,
    });
    ticket
}

fn made() -> TemplatePart {
    TemplatePart::Output("made".to_owned())
}

/// Starts the launcher of an instance, as its Pod would.
fn start(world: &World, ticket: &Ticket, instance: u32) -> Child {
    let mut command = world.pod(&world.broker.issue(&ticket.attempt));
    let work = world.work().join(instance.to_string());
    std::fs::create_dir_all(&work).unwrap();
    command
        .env("AURIA_WORK", work)
        .env("AURIA_INSTANCE", instance.to_string())
        .env("AURIA_POD_IP", "127.0.0.1")
        .env("AURIA_NODE", format!("node-{instance}"));
    command.spawn().unwrap()
}

async fn ended(mut child: Child) -> Option<i32> {
    let waited = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if begun.elapsed() > Duration::from_secs(90) {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("a launcher does not end");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    waited.await.unwrap()
}

async fn the_end(world: &World, ticket: &Ticket) -> EndRecord {
    let journal = world.journal(ticket);
    journal.read_end(&ticket.attempt).await.unwrap().unwrap()
}

async fn published(world: &World, ticket: &Ticket) -> Outcome {
    let end = the_end(world, ticket).await;
    let message = end.message.clone();
    *end.published.unwrap_or_else(|| panic!("{message}"))
}

pub(crate) async fn a_group_meets_and_is_put_together() {
    let world = World::new(Behind::Folder).await;
    let script = [
        text("set -e; echo \"$RANK of $WORLD_SIZE at $MASTER_ADDR:$MASTER_PORT\" > "),
        made(),
        text("/rank-$RANK; echo same > "),
        made(),
        text("/both; echo \"here is $RANK\"; env | grep -c AURIA_BROKER && exit 9 || true"),
    ];
    let ticket = pair("meets", &script);
    let journal = world.journal(&ticket);
    journal.write_ticket(&ticket).await.unwrap();
    let second = start(&world, &ticket, 1);
    // It does not begin alone, and nobody claims.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(journal.read_claim(&ticket.attempt).await.unwrap(), None);
    let first = start(&world, &ticket, 0);
    assert_eq!(
        (ended(first).await, ended(second).await),
        (Some(0), Some(0))
    );
    // The driver commits: none of the launchers did.
    assert_eq!(world.outcome(&ticket).await, None);
    let outcome = published(&world, &ticket).await;
    let folder = tempfile::tempdir().unwrap();
    let artifact = &outcome.outputs["made"];
    artifact::fetch(&world.store, artifact, folder.path())
        .await
        .unwrap();
    let said = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(said("rank-0"), "0 of 2 at 127.0.0.1:29500\n");
    assert_eq!(said("rank-1"), "1 of 2 at 127.0.0.1:29500\n");
    assert_eq!(said("both"), "same\n");
    let nonce = outcome.nonce.unwrap();
    for rank in [0, 1] {
        let end = layout::member_end(&ticket.attempt, &nonce, rank);
        let end: Option<serde_json::Value> = world.store.read_json(&end).await.unwrap();
        assert_eq!(end.unwrap()["node"], format!("node-{rank}"));
    }
    let log = layout::logs_of(&ticket.attempt, &nonce, Some(1));
    let mut log = auria_store::logs::LogReader::new(world.store.clone(), log);
    let bytes = log.next().await.unwrap().unwrap();
    assert!(bytes.starts_with(b"[rank 1] here is 1\n"), "{bytes:?}");
}

pub(crate) async fn the_first_that_falls_is_the_groups_end() {
    let world = World::new(Behind::Folder).await;
    let script = [text(
        "if [ $RANK = 1 ]; then echo for this; sleep 1; exit 3; fi; exec sleep 300",
    )];
    let ticket = pair("falls", &script);
    world.journal(&ticket).write_ticket(&ticket).await.unwrap();
    let (first, second) = (start(&world, &ticket, 0), start(&world, &ticket, 1));
    let begun = Instant::now();
    assert_eq!(
        (ended(first).await, ended(second).await),
        (Some(10), Some(10))
    );
    assert!(begun.elapsed() < Duration::from_secs(60));
    let end = the_end(&world, &ticket).await;
    assert_eq!((end.cause, end.exit_code), (Cause::Exit, Some(3)));
    assert!(
        end.message
            .starts_with("instance 1 on node-1: rank 1 of 2: the command exited with 3"),
        "{}",
        end.message
    );
    assert_eq!(end.last_lines, ["for this"]);
}

pub(crate) async fn an_instance_that_is_taken_away_is_no_failure_of_the_others() {
    let world = World::new(Behind::Folder).await;
    let there = world.work().join("there").display().to_string();
    // As a training does: rank 0 fails as soon as rank 1 is gone.
    let script = [text(&format!(
        "if [ $RANK = 1 ]; then trap 'rm {there}; exit 1' TERM; touch {there}; while :; do sleep 0.1; done; fi; \
         until [ -e {there} ]; do sleep 0.1; done; while [ -e {there} ]; do sleep 0.01; done; exit 1"
    ))];
    let ticket = pair("taken", &script);
    world.journal(&ticket).write_ticket(&ticket).await.unwrap();
    let (first, second) = (start(&world, &ticket, 0), start(&world, &ticket, 1));
    let begun = Instant::now();
    while !std::path::Path::new(&there).exists() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    kill(
        Pid::from_raw(second.id().try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(
        (ended(first).await, ended(second).await),
        (Some(10), Some(10))
    );
    let end = the_end(&world, &ticket).await;
    assert_eq!(end.cause, Cause::Evicted, "{}", end.message);
    assert!(
        end.message.starts_with("instance 1 on node-1: "),
        "{}",
        end.message
    );
}

pub(crate) async fn instances_that_write_one_file_differently_fail() {
    let world = World::new(Behind::Folder).await;
    let script = [text("echo $RANK > "), made(), text("/model")];
    let ticket = pair("differ", &script);
    world.journal(&ticket).write_ticket(&ticket).await.unwrap();
    let (first, second) = (start(&world, &ticket, 0), start(&world, &ticket, 1));
    assert_eq!(
        (ended(first).await, ended(second).await),
        (Some(10), Some(0))
    );
    let end = the_end(&world, &ticket).await;
    assert_eq!(end.cause, Cause::Exit);
    let said = "`made` is not one: ranks 0 and 1 wrote `model` differently";
    assert!(end.message.contains(said), "{}", end.message);
}

pub(crate) async fn a_member_writes_its_own_alone_and_commits_nothing() {
    let world = World::new(Behind::Folder).await;
    let asker = Asker::new(&world);
    let ticket = pair("rights", &[text("true")]);
    let journal = world.journal(&ticket);
    journal.write_ticket(&ticket).await.unwrap();
    let id = &ticket.attempt;
    let token = world.broker.issue(id).token;
    let join = async |instance: u32, secret: &str| {
        let asked = json!({"instance": instance, "address": "10.0.0.1", "process": "p",
            "node": null, "secret": secret});
        let (status, body) = asker.ask(Some(&token), &post("/group/join", &asked)).await;
        (status, serde_json::from_str::<Group>(&body))
    };
    let (first, second) = ("the first's", "the second's");
    let (status, group) = join(1, second).await;
    assert_eq!((status, group.unwrap().addresses.len()), (200, 0));
    assert_eq!(join(2, second).await.0, 403, "there are two");
    let (_, group) = join(0, first).await;
    assert_eq!(
        group.unwrap().addresses,
        [Some("10.0.0.1".to_owned()), None]
    );
    assert_eq!(join(1, second).await.0, 200);
    let (_, group) = join(0, first).await;
    assert!(group.unwrap().addresses.iter().all(Option::is_some));
    // Another try of the first launcher: the second has not answered that one.
    let (_, group) = join(0, "a later first's").await;
    assert_eq!(group.unwrap().addresses[1], None);
    let (_, group) = join(0, first).await;
    assert_eq!(join(1, second).await.1.unwrap().begun.map(drop), None);
    assert_eq!(group.unwrap().addresses.len(), 2);
    join(0, first).await.1.unwrap();

    let nonce = nonce_of(first).unwrap();
    let claim = crate::asker::claim(id, nonce.as_str());
    let asked = json!({"claim": claim, "secret": first});
    let (status, body) = asker.ask(Some(&token), &post("/claim", &asked)).await;
    assert_eq!(status, 200, "{body}");
    let begun = join(1, second).await.1.unwrap().begun.unwrap();
    assert_eq!(begun.nonce, nonce);
    // Who comes later has no place.
    assert_eq!(join(1, "somebody's").await.0, 409);

    let session = Some(begun.session.as_str());
    let asks = async |asked: &crate::asker::Asked<'_>| asker.ask(session, asked).await.0;
    let path = |place: auria_store::StorePath| place.to_string();
    let own = path(layout::member_end(id, &nonce, 1));
    assert_eq!(asks(&put(&own, "create", "{}")).await, 200);
    let foreign = [
        path(layout::member_end(id, &nonce, 0)),
        path(layout::output(id, &nonce, "made").join("x")),
        path(layout::outcome(&id.run, &id.step)),
        path(layout::attempt_end(id)),
        path(layout::joined(id, 1)),
    ];
    for path in &foreign {
        for mode in ["create", "overwrite"] {
            assert_eq!(asks(&put(path, mode, "{}")).await, 403, "{path}");
        }
    }
    let outcome = crate::asker::outcome(id, nonce.as_str());
    let path = layout::outcome(&id.run, &id.step).to_string();
    assert_eq!(asks(&put(&path, "create", encode(&outcome))).await, 403);
    assert_eq!(asks(&read(&own)).await, 200);
    let ends = ("GET", "/group/ends", Vec::new(), Vec::new());
    assert_eq!(asks(&ends).await, 200);
}
