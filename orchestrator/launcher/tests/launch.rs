//! The launcher as a program, against a real store in a folder. How it behaves
//! under an executor, when it is stopped or killed, is in the executors'
//! conformance suite.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use auria_core::AttemptId;
use auria_core::outcome::{Cause, Status};
use auria_core::plan::{
    DataType, Environment, Network, ProcessEnvironment, Template, TemplatePart,
};
use auria_core::resources::Resources;
use auria_core::run::AttemptNews;
use auria_core::ticket::{TICKET_VERSION, Ticket, TicketInput};
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
