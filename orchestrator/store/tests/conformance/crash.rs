//! Uploads that are cut short at any place leave nothing that anyone would take
//! for an artifact, and the next try succeeds.

use crate::fixtures::{id, noise, nonce, tree, write};
use auria_core::plan::DataType;
use auria_store::artifact::{self, Depth};
use auria_store::testing::{Fault, faulty};
use auria_store::{Access, Store, StoreUrl, checkpoint, layout, snapshot};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The process dies before its operation number `at`, for every `at` there is.
pub(crate) async fn a_crash_at_any_operation_leaves_nothing_visible(store: Store) {
    let local = tempfile::tempdir().unwrap();
    write(local.path(), "a", "small");
    write(local.path(), "b/c", noise(17 * 1024 * 1024, 3));
    let (attempt, nonce) = (id("write", 1), nonce(1));
    let (files, manifest) = (
        layout::output(&attempt, &nonce, "out"),
        layout::output_manifest(&attempt, &nonce, "out"),
    );
    let scanned = snapshot::scan(local.path(), &[]).await.unwrap();
    let mut crashes = 0;
    let published = loop {
        let count = Arc::new(AtomicUsize::new(0));
        let dying = faulty(&store, {
            let count = Arc::clone(&count);
            move |_| (count.fetch_add(1, Ordering::SeqCst) >= crashes).then_some(Fault::Fails)
        });
        match artifact::publish(&dying, local.path(), DataType::UriFolder, &files, &manifest).await
        {
            Ok(published) => break published,
            Err(_) => {
                crashes += 1;
                assert_eq!(
                    store.read(&manifest).await.unwrap(),
                    None,
                    "no manifest after {crashes} operations"
                );
                for meta in store.list(&files).await.unwrap() {
                    let whole = [5, 17 * 1024 * 1024].contains(&meta.size);
                    assert!(whole, "{} is there with {} bytes", meta.location, meta.size);
                }
            }
        }
    };
    // One write, begin, three parts, completion, the manifest: each was cut once.
    assert!(crashes >= 7, "{crashes} places to crash at");
    artifact::verify(&store, &published, Depth::Digests)
        .await
        .unwrap();

    let mut crashes = 0;
    loop {
        let count = AtomicUsize::new(0);
        let dying = faulty(&store, move |_| {
            (count.fetch_add(1, Ordering::SeqCst) >= crashes).then_some(Fault::Fails)
        });
        if snapshot::upload(&dying, &scanned).await.is_ok() {
            break;
        }
        crashes += 1;
        assert!(!snapshot::exists(&store, &scanned.digest).await.unwrap());
    }
    let back = tempfile::tempdir().unwrap();
    snapshot::fetch(&store, &scanned.digest, DataType::UriFolder, back.path())
        .await
        .unwrap();
    assert_eq!(tree(back.path()), tree(local.path()));

    let mut crashes = 0;
    loop {
        let count = AtomicUsize::new(0);
        let dying = faulty(&store, move |_| {
            (count.fetch_add(1, Ordering::SeqCst) >= crashes).then_some(Fault::Fails)
        });
        if checkpoint::publish(&dying, &attempt, &nonce, 1, local.path())
            .await
            .is_ok()
        {
            break;
        }
        crashes += 1;
        if let Some(found) = checkpoint::latest(&store, &attempt, &nonce).await.unwrap() {
            // Its manifest was written, and only clearing up was cut short: it is whole.
            let back = tempfile::tempdir().unwrap();
            checkpoint::fetch(&store, &attempt.run, &attempt.step, &found, back.path())
                .await
                .unwrap();
            assert_eq!(tree(back.path()), tree(local.path()));
        }
    }
}

const CHILD: &str = "AURIA_TEST_CRASH_STORE";

/// A process of its own publishes and is killed with SIGKILL at random moments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_leaves_nothing_visible() {
    let folder = tempfile::tempdir().unwrap();
    let local = folder.path().join("local");
    for number in 0..40 {
        write(&local, &format!("{number}"), noise(1_000_000, number));
    }
    let url = StoreUrl::Folder(folder.path().join("store"));
    let store = Store::open(&url, Access::Write).await.unwrap();
    let mut seen_incomplete = 0;
    for round in 0..12_u32 {
        let attempt = id("write", round + 1);
        let manifest = layout::output_manifest(&attempt, &nonce(1), "out");
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "crash::child_that_publishes",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD, folder.path())
            .env("AURIA_TEST_CRASH_ROUND", (round + 1).to_string())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Killed once some of its files are there, a different number each round.
        let data = layout::data(&attempt, &nonce(1));
        while store.list(&data).await.unwrap().len() < (round as usize * 4) % 40 {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let files = store
            .list(&layout::output(&attempt, &nonce(1), "out"))
            .await
            .unwrap();
        for meta in &files {
            assert_eq!(meta.size, 1_000_000, "{} is half there", meta.location);
        }
        if store.read(&manifest).await.unwrap().is_none() {
            seen_incomplete += 1;
        } else {
            assert_eq!(files.len(), 40, "a manifest, and not all files");
        }
    }
    assert!(seen_incomplete > 0, "no kill fell into an upload");
}

/// Not a test: the process that [`a_kill_leaves_nothing_visible`] kills.
#[tokio::test]
#[ignore = "started by a_kill_leaves_nothing_visible"]
async fn child_that_publishes() {
    let Some(folder) = std::env::var_os(CHILD).map(std::path::PathBuf::from) else {
        return;
    };
    let round = std::env::var("AURIA_TEST_CRASH_ROUND")
        .unwrap()
        .parse()
        .unwrap();
    let store = Store::open(&StoreUrl::Folder(folder.join("store")), Access::Write)
        .await
        .unwrap();
    let (attempt, nonce) = (id("write", round), nonce(1));
    let (files, manifest) = (
        layout::output(&attempt, &nonce, "out"),
        layout::output_manifest(&attempt, &nonce, "out"),
    );
    artifact::publish(
        &store,
        &folder.join("local"),
        DataType::UriFolder,
        &files,
        &manifest,
    )
    .await
    .unwrap();
}
