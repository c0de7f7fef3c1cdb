//! The controller on a real cluster (`cargo xtask cluster up`): resources become runs, whose
//! real driver starts real Pods. What launchers would write to the store and tell the
//! broker is played by the test, as soon as a Pod runs.

#![expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]

#[path = "controller/resources.rs"]
mod resources;
mod support;

use auria_core::outcome::{Claim, OUTCOME_VERSION, Outcome, RunEnd, Status, Timings};
use auria_core::plan::{
    Environment, Network, PLAN_VERSION, Plan, PlanSettings, PlannedStep, RetryPolicy, Reuse,
    Template, TemplatePart,
};
use auria_core::resources::Resources;
use auria_core::run::{AttemptNews, Limits};
use auria_core::{AttemptId, RunId};
use auria_engine::executor::{AttemptEvent, Happened};
use auria_engine::relay::{BrokerAccess, TicketIssuer, Wake};
use auria_kubernetes::compute::Compute;
use auria_kubernetes::controller::{
    self, ControllerOptions, Feeds, Leads, LeaseTiming, announce, cancel,
};
use auria_kubernetes::resource::{FINALIZER, PipelineRun};
use auria_kubernetes::{KubernetesOptions, Relay, names};
use auria_store::runs::{self, RUN_VERSION, RunJson, RunState, Submitter};
use auria_store::{Access, Commit, Journal, Store};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use libtest_mimic::{Arguments, Trial};
use resources::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{IMAGE, LONG, cluster, launcher, load, now};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        vec![$(Trial::test(stringify!($name), || {
            support::case(|client, namespace| async move {
                $name(World::new(client, namespace).await).await
            })
        })),*]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let home = cluster();
    let trials: Vec<Trial> = cases![
        a_resource_becomes_a_run_and_shows_it,
        deleting_a_resource_cancels_its_run,
        a_run_is_canceled_by_its_resource,
        a_killed_replica_is_taken_over_and_nothing_runs_twice,
        a_replica_that_is_asked_to_go_hands_over_at_once,
        a_resource_goes_when_its_time_has_come,
        a_resource_without_a_run_says_so_until_there_is_one,
        one_that_is_deleted_before_anybody_drives_it_is_canceled_all_the_same,
        one_without_a_run_can_be_deleted,
        of_two_resources_of_a_run_the_second_is_refused,
        a_namespace_that_is_deleted_with_its_controller_goes,
        a_lease_that_is_deleted_is_put_anew,
    ]
    .into_iter()
    .map(|trial| trial.with_ignored_flag(home.is_err()))
    .collect();
    match &home {
        Ok(home) => load(home),
        Err(why) => eprintln!("left out: {why}"),
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Steps whose name begins with `long` run until they are stopped.
struct ByName;

impl TicketIssuer for ByName {
    fn issue(&self, attempt: &AttemptId) -> BrokerAccess {
        let is_long = attempt.step.as_str().starts_with("long");
        let does = if is_long {
            "trap 'exit 143' TERM; sleep 600 & wait"
        } else {
            "sleep 1"
        };
        BrokerAccess {
            url: "https://broker.test".to_owned(),
            token: does.to_owned(),
            authority: "none".to_owned(),
        }
    }

    fn last_word(&self, _: &AttemptId, _: &str) -> Option<AttemptNews> {
        None
    }
}

struct World {
    client: Client,
    namespace: String,
    runs: Api<PipelineRun>,
    pods: Api<Pod>,
    store: Store,
    relay: Relay,
    /// Who drives, as each replica knows it.
    leads: BTreeMap<String, Leads>,
    tasks: JoinSet<()>,
    _folder: tempfile::TempDir,
}

struct Replica {
    shutdown: watch::Sender<bool>,
    task: AbortHandle,
}

impl World {
    async fn new(client: Client, namespace: String) -> Self {
        let definitions_of: Api<CustomResourceDefinition> = Api::all(client.clone());
        let definition = serde_json::to_value(PipelineRun::crd()).unwrap();
        let name = "pipelineruns.pipelines.auria.dev";
        let params = PatchParams::apply("tests").force();
        definitions_of
            .patch(name, &params, &Patch::Apply(&definition))
            .await
            .unwrap();
        let began = Instant::now();
        let runs: Api<PipelineRun> = Api::namespaced(client.clone(), &namespace);
        while runs.list(&ListParams::default()).await.is_err() {
            assert!(began.elapsed() < LONG, "the resource is not known");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let url = folder
            .path()
            .join("store")
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let store = Store::open(&url, Access::Write).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let relay = Relay::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(play_launchers(pods.clone(), store.clone(), relay.clone()));
        Self {
            runs,
            pods,
            client,
            namespace,
            store,
            relay,
            leads: BTreeMap::new(),
            tasks,
            _folder: folder,
        }
    }

    fn replica(&mut self, identity: &str) -> Replica {
        let compute: Compute = serde_saphyr::from_str("image_pull_policy: Never").unwrap();
        let options = ControllerOptions {
            identity: identity.to_owned(),
            address: Some(format!("https://{identity}.test:8443")),
            leads: self.leads.entry(identity.to_owned()).or_default().clone(),
            lease: "controller".to_owned(),
            timing: LeaseTiming {
                duration: Duration::from_secs(3),
                deadline: Duration::from_secs(2),
                every: Duration::from_millis(300),
            },
            at_once: 8,
            limits: Limits {
                publish_grace_ms: 0,
                ..Limits::default()
            },
            executor: KubernetesOptions {
                namespace: self.namespace.clone(),
                computes: BTreeMap::new(),
                fallback: compute,
                launcher: launcher(),
                now,
            },
            mirror: None,
        };
        let (shutdown, down) = watch::channel(false);
        let task = self.tasks.spawn(controller::run(
            self.client.clone(),
            options,
            self.store.clone(),
            Arc::new(ByName),
            self.relay.clone(),
            Feeds::default(),
            down,
        ));
        Replica { shutdown, task }
    }

    async fn submit(&self, run: &str, steps: &[&str]) -> RunId {
        let run: RunId = run.parse().unwrap();
        let record = RunJson {
            version: RUN_VERSION,
            run: run.clone(),
            nonce: auria_engine::driver::nonce(),
            state: RunState::Ready,
            created: now(),
            by: Submitter::default(),
            target: "kubernetes".to_owned(),
            parameters: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            sources: BTreeMap::new(),
            retry_of: None,
            plan: Arc::new(plan(steps)),
        };
        runs::create(&self.store, &record).await.unwrap();
        run
    }

    async fn announce(&self, run: &RunId) {
        announce(self.client.clone(), &self.namespace, run)
            .await
            .unwrap();
    }

    /// Waits until a resource is as `is_it` wants it.
    async fn is(&self, run: &RunId, is_it: impl Fn(Option<&PipelineRun>) -> bool) {
        let began = Instant::now();
        loop {
            let resource = self.runs.get_opt(&names::resource_name(run)).await.unwrap();
            if is_it(resource.as_ref()) {
                return;
            }
            assert!(began.elapsed() < LONG, "{resource:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn phase_is(&self, run: &RunId, phase: &str) {
        self.is(run, |resource| phase_of(resource) == Some(phase))
            .await;
    }

    async fn end(&self, run: &RunId) -> Option<RunEnd> {
        let journal = Journal::new(self.store.clone(), run.clone());
        journal.read_run_end().await.unwrap()
    }

    async fn events(&self, reason: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = events.list(&ListParams::default()).await.unwrap();
        found
            .into_iter()
            .filter(|event| event.reason.as_deref() == Some(reason))
            .filter_map(|event| event.note)
            .collect()
    }

    async fn pod_runs(&self) {
        let began = Instant::now();
        loop {
            let pods = self.pods.list(&ListParams::default()).await.unwrap();
            if pods.iter().any(|pod| pod_phase(pod) == Some("Running")) {
                return;
            }
            assert!(began.elapsed() < LONG, "no Pod runs");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn phase_of(resource: Option<&PipelineRun>) -> Option<&str> {
    Some(&resource?.status.as_ref()?.phase)
}

fn pod_phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// A chain of steps.
fn plan(steps: &[&str]) -> Plan {
    let step = |(place, name): (usize, &&str)| PlannedStep {
        path: name.parse().unwrap(),
        display_name: None,
        command: Template(vec![TemplatePart::Text("true".to_owned())]),
        code: None,
        environment: Environment::Image {
            image: IMAGE.to_owned(),
            cuda: None,
        },
        variables: BTreeMap::new(),
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        after: place
            .checked_sub(1)
            .map(|before| steps[before].parse().unwrap())
            .into_iter()
            .collect(),
        resources: Resources {
            instances: 1,
            ..Resources::default()
        },
        distribution: None,
        timeout_ms: None,
        grace_ms: 1_000,
        retry: RetryPolicy::default(),
        reuse: Reuse::NotDeterministic,
        compute: None,
        network: Network::Default,
        keep_warm: None,
    };
    Plan {
        version: PLAN_VERSION,
        pipeline: "test".to_owned(),
        display_name: None,
        experiment: "test".to_owned(),
        settings: PlanSettings::default(),
        inputs: BTreeMap::new(),
        steps: steps.iter().enumerate().map(step).collect(),
        outputs: BTreeMap::new(),
    }
}

/// Claims and, where its step is not `long`, commits what each Pod that runs is there for.
async fn play_launchers(pods: Api<Pod>, store: Store, relay: Relay) {
    let mut played: HashSet<String> = HashSet::new();
    loop {
        for pod in pods
            .list(&ListParams::default())
            .await
            .into_iter()
            .flatten()
        {
            let Some(attempt) = names::attempt_of(&pod.metadata) else {
                continue;
            };
            if pod_phase(&pod) != Some("Running") || !played.insert(pod.name_any()) {
                continue;
            }
            play(&store, &relay, attempt, &pod).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn play(store: &Store, relay: &Relay, attempt: AttemptId, pod: &Pod) {
    let journal = Journal::new(store.clone(), attempt.run.clone());
    let nonce = auria_engine::driver::nonce();
    let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap();
    let claim = Claim {
        attempt: attempt.clone(),
        nonce: nonce.clone(),
        host: node.clone(),
        boot_id: String::new(),
        process: pod.uid().unwrap(),
        claimed: now(),
    };
    journal.claim(&claim).await.unwrap();
    let tell = |news| {
        relay.tell(AttemptEvent {
            attempt: attempt.clone(),
            happened: Happened::News(news),
        });
    };
    tell(AttemptNews::Claimed {
        nonce: nonce.clone(),
        node: node.clone(),
    });
    if attempt.step.as_str().starts_with("long") {
        return;
    }
    let outcome = Outcome {
        version: OUTCOME_VERSION,
        run: attempt.run.clone(),
        step: attempt.step.clone(),
        status: Status::Completed,
        attempt: Some(attempt.number),
        nonce: Some(nonce),
        attempts: attempt.number,
        cause: None,
        exit_code: Some(0),
        message: None,
        outputs: BTreeMap::new(),
        reused_from: None,
        key: None,
        timings: Timings::default(),
        last_lines: Vec::new(),
        node: Some(node),
        started: None,
        ended: now(),
    };
    assert!(matches!(
        journal.commit(&outcome).await.unwrap(),
        Commit::Won
    ));
    tell(AttemptNews::Committed {
        outcome: Arc::new(outcome),
    });
}

async fn a_resource_becomes_a_run_and_shows_it(mut world: World) {
    let run = world.submit("whole-1", &["one", "two", "three"]).await;
    let _replica = world.replica("a");
    world.announce(&run).await;
    world.announce(&run).await;
    world.pod_runs().await;
    world.phase_is(&run, "Running").await;
    let resource = world.runs.get("whole-1").await.unwrap();
    assert!(
        resource
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == FINALIZER)
    );
    let pods = world.pods.list(&ListParams::default()).await.unwrap();
    let owners = pods.items[0].owner_references();
    assert_eq!(owners.len(), 1);
    assert_eq!(Some(&owners[0].uid), resource.uid().as_ref());
    world.phase_is(&run, "Completed").await;
    let status = world.runs.get("whole-1").await.unwrap().status.unwrap();
    assert_eq!((status.done, status.total, status.failed), (3, 3, 0));
    assert_eq!(status.observed_generation, Some(1));
    assert!(status.started.is_some() && status.ended.is_some());
    assert_eq!(status.conditions[0].status, "True");
    assert_eq!(world.end(&run).await.unwrap().status, Status::Completed);
    let began = Instant::now();
    while world.events("Completed").await.is_empty() {
        assert!(began.elapsed() < LONG, "it is not told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Pods of steps that ended well are taken away.
    while !world
        .pods
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .is_empty()
    {
        assert!(began.elapsed() < LONG, "Pods are left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world
        .runs
        .delete("whole-1", &DeleteParams::default())
        .await
        .unwrap();
    world.is(&run, |resource| resource.is_none()).await;
}

async fn deleting_a_resource_cancels_its_run(mut world: World) {
    let run = world.submit("gone-1", &["long", "after"]).await;
    let _replica = world.replica("a");
    world.announce(&run).await;
    world.pod_runs().await;
    world.phase_is(&run, "Running").await;
    world
        .runs
        .delete("gone-1", &DeleteParams::default())
        .await
        .unwrap();
    world.is(&run, |resource| resource.is_none()).await;
    assert_eq!(world.end(&run).await.unwrap().status, Status::Canceled);
    let left = world.pods.list(&ListParams::default()).await.unwrap();
    assert!(
        left.iter()
            .all(|pod| pod.metadata.deletion_timestamp.is_some()),
        "{left:#?}"
    );
}

async fn a_run_is_canceled_by_its_resource(mut world: World) {
    let run = world.submit("stop_1", &["long"]).await;
    let _replica = world.replica("a");
    world.announce(&run).await;
    world.pod_runs().await;
    cancel(world.client.clone(), &world.namespace, &run)
        .await
        .unwrap();
    world.phase_is(&run, "Canceled").await;
    let name = names::resource_name(&run);
    let resource = world.runs.get(&name).await.unwrap();
    assert_eq!(resource.status.unwrap().conditions[0].status, "False");
    // Which run it is of was said once.
    for other in [
        json!({"run": "stop_2"}),
        json!({"plan": "runs/stop_2/run.json"}),
    ] {
        let other = Patch::Merge(json!({"spec": other}));
        let params = PatchParams::default();
        let changed = world.runs.patch(&name, &params, &other);
        let refused = changed.await.unwrap_err().to_string();
        assert!(refused.contains("Invalid value"), "{refused}");
    }
}

async fn a_killed_replica_is_taken_over_and_nothing_runs_twice(mut world: World) {
    let run = world.submit("over-1", &["one", "long_two", "three"]).await;
    let first = world.replica("a");
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    holder_is(&leases, "a").await;
    let _second = world.replica("b");
    world.announce(&run).await;
    world.phase_is(&run, "Running").await;
    let journal = Journal::new(world.store.clone(), run.clone());
    let began = Instant::now();
    let claimed = |attempts: &[AttemptId]| attempts.iter().any(|a| a.step.as_str() == "long_two");
    while !claimed(&journal.list_attempts().await.unwrap()) {
        assert!(began.elapsed() < LONG, "the second step does not begin");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.pod_runs().await;
    // The one that does not drive knows where the other hears it.
    assert_eq!(
        world.leads["b"].elsewhere().as_deref(),
        Some("https://a.test:8443")
    );
    assert_eq!(world.leads["a"].elsewhere(), None);
    first.task.abort();
    holder_is(&leases, "b").await;
    // The step that runs goes on, and is stopped by the one that took over.
    cancel(world.client.clone(), &world.namespace, &run)
        .await
        .unwrap();
    world.phase_is(&run, "Canceled").await;
    let attempts = journal.list_attempts().await.unwrap();
    assert!(
        attempts.iter().all(|attempt| attempt.number == 1),
        "{attempts:?}"
    );
    let outcomes = journal.read_outcomes().await.unwrap();
    assert_eq!(outcomes[&"one".parse().unwrap()].status, Status::Completed);
}

async fn holder_is(leases: &Api<Lease>, holder: &str) {
    let began = Instant::now();
    loop {
        let lease = leases.get_opt("controller").await.unwrap();
        let found = lease.and_then(|lease| lease.spec?.holder_identity);
        if found.as_deref() == Some(holder) {
            return;
        }
        assert!(began.elapsed() < LONG, "{found:?} holds it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_replica_that_is_asked_to_go_hands_over_at_once(mut world: World) {
    let run = world.submit("hand-1", &["long"]).await;
    let first = world.replica("a");
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    holder_is(&leases, "a").await;
    world.announce(&run).await;
    world.pod_runs().await;
    first.shutdown.send_replace(true);
    let began = Instant::now();
    loop {
        let lease = leases.get("controller").await.unwrap();
        if lease.spec.unwrap().holder_identity.is_none() {
            break;
        }
        assert!(began.elapsed() < LONG, "the lease is kept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let pods = world.pods.list(&ListParams::default()).await.unwrap();
    assert_eq!(pods.items.len(), 1);
    assert_eq!(
        pods.items[0].metadata.deletion_timestamp, None,
        "its Pod goes on"
    );
    let _second = world.replica("b");
    holder_is(&leases, "b").await;
    cancel(world.client.clone(), &world.namespace, &run)
        .await
        .unwrap();
    world.phase_is(&run, "Canceled").await;
}

async fn a_resource_goes_when_its_time_has_come(mut world: World) {
    let run = world.submit("brief-1", &["one"]).await;
    let mut resource = PipelineRun::of(&run);
    resource.spec.ttl_seconds = Some(2);
    world
        .runs
        .create(&Default::default(), &resource)
        .await
        .unwrap();
    let _replica = world.replica("a");
    world.is(&run, |resource| resource.is_none()).await;
    assert_eq!(world.end(&run).await.unwrap().status, Status::Completed);
}

async fn a_resource_without_a_run_says_so_until_there_is_one(mut world: World) {
    let _replica = world.replica("a");
    let run: RunId = "late-1".parse().unwrap();
    world.announce(&run).await;
    world.phase_is(&run, "Pending").await;
    let resource = world.runs.get("late-1").await.unwrap();
    let said = &resource.status.unwrap().conditions[0].message;
    assert!(
        said.contains("the store does not hold the run late-1"),
        "{said}"
    );
    assert_eq!(world.events("CannotGoOn").await.len(), 1);
    world.submit("late-1", &["one"]).await;
    world.phase_is(&run, "Completed").await;
}
