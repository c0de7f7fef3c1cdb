//! The API with a user's command line before it: who gets in, what they may write, and the
//! changes of a run as they come.

use crate::fixtures;
use crate::world::{Behind, World};
use async_trait::async_trait;
use auria_core::outcome::{Decision, LogRecord, RunEnd, Status};
use auria_core::protocol::API;
use auria_core::{Digest, RunId, Timestamp};
use auria_engine::feed::Feed;
use auria_server::Listening;
use auria_server::api::{Action, Api, ApiOptions, Denied, NotStarted, Reserved, Runs, User, Vouch};
use auria_store::remote::{Remote, RemoteOptions};
use auria_store::runs::{RecentRun, RunJson, RunState};
use auria_store::{ErrorKind, Journal, Store, StorePath, layout, runs, snapshot};
use object_store::{ObjectStore, PutMode, PutOptions};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// Knows three tokens.
#[derive(Default)]
struct Tokens {
    asked: Mutex<u32>,
}

#[async_trait]
impl Vouch for Tokens {
    async fn vouch(&self, token: &str, action: Action) -> Result<User, Denied> {
        *self.asked.lock().unwrap() += 1;
        let name = match token {
            "writer" => "wanda",
            "reader" => "rita",
            "nobody" => "norbert",
            _ => return Err(Denied::Unknown),
        };
        let may = name == "wanda" || (name == "rita" && action == Action::Read);
        let user = name.to_owned();
        if may {
            Ok(User {
                id: user.clone(),
                name: user,
            })
        } else {
            Err(Denied::Forbidden { user })
        }
    }
}

/// Remembers what it is asked.
#[derive(Default)]
struct Started {
    asked: Mutex<Vec<String>>,
    feed: Mutex<Option<Feed>>,
}

#[async_trait]
impl Runs for Started {
    async fn start(&self, run: &RunId, by: &User, _place: Reserved) -> Result<(), NotStarted> {
        self.asked
            .lock()
            .unwrap()
            .push(format!("start {run} by {}", by.name));
        Ok(())
    }

    fn nudge(&self, run: &RunId) {
        self.asked.lock().unwrap().push(format!("nudge {run}"));
    }

    fn feed(&self, _run: &RunId) -> Option<Feed> {
        self.feed.lock().unwrap().clone()
    }

    async fn check(&self, plan: &auria_core::plan::Plan) -> Result<Vec<String>, String> {
        let steps = plan.steps.iter().map(|step| step.path.display());
        Ok(steps.map(|step| format!("no node fits {step}")).collect())
    }

    fn computes(&self) -> Vec<String> {
        vec!["gpu-cluster".to_owned()]
    }
}

struct Served {
    world: World,
    url: String,
    tokens: Arc<Tokens>,
    started: Arc<Started>,
    _listening: Listening,
}

impl Served {
    async fn new() -> Self {
        let world = World::new(Behind::Folder).await;
        let (tokens, started) = (Arc::<Tokens>::default(), Arc::<Started>::default());
        let api = Api::new(ApiOptions {
            store: world.store.clone(),
            vouch: Arc::<Tokens>::clone(&tokens),
            runs: Arc::<Started>::clone(&started),
            sign: false,
            store_authorities: None,
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let tls = world.authority().server(&["127.0.0.1".to_owned()]).unwrap();
        let listening = Listening::start(listener, tls, api.router()).unwrap();
        Self {
            world,
            url,
            tokens,
            started,
            _listening: listening,
        }
    }

    fn remote(&self, token: &str) -> Remote {
        Remote::new(&RemoteOptions {
            url: self.url.clone(),
            base: API,
            token: token.to_owned(),
            authority: Some(self.world.authority().certificate().to_owned()),
        })
        .unwrap()
    }

    async fn store(&self, token: &str) -> Result<Store, auria_store::StoreError> {
        let remote = self.remote(token);
        remote.store(&remote.grant().await?)
    }

    async fn ask(&self, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
        let authority = self.world.authority().certificate();
        let certificate = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([certificate]);
        let mut request = client
            .build()
            .unwrap()
            .request(method.parse().unwrap(), format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

fn cancel(seq: u64) -> LogRecord {
    LogRecord {
        seq,
        epoch: 1,
        nonce: fixtures::nonce(seq),
        at: Timestamp(1),
        decision: Decision::CancelRequested {
            by: "wanda".to_owned(),
        },
    }
}

pub(crate) async fn a_user_submits_over_the_api() {
    let served = Served::new().await;
    let store = served.store("writer").await.unwrap();
    // As `submit` does it: the run, its snapshot, ready.
    let code = served.world.dir.path().join("code");
    std::fs::create_dir(&code).unwrap();
    std::fs::write(code.join("run.sh"), "true").unwrap();
    let scanned = snapshot::scan(&code, &[]).await.unwrap();
    let mut record = fixtures::run_json("kathi-1", 1, 1_000);
    record.state = RunState::Preparing;
    record.snapshots.insert(scanned.digest);
    runs::create(&store, &record).await.unwrap();
    assert!(snapshot::upload(&store, &scanned).await.unwrap());
    runs::mark_ready(&store, &mut record).await.unwrap();
    let behind = &served.world.store;
    assert_eq!(
        runs::read(behind, &record.run).await.unwrap().state,
        RunState::Ready
    );
    assert_eq!(runs::list_recent(&store, 10).await.unwrap().len(), 1);
    let answer = served
        .ask("POST", &format!("{API}/runs/kathi-1"), Some("writer"))
        .await;
    assert_eq!(answer.0, 202);
    let asked = served.started.asked.lock().unwrap().clone();
    assert_eq!(asked, ["start kathi-1 by wanda"]);

    // What is not a user's to write.
    let denied = |result: Result<(), auria_store::StoreError>, what: &str| {
        let kind = result.err().map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::Denied), "{what}");
    };
    for path in [
        "layout.json",
        "runs/kathi-1/end.json",
        "runs/kathi-1/run.json",
        "runs/kathi-1/outcomes/step.json",
        "runs/kathi-1/attempts/step/1/claim.json",
        "runs/kathi-1/data/step/1-00000000000000aa/outputs/x",
        "runs/kathi-1/tombstone",
        "reuse/x.json",
        "assets/model/m/1.json",
        "recent/x",
        "verdicts/00000000000000aa",
    ] {
        denied(store.write(&StorePath::from(path), "x").await, path);
    }
    denied(store.delete(&layout::run_json(&record.run)).await, "delete");
    // A run's log is its driver's: also what asks to cancel it has a call of its own.
    let journal = Journal::new(store.clone(), record.run.clone());
    let mut took_over = cancel(1);
    took_over.epoch = u64::MAX;
    took_over.decision = Decision::TookOver {
        driver: "wanda".to_owned(),
    };
    for mine in [took_over, cancel(1)] {
        let kind = journal.append(&mine).await.unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Denied, "{mine:?}");
    }
    let path = layout::log_record(&record.run, 1);
    denied(store.write_json(&path, &cancel(1)).await, "a log");
    let mut stolen = record.clone();
    stolen.nonce = fixtures::nonce(9);
    denied(
        store
            .write_json(&layout::run_json(&record.run), &stolen)
            .await,
        "run.json",
    );
    assert!(
        runs::create(&store, &stolen).await.is_err(),
        "the name is taken"
    );

    snapshots_and_lists_are_made_once(&served, &record, &scanned.digest).await;

    // Who may look alone.
    let reader = served.store("reader").await.unwrap();
    assert_eq!(runs::read(&reader, &record.run).await.unwrap(), record);
    let journal = Journal::new(reader.clone(), record.run.clone());
    assert_eq!(
        journal.append(&cancel(2)).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    let other = fixtures::run_json("kathi-2", 2, 2_000);
    assert_eq!(
        runs::create(&reader, &other).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    let answer = served
        .ask("POST", &format!("{API}/runs/kathi-1"), Some("reader"))
        .await;
    assert_eq!(answer.0, 403, "{}", answer.1);
}

pub(crate) async fn a_run_is_canceled_in_the_name_of_who_asks() {
    let served = Served::new().await;
    let behind = &served.world.store;
    let record = fixtures::run_json("kathi-1", 1, 1_000);
    runs::create(behind, &record).await.unwrap();
    let journal = Journal::new(behind.clone(), record.run.clone());
    let kind = |result: Result<(), auria_store::StoreError>| result.err().map(|e| e.kind());

    let reader = served.remote("reader");
    assert_eq!(
        kind(reader.cancel(&record.run).await),
        Some(ErrorKind::Denied)
    );
    let writer = served.remote("writer");
    let unknown: RunId = "kathi-2".parse().unwrap();
    assert_eq!(
        kind(writer.cancel(&unknown).await),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(journal.whole_log().await.unwrap(), []);
    assert!(served.started.asked.lock().unwrap().is_empty());

    // Twice: the request that stands is enough.
    for _ in 0..2 {
        writer.cancel(&record.run).await.unwrap();
    }
    let log = journal.whole_log().await.unwrap();
    assert_eq!(log.len(), 1, "{log:?}");
    let by = "wanda".to_owned();
    assert_eq!(log[0].decision, Decision::CancelRequested { by });
    assert_eq!(
        *served.started.asked.lock().unwrap(),
        ["nudge kathi-1", "nudge kathi-1"]
    );

    // One that has ended is left as it is.
    let ended = fixtures::run_json("kathi-3", 3, 1_000);
    runs::create(behind, &ended).await.unwrap();
    let journal = Journal::new(behind.clone(), ended.run.clone());
    let end = RunEnd {
        status: Status::Completed,
        started: None,
        ended: Timestamp(2_000),
        counts: Default::default(),
        problems: Vec::new(),
    };
    journal.end_run(&end).await.unwrap();
    writer.cancel(&ended.run).await.unwrap();
    assert_eq!(journal.whole_log().await.unwrap(), []);
}

/// What others submitted is not written over, and what is new says what it is.
async fn snapshots_and_lists_are_made_once(served: &Served, record: &RunJson, digest: &Digest) {
    let store = served.store("writer").await.unwrap();
    let denied = async |path: StorePath, create: bool, bytes: &str| {
        let mode = if create {
            PutMode::Create
        } else {
            PutMode::Overwrite
        };
        let options = PutOptions::from(mode);
        let payload = bytes.to_owned().into();
        let wrote = store.objects().put_opts(&path, payload, options).await;
        assert!(
            matches!(wrote, Err(object_store::Error::PermissionDenied { .. })),
            "{path} with {bytes}: {wrote:?}"
        );
    };
    let manifest = layout::snapshot_manifest(digest);
    let stands = served.world.store.read(&manifest).await.unwrap().unwrap();
    let stands = String::from_utf8(stands.to_vec()).unwrap();
    denied(manifest.clone(), false, &stands).await;
    denied(manifest, true, "{\"entries\": []}").await;
    let file = layout::snapshot_files(digest).join("run.sh");
    denied(file.clone(), false, "false").await;
    denied(file, true, "false").await;
    // A new one: its files, and no manifest but its own.
    let new = Digest::of(b"another");
    let file = layout::snapshot_files(&new).join("run.sh");
    store.write(&file, "true").await.unwrap();
    denied(layout::snapshot_manifest(&new), true, &stands).await;
    let shouted = new.hex().to_uppercase();
    let path = StorePath::from(format!("snapshots/{shouted}/files/run.sh"));
    denied(path, false, "true").await;

    let recent = RecentRun::of(record);
    let line = |recent: &RecentRun| serde_json::to_string(recent).unwrap();
    let place = |recent: &RecentRun| layout::recent(&recent.run, recent.created);
    denied(place(&recent), false, &line(&recent)).await;
    let mut unheard = recent.clone();
    unheard.run = "unheard-1".parse().unwrap();
    let mut later = recent.clone();
    later.created = Timestamp(recent.created.0 + 1);
    let mut other = recent.clone();
    other.pipeline = "another".to_owned();
    for wrong in [unheard, later, other] {
        denied(place(&wrong), true, &line(&wrong)).await;
    }
}

pub(crate) async fn nobody_gets_into_the_api_without_being_vouched_for() {
    let served = Served::new().await;
    let session = {
        use auria_engine::relay::TicketIssuer;
        served.world.broker.issue(&fixtures::id("step", 1)).token
    };
    for (method, path) in [
        ("GET", "/version"),
        ("GET", "/store"),
        ("GET", "/store/object?path=layout.json"),
        ("GET", "/store/list?prefix="),
        ("PUT", "/store/object?path=snapshots/x&mode=create"),
        ("POST", "/runs/kathi-1"),
        ("POST", "/runs/kathi-1/cancel"),
        ("GET", "/runs/kathi-1/events"),
    ] {
        let path = format!("{API}{path}");
        for (token, expected) in [
            (None, 401),
            (Some(""), 401),
            (Some("unknown"), 401),
            // An attempt's token counts for nothing here.
            (Some(session.as_str()), 401),
            (Some("nobody"), 403),
        ] {
            let (status, body) = served.ask(method, &path, token).await;
            assert_eq!(status, expected, "{method} {path} with {token:?}: {body}");
        }
    }
    assert_eq!(served.ask("GET", "/healthz", None).await.0, 200);
    let nothing = format!("{API}/nothing");
    for (path, token, expected) in [
        ("/elsewhere", None, 401),
        ("/elsewhere", Some("reader"), 401),
        (&nothing, None, 401),
        (&nothing, Some("nobody"), 403),
        // Who may look learns that nothing is there.
        (&nothing, Some("reader"), 404),
    ] {
        let (status, body) = served.ask("GET", path, token).await;
        assert_eq!(status, expected, "{path} with {token:?}: {body}");
    }
    let (status, body) = served
        .ask("GET", &format!("{API}/version"), Some("reader"))
        .await;
    assert_eq!(status, 200, "{body}");
    // Answers are remembered for a moment.
    let asked = *served.tokens.asked.lock().unwrap();
    for _ in 0..20 {
        served
            .ask("GET", &format!("{API}/version"), Some("reader"))
            .await;
    }
    assert_eq!(*served.tokens.asked.lock().unwrap(), asked);
}

pub(crate) async fn changes_of_a_run_come_as_events() {
    let served = Served::new().await;
    let path = format!("{API}/runs/kathi-1/events");
    let (status, body) = served.ask("GET", &path, Some("reader")).await;
    assert_eq!(status, 404);
    assert!(body.contains("auria:not-driven"), "{body}");
    let feed = Feed::new("kathi-1".parse().unwrap());
    *served.started.feed.lock().unwrap() = Some(feed.clone());
    let ask = served.ask("GET", &path, Some("reader"));
    let speak = async {
        // The reader has begun to follow once the feed is taken; lines before are missed.
        for number in 0..50 {
            feed.line(&fixtures::id("step", 1), &format!("line {number}"));
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        *served.started.feed.lock().unwrap() = None;
        drop(feed);
    };
    let ((status, body), ()) = tokio::join!(ask, speak);
    assert_eq!(status, 200);
    assert!(
        body.contains("event: change\ndata: {\"change\":\"line\""),
        "{body}"
    );
    assert!(body.contains("line 49"), "{body}");
}
