//! The executor on a real cluster (`cargo xtask cluster up`): what it tells of Pods whose
//! launchers say nothing. In place of the launcher stands a shell that does what its
//! attempt's token says, so that each end of a Pod can be had.

use auria_core::outcome::Cause;
use auria_core::plan::{CudaPin, Environment, Network, Template};
use auria_core::resources::Resources;
use auria_core::run::AttemptNews;
use auria_core::ticket::{TICKET_VERSION, Ticket};
use auria_core::{AttemptId, Timestamp};
use auria_engine::executor::{AttemptEvent, Executor, Happened, StartError, WatchError, is_last};
use auria_engine::relay::{BrokerAccess, TicketIssuer, Wake};
use auria_kubernetes::compute::Compute;
use auria_kubernetes::pod::{LauncherSource, pod};
use auria_kubernetes::{Kubernetes, KubernetesOptions, Relay, pod_name};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, EvictParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// No case waits longer for one thing, also on a busy machine.
const LONG: Duration = Duration::from_secs(90);
/// A shell that does what its token says.
const IMAGE: &str = "test.local/told:1";

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        vec![$(Trial::test(stringify!($name), || case($name))),*]
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
        each_pin_has_its_node,
        every_field_is_accepted,
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

/// `target/cluster` of the project, where a cluster runs.
#[expect(clippy::disallowed_methods, reason = "a program's main")]
fn cluster() -> Result<PathBuf, String> {
    let home = std::env::var_os("AURIA_TEST_CLUSTER").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cluster"),
        PathBuf::from,
    );
    let kubectl = Command::new(home.join("bin/kubectl"))
        .args(["--kubeconfig".as_ref(), home.join("kubeconfig").as_os_str()])
        .args(["get", "--raw", "/readyz", "--request-timeout=5s"])
        .output();
    match kubectl {
        Ok(done) if done.status.success() => Ok(home),
        _ => Err("there is no test cluster: `cargo xtask cluster up`".to_owned()),
    }
}

/// Puts the image of these tests onto the cluster's nodes.
#[expect(clippy::disallowed_methods, reason = "a program's main")]
fn load(home: &Path) {
    let xtask = std::env::var_os("AURIA_TEST_XTASK")
        .map_or_else(|| home.join("../debug/xtask"), PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("told.tar");
    told_image(&archive);
    let done = Command::new(xtask)
        .args(["cluster".as_ref(), "load".as_ref(), archive.as_os_str()])
        .status()
        .expect("xtask is there");
    assert!(done.success(), "the image is not loaded");
}

/// A docker archive: busybox, and a launcher that is a script.
fn told_image(archive: &Path) {
    let append = |tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    let busybox = std::fs::read("/bin/busybox")
        .or_else(|_| std::fs::read("/usr/bin/busybox"))
        .expect("there is busybox");
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "bin/busybox", 0o755, &busybox);
    for name in ["sh", "sleep", "tail", "echo", "cat", "kill"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer
            .append_link(&mut header, format!("bin/{name}"), "/bin/busybox")
            .unwrap();
    }
    let script = b"#!/bin/sh\nexec /bin/sh -c \"$AURIA_BROKER_TOKEN\"\n";
    append(&mut layer, "auria/bin/auria-launcher", 0o755, script);
    let layer = layer.into_inner().unwrap();
    let digest = sha256(&layer);
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    })
    .to_string();
    let name = format!("{}.json", sha256(config.as_bytes()));
    let manifest = json!([{"Config": name, "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    let mut image = tar::Builder::new(Vec::new());
    append(&mut image, "layer.tar", 0o644, &layer);
    append(&mut image, &name, 0o644, config.as_bytes());
    append(
        &mut image,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    );
    std::fs::write(archive, image.into_inner().unwrap()).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn case<F: Future<Output = ()>>(case: fn(World) -> F) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let world = World::new().await;
        let (client, namespace) = (world.client.clone(), world.namespace.clone());
        let done = tokio::task::LocalSet::new();
        let ended = done
            .run_until(async move {
                use futures::FutureExt as _;
                std::panic::AssertUnwindSafe(case(world))
                    .catch_unwind()
                    .await
            })
            .await;
        let namespaces: Api<Namespace> = Api::all(client);
        let _ = namespaces
            .delete(&namespace, &DeleteParams::default())
            .await;
        ended.map_err(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Failed::from(said.unwrap_or_default())
        })
    })
}

/// Hands out what a test wants done as the token.
#[derive(Default)]
struct Told(Mutex<BTreeMap<AttemptId, String>>);

impl TicketIssuer for Told {
    fn issue(&self, attempt: &AttemptId) -> BrokerAccess {
        BrokerAccess {
            url: "https://broker.test".to_owned(),
            token: self.0.lock().unwrap()[attempt].clone(),
            authority: "none".to_owned(),
        }
    }
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

fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "a test's clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

fn run() -> auria_core::RunId {
    "r-1".parse().unwrap()
}

impl World {
    async fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let home = cluster().unwrap();
        let kubeconfig = Kubeconfig::read_from(home.join("kubeconfig")).unwrap();
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .unwrap();
        let client = Client::try_from(config).unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("executor-{}-{number}", std::process::id());
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        namespaces
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
        let began = Instant::now();
        while accounts.get_opt("default").await.unwrap().is_none() {
            assert!(began.elapsed() < LONG, "no service account");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
            launcher: LauncherSource {
                image: None,
                carried_by: vec!["test.local/".to_owned()],
                image_volumes: false,
            },
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
    let ticket = world.ticket("step", "sleep 300");
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
    let ticket = world.ticket("step", "sleep 300");
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
    let ticket = world.ticket("step", "sleep 300");
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

async fn each_pin_has_its_node(mut world: World) {
    // What `cargo xtask cluster up` gives its nodes: V100 with CUDA 11.8, H100 with 12.8, none.
    for (step, pin, node) in [("old", (11, 0), "n1"), ("new", (12, 6), "n2")] {
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
