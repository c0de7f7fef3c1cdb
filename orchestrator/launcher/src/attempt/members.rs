//! What is special to the processes of a distributed step within an attempt: folders of
//! their own, one log, one end of many, and what they wrote put together.

use super::Attempt;
use crate::command::{EndedBy, Finished};
use crate::failure::{Failure, verdict};
use crate::group::{Conflict, Others, Peers, merge, peers};
use crate::output::Pump;
use auria_core::outcome::{Artifact, Cause, InstanceEnd, MemberEnd};
use auria_core::plan::{DataType, InputMode};
use auria_store::{StoreError, now};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;
#[cfg(feature = "brokered")]
use std::time::Duration;
use tokio::net::unix::pipe;

impl Attempt<'_> {
    /// Folders in which each process writes its outputs, and each instance its checkpoints.
    pub(super) fn make_members_folders(&self) -> Result<(), Failure> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        let mut folders = Vec::new();
        for instance in group.instances() {
            folders.push(self.work.checkpoints_of(instance));
        }
        for rank in group.ranks() {
            for (name, data_type) in &self.ticket.outputs {
                let place = self.work.output_of(rank, name);
                match (data_type, place.parent()) {
                    (DataType::UriFile, Some(parent)) => folders.push(parent.to_owned()),
                    _ => folders.push(place),
                }
            }
        }
        for folder in folders {
            std::fs::create_dir_all(&folder)
                .map_err(|error| Failure::of_disk("could not make its folders", &error))?;
        }
        Ok(())
    }

    /// Carries what the processes say into the log.
    pub(super) fn pump(&self, mut reads: Vec<(Option<u32>, pipe::Receiver)>) -> Pump {
        let apart = self
            .around
            .peers
            .as_ref()
            .filter(|peers| peers.instance > 0);
        let apart = apart.and_then(|_| Some(self.group.as_ref()?.ranks().start));
        let log = self.depot.log(&self.nonce, apart);
        let (hub, patience) = (self.hub.clone(), self.depot.patience());
        match reads.pop() {
            Some((None, read)) => Pump::start(read, log, hub, patience),
            last => {
                let all = reads.into_iter().chain(last);
                let all = all.filter_map(|(rank, read)| Some((rank?, read)));
                Pump::start_group(all.collect(), log, hub, patience)
            }
        }
    }

    /// Whether all processes of the step ended well, and what they wrote is one.
    pub(super) async fn ended_well(&mut self, finished: &[Finished]) -> Result<(), Failure> {
        let own = self.ended_well_here(finished).await;
        self.leave_ends(finished, own.as_ref().err()).await?;
        match self.around.peers.clone() {
            None => own,
            Some(peers) => self.settle(&peers, own).await,
        }
    }

    /// Whether those of this launcher did.
    async fn ended_well_here(&mut self, finished: &[Finished]) -> Result<(), Failure> {
        let timeout_ms = self.ticket.timeout_ms;
        let Some(group) = self.group.clone() else {
            return match finished.first() {
                Some(finished) => verdict(finished, timeout_ms),
                None => Ok(()),
            };
        };
        let ended = group.verdict(finished, timeout_ms);
        let lenient = ended.is_err();
        let merged = self.merge(lenient).await;
        ended.map_err(|(rank, failure)| {
            self.fell_lines = Some(self.last_lines_of(rank));
            failure
        })?;
        merged
    }

    /// What did not come to run, in a group: the others hear of it.
    pub(super) async fn fell_early(&mut self, failure: Failure) -> Failure {
        match self.around.peers.clone() {
            None => failure,
            Some(peers) => match self.settle(&peers, Err(failure)).await {
                Ok(()) => Failure::new(Cause::NodeLost, "nothing is known of its processes"),
                Err(failure) => failure,
            },
        }
    }

    /// The end of the group, by the launcher of its first instance: its own (`own`), and what
    /// the others say of theirs. What they wrote is put together.
    async fn settle(&mut self, peers: &Peers, own: Result<(), Failure>) -> Result<(), Failure> {
        let Some(group) = self.group.clone() else {
            return own;
        };
        let own_end = self
            .leave_instance(peers, own.as_ref().err(), BTreeMap::new())
            .await;
        // Who was asked to stop does not keep anybody waiting.
        if self.stopped.now().is_some_and(|stop| stop.drawn.is_none()) {
            own?;
        }
        let failed = own_end.fell.is_some();
        let mut ends = match peers.wait(&group, failed, self.stopped.clone()).await {
            Others::Known(ends) => ends,
            Others::Stopped(stop) => {
                return Err(Failure::of_stop(stop, "while its other instances ran"));
            }
        };
        let missing: Vec<String> = (1..group.shape().instances)
            .filter(|instance| !ends.iter().any(|end| end.instance == *instance))
            .map(|instance| instance.to_string())
            .collect();
        ends.push(own_end);
        let first = peers::first(&ends).and_then(|end| end.fell.clone());
        let own_doing = first
            .as_ref()
            .is_none_or(|fell| matches!(fell.cause, Some(Cause::Exit | Cause::Canceled) | None));
        if !missing.is_empty() && own_doing {
            // Whoever lives says how it ended.
            let after = first.and_then(|fell| fell.message).unwrap_or_default();
            let message = format!(
                "nothing is heard of its instances {} any more; {after}",
                missing.join(", ")
            );
            return Err(Failure::new(Cause::NodeLost, message));
        }
        if let Some(fell) = first {
            self.fell_lines = Some(fell.last_lines);
            let said = fell.message.unwrap_or_default();
            let on = fell.node.unwrap_or_default();
            return Err(Failure {
                cause: fell.cause.unwrap_or(Cause::Exit),
                exit_code: fell.exit_code,
                message: match fell.instance {
                    0 => said,
                    instance => format!("instance {instance} on {on}: {said}"),
                },
            });
        }
        self.gather(&ends).await
    }

    /// Puts what other instances wrote to what this one did.
    async fn gather(&self, ends: &[InstanceEnd]) -> Result<(), Failure> {
        for end in ends {
            for (name, artifact) in &end.outputs {
                let failed = |error: StoreError| {
                    let instance = end.instance;
                    let what = format!("could not fetch `{name}` of instance {instance}");
                    Failure::of_store(&what, &error)
                };
                let to = self.work.output_of(u32::MAX - end.instance, name);
                std::fs::create_dir_all(&to)
                    .map_err(|error| Failure::of_disk("could not make its folders", &error))?;
                let fetched = self
                    .depot
                    .fetch_artifact(artifact, InputMode::Download, &to)
                    .await
                    .map_err(failed)?;
                let first = self
                    .group
                    .as_ref()
                    .map_or(0, |group| group.shape().ranks_of(end.instance).start);
                let place = self.work.output(name);
                self.merged(name.clone(), vec![(first, fetched.into())], place, false)
                    .await?;
            }
        }
        Ok(())
    }

    /// Writes how this instance ended, for the others.
    async fn leave_instance(
        &self,
        peers: &Peers,
        failure: Option<&Failure>,
        outputs: BTreeMap<String, Artifact>,
    ) -> InstanceEnd {
        let first = self.group.as_ref().map_or(0, |group| group.ranks().start);
        let drawn = self.stopped.now().and_then(|stop| stop.drawn);
        let fell = failure.map(|failure| MemberEnd {
            rank: first,
            instance: peers.instance,
            cause: Some(failure.cause),
            drawn_along: drawn.is_some() && failure.cause == Cause::Canceled,
            exit_code: failure.exit_code,
            message: Some(failure.message.clone()),
            last_lines: self
                .fell_lines
                .clone()
                .unwrap_or_else(|| self.hub.last_lines()),
            node: Some(self.node.clone()),
            ended: now(),
        });
        let end = InstanceEnd {
            instance: peers.instance,
            fell,
            outputs,
        };
        if let Err(error) = self
            .depot
            .leave_instance_end(&self.nonce, first, &end)
            .await
        {
            tracing::warn!("how this instance ended could not be written: {error}");
        }
        end
    }

    /// Carries out an instance whose launcher does not hold the claim; whether it ended well.
    #[cfg(feature = "brokered")]
    pub(super) async fn make_instance(&mut self) -> bool {
        let Some(peers) = self.around.peers.clone() else {
            return false;
        };
        let ended = match self.fetch_and_run().await {
            Ok(finished) => match self.ended_well_here(&finished).await {
                Ok(()) => match self.leave_ends(&finished, None).await {
                    Ok(()) => self.publish_apart().await,
                    Err(failure) => Err(failure),
                },
                Err(failure) => {
                    let _ = self.leave_ends(&finished, Some(&failure)).await;
                    Err(failure)
                }
            },
            Err(failure) => Err(failure),
        };
        let well = ended.is_ok();
        let (outputs, failure) = match ended {
            Ok(outputs) => (outputs, None),
            Err(failure) => (BTreeMap::new(), Some(failure)),
        };
        self.leave_instance(&peers, failure.as_ref(), outputs).await;
        well
    }

    /// Publishes what this instance wrote where its launcher may write.
    #[cfg(feature = "brokered")]
    async fn publish_apart(&self) -> Result<BTreeMap<String, Artifact>, Failure> {
        let first = self.group.as_ref().map_or(0, |group| group.ranks().start);
        let publish = async {
            let mut outputs = BTreeMap::new();
            for (name, data_type) in &self.ticket.outputs {
                let place = self.work.output(name);
                // Another instance may be the one that writes it.
                if !place.exists() {
                    continue;
                }
                let artifact = self
                    .depot
                    .publish_apart(&self.nonce, first, name, *data_type, &place)
                    .await;
                let artifact = artifact.map_err(|error| {
                    Failure::of_store(&format!("could not publish its output `{name}`"), &error)
                })?;
                if artifact.files > 0 {
                    outputs.insert(name.clone(), artifact);
                }
            }
            Ok(outputs)
        };
        let mut stopped = self.stopped.clone();
        let grace = Duration::from_millis(self.ticket.publish_grace_ms);
        tokio::select! {
            outputs = publish => outputs,
            stop = stopped.publishing_over(grace) => {
                Err(Failure::of_stop(stop, "while its outputs were published"))
            }
        }
    }

    async fn merge(&self, lenient: bool) -> Result<(), Failure> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        for name in self.ticket.outputs.keys() {
            let parts = group.written(|rank| self.work.output_of(rank, name));
            let place = self.work.output(name);
            self.merged(name.clone(), parts, place, lenient).await?;
        }
        Ok(())
    }

    async fn merged(
        &self,
        name: String,
        parts: Vec<(u32, PathBuf)>,
        to: PathBuf,
        lenient: bool,
    ) -> Result<(), Failure> {
        let merging = tokio::task::spawn_blocking(move || merge(&parts, &to, lenient));
        let failed = |error: &std::io::Error| {
            Failure::of_disk("its outputs could not be put together", error)
        };
        match merging.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ Conflict::Differs { .. })) => {
                let mut failure = Failure::new(
                    Cause::Exit,
                    format!("its output `{name}` is not one: {error}; let one of them write it"),
                );
                failure.exit_code = Some(0);
                Err(failure)
            }
            Ok(Err(Conflict::Disk(error))) => Err(failed(&error)),
            Err(error) => Err(failed(&std::io::Error::other(error))),
        }
    }

    /// Writes how each process ended, before the attempt's own end.
    pub(super) async fn leave_ends(
        &self,
        finished: &[Finished],
        failure: Option<&Failure>,
    ) -> Result<(), Failure> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        for (rank, finished) in group.ranks().zip(finished) {
            let own = verdict(finished, self.ticket.timeout_ms).err();
            let end = MemberEnd {
                rank,
                instance: group.instance_of(rank),
                cause: own.as_ref().map(|failure| failure.cause),
                drawn_along: finished.ended_by == Some(EndedBy::Peer) && own.is_some(),
                exit_code: Some(finished.code),
                message: own.map(|failure| failure.message),
                last_lines: self.last_lines_of(rank),
                node: Some(self.node.clone()),
                ended: now(),
            };
            let left = self.depot.leave_member_end(&self.nonce, &end).await;
            match left {
                Ok(()) => {}
                // What is wrong already is said all the same.
                Err(error) if failure.is_some() => {
                    tracing::warn!("how rank {rank} ended could not be written: {error}");
                    return Ok(());
                }
                Err(error) => {
                    let what = "could not write how its processes ended";
                    return Err(Failure::of_store(what, &error));
                }
            }
        }
        Ok(())
    }

    pub(super) fn last_lines_of(&self, rank: u32) -> Vec<String> {
        let kept = self
            .last_lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = kept.get(&rank);
        own.map(|lines| lines.iter().cloned().collect())
            .unwrap_or_default()
    }
}
