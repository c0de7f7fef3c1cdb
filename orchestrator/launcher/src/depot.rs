//! All that a launcher asks of the store, for one attempt: a store that does not
//! answer or is full is asked again until patience ends. Decides nothing.

use crate::attempt::text;
use crate::sequence::{self, Records};
use crate::serve::Hub;
use auria_core::outcome::{
    Artifact, Checkpoint, Claim, EndRecord, InstanceEnd, MemberEnd, Outcome,
};
use auria_core::plan::{DataType, InputMode};
use auria_core::run::AttemptNews;
use auria_core::{AttemptId, Digest, Nonce};
use auria_store::logs::{FlushPolicy, LogWriter};
#[cfg(feature = "brokered")]
use auria_store::remote::Remote;
use auria_store::{Access, Claimed, Commit, Journal, Store, StoreError};
use auria_store::{artifact, checkpoint, external, layout, snapshot};
use std::path::Path;
use std::time::Duration;

/// The store, for one attempt.
#[derive(Clone, Debug)]
pub(crate) struct Depot {
    store: Store,
    journal: Journal,
    attempt: AttemptId,
    patience: Duration,
    hub: Hub,
    /// The broker, where the store stands behind one: it grants the claim.
    #[cfg(feature = "brokered")]
    broker: Option<Remote>,
}

impl Depot {
    /// Opens the store at `url`.
    pub(crate) async fn open(
        url: &str,
        attempt: &AttemptId,
        patience: Duration,
        hub: &Hub,
    ) -> Result<Self, StoreError> {
        let url = url.parse()?;
        let store = patiently(patience, hub, "open the store", || {
            Store::open(&url, Access::Write)
        })
        .await?;
        let journal = Journal::new(store.clone(), attempt.run.clone());
        Ok(Self {
            store,
            journal,
            attempt: attempt.clone(),
            patience,
            hub: hub.clone(),
            #[cfg(feature = "brokered")]
            broker: None,
        })
    }

    /// The store behind a broker.
    #[cfg(feature = "brokered")]
    pub(crate) fn behind(
        broker: Remote,
        store: Store,
        attempt: &AttemptId,
        patience: Duration,
        hub: &Hub,
    ) -> Self {
        Self {
            journal: Journal::new(store.clone(), attempt.run.clone()),
            store,
            attempt: attempt.clone(),
            patience,
            hub: hub.clone(),
            broker: Some(broker),
        }
    }

    pub(crate) async fn fetch_snapshot(
        &self,
        digest: &Digest,
        to: &Path,
    ) -> Result<(), StoreError> {
        let fetch = || snapshot::fetch(&self.store, digest, DataType::UriFolder, to);
        patiently(self.patience, &self.hub, "fetch the code", fetch)
            .await
            .map(drop)
    }

    /// What the command sees of an artifact: a local path, or where it is.
    pub(crate) async fn fetch_artifact(
        &self,
        artifact: &Artifact,
        mode: InputMode,
        to: &Path,
    ) -> Result<String, StoreError> {
        match mode {
            InputMode::Direct => Ok(self.store.uri(&artifact.prefix)),
            InputMode::Download => {
                let fetch = || artifact::fetch(&self.store, artifact, to);
                Ok(text(
                    &patiently(self.patience, &self.hub, "fetch an input", fetch)
                        .await?
                        .path,
                ))
            }
        }
    }

    /// What the command sees of a snapshot.
    pub(crate) async fn fetch_input_snapshot(
        &self,
        digest: &Digest,
        data_type: DataType,
        mode: InputMode,
        to: &Path,
    ) -> Result<String, StoreError> {
        let find = || snapshot::artifact(&self.store, digest, data_type);
        let artifact = patiently(self.patience, &self.hub, "find an input", find).await?;
        self.fetch_artifact(&artifact, mode, to).await
    }

    /// What the command sees of an input that lives outside of the store.
    pub(crate) async fn fetch_external(
        &self,
        uri: &str,
        pin: &str,
        data_type: DataType,
        to: &Path,
    ) -> Result<String, StoreError> {
        let fetch = || external::fetch(uri, pin, data_type, to);
        let fetched = patiently(self.patience, &self.hub, "fetch an input", fetch).await?;
        Ok(text(&fetched.path))
    }

    /// Puts the files of a checkpoint into the folder `to`.
    pub(crate) async fn restore(
        &self,
        checkpoint: &Checkpoint,
        to: &Path,
    ) -> Result<(), StoreError> {
        let AttemptId { run, step, .. } = &self.attempt;
        let fetch = || checkpoint::fetch(&self.store, run, step, checkpoint, to);
        patiently(self.patience, &self.hub, "fetch a checkpoint", fetch)
            .await
            .map(drop)
    }

    pub(crate) async fn publish_checkpoint(
        &self,
        nonce: &Nonce,
        generation: u32,
        local: &Path,
    ) -> Result<Checkpoint, StoreError> {
        let publish = || checkpoint::publish(&self.store, &self.attempt, nonce, generation, local);
        patiently(self.patience, &self.hub, "publish a checkpoint", publish).await
    }

    /// How long a store that does not answer is asked again.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Waits for `what`, and tells those who listen where the store keeps it waiting.
    pub(crate) async fn told<T>(&self, doing: &str, what: impl Future<Output = T>) -> T {
        tokio::pin!(what);
        match tokio::time::timeout(QUIET, &mut what).await {
            Ok(done) => done,
            Err(_) => {
                let trouble = Some(format!("could not {doing} yet: the store keeps it waiting"));
                self.hub.news(AttemptNews::Store { trouble });
                let done = what.await;
                self.hub.news(AttemptNews::Store { trouble: None });
                done
            }
        }
    }

    /// The attempt's log; of an instance whose launcher does not hold the claim (`apart`,
    /// its first rank), one of its own.
    pub(crate) fn log(&self, nonce: &Nonce, apart: Option<u32>) -> LogWriter {
        let folder = layout::logs_of(&self.attempt, nonce, apart);
        LogWriter::start(self.store.clone(), folder, FlushPolicy::of(&self.store))
    }

    pub(crate) fn metrics_chunks(&self, nonce: &Nonce) -> LogWriter {
        let folder = layout::metrics_chunks(&self.attempt, nonce);
        LogWriter::start(self.store.clone(), folder, FlushPolicy::of(&self.store))
    }

    pub(crate) async fn write_metrics(
        &self,
        nonce: &Nonce,
        all: Vec<u8>,
    ) -> Result<(), StoreError> {
        let (path, all) = (
            layout::metrics(&self.attempt, nonce),
            bytes::Bytes::from(all),
        );
        patiently(self.patience, &self.hub, "write the metrics", || {
            self.store.write(&path, all.clone())
        })
        .await
    }

    /// Writes how one process of a distributed step ended.
    pub(crate) async fn leave_member_end(
        &self,
        nonce: &Nonce,
        end: &MemberEnd,
    ) -> Result<(), StoreError> {
        let path = layout::member_end(&self.attempt, nonce, end.rank);
        patiently(self.patience, &self.hub, "write how it ended", || {
            self.store.write_json(&path, end)
        })
        .await
    }

    /// Writes how an instance of a distributed step ended, whose first rank is `first`.
    pub(crate) async fn leave_instance_end(
        &self,
        nonce: &Nonce,
        first: u32,
        end: &InstanceEnd,
    ) -> Result<(), StoreError> {
        let path = layout::instance_end(&self.attempt, nonce, first);
        patiently(self.patience, &self.hub, "write how it ended", || {
            self.store.write_json(&path, end)
        })
        .await
    }

    /// Publishes an output of an instance whose launcher does not hold the claim.
    #[cfg(feature = "brokered")]
    pub(crate) async fn publish_apart(
        &self,
        nonce: &Nonce,
        first: u32,
        name: &str,
        data_type: DataType,
        local: &Path,
    ) -> Result<Artifact, StoreError> {
        let prefix = layout::member_output(&self.attempt, nonce, first, name);
        let manifest = layout::member_manifest(&self.attempt, nonce, first, name);
        let publish = || artifact::publish(&self.store, local, data_type, &prefix, &manifest);
        patiently(self.patience, &self.hub, "publish an output", publish).await
    }

    pub(crate) async fn publish(
        &self,
        nonce: &Nonce,
        name: &str,
        data_type: DataType,
        local: &Path,
    ) -> Result<Artifact, StoreError> {
        let prefix = layout::output(&self.attempt, nonce, name);
        let manifest = layout::output_manifest(&self.attempt, nonce, name);
        let publish = || artifact::publish(&self.store, local, data_type, &prefix, &manifest);
        patiently(self.patience, &self.hub, "publish an output", publish).await
    }
}

impl Records for Depot {
    async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        patiently(self.patience, &self.hub, "claim the attempt", || async {
            #[cfg(feature = "brokered")]
            if let Some(broker) = &self.broker {
                return broker.claim(claim).await;
            }
            self.journal.claim(claim).await
        })
        .await
    }

    async fn commit(&self, outcome: &Outcome) -> Result<Commit, StoreError> {
        patiently(self.patience, &self.hub, "commit the outcome", || {
            self.journal.commit(outcome)
        })
        .await
    }

    async fn write_end(&self, end: &EndRecord) -> Result<EndRecord, StoreError> {
        patiently(self.patience, &self.hub, "write the attempt's end", || {
            self.journal.write_end(end)
        })
        .await
    }
}

/// How long the store may keep an attempt waiting before those who listen are told.
const QUIET: Duration = Duration::from_secs(5);

/// [`sequence::patiently`], which tells `hub` what keeps it waiting.
async fn patiently<T, F>(
    patience: Duration,
    hub: &Hub,
    doing: &str,
    what: impl Fn() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let tell = |trouble| hub.news(AttemptNews::Store { trouble });
    sequence::patiently(patience, tell, doing, what).await
}
