//! How the runs of a namespace stand, as their resources say: what a replica tells of a run
//! that another drives, or that waits for a driver. It watches, and decides nothing.

use crate::resource::PipelineRun;
use auria_core::RunId;
use auria_core::outcome::Status;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use tokio::sync::watch;

/// What the resource of a run says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    status: Status,
    ended: bool,
}

/// How the runs of a namespace stand. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Standing(watch::Sender<HashMap<String, Said>>);

impl Standing {
    /// Watches the resources of `namespace`, for as long as it is polled.
    pub async fn watch(self, client: Client, namespace: String) {
        let runs: Api<PipelineRun> = Api::namespaced(client, &namespace);
        let events = watcher::watcher(runs, watcher::Config::default());
        let mut events = pin!(events.default_backoff());
        let mut listed: HashSet<String> = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(resource)) => {
                    listed.insert(resource.spec.run.clone());
                    self.says(resource);
                }
                Ok(Event::InitDone) => {
                    self.0
                        .send_modify(|all| all.retain(|run, _| listed.contains(run)));
                }
                Ok(Event::Apply(resource)) => self.says(resource),
                Ok(Event::Delete(resource)) => {
                    self.0.send_modify(|all| {
                        all.remove(&resource.spec.run);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = crate::chain(&error), "watching how runs stand");
                }
            }
        }
    }

    fn says(&self, resource: PipelineRun) {
        // A second one of a run says nothing of it.
        if resource.is_refused() {
            return;
        }
        let said = of(&resource);
        self.0.send_modify(|all| {
            all.insert(resource.spec.run, said);
        });
    }

    /// A run was made visible from here: it waits, until its resource says more.
    pub fn announced(&self, run: &RunId) {
        self.0.send_modify(|all| {
            all.entry(run.to_string()).or_insert(Said {
                status: Status::Queued,
                ended: false,
            });
        });
    }

    /// How a run stands that has a resource and has not ended.
    #[must_use]
    pub fn status(&self, run: &RunId) -> Option<Status> {
        let all = self.0.borrow();
        let said = all.get(run.as_str()).filter(|said| !said.ended)?;
        Some(said.status)
    }

    /// Waits until the resource of a run says that it has ended, or there is none.
    pub async fn ended(&self, run: &RunId) {
        let mut all = self.0.subscribe();
        let ended = all.wait_for(|all| all.get(run.as_str()).is_none_or(|said| said.ended));
        // It cannot be closed: this is one of those who could say it.
        let _ = ended.await;
    }
}

fn of(resource: &PipelineRun) -> Said {
    let phase = resource.status.as_ref().map(|status| &status.phase);
    // `Pending` is no status of a run.
    let status = phase.and_then(|phase| serde_json::from_value(phase.clone().into()).ok());
    Said {
        status: status.unwrap_or(Status::Queued),
        ended: resource.has_ended(),
    }
}

#[cfg(test)]
mod tests {
    use super::Standing;
    use crate::resource::{PipelineRun, PipelineRunStatus};
    use auria_core::RunId;
    use auria_core::outcome::Status;

    fn resource(run: &RunId, phase: &str, ended: bool) -> PipelineRun {
        let mut resource = PipelineRun::of(run);
        resource.status = Some(PipelineRunStatus {
            phase: phase.to_owned(),
            ended: ended.then(|| "1970-01-01T00:00:01.000Z".to_owned()),
            ..PipelineRunStatus::default()
        });
        resource
    }

    #[tokio::test]
    async fn a_run_waits_until_its_resource_says_more() {
        let standing = Standing::default();
        let run: RunId = "r".parse().unwrap();
        assert_eq!(standing.status(&run), None);
        // Of one without a resource nothing can be waited for.
        standing.ended(&run).await;
        standing.announced(&run);
        assert_eq!(standing.status(&run), Some(Status::Queued));
        standing.says(resource(&run, "Pending", false));
        assert_eq!(standing.status(&run), Some(Status::Queued));
        standing.says(resource(&run, "Running", false));
        // Said again, it does not wait again.
        standing.announced(&run);
        assert_eq!(standing.status(&run), Some(Status::Running));
        let mut waits = std::pin::pin!(standing.ended(&run));
        assert!(futures::poll!(waits.as_mut()).is_pending());
        standing.says(resource(&run, "Completed", true));
        waits.await;
        assert_eq!(standing.status(&run), None);
    }
}
