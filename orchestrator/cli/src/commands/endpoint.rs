//! `endpoint` and `deployment`: published pipelines of a server. What they are is the
//! server's; this reads files and prints.

use crate::args::{Deployment, DeploymentCreate, Endpoint, EndpointCreate, EndpointInvoke, Global};
use crate::cluster::Controller;
use crate::failure::{Failure, exit};
use crate::load;
use crate::print;
use crate::server;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// `batchEndpoint` of Azure ML.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointFile {
    #[serde(rename = "$schema")]
    _schema: Option<String>,
    name: String,
    #[serde(default)]
    description: String,
    /// Callers show a token of this server, whatever stands here.
    #[serde(rename = "auth_mode")]
    _auth_mode: Option<String>,
    #[serde(rename = "tags")]
    _tags: Option<BTreeMap<String, Value>>,
    #[serde(rename = "properties")]
    _properties: Option<BTreeMap<String, Value>>,
    defaults: Option<Defaults>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    deployment_name: String,
}

/// `pipelineComponentBatchDeployment` of Azure ML.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeploymentFile {
    #[serde(rename = "$schema")]
    _schema: Option<String>,
    name: String,
    endpoint_name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "tags")]
    _tags: Option<BTreeMap<String, Value>>,
    #[serde(rename = "properties")]
    _properties: Option<BTreeMap<String, Value>>,
    component: Option<String>,
    job_definition: Option<String>,
    #[serde(default)]
    settings: Settings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    default_compute: Option<String>,
    default_datastore: Option<String>,
    continue_on_step_failure: Option<bool>,
    force_rerun: Option<bool>,
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Failure> {
    let wrong = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let bytes = load::read(path).map_err(wrong)?;
    let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))
}

/// Makes, lists, shows, invokes and deletes endpoints.
///
/// # Errors
/// Where the server cannot be reached or refuses, or a file is wrong.
pub async fn endpoint(global: &Global, args: &Endpoint) -> Result<u8, Failure> {
    let server = server::required(global).await?;
    match args {
        Endpoint::Create(args) => create(global, &server, args).await,
        Endpoint::List => {
            let found: Vec<Value> = server.remote.get("endpoints").await?;
            print::result(global.output, &found, || found.iter().map(line).collect())?;
            Ok(exit::DONE)
        }
        Endpoint::Show { name } => {
            let found: Value = server.remote.get(&format!("endpoints/{name}")).await?;
            print::result(global.output, &found, || line(&found))?;
            Ok(exit::DONE)
        }
        Endpoint::Invoke(args) => invoke(global, &server, args).await,
        Endpoint::Delete { name } => {
            let gone: Value = server.remote.remove(&format!("endpoints/{name}")).await?;
            print::result(global.output, &gone, || {
                format!("deleted {name}; its runs stay\n")
            })?;
            Ok(exit::DONE)
        }
    }
}

fn line(endpoint: &Value) -> String {
    let text = |name: &str| endpoint[name].as_str().unwrap_or_default().to_owned();
    let mut lines = format!("{}  {}\n", text("name"), text("description"));
    for (name, version) in endpoint["deployments"].as_object().into_iter().flatten() {
        let default = if *name == text("default") {
            "  default"
        } else {
            ""
        };
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "  {name}  version {version}{default}");
    }
    lines
}

async fn create(
    global: &Global,
    server: &Controller,
    args: &EndpointCreate,
) -> Result<u8, Failure> {
    let (name, description, default) = match (&args.file, &args.name) {
        (Some(file), None) => {
            let file: EndpointFile = read(file)?;
            let default = file.defaults.map(|defaults| defaults.deployment_name);
            (file.name, file.description, default)
        }
        (None, Some(name)) => (name.clone(), String::new(), None),
        _ => {
            return Err(Failure::usage("say either NAME or --file")
                .help("`auria-pipeline endpoint create kathi --from pipelines.yaml`"));
        }
    };
    let body = json!({"name": name, "description": description});
    let mut found: Value = server.remote.post("endpoints", &body).await?;
    if let Some(from) = &args.from {
        let deployment = default.as_deref().unwrap_or("default");
        let set = Vec::new();
        let body = brought(server, from, args.pipeline.as_deref(), set, deployment).await?;
        let path = format!("endpoints/{name}/deployments");
        let _: Value = server.remote.post(&path, &body).await?;
        found = server.remote.get(&format!("endpoints/{name}")).await?;
    }
    print::result(global.output, &found, || line(&found))?;
    Ok(exit::DONE)
}

/// Brings a pipeline and its files to the server; what a request to deploy says of it.
async fn brought(
    server: &Controller,
    file: &Path,
    pipeline: Option<&str>,
    set: Vec<String>,
    name: &str,
) -> Result<Value, Failure> {
    let files = super::publish::bring(server, file, pipeline, &set).await?;
    let mut body = json!({"name": name, "pipeline": pipeline, "set": set});
    if let (Some(into), Some(from)) = (body.as_object_mut(), files.as_object()) {
        into.extend(from.clone());
    }
    Ok(body)
}

async fn invoke(
    global: &Global,
    server: &Controller,
    args: &EndpointInvoke,
) -> Result<u8, Failure> {
    let mut inputs = serde_json::Map::new();
    for text in &args.input {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--input {text}: it is NAME=VALUE")))?;
        let given = if value.contains("://") {
            json!({"JobInputType": "UriFile", "Uri": value})
        } else {
            json!({"JobInputType": "Literal", "Value": value})
        };
        inputs.insert(name.to_owned(), given);
    }
    let body = json!({"properties": {"InputData": inputs}});
    let mut path = format!("endpoints/{}/jobs", args.name);
    if let Some(wait) = &args.wait {
        let _ = write!(path, "?wait={wait}");
    }
    let headers: Vec<(&'static str, String)> = [
        ("azureml-model-deployment", &args.deployment),
        ("idempotency-key", &args.key),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value.clone()?)))
    .collect();
    let job: Value = server.remote.post_with(&path, &body, &headers).await?;
    print::result(global.output, &job, || {
        let status = job["properties"]["status"].as_str().unwrap_or_default();
        format!("{}  {status}\n", job["name"].as_str().unwrap_or_default())
    })?;
    Ok(exit::DONE)
}

/// Makes, lists, shows and deletes deployments.
///
/// # Errors
/// Where the server cannot be reached or refuses, or a file is wrong.
pub async fn deployment(global: &Global, args: &Deployment) -> Result<u8, Failure> {
    let server = server::required(global).await?;
    match args {
        Deployment::Create(args) => deploy(global, &server, args).await,
        Deployment::List { endpoint } => {
            let found: Value = server.remote.get(&format!("endpoints/{endpoint}")).await?;
            print::result(global.output, &found["deployments"], || line(&found))?;
            Ok(exit::DONE)
        }
        Deployment::Show { endpoint, name } => {
            let path = format!("endpoints/{endpoint}/deployments/{name}");
            let found: Value = server.remote.get(&path).await?;
            print::result(global.output, &found, || format!("{found:#}\n"))?;
            Ok(exit::DONE)
        }
        Deployment::Delete { endpoint, name } => {
            let path = format!("endpoints/{endpoint}/deployments/{name}");
            let gone: Value = server.remote.remove(&path).await?;
            print::result(global.output, &gone, || {
                format!("deleted {endpoint}/{name}\n")
            })?;
            Ok(exit::DONE)
        }
    }
}

async fn deploy(
    global: &Global,
    server: &Controller,
    args: &DeploymentCreate,
) -> Result<u8, Failure> {
    let mut set = Vec::new();
    let (endpoint, name, from) = match (&args.file, &args.endpoint, &args.name, &args.from) {
        (Some(path), None, None, None) => {
            let file: DeploymentFile = read(path)?;
            let wrong = |why: &str| Failure::usage(format!("{}: {why}", path.display()));
            if file.kind.as_deref().is_some_and(|kind| kind != "pipeline") {
                return Err(wrong("a deployment has `type: pipeline` here")
                    .help("write a pipeline whose step runs the model"));
            }
            let settings = file.settings;
            let texts = [
                ("default_compute", settings.default_compute),
                ("default_datastore", settings.default_datastore),
                (
                    "continue_on_step_failure",
                    settings.continue_on_step_failure.map(|v| v.to_string()),
                ),
                ("force_rerun", settings.force_rerun.map(|v| v.to_string())),
            ];
            for (key, value) in texts {
                set.extend(value.map(|value| format!("settings.{key}={value}")));
            }
            let named = file.component.or(file.job_definition);
            let named = named.ok_or_else(|| wrong("say `component` or `job_definition`"))?;
            if named.starts_with("azureml:") {
                return Err(wrong("a registered component cannot be deployed yet")
                    .help("name its file: `component: ./pipeline.yml`"));
            }
            let named = named.strip_prefix("file:").unwrap_or(&named);
            let folder = path
                .parent()
                .map_or_else(|| PathBuf::from("."), Path::to_owned);
            (file.endpoint_name, file.name, folder.join(named))
        }
        (None, Some(endpoint), Some(name), Some(from)) => {
            (endpoint.clone(), name.clone(), from.clone())
        }
        _ => {
            return Err(Failure::usage("say either --file, or --endpoint, --name and --from")
                .help("`auria-pipeline deployment create --endpoint kathi --name blue --from pipelines.yaml`"));
        }
    };
    let mut body = brought(server, &from, args.pipeline.as_deref(), set, &name).await?;
    body["default"] = json!(args.default);
    let path = format!("endpoints/{endpoint}/deployments");
    let made: Value = server.remote.post(&path, &body).await?;
    print::result(global.output, &made, || {
        format!("{endpoint}/{name}  version {}\n", made["version"])
    })?;
    Ok(exit::DONE)
}
