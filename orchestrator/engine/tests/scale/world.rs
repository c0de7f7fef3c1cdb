//! A driver's world in memory: a plan of any size, a store that counts what is asked of
//! it, and an executor whose attempts are over at once. The driver, the run state and
//! the journal are the real ones.

use auria_core::outcome::{Claim, OUTCOME_VERSION, Outcome, Status, Timings};
use auria_core::plan::{
    Environment, Network, PLAN_VERSION, Plan, PlanSettings, PlannedStep, ProcessEnvironment,
    RetryPolicy, Reuse, Template, TemplatePart,
};
use auria_core::resources::Resources;
use auria_core::run::{AttemptNews, Limits, Phase, RunState};
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, RunId, StepPath, Timestamp};
use auria_engine::driver::{self, Driven, Driver, Observer};
use auria_engine::executor::{
    AttemptEvent, Executor, Happened, ListError, StartError, StopError, WatchError,
};
use auria_store::runs::{self, RUN_VERSION, RunJson, RunState as Stage, Submitter};
use auria_store::testing::{Operation, faulty};
use auria_store::{Journal, Store, now};
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    /// Events that the driver took.
    pub(crate) events: u64,
    /// What was asked of the store, but for looks at the log and whether the run is there,
    /// which a clock asks for.
    pub(crate) store_calls: u64,
    /// From the takeover to the run's end.
    #[allow(dead_code, reason = "the test counts, the bench measures")]
    pub(crate) took: Duration,
}

/// Drives a run of `steps` steps that wait for none to its end.
///
/// # Panics
/// Where it does not end well.
pub(crate) async fn drive(steps: usize) -> Count {
    let calls = Arc::new(AtomicU64::new(0));
    let store = counted(&calls);
    let run: RunId = "scale".parse().expect("a run's name");
    let plan = Arc::new(plan(steps));
    let record = RunJson {
        version: RUN_VERSION,
        run: run.clone(),
        nonce: driver::nonce(),
        state: Stage::Ready,
        created: now(),
        by: Submitter::default(),
        target: "memory".to_owned(),
        parameters: BTreeMap::new(),
        snapshots: BTreeSet::new(),
        sources: BTreeMap::new(),
        retry_of: None,
        plan: plan.clone(),
    };
    runs::create(&store, &record).await.expect("the run");
    let driver = Driver {
        run: run.clone(),
        plan,
        store: store.clone(),
        executor: Arc::new(AtOnce {
            journal: Journal::new(store, run),
            watcher: Mutex::default(),
        }),
        limits: Limits::default(),
        name: "scale".to_owned(),
        now,
    };
    calls.store(0, Ordering::Relaxed);
    let mut events = Events(0);
    let (_control, asked) = mpsc::channel(1);
    let began = std::time::Instant::now();
    let driven = driver.drive(None, asked, &mut events).await;
    let took = began.elapsed();
    match driven {
        Ok(Driven::Ended(end)) if end.status == Status::Completed => {
            assert_eq!(end.counts[&Status::Completed], steps as u64);
        }
        other => panic!("{other:?}"),
    }
    Count {
        events: events.0,
        store_calls: calls.load(Ordering::Relaxed),
        took,
    }
}

fn counted(calls: &Arc<AtomicU64>) -> Store {
    let store = Store::over(Arc::new(InMemory::new()));
    let calls = calls.clone();
    faulty(&store, move |operation: &Operation| {
        if !operation.path.contains("/log/") && !operation.path.ends_with("/run.json") {
            calls.fetch_add(1, Ordering::Relaxed);
        }
        None
    })
}

fn plan(steps: usize) -> Plan {
    let step = |number: usize| PlannedStep {
        path: path(number),
        display_name: None,
        command: Template(vec![TemplatePart::Text(format!("true {number}"))]),
        code: None,
        environment: Environment::Process(ProcessEnvironment {
            os: "linux".to_owned(),
            arch: "any".to_owned(),
            host: "any".to_owned(),
            executable: None,
            image: None,
        }),
        variables: BTreeMap::new(),
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        after: BTreeSet::new(),
        resources: Resources {
            instances: 1,
            ..Resources::default()
        },
        distribution: None,
        timeout_ms: None,
        grace_ms: 10_000,
        retry: RetryPolicy::default(),
        reuse: Reuse::Allowed {
            extra_key: None,
            max_age_ms: None,
        },
        compute: None,
        network: Network::Default,
        keep_warm: None,
    };
    Plan {
        version: PLAN_VERSION,
        pipeline: "scale".to_owned(),
        display_name: None,
        experiment: "scale".to_owned(),
        settings: PlanSettings::default(),
        inputs: BTreeMap::new(),
        steps: (0..steps).map(step).collect(),
        outputs: BTreeMap::new(),
    }
}

fn path(number: usize) -> StepPath {
    format!("s{number}").parse().expect("a step's name")
}

/// Counts events.
struct Events(u64);

impl Observer for Events {
    fn changed(&mut self, _state: &RunState, _now: Timestamp) {
        self.0 += 1;
    }

    fn line(&mut self, _attempt: &AttemptId, _line: &str) {}
}

/// An executor whose attempts claim, run and commit at once, as launchers would.
struct AtOnce {
    journal: Journal,
    watcher: Mutex<Option<mpsc::Sender<Result<AttemptEvent, WatchError>>>>,
}

impl AtOnce {
    async fn tell(&self, attempt: &AttemptId, news: AttemptNews) {
        let watcher = {
            let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
            watcher.clone()
        };
        let event = AttemptEvent {
            attempt: attempt.clone(),
            happened: Happened::News(news),
        };
        if let Some(watcher) = watcher {
            // The driver has gone: nobody hears it.
            let _ = watcher.send(Ok(event)).await;
        }
    }
}

#[async_trait::async_trait]
impl Executor for AtOnce {
    async fn start(&self, ticket: &Ticket) -> Result<(), StartError> {
        let id = &ticket.attempt;
        let nonce = driver::nonce();
        let claim = Claim {
            attempt: id.clone(),
            nonce: nonce.clone(),
            host: "memory".to_owned(),
            boot_id: String::new(),
            process: String::new(),
            claimed: now(),
        };
        let unavailable = |error: auria_store::StoreError| StartError::Unavailable {
            message: error.to_string(),
        };
        self.journal.claim(&claim).await.map_err(unavailable)?;
        let node = "memory".to_owned();
        self.tell(
            id,
            AttemptNews::Claimed {
                nonce: nonce.clone(),
                node,
            },
        )
        .await;
        for phase in [Phase::Fetching, Phase::Running, Phase::Publishing] {
            self.tell(id, AttemptNews::Phase { phase }).await;
        }
        let outcome = Outcome {
            version: OUTCOME_VERSION,
            run: id.run.clone(),
            step: id.step.clone(),
            status: Status::Completed,
            attempt: Some(id.number),
            nonce: Some(nonce),
            attempts: 1,
            cause: None,
            exit_code: Some(0),
            message: None,
            outputs: BTreeMap::new(),
            reused_from: None,
            key: ticket.key,
            timings: Timings::default(),
            last_lines: Vec::new(),
            node: None,
            started: Some(now()),
            ended: now(),
        };
        self.journal.commit(&outcome).await.map_err(unavailable)?;
        let outcome = Arc::new(outcome);
        self.tell(id, AttemptNews::Committed { outcome }).await;
        Ok(())
    }

    async fn stop(&self, _attempt: &AttemptId, _grace: Duration) -> Result<(), StopError> {
        Ok(())
    }

    async fn list(&self, _run: &RunId) -> Result<Vec<AttemptId>, ListError> {
        Ok(Vec::new())
    }

    fn watch(&self, _run: &RunId) -> BoxStream<'static, Result<AttemptEvent, WatchError>> {
        let (sender, receiver) = mpsc::channel(1024);
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        ReceiverStream::new(receiver).boxed()
    }
}
