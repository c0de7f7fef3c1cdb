//! A tombstone and its verdict, for a run or a snapshot. It says what stands there
//! and decides once; what is deleted is the business of others.

use crate::create::Created;
use crate::store::{decode, encode};
use crate::{Store, StoreError, StorePath, layout, now};
use auria_core::{Digest, Nonce, Timestamp, mutant};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long one who needs a snapshot waits for its deletion to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks meanwhile.
const LOOK: Duration = Duration::from_millis(200);

/// Says that something is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tombstone {
    /// Drawn anew for each tombstone: its verdict's name.
    pub(super) nonce: Nonce,
    /// The nonce of the `run.json` that is meant, so that a later run of the same
    /// name is never taken for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) of: Option<Nonce>,
    /// Who asked, for people.
    pub(super) by: String,
    /// When, for people.
    pub(super) at: Timestamp,
    /// How long it must stand.
    pub(super) grace_ms: u64,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It is deleted, and nobody takes it any more.
    Delete,
    /// It is taken, and this tombstone means nothing any more.
    Keep,
}

/// A verdict, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Decided {
    verdict: Verdict,
    /// Drawn by the one who decided, so that of two who would say the same one is the first.
    by: Nonce,
}

/// A verdict as it may stand: an older layout kept the word alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stands {
    Decided(Decided),
    Bare(Verdict),
}

impl Stands {
    fn verdict(self) -> Verdict {
        match self {
            Self::Decided(decided) => decided.verdict,
            Self::Bare(verdict) => verdict,
        }
    }
}

/// Whether the tombstone at `path` means nothing any more: it is gone, or what it marks is
/// kept.
///
/// # Errors
/// Where the store cannot be read, or what stands there is neither.
pub async fn is_kept(store: &Store, path: &StorePath) -> Result<bool, StoreError> {
    let Some(tombstone) = store.read_json::<Tombstone>(path).await? else {
        return Ok(true);
    };
    let grave = Grave { path: path.clone() };
    Ok(grave.decided(store, &tombstone).await? == Some(Verdict::Keep))
}

/// Where the tombstone of one thing lies.
pub(super) struct Grave {
    path: StorePath,
}

impl Grave {
    pub(super) fn of_run(run: &auria_core::RunId) -> Self {
        Self {
            path: layout::tombstone(run),
        }
    }

    pub(super) fn of_snapshot(digest: &Digest) -> Self {
        Self {
            path: layout::snapshot_tombstone(digest),
        }
    }

    pub(super) fn path(&self) -> &StorePath {
        &self.path
    }

    /// Sets a tombstone, unless one stands.
    pub(super) async fn mark(
        &self,
        store: &Store,
        of: Option<Nonce>,
        by: &str,
        grace: Duration,
    ) -> Result<Tombstone, StoreError> {
        let tombstone = Tombstone {
            nonce: nonce(),
            of,
            by: by.to_owned(),
            at: now(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        };
        let same = |bytes: &[u8]| {
            decode::<Tombstone>(&self.path, bytes).is_ok_and(|found| found == tombstone)
        };
        let bytes = encode(&self.path, &tombstone)?;
        match store.create_once(&self.path, bytes, same).await? {
            Created::Won => Ok(tombstone),
            Created::Lost(bytes) => decode(&self.path, &bytes),
        }
    }

    /// The tombstone that stands, and how long it has by the store's clock.
    pub(super) async fn read(
        &self,
        store: &Store,
        clock: Clock,
    ) -> Result<Option<(Tombstone, Duration)>, StoreError> {
        let Some(tombstone) = store.read_json::<Tombstone>(&self.path).await? else {
            return Ok(None);
        };
        // In this order: where another takes its place between the two, that one is younger.
        let meta = store.head(&self.path).await?;
        Ok(meta.map(|meta| (tombstone, clock.age(&meta))))
    }

    /// Decides what becomes of a tombstone; what was decided first stands.
    pub(super) async fn decide(
        &self,
        store: &Store,
        tombstone: &Tombstone,
        verdict: Verdict,
    ) -> Result<Verdict, StoreError> {
        let decided = self.decide_first(store, tombstone, verdict).await?;
        Ok(decided.0)
    }

    /// [`Self::decide`], and whether this call decided it.
    pub(super) async fn decide_first(
        &self,
        store: &Store,
        tombstone: &Tombstone,
        verdict: Verdict,
    ) -> Result<(Verdict, bool), StoreError> {
        if mutant!(VerdictPrivate) {
            return Ok((verdict, true));
        }
        let path = layout::verdict(&tombstone.nonce);
        let ours = Decided {
            verdict,
            by: nonce(),
        };
        let same = |bytes: &[u8]| decode::<Decided>(&path, bytes).is_ok_and(|found| found == ours);
        let bytes = encode(&path, &ours)?;
        Ok(match store.create_once(&path, bytes, same).await? {
            Created::Won => (verdict, true),
            Created::Lost(bytes) => (decode::<Stands>(&path, &bytes)?.verdict(), false),
        })
    }

    /// How long the verdict on a tombstone has stood.
    pub(super) async fn decided_for(
        &self,
        store: &Store,
        tombstone: &Tombstone,
        clock: Clock,
    ) -> Result<Duration, StoreError> {
        let meta = store.head(&layout::verdict(&tombstone.nonce)).await?;
        Ok(meta.map_or(Duration::ZERO, |meta| clock.age(&meta)))
    }

    /// Keeps what is here, where it is not decided otherwise: the tombstone goes, the
    /// verdict stays, so that whoever still holds the tombstone finds it.
    pub(super) async fn keep(
        &self,
        store: &Store,
        tombstone: &Tombstone,
    ) -> Result<Verdict, StoreError> {
        let verdict = self.decide(store, tombstone, Verdict::Keep).await?;
        if verdict == Verdict::Keep {
            self.remove(store, tombstone).await?;
        }
        Ok(verdict)
    }

    /// Removes `tombstone` where it still stands. Whoever was held up since it was read may
    /// find another one in its place, on which nothing is decided.
    pub(super) async fn remove(
        &self,
        store: &Store,
        tombstone: &Tombstone,
    ) -> Result<(), StoreError> {
        match store.read_json::<Tombstone>(&self.path).await? {
            Some(stands) if stands.nonce == tombstone.nonce => store.delete(&self.path).await,
            _ => Ok(()),
        }
    }

    /// What was decided on a tombstone, if anything was.
    pub(super) async fn decided(
        &self,
        store: &Store,
        tombstone: &Tombstone,
    ) -> Result<Option<Verdict>, StoreError> {
        let verdict = store
            .read_json::<Stands>(&layout::verdict(&tombstone.nonce))
            .await?;
        Ok(verdict.map(Stands::verdict))
    }
}

/// Keeps the snapshot for a run whose `run.json` names it already; where it is being
/// deleted, waits until that is done.
pub(crate) async fn settle(store: &Store, digest: &Digest) -> Result<(), StoreError> {
    let grave = Grave::of_snapshot(digest);
    let begun = tokio::time::Instant::now();
    loop {
        let Some(tombstone) = store.read_json::<Tombstone>(grave.path()).await? else {
            return Ok(());
        };
        if grave.keep(store, &tombstone).await? == Verdict::Keep {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(StoreError::Refused {
                store: store.url().to_string(),
                why: format!("the snapshot {digest} is being deleted by {}", tombstone.by),
                help: "if that was cut short, an `auria-pipeline gc` ten minutes later ends it; then submit again".into(),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The store's own clock, read once: ages are told by it, whatever this machine says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(i64);

impl Clock {
    pub(super) async fn read(store: &Store) -> Result<Self, StoreError> {
        if mutant!(GraceByOwnClock) {
            return Ok(Self(now().0));
        }
        let path = StorePath::from(format!("clock/{}", nonce()));
        store.write(&path, "now\n").await?;
        let meta = store.head(&path).await?;
        store.delete(&path).await?;
        Ok(Self(
            meta.map_or(0, |meta| meta.last_modified.timestamp_millis()),
        ))
    }

    pub(super) fn age(self, meta: &object_store::ObjectMeta) -> Duration {
        self.age_of(meta.last_modified.timestamp_millis())
    }

    /// The age of what was written at `millis` since 1970.
    pub(super) fn age_of(self, millis: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(millis)).unwrap_or(0))
    }
}

fn nonce() -> Nonce {
    loop {
        if let Ok(nonce) = format!("{:016x}", crate::outside::random()).parse() {
            return nonce;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Grave, Verdict, is_kept};
    use crate::{Store, layout};
    use auria_core::Digest;
    use object_store::memory::InMemory;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test]
    async fn a_verdict_of_an_older_layout_stands() {
        for (bare, verdict) in [("keep", Verdict::Keep), ("delete", Verdict::Delete)] {
            let store = Store::over(Arc::new(InMemory::new()));
            let grave = Grave::of_snapshot(&Digest::of(b"x"));
            let tombstone = grave
                .mark(&store, None, "test", Duration::ZERO)
                .await
                .unwrap();
            assert!(!is_kept(&store, grave.path()).await.unwrap());
            let path = layout::verdict(&tombstone.nonce);
            store.write(&path, format!("\"{bare}\"\n")).await.unwrap();
            for ours in [Verdict::Keep, Verdict::Delete] {
                let decided = grave.decide_first(&store, &tombstone, ours).await.unwrap();
                assert_eq!(decided, (verdict, false));
            }
            let kept = is_kept(&store, grave.path()).await.unwrap();
            assert_eq!(kept, verdict == Verdict::Keep);
            // What is no verdict is said to be none.
            store.write(&path, "\"perhaps\"\n").await.unwrap();
            let error = grave
                .decide(&store, &tombstone, Verdict::Keep)
                .await
                .unwrap_err();
            assert!(error.to_string().contains(path.as_ref()), "{error}");
            assert!(is_kept(&store, grave.path()).await.is_err());
        }
    }
}
