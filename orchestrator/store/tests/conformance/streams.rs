//! Logs, metrics and checkpoints: what is written while a step runs.

use crate::fixtures::{id, nonce, tree, write};
use auria_store::logs::{FlushPolicy, LogReader, LogWriter, publish_metrics, read_metrics};
use auria_store::{Store, checkpoint, layout};
use std::time::{Duration, Instant};

pub(crate) async fn logs_are_followed_within_a_second(store: Store) {
    let folder = layout::logs(&id("write", 1), &nonce(1));
    let writer = LogWriter::start(store.clone(), folder.clone(), FlushPolicy::of(&store));
    let mut follower = LogReader::new(store.clone(), folder.clone());
    assert_eq!(follower.next().await.unwrap(), None);
    let mut expected = Vec::new();
    for round in 0..3 {
        let line = format!("line {round} – größer\n");
        expected.extend_from_slice(line.as_bytes());
        let begun = Instant::now();
        writer.append(line.as_bytes()).await;
        let chunk = loop {
            if let Some(chunk) = follower.next().await.unwrap() {
                break chunk;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(chunk, line.as_bytes());
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "round {round}: seen after {:?}",
            begun.elapsed()
        );
    }
    // Many lines at once, more than may wait, arrive whole and in order.
    let line = "0123456789".repeat(10);
    for number in 0..200_000 {
        let line = format!("{number} {line}\n");
        expected.extend_from_slice(line.as_bytes());
        writer.append(line.as_bytes()).await;
    }
    let chunks = writer.finish().await.unwrap();
    assert!((4..100).contains(&chunks), "{chunks} chunks");
    let mut reader = LogReader::new(store.clone(), folder.clone());
    assert!(
        reader.read_rest().await.unwrap() == expected,
        "all that was written, in order"
    );
    assert_eq!(reader.read_rest().await.unwrap(), b"");
    let last = reader.last_lines(3).await.unwrap();
    assert_eq!(last.len(), 3);
    assert!(last[2].starts_with("199999 ") && last[0].starts_with("199997 "));
    assert_eq!(
        LogReader::new(store.clone(), layout::logs(&id("none", 1), &nonce(1)))
            .last_lines(5)
            .await
            .unwrap(),
        Vec::<String>::new()
    );

    // A writer that is dropped without an end loses what it had not flushed, and no more.
    let folder = layout::logs(&id("killed", 1), &nonce(1));
    let writer = LogWriter::start(store.clone(), folder.clone(), FlushPolicy::of(&store));
    writer.append(b"flushed\n").await;
    writer.flush();
    let mut reader = LogReader::new(store.clone(), folder.clone());
    while reader.next().await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    writer.append(b"not flushed\n").await;
    drop(writer);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(
        LogReader::new(store, folder).read_rest().await.unwrap(),
        b"flushed\n"
    );
}

pub(crate) async fn metrics_are_read_while_running_and_after(store: Store) {
    let (attempt, nonce) = (id("train", 1), nonce(1));
    assert!(
        read_metrics(&store, &attempt, &nonce)
            .await
            .unwrap()
            .is_empty()
    );
    publish_metrics(&store, &attempt, &nonce).await.unwrap();
    let writer = LogWriter::start(
        store.clone(),
        layout::metrics_chunks(&attempt, &nonce),
        FlushPolicy::of(&store),
    );
    // A line may be cut by the end of a chunk.
    writer.append(b"{\"loss\": 2.5}\n{\"loss\": ").await;
    writer.flush();
    while read_metrics(&store, &attempt, &nonce)
        .await
        .unwrap()
        .is_empty()
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        read_metrics(&store, &attempt, &nonce).await.unwrap(),
        [serde_json::json!({"loss": 2.5})]
    );
    writer.append(b"1.5}\nnot json\n").await;
    writer.finish().await.unwrap();
    let both = [
        serde_json::json!({"loss": 2.5}),
        serde_json::json!({"loss": 1.5}),
    ];
    assert_eq!(read_metrics(&store, &attempt, &nonce).await.unwrap(), both);
    publish_metrics(&store, &attempt, &nonce).await.unwrap();
    assert_eq!(read_metrics(&store, &attempt, &nonce).await.unwrap(), both);
    let whole = store
        .read(&layout::metrics(&attempt, &nonce))
        .await
        .unwrap()
        .unwrap();
    assert!(whole.starts_with(b"{\"loss\": 2.5}\n{\"loss\": 1.5}\n"));
}

pub(crate) async fn checkpoints_keep_two(store: Store) {
    let (attempt, nonce) = (id("train", 1), nonce(1));
    assert_eq!(
        checkpoint::latest(&store, &attempt, &nonce).await.unwrap(),
        None
    );
    let local = tempfile::tempdir().unwrap();
    let mut published = Vec::new();
    // Generations are numbers, not names: 10 comes after 9.
    for generation in 1..=11 {
        write(local.path(), "state", format!("state {generation}"));
        published.push(
            checkpoint::publish(&store, &attempt, &nonce, generation, local.path())
                .await
                .unwrap(),
        );
        assert_eq!(
            checkpoint::latest(&store, &attempt, &nonce).await.unwrap(),
            published.last().cloned()
        );
    }
    let fetch = async |generation: usize| {
        let back = tempfile::tempdir().unwrap();
        let found = &published[generation - 1];
        checkpoint::fetch(&store, &attempt.run, &attempt.step, found, back.path())
            .await
            .map(|_| tree(back.path()))
    };
    assert_eq!(fetch(11).await.unwrap(), tree(local.path()));
    fetch(10).await.unwrap();
    // One that is gone gives way to the newest.
    assert_eq!(fetch(9).await.unwrap(), tree(local.path()));
    assert_eq!(
        store
            .list(&layout::checkpoints(&attempt, &nonce))
            .await
            .unwrap()
            .len(),
        4,
        "two files, two manifests"
    );
}
