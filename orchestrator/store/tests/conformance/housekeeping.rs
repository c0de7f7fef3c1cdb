//! Deleting: what is taken stays, what is deleted is gone, and no crash, race or
//! second collector changes that.

use crate::fixtures::{log_record, nonce, outcome, run_json, write};
use auria_core::outcome::{Outcome, RunEnd, Status};
use auria_core::plan::DataType;
use auria_core::run::ReuseAnswer;
use auria_core::{AttemptId, Digest, RunId, StepPath, Timestamp};
use auria_store::artifact::{self, Depth};
use auria_store::housekeeping::{
    self, Assets, Collect, Collected, Finished, Marked, User, UserKind,
};
use auria_store::registry::{self, NewAsset};
use auria_store::reuse::{self, Query, ReuseEntry};
use auria_store::runs::RunJson;
use auria_store::testing::{Fault, faulty};
use auria_store::{Journal, Store, StorePath, checkpoint, layout, runs, snapshot};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn step() -> StepPath {
    "write".parse().unwrap()
}

fn attempt(run: &RunId, number: u32) -> AttemptId {
    AttemptId {
        run: run.clone(),
        step: step(),
        number,
    }
}

fn parts(run: &str) -> serde_json::Value {
    json!({"command": "write", "of": run})
}

/// A run that has ended: one step, whose second attempt won and stands in the reuse
/// index; the first left outputs too.
async fn ended(store: &Store, name: &str) -> (RunJson, Outcome) {
    let record = RunJson {
        snapshots: BTreeSet::new(),
        ..run_json(name, 1, 1_767_323_045_678)
    };
    runs::create(store, &record).await.unwrap();
    let run = &record.run;
    let local = tempfile::tempdir().unwrap();
    write(local.path(), "poem", format!("a poem of {name}"));
    let mut outputs = BTreeMap::new();
    for number in [1, 2] {
        let id = attempt(run, number);
        let nonce = nonce(u64::from(number));
        let made = artifact::publish(
            store,
            local.path(),
            DataType::UriFolder,
            &layout::output(&id, &nonce, "poem"),
            &layout::output_manifest(&id, &nonce, "poem"),
        )
        .await
        .unwrap();
        outputs.insert("poem".to_owned(), made);
        checkpoint::publish(store, &id, &nonce, 1, local.path())
            .await
            .unwrap();
        let log = layout::chunk(&layout::logs(&id, &nonce), 1);
        store.write(&log, "lines\n").await.unwrap();
    }
    let key = Digest::of_json(&parts(name)).unwrap();
    let won = Outcome {
        outputs: outputs.clone(),
        key: Some(key),
        ..outcome(&attempt(run, 2), Some(2), Status::Completed)
    };
    let journal = Journal::new(store.clone(), run.clone());
    journal.commit(&won).await.unwrap();
    journal.end_run(&end()).await.unwrap();
    let entry = ReuseEntry {
        key,
        parts: parts(name),
        pipeline: record.plan.pipeline.clone(),
        run: run.clone(),
        step: step(),
        ended: Timestamp(20),
        outputs,
    };
    reuse::record(store, &entry).await.unwrap();
    (record, won)
}

fn end() -> RunEnd {
    RunEnd {
        status: Status::Completed,
        counts: BTreeMap::new(),
        started: None,
        ended: Timestamp(30),
        problems: Vec::new(),
    }
}

/// A run that has begun and asks for the step of `source`.
async fn take(store: &Store, taker: &RunId, source: &str) -> ReuseAnswer {
    let parts = parts(source);
    let query = Query {
        run: taker,
        pipeline: "auria-kathi",
        step: &step(),
        key: &Digest::of_json(&parts).unwrap(),
        parts: &parts,
        max_age_ms: None,
    };
    let references = reuse::References::default();
    reuse::look_up(store, &query, &references, Timestamp(40))
        .await
        .unwrap()
}

async fn begin(store: &Store, name: &str, number: u64) -> RunJson {
    let record = run_json(name, number, 1_767_323_046_000);
    runs::create(store, &record).await.unwrap();
    Journal::new(store.clone(), record.run.clone())
        .append(&log_record(1, number))
        .await
        .unwrap();
    record
}

async fn commit_taken(store: &Store, taker: &RunId, answer: &ReuseAnswer) {
    let ReuseAnswer::Hit { source, outputs } = answer else {
        panic!("{answer:?}");
    };
    let reused = Outcome {
        reused_from: Some(source.clone()),
        outputs: outputs.clone(),
        attempt: None,
        nonce: None,
        ..outcome(&attempt(taker, 1), None, Status::Reused)
    };
    let journal = Journal::new(store.clone(), taker.clone());
    journal.commit(&reused).await.unwrap();
    journal.end_run(&end()).await.unwrap();
}

async fn mark(store: &Store, run: &RunJson, grace: Duration) -> Marked {
    let assets = Assets::read(store).await.unwrap();
    housekeeping::mark(store, run, &assets, "kathi", grace)
        .await
        .unwrap()
}

async fn finish(store: &Store, run: &RunJson) -> Finished {
    housekeeping::finish(store, &run.run).await.unwrap()
}

async fn gc(store: &Store, grace: Duration, older_than: Option<Duration>) -> Collected {
    let what = Collect {
        older_than,
        grace,
        uploads: HOUR,
        dry_run: false,
        by: "kathi".into(),
    };
    housekeeping::collect(store, &what, &|_| {}).await.unwrap()
}

async fn left(store: &Store, run: &RunJson) -> Vec<String> {
    let found = store.list(&layout::run(&run.run)).await.unwrap();
    let mut paths: Vec<_> = found
        .into_iter()
        .map(|meta| meta.location.to_string())
        .collect();
    paths.sort();
    paths
}

fn used_by_run(run: &RunJson) -> Vec<User> {
    vec![User {
        kind: UserKind::Run,
        name: run.run.to_string(),
    }]
}

pub(crate) async fn a_deleted_run_is_gone_after_its_grace(store: Store) {
    let (run, won) = ended(&store, "old").await;
    let (other, kept) = ended(&store, "other").await;
    assert_eq!(finish(&store, &run).await, Finished::NotMarked);
    assert_eq!(mark(&store, &run, HOUR).await, Marked::Yes);
    let Finished::Waits(left_of_it) = finish(&store, &run).await else {
        panic!("it did not wait");
    };
    assert!(left_of_it <= HOUR, "{left_of_it:?}");
    // Nobody takes it any more, and those who read it still can.
    let taker = begin(&store, "taker", 7).await;
    let answer = take(&store, &taker.run, "old").await;
    assert!(matches!(answer, ReuseAnswer::Miss { .. }), "{answer:?}");
    artifact::verify(&store, &won.outputs["poem"], Depth::Digests)
        .await
        .unwrap();

    // Asked again with less patience. The one who asked has not ended: it may have taken.
    assert_eq!(
        mark(&store, &run, Duration::ZERO).await,
        Marked::InUse(used_by_run(&taker))
    );
    let journal = Journal::new(store.clone(), taker.run.clone());
    journal.end_run(&end()).await.unwrap();
    assert_eq!(mark(&store, &run, Duration::ZERO).await, Marked::Yes);
    let Finished::Deleted(freed) = finish(&store, &run).await else {
        panic!("it was not deleted");
    };
    assert!(freed.objects >= 10 && freed.bytes > 500, "{freed:?}");
    assert_eq!(left(&store, &run).await, Vec::<String>::new());
    assert!(runs::resolve(&store, "old").await.is_err());
    let key = won.key.unwrap();
    assert!(!store.exists(&layout::reuse(&key)).await.unwrap());
    assert_eq!(finish(&store, &run).await, Finished::NotMarked);
    artifact::verify(&store, &kept.outputs["poem"], Depth::Digests)
        .await
        .unwrap();
    assert_eq!(runs::read(&store, &other.run).await.unwrap(), other);
    // Its name is free again, and nothing of the old one touches the new.
    runs::create(&store, &run).await.unwrap();
}

pub(crate) async fn a_run_in_use_stays(store: Store) {
    let (source, _) = ended(&store, "source").await;
    let taker = begin(&store, "taker", 7).await;
    let answer = take(&store, &taker.run, "source").await;
    assert_eq!(
        mark(&store, &source, Duration::ZERO).await,
        Marked::InUse(used_by_run(&taker))
    );
    commit_taken(&store, &taker.run, &answer).await;
    assert_eq!(
        mark(&store, &source, Duration::ZERO).await,
        Marked::InUse(used_by_run(&taker))
    );
    // An unended run is not deleted, and says so; one that was never driven is.
    let going_on = begin(&store, "going-on", 8).await;
    assert_eq!(
        mark(&store, &going_on, Duration::ZERO).await,
        Marked::NotEnded
    );
    let never = run_json("never", 9, 1_767_323_046_000);
    runs::create(&store, &never).await.unwrap();
    assert_eq!(mark(&store, &never, Duration::ZERO).await, Marked::Yes);
    assert!(matches!(finish(&store, &never).await, Finished::Deleted(_)));

    // An asset uses it too, whoever registered it.
    let ReuseAnswer::Hit { outputs, .. } = answer else {
        unreachable!()
    };
    let asset = NewAsset {
        kind: "model".into(),
        name: "haiku".into(),
        version: None,
        artifact: outputs["poem"].clone(),
        origin: None,
        description: String::new(),
        tags: BTreeMap::new(),
    };
    registry::register(&store, asset).await.unwrap();
    assert!(matches!(
        mark(&store, &taker, Duration::ZERO).await,
        Marked::Yes
    ));
    assert!(matches!(finish(&store, &taker).await, Finished::Deleted(_)));
    let Marked::InUse(users) = mark(&store, &source, Duration::ZERO).await else {
        panic!("it is not in use");
    };
    let names: Vec<String> = users.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["the model haiku:1"]);
    store
        .delete(&layout::asset("model", "haiku", "1"))
        .await
        .unwrap();
    assert!(matches!(
        mark(&store, &source, Duration::ZERO).await,
        Marked::Yes
    ));
    assert!(matches!(
        finish(&store, &source).await,
        Finished::Deleted(_)
    ));
}

/// Of a run that takes and two that delete at the same moment, never both win.
pub(crate) async fn who_takes_and_who_deletes_see_each_other(store: Store) {
    let rounds = if store.root().is_some() { 60 } else { 8 };
    let (mut hits, mut deletions) = (0, 0);
    for round in 0..rounds {
        let name = format!("source-{round}");
        let (source, won) = ended(&store, &name).await;
        let taker = begin(&store, &format!("taker-{round}"), 7).await;
        let delete = async |pause: u64| {
            tokio::time::sleep(Duration::from_micros(pause)).await;
            match mark(&store, &source, Duration::ZERO).await {
                Marked::Yes => matches!(finish(&store, &source).await, Finished::Deleted(_)),
                _ => false,
            }
        };
        // Now the one, now the other begins.
        let late = if round % 3 == 0 { 0 } else { round * 40 };
        let early = if round % 3 == 1 { 0 } else { round * 40 };
        let (taken, first, second) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_micros(early)).await;
                let answer = take(&store, &taker.run, &name).await;
                let hit = matches!(answer, ReuseAnswer::Hit { .. });
                if hit {
                    commit_taken(&store, &taker.run, &answer).await;
                }
                hit
            },
            delete(late),
            delete(late)
        );
        let whole = artifact::verify(&store, &won.outputs["poem"], Depth::Digests)
            .await
            .is_ok();
        assert!(!taken || whole, "round {round}: taken and deleted");
        assert!(
            !(taken && (first || second)),
            "round {round}: both were told that they won"
        );
        hits += u32::from(taken);
        deletions += u32::from(first || second);
    }
    eprintln!("{hits} taken, {deletions} deleted, of {rounds}");
    assert!(hits + deletions > 0);
}

/// Whatever operation a deletion or a collection dies at, the next one goes on.
pub(crate) async fn a_deletion_that_was_cut_short_goes_on(store: Store) {
    // On S3 every operation costs more: some of the places are enough there.
    let every = if store.root().is_some() { 1 } else { 5 };
    let mut place = 0;
    loop {
        let name = format!("old-{place}");
        let (run, _) = ended(&store, &name).await;
        assert_eq!(mark(&store, &run, Duration::ZERO).await, Marked::Yes);
        let count = AtomicUsize::new(0);
        let dying = faulty(&store, move |_| {
            (count.fetch_add(1, Ordering::SeqCst) >= place).then_some(Fault::Fails)
        });
        let died = tokio::time::timeout(
            Duration::from_secs(20),
            housekeeping::finish(&dying, &run.run),
        )
        .await;
        if matches!(died, Ok(Ok(Finished::Deleted(_)))) {
            assert_eq!(left(&store, &run).await, Vec::<String>::new());
            break;
        }
        // Who comes to take it meanwhile gets nothing or all of it.
        let taker = begin(&store, &format!("taker-{place}"), 7).await;
        let answer = take(&store, &taker.run, &name).await;
        assert!(matches!(answer, ReuseAnswer::Miss { .. }), "{answer:?}");
        let journal = Journal::new(store.clone(), taker.run.clone());
        journal.end_run(&end()).await.unwrap();

        let collected = gc(&store, Duration::ZERO, None).await;
        let fates: Vec<_> = collected
            .runs
            .iter()
            .filter(|fate| fate.run == run.run)
            .map(|fate| fate.fate.as_ref())
            .collect();
        assert_eq!(left(&store, &run).await, Vec::<String>::new(), "{place}");
        assert!(fates.is_empty() || fates == ["deleted"], "{fates:?}");
        place += every;
    }
    assert!(place > 10, "{place} places to die at");
}

pub(crate) async fn a_run_that_is_driven_again_is_kept(store: Store) {
    let run = run_json("waiting", 3, 1_767_323_046_000);
    runs::create(&store, &run).await.unwrap();
    assert_eq!(mark(&store, &run, HOUR).await, Marked::Yes);
    // A driver appends its takeover, then looks.
    let journal = Journal::new(store.clone(), run.run.clone());
    journal.append(&log_record(1, 3)).await.unwrap();
    assert!(housekeeping::rescue(&store, &run.run).await.unwrap());
    assert_eq!(finish(&store, &run).await, Finished::NotMarked);
    assert_eq!(mark(&store, &run, Duration::ZERO).await, Marked::NotEnded);

    // The other way round: it is decided that it goes, and the driver hears of it.
    let (run, _) = ended(&store, "gone").await;
    assert_eq!(mark(&store, &run, Duration::ZERO).await, Marked::Yes);
    let operations = AtomicUsize::new(0);
    let dying = faulty(&store, move |operation| {
        let decided = operation.path.starts_with("verdicts/");
        if decided {
            operations.fetch_add(1, Ordering::SeqCst);
        }
        (!decided && operations.load(Ordering::SeqCst) > 0).then_some(Fault::Fails)
    });
    housekeeping::finish(&dying, &run.run).await.unwrap_err();
    assert!(!housekeeping::rescue(&store, &run.run).await.unwrap());
}

pub(crate) async fn what_nobody_needs_is_collected(store: Store) {
    let local = tempfile::tempdir().unwrap();
    write(local.path(), "code.py", "print()");
    let needed = snapshot::scan(local.path(), &[]).await.unwrap();
    write(local.path(), "code.py", "print(1)");
    let orphan = snapshot::scan(local.path(), &[]).await.unwrap();
    let (run, won) = ended(&store, "kathi-1").await;
    let mut going_on = begin(&store, "going-on", 5).await;
    going_on.snapshots = [needed.digest].into();
    runs::mark_ready(&store, &mut going_on).await.unwrap();
    for scanned in [&needed, &orphan] {
        // As they were scanned: the second was uploaded by a run that is gone.
        write(
            local.path(),
            "code.py",
            if scanned.digest == needed.digest {
                "print()"
            } else {
                "print(1)"
            },
        );
        snapshot::upload(&store, scanned).await.unwrap();
    }
    let before = store.list(&StorePath::ROOT).await.unwrap().len();

    // A dry run counts, and changes nothing but the clock that it reads.
    let what = Collect {
        older_than: Some(Duration::ZERO),
        grace: Duration::ZERO,
        uploads: HOUR,
        dry_run: true,
        by: "kathi".into(),
    };
    let dry = housekeeping::collect(&store, &what, &|_| {}).await.unwrap();
    assert_eq!(store.list(&StorePath::ROOT).await.unwrap().len(), before);
    assert_eq!(dry.runs.len(), 1);
    assert_eq!(
        (dry.runs[0].fate.as_ref(), dry.snapshots.objects),
        ("deleted", 2)
    );

    // Young remains stay.
    let young = gc(&store, HOUR, None).await;
    assert_eq!((young.attempts.objects, young.runs.len()), (0, 0));
    assert_eq!(young.snapshots_marked, 1);
    assert!(snapshot::exists(&store, &needed.digest).await.unwrap());

    // The mark of the hour holds for the snapshot; the rest is old enough.
    let collected = gc(&store, Duration::ZERO, None).await;
    assert_eq!(collected.snapshots_marked, 1);
    // The first attempt's output and manifest, and two checkpoints of two files.
    assert_eq!(collected.attempts.objects, 2 + 2 * 2, "{collected:?}");
    artifact::verify(&store, &won.outputs["poem"], Depth::Digests)
        .await
        .unwrap();
    let first = layout::logs(&attempt(&run.run, 1), &nonce(1));
    assert_eq!(store.list(&first).await.unwrap().len(), 1, "logs stay");

    // Without that mark it goes.
    store
        .delete(&layout::snapshot_tombstone(&orphan.digest))
        .await
        .unwrap();
    let collected = gc(&store, Duration::ZERO, Some(Duration::ZERO)).await;
    assert_eq!(collected.snapshots.objects, 2);
    assert!(!snapshot::exists(&store, &orphan.digest).await.unwrap());
    assert!(snapshot::exists(&store, &needed.digest).await.unwrap());
    assert_eq!(left(&store, &run).await, Vec::<String>::new());
    assert_eq!(collected.runs.len(), 1);
    assert_eq!(runs::read(&store, &going_on.run).await.unwrap(), going_on);
    let again = gc(&store, Duration::ZERO, Some(Duration::ZERO)).await;
    assert_eq!(again.freed().objects, 0, "{again:?}");
}

/// A run is submitted while `gc` is about to delete a snapshot that it needs.
pub(crate) async fn a_snapshot_that_is_named_meanwhile_is_kept(store: Store) {
    let local = tempfile::tempdir().unwrap();
    write(local.path(), "code.py", "print()");
    let scanned = snapshot::scan(local.path(), &[]).await.unwrap();
    snapshot::upload(&store, &scanned).await.unwrap();
    let marked = gc(&store, HOUR, None).await;
    assert_eq!(marked.snapshots_marked, 1);

    let record = RunJson {
        snapshots: [scanned.digest].into(),
        ..run_json("new", 5, 1_767_323_046_000)
    };
    runs::create(&store, &record).await.unwrap();
    // The tombstone is of no force from here on, whatever a slow collector read before.
    assert!(!snapshot::upload(&store, &scanned).await.unwrap());
    assert!(
        !store
            .exists(&layout::snapshot_tombstone(&scanned.digest))
            .await
            .unwrap()
    );
    let collected = gc(&store, Duration::ZERO, None).await;
    assert_eq!(collected.snapshots.objects, 0);
    assert!(snapshot::exists(&store, &scanned.digest).await.unwrap());

    // Many at once: whoever comes first, the run has its code in the end.
    let rounds = if store.root().is_some() { 40 } else { 6 };
    let mut deleted = 0;
    for round in 0..rounds {
        write(local.path(), "code.py", format!("print({round})"));
        let scanned = snapshot::scan(local.path(), &[]).await.unwrap();
        snapshot::upload(&store, &scanned).await.unwrap();
        let record = RunJson {
            snapshots: [scanned.digest].into(),
            ..run_json(&format!("run-{round}"), 6, 1_767_323_046_000)
        };
        let submit = async {
            tokio::time::sleep(Duration::from_micros(round * 300)).await;
            runs::create(&store, &record).await.unwrap();
            snapshot::upload(&store, &scanned).await.unwrap();
        };
        let (_, first, second) = tokio::join!(
            submit,
            gc(&store, Duration::ZERO, None),
            gc(&store, Duration::ZERO, None)
        );
        deleted += first.snapshots.objects + second.snapshots.objects;
        let back = tempfile::tempdir().unwrap();
        snapshot::fetch(&store, &scanned.digest, DataType::UriFolder, back.path())
            .await
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    eprintln!("{deleted} objects deleted in {rounds} rounds");
}

pub(crate) async fn uploads_that_were_cut_short_are_swept(store: Store) {
    let path = StorePath::from("runs/kathi-1/data/write/1-00/outputs/poem/large");
    match store.root() {
        Some(root) => {
            let staged = root.join(format!("{path}#3"));
            std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
            std::fs::write(&staged, "half").unwrap();
            let own = root.join("runs/kathi-1/data/write/1-00/outputs/poem/C#");
            std::fs::write(own, "a user's").unwrap();
        }
        None => {
            // Begun and forgotten, as by a process that was killed.
            let mut upload =
                object_store::ObjectStoreExt::put_multipart(store.objects().as_ref(), &path)
                    .await
                    .unwrap();
            upload.put_part(vec![0_u8; 5 << 20].into()).await.unwrap();
            std::mem::forget(upload);
        }
    }
    let sweep = async |uploads: Duration, dry_run: bool| {
        let what = Collect {
            older_than: None,
            grace: HOUR,
            uploads,
            dry_run,
            by: "kathi".into(),
        };
        let collected = housekeeping::collect(&store, &what, &|_| {}).await;
        collected.unwrap().uploads.objects
    };
    assert_eq!(sweep(HOUR, false).await, 0);
    // Times of S3 are whole seconds.
    let pause = if store.root().is_none() { 2_000 } else { 50 };
    tokio::time::sleep(Duration::from_millis(pause)).await;
    let old = Duration::from_millis(1);
    assert_eq!(sweep(old, true).await, 1);
    assert_eq!(sweep(old, false).await, 1);
    assert_eq!(sweep(old, false).await, 0);
    if let Some(root) = store.root() {
        let own = root.join("runs/kathi-1/data/write/1-00/outputs/poem/C#");
        assert!(own.exists(), "a user's file whose name ends on #");
    }
}
