//! Whether a store keeps the promise that the protocol stands on: of those who
//! create one key at once, exactly one wins. Asked once; the verdict stands in
//! `layout.json`. It never trusts a store's name or documentation.

use crate::error::{find_io, sort_error};
use crate::layout::{self, LAYOUT_VERSION};
use crate::{Store, StoreError, StorePath, now};
use auria_core::Timestamp;
use futures::future::join_all;
use object_store::{PutMode, PutOptions};
use serde::{Deserialize, Serialize};

/// The version of the questions that are asked; a verdict on others is not taken.
const PROBE_VERSION: u32 = 1;
const ROUNDS: u32 = 4;
const CREATORS: u32 = 16;
/// Rounds whose writes did not get through, before the store counts as unreachable.
const SPARE_ROUNDS: u32 = 3;

/// `layout.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// [`LAYOUT_VERSION`] of the writer.
    pub version: u32,
    /// What the capability probe found.
    pub probe: Verdict,
}

/// What the capability probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The version of the questions that were asked.
    pub version: u32,
    /// How many keys were raced for.
    pub rounds: u32,
    /// By how many creators each.
    pub creators: u32,
    /// When.
    pub at: Timestamp,
}

/// Refuses a store whose layout this code does not know.
pub(crate) async fn check_version(store: &Store) -> Result<(), StoreError> {
    let layout: Option<Layout> = store.read_json(&layout::layout()).await?;
    layout.map_or(Ok(()), |layout| known_version(store, &layout))
}

/// Probes the store unless its verdict is known.
pub(crate) async fn ensure(store: &Store) -> Result<(), StoreError> {
    let path = layout::layout();
    let known: Option<Layout> = store.read_json(&path).await?;
    if let Some(layout) = known {
        known_version(store, &layout)?;
        if layout.probe.version >= PROBE_VERSION {
            return Ok(());
        }
    }
    let probe = run(store).await?;
    // Whoever probed at the same time wrote the same: any of the verdicts will do.
    store
        .write_json(
            &path,
            &Layout {
                version: LAYOUT_VERSION,
                probe,
            },
        )
        .await
}

fn known_version(store: &Store, layout: &Layout) -> Result<(), StoreError> {
    if layout.version <= LAYOUT_VERSION {
        return Ok(());
    }
    Err(StoreError::Refused {
        store: store.url().to_string(),
        why: format!(
            "its layout has version {}, and this program knows {LAYOUT_VERSION}",
            layout.version
        ),
        help: "use a newer auria-pipeline, or another store".into(),
    })
}

/// Asks the questions, whatever `layout.json` says.
///
/// # Errors
/// [`StoreError::Refused`] where the store fails.
pub async fn run(store: &Store) -> Result<Verdict, StoreError> {
    let folder = StorePath::from(format!("probe/{:016x}", rand::random::<u64>()));
    let verdict = rounds(store, &folder).await;
    // What a probe leaves is small and harmless: the verdict counts, not the broom.
    store.delete_prefix(&folder).await.ok();
    verdict
}

async fn rounds(store: &Store, folder: &StorePath) -> Result<Verdict, StoreError> {
    let mut spare = SPARE_ROUNDS;
    let mut keys: Vec<_> = (0..ROUNDS).collect();
    let mut next = ROUNDS;
    // All at once: some servers take seconds over a key that several write to.
    while !keys.is_empty() {
        let races = keys.iter().map(|number| {
            let key = folder.clone().join(number.to_string());
            async move { round(store, &key).await }
        });
        let mut again = Vec::new();
        for race in join_all(races).await {
            match race? {
                Round::OneWinner => {}
                Round::Unclear(_) if spare > 0 => {
                    spare -= 1;
                    again.push(next);
                    next += 1;
                }
                Round::Unclear(error) => return Err(error),
            }
        }
        keys = again;
    }
    let listed = store.list(folder).await?.len();
    if listed < ROUNDS as usize {
        return Err(refused(
            store,
            &format!("of {ROUNDS} objects just written, its list shows {listed}"),
        ));
    }
    Ok(Verdict {
        version: PROBE_VERSION,
        rounds: ROUNDS,
        creators: CREATORS,
        at: now(),
    })
}

enum Round {
    OneWinner,
    /// No creator was told that it had won: the store's own retries blur that.
    Unclear(StoreError),
}

async fn round(store: &Store, key: &StorePath) -> Result<Round, StoreError> {
    let creators = (0..CREATORS).map(|number| async move {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        store
            .data()
            .put_opts(key, number.to_string().into(), options)
            .await
    });
    let mut winners = Vec::new();
    let mut last_error = None;
    for (number, result) in join_all(creators).await.into_iter().enumerate() {
        match result {
            Ok(_) => winners.push(number.to_string()),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => last_error = Some(explain(store, key, error)?),
        }
    }
    match winners.as_slice() {
        [] => Ok(Round::Unclear(last_error.unwrap_or_else(|| {
            StoreError::Unreachable {
                doing: format!("create {key}"),
                source: "each of several creators of a new object was told that it exists".into(),
            }
        }))),
        [winner] => {
            let kept = store.read(key).await?.unwrap_or_default();
            if kept == winner.as_bytes() {
                Ok(Round::OneWinner)
            } else {
                Err(refused(
                    store,
                    "what it keeps is not what the winner of a race wrote",
                ))
            }
        }
        several => Err(refused(
            store,
            &format!(
                "{} of {CREATORS} creators of one object were each told that they had created it; it ignores `If-None-Match: *`",
                several.len()
            ),
        )),
    }
}

/// What a failed create says about the store; `Err` where it will never succeed.
fn explain(
    store: &Store,
    key: &StorePath,
    error: object_store::Error,
) -> Result<StoreError, StoreError> {
    let links = find_io(&error).is_some_and(|io| {
        let code = io.raw_os_error();
        io.kind() == std::io::ErrorKind::Unsupported
            || [
                nix::libc::EPERM,
                nix::libc::EOPNOTSUPP,
                nix::libc::ENOSYS,
                nix::libc::EMLINK,
            ]
            .iter()
            .any(|no| code == Some(*no))
    });
    if store.root().is_some() && links {
        return Err(StoreError::Refused {
            store: store.url().to_string(),
            why: "its file system has no hard links, without which two runs could both believe to be the first".into(),
            help: "name a folder on another file system (ext4, xfs, btrfs, tmpfs or NFS have them; FAT and some shared folders have not) with `--store`".into(),
        });
    }
    let not_implemented = matches!(error, object_store::Error::NotImplemented { .. });
    match sort_error("create", key, error) {
        _ if not_implemented => Err(refused(store, "it has no conditional writes")),
        error @ (StoreError::Denied { .. } | StoreError::Full { .. }) => Err(error),
        StoreError::NotFound { .. } if store.root().is_none() => Err(StoreError::NotFound {
            what: format!("the bucket of {}", store.url()),
        }),
        error => Ok(error),
    }
}

fn refused(store: &Store, why: &str) -> StoreError {
    StoreError::Refused {
        store: store.url().to_string(),
        why: why.to_owned(),
        help: "Amazon S3, Cloudflare R2, MinIO, Ceph (Squid) and SeaweedFS 4.48 or newer keep conditional writes; so does a folder".into(),
    }
}
