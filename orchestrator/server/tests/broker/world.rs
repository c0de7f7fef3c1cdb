//! A broker with what stands behind it and what calls it.

use auria_core::outcome::{Cause, Outcome};
use auria_core::plan::{
    DataType, Environment, Network, ProcessEnvironment, Template, TemplatePart,
};
use auria_core::resources::Resources;
use auria_core::ticket::{TICKET_VERSION, Ticket};
use auria_core::{AttemptId, Timestamp};
use auria_engine::executor::AttemptEvent;
use auria_engine::relay::{BrokerAccess, TicketIssuer, Wake};
use auria_server::broker::{Broker, BrokerOptions};
use auria_server::tls::Authority;
use auria_server::{Listening, TokenKey};
use auria_store::testing::Weed;
use auria_store::{Access, Journal, Store, StoreUrl};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What stands behind a broker.
pub(crate) enum Behind {
    Folder,
    Weed(Weed),
}

/// Remembers what it is told.
#[derive(Default)]
pub(crate) struct Heard {
    events: Mutex<Vec<AttemptEvent>>,
    /// What it knows of who took an attempt away.
    pub(crate) taken_by: Mutex<Option<Cause>>,
}

#[async_trait::async_trait]
impl Wake for Heard {
    fn tell(&self, event: AttemptEvent) {
        self.events.lock().unwrap().push(event);
    }

    async fn taken_by(&self, _: &AttemptId) -> Option<Cause> {
        *self.taken_by.lock().unwrap()
    }
}

impl Heard {
    pub(crate) fn all(&self) -> Vec<AttemptEvent> {
        self.events.lock().unwrap().clone()
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) heard: Arc<Heard>,
    authority: Authority,
    pub(crate) broker: Broker,
    listening: Option<Listening>,
    address: SocketAddr,
    change: fn(&mut BrokerOptions),
    _behind: Behind,
}

pub(crate) const KEY: [u8; 32] = [42; 32];

impl World {
    pub(crate) async fn new(behind: Behind) -> Self {
        Self::with(behind, |_| {}).await
    }

    pub(crate) async fn with(behind: Behind, change: fn(&mut BrokerOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = match &behind {
            Behind::Folder => {
                let url = StoreUrl::Folder(dir.path().join("store"));
                Store::open(&url, Access::Write).await.unwrap()
            }
            Behind::Weed(weed) => weed.open(&weed.url("broker"), Access::Write).await.unwrap(),
        };
        let authority = Authority::make().unwrap();
        let heard = Arc::new(Heard::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let broker = broker(&store, &authority, &heard, address, change);
        let listening = Some(listen(&broker, &authority, listener));
        Self {
            dir,
            store,
            heard,
            authority,
            broker,
            listening,
            address,
            change,
            _behind: behind,
        }
    }

    /// Ends the broker, with all that it remembers.
    pub(crate) async fn end_broker(&mut self) {
        let listening = self.listening.take().unwrap();
        listening.stop(Duration::from_millis(100)).await.unwrap();
    }

    /// Another broker in the place of the first.
    pub(crate) fn start_broker(&mut self) {
        let Self {
            store,
            authority,
            heard,
            address,
            change,
            ..
        } = self;
        self.broker = broker(store, authority, heard, *address, *change);
        let listener = TcpListener::bind(*address).unwrap();
        self.listening = Some(listen(&self.broker, authority, listener));
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn journal(&self, ticket: &Ticket) -> Journal {
        Journal::new(self.store.clone(), ticket.attempt.run.clone())
    }

    pub(crate) async fn outcome(&self, ticket: &Ticket) -> Option<Outcome> {
        let journal = self.journal(ticket);
        journal.read_outcome(&ticket.attempt.step).await.unwrap()
    }

    /// A session token as a broker with this key makes it.
    pub(crate) fn session(&self, id: &AttemptId, nonce: &str, expires: Timestamp) -> String {
        let AttemptId { run, step, number } = id;
        let said = format!("1/session/{run}/{step}/{number}/{nonce}/{}", expires.0);
        let mut mac: Hmac<Sha256> = Hmac::new_from_slice(&KEY).unwrap();
        mac.update(said.as_bytes());
        let mac = mac.finalize().into_bytes();
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{said}/{hex}")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// A launcher as a Pod has it: this environment, and nothing else.
    pub(crate) fn pod(&self, access: &BrokerAccess) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .arg("pod")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("AURIA_BROKER", &access.url)
            .env("AURIA_BROKER_TOKEN", &access.token)
            .env("AURIA_BROKER_CA", &access.authority)
            .env("AURIA_WORK", self.work());
        command
    }

    /// Writes the ticket and carries it out.
    pub(crate) async fn launch(&self, ticket: &Ticket) -> ExitStatus {
        self.journal(ticket).write_ticket(ticket).await.unwrap();
        let mut command = self.pod(&self.broker.issue(&ticket.attempt));
        tokio::task::spawn_blocking(move || command.status().unwrap())
            .await
            .unwrap()
    }
}

fn broker(
    store: &Store,
    authority: &Authority,
    heard: &Arc<Heard>,
    address: SocketAddr,
    change: fn(&mut BrokerOptions),
) -> Broker {
    let wake: Arc<dyn Wake> = Arc::<Heard>::clone(heard);
    let mut options = BrokerOptions::new(
        store.clone(),
        TokenKey::new(&KEY).unwrap(),
        format!("https://{address}"),
        authority.certificate().to_owned(),
        wake,
    );
    change(&mut options);
    Broker::new(options)
}

fn listen(broker: &Broker, authority: &Authority, listener: TcpListener) -> Listening {
    let tls = authority.server(&["127.0.0.1".to_owned()]).unwrap();
    Listening::start(listener, tls, broker.router()).unwrap()
}

pub(crate) fn text(text: &str) -> TemplatePart {
    TemplatePart::Text(text.to_owned())
}

pub(crate) fn ticket(step: &str, command: &[TemplatePart]) -> Ticket {
    Ticket {
        version: TICKET_VERSION,
        attempt: AttemptId {
            run: "test-1".parse().unwrap(),
            step: step.parse().unwrap(),
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

/// The same with an output.
pub(crate) fn with_output(mut ticket: Ticket, name: &str, data_type: DataType) -> Ticket {
    ticket.outputs.insert(name.to_owned(), data_type);
    ticket
}

/// The files below a folder, by relative path.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                all.insert(name.display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }
    all
}
