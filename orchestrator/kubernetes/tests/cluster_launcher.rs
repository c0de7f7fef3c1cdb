//! The real launcher in Pods of a real cluster, before a real broker of this process: an
//! init container brings it into an image that knows nothing of it. It is the static binary
//! of `cargo xtask launcher` (`AURIA_TEST_LAUNCHER`, else `target/static/auria-launcher`).

#![expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]

mod support;

use auria_core::AttemptId;
use auria_core::outcome::{Cause, Status};
use auria_core::plan::{Environment, Network, Template, TemplatePart};
use auria_core::resources::Resources;
use auria_core::run::{AttemptNews, Phase};
use auria_core::ticket::{TICKET_VERSION, Ticket};
use auria_engine::executor::{AttemptEvent, Executor, Happened, WatchError, is_last};
use auria_kubernetes::compute::Compute;
use auria_kubernetes::pod::LauncherSource;
use auria_kubernetes::{Kubernetes, KubernetesOptions, Relay};
use auria_server::broker::{Broker, BrokerOptions};
use auria_server::tls::Authority;
use auria_server::{Listening, TokenKey};
use auria_store::{Access, Journal, Store, StoreUrl};
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::Client;
use libtest_mimic::{Arguments, Trial};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
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
    store: Store,
    listening: Listening,
    executor: Kubernetes,
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
        let compute: Compute = serde_saphyr::from_str("image_pull_policy: Never").unwrap();
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
        Self {
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
                instances: 1,
                ..Resources::default()
            },
            compute: None,
            network: Network::Default,
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
