//! A cluster as the command line sees it: with a kubeconfig alone it finds the controller,
//! reaches its API through the API server, and opens the store behind it, so that every
//! command works as it does on this machine. Credentials of the store never come here.

pub mod doctor;
mod follow;
mod forward;
mod leader;
pub mod mirror;
pub mod replicas;
pub mod serve;
mod way;

pub use follow::{Interrupt, MOST};
pub use leader::LEASE;
pub use way::{AUTHORITY, Standing};

use crate::args::{Global, OutputFormat};
use crate::config::Config;
use crate::edge;
use crate::failure::{Failure, exit};
use crate::print;
use auria_core::outcome::Status;
use auria_core::plan::Plan;
use auria_core::protocol::ServerFacts;
use auria_store::Store;
use auria_store::remote::Remote;
use auria_store::runs::RunJson;
use kube::Client;
use kube::config::KubeConfigOptions;
use serde_json::json;
use std::sync::Arc;
use way::Way;

/// Where the controller is looked for, unless something else is said.
const NAMESPACE: &str = "auria";

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
    /// What it says of itself.
    pub facts: ServerFacts,
    /// What a person adds to a command that means this.
    flag: String,
    /// What keeps the way to a cluster open.
    way: Option<Arc<Way>>,
}

/// Finds the controller and opens the store behind it.
///
/// # Errors
/// Exit 4 where the cluster or the controller cannot be reached, or refuses.
pub async fn controller(global: &Global, config: &Config) -> Result<Controller, Failure> {
    controller_as(Standing::User, global, config).await
}

/// As [`controller`], in another name; to a server that is no cluster's its token says all.
///
/// # Errors
/// As [`controller`].
pub async fn controller_as(
    standing: Standing,
    global: &Global,
    config: &Config,
) -> Result<Controller, Failure> {
    if let Some(url) = crate::server::said(global, config) {
        return crate::server::connect(&url, config).await;
    }
    let client = client(global, config).await?;
    let namespace = namespace(global, config);
    way::open(&client, &namespace, standing, |text| eprintln!("{text}")).await
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
    Client::try_from(found).map_err(|error| failed(error.to_string()))
}

impl Controller {
    /// A server of another kind that answers as a controller does; `flag` is what a person
    /// adds to a command that means it.
    pub fn of(
        remote: Remote,
        store: Store,
        name: String,
        facts: ServerFacts,
        flag: String,
    ) -> Self {
        Self {
            remote,
            store,
            name,
            facts,
            flag,
            way: None,
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
                run.run, self.name, run.run, self.flag
            )
        })?;
        Ok(exit::DONE)
    }
}
