//! `schedule`: when a server runs a pipeline by itself. What it means is the server's; this
//! reads files and prints.

use crate::args::{Global, Schedule, ScheduleCreate};
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

/// `schedule` of Azure ML.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleFile {
    #[serde(rename = "$schema")]
    _schema: Option<String>,
    #[serde(rename = "type")]
    _kind: Option<String>,
    name: String,
    #[serde(rename = "display_name")]
    _display_name: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(rename = "tags")]
    _tags: Option<BTreeMap<String, Value>>,
    #[serde(rename = "properties")]
    _properties: Option<BTreeMap<String, Value>>,
    trigger: Value,
    create_job: Job,
    is_enabled: Option<bool>,
}

/// A file, or a file with changes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Job {
    File(String),
    Changed(Changed),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    #[serde(rename = "type")]
    _kind: Option<String>,
    job: String,
    experiment_name: Option<String>,
    #[serde(default)]
    inputs: BTreeMap<String, Value>,
    #[serde(default)]
    settings: BTreeMap<String, Value>,
}

/// Makes, lists, shows, switches, triggers and deletes schedules.
///
/// # Errors
/// Where the server cannot be reached or refuses, or a file is wrong.
pub async fn schedule(global: &Global, args: &Schedule) -> Result<u8, Failure> {
    let server = server::required(global).await?;
    let at = |name: &str, verb: &str| format!("schedules/{name}{verb}");
    let found: Value = match args {
        Schedule::Create(args) => {
            let body = created(&server, args).await?;
            server.remote.post("schedules", &body).await?
        }
        Schedule::List => {
            let all: Vec<Value> = server.remote.get("schedules").await?;
            print::result(global.output, &all, || all.iter().map(line).collect())?;
            return Ok(exit::DONE);
        }
        Schedule::Show { name } => server.remote.get(&at(name, "")).await?,
        Schedule::Enable { name } => server.remote.post(&at(name, "/enable"), &json!({})).await?,
        Schedule::Disable { name } => {
            server
                .remote
                .post(&at(name, "/disable"), &json!({}))
                .await?
        }
        Schedule::Trigger { name } => {
            let taken: Value = server
                .remote
                .post(&at(name, "/trigger"), &json!({}))
                .await?;
            let text = |name: &str| taken[name].as_str().unwrap_or_default().to_owned();
            print::result(global.output, &taken, || {
                format!("{}  {}\n", text("run"), text("status"))
            })?;
            return Ok(exit::DONE);
        }
        Schedule::Delete { name } => {
            let gone: Value = server.remote.remove(&at(name, "")).await?;
            print::result(global.output, &gone, || {
                format!("deleted {name}; its runs stay\n")
            })?;
            return Ok(exit::DONE);
        }
    };
    print::result(global.output, &found, || line(&found))?;
    Ok(exit::DONE)
}

fn line(schedule: &Value) -> String {
    let on = if schedule["enabled"].is_null() {
        "disabled"
    } else {
        "enabled"
    };
    let mut text = format!("{}  {on}\n", schedule["name"].as_str().unwrap_or_default());
    for next in schedule["next"].as_array().into_iter().flatten() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  next {}", next.as_str().unwrap_or_default());
    }
    text
}

/// A value as `--set` reads it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

async fn created(server: &Controller, args: &ScheduleCreate) -> Result<Value, Failure> {
    let (mut body, from, mut set) = match (&args.file, &args.name, &args.cron, &args.from) {
        (Some(path), None, None, None) => of_file(path)?,
        (None, Some(name), Some(cron), Some(from)) => {
            let trigger = json!({"type": "cron", "expression": cron, "time_zone": args.time_zone});
            (
                json!({"name": name, "trigger": trigger}),
                from.clone(),
                Vec::new(),
            )
        }
        _ => {
            return Err(Failure::usage("say either --file, or NAME, --cron and --from").help(
                "`auria-pipeline schedule create daily --cron '0 6 * * *' --time-zone Europe/Berlin --from pipelines.yaml`",
            ));
        }
    };
    set.extend(args.set.iter().cloned());
    // Checked as it would be at this moment.
    let now = auria_server::schedules::at_moment(&set, crate::edge::now());
    let files = super::publish::bring(server, &from, args.pipeline.as_deref(), &now).await?;
    body["set"] = json!(set);
    body["pipeline"] = json!(args.pipeline);
    body["missed"] = json!(args.missed);
    body["concurrency"] = json!(args.concurrency);
    if let (Some(into), Some(files)) = (body.as_object_mut(), files.as_object()) {
        into.extend(files.clone());
    }
    Ok(body)
}

fn of_file(path: &Path) -> Result<(Value, PathBuf, Vec<String>), Failure> {
    let wrong = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let bytes = load::read(path).map_err(wrong)?;
    let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    let file: ScheduleFile =
        serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let mut set = Vec::new();
    let mut experiment = None;
    let job = match file.create_job {
        Job::File(job) => job,
        Job::Changed(changed) => {
            experiment = changed.experiment_name;
            let inputs = changed.inputs.iter();
            set.extend(inputs.map(|(name, value)| format!("inputs.{name}={}", plain(value))));
            let settings = changed.settings.iter();
            set.extend(settings.map(|(name, value)| format!("settings.{name}={}", plain(value))));
            changed.job
        }
    };
    if job.starts_with("azureml:") {
        return Err(wrong("a registered job cannot be scheduled yet".to_owned())
            .help("name its file: `create_job: ./pipeline.yml`"));
    }
    let job = job.strip_prefix("file:").unwrap_or(&job);
    let folder = path
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned);
    let body = json!({
        "name": file.name, "description": file.description, "trigger": file.trigger,
        "experiment": experiment, "disabled": file.is_enabled == Some(false),
    });
    Ok((body, folder.join(job), set))
}
