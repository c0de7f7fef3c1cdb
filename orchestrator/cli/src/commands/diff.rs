//! `diff`: in what two runs differ. Reads both, changes nothing.

use crate::args::{Diff, Global};
use crate::drive;
use crate::failure::{Failure, exit};
use crate::open;
use crate::print;
use crate::terminal::duration;
use auria_core::outcome::{Outcome, Status};
use auria_core::plan::{PlannedStep, Template, TemplatePart};
use auria_core::run::RunState;
use auria_store::{Access, reuse};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Longest value that is printed whole.
const SHOWN: usize = 120;

/// What differs, by dotted path: what was, and what is.
type Differences = BTreeMap<String, (Value, Value)>;

/// Compares two runs.
///
/// # Errors
/// Where the store cannot be read, or there is no such run.
pub async fn diff(global: &Global, args: &Diff) -> Result<u8, Failure> {
    let store = open::existing(global, Access::Read).await?.store;
    let old = open::run(&store, &args.old).await?;
    let new = open::run(&store, &args.new).await?;
    let (was, is) = (
        drive::look(&store, &old).await?,
        drive::look(&store, &new).await?,
    );

    let mut run = Differences::new();
    let whole = |record: &auria_store::runs::RunJson, state: &RunState| {
        json!({
            "pipeline": record.plan.pipeline,
            "inputs": record.parameters,
            "settings": record.plan.settings,
            "status": state.status(),
        })
    };
    reuse::differences("", &whole(&old, &was), &whole(&new, &is), &mut run);

    let (before, after) = (steps(&was), steps(&is));
    let mut changed: BTreeMap<&str, Differences> = BTreeMap::new();
    for (name, value) in &before {
        if let Some(other) = after.get(name) {
            let mut found = Differences::new();
            reuse::differences("", value, other, &mut found);
            if !found.is_empty() {
                changed.insert(name, found);
            }
        }
    }
    let only = |these: &BTreeMap<String, Value>, those: &BTreeMap<String, Value>| -> Vec<String> {
        let names = these.keys().filter(|name| !those.contains_key(*name));
        names.cloned().collect()
    };
    let (gone, come) = (only(&before, &after), only(&after, &before));
    let value = json!({
        "old": old.run,
        "new": new.run,
        "run": listed(&run),
        "steps": changed.iter().map(|(name, found)| ((*name).to_owned(), listed(found))).collect::<Map<_, _>>(),
        "steps_only_in_old": gone,
        "steps_only_in_new": come,
    });
    print::result(global.output, &value, || {
        let mut text = format!("- {}\n+ {}\n", old.run, new.run);
        write(&mut text, "", &run);
        for name in &gone {
            let _ = writeln!(text, "- step {name}");
        }
        for name in &come {
            let _ = writeln!(text, "+ step {name}");
        }
        for (name, found) in &changed {
            let _ = writeln!(text, "{name}");
            write(&mut text, "  ", found);
        }
        if run.is_empty() && gone.is_empty() && come.is_empty() && changed.is_empty() {
            text.push_str("they do not differ\n");
        }
        text
    })?;
    Ok(exit::DONE)
}

fn listed(found: &Differences) -> Value {
    found
        .iter()
        .map(|(path, (was, is))| (path.clone(), json!({"old": was, "new": is})))
        .collect::<Map<_, _>>()
        .into()
}

fn write(text: &mut String, indent: &str, found: &Differences) {
    for (path, (was, is)) in found {
        let (was, is) = (shown(path, was), shown(path, is));
        if was.len() + is.len() + path.len() < 70 && !was.contains('\n') && !is.contains('\n') {
            let _ = writeln!(text, "{indent}{path}: {was} → {is}");
        } else {
            let _ = writeln!(text, "{indent}{path}\n{indent}  - {was}\n{indent}  + {is}");
        }
    }
}

fn shown(path: &str, value: &Value) -> String {
    let text = match value {
        Value::Null => return "nothing".to_owned(),
        Value::Number(number) if path.ends_with("_ms") => {
            return number.as_u64().map_or_else(|| number.to_string(), duration);
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= SHOWN {
        return text;
    }
    let head: String = text.chars().take(SHOWN).collect();
    format!("{head}…")
}

/// What each step was asked to do, and what came of it.
fn steps(state: &RunState) -> BTreeMap<String, Value> {
    let steps = state.steps().map(|view| {
        let outcome = view.outcome.map(|outcome| &**outcome);
        let value = json!({
            "status": view.status,
            "cause": view.cause,
            "exit_code": outcome.and_then(|outcome| outcome.exit_code).filter(|code| *code != 0),
            "ran_ms": ran(view.status, outcome),
            "plan": plan(view.step),
            "outputs": outcome.map(|outcome| {
                outcome
                    .outputs
                    .iter()
                    .map(|(name, made)| (name.clone(), json!(made.digest)))
                    .collect::<Map<_, _>>()
            }),
        });
        (view.step.path.display(), value)
    });
    steps.collect()
}

/// Times always differ a little: what is told of them is what a person would notice.
fn ran(status: Status, outcome: Option<&Outcome>) -> Option<u64> {
    let ran = outcome?.timings.ran_ms?;
    (status == Status::Completed && ran >= 1_000).then_some(ran / 1_000 * 1_000)
}

fn plan(step: &PlannedStep) -> Value {
    let mut value = serde_json::to_value(step).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("path");
        fields.insert("command".to_owned(), template(&step.command).into());
    }
    value
}

/// A command as the file writes it.
fn template(template: &Template) -> String {
    template.0.iter().map(part).collect()
}

fn part(part: &TemplatePart) -> String {
    match part {
        TemplatePart::Text(text) => text.clone(),
        TemplatePart::Input(name) => format!("${{{{inputs.{name}}}}}"),
        TemplatePart::Output(name) => format!("${{{{outputs.{name}}}}}"),
        TemplatePart::Optional(parts) => {
            format!("$[[{}]]", parts.iter().map(self::part).collect::<String>())
        }
    }
}
