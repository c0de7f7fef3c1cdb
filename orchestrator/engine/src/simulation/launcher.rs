//! A launcher of a schedule. The order of its records is the real launcher's (they
//! share [`sequence`]); fetching, the command and publishing are small here, and go
//! to the store with its real records and manifests.

use super::machine::Stop;
use super::objects;
use super::pipeline::{Act, How, OnStop};
use super::points::Effect;
use super::sign::Sign;
use super::world::{Asked, Pid, Shared, Verb, request};
use auria_core::mutant;
use auria_core::outcome::{
    Artifact, Cause, Checkpoint, Claim, EndRecord, EntryKind, Manifest, ManifestEntry,
    OUTCOME_VERSION, Outcome, Status, Timings,
};
use auria_core::plan::{DataType, TemplatePart};
use auria_core::run::{AttemptNews, Phase};
use auria_core::ticket::{Ticket, TicketInput};
use auria_core::{Digest, Nonce, Timestamp};
use auria_launcher::sequence::{self, Records, patiently};
use auria_store::{
    Claimed, Commit, ErrorKind, Journal, Store, StoreError, StorePath, artifact, checkpoint,
    layout, now,
};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// The name of an output's only file.
const FILE: &str = "value";

/// A launcher's way from its start to its last word.
pub(super) async fn run(
    world: Shared,
    pid: Pid,
    ticket: Ticket,
    act: Act,
    stop: Sign,
    wait: Duration,
) {
    tokio::time::sleep(wait).await;
    let nonce: Nonce = format!("{:016x}", auria_store::outside::random())
        .parse()
        .unwrap_or_else(|error| panic!("{error}"));
    let store = objects::store(&world, pid);
    let journal = Journal::new(store.clone(), ticket.attempt.run.clone());
    let claim = Claim {
        attempt: ticket.attempt.clone(),
        nonce: nonce.clone(),
        host: "node".into(),
        boot_id: String::new(),
        process: pid.to_string(),
        claimed: now(),
    };
    if let Some(launcher) = world.lock().machine.launchers.get_mut(&pid) {
        launcher.nonce = Some(nonce.clone());
    }
    let ledger = Ledger {
        world: world.clone(),
        patience: world.lock().machine.patience,
        journal,
        ticket: ticket.clone(),
    };
    let job = Job {
        world: world.clone(),
        pid,
        store,
        started: claim.claimed,
        ticket,
        nonce,
        act,
        stop,
        checkpoint: None,
        value: String::new(),
    };
    let late = job.clone();
    let news = sequence::carry_out(&ledger, claim, job).await;
    if mutant!(OutcomeBeforeOutputs) && matches!(news, AttemptNews::Committed { .. }) {
        let _ = late.publish().await;
    }
    world.lock().launcher_ended(pid, news);
}

/// The attempt's records.
struct Ledger {
    world: Shared,
    patience: Duration,
    journal: Journal,
    ticket: Ticket,
}

impl Ledger {
    fn tell(&self) -> impl Fn(Option<String>) + '_ {
        |trouble| {
            self.world
                .lock()
                .tell(&self.ticket.attempt, AttemptNews::Store { trouble });
        }
    }
}

impl Records for Ledger {
    async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        patiently(self.patience, self.tell(), "claim", || {
            self.journal.claim(claim)
        })
        .await
    }

    async fn commit(&self, outcome: &Outcome) -> Result<Commit, StoreError> {
        patiently(self.patience, self.tell(), "commit", || {
            self.journal.commit(outcome)
        })
        .await
    }

    async fn write_end(&self, end: &EndRecord) -> Result<EndRecord, StoreError> {
        patiently(self.patience, self.tell(), "write the end", || {
            self.journal.write_end(end)
        })
        .await
    }
}

/// What is done between claim and commit.
#[derive(Clone)]
struct Job {
    world: Shared,
    pid: Pid,
    store: Store,
    ticket: Ticket,
    nonce: Nonce,
    started: Timestamp,
    act: Act,
    stop: Sign,
    checkpoint: Option<Checkpoint>,
    /// What the command made.
    value: String,
}

/// Why an attempt has no outcome to commit.
struct Failure {
    cause: Cause,
    message: String,
}

fn failure(cause: Cause, message: impl Into<String>) -> Failure {
    Failure {
        cause,
        message: message.into(),
    }
}

fn of_store(error: &StoreError) -> Failure {
    // As the real launcher sorts them.
    let cause = match error.kind() {
        ErrorKind::Full => Cause::Evicted,
        ErrorKind::Unreachable | ErrorKind::Denied | ErrorKind::Refused => Cause::NodeLost,
        _ => Cause::Exit,
    };
    failure(cause, error.to_string())
}

impl sequence::Work for Job {
    fn claimed(&mut self) {
        let news = AttemptNews::Claimed {
            nonce: self.nonce.clone(),
            node: "node".into(),
        };
        self.tell(news);
    }

    async fn produce(&mut self) -> Result<Outcome, Box<EndRecord>> {
        match self.make().await {
            Ok(outputs) => Ok(self.outcome(outputs)),
            Err(failure) => Err(Box::new(self.end(failure, None))),
        }
    }

    fn uncommitted(&self, outcome: Outcome, error: &StoreError) -> EndRecord {
        let failure = failure(Cause::Evicted, format!("published, not committed: {error}"));
        self.end(failure, Some(Box::new(outcome)))
    }
}

impl Job {
    fn tell(&self, news: AttemptNews) {
        let mut world = self.world.lock();
        let seen = world
            .machine
            .launchers
            .get(&self.pid)
            .is_some_and(|launcher| !launcher.cut_off);
        if seen {
            world.tell(&self.ticket.attempt, news);
        }
    }

    fn phase(&self, phase: Phase) {
        self.tell(AttemptNews::Phase { phase });
    }

    async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        what: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let tell = |trouble| self.tell(AttemptNews::Store { trouble });
        let patience = self.world.lock().machine.patience;
        let answer = patiently(patience, tell, "use the store", what).await;
        answer.map_err(|error| of_store(&error))
    }

    async fn make(&mut self) -> Result<BTreeMap<String, Artifact>, Failure> {
        self.phase(Phase::Fetching);
        let stop = self.stop.clone();
        self.value = tokio::select! {
            biased;
            _ = asked(&stop, None) => {
                return Err(failure(Cause::Canceled, "stopped while its inputs were fetched"));
            }
            value = self.fetch() => value?,
        };
        self.phase(Phase::Running);
        self.command().await?;
        self.phase(Phase::Publishing);
        if mutant!(OutcomeBeforeOutputs) {
            return Ok(BTreeMap::from([("out".to_owned(), self.artifact().0)]));
        }
        let stop = self.stop.clone();
        let grace = Duration::from_millis(self.ticket.publish_grace_ms);
        tokio::select! {
            biased;
            outputs = self.publish() => outputs,
            () = publishing_over(&stop, grace) => {
                Err(failure(Cause::Canceled, "stopped while its outputs were published"))
            }
        }
    }

    /// What the command will make: a value that follows from its text and its inputs.
    async fn fetch(&self) -> Result<String, Failure> {
        let mut value = String::new();
        for part in &self.ticket.command.0 {
            if let TemplatePart::Text(text) = part {
                value.push_str(text);
            }
        }
        for input in self.ticket.inputs.values() {
            let TicketInput::Artifact { artifact, .. } = input else {
                continue;
            };
            let read = || async {
                let manifest = artifact::read_manifest(&self.store, artifact).await?;
                let path = StorePath::from(artifact.prefix.as_str()).join(FILE);
                let bytes = self.store.read(&path).await?;
                let bytes = bytes.ok_or_else(|| StoreError::NotFound {
                    what: path.to_string(),
                })?;
                Ok((manifest, bytes))
            };
            let (manifest, bytes) = self.patiently(read).await?;
            let whole = manifest.entries.iter().all(|entry| {
                matches!(&entry.kind, EntryKind::File { digest, .. } if *digest == Digest::of(&bytes))
            });
            if !whole {
                return Err(failure(Cause::Exit, "an input is damaged"));
            }
            value.push_str(&Digest::of(&bytes).hex()[..8]);
        }
        if let Some(restore) = &self.ticket.restore {
            let id = &self.ticket.attempt;
            let find = || {
                checkpoint::restore(
                    &self.store,
                    &id.run,
                    &id.step,
                    restore,
                    |found| async move {
                        checkpoint::artifact(&self.store, &id.run, &id.step, &found).await
                    },
                )
            };
            if let Err(failure) = self.patiently(find).await {
                let mut world = self.world.lock();
                // Of a step that has ended well since, `gc` removes them.
                let needed = !world.is_going(&id.run)
                    && world
                        .truths
                        .get(&id.run)
                        .is_some_and(|truth| !truth.succeeded(&id.step));
                if failure.cause == Cause::Exit && needed {
                    world.violated(format!(
                        "the checkpoint that the grant of {id} pinned is gone: {}",
                        failure.message
                    ));
                }
                return Err(failure);
            }
        }
        Ok(value)
    }

    async fn command(&mut self) -> Result<(), Failure> {
        let (id, nonce) = (self.ticket.attempt.clone(), self.nonce.clone());
        let asked_for = Asked {
            pid: self.pid,
            effect: Effect::Command,
            verb: Verb::Executor,
            what: format!(
                "run the command, {:?} after {} ms",
                self.act.how, self.act.ms
            ),
        };
        // Nothing of the world answers wrongly here.
        let _ = request(&self.world, asked_for, move |world| {
            world.command_begins(&id, &nonce);
        })
        .await;
        let began = Instant::now();
        let until = |ms: u64| began + Duration::from_millis(ms);
        for generation in 1..=self.act.checkpoints {
            let at = self.act.ms * u64::from(generation) / u64::from(self.act.checkpoints + 1);
            if self.runs_until(Some(until(at)), began).await? {
                break;
            }
            self.publish_checkpoint(generation).await;
        }
        let end = (self.act.how != How::Hangs).then(|| until(self.act.ms));
        let ended_by_stop = self.runs_until(end, began).await?;
        match self.act.how {
            _ if ended_by_stop => {}
            How::Succeeds | How::Hangs => {}
            How::Fails(cause) => return Err(failure(cause, "it failed")),
            How::Dies(cause) => {
                {
                    let mut world = self.world.lock();
                    world.say(Some(self.pid), || format!("dies of {cause:?}"));
                    world.end(self.pid);
                    world.launcher_died(self.pid, cause);
                }
                std::future::pending::<()>().await;
            }
            How::CutOff => {
                let away = {
                    let mut world = self.world.lock();
                    world.say(Some(self.pid), || "is cut off".into());
                    if let Some(launcher) = world.machine.launchers.get_mut(&self.pid) {
                        launcher.cut_off = true;
                    }
                    world.launcher_died(self.pid, None);
                    world.dice.within(500..=12_000)
                };
                tokio::time::sleep(Duration::from_millis(away)).await;
                self.world.lock().say(Some(self.pid), || "is back".into());
                // It goes on as if nothing had been.
                if self.act.checkpoints > 0 {
                    for more in 1..=2 {
                        self.publish_checkpoint(self.act.checkpoints + more).await;
                    }
                }
            }
        }
        self.world
            .lock()
            .command_ended_well(&self.ticket.attempt, &self.nonce);
        Ok(())
    }

    /// Waits until `until`, unless someone stops the command or its time is over. True
    /// where it was stopped and that counts as its end: only a mutant thinks so.
    async fn runs_until(
        &mut self,
        until: Option<Instant>,
        began: Instant,
    ) -> Result<bool, Failure> {
        let limit = self
            .ticket
            .timeout_ms
            .map(|ms| began + Duration::from_millis(ms));
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            order = asked(&stop, None) => self.stopped(order).await.map(|()| true),
            () = sleep_until(limit) => Err(failure(Cause::Timeout, "it took too long")),
            () = sleep_until(until) => Ok(false),
        }
    }

    /// What the command answers to SIGTERM. Whatever that is, it has not done its work.
    async fn stopped(&mut self, mut order: Stop) -> Result<(), Failure> {
        self.world
            .lock()
            .command_stopped(&self.ticket.attempt, &self.nonce);
        match self.act.on_stop {
            OnStop::Ends => tokio::time::sleep(Duration::from_millis(20)).await,
            OnStop::EndsWell => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if mutant!(SuccessDespiteStop) {
                    return Ok(());
                }
            }
            OnStop::Ignores => {
                let stop = self.stop.clone();
                loop {
                    tokio::select! {
                        biased;
                        sooner = asked(&stop, Some(order)) => order = sooner,
                        () = tokio::time::sleep_until(order.kill_at) => break,
                    }
                }
            }
        }
        Err(failure(Cause::Canceled, "stopped on request"))
    }

    /// A checkpoint that cannot be kept is no failure.
    async fn publish_checkpoint(&mut self, generation: u32) {
        let id = self.ticket.attempt.clone();
        let made = Checkpoint {
            attempt: id.number,
            nonce: self.nonce.clone(),
            generation,
        };
        let folder = layout::checkpoint(&id.run, &id.step, &made);
        let bytes = format!("{}-{generation}", self.nonce);
        let manifest = manifest_of(bytes.as_bytes());
        let (file, last) = (
            folder.clone().join("files").join(FILE),
            folder.join("manifest.json"),
        );
        let published = async {
            self.store.write(&file, bytes.clone()).await?;
            self.store.write_json(&last, &manifest).await?;
            checkpoint::keep_last(&self.store, &id, &self.nonce, generation).await
        };
        if published.await.is_ok() {
            self.checkpoint = Some(made);
        }
    }

    /// The output as it will stand: the artifact, its manifest and its bytes.
    fn artifact(&self) -> (Artifact, Manifest, String) {
        let id = &self.ticket.attempt;
        let manifest = manifest_of(self.value.as_bytes());
        let artifact = Artifact {
            prefix: layout::output(id, &self.nonce, "out").to_string(),
            manifest: layout::output_manifest(id, &self.nonce, "out").to_string(),
            data_type: DataType::UriFolder,
            files: 1,
            bytes: self.value.len() as u64,
            digest: manifest.digest(),
        };
        (artifact, manifest, self.value.clone())
    }

    /// Files first, the manifest last.
    async fn publish(&self) -> Result<BTreeMap<String, Artifact>, Failure> {
        let (artifact, manifest, value) = self.artifact();
        let file = StorePath::from(artifact.prefix.as_str()).join(FILE);
        let last = StorePath::from(artifact.manifest.as_str());
        self.patiently(|| self.store.write(&file, value.clone()))
            .await?;
        self.patiently(|| self.store.write_json(&last, &manifest))
            .await?;
        Ok(BTreeMap::from([("out".to_owned(), artifact)]))
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
            timings: Timings::default(),
            last_lines: Vec::new(),
            node: Some("node".into()),
            started: Some(self.started),
            ended: now(),
        }
    }

    fn end(&self, failure: Failure, published: Option<Box<Outcome>>) -> EndRecord {
        let Failure { cause, message } = failure;
        EndRecord {
            attempt: self.ticket.attempt.clone(),
            nonce: Some(self.nonce.clone()),
            cause,
            exit_code: (cause == Cause::Exit).then_some(1),
            message,
            last_lines: Vec::new(),
            timings: Timings::default(),
            checkpoint: self.checkpoint.clone(),
            published,
            node: Some("node".into()),
            started: Some(self.started),
            ended: now(),
        }
    }
}

fn manifest_of(bytes: &[u8]) -> Manifest {
    Manifest {
        entries: vec![ManifestEntry {
            path: FILE.into(),
            kind: EntryKind::File {
                mode: 0o644,
                size: bytes.len() as u64,
                digest: Digest::of(bytes),
                stored_as: None,
            },
        }],
    }
}

/// Waits for a request to stop, or for a change of the one that was seen.
async fn asked(stop: &Sign, seen: Option<Stop>) -> Stop {
    stop.other_than(seen).await
}

/// Waits until publishing is to be cut short.
async fn publishing_over(stop: &Sign, grace: Duration) {
    let mut order = asked(stop, None).await;
    while !order.at_once {
        tokio::select! {
            biased;
            changed = asked(stop, Some(order)) => order = changed,
            () = tokio::time::sleep_until(order.kill_at + grace) => return,
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
