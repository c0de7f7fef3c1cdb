//! A cluster as the command line sees it: with a kubeconfig alone it finds the controller,
//! reaches its API through the API server, and opens the store behind it, so that every
//! command works as it does on this machine. Credentials of the store never come here.

mod forward;
pub mod serve;

use crate::args::{Global, OutputFormat};
use crate::config::Config;
use crate::drive;
use crate::edge;
use crate::failure::{Failure, exit};
use crate::print;
use crate::progress::Progress;
use auria_core::outcome::Status;
use auria_core::plan::Plan;
use auria_core::protocol::API;
use auria_core::run::RunChange;
use auria_store::remote::{Remote, RemoteOptions};
use auria_store::runs::RunJson;
use auria_store::{Journal, Store};
use futures::StreamExt;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::config::KubeConfigOptions;
use kube::{Api, Client};
use secrecy::ExposeSecret;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Where the controller is looked for, unless something else is said.
const NAMESPACE: &str = "auria";
/// The label of the controller's Pods.
const CONTROLLER: &str = "app.kubernetes.io/name=auria-controller";
/// The Lease that the one which drives holds: its holder is the Pod's name.
const LEASE: &str = "auria-controller";
/// The port of the API.
const PORT: u16 = 8444;
/// Whose token opens the API, where the kubeconfig holds none.
const USER: &str = "auria-user";
/// Holds the certificate that the API's own is signed by, as `ca.crt`.
pub const AUTHORITY: &str = "auria-controller-ca";
/// How long a controller may take to begin to lead.
const LEADS: Duration = Duration::from_secs(20);

/// Before a run is asked for again that nobody drives, times the number of tries.
const AGAIN: Duration = Duration::from_millis(200);
/// After so many tries in a row that lead nowhere it is said.
const SILENT: u32 = 5;
/// After so many it is given up.
const MOST: u32 = 300;

/// Whether a command means a cluster.
pub fn is_meant(global: &Global, config: &Config) -> bool {
    if crate::server::said(global, config).is_some() {
        return true;
    }
    let said = global
        .on
        .clone()
        .or_else(|| edge::variable("AURIA_TARGET"))
        .or_else(|| config.target.clone());
    said.is_some_and(|said| {
        let target = config.computes.get(&said).map(|compute| &compute.target);
        target.unwrap_or(&said) == "kubernetes"
    })
}

/// A controller that answers.
#[derive(Clone)]
pub struct Controller {
    /// The way to its API.
    pub remote: Remote,
    /// The store behind it.
    pub store: Store,
    /// Where it is, for people.
    pub name: String,
    /// The computes that it knows.
    pub computes: Vec<String>,
    /// How it was found.
    asked: Arc<(Global, Config)>,
}

/// Finds the controller and opens the store behind it.
///
/// # Errors
/// Exit 4 where the cluster or the controller cannot be reached, or refuses.
pub async fn controller(global: &Global, config: &Config) -> Result<Controller, Failure> {
    if let Some(url) = crate::server::said(global, config) {
        return crate::server::connect(&url, global, config).await;
    }
    let (client, token) = connect(global, config).await?;
    let namespace = namespace(global, config);
    let pod = leader(&client, &namespace).await?;
    let token = match token {
        Some(token) => token,
        None => user_token(&client, &namespace).await?,
    };
    let authority = authority(&client, &namespace).await?;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let address = forward::begin(pods, pod.clone(), PORT)
        .await
        .map_err(|error| {
            Failure::unreachable(format!("opening a port of this machine: {error}"))
        })?;
    let remote = Remote::new(&RemoteOptions {
        // The certificate is for this address too.
        url: format!("https://{address}"),
        base: API,
        token,
        authority: Some(authority),
    })?;
    let name = format!("the controller {namespace}/{pod}");
    let facts = remote.facts().await.map_err(|error| {
        let failure = Failure::unreachable(format!("asking {name}: {error}"));
        failure.help(format!(
            "`kubectl --namespace {namespace} logs {pod}` may say more; who may use it is said by the Role auria-user"
        ))
    })?;
    let store = remote.store(&facts.store)?;
    Ok(Controller {
        remote,
        store,
        name,
        computes: facts.computes,
        asked: Arc::new((global.clone(), config.clone())),
    })
}

/// Where the controller is.
pub fn namespace(global: &Global, config: &Config) -> String {
    global
        .namespace
        .clone()
        .or_else(|| edge::variable("AURIA_NAMESPACE"))
        .or_else(|| config.namespace.clone())
        .unwrap_or_else(|| NAMESPACE.to_owned())
}

/// The cluster.
///
/// # Errors
/// Where there is no kubeconfig, or it cannot be read.
pub async fn client(global: &Global, config: &Config) -> Result<Client, Failure> {
    Ok(connect(global, config).await?.0)
}

/// The cluster, and the token of the kubeconfig where it holds one.
async fn connect(global: &Global, config: &Config) -> Result<(Client, Option<String>), Failure> {
    let context = global
        .context
        .clone()
        .or_else(|| edge::variable("AURIA_CONTEXT"))
        .or_else(|| config.context.clone());
    let failed = |error: String| {
        Failure::unreachable(format!("reading the kubeconfig: {error}")).help(
            "set KUBECONFIG to the file that `kubectl` uses; `--context` picks a cluster in it",
        )
    };
    let found = if context.is_some() {
        let options = KubeConfigOptions {
            context,
            ..KubeConfigOptions::default()
        };
        kube::Config::from_kubeconfig(&options)
            .await
            .map_err(|error| failed(error.to_string()))?
    } else {
        kube::Config::infer()
            .await
            .map_err(|error| failed(error.to_string()))?
    };
    let token = found
        .auth_info
        .token
        .as_ref()
        .map(|token| secret(token).to_owned());
    let client = Client::try_from(found).map_err(|error| failed(error.to_string()))?;
    Ok((client, token))
}

fn secret(token: &impl ExposeSecret<str>) -> &str {
    token.expose_secret()
}

fn refused(doing: &str, error: &kube::Error) -> Failure {
    Failure::unreachable(format!("{doing}: {error}"))
        .help("`kubectl cluster-info` says whether the cluster answers; `--context` and `--namespace` pick another")
}

/// The controller's Pod that drives runs.
async fn leader(client: &Client, namespace: &str) -> Result<String, Failure> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let begun = tokio::time::Instant::now();
    let doing = format!("looking for the controller in {namespace}");
    let mut said = false;
    loop {
        let found = pods.list(&ListParams::default().labels(CONTROLLER)).await;
        let found = found.map_err(|error| refused(&doing, &error))?;
        if found.items.is_empty() {
            return Err(Failure::unreachable(format!(
                "no controller is installed in the namespace {namespace}"
            ))
            .help("`kubectl apply -k manifests/` installs it (docs/install.md); `--namespace` names another place"));
        }
        let lease = leases.get_opt(LEASE).await;
        let lease = lease.map_err(|error| refused(&doing, &error))?;
        let holder = lease
            .and_then(|lease| lease.spec)
            .and_then(|spec| spec.holder_identity);
        let leads = |pod: &&Pod| {
            let running = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            pod.metadata.name == holder
                && pod.metadata.deletion_timestamp.is_none()
                && running == Some("Running")
        };
        let found_leader = found.items.iter().find(leads);
        if let Some(name) = found_leader.and_then(|pod| pod.metadata.name.clone()) {
            return Ok(name);
        }
        if begun.elapsed() > LEADS {
            let names: Vec<String> = found.items.iter().map(stands).collect();
            return Err(Failure::unreachable(format!(
                "no controller in {namespace} drives runs: {}",
                names.join(", ")
            ))
            .help(format!(
                "`kubectl --namespace {namespace} describe pods` says why"
            )));
        }
        if !said {
            eprintln!("waiting for the controller in {namespace}");
            said = true;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A Pod and its phase, for people.
fn stands(pod: &Pod) -> String {
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    format!(
        "{} is {}",
        pod.metadata.name.as_deref().unwrap_or("a Pod"),
        phase.as_deref().unwrap_or("unknown")
    )
}

/// A token of the service account that people with the Role auria-user may speak for.
async fn user_token(client: &Client, namespace: &str) -> Result<String, Failure> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let made = accounts
        .create_token_request(USER, &PostParams::default(), &TokenRequest::default())
        .await
        .map_err(|error| refused(&format!("asking for a token of {namespace}/{USER}"), &error))?;
    made.status
        .map(|status| status.token)
        .ok_or_else(|| Failure::unreachable(format!("{namespace}/{USER} was given no token")))
}

async fn authority(client: &Client, namespace: &str) -> Result<String, Failure> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = maps
        .get(AUTHORITY)
        .await
        .map_err(|error| refused(&format!("reading {namespace}/{AUTHORITY}"), &error))?;
    found
        .data
        .and_then(|mut data| data.remove("ca.crt"))
        .ok_or_else(|| Failure::unreachable(format!("{namespace}/{AUTHORITY} holds no ca.crt")))
}

impl Controller {
    /// A server of another kind that answers as a controller does.
    pub fn of(
        remote: Remote,
        store: Store,
        name: String,
        computes: Vec<String>,
        global: &Global,
        config: &Config,
    ) -> Self {
        Self {
            remote,
            store,
            name,
            computes,
            asked: Arc::new((global.clone(), config.clone())),
        }
    }

    /// What a person adds to a command that means this.
    fn flag(&self) -> String {
        match crate::server::said(&self.asked.0, &self.asked.1) {
            Some(url) => format!("--server {url}"),
            None => "--on kubernetes".to_owned(),
        }
    }

    /// That every step can find a node, as the controller sees them.
    ///
    /// # Errors
    /// Exit 2 with what does not fit.
    pub async fn check(&self, plan: &Plan) -> Result<(), Failure> {
        let refusals = self.remote.check(plan).await?;
        if refusals.is_empty() {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "this cluster can never run\n  {}",
            refusals.join("\n").replace('\n', "\n  ")
        ))
        .help("pin the image to a CUDA version that a node serves, ask for less under `resources`, or let a compute of the controller's auria.yaml say what it `offers`"))
    }

    /// Hands a run over, whose record stands in the store.
    ///
    /// # Errors
    /// Where the controller does not answer, or refuses.
    pub async fn submit(&self, run: &RunJson) -> Result<(), Failure> {
        Ok(self.remote.announce(&run.run).await?)
    }

    /// Says that a run goes on without this program.
    ///
    /// # Errors
    /// Where nothing can be printed.
    pub fn left(&self, run: &RunJson, output: OutputFormat) -> Result<u8, Failure> {
        let value =
            json!({"run": run.run, "status": Status::Queued, "driver": self.name, "log": null});
        print::result(output, &value, || {
            format!(
                "{}  Queued\n  driven by {}; `auria-pipeline watch {} {}` follows it\n",
                run.run,
                self.name,
                run.run,
                self.flag()
            )
        })?;
        Ok(exit::DONE)
    }

    /// Shows how a run goes, to its end. Ctrl-C only stops watching.
    ///
    /// # Errors
    /// Where the controller cannot be reached any more.
    pub async fn follow(&self, run: &RunJson, output: OutputFormat) -> Result<u8, Failure> {
        let failed = |error| Failure::unreachable(format!("listening for signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let (progress, frames) = Progress::begin(&run.run, &run.plan, edge::now());
        let seen = tokio::select! {
            seen = self.see(run, &progress) => seen,
            _ = interrupt.recv() => {
                frames.finish(false).await;
                eprintln!(
                    "run {run} goes on: `auria-pipeline cancel {run} {flag}` ends it, `auria-pipeline watch {run} {flag}` follows it",
                    run = run.run, flag = self.flag()
                );
                return Ok(exit::INTERRUPTED);
            }
        };
        frames.finish(seen.is_ok()).await;
        let status = seen?;
        drive::print_report(&self.store, run, output, None).await?;
        Ok(drive::exit_code(status))
    }

    /// Follows a run to its end, whatever happens to the controller, the cluster's API and
    /// the way there meanwhile.
    async fn see(&self, run: &RunJson, progress: &Progress) -> Result<Status, Failure> {
        let mut way = self.clone();
        let mut tries = 0_u32;
        loop {
            match way.see_from_here(run, progress, &mut tries).await {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                // Whoever may not look any more is told so.
                Err(failure) if tries >= MOST => return Err(failure),
                Err(_) => {
                    if tries == SILENT {
                        progress.note(
                            "the controller cannot be reached; the run goes on, and so does this",
                        );
                    }
                    // The one that drives may be another by now.
                    let (global, config) = &*self.asked;
                    if let Ok(Ok(found)) =
                        tokio::time::timeout(LEADS, controller(global, config)).await
                    {
                        way = found;
                    }
                }
            }
            tries += 1;
            // It is taken up within moments, or the controller is on its way back.
            tokio::time::sleep(AGAIN * tries.min(10)).await;
        }
    }

    /// As far as this way leads: none where the run is not driven there at this moment.
    async fn see_from_here(
        &self,
        run: &RunJson,
        progress: &Progress,
        tries: &mut u32,
    ) -> Result<Option<Status>, Failure> {
        if let Some(mut changes) = self.remote.follow(&run.run).await? {
            while let Some(change) = changes.next().await {
                *tries = 0;
                let end = match &change {
                    RunChange::End { end } => Some(end.status),
                    _ => None,
                };
                progress.take(change, edge::now());
                if end.is_some() {
                    return Ok(end);
                }
            }
        }
        let journal = Journal::new(self.store.clone(), run.run.clone());
        Ok(journal.read_run_end().await?.map(|end| end.status))
    }
}
