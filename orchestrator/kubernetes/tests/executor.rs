//! The executor on a real cluster (`cargo xtask cluster up`): what it tells of Pods whose
//! launchers say nothing. In place of the launcher stands a shell that does what its
//! attempt's token says, so that each end of a Pod can be had.

#![expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]

#[path = "executor/breaking.rs"]
mod breaking;
#[path = "executor/fields.rs"]
mod fields;
mod support;
#[path = "executor/waits.rs"]
mod waits;

use breaking::*;
use fields::*;
use waits::*;

use auria_core::outcome::{Cause, EndRecord, OUTCOME_VERSION, Outcome, Status, Timings};
use auria_core::plan::{CudaPin, Environment, Network, Template};
use auria_core::resources::Resources;
use auria_core::run::AttemptNews;
use auria_core::ticket::{TICKET_VERSION, Ticket};
use auria_core::{AttemptId, Timestamp};
use auria_engine::executor::{AttemptEvent, Executor, Happened, StartError, WatchError, is_last};
use auria_engine::relay::{BrokerAccess, Wake};
use auria_kubernetes::compute::Compute;
use auria_kubernetes::pod::{LauncherSource, pod};
use auria_kubernetes::{Kubernetes, KubernetesOptions, Relay, pod_name};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Node, Pod, ResourceQuota, Secret, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, EvictParams, PostParams};
use kube::{Api, Client};
use libtest_mimic::{Arguments, Trial};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{BARE, IMAGE, LONG, Mended, Told, cluster, fault, launcher, load, load_bare, now};

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        vec![$(Trial::test(stringify!($name), || {
            support::case(|client, namespace| async move {
                $name(World::new(client, namespace)).await
            })
        })),*]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let home = cluster();
    let trials: Vec<Trial> = cases![
        starting_twice_is_one_pod_and_its_end_is_told,
        the_launchers_word_comes_first_and_its_pod_goes,
        memory_that_runs_out_is_told,
        an_image_that_is_not_there_is_told,
        what_no_node_takes_is_refused_with_the_schedulers_words,
        a_deleted_pod_was_evicted,
        an_evicted_pod_was_evicted,
        stopping_is_no_eviction,
        stopping_what_never_was,
        a_launcher_that_dies_is_told_with_its_words,
        what_the_cluster_does_not_take_is_refused,
        another_executor_finds_what_runs,
        a_full_quota_is_waited_for,
        what_waits_for_a_quota_can_be_stopped,
        what_a_launcher_left_for_the_cluster_is_passed_on,
        each_pin_has_its_node,
        every_field_is_accepted,
        a_process_sees_what_its_pod_was_given,
        a_compute_has_no_more_pods_than_it_may,
        what_a_node_has_and_does_not_start_is_tried_elsewhere,
        an_init_container_that_fails_is_no_lost_node,
    ]
    .into_iter()
    .map(|trial| trial.with_ignored_flag(home.is_err()))
    .collect();
    // What breaks the cluster or takes places away comes after the others.
    let breaking: Vec<Trial> = cases![
        a_preempted_pod_was_preempted,
        a_killed_node_is_lost,
        a_node_that_is_cut_off_is_lost_and_its_ghost_ends,
        the_end_is_told_though_the_api_server_was_away,
    ]
    .into_iter()
    .map(|trial| trial.with_ignored_flag(home.is_err()))
    .collect();
    match &home {
        Ok(home) => {
            load(home);
            load_bare(home);
        }
        Err(why) => eprintln!("left out: {why}"),
    }
    let first = libtest_mimic::run(&arguments, trials);
    if first.has_failed() || arguments.list {
        return first.exit_code();
    }
    let one_by_one = Arguments {
        test_threads: Some(1),
        ..arguments
    };
    libtest_mimic::run(&one_by_one, breaking).exit_code()
}

struct World {
    client: Client,
    namespace: String,
    pods: Api<Pod>,
    told: Arc<Told>,
    relay: Relay,
    compute: Compute,
    launcher: LauncherSource,
    executor: Kubernetes,
    events: BoxStream<'static, Result<AttemptEvent, WatchError>>,
    news: Vec<AttemptEvent>,
}

fn run() -> auria_core::RunId {
    "r-1".parse().unwrap()
}

impl World {
    /// From now on with another compute.
    fn with_compute(&mut self, text: &str) {
        self.compute = serde_saphyr::from_str(text).unwrap();
        self.anew();
    }

    /// From now on with another executor.
    fn anew(&mut self) {
        self.executor = Self::made(
            &self.client,
            &self.namespace,
            &self.compute,
            &self.launcher,
            &self.told,
            &self.relay,
        );
    }

    fn new(client: Client, namespace: String) -> Self {
        let (told, relay) = (Arc::new(Told::default()), Relay::default());
        let compute: Compute = serde_saphyr::from_str(
            "image_pull_policy: Never\nimage_patience: 3s\npending_timeout: 3s",
        )
        .unwrap();
        let launcher = launcher();
        let executor = Self::made(&client, &namespace, &compute, &launcher, &told, &relay);
        Self {
            pods: Api::namespaced(client.clone(), &namespace),
            events: executor.watch(&run()),
            client,
            namespace,
            told,
            relay,
            compute,
            launcher,
            executor,
            news: Vec::new(),
        }
    }

    fn made(
        client: &Client,
        namespace: &str,
        compute: &Compute,
        launcher: &LauncherSource,
        told: &Arc<Told>,
        relay: &Relay,
    ) -> Kubernetes {
        let options = KubernetesOptions {
            namespace: namespace.to_owned(),
            computes: BTreeMap::new(),
            fallback: compute.clone(),
            launcher: launcher.clone(),
            now,
        };
        Kubernetes::new(client.clone(), options, told.clone(), relay.clone())
    }

    fn ticket(&self, step: &str, does: &str) -> Ticket {
        let ticket = ticket(step);
        let mut told = self.told.0.lock().unwrap();
        told.insert(ticket.attempt.clone(), does.to_owned());
        ticket
    }

    async fn start(&self, ticket: &Ticket) {
        self.executor.start(ticket).await.unwrap();
    }

    /// The last news of an attempt.
    async fn last(&mut self, attempt: &AttemptId) -> AttemptNews {
        self.until(attempt, is_last).await
    }

    async fn until(
        &mut self,
        attempt: &AttemptId,
        is_it: impl Fn(&AttemptNews) -> bool,
    ) -> AttemptNews {
        loop {
            let found = self.news.iter().find_map(|event| match &event.happened {
                Happened::News(news) if event.attempt == *attempt && is_it(news) => {
                    Some(news.clone())
                }
                _ => None,
            });
            if let Some(news) = found {
                return news;
            }
            let next = tokio::time::timeout(LONG, self.events.next()).await;
            let next = next.unwrap_or_else(|_| panic!("nothing happens: {:#?}", self.news));
            self.news.push(next.unwrap().unwrap());
        }
    }

    async fn ends_with(&mut self, ticket: &Ticket, cause: Cause) -> String {
        match self.last(&ticket.attempt).await {
            AttemptNews::Gone {
                claim: None,
                end: Some(end),
                checkpoint: None,
            } => {
                assert_eq!(end.cause, cause, "{}", end.message);
                end.message
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the Pod of an attempt is as `is_it` wants it.
    async fn pod_is(&self, attempt: &AttemptId, is_it: impl Fn(Option<&Pod>) -> bool) {
        let began = Instant::now();
        loop {
            let pod = self.pods.get_opt(&pod_name(attempt)).await.unwrap();
            if is_it(pod.as_ref()) {
                return;
            }
            assert!(began.elapsed() < LONG, "{pod:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn runs(&self, attempt: &AttemptId) {
        self.pod_is(attempt, |pod| phase(pod) == Some("Running"))
            .await;
    }
}

fn phase(pod: Option<&Pod>) -> Option<&str> {
    pod?.status.as_ref()?.phase.as_deref()
}

fn ticket(step: &str) -> Ticket {
    Ticket {
        version: TICKET_VERSION,
        attempt: AttemptId {
            run: run(),
            step: step.parse().unwrap(),
            number: 1,
        },
        claims_before: 0,
        pipeline: "test".to_owned(),
        experiment: "test".to_owned(),
        command: Template::default(),
        code: None,
        environment: Environment::Image {
            image: IMAGE.to_owned(),
            cuda: None,
        },
        variables: BTreeMap::new(),
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
        grace_ms: 1_000,
        publish_grace_ms: 1_000,
        restore: None,
        key: None,
    }
}

const GONE: AttemptNews = AttemptNews::Gone {
    claim: None,
    end: None,
    checkpoint: None,
};

async fn starting_twice_is_one_pod_and_its_end_is_told(mut world: World) {
    let ticket = world.ticket("step", "sleep 2");
    world.start(&ticket).await;
    world.start(&ticket).await;
    let live = world.executor.list(&run()).await.unwrap();
    assert_eq!(live, std::slice::from_ref(&ticket.attempt));
    assert_eq!(world.last(&ticket.attempt).await, GONE);
    assert!(world.executor.list(&run()).await.unwrap().is_empty());
    // It ended well: it is no use any more.
    world.pod_is(&ticket.attempt, |pod| pod.is_none()).await;
}

async fn the_launchers_word_comes_first_and_its_pod_goes(mut world: World) {
    let ticket = world.ticket("step", "sleep 3");
    world.start(&ticket).await;
    world.runs(&ticket.attempt).await;
    world.relay.tell(AttemptEvent {
        attempt: ticket.attempt.clone(),
        happened: Happened::News(AttemptNews::ClaimLost),
    });
    assert_eq!(world.last(&ticket.attempt).await, AttemptNews::ClaimLost);
    world.pod_is(&ticket.attempt, |pod| pod.is_none()).await;
    // Nothing follows the last word.
    let more = tokio::time::timeout(Duration::from_secs(2), world.events.next()).await;
    assert!(more.is_err(), "{more:?}");
}

async fn memory_that_runs_out_is_told(mut world: World) {
    let mut ticket = world.ticket("step", "exec tail /dev/zero");
    ticket.resources.memory_bytes = Some(32 << 20);
    world.start(&ticket).await;
    world.ends_with(&ticket, Cause::OutOfMemory).await;
    // It stays to be looked at, and does not live.
    assert!(world.executor.list(&run()).await.unwrap().is_empty());
    world
        .pod_is(&ticket.attempt, |pod| phase(pod) == Some("Failed"))
        .await;
}

async fn an_image_that_is_not_there_is_told(mut world: World) {
    let mut ticket = world.ticket("step", "true");
    ticket.environment = Environment::Image {
        image: "test.local/none:1".to_owned(),
        cuda: None,
    };
    world.start(&ticket).await;
    let message = world.ends_with(&ticket, Cause::Image).await;
    assert!(message.contains("test.local/none:1"), "{message}");
    world.pod_is(&ticket.attempt, |pod| pod.is_none()).await;
}

async fn what_no_node_takes_is_refused_with_the_schedulers_words(mut world: World) {
    world.compute.node_selector = BTreeMap::from([("nowhere".to_owned(), "true".to_owned())]);
    world.executor = World::made(
        &world.client,
        &world.namespace,
        &world.compute,
        &world.launcher,
        &world.told,
        &world.relay,
    );
    let ticket = world.ticket("step", "true");
    world.start(&ticket).await;
    let waits = |news: &AttemptNews| matches!(news, AttemptNews::Waiting { .. });
    let AttemptNews::Waiting { why } = world.until(&ticket.attempt, waits).await else {
        panic!()
    };
    assert!(
        why.contains("didn't match Pod's node affinity/selector"),
        "{why}"
    );
    let AttemptNews::Refused { message } = world.last(&ticket.attempt).await else {
        panic!()
    };
    assert!(message.contains(&why), "{message}");
    world.pod_is(&ticket.attempt, |pod| pod.is_none()).await;
}

async fn a_deleted_pod_was_evicted(mut world: World) {
    let ticket = world.ticket("step", "trap 'exit 143' TERM; sleep 300 & wait");
    world.start(&ticket).await;
    world.runs(&ticket.attempt).await;
    let name = pod_name(&ticket.attempt);
    world
        .pods
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    let message = world.ends_with(&ticket, Cause::Evicted).await;
    assert!(message.contains("deleted"), "{message}");
}

async fn an_evicted_pod_was_evicted(mut world: World) {
    let ticket = world.ticket("step", "trap 'exit 143' TERM; sleep 300 & wait");
    world.start(&ticket).await;
    world.runs(&ticket.attempt).await;
    let name = pod_name(&ticket.attempt);
    world
        .pods
        .evict(&name, &EvictParams::default())
        .await
        .unwrap();
    let message = world.ends_with(&ticket, Cause::Evicted).await;
    assert!(message.contains("evicted"), "{message}");
}

async fn stopping_is_no_eviction(mut world: World) {
    let ticket = world.ticket("step", "trap 'exit 143' TERM; sleep 300 & wait");
    world.start(&ticket).await;
    world.runs(&ticket.attempt).await;
    for _ in 0..2 {
        world
            .executor
            .stop(&ticket.attempt, Duration::ZERO)
            .await
            .unwrap();
    }
    assert_eq!(world.last(&ticket.attempt).await, GONE);
}

async fn stopping_what_never_was(mut world: World) {
    let ticket = world.ticket("step", "true");
    world
        .executor
        .stop(&ticket.attempt, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(world.last(&ticket.attempt).await, GONE);
}

async fn a_launcher_that_dies_is_told_with_its_words(mut world: World) {
    let ticket = world.ticket("step", "echo cannot go on >&2; exit 70");
    world.start(&ticket).await;
    let message = world.ends_with(&ticket, Cause::NodeLost).await;
    assert!(message.contains("status 70: cannot go on"), "{message}");
    // The same number again: what is left of the first makes room.
    world
        .told
        .0
        .lock()
        .unwrap()
        .insert(ticket.attempt.clone(), "exit 0".to_owned());
    world.news.clear();
    world.start(&ticket).await;
    assert_eq!(world.last(&ticket.attempt).await, GONE);
}

async fn what_the_cluster_does_not_take_is_refused(mut world: World) {
    world.compute.priority_class = Some("no-such-class".to_owned());
    world.executor = World::made(
        &world.client,
        &world.namespace,
        &world.compute,
        &world.launcher,
        &world.told,
        &world.relay,
    );
    let ticket = world.ticket("step", "true");
    match world.executor.start(&ticket).await {
        Err(StartError::Refused { message }) => {
            assert!(message.contains("no-such-class"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

async fn another_executor_finds_what_runs(mut world: World) {
    let ticket = world.ticket("step", "sleep 4; exit 3");
    world.start(&ticket).await;
    world.runs(&ticket.attempt).await;
    world.relay = Relay::default();
    world.executor = World::made(
        &world.client,
        &world.namespace,
        &world.compute,
        &world.launcher,
        &world.told,
        &world.relay,
    );
    world.events = world.executor.watch(&run());
    let live = world.executor.list(&run()).await.unwrap();
    assert_eq!(live, std::slice::from_ref(&ticket.attempt));
    world.ends_with(&ticket, Cause::NodeLost).await;
}

/// A namespace that takes `pods` Pods.
/// A launcher whose broker was away to the end says in its container's termination message
/// what it did: nobody else knows of what it published.
async fn what_a_launcher_left_for_the_cluster_is_passed_on(mut world: World) {
    let (attempt, nonce) = (ticket("step").attempt, auria_engine::driver::nonce());
    let outcome = Outcome {
        version: OUTCOME_VERSION,
        run: attempt.run.clone(),
        step: attempt.step.clone(),
        status: Status::Completed,
        attempt: Some(1),
        nonce: Some(nonce.clone()),
        attempts: 1,
        cause: None,
        exit_code: Some(0),
        message: None,
        outputs: BTreeMap::new(),
        reused_from: None,
        key: None,
        timings: Timings::default(),
        last_lines: Vec::new(),
        node: None,
        started: None,
        ended: Timestamp(1),
    };
    let left = AttemptNews::Gone {
        claim: None,
        end: Some(EndRecord {
            attempt,
            nonce: Some(nonce),
            cause: Cause::NodeLost,
            exit_code: Some(0),
            message: "published, not committed".to_owned(),
            last_lines: Vec::new(),
            timings: Timings::default(),
            checkpoint: None,
            published: Some(Box::new(outcome)),
            node: None,
            started: None,
            ended: Timestamp(1),
        }),
        checkpoint: None,
    };
    let text = auria_core::last_word::seal("1/session/test", &left).unwrap();
    let does = format!("echo '{text}' > /dev/termination-log; exit 70");
    let ticket = world.ticket("step", &does);
    world.start(&ticket).await;
    assert_eq!(world.last(&ticket.attempt).await, left);
    // A step may write there, too.
    let forged = serde_json::to_string(&left).unwrap();
    let does = format!("echo '{forged}' > /dev/termination-log; exit 70");
    let ticket = world.ticket("forger", &does);
    world.start(&ticket).await;
    match world.last(&ticket.attempt).await {
        AttemptNews::Gone { end: Some(end), .. } => assert_eq!(end.published, None),
        other => panic!("{other:?}"),
    }
}
