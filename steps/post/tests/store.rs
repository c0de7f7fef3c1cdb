//! A gallery in an object store, where another post comes at the worst moment: between this one's
//! list of the entries and its write of the page.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

mod support;

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use auria_post::gallery::{Gallery, PAGE_FILE};
use auria_post::work::{Folders, Work};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use support::shown;

/// Passes everything on; after each list of the entries, a waiting work is posted by
/// somebody else before the listing is handed out.
#[derive(Debug)]
struct Meddler {
    inner: Arc<InMemory>,
    waiting: Mutex<Vec<Work>>,
}

impl fmt::Display for Meddler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meddler({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Meddler {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix).await;
        let next = self.waiting.lock().unwrap().pop();
        if let Some(work) = next {
            Gallery::over(self.inner.clone()).post(&work).await.unwrap();
        }
        listed
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
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

const CREATED: &str = "2026-01-02T03:04:05.678Z";

#[tokio::test]
async fn a_post_between_list_and_write_is_not_lost() {
    // The first write creates the page, the second replaces one: both are met by another's post.
    for already in [0, 1] {
        let root = tempfile::tempdir().unwrap();
        let inner = Arc::new(InMemory::new());
        for number in 0..already {
            let work = read(root.path(), 10 + number, CREATED);
            Gallery::over(inner.clone()).post(&work).await.unwrap();
        }
        let met = Arc::new(Meddler {
            inner: inner.clone(),
            waiting: Mutex::new(vec![read(root.path(), 1, CREATED)]),
        });
        let work = read(root.path(), 0, CREATED);
        Gallery::over(met.clone()).post(&work).await.unwrap();
        assert!(met.waiting.lock().unwrap().is_empty(), "the other came");
        assert_eq!(shown(&page(&*inner).await), 2 + usize::from(already));
    }
}

#[tokio::test]
async fn the_same_work_posted_by_another_first_is_one_entry_with_the_first_time() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(InMemory::new());
    let gallery = Gallery::over(store.clone());
    let first = read(root.path(), 1, CREATED);
    assert!(gallery.post(&first).await.unwrap().new);
    let late = read(root.path(), 1, "2026-01-03T00:00:00.000Z");
    let posted = gallery.post(&late).await.unwrap();
    assert!(!posted.new);
    assert_eq!(posted.entry, first.entry);
    assert_eq!(shown(&page(&*store).await), 1);
}
