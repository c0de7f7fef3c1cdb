//! Claims, commits, the log, ends, recovery.

use crate::fixtures::{claim, created, end, id, log_record, nonce, outcome};
use auria_core::outcome::{RunEnd, Status};
use auria_core::run::Recovered;
use auria_core::{Timestamp, outcome::Checkpoint};
use auria_store::{Append, Claimed, Commit, ErrorKind, Journal, Store, checkpoint};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const RACERS: u64 = 64;

pub(crate) async fn a_claim_has_one_winner_among_64(store: Store) {
    let rounds = if store.root().is_some() { 10 } else { 1 };
    for round in 1..=rounds {
        let attempt = id("write", round);
        let racers = (0..RACERS).map(|number| {
            let journal = Journal::new(store.clone(), crate::fixtures::run());
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
        assert_eq!(named.len() as u64, RACERS - 1);
        assert!(
            named.iter().all(|named| *named == winners[0]),
            "all losers read the winner's record"
        );
    }
}

pub(crate) async fn commits_know_their_own_retries(store: Store) {
    let journal = Journal::new(store, crate::fixtures::run());
    let attempt = id("paint", 2);
    let first = outcome(&attempt, Some(1), Status::Completed);
    assert_eq!(journal.commit(&first).await.unwrap(), Commit::Won);
    assert_eq!(
        journal.commit(&first).await.unwrap(),
        Commit::Won,
        "its own retry"
    );

    // The driver commits what the launcher published and could not commit: the same.
    let mut by_driver = first.clone();
    by_driver.ended = Timestamp(99);
    assert_eq!(journal.commit(&by_driver).await.unwrap(), Commit::Won);

    // A verdict on the same attempt is not the same; nor is a twin's success.
    let verdict = outcome(&attempt, Some(1), Status::Failed);
    assert_eq!(
        journal.commit(&verdict).await.unwrap(),
        Commit::Lost(Box::new(first.clone()))
    );
    let twin = outcome(&attempt, Some(2), Status::Completed);
    assert_eq!(
        journal.commit(&twin).await.unwrap(),
        Commit::Lost(Box::new(first.clone()))
    );
    assert_eq!(
        journal.read_outcome(&attempt.step).await.unwrap(),
        Some(first)
    );

    // Two verdicts without an attempt are the same where they are equal, and only there.
    let skipped = outcome(&id("post", 1), None, Status::Skipped);
    let canceled = outcome(&id("post", 1), None, Status::Canceled);
    assert_eq!(journal.commit(&skipped).await.unwrap(), Commit::Won);
    assert_eq!(journal.commit(&skipped).await.unwrap(), Commit::Won);
    assert_eq!(
        journal.commit(&canceled).await.unwrap(),
        Commit::Lost(Box::new(skipped))
    );
}

pub(crate) async fn ends_and_tickets_stand_once_written(store: Store) {
    let journal = Journal::new(store, crate::fixtures::run());
    let first = end(&id("write", 1), 1);
    let mut second = first.clone();
    second.message = "another's words".into();
    assert_eq!(journal.write_end(&first).await.unwrap(), first);
    assert_eq!(
        journal.write_end(&second).await.unwrap(),
        first,
        "the first stands"
    );
    assert_eq!(journal.read_end(&first.attempt).await.unwrap(), Some(first));
    assert_eq!(journal.read_ticket(&id("write", 1)).await.unwrap(), None);

    let ended = RunEnd {
        status: Status::Completed,
        started: None,
        ended: Timestamp(7),
        counts: BTreeMap::new(),
        problems: Vec::new(),
    };
    let other = RunEnd {
        status: Status::Canceled,
        ..ended.clone()
    };
    assert_eq!(journal.end_run(&ended).await.unwrap(), ended);
    assert_eq!(journal.end_run(&other).await.unwrap(), ended);
}

pub(crate) async fn recovery_finds_what_was_written(store: Store) {
    let run = created(&store).await;
    let journal = Journal::new(store.clone(), run.run.clone());
    let empty = Recovered {
        created: run.created,
        ..Recovered::default()
    };
    assert_eq!(journal.recover().await.unwrap(), empty);

    let mut expected = empty;
    for seq in 1..=12 {
        let record = log_record(seq, seq);
        assert_eq!(journal.append(&record).await.unwrap(), Append::Won);
        assert_eq!(
            journal.append(&record).await.unwrap(),
            Append::Won,
            "its own retry"
        );
        expected.log.push(record);
    }
    let late = log_record(3, 77);
    assert_eq!(
        journal.append(&late).await.unwrap(),
        Append::Lost(expected.log[2].clone())
    );

    // Done; failed and tried again, and that one lost with a checkpoint; claimed alone.
    for (step, number) in [
        ("loop.10.inner", 1),
        ("loop.9.inner", 1),
        ("train", 1),
        ("train", 2),
        ("write", 1),
    ] {
        let record = claim(&id(step, number), u64::from(number));
        assert_eq!(journal.claim(&record).await.unwrap(), Claimed::Won);
        expected.claims.push(record);
    }
    expected.claims.sort_by(|a, b| a.attempt.cmp(&b.attempt));
    for step in ["loop.10.inner", "loop.9.inner"] {
        let done = outcome(&id(step, 1), Some(1), Status::Completed);
        assert_eq!(journal.commit(&done).await.unwrap(), Commit::Won);
        expected.outcomes.insert(done.step.clone(), Arc::new(done));
    }
    let failed = end(&id("train", 1), 1);
    journal.write_end(&failed).await.unwrap();
    expected.ends.push(failed);
    let local = tempfile::tempdir().unwrap();
    crate::fixtures::write(local.path(), "state", "weights");
    // Of the failed attempt, which its end names; and of the one that is lost.
    for (number, generations) in [(1, 1), (2, 3)] {
        for generation in 1..=generations {
            let attempt = id("train", number);
            checkpoint::publish(
                &store,
                &attempt,
                &nonce(u64::from(number)),
                generation,
                local.path(),
            )
            .await
            .unwrap();
        }
    }
    let newest = Checkpoint {
        attempt: 2,
        nonce: nonce(2),
        generation: 3,
    };
    expected
        .checkpoints
        .insert(("train".parse().unwrap(), 2), newest);
    assert_eq!(journal.recover().await.unwrap(), expected);

    let ended = RunEnd {
        status: Status::Failed,
        started: Some(Timestamp(1)),
        ended: Timestamp(7),
        counts: BTreeMap::from([(Status::Completed, 2)]),
        problems: Vec::new(),
    };
    journal.end_run(&ended).await.unwrap();
    expected.ended = Some(ended);
    assert_eq!(journal.recover().await.unwrap(), expected);
    assert_eq!(journal.list_attempts().await.unwrap().len(), 5);
}

/// What somebody else put into a log is no record of it: a number that is not its place, or
/// an epoch that no driver can have.
pub(crate) async fn a_log_holds_what_drivers_can_have_written(store: Store) {
    let journal = Journal::new(store.clone(), crate::fixtures::run());
    let first = log_record(1, 1);
    assert_eq!(journal.append(&first).await.unwrap(), Append::Won);
    let place = auria_store::layout::log_record(&crate::fixtures::run(), 2);
    let second = log_record(2, 2);
    for (seq, epoch) in [(2, u64::MAX), (2, 3), (u64::MAX, 1), (1, 1)] {
        let mut wrong = log_record(2, 9);
        (wrong.seq, wrong.epoch) = (seq, epoch);
        store.write_json(&place, &wrong).await.unwrap();
        let corrupt = |kind: ErrorKind| assert_eq!(kind, ErrorKind::Corrupt, "{seq} {epoch}");
        corrupt(journal.whole_log().await.unwrap_err().kind());
        corrupt(journal.read_log(2).await.unwrap_err().kind());
        corrupt(journal.append(&second).await.unwrap_err().kind());
    }
    store.delete(&place).await.unwrap();
    let mut newest = second.clone();
    newest.epoch = 2;
    assert_eq!(journal.append(&newest).await.unwrap(), Append::Won);
    assert_eq!(journal.whole_log().await.unwrap(), [first, newest]);
}
