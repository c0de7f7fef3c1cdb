//! One run from its resource to its end: reads the record, adopts its Pods, drives, shows.

use super::Feeds;
use super::status::{NOTES, Note, Shown, Writer, of_end};
use crate::executor::{Kubernetes, called};
use crate::names::MANAGER;
use crate::resource::{FINALIZER, PipelineRunStatus};
use auria_core::outcome::{RunEnd, Status};
use auria_core::run::Limits;
use auria_core::{RunId, Timestamp};
use auria_engine::driver::{self, Control, Driver};
use auria_engine::feed::Feed;
use auria_store::runs::{self, RunState};
use auria_store::{Store, StoreError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// How a driver came back.
#[derive(Debug)]
pub(super) enum Driven {
    /// The run's end stands in the store, and its resource says so.
    Ended,
    /// A newer driver took over.
    TakenOver,
    /// It was asked to leave.
    Left,
    /// It could not go on.
    Failed(String),
}

pub(super) struct Drive {
    pub(super) run: String,
    pub(super) owner: Option<OwnerReference>,
    pub(super) has_finalizer: bool,
    /// It is being deleted.
    pub(super) deleting: bool,
    pub(super) writer: Writer,
    pub(super) store: Store,
    pub(super) executor: Arc<Kubernetes>,
    pub(super) limits: Limits,
    pub(super) identity: String,
    pub(super) feeds: Feeds,
    pub(super) now: fn() -> Timestamp,
}

impl Drive {
    pub(super) async fn go(self, control: mpsc::Receiver<Control>) -> Driven {
        let run: RunId = match self.run.parse() {
            Ok(run) => run,
            // It never will be one: it ends here.
            Err(error) => return self.refuse(&format!("spec.run: {error}")).await,
        };
        let record = match runs::read(&self.store, &run).await {
            Ok(record) if record.state == RunState::Ready => record,
            Ok(_) if self.deleting => return self.cancel_unready(&run).await,
            Ok(_) => {
                return Driven::Failed(
                    "its snapshots are still being uploaded by who submitted it".to_owned(),
                );
            }
            // There is nothing to end: nobody would ever let it go.
            Err(StoreError::NotFound { .. }) if self.deleting => return Driven::Ended,
            Err(StoreError::NotFound { what }) => {
                return Driven::Failed(format!("the store does not hold {what}"));
            }
            Err(error) => return Driven::Failed(crate::chain(&error)),
        };
        // One that is being deleted takes no finalizer any more.
        if !self.has_finalizer
            && !self.deleting
            && let Err(why) = self.hold().await
        {
            return Driven::Failed(why);
        }
        if let Some(owner) = &self.owner {
            self.executor.adopt(&run, owner.clone());
        }
        let feed = Feed::new(run.clone());
        self.feeds.lock().insert(run.clone(), feed.clone());
        let driver = Driver {
            run: run.clone(),
            plan: record.plan.clone(),
            store: self.store.clone(),
            executor: self.executor.clone(),
            limits: self.limits.clone(),
            name: format!("controller {}", self.identity),
            now: self.now,
        };
        let (status, seen) = watch::channel(PipelineRunStatus::default());
        let (notes, told) = mpsc::channel(NOTES);
        let _ = notes.try_send(Note {
            warning: false,
            reason: "Driving",
            text: format!("driven by {}", self.identity),
        });
        let mut shown = Shown::new(feed, status, notes);
        let drive = async {
            let driven = driver.drive(None, control, &mut shown).await;
            // Nothing follows: who writes and tells comes to an end too.
            drop(shown);
            driven
        };
        let (driven, (), ()) =
            futures::join!(drive, self.writer.follow(seen), self.writer.tell(told));
        self.feeds.lock().remove(&run);
        self.executor.release(&run);
        match driven {
            Ok(driver::Driven::Ended(end)) => {
                self.end(&end).await;
                Driven::Ended
            }
            Ok(driver::Driven::SteppedDown) => Driven::TakenOver,
            Ok(driver::Driven::Detached) => Driven::Left,
            Err(error) => Driven::Failed(crate::chain(&error)),
        }
    }

    /// Shows how the run ended.
    async fn end(&self, end: &RunEnd) {
        self.writer.write_last(of_end(end)).await;
        let well = end.status == Status::Completed;
        let mut text = format!("the run ended {:?}", end.status);
        for problem in &end.problems {
            text.push_str("; ");
            text.push_str(problem);
        }
        let reason = match end.status {
            Status::Completed => "Completed",
            Status::Canceled => "Canceled",
            _ => "Failed",
        };
        let note = Note {
            warning: !well,
            reason,
            text,
        };
        self.writer.publish(note).await;
    }

    /// A resource that names no run: nothing of it can run.
    async fn refuse(&self, why: &str) -> Driven {
        self.writer.refuse(why, (self.now)()).await;
        Driven::Ended
    }

    /// The run of a resource that is deleted before it was ever ready: whoever still makes
    /// it ready finds it canceled.
    async fn cancel_unready(&self, run: &RunId) -> Driven {
        let by = "the deletion of its PipelineRun";
        match driver::request_cancel(&self.store, run, by, self.now).await {
            Ok(()) => Driven::Ended,
            Err(error) => Driven::Failed(crate::chain(&error)),
        }
    }

    /// Keeps the resource until the run has ended.
    async fn hold(&self) -> Result<(), String> {
        let object = json!({
            "apiVersion": self.writer.reference.api_version,
            "kind": self.writer.reference.kind,
            "metadata": {
                "name": self.writer.name,
                "uid": self.writer.reference.uid,
                "finalizers": [FINALIZER],
            },
        });
        let patch = Patch::Apply(&object);
        let params = PatchParams::apply(&format!("{MANAGER}-finalizer")).force();
        let held = self.writer.runs.patch(&self.writer.name, &params, &patch);
        called(held)
            .await
            .map(|_| ())
            .map_err(|failed| format!("its resource cannot be held: {}", failed.message))
    }
}
