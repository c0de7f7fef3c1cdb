//! The other launchers of a distributed step, where each instance has one of its own: what
//! is heard of them through the broker, and what follows for the processes here. Which end
//! is the attempt's is said by the first instance's launcher alone.

use super::Group;
use crate::command::EndedBy;
use crate::stop::{Stopped, Stopper};
use auria_core::outcome::{Cause, InstanceEnd};
use auria_core::protocol::GroupEnds;
use auria_store::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Between two looks at what has become of the others.
const LOOK: Duration = Duration::from_secs(1);
/// How long the others may take, beside the grace, to say that they ended because one did:
/// they look as often as this one, and the network may be slow.
const SETTLE: Duration = Duration::from_secs(20);

/// Who says which instances have ended.
#[async_trait::async_trait]
pub(crate) trait Ends: Send + Sync {
    async fn ends(&self) -> Result<GroupEnds, StoreError>;
}

/// The other launchers.
#[derive(Clone)]
#[cfg_attr(
    not(feature = "brokered"),
    allow(dead_code, reason = "Pods reach their store through a broker")
)]
pub(crate) struct Peers {
    /// The instance of this launcher.
    pub(crate) instance: u32,
    pub(crate) ends: Arc<dyn Ends>,
    pub(crate) stopper: Stopper,
    /// The command's and publishing's.
    pub(crate) grace: Duration,
}

/// What became of the others.
pub(crate) enum Others {
    /// They have ended, or nothing more is heard of those that are missing.
    Known(Vec<InstanceEnd>),
    /// This launcher was asked to stop meanwhile.
    Stopped(crate::stop::Stop),
}

impl Peers {
    /// Ends the processes here once others make that necessary; until the result is dropped.
    pub(crate) fn watch(&self, group: Arc<Group>) -> JoinSet<()> {
        let peers = self.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(known) = peers.look().await else {
                    continue;
                };
                if let Some(drawn) = drawn(&group, peers.instance, &known) {
                    peers.stopper.draw_along(drawn, peers.grace);
                    return;
                }
            }
        });
        task
    }

    async fn look(&self) -> Option<GroupEnds> {
        match self.ends.ends().await {
            Ok(known) => Some(known),
            Err(error) if error.is_transient() => None,
            // The broker does not speak to those whose attempt is long over.
            Err(error) => {
                tracing::warn!("nothing is said of the other instances: {error}");
                Some(GroupEnds {
                    over: true,
                    ..GroupEnds::default()
                })
            }
        }
    }

    /// Waits until all others have ended; where one did not end well, or this one did not
    /// (`failed`), for as long as those that live take to say so.
    pub(crate) async fn wait(&self, group: &Group, failed: bool, mut stopped: Stopped) -> Others {
        let mut until = None;
        let seen = stopped.now();
        loop {
            let known = self.look().await.unwrap_or_default();
            let all = (0..group.shape().instances).all(|instance| {
                instance == self.instance || known.ends.iter().any(|end| end.instance == instance)
            });
            let fallen = failed || known.ends.iter().any(|end| end.fell.is_some());
            if fallen {
                until.get_or_insert_with(|| Instant::now() + self.grace + SETTLE);
            }
            if all || known.over || until.is_some_and(|until| Instant::now() >= until) {
                let mut ends = known.ends;
                ends.retain(|end| end.instance != self.instance);
                return Others::Known(ends);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                stop = stopped.changed_from(seen), if !failed => {
                    if stop.drawn.is_none() {
                        return Others::Stopped(stop);
                    }
                }
            }
        }
    }
}

/// What the ends of others make of an instance that runs.
fn drawn(group: &Group, own: u32, known: &GroupEnds) -> Option<EndedBy> {
    let others = known.ends.iter().filter(|end| end.instance != own);
    if known.over || others.clone().any(|end| end.fell.is_some()) {
        return Some(EndedBy::Peer);
    }
    let workers = (0..group.shape().instances).filter(|instance| !group.all_serve(*instance));
    let is_done = |instance| known.ends.iter().any(|end| end.instance == instance);
    let served =
        group.all_serve(own) && workers.clone().count() > 0 && workers.clone().all(is_done);
    served.then_some(EndedBy::Served)
}

/// The end among these that the others followed from: none that was drawn along, what took
/// an instance away before what its processes said, and the earliest.
pub(crate) fn first(ends: &[InstanceEnd]) -> Option<&InstanceEnd> {
    let fallen = ends
        .iter()
        .filter_map(|end| Some((end, end.fell.as_ref()?)));
    let first = fallen.min_by_key(|(_, fell)| {
        let own_doing = matches!(
            fell.cause,
            Some(Cause::Exit | Cause::Timeout | Cause::Canceled) | None
        );
        (fell.drawn_along, own_doing, fell.ended)
    });
    first.map(|(end, _)| end)
}

#[cfg(test)]
mod tests {
    use super::{Group, drawn, first};
    use crate::command::EndedBy;
    use auria_core::Timestamp;
    use auria_core::distribution::Distribution;
    use auria_core::outcome::{Cause, InstanceEnd, MemberEnd};
    use auria_core::protocol::GroupEnds;
    use std::collections::BTreeMap;

    fn end(instance: u32, cause: Option<Cause>, drawn_along: bool, at: i64) -> InstanceEnd {
        InstanceEnd {
            instance,
            fell: cause.map(|cause| MemberEnd {
                rank: instance,
                instance,
                cause: Some(cause),
                drawn_along,
                exit_code: Some(1),
                message: None,
                last_lines: Vec::new(),
                node: None,
                ended: Timestamp(at),
            }),
            outputs: BTreeMap::new(),
        }
    }

    #[test]
    fn the_cause_is_that_of_the_first_and_not_of_what_it_drew_along() {
        // Rank 0 saw its connection close and fell before the evicted one had written.
        let ends = [
            end(0, Some(Cause::Exit), false, 1),
            end(1, Some(Cause::Evicted), false, 2),
            end(2, Some(Cause::Canceled), true, 0),
            end(3, None, false, 0),
        ];
        assert_eq!(first(&ends).unwrap().instance, 1);
        let ends = [
            end(0, Some(Cause::Exit), false, 7),
            end(1, Some(Cause::Exit), false, 5),
        ];
        assert_eq!(first(&ends).unwrap().instance, 1);
        assert!(first(&[end(0, None, false, 1)]).is_none());
    }

    #[test]
    fn others_ends_draw_those_along_that_run() {
        let tensorflow = Distribution::Tensorflow {
            worker_count: 2,
            parameter_server_count: 1,
        };
        let group = |instance| Group::in_pod(tensorflow, 3, instance, Vec::new());
        let known = |ends: &[InstanceEnd]| GroupEnds {
            ends: ends.to_vec(),
            over: false,
        };
        let one = known(&[end(0, None, false, 1)]);
        assert_eq!(drawn(&group(1), 1, &one), None);
        assert_eq!(drawn(&group(2), 2, &one), None);
        let both = known(&[end(0, None, false, 1), end(1, None, false, 1)]);
        assert_eq!(drawn(&group(2), 2, &both), Some(EndedBy::Served));
        let fell = known(&[end(0, Some(Cause::Exit), false, 1)]);
        assert_eq!(drawn(&group(1), 1, &fell), Some(EndedBy::Peer));
        let over = GroupEnds {
            over: true,
            ..GroupEnds::default()
        };
        assert_eq!(drawn(&group(1), 1, &over), Some(EndedBy::Peer));
    }
}
