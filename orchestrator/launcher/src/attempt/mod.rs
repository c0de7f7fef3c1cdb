//! One attempt from its claim to its last word: claim, fetch, run, publish, commit.
//! The order of its records is `sequence`'s; what each does is its own module's.

mod members;
mod runner;
mod warm;

use crate::checkpoints::Keeper;
use crate::command::Finished;
use crate::container::Connect;
use crate::depot::Depot;
use crate::failure::{Failure, chain};
use crate::group::{Group, Peers};
use crate::metrics::Metrics;
use crate::options::{LaunchOptions, millis, monotonic};
use crate::output;
use crate::runtime::AttemptFolder;
use crate::sequence;
use crate::serve::Hub;
use crate::stop::Stopped;
use crate::template::Values;
use crate::work::Work;
use auria_core::outcome::{
    Artifact, Cause, Checkpoint, Claim, EndRecord, Outcome, Status, Timings,
};
use auria_core::plan::{DataType, InputMode};
use auria_core::run::{AttemptNews, Phase};
use auria_core::ticket::{Ticket, TicketInput};
use auria_core::{Nonce, Timestamp};
use auria_store::{StoreError, now};
use runner::InImage;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The version of the outcomes that this code writes.
const OUTCOME_VERSION: u32 = 1;
/// How long a failed attempt may take to publish what it has.
const PARTIAL_PATIENCE: Duration = Duration::from_secs(60);

/// Where an attempt is carried out.
pub(crate) struct Around<'a> {
    /// What tells it from every other on this machine.
    pub(crate) key: String,
    /// Its runtime folder, where the machine has such.
    pub(crate) folder: Option<&'a AttemptFolder>,
    /// Whether this process runs in the step's own image.
    pub(crate) in_image: bool,
    /// The node, where that is not this machine's name.
    pub(crate) node: Option<String>,
    /// What a claim calls this process, where that is not its number.
    pub(crate) process: Option<String>,
    /// What the claim is told from others by, where whoever grants it asks for one.
    pub(crate) nonce: Option<Nonce>,
    /// The processes of a distributed step that are this launcher's, where others start the
    /// rest; without it all are its own.
    pub(crate) group: Option<Group>,
    /// The launchers that do.
    pub(crate) peers: Option<Peers>,
}

/// What an attempt works with once it holds the claim.
struct Attempt<'a> {
    options: &'a LaunchOptions,
    ticket: &'a Ticket,
    around: Around<'a>,
    hub: &'a Hub,
    stopped: Stopped,
    engines: Option<Connect>,
    depot: Depot,
    work: Work,
    node: String,
    nonce: Nonce,
    started: Timestamp,
    timings: Timings,
    checkpoint: Option<Checkpoint>,
    /// The processes of a distributed step that are this launcher's.
    group: Option<Arc<Group>>,
    /// Their last lines.
    last_lines: output::LastLines,
    /// Those of the one that ended badly first, where the attempt's end is that one's.
    fell_lines: Option<Vec<String>>,
}

/// Carries out the ticket, and gives the last news of it.
pub(crate) async fn carry_out(
    depot: Depot,
    options: &LaunchOptions,
    around: Around<'_>,
    work: &Work,
    hub: &Hub,
    stopped: Stopped,
    engines: Option<Connect>,
) -> AttemptNews {
    let node = around.node.clone().unwrap_or_else(host);
    let claim = match claim(&options.ticket, &node, &around) {
        Ok(claim) => claim,
        Err(message) => return AttemptNews::Unavailable { message },
    };
    let all = Handed {
        options,
        around,
        hub,
        stopped,
        engines,
    };
    let attempt = Attempt::begun(all, &depot, work, node, claim.nonce.clone(), claim.claimed);
    sequence::carry_out(&depot, claim, attempt).await
}

/// What an attempt is handed by whoever begins it.
struct Handed<'a> {
    options: &'a LaunchOptions,
    around: Around<'a>,
    hub: &'a Hub,
    stopped: Stopped,
    engines: Option<Connect>,
}

/// Carries out another instance of a distributed step than the one whose launcher holds the
/// claim `nonce`: it neither claims nor commits. Whether it ended well.
#[cfg(feature = "brokered")]
pub(crate) async fn carry_out_member(
    depot: Depot,
    options: &LaunchOptions,
    around: Around<'_>,
    work: &Work,
    hub: &Hub,
    stopped: Stopped,
    nonce: Nonce,
) -> bool {
    let node = around.node.clone().unwrap_or_else(host);
    let all = Handed {
        options,
        around,
        hub,
        stopped,
        engines: None,
    };
    let mut attempt = Attempt::begun(all, &depot, work, node, nonce, now());
    sequence::Work::claimed(&mut attempt);
    attempt.make_instance().await
}

fn claim(ticket: &Ticket, node: &str, around: &Around<'_>) -> Result<Claim, String> {
    let nonce = match &around.nonce {
        Some(nonce) => nonce.clone(),
        None => format!("{:016x}", rand::random::<u64>())
            .parse()
            .map_err(|error| format!("cannot draw a nonce: {error}"))?,
    };
    let process = around.process.clone();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Ok(Claim {
        attempt: ticket.attempt.clone(),
        nonce,
        host: node.to_owned(),
        boot_id: boot_id.trim().to_owned(),
        process: process.unwrap_or_else(|| std::process::id().to_string()),
        claimed: now(),
    })
}

impl sequence::Work for Attempt<'_> {
    fn claimed(&mut self) {
        self.hub.news(AttemptNews::Claimed {
            nonce: self.nonce.clone(),
            node: self.node.clone(),
        });
    }

    async fn produce(&mut self) -> Result<Outcome, Box<EndRecord>> {
        match self.make().await {
            Ok(outputs) if self.group.is_some() => {
                // One launcher does not speak for a group: the driver commits.
                let outcome = self.outcome(outputs);
                let mut failure = Failure::new(Cause::Evicted, "all of its processes ended well");
                failure.exit_code = Some(0);
                Err(Box::new(self.end(failure, Some(Box::new(outcome)))))
            }
            Ok(outputs) => Ok(self.outcome(outputs)),
            Err(failure) => Err(Box::new(self.end(failure, None))),
        }
    }

    fn uncommitted(&self, outcome: Outcome, error: &StoreError) -> EndRecord {
        let mut failure = Failure::of_store("published, not committed", error);
        failure.cause = Cause::Evicted;
        failure.exit_code = Some(0);
        self.end(failure, Some(Box::new(outcome)))
    }
}

impl<'a> Attempt<'a> {
    fn begun(
        handed: Handed<'a>,
        depot: &Depot,
        work: &Work,
        node: String,
        nonce: Nonce,
        started: Timestamp,
    ) -> Self {
        let Handed {
            options,
            around,
            hub,
            stopped,
            engines,
        } = handed;
        let scheduled = options
            .room_at_ms
            .map(|at| millis(monotonic()).saturating_sub(at));
        Self {
            options,
            ticket: &options.ticket,
            around,
            hub,
            stopped,
            engines,
            depot: depot.clone(),
            work: work.clone(),
            node,
            nonce,
            started,
            timings: Timings {
                queued_ms: options.queued_ms,
                scheduled_ms: scheduled,
                ..Timings::default()
            },
            checkpoint: None,
            group: None,
            last_lines: output::LastLines::default(),
            fell_lines: None,
        }
    }
}

impl Attempt<'_> {
    fn phase(&self, phase: Phase) {
        self.hub.news(AttemptNews::Phase { phase });
    }

    /// Everything but the commit: the step's outputs, or why there are none.
    async fn make(&mut self) -> Result<BTreeMap<String, Artifact>, Failure> {
        let finished = match self.fetch_and_run().await {
            Ok(finished) => finished,
            Err(failure) => return Err(self.fell_early(failure).await),
        };
        self.phase(Phase::Publishing);
        let began = Instant::now();
        let outputs = match self.ended_well(&finished).await {
            Ok(()) => self.publish(0).await,
            Err(mut failure) => {
                if !self.stopped.now().is_some_and(|stop| stop.at_once) {
                    failure.message.push_str(&self.publish_partial().await);
                }
                Err(failure)
            }
        };
        self.timings.published_ms = Some(millis(began.elapsed()));
        outputs
    }

    /// Fetches what the step needs and runs it to its end, however it ended.
    async fn fetch_and_run(&mut self) -> Result<Vec<Finished>, Failure> {
        let container = self.container().await?;
        self.group = match self.around.group.take() {
            Some(group) => Some(Arc::new(group)),
            None => Group::here(self.ticket)?.map(Arc::new),
        };
        if let (Some(_), Some(_)) = (&self.group, &container) {
            let message = "`distribution`: steps of several processes do not run in containers beside a launcher";
            return Err(Failure::new(Cause::Refused, message));
        }
        let _watched = match (&self.around.peers, &self.group) {
            (Some(peers), Some(group)) => Some(peers.watch(Arc::clone(group))),
            _ => None,
        };
        self.phase(Phase::Fetching);
        let began = Instant::now();
        let mut stopped = self.stopped.clone();
        let values = tokio::select! {
            values = self.fetch() => values?,
            stop = stopped.changed_from(None) => {
                return Err(Failure::of_stop(stop, "while its inputs were fetched"));
            }
        };
        self.timings.fetched_ms = Some(millis(began.elapsed()));

        self.phase(Phase::Running);
        let finished = self.run_command(&values, container.as_ref()).await?;
        let ran = finished.iter().map(|finished| finished.ran).max();
        self.timings.ran_ms = ran.map(millis);
        Ok(finished)
    }

    /// Fetches code, inputs and the checkpoint, and says what bindings stand for.
    async fn fetch(&self) -> Result<Values, Failure> {
        self.work
            .create(!self.ticket.outputs.is_empty())
            .map_err(|error| Failure::of_disk("could not make its work folder", &error))?;
        let mut values = Values::default();
        if let Some(code) = &self.ticket.code {
            let fetched = self.depot.fetch_snapshot(code, &self.work.code()).await;
            fetched.map_err(|error| Failure::of_store("could not fetch its code", &error))?;
        }
        for (name, input) in &self.ticket.inputs {
            let failed = |error: StoreError| {
                Failure::of_store(&format!("could not fetch its input `{name}`"), &error)
            };
            let to = self.work.input(name);
            let value = match input {
                TicketInput::Literal { value } => Some(value.clone()),
                TicketInput::Artifact { artifact, mode } => Some(
                    self.depot
                        .fetch_artifact(artifact, *mode, &to)
                        .await
                        .map_err(failed)?,
                ),
                TicketInput::Snapshot {
                    digest,
                    data_type,
                    mode,
                } => Some(
                    self.depot
                        .fetch_input_snapshot(digest, *data_type, *mode, &to)
                        .await
                        .map_err(failed)?,
                ),
                TicketInput::External {
                    uri,
                    mode: InputMode::Direct,
                    pin: _,
                    data_type: _,
                } => Some(uri.clone()),
                TicketInput::External {
                    uri,
                    mode: InputMode::Download,
                    pin,
                    data_type,
                } => Some(
                    self.depot
                        .fetch_external(uri, pin, *data_type, &to)
                        .await
                        .map_err(failed)?,
                ),
                TicketInput::Absent => None,
            };
            if let Some(value) = value {
                values.inputs.insert(name.clone(), value);
            }
        }
        for (name, data_type) in &self.ticket.outputs {
            let place = self.work.output(name);
            // Of a distributed step it is made of what its processes wrote.
            if *data_type != DataType::UriFile && self.group.is_none() {
                std::fs::create_dir_all(&place).map_err(|error| {
                    Failure::of_disk("could not make its output folders", &error)
                })?;
            }
            values.outputs.insert(name.clone(), text(&place));
        }
        self.make_members_folders()?;
        if let Some(restore) = &self.ticket.restore {
            for instance in self.group.as_ref().map_or(0..1, |group| group.instances()) {
                let place = self.work.checkpoints_of(instance);
                let fetched = self.depot.restore(restore, &place).await;
                fetched.map_err(|error| {
                    Failure::of_store("could not fetch the checkpoint to go on from", &error)
                })?;
            }
        }
        Ok(values)
    }

    async fn run_command(
        &mut self,
        values: &Values,
        container: Option<&InImage>,
    ) -> Result<Vec<Finished>, Failure> {
        let ranks: Vec<Option<u32>> = match &self.group {
            Some(group) => group.ranks().map(Some).collect(),
            None => vec![None],
        };
        let mut reads = Vec::new();
        let mut writes = Vec::new();
        for rank in ranks {
            let pipe = match container {
                Some(_) => output::named_pipe(&self.work.pipe()),
                None => output::pipe(),
            };
            let (read, write) =
                pipe.map_err(|error| Failure::of_disk("could not make a pipe", &error))?;
            reads.push((rank, read));
            writes.push(write);
        }
        let runner = self.runner(values, writes, container).await?;
        let pump = self.pump(reads);
        self.last_lines = pump.last_lines();
        // Of a distributed step those of the first instance count.
        let is_first = self
            .around
            .peers
            .as_ref()
            .is_none_or(|peers| peers.instance == 0);
        let metrics =
            is_first.then(|| Metrics::start(self.depot.clone(), self.nonce.clone(), &self.work));
        let keeper = is_first.then(|| {
            Keeper::start(
                &self.work.checkpoints(),
                self.depot.clone(),
                self.nonce.clone(),
            )
        });
        let keeper = keeper
            .transpose()
            .map_err(|error| Failure::of_disk("could not watch its checkpoints", &error));
        let finished = match keeper {
            Ok(keeper) => {
                let finished = runner.run(self.stopped.clone()).await;
                if let Some(keeper) = keeper {
                    self.checkpoint = keeper
                        .finish(Duration::from_millis(self.ticket.publish_grace_ms))
                        .await;
                }
                finished
            }
            Err(failure) => {
                runner.discard();
                Err(failure)
            }
        };
        let logged = self.depot.told("write the log", pump.finish()).await;
        let measured = match metrics {
            Some(metrics) => self.depot.told("write the metrics", metrics.finish()).await,
            None => Ok(()),
        };
        if let Err(error) = logged.and(measured) {
            // The log belongs to the attempt; without a place for it there is none
            // for its outputs either.
            let failure = Failure::of_store("could not keep its log or metrics", &error);
            let finished = finished?;
            return Err(Failure {
                exit_code: finished.first().map(|finished| finished.code),
                ..failure
            });
        }
        finished
    }

    async fn publish(&self, exit_code: i32) -> Result<BTreeMap<String, Artifact>, Failure> {
        let with_code = |failure: Failure| Failure {
            exit_code: Some(exit_code),
            ..failure
        };
        let missing: Vec<_> = self
            .ticket
            .outputs
            .iter()
            .filter_map(|(name, data_type)| {
                self.missing(name, *data_type)
                    .map(|what| format!("`{name}` ({what})"))
            })
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "the command exited with 0 and did not write its outputs: {}",
                missing.join(", ")
            );
            return Err(with_code(Failure::new(Cause::Exit, message)));
        }
        let publish = async {
            let mut outputs = BTreeMap::new();
            for (name, data_type) in &self.ticket.outputs {
                let artifact = self
                    .depot
                    .publish(&self.nonce, name, *data_type, &self.work.output(name))
                    .await;
                let artifact = artifact.map_err(|error| {
                    Failure::of_store(&format!("could not publish its output `{name}`"), &error)
                })?;
                outputs.insert(name.clone(), artifact);
            }
            Ok(outputs)
        };
        let mut stopped = self.stopped.clone();
        let grace = Duration::from_millis(self.ticket.publish_grace_ms);
        tokio::select! {
            outputs = publish => outputs.map_err(with_code),
            stop = stopped.publishing_over(grace) => {
                Err(with_code(Failure::of_stop(stop, "while its outputs were published")))
            }
        }
    }

    /// Why an output is not there.
    fn missing(&self, name: &str, data_type: DataType) -> Option<String> {
        let place = self.work.output(name);
        let found = std::fs::metadata(&place);
        match (found, data_type) {
            (Ok(found), DataType::UriFile) if found.is_dir() => {
                Some("a folder stands where a file should".to_owned())
            }
            (Ok(found), DataType::UriFile) if !found.is_file() => {
                Some("it is no plain file".to_owned())
            }
            (Ok(found), DataType::UriFolder | DataType::Mltable) if !found.is_dir() => {
                Some("a file stands where a folder should".to_owned())
            }
            (Ok(_), _) => None,
            (Err(_), DataType::UriFile) => Some("no file at its path".to_owned()),
            (Err(_), _) => Some("its folder was removed".to_owned()),
        }
    }

    /// Publishes what a failed step has written, and names it.
    async fn publish_partial(&self) -> String {
        let publish = async {
            let mut kept = Vec::new();
            for (name, data_type) in &self.ticket.outputs {
                if self.missing(name, *data_type).is_some() {
                    continue;
                }
                match self
                    .depot
                    .publish(&self.nonce, name, *data_type, &self.work.output(name))
                    .await
                {
                    Ok(artifact) if artifact.files > 0 => {
                        kept.push(format!("`{name}` in {}", artifact.prefix))
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!("the partial output `{name}` is not kept: {}", chain(&error))
                    }
                }
            }
            kept
        };
        let mut stopped = self.stopped.clone();
        let grace = Duration::from_millis(self.ticket.publish_grace_ms);
        let kept = tokio::select! {
            kept = publish => kept,
            () = tokio::time::sleep(PARTIAL_PATIENCE) => Vec::new(),
            _ = stopped.publishing_over(grace) => Vec::new(),
        };
        if kept.is_empty() {
            String::new()
        } else {
            format!("; partial outputs: {}", kept.join(", "))
        }
    }

    fn outcome(&self, outputs: BTreeMap<String, Artifact>) -> Outcome {
        Outcome {
            version: OUTCOME_VERSION,
            run: self.ticket.attempt.run.clone(),
            step: self.ticket.attempt.step.clone(),
            status: Status::Completed,
            attempt: Some(self.ticket.attempt.number),
            nonce: Some(self.nonce.clone()),
            attempts: self.ticket.claims_before + 1,
            cause: None,
            exit_code: Some(0),
            message: None,
            outputs,
            reused_from: None,
            key: self.ticket.key,
            timings: self.timings,
            last_lines: self.hub.last_lines(),
            node: Some(self.node.clone()),
            started: Some(self.started),
            ended: now(),
        }
    }

    fn end(&self, failure: Failure, published: Option<Box<Outcome>>) -> EndRecord {
        let Failure {
            cause,
            exit_code,
            message,
        } = failure;
        EndRecord {
            attempt: self.ticket.attempt.clone(),
            nonce: Some(self.nonce.clone()),
            cause,
            exit_code,
            message,
            last_lines: match &self.fell_lines {
                Some(lines) => lines.clone(),
                None => self.hub.last_lines(),
            },
            timings: self.timings,
            checkpoint: self.checkpoint.clone(),
            published,
            node: Some(self.node.clone()),
            started: Some(self.started),
            ended: now(),
        }
    }
}

/// A path of ours as text; all of them are.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// This machine's name.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_owned()
}
