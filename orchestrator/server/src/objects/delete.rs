//! Deleting objects, many at once.

use super::{Caller, Served, Verb, few, object};
use crate::body::Taken;
use crate::problem::Refusal;
use auria_core::protocol::{Deleted, MOST_DELETED, Paths};
use auria_store::StorePath;
use axum::Json;
use axum::extract::{Extension, State};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::StatusCode;
use object_store::ObjectStore;

pub(super) async fn delete(
    State(served): State<Served>,
    Extension(caller): Caller,
    asked: Taken<Paths>,
) -> Result<Json<Deleted>, Refusal> {
    let paths = &asked.value;
    few(paths.paths.len(), MOST_DELETED)?;
    let mut all = Vec::with_capacity(paths.paths.len());
    for path in &paths.paths {
        let path = object(path)?;
        caller.may(Verb::Delete, &path, None).await?;
        all.push(path);
    }
    let stream = futures::stream::iter(all.clone().into_iter().map(Ok)).boxed();
    let results = served.objects().delete_stream(stream);
    Ok(Json(deleted(all, results).await))
}

/// What became of `paths`. In their order, one for each, as long as there are results: where
/// the store gives up, nothing is known of the rest.
async fn deleted(
    paths: Vec<StorePath>,
    mut results: BoxStream<'static, object_store::Result<StorePath>>,
) -> Deleted {
    let mut deleted = Deleted::default();
    let mut last = Refusal::new(
        StatusCode::BAD_GATEWAY,
        "the store did not say whether it is deleted",
    );
    for path in paths {
        match results.next().await {
            Some(Ok(_) | Err(object_store::Error::NotFound { .. })) => continue,
            Some(Err(error)) => last = Refusal::of_store(&error),
            None => {}
        }
        deleted.failed.insert(path.to_string(), last.document());
    }
    deleted
}

#[cfg(test)]
mod tests {
    use super::deleted;
    use auria_store::StorePath;
    use futures::StreamExt;
    use object_store::Error;

    #[tokio::test]
    async fn what_the_store_did_not_say_is_not_deleted() {
        let paths: Vec<_> = ["a", "b", "c", "d"].map(StorePath::from).to_vec();
        let failed = Error::Generic {
            store: "test",
            source: "away".into(),
        };
        let missing = Error::NotFound {
            path: "b".to_owned(),
            source: "none".into(),
        };
        // It gives up with the third.
        let results = vec![Ok(paths[0].clone()), Err(missing), Err(failed)];
        let results = futures::stream::iter(results).boxed();
        let deleted = deleted(paths, results).await;
        let failed = deleted
            .failed
            .iter()
            .map(|(path, why)| (path.as_str(), why.status));
        assert_eq!(failed.collect::<Vec<_>>(), [("c", 502), ("d", 502)]);
    }
}
