//! `controller`: drives the runs of a namespace, and answers launchers and people. It joins
//! what `kubernetes` and `server` do; all it decides is where its keys come from.

use crate::args::{ControllerArgs, Global};
use crate::cluster::mirror::{Shown, Tells};
use crate::cluster::replicas::{Others, Telling, pass_on};
use crate::cluster::serve::{Namespace, Tokens};
use crate::config::Config;
use crate::edge;
use crate::failure::{Failure, exit};
use crate::open;
use crate::plans::Plans;
use auria_core::run::Limits;
use auria_engine::relay::TicketIssuer;
use auria_kubernetes::access::{AUDIENCE, Access};
use auria_kubernetes::compute::Compute;
use auria_kubernetes::controller::{
    self, ControllerOptions, Feeds, Leads, LeaseTiming, Mirror, Standing,
};
use auria_kubernetes::executor::{KubernetesOptions, Relay};
use auria_kubernetes::pod::LauncherSource;
use auria_server::access;
use auria_server::api::{Api, ApiOptions, Extras};
use auria_server::broker::{Broker, BrokerOptions};
use auria_server::endpoints::Endpoints;
use auria_server::schedules::Schedules;
use auria_server::tls::Authority;
use auria_server::{Listening, TokenKey, replicas};
use auria_store::Store;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The Secret with the controller's own keys, which it makes at its first start.
const KEYS: &str = "auria-controller-keys";
/// Who writes what this command writes.
const MANAGER: &str = "auria-controller";
/// The Service that launchers reach the broker at.
const BROKER: &str = "auria-broker";
/// Runs that are driven at once; others wait in their order.
const AT_ONCE: usize = 200;
/// How long requests that are being answered are waited for at the end.
const GRACE: Duration = Duration::from_secs(5);
/// How long drivers may take to leave their runs, and resources to be let go with their
/// namespace: a Pod is given 30 s.
const LEAVE: Duration = Duration::from_secs(22);

/// Serves until SIGTERM or Ctrl-C.
///
/// # Errors
/// Exit 2 where it is not told what it needs, 4 where the cluster or the store refuses.
pub async fn controller(global: &Global, args: &ControllerArgs) -> Result<u8, Failure> {
    let folder = open::current_folder()?;
    let config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::find(&folder)?,
    };
    let url = open::store_url_beside(global, &config, &folder)?;
    if let Some(path) = url.folder() {
        return Err(Failure::usage(format!(
            "the store {} is a folder: it goes with the controller's Pod",
            path.display()
        ))
        .help("set AURIA_STORE=s3://BUCKET/PREFIX (docs/install.md)"));
    }
    let namespace = crate::cluster::namespace(global, &config);
    let client = crate::cluster::client(global, &config).await?;
    let store = Store::open(&url, auria_store::Access::Write).await?;
    let keys = keys(&client, &namespace).await?;
    tell_authority(&client, &namespace, &keys.authority).await?;

    let broker_url = match &args.broker_url {
        Some(url) => url.clone(),
        None => service_url(&client, &namespace).await?,
    };
    let relay = Relay::default();
    let leads = Leads::default();
    let (telling, heard) = Telling::new(
        relay.clone(),
        leads.clone(),
        Some((client.clone(), namespace.clone())),
    );
    let replicas_token = replicas::token(&keys.tokens)
        .map_err(|error| Failure::unreachable(format!("the Secret {namespace}/{KEYS}: {error}")))?;
    let others = Others {
        token: replicas_token.clone(),
        authority: keys.authority.certificate().to_owned(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(pass_on(heard, leads.clone(), others));
    let standing = Standing::default();
    tasks.spawn(standing.clone().watch(client.clone(), namespace.clone()));
    let feeds = Feeds::default();
    let token_key = TokenKey::new(&keys.tokens)
        .map_err(|error| Failure::unreachable(format!("the Secret {namespace}/{KEYS}: {error}")))?;
    let mut options = BrokerOptions::new(
        store.clone(),
        token_key,
        broker_url.clone(),
        keys.authority.certificate().to_owned(),
        Arc::new(telling),
    );
    options.sign = !args.proxy;
    let broker = Broker::new(options);
    let tls = keys
        .authority
        .server(&names(&broker_url, &namespace))
        .map_err(|error| Failure::unreachable(format!("making a certificate: {error}")))?;
    let serve = |address: std::net::SocketAddr, router| {
        let listener = TcpListener::bind(address)
            .map_err(|error| Failure::unreachable(format!("listening on {address}: {error}")))?;
        Listening::start(listener, tls.clone(), router)
            .map_err(|error| Failure::unreachable(format!("listening on {address}: {error}")))
    };
    let fallback = fallback(&config);
    let computes: BTreeMap<String, Compute> = config
        .computes
        .iter()
        .filter(|(_, compute)| compute.target == crate::target::KUBERNETES)
        .map(|(name, compute)| (name.clone(), compute.clone()))
        .collect();
    let launcher = LauncherSource {
        image: args.launcher_image.clone(),
        // An empty beginning would be that of every name.
        carried_by: args
            .launcher_in
            .iter()
            .map(|start| start.trim().to_owned())
            .filter(|start| !start.is_empty())
            .collect(),
        image_volumes: args.image_volumes,
    };
    let runs = Arc::new(Namespace {
        client: client.clone(),
        name: namespace.clone(),
        store: store.clone(),
        launcher: launcher.clone(),
        canceling: std::sync::Mutex::default(),
        feeds: feeds.clone(),
        standing,
        computes: computes.clone(),
        fallback: fallback.clone(),
    });
    let callers = Arc::new(Tokens(Access::new(
        client.clone(),
        &namespace,
        vec![AUDIENCE.to_owned()],
    )));
    let planner = Plans::on_cluster(store.clone(), config, runs.clone());
    let mut extras = Extras::none(edge::now);
    extras.planner = Some(Arc::new(planner));
    extras.queue = Some(runs.clone());
    let api = Api::with(
        ApiOptions {
            store: store.clone(),
            sign: !args.proxy,
            store_authorities: None,
            vouch: callers.clone(),
            runs,
        },
        extras,
    );
    let access = Arc::new(access::Access::vouched(store.clone(), callers, edge::now));
    let tells = Tells::default();
    let endpoints = Endpoints::new(api.clone(), access.clone()).telling(Arc::new(tells.clone()));
    let schedules = Schedules::new(api.clone(), access).telling(Arc::new(tells.clone()));
    let shown = Arc::new(Shown {
        store: store.clone(),
        schedules: schedules.clone(),
    });
    let mirror = Mirror::new(client.clone(), &namespace, shown);
    tells.mirror(mirror.clone());
    let writes = mirror.clone();
    tasks.spawn(async move { writes.write().await });
    let beside = endpoints.routes().merge(schedules.routes());
    let router = api.router_with(beside, endpoints.published());
    let from_others = replicas::router(&replicas_token, Arc::new(relay.clone()));
    let mut broker_port = serve(args.broker_listen, broker.router().merge(from_others))?;
    let mut api_port = serve(args.api_listen, router)?;
    tracing::info!(
        broker = %broker_port.address(), api = %api_port.address(), url = broker_url, store = %url, namespace, "serves"
    );

    let (ends, shutdown) = watch::channel(false);
    let issuer: Arc<dyn TicketIssuer> = Arc::new(broker);
    let identity = edge::variable("POD_NAME")
        .unwrap_or_else(|| format!("{}-{}", edge::host(), std::process::id()));
    let options = ControllerOptions {
        identity,
        address: own_address(args.broker_listen.port()),
        leads,
        lease: crate::cluster::LEASE.to_owned(),
        timing: LeaseTiming::default(),
        at_once: AT_ONCE,
        limits: Limits::default(),
        executor: KubernetesOptions {
            namespace: namespace.clone(),
            computes,
            fallback,
            launcher,
            now: edge::now,
        },
        mirror: Some(mirror),
    };
    // Each replica has the clock of schedules: a tick is one record in the store, and fires once.
    let ticks = schedules.run(shutdown.clone());
    let drives = controller::run(client, options, store, issuer, relay, feeds, shutdown);
    let drives = async { tokio::join!(drives, ticks) };
    tokio::pin!(drives);
    let failed = tokio::select! {
        _ = &mut drives => None,
        ended = broker_port.ended() => Some(ended),
        ended = api_port.ended() => Some(ended),
        () = asked_to_end()? => None,
    };
    // Drivers leave their runs; their Pods go on, and the next controller finds them.
    let _ = ends.send(true);
    if tokio::time::timeout(LEAVE, drives).await.is_err() {
        tracing::warn!(
            "some drivers did not leave in time; the next controller takes their runs up"
        );
    }
    match failed {
        Some(ended) => Err(Failure::unreachable(format!(
            "a port that was served ended: {}",
            ended.map_or_else(
                |error| error.to_string(),
                |()| "nobody asked it to".to_owned()
            )
        ))),
        None => {
            // Cut off by the grace alone: there is nobody to tell.
            let _ = tokio::join!(broker_port.stop(GRACE), api_port.stop(GRACE));
            Ok(exit::DONE)
        }
    }
}

/// The compute of steps that name none: `default`, where config names it.
fn fallback(config: &Config) -> Compute {
    config.computes.get("default").cloned().unwrap_or_default()
}

/// Where the other replicas reach this one.
fn own_address(port: u16) -> Option<String> {
    let address = edge::variable("POD_IP")?;
    if address.contains(':') {
        return Some(format!("https://[{address}]:{port}"));
    }
    Some(format!("https://{address}:{port}"))
}

/// What the certificate is for: the broker's address, names in the cluster, and the end of a
/// port-forward.
fn names(broker_url: &str, namespace: &str) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1"].map(str::to_owned).into();
    for service in [BROKER.to_owned(), format!("{BROKER}.{namespace}.svc")] {
        names.push(service);
    }
    if let Some(host) = broker_url
        .strip_prefix("https://")
        .and_then(|rest| rest.rsplit_once(':'))
        .map(|(host, _)| host.trim_matches(['[', ']']).to_owned())
    {
        names.push(host);
    }
    names.extend(edge::variable("POD_IP"));
    names
}

/// Waits for SIGTERM or Ctrl-C.
fn asked_to_end() -> Result<impl Future<Output = ()>, Failure> {
    let open = |kind| {
        signal(kind)
            .map_err(|error| Failure::unreachable(format!("listening for signals: {error}")))
    };
    let (mut terminate, mut interrupt) = (
        open(SignalKind::terminate())?,
        open(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The controller's own keys.
struct Keys {
    tokens: Vec<u8>,
    authority: Authority,
}

/// The keys of this namespace's controllers: all replicas have the same.
async fn keys(client: &Client, namespace: &str) -> Result<Keys, Failure> {
    let secrets: kube::Api<Secret> = kube::Api::namespaced(client.clone(), namespace);
    let failed = |doing: &str, error: &dyn std::fmt::Display| {
        Failure::unreachable(format!("{doing} the Secret {namespace}/{KEYS}: {error}"))
            .help("the Role of manifests/base/controller-rights.yaml lets the controller do so")
    };
    // Twice: another replica may make it between the look and the making.
    for _ in 0..2 {
        if let Some(found) = secrets
            .get_opt(KEYS)
            .await
            .map_err(|error| failed("reading", &error))?
        {
            return read_keys(&found).map_err(|error| failed("reading", &error));
        }
        let authority = Authority::make().map_err(|error| failed("making", &error))?;
        let tokens: [u8; 32] = rand::random();
        let data = BTreeMap::from([
            ("tokens".to_owned(), ByteString(tokens.to_vec())),
            (
                "ca.crt".to_owned(),
                ByteString(authority.certificate().as_bytes().to_vec()),
            ),
            (
                "ca.key".to_owned(),
                ByteString(authority.key().into_bytes()),
            ),
        ]);
        let made = Secret {
            metadata: named(KEYS),
            data: Some(data),
            ..Secret::default()
        };
        match secrets.create(&PostParams::default(), &made).await {
            Ok(_) => eprintln!("made the Secret {namespace}/{KEYS}: the controller's own keys"),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(failed("making", &error)),
        }
    }
    Err(failed("reading", &"it comes and goes"))
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

fn read_keys(secret: &Secret) -> Result<Keys, String> {
    let field = |name: &str| {
        let data = secret.data.as_ref();
        let found = data.and_then(|data| data.get(name));
        found
            .map(|bytes| bytes.0.clone())
            .ok_or_else(|| format!("it holds no `{name}`"))
    };
    let text = |name: &str| {
        String::from_utf8(field(name)?).map_err(|_| format!("its `{name}` is no text"))
    };
    let authority = Authority::from_pem(&text("ca.crt")?, &text("ca.key")?)
        .map_err(|error| error.to_string())?;
    Ok(Keys {
        tokens: field("tokens")?,
        authority,
    })
}

/// Lets people know which certificate the API's own is signed by.
async fn tell_authority(
    client: &Client,
    namespace: &str,
    authority: &Authority,
) -> Result<(), Failure> {
    let name = crate::cluster::AUTHORITY;
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(client.clone(), namespace);
    let map = ConfigMap {
        metadata: named(name),
        data: Some(BTreeMap::from([(
            "ca.crt".to_owned(),
            authority.certificate().to_owned(),
        )])),
        ..ConfigMap::default()
    };
    maps.patch(
        name,
        &PatchParams::apply(MANAGER).force(),
        &Patch::Apply(&map),
    )
    .await
    .map(drop)
    .map_err(|error| {
        Failure::unreachable(format!("writing the ConfigMap {namespace}/{name}: {error}"))
            .help("the Role of manifests/base/controller-rights.yaml lets the controller do so")
    })
}

/// The broker's address in the cluster: by number, so that Pods need no names.
async fn service_url(client: &Client, namespace: &str) -> Result<String, Failure> {
    let services: kube::Api<Service> = kube::Api::namespaced(client.clone(), namespace);
    let found = services.get(BROKER).await.map_err(|error| {
        Failure::unreachable(format!("reading the Service {namespace}/{BROKER}: {error}"))
            .help("`kubectl apply -k manifests/` makes it; `--broker-url` names another address")
    })?;
    let spec = found.spec.unwrap_or_default();
    let address = spec.cluster_ip.filter(|address| address != "None");
    let port = spec
        .ports
        .and_then(|ports| ports.first().map(|port| port.port));
    match (address, port) {
        (Some(address), Some(port)) if address.contains(':') => {
            Ok(format!("https://[{address}]:{port}"))
        }
        (Some(address), Some(port)) => Ok(format!("https://{address}:{port}")),
        _ => Err(Failure::usage(format!(
            "the Service {namespace}/{BROKER} has no address of its own"
        ))
        .help("name one with `--broker-url https://HOST:PORT`")),
    }
}
