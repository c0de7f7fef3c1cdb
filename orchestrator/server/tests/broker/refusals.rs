//! What a broker refuses, request by request: without a token, with one that counts for
//! something else, and everything beyond the rights of one claim.

use crate::asker::{
    Asked, Asker, NONCE, OTHER, asks, claim, encode, end, id, outcome, post, put, read, sign,
    write_ticket,
};
use crate::world::{Behind, World};
use auria_core::outcome::{Decision, LogRecord, Outcome, Status};
use auria_core::plan::DataType;
use auria_core::protocol::SignFor;
use auria_core::{AttemptId, Digest, Timestamp};
use auria_engine::relay::TicketIssuer;
use auria_store::Journal;
use serde_json::json;

/// One request of each kind.
fn every_kind(own: &str) -> Vec<Asked<'_>> {
    vec![
        ("GET", "/ticket", Vec::new(), Vec::new()),
        (
            "POST",
            "/claim",
            Vec::new(),
            encode(&asks(&id("step"), NONCE)),
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
            let (status, body) = asker.answer(Some(&session), &asked).await;
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
        changed(|o| o.version = 2),
        // The ticket's outputs, of its types, and no others; and its key, by which other
        // runs would take them.
        changed(|o| o.key = Some(Digest::of(b"another step's"))),
        changed(|o| o.outputs.clear()),
        changed(|o| o.outputs.get_mut("made").unwrap().data_type = DataType::UriFile),
        changed(|o| {
            let place = |folder: &str| format!("runs/test-1/data/step/1-{NONCE}/{folder}/more");
            let mut more = o.outputs["made"].clone();
            more.prefix = place("outputs");
            more.manifest = format!("{}.json", place("manifests"));
            o.outputs.insert("more".to_owned(), more);
        }),
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
    published.published = Some(Box::new(wrong.last().unwrap().clone()));
    let mut keyed = end(&step, NONCE);
    keyed.published = Some(Box::new(changed(|o| o.key = Some(Digest::of(b"x")))));
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
        keyed,
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
        let (status, body) = asker.answer(Some(&session), &asked).await;
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
            let (status, body) = asker.answer(Some(session), &asked).await;
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
