//! What a claim's tokens are good for, and for how long; and what is said in its name.

use crate::asker::{
    Asker, NONCE, OTHER, asks, claim, encode, end, id, outcome, post, put, read, write_ticket,
};
use crate::world::{Behind, World};
use auria_core::AttemptId;
use auria_core::Timestamp;
use auria_core::last_word::seal;
use auria_core::outcome::{Cause, Decision, EndRecord, LogRecord};
use auria_core::protocol::AskedClaim;
use auria_core::run::AttemptNews;
use auria_engine::executor::Happened;
use auria_engine::relay::TicketIssuer;
use auria_store::Append;
use serde_json::{Value, json};

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
    let asked = ("POST", "/claim", Vec::new(), encode(&asks(&step, NONCE)));
    assert_eq!(asker.ask(Some(&token), &asked).await.0, 403);
    // Who reads the claim in the store, and its Pod's token, gets no session of it.
    let token = world.broker.issue(&step).token;
    let read = AskedClaim {
        secret: "guessed".to_owned(),
        ..asks(&step, NONCE)
    };
    let asked = ("POST", "/claim", Vec::new(), encode(&read));
    assert_eq!(asker.ask(Some(&token), &asked).await.0, 403);
    let told = world.heard.all();
    assert!(told.iter().all(|event| event.attempt == step), "{told:?}");
}

/// A token dies with its attempt, a while after it, and is made no longer meanwhile.
pub(crate) async fn a_session_ends_with_its_attempt() {
    let world = World::with(Behind::Folder, |options| {
        options.grace = std::time::Duration::from_millis(1500);
        // Half of its life is over at once.
        options.session_life = std::time::Duration::from_secs(60);
    })
    .await;
    let asker = Asker::new(&world);
    let lives = write_ticket(&world, "lives").await.attempt;
    let ends = write_ticket(&world, "ends").await.attempt;
    let asks_for = |path| ("GET", path, Vec::new(), Vec::new());
    let news = post("/news", &json!({"said": []}));
    let old = |id: &AttemptId| {
        // As the broker made it 40 seconds ago.
        let expires = auria_store::now().plus_millis(20_000);
        world.session(id, NONCE, expires)
    };
    for id in [&lives, &ends] {
        asker.session(id, NONCE).await;
        let (status, body) = asker.ask(Some(&old(id)), &news).await;
        assert_eq!(status, 200, "{body}");
        assert!(
            body.contains("\"session\""),
            "it is renewed while it lives: {body}"
        );
    }
    let place = "runs/test-1/attempts/ends/1/end.json";
    let ended = put(place, "create", encode(&end(&ends, NONCE)));
    assert_eq!(asker.ask(Some(&old(&ends)), &ended).await.0, 200);
    // It may still hear how it ended, and that is all.
    let (status, body) = asker.ask(Some(&old(&ends)), &news).await;
    assert_eq!((status, body.as_str()), (200, "{}"), "it is not renewed");
    assert_eq!(asker.ask(Some(&old(&ends)), &read(place)).await.0, 200);
    let own = format!("runs/test-1/data/ends/1-{NONCE}/outputs/made/file");
    let (status, body) = asker
        .ask(Some(&old(&ends)), &put(&own, "overwrite", "x"))
        .await;
    assert_eq!(status, 403, "{body}");
    tokio::time::sleep(std::time::Duration::from_millis(1600)).await;
    let (bootstrap, session) = (world.broker.issue(&ends).token, old(&ends));
    let claims = ("POST", "/claim", Vec::new(), encode(&asks(&ends, NONCE)));
    for (token, asked) in [
        (&session, &news),
        (&session, &read(place)),
        (&session, &asks_for("/store")),
        (&bootstrap, &asks_for("/ticket")),
        (&bootstrap, &claims),
    ] {
        assert_eq!(asker.ask(Some(token), asked).await.0, 401, "{asked:?}");
    }
    assert_eq!(asker.ask(Some(&old(&lives)), &news).await.0, 200);
    let expired = world.session(&lives, NONCE, auria_store::now());
    assert_eq!(asker.ask(Some(&expired), &news).await.0, 401);
}

/// A launcher that was told to end says that it was evicted. Where it was preempted, or its run
/// is to be canceled, its record says so, as the verdict will.
pub(crate) async fn an_end_says_who_took_the_attempt_away() {
    let world = World::new(Behind::Folder).await;
    let asker = Asker::new(&world);
    let ends = async |step: &str, cause: Cause, said: Option<Cause>| {
        let ticket = write_ticket(&world, step).await;
        let id = ticket.attempt.clone();
        *world.heard.taken_by.lock().unwrap() = said;
        let session = asker.session(&id, NONCE).await;
        let place = format!("runs/test-1/attempts/{step}/1/end.json");
        let told = EndRecord {
            cause,
            ..end(&id, NONCE)
        };
        let asked = put(&place, "create", encode(&told));
        assert_eq!(asker.ask(Some(&session), &asked).await.0, 200);
        let stands = world.journal(&ticket).read_end(&id).await.unwrap();
        let stands = stands.unwrap();
        let heard = world
            .heard
            .all()
            .into_iter()
            .find_map(|event| match event.happened {
                Happened::News(AttemptNews::Ended { end }) if event.attempt == id => Some(end),
                _ => None,
            });
        assert_eq!(heard.as_ref(), Some(&stands), "what is told is what stands");
        let mut others = stands.clone();
        others.cause = cause;
        assert_eq!(others, told, "nothing else is changed");
        stands.cause
    };
    assert_eq!(ends("one", Cause::Evicted, None).await, Cause::Evicted);
    let taken = Some(Cause::Preempted);
    assert_eq!(ends("two", Cause::Evicted, taken).await, Cause::Preempted);
    // What it knows itself is not touched.
    assert_eq!(ends("three", Cause::Exit, taken).await, Cause::Exit);
    let record = LogRecord {
        seq: 1,
        epoch: 1,
        nonce: NONCE.parse().unwrap(),
        at: Timestamp(1),
        decision: Decision::CancelRequested {
            by: "someone".to_owned(),
        },
    };
    let ticket = write_ticket(&world, "four").await;
    let appended = world.journal(&ticket).append(&record).await.unwrap();
    assert!(matches!(appended, Append::Won));
    assert_eq!(ends("four", Cause::Evicted, None).await, Cause::Canceled);
}

/// A word that lay where the step could write counts where it is sealed under the session
/// of the attempt that it speaks of, and says what that may say.
pub(crate) async fn a_last_word_is_the_launchers() {
    let world = World::new(Behind::Folder).await;
    let (step, other) = (id("step"), id("other"));
    let session = world.session(&step, NONCE, Timestamp(1));
    let gone = |end: EndRecord| AttemptNews::Gone {
        claim: Some(claim(&step, NONCE)),
        end: Some(end),
        checkpoint: None,
    };
    let mut published = end(&step, NONCE);
    published.published = Some(Box::new(outcome(&step, NONCE)));
    let good = gone(published.clone());
    let word = seal(&session, &good).unwrap();
    // Its session has expired long since: the word was said before.
    assert_eq!(world.broker.last_word(&step, &word), Some(good.clone()));
    assert_eq!(world.broker.last_word(&other, &word), None, "another's Pod");
    let foreign = session.replace("/step/", "/other/");
    let bootstrap = world.broker.issue(&step).token;
    let cut = &session[..session.len() - 1];
    for token in [&foreign, &bootstrap, cut, "1/session/x/y", "x/y"] {
        let word = seal(token, &good).unwrap();
        assert_eq!(world.broker.last_word(&step, &word), None, "{token}");
    }
    let unsealed = serde_json::to_string(&good).unwrap();
    assert_eq!(world.broker.last_word(&step, &unsealed), None);
    // The launcher's own, and yet not its to say.
    let mut elsewhere = published;
    let made = &mut elsewhere.published.as_mut().unwrap().outputs;
    made.get_mut("made").unwrap().prefix = "runs/other-1/data".to_owned();
    for news in [
        gone(elsewhere),
        gone(end(&step, OTHER)),
        gone(end(&other, NONCE)),
        AttemptNews::ClaimLost,
    ] {
        let word = seal(&session, &news).unwrap();
        assert_eq!(world.broker.last_word(&step, &word), None, "{news:?}");
    }
}
