//! Stores that answer other than they did, that are full, that are not there, and
//! that do not keep the promise.

use crate::fixtures::{claim, id, nonce, outcome};
use crate::records::RACERS;
use auria_core::outcome::Status;
use auria_store::testing::{Fault, Verb, Weed, faulty};
use auria_store::{Access, Claimed, Commit, ErrorKind, Journal, Store, StorePath, StoreUrl, probe};
use rand::{Rng, SeedableRng};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Every write may be applied and answered with 500, silence or "exists", or not be
/// applied and answered with 500 or 409; every read may fail. One racer wins all the
/// same, and each knows whether it is that one.
pub(crate) async fn one_winner_among_64_whatever_is_answered(store: Store) {
    let rounds = if store.root().is_some() { 8 } else { 2 };
    for round in 1..=rounds {
        let attempt = id("write", round);
        let racers = (0..RACERS).map(|number| {
            let seed = u64::from(round) << 32 | number;
            let random = Mutex::new(rand::rngs::StdRng::seed_from_u64(seed));
            let store = faulty(&store, move |operation| {
                let mut random = random.lock().unwrap();
                let fault = match operation.verb {
                    Verb::Create if random.random_bool(0.7) => match random.random_range(0..5) {
                        0 => Fault::AppliedThenFails,
                        1 => Fault::AppliedThenSilent,
                        2 => Fault::AppliedThenExists,
                        3 => Fault::Fails,
                        _ => Fault::Busy,
                    },
                    Verb::Get if random.random_bool(0.2) => Fault::Fails,
                    _ => return None,
                };
                Some(fault)
            });
            let journal = Journal::new(store, crate::fixtures::run());
            let claim = claim(&attempt, number);
            tokio::spawn(async move { (number, journal.claim(&claim).await.unwrap()) })
        });
        let mut winners = Vec::new();
        let mut named = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            match racer.await.unwrap() {
                (number, Claimed::Won) => winners.push(nonce(number)),
                (_, Claimed::Lost(winner)) => named.push(winner.nonce),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert!(named.iter().all(|named| *named == winners[0]));
    }

    // Alone, whatever is answered, a commit is won: nobody else is there to lose to.
    for (number, fault) in [
        Fault::AppliedThenFails,
        Fault::AppliedThenSilent,
        Fault::AppliedThenExists,
        Fault::Fails,
        Fault::Busy,
    ]
    .into_iter()
    .enumerate()
    {
        let left = AtomicUsize::new(3);
        let store = faulty(&store, move |operation| {
            let take = |left: usize| left.checked_sub(1);
            let hit = operation.verb == Verb::Create
                && left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                    .is_ok();
            hit.then_some(fault)
        });
        let journal = Journal::new(store, crate::fixtures::run());
        let mut done = outcome(&id("alone", 1), Some(1), Status::Completed);
        done.step = format!("alone.{number}").parse().unwrap();
        assert_eq!(
            journal.commit(&done).await.unwrap(),
            Commit::Won,
            "{fault:?}"
        );
        assert_eq!(journal.read_outcome(&done.step).await.unwrap(), Some(done));
    }
}

pub(crate) async fn a_full_store_says_so_at_once(store: Store) {
    let full = faulty(&store, |operation| {
        matches!(operation.verb, Verb::Create | Verb::Put | Verb::Begin).then_some(Fault::Full)
    });
    let begun = Instant::now();
    let error = Journal::new(full.clone(), crate::fixtures::run())
        .claim(&claim(&id("write", 1), 1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    let error = full.write(&StorePath::from("x"), "y").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.help().unwrap().contains("resume"));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "a full store is not tried again and again"
    );
}

/// A store where several creators of one key win is refused by name.
#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::Folder(folder.path().to_owned());
    let store = Store::open(&url, Access::Write).await.unwrap();
    let clone = faulty(&store, |operation| {
        (operation.verb == Verb::Create).then_some(Fault::IgnoresCondition)
    });
    let error = probe::run(&clone).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Refused, "store-refused")
    );
    assert!(
        error.to_string().contains(&store.url().to_string())
            && error.to_string().contains("16 of 16"),
        "{error}"
    );
    assert!(error.help().unwrap().contains("SeaweedFS 4.48"));

    let fat = faulty(&store, |operation| {
        (operation.verb == Verb::Create).then_some(Fault::NoHardLinks)
    });
    let error = probe::run(&fat).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error.to_string().contains("hard links") && error.help().unwrap().contains("--store"),
        "{error}"
    );
    assert!(
        store
            .list(&StorePath::from("probe"))
            .await
            .unwrap()
            .is_empty(),
        "the probe leaves nothing"
    );
}

/// The verdict is kept: a second opening races for nothing.
#[tokio::test]
async fn a_store_is_probed_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::Folder(folder.path().join("new/store"));
    let error = Store::open(&url, Access::Read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let store = Store::open(&url, Access::Write).await.unwrap();
    let layout: probe::Layout = store
        .read_json(&auria_store::layout::layout())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(layout.probe.creators, 16);
    Store::open(&url, Access::Write).await.unwrap();
    assert_eq!(
        store
            .read_json(&auria_store::layout::layout())
            .await
            .unwrap(),
        Some(layout.clone())
    );

    let newer = probe::Layout {
        version: layout.version + 1,
        ..layout
    };
    store
        .write_json(&auria_store::layout::layout(), &newer)
        .await
        .unwrap();
    for access in [Access::Read, Access::Write] {
        assert_eq!(
            Store::open(&url, access).await.unwrap_err().kind(),
            ErrorKind::Refused
        );
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(
        Store::open(&StoreUrl::Folder(file), Access::Write)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Usage
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let settings = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
    ];
    let begun = Instant::now();
    let error = Store::open_with(&"s3://bucket/x".parse().unwrap(), Access::Write, &settings)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
}

pub(crate) async fn wrong_credentials_are_denied(weed: &Weed) {
    let endpoint = weed.endpoint().to_owned();
    let settings = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "auria"),
        ("AWS_SECRET_ACCESS_KEY", "wrong"),
    ];
    let error = Store::open_with(&weed.url("x"), Access::Write, &settings)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");

    // SeaweedFS makes a bucket when it is written to; others answer 404.
    let store = weed.open(&weed.url("y"), Access::Read).await.unwrap();
    let missing = faulty(&store, |operation| {
        (operation.verb == Verb::Create).then_some(Fault::NoBucket)
    });
    let error = probe::run(&missing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("s3://auria/y"), "{error}");
}
