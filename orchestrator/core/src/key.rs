//! The key under which a finished step is found again: which parts it is made
//! of, and its digest. Two steps with equal keys are taken to give equal
//! outputs. It never asks whether a step may be reused at all (`plan::Reuse`
//! says that), and never looks anything up.

use crate::digest::Digest;
use crate::plan::{Environment, PlannedInput, PlannedStep, Template, TemplatePart};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The version of the parts that [`key_parts`] gives; a part of every key.
pub const KEY_VERSION: u32 = 1;

/// What an input is, whatever its name and place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InputIdentity {
    /// A parameter: its text.
    Literal {
        /// The text.
        value: String,
    },
    /// Files, by content: a snapshot, or the artifact that a step left.
    Content {
        /// Of a folder the manifest's digest; of a file its content.
        digest: Digest,
    },
    /// Objects outside the run.
    External {
        /// Where.
        uri: String,
        /// What they were at planning.
        pin: String,
    },
    /// An optional input without a value, or one whose step failed.
    Absent,
}

impl InputIdentity {
    /// What `input` is, where that does not depend on another step.
    /// `None` for [`PlannedInput::Step`]: take the digest of the step's artifact.
    #[must_use]
    pub fn of(input: &PlannedInput) -> Option<Self> {
        match input {
            PlannedInput::Literal { value } => Some(Self::Literal {
                value: value.clone(),
            }),
            PlannedInput::Snapshot { digest, .. } => Some(Self::Content { digest: *digest }),
            PlannedInput::External { uri, pin, .. } => Some(Self::External {
                uri: uri.clone(),
                pin: pin.clone(),
            }),
            PlannedInput::Absent => Some(Self::Absent),
            PlannedInput::Step { .. } => None,
        }
    }
}

/// The parts of the key of `step`, whose `inputs` are known by now: the resolved
/// command, the code, the environment, input digests, parameters, variables,
/// outputs, GPU model, instance count, distribution, and what the author adds.
///
/// The data type and mode of an input stand in no part: the same bytes at the
/// same binding are the same input. The image that `process` ignores, the CUDA
/// version (it picks a node) and amounts of CPU and memory do not count either.
#[must_use]
pub fn key_parts(step: &PlannedStep, inputs: &BTreeMap<String, InputIdentity>) -> Value {
    let mut parameters = Map::new();
    let mut data = Map::new();
    for (name, identity) in inputs {
        match identity {
            InputIdentity::Literal { value } => drop(parameters.insert(name.clone(), json!(value))),
            InputIdentity::Content { digest } => drop(data.insert(name.clone(), json!(digest))),
            InputIdentity::External { uri, pin } => {
                drop(data.insert(name.clone(), json!({"uri": uri, "pin": pin})))
            }
            InputIdentity::Absent => drop(data.insert(name.clone(), Value::Null)),
        }
    }
    let variables: Map<String, Value> = step
        .variables
        .iter()
        .map(|(name, value)| (name.clone(), json!(resolve(value, inputs))))
        .collect();
    let outputs: Map<String, Value> = step
        .outputs
        .iter()
        .map(|(name, output)| (name.clone(), json!(output.data_type)))
        .collect();
    let extra = match &step.reuse {
        crate::plan::Reuse::Allowed { extra_key, .. } => extra_key.as_deref(),
        crate::plan::Reuse::NotDeterministic => None,
    };
    let mut parts = json!({
        "version": KEY_VERSION,
        "command": resolve(&step.command, inputs),
        "code": step.code,
        "environment": environment(&step.environment),
        "inputs": data,
        "parameters": parameters,
        "variables": variables,
        "outputs": outputs,
        "gpu_model": step.resources.gpu.as_ref().and_then(|gpu| gpu.model.as_deref()),
        "instances": step.resources.instances,
        "extra": extra,
    });
    // Of other steps the key is what it always was.
    if let (Some(distribution), Some(parts)) = (&step.distribution, parts.as_object_mut()) {
        parts.insert("distribution".to_owned(), json!(distribution));
    }
    parts
}

/// The digest of the parts: blake3 over their canonical JSON.
#[must_use]
pub fn key_of(parts: &Value) -> Digest {
    // `Value` has only string keys, so writing it cannot fail; were that ever
    // to change, the debug text still tells different parts apart.
    Digest::of_json(parts).unwrap_or_else(|_| Digest::of(format!("{parts:?}").as_bytes()))
}

/// The parts that differ, by name (`command`, `inputs.weights`): what was and what is.
#[must_use]
pub fn changed_parts(was: &Value, is: &Value) -> BTreeMap<String, (Value, Value)> {
    let mut changed = BTreeMap::new();
    compare("", was, is, &mut changed);
    changed
}

fn compare(name: &str, was: &Value, is: &Value, changed: &mut BTreeMap<String, (Value, Value)>) {
    if was == is {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (was, is) else {
        changed.insert(name.to_owned(), (was.clone(), is.clone()));
        return;
    };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let path = if name.is_empty() {
            key.clone()
        } else {
            format!("{name}.{key}")
        };
        compare(
            &path,
            old.get(key).unwrap_or(&Value::Null),
            new.get(key).unwrap_or(&Value::Null),
            changed,
        );
    }
}

fn environment(environment: &Environment) -> Value {
    match environment {
        Environment::Process(process) => json!({
            "kind": "process",
            "os": process.os,
            "arch": process.arch,
            "host": process.host,
            "executable": process.executable,
        }),
        // Where it is pinned by digest, its name does not count.
        Environment::Image { image, cuda: _ } => {
            let image = image
                .rsplit_once('@')
                .map_or(image.as_str(), |(_, digest)| digest);
            json!({"kind": "image", "image": image})
        }
    }
}

/// The text with parameters in place. Data keeps its binding: its local path is
/// another on each machine and its content stands in the key already.
fn resolve(template: &Template, inputs: &BTreeMap<String, InputIdentity>) -> String {
    let mut text = String::new();
    write_parts(&template.0, inputs, &mut text);
    text
}

fn write_parts(
    parts: &[TemplatePart],
    inputs: &BTreeMap<String, InputIdentity>,
    text: &mut String,
) {
    for part in parts {
        match part {
            TemplatePart::Text(piece) => text.push_str(piece),
            TemplatePart::Input(name) => match inputs.get(name) {
                Some(InputIdentity::Literal { value }) => text.push_str(value),
                Some(InputIdentity::Absent) => {}
                _ => text.push_str(&format!("${{{{inputs.{name}}}}}")),
            },
            TemplatePart::Output(name) => text.push_str(&format!("${{{{outputs.{name}}}}}")),
            TemplatePart::Optional(inner) if lacks_value(inner, inputs) => {}
            TemplatePart::Optional(inner) => write_parts(inner, inputs, text),
        }
    }
}

/// Whether an input that `parts` name has no value.
fn lacks_value(parts: &[TemplatePart], inputs: &BTreeMap<String, InputIdentity>) -> bool {
    parts.iter().any(|part| match part {
        TemplatePart::Input(name) => matches!(inputs.get(name), None | Some(InputIdentity::Absent)),
        TemplatePart::Optional(inner) => lacks_value(inner, inputs),
        TemplatePart::Text(_) | TemplatePart::Output(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::{InputIdentity, changed_parts, key_of, key_parts};
    use crate::digest::Digest;
    use crate::distribution::Distribution;
    use crate::plan::{
        Environment, Executable, Network, PlannedOutput, PlannedStep, ProcessEnvironment,
        RetryPolicy, Reuse, Template, TemplatePart,
    };
    use crate::resources::Resources;
    use std::collections::{BTreeMap, BTreeSet};

    fn step() -> PlannedStep {
        let text = |text: &str| TemplatePart::Text(text.to_owned());
        let input = |name: &str| TemplatePart::Input(name.to_owned());
        PlannedStep {
            path: "write".parse().unwrap(),
            display_name: None,
            command: Template(vec![
                text("haiku --weights "),
                input("weights"),
                TemplatePart::Optional(vec![text(" --mood "), input("mood")]),
            ]),
            code: None,
            environment: Environment::Process(ProcessEnvironment {
                os: "linux".into(),
                arch: "x86_64".into(),
                host: "h".into(),
                executable: Some(Executable {
                    name: "haiku".into(),
                    digest: Digest::of(b"1"),
                }),
                image: Some("one".into()),
            }),
            variables: BTreeMap::new(),
            inputs: BTreeMap::new(),
            outputs: BTreeMap::from([("poem".to_owned(), PlannedOutput::default())]),
            after: BTreeSet::new(),
            resources: Resources {
                instances: 1,
                ..Resources::default()
            },
            distribution: None,
            timeout_ms: None,
            grace_ms: 1,
            retry: RetryPolicy::default(),
            reuse: Reuse::Allowed {
                extra_key: None,
                max_age_ms: None,
            },
            compute: None,
            network: Network::Default,
            keep_warm: None,
        }
    }

    fn inputs(weights: &[u8], mood: Option<&str>) -> BTreeMap<String, InputIdentity> {
        let mood = mood.map_or(InputIdentity::Absent, |mood| InputIdentity::Literal {
            value: mood.to_owned(),
        });
        BTreeMap::from([
            (
                "weights".to_owned(),
                InputIdentity::Content {
                    digest: Digest::of(weights),
                },
            ),
            ("mood".to_owned(), mood),
        ])
    }

    #[test]
    fn literals_and_optional_parts_are_resolved() {
        let parts = key_parts(&step(), &inputs(b"w", Some("joy")));
        assert_eq!(
            parts["command"],
            "haiku --weights ${{inputs.weights}} --mood joy"
        );
        let parts = key_parts(&step(), &inputs(b"w", None));
        assert_eq!(parts["command"], "haiku --weights ${{inputs.weights}}");
    }

    #[test]
    fn what_changes_results_changes_the_key_and_is_named() {
        let was = key_parts(&step(), &inputs(b"w", Some("joy")));
        let is = key_parts(&step(), &inputs(b"x", Some("joy")));
        assert_ne!(key_of(&was), key_of(&is));
        assert_eq!(
            changed_parts(&was, &is).into_keys().collect::<Vec<_>>(),
            ["inputs.weights"]
        );

        let mut rebuilt = step();
        if let Environment::Process(process) = &mut rebuilt.environment {
            process.executable.as_mut().unwrap().digest = Digest::of(b"2");
        }
        let is = key_parts(&rebuilt, &inputs(b"w", Some("joy")));
        assert_eq!(
            changed_parts(&was, &is).into_keys().collect::<Vec<_>>(),
            ["environment.executable.digest"]
        );
    }

    #[test]
    fn how_a_step_is_distributed_is_part_of_what_it_is() {
        let was = key_parts(&step(), &inputs(b"w", None));
        let mut several = step();
        several.resources.instances = 2;
        several.distribution = Some(Distribution::Pytorch {
            process_count_per_instance: 2,
        });
        let is = key_parts(&several, &inputs(b"w", None));
        let changed = changed_parts(&was, &is);
        assert_eq!(
            changed.into_keys().collect::<Vec<_>>(),
            ["distribution", "instances"]
        );
    }

    #[test]
    fn what_does_not_change_results_does_not_count() {
        let was = key_parts(&step(), &inputs(b"w", Some("joy")));
        let mut other = step();
        other.path = "elsewhere".parse().unwrap();
        other.resources.cpu_millis = Some(4000);
        other.timeout_ms = Some(5);
        assert!(was.get("distribution").is_none(), "keys of before hold");
        if let Environment::Process(process) = &mut other.environment {
            process.image = Some("two".into());
        }
        assert_eq!(
            key_of(&was),
            key_of(&key_parts(&other, &inputs(b"w", Some("joy"))))
        );
    }
}
