//! `explain`: why a step ran, or why it was reused; and what a key cannot see.

use crate::args::{Explain, Global};
use crate::cluster::Controller;
use crate::commands::logs::find_step;
use crate::drive;
use crate::failure::{Failure, exit};
use crate::open;
use crate::print;
use auria_core::outcome::{Cause, Status};
use auria_core::plan::{Environment, Reuse};
use auria_core::protocol::LauncherFacts;
use auria_core::run::{ReuseAnswer, ReuseMiss};
use auria_kubernetes::pod::{LauncherDelivery, LauncherSource};
use auria_store::{Access, reuse};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Longest value of a key's part that is printed whole.
const SHOWN: usize = 100;

/// Explains a step.
///
/// # Errors
/// Where the store cannot be read, or there is no such run or step.
pub async fn explain(global: &Global, args: &Explain) -> Result<u8, Failure> {
    let opened = open::existing(global, Access::Read).await?;
    let store = opened.store.clone();
    let run = open::run(&store, &args.run).await?;
    let path = find_step(&run, &args.step)?;
    let state = drive::look(&store, &run).await?;
    let note = reuse::read_note(&store, &run.run, &path).await?;
    let Some(view) = state.step(&path) else {
        return Err(Failure::usage(format!(
            "run {} has no step `{path}`",
            run.run
        )));
    };

    let miss = match (&note, &view.step.reuse) {
        (Some(note), _) => match &note.answer {
            ReuseAnswer::Hit { .. } => None,
            ReuseAnswer::Miss { miss } => Some(miss.clone()),
        },
        (None, _) if run.plan.settings.force_rerun => Some(ReuseMiss::Forced),
        (None, Reuse::NotDeterministic) => Some(ReuseMiss::NotDeterministic),
        (None, Reuse::Allowed { .. }) => None,
    };
    let source = view.outcome.and_then(|outcome| outcome.reused_from.clone());
    let decision = match (view.status, view.cause) {
        (Status::Reused, _) => "reused",
        (Status::Skipped, _) => "skipped",
        (Status::NotStarted | Status::Queued, _) => "waits",
        (_, Some(Cause::Refused)) => "refused",
        _ => "ran",
    };
    let unseen = unseen(&view.step.environment);
    let launcher = opened
        .controller
        .as_ref()
        .and_then(|controller| launcher(controller, &view.step.environment));
    let value = json!({
        "run": run.run,
        "step": path.display(),
        "status": view.status,
        "decision": decision,
        "reused_from": source,
        "miss": miss,
        "key": note.as_ref().map(|note| note.key),
        "parts": note.as_ref().map(|note| note.parts.clone()),
        "attempts": view.attempts,
        "cause": view.cause,
        "message": view.reason,
        "not_in_the_key": unseen,
        "launcher": launcher.as_ref().map(launcher_json),
    });
    print::result(global.output, &value, || {
        let mut text = format!("{} {decision} in run {}\n", path.display(), run.run);
        if let Some(source) = &source {
            let _ = writeln!(
                text,
                "  its key equals that of {} in run {}, whose outputs were there and whole",
                source.step.display(),
                source.run
            );
        }
        if let Some(miss) = &miss {
            text.push_str(&miss_text(miss));
        }
        if let (Some(message), false) = (view.reason, view.status.is_success()) {
            let _ = writeln!(text, "  {message}");
        }
        if let Some(note) = &note {
            let _ = writeln!(text, "  key {}", note.key);
        }
        if let Some(launcher) = &launcher {
            let _ = writeln!(text, "  its launcher {}", launcher_text(launcher));
        }
        for line in &unseen {
            let _ = writeln!(text, "  not in the key: {line}");
        }
        text
    })?;
    Ok(exit::DONE)
}

/// How the launcher gets into the step's container, as the controller is configured now:
/// an error where it does not.
fn launcher(
    controller: &Controller,
    environment: &Environment,
) -> Option<Result<LauncherDelivery, String>> {
    let Environment::Image { image, .. } = environment else {
        return None;
    };
    let LauncherFacts {
        image: launcher,
        carried_by,
        image_volumes,
    } = controller.facts.launcher.clone()?;
    let source = LauncherSource {
        image: launcher,
        carried_by,
        image_volumes,
    };
    Some(source.delivery(image))
}

fn launcher_text(launcher: &Result<LauncherDelivery, String>) -> String {
    match launcher {
        Ok(LauncherDelivery::InImage) => "is in its own image".to_owned(),
        Ok(LauncherDelivery::ImageVolume { image }) => {
            format!("comes by a volume of the image {image}")
        }
        Ok(LauncherDelivery::InitContainer { image }) => {
            format!("is copied by an init container of the image {image}")
        }
        Err(why) => format!("cannot come: {why}"),
    }
}

fn launcher_json(launcher: &Result<LauncherDelivery, String>) -> Value {
    match launcher {
        Ok(LauncherDelivery::InImage) => json!({"way": "in_image"}),
        Ok(LauncherDelivery::ImageVolume { image }) => {
            json!({"way": "image_volume", "image": image})
        }
        Ok(LauncherDelivery::InitContainer { image }) => {
            json!({"way": "init_container", "image": image})
        }
        Err(why) => json!({"way": null, "message": why}),
    }
}

fn miss_text(miss: &ReuseMiss) -> String {
    match miss {
        ReuseMiss::Forced => "  nothing was reused: force_rerun is on\n".to_owned(),
        ReuseMiss::NotDeterministic => {
            "  it is never reused: its component says is_deterministic: false\n".to_owned()
        }
        ReuseMiss::FirstTime => {
            "  no step of this name has finished in this store before\n".to_owned()
        }
        ReuseMiss::Changed { run, parts } => {
            let mut text = format!("  it differs from the last that finished, in run {run}:\n");
            for (name, (was, is)) in parts {
                let _ = writeln!(
                    text,
                    "    {name}\n      was {}\n      is  {}",
                    short(was),
                    short(is)
                );
            }
            text
        }
        ReuseMiss::OutputsGone { source, detail } => format!(
            "  the outputs of {} in run {} are gone or damaged: {detail}\n",
            source.step.display(),
            source.run
        ),
        ReuseMiss::BeingDeleted { source } => format!(
            "  run {}, which has its outputs, is being deleted\n",
            source.run
        ),
        ReuseMiss::TooOld { source } => {
            format!(
                "  {} in run {} is older than cache.max_age\n",
                source.step.display(),
                source.run
            )
        }
    }
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= SHOWN {
        return text;
    }
    let head: String = text.chars().take(SHOWN).collect();
    format!("{head}…")
}

fn unseen(environment: &Environment) -> Vec<&'static str> {
    match environment {
        Environment::Process(_) => vec![
            "programs and libraries that the command uses besides its first word",
            "variables of this machine's environment",
        ],
        Environment::Image { .. } => vec![],
    }
}
