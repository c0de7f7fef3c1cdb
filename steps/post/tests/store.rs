//! A gallery in an object store with conditional puts, every call slowed down so that posts that
//! run at once are certain to meet.

mod support;

use std::sync::Arc;
use std::time::Duration;

use auria_post::gallery::{Gallery, PAGE_FILE};
use auria_post::work::{Folders, Work};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt};
use support::shown;

fn slow_store() -> Arc<dyn ObjectStore> {
    let pause = Duration::from_millis(3);
    Arc::new(ThrottledStore::new(
        InMemory::new(),
        ThrottleConfig {
            wait_get_per_call: pause,
            wait_put_per_call: pause,
            wait_list_with_delimiter_per_call: pause,
            ..ThrottleConfig::default()
        },
    ))
}

fn read(root: &std::path::Path, number: u8, created: &str) -> Work {
    let folder = support::work(root, number);
    let folders = Folders {
        poem: &folder.join("poem"),
        painting: &folder.join("painting"),
        coloured: &folder.join("coloured"),
    };
    Work::read(&folders, created.to_owned(), None).unwrap()
}

async fn page(store: &dyn ObjectStore) -> String {
    let found = store.get(&Path::from(PAGE_FILE)).await.unwrap();
    String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn posts_that_meet_lose_no_entry() {
    let root = tempfile::tempdir().unwrap();
    let store = slow_store();
    let gallery = Gallery::over(store.clone());
    let posts = (0..16).map(|number| {
        let work = read(root.path(), number, "2026-01-02T03:04:05.678Z");
        let gallery = gallery.clone();
        async move { gallery.post(&work).await.unwrap() }
    });
    let posted = futures::future::join_all(posts).await;
    assert!(posted.iter().all(|posted| posted.new));
    assert_eq!(shown(&page(&store).await), 16);
}

#[tokio::test]
async fn the_same_work_posted_at_once_is_one_entry() {
    let root = tempfile::tempdir().unwrap();
    let store = slow_store();
    let gallery = Gallery::over(store.clone());
    let posts = (0..8).map(|number| {
        let created = format!("2026-01-02T03:04:0{number}.000Z");
        let work = read(root.path(), 1, &created);
        let gallery = gallery.clone();
        async move { gallery.post(&work).await.unwrap() }
    });
    let posted = futures::future::join_all(posts).await;
    assert_eq!(posted.iter().filter(|posted| posted.new).count(), 1);
    let first = &posted[0].entry;
    assert!(posted.iter().all(|posted| posted.entry == *first));
    assert_eq!(shown(&page(&store).await), 1);
}
