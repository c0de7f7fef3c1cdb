//! The launcher as a program, against a real store in a folder. How it behaves
//! under an executor, when it is stopped or killed, is in the executors'
//! conformance suite.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use auria_core::distribution::Distribution;
use auria_core::outcome::{Cause, EndRecord, MemberEnd, Status};
use auria_core::plan::{
    DataType, Environment, Network, ProcessEnvironment, Template, TemplatePart,
};
use auria_core::resources::Resources;
use auria_core::run::AttemptNews;
use auria_core::ticket::{TICKET_VERSION, Ticket, TicketInput};
use auria_core::{AttemptId, Nonce};
use auria_launcher::LaunchOptions;
use auria_launcher::runtime::{AttemptFolder, LAUNCH, RuntimeRoot};
use auria_store::logs::LogReader;
use auria_store::{Access, Journal, Store, artifact, layout};
use std::collections::BTreeMap;
use std::process::{Command, ExitStatus};

struct World {
    dir: tempfile::TempDir,
    store: Store,
    runtime: RuntimeRoot,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = dir.path().join("store").to_str().unwrap().parse().unwrap();
        let store = Store::open(&url, Access::Write).await.unwrap();
        let runtime = RuntimeRoot::at(dir.path().join("r")).unwrap();
        Self {
            dir,
            store,
            runtime,
        }
    }

    fn journal(&self, ticket: &Ticket) -> Journal {
        Journal::new(self.store.clone(), ticket.attempt.run.clone())
    }

    fn folder(&self, ticket: &Ticket) -> AttemptFolder {
        self.runtime
            .attempt(&self.store.url().to_string(), &ticket.attempt)
    }

    fn work_root(&self) -> std::path::PathBuf {
        self.dir.path().join("work")
    }

    async fn launch(&self, ticket: &Ticket) -> ExitStatus {
        let folder = self.folder(ticket);
        folder.create().unwrap();
        let options = LaunchOptions {
            store: self.store.url().to_string(),
            identity: String::new(),
            ticket: ticket.clone(),
            lock: None,
            listener: None,
            warm: None,
            holds: Vec::new(),
            gpus: Vec::new(),
            path: vec!["/opt/auria-test".into()],
            work_root: self.work_root(),
            queued_ms: Some(7),
            room_at_ms: None,
            store_patience_ms: 2_000,
            engine: None,
        };
        folder.write(LAUNCH, &options).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_auria-launcher"));
        command.arg(folder.path()).env("AURIA_STORE", "secret");
        tokio::task::spawn_blocking(move || command.status().unwrap())
            .await
            .unwrap()
    }
}

fn ticket(command: &[TemplatePart]) -> Ticket {
    Ticket {
        version: TICKET_VERSION,
        attempt: AttemptId {
            run: "test-1".parse().unwrap(),
            step: "step".parse().unwrap(),
            number: 1,
        },
        claims_before: 0,
        pipeline: "test".to_owned(),
        experiment: "test".to_owned(),
        command: Template(command.to_vec()),
        code: None,
        environment: Environment::Process(ProcessEnvironment {
            os: "linux".to_owned(),
            arch: "any".to_owned(),
            host: "any".to_owned(),
            executable: None,
            image: None,
        }),
        variables: BTreeMap::new(),
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        resources: Resources {
            instances: 1,
            ..Resources::default()
        },
        compute: None,
        network: Network::Default,
        distribution: None,
        keep_warm: None,
        timeout_ms: None,
        grace_ms: 2_000,
        publish_grace_ms: 2_000,
        restore: None,
        key: None,
    }
}

fn text(text: &str) -> TemplatePart {
    TemplatePart::Text(text.to_owned())
}

#[tokio::test]
async fn a_ticket_becomes_an_outcome() {
    let world = World::new().await;
    let mut ticket = ticket(&[
        text("echo out; echo err >&2; set -e; mkdir -p '"),
        TemplatePart::Output("made".to_owned()),
        text("/ä b'; printf %s "),
        TemplatePart::Input("mood".to_owned()),
        TemplatePart::Optional(vec![
            text(" dropped "),
            TemplatePart::Input("absent".to_owned()),
        ]),
        text(" > '"),
        TemplatePart::Output("made".to_owned()),
        text(
            "/ä b/größe 1.txt'; echo $VALUE:$AURIA_RUN:$AURIA_STEP:$AURIA_ATTEMPT:${AURIA_STORE-none}:${CUDA_VISIBLE_DEVICES-unset}: > ",
        ),
        TemplatePart::Output("file".to_owned()),
        text(
            "; echo \"$PATH\"; echo '{\"loss\": 1}' >> $AURIA_METRICS; test -d $AURIA_CHECKPOINTS; read line || echo no input",
        ),
    ]);
    ticket.inputs.insert(
        "mood".to_owned(),
        TicketInput::Literal {
            value: "joy".to_owned(),
        },
    );
    ticket
        .inputs
        .insert("absent".to_owned(), TicketInput::Absent);
    ticket.variables.insert(
        "VALUE".to_owned(),
        Template(vec![text("is "), TemplatePart::Input("mood".to_owned())]),
    );
    ticket
        .outputs
        .insert("made".to_owned(), DataType::UriFolder);
    ticket.outputs.insert("file".to_owned(), DataType::UriFile);
    assert!(world.launch(&ticket).await.success());

    let outcome = world
        .journal(&ticket)
        .read_outcome(&ticket.attempt.step)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (outcome.status, outcome.attempts, outcome.exit_code),
        (Status::Completed, 1, Some(0))
    );
    assert_eq!(outcome.timings.queued_ms, Some(7));
    assert!(outcome.timings.ran_ms.is_some() && outcome.timings.scheduled_ms.is_none());
    let to = world.dir.path().join("fetched");
    artifact::fetch(&world.store, &outcome.outputs["made"], &to)
        .await
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(to.join("ä b/größe 1.txt")).unwrap(),
        "joy"
    );
    let file = artifact::fetch(&world.store, &outcome.outputs["file"], &to)
        .await
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(file.path).unwrap(),
        "is joy:test-1:step:1:none::\n"
    );

    let nonce = outcome.nonce.unwrap();
    let log = LogReader::new(world.store.clone(), layout::logs(&ticket.attempt, &nonce))
        .read_rest()
        .await
        .unwrap();
    let log = String::from_utf8(log).unwrap();
    assert!(log.starts_with("out\nerr\n/opt/auria-test:"), "{log}");
    assert!(log.ends_with("no input\n"), "{log}");
    assert_eq!(
        outcome.last_lines.last().map(String::as_str),
        Some("no input")
    );
    let metrics = world
        .store
        .read(&layout::metrics(&ticket.attempt, &nonce))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(metrics, "{\"loss\": 1}\n");
    assert!(
        !world.folder(&ticket).path().exists(),
        "nothing is left of it on this machine"
    );
    assert_eq!(std::fs::read_dir(world.work_root()).unwrap().count(), 0);

    // A second launcher of the same attempt runs nothing.
    assert_eq!(world.launch(&ticket).await.code(), Some(11));
    assert_eq!(
        world.folder(&ticket).last_word().unwrap(),
        Some(AttemptNews::ClaimLost)
    );
}

#[tokio::test]
async fn what_fails_leaves_its_end_and_what_it_wrote() {
    let world = World::new().await;
    let mut ticket = ticket(&[
        text("echo half > "),
        TemplatePart::Output("made".to_owned()),
        text("/part; echo bad; exit 3"),
    ]);
    ticket
        .outputs
        .insert("made".to_owned(), DataType::UriFolder);
    assert_eq!(world.launch(&ticket).await.code(), Some(10));
    let journal = world.journal(&ticket);
    let end = journal.read_end(&ticket.attempt).await.unwrap().unwrap();
    assert_eq!((end.cause, end.exit_code), (Cause::Exit, Some(3)));
    assert_eq!(end.last_lines, ["bad"]);
    let place = layout::output(&ticket.attempt, &end.nonce.unwrap(), "made");
    assert_eq!(
        end.message,
        format!("the command exited with 3; partial outputs: `made` in {place}")
    );
    assert_eq!(
        world
            .store
            .read(&place.join("part"))
            .await
            .unwrap()
            .unwrap(),
        "half\n"
    );
    assert!(
        journal
            .read_outcome(&ticket.attempt.step)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_checkpoint_is_kept_and_restored() {
    let world = World::new().await;
    let script = "cd $AURIA_CHECKPOINTS; cat state || true; mkdir .new; echo one > .new/state; mv .new a; \
                  sleep 0.3; mkdir .new; echo two > .new/state; mv .new b; exit 1";
    let mut ticket = ticket(&[text(script)]);
    world.launch(&ticket).await;
    let journal = world.journal(&ticket);
    let end = journal.read_end(&ticket.attempt).await.unwrap().unwrap();
    let newest = end.checkpoint.unwrap();
    assert_eq!(newest.generation, 2);

    ticket.attempt.number = 2;
    ticket.claims_before = 1;
    ticket.restore = Some(newest);
    world.launch(&ticket).await;
    let end = journal.read_end(&ticket.attempt).await.unwrap().unwrap();
    assert_eq!(end.last_lines, ["two"]);
}

/// A step of two instances with two processes each.
fn two_by_two(command: &[TemplatePart]) -> Ticket {
    let mut ticket = ticket(command);
    ticket.resources.instances = 2;
    ticket.distribution = Some(Distribution::Pytorch {
        process_count_per_instance: 2,
    });
    ticket
        .outputs
        .insert("made".to_owned(), DataType::UriFolder);
    ticket
}

fn made() -> TemplatePart {
    TemplatePart::Output("made".to_owned())
}

impl World {
    async fn end(&self, ticket: &Ticket) -> EndRecord {
        let end = self.journal(ticket).read_end(&ticket.attempt).await;
        end.unwrap().unwrap()
    }

    async fn member_ends(&self, ticket: &Ticket, nonce: &Nonce) -> Vec<MemberEnd> {
        let mut ends = Vec::new();
        for rank in 0..4 {
            let path = layout::member_end(&ticket.attempt, nonce, rank);
            ends.push(self.store.read_json(&path).await.unwrap().unwrap());
        }
        ends
    }
}

#[tokio::test]
async fn processes_of_a_distributed_step_know_their_places_and_become_one() {
    let world = World::new().await;
    let ticket = two_by_two(&[
        text("echo \"$RANK $LOCAL_RANK $NODE_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT\" > "),
        made(),
        text("/rank-$RANK; echo same > "),
        made(),
        text("/both; echo here is $RANK"),
    ]);
    assert!(world.launch(&ticket).await.success());
    // One launcher does not speak for a group: the driver commits.
    let journal = world.journal(&ticket);
    let outcome = journal.read_outcome(&ticket.attempt.step).await.unwrap();
    assert_eq!(outcome, None);
    let end = world.end(&ticket).await;
    let outcome = end.published.unwrap_or_else(|| panic!("{}", end.message));
    let to = world.dir.path().join("fetched");
    artifact::fetch(&world.store, &outcome.outputs["made"], &to)
        .await
        .unwrap();
    let read = |name: &str| std::fs::read_to_string(to.join(name)).unwrap();
    assert_eq!(read("both"), "same\n");
    let mut ports = Vec::new();
    for (rank, place) in ["0 0 0", "1 1 0", "2 0 1", "3 1 1"].iter().enumerate() {
        let said = read(&format!("rank-{rank}"));
        let (place_of, port) = said.trim().rsplit_once(' ').unwrap();
        assert_eq!(place_of, format!("{place} 4 127.0.0.1"));
        ports.push(port.parse::<u16>().unwrap());
    }
    assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    let nonce = outcome.nonce.unwrap();
    let log = LogReader::new(world.store.clone(), layout::logs(&ticket.attempt, &nonce))
        .read_rest()
        .await
        .unwrap();
    let mut lines: Vec<_> = std::str::from_utf8(&log).unwrap().lines().collect();
    lines.sort_unstable();
    let expected: Vec<_> = (0..4)
        .map(|rank| format!("[rank {rank}] here is {rank}"))
        .collect();
    assert_eq!(lines, expected);
    let ends = world.member_ends(&ticket, &nonce).await;
    assert!(ends.iter().all(|end| end.cause.is_none()), "{ends:?}");
    assert_eq!(std::fs::read_dir(world.work_root()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_process_that_falls_ends_the_others_and_is_named() {
    let world = World::new().await;
    let ticket = two_by_two(&[text(
        "if [ $RANK = 2 ]; then echo this is why; sleep 0.3; exit 7; fi; sleep 300",
    )]);
    let begun = std::time::Instant::now();
    assert!(!world.launch(&ticket).await.success());
    assert!(begun.elapsed().as_secs() < 60);
    let end = world.end(&ticket).await;
    assert_eq!((end.cause, end.exit_code), (Cause::Exit, Some(7)));
    assert!(
        end.message
            .starts_with("rank 2 of 4: the command exited with 7"),
        "{}",
        end.message
    );
    assert_eq!(end.last_lines, ["this is why"]);
    for member in world.member_ends(&ticket, &end.nonce.unwrap()).await {
        let is_first = member.rank == 2;
        assert_eq!(member.drawn_along, !is_first, "{member:?}");
        let cause = if is_first {
            Cause::Exit
        } else {
            Cause::Canceled
        };
        assert_eq!(member.cause, Some(cause), "{member:?}");
    }
}

#[tokio::test]
async fn two_that_write_one_file_differently_fail_the_step() {
    let world = World::new().await;
    let ticket = two_by_two(&[text("echo $RANK > "), made(), text("/model")]);
    assert!(!world.launch(&ticket).await.success());
    let end = world.end(&ticket).await;
    assert_eq!(end.cause, Cause::Exit);
    let said = "`made` is not one: ranks 0 and 1 wrote `model` differently";
    assert!(end.message.contains(said), "{}", end.message);
}

#[tokio::test]
async fn servers_of_tensorflow_end_with_the_workers() {
    let world = World::new().await;
    let mut ticket = two_by_two(&[
        text("case \"$TF_CONFIG\" in *'\"ps\",'*|*'\"ps\"}'*) echo ps > "),
        made(),
        text("/ps; sleep 300;; *) echo \"$TF_CONFIG\" > "),
        made(),
        text("/worker; sleep 1;; esac"),
    ]);
    ticket.distribution = Some(Distribution::Tensorflow {
        worker_count: 1,
        parameter_server_count: 1,
    });
    assert!(world.launch(&ticket).await.success());
    let end = world.end(&ticket).await;
    let outcome = end.published.unwrap_or_else(|| panic!("{}", end.message));
    assert_eq!(outcome.outputs["made"].files, 2);
}

#[tokio::test]
async fn mpirun_starts_the_processes_of_mpi() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new().await;
    let programs = world.dir.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    let mpirun = programs.join("mpirun");
    std::fs::write(
        &mpirun,
        "#!/bin/sh\n[ \"$1 $2 $3\" = '-np 4 --hostfile' ] || exit 9\nhosts=$4; shift 4\nwhile read -r host; do \"$@\" || exit; done < \"$hosts\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&mpirun, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut ticket = two_by_two(&[text("echo 'it ran' >> "), made(), text("/ran")]);
    ticket.distribution = Some(Distribution::Mpi {
        process_count_per_instance: 2,
    });
    let path = format!("{}:/usr/bin:/bin", programs.display());
    ticket
        .variables
        .insert("PATH".to_owned(), Template(vec![text(&path)]));
    assert!(world.launch(&ticket).await.success());
    let end = world.end(&ticket).await;
    let outcome = end.published.unwrap_or_else(|| panic!("{}", end.message));
    let to = world.dir.path().join("fetched");
    artifact::fetch(&world.store, &outcome.outputs["made"], &to)
        .await
        .unwrap();
    let ran = std::fs::read_to_string(to.join("ran")).unwrap();
    assert_eq!(ran, "it ran\n".repeat(4));
}
