//! The bodies that clients of Azure ML send and read: published pipelines (v1) and jobs of
//! batch endpoints (v2). Unknown members are left alone, as there.

use crate::api::resources::Place;
use auria_core::ids::is_identifier;
use auria_core::outcome::Status;
use auria_core::plan::DataType;
use auria_core::{Digest, RunId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Values of one request.
const MOST_INPUTS: usize = 1000;

/// `POST …/PipelineRuns/PipelineSubmit/{id}`.
#[derive(Debug, Default, JsonSchema, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct V1 {
    experiment_name: Option<String>,
    parameter_assignments: BTreeMap<String, Value>,
}

/// `POST …/{endpoint}/jobs`.
#[derive(Debug, Default, JsonSchema, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct V2 {
    properties: V2Properties,
}

#[derive(Debug, Default, JsonSchema, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct V2Properties {
    input_data: BTreeMap<String, V2Input>,
    output_data: BTreeMap<String, V2Output>,
    #[serde(rename = "experimentName")]
    experiment_name: Option<String>,
}

#[derive(Debug, Default, JsonSchema, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct V2Input {
    job_input_type: Option<String>,
    uri: Option<String>,
    value: Option<Value>,
}

#[derive(Debug, Default, JsonSchema, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct V2Output {
    job_output_type: Option<String>,
    uri: Option<String>,
}

/// What a request asks for, whichever shape it has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) experiment: Option<String>,
    /// As `--set` takes them.
    pub(super) set: Vec<String>,
    /// Whether outputs are to be copied to places of the caller's.
    pub(super) exports: bool,
}

fn input(name: &str) -> Result<(), String> {
    if is_identifier(name) {
        Ok(())
    } else {
        Err(format!("`{name}` is no name of an input"))
    }
}

/// A value as `--set` reads it: the text of a text, JSON of everything else.
fn literal(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null => Ok(String::new()),
        Value::Array(_) | Value::Object(_) => Err(format!(
            "the input `{name}` takes a text, a number or true and false"
        )),
    }
}

impl V1 {
    pub(super) fn asked(&self) -> Result<Asked, String> {
        bounded(self.parameter_assignments.len())?;
        let mut asked = Asked {
            experiment: self.experiment_name.clone(),
            ..Asked::default()
        };
        for (name, value) in &self.parameter_assignments {
            input(name)?;
            asked
                .set
                .push(format!("inputs.{name}={}", literal(name, value)?));
        }
        Ok(asked)
    }
}

impl V2 {
    pub(super) fn asked(&self) -> Result<Asked, String> {
        let properties = &self.properties;
        bounded(properties.input_data.len() + properties.output_data.len())?;
        let mut asked = Asked {
            experiment: properties.experiment_name.clone(),
            exports: !properties.output_data.is_empty(),
            ..Asked::default()
        };
        for (name, given) in &properties.input_data {
            input(name)?;
            let kind = given.job_input_type.as_deref().unwrap_or("Literal");
            let value = match (kind.to_ascii_lowercase().as_str(), &given.uri, &given.value) {
                ("literal", None, Some(value)) => literal(name, value)?,
                ("literal", ..) => {
                    return Err(format!("the input `{name}` is a Literal without a Value"));
                }
                (_, Some(uri), None) => uri.clone(),
                _ => return Err(format!("the input `{name}` is a {kind} without a Uri")),
            };
            asked.set.push(format!("inputs.{name}={value}"));
        }
        for (name, given) in &properties.output_data {
            input(name)?;
            let uri = given.uri.as_ref();
            let uri = uri.ok_or_else(|| format!("the output `{name}` has no Uri"))?;
            asked.set.push(format!("outputs.{name}.path={uri}"));
        }
        Ok(asked)
    }
}

fn bounded(values: usize) -> Result<(), String> {
    if values <= MOST_INPUTS {
        Ok(())
    } else {
        Err(format!("a request gives at most {MOST_INPUTS} values"))
    }
}

/// A job as clients of batch endpoints read it.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct Job {
    /// Its address.
    pub(super) id: String,
    /// Its run.
    pub(super) name: RunId,
    #[serde(rename = "type")]
    pub(super) kind: JobKind,
    pub(super) properties: JobProperties,
}

/// What it is, as those clients name it.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum JobKind {
    Job,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobProperties {
    pub(super) display_name: RunId,
    pub(super) status: Status,
    pub(super) deployment: String,
    pub(super) version: u64,
    pub(super) is_archived: bool,
    pub(super) created_time: Timestamp,
    pub(super) start_time_utc: Option<Timestamp>,
    pub(super) end_time_utc: Option<Timestamp>,
    pub(super) outputs: BTreeMap<String, JobOutput>,
    /// Where it stands in the queue, of one that waits.
    pub(super) queue: Option<Place>,
}

/// An output of a job.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct JobOutput {
    /// Where its file is answered.
    pub(super) href: String,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) digest: Digest,
    #[serde(rename = "type")]
    pub(super) data_type: DataType,
}

/// What a published pipeline of the first kind answers.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Submitted {
    pub(super) id: RunId,
    pub(super) run_id: RunId,
    pub(super) status: SubmittedStatus,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SubmittedStatus {
    pub(super) status_detail: Status,
}

#[cfg(test)]
mod tests {
    use super::{V1, V2};
    use serde_json::json;

    #[test]
    fn the_requests_of_azure_ml_are_read() {
        let body = json!({"ExperimentName": "auria", "RunSource": "SDK",
            "ParameterAssignments": {"mood": "joy", "seed": 7, "loud": true}});
        let asked = serde_json::from_value::<V1>(body).unwrap().asked().unwrap();
        assert_eq!(asked.experiment.as_deref(), Some("auria"));
        assert_eq!(
            asked.set,
            ["inputs.loud=true", "inputs.mood=joy", "inputs.seed=7"]
        );
        let body = json!({"properties": {
            "InputData": {"x": {"JobInputType": "UriFolder", "Uri": "https://h/x"},
                "p": {"JobInputType": "Literal", "Value": "a=b\n- c"}},
            "OutputData": {"y": {"JobOutputType": "UriFolder", "Uri": "s3://b/y"}}}});
        let asked = serde_json::from_value::<V2>(body).unwrap().asked().unwrap();
        assert_eq!(
            asked.set,
            [
                "inputs.p=a=b\n- c",
                "inputs.x=https://h/x",
                "outputs.y.path=s3://b/y"
            ]
        );
        assert!(asked.exports);
        for wrong in [
            json!({"properties": {"InputData": {"a.b": {"Value": "x"}}}}),
            json!({"properties": {"InputData": {"a": {"Value": {"b": 1}}}}}),
            json!({"properties": {"InputData": {"a": {"JobInputType": "UriFile"}}}}),
            json!({"properties": {"OutputData": {"a": {}}}}),
        ] {
            serde_json::from_value::<V2>(wrong)
                .unwrap()
                .asked()
                .unwrap_err();
        }
    }
}
