//! The real launcher in Pods of a real cluster, before a real broker of this process: an
//! init container brings it into an image that knows nothing of it. It is the static binary
//! of `cargo xtask launcher` (`AURIA_TEST_LAUNCHER`, else `target/static/auria-launcher`).

#![expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]

mod support;

use auria_core::distribution::Distribution;
use auria_core::outcome::{Cause, Decision, Status};
use auria_core::plan::{
    Environment, Network, PLAN_VERSION, Plan, PlanSettings, PlannedStep, RetryPolicy, Reuse,
    Template, TemplatePart,
};
use auria_core::resources::Resources;
use auria_core::run::{AttemptNews, Limits, Phase, RunState};
use auria_core::ticket::{TICKET_VERSION, Ticket};
use auria_core::{AttemptId, Timestamp};
use auria_engine::driver::{self, Driven, Driver, Observer};
use auria_engine::executor::{AttemptEvent, Executor, Happened, WatchError, is_last};
use auria_kubernetes::compute::Compute;
use auria_kubernetes::pod::LauncherSource;
use auria_kubernetes::{Kubernetes, KubernetesOptions, Relay, instance_pod_name};
use auria_server::broker::{Broker, BrokerOptions};
use auria_server::tls::Authority;
use auria_server::{Listening, TokenKey};
use auria_store::runs::{self, RUN_VERSION, RunJson, Submitter};
use auria_store::{Access, Journal, Store, StoreUrl};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, Client};
use libtest_mimic::{Arguments, Trial};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use support::{BARE, LONG, cluster, load_bare, load_launcher, now};

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        vec![$(Trial::test(stringify!($name), || {
            support::case(|client, namespace| async move {
                $name(World::new(client, namespace).await).await
            })
        })),*]
    };
}

/// The image that holds the launcher.
static LAUNCHER: OnceLock<String> = OnceLock::new();

#[expect(clippy::disallowed_methods, reason = "a program's main")]
fn launcher(home: &std::path::Path) -> Result<PathBuf, String> {
    let path = std::env::var_os("AURIA_TEST_LAUNCHER")
        .map_or_else(|| home.join("../static/auria-launcher"), PathBuf::from);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "there is no {}: `cargo xtask launcher`",
            path.display()
        ))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let found = cluster().and_then(|home| launcher(&home).map(|launcher| (home, launcher)));
    let trials: Vec<Trial> = cases![
        a_step_runs_in_an_image_without_a_launcher,
        a_stop_is_told_as_a_stop,
        what_could_not_be_told_is_left_with_the_cluster,
        two_instances_on_two_nodes_find_each_other,
        an_instance_that_is_killed_ends_its_group,
        half_a_group_is_refused_and_its_pods_go,
        a_group_that_lost_an_instance_is_tried_again,
    ]
    .into_iter()
    .map(|trial| trial.with_ignored_flag(found.is_err()))
    .collect();
    match &found {
        Ok((home, launcher)) => {
            load_bare(home);
            let _ = LAUNCHER.set(load_launcher(home, launcher));
        }
        Err(why) => eprintln!("left out: {why}"),
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

struct World {
    pods: Api<Pod>,
    store: Store,
    listening: Listening,
    executor: Arc<Kubernetes>,
    events: BoxStream<'static, Result<AttemptEvent, WatchError>>,
    heard: Vec<AttemptNews>,
    _folder: tempfile::TempDir,
}

fn attempt() -> AttemptId {
    AttemptId {
        run: "r-1".parse().unwrap(),
        step: "step".parse().unwrap(),
        number: 1,
    }
}

impl World {
    async fn new(client: Client, namespace: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = StoreUrl::Folder(folder.path().join("store"));
        let store = Store::open(&url, Access::Write).await.unwrap();
        // Pods reach this machine where they reach the cluster's API.
        let host = server().await;
        let listener = TcpListener::bind((host.as_str(), 0)).unwrap();
        let authority = Authority::make().unwrap();
        let relay = Relay::default();
        let mut options = BrokerOptions::new(
            store.clone(),
            TokenKey::new(&[42; 32]).unwrap(),
            format!("https://{}", listener.local_addr().unwrap()),
            authority.certificate().to_owned(),
            Arc::new(relay.clone()),
        );
        options.grace = Duration::from_secs(3);
        let broker = Broker::new(options);
        let tls = authority.server(&[host]).unwrap();
        let listening = Listening::start(listener, tls, broker.router()).unwrap();
        let pods = Api::namespaced(client.clone(), &namespace);
        let config = "image_pull_policy: Never\npending_timeout: 5s";
        let compute: Compute = serde_saphyr::from_str(config).unwrap();
        let options = KubernetesOptions {
            namespace,
            computes: BTreeMap::new(),
            fallback: compute,
            launcher: LauncherSource {
                image: LAUNCHER.get().cloned(),
                carried_by: Vec::new(),
                image_volumes: false,
            },
            now,
        };
        let executor = Kubernetes::new(client, options, Arc::new(broker), relay);
        let executor = Arc::new(executor);
        Self {
            pods,
            events: executor.watch(&attempt().run),
            store,
            listening,
            executor,
            heard: Vec::new(),
            _folder: folder,
        }
    }

    fn journal(&self) -> Journal {
        Journal::new(self.store.clone(), attempt().run)
    }

    /// Writes the ticket of a step with this script and starts it.
    async fn start(&self, script: &str) {
        self.start_several(script, 1, None).await;
    }

    /// The same of a step of so many instances, each of which asks for so much CPU.
    async fn start_several(&self, script: &str, instances: u32, cpu_millis: Option<u64>) {
        let text = |text: &str| TemplatePart::Text(text.to_owned());
        let ticket = Ticket {
            version: TICKET_VERSION,
            attempt: attempt(),
            claims_before: 0,
            pipeline: "test".to_owned(),
            experiment: "test".to_owned(),
            command: Template(vec![text(script)]),
            code: None,
            environment: Environment::Image {
                image: BARE.to_owned(),
                cuda: None,
            },
            variables: BTreeMap::new(),
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            resources: Resources {
                instances,
                cpu_millis,
                ..Resources::default()
            },
            compute: None,
            network: Network::Default,
            distribution: (instances > 1).then_some(Distribution::Pytorch {
                process_count_per_instance: 1,
            }),
            keep_warm: None,
            timeout_ms: None,
            grace_ms: 2_000,
            publish_grace_ms: 2_000,
            restore: None,
            key: None,
        };
        self.journal().write_ticket(&ticket).await.unwrap();
        self.executor.start(&ticket).await.unwrap();
    }

    /// The first news, and those to come, that are so.
    async fn until(&mut self, is_it: impl Fn(&AttemptNews) -> bool) -> AttemptNews {
        loop {
            if let Some(news) = self.heard.iter().find(|news| is_it(news)) {
                return news.clone();
            }
            let next = tokio::time::timeout(LONG, self.events.next()).await;
            let next = next.unwrap_or_else(|_| panic!("nothing happens: {:#?}", self.heard));
            if let Happened::News(news) = next.unwrap().unwrap().happened {
                assert!(!matches!(news, AttemptNews::Refused { .. }), "{news:?}");
                self.heard.push(news);
            }
        }
    }

    /// Waits until the Pod of an instance is as `is_it` wants it.
    async fn pod_is(&self, instance: u32, is_it: impl Fn(Option<&str>) -> bool) {
        let name = instance_pod_name(&attempt(), instance);
        let began = Instant::now();
        loop {
            let pod = self.pods.get_opt(&name).await.unwrap();
            let phase = pod
                .as_ref()
                .and_then(|pod| pod.status.as_ref()?.phase.as_deref());
            if is_it(phase) {
                return;
            }
            assert!(began.elapsed() < LONG, "{name} is {phase:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn runs(&mut self) {
        let runs = |news: &AttemptNews| {
            let phase = Phase::Running;
            *news == AttemptNews::Phase { phase } || is_last(news)
        };
        let news = self.until(runs).await;
        assert!(!is_last(&news), "{news:#?}");
    }
}

/// The address at which Pods reach this machine.
async fn server() -> String {
    let kubeconfig = kube::config::Kubeconfig::read_from(support::home().join("kubeconfig"));
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig.unwrap(), &options).await;
    config.unwrap().cluster_url.host().unwrap().to_owned()
}

async fn a_step_runs_in_an_image_without_a_launcher(mut world: World) {
    let script = "ls -ln /auria/launcher | grep -q '^-r-xr-xr-x .* auria-launcher$' && ! touch /auria/launcher/x";
    world.start(script).await;
    let last = world.until(is_last).await;
    assert!(matches!(last, AttemptNews::Committed { .. }), "{last:#?}");
    let outcome = world.journal().read_outcome(&attempt().step).await.unwrap();
    let outcome = outcome.unwrap();
    assert_eq!(outcome.status, Status::Completed, "{outcome:#?}");
    assert_eq!(outcome.attempt, Some(1));
    // The node's name, and not the Pod's.
    let node = outcome.node.unwrap_or_default();
    assert!(["n1", "n2", "n3"].contains(&node.as_str()), "{node}");
}

async fn a_stop_is_told_as_a_stop(mut world: World) {
    world.start("sleep 300").await;
    world.runs().await;
    let grace = Duration::from_secs(2);
    world.executor.stop(&attempt(), grace).await.unwrap();
    match world.until(is_last).await {
        AttemptNews::Ended { end } => assert_eq!(end.cause, Cause::Canceled, "{end:#?}"),
        other => panic!("{other:#?}"),
    }
}

async fn what_could_not_be_told_is_left_with_the_cluster(mut world: World) {
    world.start("sleep 5").await;
    world.runs().await;
    world.listening.stop(Duration::ZERO).await.unwrap();
    let last = loop {
        // Not by `until`, since the broker is moved out of the world.
        match world.events.next().await.unwrap().unwrap().happened {
            Happened::News(news) if is_last(&news) => break news,
            _ => {}
        }
    };
    let AttemptNews::Gone { end: Some(end), .. } = last else {
        panic!("{last:#?}");
    };
    let published = end
        .published
        .unwrap_or_else(|| panic!("{:?}: {}", end.cause, end.message));
    assert_eq!(published.status, Status::Completed);
    assert_eq!(published.nonce, end.nonce);
}

/// More than half of a node of the test cluster: two of them are on two nodes.
const MOST_OF_A_NODE: Option<u64> = Some(1_100);

async fn two_instances_on_two_nodes_find_each_other(mut world: World) {
    let script = "[ $WORLD_SIZE = 2 ] || exit 8
        if [ $RANK = 0 ]; then heard=$(nc -l -p $MASTER_PORT); echo heard $heard; [ \"$heard\" = hello ]
        else until echo hello | nc $MASTER_ADDR $MASTER_PORT; do sleep 0.2; done; fi";
    world.start_several(script, 2, MOST_OF_A_NODE).await;
    let last = world.until(is_last).await;
    let AttemptNews::Ended { end } = last else {
        panic!("{last:#?}");
    };
    let published = end.published.unwrap_or_else(|| panic!("{}", end.message));
    assert_eq!(published.status, Status::Completed);
    let nonce = published.nonce.unwrap();
    let mut nodes = Vec::new();
    for rank in [0, 1] {
        let path = auria_store::layout::member_end(&attempt(), &nonce, rank);
        let ended: Option<auria_core::outcome::MemberEnd> =
            world.store.read_json(&path).await.unwrap();
        nodes.push(ended.unwrap().node.unwrap());
    }
    assert_ne!(nodes[0], nodes[1], "they were on two nodes");
    // Nothing of them is left.
    for instance in [0, 1] {
        world.pod_is(instance, |phase| phase.is_none()).await;
    }
}

async fn an_instance_that_is_killed_ends_its_group(mut world: World) {
    world.start_several("echo up; sleep 300", 2, None).await;
    world.runs().await;
    world.pod_is(1, |phase| phase == Some("Running")).await;
    // As from one instant to the next: its launcher says nothing any more.
    let name = instance_pod_name(&attempt(), 1);
    let now = DeleteParams::default().grace_period(0);
    world.pods.delete(&name, &now).await.unwrap();
    let end = match world.until(is_last).await {
        AttemptNews::Gone { end: Some(end), .. } | AttemptNews::Ended { end } => end,
        other => panic!("{other:#?}"),
    };
    assert_eq!(end.cause, Cause::Evicted, "{}", end.message);
    assert!(end.message.contains("instance 1"), "{}", end.message);
    // The driver writes the end; the other instance is stopped.
    world.journal().write_end(&end).await.unwrap();
    world.pod_is(0, |phase| phase != Some("Running")).await;
    let stands = world.journal().read_end(&attempt()).await.unwrap();
    assert_eq!(stands.unwrap().cause, Cause::Evicted);
}

async fn half_a_group_is_refused_and_its_pods_go(mut world: World) {
    // There are three nodes.
    world.start_several("true", 4, MOST_OF_A_NODE).await;
    let refused = loop {
        let next = tokio::time::timeout(LONG, world.events.next()).await;
        match next.unwrap().unwrap().unwrap().happened {
            Happened::News(AttemptNews::Refused { message }) => break message,
            Happened::News(news) => assert!(!is_last(&news), "{news:#?}"),
            Happened::Log(lines) => panic!("one has begun: {lines:?}"),
        }
    };
    assert!(refused.contains("of 4"), "{refused}");
    assert!(refused.contains("Insufficient cpu"), "{refused}");
    for instance in 0..4 {
        world.pod_is(instance, |phase| phase.is_none()).await;
    }
    let claim = world.journal().read_claim(&attempt()).await.unwrap();
    assert_eq!(claim, None);
}

/// Watches nothing.
struct Nobody;

impl Observer for Nobody {
    fn changed(&mut self, _state: &RunState, _now: Timestamp) {}
    fn line(&mut self, _attempt: &AttemptId, _line: &str) {}
}

async fn a_group_that_lost_an_instance_is_tried_again(world: World) {
    let script = "[ $AURIA_ATTEMPT = 1 ] && sleep 300; echo $RANK of $WORLD_SIZE";
    let step = PlannedStep {
        path: attempt().step,
        display_name: None,
        command: Template(vec![TemplatePart::Text(script.to_owned())]),
        code: None,
        environment: Environment::Image {
            image: BARE.to_owned(),
            cuda: None,
        },
        variables: BTreeMap::new(),
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        after: BTreeSet::new(),
        resources: Resources {
            instances: 2,
            ..Resources::default()
        },
        keep_warm: None,
        distribution: Some(Distribution::Pytorch {
            process_count_per_instance: 1,
        }),
        timeout_ms: None,
        grace_ms: 2_000,
        // None for what the step itself does.
        retry: RetryPolicy {
            exit: 0,
            ..RetryPolicy::default()
        },
        reuse: Reuse::NotDeterministic,
        compute: None,
        network: Network::Default,
    };
    let plan = Arc::new(Plan {
        version: PLAN_VERSION,
        pipeline: "test".to_owned(),
        display_name: None,
        experiment: "test".to_owned(),
        settings: PlanSettings::default(),
        inputs: BTreeMap::new(),
        steps: vec![step],
        outputs: BTreeMap::new(),
    });
    let record = RunJson {
        version: RUN_VERSION,
        run: attempt().run,
        nonce: driver::nonce(),
        state: runs::RunState::Ready,
        created: now(),
        by: Submitter::default(),
        target: "kubernetes".to_owned(),
        parameters: BTreeMap::new(),
        snapshots: BTreeSet::new(),
        sources: BTreeMap::new(),
        retry_of: None,
        plan: plan.clone(),
    };
    runs::create(&world.store, &record).await.unwrap();
    let driver = Driver {
        run: attempt().run,
        plan,
        store: world.store.clone(),
        executor: world.executor.clone(),
        limits: Limits::default(),
        name: "test".to_owned(),
        now,
    };
    let (_control, asked) = tokio::sync::mpsc::channel(1);
    let mut nobody = Nobody;
    let breaks = async {
        // Once its command runs, one of its Pods is lost.
        let began = Instant::now();
        while world
            .journal()
            .read_claim(&attempt())
            .await
            .unwrap()
            .is_none()
        {
            assert!(began.elapsed() < LONG, "it does not begin");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let name = instance_pod_name(&attempt(), 1);
        let params = DeleteParams::default().grace_period(0);
        world.pods.delete(&name, &params).await.unwrap();
    };
    let driven = async { driver.drive(None, asked, &mut nobody).await };
    let (driven, ()) = futures::join!(driven, breaks);
    match driven {
        Ok(Driven::Ended(end)) => assert_eq!(end.status, Status::Completed, "{end:#?}"),
        other => panic!("{other:#?}"),
    }
    let outcome = world.journal().read_outcome(&attempt().step).await.unwrap();
    let outcome = outcome.unwrap();
    assert_eq!((outcome.attempt, outcome.attempts), (Some(2), 2));
    let log = world.journal().whole_log().await.unwrap();
    let causes: Vec<Cause> = log
        .iter()
        .filter_map(|record| match &record.decision {
            Decision::Granted { cause, .. } => Some(*cause),
            _ => None,
        })
        .collect();
    assert_eq!(causes, [Cause::Evicted]);
}
