//! What cases are written with: tickets, a watch that remembers, short questions to
//! the store.

use super::Bench;
use crate::executor::{AttemptEvent, Executor, Happened, WatchError, is_last};
use auria_core::outcome::{Cause, EndRecord, Outcome};
use auria_core::plan::{DataType, Network, Template, TemplatePart};
use auria_core::resources::Resources;
use auria_core::run::{AttemptNews, Phase};
use auria_core::ticket::{TICKET_VERSION, Ticket};
use auria_core::{AttemptId, Nonce, RunId};
use auria_store::logs::LogReader;
use auria_store::{Journal, layout};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// No case takes longer for one thing, also on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// The variable by which a case's processes are found.
const MARK: &str = "AURIA_CONFORMANCE";

/// A variable that holds a secret where benches isolate: the program that runs the cases
/// sets it, so that launchers have it and their containers must not.
pub const SECRET: (&str, &str) = ("AWS_SECRET_ACCESS_KEY", "conformance-4f2a91");

/// How many processes carry `mark`.
#[must_use]
pub fn processes_with(mark: &str) -> usize {
    pids_with(mark).len()
}

fn pids_with(mark: &str) -> Vec<i32> {
    let mark = format!("{MARK}={mark}");
    let entries = std::fs::read_dir("/proc").expect("there is /proc");
    let marked = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let environment = std::fs::read(path.join("environ")).ok()?;
        let found = environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes());
        path.file_name()?.to_str()?.parse().ok().filter(|_| found)
    };
    entries.filter_map(marked).collect()
}

/// A bench with one executor, watched.
pub struct World<B> {
    /// The bench.
    pub bench: B,
    /// The executor.
    pub executor: Box<dyn Executor>,
    /// The run.
    pub run: RunId,
    events: BoxStream<'static, Result<AttemptEvent, WatchError>>,
    /// Every log line that was told, by attempt.
    pub told: BTreeMap<AttemptId, Vec<String>>,
    /// All other news, by attempt.
    pub news: BTreeMap<AttemptId, Vec<AttemptNews>>,
    mark: Mark,
    outside: PathBuf,
}

/// Ends the case's processes, also where it has failed.
struct Mark(String);

impl Drop for Mark {
    fn drop(&mut self) {
        for pid in pids_with(&self.0) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

impl<B: Bench> World<B> {
    /// A world on `bench`.
    ///
    /// # Panics
    /// Where there is no room for a case's own files.
    pub fn on(bench: B) -> Self {
        let mark = format!("{:016x}", rand::random::<u64>());
        let run: RunId = format!("conformance-{mark}").parse().expect("a run's name");
        let executor = bench.executor();
        let events = executor.watch(&run);
        let root = bench.store().root().expect("the store is a folder");
        let outside = root.parent().expect("it is not the root").join("outside");
        std::fs::create_dir_all(&outside).expect("a folder for the case");
        Self {
            bench,
            executor,
            run,
            events,
            told: BTreeMap::new(),
            news: BTreeMap::new(),
            mark: Mark(mark),
            outside,
        }
    }

    /// The executor goes, as with its orchestrator; another one comes.
    pub fn replace_executor(&mut self) {
        self.executor = self.bench.executor();
        self.events = self.executor.watch(&self.run);
        self.news.clear();
    }

    /// A file outside of the store, for what cases want to know of commands.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.outside.join(name)
    }

    /// The text of such a file; empty where there is none.
    pub fn read_outside(&self, name: &str) -> String {
        std::fs::read_to_string(self.outside(name)).unwrap_or_default()
    }

    /// A ticket for the first attempt of the step `step`, in which `${name}` of
    /// `outside` is not special: the command is taken as it stands.
    pub fn ticket(&self, step: &str, command: impl Into<String>) -> Ticket {
        self.ticket_of(step, vec![TemplatePart::Text(command.into())])
    }

    /// The same with bindings.
    ///
    /// # Panics
    /// Where `step` is no step's name.
    pub fn ticket_of(&self, step: &str, command: Vec<TemplatePart>) -> Ticket {
        let mark = Template(vec![TemplatePart::Text(self.mark.0.clone())]);
        Ticket {
            version: TICKET_VERSION,
            attempt: AttemptId {
                run: self.run.clone(),
                step: step.parse().expect("a step's name"),
                number: 1,
            },
            claims_before: 0,
            pipeline: "conformance".to_owned(),
            experiment: "conformance".to_owned(),
            command: Template(command),
            code: None,
            environment: self.bench.environment(),
            variables: BTreeMap::from([(MARK.to_owned(), mark)]),
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            resources: Resources {
                instances: 1,
                ..Resources::default()
            },
            compute: None,
            network: Network::Default,
            distribution: None,
            keep_warm: None,
            timeout_ms: None,
            grace_ms: 5_000,
            publish_grace_ms: 20_000,
            restore: None,
            key: None,
        }
    }

    /// Writes the ticket and starts it.
    ///
    /// # Panics
    /// Where it is not started.
    pub async fn start(&self, ticket: &Ticket) {
        self.journal()
            .write_ticket(ticket)
            .await
            .expect("the ticket is written");
        self.executor.start(ticket).await.expect("it is started");
    }

    /// Starts the ticket and waits for its last news.
    pub async fn run(&mut self, ticket: &Ticket) -> AttemptNews {
        self.start(ticket).await;
        self.last(&ticket.attempt).await
    }

    /// Runs the ticket, which commits.
    ///
    /// # Panics
    /// Where it does not.
    pub async fn completes(&mut self, ticket: &Ticket) -> Arc<Outcome> {
        match self.run(ticket).await {
            AttemptNews::Committed { outcome } => outcome,
            other => panic!("it did not commit: {other:?}"),
        }
    }

    /// Runs the ticket, which ends with `cause`.
    ///
    /// # Panics
    /// Where it ends otherwise.
    pub async fn fails(&mut self, ticket: &Ticket, cause: Cause) -> EndRecord {
        self.start(ticket).await;
        self.ended(&ticket.attempt, cause).await
    }

    /// Waits for an end with `cause`, of which the store holds the same record.
    ///
    /// # Panics
    /// Where it ends otherwise.
    pub async fn ended(&mut self, attempt: &AttemptId, cause: Cause) -> EndRecord {
        let end = match self.last(attempt).await {
            AttemptNews::Ended { end } => end,
            other => panic!("it did not end: {other:?}"),
        };
        assert_eq!(end.cause, cause, "{}", end.message);
        let stands = self
            .journal()
            .read_end(attempt)
            .await
            .expect("the store is there");
        assert_eq!(stands.as_ref(), Some(&end));
        end
    }

    /// Waits for the last news of an attempt.
    pub async fn last(&mut self, attempt: &AttemptId) -> AttemptNews {
        self.until(attempt, is_last).await
    }

    /// Waits until an attempt is in `phase`.
    pub async fn phase(&mut self, attempt: &AttemptId, phase: Phase) {
        let is_it = |news: &AttemptNews| matches!(news, AttemptNews::Phase { phase: found } if *found == phase);
        self.until(attempt, is_it).await;
    }

    /// Waits until the command of an attempt has said `line`.
    ///
    /// # Panics
    /// Where it does not for long.
    pub async fn said(&mut self, attempt: &AttemptId, line: &str) {
        let began = std::time::Instant::now();
        while !self
            .told
            .get(attempt)
            .is_some_and(|lines| lines.iter().any(|told| told == line))
        {
            assert!(began.elapsed() < LONG, "`{line}` was not said");
            self.next().await;
        }
    }

    /// Waits for news of an attempt.
    ///
    /// # Panics
    /// Where it ends without, or nothing happens for long.
    pub async fn until(
        &mut self,
        attempt: &AttemptId,
        is_it: impl Fn(&AttemptNews) -> bool,
    ) -> AttemptNews {
        loop {
            let known = self
                .news
                .get(attempt)
                .map(Vec::as_slice)
                .unwrap_or_default();
            if let Some(news) = known.iter().find(|news| is_it(news)) {
                return news.clone();
            }
            assert!(
                !known.iter().any(is_last),
                "{attempt} ended otherwise: {known:#?}"
            );
            self.next().await;
        }
    }

    async fn next(&mut self) {
        let next = tokio::time::timeout(LONG, self.events.next()).await;
        let event = next.unwrap_or_else(|_| panic!("nothing happens; known is {:#?}", self.news));
        let AttemptEvent { attempt, happened } = event
            .expect("a watch does not end")
            .expect("a watch does not break");
        match happened {
            Happened::Log(lines) => self.told.entry(attempt).or_default().extend(lines),
            Happened::News(news) => self.news.entry(attempt).or_default().push(news),
        }
    }

    /// The run's records.
    pub fn journal(&self) -> Journal {
        Journal::new(self.bench.store().clone(), self.run.clone())
    }

    /// The whole log of a claim.
    ///
    /// # Panics
    /// Where the store cannot be read.
    pub async fn log(&self, attempt: &AttemptId, nonce: Option<&Nonce>) -> Vec<u8> {
        let folder = layout::logs(attempt, nonce.expect("it claimed"));
        LogReader::new(self.bench.store().clone(), folder)
            .read_rest()
            .await
            .expect("the log is read")
    }

    /// How many of the case's processes run.
    pub fn processes(&self) -> usize {
        processes_with(&self.mark.0)
    }

    /// Ends a case: nothing of it runs any more.
    ///
    /// # Panics
    /// Where something does.
    pub async fn over(self) {
        assert_eq!(self.processes(), 0, "processes are left");
        // A launcher that has said its last word ends a moment later.
        let began = std::time::Instant::now();
        loop {
            let live = self.executor.list(&self.run).await.expect("it lists");
            if live.is_empty() {
                break;
            }
            assert!(began.elapsed() < LONG, "attempts are left: {live:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let Self {
            bench,
            executor,
            events,
            ..
        } = self;
        bench.nothing_left().await;
        drop((executor, events));
    }
}

/// Adds an output to a ticket.
pub(super) fn with_output(mut ticket: Ticket, name: &str, data_type: DataType) -> Ticket {
    ticket.outputs.insert(name.to_owned(), data_type);
    ticket
}
