//! Inputs that live outside of a store: an object, or all objects below a prefix, of
//! any bucket, and a file that an HTTP server gives. What they were is pinned when a
//! run is planned, and one that is another by the time it is fetched is an error. It
//! reads only what the user named, and never writes there.

mod web;

use crate::artifact::Fetched;
use crate::{Store, StoreError, StorePath, StoreUrl, backend, tree};
use auria_core::Digest;
use auria_core::plan::DataType;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use std::path::Path;

/// More objects below one prefix are refused: a plan names them all.
const MOST_OBJECTS: usize = 100_000;
/// Objects that are fetched at once.
const OBJECTS_AT_ONCE: usize = 16;
const MODE: u32 = 0o644;

/// What is at a URI.
#[derive(Debug)]
struct Found {
    store: Store,
    /// Whether the URI is that of one object.
    single: bool,
    /// Name below the URI, and what the bucket says of the object.
    objects: Vec<(String, ObjectMeta)>,
}

/// Whether inputs at such a URI can be read at all.
#[must_use]
pub fn is_read(uri: &str) -> bool {
    uri.starts_with("s3://") || web::is_web(uri)
}

/// What the objects at `uri` are now, as a short text that is another when they are.
///
/// # Errors
/// Where nothing is there, it cannot be reached, or nobody could tell whether it changed.
pub async fn pin(uri: &str) -> Result<String, StoreError> {
    if web::is_web(uri) {
        return web::pin(uri).await;
    }
    find(uri).await?.pin(uri)
}

/// Fetches what `pin` said of `uri` into the folder `to`, which is created where it
/// is missing.
///
/// # Errors
/// Where it is no longer what it was, is no file while `data_type` says so, cannot be
/// reached, or `to` cannot be written.
pub async fn fetch(
    uri: &str,
    pin: &str,
    data_type: DataType,
    to: &Path,
) -> Result<Fetched, StoreError> {
    let made = tokio::fs::create_dir_all(to).await;
    made.map_err(StoreError::local("create the folder", to))?;
    if web::is_web(uri) {
        return web::fetch(uri, pin, data_type, to).await;
    }
    let found = find(uri).await?;
    let now = found.pin(uri)?;
    if now != pin {
        return Err(changed(uri, pin, &now));
    }
    if data_type == DataType::UriFile && !found.single {
        let count = found.objects.len();
        let why = format!("{count} objects are below it, and the input's type is uri_file");
        return Err(unsuitable(uri, &why));
    }
    let Found {
        store,
        single,
        objects,
    } = found;
    let files = objects.len() as u64;
    let bytes = objects.iter().map(|(_, meta)| meta.size).sum();
    let path = match objects.first() {
        Some((name, _)) if single && data_type == DataType::UriFile => to.join(name),
        _ => to.to_owned(),
    };
    futures::stream::iter(objects)
        .map(|(name, meta)| {
            let (store, place) = (&store, to.join(name));
            async move {
                if let Some(folder) = place.parent() {
                    let made = tokio::fs::create_dir_all(folder).await;
                    made.map_err(StoreError::local("create the folder", folder))?;
                }
                let version = meta.e_tag.clone();
                store
                    .download_version(&meta.location, meta.size, version, &place, MODE)
                    .await
            }
        })
        .buffer_unordered(OBJECTS_AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(Fetched { path, files, bytes })
}

async fn find(uri: &str) -> Result<Found, StoreError> {
    let StoreUrl::S3 {
        bucket,
        prefix: key,
    } = uri.parse()?
    else {
        return Err(unsuitable(
            uri,
            "it is neither s3://…, http://… nor https://…",
        ));
    };
    let root = StoreUrl::S3 {
        bucket: bucket.clone(),
        prefix: String::new(),
    };
    let (objects, _) = backend::s3(&root, &bucket, "", &[])?;
    let store = Store::of_objects(root.clone(), objects);
    let path = StorePath::parse(&key).map_err(|error| unsuitable(uri, &error.to_string()))?;
    if !key.is_empty()
        && !uri.ends_with('/')
        && let Some(meta) = store.head(&path).await?
    {
        let name = path.filename().unwrap_or_default().to_owned();
        return Ok(Found {
            store,
            single: true,
            objects: vec![(name, meta)],
        });
    }
    let mut objects = Vec::new();
    for meta in store.list(&path).await? {
        let name = meta.location.as_ref().strip_prefix(path.as_ref());
        let name = name.unwrap_or_default().trim_start_matches('/').to_owned();
        // The marks of folders that some consoles make.
        if name.is_empty() {
            continue;
        }
        if !tree::is_confined(&name) {
            let why = format!("the name `{name}` leads outside of a folder");
            return Err(unsuitable(uri, &why));
        }
        objects.push((name, meta));
    }
    if objects.len() > MOST_OBJECTS {
        let why = format!("more than {MOST_OBJECTS} objects are below it; name a part of them");
        return Err(unsuitable(uri, &why));
    }
    if objects.is_empty() {
        return Err(StoreError::NotFound {
            what: uri.to_owned(),
        });
    }
    if let Some(name) = tree::clash(objects.iter().map(|(name, _)| name.as_str())) {
        let why = format!("`{name}` is an object and a folder of others");
        return Err(unsuitable(uri, &why));
    }
    objects.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Found {
        store,
        single: false,
        objects,
    })
}

impl Found {
    fn pin(&self, uri: &str) -> Result<String, StoreError> {
        let mut lines = String::new();
        for (name, meta) in &self.objects {
            let version = meta.version.as_ref().or(meta.e_tag.as_ref());
            let version = version.ok_or_else(|| unsuitable(uri, NO_VERSION))?;
            lines += &format!("{name}\0{}\0{version}\n", meta.size);
        }
        let bytes: u64 = self.objects.iter().map(|(_, meta)| meta.size).sum();
        let digest = Digest::of(lines.as_bytes());
        Ok(match self.objects.as_slice() {
            [(_, meta)] if self.single => {
                let version = meta.version.as_ref().or(meta.e_tag.as_ref());
                format!("{bytes} bytes, {}", version.map_or("", String::as_str))
            }
            many => format!("{} objects, {bytes} bytes, {digest}", many.len()),
        })
    }
}

const NO_VERSION: &str = "it has neither version nor ETag, so that nobody could tell whether it changed; copy it into a folder and name that";

fn changed(uri: &str, then: &str, now: &str) -> StoreError {
    let why =
        format!("it changed since the run was planned (it was {then}, and is {now}); submit again");
    unsuitable(uri, &why)
}

fn unsuitable(uri: &str, why: &str) -> StoreError {
    StoreError::Unsuitable {
        path: uri.into(),
        why: why.to_owned(),
    }
}
