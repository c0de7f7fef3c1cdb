//! The executor on a real cluster (`cargo xtask cluster up`): what it tells of Pods whose
//! launchers say nothing. In place of the launcher stands a shell that does what its
//! attempt's token says, so that each end of a Pod can be had.

#![expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]

mod support;

use auria_core::outcome::{Cause, EndRecord, OUTCOME_VERSION, Outcome, Status, Timings};
use auria_core::plan::{CudaPin, Environment, Network, Template};
use auria_core::resources::Resources;
use auria_core::run::AttemptNews;
use auria_core::ticket::{TICKET_VERSION, Ticket};
use auria_core::{AttemptId, Timestamp};
use auria_engine::executor::{AttemptEvent, Executor, Happened, StartError, WatchError, is_last};
use auria_engine::relay::{BrokerAccess, Wake};
use auria_kubernetes::access::{Access, Verb, Vouched};
use auria_kubernetes::compute::Compute;
use auria_kubernetes::pod::pod;
use auria_kubernetes::{Kubernetes, KubernetesOptions, Relay, pod_name};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Node, Pod, ResourceQuota, Secret, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, EvictParams, PostParams};
use kube::{Api, Client};
use libtest_mimic::{Arguments, Trial};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{IMAGE, LONG, Mended, Told, cluster, fault, launcher, load, now};

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
        kubernetes_vouches_for_callers,
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
        Ok(home) => load(home),
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
        self.executor = Self::made(
            &self.client,
            &self.namespace,
            &self.compute,
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
        let executor = Self::made(&client, &namespace, &compute, &told, &relay);
        Self {
            pods: Api::namespaced(client.clone(), &namespace),
            events: executor.watch(&run()),
            client,
            namespace,
            told,
            relay,
            compute,
            executor,
            news: Vec::new(),
        }
    }

    fn made(
        client: &Client,
        namespace: &str,
        compute: &Compute,
        told: &Arc<Told>,
        relay: &Relay,
    ) -> Kubernetes {
        let options = KubernetesOptions {
            namespace: namespace.to_owned(),
            computes: BTreeMap::new(),
            fallback: compute.clone(),
            launcher: launcher(),
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
        &world.told,
        &world.relay,
    );
    world.events = world.executor.watch(&run());
    let live = world.executor.list(&run()).await.unwrap();
    assert_eq!(live, std::slice::from_ref(&ticket.attempt));
    world.ends_with(&ticket, Cause::NodeLost).await;
}

/// A namespace that takes `pods` Pods.
async fn quota(world: &World, pods: u32) {
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    let quota =
        json!({"metadata": {"name": "small"}, "spec": {"hard": {"pods": pods.to_string()}}});
    let quota = serde_json::from_value(quota).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // Nothing is held to it before it was counted.
    let began = Instant::now();
    loop {
        let status = quotas.get("small").await.unwrap().status;
        if status.and_then(|status| status.used).is_some() {
            return;
        }
        assert!(began.elapsed() < LONG, "the quota is not counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn waits(news: &AttemptNews) -> bool {
    matches!(news, AttemptNews::Waiting { why } if why.contains("exceeded quota: small"))
}

async fn a_full_quota_is_waited_for(mut world: World) {
    quota(&world, 1).await;
    let first = world.ticket("first", "sleep 4");
    let second = world.ticket("second", "exit 0");
    world.start(&first).await;
    for _ in 0..2 {
        world.start(&second).await;
    }
    world.until(&second.attempt, waits).await;
    let live = world.executor.list(&run()).await.unwrap();
    assert_eq!(live, [first.attempt.clone(), second.attempt.clone()]);
    assert_eq!(world.last(&first.attempt).await, GONE);
    assert_eq!(world.last(&second.attempt).await, GONE);
    let told = |event: &&AttemptEvent| {
        event.attempt == second.attempt
            && matches!(&event.happened, Happened::News(news) if waits(news))
    };
    assert_eq!(
        world.news.iter().filter(told).count(),
        1,
        "{:?}",
        world.news
    );
}

async fn what_waits_for_a_quota_can_be_stopped(mut world: World) {
    quota(&world, 0).await;
    let ticket = world.ticket("step", "exit 0");
    world.start(&ticket).await;
    world.until(&ticket.attempt, waits).await;
    let grace = Duration::from_secs(1);
    world.executor.stop(&ticket.attempt, grace).await.unwrap();
    assert_eq!(world.last(&ticket.attempt).await, GONE);
    assert!(world.executor.list(&run()).await.unwrap().is_empty());
}

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

async fn each_pin_has_its_node(mut world: World) {
    // The newest that n2 takes; n1 has an older driver, n3 no GPU at all.
    let nodes: Api<Node> = Api::all(world.client.clone());
    let labels = nodes.get("n2").await.unwrap().metadata.labels.unwrap();
    let part = |part: &str| -> u32 {
        let label = format!("nvidia.com/cuda.runtime-version.{part}");
        labels[&label].parse().unwrap()
    };
    let newest = (part("major"), part("minor"));
    for (step, pin, node) in [("old", (11, 0), "n1"), ("new", newest, "n2")] {
        let mut ticket = world.ticket(step, "sleep 1");
        ticket.environment = Environment::Image {
            image: IMAGE.to_owned(),
            cuda: Some(CudaPin {
                major: pin.0,
                minor: pin.1,
                minor_compatible: false,
            }),
        };
        ticket.resources.gpus = 1;
        world.start(&ticket).await;
        world.runs(&ticket.attempt).await;
        let pod = world.pods.get(&pod_name(&ticket.attempt)).await.unwrap();
        assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some(node));
        assert_eq!(world.last(&ticket.attempt).await, GONE);
    }
}

/// The API server takes a Pod with everything in it (a dry run): the level *accepted*.
async fn every_field_is_accepted(world: World) {
    let name = format!("test-{}", world.namespace);
    let classes: Api<RuntimeClass> = Api::all(world.client.clone());
    let priorities: Api<PriorityClass> = Api::all(world.client.clone());
    let class = json!({"metadata": {"name": name}, "handler": "runc"});
    let priority = json!({"metadata": {"name": name}, "value": 7});
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    let account = json!({"metadata": {"name": "steps"}});
    let made = PostParams::default();
    classes
        .create(&made, &serde_json::from_value(class).unwrap())
        .await
        .unwrap();
    priorities
        .create(&made, &serde_json::from_value(priority).unwrap())
        .await
        .unwrap();
    accounts
        .create(&made, &serde_json::from_value(account).unwrap())
        .await
        .unwrap();
    let compute: Compute = serde_saphyr::from_str(&format!(
        "
node_selector: {{pool: gpu}}
tolerations: [{{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}}]
queue: artists
service_account: steps
priority_class: {name}
gpu_runtime_class: {name}
image_pull_secrets: [registry]
image_pull_policy: IfNotPresent
host_aliases: [{{ip: 10.88.0.1, hostnames: [weed.example]}}]
secrets: {{TOKEN: {{secret: gallery, key: token}}}}
"
    ))
    .unwrap();
    let mut ticket = ticket("everything");
    ticket.environment = Environment::Image {
        image: IMAGE.to_owned(),
        cuda: Some(CudaPin {
            major: 12,
            minor: 6,
            minor_compatible: false,
        }),
    };
    ticket.network = Network::None;
    ticket.resources = Resources {
        cpu_millis: Some(500),
        memory_bytes: Some(1 << 30),
        ephemeral_storage_bytes: Some(1 << 30),
        shm_bytes: Some(1 << 28),
        gpus: 1,
        instances: 1,
        ..Resources::default()
    };
    let broker = BrokerAccess {
        url: "https://broker.test".to_owned(),
        token: "t".to_owned(),
        authority: "a".to_owned(),
    };
    let image = "test.local/launcher:1".to_owned();
    let deliveries = [
        auria_kubernetes::pod::LauncherDelivery::InImage,
        auria_kubernetes::pod::LauncherDelivery::InitContainer {
            image: image.clone(),
        },
        auria_kubernetes::pod::LauncherDelivery::ImageVolume { image },
    ];
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut answers = Vec::new();
    for delivery in &deliveries {
        let made = pod(&ticket, &compute, &broker, delivery, None).unwrap();
        answers.push(world.pods.create(&dry, &made).await);
    }
    let mut claims = compute.clone();
    claims.gpus.claim_template = Some("one-gpu".to_owned());
    let made = pod(&ticket, &claims, &broker, &deliveries[0], None).unwrap();
    answers.push(world.pods.create(&dry, &made).await);
    let _ = classes.delete(&name, &DeleteParams::default()).await;
    let _ = priorities.delete(&name, &DeleteParams::default()).await;
    for answer in answers {
        let taken = answer.unwrap();
        assert_eq!(taken.spec.unwrap().priority, Some(7));
    }
}

/// What a process in a Pod finds: the level *ran*.
async fn a_process_sees_what_its_pod_was_given(mut world: World) {
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let secret = json!({"metadata": {"name": "gallery"}, "stringData": {"token": "given"}});
    let secret = serde_json::from_value(secret).unwrap();
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    world.compute = serde_saphyr::from_str(
        "
image_pull_policy: Never
host_aliases: [{ip: 10.9.8.7, hostnames: [weed.example]}]
secrets: {TOKEN: {secret: gallery, key: token}}
node_selector: {kubernetes.io/hostname: n3}
",
    )
    .unwrap();
    world.executor = World::made(
        &world.client,
        &world.namespace,
        &world.compute,
        &world.told,
        &world.relay,
    );
    let does = "
echo user $(id -u) $(id -g)
echo secret $TOKEN
echo alias $(grep -c 10.9.8.7.*weed.example /etc/hosts)
echo shm $(df -k /dev/shm | tail -n 1 | grep -c 65536)
echo token $(ls /var/run/secrets/kubernetes.io 2>/dev/null | grep -c .)
echo capabilities $(grep CapEff /proc/1/status)
echo privileges $(grep NoNewPrivs /proc/1/status)
echo seccomp $(grep Seccomp: /proc/1/status)
touch /x 2>/dev/null && echo root writable || echo root read-only
touch /tmp/x $HOME/x $AURIA_WORK/x && echo rest writable
echo gpus $NVIDIA_VISIBLE_DEVICES
echo node $AURIA_NODE
exit 9";
    let mut ticket = world.ticket("step", does);
    ticket.resources.shm_bytes = Some(64 << 20);
    world.start(&ticket).await;
    let message = world.ends_with(&ticket, Cause::NodeLost).await;
    let (_, said) = message.split_once("status 9: ").unwrap();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = said.trim().lines().map(words).collect();
    assert_eq!(
        lines,
        [
            "user 65532 65532",
            "secret given",
            "alias 1",
            "shm 1",
            "token 0",
            "capabilities CapEff: 0000000000000000",
            "privileges NoNewPrivs: 1",
            "seccomp Seccomp: 2",
            "root read-only",
            "rest writable",
            "gpus void",
            "node n3",
        ]
    );
}

async fn kubernetes_vouches_for_callers(world: World) {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    let roles: Api<Role> = Api::namespaced(world.client.clone(), &world.namespace);
    let bindings: Api<RoleBinding> = Api::namespaced(world.client.clone(), &world.namespace);
    let made = PostParams::default();
    for name in ["reader", "stranger"] {
        let account = json!({"metadata": {"name": name}});
        accounts
            .create(&made, &serde_json::from_value(account).unwrap())
            .await
            .unwrap();
    }
    let role = json!({"metadata": {"name": "reader"}, "rules": [
        {"apiGroups": ["pipelines.auria.dev"], "resources": ["pipelineruns"], "verbs": ["get"]}]});
    roles
        .create(&made, &serde_json::from_value(role).unwrap())
        .await
        .unwrap();
    let binding = json!({"metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": world.namespace}]});
    bindings
        .create(&made, &serde_json::from_value(binding).unwrap())
        .await
        .unwrap();
    let access = Access::new(world.client.clone(), &world.namespace, Vec::new());
    let token = async |name: &str| {
        let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
        let token = accounts
            .create_token_request(name, &made, &request)
            .await
            .unwrap();
        token.status.unwrap().token
    };
    let user = |name: &str| format!("system:serviceaccount:{}:{name}", world.namespace);
    let reader = token("reader").await;
    assert_eq!(
        access.vouch(&reader, Verb::Get).await.unwrap(),
        Vouched::Allowed {
            user: user("reader")
        }
    );
    let forbidden = Vouched::Forbidden {
        user: user("reader"),
    };
    for verb in [Verb::Create, Verb::Update, Verb::Delete] {
        assert_eq!(access.vouch(&reader, verb).await.unwrap(), forbidden);
    }
    let stranger = token("stranger").await;
    assert_eq!(
        access.vouch(&stranger, Verb::Get).await.unwrap(),
        Vouched::Forbidden {
            user: user("stranger")
        }
    );
    for nobody in ["", "not-a-token", &reader[..reader.len() - 4]] {
        assert_eq!(
            access.vouch(nobody, Verb::Get).await.unwrap(),
            Vouched::Nobody
        );
    }
}

const SLEEPS: &str = "trap 'exit 143' TERM; sleep 300 & wait";
const ON_N3: &str = "
image_pull_policy: Never
node_patience: 2s
node_selector: {kubernetes.io/hostname: n3}
";

async fn a_preempted_pod_was_preempted(mut world: World) {
    let priorities: Api<PriorityClass> = Api::all(world.client.clone());
    let name = format!("high-{}", world.namespace);
    let class = json!({"metadata": {"name": name}, "value": 1000});
    let class = serde_json::from_value(class).unwrap();
    priorities
        .create(&PostParams::default(), &class)
        .await
        .unwrap();
    world.with_compute("image_pull_policy: Never");
    // Both GPUs of its node, twice.
    let mut low = world.ticket("low", SLEEPS);
    low.resources.gpus = 2;
    world.start(&low).await;
    world.runs(&low.attempt).await;
    world.with_compute(&format!("image_pull_policy: Never\npriority_class: {name}"));
    let mut high = world.ticket("high", "sleep 1");
    high.resources.gpus = 2;
    world.start(&high).await;
    let message = world.ends_with(&low, Cause::Preempted).await;
    assert!(
        message.contains("the scheduler gave its place"),
        "{message}"
    );
    assert_eq!(world.last(&high.attempt).await, GONE);
    let _ = priorities.delete(&name, &DeleteParams::default()).await;
}

async fn a_killed_node_is_lost(mut world: World) {
    world.with_compute(ON_N3);
    let ticket = world.ticket("step", SLEEPS);
    world.start(&ticket).await;
    world.runs(&ticket.attempt).await;
    fault(&["kill-node", "n3"]);
    let _mended = Mended(&["start-node", "n3"]);
    let message = world.ends_with(&ticket, Cause::NodeLost).await;
    assert!(message.contains("its node n3 does not answer"), "{message}");
    assert!(world.executor.list(&run()).await.unwrap().is_empty());
    // Nobody but us takes its object away.
    world.pod_is(&ticket.attempt, |pod| pod.is_none()).await;
}

async fn a_node_that_is_cut_off_is_lost_and_its_ghost_ends(mut world: World) {
    world.with_compute(ON_N3);
    let ticket = world.ticket("step", SLEEPS);
    world.start(&ticket).await;
    world.runs(&ticket.attempt).await;
    {
        fault(&["cut-node", "n3"]);
        let _mended = Mended(&["join-node", "n3"]);
        world.ends_with(&ticket, Cause::NodeLost).await;
        world.pod_is(&ticket.attempt, |pod| pod.is_none()).await;
    }
    // The same number again, on the same node, while the ghost of the first is ended there.
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

async fn the_end_is_told_though_the_api_server_was_away(mut world: World) {
    let ticket = world.ticket("step", "sleep 3; exit 5");
    world.start(&ticket).await;
    world.runs(&ticket.attempt).await;
    {
        fault(&["kill", "apiserver"]);
        let _mended = Mended(&["start", "apiserver"]);
        let again = world.executor.start(&ticket).await;
        assert!(
            matches!(again, Err(StartError::Unavailable { .. })),
            "{again:?}"
        );
        assert!(world.executor.list(&run()).await.is_err());
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    world.ends_with(&ticket, Cause::NodeLost).await;
}
