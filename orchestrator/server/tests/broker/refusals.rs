//! What a broker refuses, request by request: without a token, with one that counts for
//! something else, and everything beyond the rights of one claim.

use crate::world::{Behind, World, text, ticket};
use auria_core::outcome::{Claim, Decision, EndRecord, LogRecord, Outcome, Status, Timings};
use auria_core::plan::DataType;
use auria_core::protocol::{BROKER, ClaimGrant, PROTOCOL_VERSION, Sign, SignFor, SignRequest};
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, Digest, Nonce, Timestamp};
use auria_engine::relay::TicketIssuer;
use auria_store::{Journal, layout};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NONCE: &str = "00000000000000aa";
const OTHER: &str = "00000000000000bb";

/// Asks without the checks of the real client.
struct Asker<'a> {
    world: &'a World,
    client: reqwest::Client,
}

/// What is asked: method, path below the broker's base, query, body.
type Asked<'a> = (&'static str, &'static str, Vec<(&'a str, &'a str)>, Vec<u8>);

impl<'a> Asker<'a> {
    fn new(world: &'a World) -> Self {
        let authority = world.broker.issue(&id("step")).authority;
        let certificate = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([certificate])
            .build()
            .unwrap();
        Self { world, client }
    }

    async fn ask(&self, token: Option<&str>, asked: &Asked<'_>) -> (u16, String) {
        let (method, path, query, body) = asked;
        let base = self.world.broker.issue(&id("step")).url;
        let mut url = reqwest::Url::parse(&format!("{base}{BROKER}{path}")).unwrap();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self
            .client
            .request(method.parse().unwrap(), url)
            .header("auria-protocol", PROTOCOL_VERSION)
            .header("content-type", "application/json")
            .body(body.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn claim(&self, id: &AttemptId, nonce: &str) -> (u16, String) {
        let token = self.world.broker.issue(id).token;
        let asked = ("POST", "/claim", Vec::new(), encode(&claim(id, nonce)));
        self.ask(Some(&token), &asked).await
    }

    async fn session(&self, id: &AttemptId, nonce: &str) -> String {
        let (status, body) = self.claim(id, nonce).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<ClaimGrant>(&body).unwrap().session
    }
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn id(step: &str) -> AttemptId {
    ticket(step, &[text("true")]).attempt
}

fn claim(id: &AttemptId, nonce: &str) -> Claim {
    Claim {
        attempt: id.clone(),
        nonce: nonce.parse().unwrap(),
        host: "host".to_owned(),
        boot_id: String::new(),
        process: "1".to_owned(),
        claimed: Timestamp(1),
    }
}

fn outcome(id: &AttemptId, nonce: &str) -> Outcome {
    let nonce: Nonce = nonce.parse().unwrap();
    let place = layout::output(id, &nonce, "made");
    let made = auria_core::outcome::Artifact {
        prefix: place.to_string(),
        manifest: layout::output_manifest(id, &nonce, "made").to_string(),
        data_type: DataType::UriFolder,
        files: 1,
        bytes: 1,
        digest: Digest::of(b"x"),
    };
    Outcome {
        version: 1,
        run: id.run.clone(),
        step: id.step.clone(),
        status: Status::Completed,
        attempt: Some(id.number),
        nonce: Some(nonce),
        attempts: 1,
        cause: None,
        exit_code: Some(0),
        message: None,
        outputs: BTreeMap::from([("made".to_owned(), made)]),
        reused_from: None,
        key: None,
        timings: Timings::default(),
        last_lines: Vec::new(),
        node: None,
        started: None,
        ended: Timestamp(2),
    }
}

fn end(id: &AttemptId, nonce: &str) -> EndRecord {
    EndRecord {
        attempt: id.clone(),
        nonce: Some(nonce.parse().unwrap()),
        cause: auria_core::outcome::Cause::Exit,
        exit_code: Some(1),
        message: String::new(),
        last_lines: Vec::new(),
        timings: Timings::default(),
        checkpoint: None,
        published: None,
        node: None,
        started: None,
        ended: Timestamp(2),
    }
}

async fn write_ticket(world: &World, step: &str) -> Ticket {
    let ticket = ticket(step, &[text("true")]);
    world.journal(&ticket).write_ticket(&ticket).await.unwrap();
    ticket
}

fn read(path: &str) -> Asked<'_> {
    ("GET", "/store/object", vec![("path", path)], Vec::new())
}

fn put<'a>(path: &'a str, mode: &'a str, body: impl Into<Vec<u8>>) -> Asked<'a> {
    let query = vec![("path", path), ("mode", mode)];
    ("PUT", "/store/object", query, body.into())
}

fn sign(path: &str, to: SignFor) -> Asked<'static> {
    let requests = vec![SignRequest {
        path: path.to_owned(),
        to,
    }];
    (
        "POST",
        "/store/sign",
        Vec::new(),
        encode(&Sign { requests }),
    )
}

fn post(path: &'static str, body: &Value) -> Asked<'static> {
    ("POST", path, Vec::new(), encode(body))
}

/// One request of each kind.
fn every_kind(own: &str) -> Vec<Asked<'_>> {
    vec![
        ("GET", "/ticket", Vec::new(), Vec::new()),
        (
            "POST",
            "/claim",
            Vec::new(),
            encode(&claim(&id("step"), NONCE)),
        ),
        ("POST", "/news", Vec::new(), b"{\"said\": []}".to_vec()),
        ("GET", "/store", Vec::new(), Vec::new()),
        read(own),
        ("HEAD", "/store/object", vec![("path", own)], Vec::new()),
        put(own, "overwrite", "x"),
        put(own, "create", "x"),
        ("GET", "/store/list", vec![("prefix", own)], Vec::new()),
        ("GET", "/store/folders", vec![("prefix", own)], Vec::new()),
        post("/store/delete", &json!({"paths": [own]})),
        sign(own, SignFor::Get),
        sign(own, SignFor::Put),
        post("/store/parts/begin", &json!({"path": own})),
        post(
            "/store/parts/complete",
            &json!({"path": own, "upload": "u", "parts": []}),
        ),
        post("/store/parts/abort", &json!({"path": own, "upload": "u"})),
        (
            "PUT",
            "/store/parts/part",
            vec![("path", own), ("upload", "u"), ("part", "0")],
            b"x".to_vec(),
        ),
        ("GET", "/nothing/here", Vec::new(), Vec::new()),
    ]
}

pub(crate) async fn nobody_passes_without_a_token_that_counts() {
    let world = World::new(Behind::Folder).await;
    let step = write_ticket(&world, "step").await.attempt;
    let asker = Asker::new(&world);
    let session = asker.session(&step, NONCE).await;
    let own = format!("runs/test-1/data/step/1-{NONCE}/outputs/made/file");
    let old = World::with(Behind::Folder, |options| {
        options.bootstrap_life = std::time::Duration::ZERO;
    })
    .await;
    let expired = old.broker.issue(&step).token;
    let foreign = session.replace("/step/", "/other/");
    let longer = session.replace("/session/", "/session/x/");
    for token in [
        None,
        Some(""),
        Some("x"),
        Some(expired.as_str()),
        Some(foreign.as_str()),
        Some(longer.as_str()),
        Some(&session[..session.len() - 1]),
    ] {
        for asked in every_kind(&own) {
            let (status, body) = asker.ask(token, &asked).await;
            assert_eq!(status, 401, "{asked:?} with {token:?}: {body}");
            assert!(!body.contains("test-1"), "a hint: {body}");
        }
    }
    // Each kind of token opens its own calls alone.
    let bootstrap = world.broker.issue(&step).token;
    for asked in every_kind(&own) {
        let begins = ["/ticket", "/claim"].contains(&asked.1);
        let (status, _) = asker.ask(Some(&bootstrap), &asked).await;
        assert_eq!(
            status == 403,
            !begins && asked.1 != "/nothing/here",
            "{asked:?}: {status}"
        );
        let (status, _) = asker.ask(Some(&session), &asked).await;
        assert_eq!(status == 403, begins, "{asked:?}: {status}");
    }
}

pub(crate) async fn a_claim_is_granted_once() {
    let world = World::new(Behind::Folder).await;
    let step = write_ticket(&world, "step").await.attempt;
    let other = write_ticket(&world, "other").await.attempt;
    let asker = Asker::new(&world);
    let first = asker.session(&step, NONCE).await;
    // The answer was lost: the same launcher asks again.
    let again = asker.session(&step, NONCE).await;
    for token in [&first, &again] {
        let asked = ("GET", "/store", Vec::new(), Vec::new());
        assert_eq!(asker.ask(Some(token), &asked).await.0, 200);
    }
    let (status, body) = asker.claim(&step, OTHER).await;
    assert_eq!(status, 409);
    let stands: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(stands["claim"]["nonce"], NONCE);
    // Another attempt's token does not claim this one.
    let token = world.broker.issue(&other).token;
    let asked = ("POST", "/claim", Vec::new(), encode(&claim(&step, NONCE)));
    assert_eq!(asker.ask(Some(&token), &asked).await.0, 403);
    let told = world.heard.all();
    assert!(told.iter().all(|event| event.attempt == step), "{told:?}");
}

pub(crate) async fn a_session_stays_within_its_claim() {
    let world = World::new(Behind::Folder).await;
    let step = write_ticket(&world, "step").await.attempt;
    let other = write_ticket(&world, "other").await.attempt;
    let asker = Asker::new(&world);
    let session = asker.session(&step, NONCE).await;
    let _ = asker.session(&other, OTHER).await;
    let theirs = format!("runs/test-1/data/other/1-{OTHER}/outputs/x");
    let path = theirs.as_str().into();
    world.store.write(&path, "secret").await.unwrap();
    world
        .store
        .write(&"runs/test-1/run.json".into(), "secret")
        .await
        .unwrap();
    let own = format!("runs/test-1/data/step/1-{NONCE}");
    let mine = format!("{own}/outputs/made/größe 1%25.txt");
    let paths = [
        theirs.clone(),
        "runs/test-1/run.json".to_owned(),
        "runs/test-1/end.json".to_owned(),
        "runs/test-1/tombstone".to_owned(),
        "runs/test-1/log/00000001.json".to_owned(),
        "runs/test-1/attempts/step/1/ticket.json".to_owned(),
        "runs/test-1/attempts/step/2/claim.json".to_owned(),
        "runs/test-1/attempts/other/1/claim.json".to_owned(),
        "runs/test-1/outcomes/other.json".to_owned(),
        "runs/other-1/run.json".to_owned(),
        "layout.json".to_owned(),
        "recent/x".to_owned(),
        "reuse/x.json".to_owned(),
        "assets/model/m/1.json".to_owned(),
        format!("snapshots/{}/manifest.json", Digest::of(b"x").hex()),
        // Beside the prefix, and as other spellings of what is elsewhere.
        format!("runs/test-1/data/step/1-{NONCE}x/file"),
        "runs/test-1/data/step/1-0000000000000/file".to_owned(),
        own.clone(),
        format!("{own}/../1-{OTHER}/file"),
        format!("{own}/../../other/1-{OTHER}/outputs/x"),
        format!("{own}/./file"),
        format!("{own}//file"),
        format!("/{own}/file"),
        format!("{own}/file/"),
        format!("{own}/%2e%2e/%2e%2e/other/1-{OTHER}/outputs/x\u{0}"),
        format!("runs%2Ftest-1%2Fdata%2Fstep%2F1-{NONCE}%2Ffile"),
        "..".to_owned(),
        "../secret".to_owned(),
        "/etc/passwd".to_owned(),
        String::new(),
    ];
    for path in &paths {
        let part = || SignFor::Part {
            upload: "u".to_owned(),
            part: 0,
        };
        for asked in [
            read(path),
            ("HEAD", "/store/object", vec![("path", path)], Vec::new()),
            put(path, "overwrite", "x"),
            put(path, "create", "x"),
            ("GET", "/store/list", vec![("prefix", path)], Vec::new()),
            ("GET", "/store/folders", vec![("prefix", path)], Vec::new()),
            post("/store/delete", &json!({"paths": [mine, path]})),
            sign(path, SignFor::Get),
            sign(path, SignFor::Put),
            sign(path, part()),
            post("/store/parts/begin", &json!({"path": path})),
            post(
                "/store/parts/complete",
                &json!({"path": path, "upload": "u", "parts": []}),
            ),
        ] {
            let lists_own = path == &own && asked.1 != "/store/object";
            let read_own = ["/store/list", "/store/folders"].contains(&asked.1);
            if lists_own && read_own {
                continue;
            }
            if path == &own && (asked.0 == "HEAD" || asked.0 == "GET" || asked.1 == "/store/sign") {
                // The prefix itself is no object, and nothing is told of it.
                continue;
            }
            let (status, body) = asker.ask(Some(&session), &asked).await;
            assert_eq!(status, 403, "{asked:?}: {body}");
            assert!(!body.contains("secret"), "{body}");
        }
    }
    // What is its own, under a name that needs escaping.
    for (asked, expected) in [
        (put(&mine, "overwrite", "mine"), 200),
        (read(&mine), 200),
        (read("runs/test-1/attempts/step/1/claim.json"), 200),
        (read("runs/test-1/outcomes/step.json"), 404),
        (
            put(
                "runs/test-1/attempts/step/1/claim.json",
                "create",
                encode(&claim(&step, OTHER)),
            ),
            403,
        ),
        (
            put(
                "runs/test-1/outcomes/step.json",
                "overwrite",
                encode(&outcome(&step, NONCE)),
            ),
            403,
        ),
    ] {
        let (status, body) = asker.ask(Some(&session), &asked).await;
        assert_eq!(status, expected, "{asked:?}: {body}");
    }
    assert_eq!(
        world
            .store
            .read(&auria_store::StorePath::parse(&mine).unwrap())
            .await
            .unwrap()
            .unwrap(),
        "mine"
    );
    assert_eq!(world.store.read(&path).await.unwrap().unwrap(), "secret");
}

pub(crate) async fn an_attempt_speaks_for_itself_alone() {
    let world = World::new(Behind::Folder).await;
    let step = write_ticket(&world, "step").await.attempt;
    let asker = Asker::new(&world);
    let session = asker.session(&step, NONCE).await;
    let place = "runs/test-1/outcomes/step.json";
    let good = outcome(&step, NONCE);
    let other = AttemptId {
        step: "other".parse().unwrap(),
        ..step.clone()
    };
    let changed = |change: fn(&mut Outcome)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let wrong = [
        outcome(&step, OTHER),
        outcome(&other, NONCE),
        changed(|o| o.attempt = Some(2)),
        changed(|o| o.nonce = None),
        changed(|o| o.status = Status::Reused),
        changed(|o| o.status = Status::Failed),
        changed(|o| o.run = "other-1".parse().unwrap()),
        changed(|o| {
            o.reused_from = Some(auria_core::outcome::ReuseSource {
                run: "other-1".parse().unwrap(),
                step: "step".parse().unwrap(),
            });
        }),
        // Whoever takes the output may read what it names.
        changed(|o| o.outputs.get_mut("made").unwrap().prefix = "runs/other-1/data".to_owned()),
        changed(|o| o.outputs.get_mut("made").unwrap().prefix = String::new()),
        changed(|o| o.outputs.get_mut("made").unwrap().manifest = "layout.json".to_owned()),
    ];
    for outcome in &wrong {
        let asked = put(place, "create", encode(outcome));
        assert_eq!(
            asker.ask(Some(&session), &asked).await.0,
            403,
            "{outcome:?}"
        );
    }
    let mut published = end(&step, NONCE);
    published.published = Some(Box::new(wrong[8].clone()));
    let mut checkpoint = end(&step, NONCE);
    checkpoint.checkpoint = Some(auria_core::outcome::Checkpoint {
        attempt: 7,
        nonce: NONCE.parse().unwrap(),
        generation: 1,
    });
    let mut unclaimed = end(&step, NONCE);
    unclaimed.nonce = None;
    for wrong in [
        published,
        checkpoint,
        unclaimed,
        end(&step, OTHER),
        end(&other, NONCE),
    ] {
        let asked = put(
            "runs/test-1/attempts/step/1/end.json",
            "create",
            encode(&wrong),
        );
        assert_eq!(asker.ask(Some(&session), &asked).await.0, 403, "{wrong:?}");
    }
    for (body, expected) in [(encode(&good), 200), (encode(&good), 409)] {
        assert_eq!(
            asker
                .ask(Some(&session), &put(place, "create", body))
                .await
                .0,
            expected
        );
    }
    // The step has its outcome: nothing of it is written any more, by whoever made it.
    let own = format!("runs/test-1/data/step/1-{NONCE}/outputs/made/file");
    for asked in [put(&own, "overwrite", "x"), sign(&own, SignFor::Put)] {
        let (status, body) = asker.ask(Some(&session), &asked).await;
        assert_eq!(status, 403, "{body}");
        assert!(body.contains("auria:attempt-lost"), "{body}");
    }
}

pub(crate) async fn nothing_is_signed_for_an_attempt_that_has_lost() {
    let world = World::new(Behind::Folder).await;
    let asker = Asker::new(&world);
    let lost = write_ticket(&world, "lost").await.attempt;
    let judged = write_ticket(&world, "judged").await.attempt;
    let journal = Journal::new(world.store.clone(), lost.run.clone());
    let (first, second) = (
        asker.session(&lost, NONCE).await,
        asker.session(&judged, NONCE).await,
    );
    journal.commit(&outcome(&lost, OTHER)).await.unwrap();
    let decision = |decision| LogRecord {
        seq: 1,
        epoch: 1,
        nonce: OTHER.parse().unwrap(),
        at: Timestamp(1),
        decision,
    };
    let took_over = decision(Decision::TookOver {
        driver: "test".to_owned(),
    });
    let lost_one = decision(Decision::JudgedLost {
        step: judged.step.clone(),
        attempt: 1,
        reason: "test".to_owned(),
    });
    journal.append(&took_over).await.unwrap();
    journal
        .append(&LogRecord { seq: 2, ..lost_one })
        .await
        .unwrap();
    for (session, step) in [(&first, "lost"), (&second, "judged")] {
        let own = format!("runs/test-1/data/{step}/1-{NONCE}/outputs/made/file");
        for asked in [
            put(&own, "overwrite", "x"),
            put(&own, "create", "x"),
            sign(&own, SignFor::Put),
            post("/store/parts/begin", &json!({"path": own})),
            post("/store/delete", &json!({"paths": [own]})),
        ] {
            let (status, body) = asker.ask(Some(session), &asked).await;
            assert_eq!(status, 403, "{asked:?}: {body}");
            assert!(body.contains("auria:attempt-lost"), "{body}");
        }
        // It may still read, and say how it ended.
        assert_eq!(
            asker.ask(Some(session), &sign(&own, SignFor::Get)).await.0,
            200
        );
    }
    let place = "runs/test-1/attempts/judged/1/end.json";
    let body = encode(&end(&judged, NONCE));
    assert_eq!(
        asker
            .ask(Some(&second), &put(place, "create", body))
            .await
            .0,
        200
    );
}

pub(crate) async fn what_is_too_large_is_refused() {
    let world = World::new(Behind::Folder).await;
    let step = write_ticket(&world, "step").await.attempt;
    let asker = Asker::new(&world);
    let session = asker.session(&step, NONCE).await;
    let own = format!("runs/test-1/data/step/1-{NONCE}/outputs/made/file");
    let large = vec![b' '; auria_core::protocol::LARGEST_BODY + 1];
    for asked in [
        put(&own, "create", large.clone()),
        ("POST", "/news", Vec::new(), large.clone()),
        ("POST", "/store/sign", Vec::new(), large),
    ] {
        assert_eq!(
            asker.ask(Some(&session), &asked).await.0,
            413,
            "{}",
            asked.1
        );
    }
    let many = vec![own.clone(); auria_core::protocol::MOST_DELETED + 1];
    let asked = post("/store/delete", &json!({"paths": many}));
    assert_eq!(asker.ask(Some(&session), &asked).await.0, 413);
    let requests = vec![
        SignRequest {
            path: own,
            to: SignFor::Get,
        };
        auria_core::protocol::MOST_SIGNED + 1
    ];
    let asked = (
        "POST",
        "/store/sign",
        Vec::new(),
        encode(&Sign { requests }),
    );
    assert_eq!(asker.ask(Some(&session), &asked).await.0, 413);
    let other_version = asker
        .client
        .get(format!("{}{BROKER}/store", world.broker.issue(&step).url))
        .bearer_auth(&session)
        .header("auria-protocol", 2);
    let answer = other_version.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(problem["type"], "auria:protocol-version");
}
